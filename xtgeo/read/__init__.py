"""From a file, a folder or a URL to a Scene.

gdal.py       handles, cache and errors of GDAL
header.py     what a file says of itself
raster.py     the pixels of one file
stack.py      several files of one grid; which files of a folder
strips.py     uncompressed strips, straight from the file
blocks.py     decoded blocks that will be asked for again
archive.py    folders, zips and tars of products
bands.py      which bands make up the scene
optical.py    products with a file for each band; sentinel2.py, landsat.py: what each says of itself
regrid.py     bands on other grids, and masks of classes
stac.py       STAC Items; mosaic.py: several side by side
array.py      arrays of xarray; zarr.py: Zarr stores and NetCDF files
trust.py      what a file may point to and claim; remote.py: patience with servers
metadata.py   band names, units and time from headers and names
archive.py    a product's files, in a folder, a zip or a tar
sentinel1.py  a Sentinel-1 GRD product; sentinel1_item.py: one whose files a STAC Item names
calibration.py  from its numbers to sigma nought
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from xtgeo.errors import SceneError
from xtgeo.grid import GcpGrid, Grid, same_grid
from xtgeo.read import landsat, metadata, sentinel2
from xtgeo.read.archive import Archive, open_archive
from xtgeo.read.array import is_array, open_array
from xtgeo.read.bands import Band, choose_bands, one_unit
from xtgeo.read.calibration import NOISE_RULES
from xtgeo.read.header import Header, grid_of
from xtgeo.read.optical import CLOUDS, Product, scene_of
from xtgeo.read.raster import RasterSource, open_raster
from xtgeo.read.remote import unsigned
from xtgeo.read.sentinel1 import is_sentinel1, open_sentinel1
from xtgeo.read.stac import is_stac, open_stac
from xtgeo.read.stack import StackSource, files_of
from xtgeo.read.zarr import is_netcdf, is_zarr, open_store
from xtgeo.scene import UNITS, Scene

__all__ = ["open_scene"]

# Half floats hold -32768 exactly; no backscatter is below -1000 dB, and xView3's tag is not always there.
LOWEST_DB = -1000.0


def open_scene(
    href: object,
    *,
    bands: Mapping[str, int | str] | str | None = None,
    units: str | None = None,
    nodata: float | None = None,
    noise: str = "snap",
    clouds: str = "keep",
    resolution: float | None = None,
    trusted: bool = False,
) -> Scene:
    """A scene to read from; only headers are read now.

    `href` is a file, a URL, a list or folder of files that share one grid, an xView3-SAR folder, or a Sentinel-1 GRD product
    (SAFE folder or zip), which gives sigma nought in dB; `noise` (snap, clip or none) says what becomes of its thermal noise.
    A Sentinel-2 or Landsat Collection 2 product (folder, zip or tar) gives reflectance, its bands on one grid: of 10 m or 30
    m, or of `resolution` metres; `clouds="mask"` strikes out what the product takes for clouds and their shadows.

    Or a STAC Item, or an ItemCollection of one date (a file, a URL, an object of pystac); a Zarr store or a NetCDF file; an
    xarray.DataArray or Dataset. See docs/sources.md.

    `bands` ({"vv": 1, "vh": 2}, "vv=1,vh=2" or "red,nir"), `units` (a key of scene.UNITS) and `nodata` count instead of
    what the files say. A file without CRS and control points opens; `scene.is_georeferenced` is then False.
    `trusted` lets what is opened point to other files, to internal addresses, and claim any size: docs/sources.md.
    """
    if units is not None and units not in UNITS:
        raise SceneError(f"unknown units {units!r}; choose one of {', '.join(UNITS)}")
    if noise not in NOISE_RULES:
        raise SceneError(f"unknown rule for noise {noise!r}; choose one of {', '.join(NOISE_RULES)}")
    if clouds not in CLOUDS:
        raise SceneError(f"unknown way with clouds {clouds!r}; choose one of {', '.join(CLOUDS)}")
    described = is_array(href) or is_zarr(href) or is_netcdf(href) or is_stac(href)
    if isinstance(href, str | os.PathLike) and os.path.basename(href) == "manifest.safe":
        href = os.path.dirname(os.path.abspath(href))  # as other tools are given a product
    archive = open_archive(href) if isinstance(href, str | os.PathLike) and not described else None
    if optical := _optical(archive, resolution):
        if units not in (None, "reflectance"):
            raise SceneError(f"{optical.id} says what its numbers are: reflectance is read; leave --units {units} out")
        return scene_of(optical, os.fspath(href), bands=bands, nodata=nodata, clouds=clouds, resolution=resolution)
    if clouds != "keep" or resolution is not None:
        raise SceneError(
            f"{str(href)[:200]!r} is no Sentinel-2 or Landsat product as it came: nothing tells its clouds or other resolutions"
        )
    if archive is not None and is_sentinel1(archive):
        return open_sentinel1(archive, bands=bands, units=units, nodata=nodata, noise=noise)
    told: dict[str, Any] = {"bands": bands, "units": units, "nodata": nodata, "trusted": trusted}
    if is_array(href):
        return open_array(href, **told)
    if is_zarr(href) or is_netcdf(href):
        return open_array(open_store(os.fspath(href), trusted=trusted), store=os.fspath(href), **told)
    if is_stac(href):
        return open_stac(href, partial(_open_files, trusted=trusted), noise=noise, **told)
    return _open_files(href, **told)


def _open_files(
    href: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    bands: Mapping[str, int | str] | str | None = None,
    units: str | None,
    nodata: float | None,
    trusted: bool,
) -> Scene:
    """Rasters of one grid."""
    files = _files(href)
    opened = [open_raster(file, nodata=nodata, trusted=trusted) for file in files]
    headers = [header for _, header in opened]
    grids = [grid_of(header) for header in headers]
    _refuse_other_grids(headers, grids)
    names = list(metadata.band_names(headers))
    chosen = choose_bands(bands, [Band(name, "unknown") for name in names])
    for name, index in chosen.items():
        names[index - 1] = name
    told = (units,) * len(names) if units else metadata.units_of(headers, names)
    return Scene(
        source=_joined(
            [_with_rules(s, h, told, nodata) for (s, h), told in zip(opened, _split(told, headers), strict=True)]
        ),
        grid=grids[0],
        bands=tuple(chosen),
        indexes=tuple(chosen.values()),
        stored_units=one_unit({name: told[index - 1] for name, index in chosen.items()}),
        units=told[next(iter(chosen.values())) - 1],
        id=_id(href, files),
        href=unsigned(os.fspath(href)) if isinstance(href, str | os.PathLike) else ",".join(map(unsigned, files)),
        time=metadata.time_of(headers),
    )


def _optical(archive: Archive | None, resolution: float | None) -> Product | None:
    if archive is not None and sentinel2.is_sentinel2(archive):
        return sentinel2.read_product(archive, resolution)
    return landsat.read_product(archive) if archive is not None and landsat.is_landsat(archive) else None


def _joined(sources: list[RasterSource]) -> RasterSource | StackSource:
    return sources[0] if len(sources) == 1 else StackSource(tuple(sources))


def _split(values: Sequence[str], headers: list[Header]) -> Iterator[Sequence[str]]:
    """Values of all bands, file by file."""
    at = 0
    for header in headers:
        yield values[at : at + len(header.numbers)]
        at += len(header.numbers)


def _files(href) -> list[str]:
    if not isinstance(href, str | os.PathLike):
        files = [os.fspath(part) for part in href]
        if not files:
            raise SceneError("an empty list of files is not a scene: give at least one")
        return files
    return files_of(href) if os.path.isdir(href) else [os.fspath(href)]


def _id(href, files: list[str]) -> str:
    if isinstance(href, str | os.PathLike):
        path = Path(href)
        return path.resolve().name.removesuffix(".SAFE") if path.is_dir() else metadata.stem(os.fspath(href))
    stems = [metadata.stem(file) for file in files]
    return os.path.commonprefix(stems).rstrip("_-. ") or stems[0]


def _refuse_other_grids(headers: list[Header], grids: list[Grid]):
    for header, grid in zip(headers[1:], grids[1:], strict=True):
        if not same_grid(grids[0], grid):
            raise SceneError(
                f"the files do not share one grid: {headers[0].path} has {_size(grids[0])}, "
                f"{header.path} has {_size(grid)}; give files of one grid as a list, or bring them to one with gdalwarp"
            )


def _size(grid: Grid) -> str:
    h, w = grid.shape
    if isinstance(grid, GcpGrid):
        return f"{h} x {w} pixels with control points"
    a = grid.affine
    return f"{h} x {w} pixels from ({a.c:.10g}, {a.f:.10g}) in {grid.crs or 'no CRS'}"


def _with_rules(source: RasterSource, header: Header, units: Sequence[str], nodata: float | None) -> RasterSource:
    """The rules of a product that its tags leave out."""
    if set(units) == {"db"}:
        source = replace(source, lowest=LOWEST_DB)
    product = set(units) == {"dn10000"} and header.driver.startswith("JP2")
    untagged = nodata is None and not source.mask and set(source.nodata) == {None}
    if untagged and (metadata.is_sentinel1_grd(header) or product):
        source = replace(source, nodata=(0.0,) * source.count)
    if (
        set(units) == {"dn10000"}
        and (offset := sentinel2.offset_of(header.path))
        and set(source.offsets) == {0.0}
    ):
        source = replace(source, offsets=(offset,) * source.count)
    return source
