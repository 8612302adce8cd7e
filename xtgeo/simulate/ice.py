"""Sea ice: floes of many kinds with sharp edges, ridges, leads between them, open water beyond the edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xtgeo.simulate.fields import coarse_shape, power_law, spectral_field, spline
from xtgeo.simulate.params import Params
from xtgeo.window import Window

STEP = 8


@dataclass(frozen=True, eq=False)
class Ice:
    """Where ice lies and how bright; fields every STEP pixels."""

    edge: np.ndarray
    """Over 0 where there is ice."""
    floes: np.ndarray
    """In steps of 1: floes of one kind."""
    leads: np.ndarray
    """Near 0 where a crack runs."""
    bright_db: tuple[float, float]
    """Of VV and VH, floes of the middle kind."""

    def draw(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """(mask, VV, VH) of a window: True on ice, sigma0 linear; None where there is none."""
        ice = spline(self.edge, STEP, window) > 0
        if not ice.any():
            return None
        ice &= np.abs(spline(self.leads, STEP, window)) > 0.03
        level = spline(self.floes, STEP, window)
        kind = np.round(level).clip(-3, 3)
        ridges = np.abs(level - np.floor(level) - 0.5) < 0.03
        db = kind * np.float32(2.2) + ridges * np.float32(3)
        vv, vh = (10 ** ((db.clip(-6, 6) + np.float32(level)) / 10) for level in self.bright_db)
        return ice, vv, vh

    def at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Which places lie within the ice's edge, leads included."""
        return self.edge[np.round(rows / STEP).astype(int), np.round(columns / STEP).astype(int)] > 0


def make_ice(rng: np.random.Generator, shape: tuple[int, int], params: Params) -> Ice | None:
    """Ice over the scene's share of the picture; VV from -20 to -8 dB, VH from -28 to -18 dB."""
    if params.ice_share <= 0:
        return None
    coarse = coarse_shape(shape, STEP)
    edge = spectral_field(rng, coarse, power_law(1.9, shortest=0.5))
    edge -= np.quantile(edge, 1 - params.ice_share)
    floes = spectral_field(rng, coarse, power_law(1.2, longest=rng.uniform(15, 60), shortest=0.7)) * 1.5
    leads = spectral_field(rng, coarse, power_law(1.5, longest=rng.uniform(50, 300), shortest=0.7))
    return Ice(edge, floes, leads, (float(rng.normal(-14, 1)), float(rng.normal(-22.5, 1))))
