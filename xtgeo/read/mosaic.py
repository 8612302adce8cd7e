"""Several sources side by side on one lattice of pixels: the first that has a valid pixel gives it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from xtgeo.errors import SceneError
from xtgeo.grid import pixel_to_crs, round_the_earth
from xtgeo.read.blocks import BlockCache, shared
from xtgeo.scene import Scene, Source
from xtgeo.window import Window

TOLERANCE_PX = 0.01


@dataclass(frozen=True)
class MosaicSource:
    """Sources side by side, each at its place; where they overlap the earlier one counts, pixel by pixel."""

    sources: tuple[Source, ...]
    places: tuple[Window, ...]
    """Where each source lies in the mosaic."""
    picks: tuple[tuple[int, ...], ...]
    """Of each source, its band behind each of ours."""
    shape: tuple[int, int]
    """(height, width) of the mosaic."""

    @property
    def count(self) -> int:
        """Bands of the mosaic."""
        return len(self.picks[0])

    @property
    def block_shape(self) -> tuple[int, int]:
        """The largest of the sources'."""
        return tuple(max(sides) for sides in zip(*(source.block_shape for source in self.sources), strict=True))

    @property
    def row_bytes(self) -> int:
        """Bytes of one row as decoded, all bands, as if the widest pixels filled it."""
        each = (-(-s.row_bytes * self.count // (s.count * s.shape[1])) for s in self.sources)
        return self.shape[1] * max(each)

    def _parts(self, window: Window, indexes: tuple[int, ...]):
        """(source, window in the source, its bands, place in `window`) of each source that lies under the window."""
        for source, place, picks in zip(self.sources, self.places, self.picks, strict=True):
            if part := window & place:
                bands = tuple(picks[i - 1] for i in indexes)
                yield source, part.shift(-place.y, -place.x), bands, part.shift(-window.y, -window.x)

    def read(self, window: Window, indexes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """data (band, y, x) float32 and valid (y, x) of a window inside the mosaic."""
        data, valid = np.zeros((len(indexes), *window.shape), np.float32), np.zeros(window.shape, bool)
        for source, inside, bands, at in self._parts(window, indexes):
            here = valid[at.slices]
            if not here.all():
                pixels, seen = source.read(inside, bands)
                np.copyto(data[:, *at.slices], pixels, where=seen & ~here)
                here |= seen
        return data, valid

    def maybe_valid(self, window: Window, indexes: tuple[int, ...]) -> bool:
        """False where every source under the window surely has nothing, or there is none."""
        return any(source.maybe_valid(inside, bands) for source, inside, bands, _ in self._parts(window, indexes))

    def coarser(self, side: int) -> None:
        """None: reduced copies of neighbours do not share a lattice."""

    def with_cache(self, limit: int | BlockCache) -> MosaicSource:
        """The same with at most `limit` bytes of decoded blocks in all."""
        cache = shared(limit)
        return replace(self, sources=tuple(source.with_cache(cache) for source in self.sources))

    @property
    def files(self) -> tuple[str, ...]:
        """Those of all sources."""
        return tuple(file for source in self.sources for file in source.files)

    def fingerprint(self) -> dict:
        """That of every source, where it lies and which of its bands are meant."""
        places = [[p.y, p.x, p.h, p.w] for p in self.places]
        return {"mosaic": [s.fingerprint() for s in self.sources], "places": places, "picks": [list(p) for p in self.picks]}


def mosaic(scenes: Sequence[Scene]) -> tuple[MosaicSource, GeoBox]:
    """The scenes, which have the same bands, on the smallest grid that holds all; refused where pixels do not fall on each other.

    Across the antimeridian a grid in degrees, or in Web Mercator, goes on to the nearer side: one from 179 to 180 and one from
    -180 to -179 lie side by side.
    """
    first, places = scenes[0].grid, []
    for scene in scenes:
        grid = scene.grid
        if not isinstance(grid, GeoBox) or not isinstance(first, GeoBox) or grid.crs != first.crs or first.crs is None:
            raise SceneError(
                f"{scenes[0].id} and {scene.id} do not lie in one projection: open one alone, or bring them to one with gdalwarp"
            )
        (h, w), (row, column) = grid.shape, _corners(first, grid)
        y, x = round(row[0]), round(column[0])
        miss = np.abs([row - [y, y + h, y], column - [x, x, x + w]]).max()
        if not miss <= TOLERANCE_PX:
            raise SceneError(
                f"the pixels of {scenes[0].id} and {scene.id} do not fall on each other ({miss:.3g} px apart): open one alone, "
                "or bring them to one grid with gdalwarp"
            )
        places.append(Window(y, x, h, w))
    top, left = min(p.y for p in places), min(p.x for p in places)
    shape = max(p.y + p.h for p in places) - top, max(p.x + p.w for p in places) - left
    x, y = pixel_to_crs(first, top, left)
    a = first.affine
    affine = Affine(a.a, a.b, float(x), a.d, a.e, float(y))
    places = tuple(p.shift(-top, -left) for p in places)
    source = MosaicSource(tuple(s.source for s in scenes), places, tuple(s.indexes for s in scenes), shape)
    return source, GeoBox(shape, affine, first.crs)


def _corners(first: GeoBox, grid: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    """Row and column in `first` of the upper left, lower left and upper right corner of `grid`."""
    h, w = grid.shape
    x, y = pixel_to_crs(grid, [0, h, 0], [0, 0, w])
    if period := round_the_earth(first.crs):
        x = x - period * np.round((x[0] - first.affine.c) / period)
    back = ~first.affine
    return back.d * x + back.e * y + back.f, back.a * x + back.b * y + back.c
