"""Objects found against objects that are there: one-to-one pairs, and what is left over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree


@dataclass(frozen=True)
class Match:
    """One-to-one pairs of found and true objects, and what is left over."""

    pairs: np.ndarray
    """(n, 2) indices: found, true."""
    found: int
    """Number of found objects."""
    true: int
    """Number of true objects."""

    @property
    def precision(self) -> float:
        """Share of the found objects that are true; NaN where nothing was found."""
        return len(self.pairs) / self.found if self.found else float("nan")

    @property
    def recall(self) -> float:
        """Share of the true objects that were found; NaN where there are none."""
        return len(self.pairs) / self.true if self.true else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN where there is nothing to find and nothing was found."""
        return 2 * len(self.pairs) / (self.found + self.true) if self.found + self.true else float("nan")


def match_objects(found: np.ndarray, true: np.ndarray, *, iou: float = 0.3) -> Match:
    """Pairs with an intersection over union of at least `iou`, or with either centre inside the other object.

    found, true: arrays of shapely polygons in one frame. The assignment has as many pairs as possible and, among
    those, the largest total overlap; an object takes part in one pair at most, so duplicates count as false.
    """
    found, true = np.asarray(found, object), np.asarray(true, object)
    i, j = shapely.STRtree(true).query(found, predicate="intersects")
    share, centred = overlap(found[i], true[j])
    good = (share >= iou) | centred
    return Match(assign(i[good], j[good], 1 - share[good]), len(found), len(true))


def match_points(found: np.ndarray, true: np.ndarray, *, within: float) -> Match:
    """Pairs of points at most `within` apart: as many as possible and, among those, with the smallest sum of distances.

    found, true: (n, 2) in one frame and unit, that of `within`.
    """
    found, true = np.reshape(found, (-1, 2)), np.reshape(true, (-1, 2))
    near = cKDTree(found).sparse_distance_matrix(cKDTree(true), within, output_type="coo_matrix")
    return Match(assign(near.row, near.col, near.data), len(found), len(true))


def overlap(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of polygons pair by pair: intersection over union, and whether either's centre lies inside the other."""
    both = shapely.area(shapely.intersection(a, b))
    centred = shapely.contains(b, shapely.centroid(a)) | shapely.contains(a, shapely.centroid(b))
    return both / (shapely.area(a) + shapely.area(b) - both), centred


def assign(i: np.ndarray, j: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """(n, 2) one-to-one pairs among the candidates (i, j): as many as possible and, among those, of the least total cost.

    cost: not negative. Candidates that hang together are solved together and apart from the rest, which changes
    nothing and takes no matrix of everything by everything.
    """
    if not len(i):
        return np.empty((0, 2), int)
    rows, i = np.unique(i, return_inverse=True)
    columns, j = np.unique(j, return_inverse=True)
    side = len(rows) + len(columns)
    group = connected_components(coo_array((np.ones(len(i)), (i, j + len(rows))), (side, side)), directed=False)[1]
    order = np.argsort(group[i], kind="stable")
    cuts = np.flatnonzero(np.diff(group[i][order])) + 1
    pairs = np.concatenate([_solve(i[part], j[part], cost[part]) for part in np.split(order, cuts)])
    pairs = np.stack([rows[pairs[:, 0]], columns[pairs[:, 1]]], 1)
    return pairs[np.argsort(pairs[:, 0])]


def _solve(i: np.ndarray, j: np.ndarray, cost: np.ndarray) -> np.ndarray:
    if len(i) == 1:
        return np.stack([i, j], 1)
    rows, i = np.unique(i, return_inverse=True)
    columns, j = np.unique(j, return_inverse=True)
    # What is no candidate costs more than all candidates together can: the assignment avoids it first.
    never = (cost.max() + 1) * (min(len(rows), len(columns)) + 1)
    table = np.full((len(rows), len(columns)), never)
    table[i, j] = cost
    r, c = linear_sum_assignment(table)
    real = table[r, c] < never
    return np.stack([rows[r[real]], columns[c[real]]], 1)


def take_by_score(i: np.ndarray, j: np.ndarray, closeness: np.ndarray, score: np.ndarray) -> np.ndarray:
    """For each found object the true one that it takes, or -1, by descending score: the closest that is still free.

    i, j: candidate pairs; closeness: of each, larger is closer; score: one for each found object. Of equal scores the
    first comes first. This is how COCO and VOC pair.
    """
    taken, partner = set(), np.full(len(score), -1)
    order = np.lexsort((-closeness, i))
    i, j = i[order], j[order]
    begin, end = np.searchsorted(i, np.arange(len(score))), np.searchsorted(i, np.arange(len(score)), "right")
    for n in np.argsort(-score, kind="stable").tolist():
        free = next((k for k in j[begin[n] : end[n]].tolist() if k not in taken), None)
        if free is not None:
            taken.add(free)
            partner[n] = free
    return partner
