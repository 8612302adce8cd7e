"""How far it is, on the ellipsoid, from a few places to the nearest of very many edges, which are shown part by part."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import shapely
from pyproj import Transformer
from scipy.spatial import cKDTree

from xtgeo.grid import WGS84, geocentric

EDGES = 200_000
"""Looked at together; a tree over them takes some 20 MB."""
PLACES = 1_000


@dataclass(frozen=True, eq=False)
class Nearest:
    """Places, and for each the nearest point of all edges so far."""

    places: np.ndarray
    """(n, 2) longitude and latitude in degrees; NaN where there is none, and then nothing is near."""
    chord: np.ndarray
    """(n,) metres straight through the earth, which put distances in the same order as along it."""
    foot: np.ndarray
    """(n, 3) geocentric metres of the nearest point; NaN where no edge was near enough."""

    @classmethod
    def of(cls, lon: np.ndarray, lat: np.ndarray, *, within_m: float) -> Nearest:
        """Nothing seen yet; edges farther than `within_m` will not be."""
        n = len(lon)
        return cls(np.stack([lon, lat], 1), np.full(n, float(within_m)), np.full((n, 3), np.nan))

    def among(self, edges: np.ndarray) -> Nearest:
        """The same with more edges: (m, 2, 2) both ends of each, longitude and latitude, at most some kilometres apart."""
        nearest = self
        for start in range(0, len(edges), EDGES):
            nearest = nearest._among(edges[start : start + EDGES])
        return nearest

    def _among(self, edges: np.ndarray) -> Nearest:
        a, b = (geocentric(*edges[:, i].T).T for i in (0, 1))
        half = np.sqrt(((b - a) ** 2).sum(1).max()) / 2
        tree = cKDTree((a + b) / 2)
        at, chord, foot = geocentric(*self.places.T).T, self.chord.copy(), self.foot.copy()
        open_ = np.flatnonzero(np.isfinite(at).all(1))
        middle = tree.query(at[open_])[0] if len(open_) else np.empty(0)
        # An edge is at most `half` nearer than its middle, so all that can win have their middle within this.
        reach = np.minimum(chord[open_], middle) + half + 1e-6
        open_, reach = open_[middle <= reach], reach[middle <= reach]
        for start in range(0, len(open_), PLACES):
            some = open_[start : start + PLACES]
            found = tree.query_ball_point(at[some], reach[start : start + PLACES], return_sorted=True)
            counts = np.array([len(f) for f in found])
            edge, place = np.concatenate(found).astype(int), np.repeat(np.arange(len(some)), counts)
            along = b[edge] - a[edge]
            length2 = np.maximum((along**2).sum(1), 1e-12)
            t = np.clip(((at[some][place] - a[edge]) * along).sum(1) / length2, 0, 1)
            point = a[edge] + t[:, None] * along
            far = np.sqrt(((at[some][place] - point) ** 2).sum(1))
            order = np.lexsort((far, place))
            first = order[np.searchsorted(place, np.arange(len(some)))]
            nearer = far[first] < chord[some]
            chord[some[nearer]], foot[some[nearer]] = far[first][nearer], point[first][nearer]
        return replace(self, chord=chord, foot=foot)

    @property
    def metres(self) -> np.ndarray:
        """(n,) along the ellipsoid; infinite where no edge was near enough."""
        seen = np.isfinite(self.foot[:, 0])
        lon, lat, _ = Transformer.from_crs("EPSG:4978", "EPSG:4979", always_xy=True).transform(*self.foot[seen].T)
        metres = np.full(len(seen), np.inf)
        metres[seen] = WGS84.inv(*self.places[seen].T, lon, lat)[2]
        return metres


def ends(geometry: np.ndarray) -> np.ndarray:
    """(m, 2, 2) both ends of every edge of lines and rings, x and y; a point is an edge without length."""
    parts = shapely.get_parts(geometry)
    rings = shapely.get_parts(shapely.boundary(parts[shapely.get_dimensions(parts) == 2]))
    lines = np.concatenate([rings, parts[shapely.get_dimensions(parts) < 2]])
    xy, index = shapely.get_coordinates(lines, return_index=True)
    same = index[1:] == index[:-1]
    alone = xy[np.isin(index, np.flatnonzero(shapely.get_dimensions(lines) == 0))]
    return np.concatenate([np.stack([xy[:-1], xy[1:]], 1)[same], np.stack([alone, alone], 1)])
