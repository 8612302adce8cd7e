"""Land: fractal coasts, islets and rocks, harbours with piers, towns, fields, slopes; any part of it can be drawn alone.

Heights are a fractal given every STEP pixels, continued below by filtered noise; land is where they are positive, and what
was built or stands alone in the sea.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import ndtri

from xtgeo.simulate.fields import (
    Filter,
    cloud,
    coarse_shape,
    half_window,
    kernel,
    local_field,
    power_law,
    spectral_field,
    spline,
)
from xtgeo.simulate.geometry import Look, axes
from xtgeo.simulate.noise import BLOCK, Grain
from xtgeo.simulate.recent import Recent
from xtgeo.window import Window

STEP = 8
REACH, HALO = 24, 8
"""Of the filter of fine heights, and what slopes and bright points see around a window, in pixels."""
HEIGHT_STREAM, PLOT_STREAM, POINT_STREAM = 4, 5, 6
NEVER = 1e6
"""Under all heights where the scene has no coast."""


@dataclass(frozen=True)
class Berth:
    """A place beside a quay where a ship may lie."""

    row: float
    column: float
    heading_deg: float
    """From the quay to the water, clockwise from north."""
    room_m: float
    """Longest ship that fits."""


@dataclass(frozen=True, eq=False)
class Shapes:
    """Polygons in pixels, found by where they are; each with a value."""

    corners: tuple[np.ndarray, ...] = ()
    """(n, 2) of each, as rows and columns."""
    values: tuple[float, ...] = ()
    limits: np.ndarray = field(init=False)
    """(polygons, 4): top, left, bottom, right."""

    def __post_init__(self):
        limits = [(*c.min(axis=0), *c.max(axis=0)) for c in self.corners]
        object.__setattr__(self, "limits", np.array(limits).reshape(-1, 4))

    def near(self, window: Window) -> np.ndarray:
        """Indices of those that touch a window."""
        top, left, bottom, right = self.limits.T
        beside = (right < window.x) | (left > window.x + window.w) | (bottom < window.y) | (top > window.y + window.h)
        return np.flatnonzero(~beside)

    def burn(self, image: np.ndarray, window: Window) -> None:
        """Sets the pixels of a window whose centre lies in a polygon to its value, or to True, in place."""
        for i in self.near(window):
            top, left, bottom, right = map(math.floor, self.limits[i])
            part = Window(top, left, bottom - top + 1, right - left + 1) & window
            if part:
                y, x = part.shift(-window.y, -window.x).slices
                value = True if image.dtype == bool else self.values[i]
                image[y, x][holds(self.corners[i], *axes(part))] = value


def holds(corners: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(y, x), True where the centre of a pixel lies in a polygon: a ray to the right crosses its border an odd number of times.

    GEOS would do it too, but two threads that ask about the same polygon make it crash (3.14).
    """
    (y1, x1), (y2, x2) = corners.T, np.roll(corners, -1, axis=0).T
    y = rows + 0.5
    crossed = (y1 > y) != (y2 > y)
    at = x1 + (y - y1) * (x2 - x1) / np.where(y1 == y2, 1, y2 - y1)
    return ((at[:, :, None] > columns[:, None] + 0.5) & crossed[:, :, None]).sum(axis=1) % 2 == 1


@dataclass(frozen=True)
class Cover:
    """How bright the land of a scene is."""

    db: float
    """VV of flat land."""
    vh_db: float
    """VH over VV."""
    rugged_deg: float
    """Standard deviation of slopes."""
    slope: float
    """That of the gradient of the heights, per pixel."""


