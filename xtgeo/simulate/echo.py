"""What each object leaves in the picture: its own echo, azimuth ghosts, and sometimes a wake.

All is planned for the whole scene and drawn where it touches. Positions are in pixels of the map; the radar's own grid, where
drawing is done, lies `subpixel` further up and left, so that its pixel i falls on i - subpixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from xtgeo.simulate.geometry import Look, axes
from xtgeo.simulate.params import Params
from xtgeo.simulate.recent import Recent
from xtgeo.simulate.targets import SHIPS, Ghost, Plan, Ship, add, chip, draw_ship, outline
from xtgeo.window import Window

NOISE_LEFT = 0.45
"""Share of the noise floor that removal leaves where there is no signal."""
_RING_PX = 6
_STRAY_PX = 600
"""How far beyond the scene's edge ships lie whose ghosts may fall into it."""
_FAINT_M2 = 3000.0
"""Ships of less have no ghost that could be seen."""
_LEAST = 1e-3
"""Peaks under it, in sigma0, are not worth drawing."""


@dataclass(frozen=True)
class Echo:
    """One drawing of an object: itself, or one of its ghosts."""

    target: int
    """Index of the object."""
    row: float
    column: float
    """Of its centre, on the map."""
    shift: tuple[int, int] = (0, 0)
    """Rows and columns between the object's chip and this drawing."""
    gains: tuple[float, float] = (1.0, 1.0)
    """Of VV and VH, linear."""
    is_ghost: bool = False


@dataclass(frozen=True)
class Wake:
    """A dark turbulent line astern and, for some, the bright arms of the Kelvin wedge.

    A moving ship is displaced along the track by its own motion; its wake stays where the ship was.
    """

    row: float
    column: float
    """Where the ship was, in the radar's grid."""
    heading_deg: float
    width_m: float
    length_px: float
    depth: float
    """Share of the sea's power that is missing right behind the ship."""
    arms: float
    """What the Kelvin arms add there, in shares of the sea's power."""

    def factor(self, window: Window) -> np.ndarray:
        """What the sea's power is multiplied by."""
        rows, columns = axes(window)
        x, y = columns + np.float32(0.5 - self.column), rows + np.float32(0.5 - self.row)
        h = np.deg2rad(self.heading_deg)
        ahead = float(np.sin(h)), float(-np.cos(h))
        astern, side = -(ahead[0] * x + ahead[1] * y), np.abs(-ahead[1] * x + ahead[0] * y)
        fade = np.exp(-np.abs(astern) / (0.5 * self.length_px)) * (astern > 0) * (astern < 3 * self.length_px)
        width = 0.8 + self.width_m / 20 + 0.01 * np.clip(astern, 0, None)
        factor = 1 - self.depth * fade * np.exp(-((side / width) ** 2))
        arm = side - astern * np.float32(np.tan(np.deg2rad(19.5)))
        return (factor + self.arms * fade * np.exp(-((arm / 1.5) ** 2))).astype(np.float32)

    @property
    def reach_px(self) -> float:
        return 1.5 * self.length_px


