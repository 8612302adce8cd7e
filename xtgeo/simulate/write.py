"""Simulated scenes on disk: one GeoTIFF with its truth beside it, or the folder layout of xView3-SAR.

Pixels are written as they are drawn. Files appear under their names all at once when the last is complete; an existing one is
refused unless asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
from affine import Affine
from rasterio.env import set_gdal_config
from rasterio.windows import Window as RasterWindow

from xtgeo.errors import OutputError
from xtgeo.simulate.ancillary import NODATA
from xtgeo.simulate.noise import BLOCK
from xtgeo.simulate.plan import ScenePlan
from xtgeo.simulate.truth import SimulatedScene, Truth
from xtgeo.write.staged import reported, staged, together

LABELS = "labels.csv"
CACHE_BYTES = 64 << 20
"""GDAL would keep a twentieth of the machine's memory full of rows that are done with."""
Report = Callable[[int, int, int], None]
"""Takes (blocks done, blocks in all, pixels done)."""


def write_scene(
    scene: SimulatedScene | ScenePlan, path: str | Path, *, overwrite: bool = False, report: Report = lambda *_: None
) -> Truth:
    """Writes a tiled two-band GeoTIFF in dB, `<stem>_truth.gpkg` and `<stem>_labels.csv`; gives the truth.

    The GeoTIFF has the band names and unit, nodata -32768 and the time as tag `datetime` (ISO 8601, UTC).
    The GPKG holds the vessels in layer `truth`, the label table all objects in xView3's columns.
    """
    path = Path(path)
    truth, labels = path.with_name(f"{path.stem}_truth.gpkg"), path.with_name(f"{path.stem}_labels.csv")
    options = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate", "predictor": 3, "zlevel": 1}
    with _folders(path.parent), together(), ExitStack() as stack:
        parts = [stack.enter_context(staged(p, overwrite=overwrite)) for p in (path, truth, labels)]
        with reported(path), _db_file(parts[0], scene, scene.bands, BIGTIFF="IF_SAFER", num_threads=2, **options) as file:
            known = _pour(scene, [(file, (0, 1))], report)
        with reported(truth):
            known.truth().to_file(parts[1], layer="truth", driver="GPKG")
        with reported(labels):
            known.labels().to_csv(parts[2], index=False)
    return known


def write_xview3(
    scene: SimulatedScene | ScenePlan, folder: str | Path, *, overwrite: bool = False, report: Report = lambda *_: None
) -> Truth:
    """Writes `folder/<scene id>/` as xView3-SAR lays a scene out, with labels and shoreline; gives the truth.

    VV_dB.tif and VH_dB.tif are half floats (NBITS=16), uncompressed, in strips; bathymetry and wind lie on a grid of
    500 m with an origin of its own. `folder/labels.csv` keeps the rows of other scenes. `folder/shoreline/` has a
    (1, n, 2) array of rows and columns for each scene, which numpy reads without unpickling.
    """
    folder = Path(folder)
    inside, labels, shoreline = folder / scene.id, folder / LABELS, folder / "shoreline" / f"{scene.id}_shoreline.npy"
    around = scene.around if isinstance(scene, SimulatedScene) else scene.ancillary()
    with _folders(inside, shoreline.parent), together(), ExitStack() as stack:
        pictures = [inside / f"{band.upper()}_dB.tif" for band in scene.bands]
        coarse = {name: inside / f"{name}.tif" for name in around.rasters}
        parts = {p: stack.enter_context(staged(p, overwrite=overwrite)) for p in (*pictures, *coarse.values(), shoreline)}
        parts[labels] = stack.enter_context(staged(labels, overwrite=True))
        others = _other_rows(labels, scene.id)
        with reported(inside), ExitStack() as files:
            sinks = [
                (files.enter_context(_db_file(parts[p], scene, (band,), NBITS=16, BIGTIFF="IF_SAFER")), (i,))
                for i, (p, band) in enumerate(zip(pictures, scene.bands, strict=True))
            ]
            known = _pour(scene, sinks, report)
        for name, path in coarse.items():
            with reported(path):
                _write_plain(parts[path], around.rasters[name], around.transform, scene)
        with reported(shoreline):
            with open(parts[shoreline], "wb") as file:
                np.save(file, known.shore[None] if len(known.shore) else np.zeros((0, 0, 2)))
        with reported(labels):
            pd.concat([*others, known.labels()]).to_csv(parts[labels], index=False)
    return known


