"""Attention: exact and bidirectional, in two levels, with rotary positions in ground metres.

The paper's public code is causal: a token sees only what lies above or left of it. Here all see all. So that it stays
affordable over a large area, tokens may be pooled in groups first:

    tokens --pool--> summaries <--attend--> summaries
       +----------------read--------------------+

b: batch   d: channels of a token   y, x: token grid   n: tokens   s: summaries   v: heads   e = d / v
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xtgeo.model.context.inject import pool_valid
from xtgeo.model.context.positions import grid_turns, rotate

READ = 2048
"""Tokens that read the summaries at once: keeps the memory of a whole scene's tokens small, in training too."""


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


class Read(nn.Module):
    """Tokens look at summaries: cross-attention and MLP."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.q, self.kv, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(
        self, t: Tensor, turns: Tensor, summaries: Tensor, their_turns: Tensor, keys: Tensor, last: nn.Module
    ) -> Tensor:
        """t (b, n, d) with turns (n, e / 2), summaries (b, s, d) with theirs, keys (b, 1, 1, s); `last` ends it."""
        k, v = self.kv(self.norm2(summaries)).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (b, v, s, e)
        k = rotate(k, their_turns)
        parts = zip(t.split(READ, 1), turns.split(READ), strict=True)
        return torch.cat([_again(self._some, *part, k, v, keys, last) for part in parts], 1)

    def _some(self, t: Tensor, turns: Tensor, k: Tensor, v: Tensor, keys: Tensor, last: nn.Module) -> Tensor:
        q = self.q(self.norm1(t)).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (b, v, n, e)
        a = F.scaled_dot_product_attention(rotate(q, turns), k, v, attn_mask=keys)
        t = t + self.out(a.transpose(1, 2).flatten(-2))
        return last(t + self.mlp(self.norm3(t)))


class Attention(nn.Module):
    """Exact attention: (b, d, y, x), mask (b, y, x) -> (b, d, y, x). Masked tokens change nothing.

    With `group` g > 1, means of g x g tokens attend to each other over the whole area, then every token reads them: n (n / g2)
    instead of n2 pairs. With g = 1 tokens are their own summaries.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        *,
        spacing: float,
        heads: int = 4,
        group: int = 1,
        reach: float = 60_000.0,
        class_token: bool = False,
    ):
        """spacing: metres between tokens; reach: longest wavelength of the positions in metres."""
        super().__init__()
        self.spacing, self.reach, self.width, self.group = spacing, reach, dim // heads, group
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.read = Read(dim, heads) if group > 1 else None
        self.norm = nn.LayerNorm(dim)
        self.token = nn.Parameter(torch.randn(dim) * 0.02) if class_token else None

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        t, seen, y, x = self._summarise(tokens, mask)
        turns = self._turns(y, x, tokens.device, group=self.group)
        for block in self.blocks:
            t = _again(block, t, turns, _keys(seen)) if self.group > 1 else block(t, turns, _keys(seen))
        if self.read is None:
            t = self.norm(t)
        else:
            own = self._turns(*tokens.shape[-2:], tokens.device)
            t = self.read(tokens.flatten(2).transpose(1, 2), own, t, turns, _keys(seen), self.norm)
        t = t * mask.flatten(1)[..., None]
        return t.transpose(1, 2).unflatten(-1, tokens.shape[-2:])

    def classify(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """What a class token, put at the first summary's place, has learnt from all summaries: (b, d)."""
        t, seen, y, x = self._summarise(tokens, mask)
        t = torch.cat([t, self.token.to(t.dtype).expand(len(t), 1, -1)], 1)
        turns = self._turns(y, x, tokens.device, group=self.group)
        turns = torch.cat([turns, turns[:1]])
        keys = F.pad(seen, (0, 1), value=True)[:, None, None]
        for block in self.blocks:
            t = block(t, turns, keys)
        return self.norm(t[:, -1])

    def _summarise(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, int, int]:
        """Summaries (b, s, d), which of them saw a token (b, s), and the sides of their grid."""
        if self.group > 1:
            tokens, mask = _again(pool_valid, tokens, mask, self.group)
        return tokens.flatten(2).transpose(1, 2), mask.flatten(1), *tokens.shape[-2:]

    def _turns(self, y: int, x: int, device: torch.device, group: int = 1) -> Tensor:
        return grid_turns(y, x, self.spacing, self.width, self.reach, device, group=group)


def _again(f: Callable, *args):
    """f(*args), computed again in training where its gradient is wanted: over a large area what lies between would be
    dozens of times as large as the tokens."""
    return checkpoint(f, *args, use_reentrant=False, preserve_rng_state=False)


def _keys(seen: Tensor) -> Tensor:
    """(b, n) -> (b, 1, 1, n) which tokens may be looked at; in an empty tile all may: no NaN."""
    return (seen | ~seen.any(1, keepdim=True))[:, None, None]
