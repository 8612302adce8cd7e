"""Objects found against objects that are there: matching, precision, recall, F1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from scipy.optimize import linear_sum_assignment


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
    if not len(found) or not len(true):
        return Match(np.empty((0, 2), int), len(found), len(true))
    i, j = shapely.STRtree(true).query(found, predicate="intersects")
    overlap = shapely.area(shapely.intersection(found[i], true[j]))
    share = overlap / (shapely.area(found[i]) + shapely.area(true[j]) - overlap)
    centred = shapely.contains(true[j], shapely.centroid(found[i])) | shapely.contains(
        found[i], shapely.centroid(true[j])
    )
    good = (share >= iou) | centred
    gain = np.zeros((len(found), len(true)))
    gain[i[good], j[good]] = 1 + share[good]
    rows, columns = linear_sum_assignment(gain, maximize=True)
    paired = gain[rows, columns] > 0
    return Match(np.stack([rows[paired], columns[paired]], 1), len(found), len(true))


def match_points(found: np.ndarray, true: np.ndarray, *, within: float) -> Match:
    """Pairs of points at most `within` apart: as many as possible and, among those, with the smallest sum of distances.

    found, true: (n, 2) in one frame and unit, that of `within`.
    """
    far = np.hypot(*(np.reshape(found, (-1, 1, 2)) - np.reshape(true, (1, -1, 2))).transpose(2, 0, 1))
    # Far pairs cost more than all near ones together can: the assignment avoids them first.
    rows, columns = linear_sum_assignment(np.where(far <= within, far, within * (min(far.shape) + 1)))
    near = far[rows, columns] <= within
    return Match(np.stack([rows[near], columns[near]], 1), *far.shape)
