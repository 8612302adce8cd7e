"""Labelled scenes as a torchgeo data set: its samplers, loaders and other data sets compose with them. Needs torchgeo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import torch
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy.ndimage import map_coordinates
from torchgeo.datasets import GeoDataset

from xtgeo.grid import GcpGrid, Grid, grid_crs, lonlat_to_pixel, pixel_to_crs, pixel_to_lonlat
from xtgeo.train.data import IGNORE
from xtgeo.train.scenes import LabelledScene
from xtgeo.window import Window


class SceneDataset(GeoDataset):
    """Scenes with their labels, indexed by x, y and time in one CRS.

    A sample has `image` (c, h, w) float32 in the units of the spec, 0 where not valid; `valid` (h, w) bool; `mask`, (h, w)
    int64 for task "segment", (4, h, w) for "detect", 255 where it is not known; `crs` and `bounds`. Scenes on the
    data set's own grid are read as they are, to within half a pixel; others, those in radar geometry too, bilinear from their valid
    pixels, their labels nearest. Where scenes overlap the first that is valid counts.
    """

    def __init__(
        self,
        scenes: Sequence[LabelledScene],
        *,
        crs: object = None,
        res: float | tuple[float, float] | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ):
        """crs: None is that of the first scene. res: size of a pixel in units of crs; None is the first scene's."""
        first = scenes[0].scene.grid
        crs = grid_crs(first) if crs is None else crs
        if crs is None:
            raise ValueError(f"{scenes[0].scene.id} has no place on the earth; use xtgeo.train.Crops")
        self.scenes, self.transforms, self.paths = list(scenes), transforms, [s.scene.href for s in scenes]
        self.res = res or _resolution(first, crs)
        times = [s.scene.time for s in scenes]
        left = [pd.Timestamp.min if t is None else pd.Timestamp(t).tz_localize(None) for t in times]
        right = [pd.Timestamp.max if t is None else pd.Timestamp(t).tz_localize(None) for t in times]
        self.index = gpd.GeoDataFrame(
            {"scene": range(len(scenes))},
            geometry=[_footprint(s, crs) for s in scenes],
            crs=str(crs),
            index=pd.IntervalIndex.from_arrays(left, right, closed="both", name="datetime"),
        )

    def __getitem__(self, query: Any) -> dict[str, Any]:
        x, y, t = self._disambiguate_slice(query)
        hits = self.index.iloc[self.index.index.overlaps(pd.Interval(t.start, t.stop, closed="both"))]
        hits = hits.iloc[:: t.step].cx[x.start : x.stop, y.start : y.stop]
        if hits.empty:
            raise IndexError(f"query: {query} not found in index with bounds: {self.bounds}")
        shape = round((y.stop - y.start) / y.step), round((x.stop - x.start) / x.step)
        box = GeoBox(shape, Affine(x.step, 0, x.start, 0, -y.step, y.stop), str(self.crs))
        parts = [resample(self.scenes[i], box) for i in hits["scene"]]
        data, valid, target = parts[0]
        for more, known, truth in parts[1:]:
            fill = known & ~valid
            data[:, fill], target[..., fill], valid = more[:, fill], truth[..., fill], valid | known
        sample = {
            "crs": self.crs,
            "bounds": (x, y, t),
            "image": torch.from_numpy(data),
            "valid": torch.from_numpy(valid),
            "mask": torch.from_numpy(target).long(),
        }
        return sample if self.transforms is None else self.transforms(sample)


def resample(ground: LabelledScene, box: GeoBox) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A labelled scene on another grid: data (c, h, w), valid (h, w), target ([t,] h, w)."""
    own = ground.scene.grid
    if _aligned(own, box):
        back, (x, y) = ~own.affine, (box.affine.c, box.affine.f)
        row, column = round(back.d * x + back.e * y + back.f), round(back.a * x + back.b * y + back.c)
        window = Window(row, column, *box.shape)
        block, target = ground.read(window), ground.truth(window)
        data, valid = block.data, block.valid
    else:
        rows, columns = np.meshgrid(*(np.arange(n) + 0.5 for n in box.shape), indexing="ij")
        row, column = lonlat_to_pixel(own, *pixel_to_lonlat(box, rows, columns))
        window = _around(row, column, ground.area)
        block = ground.read(window)
        place = np.nan_to_num(np.stack([row - window.y, column - window.x]), nan=-9.0)
        weight = map_coordinates(block.valid.astype(np.float32), place - 0.5, order=1)
        bands = [map_coordinates(band * block.valid, place - 0.5, order=1) for band in block.data]
        valid = weight > 0.5
        data = np.where(valid, np.stack(bands) / np.maximum(weight, 1e-3), 0).astype(np.float32)
        planes = ground.truth(window).reshape(-1, *window.shape)
        nearest = [map_coordinates(plane, np.floor(place), order=0, cval=IGNORE) for plane in planes]
        target = np.stack(nearest) if len(planes) > 1 else nearest[0]
    target[..., ~valid] = IGNORE
    return data, valid, target


def _around(row: np.ndarray, column: np.ndarray, area: Window) -> Window:
    """The part of the scene that holds these pixel coordinates and their neighbours; a single pixel where there is none."""
    known = np.isfinite(row + column)
    if not known.any():
        return Window(area.y, area.x, 1, 1)
    y, x = (int(np.floor(v[known].min())) - 2 for v in (row, column))
    h, w = (int(np.ceil(v[known].max())) + 2 - o for v, o in ((row, y), (column, x)))
    return Window(y, x, h, w) & area or Window(area.y, area.x, 1, 1)


def _aligned(own: Grid, box: GeoBox) -> bool:
    if isinstance(own, GcpGrid) or own.crs != box.crs:
        return False
    a, b = own.affine, box.affine
    return np.allclose((a.a, a.b, a.d, a.e), (b.a, b.b, b.d, b.e), rtol=1e-6, atol=1e-9)


def _footprint(ground: LabelledScene, crs: object) -> shapely.Geometry:
    a = ground.area
    step = np.linspace(0, 1, 21)
    rows = np.concatenate([0 * step, step, 0 * step + 1, 1 - step]) * a.h + a.y
    columns = np.concatenate([step, 0 * step + 1, 1 - step, 0 * step]) * a.w + a.x
    return shapely.make_valid(shapely.polygons(np.stack(pixel_to_crs(ground.scene.grid, rows, columns, crs), 1)))


def _resolution(grid: Grid, crs: object) -> tuple[float, float]:
    """Size of a pixel in the middle of the scene, in units of crs."""
    y, x = (side / 2 for side in grid.shape)
    xs, ys = pixel_to_crs(grid, [y, y, y + 1], [x, x + 1, x], crs)
    return float(np.hypot(xs[1] - xs[0], ys[1] - ys[0])), float(np.hypot(xs[2] - xs[0], ys[2] - ys[0]))
