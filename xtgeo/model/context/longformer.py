"""Longformer (Beltagy et al. 2020, arXiv 2004.05150) on a grid, as in Vision Longformer (Zhang et al. 2021, arXiv 2103.15358).

A token looks at its neighbours, exactly, and at a few global tokens; these are learnt, and look at everything:

    . . . . . . .
    . o o o . . .      t looks at o and at g1 g2
    . o t o . . .      g1 looks at all of the grid and at g1 g2, with projections of its own
    . o o o . . .
    . . . . . . .      g1 g2

So news travels `radius` tokens in each block, and anywhere in two. Time and memory are linear in the tokens.

b: batch   d: channels of a token   y, x: token grid   n = y x   g: global tokens   v: heads   e = d / v
c: blocks of queries in a row of blocks   s: queries of a block   h: keys of its halo
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtgeo.errors import ModelError
from xtgeo.model.context.attention import Block
from xtgeo.model.context.positions import grid_turns, rotate

SIDE = 8
"""Least side of a block of queries in tokens: with radius 7 a query meets 22 x 22 keys, 15 x 15 of which count."""


def window_attention(
    q: Tensor, k: Tensor, v: Tensor, seen: Tensor, scores: Tensor, values: Tensor, *, radius: int
) -> Tensor:
    """Every token of a grid looks at the square of (2 radius + 1)^2 tokens around it, and at g keys besides.

    q, k, v (b, v, y, x, e), seen (b, y, x): which tokens may be looked at; scores (b, v, y, x, g), by sqrt(e) divided, and values
    (b, v, g, e) of the other keys -> (b, v, y, x, e). Rows of tokens that are not seen are finite and mean nothing.
    """
    (y, x), g = seen.shape[-2:], scores.shape[-1]
    side = max(SIDE, radius + 1)  # a halo is never more than nine times as large as its block
    near = _near(side, radius, seen.device)  # (s, h)
    bands = zip(
        _blocks(q * q.shape[-1] ** -0.5, side),
        _blocks(scores, side),
        _blocks(k, side, radius),
        _blocks(v, side, radius),
        _blocks(seen[:, None, ..., None], side, radius),
        strict=True,
    )
    out = []
    for queries, beside, keys, content, there in bands:  # (b, v, c, channels, s or h)
        around = queries.mT @ keys
        around = around.masked_fill(~(near & there), torch.finfo(around.dtype).min)
        weights = torch.cat([around, beside.mT], -1).softmax(-1).to(v.dtype)
        around, beside = weights.split([keys.shape[-1], g], -1)
        out.append(around @ content.mT + beside @ values[:, :, None])
    a = torch.stack(out, 2).unflatten(4, (side, side))  # (b, v, rows, c, side, side, e)
    return a.transpose(3, 4).flatten(4, 5).flatten(2, 3)[:, :, :y, :x]


def _blocks(t: Tensor, side: int, radius: int = 0) -> Iterator[Tensor]:
    """Rows of blocks of t (b, v, y, x, channels), with a halo of `radius`: (b, v, c, channels, (side + 2 radius)^2) each.

    What lies beyond the grid is 0. A row is copied when its turn comes: all halos together are many times the grid.
    """
    y, x = t.shape[2:4]
    t = F.pad(t, (0, 0, radius, radius + -x % side, radius, radius + -y % side))
    span = side + 2 * radius
    return (row.flatten(-2) for row in t.unfold(2, span, side).unfold(3, span, side).unbind(2))


def _near(side: int, radius: int, device: torch.device) -> Tensor:
    """Which keys of its halo each query of a block may look at: (side^2, (side + 2 radius)^2)."""
    step = torch.arange(side + 2 * radius, device=device) - torch.arange(side, device=device)[:, None]
    near = (step >= 0) & (step <= 2 * radius)
    return (near[:, None, :, None] & near[:, None]).flatten(2).flatten(0, 1)


class WindowBlock(Block):
    """The block of `Attention`, whose tokens look at their neighbours and at global tokens."""

    def __init__(self, dim: int, heads: int, radius: int):
        super().__init__(dim, heads)
        self.radius = radius
        self.global_q, self.global_kv = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)

    def forward(self, t: Tensor, turns: Tensor, seen: Tensor) -> Tensor:
        """t (b, n + g, d): the grid, then the global tokens; turns (n, e / 2), seen (b, y, x)."""
        n, shape, heads = len(turns), seen.shape[1:], (self.heads, -1)
        u = self.norm1(t)
        q, k, v = self.qkv(u).unflatten(-1, (3, *heads)).permute(2, 0, 3, 1, 4)  # (b, v, n + g, e)
        # A global token has no place: its score is that of vectors which are not turned.
        scores = q[:, :, :n] @ k[:, :, n:].mT * q.shape[-1] ** -0.5
        grid = (rotate(q[:, :, :n], turns), rotate(k[:, :, :n], turns), v[:, :, :n])
        grid, scores = [z.unflatten(2, shape) for z in grid], scores.unflatten(2, shape)
        local = window_attention(*grid, seen, scores, v[:, :, n:], radius=self.radius)
        q = self.global_q(u[:, n:]).unflatten(-1, heads).transpose(1, 2)
        k, v = self.global_kv(u).unflatten(-1, (2, *heads)).permute(2, 0, 3, 1, 4)
        keys = F.pad(seen.flatten(1), (0, t.shape[1] - n), value=True)[:, None, None]
        a = torch.cat([local.flatten(2, 3), F.scaled_dot_product_attention(q, k, v, attn_mask=keys)], 2)
        t = t + self.out(a.transpose(1, 2).flatten(-2))
        return t + self.mlp(self.norm2(t))


class Longformer(nn.Module):
    """Sliding window and global tokens: (b, d, y, x), mask (b, y, x) -> (b, d, y, x). Masked tokens change nothing."""

    def __init__(
        self,
        dim: int,
        depth: int,
        *,
        spacing: float,
        heads: int = 4,
        radius: int = 7,
        global_tokens: int = 8,
        reach: float = 60_000.0,
        class_token: bool = False,
    ):
        """spacing: metres between tokens; reach: longest wavelength of the positions in metres.

        radius: how many tokens a token sees to each side, 7 for a window of 15 x 15.
        """
        super().__init__()
        if radius < 0 or global_tokens < 1:
            raise ModelError(
                f"context longformer: radius {radius} and global_tokens {global_tokens}; at least 0 and 1 are needed"
            )
        self.spacing, self.reach, self.width = spacing, reach, dim // heads
        self.globals = nn.Parameter(torch.randn(global_tokens, dim) * 0.02)
        self.blocks = nn.ModuleList(WindowBlock(dim, heads, radius) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.token = nn.Parameter(torch.randn(dim) * 0.02) if class_token else None

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        t = self._learn(tokens, mask, self.globals)[:, : mask[0].numel()] * mask.flatten(1)[..., None]
        return t.transpose(1, 2).unflatten(-1, tokens.shape[-2:])

    def classify(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """What a class token, one more global token, has learnt from all tokens: (b, d)."""
        return self._learn(tokens, mask, torch.cat([self.globals, self.token[None]]))[:, -1]

    def _learn(self, tokens: Tensor, mask: Tensor, others: Tensor) -> Tensor:
        """What the tokens of the grid and others (g, d) have learnt: (b, n + g, d)."""
        t = torch.cat([tokens.flatten(2).transpose(1, 2), others.to(tokens.dtype).expand(len(tokens), -1, -1)], 1)
        turns = grid_turns(*tokens.shape[-2:], self.spacing, self.width, self.reach, tokens.device)
        for block in self.blocks:
            t = block(t, turns, mask)
        return self.norm(t)
