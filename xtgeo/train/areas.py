"""What a step learns from, by number: crops, or areas of any size that are read tile by tile."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from xtgeo.train.data import IGNORE, Augment, Crops
from xtgeo.train.learn import Area
from xtgeo.train.scenes import LabelledScene
from xtgeo.window import Tile, Window


class Stretch(Sampler):
    """Numbers of the items between two judgements, `epoch` by epoch; each of several processes has its own."""

    def __init__(self, length: int):
        self.length, self.epoch = length, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this, after a resumption too."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        many = torch.distributed.is_initialized()
        ranks, rank = (torch.distributed.get_world_size(), torch.distributed.get_rank()) if many else (1, 0)
        return iter(range(self.epoch * self.length * ranks + rank, (self.epoch + 1) * self.length * ranks, ranks))


class Areas(Dataset):
    """Squares of scenes at places that crops would be drawn from, or whole scenes where those have a class.

    Area i is a function of the seed and i, as crops are.
    """

    def __init__(self, places: Crops):
        self.side, self.crops = places.side, places

    def __getitem__(self, i: int) -> Area:
        rng = np.random.default_rng([self.crops.seed, i])
        ground, y, x = self.crops.place(rng)
        if ground.labels.whole is not None:
            return area_of(ground, ground.area, rng, self.crops.augment)
        h, w = (min(self.side, n) for n in ground.area.shape)
        y = int(np.clip(y - h // 2, ground.area.y, ground.area.y + ground.area.h - h))
        x = int(np.clip(x - w // 2, ground.area.x, ground.area.x + ground.area.w - w))
        return area_of(ground, Window(y, x, h, w), rng, self.crops.augment)


def area_of(
    ground: LabelledScene,
    window: Window,
    rng: np.random.Generator | None = None,
    augment: Augment = Augment(),  # noqa: B008  (frozen)
) -> Area:
    """A part of a scene, read tile by tile; the whole of it turned by 180 degrees and shifted as crops are."""
    c = len(ground.spec.bands)
    turned = bool(rng is not None and augment.reverse and rng.random() < 0.5)
    gain, shift = np.zeros((2, c, 1, 1)) if rng is None else rng.uniform(-1, 1, (2, c, 1, 1))
    gain, shift = (1 + augment.gain * gain).astype(np.float32), (augment.shift * shift).astype(np.float32)

    def place(w: Window) -> Window:
        if turned:
            w = Window(window.h - w.y - w.h, window.w - w.x - w.w, w.h, w.w)
        return w.shift(window.y, window.x)

    def back(a: np.ndarray) -> Tensor:
        return torch.from_numpy((a[..., ::-1, ::-1] if turned else a).copy())[None]

    def read(tile: Tile) -> tuple[Tensor, Tensor]:
        block = ground.part(window).read(place(tile.full))
        data = (ground.normalise(block) * gain + shift) * block.valid
        return back(data.astype(np.float32)), back(block.valid)

    def truth(tile: Tile) -> Tensor:
        if ground.labels.whole is not None:
            return torch.tensor([ground.spec.classes.index(ground.labels.whole)])
        at = place(tile.core)
        target = ground.truth(at)
        target[..., ~ground.read(at).valid] = IGNORE
        return back(target)

    return Area(window.shape, read, truth)
