"""Regions: how a tile is cut for the region encoder, and how what it says is joined again.

b: batch   c: channels   h, w: sides of the core in pixels   m: margin in pixels   r: side of a region   s: stride
"""

from __future__ import annotations

from itertools import groupby

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtgeo.errors import ModelError


def split_regions(x: Tensor, region: int, margin: int) -> list[list[Tensor]]:
    """Rows of regions of x (b, c, h + 2 m, w + 2 m), each with its margin; the last row and column as small as they are.

    >>> [[tuple(part.shape[-2:]) for part in row] for row in split_regions(torch.zeros(1, 1, 14, 12), 8, 2)]
    [[(12, 12)], [(6, 12)]]
    """
    h, w = x.shape[-2] - 2 * margin, x.shape[-1] - 2 * margin
    return [
        [
            x[..., y : y + min(region, h - y) + 2 * margin, left : left + min(region, w - left) + 2 * margin]
            for left in range(0, w, region)
        ]
        for y in range(0, h, region)
    ]


def join_regions(rows: list[list[Tensor]], margin: int = 0) -> Tensor:
    """The inverse of `split_regions`: margins, in elements of the parts, are cut off, the rest is put side by side."""
    inner = slice(margin, -margin or None)
    return torch.cat([torch.cat([part[..., inner, inner] for part in row], -1) for row in rows], -2)


class RegionEncoder(nn.Module):
    """Any timm feature pyramid: (b, c, r, r) -> list of (b, ci, r / si, r / si), finest first.

    Only levels up to `stride` are kept; deeper blocks are removed from the network. Networks that are built for one
    size (Swin V2, Hiera, MaxViT) see smaller regions padded to that size, and the padding is cut off their levels.
    """

    def __init__(self, name: str, bands: int, *, side: int, stride: int = 16, pretrained: bool = False):
        """side: largest side of a region, margin included, in pixels."""
        super().__init__()
        if name not in timm.list_models(name):
            near = timm.list_models(f"*{name.split('_')[0]}*")[:8]
            raise ModelError(f"timm has no model {name!r}; close to it: {', '.join(near) or 'nothing'}")
        options = {"pretrained": pretrained, "in_chans": bands, "num_classes": 0}
        try:
            self.net = timm.create_model(name, img_size=side, **options)
            self.side = side
        except TypeError:
            self.net = timm.create_model(name, **options)
            self.side = None
        if not hasattr(self.net, "forward_intermediates"):
            raise ModelError(f"{name} gives no intermediate levels; take one that does, such as convnext_atto")
        info = list(self.net.feature_info)
        kept = [i for i, level in enumerate(info) if level["reduction"] <= stride]
        found = [info[i]["reduction"] for i in kept]
        if len(set(found)) < 2 or found[-1] != stride:
            raise ModelError(f"{name} is no pyramid: up to stride {stride} it has levels at strides {found or 'none'}")
        self.indices = self.net.prune_intermediate_layers(kept, prune_norm=True, prune_head=True)
        self.channels = [info[i]["num_chs"] for i in kept]
        self.strides = [info[i]["reduction"] for i in kept]

    def forward(self, x: Tensor) -> list[Tensor]:
        h, w = x.shape[-2:]
        if self.side is not None:
            x = F.pad(x, (0, self.side - w, 0, self.side - h))
        levels = self.net.forward_intermediates(
            x, indices=self.indices, intermediates_only=True, output_fmt="NCHW"
        )
        return [level[..., : h // s, : w // s] for level, s in zip(levels, self.strides, strict=True)]

    def encode_rows(self, rows: list[list[Tensor]], batch: int = 1) -> list[list[list[Tensor]]]:
        """Every region through the encoder, `batch` of equal size at a time: [level][row][column]."""
        flat = [part for row in rows for part in row]
        coded: list[list[Tensor]] = [[] for _ in flat]
        order = sorted(range(len(flat)), key=lambda i: (flat[i].shape[-2:], i))
        for _, same in groupby(order, key=lambda i: flat[i].shape[-2:]):
            same = list(same)
            for some in (same[i : i + batch] for i in range(0, len(same), batch)):
                levels = self(torch.cat([flat[i] for i in some]))
                for n, parts in enumerate(zip(*(level.chunk(len(some)) for level in levels), strict=True)):
                    coded[some[n]] = list(parts)
        columns = len(rows[0])
        return [
            [[coded[i * columns + j][n] for j in range(columns)] for i in range(len(rows))]
            for n in range(len(self.strides))
        ]
