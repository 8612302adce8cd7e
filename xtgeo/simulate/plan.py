"""A scene that is drawn where it is looked at: what concerns the whole of it is planned, pixels come block by block.

DN2 = speckle * (sea, ice or land, ghosts of land, interference, noise) + objects and their ghosts    linear power
sigma0 = DN2 less the noise floor, as the rule of the scene says
dB = 10 log10(sigma0 resampled to the map + 1e-5) + calibration offset

Noise is added before speckle: echo and thermal noise add up as complex amplitudes, so that their sum speckles as one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from odc.geo.geobox import GeoBox
from scipy.ndimage import binary_erosion

from xtgeo.scene import POWER_FLOOR, Block
from xtgeo.simulate.ancillary import Ancillary, lay_out
from xtgeo.simulate.echo import Objects
from xtgeo.simulate.fields import double, half_window
from xtgeo.simulate.geometry import Footprint, axes
from xtgeo.simulate.ice import Ice
from xtgeo.simulate.land import Land
from xtgeo.simulate.noise import BLOCK, Grain, speckle
from xtgeo.simulate.params import Params
from xtgeo.simulate.recent import Recent
from xtgeo.simulate.sea import Sea
from xtgeo.simulate.truth import SimulatedScene, Truth
from xtgeo.window import Window

SPECKLE_STREAMS = 1, 2
"""Of VV and VH."""
THREADS = 4
"""At most; each takes some 40 MB."""


@dataclass(frozen=True)
class Stripe:
    """Radio interference over some lines of flight."""

    azimuth_px: float
    lines: float
    power: float
    """Sigma0 in VH; a tenth of it in VV."""


@dataclass(frozen=True, eq=False)
class Piece:
    """What is known of a rectangle of the scene once it is drawn."""

    window: Window
    data: np.ndarray
    """(2, y, x) float32, sigma0 in dB; 0 where not valid."""
    valid: np.ndarray
    land: np.ndarray
    contrasts: dict[int, tuple[float, float]]
    """Of the echoes whose centre lies here on a valid pixel: peak over surroundings in VV and VH, dB."""
    shore: np.ndarray
    """(n, 2) rows and columns of land pixels beside water, of the scene."""


def joined(window: Window, pieces: Iterable[Piece]) -> Piece:
    """What is known of a window that pieces fill."""
    data, contrasts, shores = np.zeros((2, *window.shape), np.float32), {}, [np.zeros((0, 2))]
    valid, land = np.zeros(window.shape, bool), np.zeros(window.shape, bool)
    for piece in pieces:
        to = piece.window.shift(-window.y, -window.x).slices
        data[:, *to], valid[to], land[to] = piece.data, piece.valid, piece.land
        contrasts |= piece.contrasts
        shores.append(piece.shore)
    return Piece(window, data, valid, land, contrasts, np.concatenate(shores))


@dataclass(frozen=True, eq=False)
class ScenePlan:
    """A simulated scene before any pixel is drawn. Pixels are the same however the scene is cut."""

    params: Params
    grid: GeoBox
    """UTM, 10 m, with an origin that is not a multiple of 10 m."""
    time: datetime
    grain: Grain
    sea: Sea
    land: Land | None
    land_ghost: float
    """Power of azimuth ghosts of land over that of the land itself, linear."""
    ice: Ice | None
    footprint: Footprint
    objects: Objects
    stripes: tuple[Stripe, ...]
    bands: tuple[str, str] = ("vv", "vh")
    pieces: Recent = field(init=False, default_factory=lambda: Recent(4))
    """Blocks that were read last."""
    glows: Recent = field(init=False)
    """Land of the blocks whose ghosts are near."""

    def __post_init__(self):
        # Ghosts of land reach two blocks up and down.
        object.__setattr__(self, "glows", Recent(6 * (self.shape[1] // BLOCK + 1)))

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return tuple(self.grid.shape)

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits and a letter, as xView3 names scenes."""
        return self.known({}, np.zeros((0, 2))).id

    def read(self, window: Window) -> Block:
        """Pixels of a window, which may reach beyond the scene: there they are 0 and not valid. Thread-safe."""
        inside = window & Window(0, 0, *self.shape)
        block = Block(window, np.zeros((2, *window.shape), np.float32), np.zeros(window.shape, bool))
        for corner in corners(inside):
            piece = self.pieces.get(corner, self.draw, *corner)
            part = piece.window & inside
            to, of = part.shift(-window.y, -window.x).slices, part.shift(-piece.window.y, -piece.window.x).slices
            block.data[:, *to], block.valid[to] = piece.data[:, *of], piece.valid[of]
        return block

    def strips(self) -> Iterator[Piece]:
        """The whole scene from top to bottom, full width and up to BLOCK rows at a time.

        Several threads draw; they are one strip ahead of what is given.
        """
        windows = [Window(top, 0, min(BLOCK, self.shape[0] - top), self.shape[1]) for top in range(0, self.shape[0], BLOCK)]
        pool = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1))
        try:
            ahead: list[tuple[Window, list[Future]]] = []
            for window in windows:
                ahead.append((window, [pool.submit(self.draw, *corner) for corner in corners(window)]))
                if len(ahead) > 1:
                    yield joined(*_results(ahead.pop(0)))
            yield joined(*_results(ahead.pop(0)))
        finally:
            pool.shutdown(cancel_futures=True)

    def drawn(self) -> SimulatedScene:
        """The whole scene in memory, with its truth; drawn in this thread."""
        window = Window(0, 0, *self.shape)
        whole = joined(window, (self.draw(*corner) for corner in corners(window)))
        known = vars(self.known(whole.contrasts, whole.shore))
        return SimulatedScene(**known, data=whole.data, valid=whole.valid, land=whole.land, around=self.ancillary())

    def known(self, contrasts: dict[int, tuple[float, float]], shore: np.ndarray) -> Truth:
        """What is known of the objects, from the contrasts and the shore of all pieces."""
        ships, ghosts = self.objects.known(contrasts, self._measured)
        return Truth(self.grid, self.params, self.time, ships, ghosts, shore)

    def ancillary(self) -> Ancillary:
        """Depth, masks and wind at 500 m."""
        return lay_out(self.grid, self.params, wind=self.sea.wind, land=self.land, ice=self.ice)

    def draw(self, y: int, x: int) -> Piece:
        """The block whose upper-left pixel is given."""
        window = Window(y, x, min(BLOCK, self.shape[0] - y), min(BLOCK, self.shape[1] - x))
        # One row and column more than asked: the map grid falls between radar pixels.
        raw = Window(y, x, window.h + 1, window.w + 1)
        valid = self.footprint.window(window)
        mask = self.land.mask(window) if self.land is not None else None
        land, shore = (np.zeros(window.shape, bool), np.zeros((0, 2))) if mask is None else (mask, _shore(mask, window))
        if not valid.any():
            return Piece(window, np.zeros((2, *window.shape), np.float32), valid, land, {}, shore)
        signals, noise, near = self._surface(raw), self.params.look.noise(raw), self.objects.near(raw)
        contrasts = self.objects.contrasts(near, signals, noise, raw, valid)
        data = np.empty((2, *window.shape), np.float32)
        for band, (power, floor) in enumerate(zip(signals, noise, strict=True)):
            power += floor
            power *= speckle(self.grain, SPECKLE_STREAMS[band], raw)
            self.objects.add(band, power, raw, near)
            remove_noise(power, floor, rule=self.params.noise)
            data[band] = to_db(_resample(power, self.params.subpixel) * self.footprint.fade(window))
            data[band] += np.float32(self.params.calibration_db[band])
        data[:, ~valid] = 0
        return Piece(window, data, valid, land, contrasts, shore)

    def _surface(self, raw: Window) -> tuple[np.ndarray, np.ndarray]:
        """Sigma0 of what lies there, without noise and speckle, (VV, VH)."""
        signals = self.sea.draw(raw)
        self.objects.trail(signals, raw)
        for ground in (self.ice, self.land):
            if ground is not None and (drawn := ground.draw(raw)) is not None:
                mask, *powers = drawn
                for signal, power in zip(signals, powers, strict=True):
                    np.copyto(signal, power, where=mask)
        if self.land is not None and self.land_ghost > 0:
            self._haunt(signals, raw)
        self._interfere(signals, raw)
        return signals

    def _haunt(self, signals: tuple[np.ndarray, np.ndarray], raw: Window) -> None:
        """Bright land shows again, 20 to 30 dB fainter, some five kilometres up and down the track."""
        half, look = half_window(raw), self.params.look
        rows, columns = (2 * at for at in axes(half))
        step = look.ghost_px(rows, columns)
        for sign in (-1, 1):
            y, x = ((at - sign * step * ahead).astype(int) // 2 for at, ahead in ((rows, look.along[1]), (columns, look.along[0])))
            source = Window(int(y.min()), int(x.min()), int(np.ptp(y)) + 1, int(np.ptp(x)) + 1)
            for signal, glow in zip(signals, self._glow_of(source), strict=True):
                if glow is not None:
                    signal += np.float32(self.land_ghost) * double(glow[y - source.y, x - source.x], raw.shape)

    def _glow_of(self, source: Window) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Power of land in VV and VH at every second pixel of a window that may reach beyond the scene; None where it is 0."""
        side, out = BLOCK // 2, np.zeros((2, *source.shape), np.float32)
        inside = source & Window(0, 0, self.shape[0] // 2, self.shape[1] // 2)
        for y, x in corners(inside, side):
            if (glow := self.glows.get((y, x), self._glow, 2 * y, 2 * x)) is not None:
                part = Window(y, x, *glow.shape[1:]) & inside
                out[:, *part.shift(-source.y, -source.x).slices] = glow[:, *part.shift(-y, -x).slices]
        return tuple(out) if out.any() else (None, None)

    def _glow(self, y: int, x: int) -> np.ndarray | None:
        """(VV, VH) power of the land of a block, means of 2 x 2 pixels, without plots and slopes; None where all is sea."""
        window = Window(y, x, min(BLOCK, self.shape[0] - y) // 2 * 2, min(BLOCK, self.shape[1] - x) // 2 * 2)
        power = self.land.plain(window)
        if power is None:
            return None
        rows = power[:, ::2] + power[:, 1::2]
        return ((rows[:, :, ::2] + rows[:, :, 1::2]) * np.float32(0.25)).astype(np.float16)

    def _interfere(self, signals: tuple[np.ndarray, np.ndarray], raw: Window) -> None:
        if not self.stripes:
            return
        azimuth = self.params.look.azimuth_px(*axes(raw))
        for stripe in self.stripes:
            inside = np.abs(azimuth - stripe.azimuth_px) < stripe.lines / 2
            for signal, share in zip(signals, (0.1, 1.0), strict=True):
                signal[inside] += np.float32(stripe.power * share)

    def _measured(self, rows, columns) -> np.ndarray:
        """Which pixels of the map are valid; those beyond its edges are as the nearest."""
        h, w = self.shape
        return self.footprint.valid(np.clip(rows, 0, h - 1), np.clip(columns, 0, w - 1))


def _results(strip: tuple[Window, list[Future]]) -> tuple[Window, Iterator[Piece]]:
    window, drawn = strip
    return window, (drawn.pop(0).result() for _ in range(len(drawn)))


def corners(window: Window, side: int = BLOCK) -> list[tuple[int, int]]:
    """Upper-left corners of the blocks that a window touches."""
    if not window:
        return []
    tops, lefts = (
        range(start // side * side, start + count, side)
        for start, count in zip((window.y, window.x), window.shape, strict=True)
    )
    return [(y, x) for y in tops for x in lefts]


def to_db(power: np.ndarray) -> np.ndarray:
    """Power in dB, never below -50."""
    return 10 * np.log10(power + np.float32(POWER_FLOOR))


def remove_noise(power: np.ndarray, floor: np.ndarray, *, rule: str = "snap") -> None:
    """Takes the noise floor off, in place.

    snap: where nothing would be left the power stays as it is, which is what the usual processor does. clip: cut at zero,
    as a textbook would; calm VH sea is then 8 dB darker. none: the noise stays.
    """
    if rule == "snap":
        np.subtract(power, floor, out=power, where=power > floor)
    elif rule == "clip":
        np.subtract(power, floor, out=power)
        np.maximum(power, 0, out=power)


def _resample(power: np.ndarray, subpixel: tuple[float, float]) -> np.ndarray:
    fy, fx = (np.float32(f) for f in subpixel)
    rows = power[:-1] + (power[1:] - power[:-1]) * fy
    return rows[:, :-1] + (rows[:, 1:] - rows[:, :-1]) * fx


def _shore(land: np.ndarray, window: Window) -> np.ndarray:
    """Rows and columns in the scene of land pixels beside water; what lies beyond the window counts as land."""
    return np.argwhere(land & ~binary_erosion(land, border_value=1)) + (window.y, window.x)
