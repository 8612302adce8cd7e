"""What each object leaves in the picture: its own echo, azimuth ghosts, and sometimes a wake."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from xtgeo.simulate.geometry import Look
from xtgeo.simulate.targets import SHIPS, Plan, Ship, add, chip, draw_ship, outline

DOPPLER_PX = 11.6
"""Shift along the track, in pixels, of a target that comes nearer by 1 m/s: range over platform speed."""
NOISE_LEFT = 0.45
"""Share of the noise floor that removal leaves where there is no signal."""
_RING_PX = 6


def draw_objects(
    rng: np.random.Generator,
    plans: list[Plan],
    look: Look,
    signals: tuple[np.ndarray, np.ndarray],
    noise: tuple[np.ndarray, np.ndarray],
    valid: np.ndarray,
    subpixel: tuple[float, float],
) -> tuple[list[np.ndarray], list[Ship]]:
    """Sigma0 of all objects with ghosts, per polarisation, to be added after speckle; and the truth of each.

    Wakes are written into `signals`, which must not hold speckle or noise yet.
    """
    layers = [np.zeros(signal.shape, np.float32) for signal in signals]
    ships = []
    for plan in plans:
        # Radar pixel i lies at i - subpixel on the map.
        raw = replace(plan, row=plan.row + subpixel[0], column=plan.column + subpixel[1])
        if plan.kind == "cargo" and rng.random() < 0.07:
            _wake(rng, raw, look, signals)
        *parts, top, left = chip(rng, raw, look)
        contrast = []
        for layer, part, signal, floor in zip(layers, parts, signals, noise, strict=True):
            add(layer, part, top, left)
            _ghosts(rng, layer, part, top, left, look, raw)
            contrast.append(_contrast_db(raw, part, signal, floor))
        ships.append(_ship(plan, contrast, valid))
    return layers, ships


def draw_strays(rng: np.random.Generator, layers: list[np.ndarray], look: Look, density: float) -> None:
    """Ghosts of ships that lie beyond the scene's edge."""
    h, w = layers[0].shape
    reach = 600
    area = ((h + 2 * reach) * (w + 2 * reach) - h * w) / 1e6
    for _ in range(int(rng.poisson(density * area))):
        row, column = rng.uniform((-reach, -reach), (h + reach, w + reach))
        plan = draw_ship(rng, row, column, rng.uniform(0, 360))
        inside = 0 <= row < h and 0 <= column < w
        # Fainter ships have no ghost that could be seen.
        if inside or plan.rcs_vv_m2 < 3000 or not _haunts(plan, look, h, w):
            continue
        *parts, top, left = chip(rng, plan, look)
        for layer, part in zip(layers, parts, strict=True):
            _ghosts(rng, layer, part, top, left, look, plan)


def _haunts(plan: Plan, look: Look, h: int, w: int, margin: int = 100) -> bool:
    """Whether a ghost of the target falls on the scene."""
    distance = look.ghost_px(plan.row, plan.column)
    rows = (plan.row + sign * distance * look.along[1] for sign in (-1, 1))
    columns = (plan.column + sign * distance * look.along[0] for sign in (-1, 1))
    return any(-margin < y < h + margin and -margin < x < w + margin for y, x in zip(rows, columns, strict=True))


def _ghosts(rng, layer, part, top: int, left: int, look: Look, plan: Plan) -> None:
    """Azimuth ambiguities of a target: fainter by 20 to 30 dB, 2 or 3 pixels further in range."""
    distance, strongest = look.ghost_px(plan.row, plan.column), float(part.max())
    for sign in (-1, 1):
        far, level = rng.uniform(2, 3), 10 ** (-rng.uniform(20, 30) / 10)
        if strongest * level > 1e-3:
            x = left + sign * distance * look.along[0] + far * look.across[0]
            y = top + sign * distance * look.along[1] + far * look.across[1]
            add(layer, part, round(y), round(x), level)


def _contrast_db(plan: Plan, part: np.ndarray, signal: np.ndarray, floor: np.ndarray) -> float:
    """Peak over the mean of the surroundings, in dB, before speckle."""
    y, x = min(int(plan.row), signal.shape[0] - 1), min(int(plan.column), signal.shape[1] - 1)
    ring = signal[max(0, y - _RING_PX) : y + _RING_PX + 1, max(0, x - _RING_PX) : x + _RING_PX + 1]
    clutter = float(ring.mean()) + NOISE_LEFT * float(floor[y, x])
    return float(10 * np.log10(1 + part.max() / clutter))


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
