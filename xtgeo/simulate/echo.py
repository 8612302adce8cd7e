"""What each object leaves in the picture: its own echo, azimuth ghosts, and sometimes a wake."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from xtgeo.simulate.geometry import Look
from xtgeo.simulate.targets import SHIPS, Ghost, Plan, Ship, add, chip, draw_ship, outline

DOPPLER_PX = 11.6
"""Shift along the track, in pixels, of a target that comes nearer by 1 m/s: range over platform speed."""
NOISE_LEFT = 0.45
"""Share of the noise floor that removal leaves where there is no signal."""
_RING_PX = 6


@dataclass(frozen=True)
class Surface:
    """What objects lie on, in radar pixels; pixel i of them lies at i - subpixel on the map."""

    signals: tuple[np.ndarray, np.ndarray]
    """Sigma0 of sea and land, per polarisation, before speckle."""
    noise: tuple[np.ndarray, np.ndarray]
    """Noise-equivalent sigma0, per polarisation."""
    valid: np.ndarray
    """On the map, True where measured."""
    subpixel: tuple[float, float]

    def contrast_db(self, row: float, column: float, peaks: list[float]) -> list[float]:
        """Peak over the mean of the surroundings, in dB, before speckle, per polarisation."""
        h, w = self.signals[0].shape
        y, x = min(max(int(row), 0), h - 1), min(max(int(column), 0), w - 1)
        ring = np.s_[max(0, y - _RING_PX) : y + _RING_PX + 1, max(0, x - _RING_PX) : x + _RING_PX + 1]
        clutter = [float(s[ring].mean()) + NOISE_LEFT * float(n[y, x]) for s, n in zip(self.signals, self.noise, strict=True)]
        return [float(10 * np.log10(1 + peak / level)) for peak, level in zip(peaks, clutter, strict=True)]


def draw_objects(
    rng: np.random.Generator, plans: list[Plan], look: Look, surface: Surface
) -> tuple[list[np.ndarray], list[Ship], list[Ghost]]:
    """Sigma0 of all objects with ghosts, per polarisation, to be added after speckle; and the truth of each.

    Wakes are written into the surface's signals.
    """
    layers = [np.zeros(signal.shape, np.float32) for signal in surface.signals]
    ships, ghosts = [], []
    for plan in plans:
        raw = replace(plan, row=plan.row + surface.subpixel[0], column=plan.column + surface.subpixel[1])
        if plan.kind == "cargo" and rng.random() < 0.07:
            _wake(rng, raw, look, surface.signals)
        *parts, top, left = chip(rng, raw, look)
        for layer, part in zip(layers, parts, strict=True):
            add(layer, part, top, left)
        contrast = surface.contrast_db(raw.row, raw.column, [float(part.max()) for part in parts])
        ships.append(_ship(plan, contrast, surface.valid))
        haunted = _ghosts(rng, layers, parts, (top, left), raw, look, surface)
        ghosts += [Ghost(*ghost, ship=len(ships) - 1) for ghost in haunted]
    return layers, ships, ghosts


def draw_strays(
    rng: np.random.Generator, layers: list[np.ndarray], look: Look, surface: Surface, density: float
) -> list[Ghost]:
    """Adds ghosts of ships that lie beyond the scene's edge."""
    h, w = layers[0].shape
    reach, ghosts = 600, []
    area = ((h + 2 * reach) * (w + 2 * reach) - h * w) / 1e6
    for _ in range(int(rng.poisson(density * area))):
        row, column = rng.uniform((-reach, -reach), (h + reach, w + reach))
        plan = draw_ship(rng, row, column, rng.uniform(0, 360))
        inside = 0 <= row < h and 0 <= column < w
        # Fainter ships have no ghost that could be seen.
        if inside or plan.rcs_vv_m2 < 3000 or not _haunts(plan, look, h, w):
            continue
        *parts, top, left = chip(rng, plan, look)
        ghosts += [Ghost(*g, ship=None) for g in _ghosts(rng, layers, parts, (top, left), plan, look, surface)]
    return ghosts


def _haunts(plan: Plan, look: Look, h: int, w: int, margin: int = 100) -> bool:
    """Whether a ghost of the target falls on the scene."""
    distance = look.ghost_px(plan.row, plan.column)
    rows = (plan.row + sign * distance * look.along[1] for sign in (-1, 1))
    columns = (plan.column + sign * distance * look.along[0] for sign in (-1, 1))
    return any(-margin < y < h + margin and -margin < x < w + margin for y, x in zip(rows, columns, strict=True))


