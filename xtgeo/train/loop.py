"""The training loop, run by Lightning: batches in, weights out. Needs torch, numpy and lightning only."""

from __future__ import annotations

import copy
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from xtgeo.errors import TrainError
from xtgeo.model import Model
from xtgeo.train.learn import Learn, from_crops
from xtgeo.window import Nest, Window


class Training(L.LightningModule):
    """A model while it learns: AdamW, a tenth of the steps warm-up, cosine decay, and a running mean of its weights.

    `learn` adds the gradients of a batch itself, which the exact steps of `xtgeo.train.exact` have to; over several
    processes they are averaged here.
    """

    automatic_optimization = False

    def __init__(
        self, model: Model, learn: Learn, *, steps: int, lr: float = 2e-3, weight_decay: float = 0.02, average: float = 0.998
    ):
        """average: decay of the running mean."""
        super().__init__()
        self.model = copy.deepcopy(model).to(memory_format=torch.channels_last)
        self.mean = copy.deepcopy(self.model).requires_grad_(False)
        self.learn, self.steps, self.lr, self.weight_decay, self.average = learn, steps, lr, weight_decay, average
        self.loss = 0.0
        """Running mean of the loss."""
        self.left_out = 0
        """Batches in a row whose gradients were no numbers."""

    def training_step(self, batch: Any, index: int) -> None:
        step, optimizer = self.global_step + 1, self.optimizers()
        optimizer.zero_grad(set_to_none=True)
        self.mean.eval()
        value = self.learn(self.model, batch)
        if not math.isfinite(value):
            raise TrainError(
                f"the loss of step {step} is {value}: look at the scenes' units and nodata (xtgeo info), or lower the learning "
                f"rate, which is {self.lr:g}"
            )
        self._share_gradients()
        if not self._usable(nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)):
            return
        optimizer.step()
        self.lr_schedulers().step()
        move_average(self.mean, self.model, min(self.average, step / (step + 10)))
        self.loss += (value - self.loss) * max(0.02, 1 / step)
        self.log("train/loss", value, prog_bar=True)

    def _usable(self, norm: Tensor) -> bool:
        """Whether the gradients are numbers. One batch may have none, such as a box without an area; ten in a row are a fault."""
        self.left_out = 0 if norm.isfinite() else self.left_out + 1
        if self.left_out == 10:
            raise TrainError(
                f"the gradients of ten batches in a row are no numbers at step {self.global_step + 1}: look for labels "
                f"without an area, or lower the learning rate, which is {self.lr:g}"
            )
        return self.left_out == 0

    def configure_optimizers(self) -> dict:
        # Decay rates of a state space (Mamba's A_log) are no weights that should be small.
        named = {name: p for name, p in self.model.net.named_parameters() if p.requires_grad}
        decayed = [p for name, p in named.items() if p.ndim > 1 and not name.endswith("A_log")]
        plain = [p for name, p in named.items() if p.ndim <= 1 or name.endswith("A_log")]
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.lr)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate), "interval": "step"},
        }

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch  # `learn` knows what a batch is

    def _rate(self, i: int) -> float:
        warm = max(1, self.steps // 10)
        part = min(1, max(0, i - warm) / (self.steps - warm + 1))
        return min((i + 1) / warm, 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))

    def _share_gradients(self) -> None:
        """Their mean over all processes. Lightning would average during one backward pass; a step here may have many."""
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return
        for p in self.model.parameters():
            if p.requires_grad:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
                dist.all_reduce(p.grad)
                p.grad /= dist.get_world_size()


@torch.no_grad()
def move_average(mean: nn.Module, model: nn.Module, decay: float) -> None:
    """Moves every number of `mean` towards that of `model`."""
    pairs = list(zip(mean.state_dict().values(), model.state_dict().values(), strict=True))
    floats = [pair for pair in pairs if pair[0].is_floating_point()]
    get_ema_multi_avg_fn(decay)(*(list(side) for side in zip(*floats, strict=True)), None)
    for a, b in pairs:
        if not a.is_floating_point():
            a.copy_(b)


def fit(
    model: Model,
    batches: Iterable,
    *,
    steps: int,
    lr: float = 2e-3,
    weight_decay: float = 0.02,
    average: float = 0.998,
    device: str = "auto",
    learn: Learn | None = None,
    report: Callable[[int, float, Model], None] | None = None,
    every: int = 200,
) -> Model:
    """A trained copy of the model: the running mean of its weights, see `Training`.

    `learn` says what a batch is and how gradients come of it: `from_crops` (None: that, with its own loss), `from_boxes` or
    `from_areas`. `report(step, loss, averaged model)` is called every `every` steps and at the end. device: "auto", "cpu"
    or "cuda".
    """
    training = Training(
        model, learn or from_crops(), steps=steps, lr=lr, weight_decay=weight_decay, average=average
    )
    with quiet():
        trainer = L.Trainer(
            accelerator={"cuda": "gpu"}.get(device, device),
            devices=1,
            max_steps=steps,
            callbacks=[_Report(report, every)] if report else [],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(training, batches)
    if trainer.global_step < steps:
        raise TrainError(f"the batches ended after {trainer.global_step} of {steps} steps: give an endless iterator")
    # In the layout in which a file is loaded: another one changes the last digits on some processors.
    return training.mean.eval().to(memory_format=torch.contiguous_format)


class _Report(L.Callback):
    def __init__(self, report: Callable[[int, float, Model], None], every: int):
        self.report, self.every, self.start = report, every, time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, training: Training, *args) -> None:
        step = trainer.global_step
        if step % self.every == 0 or step == training.steps:
            self.report(step, training.loss, training.mean)
            print(f"step {step} loss {training.loss:.4f} {time.monotonic() - self.start:.0f} s", flush=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's advice, which is for those who call it themselves."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@torch.inference_mode()
def answer(model: Model, data: Tensor, valid: Tensor) -> Tensor:
    """What the model answers for a whole small scene, (k, h / s, w / s) on the CPU: data (c, h, w) in its units, valid (h, w).

    Model and data may be on any device. Tile by tile with the model's own span, so that context reaches as far as it will in
    use; h and w multiples of s, the side of what one answer is for (1 for pixels).
    """
    spec, s, device = model.spec, model.cell_px, model.mean.device
    sides = (spec.margin,) * 4
    data, valid = F.pad(data, sides)[None], F.pad(valid, sides)[None]
    shape = data.shape[-2] - 2 * spec.margin, data.shape[-1] - 2 * spec.margin
    out = torch.zeros(spec.answers, shape[0] // s, shape[1] // s)
    for tile in Nest(shape, spec.region, spec.span, spec.margin):
        seen = (..., *tile.full.shift(spec.margin, spec.margin).slices)
        core = tile.core
        cells = Window(core.y // s, core.x // s, core.h // s, core.w // s)
        out[(..., *cells.slices)] = model(data[seen].to(device), valid[seen].to(device))[0, -spec.answers :].cpu()
    return out
