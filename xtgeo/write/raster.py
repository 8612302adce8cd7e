"""RasterSink: blocks in, one valid COG out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.control import GroundControlPoint
from rasterio.windows import Window as RasterWindow

from xtgeo.grid import GcpGrid, Grid
from xtgeo.window import Window
from xtgeo.write.staged import check_target, reported

CACHE_MB = 64
BLOCK = 512


class Pixels(Protocol):
    """What a sink takes: a Block, or anything with a window and its data (band, y, x)."""

    window: Window
    data: np.ndarray


class RasterSink:
    """A raster on a scene's grid, written block by block in any order; a cloud-optimised GeoTIFF when complete.

    Blocks go to a tiled file beside the target, which becomes a COG with overviews on leaving the context; on an
    error nothing is left. Pixels that no block brings are nodata. Georeference as the scene's: CRS and transform, all
    control points, or none.

        with RasterSink("mask.tif", scene.grid, scene.shape, nodata=255) as sink:
            for block in blocks:
                sink.write(block)
    """

    def __init__(
        self,
        path: os.PathLike | str,
        grid: Grid,
        shape: tuple[int, int],
        *,
        dtype: str = "uint8",
        count: int = 1,
        nodata: float | None = None,
        scale: float | None = None,
        descriptions: Sequence[str] = (),
        colours: Mapping[int, tuple[int, int, int]] | None = None,
        averaged: bool = False,
        overwrite: bool = False,
    ):
        """averaged: overviews are means, for quantities; without it the nearest pixel, for classes."""
        self.path = check_target(path, suffixes=(".tif", ".tiff"), overwrite=overwrite)
        self._part = self.path.with_name(f".{self.path.stem}.partial.tif")
        self._cog = self.path.with_name(f".{self.path.stem}.cog.tif")
        self._averaged, self._nodata, self._count = averaged, nodata, count
        self._profile = {
            "driver": "GTiff", "dtype": dtype, "count": count, "height": shape[0], "width": shape[1], "nodata": nodata,
            "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "zstd", "zstd_level": 1,
            "SPARSE_OK": "TRUE", "BIGTIFF": "IF_SAFER", **_place(grid),
        }  # fmt: skip
        self._scale, self._descriptions, self._colours = scale, descriptions, colours

    def __enter__(self) -> RasterSink:
        self._remove()
        with reported(self.path):
            self._file = self._env().__enter__() and rasterio.open(self._part, "w", **self._profile)
            if self._descriptions:
                self._file.descriptions = tuple(self._descriptions)
            if self._scale is not None:
                self._file.scales = (self._scale,) * self._count
            if self._colours:
                self._file.write_colormap(1, {value: (*rgb, 255) for value, rgb in self._colours.items()})
        return self

    def write(self, block: Pixels) -> None:
        """One block: data (band, y, x), window inside the raster. Where it has a mask, invalid pixels become nodata."""
        data = block.data.astype(self._profile["dtype"], copy=False)
        valid = getattr(block, "valid", None)
        if valid is not None and self._nodata is not None and not valid.all():
            data = np.where(valid, data, np.array(self._nodata, data.dtype))
        y, x, h, w = block.window.y, block.window.x, block.window.h, block.window.w
        with reported(self.path):
            self._file.write(data, window=RasterWindow(x, y, w, h))

    def __exit__(self, kind, error, traceback) -> None:
        try:
            with reported(self.path):
                self._file.close()
                if kind is None:
                    self._finish()
        finally:
            self._leave()
            self._remove()

    def _finish(self) -> None:
        how = "average" if self._averaged else "nearest"
        options = {"compress": "zstd", "level": 9, "overview_resampling": how, "BIGTIFF": "IF_SAFER", "blocksize": BLOCK}
        if np.dtype(self._profile["dtype"]).kind in "iu":
            options["predictor"] = "yes" if self._averaged else "no"
        rasterio.shutil.copy(self._part, self._cog, driver="COG", **options)
        with open(self._cog, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(self._cog, self.path)

    def _env(self) -> rasterio.Env:
        self._environment = rasterio.Env(GDAL_CACHEMAX=CACHE_MB, GDAL_NUM_THREADS=1)
        return self._environment

    def _leave(self) -> None:
        self._environment.__exit__()

    def _remove(self) -> None:
        for path in (self._part, self._cog):
            for left in (path, Path(f"{path}.aux.xml"), Path(f"{path}.ovr.tmp"), Path(f"{path}.msk")):
                left.unlink(missing_ok=True)


def _place(grid: Grid) -> dict:
    """rasterio's words for where a grid lies."""
    if isinstance(grid, GcpGrid):
        row, column, lon, lat, height = grid.points
        points = zip(row.tolist(), column.tolist(), lon.tolist(), lat.tolist(), height.tolist(), strict=True)
        return {"gcps": [GroundControlPoint(r, c, x, y, z) for r, c, x, y, z in points], "crs": "EPSG:4326"}
    if isinstance(grid, GeoBox) and grid.crs is not None:
        return {"transform": Affine(*grid.affine[:6]), "crs": grid.crs.to_wkt()}
    return {}
