"""Exact gradients over an image of any size, in memory that grows with its tokens alone.

xT (Gupta et al. 2024, arXiv 2403.01915) cuts gradients off between regions to keep memory flat. They need not be cut: what
passes from tile to tile are tokens, which are small, so a tile's graph can be thrown away and built again when the
gradient of its tokens is known (as Gao et al. 2021, arXiv 2101.06983, do for large batches).

    1  look     every tile, no graph                       tokens T
    2  context  over all tokens, graph kept                told U
    3  ask      every tile: encode without graph, head     dL/dU, then through the context: its gradients and dL/dT
    4  replay   every tile, with graph                     gradients of encoder and head, of L and of T . dL/dT

A tile costs 5 forward passes of the encoder instead of 3 (a backward pass counts as two), a classifier 4. Dropout and
stochastic depth are drawn again as they were: each tile has its own seed. Needs torch only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from xtgeo.model.xt import XT, Nested, XTClassifier
from xtgeo.tokens import Tokens
from xtgeo.window import Nest, Tile

Read = Callable[[Tile], tuple[Tensor, Tensor]]
"""A tile's normalised data (1, c, h + 2 m, w + 2 m) and valid pixels (1, h + 2 m, w + 2 m), as the network takes them."""


def tiles_of(x: Tensor, valid: Tensor, margin: int) -> Read:
    """Reads tiles from an image in memory: x (1, c, H, W), valid (1, H, W); beyond its border there is nothing."""
    sides = (margin,) * 4
    x, valid = F.pad(x, sides), F.pad(valid, sides)

    def read(tile: Tile) -> tuple[Tensor, Tensor]:
        here = (..., *tile.full.shift(margin, margin).slices)
        return x[here], valid[here]

    return read


def dense_step(
    net: XT, nest: Nest, read: Read, loss: Callable[[Tensor, Tile], Tensor], *, seed: int = 0, share: float = 1.0
) -> float:
    """Adds the gradients of the loss over a whole image to the parameters' own, and gives the loss.

    `loss(logits (1, k, h, w), tile)` is a tile's part of a sum over all tiles: whatever it is divided by must be known
    before. With `share` below 1 that part of the tiles, drawn with `seed`, is replayed at a weight of 1 / share: gradients of
    the encoder and head are then estimates without bias. Batch normalisation in training mode is refused: its
    statistics would be those of one tile.
    """
    _check(net, share)
    if not hasattr(net.context, "gather"):
        return _replay(nest, seed, share, lambda tile: loss(net(*read(tile)), tile))
    tokens, seen = _look(net, nest, read, seed)
    told = F.pad(net.context.encoder(seen, tokens.mask[None].to(seen.device)), (1, 1, 1, 1), mode="replicate")
    known, asked, total = told.detach(), torch.zeros_like(told), 0.0
    for tile in nest:
        (x, valid), here = read(tile), (..., *tokens.ringed(tile.core).slices)
        part = known[here].clone().requires_grad_()
        with _same_draws(seed, tile):
            with torch.no_grad():
                levels, _ = net.encode(x, valid)
            value = loss(net.answer(net.context.spread(levels, part, rim=1), x.shape), tile)
        asked[here] += torch.autograd.grad(value, part)[0]
        total += value.item()
    told.backward(asked)
    del told, asked

    def again(tile: Tile) -> Tensor:
        x, valid = read(tile)
        levels, core = net.encode(x, valid)
        own, _ = net.context.gather(levels, core)
        part = known[(..., *tokens.ringed(tile.core).slices)]
        logits = net.answer(net.context.spread(levels, part, rim=1), x.shape)
        return loss(logits, tile) + (own * seen.grad[(..., *tokens.window(tile.core).slices)]).sum()

    _replay(nest, seed, share, again)
    return total


def classifier_step(
    net: XTClassifier, nest: Nest, read: Read, loss: Callable[[Tensor], Tensor], *, seed: int = 0, share: float = 1.0
) -> float:
    """As `dense_step` for a label of the whole image: `loss(logits (1, classes))`."""
    _check(net, share)
    logits, tokens, seen = _classify(net, nest, read, seed)
    value = loss(logits)
    value.backward()

    def again(tile: Tile) -> Tensor:
        own, _ = net.tokens(*read(tile))
        return (own * seen.grad[(..., *tokens.window(tile.core).slices)]).sum()

    _replay(nest, seed, share, again)
    return value.item()


@torch.no_grad()
def classify_whole(net: XTClassifier, nest: Nest, read: Read) -> Tensor:
    """Logits (1, classes) of an image of any size, tile by tile."""
    return _classify(net, nest, read, 0)[0]


def _classify(net: XTClassifier, nest: Nest, read: Read, seed: int) -> tuple[Tensor, Tokens, Tensor]:
    tokens, seen = _look(net, nest, read, seed)
    return net.head(net.context.encoder.classify(seen, tokens.mask[None].to(seen.device))), tokens, seen


def _look(net: Nested, nest: Nest, read: Read, seed: int) -> tuple[Tokens, Tensor]:
    """Tokens of every tile, without a graph; and, on the network's device, (1, d, Y, X) that takes their gradient."""
    weights = next(net.parameters())
    tokens = Tokens(nest, net.context.stride, net.spec.context_dim, weights.dtype)
    with torch.no_grad():
        for tile in nest:
            with _same_draws(seed, tile):
                own, mask = net.tokens(*read(tile))
            tokens.put(tile.core, own[0], mask[0])
    return tokens, tokens.tokens[None].to(weights.device).requires_grad_()


def _replay(nest: Nest, seed: int, share: float, value: Callable[[Tile], Tensor]) -> float:
    """Gradients of the sum of `value` over the tiles, or its estimate from a share of them; and the sum."""
    draw, total = torch.Generator().manual_seed(seed), 0.0
    for tile in nest:
        if share == 1 or torch.rand((), generator=draw) < share:
            with _same_draws(seed, tile):
                part = value(tile) / share
            part.backward()
            total += part.item()
    return total


@contextmanager
def _same_draws(seed: int, tile: Tile) -> Iterator[None]:
    """Random numbers within are the same whenever this tile is computed; those outside go on as if nothing had been drawn."""
    with torch.random.fork_rng(range(torch.cuda.device_count())):  # of all, named: torch warns where it has to guess them
        torch.manual_seed((seed << 32) + tile.index)
        yield


def _check(net: Nested, share: float) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"share is over 0 and at most 1, not {share}")
    if any(isinstance(m, _BatchNorm) and m.training for m in net.modules()):
        raise ValueError(
            "batch normalisation in training mode makes results depend on the tile it sees: take a backbone with layer "
            "normalisation, such as convnext_atto, or put those layers into eval mode"
        )
