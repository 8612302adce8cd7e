"""Where land is around a scene: from a file that is given, from what lies beside the scene, or from a packaged coastline."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import shapely

from xtgeo.errors import SceneError
from xtgeo.grid import Grid, lonlat_to_pixel, pixel_size_m, pixel_to_lonlat
from xtgeo.nearest import Nearest, ends
from xtgeo.read import open_scene
from xtgeo.read.ancillary import FILES
from xtgeo.read.ancillary import LAND as OWI_LAND
from xtgeo.read.area import Frame, polygonal, read_near, surroundings
from xtgeo.read.coastline import ACCURACY_M, PACKAGE, coastline_version, read_coastline
from xtgeo.read.stack import XVIEW3
from xtgeo.scene import Scene
from xtgeo.window import Window

REACH_M = 100_000.0
"""How far from a scene land is looked for, and how far from shore a distance is told."""
RASTERS = (".tif", ".tiff", ".vrt", ".img", ".nc", ".jp2")
LOWEST = -32000.0
"""No height is lower; xView3's rasters mean nothing by -32768, which is not always tagged."""
CELLS = 1 << 23
"""Of a raster read at once."""


class Judged(NamedTuple):
    """What is known of places, (n,) each."""

    on_land: np.ndarray
    """False also where it is not known."""
    shore_m: np.ndarray
    """Along the ellipsoid to the nearest edge of land and water; NaN where what is known ends nearer than that."""
    clear_m: np.ndarray
    """At least so far from any such edge, also where that is not known."""


class Land(Protocol):
    """Land and water around a scene."""

    @property
    def name(self) -> str: ...

    @property
    def accuracy_m(self) -> float:
        """How far from its place a shore may be."""

    @property
    def identity(self) -> object:
        """Plain values that change when the answers may."""

    def judge(self, lon: np.ndarray, lat: np.ndarray) -> Judged:
        """What is known of places near the scene, in degrees; of one that is NaN, nothing."""


@dataclass(frozen=True, eq=False)
class Polygons:
    """Land as polygons: a place on land lies in an odd number of them. What lies in none is water, as far as REACH_M."""

    name: str
    accuracy_m: float
    identity: object
    frame: Frame
    polygons: np.ndarray
    edges: np.ndarray
    """(m, 2, 2) both ends of each edge of land and water, longitude and latitude."""

    def judge(self, lon: np.ndarray, lat: np.ndarray) -> Judged:
        x, y = self.frame.from_lonlat(lon, lat)
        x = x + 1e-9  # a place on a cut, as polygons have one at the antimeridian, lies on one side of it
        placed = np.flatnonzero(np.isfinite(lon + lat + x + y))
        inside, _ = shapely.STRtree(self.polygons).query(shapely.points(x[placed], y[placed]), predicate="within")
        on_land = np.zeros(len(lon), bool)
        on_land[placed] = np.bincount(inside, minlength=len(placed)) % 2 == 1
        shore = Nearest.of(lon, lat, within_m=REACH_M).among(self.edges).metres
        return Judged(on_land, np.where(np.isfinite(shore), shore, np.nan), np.minimum(shore, REACH_M))


