"""Positions of tokens in ground metres, as rotations (Su et al. 2021, arXiv 2104.09864) in two dimensions.

n: tokens   v: heads   e: channels of a head
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def places(y: int, x: int, spacing: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Metres down and to the right of the first token, for a grid of y by x tokens in raster order: (n,) each."""
    rows, columns = torch.meshgrid(
        torch.arange(y, device=device), torch.arange(x, device=device), indexing="ij"
    )
    return rows.flatten() * spacing, columns.flatten() * spacing


def rotary(y: Tensor, x: Tensor, width: int, shortest: float, longest: float) -> Tensor:
    """Rotations of `width` / 2 pairs for positions y (n,), x (n,) in metres: (n, width / 2) complex.

    Half of the pairs turn with y, half with x; wavelengths run geometrically from `shortest` to `longest` metres.
    """
    octave = torch.linspace(0, 1, width // 4, device=y.device)
    frequency = 2 * math.pi / (shortest * (longest / shortest) ** octave)
    angle = torch.cat([y[:, None] * frequency, x[:, None] * frequency], 1)
    return torch.polar(torch.ones_like(angle), angle)


def grid_turns(
    y: int, x: int, spacing: float, width: int, reach: float, device: torch.device, *, group: int = 1
) -> Tensor:
    """Rotations of a grid of y by x tokens that lie `spacing` metres apart, or of groups of group x group of them.

    Wavelengths run from 4 tokens to `reach` metres; a group lies in the middle of its tokens. (n, width / 2) complex.
    """
    first = (group - 1) * spacing / 2
    down, right = places(y, x, group * spacing, device)
    return rotary(down + first, right + first, width, 4 * spacing, reach)


def rotate(q: Tensor, turns: Tensor) -> Tensor:
    """q (b, v, n, e) turned by its position, turns (n, e / 2)."""
    wide = torch.promote_types(q.dtype, torch.float32)  # there are no complex numbers of 16 bits
    pairs = torch.view_as_complex(q.to(wide).unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turns).flatten(-2).to(q.dtype)
