"""A source on another grid: coarse bands beside fine ones, by coordinates, window by window.

Where the new pixels are smaller than the old, values are bilinear between the old centres. Where they are larger, the same
triangle is stretched to reach from one new centre to the next, so that nothing is skipped (GDAL's warp does both alike). What
is not valid has no weight; a new pixel is valid where valid ones carry at least half of its weight. Classes and masks take
the old pixel in which the new centre lies.

    old      |     o     |     o     |          o  centre of an old pixel, x  of a new one
    new      |  x  |  x  |  x  |  x  |          the second x: 3/4 of the first o, 1/4 of the second

A new pixel is a function of its place and of the old pixels, not of the window it is read in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from odc.geo.geobox import GeoBox

from xtgeo.errors import SceneError
from xtgeo.grid import same_grid
from xtgeo.read.blocks import BlockCache, shared
from xtgeo.scene import Source
from xtgeo.window import Window

MOST_PIXELS = 4 << 20
"""Old pixels read at once; a window that needs more is answered in strips."""


@dataclass(frozen=True)
class Axis:
    """Where new pixel i lies among the old ones: its centre is at scale * (i + 0.5) + origin, in old pixels from their edge."""

    scale: float
    origin: float
    count: int
    """Old pixels."""

    def at(self, start: int, size: int) -> np.ndarray:
        """Centres of `size` new pixels from `start` on; rounded, for one on the border of two old pixels is to be there exactly."""
        return np.round(self.scale * (np.arange(start, start + size) + 0.5) + self.origin, 9)

    def shrunk(self, factor: float, count: int) -> Axis:
        """The axis for `factor` times fewer new pixels, over `count` old ones instead."""
        old = count / self.count
        return Axis(self.scale * factor * old, self.origin * old, count)

    @property
    def reach(self) -> float:
        """From a new centre to where its triangle ends, in old pixels."""
        return max(1.0, self.scale)


@dataclass(frozen=True)
class RegriddedSource:
    """The bands of a source on a grid whose axes run along its own."""

    source: Source
    shape: tuple[int, int]
    """(height, width) of the new grid."""
    rows: Axis
    columns: Axis
    nearest: bool = False
    """Classes and masks: never mixed."""

    @property
    def count(self) -> int:
        """As the source."""
        return self.source.count

    @property
    def block_shape(self) -> tuple[int, int]:
        """What is decoded at once, in new pixels."""
        h, w = self.source.block_shape
        return max(1, round(h / self.rows.scale)), max(1, round(w / self.columns.scale))

    @property
    def row_bytes(self) -> int:
        """Bytes decoded for one new row."""
        return math.ceil(self.source.row_bytes * self.rows.scale)

    def read(self, window: Window, indexes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """data (band, y, x) float32 and valid (y, x) of a window inside the new grid."""
        data, valid = np.empty((len(indexes), *window.shape), np.float32), np.empty(window.shape, bool)
        step = max(1, int(MOST_PIXELS / (self.rows.scale * self.columns.scale * window.w)))
        for y in range(0, window.h, step):
            part = Window(window.y + y, window.x, min(step, window.h - y), window.w)
            data[:, y : y + step], valid[y : y + step] = (self._pick if self.nearest else self._mix)(part, indexes)
        return data, valid

    def _pick(self, window: Window, indexes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        row, column = self.rows.at(window.y, window.h), self.columns.at(window.x, window.w)
        y, x = nearest(row, self.rows.count), nearest(column, self.columns.count)
        old = _around(y, x)
        data, valid = self.source.read(old, indexes)
        at = (y - old.y)[:, None], x - old.x
        return data[:, *at], valid[at] & self._inside(row, column)

    def _mix(self, window: Window, indexes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        row, column = self.rows.at(window.y, window.h), self.columns.at(window.x, window.w)
        (y, by_y), (x, by_x) = taps(row, self.rows.count, self.rows.reach), taps(column, self.columns.count, self.columns.reach)
        old = _around(y, x)
        data, valid = self.source.read(old, indexes)
        y, x = (y - old.y, by_y.astype(np.float32)), (x - old.x, by_x.astype(np.float32))
        if not valid.all():
            data[:, ~valid] = 0
        mixed, inside = np.stack([mix(band, y, x) for band in data]), self._inside(row, column)
        if valid.all():
            return mixed, inside
        missing = mix((~valid).astype(np.float32), y, x)
        holed = missing > 0  # elsewhere nothing is divided: no pixel may depend on holes that another one sees
        mixed[:, holed] /= np.maximum(1 - missing[holed], np.float32(1e-6))
        return mixed, inside & (missing <= 0.5)

    def _inside(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """(y, x) where there are old pixels."""
        return ((row >= 0) & (row < self.rows.count))[:, None] & (column >= 0) & (column < self.columns.count)

    def maybe_valid(self, window: Window, indexes: tuple[int, ...]) -> bool:
        """False where the source surely has nothing under the window and around it."""
        y, _ = taps(self.rows.at(window.y, window.h), self.rows.count, self.rows.reach)
        x, _ = taps(self.columns.at(window.x, window.w), self.columns.count, self.columns.reach)
        return self.source.maybe_valid(_around(y, x), indexes)

    def coarser(self, side: int) -> RegriddedSource | None:
        """The new grid halved as long as it has `side` pixels, as overviews of JPEG 2000 and GeoTIFF are, from the source's."""
        level = int(math.log2(max(1, max(self.shape) / side)))
        if level < 1:
            return None
        shape = tuple(-(-n // 2**level) for n in self.shape)
        inner = None if self.nearest else self.source.coarser(max(1, int(side * self.rows.scale)))
        source = inner or self.source
        rows = self.rows.shrunk(self.shape[0] / shape[0], source.shape[0])
        columns = self.columns.shrunk(self.shape[1] / shape[1], source.shape[1])
        return replace(self, source=source, shape=shape, rows=rows, columns=columns)

    def with_cache(self, limit: int | BlockCache) -> RegriddedSource:
        """The same with at most `limit` bytes of decoded blocks, or with a cache that others use too."""
        return replace(self, source=self.source.with_cache(limit))

    @property
    def files(self) -> tuple[str, ...]:
        """Those of the source."""
        return self.source.files

    def fingerprint(self) -> dict:
        """That of the source, and the way to the new grid."""
        way = [self.rows.scale, self.rows.origin, self.columns.scale, self.columns.origin]
        return {"source": self.source.fingerprint(), "way": way, "nearest": self.nearest}


@dataclass(frozen=True)
class MaskedSource:
    """A source without the pixels that a raster of classes beside it strikes out."""

    source: Source
    classes: Source
    """Of the same shape; its own gaps strike nothing out."""
    indexes: tuple[int, ...]
    """The bands of `classes` that count; one is enough."""
    values: tuple[int, ...] = ()
    """Classes that are struck out."""
    bits: int = 0
    """Flags, any of which strikes out."""

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
        data, valid = self.source.read(window, indexes)
        found, known = self.classes.read(window, self.indexes)
        for band in found.astype(np.int64):
            struck = (band & self.bits) != 0
            for value in self.values:
                struck |= band == value
            valid &= ~(struck & known)
        return data, valid

    def maybe_valid(self, window: Window, indexes: tuple[int, ...]) -> bool:
        """As the source: clouds are looked at when they are read."""
        return self.source.maybe_valid(window, indexes)

    def coarser(self, side: int) -> MaskedSource | None:
        """The source's reduced copy; classes are picked from the full raster, for those of an overview may be mixed."""
        source = self.source.coarser(side)
        if source is None:
            return None
        return replace(self, source=source, classes=resized(self.classes, source.shape, nearest=True))

    def with_cache(self, limit: int | BlockCache) -> MaskedSource:
        """The same with at most `limit` bytes of decoded blocks in all."""
        cache = shared(limit)
        return replace(self, source=self.source.with_cache(cache), classes=self.classes.with_cache(cache))

    @property
    def files(self) -> tuple[str, ...]:
        """Those of both."""
        return self.source.files + self.classes.files

    def fingerprint(self) -> dict:
        """That of both, and what is struck out."""
        struck = [list(self.indexes), list(self.values), self.bits]
        return {"source": self.source.fingerprint(), "classes": self.classes.fingerprint(), "struck": struck}


def on_grid(source: Source, own: GeoBox, grid: GeoBox, *, nearest: bool = False) -> Source:
    """The source, whose pixels lie at `own`, with its pixels at `grid`; itself where that is the same."""
    if same_grid(own, grid):
        return source
    if own.crs != grid.crs or any(abs(v) > 1e-12 for a in (own.affine, grid.affine) for v in (a.b, a.d)):
        raise SceneError(
            f"{source.files[0]} lies in {own.crs}, the scene in {grid.crs}, or one of them is rotated: only grids of one CRS along "
            "its axes are brought together; bring them to one with gdalwarp"
        )
    a, b, (h, w) = own.affine, grid.affine, own.shape
    rows, columns = Axis(b.e / a.e, (b.f - a.f) / a.e, h), Axis(b.a / a.a, (b.c - a.c) / a.a, w)
    if min(rows.scale, columns.scale) <= 0:
        raise SceneError(
            f"the rows or columns of {source.files[0]} run the other way than the scene's; bring them to one with gdalwarp"
        )
    return RegriddedSource(source, tuple(grid.shape), rows, columns, nearest)


def resized(source: Source, shape: tuple[int, int], *, nearest: bool = False) -> Source:
    """The whole source in `shape` pixels; itself where it has them."""
    (h, w), (new_h, new_w) = source.shape, shape
    if (h, w) == (new_h, new_w):
        return source
    return RegriddedSource(source, tuple(shape), Axis(h / new_h, 0.0, h), Axis(w / new_w, 0.0, w), nearest)


def nearest(at: np.ndarray, count: int) -> np.ndarray:
    """The old pixel under each place, of `count`; beyond them the last one."""
    return np.clip(np.floor(at).astype(int), 0, count - 1)


def taps(at: np.ndarray, count: int, reach: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Old pixels (taps, n) around each place and their weights (taps, n): a triangle that ends `reach` from it.

    Weights of the `count` pixels that there are add up to one: at the rim the last value goes on.
    """
    at = np.clip(at, 0, count)
    old = np.floor(at - reach - 0.5).astype(int) + 1 + np.arange(math.ceil(2 * reach))[:, None]
    weights = np.maximum(0, 1 - np.abs(old + 0.5 - at) / reach) * ((old >= 0) & (old < count))
    return np.clip(old, 0, count - 1), weights / np.maximum(weights.sum(0), 1e-12)


def mix(values: np.ndarray, rows: tuple[np.ndarray, np.ndarray], columns: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Weighted means of `values` (y, x), separately by rows and columns; each a pair of (taps, n): where, and how much."""
    return _along(_along(values, *rows).T, *columns).T


def _along(values: np.ndarray, where: np.ndarray, much: np.ndarray) -> np.ndarray:
    out = values[where[0]] * much[0][:, None]
    for at, weight in zip(where[1:], much[1:], strict=True):
        out += values[at] * weight[:, None]
    return out


def _around(y: np.ndarray, x: np.ndarray) -> Window:
    top, left = int(y.min()), int(x.min())
    return Window(top, left, int(y.max()) + 1 - top, int(x.max()) + 1 - left)
