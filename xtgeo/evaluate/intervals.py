"""Numbers with the bounds that a bootstrap gives them (Efron 1979): percentiles over replicates drawn with replacement.

From five scenes on, whole scenes are drawn, since what lies in one scene is alike.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

FEW_SCENES = 4
"""So many scenes or fewer are too few to resample: two could give but three different answers."""


@dataclass(frozen=True)
class Figure:
    """A number and the bounds between which 95 % of the replicates lie; NaN where it is not defined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "-"
        return f"{self.value:.3f}" + ("" if np.isnan(self.low) else f" ({self.low:.3f} to {self.high:.3f})")


def draws(units: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """(units,) how often each counts: once at first, then as drawn with replacement, `resamples` times."""
    rng = np.random.default_rng(seed)
    yield np.ones(units)
    for _ in range(resamples):
        yield np.bincount(rng.integers(units, size=units), minlength=units).astype(float)


def figures(values: np.ndarray) -> list[list[Figure]]:
    """(1 + replicates, n, k) numbers, the first being the answer, as n lists of k figures; without replicates no bounds."""
    low = high = np.full(values.shape[1:], np.nan)
    if len(values) > 1:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All-NaN slice")  # what no replicate defines
            low, high = np.nanpercentile(values[1:], (2.5, 97.5), axis=0)
    return [[Figure(*map(float, three)) for three in zip(*row, strict=True)] for row in zip(values[0], low, high, strict=True)]


def plain(value: object) -> Any:
    """The same of values that JSON knows: None for what is no finite number."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
