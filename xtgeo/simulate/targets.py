"""Ships and fixed objects: what they are, how bright, and how the radar draws them.

A hull is a row of point scatterers with random phases; each is spread by the sensor's point response, a weighted
sinc of 20 m in range and 22 m in azimuth with sidelobes of about -21 dB, in the sensor's frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from shapely import Polygon
from shapely.affinity import affine_transform

from xtgeo.simulate.geometry import Look

PIXEL_M = 10.0
OUTLINE_MARGIN_PX = 1.0
"""Half a resolution cell: how far the truth outline lies outside the hull, on every side."""
DETECTABLE_DB = 7.0
"""Peak over the mean of its surroundings from which an object counts as detectable, in at least one polarisation.

Speckle of 4.4 looks exceeds its own mean by as much in one pixel of 200,000: what is fainter cannot be told from sea.
"""
_RANGE_SCALE = 1.005 / 2.0
_AZIMUTH_SCALE = 1.005 / 2.2


@dataclass(frozen=True)
class Ship:
    """An object with a known place; positions in pixels from the upper-left corner of the upper-left pixel."""

    outline: Polygon
    """Hull widened by half a resolution cell, (x, y) = (column, row) in pixels, where the picture shows it."""
    row: float
    column: float
    length_m: float
    width_m: float
    heading_deg: float
    """Of the bow, clockwise from north."""
    is_vessel: bool
    is_fishing: bool | None
    """None where the word makes no sense: objects that are not vessels."""
    kind: str
    """fishing, cargo, turbine, platform or buoy."""
    contrast_vv_db: float
    """Peak over surroundings, before speckle."""
    contrast_vh_db: float
    touches_nodata: bool = False
    """Its centre lies in a pixel without a measurement, or the outline reaches into one."""

    @property
    def detectable(self) -> bool:
        """Whether its peak stands DETECTABLE_DB over the surroundings in VV or VH."""
        return max(self.contrast_vv_db, self.contrast_vh_db) >= DETECTABLE_DB


@dataclass(frozen=True)
class Ghost:
    """An azimuth ambiguity: what looks like an object, kilometres along the track from a bright one, and is none."""

    row: float
    column: float
    contrast_vv_db: float
    """Peak over surroundings, before speckle."""
    contrast_vh_db: float
    ship: int | None
    """Index of its object among those of the scene; None where that lies beyond the scene's edge."""

    @property
    def detectable(self) -> bool:
        """Whether its peak stands DETECTABLE_DB over the surroundings in VV or VH."""
        return max(self.contrast_vv_db, self.contrast_vh_db) >= DETECTABLE_DB


@dataclass(frozen=True)
class Plan:
    """An object that is still to be drawn."""

    row: float
    column: float
    length_m: float
    width_m: float
    heading_deg: float
    kind: str
    rcs_vv_m2: float
    rcs_vh_m2: float
    smear: float = 1.0
    """How much wider than a still point it is in azimuth: the sea shakes ships while they are seen."""

    @property
    def hull(self) -> Polygon:
        return hull(self.row, self.column, self.length_m, self.width_m, self.heading_deg, pointed=self.kind in SHIPS)


    @property
    def peak(self) -> float:
        """Sigma0 in VV if it were one point."""
        return self.rcs_vv_m2 / (100 * _CELL_PX2)

    def radius_px(self, largest_share: float = 1.0) -> int:
        """How far from its centre it is drawn; sidelobes reach further where one point holds a larger share of its RCS."""
        peak = self.peak * largest_share
        reach = 8 if peak < 0.1 else 16 if peak < 3 else 32 if peak < 30 else 72
        return int(np.ceil(self.length_m / PIXEL_M / 2)) + reach


SHIPS = "fishing", "cargo"


def hull(
    row: float, column: float, length_m: float, width_m: float, heading_deg: float, pointed: bool = True
) -> Polygon:
    """A ship from above: a rectangle with a pointed bow, in pixel coordinates (x, y)."""
    half, side = length_m / PIXEL_M / 2, width_m / PIXEL_M / 2
    shoulder = half - min(side * 2, half) if pointed else half
    bow = [(half, 0.0)] if pointed else []
    corners = [(-half, -side), (shoulder, -side), *bow, (shoulder, side), (-half, side)]
    h = np.deg2rad(heading_deg)
    ahead, right = (np.sin(h), -np.cos(h)), (np.cos(h), np.sin(h))
    return affine_transform(Polygon(corners), [ahead[0], right[0], ahead[1], right[1], column, row])


