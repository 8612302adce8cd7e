"""Head: pyramid levels -> answers for every pixel or cell, at a small part of the encoder's cost.

The decoder of the xT paper spends 314 kFLOP per pixel, more than its encoder (203). This one goes top-down with
depthwise convolutions and ends at the finest level; each of its cells then answers for its own pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle

STRIP = 64
"""Rows of the finest level that are answered at once where no gradients are wanted, a multiple of any stride."""
RIM = 2
"""Rows beyond a strip that its answers depend on: two convolutions of three rows each."""


class DenseHead(nn.Module):
    """(b, ci, h / si, w / si) for each level -> (b, k, h / stride, w / stride) logits; stride 1 answers for every pixel.

    The finest level is the widest thing of the whole model: in inference it is answered strip by strip, which takes a
    fraction of the memory and stays in the processor's cache.
    """

    def __init__(self, channels: list[int], strides: list[int], answers: int, dim: int = 32, stride: int = 1):
        """answers: their number for each cell; stride: its side in pixels, up to that of the finest level."""
        super().__init__()
        self.strides, self.stride, self.cells = strides, stride, strides[0] // stride
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
        self.answer = nn.Conv2d(dim, answers * self.cells**2, 3, padding=1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        x = None
        for i in range(len(levels) - 1, 0, -1):
            x = self._refined(i, levels[i], x)
        rows = levels[0].shape[-2]
        if torch.is_grad_enabled() or rows <= STRIP:
            return self._answer(levels[0], x)
        f, s, strips = self.strides[1] // self.strides[0], self.cells, []
        for y in range(0, rows, STRIP):
            top, bottom = max(0, y - max(RIM, f)), min(rows, y + STRIP + max(RIM, f))
            part = self._answer(levels[0][..., top:bottom, :], x[..., top // f : bottom // f, :])
            strips.append(part[..., (y - top) * s : (min(rows, y + STRIP) - top) * s, :])
        return torch.cat(strips, -2)

    def _refined(self, i: int, level: Tensor, coarser: Tensor | None) -> Tensor:
        x = self.lateral[i](level)
        if coarser is not None:
            x = x + interpolate(coarser, size=x.shape[-2:], mode="nearest")
        return x + self.refine[i](x)

    def _answer(self, finest: Tensor, coarser: Tensor) -> Tensor:
        return pixel_shuffle(self.answer(self._refined(0, finest, coarser)), self.cells)