@dataclass(frozen=True, eq=False)
class Cells:
    """Land as the cells of a raster, read strip by strip; a shore runs along the edges of cells."""

    name: str
    accuracy_m: float
    identity: object
    raster: Scene
    """One band."""
    is_land: Callable[[np.ndarray], np.ndarray]
    window: Window
    """Its part around the scene."""

    def strips(self) -> Iterator[tuple[Window, np.ndarray, np.ndarray]]:
        """Windows from top to bottom, each with the last row of the one above, and where there is land, and where water."""
        w = self.window
        rows = max(128, CELLS // w.w // 128 * 128)
        for top in range(w.y, w.y + w.h, rows):
            above = min(1, top - w.y)
            part = Window(top - above, w.x, min(rows, w.y + w.h - top) + above, w.w)
            block = self.raster.read(part)
            values = block.data[0]
            known = block.valid & np.isfinite(values) & (values > LOWEST)
            land = known & self.is_land(values)
            yield part, land, known & ~land

    def judge(self, lon: np.ndarray, lat: np.ndarray) -> Judged:
        row, column = lonlat_to_pixel(self.raster.grid, lon, lat)
        on_land = np.zeros(len(lon), bool)
        shore = limit = Nearest.of(lon, lat, within_m=REACH_M)
        for part, land, water in self.strips():
            here = np.flatnonzero((row >= part.y) & (row < part.y + part.h) & (column >= part.x) & (column < part.x + part.w))
            on_land[here] = land[np.floor(row[here]).astype(int) - part.y, np.floor(column[here]).astype(int) - part.x]
            shore = shore.among(self._edges(part, land, water))
            limit = limit.among(self._edges(part, land | water, ~(land | water)))
        limit = limit.among(self._border())
        shore_m, limit_m = shore.metres, limit.metres
        known = np.isfinite(shore_m) & (shore_m <= limit_m)
        return Judged(on_land, np.where(known, shore_m, np.nan), np.minimum(np.minimum(shore_m, limit_m), REACH_M))

    def _edges(self, part: Window, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """(m, 2, 2) edges between cells of `a` and cells of `b`, longitude and latitude."""
        y, x = np.nonzero((a[1:] & b[:-1]) | (b[1:] & a[:-1]))
        across = np.stack([np.stack([y + 1, x], 1), np.stack([y + 1, x + 1], 1)], 1)
        y, x = np.nonzero((a[:, 1:] & b[:, :-1]) | (b[:, 1:] & a[:, :-1]))
        down = np.stack([np.stack([y, x + 1], 1), np.stack([y + 1, x + 1], 1)], 1)
        return self._lonlat(np.concatenate([across, down]) + [part.y, part.x])

    def _border(self) -> np.ndarray:
        """Edges of the window, cell by cell, beyond which nothing is known; of a map round the earth not its sides."""
        (h, w), at = self.raster.shape, self.window
        y, x = np.arange(at.y, at.y + at.h + 1), np.arange(at.x, at.x + at.w + 1)
        lon, _ = pixel_to_lonlat(self.raster.grid, h / 2, np.array([0.0, w]))
        whole = at.w == w and abs((lon[1] - lon[0] + 180) % 360 - 180) < 1e-6
        lines = [np.stack([np.full(len(x), side), x], 1) for side in (at.y, at.y + at.h)]
        lines += [] if whole else [np.stack([y, np.full(len(y), side)], 1) for side in (at.x, at.x + at.w)]
        return self._lonlat(np.concatenate([np.stack([line[:-1], line[1:]], 1) for line in lines]))

    def _lonlat(self, cells: np.ndarray) -> np.ndarray:
        edges = np.stack(pixel_to_lonlat(self.raster.grid, cells[..., 0], cells[..., 1]), -1)
        return edges[np.isfinite(edges).all((1, 2))]


def find_land(scene: Scene, mask: str | os.PathLike | None = None) -> Land | None:
    """The best that is known: `mask`, a file; else what lies beside an xView3 scene; else the packaged coastline, if installed.

    None where nothing is known, or the scene has no place. Raises SceneError where `mask` is no mask of land around the scene.
    """
    if mask is not None:
        if not scene.is_georeferenced:
            raise SceneError(f"{scene.id} has no place on the earth, a mask of land cannot be laid over it; leave --land-mask out")
        return _given(mask, scene.grid)
    if not scene.is_georeferenced:
        return None
    return _beside(scene) or _packaged(scene.grid)


def _given(path: str | os.PathLike, grid: Grid) -> Land:
    if os.fspath(path).lower().endswith(RASTERS):
        return _cells(path, grid, lambda values: values > 0)
    pieces, frame = read_near(path, "land mask", grid, REACH_M)
    polygons = polygonal(pieces)
    if len(pieces) and not len(polygons):
        kinds = ", ".join(sorted({piece.geom_type for piece in pieces}))
        raise SceneError(
            f"land mask {path} holds no polygon near the scene, found {kinds}: lines do not say on which side land is; "
            "give the land as polygons"
        )
    land = shapely.union_all(polygons)
    # What runs along the frame was cut there and is no shore; what the file cuts at the antimeridian has grown together.
    within = shapely.intersection(shapely.boundary(land), frame.hull.buffer(-1e-6 * frame.hull.length))
    edges = ends(shapely.segmentize(np.array([within]), frame.step))
    parts = shapely.get_parts(land)
    return Polygons(
        name=Path(path).name,
        accuracy_m=0.0,  # a file does not say
        identity=hashlib.sha256(shapely.to_wkb(shapely.normalize(land))).hexdigest()[:16],
        frame=frame,
        polygons=parts,
        edges=frame.to_lonlat(edges.reshape(-1, 2)).reshape(edges.shape),
    )


def _cells(path: str | os.PathLike, grid: Grid, is_land: Callable, accuracy_m: float | None = None) -> Cells:
    raster = open_scene(path)
    if not raster.is_georeferenced:
        raise SceneError(f"land mask {path} has neither a CRS nor control points, so it lies nowhere on the earth")
    west, south, east, north = surroundings(grid, REACH_M)
    step, no = np.linspace(0, 1, 101), np.zeros(101)
    lon = west + (east - west) * np.concatenate([step, no + 1, 1 - step, no])
    lat = south + (north - south) * np.concatenate([no, step, no + 1, 1 - step])
    row, column = lonlat_to_pixel(raster.grid, (lon + 180) % 360 - 180, np.clip(lat, -89.99, 89.99))
    whole = Window(0, 0, *raster.shape)
    if np.isfinite(row + column).all():
        y, x = int(np.floor(row.min())), int(np.floor(column.min()))
        window = Window(y, x, int(np.ceil(row.max())) - y, int(np.ceil(column.max())) - x) & whole
    else:
        window = whole
    if not window:
        raise SceneError(f"land mask {path} does not reach the scene; check its CRS and place")
    size = max(pixel_size_m(raster.grid)) if accuracy_m is None else accuracy_m
    cells = Cells(Path(path).name, float(size), raster.fingerprint(), raster.select(raster.bands[0]), is_land, window)
    if not any(land.any() or water.any() for _, land, water in cells.strips()):
        raise SceneError(f"land mask {path} knows nothing around the scene: all is nodata; check its place and its nodata value")
    return cells


def _beside(scene: Scene) -> Land | None:
    """xView3's rasters at 500 m: owiMask.tif, or, where that says nothing, as in a scene without wind, bathymetry.tif."""
    rules = {"mask": lambda v: (v == OWI_LAND) | (v == OWI_LAND + 4), "bathymetry": lambda v: v >= 0}
    for folder in dict.fromkeys(Path(file).parent for file in scene.source.files if Path(file).name in XVIEW3):
        for name, is_land in rules.items():
            if (path := folder / FILES[name]).exists():
                try:
                    return _cells(path, scene.grid, is_land)
                except SceneError:
                    continue
    return None


def _packaged(grid: Grid) -> Land | None:
    found = coastline_version()
    if found is None:
        return None
    frame = Frame.around(grid, "EPSG:4326", REACH_M)
    polygons, edges = read_coastline(frame)
    name = f"GSHHG of {PACKAGE} {found}"
    return Polygons(name, ACCURACY_M, name, frame, polygons, edges)
