"""A scene on the map of the web: Web Mercator, as pages with zoomable maps ask for it, tile by tile.

    pixels of the map -> longitude, latitude -> pixels of the scene (`xtgeo.grid`) -> a copy as coarse as that -> Stretch

A map `around` pixels long round the equator has (0, 0) at 180 W, 85.05 N; a tile z/x/y is 256 pixels square on one of 256 x 2^z.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO

import numpy as np
from PIL import Image

from xtgeo.errors import SceneError, XtgeoError
from xtgeo.grid import Grid, lonlat_bounds, lonlat_to_pixel, pixel_size_m
from xtgeo.picture import Stretch, shown
from xtgeo.scene import Block, Scene
from xtgeo.window import Window

TILE = 256
NORTH = 85.0511287798066
"""Where Web Mercator ends, in degrees."""
ROUND = 2 * np.pi * 6378137.0
"""Metres round the equator."""
KEPT = 4096
"""Longest side of the finest copy that is kept in memory, in pixels."""
COARSEST = 512
"""A copy whose longer side is no more than this needs no coarser one."""
KNOT = 8
"""Pixels of the map from one exact position to the next, where what is between can be interpolated."""
MOST = 1 << 24
"""Pixels that are read for one picture at most."""
CACHE_BYTES = 64 << 20
DEEPEST = 24


class SceneMap:
    """What a scene looks like on the map. Thread-safe; memory does not grow with the scene.

    Where the file has no reduced copies, `fill` makes them; until it is done what is not yet read is transparent.
    """

    def __init__(self, scene: Scene):
        if not scene.is_georeferenced:
            raise SceneError(
                f"{scene.id} has no place on the earth, a map cannot show it: look at it with --quicklook scene.png"
            )
        west, south, east, north = lonlat_bounds(scene.grid)
        self.bounds = west, south, east + 360 * (east < west), north
        """West, south, east, north in degrees; east is beyond 180 where the scene lies across the antimeridian."""
        metres = pixel_size_m(scene.grid)
        if south > NORTH or north < -NORTH or not np.isfinite(metres).all():
            raise SceneError(
                f"{scene.id} lies between {south:.1f} and {north:.1f} degrees north, where the map of a page ends at 85.05: "
                "look at it with --quicklook scene.png"
            )
        self.scene = scene.select(*shown(scene))
        middle = np.cos(np.radians(np.clip((south + north) / 2, -NORTH, NORTH)))
        self._per_pixel = tuple(ROUND * middle / side for side in metres)
        """(rows, columns) of the scene in one pixel of a map that is one pixel long."""
        self.depth = int(np.clip(np.ceil(np.log2(max(self._per_pixel) / TILE)) + 2, 2, DEEPEST))
        """Zoom beyond which pixels only become larger: there one of the scene is 4 to 8 of the map long."""
        self._levels, self._factor = _own_levels(self.scene), 0
        self._stop = threading.Event()
        self._done, self._tiles, self._lock = 0, OrderedDict(), threading.Lock()
        coarsest = self._levels[-1]
        if max(coarsest.scene.shape) > COARSEST:
            self._factor = 2
            while max(coarsest.scene.shape) > KEPT * self._factor:
                self._factor *= 2
            self._levels += _empty_levels(coarsest, self._factor)
        self._from = coarsest
        self.trouble: str | None = None
        """Why `fill` could not go on, in one line."""

    @cached_property
    def stretch(self) -> Stretch:
        """How the scene looks, the same in every tile."""
        return _first_look(self.scene)

    @property
    def progress(self) -> float:
        """Which part of the scene has been read for the coarse copies, 0 to 1."""
        h, w = self._from.scene.shape
        return self._done / (h * w) if self._factor else 1.0

    def fill(self) -> None:
        """Reads the scene once and makes its coarse copies, in a thread of its own; nothing where the file has them."""
        if not self._factor:
            return
        source, factor = self._from.scene, self._factor
        base, *coarser = (level.scene for level in self._levels[self._levels.index(self._from) + 1 :])
        h, w = source.shape
        step = factor * max(1, 2048 // factor)
        try:
            for y in range(0, h, step):
                for x in range(0, w, step):
                    if self._stop.is_set():
                        return
                    window = Window(y, x, min(step, h - y), min(step, w - x))
                    if source.maybe_valid(window):
                        block = source.means(window, factor)
                        at = block.window.shift(y // factor, x // factor)
                        base.source.keep(at, block)
                        for i, level in enumerate(coarser, 1):
                            block = base.means(at, 2**i)
                            level.source.keep(block.window.shift(at.y >> i, at.x >> i), block)
                    self._done += window.h * window.w
        except XtgeoError as e:
            self.trouble = " ".join(str(e).split())

    def stop(self) -> None:
        """Ends `fill` soon."""
        self._stop.set()

    def tile(self, z: int, x: int, y: int) -> bytes:
        """A tile of the map as PNG; transparent where the scene is not, or is not valid."""
        with self._lock:
            if (z, x, y) in self._tiles:
                self._tiles.move_to_end((z, x, y))
                return self._tiles[z, x, y]
        complete = self.progress == 1.0
        png = _png(self.paint(y * TILE, x * TILE, TILE, TILE, TILE << z))
        if complete:
            with self._lock:
                self._tiles[z, x, y] = png
                while len(self._tiles) > 1 and sum(map(len, self._tiles.values())) > CACHE_BYTES:
                    self._tiles.popitem(last=False)
        return png

    def paint(self, top: int, left: int, h: int, w: int, around: int) -> np.ndarray:
        """A part of the map, (h, w, 4) uint8; `left` may lie beyond the antimeridian.

        A pixel that holds several of the scene is their mean, as power and without nodata; one that is smaller is the nearest.
        """
        picture = np.zeros((h, w, 4), np.uint8)
        rows, columns = self._inside(top + np.arange(h) + 0.5, left + np.arange(w) + 0.5, around)
        if len(rows) and len(columns):
            block = self._look(top + rows, left + columns, around)
            picture[np.ix_(rows, columns)] = self.stretch.paint(self.scene, block) * block.valid[..., None]
        return picture

    def drape(self, picture: np.ndarray, top: int, left: int, h: int, w: int, around: int) -> np.ndarray:
        """As `paint`, from a picture of the whole scene, (y, x, 4) uint8, whatever its size."""
        canvas = np.zeros((h, w, 4), np.uint8)
        rows, columns = self._inside(top + np.arange(h) + 0.5, left + np.arange(w) + 0.5, around)
        if len(rows) and len(columns):
            place = _positions(self.scene.grid, *_degrees(top + rows + 0.5, left + columns + 0.5, around), near=0.5)
            r, c = (
                _floor(v, side / whole) for v, side, whole in zip(place, picture.shape, self.scene.shape, strict=False)
            )
            seen = (r >= 0) & (c >= 0) & (r < picture.shape[0]) & (c < picture.shape[1])
            part = np.zeros((*r.shape, 4), np.uint8)
            part[seen] = picture[r[seen], c[seen]]
            canvas[np.ix_(rows, columns)] = part
        return canvas

    def _inside(self, down: np.ndarray, across: np.ndarray, around: int) -> tuple[np.ndarray, np.ndarray]:
        """Which rows and columns of a picture may see the scene."""
        west, south, east, north = self.bounds
        lon, lat, wide = *_degrees(down, across, around), (east - west) / 100
        rows = np.flatnonzero((lat > south - (north - south) / 100) & (lat < north + (north - south) / 100))
        return rows, np.flatnonzero((lon - west + wide) % 360 < east - west + 2 * wide)

    def _look(self, rows: np.ndarray, columns: np.ndarray, around: int) -> Block:
        """Numbers of the scene at pixels of the map: (b, rows, columns)."""
        per_row, per_column = (side / around for side in self._per_pixel)
        pixels = [max(per_row * level.per_row, per_column * level.per_column) for level in self._levels]
        first = max([i for i, side in enumerate(pixels) if side >= 1], default=0)
        # Two each way: all pixels of the copy are seen by one of the map, or nearly so.
        samples = 2 if pixels[first] > 1 else 1
        part = (np.arange(samples) + 0.5) / samples
        down, across = ((v[:, None] + part).ravel() for v in (rows, columns))
        row, column = _positions(
            self.scene.grid, *_degrees(down, across, around), near=max(1.0, per_row, per_column) / 10
        )
        for i in range(first, len(self._levels)):
            level = self._levels[i]
            factor = 2 ** int(np.log2(max(1.0, pixels[i])))
            r, c = (_floor(v, per / factor) for v, per in ((row, level.per_row), (column, level.per_column)))
            seen = (r >= 0) & (c >= 0) & (r * factor < level.scene.shape[0]) & (c * factor < level.scene.shape[1])
            if not seen.any():
                break
            y, x = int(r[seen].min()), int(c[seen].min())
            window = Window(y, x, int(r[seen].max()) - y + 1, int(c[seen].max()) - x + 1)
            if window.h * window.w * factor**2 <= MOST or i + 1 == len(self._levels):
                break
        data, valid = np.zeros((len(self.scene.bands), *row.shape), np.float32), np.zeros(row.shape, bool)
        if seen.any():
            read = Window(y * factor, x * factor, window.h * factor, window.w * factor)
            block = level.scene.means(read, factor) if factor > 1 else level.scene.read(read)
            r, c = r[seen] - y, c[seen] - x
            data[:, seen], valid[seen] = block.data[:, r, c], block.valid[r, c]
        whole = Window(0, 0, *row.shape)
        return _in_memory(self.scene, data, valid).means(whole, 2) if samples == 2 else Block(whole, data, valid)


@dataclass(frozen=True)
class _Level:
    """A copy of the scene, and how many of its pixels one of the scene is."""

    scene: Scene
    per_row: float
    per_column: float


@dataclass(frozen=True, eq=False)
class _Memory:
    """A source that is in memory."""

    data: np.ndarray
    valid: np.ndarray

    shape = property(lambda self: self.valid.shape)
    count = property(lambda self: len(self.data))
    block_shape = (1, 1)
    row_bytes = property(lambda self: self.data[:, 0].nbytes)
    files = ()

    def read(self, window: Window, indexes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        return self.data[:, *window.slices].copy(), self.valid[window.slices].copy()

    def keep(self, window: Window, block: Block) -> None:
        """Takes a block in; what reaches beyond is left out."""
        inside = window & Window(0, 0, *self.shape)
        y, x = inside.shift(-window.y, -window.x).slices
        self.data[:, *inside.slices] = block.data[:, y, x]
        self.valid[inside.slices] = block.valid[y, x]

    def maybe_valid(self, window: Window, indexes: tuple[int, ...]) -> bool:
        return bool(self.valid[window.slices].any())

    def coarser(self, side: int) -> None:
        return None

    def with_cache(self, limit: int) -> _Memory:
        return self

    def fingerprint(self) -> dict:
        return {}


def _in_memory(scene: Scene, data: np.ndarray, valid: np.ndarray) -> Scene:
    indexes = tuple(range(1, len(data) + 1))
    return replace(scene, source=_Memory(data, valid), indexes=indexes, stored_units=scene.units)


def _own_levels(scene: Scene) -> list[_Level]:
    """The scene and the reduced copies that its file has, finest first."""
    levels, side = [_Level(scene, 1.0, 1.0)], max(scene.shape) // 2
    while side > COARSEST // 2 and (source := scene.source.coarser(side)):
        if source.shape < levels[-1].scene.shape:
            h, w = (a / b for a, b in zip(source.shape, scene.shape, strict=True))
            levels.append(_Level(replace(scene, source=source), h, w))
        side //= 2
    return levels


def _empty_levels(finest: _Level, factor: int) -> list[_Level]:
    """Copies in memory, reduced by `factor` and then by two again and again, with nothing in them."""
    levels = []
    while not levels or max(levels[-1].scene.shape) > COARSEST:
        h, w = (-(-side // factor) for side in finest.scene.shape)
        scene = _in_memory(finest.scene, np.zeros((len(finest.scene.bands), h, w), np.float32), np.zeros((h, w), bool))
        levels.append(_Level(scene, finest.per_row / factor, finest.per_column / factor))
        factor *= 2
    return levels


def _first_look(scene: Scene) -> Stretch:
    """From the file's own overview; of a large scene that has none, from 36 squares, so that a page opens at once."""
    h, w = scene.shape
    if max(h, w) <= KEPT or scene.source.coarser(COARSEST):
        return Stretch.of(scene)
    squares = [Window(int(y), int(x), 256, 256) for y in np.linspace(0, h - 256, 6) for x in np.linspace(0, w - 256, 6)]
    blocks = [scene.means(square, 4) for square in squares]
    if not any(block.valid.any() for block in blocks):
        return Stretch.of(scene)
    data, valid = np.concatenate([b.data for b in blocks], 1), np.concatenate([b.valid for b in blocks])
    return Stretch.of(scene, Block(Window(0, 0, *valid.shape), data, valid))


