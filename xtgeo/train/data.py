"""Crops: what the training loop eats. Arrays only; who has scenes turns them into samples first.

c: bands   h, w: sides of a scene   s: side of a crop, margin included
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = 255
"""Target value of pixels that are neither right nor wrong."""


@dataclass(frozen=True)
class Sample:
    """A scene or a part of one, with its truth."""

    data: np.ndarray
    """(c, h, w), any float dtype, in the units of the model."""
    valid: np.ndarray
    """(h, w) bool."""
    target: np.ndarray
    """(h, w) uint8: 0 background, 1.. classes, `IGNORE`; or several such planes, (t, h, w), as of `centre_planes`."""
    centres: np.ndarray
    """(n, 2) row, column of places that are worth a crop: objects, quays, islets."""


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


def crops(
    samples: list[Sample], side: int, count: int, rng: np.random.Generator, *, centred: float = 0.7, augment: Augment
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless batches (count, c, side, side) float32 normalised by the caller, valid, target (count, [t,] side, side).

    `centred` of the crops lie around one of the centres, moved at random within the crop; the rest fall anywhere.
    Samples are drawn in proportion to their area, those with centres a little more often.
    """
    area = np.array([s.valid.size for s in samples], float)
    objects = np.array([len(s.centres) for s in samples], float)
    by_area, by_objects = area / area.sum(), objects / max(objects.sum(), 1)
    reach = int(np.ceil(side * augment.scale * (1.42 if augment.turn else 1.0)))
    while True:
        parts = []
        for _ in range(count):
            focused = objects.any() and rng.random() < centred
            sample = samples[rng.choice(len(samples), p=by_objects if focused else by_area)]
            if focused:
                y, x = sample.centres[rng.integers(len(sample.centres))]
                y, x = y + rng.uniform(-0.4, 0.4) * side, x + rng.uniform(-0.4, 0.4) * side
            else:
                y, x = rng.uniform(0, sample.valid.shape[0]), rng.uniform(0, sample.valid.shape[1])
            parts.append(_cut(sample, int(y), int(x), reach))
        yield _transform(*(torch.stack(t) for t in zip(*parts, strict=True)), side, rng, augment)


def _cut(sample: Sample, y: int, x: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """A square of the sample around (y, x); beyond its border invalid and ignored."""
    h, w = sample.valid.shape
    data = np.zeros((len(sample.data), side, side), np.float32)
    valid, target = np.zeros((side, side), bool), np.full((*sample.target.shape[:-2], side, side), IGNORE, np.uint8)
    y0, x0 = y - side // 2, x - side // 2
    ys, xs = slice(max(y0, 0), min(y0 + side, h)), slice(max(x0, 0), min(x0 + side, w))
    yd, xd = slice(ys.start - y0, ys.stop - y0), slice(xs.start - x0, xs.stop - x0)
    if ys.stop > ys.start and xs.stop > xs.start:
        data[:, yd, xd] = sample.data[:, ys, xs]
        valid[yd, xd] = sample.valid[ys, xs]
        target[..., yd, xd] = np.where(sample.valid[ys, xs], sample.target[..., ys, xs], IGNORE)
    return torch.from_numpy(data), torch.from_numpy(valid), torch.from_numpy(target)


def _transform(data: Tensor, valid: Tensor, target: Tensor, side: int, rng: np.random.Generator, a: Augment):
    """Geometry for all three alike, then radiometry for the data."""
    n, c = data.shape[:2]
    if a.turn or a.scale > 1:
        turn = torch.from_numpy(np.deg2rad(rng.uniform(-a.turn, a.turn, n))).float()
        zoom = torch.from_numpy(a.scale ** rng.uniform(-1, 1, n)).float() * side / data.shape[-1]
        cos, sin, zero = zoom * turn.cos(), zoom * turn.sin(), torch.zeros(n)
        theta = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
        grid = F.affine_grid(theta, [n, c, side, side], align_corners=False)
        weight = valid[:, None].float()
        warped = F.grid_sample(torch.cat([data * weight, weight], 1), grid, align_corners=False)
        data = warped[:, :c] / warped[:, c:].clamp(min=1e-3)
        planes = target.view(n, -1, *target.shape[-2:])
        nearest = F.grid_sample(
            torch.cat([valid[:, None], planes], 1).float(), grid, mode="nearest", align_corners=False
        )
        inside = (nearest[:, :1] > 0.5) & (warped[:, c:] > 0.5)
        planes = torch.where(inside, nearest[:, 1:].round().to(torch.uint8), IGNORE)
        valid, target = inside[:, 0], planes.view(*target.shape[:-2], side, side)
    for i in range(n):
        axes = [ax for ax in (-2, -1) if a.mirror and rng.random() < 0.5]
        if a.reverse and rng.random() < 0.5:
            axes = [-2, -1]
        for t in (data, valid, target):
            t[i] = t[i].flip(axes)
    gain = torch.from_numpy(1 + rng.uniform(-a.gain, a.gain, (n, c, 1, 1))).float()
    shift = torch.from_numpy(rng.uniform(-a.shift, a.shift, (n, c, 1, 1)) / 2 + rng.uniform(-a.shift, a.shift, (n, 1, 1, 1)) / 2)
    data = data * gain + shift.float()
    if a.noise:
        level = torch.from_numpy(rng.uniform(0, a.noise, (n, 1, 1, 1))).float()
        data = data + level * torch.from_numpy(rng.standard_normal(data.shape, np.float32))
    if any(a.missing):
        for i in range(n):
            gone = rng.random(c) < np.array(a.missing)
            if gone.all():
                gone[rng.integers(c)] = False
            data[i, torch.from_numpy(gone)] = 0.0
    return data * valid[:, None], valid, target


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
