"""The sea: mean backscatter by wind and incidence, and its texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xtgeo.simulate.fields import (
    Filter,
    coarse_shape,
    double,
    gamma_from_gaussian,
    half_window,
    kernel,
    local_field,
    narrow_band,
    power_law,
    spectral_field,
    spline,
)
from xtgeo.simulate.noise import Grain
from xtgeo.simulate.params import Params
from xtgeo.window import Window

WIND = np.array([1.0, 3, 5, 7, 10, 15, 20])
INCIDENCE = np.array([31.0, 34, 37, 40, 43, 46])
# CMOD5.N, mean over azimuth, for 3 m/s and more; the row of 1 m/s continues the table's slope.
VV_DB = np.array(
    [
        [-24.0, -26.3, -28.0, -29.5, -30.8, -32.0],
        [-17.6, -19.7, -21.4, -22.9, -24.2, -25.4],
        [-14.7, -16.7, -18.5, -20.0, -21.4, -22.5],
        [-12.7, -14.7, -16.4, -17.8, -19.0, -20.0],
        [-10.6, -12.3, -13.7, -15.0, -16.0, -16.9],
        [-7.9, -9.4, -10.6, -11.7, -12.6, -13.4],
        [-6.3, -7.6, -8.7, -9.7, -10.6, -11.3],
    ]
)
# The cross-polarised model is given at both ends of the swath; it is nearly straight between them.
VH_DB = np.array(
    [[-49.0, -49.5], [-43.9, -44.4], [-38.7, -39.3], [-35.2, -36.0], [-31.6, -32.4], [-27.6, -28.7], [-25.0, -26.4]]
)
UPWIND_DB = np.array([0.9, 1.2, 1.3, 1.5, 1.8, 1.9, 1.7])
CROSSWIND_DB = np.array([-1.0, -1.3, -1.5, -2.1, -2.8, -2.9, -2.3])

WIND_STEP, FILM_STEP = 32, 8
"""Pixels between the nodes of the wind field, and of the fields of rolls and films."""
TEXTURE_REACH = 32
"""Of the filter of swell and short waves, in pixels of 20 m."""
TEXTURE_STREAM = 3


def sigma0_db(wind, incidence, angle_deg=None):
    """Mean sigma0 of the sea in dB, (VV, VH).

    wind in m/s at 10 m height, incidence in degrees. `angle_deg` between wind and look: 0 upwind, 90 crosswind;
    None is the mean over all angles. Arrays broadcast.
    """
    wind, incidence = np.broadcast_arrays(np.clip(wind, 1, 20), np.clip(incidence, 31, 46))
    row = np.interp(wind, WIND, np.arange(len(WIND)))
    column = np.interp(incidence, INCIDENCE, np.arange(len(INCIDENCE)))
    vv = _bilinear(VV_DB, row, column)
    vh = _bilinear(VH_DB, row, column / (len(INCIDENCE) - 1))
    if angle_deg is not None:
        up, cross = np.interp(wind, WIND, UPWIND_DB), np.interp(wind, WIND, CROSSWIND_DB)
        vv = vv + (up + cross) / 2 + (up - cross) / 2 * np.cos(np.deg2rad(2 * angle_deg))
    return vv, vh


def _bilinear(table, row, column):
    r = np.minimum(row.astype(int), table.shape[0] - 2)
    c = np.minimum(column.astype(int), table.shape[1] - 2)
    fr, fc = row - r, column - c
    top = table[r, c] * (1 - fc) + table[r, c + 1] * fc
    bottom = table[r + 1, c] * (1 - fc) + table[r + 1, c + 1] * fc
    return top * (1 - fr) + bottom * fr


@dataclass(frozen=True, eq=False)
class Sea:
    """Sigma0 of the sea, any part of it."""

    grain: Grain
    wind: np.ndarray
    """m/s, every WIND_STEP pixels."""
    power: tuple[np.ndarray, np.ndarray]
    """Mean sigma0 of VV and VH, linear, every WIND_STEP pixels."""
    waves: Filter
    """Filter that makes swell and short waves of white noise, at every second pixel."""
    rolls: np.ndarray
    """Rolls of the wind, every FILM_STEP pixels; with the waves their variance is 1."""
    order: float
    """Of the Gamma distribution of the texture."""
    films: np.ndarray | None
    """Where surface films lie: under -1 inside, over 1 outside; every FILM_STEP pixels."""
    damping_db: float

    def draw(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Sigma0 without speckle, linear, (VV, VH), of a window that begins where a block does."""
        half = half_window(window)
        texture = local_field(self.grain.half, TEXTURE_STREAM, self.waves, half)
        texture += spline(self.rolls, FILM_STEP // 2, half)
        texture = gamma_from_gaussian(texture, self.order)
        if self.films is not None:
            inside = 1 / (1 + np.exp(np.clip(2 * spline(self.films, FILM_STEP // 2, half), -30, 30)))
            texture *= np.exp(inside * np.float32(-self.damping_db * np.log(10) / 10))
        texture = double(texture, window.shape)
        vv, vh = (spline(mean, WIND_STEP, window) * texture for mean in self.power)
        return vv, vh


def make_sea(rng: np.random.Generator, grain: Grain, params: Params) -> Sea:
    """The sea of a scene: wind, its direction and the share of films are the scene's; waves are drawn here."""
    shape, look = grain.shape, params.look
    wind = wind_field(rng, shape, params.wind)
    rows, columns = (np.arange(n)[:, None] * WIND_STEP for n in wind.shape)
    angle = params.wind_from_deg - (look.heading_deg + 90)
    power = sigma0_db(wind, look.incidence_deg(rows, columns.T), angle)
    waves, rolls = _waves(rng, shape, params)
    films, depth_db = _films(rng, shape, params), float(rng.uniform(4, 10))
    vv, vh = ((10 ** (db / 10)).astype(np.float32) for db in power)
    return Sea(grain, wind, (vv, vh), waves, rolls, params.texture, films, depth_db)


def wind_field(rng: np.random.Generator, shape: tuple[int, int], wind: float) -> np.ndarray:
    """Wind speed in m/s every WIND_STEP pixels: fractal variation of up to 12 %, as over 5 to 100 km."""
    coarse = coarse_shape(shape, WIND_STEP)
    strength = 0.12 * min(1.0, (max(shape) / 2000) ** 0.5)
    return (wind * np.exp(strength * spectral_field(rng, coarse, power_law(1.6)))).astype(np.float32)


def _waves(rng, shape, params: Params) -> tuple[Filter, np.ndarray]:
    """Filter of swell (100 to 400 m) and short irregular waves at 20 m, and the field of rolls (0.5 to 3 km).

    Fields that add up are one field whose spectrum is the sum: swell and short waves share their noise.
    """
    swell = narrow_band(rng.uniform(5, 20), rng.uniform(0, 180), 0.3, 20)
    # Rolls lie within 20 degrees of the wind, so their wave number stands across it.
    roll = narrow_band(rng.uniform(50, 300) / FILM_STEP, params.wind_from_deg + rng.uniform(-20, 20), 0.4, 15)
    short = power_law(1.0, longest=rng.uniform(10, 40), shortest=1.0)
    share = _shares(rng, params)
    waves = _together(share[[0, 2]], (swell, short))
    rolls = spectral_field(rng, coarse_shape(shape, FILM_STEP), roll) * np.float32(share[1])
    return waves, rolls


def _shares(rng, params: Params) -> np.ndarray:
    """Standard deviations of swell, rolls and short waves, together 1: swell of 0.5 to 2 dB, rolls of 0.5 to 1 dB if they fit."""
    whole_db = 10 / np.log(10) / np.sqrt(params.texture)
    long = np.array([rng.uniform(0.5, 2), rng.uniform(0.5, 1) * (1 if 4 < params.wind < 14 else 0.3)]) / whole_db
    long *= min(1.0, np.sqrt(0.8) / np.hypot(*long))
    return np.array([*long, np.sqrt(1 - (long**2).sum())])


def _together(shares, bands) -> Filter:
    """The filter whose power spectrum is the sum of those of the bands, with variances of shares squared."""
    norms = [kernel(band, TEXTURE_REACH).deviation for band in bands]

    def amplitude(fy, fx):
        return np.sqrt(sum((k / n * band(fy, fx)) ** 2 for k, n, band in zip(shares, norms, bands, strict=True)))

    return kernel(amplitude, TEXTURE_REACH).scaled(float(np.hypot(*shares)))


def _films(rng, shape, params: Params) -> np.ndarray | None:
    """Filaments and patches of surface film; none in strong wind."""
    field = spectral_field(rng, coarse_shape(shape, FILM_STEP), power_law(2.2, shortest=2.0))
    if params.slick_share <= 0 or params.wind > 8:
        return None
    edge = np.quantile(np.abs(field), min(params.slick_share, 0.5))
    return ((np.abs(field) - edge) / (0.3 * edge + 1e-6)).astype(np.float32)
