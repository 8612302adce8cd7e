"""From a file, a folder or a URL to a Scene.

gdal.py       handles, cache and errors of GDAL
header.py     what a file says of itself
raster.py     the pixels of one file
stack.py      several files of one grid; which files of a folder
strips.py     uncompressed strips, straight from the file
blocks.py     decoded blocks that will be asked for again
metadata.py   band names, units and time from headers and names
archive.py    a product's files, in a folder, a zip or a tar
sentinel1.py  a Sentinel-1 GRD product
calibration.py  from its numbers to sigma nought
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from xtgeo.errors import SceneError
from xtgeo.grid import GcpGrid, Grid, same_grid
from xtgeo.read import metadata
from xtgeo.read.archive import open_archive
from xtgeo.read.calibration import NOISE_RULES
from xtgeo.read.header import Header
from xtgeo.read.raster import RasterSource, open_raster
from xtgeo.read.sentinel1 import is_sentinel1, open_sentinel1
from xtgeo.read.stack import StackSource, files_of
from xtgeo.scene import UNITS, Scene

__all__ = ["open_scene"]

# Half floats hold -32768 exactly; no backscatter is below -1000 dB, and xView3's tag is not always there.
LOWEST_DB = -1000.0


def open_scene(
    href: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    bands: Mapping[str, int] | str | None = None,
    units: str | None = None,
    nodata: float | None = None,
    noise: str = "snap",
) -> Scene:
    """A scene to read from; only headers are read now.

    `href` is a file, a URL, a list or folder of files that share one grid, an xView3-SAR folder, or a Sentinel-1 GRD
    product (SAFE folder or zip), which gives sigma nought in dB; `noise` (snap, clip or none) says what becomes of its thermal
    noise. `bands` ({"vv": 1, "vh": 2} or "vv=1,vh=2"), `units` (a key of scene.UNITS) and `nodata` count instead of
    what the files say. A file without CRS and control points opens; `scene.is_georeferenced` is then False.
    """
    if units is not None and units not in UNITS:
        raise SceneError(f"unknown units {units!r}; choose one of {', '.join(UNITS)}")
    if noise not in NOISE_RULES:
        raise SceneError(f"unknown rule for noise {noise!r}; choose one of {', '.join(NOISE_RULES)}")
    archive = open_archive(href) if isinstance(href, str | os.PathLike) else None
    if archive is not None and is_sentinel1(archive):
        mapping = None if bands is None else partial(_mapping, bands)
        return open_sentinel1(archive, bands=mapping, units=units, nodata=nodata, noise=noise)
    files = _files(href)
    opened = [open_raster(file, nodata=nodata) for file in files]
    headers = [header for _, header in opened]
    grids = [_grid(header) for header in headers]
    _refuse_other_grids(headers, grids)
    names = list(metadata.band_names(headers))
    chosen = {name: i for i, name in enumerate(names, 1)} if bands is None else _mapping(bands, len(names))
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
        stored_units=_one_unit({name: told[index - 1] for name, index in chosen.items()}),
        units=told[next(iter(chosen.values())) - 1],
        id=_id(href, files),
        href=os.fspath(href) if isinstance(href, str | os.PathLike) else ",".join(files),
        time=metadata.time_of(headers),
    )


def _joined(sources: list[RasterSource]) -> RasterSource | StackSource:
    return sources[0] if len(sources) == 1 else StackSource(tuple(sources))


def _split(values: Sequence[str], headers: list[Header]) -> Iterator[Sequence[str]]:
    """Values of all bands, file by file."""
    at = 0
    for header in headers:
        yield values[at : at + len(header.numbers)]
        at += len(header.numbers)


def _one_unit(units: dict[str, str]) -> str:
    if len(set(units.values())) > 1:
        told = ", ".join(f"{name} in {unit}" for name, unit in units.items())
        raise SceneError(
            f"the bands have different units ({told}): choose bands of one unit with --bands, or say --units"
        )
    return next(iter(units.values()))


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


def _mapping(bands: Mapping[str, int] | str, count: int) -> dict[str, int]:
    if isinstance(bands, str):
        pairs = [tuple(side.strip() for side in part.split("=")) for part in bands.split(",")]
        names = [pair[0] for pair in pairs]
        if any(len(pair) != 2 or not pair[0] or not pair[1].isdigit() for pair in pairs) or len(set(names)) < len(
            names
        ):
            raise SceneError(f"cannot read the bands {bands!r}: write each name once as name=number, such as vv=1,vh=2")
        bands = {name: int(number) for name, number in pairs}
    if not bands:
        raise SceneError("no bands were named; write them as name=number, such as vv=1,vh=2")
    for name, index in bands.items():
        if not 1 <= index <= count:
            raise SceneError(f"band {name}={index} is not in the scene: its bands are 1 to {count}")
    return dict(bands)


def _grid(header: Header) -> Grid:
    if header.transform is None and header.gcps and header.gcp_crs:
        return GcpGrid.from_gcps(header.gcps, header.shape, header.gcp_crs)
    affine = Affine(*header.transform) if header.transform else Affine.identity()
    crs = _crs(header.crs) if header.crs and header.transform else None
    # A local, engineering system has axes and units but no place on the earth.
    return GeoBox(header.shape, affine, None if crs is not None and crs.proj.type_name == "Engineering CRS" else crs)


def _crs(wkt: str) -> CRS:
    """By its short name where it has one, so that it prints and compares as "EPSG:32631"."""
    crs = CRS(wkt)
    name = crs.proj.to_authority(min_confidence=100)
    return CRS(":".join(name)) if name and name[0] == "EPSG" else crs


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
        and (offset := metadata.sentinel2_offset(header.path))
        and set(source.offsets) == {0.0}
    ):
        source = replace(source, offsets=(offset,) * source.count)
    return source
