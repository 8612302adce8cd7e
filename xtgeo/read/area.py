"""An area of interest from any vector file, in the pixels of a scene."""

from __future__ import annotations

import os

import geopandas as gpd
import numpy as np
import shapely
from pyogrio.errors import DataSourceError

from xtgeo.errors import SceneError
from xtgeo.grid import lonlat_to_pixel
from xtgeo.scene import Scene

STEP = 0.05
"""Longest edge in degrees before points are put between its ends: straight on the map is not straight in the pixels."""


def read_area(path: str | os.PathLike, scene: Scene) -> shapely.Geometry:
    """The polygons of a vector file, any CRS, as one geometry with x = column, y = row of the scene."""
    try:
        frame = gpd.read_file(path)
    except (DataSourceError, OSError) as e:
        raise SceneError(f"area {path} cannot be read as vectors: {str(e).splitlines()[0]}") from e
    if frame.crs is None:
        raise SceneError(f"area {path} has no CRS; say which it is, for example with ogr2ogr -a_srs EPSG:4326")
    if not scene.is_georeferenced:
        raise SceneError(f"{scene.id} has no place on the earth, an area cannot be laid over it; leave --aoi out")
    polygons = frame.geometry[frame.geometry.geom_type.isin(["Polygon", "MultiPolygon"])]
    if polygons.empty:
        raise SceneError(f"area {path} holds no polygon, found {', '.join(sorted(set(frame.geom_type))) or 'nothing'}")
    degrees = shapely.segmentize(polygons.to_crs("EPSG:4326").values, STEP)

    def to_pixel(lonlat: np.ndarray) -> np.ndarray:
        row, column = lonlat_to_pixel(scene.grid, lonlat[:, 0], lonlat[:, 1])
        return np.stack([column, row], 1)

    pixels = shapely.transform(np.asarray(degrees), to_pixel)
    area = shapely.union_all(shapely.make_valid(pixels[np.isfinite(shapely.area(pixels))]))
    area = shapely.intersection(area, shapely.box(0, 0, scene.shape[1], scene.shape[0]))
    if not area.area > 0:
        raise SceneError(f"area {path} does not overlap {scene.id}; check its CRS and place")
    return area
