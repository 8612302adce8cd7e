"""Objects anywhere on the earth in true metres.

Geometry is in longitude and latitude (EPSG:4326). To measure, corners are put by their distance and direction along the
ellipsoid from the object's own centre: neither a pole nor the antimeridian is a special place, and no projection has to be chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from scipy.spatial import cKDTree

from xtgeo.grid import WGS84

RADIUS_M = 6_371_008.8
SLACK = 1.01
"""The ellipsoid is within half a percent of a sphere."""


@dataclass(frozen=True, eq=False)
class Measures:
    """Where objects are and how large; arrays of one length."""

    lon: np.ndarray
    """Of the centroid, in degrees."""
    lat: np.ndarray
    """As `lon`."""
    radius_m: np.ndarray
    """From there to the farthest corner."""
    area_m2: np.ndarray
    """0 for points, as the length."""
    length_m: np.ndarray
    """Long side of the smallest rectangle around it."""

    def where(self, keep: np.ndarray) -> Measures:
        """Some of them, by mask or index array."""
        return Measures(self.lon[keep], self.lat[keep], self.radius_m[keep], self.area_m2[keep], self.length_m[keep])


def measure(geometry: np.ndarray) -> Measures:
    """Places and sizes of points and polygons in longitude and latitude."""
    lon, lat = _middle(geometry)
    local = flatten(geometry, lon, lat)
    east, north = shapely.get_coordinates(shapely.centroid(local)).T
    lon, lat, _ = WGS84.fwd(lon, lat, np.degrees(np.arctan2(east, north)), np.hypot(east, north))
    xy, index = shapely.get_coordinates(local, return_index=True)
    radius = np.zeros(len(local))
    np.maximum.at(radius, index, np.hypot(*(xy - np.stack([east, north], 1)[index]).T))
    return Measures(np.asarray(lon), np.asarray(lat), radius, shapely.area(local), _long_side(local))


def _long_side(local: np.ndarray) -> np.ndarray:
    lengths = np.zeros(len(local))
    solid = np.flatnonzero(shapely.area(local) > 0)
    corners = shapely.get_coordinates(shapely.oriented_envelope(local[solid])).reshape(-1, 5, 2)
    lengths[solid] = np.hypot(*np.moveaxis(np.diff(corners[:, :3], axis=1), -1, 0)).max(1)
    return lengths


def flatten(geometry: np.ndarray, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """The same in metres to the east and north of (lon, lat), a place for each: distances from there are those on the ellipsoid."""
    corners, index = shapely.get_coordinates(geometry, return_index=True)
    direction, _, metres = WGS84.inv(lon[index], lat[index], corners[:, 0], corners[:, 1])
    direction, metres = np.radians(direction), np.asarray(metres)
    xy = np.stack([metres * np.sin(direction), metres * np.cos(direction)], 1)
    local = shapely.set_coordinates(geometry.copy(), xy)
    # The halves of what was cut at the antimeridian share an edge now.
    cut = np.flatnonzero(~shapely.is_valid(local))
    local[cut] = shapely.buffer(local[cut], 0)
    return local


def _middle(geometry: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A place in the midst of the corners of each."""
    corners, index = shapely.get_coordinates(geometry, return_index=True)
    total = np.zeros((len(geometry), 3))
    np.add.at(total, index, _direction(*corners.T))
    return np.degrees(np.arctan2(total[:, 1], total[:, 0])), np.degrees(np.arctan2(total[:, 2], np.hypot(*total[:, :2].T)))


def _direction(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    lon, lat = np.radians(lon), np.radians(lat)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], 1)


def neighbours(a: Measures, b: Measures, a_m: np.ndarray, b_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (i, j) whose circles of a_m[i] and b_m[j] metres around the centres touch; now and then one that just does not."""
    if not len(a_m) or not len(b_m):
        return np.empty(0, int), np.empty(0, int)
    from_a, from_b = _direction(a.lon, a.lat), _direction(b.lon, b.lat)
    near = cKDTree(from_b).query_ball_point(from_a, (a_m + b_m.max()) / RADIUS_M * SLACK)
    i = np.repeat(np.arange(len(near)), [len(n) for n in near])
    j = np.concatenate([*near, []]).astype(int)
    close = np.linalg.norm(from_a[i] - from_b[j], axis=1) <= (a_m[i] + b_m[j]) / RADIUS_M * SLACK
    return i[close], j[close]


def gap_m(a: Measures, b: Measures) -> float:
    """Least distance between a centre of a and one of b, through the earth, to a hundredth of it."""
    return float(cKDTree(_direction(b.lon, b.lat)).query(_direction(a.lon, a.lat))[0].min()) * RADIUS_M
