"""A scene with holes: what cannot be read is nodata, so that a picture can be drawn of a file that is damaged in places."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from xtgeo.errors import SceneError
from xtgeo.scene import Scene, Source
from xtgeo.window import Window

LEAST = 256
"""Sides of windows that are not parted any further, in pixels."""


def with_holes(scene: Scene, holes: Iterable[Window] = ()) -> Scene:
    """The scene without a valid pixel in these windows, and where reading fails, to about 256 pixels."""
    return replace(scene, source=HoledSource(scene.source, tuple(holes)))


@dataclass(frozen=True)
class HoledSource:
    """A source that is nodata in windows and where it cannot be read."""

    source: Source
    holes: tuple[Window, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """As the source."""
        return self.source.shape

    @property
    def count(self) -> int:
        """As the source."""
        return self.source.count

    @property
    def block_shape(self) -> tuple[int, int]:
        """As the source."""
        return self.source.block_shape

    @property
    def row_bytes(self) -> int:
        """As the source."""
        return self.source.row_bytes

    def read(self, window: Window, indexes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """data (band, y, x) float32 and valid (y, x) of a window inside the source."""
        data, valid = self._try(window, indexes)
        for hole in self.holes:
            if part := hole & window:
                valid[part.shift(-window.y, -window.x).slices] = False
        return data, valid

    def _try(self, window: Window, indexes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        if not any(hole & window == window for hole in self.holes):
            try:
                return self.source.read(window, indexes)
            except SceneError:
                if max(window.shape) > LEAST:
                    axis = int(window.w > window.h)
                    parts = [self._try(half, indexes) for half in _halves(window)]
                    return tuple(np.concatenate(piece, piece[0].ndim - 2 + axis) for piece in zip(*parts, strict=True))
        return np.zeros((len(indexes), *window.shape), np.float32), np.zeros(window.shape, bool)

    def maybe_valid(self, window: Window, indexes: tuple[int, ...]) -> bool:
        """As the source."""
        return self.source.maybe_valid(window, indexes)

    def coarser(self, side: int) -> HoledSource | None:
        """The source's reduced copy, with the holes in it."""
        source = self.source.coarser(side)
        if source is None:
            return None
        y, x = (small / large for small, large in zip(source.shape, self.shape, strict=True))
        edges = [(int(h.y * y), int(h.x * x), -int(-(h.y + h.h) * y // 1), -int(-(h.x + h.w) * x // 1)) for h in self.holes]
        return HoledSource(source, tuple(Window(y0, x0, y1 - y0, x1 - x0) for y0, x0, y1, x1 in edges))

    def with_cache(self, limit: int) -> HoledSource:
        """The same with at most `limit` bytes of decoded blocks."""
        return replace(self, source=self.source.with_cache(limit))

    @property
    def files(self) -> tuple[str, ...]:
        """Those of the source."""
        return self.source.files

    def fingerprint(self) -> dict:
        """That of the source: the same pixels, as far as they can be read."""
        return self.source.fingerprint()


def _halves(window: Window) -> tuple[Window, Window]:
    """Two windows along the longer side."""
    y, x, h, w = window.y, window.x, window.h, window.w
    if w > h:
        return Window(y, x, h, w // 2), Window(y, x + w // 2, h, w - w // 2)
    return Window(y, x, h // 2, w), Window(y + h // 2, x, h - h // 2, w)
