"""A Sentinel-1 scene that never was: sea, land, ships and everything that looks like ships, with the truth."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from xtgeo.simulate.echo import Objects, plan_echoes
from xtgeo.simulate.fleet import Fleet, fill
from xtgeo.simulate.geometry import Footprint
from xtgeo.simulate.ice import Ice, make_ice
from xtgeo.simulate.land import Berth, Land, make_land
from xtgeo.simulate.noise import Grain
from xtgeo.simulate.params import Conditions, Params, draw_footprint, draw_params
from xtgeo.simulate.plan import ScenePlan, Stripe, to_db
from xtgeo.simulate.sea import make_sea
from xtgeo.simulate.truth import SimulatedScene

__all__ = ["plan_sentinel1", "sentinel1", "to_db"]


def sentinel1(
    shape: tuple[int, int] = (4096, 4096),
    *,
    seed: int = 0,
    density: float | None = None,
    wind: float | None = None,
    land: bool | float = True,
    nodata: bool = True,
    origin: tuple[float, float] | None = None,
    conditions: Conditions = Conditions(),  # noqa: B008
) -> SimulatedScene:
    """A Sentinel-1 IW scene in VV and VH, sigma0 in dB at 10 m, with ships whose places and outlines are known.

    As `plan_sentinel1`, drawn at once into memory, by one thread: 10 bytes a pixel.
    """
    return plan_sentinel1(
        shape, seed=seed, density=density, wind=wind, land=land, nodata=nodata, origin=origin, conditions=conditions
    ).drawn()


def plan_sentinel1(
    shape: tuple[int, int] = (4096, 4096),
    *,
    seed: int = 0,
    density: float | None = None,
    wind: float | None = None,
    land: bool | float = True,
    nodata: bool = True,
    origin: tuple[float, float] | None = None,
    conditions: Conditions = Conditions(),  # noqa: B008
) -> ScenePlan:
    """A simulated scene whose pixels are drawn when they are read; memory hardly grows with its size.

    The same arguments give the same pixels, however they are read. `density` is vessels per megapixel of open water (None: 2
    to 8; beyond 64 Mpx 0.2 to 1.2, as in xView3), `wind` in m/s (None: 1 to 18), `origin` longitude and latitude of the
    upper-left corner in degrees. `land` may be its share of the scene (0: islets and rocks alone); False leaves out coast and
    islets, True draws. Without `nodata` every pixel is valid. Shapes from 64 x 64.

    Scores on such scenes say little about real ones.
    """
    if min(shape) < 64:
        raise ValueError(f"a simulated scene needs at least 64 pixels a side, not {shape[0]} x {shape[1]}")
    if not isinstance(land, bool) and not 0 <= land < 1:
        raise ValueError(f"land is True, False or a share from 0 to 1, not {land}")
    shape = int(shape[0]), int(shape[1])
    streams = np.random.default_rng([0x51, seed]).spawn(10)
    params = draw_params(streams[0], shape, conditions, seed=seed, density=density, wind=wind, land=land)
    grain = Grain.of(seed, (shape[0] + 1, shape[1] + 1))
    sea, ice = make_sea(streams[1], grain, params), make_ice(streams[2], grain.shape, params)
    ground, berths = None, []
    if params.land_share >= 0:
        ground, berths = make_land(streams[3], grain, params.look, params.land_share)
    drawn = draw_footprint(streams[4], shape, params)
    footprint = drawn if nodata else Footprint(params.look)
    grid, time = _grid(streams[5], shape, params, origin)
    return ScenePlan(
        params=params,
        grid=grid,
        time=time,
        grain=grain,
        sea=sea,
        land=ground,
        land_ghost=float(10 ** (-streams[6].uniform(20, 30) / 10)) * params.ghosts,
        ice=ice,
        footprint=footprint,
        objects=_populate(streams[7], streams[8], shape, params, footprint, ground, ice, berths),
        stripes=_stripes(streams[9], shape, params),
    )


def _populate(
    places: np.random.Generator,
    echoes: np.random.Generator,
    shape: tuple[int, int],
    params: Params,
    footprint: Footprint,
    land: Land | None,
    ice: Ice | None,
    berths: list[Berth],
) -> Objects:
    """Ships and fixed objects on open water, and what they leave in the picture."""

    def ashore(rows, columns) -> np.ndarray:
        return np.zeros(np.shape(rows), bool) if land is None else land.at(np.asarray(rows), np.asarray(columns))

    def afloat(rows, columns) -> np.ndarray:
        rows, columns = np.asarray(rows), np.asarray(columns)
        open_sea = footprint.valid(np.floor(rows), np.floor(columns)) & ~ashore(rows, columns)
        return open_sea if ice is None else open_sea & ~ice.at(rows, columns)

    # A few hundred places tell how much of the scene is open water.
    some = np.meshgrid(*((np.arange(32) + 0.5) / 32 * n for n in shape), indexing="ij")
    mpx = float(afloat(*some).mean()) * shape[0] * shape[1] / 1e6
    fleet = Fleet(shape, afloat, ashore)
    fill(places, fleet, berths, params, mpx=mpx)
    return plan_echoes(echoes, fleet.plans, params, shape=shape)


def _stripes(rng: np.random.Generator, shape: tuple[int, int], params: Params) -> tuple[Stripe, ...]:
    """Radio interference: a few stripes along range, 3 to 20 dB over the noise in VH; each of them comes in bursts."""
    stripes: list[Stripe] = []
    corners = [params.look.azimuth_px(y, x) for y in (0, shape[0]) for x in (0, shape[1])]
    for _ in range(int(rng.integers(1, 5)) * params.rfi):
        at, lines = rng.uniform(min(corners), max(corners)), float(np.exp(rng.uniform(0, 5)))
        power = 10 ** ((-27 + rng.uniform(3, 20)) / 10)
        for _ in range(int(rng.integers(1, 6))):
            wide, strong = rng.uniform((0.1, 0.2), 1)
            stripes.append(Stripe(float(at + rng.normal(0, 2 * lines)), float(lines * wide), float(power * strong)))
    return tuple(stripes)


def _grid(rng, shape, params: Params, origin) -> tuple[GeoBox, datetime]:
    """A UTM grid in the open Atlantic, or for ice in the Norwegian Sea, and a morning or evening overpass in 2020."""
    lon, lat = rng.uniform(-40, -32), rng.uniform(0, 62)  # no land there, which a coastline would find in a scene of sea
    if params.ice_share > 0:
        lon, lat = lon + 40, 64 + lat / 62 * 12
    if origin is not None:
        lon, lat = origin
    zone = int(np.clip(np.floor((lon + 180) / 6) + 1, 1, 60))
    epsg = (32600 if lat >= 0 else 32700) + zone
    x, y = Transformer.from_crs("EPSG:4326", f"EPSG:{epsg}", always_xy=True).transform(lon, lat)
    hour = 17 if params.orbit == "ascending" else 6
    start = datetime(2020, 1, 14, hour, tzinfo=UTC) - timedelta(seconds=round(240 * lon))
    time = start + timedelta(days=int(rng.integers(0, 327)), seconds=int(rng.integers(-3600, 3600)))
    return GeoBox(shape, Affine(10, 0, round(x, 2), 0, -10, round(y, 2)), f"EPSG:{epsg}"), time
