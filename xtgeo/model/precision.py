"""Whether bf16 is worth trying on this machine: some processors compute in it, on others it is many times slower."""

from __future__ import annotations

import time
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor


@cache
def bf16_pays(device: str = "cpu") -> bool:
    """Whether one convolution, 64 channels of 32 x 32, takes less processor time in bf16 than in fp32; on a GPU
    whether it has bf16 of its own: torch imitates it, slowly, on older ones.

    Asked once in a process, in a few hundredths of a second.
    """
    if device != "cpu":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    x, w = torch.ones(1, 64, 32, 32).to(memory_format=torch.channels_last), torch.ones(64, 64, 3, 3)
    return _seconds(x.bfloat16(), w.bfloat16()) < 0.9 * _seconds(x, w)


@torch.no_grad()
def _seconds(x: Tensor, w: Tensor) -> float:
    """The least of a few, the first of which loads kernels."""
    took = []
    for _ in range(4):
        start = time.process_time()
        F.conv2d(x, w, padding=1)
        took.append(time.process_time() - start)
    return min(took)
