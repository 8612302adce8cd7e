"""Where a pixel lies on the earth, and where on the scene a place lies.

`row, column` are pixel coordinates as floats: (0, 0) is the upper-left corner of the upper-left pixel, and (0.5, 0.5)
its centre. Longitudes and latitudes are degrees in EPSG:4326.

A grid is one of two things:

    odc.geo.geobox.GeoBox   one affine and a CRS; without a CRS the scene has no place on the earth
    GcpGrid                 ground control points and a surface through them: radar geometry, kept as it is

One affine through the control points of a Sentinel-1 product misses them by 100 m to 2 km, so there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeAlias

import numpy as np
import shapely
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer
from scipy.interpolate import RBFInterpolator, RectBivariateSpline
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from xtgeo.errors import SceneError

WGS84 = Geod(ellps="WGS84")
EPSG_4326 = CRS("EPSG:4326")
MOST_SCATTERED = 4000
"""Control points that lie on no lattice: a thin plate through n of them takes 8 n^2 bytes and n^3 steps."""


@dataclass(frozen=True, eq=False)
class GcpGrid:
    """A grid given by ground control points, exact at each of them.

    The surface runs through unit vectors on the sphere of directions, not through degrees: neither the antimeridian nor
    a pole is a special place. Between points on a regular lattice it is a bicubic spline, between scattered ones a
    thin-plate spline; beyond the scene and the lattice it continues straight.
    """

    shape: tuple[int, int]
    """(height, width) of the scene in pixels."""
    rows: np.ndarray
    """Rows of the lattice, ascending; of scattered points, one row per point."""
    columns: np.ndarray
    """Columns of the lattice, ascending; of scattered points, one column per point."""
    lon: np.ndarray
    """(rows, columns) on a lattice, one per point when scattered; degrees."""
    lat: np.ndarray
    """As `lon`; degrees."""
    height: np.ndarray
    """As `lon`; metres above the ellipsoid, carried along for writing the points again."""

    def __post_init__(self):
        lattice = (len(self.rows), len(self.columns))
        if self.lon.shape != lattice and not (len(self.rows) == len(self.columns) == self.lon.size):
            raise ValueError(f"{self.lon.shape} longitudes do not belong to {lattice} control points")
        if self.lat.shape != self.lon.shape or self.height.shape != self.lon.shape:
            raise ValueError("lon, lat and height of control points must have one shape")

    @classmethod
    def from_gcps(cls, gcps: Iterable, shape: tuple[int, int], crs: object) -> GcpGrid:
        """From points with `row`, `col`, `x`, `y` and `z`, as rasterio has them, in any CRS."""
        row, column, x, y, z = np.array([(p.row, p.col, p.x, p.y, p.z or 0.0) for p in gcps], float).reshape(-1, 5).T
        if not np.isfinite(np.stack([row, column, x, y, z])).all():
            raise SceneError("some ground control points are no numbers: correct them")
        # A second point at the same pixel carries nothing and makes the thin plate singular.
        _, first = np.unique(np.stack([row, column]), axis=1, return_index=True)
        first.sort()
        row, column, x, y, z = (v[first] for v in (row, column, x, y, z))
        if len(row) < 4 or np.linalg.matrix_rank(np.stack([row - row.mean(), column - column.mean()])) < 2:
            raise SceneError(
                f"{len(row)} ground control points are too few, or on one line: a scene needs at least 4 that span it"
            )
        lon, lat = _to_lonlat(CRS(crs), x, y)
        if not np.isfinite(lon).all():
            raise SceneError(f"some ground control points do not lie on the earth in {CRS(crs)}: check their CRS")
        rows, columns = np.unique(row), np.unique(column)
        order = np.lexsort((column, row))
        lattice = (len(rows), len(columns))
        even = min(lattice) > 1 and len(rows) * len(columns) == len(row)
        if not even or not np.array_equal(column[order].reshape(lattice), np.broadcast_to(columns, lattice)):
            if len(row) > MOST_SCATTERED:
                raise SceneError(
                    f"{len(row):,} scattered ground control points are too many for one surface through them all: keep "
                    f"{MOST_SCATTERED:,} at most"
                )
            return cls(tuple(shape), row, column, lon, lat, z)
        return cls(tuple(shape), rows, columns, *(v[order].reshape(lattice) for v in (lon, lat, z)))

    @property
    def is_regular(self) -> bool:
        """Whether the points form a lattice of rows and columns."""
        return self.lon.ndim == 2

    @property
    def points(self) -> tuple[np.ndarray, ...]:
        """(row, column, lon, lat, height) of every control point, five 1-D arrays."""
        row, column = self.rows, self.columns
        if self.is_regular:
            row, column = (v.ravel() for v in np.meshgrid(row, column, indexing="ij"))
        return row, column, self.lon.ravel(), self.lat.ravel(), self.height.ravel()

    @cached_property
    def _surface(self) -> _Lattice | _Plate:
        direction = _direction(self.lon, self.lat)
        return (_Lattice if self.is_regular else _Plate)(self.rows, self.columns, direction, self.shape)

    @cached_property
    def _nearest(self) -> cKDTree:
        return cKDTree(_direction(*self.points[2:4]).T)

    def to_lonlat(self, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Longitude and latitude of pixel coordinates, 1-D arrays."""
        x, y, z = self._surface(row, column)[0]
        return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))

    def to_pixel(self, lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of places, 1-D arrays; NaN more than 60 degrees from every control point.

        Newton's method on the surface from the nearest control point; stops below a tenth of a millimetre.
        """
        goal = _direction(lon, lat)
        row, column = np.full(len(lon), np.nan), np.full(len(lon), np.nan)
        open_ = np.flatnonzero(np.isfinite(goal).all(axis=0))
        far, start = self._nearest.query(goal[:, open_].T) if len(open_) else (np.zeros(0), np.zeros(0, int))
        open_, start = open_[far < 1.0], start[far < 1.0]
        r, c = (v[start] for v in self.points[:2])
        for _ in range(30):
            if not len(open_):
                break
            here, by_row, by_column = _unit(*self._surface(r, c))
            miss = goal[:, open_] - here
            done = np.sqrt((miss**2).sum(0)) < 1.5e-11
            row[open_[done]], column[open_[done]] = r[done], c[done]
            step_row, step_column = _least_squares(by_row, by_column, miss)
            keep = ~done & np.isfinite(step_row + step_column)
            open_, r, c = open_[keep], (r + step_row)[keep], (c + step_column)[keep]
        return row, column

    def leave_one_out(self) -> np.ndarray:
        """How far each point lies from where the others put it, in metres; the shape of `lon`.

        On a lattice a single missing point would break the spline, so a point is predicted once without its whole row
        and once without its whole column, and the two answers are averaged; on the rim, where one of them would have to
        extrapolate, the other counts alone. Spacing doubles for the test, so it overstates the error between points.
        """
        row, column, lon, lat, _ = self.points
        if self.is_regular:
            guess = self._without_lines()
        else:
            direction = _direction(lon, lat)
            guess = np.empty_like(direction)
            for i in range(len(row)):
                rest = np.arange(len(row)) != i
                plate = _Plate(row[rest], column[rest], direction[:, rest], self.shape)
                guess[:, i] = plate(row[i : i + 1], column[i : i + 1])[0][:, 0]
        guess_lon, guess_lat = np.degrees(np.arctan2(guess[1], guess[0])), _latitude(guess)
        return WGS84.inv(lon, lat, guess_lon.ravel(), guess_lat.ravel())[2].reshape(self.lon.shape)

    def _without_lines(self) -> np.ndarray:
        direction = _direction(self.lon, self.lat)
        (_, n, m), guess, weight = direction.shape, np.zeros_like(direction), np.zeros(self.lon.shape)
        for i in range(n) if n > 2 else ():
            rest = np.arange(n) != i
            line = _Lattice(self.rows[rest], self.columns, direction[:, rest], self.shape)
            share = 1.0 if 0 < i < n - 1 else 1e-9
            guess[:, i] += share * line(np.full(m, self.rows[i]), self.columns)[0]
            weight[i] += share
        for j in range(m) if m > 2 else ():
            rest = np.arange(m) != j
            line = _Lattice(self.rows, self.columns[rest], direction[:, :, rest], self.shape)
            share = 1.0 if 0 < j < m - 1 else 1e-9
            guess[:, :, j] += share * line(self.rows, np.full(n, self.columns[j]))[0]
            weight[:, j] += share
        with np.errstate(invalid="ignore"):  # a 2 x 2 lattice has nothing to leave out: NaN
            return guess / weight


Grid: TypeAlias = GeoBox | GcpGrid


def pixel_to_lonlat(grid: Grid, row, column) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude in degrees (-180 to 180) of pixel coordinates; NaN where they are not on the earth."""
    row, column = np.broadcast_arrays(np.asarray(row, float), np.asarray(column, float))
    if isinstance(grid, GcpGrid):
        lon, lat = grid.to_lonlat(row.ravel(), column.ravel())
    else:
        lon, lat = _to_lonlat(_crs_or_refuse(grid), *_apply(grid.affine, column.ravel(), row.ravel()))
    return lon.reshape(row.shape), lat.reshape(row.shape)


def lonlat_to_pixel(grid: Grid, lon, lat) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of places given in degrees; they may lie outside the scene; NaN where the grid cannot go."""
    lon, lat = np.broadcast_arrays(np.asarray(lon, float), np.asarray(lat, float))
    if isinstance(grid, GcpGrid):
        row, column = grid.to_pixel(lon.ravel(), lat.ravel())
    else:
        crs = _crs_or_refuse(grid)
        x, y = _transform(EPSG_4326, crs, lon.ravel(), lat.ravel())
        if period := round_the_earth(crs):
            x = x + period * np.round((_middle(grid)[0] - x) / period)
        column, row = _apply(~grid.affine, x, y)
    return row.reshape(lon.shape), column.reshape(lon.shape)


def pixel_to_crs(grid: Grid, row, column, crs: object = None) -> tuple[np.ndarray, np.ndarray]:
    """x and y of pixel coordinates in `crs`; None is the grid's own CRS (EPSG:4326 for control points).

    Without a CRS on either side x and y are those of the affine.
    """
    row, column = np.broadcast_arrays(np.asarray(row, float), np.asarray(column, float))
    if isinstance(grid, GeoBox) and (crs is None or CRS(crs) == grid.crs):
        return _apply(grid.affine, column, row)
    lon, lat = pixel_to_lonlat(grid, row, column)
    if crs is None or CRS(crs) == EPSG_4326:
        return lon, lat
    if isinstance(grid, GcpGrid):
        x, y = _transform(EPSG_4326, CRS(crs), lon.ravel(), lat.ravel())
    else:
        x, y = _transform(grid.crs, CRS(crs), *_apply(grid.affine, column.ravel(), row.ravel()))
    return x.reshape(row.shape), y.reshape(row.shape)


def grid_crs(grid: Grid) -> CRS | None:
    """The CRS of `pixel_to_crs` without a CRS: the grid's own, EPSG:4326 for control points, None without a place."""
    return EPSG_4326 if isinstance(grid, GcpGrid) else grid.crs


def is_georeferenced(grid: Grid) -> bool:
    """Whether pixels of this grid have a place on the earth."""
    return isinstance(grid, GcpGrid) or grid.crs is not None


def pixel_size_m(grid: Grid) -> tuple[float, float]:
    """True ground metres (per row, per column) at the scene's centre, along the ellipsoid; NaN without a CRS.

    In Web Mercator at 60 degrees north a pixel called 10 m is 5 m wide: this says 5.
    """
    if not is_georeferenced(grid):
        return float("nan"), float("nan")
    y, x = (side / 2 for side in grid.shape)
    lon, lat = pixel_to_lonlat(grid, [y - 0.5, y + 0.5, y, y], [x, x, x - 0.5, x + 0.5])
    if not np.isfinite(lon + lat).all():
        return float("nan"), float("nan")
    down, across = WGS84.inv(lon[::2], lat[::2], lon[1::2], lat[1::2])[2]
    return float(down), float(across)


def lonlat_bounds(grid: Grid) -> tuple[float, float, float, float]:
    """West, south, east, north in degrees; across the antimeridian east is smaller than west, as in RFC 7946.

    A scene that goes all the way round, as one with a pole in it does, lies between -180 and 180.
    """
    h, w = grid.shape
    step, no = np.linspace(0, 1, 41), np.zeros(41)
    rows = np.concatenate([no, step * h, no + h, h - step * h])  # once round the border
    columns = np.concatenate([step * w, no + w, w - step * w, no])
    lon, lat = pixel_to_lonlat(grid, rows, columns)
    lon, lat = lon[np.isfinite(lon + lat)], lat[np.isfinite(lon + lat)]
    lon = np.unwrap(lon, period=360)
    west, east, south, north = float(lon.min()), float(lon.max()), float(lat.min()), float(lat.max())
    if abs(lon[-1] - lon[0]) > 180:  # round a pole
        south, north = (south, 90.0) if north + south > 0 else (-90.0, north)
    if east - west > 359.9:
        return -180.0, south, 180.0, north
    turn = 360 * np.round((west + east) / 2 / 360)
    west, east = west - turn, east - turn
    return west + 360 * (west < -180), south, east - 360 * (east > 180), north


def same_place(grids: Sequence[Grid]) -> list[list[int]]:
    """Which of the grids lie on the same part of the earth: groups of indices whose bounds in degrees touch, directly or through
    others. A grid without a place is alone."""
    apart = [shapely.Point(1000 * (i + 1), 1000) for i in range(len(grids))]
    boxes = [_bounds(grid) if is_georeferenced(grid) else apart[i] for i, grid in enumerate(grids)]
    a, b = shapely.STRtree(boxes).query(boxes, predicate="intersects")
    touch = coo_array((np.ones(len(a)), (a, b)), (len(boxes),) * 2)
    count, which = connected_components(touch, directed=False)
    return [np.flatnonzero(which == k).tolist() for k in range(count)]


def _bounds(grid: Grid) -> shapely.Geometry:
    """Two boxes where the grid lies across the antimeridian."""
    west, south, east, north = lonlat_bounds(grid)
    if west <= east:
        return shapely.box(west, south, east, north)
    return shapely.union(shapely.box(west, south, 180, north), shapely.box(-180, south, east, north))


def same_grid(a: Grid, b: Grid, tolerance_px: float = 0.01) -> bool:
    """Whether pixels of both lie on each other, to `tolerance_px` at the corners or control points."""
    if type(a) is not type(b) or tuple(a.shape) != tuple(b.shape):
        return False
    if isinstance(a, GcpGrid):
        row, column, lon, lat, _ = b.points
        there = np.stack(lonlat_to_pixel(a, lon, lat)) - np.stack([row, column])
        return bool((np.abs(there) < tolerance_px).all())
    if a.crs != b.crs:
        return False
    h, w = a.shape
    corners = np.array([0.0, w, 0.0, w]), np.array([0.0, 0.0, h, h])
    there = np.stack(_apply(~a.affine, *_apply(b.affine, *corners))) - np.stack(corners)
    return bool((np.abs(there) < tolerance_px).all())


class _Lattice:
    """Bicubic through a lattice of directions; (3, n) positions and their derivatives by row and by column."""

    def __init__(self, rows, columns, direction, shape):
        # The spline's own cubics serve to the scene's rim, where control points often stop short by a pixel or a half.
        self.low = np.array([min(rows[0], 0.0), min(columns[0], 0.0)])
        self.high = np.array([max(rows[-1], shape[0]), max(columns[-1], shape[1])])
        degree = {"kx": min(3, len(rows) - 1), "ky": min(3, len(columns) - 1), "s": 0}
        box = [self.low[0], self.high[0], self.low[1], self.high[1]]
        self.splines = [RectBivariateSpline(rows, columns, part, bbox=box, **degree) for part in direction]

    def __call__(self, row, column):
        r, c = np.clip(row, self.low[0], self.high[0]), np.clip(column, self.low[1], self.high[1])
        at = np.stack([s.ev(r, c) for s in self.splines])
        by_row = np.stack([s.ev(r, c, dx=1) for s in self.splines])
        by_column = np.stack([s.ev(r, c, dy=1) for s in self.splines])
        return at + by_row * (row - r) + by_column * (column - c), by_row, by_column


class _Plate:
    """Thin plate through scattered directions; called as `_Lattice`."""

    def __init__(self, rows, columns, direction, shape):
        self.scale = float(max(shape))
        self.low, self.high = np.zeros(2), np.array(shape, float)
        self.centre = direction.mean(axis=1, keepdims=True)
        at = np.stack([rows, columns], axis=1) / self.scale
        self.spline = RBFInterpolator(at, (direction - self.centre).T, kernel="thin_plate_spline")

    def _at(self, row, column):
        return self.spline(np.stack([row, column], axis=1) / self.scale).T + self.centre

    def __call__(self, row, column):
        r, c = np.clip(row, self.low[0], self.high[0]), np.clip(column, self.low[1], self.high[1])
        by_row = self._at(r + 0.5, c) - self._at(r - 0.5, c)
        by_column = self._at(r, c + 0.5) - self._at(r, c - 0.5)
        return self._at(r, c) + by_row * (row - r) + by_column * (column - c), by_row, by_column


def _apply(affine, x, y):
    # affine 2 spells this `*` and affine 3 `@`, with a warning for the other.
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f


def geocentric(lon, lat) -> np.ndarray:
    """(3, n) metres from the earth's centre of places on WGS 84."""
    a, e2 = 6378137.0, 0.0066943799901413165
    lon, lat = np.radians(lon), np.radians(lat)
    n = a / np.sqrt(1 - e2 * np.sin(lat) ** 2)
    return np.stack([n * np.cos(lat) * np.cos(lon), n * np.cos(lat) * np.sin(lon), n * (1 - e2) * np.sin(lat)])


def _direction(lon, lat) -> np.ndarray:
    lon, lat = np.radians(lon), np.radians(lat)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def _latitude(direction) -> np.ndarray:
    return np.degrees(np.arctan2(direction[2], np.hypot(direction[0], direction[1])))


def _unit(at, by_row, by_column):
    """The same, with positions of length one and derivatives that keep it."""
    length = np.sqrt((at**2).sum(0))
    here = at / length
    flat = (d / length - here * (here * d).sum(0) / length for d in (by_row, by_column))
    return here, *flat


def _least_squares(a, b, miss):
    """Steps along a and b, each (3, n), that come nearest to `miss`."""
    aa, ab, bb, am, bm = ((u * v).sum(0) for u, v in ((a, a), (a, b), (b, b), (a, miss), (b, miss)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (bb * am - ab * bm) / (aa * bb - ab * ab), (aa * bm - ab * am) / (aa * bb - ab * ab)


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)


def _transform(source: CRS, target: CRS, x, y) -> tuple[np.ndarray, np.ndarray]:
    x, y = _transformer(source.to_wkt(), target.to_wkt()).transform(x, y)
    x, y = np.asarray(x, float), np.asarray(y, float)
    lost = ~(np.isfinite(x) & np.isfinite(y))
    return np.where(lost, np.nan, x), np.where(lost, np.nan, y)


def _to_lonlat(crs: CRS, x, y) -> tuple[np.ndarray, np.ndarray]:
    lon, lat = _transform(crs, EPSG_4326, np.asarray(x, float), np.asarray(y, float))
    lost = ~(np.abs(lat) <= 90.0 + 1e-9)
    lon = np.where(np.abs(lon) > 180.0, (lon + 180.0) % 360.0 - 180.0, lon)
    return np.where(lost, np.nan, lon), np.where(lost, np.nan, lat)


def round_the_earth(crs: CRS) -> float:
    """After how many units x comes round the earth again: 0 for most."""
    if crs.geographic:
        return 360.0
    return 2 * 20037508.342789244 if crs.epsg in (3857, 3395) else 0.0


def _middle(grid: GeoBox) -> tuple[float, float]:
    return _apply(grid.affine, grid.shape[1] / 2, grid.shape[0] / 2)


def _crs_or_refuse(grid: GeoBox) -> CRS:
    if grid.crs is None:
        raise SceneError("the scene has no place on the earth: it has neither a CRS nor control points; set one first")
    return grid.crs
