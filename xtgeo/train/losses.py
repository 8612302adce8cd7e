"""Losses over pixels that count: target 255 is neither right nor wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xtgeo.train.data import IGNORE

NEAR = 33
"""Side in pixels of the square in which the size of an object is judged."""


def focal_dice(
    logits: Tensor, target: Tensor, *, gamma: float = 2.0, alpha: float = 0.75, typical: float = 0.0
) -> Tensor:
    """Focal loss (Lin et al. 2017, arXiv 1708.02002) plus soft Dice over the batch (Milletari et al. 2016).

    logits (b, k, h, w), target (b, h, w) uint8: class i lights channel i - 1. The focal part is divided by the number
    of positive pixels, so that a crop of open sea weighs what its false alarms weigh. `typical`, in pixels, makes small
    objects count as much as large ones: pixels of an object of that size weigh 1, of others the root of the ratio of
    sizes (at most 4, at least 1/2); 0 weighs all alike.
    """
    counts = (target != IGNORE)[:, None].float()
    truth = torch.stack([target == i + 1 for i in range(logits.shape[1])], 1).float()
    logits = logits.float()
    p = logits.sigmoid()
    right = p * truth + (1 - p) * (1 - truth)
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    if typical:
        across = F.avg_pool2d(truth, (1, NEAR), 1, (0, NEAR // 2))  # rows, then columns: a square at once costs 16 x
        size = F.avg_pool2d(across, (NEAR, 1), 1, (NEAR // 2, 0)) * NEAR**2
        weight = weight * torch.where(truth > 0, (typical / size.clamp(min=1)).sqrt().clamp(0.5, 4), 1.0)
    wrong = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    focal = (weight * (1 - right) ** gamma * wrong * counts).sum()
    positives = (truth * counts).sum()
    overlap = 2 * (p * truth * counts).sum() + 1
    return 4 * focal / (positives + 500) + 1 - overlap / (((p + truth) * counts).sum() + 1)
