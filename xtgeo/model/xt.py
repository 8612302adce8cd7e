"""XT: nested tokenization (Gupta et al. 2024, arXiv 2403.01915), for images that do not fit one forward pass.

    tile -> regions -> region encoder -> levels, joined -> context -> head -> logits of the core

The model is built by hand, part by part; anyone may pass their own parts to `XT`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from xtgeo.model.context import Inject, NoContext, context_encoder
from xtgeo.model.head import SegmentationHead
from xtgeo.model.regions import RegionEncoder, join_regions, split_regions
from xtgeo.model.spec import Spec


class XT(nn.Module):
    """(b, c, h + 2 m, w + 2 m), valid pixels of the same size -> (b, k, h, w): the margin is looked at, not answered.

    Any h and w. With `NoContext` the result is exactly that of the plain backbone and head.
    """

    def __init__(self, regions: RegionEncoder, context: nn.Module, head: nn.Module, spec: Spec):
        super().__init__()
        self.regions, self.context, self.head, self.spec = regions, context, head, spec
        self.batch = 1
        """Regions per pass through the encoder; changes speed, never results."""

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        m, s = self.spec.margin, self.regions.strides[-1]
        h, w = x.shape[-2] - 2 * m, x.shape[-1] - 2 * m
        x, valid = (F.pad(t, (0, -w % s, 0, -h % s)) for t in (x, valid))
        rows = self.regions.encode_rows(split_regions(x, self.spec.region, m), self.batch)
        levels = [join_regions(level, m // s) for level, s in zip(rows, self.regions.strides, strict=True)]
        levels = self.context(levels, valid[:, m : valid.shape[-2] - m, m : valid.shape[-1] - m])
        return self.head(levels)[..., :h, :w]


def build(spec: Spec, *, pretrained: bool = False) -> XT:
    """The XT that a spec describes, with fresh weights (or the backbone's published ones, where a hub is reachable)."""
    side = spec.region + 2 * spec.margin
    regions = RegionEncoder(spec.backbone, len(spec.bands), side=side, stride=spec.stride, pretrained=pretrained)
    context = NoContext()
    if spec.context != "none":
        spacing = spec.context_stride * spec.gsd
        encoder = context_encoder(
            spec.context, spec.context_dim, spec.context_depth, spacing=spacing, options=spec.context_options
        )
        context = Inject(encoder, spec.context_dim, regions.channels, regions.strides, spec.context_stride)
    head = SegmentationHead(regions.channels, regions.strides, spec.channels, spec.head_dim)
    return XT(regions, context, head, spec)
