"""Losses over pixels that count: target 255 is neither right nor wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xtgeo.train.data import IGNORE


def focal_dice(logits: Tensor, target: Tensor, *, gamma: float = 2.0, alpha: float = 0.75, dice: float = 1.0) -> Tensor:
    """Focal loss (Lin et al. 2017, arXiv 1708.02002) plus soft Dice over the batch (Milletari et al. 2016).

    logits (b, k, h, w), target (b, h, w) uint8: class i lights channel i - 1. The focal part is divided by the number
    of positive pixels, so that a crop of open sea weighs what its false alarms weigh.
    """
    counts = (target != IGNORE)[:, None].float()
    truth = torch.stack([target == i + 1 for i in range(logits.shape[1])], 1).float()
    logits = logits.float()
    p = logits.sigmoid()
    right = p * truth + (1 - p) * (1 - truth)
    weight = (alpha * truth + (1 - alpha) * (1 - truth)) * (1 - right) ** gamma * counts
    focal = (weight * F.binary_cross_entropy_with_logits(logits, truth, reduction="none")).sum()
    positives = (truth * counts).sum()
    overlap = 2 * (p * truth * counts).sum() + 1
    return 4 * focal / (positives + 500) + dice * (1 - overlap / (((p + truth) * counts).sum() + 1))