@dataclass(frozen=True, eq=False)
class Land:
    """Where the land is and how bright."""

    grain: Grain
    look: Look
    height: np.ndarray
    """Every STEP pixels; over 0 on land."""
    fine: Filter
    """Filter of the heights between."""
    islets: Shapes
    piers: Shapes
    """Their values are how densely bright points stand on them."""
    towns: np.ndarray
    """(n, 4): row, column, radius in pixels, density of bright points."""
    regions: np.ndarray
    """What grows there, mean 0 and variance 1, every STEP pixels."""
    cover: Cover
    seen: Recent = field(init=False, default_factory=lambda: Recent(24))
    """Heights and masks of blocks."""
    packed: Recent = field(init=False, default_factory=lambda: Recent(1024))
    """Masks in bits."""
    points: Recent = field(init=False, default_factory=lambda: Recent(24))

    def mask(self, window: Window) -> np.ndarray | None:
        """(y, x), True on land, of a window that begins where a block does and is no longer; None where all is sea."""
        seen = self._block(window)
        return None if seen is None else seen[1][HALO : HALO + window.h, HALO : HALO + window.w]

    def at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Whether pixels are on land; those beyond the scene are taken to its edge."""
        h, w = self.grain.shape
        rows, columns = np.clip(rows, 0, h - 1).astype(int), np.clip(columns, 0, w - 1).astype(int)
        out = np.zeros(rows.shape, bool)
        blocks = rows // BLOCK * (w // BLOCK + 1) + columns // BLOCK
        for block in np.unique(blocks):
            corner = divmod(int(block), w // BLOCK + 1)
            if (bits := self.packed.get(corner, self._pack, corner)) is not None:
                inside = blocks == block
                y, x = rows[inside] - corner[0] * BLOCK, columns[inside] - corner[1] * BLOCK
                out[inside] = bits[y, x // 8] >> (7 - x % 8) & 1
        return out

    def _pack(self, corner: tuple[int, int]) -> np.ndarray | None:
        mask = self.mask(Window(corner[0] * BLOCK, corner[1] * BLOCK, BLOCK, BLOCK))
        return None if mask is None else np.packbits(mask, axis=1)

    def draw(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """(mask, VV, VH) of a window that begins where a block does: sigma0 without speckle, linear; None where all is sea."""
        seen = self._block(window)
        if seen is None:
            return None
        heights, mask = (part[: window.h + 2 * HALO, : window.w + 2 * HALO] for part in seen)
        inner = np.s_[HALO:-HALO, HALO:-HALO]
        db = self._cover(window) + self._slopes(window, heights)[inner]
        points = self._spots(window)
        vv, vh = (10 ** ((db + np.float32(level)) / 10) + gain * points for level, gain in self._levels)
        return mask[inner], vv, vh

    def plain(self, window: Window) -> np.ndarray | None:
        """(2, y, x) power of land in VV and VH, 0 at sea, without plots and slopes; None where all is sea."""
        seen = self._block(window)
        if seen is None:
            return None
        mask = seen[1][: window.h + 2 * HALO, : window.w + 2 * HALO]
        points, land = self._spots(window), mask[HALO:-HALO, HALO:-HALO]
        return np.stack([land * np.float32(10 ** (level / 10)) + gain * points for level, gain in self._levels])

    @property
    def _levels(self) -> tuple[tuple[float, np.float32], ...]:
        """Of VV and VH: decibels of flat land, and the power of bright points over that in VV."""
        return (self.cover.db, np.float32(1)), (self.cover.db + self.cover.vh_db, np.float32(10**-0.9))

    def _block(self, window: Window):
        """What was seen of the block that a window begins with."""
        whole = self._whole(window)
        return self.seen.get(whole, self._look_at, whole)

    def _spots(self, window: Window) -> np.ndarray:
        whole = self._whole(window)
        return self.points.get(whole, self._points, whole)[: window.h, : window.w]

    def _whole(self, window: Window) -> Window:
        """The block that a window begins with, one row and column of the next ones included."""
        h, w = (min(BLOCK + 1, n - start) for n, start in zip(self.grain.shape, (window.y, window.x), strict=True))
        return Window(window.y, window.x, h, w)

    def _look_at(self, window: Window) -> tuple[np.ndarray, np.ndarray] | None:
        """(heights, mask) of a window and HALO around it; None where all is sea."""
        wide = window.pad(HALO)
        if not self._reaches_up(wide) and not len(self.islets.near(wide)) and not len(self.piers.near(wide)):
            return None
        heights = spline(self.height, STEP, wide) + local_field(self.grain, HEIGHT_STREAM, self.fine, window, halo=HALO)
        mask = heights > 0
        self.islets.burn(mask, wide)
        self.piers.burn(mask, wide)
        if not mask.any():
            return None
        return heights, mask

    def _reaches_up(self, window: Window) -> bool:
        """Whether heights of a window may be over 0; a spline stays under its highest node."""
        nodes = (slice(max(0, n // STEP - 1), (n + size) // STEP + 3) for n, size in ((window.y, window.h), (window.x, window.w)))
        return bool(self.height[*nodes].max() > -6 * self.fine.deviation)

    def _towns(self, window: Window) -> np.ndarray:
        """How densely bright points stand."""
        out = np.full(window.shape, 0.0005, np.float32)
        rows, columns = axes(window)
        y, x, radius = self.towns[:, 0], self.towns[:, 1], self.towns[:, 2]
        near = (np.abs(y - window.y - window.h / 2) < window.h / 2 + 2 * radius) & (
            np.abs(x - window.x - window.w / 2) < window.w / 2 + 2 * radius
        )
        for row, column, radius, density in self.towns[near].astype(np.float32):
            across, down = (np.exp(-(((at - middle) / radius) ** 2)) for at, middle in ((columns, column), (rows, row)))
            np.maximum(out, density * down * across, out=out)
        self.islets.burn(out, window)
        self.piers.burn(out, window)
        return out

    def _cover(self, window: Window) -> np.ndarray:
        """Decibels of fields and woods around the mean, and of the plots they are divided into."""
        half = half_window(window)
        plots = local_field(self.grain.half, PLOT_STREAM, _PLOTS, half)
        plots = np.round(plots * 1.5) * np.float32(0.8 / 1.5)
        plots = plots.repeat(2, axis=0).repeat(2, axis=1)[: window.h, : window.w]
        return np.float32(1.6) * spline(self.regions, STEP, window) + plots

    def _slopes(self, window: Window, heights: np.ndarray) -> np.ndarray:
        """Decibels that slopes add: the area that one line of range holds grows where the ground faces the sensor.

        sin(incidence) / sin(incidence - slope), as long as the slope is not steeper than the view; there layover begins.
        """
        smooth = gaussian_filter(heights, 2.0, truncate=3.0)
        down, right = np.gradient(smooth)
        toward = self.look.across[0] * right + self.look.across[1] * down
        alpha = toward * np.float32(np.deg2rad(self.cover.rugged_deg) / self.cover.slope)
        theta = np.float32(np.deg2rad(self.look.incidence_deg(window.y, window.x)))
        return 10 * np.log10(np.sin(theta) / np.sin(np.clip(theta - alpha, 0.12, 1.55)))

    def _points(self, window: Window) -> np.ndarray:
        """Power in VV of what stands out on land, somewhere in the window: buildings, masts, rocks."""
        _, mask = self._block(window)
        drawn = self.grain.uniform(
            POINT_STREAM, Window(window.y, window.x, window.h + 2 * HALO, window.w + 2 * HALO), reach=2 * HALO + 1
        )
        share = np.float32(0.3) * self._towns(window.pad(HALO))
        there = np.flatnonzero((drawn < share) & mask)
        power = np.zeros(mask.shape, np.float32)
        db = 3 + 6 * ndtri(drawn.ravel()[there] / share.ravel()[there])
        power.ravel()[there] = 10 ** (db.clip(-10, 24) / 10)
        spread = gaussian_filter(power, 0.85, truncate=3.5) * np.float32(2 * np.pi * 0.85**2)
        return spread[HALO:-HALO, HALO:-HALO]


_PLOTS = kernel(power_law(0.8, longest=24, shortest=1.0), 24).scaled(1.0)


def make_land(rng: np.random.Generator, grain: Grain, look: Look, share: float) -> tuple[Land, list[Berth]]:
    """Land over about `share` of the picture; share 0 gives islets and rocks only."""
    shape, exponent = grain.shape, rng.uniform(1.6, 2.1)
    height, factor = cloud(rng, coarse_shape(shape, STEP), power_law(exponent, longest=4000 / STEP))
    height -= np.quantile(height, 1 - share) if share > 0 else NEVER
    law = power_law(exponent, longest=4000, shortest=1.5)

    def between(fy, fx):
        """The same law for what the coarse grid cannot hold: a pixel of white noise has 1 / STEP**2 of a node's area."""
        low = np.sinc(np.clip(np.hypot(fy, fx) * STEP, 0, 1)) ** 4
        return law(fy, fx) * (factor * STEP ** (1 - exponent)) * np.sqrt(1 - low**2)

    islets = _islets(rng, shape)
    regions = spectral_field(rng, coarse_shape(shape, STEP), power_law(1.3, longest=60))
    cover = Cover(float(rng.normal(-10.5, 1.5)), float(rng.normal(-6.5, 1.0)), float(rng.uniform(0, 14)), 1.0)
    towns = _towns(rng, shape)
    bare = Land(grain, look, height, kernel(between, REACH), islets, Shapes(), towns, regions, cover)
    bare = replace(bare, cover=replace(cover, slope=_steepness(bare)))
    if share <= 0:
        return bare, []
    return _with_harbours(rng, bare, int(rng.poisson(0.5 + 0.7 * shape[0] * shape[1] / 1e6)))


