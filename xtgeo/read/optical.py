"""A scene from an optical product: one file for each band, of several resolutions, with scale, offset and a mask of clouds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from affine import Affine
from odc.geo.geobox import GeoBox

from xtgeo.errors import SceneError
from xtgeo.read.bands import Band, choose_bands, one_unit
from xtgeo.read.header import grid_of
from xtgeo.read.raster import open_raster
from xtgeo.read.regrid import MaskedSource, on_grid
from xtgeo.read.stack import StackSource
from xtgeo.scene import Scene

CLOUDS = ("keep", "mask")


@dataclass(frozen=True)
class BandFile(Band):
    """A band and the file it lies in: value = scale * number + offset."""

    path: str = ""
    resolution: float = 10.0
    """Side of a pixel in metres, as the product says."""
    scale: float = 1.0
    offset: float = 0.0
    saturated: float | None = None
    """Number that stands for too much to be measured."""
    nearest: bool = False
    """Classes: never mixed, and 0 may be one of them."""


@dataclass(frozen=True)
class CloudFile:
    """Where a product says what is cloud; see MaskedSource."""

    path: str
    indexes: tuple[int, ...] = (1,)
    values: tuple[int, ...] = ()
    bits: int = 0


@dataclass(frozen=True)
class Product:
    """What a product says of itself."""

    id: str
    bands: tuple[BandFile, ...]
    """Every band that can be read."""
    missing: tuple[str, ...]
    """Names of bands that belong to it and are not there."""
    resolution: float
    """Metres per pixel unless another is asked for."""
    clouds: CloudFile | str
    """Or why it knows nothing of clouds."""
    time: datetime | None
    facts: Mapping[str, str | int | float]


def scene_of(
    product: Product,
    href: str,
    *,
    bands: Mapping[str, int | str] | str | None,
    nodata: float | None,
    clouds: str,
    resolution: float | None,
) -> Scene:
    """The product's bands on one grid; only the files that are read are opened, and of those only headers."""
    chosen = _chosen(product, bands)
    files = [product.bands[number - 1] for number in chosen.values()]
    units = one_unit({name: file.units for name, file in zip(chosen, files, strict=True)})
    opened = [_open(file, nodata) for file in files]
    metres = resolution or product.resolution
    if not 1 <= metres <= 1000:
        raise SceneError(f"a resolution of {resolution} m is none for {product.id}: give metres per pixel, such as 10 or 20")
    grid = _grid(files, [own for _, own in opened], metres)
    source = StackSource(tuple(on_grid(s, own, grid, nearest=file.nearest) for (s, own), file in zip(opened, files, strict=True)))
    return Scene(
        source=source if clouds == "keep" else _without_clouds(source, product, grid),
        grid=grid,
        bands=tuple(chosen),
        indexes=tuple(range(1, len(chosen) + 1)),
        stored_units=units,
        units=units,
        id=product.id,
        href=href,
        time=product.time,
        facts=product.facts,
        aliases={alias: name for name, file in zip(chosen, files, strict=True) for alias in (file.name.lower(), *file.aliases)},
    )


def _chosen(product: Product, bands: Mapping[str, int | str] | str | None) -> dict[str, int]:
    try:
        chosen = choose_bands(bands, product.bands)
    except SceneError as error:
        if not product.missing:
            raise
        raise SceneError(f"{error}; {product.id} is incomplete: files of {', '.join(product.missing)} are not there") from error
    if not chosen:
        raise SceneError(f"{product.id} has no band to look at, only {', '.join(band.name for band in product.bands)}")
    return chosen


def _open(file: BandFile, nodata: float | None):
    source, header = open_raster(file.path)
    empty = (None if file.nearest else 0.0) if nodata is None else nodata
    n = source.count
    source = replace(
        source,
        scales=(file.scale,) * n,
        offsets=(file.offset,) * n,
        nodata=(empty,) * n,
        fills=(0.0,) * n,
        saturated=file.saturated,
    )
    if n > 1:
        raise SceneError(f"{file.path} has {n} bands, one was expected: it is not the product's own file")
    return source, _placed(file.path, header)


def _placed(path: str, header) -> GeoBox:
    grid = grid_of(header)
    if not isinstance(grid, GeoBox) or grid.crs is None:
        raise SceneError(f"{path} has no place on the earth: it is not as it came; copy or download it again")
    return grid


def _grid(files: Sequence[BandFile], grids: Sequence[GeoBox], metres: float) -> GeoBox:
    """The grid of a band that has pixels of this size; else one over the first of the finest bands, from its upper-left corner."""
    sizes = [file.resolution for file in files]
    if metres in sizes:
        return grids[sizes.index(metres)]
    finest = sizes.index(min(sizes))
    ratio, a, (h, w) = metres / sizes[finest], grids[finest].affine, grids[finest].shape
    shape = max(1, round(h / ratio)), max(1, round(w / ratio))
    return GeoBox(shape, Affine(a.a * ratio, a.b * ratio, a.c, a.d * ratio, a.e * ratio, a.f), grids[finest].crs)


def _without_clouds(source: StackSource, product: Product, grid: GeoBox) -> MaskedSource:
    clouds = product.clouds
    if isinstance(clouds, str):
        raise SceneError(f"{product.id} says nothing of clouds: {clouds}; open it without clouds=mask (--clouds mask)")
    raster, header = open_raster(clouds.path)
    if raster.count < max(clouds.indexes):
        raise SceneError(f"{clouds.path} has {raster.count} bands, {max(clouds.indexes)} were expected: it is no mask of clouds")
    raster = replace(raster, nodata=(None,) * raster.count, scales=(1.0,) * raster.count, offsets=(0.0,) * raster.count)
    return MaskedSource(
        source, on_grid(raster, _placed(clouds.path, header), grid, nearest=True), clouds.indexes, clouds.values, clouds.bits
    )
