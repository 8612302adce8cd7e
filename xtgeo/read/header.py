"""What a raster file says of itself, and whether it can be whole."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from xtgeo.errors import SceneError
from xtgeo.grid import GcpGrid, Grid


@dataclass(frozen=True)
class Header:
    """What a file says of itself, in plain values; one entry per band, alpha left out."""

    path: str
    driver: str
    shape: tuple[int, int]
    numbers: tuple[int, ...]
    """The file's band numbers, from 1."""
    dtypes: tuple[str, ...]
    descriptions: tuple[str, ...]
    colors: tuple[str, ...]
    units: tuple[str, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    nodata: tuple[float | None, ...]
    tags: dict
    """Of the file and of its bands, keys in lower case."""
    crs: str | None
    """As WKT."""
    transform: tuple[float, ...] | None
    """a, b, c, d, e, f; None when the file has none."""
    gcps: tuple
    gcp_crs: str | None


def read_header(path: str, dataset, numbers: tuple[int, ...]) -> Header:
    """The header of an open dataset, of the bands with these numbers."""
    gcps, gcp_crs = dataset.gcps
    transform = tuple(dataset.transform)[:6]
    if transform == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0):  # GDAL's way to say that there is none
        transform = None
    if transform is None and not gcps and dataset.rpcs:
        raise SceneError(
            f"{path} is placed by rational polynomials (RPC) only, which xtgeo does not read: orthorectify it first, "
            "for instance with gdalwarp -rpc"
        )
    tags = {key.lower(): value for band in numbers for key, value in dataset.tags(band).items()}
    tags |= {key.lower(): value for key, value in dataset.tags().items()}
    return Header(
        path=path,
        driver=dataset.driver,
        shape=tuple(dataset.shape),
        numbers=numbers,
        dtypes=tuple(dataset.dtypes[i - 1] for i in numbers),
        descriptions=tuple((dataset.descriptions[i - 1] or "").strip() for i in numbers),
        colors=tuple(dataset.colorinterp[i - 1].name for i in numbers),
        units=tuple((dataset.units[i - 1] or "").strip() for i in numbers),
        scales=tuple(dataset.scales[i - 1] for i in numbers),
        offsets=tuple(dataset.offsets[i - 1] for i in numbers),
        nodata=tuple(dataset.nodatavals[i - 1] for i in numbers),
        tags=tags,
        crs=dataset.crs.to_wkt() if dataset.crs else None,
        transform=transform,
        gcps=tuple(gcps),
        gcp_crs=gcp_crs.to_wkt() if gcp_crs else None,
    )


def grid_of(header: Header) -> Grid:
    """Where the pixels of a file lie: by its affine, or by control points where it has only those."""
    if header.transform is None and header.gcps and header.gcp_crs:
        return GcpGrid.from_gcps(header.gcps, header.shape, header.gcp_crs)
    affine = Affine(*header.transform) if header.transform else Affine.identity()
    if not np.isfinite(affine[:6]).all() or not np.isfinite(affine.determinant) or affine.determinant == 0:
        raise SceneError(f"{header.path} has a transform that cannot be: {tuple(affine)[:6]}; correct it, as with gdal_edit.py")
    crs = _crs(header.crs) if header.crs and header.transform else None
    # A local, engineering system has axes and units but no place on the earth.
    return GeoBox(header.shape, affine, None if crs is not None and crs.proj.type_name == "Engineering CRS" else crs)


def _crs(wkt: str) -> CRS:
    """By its short name where it has one, so that it prints and compares as "EPSG:32631"."""
    crs = CRS(wkt)
    name = crs.proj.to_authority(min_confidence=100)
    return CRS(":".join(name)) if name and name[0] == "EPSG" else crs


def refuse_truncated(path: str, dataset):
    """A half-downloaded file opens well and fails an hour later: see whether the end of its pixels lies inside the file."""
    if not os.path.isfile(path):
        return
    if dataset.driver.startswith("JP2") and not _ends_as_jp2(path):
        raise SceneError(f"{path} is cut short: its code stream does not end in the file; copy or download it again")
    if dataset.driver != "GTiff":
        return
    size = os.path.getsize(path)
    for band in {1, dataset.count}:
        h, w = dataset.block_shapes[band - 1]
        last = f"{-(-dataset.width // w) - 1}_{-(-dataset.height // h) - 1}"
        offset = dataset.get_tag_item(f"BLOCK_OFFSET_{last}", "TIFF", bidx=band)
        length = dataset.get_tag_item(f"BLOCK_SIZE_{last}", "TIFF", bidx=band)
        if offset and length and int(offset) + int(length) > size:
            raise SceneError(
                f"{path} is cut short: it has {size:,} bytes, its pixels need {int(offset) + int(length):,}; "
                "copy or download it again"
            )


def _ends_as_jp2(path: str) -> bool:
    """Whether a JP2's boxes fill the file, and a code stream that reaches to its end closes with its marker (ISO 15444-1, A, I)."""
    size, at = os.path.getsize(path), 0
    with open(path, "rb") as file:
        while at < size:
            file.seek(at)
            head = file.read(16)
            if at == 0 and head[:2] == b"\xff\x4f":  # a bare code stream
                length, kind = 0, b"jp2c"
            elif len(head) < 8:
                return False
            else:
                length, kind = int.from_bytes(head[:4]), head[4:8]
            if length == 1:
                length = int.from_bytes(head[8:16])
            if length == 0:
                file.seek(-2, os.SEEK_END)
                return kind != b"jp2c" or file.read(2) == b"\xff\xd9"
            if length < 8 or at + length > size:
                return False
            at += length
    return True


def begins_as_tiff(path: str) -> bool:
    """Whether a local file claims to be a TIFF."""
    try:
        with open(path, "rb") as file:
            return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    except OSError:
        return False
