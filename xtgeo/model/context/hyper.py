"""HyperAttention (Han et al. 2024, arXiv 2310.05869): attention whose cost grows with the tokens, not with their square.

Queries and keys are sorted by a hash that likes to put similar ones together, and cut into blocks. A block of queries looks
at the block of keys on the diagonal, where large weights are expected, and at a sample that stands for all other keys:

    sorted keys   [ block 0 | block 1 | block 2 | block 3 ]
    queries 1       .  .      # # # #       .       .  .       #: exact   .: sampled, each with the weight of its share

One softmax over both lists is their merge by log-sum-exp. What differs from the authors' code (github.com/insuhan/hyper-attn):
masked keys enter nowhere, a key of one's own block is not sampled too, and a seed gives the same answer at any time and in any
process. What differs from the paper: the sample is every r-th key of the sorted rest, from a random first one on. Each is as
likely as any other, none comes twice, and from enough samples on the answer is exact.

It is an estimate: for keys without any structure its error grows with the root of n / samples, see benchmarks/hyper_error.py.

b: batch   d: channels of a token   y, x: token grid   n: tokens   v: heads   e = d / v   c: blocks   m: keys of a list
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtgeo.errors import ModelError
from xtgeo.model.context.attention import Block
from xtgeo.model.context.positions import grid_turns, rotate

NEVER = -1e30
"""The logarithm of no weight: finite, so that a list without any key has a gradient."""


def hyper_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seen: Tensor,
    *,
    block: int = 256,
    samples: int = 256,
    bits: int = 7,
    seed: int = 0,
    min_seq_len: int = 4096,
    causal: bool = False,
) -> Tensor:
    """An estimate of softmax(q k^T / sqrt(e)) v, all of them (b, v, n, e), in time and memory that are linear in n.

    seen (b, n): which tokens may be looked at; where there is none, all may. Rows of tokens that are not seen are finite and
    mean nothing. `bits` hyperplanes hash a token. Up to `min_seq_len` tokens the answer is exact, as it is with `block` >= n or
    `samples` >= n. With `causal` a token is answered from itself and those before it, by halves: the later half looks at the
    earlier one in this way, and either half at itself causally. That costs the logarithm of n / min_seq_len times as much, and
    the parts that are exact hold `min_seq_len`^2 scores.
    """
    if min(block, samples, bits) < 1:
        raise ValueError(f"block, samples and bits are at least 1, not {block}, {samples}, {bits}")
    seen = seen | ~seen.any(1, keepdim=True)
    plan = partial(plan_lists, block=block, samples=samples, bits=bits, seed=seed, causal=causal)
    if causal:
        return _halves(q, k, v, seen, max(block, min_seq_len), plan)[0]
    if q.shape[-2] <= min_seq_len:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None, None])
    slots, rows, keys, bias = plan(q, k, seen)
    lists = (take(q, rows), take(k, keys), take(v, keys), bias.to(q.dtype))  # (b, v, c, block or m, e)
    a = F.scaled_dot_product_attention(*(t.flatten(0, 1) for t in lists))
    return take(a.reshape(*q.shape[:2], -1, a.shape[-1]), slots)  # on a GPU a is not always contiguous


@torch.no_grad()
def plan_lists(
    q: Tensor, k: Tensor, seen: Tensor, *, block: int, samples: int, bits: int, seed: int, causal: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Who looks at whom: blocks of queries, the list of keys of each block, and with what weight each key counts.

    q, k (b, v, n, e), seen (b, n) of the keys ->
        slots (b, v, n)         where each query stands in the blocks, put one after another
        rows (b, v, c, block)   the queries of the blocks; slots that none has taken hold the first
        keys (b, v, c, m)       m = block + samples
        bias (b, v, c, 1, m)    the logarithm of the number of keys that each stands for; NEVER for one that does not count

    The weights of a list add up to the number of seen keys. With `causal` no query's list depends on other queries: sorted
    together, as in the paper, later ones would move earlier ones to other blocks.
    """
    (b, heads, n, e), device = k.shape, k.device
    count = -(-n // block)
    generator = torch.Generator().manual_seed(seed)
    planes = torch.randn(e, bits, generator=generator).to(device)
    start = torch.rand(heads, count, 1, generator=generator).to(device).double().expand(b, -1, -1, -1)
    ranks, order = gray_rank(k, planes).masked_fill(~seen[:, None], 2**bits).sort(dim=-1, stable=True)
    if causal:
        slots, homes = _at_home(gray_rank(q, planes), ranks, block)
    else:
        slots = gray_rank(q, planes).masked_fill(~seen[:, None], 2**bits).argsort(dim=-1, stable=True).argsort(dim=-1)
        homes = torch.arange(count, device=device).expand(b, heads, count)
    rows = slots.new_zeros(b, heads, homes.shape[-1] * block)
    rows.scatter_(-1, slots, torch.arange(slots.shape[-1], device=device).expand_as(slots))

    first = homes[..., None] * block  # (b, v, c, 1), as the next three
    total = seen.sum(1)[:, None, None, None]
    own = (total - first).clamp(0, block)
    rest = total - own
    drawn = rest.clamp(max=samples)
    i, j = torch.arange(block, device=device), torch.arange(samples, device=device)
    step = rest.double() / drawn.clamp(min=1)
    far = ((j + take(start, homes)) * step).long()  # 24 random bits in float64: the last of up to 2^29 is below `rest`
    far = far + own * (far >= first)
    keys = torch.cat([first + i, far], -1).clamp(max=n - 1)
    keys = order.gather(-1, keys.flatten(2)).view_as(keys)
    bias = torch.cat([torch.where(i < own, 0.0, NEVER), torch.where(j < drawn, step.log().float(), NEVER)], -1)
    return slots, rows.unflatten(-1, (-1, block)), keys, bias[..., None, :]


def _at_home(mine: Tensor, theirs: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Slots of queries by their own rank alone, and the block of keys that each block of queries looks at.

    mine (b, v, n) ranks, theirs sorted. A query's home is the block in the middle of the keys of its rank. Where many
    share a home it fills several blocks of queries: at most twice as many as there would be.
    """
    count = -(-theirs.shape[-1] // block)
    middle = (torch.searchsorted(theirs, mine) + torch.searchsorted(theirs, mine, right=True)) // 2
    home = middle.clamp(max=theirs.shape[-1] - 1) // block
    guests = home.new_zeros(*home.shape[:2], count).scatter_add(-1, home, torch.ones_like(home))
    blocks = -(-guests // block)
    shift = (blocks.cumsum(-1) - blocks) * block - (guests.cumsum(-1) - guests)
    slots = home.argsort(dim=-1, stable=True).argsort(dim=-1) + shift.gather(-1, home)
    every = torch.arange(count + -(-mine.shape[-1] // block), device=mine.device).expand(*home.shape[:2], -1)
    homes = torch.searchsorted(blocks.cumsum(-1), every.contiguous(), right=True)
    return slots, homes.clamp(max=count - 1)


def gray_rank(x: Tensor, planes: Tensor) -> Tensor:
    """Hashes of x (..., e) by the sides of planes (e, bits) it lies on: ints (...). Neighbouring hashes differ in one side."""
    rank = parity = 0
    for side in (x.float() @ planes > 0).unbind(-1):
        parity = side.long() ^ parity
        rank = 2 * rank + parity
    return rank


def take(x: Tensor, index: Tensor) -> Tensor:
    """Rows of x (b, v, n, e) by index (b, v, ...): (b, v, ..., e)."""
    b, heads, n, e = x.shape
    first = torch.arange(0, b * heads * n, n, device=x.device).view(b, heads, 1)
    # Copies rows; `gather` would look up every number: nearly three times as long.
    return x.reshape(-1, e).index_select(0, (index.flatten(2) + first).flatten()).view(*index.shape, e)


def _halves(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, least: int, plan: Callable) -> tuple[Tensor, Tensor]:
    """Causal attention (b, v, n, e) and the log-sum-exp of its scores (b, v, n, 1); exact up to `least` tokens."""
    n = q.shape[-2]
    if n <= least:
        before = torch.ones(n, n, dtype=torch.bool, device=q.device).tril()
        return _attend(q, k, v, torch.where(before & seen[:, None, None], 0.0, NEVER))
    h = -(-n // 2)
    first = _halves(q[:, :, :h], k[:, :, :h], v[:, :, :h], seen[:, :h], least, plan)
    second = _halves(q[:, :, h:], k[:, :, h:], v[:, :, h:], seen[:, h:], least, plan)
    slots, rows, keys, bias = plan(q[:, :, h:], k[:, :, :h], seen[:, :h])
    across = _attend(take(q[:, :, h:], rows), take(k[:, :, :h], keys), take(v[:, :, :h], keys), bias)
    second = _merge(second, tuple(take(t.flatten(2, 3), slots) for t in across))
    return tuple(torch.cat(parts, 2) for parts in zip(first, second, strict=True))


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Attention (..., n, e) and the log-sum-exp of its scores (..., n, 1)."""
    scores = q @ k.mT * q.shape[-1] ** -0.5 + bias
    lse = scores.logsumexp(-1, keepdim=True)
    return (scores - lse).exp().to(v.dtype) @ v, lse


def _merge(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Attention over two lists of keys, from that over each."""
    lse = torch.logaddexp(one[1], other[1])
    return sum(a * (part - lse).exp().to(a.dtype) for a, part in (one, other)), lse


class HyperBlock(Block):
    """The block of `Attention`, with the same weights, whose attention is estimated."""

    def __init__(self, dim: int, heads: int, attend: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]):
        super().__init__(dim, heads)
        self.attend = attend

    def forward(self, t: Tensor, turns: Tensor, seen: Tensor, exact: int = 0) -> Tensor:
        """t (b, n, d), turns (n, e / 2), seen (b, n); the last `exact` tokens look at every token."""
        q, k, v = self.qkv(self.norm1(t)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (b, v, n, e)
        q, k = rotate(q, turns), rotate(k, turns)
        a = self.attend(q, k, v, seen)
        if exact:
            last = F.scaled_dot_product_attention(q[:, :, -exact:], k, v, attn_mask=seen[:, None, None])
            a = torch.cat([a[:, :, :-exact], last], 2)
        t = t + self.out(a.transpose(1, 2).flatten(-2))
        return t + self.mlp(self.norm2(t))


class Hyper(nn.Module):
    """HyperAttention: (b, d, y, x), mask (b, y, x) -> (b, d, y, x). Masked tokens change nothing.

    Up to `min_seq_len` tokens it is `Attention` with `group` 1, whose weights it takes.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        *,
        spacing: float,
        heads: int = 4,
        min_seq_len: int = 4096,
        block: int = 256,
        samples: int = 256,
        bits: int = 7,
        seed: int = 0,
        reach: float = 60_000.0,
        class_token: bool = False,
    ):
        """spacing: metres between tokens; reach: longest wavelength of the positions in metres; others: `hyper_attention`.

        Block i draws with `seed` + i, so that what one leaves out the next may find.
        """
        super().__init__()
        if min(block, samples, bits) < 1:
            raise ModelError(f"context hyper: block, samples and bits are {block}, {samples}, {bits}; each must be at least 1")
        self.spacing, self.reach, self.width = spacing, reach, dim // heads
        attend = partial(hyper_attention, block=block, samples=samples, bits=bits, min_seq_len=min_seq_len)
        self.blocks = nn.ModuleList(HyperBlock(dim, heads, partial(attend, seed=seed + i)) for i in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.token = nn.Parameter(torch.randn(dim) * 0.02) if class_token else None

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        t, seen, turns = tokens.flatten(2).transpose(1, 2), mask.flatten(1), self._turns(tokens)
        for block in self.blocks:
            t = block(t, turns, seen)
        t = self.norm(t) * seen[..., None]
        return t.transpose(1, 2).unflatten(-1, tokens.shape[-2:])

    def classify(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """What a class token, put at the first token's place, has learnt from all tokens, each of them looked at: (b, d)."""
        t, turns = tokens.flatten(2).transpose(1, 2), self._turns(tokens)
        t = torch.cat([t, self.token.to(t.dtype).expand(len(t), 1, -1)], 1)
        turns, seen = torch.cat([turns, turns[:1]]), F.pad(mask.flatten(1), (0, 1), value=True)
        for block in self.blocks:
            t = block(t, turns, seen, exact=1)
        return self.norm(t[:, -1])

    def _turns(self, tokens: Tensor) -> Tensor:
        return grid_turns(*tokens.shape[-2:], self.spacing, self.width, self.reach, tokens.device)
