"""XT: nested tokenization (Gupta et al. 2024, arXiv 2403.01915), for images that do not fit one forward pass.

    tile -> regions -> region encoder -> levels, joined -> context -> head -> logits of the core

The model is built by hand, part by part; anyone may pass their own parts to `XT`.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtgeo.model.context import Gather, Inject, Mean, NoContext, context_encoder
from xtgeo.model.head import DenseHead
from xtgeo.model.regions import RegionEncoder, join_regions, split_regions
from xtgeo.model.spec import Spec


class Nested(nn.Module):
    """A region encoder and a context encoder: what networks for pixels, objects and whole images have in common.

    An image that is no single tile goes through in steps: `tokens` of every tile, `context.encoder` over all of them,
    then what is done with what they were told.
    """

    def __init__(self, regions: RegionEncoder, context: nn.Module, head: nn.Module, spec: Spec):
        super().__init__()
        self.regions, self.context, self.head, self.spec = regions, context, head, spec
        self.batch = 1
        """Regions per pass through the encoder; changes speed, never results."""

    def encode(self, x: Tensor, valid: Tensor) -> tuple[list[Tensor], Tensor]:
        """Joined levels of the core, and its valid pixels, brought to a multiple of the coarsest stride."""
        m, s = self.spec.margin, self.regions.strides[-1]
        h, w = x.shape[-2] - 2 * m, x.shape[-1] - 2 * m
        x, valid = (F.pad(t, (0, -w % s, 0, -h % s)) for t in (x, valid))
        rows = self.regions.encode_rows(split_regions(x, self.spec.region, m), self.batch)
        levels = [join_regions(level, m // s) for level, s in zip(rows, self.regions.strides, strict=True)]
        return levels, valid[:, m : valid.shape[-2] - m, m : valid.shape[-1] - m]

    def tokens(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """What the context encoder is given of a tile: tokens (b, d, y, x), and which saw a valid pixel (b, y, x)."""
        return self.context.gather(*self.encode(x, valid))


class XT(Nested):
    """(b, c, h + 2 m, w + 2 m), valid pixels of the same size -> (b, k, h, w): the margin is looked at, not answered.

    Any h and w. With `NoContext` the result is exactly that of the plain backbone and head.
    """

    def forward(self, x: Tensor, valid: Tensor, told: Tensor | None = None) -> Tensor:
        """told (b, d, y + 2, x + 2): what this tile's tokens, and one ring around them, learnt from the whole image."""
        levels, core = self.encode(x, valid)
        if told is None:
            return self.answer(self.context(levels, core), x.shape)
        return self.answer(self.context.spread(levels, told, rim=1), x.shape)

    def answer(self, levels: list[Tensor], shape: torch.Size) -> Tensor:
        """Logits of the core from levels that know their context; `shape` is that of the input, margin included."""
        m, f = self.spec.margin, self.head.stride
        h, w = (-(-(side - 2 * m) // f) for side in shape[-2:])
        return self.head(levels)[..., :h, :w]


class XTClassifier(Nested):
    """(b, c, h + 2 m, w + 2 m), valid -> (b, classes) logits of the whole image, read from a class token."""

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        return self.head(self.context.encoder.classify(*self.tokens(x, valid)))


def build(
    spec: Spec,
    *,
    weights: str | Path | None = None,
    drop_path: float = 0.0,
    checkpoint: bool = False,
    frozen: int = 0,
) -> nn.Module:
    """The network that a spec describes, with fresh weights but for those that the region encoder may start from.

    weights: "timm" (where a hub is reachable), torchgeo's name of a weight, or a file; matched with `spec.bands` by name. The
    rest is for training: stochastic depth, activation checkpointing and frozen stages of the region encoder. An `XT`, for
    task "classify" an `XTClassifier`, for "boxes" a `Boxes`.
    """
    side = spec.region + 2 * spec.margin
    regions = RegionEncoder(
        spec.backbone,
        spec.bands,
        side=side,
        stride=spec.stride,
        weights=weights,
        drop_path=drop_path,
        checkpoint=checkpoint,
        frozen=frozen,
    )
    pyramid = spec.context_dim, regions.channels, regions.strides, spec.context_stride
    whole = spec.task == "classify"
    if spec.context == "none":
        context = Gather(Mean(), *pyramid) if whole else NoContext()
    else:
        encoder = context_encoder(
            spec.context,
            spec.context_dim,
            spec.context_depth,
            spacing=spec.context_stride * spec.gsd,
            options=spec.context_options,
            class_token=whole,
        )
        context = (Gather if whole else Inject)(encoder, *pyramid)
    if whole:
        return XTClassifier(regions, context, nn.Linear(spec.context_dim, spec.channels), spec)
    if spec.task == "boxes":
        from xtgeo.model.boxes import build_boxes  # torchvision's detectors take a second to load

        return build_boxes(regions, context, spec)
    stride = regions.strides[0] if spec.task == "detect" else 1
    head = DenseHead(regions.channels, regions.strides, spec.channels, spec.head_dim, stride)
    return XT(regions, context, head, spec)