def outline(hull: Polygon) -> Polygon:
    """The hull widened by OUTLINE_MARGIN_PX: what a mask at 10 m should cover, since the radar widens every hull."""
    return hull.buffer(OUTLINE_MARGIN_PX, join_style="mitre", mitre_limit=2.0)


LONGEST_FISHING_M = 90.0


def draw_ship(
    rng: np.random.Generator,
    row: float,
    column: float,
    heading_deg: float,
    longest_m: float = 450.0,
    lengths_m: tuple[float, float] | None = None,
) -> Plan:
    """A vessel with the lengths of the xView3 validation labels, or between `lengths_m`, evenly by their logarithm."""
    fishing = bool(rng.random() < 0.45)
    if lengths_m is None:
        mean, deviation = (3.17, 0.42) if fishing else (4.35, 0.68)
        length = float(np.exp(rng.normal(mean, deviation)))
    else:
        length = float(np.exp(rng.uniform(*np.log(lengths_m))))
        fishing = fishing and length <= LONGEST_FISHING_M
    length = float(np.clip(length, 7.0, longest_m))
    return vessel(rng, row, column, heading_deg, length, fishing=fishing)


def vessel(
    rng: np.random.Generator, row: float, column: float, heading_deg: float, length_m: float, *, fishing: bool = False
) -> Plan:
    """A vessel of a length; how wide and how bright it is is drawn.

    Median RCS 0.06 L**2.6 m2: between the usual 0.08 L**(7/3) for boats and what ships of 60 to 300 m show in
    calibrated GRD chips, which is some 4 dB more. VH lies about 11 dB lower.
    """
    width = float(max(2.5, length_m / rng.uniform(4.0, 5.5) if length_m < 40 else length_m / rng.uniform(5.5, 7.5)))
    vv = 0.06 * length_m**2.6 * 10 ** (rng.normal(0, 4.5) / 10)
    vh = vv * 10 ** (rng.normal(-11, 4) / 10)
    smear = float(rng.uniform(1.2, 2.5)) if rng.random() < 0.25 else 1.0
    return Plan(row, column, length_m, width, heading_deg, "fishing" if fishing else "cargo", vv, vh, smear)


def draw_fixed(rng: np.random.Generator, row: float, column: float, kind: str) -> Plan:
    """A turbine, platform or buoy; each has a typical peak in VV."""
    side, peak_db = {
        "turbine": (rng.uniform(8, 25), rng.uniform(10, 25)),
        "platform": (rng.uniform(30, 110), rng.uniform(12, 27)),
        "buoy": (rng.uniform(3, 8), rng.uniform(-10, 0)),
    }[kind]
    cells = max(1.0, (side / 25) ** 2)
    vv = 10 ** (peak_db / 10) * 100 * _CELL_PX2 * cells
    vh = vv * 10 ** (rng.normal(-10, 3) / 10)
    width = side * rng.uniform(0.6, 1.0)
    return Plan(row, column, side, width, float(rng.uniform(0, 360)), kind, vv, vh)


def scatterers(rng: np.random.Generator, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 2) as (ahead, right) in pixels from the centre, and shares (n,) of the object's RCS that sum to 1."""
    half, side = plan.length_m / PIXEL_M / 2, plan.width_m / PIXEL_M / 2
    if plan.kind not in SHIPS:
        n = 1 if plan.length_m < 25 else int(rng.integers(3, 9))
        places = rng.uniform(-1, 1, (n, 2)) * (half, side) * (0.8 if n > 1 else 0.0)
        share = rng.gamma(1.0, 1.0, n) + 0.05
        return places, share / share.sum()
    n = int(np.clip(3 + plan.length_m / 14, 3, 24))
    ahead = np.linspace(-0.92, 0.92, n) + rng.normal(0, 0.5 / n, n)
    places = np.stack([ahead * half, rng.uniform(-0.8, 0.8, n) * side * np.where(ahead > 0.7, 0.4, 1.0)], axis=1)
    share = rng.gamma(1.2, 1.0, n) + 0.1
    bridge = rng.choice([-0.7, 0.0, 0.75], p=[0.7, 0.15, 0.15])
    share *= 1 + rng.uniform(1, 6) * np.exp(-(((ahead - bridge) / 0.15) ** 2))
    share *= 1 + rng.uniform(0, 2) * np.exp(-(((ahead - 0.9) / 0.1) ** 2))
    return places, share / share.sum()


