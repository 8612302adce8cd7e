"""Crops: what the training loop eats. Arrays only; who has scenes turns them into something that can be cut first.

c: bands   h, w: sides of a scene   s: side of a crop, margin included   t: planes of a target
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xtgeo.window import Window

IGNORE = 255
"""Target value of pixels that are neither right nor wrong."""

Cut = tuple[np.ndarray, np.ndarray, np.ndarray] | tuple[Tensor, Tensor, Tensor]
"""Normalised data (c, h, w) float32, valid (h, w), target ([t,] h, w) uint8 of a window; beyond the scene invalid and ignored."""


class Ground(Protocol):
    """What crops are cut from: a scene with its truth, in memory or read as it is needed."""

    @property
    def area(self) -> Window:
        """Where crops may be centred, in pixels."""

    @property
    def centres(self) -> np.ndarray:
        """(n, 2) row, column of places that are worth a crop: objects, quays, islets."""

    @property
    def kinds(self) -> np.ndarray:
        """(n,) what each of them is; all kinds are drawn alike often."""

    @property
    def shore(self) -> np.ndarray:
        """(n, 2) row, column of places near the shore."""

    def cut(self, window: Window) -> Cut: ...


@dataclass(frozen=True)
class Sample:
    """A scene or a part of one, with its truth, in memory."""

    data: np.ndarray
    """(c, h, w), any float dtype, normalised."""
    valid: np.ndarray
    """(h, w) bool."""
    target: np.ndarray
    """(h, w) uint8: 0 background, 1.. classes, `IGNORE`; or several such planes, (t, h, w), as of `centre_planes`."""
    centres: np.ndarray
    """(n, 2) row, column of places that are worth a crop: objects, quays, islets."""
    shore: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    """(n, 2) row, column of places near the shore."""

    @property
    def area(self) -> Window:
        return Window(0, 0, *self.valid.shape)

    @property
    def kinds(self) -> np.ndarray:
        return np.zeros(len(self.centres), int)

    def cut(self, window: Window) -> Cut:
        data = np.zeros((len(self.data), *window.shape), np.float32)
        valid, target = np.zeros(window.shape, bool), np.full((*self.target.shape[:-2], *window.shape), IGNORE, np.uint8)
        inside = window & self.area
        if inside:
            here, there = inside.slices, inside.shift(-window.y, -window.x).slices
            data[:, *there], valid[there] = self.data[:, *here], self.valid[here]
            target[..., *there] = np.where(self.valid[here], self.target[..., *here], IGNORE)
        return data, valid, target


class Held:
    """A `Sample` on a device, where its crops are cut and changed too."""

    def __init__(self, sample: Sample, device: str | torch.device):
        self.area, self.centres, self.kinds, self.shore = sample.area, sample.centres, sample.kinds, sample.shore
        self._data, self._valid, self._target = (
            torch.from_numpy(a).to(device) for a in (sample.data, sample.valid, sample.target)
        )

    def cut(self, window: Window) -> tuple[Tensor, Tensor, Tensor]:
        data = self._data.new_zeros((len(self._data), *window.shape), dtype=torch.float32)
        valid = self._valid.new_zeros(window.shape)
        target = self._target.new_full((*self._target.shape[:-2], *window.shape), IGNORE)
        inside = window & self.area
        if inside:
            here, there = inside.slices, inside.shift(-window.y, -window.x).slices
            data[:, *there], valid[there] = self._data[:, *here], self._valid[here]
            target[..., *there] = torch.where(self._valid[here], self._target[..., *here], IGNORE)
        return data, valid, target


@dataclass(frozen=True)
class Sampling:
    """Where crops lie, as shares of all; the rest lies anywhere. What a scene does not have is not looked for."""

    objects: float = 0.7
    """Around objects and other places worth a crop, moved at random within it."""
    shore: float = 0.0
    """Around places near the shore."""

    def __post_init__(self):
        if min(self.objects, self.shore) < 0 or self.objects + self.shore > 1:
            raise ValueError(f"shares of crops are 0 to 1 together, not objects {self.objects} and shore {self.shore}")


@dataclass(frozen=True)
class Augment:
    """How crops are changed on the way; every entry is a bound, 0 or () switches it off."""

    turn: float = 0.0
    """Largest rotation in degrees, either way."""
    scale: float = 1.0
    """Largest zoom factor, and its inverse the smallest."""
    mirror: bool = False
    """Flips; for radar leave it off: ghosts, layover and Doppler shift have a side."""
    reverse: bool = False
    """Turns by 180 degrees, which radar geometry allows."""
    gain: float = 0.0
    """Relative change of each band's deviation from its mean."""
    shift: float = 0.0
    """Change of each band's mean, in standard deviations; half of it common to all bands."""
    noise: float = 0.0
    """White noise in standard deviations."""
    missing: tuple[float, ...] = ()
    """Per band, probability that it is missing altogether; never all."""
    haze: float = 0.0
    """Optical scenes: probability, each, of a blur of the lens and of light that grows across the crop. Needs kornia."""

    def reach(self, side: int) -> int:
        """Side of what is cut for a crop of `side`, in pixels."""
        return int(np.ceil(side * self.scale * (1.42 if self.turn else 1.0)))


