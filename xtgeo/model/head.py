"""Head: pyramid levels -> a score for every pixel, at a small part of the encoder's cost.

The decoder of the xT paper spends 314 kFLOP per pixel, more than its encoder (203). This one goes top-down with
depthwise convolutions and ends at the finest level; each of its cells then answers for its own pixels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle


class SegmentationHead(nn.Module):
    """(b, ci, h / si, w / si) for each level -> (b, k, h, w) logits."""

    def __init__(self, channels: list[int], strides: list[int], classes: int, dim: int = 32):
        super().__init__()
        self.strides = strides
        self.lateral = nn.ModuleList(nn.Conv2d(c, dim, 1) for c in channels)
        self.refine = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False),
                nn.Conv2d(dim, 2 * dim, 1),
                nn.ReLU(inplace=True),
                nn.Conv2d(2 * dim, dim, 1),
            )
            for _ in channels
        )
        self.answer = nn.Conv2d(dim, classes * strides[0] ** 2, 3, padding=1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        x = None
        for level, lateral, refine in reversed(list(zip(levels, self.lateral, self.refine, strict=True))):
            side = lateral(level)
            x = side if x is None else side + interpolate(x, size=side.shape[-2:], mode="nearest")
            x = x + refine(x)
        return pixel_shuffle(self.answer(x), self.strides[0])
