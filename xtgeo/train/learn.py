"""How a network learns from a batch: what `fit` does once a step. Needs torch only.

Each function gives a `Learn`, which adds the gradients of a batch to the parameters' own and gives the loss. Anyone may
hand over one of their own.

b: batch   c: bands   t: planes of a target   h, w: sides of a crop, margin included, or of a tile   m: margin, in pixels
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xtgeo.model import Model
from xtgeo.model.precision import bf16_pays
from xtgeo.model.xt import XTClassifier
from xtgeo.train.exact import Read, classifier_step, dense_step, tiles_of
from xtgeo.train.losses import focal_dice
from xtgeo.window import Nest, Tile

Learn = Callable[[Model, Any], float]


def from_crops(loss: Callable[[Tensor, Tensor], Tensor] = focal_dice, *, bf16: bool | None = None) -> Learn:
    """Batches of normalised data (b, c, h, w), valid (b, h, w) and target; plain autograd.

    Target (b, [t,] h, w), of which the loss sees the core, without the margin; or (b,), classes of whole images. bf16: mixed
    precision; None is where it is the faster one.
    """

    def learn(model: Model, batch: tuple[Tensor, Tensor, Tensor]) -> float:
        device, m = model.mean.device, model.spec.margin
        data, valid, target = (t.to(device) for t in batch)
        core = (..., *(slice(m, side - m) for side in data.shape[-2:]))
        with _precision(device, bf16_pays(device.type) if bf16 is None else bf16):
            logits = model.answer(data.contiguous(memory_format=torch.channels_last), valid)
        value = loss(logits, target if target.ndim == 1 else target[core])
        value.backward()
        return value.item()

    return learn


def from_boxes(*, bf16: bool | None = None) -> Learn:
    """Batches of images and targets as `xtgeo.model.boxes.Boxes` takes them and `collate_boxes` makes them.

    bf16: mixed precision; None is on a GPU only. On a CPU it has been seen to give gradients that are no numbers, in one process
    after a dozen trainings of small detectors and from then on; with fp32 it has not.
    """

    def learn(model: Model, batch: tuple[list[Tensor], list[dict]]) -> float:
        device = model.mean.device
        images, targets = batch
        targets = [{k: v.to(device) if isinstance(v, Tensor) else v for k, v in target.items()} for target in targets]
        with _precision(device, device.type == "cuda" if bf16 is None else bf16):
            losses = model.net([image.to(device) for image in images], targets)
        value = sum(losses.values())
        value.backward()
        return value.item()

    return learn


@dataclass(frozen=True)
class Area:
    """An image of any size and its truth, in memory or read as it is needed."""

    shape: tuple[int, int]
    """Height and width in pixels."""
    read: Read
    """A tile's normalised data (1, c, h + 2 m, w + 2 m) and valid pixels (1, h + 2 m, w + 2 m)."""
    truth: Callable[[Tile], Tensor]
    """Target of a tile's core, (1, [t,] h, w). For a classifier, whatever the tile, the image's class, (1,)."""

    @classmethod
    def of(cls, data: Tensor, valid: Tensor, target: Tensor, *, margin: int) -> Area:
        """Of tensors in memory: data (1, c, h, w), valid (1, h, w), target (1, [t,] h, w) or (1,)."""
        h, w = data.shape[-2:]
        whole = target.ndim == 1
        return cls((h, w), tiles_of(data, valid, margin), lambda tile: target if whole else target[(..., *tile.core.slices)])


def from_areas(loss: Callable[[Tensor, Tensor], Tensor], *, share: float = 1.0) -> Learn:
    """Batches of one `Area` each, of any size; the exact steps of `xtgeo.train.exact`, in the memory of one tile.

    The loss of an image is the mean of its tiles' losses by their areas. `share`: of the tiles that are replayed; below 1
    gradients are estimates without bias. Batch normalisation is refused.
    """

    def learn(model: Model, area: Area) -> float:
        spec, device = model.spec, model.mean.device
        nest = Nest(area.shape, spec.region, spec.span, spec.margin)
        seed = int(torch.randint(2**31, ()))

        def read(tile: Tile) -> tuple[Tensor, Tensor]:
            data, valid = area.read(tile)
            return data.to(device), valid.to(device)

        if isinstance(model.net, XTClassifier):
            label = area.truth(nest[0]).to(device)
            return classifier_step(model.net, nest, read, lambda logits: loss(logits, label), seed=seed, share=share)

        def part(logits: Tensor, tile: Tile) -> Tensor:
            weight = tile.core.h * tile.core.w / (area.shape[0] * area.shape[1])
            return loss(logits, area.truth(tile).to(device)) * weight

        return dense_step(model.net, nest, read, part, seed=seed, share=share)

    return learn


def _precision(device: torch.device, bf16: bool) -> AbstractContextManager:
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)
