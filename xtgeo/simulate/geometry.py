"""How the satellite looks at the scene: directions in the picture, incidence, noise, azimuth ghosts, the swath's edges.

    ascending, heading -12 deg       x, y     pixels to the right and down (east and south)
          \\                         range    pixels of 10 m from the near edge of the swath, 0 to 25,000
           \\ -> range               azimuth  pixels along the flight

The figures are those of a Sentinel-1A IW GRDH product of 2022; others differ by a decibel or two.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from xtgeo.window import Window

SWATH_PX = 25_000
LINES = 19_500
"""Azimuth lines of one product."""
SEAMS_PX = 8_500, 17_300
"""Where IW1 | IW2 | IW3 meet, in pixels from the near edge."""
GHOST_PX = (500.0, 530.0), (450.0, 480.0), (560.0, 590.0)
"""Distance of azimuth ghosts along the track in each sub-swath, near to far, in pixels."""
SLANT_KM = 799.0, 956.0
"""Distance from the sensor at the near and far edge."""
SPEED_KM_S = 7.59
JAG_LINES = 40
"""Azimuth lines over which the swath's edge runs straight."""


@dataclass(frozen=True)
class Nesz:
    """Noise-equivalent sigma0 by incidence."""

    incidence_deg: tuple[float, ...]
    """Ascending; two entries close together make a jump, as where sub-swaths meet."""
    vv_db: tuple[float, ...]
    vh_db: tuple[float, ...]

    def __post_init__(self):
        if not len(self.incidence_deg) == len(self.vv_db) == len(self.vh_db) > 0:
            raise ValueError("a NESZ table needs as many decibels as angles, in VV and in VH")
        if (np.diff(self.incidence_deg) <= 0).any():
            raise ValueError("the angles of a NESZ table must ascend")


NESZ_2022 = Nesz(
    (30.8, 33.0, 35.0, 35.997, 35.9976, 37.0, 39.0, 41.0, 41.3263, 41.3269, 43.0, 45.0, 46.2),
    (-24.8, -25.4, -25.9, -26.3, -25.0, -26.0, -27.9, -27.1, -26.8, -29.5, -30.3, -28.9, -28.0),
    (-24.3, -24.9, -25.4, -25.9, -24.7, -25.6, -27.3, -26.7, -26.4, -29.3, -30.3, -28.7, -27.8),
)
"""Of a Sentinel-1A product of October 2022."""


