"""What xView3-SAR knows of a scene besides its pixels, at 500 m: depth, wind, land and ice (arXiv 2206.00897).

They lie on grids of their own, which begin anywhere. Here they are laid on the scene's grid window by window, by coordinates: to
divide rows by 50 is off by up to a cell at the far edge.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from scipy.ndimage import distance_transform_edt, map_coordinates

from xtgeo.errors import SceneError
from xtgeo.grid import lonlat_to_pixel, pixel_size_m, pixel_to_crs, pixel_to_lonlat
from xtgeo.read.gdal import quietly, reason
from xtgeo.read.regrid import mix, nearest, taps
from xtgeo.read.stack import XVIEW3
from xtgeo.scene import Scene
from xtgeo.window import Window

FILES = {
    "bathymetry": "bathymetry.tif",
    "wind_speed": "owiWindSpeed.tif",
    "wind_sin": "owiWindDirection.tif",
    "wind_cos": "owiWindDirection.tif",
    "wind_quality": "owiWindQuality.tif",
    "mask": "owiMask.tif",
}
"""File of each band. bathymetry: metres, negative under water. wind_speed: m/s. wind_sin, wind_cos: of the direction it comes from,
clockwise from north. wind_quality: 0 good to 3 poor. mask: 0 sea, 1 land, 2 ice."""
NEAREST = ("wind_quality", "mask")
"""Bands of classes, which are never mixed; the others are bilinear between cells that are known."""
LAND = 1


@dataclass(frozen=True)
class AncillarySource:
    """Coarse rasters on a scene's grid: the bands of FILES, then for each whether it is missing (1) or not (0).

    What is missing is 0. Every pixel counts as valid: a hole in the wind is none in the scene.
    """

    folder: str
    grid: GeoBox
    """That of the scene."""

    @property
    def shape(self) -> tuple[int, int]:
        return tuple(self.grid.shape)

    @property
    def count(self) -> int:
        return 2 * len(FILES)

    @property
    def block_shape(self) -> tuple[int, int]:
        return 1, 1

    @property
    def row_bytes(self) -> int:
        return 4 * self.count * self.shape[1]

    def read(self, window: Window, indexes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        names, known = list(FILES), {}
        data = np.empty((len(indexes), *window.shape), np.float32)
        for place, index in enumerate(indexes):
            name = names[(index - 1) % len(names)]
            if name not in known:
                known[name] = self._sample(name, window)
            data[place] = known[name][(index - 1) // len(names)]
        return data, np.ones(window.shape, bool)

    def _sample(self, name: str, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Values, 0 where missing, and where they are missing."""
        raster = coarse(os.path.join(self.folder, FILES[name]))
        if raster is None:
            return np.zeros(window.shape, np.float32), np.ones(window.shape, np.float32)
        values, valid = _meaning(name, raster.values)
        row, column = raster.places(self.grid, window)
        h, w = values.shape
        inside = (row >= 0) & (column >= 0) & (row <= h) & (column <= w)
        if name in NEAREST:
            out, seen = _nearest(values, row, column), _nearest(valid, row, column) & inside
        elif valid.all():
            out, seen = _bilinear(values, row, column), inside
        else:
            weight = _bilinear(valid.astype(float), row, column)
            out = _bilinear(values * valid, row, column) / np.maximum(weight, 1e-9)
            seen = (weight > 1e-6) & inside
        return np.where(seen, out, 0).astype(np.float32), (~seen).astype(np.float32)

    def maybe_valid(self, window: Window, indexes: tuple[int, ...]) -> bool:
        return True

    def coarser(self, side: int) -> None:
        return None

    def with_cache(self, limit: int) -> AncillarySource:
        return self

    @property
    def files(self) -> tuple[str, ...]:
        there = dict.fromkeys(os.path.join(self.folder, file) for file in FILES.values())
        return tuple(path for path in there if os.path.exists(path))

    def fingerprint(self) -> dict:
        return {path: [os.stat(path).st_size, os.stat(path).st_mtime_ns] for path in self.files}


