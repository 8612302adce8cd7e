"""The training loop: crops in, weights out. Needs torch and numpy only."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from xtgeo.model import Model
from xtgeo.train.learn import Learn, from_crops
from xtgeo.window import Nest, Window


def fit(
    model: Model,
    batches: Iterator,
    *,
    steps: int,
    lr: float = 2e-3,
    weight_decay: float = 0.02,
    average: float = 0.998,
    device: str = "cpu",
    learn: Learn | None = None,
    report: Callable[[int, float, Model], None] | None = None,
    every: int = 200,
) -> Model:
    """A trained copy of the model: AdamW, a tenth of the steps warm-up, cosine decay, and a running mean of weights.

    `learn` says what a batch is and how gradients come of it: `from_crops` (None: that, with its own loss), `from_boxes` or
    `from_areas`.
    `average` is the decay of the mean that is returned; `report(step, loss, averaged model)` is called every `every`
    steps and at the end.
    """
    model = copy.deepcopy(model).to(device).to(memory_format=torch.channels_last).train()
    mean = copy.deepcopy(model)
    # Decay rates of a state space (Mamba's A_log) are no weights that should be small.
    named = {name: p for name, p in model.net.named_parameters() if p.requires_grad}
    decayed = [p for name, p in named.items() if p.ndim > 1 and not name.endswith("A_log")]
    plain = [p for name, p in named.items() if p.ndim <= 1 or name.endswith("A_log")]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}], lr=lr
    )
    warm = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda i: min((i + 1) / warm, 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1, max(0, i - warm) / (steps - warm + 1))))),
    )
    learn, running, start = learn or from_crops(), 0.0, time.monotonic()
    for step in range(1, steps + 1):
        optimizer.zero_grad(set_to_none=True)
        value = learn(model, next(batches))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        _average(mean, model, min(average, step / (step + 10)))
        running += (value - running) * max(0.02, 1 / step)
        if report and (step % every == 0 or step == steps):
            report(step, running, mean.eval())
            print(f"step {step} loss {running:.4f} {time.monotonic() - start:.0f} s", flush=True)
    return mean.eval()


@torch.no_grad()
def _average(mean: Model, model: Model, decay: float) -> None:
    for a, b in zip(mean.state_dict().values(), model.state_dict().values(), strict=True):
        if a.is_floating_point():
            a.lerp_(b, 1 - decay)
        else:
            a.copy_(b)


@torch.inference_mode()
def answer(model: Model, data: Tensor, valid: Tensor) -> Tensor:
    """What the model answers for a whole small scene, (k, h / s, w / s): data (c, h, w) in its units, valid (h, w).

    Tile by tile with the model's own span, so that context reaches as far as it will in use; h and w multiples of s, the
    side of what one answer is for (1 for pixels).
    """
    spec, s = model.spec, model.cell_px
    sides = (spec.margin,) * 4
    data, valid = F.pad(data, sides)[None], F.pad(valid, sides)[None]
    shape = data.shape[-2] - 2 * spec.margin, data.shape[-1] - 2 * spec.margin
    out = torch.zeros(spec.answers, shape[0] // s, shape[1] // s)
    for tile in Nest(shape, spec.region, spec.span, spec.margin):
        seen = (..., *tile.full.shift(spec.margin, spec.margin).slices)
        core = tile.core
        cells = Window(core.y // s, core.x // s, core.h // s, core.w // s)
        out[(..., *cells.slices)] = model(data[seen], valid[seen])[0, -spec.answers :]
    return out
