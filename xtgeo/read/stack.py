"""Several files of one grid as one source, and which files of a folder those are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xtgeo.errors import SceneError
from xtgeo.read.blocks import BlockCache, shared
from xtgeo.read.regrid import resized
from xtgeo.scene import Source
from xtgeo.window import Window

RASTERS = (".tif", ".tiff", ".jp2", ".vrt", ".img", ".dat", ".nc")
XVIEW3 = ("VV_dB.tif", "VH_dB.tif")


@dataclass(frozen=True)
class StackSource:
    """The bands of all sources, one after the other; valid where all that are read are."""

    sources: tuple[Source, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.sources[0].shape

    @property
    def count(self) -> int:
        """Bands of all files."""
        return sum(source.count for source in self.sources)

    @property
    def block_shape(self) -> tuple[int, int]:
        """The largest of the files': aligned to it, windows are aligned to most."""
        return tuple(max(sides) for sides in zip(*(source.block_shape for source in self.sources), strict=True))

    @property
    def row_bytes(self) -> int:
        """Bytes of one row as decoded, all bands counted as the largest: nobody knows yet which will be read."""
        return self.count * max(-(-source.row_bytes // source.count) for source in self.sources)

    def _by_source(self, indexes: tuple[int, ...]) -> dict[int, list[tuple[int, int]]]:
        """{source: [(place in the answer, band of that source), ...]}."""
        owners = [(s, band) for s, source in enumerate(self.sources) for band in range(1, source.count + 1)]
        parts: dict[int, list[tuple[int, int]]] = {}
        for place, index in enumerate(indexes):
            s, band = owners[index - 1]
            parts.setdefault(s, []).append((place, band))
        return parts

    def read(self, window: Window, indexes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """data (band, y, x) float32 and valid (y, x) of a window inside the files."""
        data, valid = np.empty((len(indexes), *window.shape), np.float32), np.ones(window.shape, bool)
        for s, places in self._by_source(indexes).items():
            part, seen = self.sources[s].read(window, tuple(band for _, band in places))
            data[[place for place, _ in places]] = part
            valid &= seen
        return data, valid

    def maybe_valid(self, window: Window, indexes: tuple[int, ...]) -> bool:
        """False where any of the files surely has nothing."""
        parts = self._by_source(indexes).items()
        return all(self.sources[s].maybe_valid(window, tuple(b for _, b in places)) for s, places in parts)

    def coarser(self, side: int) -> StackSource | None:
        """The files' overviews, if all have one; smaller ones are brought to the size of the largest."""
        parts = [source.coarser(side) for source in self.sources]
        if None in parts:
            return None
        shape = max(part.shape for part in parts)
        return StackSource(tuple(resized(part, shape) for part in parts))

    def with_cache(self, limit: int | BlockCache) -> StackSource:
        """The same with at most `limit` bytes of decoded blocks in all, for whichever bands are read."""
        cache = shared(limit)
        return StackSource(tuple(source.with_cache(cache) for source in self.sources))

    @property
    def files(self) -> tuple[str, ...]:
        """Those of all sources."""
        return tuple(file for source in self.sources for file in source.files)

    def fingerprint(self) -> dict:
        """That of every file."""
        return {"files": [source.fingerprint() for source in self.sources]}


def files_of(folder: str | os.PathLike) -> list[str]:
    """The rasters of a folder that make up its scene.

    xView3-SAR: VV_dB.tif and VH_dB.tif, whichever are there; the coarse wind and depth rasters beside them are left
    alone. Any other folder: all its rasters.
    """
    folder = Path(folder)
    if named := [str(folder / name) for name in XVIEW3 if (folder / name).exists()]:
        return named
    found = sorted(str(path) for path in folder.iterdir() if path.suffix.lower() in RASTERS)
    if not found:
        raise SceneError(f"{folder} holds no raster: looked for {', '.join(RASTERS)}; give the scene's file or folder")
    return found
