"""A Sentinel-1 scene that never was: sea, land, ships and everything that looks like ships, with the truth.

DN2 = speckle * (sea or land, ghosts of land, noise) + targets and their ghosts    linear power, per polarisation
sigma0 = DN2 - noise, or DN2 where that is negative                                as the usual processor does
dB = 10 log10(sigma0 resampled to the map + 1e-5) + calibration offset
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from xtgeo.simulate.echo import Surface, draw_objects, draw_strays
from xtgeo.simulate.fields import speckle
from xtgeo.simulate.fleet import plan_fleet
from xtgeo.simulate.geometry import SWATH_PX, Look
from xtgeo.simulate.land import make_land
from xtgeo.simulate.sea import sea, wind_field
from xtgeo.simulate.truth import Params, SimulatedScene

FLOOR = 1e-5
"""Added before the logarithm: no pixel is below -50 dB."""


def sentinel1(
    shape: tuple[int, int] = (4096, 4096),
    *,
    seed: int = 0,
    density: float | None = None,
    wind: float | None = None,
    land: bool = True,
    nodata: bool = True,
    origin: tuple[float, float] | None = None,
) -> SimulatedScene:
    """A Sentinel-1 IW scene in VV and VH, sigma0 in dB at 10 m, with ships whose places and outlines are known.

    The same arguments give the same pixels. `density` is vessels per megapixel of water (None: 2 to 8), `wind` in
    m/s (None: 1 to 18), `origin` longitude and latitude of the upper-left corner in degrees. Without `land` there
    is no coast and no islet; without `nodata` every pixel is valid. Shapes from 64 x 64. Time and memory grow with
    the area: about 16 Mpx in 15 s and 1.5 GB.

    Scores on such scenes say little about real ones.
    """
    if min(shape) < 64:
        raise ValueError(f"a simulated scene needs at least 64 pixels a side, not {shape[0]} x {shape[1]}")
    shape = int(shape[0]), int(shape[1])
    streams = np.random.default_rng([0x51, seed]).spawn(10)
    params = _params(streams[0], seed, shape, density, wind, land)
    look = params.look

    # One row and column more than asked: the map grid falls between radar pixels.
    raw = shape[0] + 1, shape[1] + 1
    speed = wind_field(streams[1], raw, params.wind)
    signals = sea(streams[2], raw, look, wind=speed, wind_from_deg=params.wind_from_deg, slicks=params.slick_share)
    ground, berths = np.zeros(shape, bool), ()
    if params.land_share >= 0:
        coast = make_land(streams[3], raw, params.land_share, toward_east=look.across[0] > 0)
        ground, berths = coast.mask[: shape[0], : shape[1]], coast.berths
        for signal, earth in zip(signals, (coast.vv, coast.vh), strict=True):
            np.copyto(signal, earth, where=coast.mask)
            _land_ghosts(streams[4], signal, earth, look)
        del coast, earth
    valid = _wedge(streams[5], shape, look) if nodata else np.ones(shape, bool)
    noise = look.noise(raw, seed_phase=(seed * 0.618) % 1)
    plans = plan_fleet(streams[6], valid, ground, berths, params.density)
    surface = Surface(signals, noise, valid, params.subpixel)
    echoes, ships, ghosts = draw_objects(streams[7], plans, look, surface)
    ghosts += draw_strays(streams[8], echoes, look, surface, params.density)
    if params.rfi:
        _interfere(streams[4], signals, look)

    data = np.empty((2, *shape), np.float32)
    for band, (signal, echo, floor) in enumerate(zip(signals, echoes, noise, strict=True)):
        signal += floor
        signal *= speckle(streams[9], raw)
        signal += echo
        remove_noise(signal, floor)
        data[band] = to_db(_resample(signal, params.subpixel)) + np.float32(params.calibration_db[band])
    data[:, ~valid] = 0
    place, time = _grid(streams[0], shape, params, origin)
    return SimulatedScene(data, valid, ground, place, tuple(ships), params, time, tuple(ghosts), speed)


def to_db(power: np.ndarray) -> np.ndarray:
    """Power in dB, never below -50."""
    return 10 * np.log10(power + np.float32(FLOOR))


def remove_noise(power: np.ndarray, floor: np.ndarray) -> None:
    """Takes the noise floor off, in place; where nothing would be left the power stays as it is.

    This is what the usual processor does. Cutting at zero, as a textbook would, puts calm VH sea 8 dB lower.
    """
    np.subtract(power, floor, out=power, where=power > floor)


def _resample(power: np.ndarray, subpixel: tuple[float, float]) -> np.ndarray:
    fy, fx = (np.float32(f) for f in subpixel)
    rows = power[:-1] + (power[1:] - power[:-1]) * fy
    return rows[:, :-1] + (rows[:, 1:] - rows[:, :-1]) * fx


def _params(rng, seed, shape, density, wind, land) -> Params:
    ascending = rng.random() < 0.5
    heading = (-12.0 if ascending else -168.0) + rng.normal(0, 0.7)
    # The range of the corner is drawn so that the whole scene lies in the swath where it fits.
    look = Look(heading, 0.0)
    corners = [look.range_px(y, x) for y in (0, shape[0]) for x in (0, shape[1])]
    spare = max(0.0, SWATH_PX - (max(corners) - min(corners)))
    look = Look(heading, -min(corners) + rng.uniform(0, 1) * spare, float(rng.choice([0.5, -0.5]) + rng.normal(0, 0.3)))
    wind_drawn = float(np.clip(rng.gamma(4.5, 1.5), 1, 18))
    density_drawn = float(np.exp(rng.uniform(np.log(2), np.log(8))))
    share = rng.choice([-1.0, 0.0, 1.0], p=[0.3, 0.2, 0.5]) * 1.0
    share = float(rng.uniform(0.03, 0.6)) if share > 0 else float(share)
    return Params(
        seed=seed,
        wind=wind_drawn if wind is None else float(wind),
        wind_from_deg=float(rng.uniform(0, 360)),
        orbit="ascending" if ascending else "descending",
        look=look,
        density=density_drawn if density is None else float(density),
        land_share=share if land else -1.0,
        slick_share=float(rng.choice([0.0, rng.uniform(0.02, 0.4)])),
        calibration_db=(float(rng.uniform(-1, 1)), float(rng.uniform(-1, 1))),
        subpixel=(float(rng.uniform(0.1, 0.4)), float(rng.uniform(0.1, 0.4))),
        rfi=bool(rng.random() < 0.05),
    )


def _wedge(rng, shape, look: Look) -> np.ndarray:
    """Valid pixels of a rotated swath: up to two of its edges cross the scene, and leave three quarters of it."""
    valid = np.ones(shape, bool)
    if rng.random() > (0.8 if min(shape) >= 1024 else 0.25):
        return valid
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    columns = np.arange(shape[1], dtype=np.float32)[None, :]
    for position in rng.permutation([look.range_px, look.azimuth_px])[: int(rng.integers(1, 3))]:
        distance = position(rows, columns).astype(np.float32) * np.float32(rng.choice([-1, 1]))
        valid &= distance > np.quantile(distance[::8, ::8], rng.uniform(0.02, 0.13))
    return valid


def _land_ghosts(rng, signal, earth, look: Look) -> None:
    """Bright land shows again, 20 to 30 dB fainter, some five kilometres up and down the track."""
    step = look.ghost_px(signal.shape[0] / 2, signal.shape[1] / 2)
    level = np.float32(10 ** (-rng.uniform(20, 30) / 10))
    for sign in (-1, 1):
        dy, dx = round(sign * step * look.along[1]), round(sign * step * look.along[0])
        h, w = signal.shape
        if abs(dy) < h and abs(dx) < w:
            to = slice(max(0, dy), min(h, h + dy)), slice(max(0, dx), min(w, w + dx))
            of = slice(max(0, -dy), min(h, h - dy)), slice(max(0, -dx), min(w, w - dx))
            signal[to] += level * earth[of]


def _interfere(rng, signals, look: Look) -> None:
    """Radio interference: stripes along range, mostly in VH."""
    shape = signals[0].shape
    rows, columns = np.arange(shape[0], dtype=np.float32)[:, None], np.arange(shape[1], dtype=np.float32)[None, :]
    azimuth = look.azimuth_px(rows, columns)
    for _ in range(int(rng.integers(1, 5))):
        at, width = rng.uniform(azimuth.min(), azimuth.max()), np.exp(rng.uniform(0, 5))
        inside = np.abs(azimuth - at) < width / 2
        power = 10 ** ((-27 + rng.uniform(3, 20)) / 10)
        for signal, gain in zip(signals, (0.1, 1.0), strict=True):
            signal[inside] += np.float32(power * gain)


def _grid(rng, shape, params: Params, origin) -> tuple[GeoBox, datetime]:
    """A UTM grid somewhere at sea-going latitudes, and a morning or evening overpass in 2020."""
    lon, lat = (rng.uniform(-10, 20), rng.uniform(-5, 62)) if origin is None else origin
    zone = int(np.clip(np.floor((lon + 180) / 6) + 1, 1, 60))
    epsg = (32600 if lat >= 0 else 32700) + zone
    x, y = Transformer.from_crs("EPSG:4326", f"EPSG:{epsg}", always_xy=True).transform(lon, lat)
    hour = 17 if params.orbit == "ascending" else 6
    start = datetime(2020, 1, 14, hour, tzinfo=UTC)
    time = start + timedelta(days=int(rng.integers(0, 327)), seconds=int(rng.integers(-3600, 3600)))
    return GeoBox(shape, Affine(10, 0, round(x, 2), 0, -10, round(y, 2)), f"EPSG:{epsg}"), time
