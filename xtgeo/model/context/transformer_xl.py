"""Transformer-XL: segments of the token grid are visited one after the other, and each remembers those before it.

Dai et al. 2019 (arXiv 1901.02860), which xT (arXiv 2403.01915) applies to regions. xT's public code returns the memory
that came in, so that nothing is ever passed on; here a layer reads what the layer below made of the segments before:

    layer 2                 7         with memory = 1 news travels one segment a layer,
    layer 1            6    7         depth x memory segments in all
    layer 0       5    6    7

Within a segment attention is bidirectional, unlike in the paper: a square of tokens has no before and after. What is
causal is the order of the segments, the price of a memory that does not grow with the scene.

b: batch   d: channels of a token   y, x: token grid   k: segments, c of them at once, m remembered
n: tokens of a segment   v: heads   e = d / v   w: rotations of a position
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtgeo.errors import ModelError
from xtgeo.model.context.positions import places, rotary, rotate

AT_ONCE = 4096
"""Tokens computed at once. A layer needs the layer below only, so segments need not wait for one another to end."""


def split_segments(x: Tensor, side: int) -> Tensor:
    """x (b, d, y, x) -> squares of side x side tokens in raster order, the last ones filled up with 0: (b, k, n, d)."""
    x = F.pad(x, (0, -x.shape[-1] % side, 0, -x.shape[-2] % side))
    x = x.unflatten(-1, (-1, side)).unflatten(-3, (-1, side))  # (b, d, rows, side, columns, side)
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)


def join_segments(parts: Tensor, side: int, y: int, x: int) -> Tensor:
    """The inverse of `split_segments`: (b, k, n, d) -> (b, d, y, x)."""
    parts = parts.unflatten(2, (side, side)).unflatten(1, (-(-y // side), -1))  # (b, rows, columns, side, side, d)
    return parts.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)[..., :y, :x]


def visits(rows: int, columns: int, order: str) -> Tensor:
    """Numbers, in raster order, of rows x columns segments as they are visited: (k,).

    >>> visits(2, 3, "zigzag")
    tensor([0, 1, 2, 5, 4, 3])
    """
    numbers = torch.arange(rows * columns).view(rows, columns)
    if order == "zigzag":
        numbers[1::2] = numbers[1::2].flip(1)
    return numbers.flatten()


class Segments(NamedTuple):
    """Some segments of each sample."""

    tokens: Tensor
    """(b, k, n, d)"""
    seen: Tensor
    """(b, k, n), bool: where something was measured."""
    turns: Tensor
    """(b, k, n, w), complex: positions."""

    def pick(self, index: Tensor) -> Segments:
        """Those of numbers index (b, c)."""
        return Segments(*(part[_samples(index), index] for part in self))


def put(told: Tensor, index: Tensor, k: int) -> Tensor:
    """The inverse of `Segments.pick`: told (b, c, n, d) at the numbers index (b, c) of k, 0 elsewhere: (b, k, n, d)."""
    whole = told.new_zeros(len(told), k, *told.shape[2:])
    whole[_samples(index), index] = told
    return whole


def _samples(index: Tensor) -> Tensor:
    """(b, 1) numbers of the samples, to stand beside index (b, c)."""
    return torch.arange(len(index), device=index.device)[:, None]


class Memory(NamedTuple):
    """The last m segments visited of each sample."""

    states: list[Tensor]
    """What each layer reads of them: depth x (b, m, n, d)."""
    seen: Tensor
    """(b, m, n)"""
    turns: Tensor
    """(b, m, n, w)"""


class Rotary(nn.Module):
    """Scores (T_i q_i)^T (T_j k_j) with rotations T of 4 tokens to `reach` metres: they know offsets only."""

    def __init__(self, dim: int, heads: int, spacing: float, reach: float):
        super().__init__()
        self.width, self.shortest, self.longest = dim // heads, 4 * spacing, reach

    def turns(self, down: Tensor, right: Tensor) -> Tensor:
        """Positions in metres, (n,) each -> (n, w)."""
        return rotary(down, right, self.width, self.shortest, self.longest)

    def query(self, q: Tensor, turns: Tensor) -> Tensor:
        return rotate(q, turns)

    def key(self, k: Tensor, turns: Tensor) -> Tensor:
        return rotate(k, turns)


class Sinusoid(nn.Module):
    """The paper's scores, (q_i + u)^T k_j + (q_i + v)^T W R_{i-j}.

    R holds pairs (cos f o, sin f o) of the offset o, half of them for y, half for x, with wavelengths from 2 pi tokens,
    as in the paper, to `reach` metres. With p = (q_i + v)^T W, its part of a score is a sum over pairs of

        p_cos cos f(i - j) + p_sin sin f(i - j) = (p turned by -f i) . (cos f j, -sin f j)

    a dot product of something of i and something of j: queries and keys grow by d channels, and nothing is shifted.
    """

    def __init__(self, dim: int, heads: int, spacing: float, reach: float):
        super().__init__()
        self.dim, self.shortest, self.longest = dim, 2 * torch.pi * spacing, reach
        self.u = nn.Parameter(torch.randn(heads, 1, dim // heads) * 0.02)
        self.v = nn.Parameter(torch.randn(heads, 1, dim // heads) * 0.02)
        self.w = nn.Parameter(torch.randn(heads, dim // heads, dim) * dim**-0.5)

    def turns(self, down: Tensor, right: Tensor) -> Tensor:
        """Positions in metres, (n,) each -> (n, w)."""
        return rotary(-down, -right, self.dim, self.shortest, self.longest)

    def query(self, q: Tensor, turns: Tensor) -> Tensor:
        return torch.cat([q + self.u, rotate((q + self.v) @ self.w, turns)], -1)

    def key(self, k: Tensor, turns: Tensor) -> Tensor:
        waves = torch.view_as_real(turns).flatten(-2).to(k.dtype)
        return torch.cat([k, waves.expand(*k.shape[:-1], -1)], -1)


ORDERS = ("raster", "zigzag", "two_pass")
POSITIONS = {"rotary": Rotary, "sinusoid": Sinusoid}


class Block(nn.Module):
    """Pre-norm attention of segments to their memory and themselves, and MLP."""

    def __init__(self, dim: int, heads: int, positions: Rotary | Sinusoid):
        super().__init__()
        self.heads, self.positions = heads, positions
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.q, self.kv, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, h: Tensor, past: Tensor, turns: Tensor, keys: Tensor) -> Tensor:
        """h (b, c, n, d) after past (b, m + c - 1, n, d), turns (b, m + c, n, w), keys (b, c, 1, 1, m n + n)."""
        c = h.shape[1]
        q = self.q(self.norm1(h)).unflatten(-1, (self.heads, -1)).transpose(2, 3)  # (b, c, v, n, e)
        q = self.positions.query(q, turns[:, -c:, None])
        before, own = self._read(past, turns[:, :-1]), self._read(h, turns[:, -c:])
        k, v = (windows(*pair) for pair in zip(before, own, strict=True))  # (b, c, v, m n + n, e)
        q, k, v, keys = (part.flatten(0, 1) for part in (q, k, v, keys))
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=keys, scale=v.shape[-1] ** -0.5)  # (b c, v, n, e)
        h = h + self.out(a.transpose(1, 2).flatten(-2).unflatten(0, (-1, c)))
        return h + self.mlp(self.norm2(h))

    def _read(self, h: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
        k, v = self.kv(self.norm1(h)).unflatten(-1, (2, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)  # (b, k, v, n, e)
        return self.positions.key(k, turns[:, :, None]), v


def windows(past: Tensor, own: Tensor) -> Tensor:
    """past (b, m + c - 1, ..., n, e), own (b, c, ..., n, e) -> each behind the m before it, (b, c, ..., m n + n, e)."""
    c = own.shape[1]
    return torch.cat([*(past[:, i : i + c] for i in range(past.shape[1] - c + 1)), own], -2)


class TransformerXL(nn.Module):
    """Segment recurrence: (b, d, y, x), mask (b, y, x) -> (b, d, y, x). Masked tokens change nothing.

    Segments without a single token are skipped: the memory stays as it was, a wedge of nodata does not cut it. Orders:

        raster     1 2 3     zigzag     1 2 3     two_pass     raster twice: the first segment remembers the last,
                   4 5 6                6 5 4                  as though the order were a ring

    Every token sees its own segment and depth x memory segments back along the order. In two passes, the first is there
    to leave a memory; that is made of its last depth x memory segments, so only these are visited.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        *,
        spacing: float,
        heads: int = 4,
        segment: int = 8,
        memory: int = 1,
        order: str = "raster",
        positions: str = "rotary",
        detach: bool = True,
        reach: float = 60_000.0,
        class_token: bool = False,
    ):
        """spacing: metres between tokens; segment: tokens along the side of one; memory: segments remembered.

        With `detach`, as in the paper, no gradient enters the memory. reach: longest wavelength of positions in metres.
        Raises ModelError for an unknown order or positions, and for a dim that is no multiple of 4 heads.
        """
        super().__init__()
        if order not in ORDERS or positions not in POSITIONS:
            raise ModelError(
                f"a Transformer-XL has no order {order!r} with positions {positions!r}; choose one of "
                f"{', '.join(ORDERS)} and one of {', '.join(POSITIONS)}"
            )
        if min(depth, heads, segment, memory) < 1 or dim % (4 * heads):
            raise ModelError(
                f"a Transformer-XL of dim {dim}, depth {depth}, heads {heads}, segment {segment} and memory {memory} "
                "cannot be: dim must be a multiple of 4 heads, everything else at least 1"
            )
        self.spacing, self.segment, self.memory, self.order, self.detach = spacing, segment, memory, order, detach
        kind = POSITIONS[positions]
        self.blocks = nn.ModuleList(Block(dim, heads, kind(dim, heads, spacing, reach)) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.token = nn.Parameter(torch.randn(dim) * 0.02) if class_token else None

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        segments, index, last = self._segments(tokens, mask)
        told = put(self._visit(segments, index, last), index, segments.seen.shape[1])
        return join_segments(told, self.segment, *mask.shape[1:]) * mask[:, None]

    def classify(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """What a class token has learnt that joins the last segment, in both passes, at its first place: (b, d)."""
        segments, index, last = self._segments(tokens, mask)
        token = self.token.to(tokens.dtype).expand(*segments.seen.shape[:2], 1, -1)
        there = torch.zeros_like(segments.seen[..., :1]).scatter(1, index.gather(1, last)[..., None], True)
        added = Segments(token, there, segments.turns[:, :, :1])
        segments = Segments(*(torch.cat(pair, 2) for pair in zip(segments, added, strict=True)))
        return self._visit(segments, index, last)[_samples(last), last, -1][:, 0]

    def _segments(self, tokens: Tensor, mask: Tensor) -> tuple[Segments, Tensor, Tensor]:
        """In raster order; their numbers as visited, skipped ones at the end (b, k); where the last is (b, 1)."""
        (y, x), side = mask.shape[1:], self.segment
        tokens = tokens.masked_fill(~mask[:, None], 0.0)
        metres = torch.stack(places(y, x, self.spacing, mask.device)).view(1, 2, y, x)
        tokens, seen, metres = (split_segments(part, side) for part in (tokens, mask[:, None], metres))
        turns = self.blocks[0].positions.turns(*metres.flatten(0, 2).unbind(-1)).unflatten(0, metres.shape[:3])
        segments = Segments(tokens, seen[..., 0], turns.expand(len(tokens), -1, -1, -1))
        index = visits(-(-y // side), -(-x // side), self.order).to(mask.device)
        full = segments.seen.any(-1)[:, index]
        index, count = index[full.logical_not().argsort(dim=1, stable=True)], full.sum(1, keepdim=True).clamp(min=1)
        longest = index.shape[1] if count.is_meta else int(count.max())
        return segments, index[:, :longest], count - 1

    def _visit(self, segments: Segments, index: Tensor, last: Tensor) -> Tensor:
        """What the segments of numbers index (b, k), the last of them at last (b, 1), have learnt: (b, k, n, d)."""
        memory = self._blank(segments)
        if self.order == "two_pass":
            k = index.shape[1]
            # A sample that has fewer segments than are asked for wraps to those that saw nothing.
            back = (last + torch.arange(1 - min(len(self.blocks) * self.memory, k), 1, device=index.device)) % k
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.detach):
                _, memory = self._walk(segments, index.gather(1, back), memory)
        return self.norm(self._walk(segments, index, memory)[0])

    def _walk(self, segments: Segments, index: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """States of the segments after the last block, (b, k, n, d), and what is remembered at the end."""
        told = []
        for some in index.split(max(1, AT_ONCE // segments.seen.shape[2]), 1):
            now, c = segments.pick(some), some.shape[1]
            seen, turns = torch.cat([memory.seen, now.seen], 1), torch.cat([memory.turns, now.turns], 1)
            keys = windows(seen[:, :-1, None, :, None], now.seen[:, :, None, :, None]).mT
            keys = keys | ~keys.any(-1, keepdim=True)  # where there is nothing to look at all may be looked at: no NaN
            h, states = now.tokens, []
            for block, state in zip(self.blocks, memory.states, strict=True):
                state = torch.cat([state, h], 1)  # (b, m + c, n, d)
                state = state.detach() if self.detach else state
                states.append(state[:, c:])
                h = block(h, state[:, :-1], turns, keys)
            told.append(h)
            memory = Memory(states, seen[:, c:], turns[:, c:])
        return torch.cat(told, 1), memory

    def _blank(self, like: Segments) -> Memory:
        tokens, seen, turns = (part.new_zeros(len(part), self.memory, *part.shape[2:]) for part in like)
        return Memory([tokens] * len(self.blocks), seen, turns)
