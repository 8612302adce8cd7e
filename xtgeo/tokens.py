"""Tokens of a whole scene: where regions of every tile meet, so that context reaches as far as the scene does.

d: channels of a token   Y, X: token grid of the scene   y, x: that of a tile
"""

from __future__ import annotations

import math
import os
import tempfile

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtgeo.window import Nest, Window

IN_MEMORY = 256 << 20
"""Bytes of tokens from which on they lie in a file that is mapped into memory instead of in memory alone."""


def token_grid(nest: Nest, stride: int) -> tuple[int, int]:
    """Rows and columns of tokens that stand for squares of `stride` pixels."""
    return -(-nest.shape[0] // stride), -(-nest.shape[1] // stride)


class Tokens:
    """(d, Y, X) in one number format, and which of them saw a valid pixel; filled tile by tile, by any thread.

    A tile's tokens are a part of the scene's because the sides of tiles are multiples of `stride` pixels.
    """

    def __init__(self, nest: Nest, stride: int, dim: int, dtype: torch.dtype):
        if nest.side % stride:
            raise ValueError(f"tiles of {nest.side} pixels do not divide into tokens of {stride}")
        self.stride = stride
        grid = token_grid(nest, stride)
        self.tokens = _zeros((dim, *grid), dtype)
        self.mask = torch.zeros(grid, dtype=torch.bool)

    def put(self, core: Window, tokens: Tensor, mask: Tensor) -> None:
        """tokens (d, y, x) and mask (y, x) of the tile with this core."""
        here = (..., *self.window(core).slices)
        self.tokens[here], self.mask[here] = tokens, mask

    def window(self, core: Window) -> Window:
        """Where the tokens of the tile with this core lie."""
        s = self.stride
        return Window(core.y // s, core.x // s, -(-core.h // s), -(-core.w // s))

    def ringed(self, core: Window) -> Window:
        """The same and one ring around them, in a grid that has a ring of its own: (Y + 2, X + 2)."""
        window = self.window(core)
        return Window(window.y, window.x, window.h + 2, window.w + 2)


class Told:
    """What the tokens of a scene learn from each other: given out tile by tile, each with a ring of its neighbours'.

    At the scene's border the ring repeats the outermost tokens, as interpolation does there.
    """

    def __init__(self, tokens: Tokens, encoder: nn.Module, device: str = "cpu"):
        told = encoder(tokens.tokens[None].to(device), tokens.mask[None].to(device)).cpu()
        self._told, self._tokens = F.pad(told, (1, 1, 1, 1), mode="replicate"), tokens

    def __getitem__(self, core: Window) -> Tensor:
        """(1, d, y + 2, x + 2) for the tile with this core."""
        return self._told[(..., *self._tokens.ringed(core).slices)].contiguous()


def _zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    count = math.prod(shape)
    if count * dtype.itemsize <= IN_MEMORY:
        return torch.zeros(shape, dtype=dtype)
    handle, path = tempfile.mkstemp(prefix="xtgeo-tokens-")
    os.close(handle)
    try:
        # The mapping keeps the file's space until it is freed; the name can go at once, so a killed run leaves nothing.
        return torch.from_file(path, shared=True, size=count, dtype=dtype).view(shape)
    finally:
        os.unlink(path)
