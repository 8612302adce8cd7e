"""Vector files laid over a scene: the area of interest in its pixels, and whatever else lies near it.

A file is cut to the scene's surroundings in its own CRS, where its edges are straight, and only then carried over: neither the
antimeridian, nor a pole, nor an end of the file's map is met on the way.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
from affine import Affine
from odc.geo.crs import CRS
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import Transformer
from pyproj.exceptions import ProjError
from rasterio.features import geometry_mask

from xtgeo.errors import SceneError, XtgeoError
from xtgeo.grid import Grid, lonlat_bounds, lonlat_to_pixel, round_the_earth
from xtgeo.read.gdal import quietly
from xtgeo.scene import Scene
from xtgeo.window import Window

STEP_DEG = 0.05
STEPS = 200
"""Longest edge in degrees, and as a part of the frame, before points are put between: what is straight on a map is
not straight in pixels."""
MARGIN_M = 10_000.0


@dataclass(frozen=True, eq=False)
class Frame:
    """The part of a map on which a scene lies, with some margin."""

    crs: CRS
    """Of the map."""
    hull: shapely.Polygon
    """In the map's coordinates, convex; x goes on across the antimeridian."""

    @classmethod
    def around(cls, grid: Grid, crs: object, margin_m: float = MARGIN_M) -> Frame:
        """Of a grid on the earth; refused where the map has no such place."""
        crs = CRS(crs)
        west, south, east, north = surroundings(grid, margin_m)
        step, no = np.linspace(0, 1, 101), np.zeros(101)
        lon = west + (east - west) * np.concatenate([step, no + 1, 1 - step, no])
        lat = np.clip(south + (north - south) * np.concatenate([no, step, no + 1, 1 - step]), -89.99, 89.99)
        try:
            x, y = _transformer("EPSG:4326", crs.to_wkt()).transform((lon + 180) % 360 - 180, lat)
        except ProjError as e:
            raise SceneError(f"{crs} is no place on the earth: {e}; give the file in EPSG:4326") from e
        seen = np.isfinite(x) & np.isfinite(y)
        if not seen.any():
            raise SceneError(f"the scene does not lie in the area of {crs}; give the file in EPSG:4326")
        x, y = x[seen], y[seen]
        if turn := round_the_earth(crs):
            x = np.unwrap(x, period=turn)
            x -= turn * np.round((x.min() + x.max()) / 2 / turn)
        return cls(crs, shapely.convex_hull(shapely.multipoints(np.stack([x, y], 1))))

    @property
    def laps(self) -> list[tuple[float, shapely.Polygon]]:
        """How far x is shifted on the map, and the frame as it lies there: once, or once more across the antimeridian."""
        turn = round_the_earth(self.crs)
        shifts = (-turn, 0.0, turn) if turn else (0.0,)
        return [(s, shapely.transform(self.hull, lambda xy, s=s: xy - [s, 0])) for s in shifts]

    @property
    def step(self) -> float:
        """Longest edge, in units of the map, that is carried over as one straight line."""
        x0, y0, x1, y1 = self.hull.bounds
        step = float(np.hypot(x1 - x0, y1 - y0)) / STEPS
        return min(step, STEP_DEG) if self.crs.geographic else step

    def cut(self, geometry: np.ndarray) -> np.ndarray:
        """What lies in the frame, mended where it crosses itself; x goes on across the antimeridian."""
        pieces = [np.empty(0, object)]
        for shift, hull in self.laps:
            shapely.prepare(hull)
            near = shapely.make_valid(geometry[shapely.intersects(hull, shapely.box(*shapely.bounds(geometry).T))])
            moved = shapely.transform(shapely.intersection(near, hull), lambda xy, s=shift: xy + [s, 0])
            pieces.append(moved[~shapely.is_empty(moved)])
        return np.concatenate(pieces)

    def to_lonlat(self, xy: np.ndarray) -> np.ndarray:
        """(n, 2) longitudes and latitudes in degrees of places on the map; not finite where it has none."""
        return np.stack(_transformer(self.crs.to_wkt(), "EPSG:4326").transform(*np.asarray(xy, float).T), 1)

    def from_lonlat(self, lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x and y of places, x on the side of the antimeridian on which the frame is."""
        x, y = (np.asarray(v) for v in _transformer("EPSG:4326", self.crs.to_wkt()).transform(lon, lat))
        if turn := round_the_earth(self.crs):
            x = x + turn * np.round((self.hull.centroid.x - x) / turn)
        return x, y


def surroundings(grid: Grid, margin_m: float) -> tuple[float, float, float, float]:
    """West, south, east, north in degrees of a grid and `margin_m` around it or more; over the antimeridian east is beyond 180."""
    west, south, east, north = lonlat_bounds(grid)
    east += 360 * (east < west)
    south, north = max(south - margin_m / 110_000, -90.0), min(north + margin_m / 110_000, 90.0)
    high = max(-south, north)
    aside = 180.0 if high > 89 else margin_m / (110_000 * np.cos(np.radians(high)))
    return (-180.0, south, 180.0, north) if east - west + 2 * aside >= 360 else (west - aside, south, east + aside, north)


def read_vectors(
    path: str | os.PathLike,
    what: str,
    error: type[XtgeoError] = SceneError,
    *,
    near: Grid | None = None,
    margin_m: float = MARGIN_M,
) -> gpd.GeoDataFrame:
    """The first layer of a vector file of any format, with its CRS; refused as `error`, which says `what` the file was to be.

    near: only what lies within `margin_m` of this grid, or not much farther, is wanted, without other columns; where the format can
    tell, nothing else is read.
    """
    try:
        if os.fspath(path).lower().endswith(".parquet"):
            frame = gpd.read_parquet(path)
        elif near is None:
            frame = gpd.read_file(path, layer=0)
        else:
            crs = pyogrio.read_info(path, layer=0)["crs"]
            boxes = [None] if crs is None else [hull.bounds for _, hull in Frame.around(near, crs, margin_m).laps]
            frame = pd.concat([gpd.read_file(path, layer=0, bbox=box, columns=[]) for box in boxes], ignore_index=True)
    except (DataSourceError, DataLayerError, OSError, ValueError) as e:
        raise error(f"{what} {path} cannot be read as vectors: {str(e).splitlines()[0]}") from e
    if not isinstance(frame, gpd.GeoDataFrame):
        raise error(f"{what} {path} is a table without geometry; give a file with outlines, such as a .geojson or .gpkg")
    if frame.crs is None:
        raise error(f"{what} {path} has no CRS; say which it is, for example with ogr2ogr -a_srs EPSG:4326")
    return frame


def read_near(path: str | os.PathLike, what: str, grid: Grid, margin_m: float = MARGIN_M) -> tuple[np.ndarray, Frame]:
    """What a vector file holds near a grid, as it lies in the frame, and the frame; refused where the file is empty."""
    frame = read_vectors(path, what, near=grid, margin_m=margin_m)
    around = Frame.around(grid, frame.crs, margin_m)
    geometry = frame.geometry.dropna().to_numpy()
    geometry = geometry[~shapely.is_empty(geometry)]
    if not len(geometry) and not _features(path):
        raise SceneError(f"{what} {path} is empty: it holds no geometry")
    if not np.isfinite(shapely.get_coordinates(geometry)).all():
        raise SceneError(f"{what} {path} has corners that are no numbers; mend it, for example with ogr2ogr -makevalid")
    return around.cut(shapely.force_2d(geometry)), around


def _features(path: str | os.PathLike) -> int:
    """In the whole file; of Parquet, which is read whole, what is not there is nowhere."""
    if os.fspath(path).lower().endswith(".parquet"):
        return 0
    return pyogrio.read_info(path, layer=0, force_feature_count=True)["features"]


def read_area(path: str | os.PathLike, scene: Scene) -> shapely.Geometry:
    """The polygons of a vector file (of its first layer), any CRS, as one geometry with x = column, y = row of the scene.

    Polygons that cross themselves are mended. Refused where there is none, or none of it lies in the scene.
    """
    if not scene.is_georeferenced:
        raise SceneError(f"{scene.id} has no place on the earth, an area cannot be laid over it; leave --aoi out")
    pieces, frame = read_near(path, "area", scene.grid)
    polygons = polygonal(pieces)
    if len(pieces) and not len(polygons):
        kinds = ", ".join(sorted({piece.geom_type for piece in pieces}))
        raise SceneError(f"area {path} holds no polygon with an inside near {scene.id}, found {kinds}; give an area as polygons")
    near = shapely.segmentize(shapely.union_all(polygons), frame.step)

    def to_pixel(xy: np.ndarray) -> np.ndarray:
        row, column = lonlat_to_pixel(scene.grid, *frame.to_lonlat(xy).T)
        if not np.isfinite(row + column).all():
            raise SceneError(f"area {path} cannot be laid over {scene.id} from {frame.crs}; give it in EPSG:4326")
        return np.round(np.stack([column, row], 1), 3)  # a ring's first and last corner stay one

    area = shapely.make_valid(shapely.transform(near, to_pixel))
    area = shapely.intersection(area, shapely.box(0, 0, scene.shape[1], scene.shape[0]))
    if not area.area > 0:
        raise SceneError(f"area {path} does not overlap {scene.id}; check its CRS and place")
    return area


def polygonal(geometry: np.ndarray) -> np.ndarray:
    """The polygons among it and its parts, also of collections."""
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return parts[shapely.area(parts) > 0]


def pixels_inside(area: shapely.Geometry, window: Window) -> np.ndarray:
    """(y, x) True where the centre of a pixel of the window lies in the area (x = column, y = row of the scene)."""
    with quietly():
        return geometry_mask([area], window.shape, Affine.translation(window.x, window.y), invert=True)


def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)
