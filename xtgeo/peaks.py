"""From a tile's heat-map of centres to points, and one point for each object of a scene, however it was cut.

A cell is a point where its score is at least the threshold and the highest of its neighbourhood, a square of cells; of equal
scores the first in raster order counts as higher. A tile sees a part of that square only at its border: there it keeps
every cell over the threshold, so that `merge_peaks` can judge as if there had been no seam.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import shapely
from scipy.ndimage import maximum_filter
from scipy.spatial import KDTree

from xtgeo.scene import Block


@dataclass(frozen=True, eq=False)
class Peaks:
    """Cells that may be centres of objects; columns of equal length."""

    y: np.ndarray
    """Row of the cell in the scene's grid of cells; int64."""
    x: np.ndarray
    """Its column; int64."""
    row: np.ndarray
    """Where the centre lies, in pixels from the scene's upper-left corner; float64."""
    column: np.ndarray
    score: np.ndarray
    """Probability that a centre lies in the cell; float32."""
    vessel: np.ndarray
    """That the object is a vessel; float32, NaN where the model cannot tell."""
    fishing: np.ndarray
    """That it is a fishing vessel; the same."""
    length: np.ndarray
    """Metres, at the ground sample distance of the model; float32."""
    top: np.ndarray
    """Whether the score is the highest of the neighbourhood, as far as the tile sees it."""

    def __post_init__(self):
        if len({len(getattr(self, f.name)) for f in fields(self)}) != 1:
            raise ValueError("the columns of peaks must have one length")

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: np.ndarray) -> Peaks:
        """Some of them, by mask or index array."""
        return Peaks(*(getattr(self, f.name)[rows] for f in fields(self)))

    def to_bytes(self) -> bytes:
        """An Arrow stream; no bytes at all when there are none."""
        if not len(self):
            return b""
        batch = pa.record_batch({f.name: pa.array(getattr(self, f.name)) for f in fields(self)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        return sink.getvalue().to_pybytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Peaks:
        """The inverse of `to_bytes`."""
        if not data:
            return cls(*(np.empty(0, dtype) for dtype in _DTYPES.values()))
        table = pa.ipc.open_stream(data).read_all()
        return cls(*(table[name].to_numpy().astype(dtype) for name, dtype in _DTYPES.items()))


_DTYPES = {
    "y": np.int64,
    "x": np.int64,
    "row": np.float64,
    "column": np.float64,
    "score": np.float32,
    "vessel": np.float32,
    "fishing": np.float32,
    "length": np.float32,
    "top": bool,
}


def find_peaks(block: Block, *, threshold: float, radius: int, stride: int) -> Peaks:
    """Points of a tile, and what its neighbours must know of its border.

    block: the answers that `xtgeo.model.spec.CENTRE` names, (6, y, x), for cells of `stride` pixels; its window counts
    cells. radius: of the neighbourhood, in cells.
    """
    high = block.valid & (block.data[0] >= threshold)
    rank = np.zeros(high.shape, np.int64)
    # Last comes the highest, of equals the first in raster order: no two have one rank.
    rank[high] = len(block.data[0][high]) - np.argsort(np.argsort(-block.data[0][high], kind="stable"))
    highest = high & (rank == maximum_filter(rank, 2 * radius + 1, mode="constant"))
    border = high.copy()
    border[radius : high.shape[0] - radius, radius : high.shape[1] - radius] = False
    y, x = np.nonzero(highest | border)
    score, down, right, vessel, fishing, length = block.data[:, y, x]
    top = highest[y, x]
    y, x = y + block.window.y, x + block.window.x
    row, column = (y + down.astype(float)) * stride, (x + right.astype(float)) * stride
    return Peaks(y, x, row, column, score, vessel, fishing, length, top)


def outline_peaks(geometry: np.ndarray, score: np.ndarray, *, gsd: float, blur: float = 0.0) -> Peaks:
    """A point for each outline: the centre of what it surrounds; what the object is nobody knows.

    geometry: polygons along the edges of pixels, x = column, y = row. score (n,). Its length is the long side of the smallest
    rectangle around it, at `gsd` metres per pixel, less `blur` metres, and at least that of a pixel.
    """
    column, row = shapely.get_coordinates(shapely.centroid(geometry)).T
    corners = shapely.get_coordinates(shapely.get_exterior_ring(shapely.oriented_envelope(geometry))).reshape(-1, 5, 2)
    length = gsd * np.linalg.norm(np.diff(corners[:, :3], axis=1), axis=2).max(1, initial=0)
    unknown = np.full(len(row), np.nan, np.float32)
    y, x = np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)
    length = np.maximum(length - blur, gsd).astype(np.float32)
    return Peaks(y, x, row, column, score, unknown, unknown, length, np.ones(len(row), bool))


def merge_peaks(tiles: Iterable[Peaks], *, radius: int) -> Peaks:
    """The points of a whole scene, in raster order of their cells."""
    parts = [part for part in tiles if len(part)]
    if not parts:
        return Peaks.from_bytes(b"")
    every = Peaks(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Peaks)))
    every = every[np.lexsort((every.x, every.y))]
    beaten = np.zeros(len(every), bool)
    if len(every) > 1:
        a, b = KDTree(np.stack([every.y, every.x], 1)).query_pairs(radius + 0.5, p=np.inf, output_type="ndarray").T
        beaten[np.where(every.score[a] >= every.score[b], b, a)] = True  # a comes before b in raster order
    return every[every.top & ~beaten]
