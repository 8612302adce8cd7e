"""RasterSink: blocks in, one valid COG out."""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Protocol
from zlib import crc32

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.control import GroundControlPoint
from rasterio.env import set_gdal_config
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window as RasterWindow

from xtgeo.grid import GcpGrid, Grid
from xtgeo.window import Window
from xtgeo.write.staged import BROKEN, check_target, reported, staged
from xtgeo.write.warp import Warp, warp

CACHE_BYTES = 32 << 20
BLOCK = 512


class Pixels(Protocol):
    """What a sink takes: a Block, or anything with a window and its data (band, y, x)."""

    @property
    def window(self) -> Window: ...

    @property
    def data(self) -> np.ndarray: ...


class RasterSink:
    """A raster on a scene's grid, written block by block in any order; a cloud-optimised GeoTIFF when complete.

    Blocks go to a tiled file beside the target, which becomes a COG with overviews on leaving the context; on an
    error nothing is left. A pixel is brought once at most; what no block brings is nodata. Georeference as the scene's:
    CRS and transform, all control points, or none.

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
        warp: Warp | None = None,
        tags: Mapping[str, object] | None = None,
        overwrite: bool = False,
    ):
        """averaged: overviews are means, for quantities; without it the nearest pixel, for classes.

        warp: the map on which the file is to be, instead of the scene's own pixels. tags: plain values, kept as metadata.
        """
        self.path = check_target(path, suffixes=(".tif", ".tiff"), overwrite=overwrite)
        self._overwrite, self._averaged, self._nodata = overwrite, averaged, nodata
        self._profile = {
            "driver": "GTiff", "dtype": dtype, "count": count, "height": shape[0], "width": shape[1], "nodata": nodata,
            "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "zstd", "zstd_level": 1,
            "SPARSE_OK": "TRUE", "BIGTIFF": "IF_SAFER", **(_on_points(warp) if warp and warp.points else _place(grid)),
        }  # fmt: skip
        self._scale, self._descriptions, self._colours = scale, descriptions, colours
        self._warp, self._tags = warp, {**(tags or {}), **(warp.tags() if warp else {})}

    def __enter__(self) -> RasterSink:
        self._brought: list[tuple[RasterWindow, int]] = []
        self._work = self._staged()
        self._file = self._work.__enter__()
        return self

    def write(self, block: Pixels) -> None:
        """One block: data (band, y, x), window inside the raster. Where it has a mask, invalid pixels become nodata."""
        data = block.data.astype(self._profile["dtype"], copy=False)
        valid = getattr(block, "valid", None)
        if valid is not None and self._nodata is not None and not valid.all():
            data = np.where(valid, data, np.array(self._nodata, data.dtype))
        y, x, h, w = block.window.y, block.window.x, block.window.h, block.window.w
        window = RasterWindow(x, y, w, h)
        self._brought.append((window, crc32(np.ascontiguousarray(data))))
        with reported(self.path):
            self._file.write(data, window=window)

    def __exit__(self, kind, error, traceback) -> None:
        self._work.__exit__(kind, error, traceback)

    @contextmanager
    def _staged(self) -> Iterator[rasterio.io.DatasetWriter]:
        if "GDAL_CACHEMAX" not in os.environ:
            set_gdal_config("GDAL_CACHEMAX", CACHE_BYTES)
        _hush_libtiff()
        with staged(self.path, overwrite=self._overwrite) as part, rasterio.Env():
            blocks = part.with_name(f"{part.name}.blocks")
            with reported(self.path):
                file = self._create(blocks)
                if not self._warp:
                    self._describe(file)
            try:
                yield file
            except BaseException:
                with suppress(*BROKEN):
                    file.close()
                raise
            with reported(self.path):
                file.close()
                if self._warp:
                    blocks = self._on_map(blocks)
                self._to_cog(blocks, part)
                self._check(part)

    def _create(self, blocks: Path) -> rasterio.io.DatasetWriter:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # the scene is not, and that was asked for
            return rasterio.open(blocks, "w", **self._profile)

    def _on_map(self, blocks: Path) -> Path:
        """Another file of blocks beside the first, warped; what it holds is what must come back."""
        target = blocks.with_name(f"{blocks.name}.map")
        warp(blocks, target, self._warp, self._profile, averaged=self._averaged)
        with rasterio.open(target, "r+") as file:
            self._describe(file)
            self._brought = [(window, crc32(file.read(window=window))) for _, window in file.block_windows(1)]
        return target

    def _describe(self, file: rasterio.io.DatasetWriter) -> None:
        if self._descriptions:
            file.descriptions = tuple(self._descriptions)
        if self._scale is not None:
            file.scales = (self._scale,) * file.count
        if self._colours:
            file.write_colormap(1, {value: (*rgb, 255) for value, rgb in self._colours.items()})
        file.update_tags(**{name: str(value) for name, value in self._tags.items()})

    def _to_cog(self, blocks: Path, part: Path) -> None:
        rasterio.shutil.copy(
            blocks,
            part,
            driver="COG",
            compress="zstd",
            level=1,  # level 9 takes twice the time and leaves scores no smaller
            predictor="yes" if self._averaged else "no",
            overview_resampling="average" if self._averaged else "nearest",
            blocksize=BLOCK,
            bigtiff="IF_SAFER",
        )

    def _check(self, part: Path) -> None:
        """Refuses a file that is not all there: on a full disk GDAL can lose its last steps and say nothing."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(part) as file:
                for window, checksum in self._brought:
                    if crc32(file.read(window=window)) != checksum:
                        raise OSError("what was written does not come back")


@cache
def _hush_libtiff() -> None:
    """Of a full disk libtiff tells on standard error, past GDAL's handlers, line after line; GDAL's own error says it too."""
    with suppress(OSError, AttributeError):  # where it is hidden inside GDAL, it goes on talking
        ctypes.CDLL(rasterio._base.__file__).TIFFSetErrorHandler(None)


def _on_points(warp: Warp) -> dict:
    return {"gcps": list(warp.points), "crs": warp.grid.crs.to_wkt()}


def _place(grid: Grid) -> dict:
    """rasterio's words for where a grid lies."""
    if isinstance(grid, GcpGrid):
        row, column, lon, lat, height = grid.points
        points = zip(row.tolist(), column.tolist(), lon.tolist(), lat.tolist(), height.tolist(), strict=True)
        return {"gcps": [GroundControlPoint(r, c, x, y, z) for r, c, x, y, z in points], "crs": "EPSG:4326"}
    if isinstance(grid, GeoBox) and grid.crs is not None:
        return {"transform": Affine(*grid.affine[:6]), "crs": grid.crs.to_wkt()}
    return {}
