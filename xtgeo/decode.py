"""From a tile's class probabilities to labels, quantised scores, and fragments of objects with their statistics.

    scores (k, y, x), valid (y, x)  --labels-->  (y, x) uint8         0 background, 1..k classes, 255 nodata
                                    --quantise-> (k, y, x) uint8      round(254 p), 255 nodata
    labels, scores                  --fragments-> Fragments           polygons in pixels of the whole scene

All of it concerns the core of a tile: cores partition the scene, so nothing is answered for twice. What a seam cuts in two
comes out as two fragments, and `merge` joins them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import shapely

from xtgeo.outline import NODATA, Runs, connect, find_runs, trace
from xtgeo.window import Window

SCORE_SCALE = 1 / 254
"""Probability per step of a quantised score."""

# Sums are of scores rounded to this step: they are exact, so they do not depend on how the scene was cut.
SUM_STEP = 2.0**-24


@dataclass(frozen=True, eq=False)
class Fragments:
    """Connected pixels of one class, as far as one tile sees them; columns of equal length."""

    geometry: np.ndarray
    """MultiPolygons along the edges of the pixels; x is the column, y the row, integers, of the whole scene."""
    class_id: np.ndarray
    """Label, 1 to 254; uint8."""
    pixels: np.ndarray
    """Number of pixels; int64."""
    score_sum: np.ndarray
    """Sum over the pixels of the probability of the class; float64, a multiple of 2**-24."""
    score_max: np.ndarray
    """The highest of these probabilities; float32."""
    touches_seam: np.ndarray
    """Whether a pixel lies at the border of the core, where another tile may hold more of the object."""

    def __post_init__(self):
        if len({len(getattr(self, f.name)) for f in fields(self)}) != 1:
            raise ValueError("the columns of fragments must have one length")

    def __len__(self) -> int:
        return len(self.geometry)

    def __getitem__(self, rows: np.ndarray | slice) -> Fragments:
        """Some of them, by mask, index array or slice."""
        return Fragments(*(getattr(self, f.name)[rows] for f in fields(self)))

    @classmethod
    def empty(cls) -> Fragments:
        """No fragments."""
        return cls(*(np.empty(0, dtype) for dtype in _DTYPES.values()))

    @classmethod
    def concat(cls, many: Iterable[Fragments]) -> Fragments:
        """All of them, in their order."""
        many = [cls.empty(), *(some for some in many if len(some))]
        return cls(*(np.concatenate([getattr(some, f.name) for some in many]) for f in fields(cls)))

    def to_bytes(self) -> bytes:
        """An Arrow stream with the polygons as WKB; no bytes at all when there are no fragments."""
        if not len(self):
            return b""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        columns["geometry"] = pa.array(shapely.to_wkb(self.geometry), pa.binary())
        batch = pa.record_batch({name: pa.array(column) for name, column in columns.items()})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        return sink.getvalue().to_pybytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Fragments:
        """The inverse of `to_bytes`; ValueError for anything else. Runs nothing that the bytes say."""
        if not data:
            return cls.empty()
        table = pa.ipc.open_stream(data).read_all()
        if table.column_names != list(_DTYPES):
            raise ValueError(f"not fragments: columns {', '.join(table.column_names)}")
        columns = {name: table[name].to_numpy() for name in table.column_names}
        columns["geometry"] = shapely.from_wkb(columns["geometry"])
        return cls(*(np.asarray(columns[name], dtype) for name, dtype in _DTYPES.items()))


_DTYPES = {
    "geometry": object,
    "class_id": np.uint8,
    "pixels": np.int64,
    "score_sum": np.float64,
    "score_max": np.float32,
    "touches_seam": bool,
}


def labels(scores: np.ndarray, valid: np.ndarray, *, threshold: float = 0.5, background: bool = False) -> np.ndarray:
    """The class with the highest probability where that is at least `threshold`, else 0; 255 where not valid.

    background: channel 0 is the background, as after a softmax; class 1 is then channel 1, and a class must beat the
    background too. With `threshold=0` this is the argmax. Of equal probabilities the first channel wins.
    """
    classes = len(scores) - background
    if not 1 <= classes < NODATA:
        raise ValueError(f"{classes} foreground classes: labels hold 1 to 254")
    if len(scores) == 1:
        answer = (scores[0] >= threshold).view(np.uint8)
    else:
        best = scores.argmax(axis=0)
        high = np.take_along_axis(scores, best[None], axis=0)[0] >= threshold
        answer = ((best + (not background)) * high).astype(np.uint8)
    if not valid.all():
        answer[~valid] = NODATA
    return answer


def quantise(scores: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Probabilities as round(254 p), 0 to 254, with 255 where not valid: p is the number times `SCORE_SCALE`."""
    steps = np.clip(scores, 0, 1)
    steps *= 254
    steps += 0.5
    answer = steps.astype(np.uint8)
    if not valid.all():
        answer[:, ~valid] = NODATA
    return answer


def fragments(labels: np.ndarray, scores: np.ndarray, core: Window, *, background: bool = False) -> Fragments:
    """The connected pixels of each class in a core, in raster order of their first pixels.

    labels (y, x) and scores (k, y, x) have the core's shape. Pixels that touch at a corner belong together: a ship one
    pixel wide and lying aslant is one object. The cost is that of the outlines; an empty tile costs one look.
    """
    if labels.shape != core.shape or scores.shape[1:] != core.shape:
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} do not cover the core {core.shape}")
    runs = find_runs(labels)
    if not len(runs):
        return Fragments.empty()
    part, whole = connect(runs, corners=False), connect(runs, corners=True)
    n = whole.max() + 1
    _, first = np.unique(whole, return_index=True)
    score_sum, score_max = _statistics(runs, whole, scores, background)
    at_seam = (runs.y == 0) | (runs.y == core.h - 1) | (runs.start == 0) | (runs.stop == core.w)
    return Fragments(
        geometry=trace(runs.shift(core.y, core.x), part, whole),
        class_id=runs.label[first],
        pixels=np.bincount(whole, runs.pixels, n).astype(np.int64),
        score_sum=score_sum,
        score_max=score_max,
        touches_seam=np.bincount(whole, at_seam, n) > 0,
    )


def _statistics(runs: Runs, whole: np.ndarray, scores: np.ndarray, background: bool) -> tuple[np.ndarray, np.ndarray]:
    """Sum and highest of the class's own probability over the pixels of each whole."""
    n, pixels = whole.max() + 1, runs.pixels
    begins = np.cumsum(pixels) - pixels
    y, x = np.repeat(runs.y, pixels), np.arange(pixels.sum()) + np.repeat(runs.start - begins, pixels)
    value = scores[np.repeat(runs.label - 1 + int(background), pixels), y, x]
    step = np.rint(value.astype(np.float64) / SUM_STEP)
    score_sum = np.bincount(whole, np.add.reduceat(step, begins), n) * SUM_STEP
    score_max = np.full(n, -np.inf, np.float32)
    np.maximum.at(score_max, whole, np.maximum.reduceat(value, begins))
    return score_sum, score_max
