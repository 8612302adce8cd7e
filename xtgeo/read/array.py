"""Arrays of xarray as sources: in memory, computed by Dask, or lazily read from a Zarr store or a NetCDF file.

Follows CF 1.11 (grid mappings, _FillValue, scale_factor, valid_range), what rioxarray and odc-geo write (`spatial_ref` with
GeoTransform or gcps), and the GeoZarr conventions `proj:` and `spatial:`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import CRS as ProjCRS
from pyproj.exceptions import CRSError

from xtgeo.errors import SceneError
from xtgeo.grid import GcpGrid, Grid
from xtgeo.read.bands import Band, choose_bands, one_unit
from xtgeo.read.blocks import BlockCache, shared
from xtgeo.read.metadata import UNIT_WORDS, moment, stem
from xtgeo.read.remote import is_final, passing, patiently, unsigned
from xtgeo.read.stack import StackSource
from xtgeo.read.trust import refuse_absurd, refuse_large_blocks
from xtgeo.scene import Scene
from xtgeo.window import Window

if TYPE_CHECKING:
    import xarray

Y_NAMES = ("y", "lat", "latitude", "northing", "nj", "rows", "row")
X_NAMES = ("x", "lon", "longitude", "easting", "ni", "columns", "column")
BAND_NAMES = ("band", "bands", "channel", "channels", "polarization", "polarisation", "pol", "wavelength", "variable")
CELL = 512
"""Side of what is decoded at once where chunks are smaller, in pixels."""
KILOMETRES = {"km", "kilometre", "kilometres", "kilometer", "kilometers"}
CACHE_BYTES = 128 << 20
HASHED_AT_ONCE = 16 << 20


@dataclass(frozen=True, eq=False)
class ArraySource:
    """A DataArray as float32, with scale and offset applied; thread-safe as far as xarray's backends are, which lock."""

    array: xarray.DataArray
    """As it came: what is lazy is turned when it has been read, for to turn it before reads all of it."""
    dims: tuple[str | None, str, str]
    """Its dims along bands (None where it has one band), y and x; it has no others."""
    missing: tuple[float, ...]
    """Stored numbers that stand for nothing."""
    low: float
    """Stored numbers below this are no measurement."""
    high: float
    """Stored numbers above this are no measurement."""
    scale: float
    offset: float
    chunk: tuple[int, int]
    """(height, width) of what is decoded at once; (1, 1) for an array in memory."""
    store: str = ""
    """Path or URL of the store; empty for what is in memory or computed."""
    cache: BlockCache = field(default_factory=lambda: BlockCache(CACHE_BYTES), repr=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArraySource) and (self is other or self.fingerprint() == other.fingerprint())

    def __hash__(self) -> int:
        return hash((self.shape, self.store))

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.array.sizes[self.dims[1]], self.array.sizes[self.dims[2]]

    @property
    def count(self) -> int:
        """Bands."""
        return self.array.sizes[self.dims[0]] if self.dims[0] else 1

    @property
    def block_shape(self) -> tuple[int, int]:
        """What is decoded at once."""
        return self.chunk

    @property
    def row_bytes(self) -> int:
        """Bytes of one row as stored, all bands."""
        return self.shape[1] * self.count * self.array.dtype.itemsize

    def read(self, window: Window, indexes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """data (band, y, x) float32 and valid (y, x) of a window inside the array; bands counted from 1."""
        data, valid = np.empty((len(indexes), *window.shape), np.float32), np.ones(window.shape, bool)
        for part, stored in self._pieces(window, indexes):
            y, x = part.shift(-window.y, -window.x).slices
            with np.errstate(over="ignore", invalid="ignore"):  # what does not fit float32 is struck out
                data[:, y, x] = stored
                if self.scale != 1.0:
                    data[:, y, x] *= np.float32(self.scale)
                if self.offset != 0.0:
                    data[:, y, x] += np.float32(self.offset)
                self._judge(stored, valid[y, x])
                if stored.dtype.kind == "f" or abs(self.scale) > 1e3:
                    valid[y, x] &= np.isfinite(data[:, y, x]).all(axis=0)
        return data, valid

    def _judge(self, stored: np.ndarray, valid: np.ndarray):
        """Strike from `valid` what is no measurement in any of the bands."""
        for value in self.missing:
            valid &= (stored != value).all(axis=0)
        if self.low > -np.inf:
            valid &= (stored >= self.low).all(axis=0)
        if self.high < np.inf:
            valid &= (stored <= self.high).all(axis=0)

    def _pieces(self, window: Window, indexes: tuple[int, ...]) -> Iterator[tuple[Window, np.ndarray]]:
        if self.chunk == (1, 1):
            yield window, self._load(window, indexes)
            return
        # Whole chunks, small ones together.
        h, w = (min(side, c * max(1, CELL // c)) for side, c in zip(self.shape, self.chunk, strict=True))
        rows = range(window.y // h, -(-(window.y + window.h) // h))
        columns = range(window.x // w, -(-(window.x + window.w) // w))

        def decode(row: int, column: int) -> np.ndarray:
            return self._load(Window(row * h, column * w, h, w) & Window(0, 0, *self.shape), indexes)

        for (row, column), block in self.cache.blocks((id(self.array), indexes), rows, columns, decode).items():
            cell = Window(row * h, column * w, *block.shape[1:])
            part = cell & window
            yield part, block[:, *part.shift(-cell.y, -cell.x).slices]

    def _load(self, window: Window, indexes: tuple[int, ...]) -> np.ndarray:
        """(band, y, x) as stored."""
        first, last = min(indexes) - 1, max(indexes)
        together = last - first <= 2 * len(indexes)
        runs = [slice(first, last)] if together else [slice(i - 1, i) for i in indexes]
        try:
            whole = np.concatenate([self._values(run, *window.slices) for run in runs])
        except Exception as error:  # decoders and file systems of others raise whatever they like
            told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            rows = f"rows {window.y} to {window.y + window.h} of {self.store or 'the array'}"
            raise SceneError(f"cannot read {rows}: {told}; it is damaged, or not there") from error
        # To Zarr a chunk that is not there is one of fill values.
        if self.store and "://" not in self.store and not os.path.exists(self.store):
            raise SceneError(f"{self.store} is no longer there: bring it back, then run again to resume")
        return whole[[i - 1 - first for i in indexes]] if together else whole

    def _values(self, band: slice, y: slice, x: slice) -> np.ndarray:
        place = {dim: part for dim, part in zip(self.dims, (band, y, x), strict=True) if dim}
        part = self.array.isel(place).variable
        order = [part.dims.index(dim) for dim in place]
        if part.chunks:  # in the thread that asks: a pool under every thread of ours would decode too much at once
            values = np.asarray(part.data.compute(scheduler="synchronous"))
        else:
            values = patiently(lambda: part.values, passing(self.store), is_final)
        values = values.transpose(order)
        return values if self.dims[0] else values[None]

    def maybe_valid(self, window: Window, indexes: tuple[int, ...]) -> bool:
        """True: nothing tells without reading."""
        return True

    def coarser(self, side: int) -> None:
        """None: an array has no reduced copy."""

    def with_cache(self, limit: int | BlockCache) -> ArraySource:
        """The same with at most `limit` bytes of decoded chunks."""
        return replace(self, cache=shared(limit))

    @property
    def files(self) -> tuple[str, ...]:
        """The store, if there is one."""
        return (self.store,) if self.store else ()

    def fingerprint(self) -> dict:
        """Names, sizes and times of a local store's files; a hash of pixels at a remote one's middle; else of all pixels.

        A Dask array is known by its graph, which is not computed for this.
        """
        rules = [repr(v) for v in (self.missing, self.low, self.high, self.scale, self.offset)]
        told = {"array": [str(self.array.name), self.array.dtype.str, self.count, *self.shape], "rules": rules}
        if self.store and os.path.exists(self.store):
            return {**told, "path": os.path.abspath(self.store), "files": _hash_of_files(self.store)}
        if self.store:
            h, w = self.shape
            middle = self._load(Window(h // 2, w // 2, 64, 64) & Window(0, 0, h, w), tuple(range(1, self.count + 1)))
            return {**told, "path": unsigned(self.store), "middle": hashlib.sha256(middle.tobytes()).hexdigest()}
        if self.array.chunks:
            return {**told, "graph": self.array.variable.data.name}
        return {**told, "pixels": self._hash_of_pixels()}

    def _hash_of_pixels(self) -> str:
        h, w = self.shape
        rows, digest = max(1, HASHED_AT_ONCE // max(1, w * self.array.dtype.itemsize)), hashlib.sha256()
        for band in range(1, self.count + 1):
            for y in range(0, h, rows):
                digest.update(np.ascontiguousarray(self._load(Window(y, 0, min(rows, h - y), w), (band,))))
        return digest.hexdigest()


def _hash_of_files(store: str) -> str:
    digest = hashlib.sha256()
    inside = (os.path.join(at, name) for at, _, names in os.walk(store) for name in names)
    for place in [store] if os.path.isfile(store) else sorted(inside):
        found = os.stat(place)
        digest.update(f"{os.path.relpath(place, store)} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def is_array(href: object) -> bool:
    """Whether this is an xarray.DataArray or Dataset."""
    return hasattr(href, "dims") and hasattr(href, "coords") and hasattr(href, "isel")


def open_array(
    data: xarray.DataArray | xarray.Dataset,
    *,
    bands: Mapping[str, int | str] | str | None = None,
    units: str | None = None,
    nodata: float | None = None,
    trusted: bool = False,
    store: str = "",
) -> Scene:
    """A scene over an array with dims y, x and maybe a band, in any order, or over the variables of a dataset that have them.

    Nothing is read now. Other dims must have one element. `store` is where it lies, if reading it is lazy.
    """
    rasters = _rasters(data, store or "the array")
    sources, known = [], []
    for raster, dims in rasters:
        sources.append(_source(raster, dims, nodata, store, trusted))
        told = units or UNIT_WORDS.get(str(raster.attrs.get("units", "")).strip().lower(), "unknown")
        for name in _names(raster, dims[0], alone=len(rasters) == 1):
            known.append(Band(name, told))
    chosen = choose_bands(bands, known)
    unit = one_unit({name: known[number - 1].units for name, number in chosen.items()})
    first, dims = rasters[0]
    return Scene(
        source=sources[0] if len(sources) == 1 else StackSource(tuple(sources)),
        grid=_grid(first, dims, data),
        bands=tuple(chosen),
        indexes=tuple(chosen.values()),
        stored_units=unit,
        units=unit,
        id=_name(store) if store else str(first.attrs.get("id", first.name or "array")),
        href=unsigned(store) or "memory",
        time=_time(first, data),
    )


def _name(store: str) -> str:
    """Of a store or file; of a group in a store with the store's own, since other stores have such a group too."""
    parts = store.split("?")[0].rstrip("/").split("/")
    first = next((i for i, part in enumerate(parts) if part.lower().endswith(".zarr")), len(parts) - 1)
    return "_".join(stem(part) for part in parts[first:])


def _rasters(data, what: str) -> list[tuple[xarray.DataArray, tuple[str | None, str, str]]]:
    """The arrays that make up the scene, each with its dims along band, y and x."""
    arrays = [data] if not hasattr(data, "data_vars") else [data[name] for name in data.data_vars]
    found = [(axes, array) for array in arrays if array.dtype.kind in "biuf" and array.size and (axes := _axes(array))]
    if not found:
        sizes = [", ".join(f"{dim} {n}" for dim, n in array.sizes.items()) for array in arrays[:8]]
        told = ", ".join(f"{a.name}: {a.dtype} ({size})" for a, size in zip(arrays, sizes, strict=False)) or "nothing"
        raise SceneError(f"{what} has no array of numbers with dims y and x, or latitude and longitude: it has {told}")
    (y, x), _ = max(found, key=lambda pair: pair[1].sizes[pair[0][0]] * pair[1].sizes[pair[0][1]])
    return [_alone(array, y, x, what) for axes, array in found if axes == (y, x)]


def _axes(array) -> tuple[str, str] | None:
    """Names of the dims along y and x."""
    told = array.attrs.get("spatial:dimensions")
    if isinstance(told, Sequence) and len(told) == 2 and set(told) <= set(array.dims):
        return tuple(told)
    y, x = (next((d for d in array.dims if _runs_along(array, d, *names)), None) for names in ((Y_NAMES, "Y"), (X_NAMES, "X")))
    return (y, x) if y and x else None


def _runs_along(array, dim, names: tuple[str, ...], axis: str) -> bool:
    told = array.coords[dim].attrs.get("axis") if dim in array.coords else None
    return told == axis if isinstance(told, str) and told in ("X", "Y") else str(dim).lower() in names


def _alone(array, y: str, x: str, what: str):
    """The array without dims of one element, and its dims along band, y and x."""
    others = [dim for dim in array.dims if dim not in (y, x)]
    band = next((dim for dim in others if str(dim).lower() in BAND_NAMES), None)
    for dim in others:
        if dim != band and array.sizes[dim] > 1:
            raise SceneError(
                f"{array.name or what} has {array.sizes[dim]} layers along {dim}: choose one in Python, as in "
                f"open_scene(array.isel({dim}=0))"
            )
        if dim != band:
            array = array.isel({dim: 0})
    return array, (band, y, x)


def _names(array, band: str | None, *, alone: bool) -> list[str]:
    """Of the bands: from the band's coordinate, rioxarray's long_name, or the array's own name."""
    n = array.sizes[band] if band else 1
    prefix = "" if alone or not array.name else f"{array.name}_"
    told = next((array.coords[dim] for dim in ([band] if band else BAND_NAMES if alone else ()) if dim in array.coords), None)
    if told is not None and told.dtype.kind in "UOT" and told.size == n:
        return [prefix + str(value) for value in np.atleast_1d(told.values)]
    long = array.attrs.get("long_name")
    if isinstance(long, list | tuple) and len(long) == n and len(set(long)) == n:
        return [prefix + str(text) for text in long]
    if n == 1:
        return [str(array.name or "band_1")]
    return [f"{prefix or 'band_'}{i}" for i in range(1, n + 1)]


def _source(array, dims: tuple[str | None, str, str], nodata: float | None, store: str, trusted: bool) -> ArraySource:
    what, attrs = store or "the array", array.attrs
    if str(attrs.get("_Unsigned", "")).lower() == "true" and array.dtype.kind == "i":
        raise SceneError(f"{what} keeps unsigned numbers as signed ones (_Unsigned): open it with xarray, and give the array")
    chunk = (1, 1)
    sizes = array.encoding.get("preferred_chunks") or dict(zip(array.dims, array.encoding.get("chunksizes") or (), strict=False))
    if array.chunks:
        chunk = tuple(max(array.chunksizes[dim]) for dim in dims[1:])
    elif store:
        chunk = tuple(int(min(sizes.get(dim, CELL), array.sizes[dim])) or 1 for dim in dims[1:])
    if not trusted:
        refuse_absurd(what, (array.sizes[dims[1]], array.sizes[dims[2]]), array.sizes[dims[0]] if dims[0] else 1)
        refuse_large_blocks(what, chunk[0] * chunk[1] * array.dtype.itemsize)
    told = [attrs[key] for key in ("_FillValue", "missing_value", "nodata") if key in attrs] if nodata is None else [nodata]
    missing = _numbers(what, "_FillValue", *told)
    scale, offset = _scaling(what, attrs)
    low, high = _range(what, array)
    return ArraySource(
        array=array,
        dims=dims,
        missing=tuple(v for v in missing if not np.isnan(v)),
        low=low,
        high=high,
        scale=scale,
        offset=offset,
        chunk=chunk,
        store=store,
    )


def _scaling(what: str, attrs: Mapping) -> tuple[float, float]:
    scale, offset = (_number(what, key, attrs.get(key, default)) for key, default in (("scale_factor", 1.0), ("add_offset", 0.0)))
    if not (0 < abs(scale) < 1e30 and abs(offset) < 1e30):
        raise SceneError(f"{what} has a scale_factor or add_offset that cannot be: {scale}, {offset}; correct its attributes")
    return scale, offset


def _range(what: str, array) -> tuple[float, float]:
    """What numbers may be, as the array holds them.

    The range is told in packed numbers. xarray unpacks an array without changing what it tells of that; then half a step is added,
    for rounding.
    """
    told = _numbers(what, "valid_range", *np.atleast_1d(array.attrs.get("valid_range", ())))
    if len(told) not in (0, 2):
        raise SceneError(f"{what} has an attribute valid_range of {len(told)} numbers where two are meant")
    low, high = told or (-np.inf, np.inf)
    low, high = (_number(what, key, array.attrs.get(key, v)) for key, v in (("valid_min", low), ("valid_max", high)))
    if array.encoding.keys() & {"scale_factor", "add_offset"} and not array.attrs.keys() & {"scale_factor", "add_offset"}:
        scale, offset = _scaling(what, array.encoding)
        low, high = sorted((scale * low + offset, scale * high + offset))
        low, high = low - abs(scale) / 2, high + abs(scale) / 2
    return low, high


def _number(what: str, key: str, value: object) -> float:
    numbers = _numbers(what, key, value)
    if len(numbers) != 1:
        raise SceneError(f"{what} has an attribute {key} of {len(numbers)} numbers where one is meant: {str(value)[:60]}")
    return numbers[0]


def _numbers(what: str, key: str, *values: object) -> tuple[float, ...]:
    try:
        return tuple(float(v) for value in values for v in np.atleast_1d(value))
    except (TypeError, ValueError) as error:
        raise SceneError(f"{what} has an attribute {key} that is no number: {str(values)[:60]}") from error


def _grid(array, dims: tuple[str | None, str, str], data) -> Grid:
    """Where the pixels lie: by control points, by coordinates of their centres, or by an affine that is written down."""
    mapping, shape = _mapping(array, data), tuple(array.sizes[dim] for dim in dims[1:])
    if "gcps" in mapping:
        return _gcp_grid(mapping["gcps"], shape, mapping)
    axes = [_axis(array, dim) for dim in dims[1:]]
    units = {_unit(array, dim) for dim in dims[1:]}
    affine, crs = _written(array, data, mapping), _crs(array, dims, data, mapping)
    if all(axes):
        (y, step_y), (x, step_x) = axes
        even = Affine(step_x, 0.0, x, 0.0, step_y, y)
        if units != {"pixel"}:
            affine = even
        elif affine:  # odc-geo, of grids that are rotated: pixels of the affine that is written down
            affine = _after(even, affine)
        if units <= KILOMETRES and crs is not None:
            affine = _after(affine, Affine.scale(1000.0 / crs.proj.axis_info[0].unit_conversion_factor))
    if affine is None:
        return GeoBox(shape, Affine.identity(), None)
    if not np.isfinite(affine[:6]).all() or affine.determinant == 0:
        raise SceneError(f"the array's affine cannot be: {tuple(affine)[:6]}; correct it")
    return GeoBox(shape, affine, crs)


def _mapping(array, data) -> Mapping:
    """Attributes of the grid mapping."""
    name = array.encoding.get("grid_mapping", array.attrs.get("grid_mapping", ""))
    for place in (str(name).split(":")[0].split(" ")[0], "spatial_ref", "crs"):
        for holder in (array.coords, data.coords, getattr(data, "variables", {})):
            if place in holder:
                return holder[place].attrs
    return {}


def _axis(array, dim) -> tuple[float, float] | None:
    """(edge, step) of a dim whose coordinates are even; None where it has none, or only one."""
    if dim not in array.coords or array.sizes[dim] < 2 or array.coords[dim].dtype.kind not in "iuf":
        return None
    centres = np.asarray(array.coords[dim].values, float)
    if _unit(array, dim).startswith("rad"):
        raise SceneError(f"{dim} counts in radians, which only a satellite's own grid does: bring the array to a map first")
    step = (centres[-1] - centres[0]) / (len(centres) - 1)
    even = centres[0] + step * np.arange(len(centres))
    # Coordinates in float32 are off by some of their last digits.
    digits = np.finfo(array.coords[dim].dtype if array.coords[dim].dtype.kind == "f" else float).eps
    slack = 0.01 * abs(step) + 2 * digits * np.abs(centres).max()
    if not step or not np.isfinite(step) or not (np.abs(centres - even) <= slack).all():
        raise SceneError(f"the coordinates of {dim} are not even, as those of pixels are: bring the array to a regular grid first")
    return float(centres[0] - step / 2), float(step)


def _unit(array, dim) -> str:
    return str(array.coords[dim].attrs.get("units", "")).lower() if dim in array.coords else ""


def _written(array, data, mapping: Mapping) -> Affine | None:
    """An affine from GeoTransform, `spatial:transform`, or rioxarray's old `transform`."""
    try:
        if "GeoTransform" in mapping:
            return Affine.from_gdal(*(float(v) for v in str(mapping["GeoTransform"]).split()))
        for attrs in (array.attrs, data.attrs):
            for key in ("spatial:transform", "transform"):
                if isinstance(attrs.get(key), Sequence | np.ndarray) and len(attrs[key]) >= 6:
                    affine = Affine(*(float(v) for v in attrs[key][:6]))
                    # GeoZarr's way to say that the affine places centres of pixels.
                    on_node = key != "transform" and attrs.get("spatial:registration") == "node"
                    return _after(Affine.translation(-0.5, -0.5), affine) if on_node else affine
    except (TypeError, ValueError) as error:
        raise SceneError(f"the array's affine cannot be read: {error}") from error
    return None


def _after(first: Affine, then: Affine) -> Affine:
    """Both, one after the other; the operator for that is not the same in all versions of Affine."""
    x, y = ((then.a * u + then.b * v, then.d * u + then.e * v) for u, v in ((first.a, first.d), (first.b, first.e)))
    c, f = then.a * first.c + then.b * first.f + then.c, then.d * first.c + then.e * first.f + then.f
    return Affine(x[0], y[0], c, x[1], y[1], f)


def _crs(array, dims: tuple[str | None, str, str], data, mapping: Mapping) -> CRS | None:
    told = [mapping.get("crs_wkt"), mapping.get("spatial_ref")]
    for attrs in (array.attrs, data.attrs):
        told += [attrs.get(f"proj:{key}") for key in ("code", "wkt2", "projjson")]
        told += [f"EPSG:{attrs['proj:epsg']}" if "proj:epsg" in attrs else None, attrs.get("crs")]
    try:
        for value in told:
            if value is not None:
                return _short(ProjCRS(json.dumps(dict(value)) if isinstance(value, Mapping) else str(value)))
        if "grid_mapping_name" in mapping:
            return _short(ProjCRS.from_cf(dict(mapping)))
    except (CRSError, ValueError, TypeError, KeyError) as error:
        raise SceneError(f"the array's CRS cannot be read: {' '.join(str(error).split())[:200]}") from error
    units = [str(array.coords[dim].attrs.get("units", "")) for dim in dims[1:] if dim in array.coords]
    if len(units) == 2 and units[0].startswith("degree") and units[0].endswith(("north", "N")) and units[1].startswith("degree"):
        return CRS("EPSG:4326")  # CF 4.1, 4.2: latitudes and longitudes need no grid mapping
    return None


def _short(crs: ProjCRS) -> CRS:
    name = crs.to_authority(min_confidence=100)
    return CRS(":".join(name)) if name and name[0] == "EPSG" else CRS(crs.to_wkt())


def _gcp_grid(text: object, shape: tuple[int, int], mapping: Mapping) -> GcpGrid:
    try:
        features = json.loads(text)["features"] if isinstance(text, str) else text["features"]
        points = [
            SimpleNamespace(row=p["row"], col=p["col"], x=at[0], y=at[1], z=at[2] if len(at) > 2 else 0.0)
            for p, at in ((f["properties"], f["geometry"]["coordinates"]) for f in features)
        ]
        crs = mapping.get("crs_wkt") or mapping.get("spatial_ref") or "EPSG:4326"
        return GcpGrid.from_gcps(points, shape, str(crs))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise SceneError(f"the array's control points cannot be read: {type(error).__name__}: {error}") from error


def _time(array, data) -> datetime | None:
    texts = []
    if "time" in array.coords and array.coords["time"].size == 1:
        texts.append(_cf_time(array.coords["time"]))
    for attrs in (array.attrs, data.attrs):
        texts += [str(attrs[key]) for key in ("time", "datetime", "start_datetime", "time_coverage_start") if key in attrs]
    return moment(*texts)


def _cf_time(coordinate) -> str:
    """Of one element, as text; also where it counts from some date on (CF 4.4). Empty where it is no time of our calendar."""
    from xarray.conventions import decode_cf_variable

    try:
        stored = coordinate.variable.copy(deep=False).load()
    except Exception as error:  # as in ArraySource
        raise SceneError(f"cannot read the time of the array: {type(error).__name__}: {error}; it is damaged") from error
    try:
        time = np.ravel(decode_cf_variable("time", stored).values)[0]
        return str(np.datetime64(time).astype("datetime64[us]"))
    except (ValueError, TypeError, OverflowError):
        return ""