@dataclass(frozen=True, eq=False)
class Coarse:
    """A small raster, whole."""

    values: np.ndarray
    """(h, w) float64, NaN where there is nothing."""
    transform: Affine
    crs: object

    def places(self, grid: GeoBox, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Row and column here of the centres of the window's pixels in `grid`: (h, 1) and (1, w), where one does not depend on
        the other, else (h, w)."""
        rows = np.arange(window.y, window.y + window.h)[:, None] + 0.5
        columns = np.arange(window.x, window.x + window.w)[None] + 0.5
        back, there = ~self.transform, grid.affine
        if grid.crs == CRS(self.crs) and not any((back.b, back.d, there.b, there.d)):
            return back.e * (there.e * rows + there.f) + back.f, back.a * (there.a * columns + there.c) + back.c
        x, y = pixel_to_crs(grid, rows, columns, self.crs)
        return back.d * x + back.e * y + back.f, back.a * x + back.b * y + back.c


def open_ancillaries(folder: str | os.PathLike, scene: Scene) -> Scene:
    """The 500-m rasters of an xView3 folder on the grid of its scene, which is read as any other.

    Bands: those of FILES and, for each, `<name>_missing`. A file that is not there is missing everywhere; refused where none is.
    """
    source = AncillarySource(str(folder), scene.grid)
    if not isinstance(scene.grid, GeoBox) or scene.grid.crs is None:
        raise SceneError(f"{scene.id} is not on a map: the coarse rasters of xView3 lie beside scenes with one affine and a CRS")
    if not source.files:
        raise SceneError(f"{folder} holds none of {', '.join(dict.fromkeys(FILES.values()))}")
    names = (*FILES, *(f"{name}_missing" for name in FILES))
    return replace(
        scene, source=source, bands=names, indexes=tuple(range(1, source.count + 1)), stored_units="unknown", units="unknown"
    )


def is_xview3(place: str | os.PathLike) -> bool:
    """Whether this is a folder with rasters in xView3's layout."""
    return any((Path(place) / file).exists() for file in (*XVIEW3, *FILES.values()))


def near_shore(folder: str | os.PathLike, scene: Scene, km: float = 2.0) -> np.ndarray:
    """(n, 2) row, column, in pixels of the scene, of water at most so far from land: a place for every cell of 500 m.

    Land is where owiMask says so; where that says nothing, as in a scene without wind, where the depth is none.
    """
    for name in ("mask", "bathymetry"):
        raster = coarse(os.path.join(str(folder), FILES[name]))
        values, known = (np.empty(0),) * 2 if raster is None else _meaning(name, raster.values)
        if known.any():
            break
    else:
        return np.empty((0, 2))
    land = known & (values == LAND if name == "mask" else values >= 0)
    if not land.any():
        return np.empty((0, 2))
    own = GeoBox(values.shape, raster.transform, raster.crs)
    y, x = np.nonzero(known & ~land & (distance_transform_edt(~land, sampling=pixel_size_m(own)) <= 1000 * km))
    row, column = lonlat_to_pixel(scene.grid, *pixel_to_lonlat(own, y + 0.5, x + 0.5))
    inside = (row >= 0) & (column >= 0) & (row < scene.shape[0]) & (column < scene.shape[1])
    return np.stack([row, column], 1)[inside]


def coarse(path: str) -> Coarse | None:
    """The raster, read once; None where there is no such file."""
    try:
        return _coarse(path, os.stat(path).st_mtime_ns)
    except FileNotFoundError:
        return None


@lru_cache(maxsize=32)
def _coarse(path: str, mtime: int) -> Coarse:
    try:
        with quietly(), rasterio.open(path, driver="GTiff") as file:
            values, nodata = file.read(1).astype(float), file.nodata
            if file.crs is None:
                raise SceneError(f"{Path(path).name} beside {Path(path).parent.name} has no CRS")
            values[(values == nodata) | (values <= -32000) | ~np.isfinite(values)] = np.nan
            return Coarse(values * file.scales[0] + file.offsets[0], file.transform, file.crs.to_wkt())
    except rasterio.errors.RasterioError as e:
        raise SceneError(f"{path} cannot be read: {reason(e)}; copy or download the scene again") from e


def _meaning(name: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the file's numbers say, and where they say anything: there is no negative wind."""
    valid = ~np.isnan(values)
    if name.startswith("wind"):
        valid &= values >= 0
    values = np.where(valid, values, 0)
    if name == "mask":
        values = np.where(values >= LAND + 4, values - 4, values)  # 5 is land and 6 is ice too, as the winner's code has it
    if name in ("wind_sin", "wind_cos"):
        values = {"wind_sin": np.sin, "wind_cos": np.cos}[name](np.deg2rad(values))
    return values, valid


def _nearest(values: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    y, x = (nearest(np.nan_to_num(v), n) for v, n in zip((row, column), values.shape, strict=True))
    return values[y[:, 0]][:, x[0]] if y.shape[1] == x.shape[0] == 1 else values[y, x]


def _bilinear(values: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Between the centres of cells; beyond those at the rim their values go on."""
    if row.shape[1] == 1 and column.shape[0] == 1:
        return mix(values, taps(row[:, 0], values.shape[0]), taps(column[0], values.shape[1]))
    return map_coordinates(values, [row - 0.5, column - 0.5], order=1, mode="nearest")
