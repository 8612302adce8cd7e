"""Random fields: power-law clouds, narrow bands, speckle. All float32, (y, x), deterministic in the generator given.

Large structures are made on a coarse grid and interpolated; only speckle and coasts are made pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import gaussian_filter
from scipy.special import gammaincinv, ndtr

LOOKS = 4.4
"""Equivalent number of looks of an IW GRDH pixel."""
SPECKLE_SIGMA_PX = 0.8
"""Width of the kernel that correlates speckle: neighbours 10 m apart then correlate by 0.66 in intensity.

Real calibrated GRD chips show 0.55 to 0.65; resampling to the map grid adds some 0.05.
"""


def spectral_field(
    rng: np.random.Generator, shape: tuple[int, int], amplitude: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """A Gaussian field with mean 0 and variance 1 whose spectrum has the given amplitude.

    `amplitude(fy, fx)` takes frequencies in cycles per pixel that broadcast against each other.
    """
    # The field of an FFT is periodic: a margin is made and cut off, so that opposite edges differ.
    h, w = (next_fast_len(n + max(16, n // 8), real=True) for n in shape)
    fy = np.fft.fftfreq(h).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(w).astype(np.float32)[None, :]
    spectrum = rfft2(rng.standard_normal((h, w), dtype=np.float32))
    spectrum *= amplitude(fy, fx)
    spectrum[0, 0] = 0
    field = irfft2(spectrum, s=(h, w))[: shape[0], : shape[1]]
    deviation = field.std()
    return (field - field.mean()) / deviation if deviation > 0 else field


def power_law(exponent: float, longest: float = np.inf, shortest: float = 0.0) -> Callable:
    """Spectral amplitude f**-exponent flat above the longest wavelength in pixels, none under the shortest."""

    def amplitude(fy, fx):
        f = np.hypot(fy, fx)
        f = np.maximum(f, 1e-6)
        low = np.hypot(f, 1 / longest) if np.isfinite(longest) else f
        return low**-exponent * np.exp(-((f * shortest) ** 2))

    return amplitude


def narrow_band(wavelength: float, direction_deg: float, bandwidth: float = 0.25, spread_deg: float = 15.0) -> Callable:
    """Spectral amplitude of waves of about one length, in pixels, and about one direction, in degrees from +x to +y."""

    def amplitude(fy, fx):
        f = np.hypot(fy, fx)
        angle = np.arctan2(fy, fx) - np.deg2rad(direction_deg)
        off = np.angle(np.exp(2j * angle)) / 2
        radial = np.exp(-(((f * wavelength - 1) / bandwidth) ** 2) / 2)
        return (radial * np.exp(-((off / np.deg2rad(spread_deg)) ** 2) / 2)).astype(np.float32)

    return amplitude


def upsample(coarse: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bilinear interpolation of a coarse field over a finer grid, corner to corner."""

    def weights(n_coarse: int, n: int):
        position = np.linspace(0, n_coarse - 1, n, dtype=np.float32)
        first = np.minimum(position.astype(np.intp), max(0, n_coarse - 2))
        return first, np.minimum(first + 1, n_coarse - 1), position - first

    y0, y1, fy = weights(coarse.shape[0], shape[0])
    x0, x1, fx = weights(coarse.shape[1], shape[1])
    coarse = coarse.astype(np.float32, copy=False)
    wide = coarse[:, x0] * (1 - fx) + coarse[:, x1] * fx
    fine = wide[y0]
    fine += (wide[y1] - fine) * fy[:, None]
    return fine


def coarse_shape(shape: tuple[int, int], step: int) -> tuple[int, int]:
    return max(2, -(-shape[0] // step) + 1), max(2, -(-shape[1] // step) + 1)


def gamma_from_gaussian(field: np.ndarray, order: float) -> np.ndarray:
    """The field with its Gaussian marginal (0, 1) turned into a Gamma of mean 1 and variance 1 / order."""
    index = np.clip((field + 6.0) * (4095 / 12.0), 0, 4095).astype(np.int16)
    return _gamma_table(round(float(order), 2))[index]


@lru_cache(maxsize=256)
def _gamma_table(order: float) -> np.ndarray:
    return (gammaincinv(order, ndtr(np.linspace(-6, 6, 4096))) / order).astype(np.float32)


def speckle(rng: np.random.Generator, shape: tuple[int, int], looks: float = LOOKS) -> np.ndarray:
    """Multiplicative intensity speckle of mean 1, Gamma with `looks` looks, correlated as in a 10-m GRD product.

    A Gaussian field is made once and its marginal replaced, instead of averaging looks: the same distribution
    and nearly the same correlation at a fifth of the cost.
    """
    field = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), SPECKLE_SIGMA_PX, mode="wrap", truncate=3.5)
    return gamma_from_gaussian(field * (1 / _filter_gain()), looks)


@lru_cache(maxsize=1)
def _filter_gain() -> float:
    impulse = np.zeros((15, 15))
    impulse[7, 7] = 1
    return float(np.sqrt((gaussian_filter(impulse, SPECKLE_SIGMA_PX, truncate=3.5) ** 2).sum()))