def _steepness(land: Land) -> float:
    """Standard deviation of the smoothed heights' gradient where the land is highest."""
    y, x = (int(v) * STEP for v in np.unravel_index(land.height.argmax(), land.height.shape))
    window = Window(y // BLOCK * BLOCK, x // BLOCK * BLOCK, *(min(n, 256) for n in land.grain.shape))
    window &= Window(0, 0, *land.grain.shape)
    fine = local_field(land.grain, HEIGHT_STREAM, land.fine, window, halo=HALO)
    smooth = gaussian_filter(spline(land.height, STEP, window.pad(HALO)) + fine, 2.0)
    return max(1e-6, float(np.gradient(smooth, axis=1).std()))


def _islets(rng, shape) -> Shapes:
    """Small islands in groups, from a single rock of one pixel to a few hundred metres."""
    count = int(rng.poisson(shape[0] * shape[1] / 1e6 * rng.choice([0.5, 2, 10])))
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    centre, islets = rng.uniform((0, 0), shape), []
    for _ in range(count):
        if rng.random() < 0.3:
            centre = rng.uniform((0, 0), shape)
        place = centre + rng.normal(0, 60, 2)
        radius = float(np.clip(np.exp(rng.normal(0.9, 0.8)), 0.7, 25))
        first, second = rng.uniform(0, 2 * np.pi, 2)
        wobble = radius * (1 + 0.35 * np.cos(2 * angle + first) + 0.2 * np.cos(3 * angle + second))
        islets.append(place + wobble[:, None] * np.c_[np.sin(angle), np.cos(angle)])
    return Shapes(tuple(islets), tuple(rng.uniform(0.0, 0.3, count)))


def _towns(rng, shape) -> np.ndarray:
    count = int(rng.poisson(2 * shape[0] * shape[1] / 1e6))
    return np.c_[rng.uniform((0, 0), shape, (count, 2)), rng.uniform(10, 100, count), rng.uniform(0.15, 0.5, count)]


def _with_harbours(rng, land: Land, count: int) -> tuple[Land, list[Berth]]:
    """Piers that reach from the coast into the water, a town behind them, and the berths along the piers."""
    piers, densities, towns, berths = [], [], [], []
    for row, column, heading in _quays(rng, land, count):
        towns.append((row, column, rng.uniform(20, 120), rng.uniform(0.15, 0.5)))
        h = np.deg2rad(heading)
        ahead, right = np.array([-np.cos(h), np.sin(h)]), np.array([np.sin(h), np.cos(h)])
        for number in range(int(rng.integers(1, 5))):
            length, width = rng.uniform(12, 60), rng.uniform(1.5, 7)
            side = (number - 1) * rng.uniform(18, 40)
            middle = np.array([row, column]) + ahead * (length / 2 - 6) + right * side
            box = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]) / 2 * (length, width)
            piers.append(middle + box @ np.stack([ahead, right]))
            densities.append(float(rng.uniform(0.02, 0.25)))
            berths += _berths(rng, middle, ahead, right, heading, length, width)
    towns = np.concatenate([land.towns, np.array(towns).reshape(-1, 4)])
    return replace(land, piers=Shapes(tuple(piers), tuple(densities)), towns=towns), berths


