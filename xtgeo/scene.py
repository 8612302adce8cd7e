"""Scene: lazy pixels with a place on the earth. Block: the pixels of one window.

Arrays are (band, y, x). `valid` is (y, x), True where every band holds a measurement.

    Source          reads windows of one file or several, as float32; knows nothing of units and places
    Scene(source)   names its bands, knows their unit and where they lie
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import numpy as np

from xtgeo.errors import SceneError
from xtgeo.grid import EPSG_4326, GcpGrid, Grid, is_georeferenced
from xtgeo.window import Window

if TYPE_CHECKING:
    import dask.array
    import xarray
    from matplotlib.axes import Axes

UNITS = {
    "db": "backscatter in decibels",
    "linear": "backscatter as linear power",
    "amplitude": "backscatter as amplitude, the square root of power",
    "reflectance": "surface or top-of-atmosphere reflectance, about 0 to 1",
    "dn10000": "reflectance x 10000, as in Sentinel-2 products",
    "dn": "raw digital numbers, not calibrated",
    "rgb": "red, green and blue for the eye, 0 to 255",
    "kelvin": "surface or brightness temperature in kelvins",
    "unknown": "nothing says what the numbers mean",
}

# The floor of 1e-5 is xView3's: its decibels are 10 log10(x + 1e-5), so that -50 dB stands for nothing at all.
POWER_FLOOR = 1e-5


def _decibels(power: np.ndarray) -> np.ndarray:
    """10 log10(x + 1e-5); numpy's natural logarithm of float32 is four times as fast as the decadic one."""
    flat, answer = power.ravel(), np.empty(power.size, power.dtype)
    for start in range(0, flat.size, 1 << 15):  # what fits a processor's cache
        part = answer[start : start + (1 << 15)]
        np.maximum(flat[start : start + len(part)], 0, out=part)
        part += POWER_FLOOR
        np.log(part, out=part)
        part *= 10 / np.log(10)
    return answer.reshape(power.shape)


CONVERSIONS = {
    ("linear", "db"): _decibels,
    ("amplitude", "db"): lambda x: _decibels(x * x),
    ("db", "linear"): lambda x: 10 ** (x / 10),
    ("amplitude", "linear"): lambda x: x * x,
    ("dn10000", "reflectance"): lambda x: x / 10000,
}


TYPICAL = {"db": (-70, 25), "linear": (0, 10), "amplitude": (0, np.inf), "reflectance": (-1, 3), "kelvin": (100, 500)}
"""Between what the middle of a scene's values lies, for units that can be told apart by it."""


@dataclass(frozen=True, eq=False)
class Block:
    """The pixels of one window."""

    window: Window
    data: np.ndarray
    """(band, y, x) float32; 0 where not valid."""
    valid: np.ndarray
    """(y, x) bool; True where every band holds a measurement."""