@dataclass(frozen=True, eq=False)
class Objects:
    """All objects of a scene and beside it, and what they leave where."""

    look: Look
    plans: tuple[Plan, ...]
    """In the radar's grid; those of the scene come first."""
    count: int
    """How many of them lie in the scene."""
    subpixel: tuple[float, float]
    seeds: tuple[np.random.SeedSequence, ...]
    """One for each plan's chip."""
    echoes: tuple[Echo, ...]
    wakes: tuple[Wake, ...]
    boxes: np.ndarray = field(init=False)
    """(n, 4): top, left, bottom, right of the echoes."""
    drawn: Recent = field(init=False, default_factory=lambda: Recent(512))
    """Chips of objects."""

    def __post_init__(self):
        radii = np.array([self.plans[e.target].radius_px() + 2 for e in self.echoes], float)
        places = np.array([(e.row, e.column) for e in self.echoes]).reshape(-1, 2)
        object.__setattr__(self, "boxes", np.c_[places - radii[:, None], places + radii[:, None]])

    def chip(self, target: int) -> tuple[np.ndarray, np.ndarray, int, int]:
        """(VV, VH, top, left) of an object alone."""
        return self.drawn.get(target, self._draw, target)

    def _draw(self, target: int):
        return chip(np.random.default_rng(self.seeds[target]), self.plans[target], self.look)

    def near(self, window: Window) -> np.ndarray:
        """Indices of the echoes that may touch a window."""
        return np.flatnonzero(_touching(self.boxes, window))

    def trail(self, signals: tuple[np.ndarray, ...], window: Window) -> None:
        """Writes wakes into the sea's power, in place."""
        for wake in self.wakes:
            y, x, reach = int(wake.row), int(wake.column), int(wake.reach_px)
            part = Window(y - reach, x - reach, 2 * reach, 2 * reach) & window
            if part:
                factor = wake.factor(part)
                for signal in signals:
                    signal[part.shift(-window.y, -window.x).slices] *= factor

    def add(self, band: int, image: np.ndarray, window: Window, indices: np.ndarray) -> None:
        """Adds echoes to the power of VV (band 0) or VH (1), in place."""
        for echo in (self.echoes[i] for i in indices):
            if not echo.is_ghost or self._peak(echo, band) > _LEAST:
                *parts, top, left = self.chip(echo.target)
                add(image, parts[band], top + echo.shift[0] - window.y, left + echo.shift[1] - window.x, echo.gains[band])

    def _peak(self, echo: Echo, band: int) -> float:
        return float(self.chip(echo.target)[band].max()) * echo.gains[band]

    def contrasts(self, indices: np.ndarray, signals, noise, window: Window, valid: np.ndarray) -> dict[int, tuple[float, float]]:
        """Peak over the mean of the surroundings in the window, in dB, before speckle, VV and VH, of echoes near it.

        Given are those whose centre lies on a valid pixel, but for ghosts too faint to be drawn.
        """
        out = {}
        for index in indices:
            echo = self.echoes[index]
            y, x = int(np.floor(echo.row)) - window.y, int(np.floor(echo.column)) - window.x
            peaks = [self._peak(echo, band) for band in (0, 1)]
            drawn = not echo.is_ghost or max(peaks) > _LEAST
            if drawn and 0 <= y < valid.shape[0] and 0 <= x < valid.shape[1] and valid[y, x]:
                levels = _clutter(signals, noise, y, x)
                out[int(index)] = tuple(float(10 * np.log10(1 + p / level)) for p, level in zip(peaks, levels, strict=True))
        return out

    def known(self, contrasts: dict[int, tuple[float, float]], valid: Callable) -> tuple[tuple[Ship, ...], tuple[Ghost, ...]]:
        """The truth about what was drawn, in the order of planning; `valid` says which (rows, columns) were measured."""
        told = [(self.echoes[i], contrast) for i, contrast in sorted(contrasts.items())]
        ships = tuple(self._ship(echo.target, contrast, valid) for echo, contrast in told if not echo.is_ghost)
        ghosts = (
            Ghost(echo.row, echo.column, *contrast, ship=echo.target if echo.target < self.count else None)
            for echo, contrast in told
            if echo.is_ghost
        )
        return ships, tuple(ghosts)

    def _ship(self, target: int, contrast: tuple[float, float], valid: Callable) -> Ship:
        dy, dx = self.subpixel
        plan = self.plans[target]
        plan = replace(plan, row=plan.row - dy, column=plan.column - dx)
        vessel, shape = plan.kind in SHIPS, outline(plan.hull)
        left, top, right, bottom = (int(np.floor(v)) for v in shape.bounds)
        y, x = np.arange(top, bottom + 1)[:, None], np.arange(left, right + 1)
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
            touches_nodata=not bool(valid(y, x).all()),
        )


def _touching(boxes: np.ndarray, window: Window) -> np.ndarray:
    top, left, bottom, right = boxes.T
    return (top < window.y + window.h) & (bottom > window.y) & (left < window.x + window.w) & (right > window.x)


def _clutter(signals, noise, y: int, x: int) -> list[float]:
    """Mean power around a pixel, as it is after noise removal, per polarisation."""
    ring = np.s_[max(0, y - _RING_PX) : y + _RING_PX + 1, max(0, x - _RING_PX) : x + _RING_PX + 1]
    return [float(s[ring].mean()) + NOISE_LEFT * float(n[ring].mean()) for s, n in zip(signals, noise, strict=True)]


