"""A simulated scene's truth: vessels as polygons, all objects as an xView3 label table."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import datetime

import geopandas as gpd
import numpy as np
import pandas as pd
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from scipy.spatial import KDTree
from shapely.affinity import affine_transform

from xtgeo.simulate.ancillary import Ancillary
from xtgeo.simulate.params import Params
from xtgeo.simulate.targets import Ghost, Ship

FAR_KM = 9999.99
"""xView3's distance from shore where it is over 10 km or unknown."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known about a scene but for its pixels."""

    grid: GeoBox
    """UTM, 10 m, with an origin that is not a multiple of 10 m."""
    params: Params
    time: datetime
    ships: tuple[Ship, ...]
    """Vessels and fixed objects whose centre lies in the scene on a valid pixel."""
    ghosts: tuple[Ghost, ...]
    """What bright objects, in the scene or beside it, leave elsewhere, on valid pixels."""
    shore: np.ndarray
    """(n, 2) rows and columns of land pixels beside water."""

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits and a letter, as xView3 names scenes."""
        text = f"{self.params} {tuple(self.grid.shape)}".encode()
        return f"{zlib.crc32(text):08x}{zlib.adler32(text):08x}v"

    def truth(self) -> gpd.GeoDataFrame:
        """Vessels as polygons in the scene's CRS. The outline is the hull and 10 m around it."""
        return self._frame([s for s in self.ships if s.is_vessel])

    def objects(self) -> gpd.GeoDataFrame:
        """As `truth`, with the fixed objects too."""
        return self._frame(self.ships)

    def _frame(self, ships) -> gpd.GeoDataFrame:
        a = self.grid.affine
        lon, lat = self.lonlat([s.row for s in ships], [s.column for s in ships])
        columns = {
            "detect_id": [f"{self.id}_{s.row:.1f}_{s.column:.1f}" for s in ships],
            "length_m": [s.length_m for s in ships],
            "width_m": [s.width_m for s in ships],
            "heading_deg": [s.heading_deg for s in ships],
            "is_vessel": [s.is_vessel for s in ships],
            "is_fishing": pd.array([s.is_fishing for s in ships], dtype="boolean"),
            "kind": [s.kind for s in ships],
            "detectable": [s.detectable for s in ships],
            "contrast_vv_db": [s.contrast_vv_db for s in ships],
            "contrast_vh_db": [s.contrast_vh_db for s in ships],
            "row": [s.row for s in ships],
            "column": [s.column for s in ships],
            "lon": lon,
            "lat": lat,
        }
        shapes = [affine_transform(s.outline, [a.a, a.b, a.d, a.e, a.c, a.f]) for s in ships]
        return gpd.GeoDataFrame(columns, geometry=shapes, crs=self.grid.crs.to_wkt())

    def lonlat(self, rows, columns) -> tuple[np.ndarray, np.ndarray]:
        """Longitude and latitude of pixel positions, degrees."""
        a = self.grid.affine
        rows, columns = np.asarray(rows, float), np.asarray(columns, float)
        to_degrees = Transformer.from_crs(self.grid.crs.to_wkt(), "EPSG:4326", always_xy=True)
        lon, lat = to_degrees.transform(a.c + a.a * columns + a.b * rows, a.f + a.d * columns + a.e * rows)
        return np.atleast_1d(lon), np.atleast_1d(lat)

    def labels(self) -> pd.DataFrame:
        """The objects as an xView3 label table: integer pixels, boxes, confidence HIGH, source manual."""
        ships = self.ships
        rows, columns = np.array([s.row for s in ships]), np.array([s.column for s in ships])
        lon, lat = self.lonlat(rows, columns) if ships else (np.zeros(0), np.zeros(0))
        boxes = np.array([box_px(s, self.grid.shape) for s in ships], int).reshape(-1, 4)
        known = [pd.NA if s.is_fishing is None else s.is_fishing for s in ships]
        return pd.DataFrame(
            {
                "detect_lat": lat,
                "detect_lon": lon,
                "vessel_length_m": [round(s.length_m, 1) for s in ships],
                "source": "manual",
                "detect_scene_row": np.floor(rows).astype(int),
                "detect_scene_column": np.floor(columns).astype(int),
                "is_vessel": [s.is_vessel for s in ships],
                "is_fishing": pd.array(known, dtype="boolean"),
                "distance_from_shore_km": self._shore_km(rows, columns),
                "scene_id": self.id,
                "confidence": "HIGH",
                "top": boxes[:, 0],
                "left": boxes[:, 1],
                "bottom": boxes[:, 2],
                "right": boxes[:, 3],
                "detect_id": [f"{self.id}_{y:024.20f}_{x:024.20f}" for y, x in zip(lat, lon, strict=True)],
            }
        )

    def _shore_km(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        if not len(self.shore) or not len(rows):
            return np.full(len(rows), FAR_KM)
        far, _ = KDTree(self.shore).query(np.c_[rows, columns] - 0.5)
        km = far * 10 / 1000
        return np.where(km > 10, FAR_KM, np.round(km, 2))


@dataclass(frozen=True, eq=False)
class SimulatedScene(Truth):
    """A scene in memory and its truth."""

    data: np.ndarray
    """(2, y, x) float32, sigma0 in dB; 0 where not valid."""
    valid: np.ndarray
    """(y, x), True where measured."""
    land: np.ndarray
    """(y, x), True on land."""
    around: Ancillary
    """Depth, masks and wind at 500 m."""
    bands: tuple[str, str] = ("vv", "vh")


def box_px(ship: Ship, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of the box an annotator draws: hull and sidelobes, inside the scene."""
    left, top, right, bottom = ship.outline.bounds
    pad = 1 + 0.01 * ship.length_m
    y0, y1 = (int(np.clip(v, 0, shape[0])) for v in (top - pad, np.ceil(bottom + pad)))
    x0, x1 = (int(np.clip(v, 0, shape[1])) for v in (left - pad, np.ceil(right + pad)))
    return y0, x0, y1, x1
