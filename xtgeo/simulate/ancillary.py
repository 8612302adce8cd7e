"""What is known about a scene besides its pixels: depth, masks and wind at 500 m, as xView3 has them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy.ndimage import distance_transform_edt

from xtgeo.simulate.ice import STEP as ICE_STEP
from xtgeo.simulate.ice import Ice
from xtgeo.simulate.land import NEVER, Land
from xtgeo.simulate.land import STEP as LAND_STEP
from xtgeo.simulate.params import Params
from xtgeo.simulate.sea import WIND_STEP

CELL_M = 500.0
NODATA = -32768.0
LAND, ICE = 1.0, 2.0
"""Classes of owiMask; open sea is 0."""


@dataclass(frozen=True, eq=False)
class Ancillary:
    """Rasters that share a grid of 500 m, which begins outside the scene and shares no edge with it."""

    rasters: dict[str, np.ndarray]
    """By the names of xView3's files: bathymetry in metres, negative at sea; owiMask; owiWindSpeed in m/s;
    owiWindDirection in degrees clockwise from north; owiWindQuality from 0, good, to 3. NODATA where unknown."""
    transform: Affine


def lay_out(grid: GeoBox, params: Params, *, wind: np.ndarray, land: Land | None, ice: Ice | None) -> Ancillary:
    """Ancillaries of a scene, from the fields that its pixels are made of; `wind` every WIND_STEP pixels."""
    h, w = grid.shape
    step, a = CELL_M / 10, grid.affine
    rows, columns = (-(-n // int(step)) + 1 for n in (h, w))
    y = np.clip((np.arange(rows) + 0.5) * step - 21.8, 0, h - 1)
    x = np.clip((np.arange(columns) + 0.5) * step - 17.3, 0, w - 1)

    def sample(field: np.ndarray, every: int) -> np.ndarray:
        return field[np.ix_(np.round(y / every).astype(int), np.round(x / every).astype(int))]

    relief = np.full((rows, columns), -2.5) if land is None else sample(land.height, LAND_STEP).astype(float)
    if land is not None and land.height.max() < -NEVER / 2:
        relief += NEVER - 3
    ashore = relief > 0
    frozen = np.zeros_like(ashore) if ice is None else (sample(ice.edge, ICE_STEP) > 0) & ~ashore
    # Models of the wind from the scene itself have nothing to say on land, in the cell next to it, and on ice.
    blind = distance_transform_edt(~ashore) <= 1 if ashore.any() else np.zeros_like(ashore)
    blind |= frozen | params.wind_missing
    rasters = {
        "bathymetry": np.where(ashore, 5 + 400 * relief, -2 + 60 * np.minimum(relief, 0) - 400 * relief**2),
        "owiMask": np.where(ashore, LAND, np.where(frozen, ICE, 0.0)),
        "owiWindSpeed": np.where(blind, NODATA, sample(wind, WIND_STEP)),
        "owiWindDirection": np.where(blind, NODATA, params.wind_from_deg),
        "owiWindQuality": np.where(blind, 3.0, 0.0),
    }
    place = Affine(CELL_M, 0, a.c - 173, 0, -CELL_M, a.f + 218)
    return Ancillary({name: values.astype(np.float32) for name, values in rasters.items()}, place)
