"""Land: fractal coasts, islets and rocks, harbours with piers, towns, fields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, gaussian_filter
from shapely import Polygon, box, contains_xy
from shapely.affinity import rotate, translate

from xtgeo.simulate.fields import coarse_shape, power_law, spectral_field, upsample


@dataclass(frozen=True)
class Berth:
    """A place beside a quay where a ship may lie."""

    row: float
    column: float
    heading_deg: float
    """From the quay to the water, clockwise from north."""
    room_m: float
    """Longest ship that fits."""


@dataclass(frozen=True)
class Land:
    """Where the land is and how bright, without speckle."""

    mask: np.ndarray
    """(y, x), True on land."""
    vv: np.ndarray
    """sigma0, linear; 0 on the sea."""
    vh: np.ndarray
    berths: tuple[Berth, ...]


def make_land(rng: np.random.Generator, shape: tuple[int, int], share: float, toward_east: bool) -> Land:
    """Land over about `share` of the picture; share 0 gives islets and rocks only.

    Slopes that face the sensor are bright: the western ones where it looks `toward_east`.
    """
    mask = np.zeros(shape, bool)
    height = spectral_field(rng, shape, power_law(rng.uniform(1.6, 2.1), longest=4000, shortest=1.5))
    if share > 0:
        mask = height > np.quantile(height[::4, ::4], 1 - share)
        height = height - np.quantile(height[::4, ::4], 1 - share)
    _islets(rng, mask, count=int(rng.poisson(mask.size / 1e6 * rng.choice([0.5, 2, 10]))))
    berths: list[Berth] = []
    towns = np.zeros(shape, np.float32)
    if share > 0:
        berths = _harbours(rng, mask, towns, count=int(rng.poisson(0.5 + 0.7 * mask.size / 1e6)))
    vv, vh = _brightness(rng, mask, height if toward_east else -height, towns)
    return Land(mask, vv, vh, tuple(berths))


def _islets(rng, mask: np.ndarray, count: int) -> None:
    """Small islands in groups, from a single rock of one pixel to a few hundred metres."""
    h, w = mask.shape
    centre = rng.uniform((0, 0), (h, w))
    for _ in range(count):
        if rng.random() < 0.3:
            centre = rng.uniform((0, 0), (h, w))
        row, column = centre + rng.normal(0, 60, 2)
        radius = float(np.clip(np.exp(rng.normal(0.9, 0.8)), 0.7, 25))
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        first, second = rng.uniform(0, 2 * np.pi, 2)
        wobble = radius * (1 + 0.35 * np.cos(2 * angle + first) + 0.2 * np.cos(3 * angle + second))
        burn(mask, Polygon(np.c_[column + wobble * np.cos(angle), row + wobble * np.sin(angle)]))


def burn(mask: np.ndarray, polygon: Polygon, value=True) -> None:
    """Sets the pixels whose centre lies in the polygon, in place."""
    left, top, right, bottom = polygon.bounds
    y0, x0 = max(0, int(top)), max(0, int(left))
    y1, x1 = min(mask.shape[0], int(bottom) + 2), min(mask.shape[1], int(right) + 2)
    if y1 > y0 and x1 > x0:
        x, y = np.meshgrid(np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5)
        mask[y0:y1, x0:x1][contains_xy(polygon, x, y)] = value


def _harbours(rng, mask: np.ndarray, towns: np.ndarray, count: int) -> list[Berth]:
    """Piers that reach from the coast into the water, a town behind them, and the berths along the piers."""
    coast = np.argwhere(mask & ~binary_erosion(mask, border_value=1))
    berths: list[Berth] = []
    if not len(coast):
        return berths
    for row, column in coast[rng.integers(0, len(coast), count)]:
        _town(rng, towns, row, column, rng.uniform(20, 120))
        heading = _seaward(mask, row, column)
        for number in range(int(rng.integers(1, 5))):
            length, width = rng.uniform(12, 60), rng.uniform(1.5, 7)
            side = (number - 1) * rng.uniform(18, 40)
            h = np.deg2rad(heading)
            ahead, right = np.array([np.sin(h), -np.cos(h)]), np.array([np.cos(h), np.sin(h)])
            x, y = np.array([column, row]) + ahead * (length / 2 - 6) + right * side
            pier = translate(rotate(box(-width / 2, -length / 2, width / 2, length / 2), heading, origin=(0, 0)), x, y)
            burn(mask, pier)
            burn(towns, pier, np.float32(rng.uniform(0.02, 0.25)))
            berths += _berths(rng, x, y, ahead, right, heading, length, width)
    return berths


def _berths(rng, x, y, ahead, right, heading, length, width) -> list[Berth]:
    berths = []
    for side in (-1, 1):
        at = -length / 2 + rng.uniform(0, 8)
        while at < length / 2 - 4:
            room = rng.uniform(4, 25)
            middle = np.array([x, y]) + ahead * (at + room / 2) + right * side * (width / 2)
            berths.append(Berth(middle[1], middle[0], (heading + 90 * side) % 360, room * 10))
            at += room + rng.uniform(1, 8)
    return berths


def _seaward(mask, row, column, reach: int = 24) -> float:
    """Direction from a coast pixel towards the middle of the water nearby, clockwise from north."""
    y0, x0 = max(0, row - reach), max(0, column - reach)
    water = np.argwhere(~mask[y0 : row + reach + 1, x0 : column + reach + 1])
    dy, dx = (water.mean(axis=0) + (y0 - row, x0 - column)) if len(water) else (0.0, 1.0)
    return float(np.rad2deg(np.arctan2(dx, -dy)) % 360)


def _town(rng, towns: np.ndarray, row: float, column: float, radius: float) -> None:
    h, w = towns.shape
    y0, x0 = max(0, int(row - 2 * radius)), max(0, int(column - 2 * radius))
    y1, x1 = min(h, int(row + 2 * radius) + 1), min(w, int(column + 2 * radius) + 1)
    y, x = np.ogrid[y0:y1, x0:x1]
    density = rng.uniform(0.15, 0.5) * np.exp(-((y - row) ** 2 + (x - column) ** 2) / radius**2)
    np.maximum(towns[y0:y1, x0:x1], density.astype(np.float32), out=towns[y0:y1, x0:x1])


def _brightness(rng, mask, height, towns) -> tuple[np.ndarray, np.ndarray]:
    """Sigma0 of land: cover by region, slopes that face the sensor or not, and points that stand out in towns."""
    shape = mask.shape
    cover = upsample(spectral_field(rng, coarse_shape(shape, 8), power_law(1.3, longest=60)), shape)
    plots = upsample(spectral_field(rng, coarse_shape(shape, 4), power_law(0.8, longest=12)), shape)
    plots = np.round(plots * 1.5) / 1.5
    slope = np.gradient(gaussian_filter(height, 2.0), axis=1)
    slope /= max(1e-6, float(slope.std()))
    base = rng.normal(-10.5, 1.5)
    db = base + 1.6 * cover + 0.8 * plots + rng.uniform(0, 3.0) * np.clip(slope, -2.5, 3.5)
    vv = np.where(mask, 10 ** (db * 0.1), 0).astype(np.float32)
    vh = vv * np.float32(10 ** (rng.normal(-6.5, 1.0) / 10))
    for _ in range(int(rng.poisson(2 * mask.size / 1e6))):
        _town(rng, towns, rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(10, 100))
    points = np.flatnonzero((rng.random(shape, dtype=np.float32) < 0.3 * towns + 0.0005) & mask)
    if len(points):
        for image, level in ((vv, 0.0), (vh, -9.0)):
            bright = np.zeros(shape, np.float32)
            bright.ravel()[points] = 10 ** ((rng.normal(3, 6, len(points)).clip(-10, 24) + level) / 10)
            image += gaussian_filter(bright, 0.85, truncate=3.5) * np.float32(2 * np.pi * 0.85**2)
    return vv, vh
