"""The sea: mean backscatter by wind and incidence, and its texture."""

from __future__ import annotations

import numpy as np

from xtgeo.simulate.fields import (
    coarse_shape,
    gamma_from_gaussian,
    narrow_band,
    power_law,
    spectral_field,
    upsample,
)
from xtgeo.simulate.geometry import Look

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


def wind_field(rng: np.random.Generator, shape: tuple[int, int], wind: float, step: int = 16) -> np.ndarray:
    """Wind speed in m/s on a grid `step` times coarser: fractal variation of about 12 %, as over 5 to 100 km."""
    coarse = coarse_shape(shape, step)
    strength = 0.12 * min(1.0, (max(shape) / 2000) ** 0.5)
    return (wind * np.exp(strength * spectral_field(rng, coarse, power_law(1.6)))).astype(np.float32)


def sea(
    rng: np.random.Generator,
    shape: tuple[int, int],
    look: Look,
    *,
    wind: np.ndarray,
    wind_from_deg: float,
    slicks: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Sigma0 of the sea without speckle, linear, (VV, VH).

    `wind` is a coarse field in m/s; `slicks` the share of the surface that films keep smooth.
    """
    h, w = wind.shape
    rows, columns = np.linspace(0, shape[0], h)[:, None], np.linspace(0, shape[1], w)[None, :]
    angle = wind_from_deg - (look.heading_deg + 90)
    vv_db, vh_db = sigma0_db(wind, look.incidence_deg(rows, columns), angle)
    texture = _texture(rng, shape, float(wind.mean()), wind_from_deg)
    damping = _slicks(rng, shape, slicks, float(wind.mean()))
    if damping is not None:
        texture = texture * damping
    texture = upsample(texture, shape)
    vv = upsample(10 ** (vv_db / 10), shape)
    vh = upsample(10 ** (vh_db / 10), shape)
    vv *= texture
    vh *= texture
    return vv, vh


def _texture(rng, shape, wind: float, wind_from_deg: float) -> np.ndarray:
    """K-distributed modulation of mean 1 at half resolution: swell, wind streaks and short irregular waves."""
    half = coarse_shape(shape, 2)
    swell_px = rng.uniform(5, 20)  # 100 to 400 m, in pixels of 20 m
    swell = narrow_band(swell_px, rng.uniform(0, 180), 0.3, 20)
    streak_px = rng.uniform(25, 150)
    # Rolls lie within 20 degrees of the wind, so their wave number stands across it.
    streak = narrow_band(streak_px, wind_from_deg + rng.uniform(-20, 20), 0.4, 15)
    short = power_law(1.0, longest=rng.uniform(10, 60), shortest=1.0)
    weights = rng.uniform(0.2, 1.0) * np.array([rng.uniform(0, 1), 0.5 if 4 < wind < 14 else 0.15, rng.uniform(0.3, 1)])
    field = sum(k * spectral_field(rng, half, band) for k, band in zip(weights, (swell, streak, short), strict=True))
    order = np.exp(rng.uniform(np.log(4), np.log(40)))
    return gamma_from_gaussian(field / max(1e-6, float(field.std())), order)


def _slicks(rng, shape, share: float, wind: float) -> np.ndarray | None:
    """Damping of filaments and patches of surface film, linear, at half resolution; none in strong wind."""
    if share <= 0 or wind > 8:
        return None
    half = coarse_shape(shape, 2)
    quarter = coarse_shape(shape, 8)
    field = np.abs(spectral_field(rng, quarter, power_law(2.2, shortest=2.0)))
    edge = np.quantile(field, min(share, 0.5))
    depth_db = rng.uniform(4, 10)
    inside = 1 / (1 + np.exp(np.clip((field - edge) / (0.15 * edge + 1e-6), -30, 30)))
    return upsample((10 ** (-depth_db * inside / 10)).astype(np.float32), half)