def _ghosts(rng, layers, parts, corner: tuple[int, int], plan: Plan, look: Look, surface: Surface) -> list[tuple]:
    """Adds the azimuth ambiguities of a target, fainter by 20 to 30 dB, 2 or 3 pixels further in range.

    Of those that lie on valid pixels of the scene: row, column, contrast in VV and in VH.
    """
    distance, peaks = look.ghost_px(plan.row, plan.column), {-1: [], 1: []}
    for layer, part in zip(layers, parts, strict=True):
        strongest = float(part.max())
        for sign in peaks:
            far, level = rng.uniform(2, 3), 10 ** (-rng.uniform(20, 30) / 10)
            if strongest * level > 1e-3:
                x = corner[1] + sign * distance * look.along[0] + far * look.across[0]
                y = corner[0] + sign * distance * look.along[1] + far * look.across[1]
                add(layer, part, round(y), round(x), level)
            peaks[sign].append(strongest * level)
    ghosts = []
    for sign, both in peaks.items():
        row = plan.row + sign * distance * look.along[1] + 2.5 * look.across[1]
        column = plan.column + sign * distance * look.along[0] + 2.5 * look.across[0]
        y, x = int(np.floor(row - surface.subpixel[0])), int(np.floor(column - surface.subpixel[1]))
        h, w = surface.valid.shape
        if max(both) > 1e-3 and 0 <= y < h and 0 <= x < w and surface.valid[y, x]:
            contrast = surface.contrast_db(row, column, both)
            ghosts.append((row - surface.subpixel[0], column - surface.subpixel[1], *contrast))
    return ghosts


def _wake(rng, plan: Plan, look: Look, signals) -> None:
    """A dark turbulent line astern and, in one of two, the bright arms of the Kelvin wedge, in place.

    The ship itself is displaced along the track by its own motion; the wake stays where it is.
    """
    speed = rng.uniform(3, 10)
    h = np.deg2rad(plan.heading_deg)
    ahead = float(np.sin(h)), float(-np.cos(h))
    away = ahead[0] * look.across[0] + ahead[1] * look.across[1]
    incidence = np.deg2rad(look.incidence_deg(plan.row, plan.column))
    shift = -DOPPLER_PX * speed * away * float(np.sin(incidence))
    row, column = plan.row - shift * look.along[1], plan.column - shift * look.along[0]
    reach = int(rng.uniform(100, 300))
    y0, x0 = max(0, int(row) - reach), max(0, int(column) - reach)
    part = np.s_[y0 : max(y0, int(row) + reach), x0 : max(x0, int(column) + reach)]
    y, x = np.indices(signals[0][part].shape, dtype=np.float32)
    x, y = x + (x0 + 0.5 - column), y + (y0 + 0.5 - row)
    astern, side = -(ahead[0] * x + ahead[1] * y), np.abs(-ahead[1] * x + ahead[0] * y)
    fade = np.exp(-astern / (0.5 * reach)) * (astern > 0)
    width = 0.8 + plan.width_m / 20 + 0.01 * np.clip(astern, 0, None)
    factor = 1 - rng.uniform(0.4, 0.8) * fade * np.exp(-((side / width) ** 2))
    if rng.random() < 0.5:
        arm = side - astern * np.float32(np.tan(np.deg2rad(19.5)))
        factor = factor + rng.uniform(0.3, 1.0) * fade * np.exp(-((arm / 1.5) ** 2))
    for signal in signals:
        signal[part] *= factor.astype(np.float32)


def _ship(plan: Plan, contrast: list[float], valid: np.ndarray) -> Ship:
    vessel = plan.kind in SHIPS
    shape = outline(plan.hull)
    left, top, right, bottom = (int(v) for v in shape.bounds)
    seen = valid[max(0, top) : bottom + 1, max(0, left) : right + 1]
    return Ship(
        outline=shape,
        row=plan.row,
        column=plan.column,
        length_m=plan.length_m,
        width_m=plan.width_m,
        heading_deg=plan.heading_deg,
        is_vessel=vessel,
        is_fishing=plan.kind == "fishing" if vessel else None,
        kind=plan.kind,
        contrast_vv_db=contrast[0],
        contrast_vh_db=contrast[1],
        touches_nodata=not bool(seen.all()),
    )
