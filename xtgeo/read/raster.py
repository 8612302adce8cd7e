"""The bands of one raster file, by window: anything GDAL opens."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window as RasterioWindow

from xtgeo.errors import SceneError
from xtgeo.read.blocks import BlockCache, shared
from xtgeo.read.gdal import (
    FAILURES,
    Handles,
    bound_cache,
    environment,
    gdal_path,
    is_remote,
    local_file,
    reason,
    refused,
    steadily,
)
from xtgeo.read.header import Header, begins_as_tiff, read_header, refuse_truncated
from xtgeo.read.remote import unsigned
from xtgeo.read.strips import Strips, find_strips
from xtgeo.read.trust import REMEDY, drivers_for, points_elsewhere, refuse_absurd, refuse_large_blocks
from xtgeo.window import Window

BLOCK_CACHE_BYTES = 128 << 20


@dataclass(frozen=True)
class RasterSource:
    """Bands of one file as float32, with scale and offset applied."""

    path: str
    shape: tuple[int, int]
    numbers: tuple[int, ...]
    """The file's band number behind each of ours."""
    stored: str
    """Type in which decoded blocks are kept."""
    decoded_block: tuple[int, int]
    """(height, width) of the file's blocks."""
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    nodata: tuple[float | None, ...]
    """In the file's numbers, before scale and offset."""
    fills: tuple[float, ...]
    """What blocks that are missing from a sparse file read as."""
    lowest: float | None
    """Values below this, scale and offset applied, are no measurement, whatever the tag says."""
    mask: str | None
    """"alpha", "internal" or None."""
    alpha: int | None
    """Number of the alpha band."""
    has_offsets: bool
    """Whether the file tells where each block lies, so that missing ones are seen."""
    saturated: float | None = None
    """The file's number, before scale and offset, that stands for too much to be measured."""
    levels: int = 0
    """How many overviews there are, finest first."""
    level: int | None = None
    """The overview that is read; None is the full image."""
    strips: Strips | None = None
    """The short way to the pixels of uncompressed strips."""
    cache: BlockCache = field(default_factory=lambda: BlockCache(BLOCK_CACHE_BYTES), compare=False, repr=False)
    handles: Handles | None = field(default=None, compare=False, repr=False)

    def __post_init__(self):
        if 0.0 in self.scales or not all(abs(value) < 1e30 for value in (*self.scales, *self.offsets)):
            told = f"{self.scales[:4]}, {self.offsets[:4]}"
            raise SceneError(f"{self.path} has a scale or offset that cannot be: {told}; correct its tags")

    @property
    def count(self) -> int:
        """Bands."""
        return len(self.numbers)

    @property
    def block_shape(self) -> tuple[int, int]:
        """What is decoded at once; (1, 1) for strips that are read directly."""
        return (1, 1) if self.strips else self.decoded_block

    @property
    def row_bytes(self) -> int:
        """Bytes of one row as decoded, all bands."""
        return self.shape[1] * self.count * np.dtype(self.stored).itemsize

    @cached_property
    def _cell(self) -> tuple[int, int]:
        """What the cache holds as one piece: whole blocks, small ones together."""
        (h, w), (block_h, block_w) = self.shape, self.decoded_block
        wide = block_w * max(1, 512 // block_w)
        tall = block_h * max(1, (64 if min(wide, w) > 2048 else 512) // block_h)
        return min(tall, h), min(wide, w)

    def read(self, window: Window, indexes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """data (band, y, x) float32 and valid (y, x) of a window inside the file; bands counted from 1."""
        data = np.empty((len(indexes), *window.shape), np.float32)
        valid = np.ones(window.shape, bool)
        for part, raw in self._pieces(window, indexes):
            y, x = part.shift(-window.y, -window.x).slices
            with np.errstate(over="ignore"):  # a float64 too large for float32 becomes inf, and is struck out
                data[:, y, x] = raw[: len(indexes)]
                self._judge(raw, data[:, y, x], indexes, valid[y, x])
        for band, index in zip(data, indexes, strict=True):
            with np.errstate(over="ignore", invalid="ignore"):  # under the mask may lie anything
                if self.scales[index - 1] != 1.0:
                    band *= np.float32(self.scales[index - 1])
                if self.offsets[index - 1] != 0.0:
                    band += np.float32(self.offsets[index - 1])
            if abs(self.scales[index - 1]) > 1e3:
                valid &= np.isfinite(band)
        return data, valid

    def _judge(self, raw: np.ndarray, data: np.ndarray, indexes: tuple[int, ...], valid: np.ndarray):
        """Strike from `valid` what is no measurement in any of the bands."""
        for stored, band, index in zip(raw, data, indexes, strict=False):
            # Half floats are the same numbers as float32, which numpy compares many times faster.
            stored = band if stored.dtype == np.float16 else stored
            nodata = self.nodata[index - 1]
            floor = -np.inf if self.lowest is None else (self.lowest - self.offsets[index - 1]) / self.scales[index - 1]
            low, high = float(stored.min()), float(stored.max())  # NaN where there is one
            beyond = all(value is None or value < low or value > high for value in (nodata, self.saturated))
            if beyond and np.isfinite(high - low) and low >= floor:
                continue  # what most blocks are: all measured, seen in two passes
            if nodata is not None and _fits(nodata, stored.dtype):
                valid &= stored != stored.dtype.type(nodata)
            if self.saturated is not None and _fits(self.saturated, stored.dtype):
                valid &= stored != stored.dtype.type(self.saturated)
            if stored.dtype.kind == "f":
                valid &= np.isfinite(band)
            if self.lowest is not None:
                valid &= stored >= floor
        if self.mask:
            valid &= raw[-1] != 0

    def _pieces(self, window: Window, indexes: tuple[int, ...]):
        """(window, pixels as stored) of parts that make up the window; the mask, if any, is one more band."""
        if self.strips:
            yield window, self.strips.read(window, tuple(self.numbers[i - 1] for i in indexes))
            return
        h, w = self._cell
        rows = range(window.y // h, -(-(window.y + window.h) // h))
        columns = range(window.x // w, -(-(window.x + window.w) // w))

        def decode(row: int, column: int) -> np.ndarray:
            return self._decode(Window(row * h, column * w, h, w) & Window(0, 0, *self.shape), indexes)

        for (row, column), block in self.cache.blocks((self.path, self.level, indexes), rows, columns, decode).items():
            cell = Window(row * h, column * w, *block.shape[1:])
            part = cell & window
            yield part, block[:, *part.shift(-cell.y, -cell.x).slices]

    def _decode(self, window: Window, indexes: tuple[int, ...]) -> np.ndarray:
        """Pixels as stored, straight from GDAL."""
        try:
            with environment(self.path):
                return steadily(self.path, lambda: self._load(window, indexes)).astype(self.stored, copy=False)
        except FAILURES as error:
            told, remedy = reason(error), "the file is damaged or incomplete: copy or download it again"
            if is_remote(self.path):
                told, remedy = refused(self.path) or told, "check your credentials and the network, and resume"
            raise SceneError(f"cannot read rows {window.y} to {window.y + window.h} of {self.path}: {told}; {remedy}") from error

    def _load(self, window: Window, indexes: tuple[int, ...]) -> np.ndarray:
        numbers = [self.numbers[i - 1] for i in indexes] + ([self.alpha] if self.mask == "alpha" else [])
        place = RasterioWindow(window.x, window.y, window.w, window.h)
        dataset = self.handles.dataset()
        pixels = dataset.read(numbers, window=place, out_dtype="float32" if self.stored == "float16" else self.stored)
        if self.mask == "internal":
            inside = dataset.read_masks(numbers[0], window=place) != 0
            pixels = np.concatenate([pixels, inside[None].astype(pixels.dtype)])
        return pixels

    def maybe_valid(self, window: Window, indexes: tuple[int, ...]) -> bool:
        """False where all blocks under the window are missing from the file in some band, and read as nodata."""
        if not self.has_offsets or self.level is not None or self.strips:
            return True
        h, w = self.decoded_block
        rows = range(window.y // h, -(-(window.y + window.h) // h))
        columns = range(window.x // w, -(-(window.x + window.w) // w))
        try:
            with environment(self.path):
                dataset = self.handles.dataset()
        except FAILURES as error:
            raise SceneError(f"cannot open {self.path}: {reason(error)}") from error
        for index in indexes:
            if repr(self.nodata[index - 1]) != repr(self.fills[index - 1]):  # repr, for NaN is not NaN
                continue
            number = self.numbers[index - 1]
            there = (
                dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=number) is not None
                for row in rows
                for column in columns
            )
            if not any(there):
                return False
        return True

    def coarser(self, side: int) -> RasterSource | None:
        """The file's smallest overview whose longer side is at least `side` pixels."""
        for level in reversed(range(self.levels)):
            handles = Handles(self.path, level, self.handles.drivers)
            try:
                with environment(self.path):
                    dataset = handles.dataset()
            except FAILURES as error:
                raise SceneError(f"cannot open overview {level} of {self.path}: {reason(error)}") from error
            if max(dataset.shape) >= side:
                return replace(
                    self,
                    shape=tuple(dataset.shape),
                    decoded_block=tuple(dataset.block_shapes[0]),
                    level=level,
                    levels=0,
                    strips=None,
                    cache=BlockCache(BLOCK_CACHE_BYTES // 4),
                    handles=handles,
                )
        return None

    def with_cache(self, limit: int | BlockCache) -> RasterSource:
        """The same with at most `limit` bytes of decoded blocks, or with a cache that others use too."""
        return replace(self, cache=shared(limit))

    @property
    def files(self) -> tuple[str, ...]:
        """The file."""
        return (self.path,)

    def fingerprint(self) -> dict:
        """Size and time of the file, or of the archive it lies in; of a remote one, whose time is not known, a checksum of pixels
        at its middle."""
        judged = {"nodata": [repr(v) for v in self.nodata], "scales": list(self.scales), "offsets": list(self.offsets)}
        if self.saturated is not None:
            judged["saturated"] = self.saturated
        if local := local_file(self.path):
            found, path = os.stat(local), self.path if local != self.path else os.path.abspath(self.path)
            return {"path": path, "size": found.st_size, "mtime": found.st_mtime_ns, **judged}
        if not is_remote(self.path) and ":" not in self.path and "/vsicurl" not in self.path and "/vsimem" not in self.path:
            raise SceneError(f"{self.path} is no longer there: bring it back, then run again to resume")
        h, w = self.shape
        middle = Window(h // 2, w // 2, 64, 64) & Window(0, 0, h, w)
        data, _ = self.read(middle, tuple(range(1, self.count + 1)))
        return {"path": unsigned(self.path), "middle": float(np.nansum(data.astype(np.float64))), **judged}


def open_raster(
    href: str | os.PathLike, *, nodata: float | None = None, trusted: bool = False
) -> tuple[RasterSource, Header]:
    """A file's pixels and header. `nodata` counts instead of the file's own tag.

    `trusted` lets the file point to others anywhere and be of any size; trust.py says what it may do else.
    """
    path = gdal_path(href)
    bound_cache()
    try:
        drivers = drivers_for(path, trusted)
        handles = Handles(path, None, drivers)
        with environment(path):
            dataset = steadily(path, handles.dataset)
            if not trusted:
                _refuse_absurd(path, dataset)
            source = _source(path, dataset, handles, nodata)
            if not trusted and not source.strips:
                refuse_large_blocks(path, math.prod(source._cell) * np.dtype(source.stored).itemsize)
            return source, read_header(path, dataset, source.numbers)
    except FAILURES as error:
        if not os.path.exists(path) and not path.startswith("/vsi") and ":" not in path and "!" not in path:
            raise SceneError(f"no such file: {href}; check the path") from error
        remedy = "give a GeoTIFF or another raster that GDAL reads"
        if os.path.exists(path) and not os.access(path, os.R_OK):
            remedy = "it may not be read: change its permissions"
        if is_remote(path):
            remedy = "check the address, your credentials and the network"
        if begins_as_tiff(path):
            remedy = "the file is cut short or damaged: copy or download it again"
        elif not trusted and points_elsewhere(path):
            remedy = f"it may point to other files, or is of a rare format; {REMEDY}"
        raise SceneError(f"cannot open {href} as a raster: {reason(error)}; {remedy}") from error


def _refuse_absurd(path: str, dataset):
    """Before anything is set aside for what the header claims."""
    refuse_absurd(path, dataset.shape, dataset.count)
    if dataset.tags(ns="OVERVIEWS").get("OVERVIEW_FILE"):
        raise SceneError(f"{path} names another file for its overviews; {REMEDY}")


def _source(path: str, dataset, handles: Handles, nodata: float | None) -> RasterSource:
    if not dataset.count:
        inner = "; it holds several images, open one of: " + ", ".join(dataset.subdatasets[:8])
        raise SceneError(f"{path} has no bands of its own{inner if dataset.subdatasets else ': it is not a raster'}")
    if "complex" in "".join(dataset.dtypes):
        raise SceneError(
            f"{path} holds complex numbers ({dataset.dtypes[0]}, as SLC products): give a detected image (GRD)"
        )
    refuse_truncated(path, dataset)
    alpha = next((i for i, c in zip(dataset.indexes, dataset.colorinterp, strict=True) if c == ColorInterp.alpha), None)
    if alpha is not None and dataset.count == 1:
        alpha = None
    numbers = tuple(i for i in dataset.indexes if i != alpha)
    flags = dataset.mask_flag_enums[numbers[0] - 1]
    internal = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
    mask = "alpha" if alpha else "internal" if internal else None
    half = dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS") == "16" and dataset.dtypes[0] == "float32"
    stored = "float16" if half else np.result_type(*(dataset.dtypes[i - 1] for i in numbers)).name
    return RasterSource(
        path=path,
        shape=tuple(dataset.shape),
        numbers=numbers,
        stored=stored,
        decoded_block=tuple(dataset.block_shapes[0]),
        scales=tuple(float(dataset.scales[i - 1]) for i in numbers),
        offsets=tuple(float(dataset.offsets[i - 1]) for i in numbers),
        nodata=tuple(dataset.nodatavals[i - 1] if nodata is None else nodata for i in numbers),
        fills=tuple(dataset.nodatavals[i - 1] or 0.0 for i in numbers),
        lowest=None,
        mask=mask,
        alpha=alpha,
        has_offsets=dataset.driver in ("GTiff", "COG"),
        levels=min(len(dataset.overviews(i)) for i in numbers),
        strips=None if mask else find_strips(path, dataset),
        handles=handles,
    )


def _fits(value: float, dtype: np.dtype) -> bool:
    """Whether a stored number can be this value at all: -9999 in uint16 cannot."""
    if dtype.kind == "f":
        return True
    limits = np.iinfo(dtype)
    return float(value).is_integer() and limits.min <= value <= limits.max