def plan_echoes(rng: np.random.Generator, plans: list[Plan], params: Params, *, shape: tuple[int, int]) -> Objects:
    """Objects of a scene of a shape with their wakes and ghosts, and the ships beyond its edge that send ghosts in."""
    look, subpixel = params.look, params.subpixel
    here = [replace(plan, row=plan.row + subpixel[0], column=plan.column + subpixel[1]) for plan in plans]
    strays = _strays(rng, look, shape, params.density) if params.ghosts else []
    echoes = [Echo(i, plan.row, plan.column) for i, plan in enumerate(plans)]
    wakes = [_wake(rng, plan, look) for plan in here if plan.kind == "cargo" and rng.random() < 0.07]
    if params.ghosts:
        everything = enumerate([*here, *strays])
        echoes += [ghost for i, plan in everything for ghost in _ghosts(rng, i, plan, look, subpixel)]
    seeds = np.random.SeedSequence(int(rng.integers(2**63))).spawn(len(here) + len(strays))
    # A strong wind covers a ship's track within minutes.
    seen = tuple(wakes) if params.wind < 12 else ()
    return Objects(look, (*here, *strays), len(here), subpixel, tuple(seeds), tuple(echoes), seen)


def _strays(rng, look: Look, shape: tuple[int, int], density: float) -> list[Plan]:
    """Bright ships beyond the scene's edge, a ghost of which falls on it."""
    h, w = shape
    area, strays = ((h + 2 * _STRAY_PX) * (w + 2 * _STRAY_PX) - h * w) / 1e6, []
    for _ in range(int(rng.poisson(density * area))):
        row, column = rng.uniform((-_STRAY_PX, -_STRAY_PX), (h + _STRAY_PX, w + _STRAY_PX))
        plan = draw_ship(rng, row, column, rng.uniform(0, 360))
        inside = 0 <= row < h and 0 <= column < w
        if not inside and plan.rcs_vv_m2 >= _FAINT_M2 and _haunts(plan, look, h, w):
            strays.append(plan)
    return strays


def _haunts(plan: Plan, look: Look, h: int, w: int, margin: int = 100) -> bool:
    """Whether a ghost of the target falls on the scene."""
    distance = look.ghost_px(plan.row, plan.column)
    rows = (plan.row + sign * distance * look.along[1] for sign in (-1, 1))
    columns = (plan.column + sign * distance * look.along[0] for sign in (-1, 1))
    return any(-margin < y < h + margin and -margin < x < w + margin for y, x in zip(rows, columns, strict=True))


def _ghosts(rng, target: int, plan: Plan, look: Look, subpixel: tuple[float, float]) -> list[Echo]:
    """The azimuth ambiguities of a target, fainter by 20 to 30 dB, 2 or 3 pixels further in range."""
    distance, ghosts = look.ghost_px(plan.row, plan.column), []
    for sign in (-1, 1):
        far, (vv, vh) = rng.uniform(2, 3), 10 ** (-rng.uniform(20, 30, 2) / 10)
        dx = sign * distance * look.along[0] + far * look.across[0]
        dy = sign * distance * look.along[1] + far * look.across[1]
        shift = round(dy), round(dx)
        row, column = plan.row - subpixel[0] + shift[0], plan.column - subpixel[1] + shift[1]
        # A point that focuses by chance may be brighter than its mean, not ten times.
        if 10 * plan.peak * max(vv, vh) > _LEAST:
            ghosts.append(Echo(target, row, column, shift, (float(vv), float(vh)), is_ghost=True))
    return ghosts


def _wake(rng, plan: Plan, look: Look) -> Wake:
    speed = rng.uniform(3, 10)
    h = np.deg2rad(plan.heading_deg)
    away = float(np.sin(h) * look.across[0] - np.cos(h) * look.across[1])
    incidence = np.deg2rad(look.incidence_deg(plan.row, plan.column))
    shift = -look.doppler_px(plan.row, plan.column) * speed * away * float(np.sin(incidence))
    row, column = plan.row - shift * look.along[1], plan.column - shift * look.along[0]
    arms = float(rng.uniform(0.3, 1.0)) if rng.random() < 0.5 else 0.0
    return Wake(row, column, plan.heading_deg, plan.width_m, float(rng.uniform(100, 300)), float(rng.uniform(0.4, 0.8)), arms)
