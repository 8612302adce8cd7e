"""Losses over pixels and cells that count: target 255 is neither right nor wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xtgeo.train.data import IGNORE, LENGTH_STEP

NEAR = 33
"""Side in pixels of the square in which the size of an object is judged."""


def focal(
    logits: Tensor, target: Tensor, *, gamma: float = 2.0, alpha: float = 0.75, typical: float = 0.0
) -> Tensor:
    """Focal loss (Lin et al. 2017, arXiv 1708.02002), over the number of positive pixels: a crop of open sea weighs what its
    false alarms weigh.

    logits (b, k, h, w), target (b, h, w) uint8: class i lights channel i - 1. `typical`, in pixels, makes small objects count
    as much as large ones: pixels of an object of that size weigh 1, of others the root of the ratio of sizes (at most 4,
    at least 1/2); 0 weighs all alike.
    """
    p, truth, counts = _answers(logits, target)
    right = p * truth + (1 - p) * (1 - truth)
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    if typical:
        across = F.avg_pool2d(truth, (1, NEAR), 1, (0, NEAR // 2))  # rows, then columns: a square at once costs 16 x
        size = F.avg_pool2d(across, (NEAR, 1), 1, (NEAR // 2, 0)) * NEAR**2
        weight = weight * torch.where(truth > 0, (typical / size.clamp(min=1)).sqrt().clamp(0.5, 4), 1.0)
    wrong = F.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none")
    return 4 * (weight * (1 - right) ** gamma * wrong * counts).sum() / ((truth * counts).sum() + 500)


def soft_f1(logits: Tensor, target: Tensor) -> Tensor:
    """1 - F1 with probabilities for counts, over the batch, mean over classes: rare classes count as much as common ones."""
    p, truth, counts = _answers(logits, target)
    over = (0, 2, 3)
    return (1 - (2 * (p * truth * counts).sum(over) + 1) / (((p + truth) * counts).sum(over) + 1)).mean()


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """Dice loss with squares, as in V-Net (Milletari et al. 2016, arXiv 1606.04797), over the batch, mean over classes."""
    p, truth, counts = _answers(logits, target)
    over = (0, 2, 3)
    return (1 - (2 * (p * truth * counts).sum(over) + 1) / (((p * p + truth) * counts).sum(over) + 1)).mean()


def focal_dice(
    logits: Tensor, target: Tensor, *, gamma: float = 2.0, alpha: float = 0.75, typical: float = 0.0
) -> Tensor:
    """`focal`, which finds objects, plus `soft_f1`, which gives them their extent."""
    return focal(logits, target, gamma=gamma, alpha=alpha, typical=typical) + soft_f1(logits, target)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Of classes that exclude each other: logits (b, k + 1, h, w) with the background first, or (b, k) of whole images."""
    if target.ndim == 1:
        return F.cross_entropy(logits.float(), target)
    return F.cross_entropy(logits.float(), target.long(), ignore_index=IGNORE)


def _answers(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities, truth and which pixels count, (b, k, h, w), (b, k, h, w), (b, 1, h, w)."""
    truth = torch.stack([target == i + 1 for i in range(logits.shape[1])], 1).float()
    return logits.float().sigmoid(), truth, (target != IGNORE)[:, None].float()


SPREAD_PX = 2.0
"""Standard deviation of the bump around a centre, which makes an answer beside it less wrong, in pixels; at least."""
SPREAD_SHARE = 1 / 8
"""The same as a share of the object's length, where it is known: nobody sees the middle of a tanker to 20 m."""


def centre_loss(logits: Tensor, target: Tensor, *, gsd: float = 10.0) -> Tensor:
    """CenterNet's focal loss (Zhou et al. 2019, arXiv 1904.07850) of centres, and what is said of each object at its centre.

    logits (b, 6, y, x) as `xtgeo.model.spec.CENTRE` names them, target (b, 4, h, w) of `centre_planes`. Offsets cost their
    absolute error in cells, vessel and fishing a cross-entropy where they are known, the length its relative error, which is
    how xView3 judges it. gsd: metres per pixel.
    """
    logits, stride = logits.float(), max(-(-a // b) for a, b in zip(target.shape[-2:], logits.shape[-2:], strict=True))
    missing = [n * stride - m for n, m in zip(logits.shape[-2:], target.shape[-2:], strict=True)]
    target = F.pad(target, (0, missing[1], 0, missing[0]), value=IGNORE)  # cells that reach over the border of a scene
    b, row, column = (target[:, 0] == 1).nonzero(as_tuple=True)
    y, x = row // stride, column // stride
    metres = target[b, 3, row, column] * LENGTH_STEP
    heat = logits[:, 0]
    goal = _bumps(heat.shape, b, y, x, (metres * (SPREAD_SHARE / gsd)).clamp(min=SPREAD_PX) / stride)
    unknown = F.max_pool2d((target[:, :1] == IGNORE).float(), stride)[:, 0]
    unknown[b, y, x] = 0
    p = heat.sigmoid()
    found = (1 - p) ** 2 * F.logsigmoid(heat) * (goal == 1)
    left = (1 - goal) ** 4 * p**2 * F.logsigmoid(-heat) * (1 - unknown)
    focal = -(found + left).sum() / (len(b) + 1)
    if not len(b):
        return focal
    said = logits[b, :, y, x]
    where = torch.stack([(row + 0.5) / stride - y, (column + 0.5) / stride - x], 1)
    place = (said[:, 1:3].sigmoid() - where).abs().mean()
    known = target[b, 1:3, row, column]
    kind = F.binary_cross_entropy_with_logits(said[:, 3:5], (known == 1).float(), reduction="none")
    kind = (kind * (known != IGNORE)).sum() / (known != IGNORE).sum().clamp(min=1)
    error = ((said[:, 5].clamp(-2, 6.3).exp() - metres).abs() / metres.clamp(min=1)).clamp(max=3)
    length = (error * (metres > 0)).sum() / (metres > 0).sum().clamp(min=1)
    return focal + 0.5 * place + 0.3 * kind + 0.3 * length


def _bumps(shape: torch.Size, b: Tensor, y: Tensor, x: Tensor, spread: Tensor) -> Tensor:
    """(b, y, x): the highest of the bumps around cells (b, y, x), each 1 at its centre; spread (n,) in cells."""
    rows, columns = (torch.arange(n, device=spread.device) for n in shape[-2:])
    down = torch.exp(-0.5 * ((rows - y[:, None]) / spread[:, None]) ** 2)
    along = torch.exp(-0.5 * ((columns - x[:, None]) / spread[:, None]) ** 2)
    goal = torch.zeros(shape, device=spread.device)
    for image in b.unique().tolist():
        mine = b == image
        goal[image] = (down[mine, :, None] * along[mine, None, :]).amax(0)
    return goal


SEGMENT = {"focal_dice": focal_dice, "focal": focal, "dice": dice, "soft_f1": soft_f1}
"""Losses of task "segment" by name."""
