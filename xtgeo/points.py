"""Points: the objects of a scene as centres with attributes, with their place on the earth.

    field                   type   meaning
    detect_id               text   {scene_id}_{row}_{column}; from the second object on the same pixel on, _2, _3 ... follows
    scene_id                text
    timestamp               time   acquisition, UTC; null where it is not known
    lon, lat                float  degrees in EPSG:4326, seven decimals
    detect_scene_row        int    pixel in which the centre lies
    detect_scene_column     int
    presence_score          float  probability of an object, 0 to 1
    is_vessel               bool   null where the model cannot tell
    vessel_score            float  probability that it is a vessel; null where the model cannot tell
    is_fishing              bool   null where it is no vessel, or not known to be one
    fishing_score           float  probability that it is a fishing vessel; null where it is no vessel, or not known to be one
    vessel_length_m         float  null where it is no vessel, or where metres are not known; measured on the pixels of a radar
                                   image where the object looks 90 m long or longer there (`points-sar`), else as the model says
    distance_from_shore_km  float  to the nearest edge of land and water; null where it is not known
    sigma0_vv_db, sigma0_vh_db float  of the brightest pixel; null where the scene lacks the band or is no calibrated radar image
    contrast_db             float  of that pixel over the mean of a ring 0.2 to 0.4 km around it (at 10 m), in the band where it
                                   is largest; null where that is not known
    flags               text   comma-separated; "edge" within a ship's length of the scene's border; "land", "infrastructure" as
                                   `xtgeo.masks` finds them

and the columns of `xtgeo.detections` that say where an object comes from; threshold is the presence_score from which a point is
kept. A point has no box and no outline.

Names follow xView3 and Global Fishing Watch's public tables where they have one.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import shapely

from xtgeo.detections import ORIGIN, Detections, Origin, identify, repeat
from xtgeo.grid import Grid, is_georeferenced, pixel_size_m, pixel_to_lonlat
from xtgeo.peaks import Peaks

FIELDS = {
    "detect_id": "str",
    "scene_id": "str",
    "timestamp": "datetime64[ms, UTC]",
    "lon": "float64",
    "lat": "float64",
    "detect_scene_row": "int64",
    "detect_scene_column": "int64",
    "presence_score": "float64",
    "is_vessel": "boolean",
    "vessel_score": "float64",
    "is_fishing": "boolean",
    "fishing_score": "float64",
    "vessel_length_m": "float64",
    "distance_from_shore_km": "float64",
    "sigma0_vv_db": "float64",
    "sigma0_vh_db": "float64",
    "contrast_db": "float64",
    "flags": "str",
    **ORIGIN,
}
"""Columns of every output and their pandas types, in order."""
EDGE_PX = 20
"""Distance from the scene's border, in pixels, within which a part of the object may lie outside."""


def describe_points(
    peaks: Peaks,
    grid: Grid,
    *,
    shape: tuple[int, int],
    gsd: float,
    sigma0_db: dict[str, np.ndarray],
    contrast_db: np.ndarray,
    measured_m: np.ndarray,
    origin: Origin,
) -> Detections:
    """Place and attributes of the points of a whole scene; geometry are points, x = column, y = row.

    shape: (height, width) of the scene in pixels. gsd: ground sample distance at which the model's lengths are metres; where
    the scene has another, they are scaled. sigma0_db, contrast_db: as `xtgeo.backscatter` gives them, by band, and of the band
    where it is largest; bands other than vv and vh have no field. measured_m: lengths of
    the same points in true metres that go before the model's; NaN where there is none.
    """
    n = len(peaks)
    # The last cell of an odd side reaches beyond the scene.
    row, column = (np.minimum(np.floor(v).astype(int), side - 1) for v, side in zip((peaks.row, peaks.column), shape, strict=True))
    lon = lat = np.full(n, np.nan)
    scale = np.nan
    if is_georeferenced(grid):
        lon, lat = pixel_to_lonlat(grid, peaks.row, peaks.column)
        scale = np.mean(pixel_size_m(grid)) / gsd
    length = np.where(np.isnan(measured_m), peaks.length * scale, measured_m)
    vessel, fishing, unknown = peaks.vessel >= 0.5, peaks.fishing >= 0.5, np.isnan(peaks.vessel)
    far = np.minimum.reduce([peaks.row, peaks.column, shape[0] - peaks.row, shape[1] - peaks.column])
    columns = {
        "detect_id": identify(origin.scene_id, row, column),
        "scene_id": repeat(origin.scene_id, n),
        "timestamp": origin.time_at(peaks.row),
        "lon": lon.round(7),
        "lat": lat.round(7),
        "detect_scene_row": row,
        "detect_scene_column": column,
        "presence_score": peaks.score.astype(float).round(6),
        "is_vessel": pd.array(np.where(unknown, None, vessel), "boolean"),
        "vessel_score": peaks.vessel.astype(float).round(6),
        "is_fishing": pd.array(np.where(vessel, fishing, None), "boolean"),
        "fishing_score": np.where(vessel, peaks.fishing.astype(float), np.nan).round(6),
        "vessel_length_m": np.where(vessel | unknown, length, np.nan).round(1),
        "distance_from_shore_km": np.full(n, np.nan),
        **{f"sigma0_{band}_db": sigma0_db.get(band, np.full(n, np.nan)).round(2) for band in ("vv", "vh")},
        "contrast_db": contrast_db.round(2),
        "flags": np.where(far < EDGE_PX, "edge", "").astype(object),
        **origin.columns(n),
    }
    return Detections(columns, shapely.points(peaks.column, peaks.row), grid, FIELDS)
