"""A map to walk about in, with every object on it: lonboard draws it on the graphics card, 100,000 objects as smoothly as ten."""

from __future__ import annotations

import geopandas as gpd
import matplotlib
import numpy as np
import pandas as pd
import shapely
from lonboard import Map, PolygonLayer, ScatterplotLayer
from lonboard.basemap import CartoStyle, MaplibreBasemap

from xtgeo.detections import Detections, on_map
from xtgeo.errors import SceneError
from xtgeo.grid import EPSG_4326, is_georeferenced
from xtgeo.plot.score import score_of

TOLD = (
    "detect_id", "class", "is_vessel", "is_fishing", "length_m", "width_m", "vessel_length_m", "heading_deg", "area_m2", "flags",
    "timestamp",
)  # fmt: skip
"""What a click on an object shows, beside its score, of the columns that there are."""


def explore(detections: Detections, *, height: int = 600) -> Map:
    """An interactive map, coloured by score; a click on an object shows its record. `.to_html("map.html")` keeps it.

    Dots of at least three pixels stand for objects from afar, outlines appear as one comes near. `height` in pixels. The browser
    fetches lonboard's decoder and the ground map from the web, and shows nothing without it: `xtgeo view` needs no network.
    """
    if not is_georeferenced(detections.grid):
        raise SceneError("objects of a scene without a place on the earth cannot be laid on a map: use detections.plot()")
    score = score_of(detections)
    table = pd.DataFrame({"score": score} | {name: _plain(detections, name) for name in TOLD if name in detections.fields})
    colours = np.round(255 * matplotlib.colormaps["plasma"](np.nan_to_num(score))).astype(np.uint8)
    shapes = on_map(detections.geometry, detections.grid, EPSG_4326)
    style = {"pickable": True, "auto_highlight": True, "auto_downcast": False}  # True warns with pandas 3
    layers = []
    is_point = shapely.get_type_id(shapes) == shapely.GeometryType.POINT
    if len(shapes) and not is_point.any():
        outlines = gpd.GeoDataFrame(table, geometry=shapes, crs="EPSG:4326")
        layers.append(
            PolygonLayer.from_geopandas(
                outlines, filled=False, get_line_color=colours, get_line_width=2, line_width_units="pixels", **style
            )
        )
    dots = gpd.GeoDataFrame(table, geometry=shapely.points(detections["lon"], detections["lat"]), crs="EPSG:4326")
    if len(dots):
        # In metres and not filled up close, so that a dot does not hide the outline that it stands for.
        layers.append(
            ScatterplotLayer.from_geopandas(
                dots, get_fill_color=colours, get_radius=5, radius_min_pixels=3, radius_max_pixels=6, **style
            )
        )
    return Map(layers, basemap=MaplibreBasemap(style=CartoStyle.DarkMatter), height=height, show_tooltip=True)


def _plain(detections: Detections, name: str) -> pd.Series:
    """A column as a browser can show it: times as text, text as text also where it is missing."""
    column = detections[name]
    if detections.fields[name].startswith("datetime"):
        return pd.Series(np.datetime_as_string(column, "s"), dtype="str").where(~np.isnat(column))
    return pd.Series(column).astype(detections.fields[name])
