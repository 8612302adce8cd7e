"""Random bits that are a function of their place, and speckle made of them: any part of a scene can be drawn alone.

    0      reach           cell   cell + reach
    +--------+---------------+--------+---- ..     the lines along one axis; what lies between them is drawn at once, by a
    |  own   |      own      |  own   |            counter-based generator whose counter begins at the number of the piece
    +--------+---------------+--------+---- ..

A filter of `reach` + 1 taps that starts at its own pixel sees, for a whole cell, that cell and the first `reach` pixels of
the next ones: nine pieces, of which five are small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from xtgeo.window import Window

BLOCK = 512
"""Side in pixels of what is drawn at once."""
LOOKS = 0.115, 0.225, 0.320, 0.225, 0.115
"""Weights of the looks of an IW GRDH pixel; unequal, since the looks overlap: 4.4 equal ones would speckle alike."""
TAPS = 4
"""Order of the binomial filter of amplitudes: neighbours correlate by 0.64 in intensity, second neighbours by 0.16.

Calibrated GRD chips of ships' surroundings show 0.5 to 0.65 and 0 to 0.15; the bilinear map grid adds some 0.06.
"""
_GAIN = 2.0 * 70.0**2
"""Variance of a filtered count: that of 8 coins, times the sum of squares of (1 4 6 4 1) along both axes."""


@dataclass(frozen=True)
class Grain:
    """Random numbers with a place, for pixels from (0, 0) to `shape`."""

    key: tuple[int, int]
    """Of the generator; 64 bits each."""
    shape: tuple[int, int]
    cell: int = BLOCK

    @classmethod
    def of(cls, seed: int, shape: tuple[int, int]) -> Grain:
        first, second = np.random.SeedSequence([0x51, seed]).generate_state(2, np.uint64)
        return cls((int(first), int(second)), shape)

    @property
    def half(self) -> Grain:
        """For the grid of every second pixel."""
        return replace(self, shape=(self.shape[0] // 2 + 2, self.shape[1] // 2 + 2), cell=self.cell // 2)

    def bits(self, stream: int, window: Window, *, reach: int, layers: int = 1) -> np.ndarray:
        """(layers, y, x) uint8. The window may reach beyond the shape by `reach`, which belongs to the stream."""
        out = np.empty((layers, window.h, window.w), np.uint8)
        for iy, top, bottom in self._pieces(0, window.y, window.y + window.h, reach):
            for ix, left, right in self._pieces(1, window.x, window.x + window.w, reach):
                piece = self._draw(stream, (iy, ix), (layers, bottom - top, right - left))
                part = Window(top, left, bottom - top, right - left) & window
                y, x = part.shift(-window.y, -window.x).slices
                out[:, y, x] = piece[:, *part.shift(-top, -left).slices]
        return out

    def _pieces(self, axis: int, start: int, stop: int, reach: int) -> Iterator[tuple[int, int, int]]:
        """Number, begin and end of the pieces that overlap a span."""
        end = self.shape[axis] + reach
        for k in range(start // self.cell, -(-stop // self.cell)):
            lines = [min(end, k * self.cell + far) for far in (0, reach, self.cell)]
            for side in (0, 1):
                if lines[side] < stop and lines[side + 1] > start and lines[side] < lines[side + 1]:
                    yield 2 * k + side, lines[side], lines[side + 1]

    def _draw(self, stream: int, piece: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
        n = int(np.prod(shape))
        key = np.array([self.key[0], self.key[1] ^ stream], np.uint64)
        numbers = np.random.Philox(key=key, counter=np.array([0, 0, *piece], np.uint64))
        words = np.random.Generator(numbers).integers(0, 2**64 - 1, -(-n // 8), dtype=np.uint64, endpoint=True)
        return words.view(np.uint8)[:n].reshape(shape)

    def coins(self, stream: int, window: Window, *, reach: int, layers: int = 1) -> np.ndarray:
        """(layers, y, x) int8 of mean 0 and variance 2: heads less four of eight coins.

        Filtered over some twenty pixels they are Gaussian but for an excess kurtosis of -0.03.
        """
        heads = np.bitwise_count(self.bits(stream, window, reach=reach, layers=layers)).view(np.int8)
        heads -= 4
        return heads

    def uniform(self, stream: int, window: Window, *, reach: int) -> np.ndarray:
        """(y, x) float32 between 0 and 1, neither included."""
        digits = self.bits(stream, window, reach=reach, layers=3)
        return sum(digit * np.float32(256.0**-place) for place, digit in enumerate(digits, 1)) + np.float32(2.0**-26)


def speckle(grain: Grain, stream: int, window: Window) -> np.ndarray:
    """Multiplicative intensity speckle of mean 1 and 4.4 looks, correlated as in a 10-m GRD product; float32.

    A sum of looks, each the squared modulus of a filtered complex Gaussian field (Goodman 2007, ch. 3 and 4). Windows begin
    at a multiple of the grain's cell.
    """
    seen = Window(window.y, window.x, window.h + TAPS, window.w + TAPS)
    fields = grain.coins(stream, seen, reach=TAPS + 1, layers=2 * len(LOOKS))
    out = np.zeros(window.shape, np.float32)
    for number, field in enumerate(fields):
        amplitude = _binomial(field.astype(np.int16)).astype(np.float32)
        np.multiply(amplitude, amplitude, out=amplitude)
        amplitude *= np.float32(LOOKS[number // 2] / (2 * _GAIN))
        out += amplitude
    return out


def _binomial(field: np.ndarray) -> np.ndarray:
    """Sums over TAPS + 1 pixels along both axes with binomial weights; 16 bits hold nine standard deviations."""
    for _ in range(TAPS):
        field = field[1:] + field[:-1]
    for _ in range(TAPS):
        field = field[:, 1:] + field[:, :-1]
    return field
