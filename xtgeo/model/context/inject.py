"""How context enters a pyramid: tokens are pooled from its coarsest level, what they learn is added to several.

xT (Gupta et al. 2024, arXiv 2403.01915) replaces the coarsest level alone. Here the news enters the features of several strides
through gates that start at zero: context can do no harm. A gate is a projection, as in ControlNet (Zhang et al. 2023,
arXiv 2302.05543), not a factor behind one that is random: such a factor is pushed back to zero as long as the projection says
little, and the projection learns little as long as the factor is near zero (benchmarks/ghosts.py: not open after 1,000 steps).

    levels --gather--> tokens --encoder--> told --spread--> levels
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


def pool_valid(x: Tensor, valid: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Means over squares of size x size that count valid elements only, and which squares have any.

    x (b, d, h, w), valid (b, h, w) -> (b, d, y, x), bool (b, y, x); the last squares may be cut short.
    """
    weight = valid[:, None].to(x.dtype)
    options: dict[str, Any] = {"kernel_size": size, "ceil_mode": True, "divisor_override": 1}
    total = F.avg_pool2d(x * weight, **options)
    count = F.avg_pool2d(weight.float(), **options)
    return total / count.clamp(min=1).to(x.dtype), count[:, 0] > 0


class Gather(nn.Module):
    """Tokens for a context encoder from the coarsest level of a pyramid."""

    def __init__(self, encoder: nn.Module, dim: int, channels: list[int], strides: list[int], stride: int):
        """dim: channels of a token; channels, strides: of the levels; stride: side in pixels of a token's square."""
        super().__init__()
        self.encoder, self.strides, self.stride = encoder, strides, stride
        self.enter = nn.Conv2d(channels[-1], dim, 1)

    def gather(self, levels: list[Tensor], valid: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (b, d, y, x) and which of them saw a valid pixel (b, y, x); valid (b, h, w) in pixels of the core."""
        coarse = self.strides[-1]
        shares = F.avg_pool2d(valid[:, None].float(), coarse, ceil_mode=True)[:, 0]
        return pool_valid(self.enter(levels[-1]), shares > 0, self.stride // coarse)


class Inject(Gather):
    """Levels of a pyramid, enriched by a context encoder that works on their pooled coarsest level.

    Levels finer than stride 4 are left alone: there the upsampling costs more than the whole encoder.
    """

    def __init__(self, encoder: nn.Module, dim: int, channels: list[int], strides: list[int], stride: int):
        super().__init__(encoder, dim, channels, strides, stride)
        self.gates = nn.ModuleList(nn.Conv2d(dim, c, 1) for c in channels)
        for gate in self.gates:
            nn.init.zeros_(gate.weight)
            nn.init.zeros_(gate.bias)

    def forward(self, levels: list[Tensor], valid: Tensor) -> list[Tensor]:
        """valid (b, h, w) in pixels of the core."""
        return self.spread(levels, self.encoder(*self.gather(levels, valid)))

    def spread(self, levels: list[Tensor], told: Tensor, rim: int = 0) -> list[Tensor]:
        """The levels with what the tokens learnt, told (b, d, y + 2 rim, x + 2 rim): a rim lets neighbouring tiles agree."""
        out = []
        for level, stride, gate in zip(levels, self.strides, self.gates, strict=True):
            if stride >= 4:
                f, (h, w) = self.stride // stride, level.shape[-2:]
                news = F.interpolate(gate(told), scale_factor=f, mode="bilinear")
                level = level + news[..., rim * f : rim * f + h, rim * f : rim * f + w]
            out.append(level)
        return out


class NoContext(nn.Module):
    """Every region for itself: the plain backbone."""

    def forward(self, levels: list[Tensor], valid: Tensor) -> list[Tensor]:
        return levels


class Mean(nn.Module):
    """No context encoder, for whole images: tokens as they are, and their mean instead of a class token."""

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return tokens

    def classify(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(b, d, y, x), (b, y, x) -> (b, d), over the valid tokens."""
        weight = mask[:, None].to(tokens.dtype)
        return (tokens * weight).sum((-2, -1)) / weight.sum((-2, -1)).clamp(min=1)