@contextmanager
def _folders(*paths: Path) -> Iterator[None]:
    """Makes folders; those that were not there before go again, if empty, when something fails."""
    made = [p for path in paths for p in (path, *path.parents) if not p.exists()]
    try:
        for path in paths:
            with _made(path):
                path.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in sorted(set(made), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        raise


@contextmanager
def _made(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"folder {path} cannot be made: {error}") from error


def _pour(scene: SimulatedScene | ScenePlan, sinks: list, report: Report) -> Truth:
    """Writes all pixels from top to bottom, each band to its raster; gives the truth."""
    if isinstance(scene, SimulatedScene):
        for raster, bands in sinks:
            for top in range(0, scene.valid.shape[0], BLOCK):
                rows = slice(top, top + BLOCK)
                _write_rows(raster, scene.data[list(bands), rows], scene.valid[rows], top)
        return scene
    contrasts, shores = {}, []
    total = -(-scene.shape[0] // BLOCK) * -(-scene.shape[1] // BLOCK)
    for number, strip in enumerate(scene.strips(), 1):
        for raster, bands in sinks:
            _write_rows(raster, strip.data[list(bands)], strip.valid, strip.window.y)
        contrasts |= strip.contrasts
        shores.append(strip.shore)
        done = strip.window.y + strip.window.h
        report(number * -(-scene.shape[1] // BLOCK), total, done * scene.shape[1])
    return scene.known(contrasts, np.concatenate(shores))


def _write_rows(raster, data: np.ndarray, valid: np.ndarray, top: int) -> None:
    values = np.where(valid, data, np.float32(NODATA))
    raster.write(values, window=RasterWindow(0, top, *values.shape[:0:-1]))


def _other_rows(labels: Path, scene_id: str) -> list[pd.DataFrame]:
    """The rows of a label table that belong to other scenes, as text."""
    if not labels.exists():
        return []
    try:
        table = pd.read_csv(labels, dtype=str, keep_default_na=False)
        return [table[table["scene_id"] != scene_id]]
    except (ValueError, KeyError, OSError) as error:
        raise OutputError(f"{labels} is no label table of xView3 ({error}): move it away, or choose another folder") from error


def _db_file(part: Path, scene: SimulatedScene | ScenePlan, bands: tuple[str, ...], **options):
    if "GDAL_CACHEMAX" not in os.environ:
        set_gdal_config("GDAL_CACHEMAX", CACHE_BYTES)
    raster = rasterio.open(part, "w", **_profile(scene, scene.grid.shape, scene.grid.affine), count=len(bands), **options)
    raster.descriptions = bands
    raster.units = ("dB",) * len(bands)
    raster.update_tags(UNITS="dB", datetime=scene.time.isoformat())
    return raster


def _write_plain(part: Path, values: np.ndarray, place: Affine, scene: SimulatedScene | ScenePlan) -> None:
    with rasterio.open(part, "w", **_profile(scene, values.shape, place), count=1) as raster:
        raster.write(values, 1)


def _profile(scene: SimulatedScene | ScenePlan, shape: tuple[int, int], place: Affine) -> dict:
    return {
        "driver": "GTiff",
        "dtype": "float32",
        "height": shape[0],
        "width": shape[1],
        "nodata": NODATA,
        "crs": scene.grid.crs.to_wkt(),
        "transform": place,
    }
