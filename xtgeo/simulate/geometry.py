"""How the satellite looks at the scene: directions in the picture, incidence, noise, azimuth ghosts.

    ascending, heading -12 deg       x, y     pixels to the right and down (east and south)
          \\                         range    pixels of 10 m from the near edge of the swath, 0 to 25,000
           \\ -> range               azimuth  pixels along the flight

The figures are those of a Sentinel-1A IW GRDH product of 2022; others differ by a decibel or two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SWATH_PX = 25_000
SEAMS_PX = 8_500, 17_300
"""Where IW1 | IW2 | IW3 meet, in pixels from the near edge."""
GHOST_PX = (500.0, 530.0), (450.0, 480.0), (560.0, 590.0)
"""Distance of azimuth ghosts along the track in each sub-swath, near to far, in pixels."""
_NESZ_DEG = 30.8, 33.0, 35.0, 35.997, 35.9976, 37.0, 39.0, 41.0, 41.3263, 41.3269, 43.0, 45.0, 46.2
_NESZ_VV_DB = -24.8, -25.4, -25.9, -26.3, -25.0, -26.0, -27.9, -27.1, -26.8, -29.5, -30.3, -28.9, -28.0
_NESZ_VH_DB = -24.3, -24.9, -25.4, -25.9, -24.7, -25.6, -27.3, -26.7, -26.4, -29.3, -30.3, -28.7, -27.8


@dataclass(frozen=True)
class Look:
    """Where the sensor is, as seen from the picture."""

    heading_deg: float
    """Flight direction, clockwise from north: about -12 (ascending) or -168 (descending)."""
    near_px: float
    """Range of the scene's upper-left corner, in pixels from the near edge of the swath."""
    noise_offset_db: float = 0.0
    """How much this instrument's noise floor lies over the table."""

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

    def noise(self, shape: tuple[int, int], seed_phase: float) -> tuple[np.ndarray, np.ndarray]:
        """Noise-equivalent sigma0 of VV and VH, linear, with sub-swath jumps and scalloping along the track."""
        rows = np.arange(shape[0], dtype=np.float32)[:, None]
        columns = np.arange(shape[1], dtype=np.float32)[None, :]
        index = np.clip(self.range_px(rows, columns), 0, SWATH_PX - 1).astype(np.int32)
        theta = incidence_deg(np.arange(SWATH_PX))
        # A burst covers about 20 km of flight; noise rises toward its ends by up to 17 %.
        phase = (self.azimuth_px(rows, columns) * np.float32(1 / 2000) + np.float32(seed_phase)) % 1.0
        scallop = 1 + 0.17 * (2 * phase - 1) ** 2
        gain = 10 ** (self.noise_offset_db / 10)
        tables = (gain * 10 ** (np.interp(theta, _NESZ_DEG, db) / 10) for db in (_NESZ_VV_DB, _NESZ_VH_DB))
        vv, vh = (table.astype(np.float32)[index] * scallop for table in tables)
        return vv, vh

    def ghost_px(self, row: float, column: float) -> float:
        """Distance along the track between a target and each of its first two azimuth ghosts."""
        r = float(np.clip(self.range_px(row, column), 0, SWATH_PX))
        edges = (0, *SEAMS_PX, SWATH_PX)
        swath = int(np.searchsorted(SEAMS_PX, r, side="right"))
        near, far = GHOST_PX[swath]
        return near + (far - near) * (r - edges[swath]) / (edges[swath + 1] - edges[swath])


def incidence_deg(range_px):
    """Incidence angle on the sea, in degrees, at a range in pixels from the near edge."""
    return 30.85 + 15.14 * np.clip(range_px, 0, SWATH_PX) / SWATH_PX