SAR = Augment(reverse=True, gain=0.05, shift=0.25, noise=0.05)
"""What radar geometry and calibration allow."""
OPTICAL = Augment(turn=180, scale=1.4, mirror=True, gain=0.15, shift=0.35, noise=0.1, haze=0.2)


class Crops(torch.utils.data.Dataset):
    """Crops without end: crop i is a function of the seed and i, whatever process makes it and whatever came before.

    One is data (c, s, s) float32, valid (s, s), target ([t,] s, s) uint8.
    """

    def __init__(
        self,
        grounds: Sequence[Ground],
        side: int,
        *,
        sampling: Sampling = Sampling(),  # noqa: B008  (frozen)
        augment: Augment = Augment(),  # noqa: B008
        seed: int = 0,
    ):
        self.grounds, self.side, self.sampling, self.augment, self.seed = grounds, side, sampling, augment, seed
        self._area = np.array([g.area.h * g.area.w for g in grounds], float)
        self._shore = np.array([len(g.shore) for g in grounds])
        places = [(np.full(len(g.kinds), i), np.arange(len(g.kinds)), g.kinds) for i, g in enumerate(grounds)]
        which, where, kind = (np.concatenate(p) for p in zip(*places, strict=True))
        self._objects = [np.stack([which, where], 1)[kind == k] for k in np.unique(kind)]

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.draw(np.random.default_rng([self.seed, i]))

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """A crop at random."""
        for _ in range(8):  # a place far from any measurement teaches nothing
            ground, y, x = self.place(rng)
            reach = self.augment.reach(self.side)
            data, valid, target = ground.cut(Window(int(y) - reach // 2, int(x) - reach // 2, reach, reach))
            if valid.any():
                break
        return _transform(*(torch.as_tensor(a) for a in (data, valid, target)), self.side, rng, self.augment)

    def place(self, rng: np.random.Generator) -> tuple[Ground, float, float]:
        """Where a crop lies: what it is cut from, row and column of its middle."""
        kind = rng.random()
        if self._objects and kind < self.sampling.objects:
            places = self._objects[rng.integers(len(self._objects))]
            which, where = places[rng.integers(len(places))]
            y, x = self.grounds[which].centres[where] + rng.uniform(-0.4, 0.4, 2) * self.side
        elif self._shore.any() and self.sampling.objects <= kind < self.sampling.objects + self.sampling.shore:
            which = rng.choice(len(self.grounds), p=self._shore / self._shore.sum())
            y, x = self.grounds[which].shore[rng.integers(self._shore[which])] + rng.uniform(-0.4, 0.4, 2) * self.side
        else:
            which = rng.choice(len(self.grounds), p=self._area / self._area.sum())
            area = self.grounds[which].area
            y, x = rng.uniform((area.y, area.x), (area.y + area.h, area.x + area.w))
        return self.grounds[which], y, x


def crops(
    grounds: Sequence[Ground], side: int, count: int, rng: np.random.Generator, *, centred: float = 0.7, augment: Augment
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless batches of `Crops`: (count, c, side, side), valid (count, side, side), target (count, [t,] side, side).

    `centred` of the crops lie around one of the centres; the rest fall anywhere. Crops of `Held` scenes are made on their device.
    """
    source = Crops(grounds, side, sampling=Sampling(centred), augment=augment)
    while True:
        parts = [source.draw(rng) for _ in range(count)]
        yield tuple(torch.stack(t) for t in zip(*parts, strict=True))


def _transform(data: Tensor, valid: Tensor, target: Tensor, side: int, rng: np.random.Generator, a: Augment):
    """Geometry for all three alike, then radiometry for the data."""
    if a.turn or a.scale > 1:
        data, valid, target = _warp(data, valid, target, side, rng, a)
    axes = [ax for ax in (-2, -1) if a.mirror and rng.random() < 0.5]
    if a.reverse and rng.random() < 0.5:
        axes = [-2, -1]
    data, valid, target = (t.flip(axes) for t in (data, valid, target))
    c = len(data)
    gain, shift = 1 + rng.uniform(-a.gain, a.gain, (c, 1, 1)), rng.uniform(-a.shift, a.shift, (c, 1, 1))
    common = rng.uniform(-a.shift, a.shift)
    data = data * torch.from_numpy(gain).to(data) + torch.from_numpy((shift + common) / 2).to(data)
    if a.noise:
        data = data + float(rng.uniform(0, a.noise)) * _normal(data, rng)
    if a.haze:
        data = _haze(data, a.haze, int(rng.integers(2**31)))
    if any(a.missing):
        gone = rng.random(c) < np.array(a.missing)
        if gone.all():
            gone[rng.integers(c)] = False
        data[torch.from_numpy(gone).to(data.device)] = 0.0
    return data * valid, valid, target


def _normal(like: Tensor, rng: np.random.Generator) -> Tensor:
    """White noise: on a processor numpy's, elsewhere the device's own from a seed of `rng`."""
    if like.device.type == "cpu":
        return torch.from_numpy(rng.standard_normal(like.shape, np.float32))
    generator = torch.Generator(like.device).manual_seed(int(rng.integers(2**31)))
    return torch.randn(like.shape, generator=generator, device=like.device)


def _warp(data: Tensor, valid: Tensor, target: Tensor, side: int, rng: np.random.Generator, a: Augment):
    """Turned and zoomed; what invalid pixels would have mixed into is invalid."""
    turn = np.deg2rad(rng.uniform(-a.turn, a.turn))
    zoom = a.scale ** rng.uniform(-1, 1) * side / data.shape[-1]
    back = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])  # to a place in what was cut
    theta = torch.from_numpy(np.pad(back, ((0, 0), (0, 1)))).to(data)[None]
    grid = F.affine_grid(theta, [1, 1, side, side], align_corners=False)
    weight = valid[None].float()
    warped = F.grid_sample(torch.cat([data * weight, weight])[None], grid, align_corners=False)[0]
    planes = target.view(-1, *target.shape[-2:])
    nearest = F.grid_sample(torch.cat([valid[None], planes]).float()[None], grid, mode="nearest", align_corners=False)[0]
    inside = (nearest[0] > 0.5) & (warped[-1] > 0.5)
    planes = torch.where(inside, nearest[1:].round().to(torch.uint8), IGNORE)
    if target.ndim == 3:
        planes = _move_centres(target, planes, np.linalg.inv(back))
    return warped[:-1] / warped[-1].clamp(min=1e-3), inside, planes.view(*target.shape[:-2], side, side)


def _move_centres(target: Tensor, planes: Tensor, forth: np.ndarray) -> Tensor:
    """Every centre at the one pixel it falls on: the nearest neighbour would drop some and double others."""
    y, x = (target[0] == 1).nonzero(as_tuple=True)
    planes = torch.where(planes[:1] == IGNORE, planes, 0)
    old, side = target.shape[-1], planes.shape[-1]
    place = forth @ np.stack([(2 * x.cpu().numpy() + 1) / old - 1, (2 * y.cpu().numpy() + 1) / old - 1])
    column, row = (torch.from_numpy(np.floor((p + 1) / 2 * side)).long().to(target.device) for p in place)
    there = (row >= 0) & (row < side) & (column >= 0) & (column < side)
    row, column, y, x = (i[there] for i in (row, column, y, x))
    planes[:, row, column] = torch.where(planes[0, row, column] == IGNORE, planes[:, row, column], target[:, y, x])
    return planes


def _haze(data: Tensor, often: float, seed: int) -> Tensor:
    from kornia.augmentation import AugmentationSequential, RandomGaussianBlur, RandomLinearIllumination

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        change = AugmentationSequential(
            RandomGaussianBlur((3, 3), (0.3, 1.0), p=often), RandomLinearIllumination((0.05, 0.3), p=often)
        )
        return change(data[None])[0]


LENGTH_STEP = 2.0
"""Metres per step of a length in a target."""


def centre_planes(
    shape: tuple[int, int], rows, columns, *, vessel, fishing, length_m, ignored: np.ndarray | None = None
) -> np.ndarray:
    """Target of task "detect", (4, h, w) uint8: centre, vessel, fishing, length, each at the pixel of an object's centre.

    rows, columns: centres in pixels. vessel, fishing: 1 or 0, None where it is not known. length_m: metres, 0 or None where it
    is not known. ignored (h, w): where a centre would be neither right nor wrong.
    """
    planes = np.zeros((4, *shape), np.uint8)
    if ignored is not None:
        planes[0, ignored] = IGNORE
    for row, column, *known, length in zip(rows, columns, vessel, fishing, length_m, strict=True):
        if 0 <= row < shape[0] and 0 <= column < shape[1]:
            step = int(np.clip(round((length or 0) / LENGTH_STEP), 0, 254))
            planes[:, int(row), int(column)] = 1, *(IGNORE if k is None else int(k) for k in known), step
    return planes
