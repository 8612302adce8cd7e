"""What a scene is like: what a user may fix, and what was drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xtgeo.simulate.geometry import LINES, NESZ_2022, SWATH_PX, Footprint, Look, Nesz

NOISE_RULES = "snap", "clip", "none"
BUSY_PX = 64e6
"""Scenes larger than this have as many vessels as xView3's, not as many as a network learns from best."""


@dataclass(frozen=True)
class Conditions:
    """What else may be fixed about a scene, beside wind, density and land; None is drawn from the seed."""

    wind_from_deg: float | None = None
    """Clockwise from north."""
    orbit: str | None = None
    """ascending or descending."""
    slicks: float | None = None
    """Share of the sea that films keep smooth, up to 0.5; they last in winds up to 8 m/s."""
    texture: float | None = None
    """Order of the K distribution of the sea: 4 is spiky, 40 nearly speckle alone."""
    ice: float | None = None
    """Share of the sea under ice; drawn, it is 0 in 97 scenes of 100."""
    rfi: bool | None = None
    """Stripes of radio interference; drawn, in 5 scenes of 100."""
    border_px: float | None = None
    """Width of the swath's border where noise was never removed; drawn, it is 0 in 9 scenes of 10."""
    ghosts: bool = True
    """Azimuth ambiguities of ships and land."""
    structures: bool = True
    """Wind farms, platforms and buoys."""
    lengths_m: tuple[float, float] | None = None
    """Least and most length of vessels, drawn evenly by its logarithm; None: as in xView3, half of them below 40 m."""
    noise: str = "snap"
    """snap: the noise floor is taken off where something is left. clip: cut at zero. none: it stays."""
    nesz: Nesz = NESZ_2022

    def __post_init__(self):
        if self.noise not in NOISE_RULES:
            raise ValueError(f"unknown noise rule {self.noise!r}; choose {', '.join(NOISE_RULES)}")
        if self.orbit not in (None, "ascending", "descending"):
            raise ValueError(f"unknown orbit {self.orbit!r}; choose ascending or descending")
        for name in ("slicks", "ice"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, not {share}")
        if self.lengths_m is not None and not 5 <= self.lengths_m[0] <= self.lengths_m[1] <= 450:
            raise ValueError(f"lengths_m are two lengths from 5 to 450 m, the shorter one first, not {self.lengths_m}")
        if self.texture is not None and not self.texture >= 0.5:
            raise ValueError(f"the order of the texture is 0.5 or more, not {self.texture}")


@dataclass(frozen=True)
class Params:
    """What was drawn for a scene."""

    seed: int
    wind: float
    """m/s."""
    wind_from_deg: float
    """Clockwise from north."""
    orbit: str
    """ascending or descending."""
    look: Look
    density: float
    """Vessels per megapixel of open water."""
    land_share: float
    """0: islets and rocks only; negative: none."""
    slick_share: float
    texture: float
    """Order of the K distribution."""
    ice_share: float
    calibration_db: tuple[float, float]
    """Offset of VV and VH."""
    subpixel: tuple[float, float]
    """Where the resampling to the map grid falls between radar pixels, rows and columns."""
    rfi: bool
    border_px: float
    wind_missing: bool
    """No product of the wind goes with the scene."""
    ghosts: bool
    structures: bool
    lengths_m: tuple[float, float] | None
    noise: str


def draw_params(
    rng: np.random.Generator,
    shape: tuple[int, int],
    fixed: Conditions,
    *,
    seed: int,
    density: float | None,
    wind: float | None,
    land: bool | float,
) -> Params:
    """All that is drawn once for a scene; the same draws are made whatever is fixed."""
    orbit = "ascending" if rng.random() < 0.5 else "descending"
    orbit = fixed.orbit or orbit
    look = _look(rng, shape, orbit, fixed.nesz)
    drawn_wind = float(np.clip(rng.gamma(4.5, 1.5), 1, 18))
    low, high = (2, 8) if shape[0] * shape[1] <= BUSY_PX else (0.2, 1.2)
    drawn = {
        "wind_from_deg": float(rng.uniform(0, 360)),
        "density": float(np.exp(rng.uniform(np.log(low), np.log(high)))),
        "texture": float(np.exp(rng.uniform(np.log(4), np.log(40)))),
        "slicks": float(rng.choice([0.0, rng.uniform(0.02, 0.4)])),
        "ice": float(rng.uniform(0.1, 0.8) * (rng.random() < 0.03)),
        "rfi": bool(rng.random() < 0.05),
        "border_px": float(rng.uniform(3, 30) * (rng.random() < 0.1)),
    }
    share = _land_share(rng)
    said = {name: getattr(fixed, name, None) for name in drawn} | {"density": density}
    known = {name: drawn[name] if value is None else value for name, value in said.items()}
    return Params(
        seed=seed,
        wind=drawn_wind if wind is None else float(wind),
        wind_from_deg=float(known["wind_from_deg"]),
        orbit=orbit,
        look=look,
        density=float(known["density"]),
        land_share=share if land is True else -1.0 if land is False else float(land),
        slick_share=float(known["slicks"]),
        texture=float(known["texture"]),
        ice_share=float(known["ice"]),
        calibration_db=(float(rng.uniform(-1, 1)), float(rng.uniform(-1, 1))),
        subpixel=(float(rng.uniform(0.1, 0.4)), float(rng.uniform(0.1, 0.4))),
        rfi=bool(known["rfi"]),
        border_px=float(known["border_px"]),
        wind_missing=bool(rng.random() < 0.05),
        ghosts=fixed.ghosts,
        structures=fixed.structures,
        lengths_m=fixed.lengths_m,
        noise=fixed.noise,
    )


def _look(rng: np.random.Generator, shape: tuple[int, int], orbit: str, nesz: Nesz) -> Look:
    """The scene lies in the swath where it fits, and in its middle where it does not."""
    heading = (-12.0 if orbit == "ascending" else -168.0) + rng.normal(0, 0.7)
    low, high = _span(Look(heading, 0.0).range_px, shape)
    spare = SWATH_PX - (high - low)
    near = -low + (rng.uniform(0, 1) * spare if spare > 0 else spare / 2)
    offset = float(rng.choice([0.5, -0.5]) + rng.normal(0, 0.3))
    return Look(heading, float(near), offset, nesz, float(rng.random()))


def _land_share(rng: np.random.Generator) -> float:
    """None in three of ten scenes, islets alone in two, a coast in five."""
    kind, share = rng.random(), float(rng.uniform(0.03, 0.6))
    return -1.0 if kind < 0.3 else 0.0 if kind < 0.5 else share


def _span(position, shape: tuple[int, int]) -> tuple[float, float]:
    """Least and most of a linear function over the corners of a picture."""
    values = [float(position(y, x)) for y in (0, shape[0]) for x in (0, shape[1])]
    return min(values), max(values)


def draw_footprint(rng: np.random.Generator, shape: tuple[int, int], params: Params) -> Footprint:
    """Where the swath measured: up to two of its edges cross the scene; all four where it is larger than a product."""
    look = params.look
    limits = {"ranges": [-np.inf, np.inf], "lines": [-np.inf, np.inf]}
    rows, columns = np.meshgrid(np.linspace(0, shape[0], 65), np.linspace(0, shape[1], 65), indexing="ij")
    first, last = _span(look.azimuth_px, shape)
    if _span(look.range_px, shape)[1] - _span(look.range_px, shape)[0] > SWATH_PX:
        limits["ranges"] = [0.0, float(SWATH_PX)]
    if last - first > LINES:
        limits["lines"] = [(first + last - LINES) / 2, (first + last + LINES) / 2]
    crossed = rng.random() < (0.8 if min(shape) >= 1024 else 0.25)
    for name in rng.permutation(["ranges", "lines"])[: int(rng.integers(1, 3)) * crossed]:
        position = (look.range_px if name == "ranges" else look.azimuth_px)(rows, columns)
        side, share = int(rng.integers(2)), rng.uniform(0.02, 0.13)
        if not np.isfinite(limits[name][side]):
            limits[name][side] = float(np.quantile(position, 1 - share if side else share))
    # Runs of lines share a burst's start: the edge is a staircase rather than noise.
    steps = np.abs(rng.normal(0, 12 if params.border_px else 1.5, 128)).clip(0, 40)
    jags = steps[np.sort(rng.integers(0, 128, 512))].astype(np.float32)
    return Footprint(look, tuple(limits["ranges"]), tuple(limits["lines"]), jags, params.border_px)