def _degrees(down: np.ndarray, across: np.ndarray, around: int) -> tuple[np.ndarray, np.ndarray]:
    """Longitude of positions across the map, latitude of positions down it; longitudes are between -180 and 180."""
    lon = (across / around % 1.0) * 360 - 180
    return lon, np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * down / around))))


def to_map(lon, lat) -> tuple[np.ndarray, np.ndarray]:
    """(across, down) of places on a map that is one long: 0 to 1; what lies beyond the map's ends is on its rim."""
    lat = np.radians(np.clip(lat, -NORTH, NORTH))
    return np.asarray(lon) / 360 + 0.5, 0.5 - np.arcsinh(np.tan(lat)) / (2 * np.pi)


def _positions(grid: Grid, lon: np.ndarray, lat: np.ndarray, near: float) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the scene at each latitude and longitude, (lat, lon).

    Computed at knots and interpolated between where that is within `near` pixels half-way, else everywhere. NaN off the grid.
    """
    if min(len(lon), len(lat)) <= 2 * KNOT or np.ptp(np.unwrap(lon, period=360)) >= 180:
        return lonlat_to_pixel(grid, *np.meshgrid(lon, lat))
    knots = [np.unique(np.append(np.arange(0, len(v), KNOT), len(v) - 1)) for v in (lat, lon)]
    half = [(k[1:] + k[:-1]) // 2 for k in knots]
    exact = np.stack(lonlat_to_pixel(grid, *np.meshgrid(lon[knots[1]], lat[knots[0]])))
    check = np.stack(lonlat_to_pixel(grid, *np.meshgrid(lon[half[1]], lat[half[0]])))
    down, across = (_weights(k, len(v)) for k, v in zip(knots, (lat, lon), strict=True))
    with np.errstate(invalid="ignore"):
        guess = down @ exact @ across.T
    far = (np.abs(check / np.reshape(grid.shape, (2, 1, 1)) - 0.5) > 0.6).any(0)  # of the scene, where nobody looks
    bent = ~(np.abs(guess[:, half[0]][:, :, half[1]] - check).max(0) < near) & ~far  # True with NaN
    if bent.any():
        cell = [
            np.clip(np.searchsorted(k, np.arange(len(v)), "right") - 1, 0, len(k) - 2)
            for k, v in zip(knots, (lat, lon), strict=True)
        ]
        y, x = np.nonzero(bent[np.ix_(*cell)])
        guess[:, y, x] = lonlat_to_pixel(grid, lon[x], lat[y])
    return guess[0], guess[1]


def _weights(knots: np.ndarray, n: int) -> np.ndarray:
    """(n, knots): linear interpolation at 0 .. n - 1 as a matrix."""
    return np.stack([np.interp(np.arange(n), knots, unit) for unit in np.eye(len(knots))], 1)


def _floor(position: np.ndarray, per: float) -> np.ndarray:
    """Index of the pixel of a copy, -1 where there is none."""
    return np.floor(np.where(np.isfinite(position), np.clip(position * per, -1, 2**31), -1)).astype(int)


def _png(picture: np.ndarray) -> bytes:
    out = BytesIO()
    Image.fromarray(picture).save(out, "PNG", compress_level=1)
    return out.getvalue()