@dataclass(frozen=True)
class Look:
    """Where the sensor is, as seen from the picture."""

    heading_deg: float
    """Flight direction, clockwise from north: about -12 (ascending) or -168 (descending)."""
    near_px: float
    """Range of the scene's upper-left corner, in pixels from the near edge of the swath."""
    noise_offset_db: float = 0.0
    """How much this instrument's noise floor lies over the table."""
    nesz: Nesz = NESZ_2022
    burst: float = 0.0
    """Where in a burst the scene's upper-left corner lies, 0 to 1."""

    @property
    def along(self) -> tuple[float, float]:
        """(x, y) of one pixel of flight."""
        h = np.deg2rad(self.heading_deg)
        return float(np.sin(h)), float(-np.cos(h))

    @property
    def across(self) -> tuple[float, float]:
        """(x, y) of one pixel away from the sensor, which looks to the right."""
        h = np.deg2rad(self.heading_deg)
        return float(np.cos(h)), float(np.sin(h))

    def range_px(self, row, column):
        return self.near_px + self.across[0] * column + self.across[1] * row

    def azimuth_px(self, row, column):
        return self.along[0] * column + self.along[1] * row

    def incidence_deg(self, row, column):
        return incidence_deg(self.range_px(row, column))

    def noise(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Noise-equivalent sigma0 of VV and VH, linear, with sub-swath jumps and scalloping along the track."""
        rows, columns = axes(window)
        index = np.clip(self.range_px(rows, columns), 0, SWATH_PX - 1).astype(np.intp)
        first = int(index.min())
        theta = incidence_deg(np.arange(first, int(index.max()) + 1))
        index -= first
        # A burst covers about 20 km of flight; noise rises toward its ends by up to 17 %.
        phase = self.azimuth_px(rows, columns) * np.float32(1 / 2000) + np.float32(self.burst)
        phase -= np.floor(phase)
        phase -= np.float32(0.5)
        phase *= phase
        phase *= np.float32(4 * 0.17)
        phase += np.float32(1)
        gain = 10 ** (self.noise_offset_db / 10)
        angles, tables = self.nesz.incidence_deg, (self.nesz.vv_db, self.nesz.vh_db)
        floors = (np.float32(gain * 10 ** (np.interp(theta, angles, db) / 10)) for db in tables)
        vv, vh = (floor.take(index) * phase for floor in floors)
        return vv, vh

    def ghost_px(self, row, column):
        """Distance along the track between a target and each of its first two azimuth ghosts; arrays broadcast."""
        r = np.clip(self.range_px(row, column), 0, SWATH_PX)
        swath = np.searchsorted(SEAMS_PX, r, side="right")
        edges, ghosts = np.array([0, *SEAMS_PX, SWATH_PX]), np.array(GHOST_PX)
        share = (r - edges[swath]) / (edges[swath + 1] - edges[swath])
        return ghosts[swath, 0] + (ghosts[swath, 1] - ghosts[swath, 0]) * share

    def doppler_px(self, row: float, column: float) -> float:
        """Shift along the track of a target that comes nearer, along the line of sight, by 1 m/s."""
        slant = np.interp(self.range_px(row, column), (0, SWATH_PX), SLANT_KM)
        return float(slant / SPEED_KM_S / 10)


def incidence_deg(range_px):
    """Incidence angle on the sea, in degrees, at a range in pixels from the near edge."""
    return 30.85 + 15.14 * np.clip(range_px, 0, SWATH_PX) / SWATH_PX


def axes(window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (y, 1) and column numbers (1, x) of a window, float32."""
    rows = np.arange(window.y, window.y + window.h, dtype=np.float32)[:, None]
    return rows, np.arange(window.x, window.x + window.w, dtype=np.float32)[None, :]


@dataclass(frozen=True, eq=False)
class Footprint:
    """Where the swath measured: between two ranges, whose edges are jagged, and two lines of flight."""

    look: Look
    ranges: tuple[float, float] = (-np.inf, np.inf)
    """In pixels from the near edge of the swath."""
    lines: tuple[float, float] = (-np.inf, np.inf)
    """Azimuth, in pixels."""
    jags: np.ndarray = field(default_factory=lambda: np.zeros(1, np.float32))
    """How far the measured range falls short in each run of JAG_LINES lines, in pixels; repeats."""
    dirt_px: float = 0.0
    """Width of the border where weak noise was recorded and never removed."""

    def valid(self, rows, columns) -> np.ndarray:
        """True where measured; arrays broadcast."""
        return self._depth(rows, columns) > -self.dirt_px

    def window(self, window: Window) -> np.ndarray:
        """(y, x), True where measured."""
        return np.ones(window.shape, bool) if self._covers(window) else self.valid(*axes(window))

    def fade(self, window: Window) -> np.ndarray | float:
        """What a border that was not cleaned leaves of the power: 1 inside, down to 0.001 outside the swath."""
        if not self.dirt_px or self._covers(window):
            return 1.0
        outside = np.clip(-self._depth(*axes(window)) / self.dirt_px, 0, 1)
        return (10 ** (-1.0 * (outside > 0) - 2.0 * outside)).astype(np.float32)

    def _depth(self, rows, columns) -> np.ndarray:
        """Distance in pixels to the nearest edge, negative outside."""
        r, a = self.look.range_px(rows, columns), self.look.azimuth_px(rows, columns)
        jag = self.jags[(np.floor(a / JAG_LINES)).astype(int) % len(self.jags)]
        across = np.minimum(r - self.ranges[0], self.ranges[1] - r) - jag
        return np.minimum(across, np.minimum(a - self.lines[0], self.lines[1] - a))

    def _covers(self, window: Window) -> bool:
        """Whether a window surely lies inside: its corners do, with the widest jag to spare."""
        y = np.array([window.y, window.y, window.y + window.h, window.y + window.h])
        x = np.array([window.x, window.x + window.w, window.x, window.x + window.w])
        r, a = self.look.range_px(y, x), self.look.azimuth_px(y, x)
        spare = float(self.jags.max())
        inside = (r - spare > self.ranges[0]) & (r + spare < self.ranges[1]) & (a > self.lines[0]) & (a < self.lines[1])
        return bool(inside.all())
