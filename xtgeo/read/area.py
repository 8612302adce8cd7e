"""An area of interest from any vector file, in the pixels of a scene."""

from __future__ import annotations

import os

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from pyogrio.errors import DataSourceError
from rasterio.features import geometry_mask

from xtgeo.errors import SceneError, XtgeoError
from xtgeo.grid import lonlat_bounds, lonlat_to_pixel
from xtgeo.read.gdal import quietly
from xtgeo.scene import Scene
from xtgeo.window import Window

STEP = 0.05
"""Longest edge in degrees before points are put between its ends: straight on the map is not straight in the pixels."""


def read_vectors(path: str | os.PathLike, what: str, error: type[XtgeoError] = SceneError) -> gpd.GeoDataFrame:
    """The first layer of a vector file of any format, with its CRS; refused as `error`, which says `what` the file was to be."""
    try:
        parquet = os.fspath(path).lower().endswith(".parquet")
        frame = gpd.read_parquet(path) if parquet else gpd.read_file(path, layer=0)
    except (DataSourceError, OSError, ValueError) as e:
        raise error(f"{what} {path} cannot be read as vectors: {str(e).splitlines()[0]}") from e
    if not isinstance(frame, gpd.GeoDataFrame):
        raise error(f"{what} {path} is a table without geometry; give a file with outlines, such as a .geojson or .gpkg")
    if frame.crs is None:
        raise error(f"{what} {path} has no CRS; say which it is, for example with ogr2ogr -a_srs EPSG:4326")
    return frame


def read_area(path: str | os.PathLike, scene: Scene) -> shapely.Geometry:
    """The polygons of a vector file (of its first layer), any CRS, as one geometry with x = column, y = row of the scene."""
    if not scene.is_georeferenced:
        raise SceneError(f"{scene.id} has no place on the earth, an area cannot be laid over it; leave --aoi out")
    frame = read_vectors(path, "area")
    polygons = frame.geometry[frame.geometry.geom_type.isin(["Polygon", "MultiPolygon"])]
    if polygons.empty:
        raise SceneError(f"area {path} holds no polygon, found {', '.join(sorted(set(frame.geom_type))) or 'nothing'}")
    whole = shapely.union_all(shapely.make_valid(polygons.to_crs("EPSG:4326").values))
    near = shapely.segmentize(shapely.intersection(whole, _surroundings(scene)), STEP)

    def to_pixel(lonlat: np.ndarray) -> np.ndarray:
        row, column = lonlat_to_pixel(scene.grid, lonlat[:, 0], lonlat[:, 1])
        return np.round(np.stack([column, row], 1), 3)  # a ring's first and last corner stay one

    area = shapely.make_valid(shapely.transform(near, to_pixel))
    area = shapely.intersection(area, shapely.box(0, 0, scene.shape[1], scene.shape[0]))
    if not area.area > 0:
        raise SceneError(f"area {path} does not overlap {scene.id}; check its CRS and place")
    return area


def pixels_inside(area: shapely.Geometry, window: Window) -> np.ndarray:
    """(y, x) True where the centre of a pixel of the window lies in the area (x = column, y = row of the scene)."""
    with quietly():
        return geometry_mask([area], window.shape, Affine.translation(window.x, window.y), invert=True)


def _surroundings(scene: Scene) -> shapely.Geometry:
    """Degrees in which the scene lies, and a little more; two boxes where it lies across the antimeridian."""
    west, south, east, north = lonlat_bounds(scene.grid)
    west, south, east, north = west - 0.1, south - 0.1, east + 0.1, north + 0.1
    if west <= east:
        return shapely.box(west, south, east, north)
    return shapely.union(shapely.box(west, south, 180, north), shapely.box(-180, south, east, north))
