"""Uncompressed GeoTIFF strips, read straight from the file: only the wanted columns of each row.

A strip is as wide as the scene, and GDAL reads whole strips, converting all of them when the numbers are half floats: a
row of 15 tiles would read the scene 15 times. xView3-SAR and Sentinel-1 measurements are written like this. Unlike a
memory map, `pread` leaves nothing in the process's own memory.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from xtgeo.errors import SceneError
from xtgeo.window import Window


@dataclass(frozen=True)
class Strips:
    """Rows of one file that lie one after the other; thread-safe, fork-safe."""

    path: str
    shape: tuple[int, int]
    """(height, width) in pixels."""
    dtype: str
    """As in the file, with its byte order: "<f2", ">u2"."""
    starts: tuple[int, ...]
    """Byte at which each band begins; one for all of them when their values alternate."""
    interleave: int
    """Values per pixel that lie side by side: 1, or the number of bands."""
    _file: list = field(default_factory=list, compare=False, repr=False)

    def __reduce__(self):
        return Strips, (self.path, self.shape, self.dtype, self.starts, self.interleave)

    def _descriptor(self) -> int:
        if not self._file:
            descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            weakref.finalize(self, os.close, descriptor)
            self._file.append(descriptor)
        return self._file[0]

    def read(self, window: Window, indexes: tuple[int, ...]) -> np.ndarray:
        """(band, y, x) in the file's own type; bands counted from 1."""
        if self.interleave > 1:
            pixels = np.empty((*window.shape, self.interleave), self.dtype)
            self._plane(self.starts[0], window, pixels)
            return np.moveaxis(pixels[..., [i - 1 for i in indexes]], -1, 0)
        pixels = np.empty((len(indexes), *window.shape), self.dtype)
        for plane, index in zip(pixels, indexes, strict=True):
            self._plane(self.starts[index - 1], window, plane)
        return pixels

    def _plane(self, start: int, window: Window, pixels: np.ndarray):
        size = np.dtype(self.dtype).itemsize * self.interleave
        pitch, width = self.shape[1] * size, window.w * size
        begin = start + window.y * pitch + window.x * size
        view = memoryview(pixels.reshape(-1).view(np.uint8))
        if width == pitch:
            self._fill(view, begin)
            return
        for row in range(window.h):
            self._fill(view[row * width : (row + 1) * width], begin + row * pitch)

    def _fill(self, view: memoryview, begin: int):
        done = 0
        while done < len(view):
            try:
                got = os.preadv(self._descriptor(), [view[done:]], begin + done)
            except OSError as error:
                raise SceneError(f"cannot read {self.path}: {error.strerror}; bring it back, then run again to resume") from error
            if not got:
                raise SceneError(f"cannot read {self.path}: it ends too early; copy or download it again")
            done += got


def find_strips(path: str, dataset) -> Strips | None:
    """The strips of an open rasterio dataset, if it is a local, uncompressed GeoTIFF whose strips lie in order."""
    h, w = dataset.shape
    tags = dataset.tags(1, ns="IMAGE_STRUCTURE")
    half = tags.get("NBITS") == "16" and dataset.dtypes[0] == "float32"
    plain = (
        hasattr(os, "preadv")
        and dataset.driver == "GTiff"
        and os.path.isfile(path)
        and dataset.compression is None
        and len(set(dataset.dtypes)) == 1
        and all(shape[1] == w for shape in dataset.block_shapes)
        and ("NBITS" not in tags or half)
    )
    if not plain:
        return None
    with open(path, "rb") as file:
        order = {b"II": "<", b"MM": ">"}[file.read(2)]
    dtype = np.dtype("f2" if half else dataset.dtypes[0]).newbyteorder(order)
    alternate = dataset.count > 1 and dataset.interleaving.name == "pixel"
    pitch = w * dtype.itemsize * (dataset.count if alternate else 1)
    starts = [_start(dataset, band, pitch) for band in ([1] if alternate else dataset.indexes)]
    if None in starts:
        return None
    return Strips(path, (h, w), dtype.str, tuple(starts), dataset.count if alternate else 1)


def _start(dataset, band: int, pitch: int) -> int | None:
    """Where a band begins, if its strips follow each other without a gap."""
    height = dataset.block_shapes[band - 1][0]
    offsets = (_offset(dataset, band, strip) for strip in range(-(-dataset.height // height)))
    return _first_if_even(offsets, height * pitch)


def _first_if_even(offsets: Iterable[int | None], step: int) -> int | None:
    first = None
    for i, offset in enumerate(offsets):
        first = offset if first is None else first
        if offset is None or offset != first + i * step:
            return None
    return first


def _offset(dataset, band: int, strip: int) -> int | None:
    offset = dataset.get_tag_item(f"BLOCK_OFFSET_0_{strip}", "TIFF", bidx=band)
    return None if offset is None else int(offset)