def _quays(rng, land: Land, count: int, reach: int = 24) -> Iterator[tuple[float, float, float]]:
    """(row, column, direction to the water in degrees) of places on the coast."""
    above = land.height > 0
    edge = np.zeros_like(above)
    edge[:-1] |= above[:-1] != above[1:]
    edge[:, :-1] |= above[:, :-1] != above[:, 1:]
    nodes = np.argwhere(edge) * STEP
    if not len(nodes):
        return
    offsets = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    for node in nodes[rng.integers(0, len(nodes), count)]:
        rows, columns = node[:, None] + offsets
        ashore = land.at(rows, columns)
        if not ashore.any() or ashore.all():
            continue
        nearest = np.hypot(*offsets[:, ashore]).argmin()
        row, column = rows[ashore][nearest], columns[ashore][nearest]
        dy, dx = rows[~ashore].mean() - row, columns[~ashore].mean() - column
        yield float(row), float(column), float(np.rad2deg(np.arctan2(dx, -dy)) % 360)


def _berths(rng, pier, ahead, right, heading, length, width) -> list[Berth]:
    berths = []
    for side in (-1, 1):
        at = -length / 2 + rng.uniform(0, 8)
        while at < length / 2 - 4:
            room = rng.uniform(4, 25)
            row, column = pier + ahead * (at + room / 2) + right * side * (width / 2)
            berths.append(Berth(row, column, (heading + 90 * side) % 360, room * 10))
            at += room + rng.uniform(1, 8)
    return berths
