"""Zarr stores (v2 and v3, on disk or by fsspec) and NetCDF files, opened by xarray without decoding anything yet.

    pip install xtgeo-sat[zarr]

What a store from a stranger may not do, unless it is trusted: run code (Zarr v2 knows a filter called pickle), ask for chunks of
any size, or name other files (HDF5 has links and external storage).
"""

from __future__ import annotations

import math
import os
import warnings
from typing import TYPE_CHECKING

from xtgeo.errors import SceneError
from xtgeo.read.remote import is_final, passing, patiently
from xtgeo.read.trust import MOST_DECODED, REMEDY

if TYPE_CHECKING:
    import xarray

METADATA = ("zarr.json", ".zgroup", ".zmetadata", ".zarray")
NETCDF = (".nc", ".nc4", ".cdf")
CODECS = {
    *("blosc", "zstd", "gzip", "zlib", "lz4", "bz2", "lzma", "delta", "fixedscaleoffset", "quantize", "shuffle", "packbits"),
    *("bitround", "astype", "crc32", "crc32c", "adler32", "fletcher32", "zfpy", "pcodec", "vlen-utf8", "vlen-bytes", "bytes"),
    *("transpose", "sharding_indexed", "scale_offset", "cast_value"),
}
"""Codecs that only turn bytes into numbers or text; pickle is none of them."""
MOST_ARRAYS = 4096
LONGEST_AXIS = 1 << 22
"""Coordinates are read when a store is opened."""


def is_zarr(href: object) -> bool:
    """Whether this is a Zarr store, or a group in one."""
    if not isinstance(href, str | os.PathLike):
        return False
    path = os.fspath(href).split("?")[0]
    if "://" in path:
        return ".zarr/" in path.lower() + "/"
    return os.path.isdir(path) and any(os.path.exists(os.path.join(path, name)) for name in METADATA)


def is_netcdf(href: object) -> bool:
    """Whether this is a NetCDF file on disk."""
    return isinstance(href, str | os.PathLike) and os.fspath(href).lower().endswith(NETCDF) and os.path.isfile(href)


def open_store(href: str, *, trusted: bool) -> xarray.Dataset:
    """The dataset of a store or file, lazily read; numbers as they are stored."""
    options = {"chunks": None, "cache": False, "mask_and_scale": False, "decode_times": False, "decode_coords": "all"}
    try:
        import xarray

        if is_netcdf(href):
            engine = _check_netcdf(href, trusted)
            return xarray.open_dataset(href, engine=engine, **options)
        import zarr

        store, more = patiently(lambda: _check_zarr(zarr, href, trusted), passing(href), is_final)
        return xarray.open_dataset(store, engine="zarr", **more, **options)
    except SceneError:
        raise
    except ModuleNotFoundError as error:
        raise SceneError(f"{href} needs {error.name}, which is not installed: pip install 'xtgeo-sat[zarr]'") from error
    except Exception as error:  # zarr, h5netcdf and every file system have errors of their own
        told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise SceneError(f"cannot open {href}: {told}; check the path or address, and your credentials") from error


def _check_zarr(zarr, href: str, trusted: bool):
    """(store, what xarray is to be told of it); refuses groups without arrays, and chunks of absurd size."""
    from xtgeo.read.chunks import CheckedStore

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = zarr.open_group(href, mode="r")
        arrays = dict(_limited(group.arrays(), href))
        inner = [] if arrays else [name for name, _ in group.groups()]
    if not arrays and inner:
        raise SceneError(f"{href} holds groups, not arrays: open one of " + ", ".join(f"{href.rstrip('/')}/{n}" for n in inner[:8]))
    if not arrays:
        hint = ": without consolidated metadata a web server cannot tell what is there" if href.startswith("http") else ""
        raise SceneError(f"{href} holds no arrays{hint}")
    codecs = {array.path: _codecs(array) for array in arrays.values()}
    packed = frozenset(path for path, names in codecs.items() if names[-1:] == ["blosc"] and "sharding_indexed" not in names)
    return CheckedStore(group.store, packed), {
        "group": group.path or None,
        "drop_variables": [name for name, array in arrays.items() if not trusted and _is_strange(array, f"{name} of {href}")],
        "consolidated": group.metadata.consolidated_metadata is not None,
    }


def _limited(arrays, href: str):
    for i, pair in enumerate(arrays):
        if i >= MOST_ARRAYS:
            raise SceneError(f"{href} holds more than {MOST_ARRAYS} arrays: open one of its groups")
        yield pair


def _is_strange(array, what: str) -> bool:
    """Whether decoding it could do more than to give numbers or short texts."""
    if array.dtype.kind not in "biufMmUST" or not CODECS.issuperset(_codecs(array)):
        return True
    size = math.prod(array.chunks) * max(1, array.dtype.itemsize)
    if size > MOST_DECODED:
        raise SceneError(f"{what} has chunks of {size:,} bytes, which are decoded whole: write it in smaller ones; {REMEDY}")
    return array.ndim < 2 and array.size > LONGEST_AXIS


def _codecs(array) -> list[str]:
    """Names of all that decode it; the last one to encode it comes last."""
    metadata = array.metadata.to_dict()
    codecs = [c for key in ("codecs", "filters") for c in metadata.get(key) or ()] + [metadata.get("compressor")]
    return [str(c.get("id") or c.get("name")).removeprefix("numcodecs.") for c in _inner(codecs)]


def _inner(codecs: list):
    """Codecs, and those inside of shards."""
    for codec in codecs:
        if codec is None:
            continue
        codec = codec if isinstance(codec, dict) else codec.to_dict() if hasattr(codec, "to_dict") else codec.get_config()
        yield codec
        inside = codec.get("configuration") or {}
        yield from _inner([*(inside.get("codecs") or ()), *(inside.get("index_codecs") or ())])


def _check_netcdf(path: str, trusted: bool) -> str:
    """xarray's engine for it."""
    with open(path, "rb") as file:
        if file.read(3) == b"CDF":
            return "scipy"
    import h5py

    if not trusted:
        with h5py.File(path, "r") as file:
            _check_group(file, path, 0)
    return "h5netcdf"


def _check_group(group, path: str, depth: int):
    import h5py

    for number, name in enumerate(group):
        link = group.get(name, getlink=True)
        if number > MOST_ARRAYS or depth > 8:
            raise SceneError(f"{path} holds more groups or arrays than any product; {REMEDY}")
        if not isinstance(link, h5py.HardLink):
            raise SceneError(f"{path} links {name} to something else; {REMEDY}")
        entry = group[name]
        if isinstance(entry, h5py.Group):
            _check_group(entry, path, depth + 1)
        elif isinstance(entry, h5py.Dataset):
            if entry.external or entry.is_virtual:
                raise SceneError(f"{path} keeps {name} in other files; {REMEDY}")
            size = math.prod(entry.chunks or (1,)) * entry.dtype.itemsize
            if size > MOST_DECODED or (entry.ndim == 1 and entry.size > LONGEST_AXIS):
                told = f"chunks of {size:,} bytes and {entry.size:,} numbers"
                raise SceneError(f"{name} of {path} has {told}: too much to be decoded whole; {REMEDY}")
