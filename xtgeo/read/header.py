"""What a raster file says of itself, and whether it can be whole."""

from __future__ import annotations

import os
from dataclasses import dataclass

from xtgeo.errors import SceneError


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


def refuse_truncated(path: str, dataset):
    """A half-downloaded GeoTIFF opens well and fails an hour later: see whether its last blocks lie inside the file."""
    if dataset.driver != "GTiff" or not os.path.isfile(path):
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


def begins_as_tiff(path: str) -> bool:
    """Whether a local file claims to be a TIFF."""
    try:
        with open(path, "rb") as file:
            return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    except OSError:
        return False