def point_response(x: np.ndarray) -> np.ndarray:
    """Amplitude of the taper-weighted sinc; 1 at zero, first sidelobe at about -21 dB.

    Further out its envelope: the ripples would beat against the 10-m grid, which real ones, resampled, do not.
    """
    return _RESPONSE[np.minimum(np.abs(x) * _RESPONSE_STEPS, len(_RESPONSE) - 1).astype(np.int32)]


def _response_table() -> np.ndarray:
    x = np.arange(0, 128, 1 / _RESPONSE_STEPS)
    side = (1 - _TAPER) / 2
    exact = (_TAPER * np.sinc(x) + side * (np.sinc(x - 1) + np.sinc(x + 1))) / _TAPER
    envelope = (2 * _TAPER - 1) / _TAPER / (np.pi * np.maximum(x, 1)) * np.sqrt(0.5)
    far = np.clip((x - 1.8) / 0.6, 0, 1)
    return (np.abs(exact) * (1 - far) + envelope * far).astype(np.float32)


_TAPER = 0.75
_RESPONSE_STEPS = 400
_RESPONSE = _response_table()


def _cell() -> float:
    x = np.arange(-200, 200, 0.05)
    energy = (point_response(x) ** 2).sum() * 0.05
    return float(energy / _RANGE_SCALE * energy / _AZIMUTH_SCALE)


_CELL_PX2 = _cell()
"""Area over which a point's energy is spread: a point of RCS s peaks at sigma0 = s / (100 m2 * _CELL_PX2)."""


def chip(
    rng: np.random.Generator, plan: Plan, look: Look, *, looks: int = 3
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """The object alone: sigma0 of VV and VH, linear, and the row and column of the chip's first pixel.

    Scatterers add with random phases that are new in each look; sidelobes of bright ones reach further than faint ones.
    """
    places, share = scatterers(rng, plan)
    radius = plan.radius_px(float(share.max()))
    top, left = int(np.floor(plan.row)) - radius, int(np.floor(plan.column)) - radius
    offset = np.arange(2 * radius + 1) + 0.5
    y = (offset + (top - plan.row)).astype(np.float32)[:, None]
    x = (offset + (left - plan.column)).astype(np.float32)[None, :]
    h = np.deg2rad(plan.heading_deg)
    sx = places[:, 0] * np.sin(h) + places[:, 1] * np.cos(h)
    sy = -places[:, 0] * np.cos(h) + places[:, 1] * np.sin(h)
    across, along = look.across, look.along
    r, a = across[0] * x + across[1] * y, along[0] * x + along[1] * y
    n = len(share)
    response = np.empty((n, r.size), np.float32)
    for i in range(n):
        near = point_response((r - across[0] * sx[i] - across[1] * sy[i]) * _RANGE_SCALE)
        near *= point_response((a - along[0] * sx[i] - along[1] * sy[i]) * (_AZIMUTH_SCALE / plan.smear))
        response[i] = near.ravel()
    answers = []
    for rcs in (plan.rcs_vv_m2, plan.rcs_vh_m2):
        mix = share * rng.gamma(2.0, 0.5, n)
        amplitude = np.sqrt(rcs * mix / mix.sum() / (100 * _CELL_PX2 * plan.smear)).astype(np.float32)
        phase = np.exp(2j * np.pi * rng.random((looks, n))).astype(np.complex64)
        field = (phase * amplitude) @ response
        answers.append((field.real**2 + field.imag**2).mean(axis=0).reshape(r.shape))
    return answers[0], answers[1], top, left


def add(image: np.ndarray, part: np.ndarray, top: int, left: int, gain: float = 1.0) -> None:
    """Adds a chip to an image, in place; what lies outside is cut off."""
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(image.shape[0], top + part.shape[0]), min(image.shape[1], left + part.shape[1])
    if y1 > y0 and x1 > x0:
        image[y0:y1, x0:x1] += np.float32(gain) * part[y0 - top : y1 - top, x0 - left : x1 - left]
