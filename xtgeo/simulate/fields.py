"""Random fields, float32, (y, x): power-law clouds, narrow bands, and what interpolates and shapes them.

Long waves are made at once on a coarse grid and interpolated; short ones where they are wanted, by a filter of finite reach.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.special import gammaincinv, ndtr

from xtgeo.simulate.noise import Grain
from xtgeo.simulate.recent import Recent
from xtgeo.window import Window


def spectral_field(
    rng: np.random.Generator, shape: tuple[int, int], amplitude: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """A Gaussian field with mean 0 and variance 1 whose spectrum has the given amplitude.

    `amplitude(fy, fx)` takes frequencies in cycles per pixel that broadcast against each other.
    """
    return cloud(rng, shape, amplitude)[0]


def cloud(rng: np.random.Generator, shape: tuple[int, int], amplitude: Callable) -> tuple[np.ndarray, float]:
    """As `spectral_field`, and the factor that took white noise of variance 1, filtered by the amplitude, to it."""
    # The field of an FFT is periodic: a margin is made and cut off, so that opposite edges differ.
    h, w = (next_fast_len(n + max(16, n // 8), real=True) for n in shape)
    fy = np.fft.fftfreq(h).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(w).astype(np.float32)[None, :]
    spectrum = rfft2(rng.standard_normal((h, w), dtype=np.float32))
    spectrum *= amplitude(fy, fx)
    spectrum[0, 0] = 0
    image = irfft2(spectrum, s=(h, w))[: shape[0], : shape[1]]
    factor = 1 / max(1e-12, float(image.std()))
    return (image - image.mean()) * np.float32(factor), factor


def power_law(exponent: float, longest: float = np.inf, shortest: float = 0.0) -> Callable:
    """Spectral amplitude f**-exponent flat above the longest wavelength in pixels, none under the shortest."""

    def amplitude(fy, fx):
        f = np.maximum(np.hypot(fy, fx), 1e-6)
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


@dataclass(frozen=True, eq=False)
class Filter:
    """A filter of finite reach, for noise that is made where it is wanted."""

    taps: np.ndarray
    """(2 reach + 1, 2 reach + 1) float32."""
    spectra: Recent = field(init=False, default_factory=lambda: Recent(16))
    """Of the taps, by the shape of the transform."""

    @property
    def deviation(self) -> float:
        """Of white noise of variance 1 once it is filtered."""
        return float(np.sqrt((self.taps**2).sum()))

    def scaled(self, deviation: float) -> Filter:
        return Filter(self.taps * np.float32(deviation / self.deviation))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The filtered image, without the pixels at its edge that would see beyond it."""
        shape = tuple(next_fast_len(n, real=True) for n in image.shape)
        # What wraps around falls on the first pixels only, and those are cut off.
        lost = self.taps.shape[0] - 1
        spectrum = rfft2(image, s=shape)
        spectrum *= self.spectra.get(shape, rfft2, self.taps, shape)
        return irfft2(spectrum, s=shape)[lost : image.shape[0], lost : image.shape[1]]


def kernel(amplitude: Callable, reach: int) -> Filter:
    """The filter of 2 `reach` + 1 pixels a side that gives white noise the amplitude, faded out towards its edge."""
    n = 2 * reach + 1
    spectrum = np.broadcast_to(amplitude(np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None, :]), (n, reach + 1))
    taps = np.fft.fftshift(irfft2(spectrum, s=(n, n)))
    fade = np.cos(np.pi / 2 * np.arange(-reach, reach + 1) / (reach + 1))
    return Filter((taps * fade[:, None] * fade).astype(np.float32))


def local_field(grain: Grain, stream: int, waves: Filter, window: Window, *, halo: int = 0) -> np.ndarray:
    """White noise of variance 1 filtered, over the window and `halo` more on each side."""
    wide = waves.taps.shape[0] - 1 + 2 * halo
    noise = grain.coins(stream, Window(window.y, window.x, window.h + wide, window.w + wide), reach=wide + 1)
    return waves(noise[0] * np.float32(np.sqrt(0.5)))


def coarse_shape(shape: tuple[int, int], step: int) -> tuple[int, int]:
    """Nodes, `step` pixels apart from pixel (0, 0) on, that surround a picture."""
    return max(2, -(-shape[0] // step) + 1), max(2, -(-shape[1] // step) + 1)


def spline(coarse: np.ndarray, step: int, window: Window) -> np.ndarray:
    """The cubic B-spline of a field given every `step` pixels, at the pixels of a window: smooth, and positive where it is."""
    (y, rows), (x, columns) = (
        _spline_weights(start, count, step, nodes)
        for start, count, nodes in zip((window.y, window.x), window.shape, coarse.shape, strict=True)
    )
    part = coarse[y : y + rows.shape[1], x : x + columns.shape[1]]
    return rows @ np.ascontiguousarray(part, np.float32) @ columns.T


@lru_cache(maxsize=512)
def _spline_weights(start: int, count: int, step: int, nodes: int) -> tuple[int, np.ndarray]:
    """First node, and the weight (pixels, nodes) of it and those that follow; beyond the last node the field stays as it is."""
    position = (start + np.arange(count)) / step
    first, t = np.floor(position).astype(int), position % 1
    weights = (1 - t) ** 3 / 6, (4 - 6 * t**2 + 3 * t**3) / 6, (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6, t**3 / 6
    index = np.clip(first + np.arange(-1, 3)[:, None], 0, nodes - 1)
    matrix = np.zeros((count, int(np.ptp(index)) + 1), np.float32)
    for i, weight in zip(index - index.min(), weights, strict=True):
        matrix[np.arange(count), i] += weight.astype(np.float32)
    return int(index.min()), matrix


def double(half: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bilinear interpolation of a field given at every second pixel."""
    rows = np.empty((shape[0], half.shape[1]), np.float32)
    rows[::2] = half[: len(rows[::2])]
    rows[1::2] = (half[:-1] + half[1:])[: len(rows[1::2])] * np.float32(0.5)
    out = np.empty(shape, np.float32)
    out[:, ::2] = rows[:, : out[:, ::2].shape[1]]
    out[:, 1::2] = (rows[:, :-1] + rows[:, 1:])[:, : out[:, 1::2].shape[1]] * np.float32(0.5)
    return out


def half_window(window: Window) -> Window:
    """What `double` needs for a window that begins at even pixels."""
    return Window(window.y // 2, window.x // 2, window.h // 2 + 1, window.w // 2 + 1)


def gamma_from_gaussian(field: np.ndarray, order: float) -> np.ndarray:
    """The field with its Gaussian marginal (0, 1) turned into a Gamma of mean 1 and variance 1 / order."""
    index = np.clip((field + 6.0) * (4095 / 12.0), 0, 4095).astype(np.int16)
    return _gamma_table(round(float(order), 2))[index]


@lru_cache(maxsize=256)
def _gamma_table(order: float) -> np.ndarray:
    return (gammaincinv(order, ndtr(np.linspace(-6, 6, 4096))) / order).astype(np.float32)
