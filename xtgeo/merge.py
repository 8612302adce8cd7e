"""Whole objects out of the fragments that tiles saw of them.

    tile 0   | tile 1                 Fragments of one class that share an edge or a corner across a seam are one object,
       ##    |                        and so on from neighbour to neighbour: through four tiles at a corner, along a
        ###==|==##                    spiral that crosses the same seam many times, around a ring.
    ---------+---------
             | ##  tile 3             However the scene is cut, the same objects with the same numbers come out.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from xtgeo.decode import Fragments
from xtgeo.outline import tidy


def merge(tiles: Iterable[Fragments]) -> Fragments:
    """Whole objects, in raster order of their first pixels; none of them touches a seam any more.

    The polygons have one form only (corners without in-betweens, rings and parts in a fixed order), so equal objects are
    equal bytes. Needs memory for the fragments, not for the scene; only what lies at a seam is compared.
    """
    pieces = Fragments.concat(tiles)
    if not len(pieces):
        return pieces
    group, n = _groups(pieces)
    order = np.argsort(group, kind="stable")
    first = np.searchsorted(group[order], np.arange(n))
    objects = Fragments(
        geometry=_join(pieces.geometry, group, n),
        class_id=pieces.class_id[order][first],
        pixels=np.add.reduceat(pieces.pixels[order], first),
        score_sum=np.add.reduceat(pieces.score_sum[order], first),
        score_max=np.maximum.reduceat(pieces.score_max[order], first),
        touches_seam=np.zeros(n, bool),
    )
    return objects[np.lexsort(_first_pixel(objects.geometry))]


def _groups(pieces: Fragments) -> tuple[np.ndarray, int]:
    """Number of the object that each fragment belongs to, and how many objects there are."""
    seam = np.flatnonzero(pieces.touches_seam)
    pairs = [np.empty((2, 0), int)]
    for label in np.unique(pieces.class_id[seam]):
        here = seam[pieces.class_id[seam] == label]
        polygons = pieces.geometry[here]
        pairs.append(here[shapely.STRtree(polygons).query(polygons, predicate="intersects")])
    a, b = np.concatenate(pairs, axis=1)
    n, group = connected_components(coo_array((np.ones(len(a), bool), (a, b)), shape=(len(pieces),) * 2), directed=False)
    return group, n


def _join(polygons: np.ndarray, group: np.ndarray, n: int) -> np.ndarray:
    """The union of each group, in the one form that an area of pixels has."""
    joined = np.empty(n, object)
    alone = np.bincount(group, minlength=n) == 1
    joined[group[alone[group]]] = polygons[alone[group]]
    order = np.argsort(group, kind="stable")
    begins = np.searchsorted(group[order], np.arange(n + 1))
    for i in np.flatnonzero(~alone):
        joined[i] = shapely.union_all(polygons[order[begins[i] : begins[i + 1]]])
    return tidy(joined)


def _first_pixel(polygons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(column, row) of the first pixel of each polygon in raster order: keys for `np.lexsort`."""
    xy, index = shapely.get_coordinates(polygons, return_index=True)
    order = np.lexsort((xy[:, 0], xy[:, 1], index))
    first = order[np.searchsorted(index[order], np.arange(len(polygons)))]
    return xy[first, 0], xy[first, 1]
