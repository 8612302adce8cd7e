"""Simulated scenes on disk: one GeoTIFF with its truth beside it, or the folder layout of xView3-SAR.

Every file is written under a temporary name and renamed when complete; an existing one is refused unless asked.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
from affine import Affine
from rasterio.windows import Window as RasterWindow
from scipy.ndimage import distance_transform_edt

from xtgeo.errors import OutputError
from xtgeo.simulate.sentinel1 import SimulatedScene

NODATA = -32768.0
CELL_M = 500.0
"""Pixel size of the xView3 ancillary rasters."""
_LABELS = "labels.csv"


def write_scene(sim: SimulatedScene, path: str | Path, *, overwrite: bool = False) -> tuple[Path, Path, Path]:
    """Writes a tiled two-band GeoTIFF in dB, `<stem>_truth.gpkg` and `<stem>_labels.csv`; gives the three paths.

    The GeoTIFF has the band names and unit, nodata -32768 and the time as tag `datetime` (ISO 8601, UTC).
    The GPKG holds the vessels in layer `truth`, the label table all objects in xView3's columns.
    """
    path = Path(path)
    truth, labels = path.with_name(f"{path.stem}_truth.gpkg"), path.with_name(f"{path.stem}_labels.csv")
    _refuse((path, truth, labels), overwrite)
    options = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "predictor": 3, "zlevel": 1}
    _complete(truth, lambda part: sim.truth().to_file(part, layer="truth", driver="GPKG"))
    _complete(labels, lambda part: sim.labels().to_csv(part, index=False))
    _complete(path, lambda part: _write_db(part, sim, sim.bands, BIGTIFF="IF_SAFER", num_threads=2, **options))
    return path, truth, labels


def write_xview3(sim: SimulatedScene, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Writes `folder/<scene id>/` as xView3-SAR lays a scene out, and labels.csv beside it; gives the scene's folder.

    VV_dB.tif and VH_dB.tif are half floats (NBITS=16), uncompressed, in strips; bathymetry and wind lie on a grid of
    500 m with an origin of its own.
    """
    inside, labels = Path(folder) / sim.id, Path(folder) / _LABELS
    ancillary, place = _ancillary(sim)
    paths = {f"{band.upper()}_dB.tif": inside / f"{band.upper()}_dB.tif" for band in sim.bands}
    _refuse([labels, *paths.values(), *(inside / f"{name}.tif" for name in ancillary)], overwrite)
    for band in sim.bands:
        name = inside / f"{band.upper()}_dB.tif"
        _complete(name, lambda part, band=band: _write_db(part, sim, (band,), NBITS=16, BIGTIFF="IF_SAFER"))
    for name, values in ancillary.items():
        _complete(inside / f"{name}.tif", lambda part, values=values: _write_plain(part, values, place, sim))
    _complete(labels, lambda part: sim.labels().to_csv(part, index=False))
    return inside


def _refuse(paths: Iterable[Path], overwrite: bool) -> None:
    for path in paths:
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists: use --overwrite to replace it, or another name")


def _complete(path: Path, write: Callable[[Path], object]) -> None:
    """Calls write(temporary path), then renames; nothing is left behind when it fails."""
    part = path.with_name(f".{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}") from error
    try:
        write(part)
        os.replace(part, path)
    except (OSError, rasterio.errors.RasterioError, pyogrio.errors.DataSourceError) as error:
        raise OutputError(f"{path} cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _write_db(part: Path, sim: SimulatedScene, bands: tuple[str, ...], **options) -> None:
    h, w = sim.valid.shape
    profile = {
        "driver": "GTiff",
        "dtype": "float32",
        "count": len(bands),
        "height": h,
        "width": w,
        "nodata": NODATA,
        "crs": sim.grid.crs.to_wkt(),
        "transform": sim.grid.affine,
    }
    with rasterio.open(part, "w", **profile, **options) as raster:
        raster.descriptions = bands
        raster.units = ("dB",) * len(bands)
        raster.update_tags(UNITS="dB", datetime=sim.time.isoformat())
        for top in range(0, h, 512):
            rows = slice(top, min(h, top + 512))
            for number, band in enumerate(bands, 1):
                values = np.where(sim.valid[rows], sim.data[sim.bands.index(band), rows], np.float32(NODATA))
                raster.write(values, number, window=RasterWindow(0, top, w, values.shape[0]))


def _write_plain(part: Path, values: np.ndarray, place: Affine, sim: SimulatedScene) -> None:
    profile = {
        "driver": "GTiff",
        "dtype": "float32",
        "count": 1,
        "height": values.shape[0],
        "width": values.shape[1],
        "nodata": NODATA,
        "crs": sim.grid.crs.to_wkt(),
        "transform": place,
    }
    with rasterio.open(part, "w", **profile) as raster:
        raster.write(values.astype(np.float32), 1)


def _ancillary(sim: SimulatedScene) -> tuple[dict[str, np.ndarray], Affine]:
    """Bathymetry in metres (negative at sea), land mask and wind, and the transform they share."""
    h, w = sim.valid.shape
    # The grid begins outside the scene and shares no edge with it, as in the real folders.
    step = CELL_M / 10
    rows, columns = -(-h // int(step)) + 1, -(-w // int(step)) + 1
    a = sim.grid.affine
    place = Affine(CELL_M, 0, a.c - 173, 0, -CELL_M, a.f + 218)
    y = np.clip((np.arange(rows) + 0.5) * step - 21.8, 0, h - 1).astype(int)
    x = np.clip((np.arange(columns) + 0.5) * step - 17.3, 0, w - 1).astype(int)
    at = np.ix_(y, x)
    land = sim.land[at]
    speed = sim.wind_field[np.ix_((y * (sim.wind_field.shape[0] - 1)) // h, (x * (sim.wind_field.shape[1] - 1)) // w)]
    out = distance_transform_edt(~land) if land.any() else np.full(land.shape, 60.0)
    inland = distance_transform_edt(land)
    # Models of the wind from the scene itself have nothing to say on land and in the cell next to it.
    calm = out <= 1
    return {
        "bathymetry": np.where(land, 5 + 12 * inland, -4 - 6 * out),
        "owiMask": land.astype(np.float32),
        "owiWindSpeed": np.where(calm, NODATA, speed),
        "owiWindDirection": np.where(calm, NODATA, sim.params.wind_from_deg),
        "owiWindQuality": np.where(calm, 3.0, 0.0),
    }, place
