"""Context: regions of a tile talk to each other.

xT (Gupta et al. 2024, arXiv 2403.01915) passes what the region encoder saw to a context encoder over the whole area.
Here each token stands for a square of `stride` pixels, attention is exact and bidirectional (the paper's public code
is causal), positions are rotary in two dimensions (Su et al. 2021, arXiv 2104.09864) and in ground metres, and what
the tokens learnt enters the features of several strides through gates that start at zero: context can do no harm.

b: batch   d: channels of a token   y, x: token grid   n = y * x   v: heads   e = d / v
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pool_valid(x: Tensor, valid: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Means over squares of size x size that count valid elements only, and which squares have any.

    x (b, d, h, w), valid (b, h, w) -> (b, d, y, x), bool (b, y, x); the last squares may be cut short.
    """
    weight = valid[:, None].to(x.dtype)
    options = {"kernel_size": size, "ceil_mode": True, "divisor_override": 1}
    total = F.avg_pool2d(x * weight, **options)
    count = F.avg_pool2d(weight.float(), **options)
    return total / count.clamp(min=1).to(x.dtype), count[:, 0] > 0


def rotary(y: Tensor, x: Tensor, width: int, shortest: float, longest: float) -> Tensor:
    """Rotations of `width` / 2 pairs for positions y (n,), x (n,) in metres: (n, width / 2) complex.

    Half of the pairs turn with y, half with x; wavelengths run geometrically from `shortest` to `longest` metres.
    """
    octave = torch.linspace(0, 1, width // 4, device=y.device)
    frequency = 2 * math.pi / (shortest * (longest / shortest) ** octave)
    angle = torch.cat([y[:, None] * frequency, x[:, None] * frequency], 1)
    return torch.polar(torch.ones_like(angle), angle)


def rotate(q: Tensor, turns: Tensor) -> Tensor:
    """q (b, v, n, e) turned by its position, turns (n, e / 2)."""
    pairs = torch.view_as_complex(q.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turns).flatten(-2).to(q.dtype)


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, t: Tensor, turns: Tensor, keys: Tensor) -> Tensor:
        """t (b, n, d), turns (n, e / 2), keys (b, 1, 1, n): which tokens may be looked at."""
        q, k, v = self.qkv(self.norm1(t)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (b, v, n, e)
        a = F.scaled_dot_product_attention(rotate(q, turns), rotate(k, turns), v, attn_mask=keys)
        t = t + self.out(a.transpose(1, 2).flatten(-2))
        return t + self.mlp(self.norm2(t))


class Attention(nn.Module):
    """Exact attention over all tokens: (b, d, y, x), mask (b, y, x) -> (b, d, y, x). Masked tokens change nothing."""

    def __init__(self, dim: int, depth: int, *, spacing: float, heads: int = 4, reach: float = 60_000.0):
        """spacing: metres between tokens; reach: longest wavelength of the positions in metres."""
        super().__init__()
        self.spacing, self.reach, self.width = spacing, reach, dim // heads
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        y, x = tokens.shape[-2:]
        rows, columns = torch.meshgrid(
            torch.arange(y, device=tokens.device), torch.arange(x, device=tokens.device), indexing="ij"
        )
        turns = rotary(
            rows.flatten() * self.spacing, columns.flatten() * self.spacing, self.width, 4 * self.spacing, self.reach
        )
        seen = mask.flatten(1)
        keys = (seen | ~seen.any(1, keepdim=True))[:, None, None]  # an empty tile may look at itself: no NaN
        t = tokens.flatten(2).transpose(1, 2)
        for block in self.blocks:
            t = block(t, turns, keys)
        t = self.norm(t) * seen[..., None]
        return t.transpose(1, 2).unflatten(-1, (y, x))


class Inject(nn.Module):
    """Levels of a pyramid, enriched by a context encoder that works on their pooled coarsest level.

    Levels finer than stride 4 are left alone: there the upsampling costs more than the whole encoder.
    """

    def __init__(self, encoder: nn.Module, dim: int, channels: list[int], strides: list[int], stride: int):
        super().__init__()
        self.encoder, self.strides, self.stride = encoder, strides, stride
        self.enter = nn.Conv2d(channels[-1], dim, 1)
        self.leave = nn.ModuleList(nn.Conv2d(dim, c, 1) for c in channels)
        self.gates = nn.ParameterList(nn.Parameter(torch.zeros(c, 1, 1)) for c in channels)

    def forward(self, levels: list[Tensor], valid: Tensor) -> list[Tensor]:
        """valid (b, h, w) in pixels of the core."""
        coarse = self.strides[-1]
        shares = F.avg_pool2d(valid[:, None].float(), coarse, ceil_mode=True)[:, 0]
        pooled, mask = pool_valid(self.enter(levels[-1]), shares > 0, self.stride // coarse)
        told = self.encoder(pooled, mask)
        out = []
        for level, stride, leave, gate in zip(levels, self.strides, self.leave, self.gates, strict=True):
            if stride >= 4:
                news = F.interpolate(gate * leave(told), scale_factor=self.stride // stride, mode="bilinear")
                level = level + news[..., : level.shape[-2], : level.shape[-1]]
            out.append(level)
        return out


class NoContext(nn.Module):
    """Every region for itself: the plain backbone."""

    def forward(self, levels: list[Tensor], valid: Tensor) -> list[Tensor]:
        return levels
