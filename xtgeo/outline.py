"""From a picture of labels to polygons, exactly along the edges of the pixels, at the cost of the outlines alone.

    labels              runs (y, start, stop)          parts, wholes              outlines
    . 1 1 . .           0: 1..3                        runs that share an edge    (1,0) -> (3,0)
    . . 1 . .     ->    1: 2..3                  ->    make a part; parts   ->      ^        |
    . . . 1 .           2: 3..4                        that share a corner        (1,1)..  (3,2)
                                                       make a whole

A part is 4-connected, so its outline is one ring and its holes; a whole is 8-connected, so that a ship one pixel wide
and lying aslant is one object: a MultiPolygon whose polygons touch at corners. Everything here is arithmetic on runs and
edges; the pixels themselves are looked at once. Polygonising the raster with GDAL gives the same polygons (the tests
compare them) and is several times dearer on scenes that are mostly empty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

NODATA = 255


@dataclass(frozen=True, eq=False)
class Runs:
    """Stretches of equal foreground labels along a row, in raster order; columns of equal length."""

    y: np.ndarray
    """Row."""
    start: np.ndarray
    """First column."""
    stop: np.ndarray
    """Column after the last."""
    label: np.ndarray
    """Label, 1 to 254."""

    def __len__(self) -> int:
        return len(self.y)

    @property
    def pixels(self) -> np.ndarray:
        """Number of pixels of each run."""
        return self.stop - self.start

    def shift(self, y: int, x: int) -> Runs:
        """The same runs, y rows down and x columns to the right."""
        return Runs(self.y + y, self.start + x, self.stop + x, self.label)


def find_runs(labels: np.ndarray) -> Runs:
    """The runs of labels (y, x) uint8 that are neither 0 (background) nor 255 (nodata)."""
    rows = np.flatnonzero((labels - np.uint8(1) < NODATA - 1).any(axis=1))
    stride = labels.shape[1] + 1
    flat = np.zeros(len(rows) * stride + 1, np.uint8)
    crop = flat[1:].reshape(len(rows), stride)[:, :-1]
    crop[:] = labels[rows]
    crop[crop == NODATA] = 0
    change = np.flatnonzero(flat[1:] != flat[:-1])
    label = flat[change + 1]
    begins = np.flatnonzero(label)
    row, start = np.divmod(change[begins], stride)
    return Runs(rows[row], start, start + change[begins + 1] - change[begins], label[begins])


def connect(runs: Runs, *, corners: bool) -> np.ndarray:
    """Number of the connected component of each run; with `corners`, touching at a corner is touching."""
    reach = int(corners)
    stride = int(runs.stop.max(initial=0)) + 2
    first, last = runs.y * stride + runs.start, runs.y * stride + runs.stop
    low = np.searchsorted(last, first + stride + 1 - reach)
    high = np.searchsorted(first, last + stride - 1 + reach, side="right")
    count = np.maximum(high - low, 0)
    above = np.repeat(np.arange(len(runs)), count)
    below = np.arange(len(above)) + np.repeat(low - np.cumsum(count) + count, count)
    same = runs.label[above] == runs.label[below]
    pairs = coo_array((np.ones(same.sum(), bool), (above[same], below[same])), shape=(len(runs), len(runs)))
    return connected_components(pairs, directed=False)[1]


def trace(runs: Runs, part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """One MultiPolygon for each whole, in order of their numbers; x is the column, y the row of a pixel's corner.

    part, whole: the numbers that `connect` gives without and with corners. Rings of one polygon may touch at a corner,
    as the standard allows; no ring touches itself.
    """
    if not len(runs):
        return np.empty(0, object)
    edge = _upright_edges(runs, part)
    order, begins = _cycles(_follow(edge))
    x = np.repeat(edge.x[order], 2)
    y = np.stack([edge.tail[order], edge.head[order]], 1).ravel()
    ring_stops = np.append(begins[1:], len(order)) * 2
    hole = _signed_area(x, y, begins * 2) < 0
    ring_part = edge.part[order[begins]]
    ring_whole = np.empty(part.max() + 1, int)
    ring_whole[part] = whole
    ring_whole = ring_whole[ring_part]

    sequence = np.lexsort((hole, ring_part, ring_whole))
    lengths = (ring_stops - begins * 2)[sequence]
    offsets = np.concatenate([[0], np.cumsum(lengths + 1)])
    step = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths + 1)
    corner = np.repeat(begins[sequence] * 2, lengths + 1) + step % np.repeat(lengths, lengths + 1)
    coordinates = np.stack([x[corner], y[corner]], 1).astype(float)
    polygons = np.append(np.flatnonzero(~hole[sequence]), len(sequence))
    polygon_whole = ring_whole[sequence][polygons[:-1]]
    wholes = np.append(np.flatnonzero(np.diff(polygon_whole, prepend=-1)), len(polygon_whole))
    return shapely.from_ragged_array(shapely.GeometryType.MULTIPOLYGON, coordinates, (offsets, polygons, wholes))


def tidy(polygons: np.ndarray) -> np.ndarray:
    """MultiPolygons in the one form that an area of pixels has: only true corners, rings and parts in a fixed order."""
    parts, index = shapely.get_parts(shapely.normalize(polygons), return_index=True)
    if not len(parts):
        return np.empty(0, object)
    _, xy, (rings, polygon_offsets) = shapely.to_ragged_array(parts)
    # A normalised ring begins at its smallest x, and there at its smallest y: always a true corner.
    keep = np.ones(len(xy), bool)
    back, ahead = np.diff(xy, axis=0)[:-1], np.diff(xy, axis=0)[1:]
    keep[1:-1] = back[:, 0] * ahead[:, 1] != back[:, 1] * ahead[:, 0]
    keep[rings[:-1]] = keep[rings[1:] - 1] = True
    kept = np.concatenate([[0], np.cumsum(keep)])
    parts = shapely.from_ragged_array(shapely.GeometryType.POLYGON, xy[keep], (kept[rings], polygon_offsets))
    return shapely.normalize(shapely.multipolygons(parts, indices=index))


@dataclass(frozen=True, eq=False)
class _Edges:
    """Upright edges of parts, the part on their right-hand side when walked from tail to head."""

    part: np.ndarray
    x: np.ndarray
    tail: np.ndarray
    head: np.ndarray


def _upright_edges(runs: Runs, part: np.ndarray) -> _Edges:
    """Left sides of runs are walked upwards, right sides downwards; sides that continue each other are one edge."""
    y, part = np.tile(runs.y, 2), np.tile(part, 2)
    x = np.concatenate([runs.start, runs.stop])
    right = np.repeat([False, True], len(runs))
    order = np.lexsort((y, right, x, part))
    y, x, right, part = y[order], x[order], right[order], part[order]
    new = np.ones(len(y), bool)
    new[1:] = (np.diff(part) != 0) | (np.diff(x) != 0) | (right[1:] != right[:-1]) | (np.diff(y) != 1)
    first = np.flatnonzero(new)
    top, bottom = y[first], y[np.append(first[1:], len(y)) - 1] + 1
    right = right[first]
    return _Edges(part[first], x[first], np.where(right, top, bottom), np.where(right, bottom, top))


def _follow(edge: _Edges) -> np.ndarray:
    """For each edge the one that continues its ring, after a level stretch from its head to that one's tail.

    Along a line between two rows, the corners of a part, from left to right, are joined two by two. Where a part
    touches itself at a corner there are two corners on one spot; the left side comes first there, which keeps the two
    pixels of the background apart (within one part they are never connected) and every ring simple.
    """
    n = len(edge.x)
    y, x, part = np.concatenate([edge.tail, edge.head]), np.tile(edge.x, 2), np.tile(edge.part, 2)
    right = np.tile(edge.head > edge.tail, 2)
    pairs = np.lexsort((right, x, y, part)).reshape(-1, 2)
    pairs.sort(axis=1)
    follow = np.empty(n, int)
    follow[pairs[:, 1] - n] = pairs[:, 0]
    return follow


def _cycles(follow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cycles of a permutation, one after the other, and where each begins."""
    follow, seen, order, begins = follow.tolist(), bytearray(len(follow)), [], []
    for first in range(len(follow)):
        if not seen[first]:
            begins.append(len(order))
            here = first
            while not seen[here]:
                seen[here] = 1
                order.append(here)
                here = follow[here]
    return np.array(order), np.array(begins)


def _signed_area(x: np.ndarray, y: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Area of each ring, in square pixels; negative for holes."""
    last = np.append(begins[1:], len(x)) - 1
    ahead = np.arange(1, len(x) + 1)
    ahead[last] = begins
    return np.add.reduceat(x * y[ahead] - x[ahead] * y, begins) / 2
