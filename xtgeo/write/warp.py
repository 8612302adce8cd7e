"""Warp: a raster of a scene brought to a map, by GDAL: through a thin plate where the scene has control points.

A thin plate through the control points alone lies 7 and 22 m from our own surface through the same points on two real
Sentinel-1 products over land, on average, and 70 and 240 m at most: heights bend them apart. So points of our surface are put
between them, which leaves 0.2 and 0.8 m (4 and 16 m at most); what is left is told by `Warp`. Points are brought to the map
first: so neither the antimeridian nor a pole is a special place.
GDAL computes places exactly on a coarse net and in between to an eighth of a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import shapely
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.control import GroundControlPoint
from rasterio.enums import Resampling
from rasterio.transform import GCPTransformer
from rasterio.warp import reproject

from xtgeo.errors import OutputError
from xtgeo.grid import WGS84, GcpGrid, Grid, is_georeferenced, pixel_to_crs, pixel_to_lonlat, round_the_earth
from xtgeo.write.vector import check_crs

TOLERANCE_PX = 0.125
"""GDAL's own, of what lies between the places that it computes exactly."""
SIDE = 33
"""Places along each side of the scene at which the thin plate is measured."""
MEMORY_MB = 64
DENSER = 3
"""So many times more control points along each side."""
MOST = 2000
"""Control points: the plate takes the cube of their number to compute, here two seconds, and each place their number."""


@dataclass(frozen=True)
class Warp:
    """A map that holds a scene, and how far the way there is from the scene's own surface."""

    grid: GeoBox
    mean_m: float | None
    """Mean distance in metres on the ground over a lattice of places; None where the scene has a transform instead of points."""
    max_m: float | None
    """The largest of these distances."""
    points: tuple[GroundControlPoint, ...] = ()
    """The scene's control points on the map, and more between them."""

    def tags(self) -> dict[str, str]:
        """What is stored in the file."""
        if self.mean_m is None:
            return {}
        return {
            "WARP_METHOD": "GDAL thin-plate spline over ground control points",
            "WARP_ERROR_MEAN_M": f"{self.mean_m:.4f}",
            "WARP_ERROR_MAX_M": f"{self.max_m:.4f}",
        }

    def __str__(self) -> str:
        if self.mean_m is None:
            return ""
        return f"thin plate {self.mean_m:.3f} m from the control points' surface on average, {self.max_m:.3f} m at most"


def plan_warp(grid: Grid, shape: tuple[int, int], crs: str) -> Warp:
    """The smallest north-up map in `crs` that holds the scene, with square pixels as large as the scene's along its diagonals.

    shape: (height, width) of the scene. Over the antimeridian x goes on beyond 180 degrees.
    """
    if not is_georeferenced(grid):
        raise OutputError("a scene without a place on the earth cannot be warped to a map; leave --warp out")
    check_crs(crs)
    crs, (h, w) = CRS(crs), shape
    rim = shapely.get_coordinates(shapely.segmentize(shapely.box(0, 0, w, h).exterior, max(h, w) / 64))
    x, y = pixel_to_crs(grid, rim[:, 1], rim[:, 0], crs)
    if not np.isfinite(x + y).all():
        raise OutputError(f"the scene does not lie in the area of {crs}; choose another CRS for --warp")
    turn, start = round_the_earth(crs), x[0]
    if turn and abs(np.unwrap(x, period=turn)[-1] - start) > turn / 2:
        raise OutputError(f"the scene holds a pole, which {crs} has no place for; choose EPSG:3995 or EPSG:3031 for --warp")
    x = _near(x, start, turn)
    corners = [int(np.argmin(np.hypot(rim[:, 0] - c, rim[:, 1] - r))) for r, c in ((0, 0), (h, w), (0, w), (h, 0))]
    a, b, c, d = np.stack([x, y], 1)[corners]
    side = (math.dist(a, b) + math.dist(c, d)) / 2 / math.hypot(h, w)
    width, height = (max(1, math.ceil(np.ptp(v) / side - 1e-6)) for v in (x, y))
    affine = Affine(side, 0, float(x.min()), 0, -side, float(y.max()))
    whole = GeoBox((height, width), affine, crs)
    if not isinstance(grid, GcpGrid):
        return Warp(whole, None, None)

    def to_map(row, column):
        x, y = pixel_to_crs(grid, row, column, crs)
        return _near(x, start, turn), y

    row, column = _denser(grid)
    places = zip(row.tolist(), column.tolist(), *(v.tolist() for v in to_map(row, column)), strict=True)
    points = tuple(GroundControlPoint(*place) for place in places)
    return Warp(whole, *_error(points, grid, shape, to_map), points)


def _denser(grid: GcpGrid) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the control points, and of more between them where they form a lattice."""
    row, column = grid.points[:2]
    for k in range(DENSER, 1, -1):
        lines = [np.interp(np.arange((len(v) - 1) * k + 1) / k, np.arange(len(v)), v) for v in (grid.rows, grid.columns)]
        if grid.is_regular and len(lines[0]) * len(lines[1]) <= MOST:
            row, column = (v.ravel() for v in np.meshgrid(*lines, indexing="ij"))
            break
    return row, column


def _near(x: np.ndarray, start: float, turn: float) -> np.ndarray:
    """The same places with every x within half a turn of `start`."""
    return x + turn * np.round((start - x) / turn) if turn else x


def _error(points, grid: GcpGrid, shape: tuple[int, int], to_map: Callable) -> tuple[float, float]:
    """Distances between a place of the scene and that of the pixel which the plate puts there."""
    row, column = (v.ravel() for v in np.meshgrid(*(np.linspace(0, side, SIDE) for side in shape), indexing="ij"))
    with rasterio.Env(), GCPTransformer(points, tps=True) as plate:
        taken = (np.asarray(v, float) for v in plate.rowcol(*to_map(row, column), op=lambda v: v))
    apart = WGS84.inv(*pixel_to_lonlat(grid, row, column), *pixel_to_lonlat(grid, *taken))[2]
    return float(apart.mean()), float(apart.max())


def warp(source: Path, target: Path, how: Warp, profile: dict, *, averaged: bool) -> None:
    """Writes the raster `source`, with the points of `how` or a transform, on the map; in tens of megabytes.

    averaged: values are interpolated, for quantities; without it the nearest pixel, for classes. Nodata is left out.
    """
    with rasterio.open(source) as file:
        points, crs = file.gcps
        place = {
            "transform": how.grid.affine,
            "crs": how.grid.crs.to_wkt(),
            "height": how.grid.shape[0],
            "width": how.grid.shape[1],
        }
        with rasterio.open(target, "w", **{k: v for k, v in profile.items() if k != "gcps"} | place) as out:
            for band in range(1, file.count + 1):
                reproject(
                    rasterio.band(file, band),
                    rasterio.band(out, band),
                    src_nodata=file.nodata,
                    dst_nodata=file.nodata,
                    resampling=Resampling.bilinear if averaged else Resampling.nearest,
                    tolerance=TOLERANCE_PX,
                    warp_mem_limit=MEMORY_MB,
                    num_threads=1,
                    **({"src_crs": crs, "SRC_METHOD": "GCP_TPS"} if points else {}),
                )