class Source(Protocol):
    """Reads windows; may be called by several threads at once, and pickled to other processes."""

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""

    @property
    def count(self) -> int:
        """Bands; indexes begin at 1."""

    @property
    def block_shape(self) -> tuple[int, int]:
        """(height, width) of what is decoded at once; (1, 1) where any window costs only its own pixels."""

    @property
    def row_bytes(self) -> int:
        """Bytes that one row of the scene takes when decoded, all bands."""

    def read(self, window: Window, indexes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """data (band, y, x) float32 and valid (y, x) of a window inside the scene."""

    def maybe_valid(self, window: Window, indexes: tuple[int, ...]) -> bool:
        """False where the window surely holds no valid pixel, found without decoding; True where one must look."""

    def coarser(self, side: int) -> Source | None:
        """The file's own reduced copy whose longer side is the smallest of at least `side` pixels, if there is one."""

    def with_cache(self, limit: int) -> Source:
        """The same source with at most `limit` bytes for decoded blocks."""

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of what is read, as GDAL spells them."""

    def fingerprint(self) -> dict:
        """Plain values that change when the pixels on disk do."""


@dataclass(frozen=True)
class Scene:
    """A raster read by window. Reading changes nothing: a scene is a value, and safe to share between threads."""

    source: Source
    """Where the pixels come from."""
    grid: Grid
    """Where each pixel lies on the earth."""
    bands: tuple[str, ...]
    """Names, in the order of `Block.data`."""
    indexes: tuple[int, ...]
    """The source's band, from 1, behind each name."""
    stored_units: str
    """What the source's numbers are; a key of UNITS."""
    units: str
    """What reading gives; differs from `stored_units` after `convert`."""
    id: str
    """Short name: the file's or folder's, without extension."""
    href: str
    """Where it was opened from."""
    time: datetime | None = None
    """Acquisition, UTC; where `row_seconds` is known, of the first row."""
    row_seconds: float | None = None
    """From one row to the next, where rows were acquired one after the other, as a radar's are."""
    facts: Mapping[str, str | int | float] = field(default_factory=dict, compare=False)
    """What else is known of the acquisition, in STAC's words: platform, sat:orbit_state, ...; changes no pixel."""
    aliases: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Other names of bands, in lower case: {"red": "B04"}."""
    haze: tuple[float, ...] = ()
    """Per band, what reading takes off, in `units`; see `xtgeo.haze`."""

    def __post_init__(self):
        if len(self.bands) != len(self.indexes) or not self.bands:
            raise ValueError(f"{len(self.bands)} band names for {len(self.indexes)} bands")
        if len(set(self.bands)) != len(self.bands):
            raise SceneError(
                f"band names of {self.href} are not unique: {', '.join(self.bands)}; name them with --bands"
            )
        for units in (self.stored_units, self.units):
            if units not in UNITS:
                raise SceneError(f"unknown units {units!r}; choose one of {', '.join(UNITS)}")

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        h, w = self.source.shape
        return h, w

    def __repr__(self) -> str:
        h, w = self.shape
        return f"<Scene {self.id}: {h} x {w} px (height x width), {', '.join(self.bands)} in {self.units}>"

    @property
    def is_georeferenced(self) -> bool:
        """Whether pixels have a place on the earth."""
        return is_georeferenced(self.grid)

    def read(self, window: Window) -> Block:
        """Pixels of a window, which may reach beyond the scene: there they are 0 and not valid. Thread-safe."""
        inside = window & Window(0, 0, *self.shape)
        if not inside:
            return Block(window, np.zeros((len(self.bands), *window.shape), np.float32), np.zeros(window.shape, bool))
        data, valid = self.source.read(inside, self.indexes)
        if self.units != self.stored_units:
            with np.errstate(all="ignore"):  # what lies under the mask may be anything
                data = CONVERSIONS[self.stored_units, self.units](data).astype(np.float32, copy=False)
        if self.haze:
            data = data - np.array(self.haze, np.float32)[:, None, None]
        if not valid.all():
            data[:, ~valid] = 0.0
        if inside == window:
            return Block(window, data, valid)
        y, x = inside.shift(-window.y, -window.x).slices
        whole = Block(window, np.zeros((len(self.bands), *window.shape), np.float32), np.zeros(window.shape, bool))
        whole.data[:, y, x], whole.valid[y, x] = data, valid
        return whole

    def maybe_valid(self, window: Window) -> bool:
        """False where the window surely holds no valid pixel, found without decoding; True where one must look."""
        inside = window & Window(0, 0, *self.shape)
        return bool(inside) and self.source.maybe_valid(inside, self.indexes)

    def time_at(self, rows: np.ndarray) -> np.ndarray:
        """When rows (0.5 is the middle of the first) were acquired: datetime64[ms] in UTC, not a time where it is not known."""
        rows = np.asarray(rows, float)
        if self.time is None:
            return np.full(rows.shape, np.datetime64("NaT", "ms"))
        start = self.time.astimezone(UTC).replace(tzinfo=None) if self.time.tzinfo else self.time
        since = np.round((rows - 0.5) * (self.row_seconds or 0.0) * 1e6).astype("timedelta64[us]")
        return (np.datetime64(start, "us") + since).astype("datetime64[ms]")

    def find(self, name: str) -> str | None:
        """The scene's own name of a band: without regard to case, else by an alias such as red."""
        own = {band.lower(): band for band in reversed(self.bands)} | {band: band for band in self.bands}
        return own.get(name) or own.get(name.lower()) or own.get(self.aliases.get(name.lower(), "").lower())

    def select(self, *names: str) -> Scene:
        """The scene with just these bands, in this order; aliases count, and the bands keep their own names."""
        names, asked = tuple(self.find(name) or name for name in names), names
        missing = [name for name in asked if self.find(name) is None]
        if missing or not names:
            raise SceneError(
                f"{self.id} has no band {', '.join(missing)}: it has {', '.join(self.bands)}; "
                "name its bands with --bands, such as --bands vv=1,vh=2"
            )
        places = [self.bands.index(name) for name in names]
        haze = tuple(self.haze[i] for i in places) if self.haze else ()
        return replace(self, bands=names, indexes=tuple(self.indexes[i] for i in places), haze=haze)

    def with_bands(self, bands: Mapping[str, int]) -> Scene:
        """The scene with these names for the source's bands, numbered from 1."""
        if not bands:
            raise SceneError("no bands were named; write them as name=number, such as vv=1,vh=2")
        for name, index in bands.items():
            if not 1 <= index <= self.source.count:
                raise SceneError(f"band {name}={index} is not in {self.id}: its bands are 1 to {self.source.count}")
        return replace(self, bands=tuple(bands), indexes=tuple(bands.values()), haze=())

    def with_units(self, units: str) -> Scene:
        """The scene whose numbers are said to be `units`; nothing is computed."""
        return replace(self, stored_units=units, units=units, haze=())

    def convert(self, units: str) -> Scene:
        """The scene whose reads give `units`; refused where the way there is not known or the numbers contradict it."""
        if units == self.units:
            return self
        if units == self.stored_units:
            return replace(self, units=units, haze=())
        if units not in UNITS:
            raise SceneError(f"unknown units {units!r}; choose one of {', '.join(UNITS)}")
        if (self.stored_units, units) not in CONVERSIONS:
            remedy = "say what they are with --units " + "|".join(u for u in UNITS if u != "unknown")
            if self.stored_units == "dn":
                remedy = "calibrate them first, or say with --units amplitude that they are to be taken as amplitude"
            raise SceneError(
                f"{self.id} holds {self.stored_units} ({UNITS[self.stored_units]}), which cannot be turned into "
                f"{units}; {self._look()}; {remedy}"
            )
        self.check_values()
        return replace(self, units=units, haze=())

    def check_values(self) -> None:
        """Refuses numbers that cannot be what they are said to be, by their middle in a few windows."""
        low, high = TYPICAL.get(self.stored_units, (-np.inf, np.inf))
        middle = self._range()[1]
        if middle < low or middle > high:
            raise SceneError(
                f"{self.id} is said to hold {self.stored_units}, but {self._look()}; say what they are with --units"
            )

    def _range(self) -> tuple[float, float, float]:
        """1st, 50th and 99th percentile of what is stored, from a few windows; NaN without a valid pixel."""
        h, w = self.shape
        stored, picked = replace(self, units=self.stored_units, haze=()), []
        block_h, block_w = self.source.block_shape
        for y in (h // 4, 3 * h // 4):
            for x in (w // 4, 3 * w // 4):
                block = stored.read(Window(within_block(y, 64, block_h), within_block(x, 256, block_w), 64, 256))
                picked.append(block.data[:, block.valid].ravel())
        values = np.concatenate(picked)
        return tuple(np.percentile(values, (1, 50, 99)).tolist()) if values.size else (float("nan"),) * 3

    def _look(self) -> str:
        low, _, high = self._range()
        if np.isnan(low):
            return "no valid value was found in a sample"
        text = f"values between {low:.4g} and {high:.4g}"
        if low < -5 and -70 < low and high < 45:
            return f"{text} look like db"
        if 0 <= low and high > 255:
            return f"{text} look like dn or dn10000"
        if 0 <= low and 1.5 < high <= 255:
            return f"{text} look like rgb, amplitude or linear"
        return f"{text} look like linear or reflectance" if 0 <= low else f"{text} do not show it"

    @property
    def data(self) -> dask.array.Array:
        """All pixels as a lazy Dask array (band, y, x) float32, NaN where not valid; for slicing, plots and sums.

        The pipeline does not use it: `read` shares decoded blocks between neighbouring windows, a graph does not.
        """
        import dask.array
        from dask.base import tokenize

        chunks = tuple(_chunks(side, step) for side, step in zip(self.shape, self._chunk_shape(), strict=True))
        return dask.array.map_blocks(
            _load,
            scene=self,
            chunks=((len(self.bands),), *chunks),
            dtype=np.float32,
            meta=np.empty((0, 0, 0), np.float32),
            name="xtgeo-" + tokenize(self.fingerprint(), self.indexes, self.stored_units, self.haze),
        )

    def _chunk_shape(self, side: int = 2048) -> tuple[int, int]:
        """Whole blocks, about `side` x `side` pixels."""
        w, (block_h, block_w) = self.shape[1], self.source.block_shape
        chunk_w = min(w, -(-side // block_w) * block_w)
        return max(1, side * side // chunk_w // block_h) * block_h, chunk_w

    def to_xarray(self) -> xarray.DataArray:
        """`data` with coordinates, band names and a CRS as rioxarray reads them.

        Radar geometry has no x and y and no affine: its control points are where `rio.get_gcps` looks for them.
        """
        import xarray

        coords: dict = {"band": list(self.bands)}
        attrs: dict = {"units": self.units, "id": self.id, "href": self.href}
        if self.time is not None:
            attrs["time"] = self.time.isoformat()
        if isinstance(self.grid, GcpGrid):
            coords["spatial_ref"] = xarray.Variable((), 0, {"crs_wkt": EPSG_4326.to_wkt(), "gcps": _geojson(self.grid)})
        else:
            from odc.geo.xr import xr_coords

            coords |= xr_coords(self.grid, always_yx=True)
        return xarray.DataArray(self.data, coords=coords, dims=("band", "y", "x"), name=self.id, attrs=attrs)

    def overview(self, max_side: int = 1024) -> Block:
        """The whole scene reduced to at most `max_side` pixels: means over squares, of valid pixels only.

        A pixel is valid when any pixel under it is. dB and amplitude are averaged as power: the mean of decibels is 2.5 dB too low
        in speckle. Streams, in a few tiles of memory; the file's own overviews are used where there are any. Position
        (row, column) of the scene is (row * H / h, column * W / w) here, to within a pixel.
        """
        scene = replace(self, source=self.source.coarser(max_side) or self.source)
        return scene.means(Window(0, 0, *scene.shape), max(1, -(-max(scene.shape) // max_side)))

    def means(self, window: Window, factor: int) -> Block:
        """Means over squares of `factor` pixels of a window, as `overview` takes them: its sides divided by `factor`, rounded up.

        The last squares may reach beyond the window, where the scene goes on. Streams.
        """
        out_h, out_w = -(-window.h // factor), -(-window.w // factor)
        data, valid = np.zeros((len(self.bands), out_h, out_w), np.float32), np.zeros((out_h, out_w), bool)
        step = factor * max(1, 2048 // factor)
        for y in range(0, window.h, step):
            for x in range(0, window.w, step):
                side_h, side_w = (min(step, -(-left // factor) * factor) for left in (window.h - y, window.w - x))
                part = Window(window.y + y, window.x + x, side_h, side_w)
                if self.maybe_valid(part):
                    at = Window(y // factor, x // factor, side_h // factor, side_w // factor).slices
                    data[:, *at], valid[at] = _block_means(self.read(part), factor, self.units)
        return Block(Window(0, 0, out_h, out_w), data, valid)

    def plot(self, window: Window | None = None, *, ax: Axes | None = None, max_side: int = 1024) -> Axes:
        """A picture of the scene or a window of it, see `xtgeo.plot.plot_scene`."""
        from xtgeo import plot

        return plot.plot_scene(self, window, ax=ax, max_side=max_side)

    def _repr_html_(self) -> str:
        from xtgeo.plot.html import scene_html

        return scene_html(self)

    def scan_bytes(self, rows: int) -> int:
        """Memory for decoded blocks with which a scan over square tiles, `rows` tall with margins, decodes each once.

        Nothing where pixels are read directly; two rows of blocks in a tiled file; in compressed strips, which are as
        wide as the scene, all rows of a tile: there `with_cache` or lower tiles are worth a thought.
        """
        block_h, block_w = self.source.block_shape
        if (block_h, block_w) == (1, 1):
            return 0
        row = self.source.row_bytes * len(self.indexes) // self.source.count
        if block_w >= self.shape[1]:
            return (rows + 2 * max(64, block_h)) * row
        return 2 * max(512, block_h) * row + (rows + 2 * 512) * row * min(1024, self.shape[1]) // self.shape[1]

    def with_cache(self, limit: int) -> Scene:
        """The scene with at most `limit` bytes for decoded blocks, instead of 128 MiB."""
        return replace(self, source=self.source.with_cache(limit))

    def valid_share(self, blocks: int = 256) -> float:
        """About which part of the scene is valid, 0 to 1: from an overview of the file, else from `blocks` samples."""
        if self.source.coarser(512) is not None:
            return float(self.overview(512).valid.mean())
        (h, w), (block_h, block_w) = self.shape, (min(512, side) for side in self.source.block_shape)
        side = int(blocks**0.5)
        block_h, block_w = max(block_h, -(-h // 512)), max(block_w, -(-w // 512))
        ys = {int(y) // block_h for y in np.linspace(0, h - 1, side if block_w < w else blocks)}
        xs = {int(x) // block_w for x in np.linspace(0, w - 1, side)}
        seen, found = 0, 0
        for y in sorted(ys):
            for x in sorted(xs):
                window = Window(y * block_h, x * block_w, block_h, block_w) & Window(0, 0, h, w)
                seen += window.h * window.w
                found += int(self.read(window).valid.sum()) if self.maybe_valid(window) else 0
        return found / seen

    def fingerprint(self) -> dict:
        """Plain values that identify these pixels: another file, band order or unit gives other values."""
        return {
            **self.source.fingerprint(),
            "shape": list(self.shape),
            "bands": list(self.bands),
            "indexes": list(self.indexes),
            "units": [self.stored_units, self.units],
            **({"haze": list(self.haze)} if self.haze else {}),
        }


def within_block(at: int, size: int, block: int) -> int:
    """The place near `at` where `size` pixels lie in one block, if any holds so many: one is decoded then, not four."""
    return at - max(0, at % block + size - block) if block >= size else at


def _geojson(grid: GcpGrid) -> str:
    """Control points as a GeoJSON FeatureCollection."""
    features = [
        {
            "type": "Feature",
            "properties": {"id": str(i), "info": "", "row": row, "col": column},
            "geometry": {"type": "Point", "coordinates": place},
        }
        for i, (row, column, *place) in enumerate(np.stack(grid.points, axis=1).tolist(), 1)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def _load(scene: Scene, block_info: dict | None = None) -> np.ndarray:
    (_, _), (y0, y1), (x0, x1) = block_info[None]["array-location"]
    block = scene.read(Window(y0, x0, y1 - y0, x1 - x0))
    return np.where(block.valid, block.data, np.float32(np.nan))


def _chunks(side: int, step: int) -> tuple[int, ...]:
    return (step,) * (side // step) + ((side % step,) if side % step else ())


def _block_means(block: Block, factor: int, units: str) -> tuple[np.ndarray, np.ndarray]:
    """Means over squares of `factor` pixels, and whether any pixel of the square is valid; sides divide by `factor`."""
    b, h, w = block.data.shape
    squares = (h // factor, factor, w // factor, factor)
    counts = block.valid.reshape(squares).sum(axis=(1, 3))
    data = block.data
    if units in ("db", "amplitude"):
        data = (10 ** (data / 10) if units == "db" else data * data) * block.valid
    means = data.reshape(b, *squares).sum(axis=(2, 4), dtype=np.float64) / np.maximum(counts, 1)
    if units == "db":
        means = 10 * np.log10(np.where(counts > 0, means, 1.0))
    elif units == "amplitude":
        means = np.sqrt(means)
    return means.astype(np.float32), counts > 0
