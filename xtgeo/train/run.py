"""A whole training: scenes with labels in, one model file and a run folder out. Lightning runs the loop."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from xtgeo.errors import LabelError, OutputError
from xtgeo.model import Model, load_model, save_model
from xtgeo.model.precision import bf16_pays
from xtgeo.train.areas import Areas, Stretch, area_of
from xtgeo.train.data import OPTICAL, SAR, Augment, Crops, Sampling
from xtgeo.train.exact import classify_whole
from xtgeo.train.judge import THRESHOLDS, Exam, answer_exam, count, exams, picture
from xtgeo.train.learn import from_areas, from_crops
from xtgeo.train.loop import Training, quiet
from xtgeo.train.losses import SEGMENT, centre_loss, cross_entropy
from xtgeo.train.record import BEST, CHECKPOINT, RUN, card, check_out, curves, enter
from xtgeo.train.scenes import LabelledScene
from xtgeo.window import Nest

AUGMENTS = {"sar": SAR, "optical": OPTICAL, "none": Augment()}


@dataclass(frozen=True)
class Recipe:
    """How a model learns. Plain values, kept in the run folder."""

    steps: int = 2000
    batch: int = 8
    """Crops a step, on each device."""
    side: int = 512
    """Of a crop, in pixels, without the margin."""
    every: int = 200
    """Steps between two judgements, each of which leaves a checkpoint; training ends with one."""
    lr: float = 2e-3
    weight_decay: float = 0.02
    average: float = 0.998
    """Decay of the running mean of weights, which is what is judged and kept."""
    loss: str = "focal_dice"
    """Of task "segment": a name in `xtgeo.train.losses.SEGMENT`."""
    objects: float = 0.6
    """Share of crops around objects, all classes alike often."""
    shore: float = 0.1
    """Share of crops near the shore, where one is known."""
    augment: str = "sar"
    """"sar", "optical" or "none"."""
    area: int = 0
    """Side in pixels of areas that are learnt from by exact steps in the memory of one tile, instead of crops; 0: crops."""
    share: float = 1.0
    """Of an area's tiles that are replayed; below 1 gradients are estimates without bias."""
    patience: int = 0
    """Judgements without a better one after which training ends early; 0: never."""
    precision: str = "auto"
    """"fp32", "bf16" (mixed), or "auto": what is faster here, measured."""
    seed: int = 0
    workers: int = 0
    """Processes that read crops beside the one that learns."""
    device: str = "auto"
    devices: int = 1

    def __post_init__(self):
        for name, choices in (("loss", SEGMENT), ("augment", AUGMENTS), ("precision", ("auto", "fp32", "bf16"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is one of {', '.join(choices)}, not {getattr(self, name)!r}")
        if min(self.steps, self.batch, self.side, self.every, self.devices) < 1 or self.lr <= 0:
            raise ValueError("steps, batch, side, every and devices are at least 1, lr is over 0")

    @property
    def rounds(self) -> int:
        """Stretches of `every` steps; the last one is never cut short."""
        return -(-self.steps // self.every)


def train_scenes(
    model: Model,
    learnt: Sequence[LabelledScene],
    judged: Sequence[LabelledScene],
    recipe: Recipe,
    *,
    out: str | os.PathLike,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> tuple[Path, dict]:
    """Trains the model and writes it to `out`, a .safetensors file; gives the path and the figures it was chosen by.

    Of all judgements the best F1 (classes: the best accuracy) is kept, at its threshold. With `resume` a training that was
    stopped goes on from its last checkpoint, to the same end.

    Raises LabelError where there is nothing to learn or to judge by, TrainError where the loss is no number any more,
    OutputError where something exists or the disk is full; what was reached is then in the run folder.
    """
    out = check_out(Path(out), overwrite or resume)
    folder = out.with_suffix(".run")
    _check(learnt, judged, model)
    some = list(judged) if model.spec.task == "classify" else exams(judged, seed=recipe.seed)
    data = _data(learnt, model, recipe)
    recipe = replace(recipe, precision=_precision(data, recipe, folder if resume or not is_first() else None))
    if is_first():
        enter(folder, _config(model, learnt, judged, recipe), resume=resume, overwrite=overwrite)
    training = SceneTraining(model, _learn(model, data, recipe), some, folder, recipe)
    batch, last = None if isinstance(data, Areas) else recipe.batch, folder / CHECKPOINT
    loader = DataLoader(
        data,
        batch_size=batch,
        sampler=Stretch(recipe.every * (batch or 1)),
        num_workers=recipe.workers,
        multiprocessing_context="spawn" if recipe.workers else None,  # a forked GDAL is a broken one
        persistent_workers=recipe.workers > 0,
    )
    try:
        with quiet():
            trainer = _trainer(folder, recipe, training, progress)
            trainer.fit(training, loader, DataLoader(range(1)), ckpt_path=last if resume else None, weights_only=True)
    except OSError as e:
        raise OutputError(
            f"{folder} cannot be written ({e.strerror or e}): make room, then run again with --resume; the last checkpoint is whole"
        ) from e
    if trainer.interrupted:
        raise KeyboardInterrupt
    if is_first():
        _finish(out, folder, training, some)
    return out, training.best


def is_first() -> bool:
    """Whether this is the first of several processes that train together, or the only one; the others write nothing."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


class SceneTraining(Training):
    """`Training` with judgements on tiles of other scenes."""

    def __init__(self, model: Model, learn: Callable, some: Sequence, folder: Path, recipe: Recipe):
        super().__init__(
            model, learn, steps=recipe.rounds * recipe.every, lr=recipe.lr, weight_decay=recipe.weight_decay, average=recipe.average
        )
        self.some, self.folder, self.seed, self.best = some, folder, recipe.seed, {"score": -1.0}
        self.objective = _loss(model, recipe)

    def training_step(self, batch: Any, index: int) -> None:
        torch.manual_seed(self.seed * 1_000_003 + self.global_step)  # dropout too is the same after a resumption
        super().training_step(batch, index)

    def validation_step(self, batch: Any, index: int) -> None:
        mean = self.mean.eval()
        figures = _accuracy(mean, self.some) if mean.spec.task == "classify" else _objects(mean, self.some, self.objective)
        self.log_dict({f"val/{k}": float(v) for k, v in figures.items() if isinstance(v, int | float)}, prog_bar=True)
        if figures["score"] <= self.best["score"]:
            return
        self.best = {**figures, "step": self.global_step}
        if is_first():
            spec = replace(mean.spec, threshold=figures.get("threshold", mean.spec.threshold))
            save_model(Model(mean.net, spec), self.folder / BEST)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["xtgeo"] = {"best": self.best, "loss": self.loss}

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.best, self.loss = checkpoint["xtgeo"]["best"], checkpoint["xtgeo"]["loss"]


def _objects(model: Model, some: Sequence[Exam], objective: Callable) -> dict:
    """Loss, and precision, recall and F1 of all objects at the best threshold; per class where there are several."""
    counts, loss = np.zeros((len(THRESHOLDS), model.spec.answers if model.spec.task == "segment" else 1, 3)), 0.0
    for exam in some:
        logits, target, said = answer_exam(model, exam)
        loss += objective(logits, target).item() / len(some)
        counts += np.array([count(model, exam, said, t) for t in THRESHOLDS])
    pairs, found, true = np.moveaxis(counts, -1, 0)
    f1 = (2 * pairs / np.maximum(found + true, 1)).mean(1)
    i = int(f1.argmax())
    figures = {
        "score": float(f1[i]),
        "f1": float(f1[i]),
        "precision": float(pairs[i].sum() / max(found[i].sum(), 1)),
        "recall": float(pairs[i].sum() / max(true[i].sum(), 1)),
        "loss": loss,
        "threshold": THRESHOLDS[i],
        "objects": int(true[i].sum()),
    }
    if counts.shape[1] > 1:
        each = 2 * pairs[i] / np.maximum(found[i] + true[i], 1)
        figures |= {f"f1_{name}": float(v) for name, v in zip(model.spec.classes, each, strict=True)}
    return figures


def _accuracy(model: Model, grounds: Sequence[LabelledScene]) -> dict:
    right = []
    for ground in grounds:
        area = area_of(ground, ground.area)
        nest = Nest(area.shape, model.spec.region, model.spec.span, model.spec.margin)
        logits = classify_whole(model.net, nest, lambda tile, area=area: tuple(t.to(model.mean.device) for t in area.read(tile)))
        right.append(int(logits.argmax()) == model.spec.classes.index(ground.labels.whole))
    return {"score": float(np.mean(right)), "accuracy": float(np.mean(right)), "scenes": len(right)}


def _config(model: Model, learnt: Sequence[LabelledScene], judged: Sequence[LabelledScene], recipe: Recipe) -> dict:
    def places(grounds: Sequence[LabelledScene]) -> list:
        return [[g.scene.href, [g.area.y, g.area.x, g.area.h, g.area.w], len(g.centres)] for g in grounds]

    config = {"recipe": asdict(recipe), "spec": asdict(model.spec), "learnt": places(learnt), "judged": places(judged)}
    return json.loads(json.dumps(config))


def _data(grounds: Sequence[LabelledScene], model: Model, recipe: Recipe) -> Crops | Areas:
    whole = recipe.area > 0 or model.spec.task == "classify"
    side = recipe.area if whole else recipe.side + 2 * model.spec.margin
    sampling = Sampling(recipe.objects, recipe.shore)
    crops = Crops(grounds, side, sampling=sampling, augment=AUGMENTS[recipe.augment], seed=recipe.seed)
    return Areas(crops) if whole else crops


def _loss(model: Model, recipe: Recipe) -> Callable[[Tensor, Tensor], Tensor]:
    if model.spec.task == "detect":
        return partial(centre_loss, gsd=model.spec.gsd)
    return cross_entropy if model.spec.activation == "softmax" else SEGMENT[recipe.loss]


def _learn(model: Model, data: Crops | Areas, recipe: Recipe) -> Callable:
    loss = _loss(model, recipe)
    if isinstance(data, Areas):
        return from_areas(loss, share=recipe.share)
    return from_crops(loss, bf16=recipe.precision == "bf16")


def _precision(data: Crops | Areas, recipe: Recipe, before: Path | None) -> str:
    """What was asked for; of "auto" what the training before took, or what is faster: bf16 pays on some processors only.

    Exact steps take fp32.
    """
    if recipe.precision != "auto":
        return recipe.precision
    if before is not None and (before / RUN).exists():
        return json.loads((before / RUN).read_text())["config"]["recipe"]["precision"]
    if isinstance(data, Areas):
        return "fp32"
    gpu = recipe.device != "cpu" and torch.cuda.is_available()
    return "bf16" if bf16_pays("cuda" if gpu else "cpu") else "fp32"


def _trainer(folder: Path, recipe: Recipe, training: SceneTraining, progress: bool) -> L.Trainer:
    from lightning.pytorch.callbacks import EarlyStopping, RichProgressBar

    loggers = [CSVLogger(folder, name="logs")]
    if find_spec("tensorboard"):
        loggers.append(TensorBoardLogger(folder, name="tensorboard"))
    callbacks: list[L.Callback] = [_Keep(folder)]
    if recipe.patience:
        callbacks.append(EarlyStopping("val/score", mode="max", patience=recipe.patience))
    if progress and is_first():
        callbacks.append(RichProgressBar(refresh_rate=5) if sys.stderr.isatty() else _Lines())
    return L.Trainer(
        accelerator={"cuda": "gpu"}.get(recipe.device, recipe.device),
        devices=recipe.devices,
        strategy="ddp" if recipe.devices > 1 else "auto",
        max_epochs=recipe.rounds,
        logger=loggers,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=progress and sys.stderr.isatty(),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=min(20, recipe.every),
    )


class _Keep(L.Callback):
    """A checkpoint after every judgement; the one before is replaced once it is whole."""

    def __init__(self, folder: Path):
        self.folder = folder

    def on_train_epoch_end(self, trainer: L.Trainer, training: L.LightningModule) -> None:
        part = self.folder / ".last.ckpt.partial"
        trainer.save_checkpoint(part)
        if is_first():
            os.replace(part, self.folder / CHECKPOINT)


class _Lines(L.Callback):
    """A line for every judgement, where there is no terminal."""

    def on_validation_end(self, trainer: L.Trainer, training: SceneTraining) -> None:
        figures = {k.removeprefix("val/"): float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        told = ", ".join(f"{k} {v:.3g}" for k, v in figures.items() if k not in ("score", "objects"))
        done = f"step {trainer.global_step} of {training.steps}: loss {training.loss:.4f}; validation {told}"
        print(done, file=sys.stderr, flush=True)


def _check(learnt: Sequence[LabelledScene], judged: Sequence[LabelledScene], model: Model) -> None:
    """Refuses what cannot be learnt from or judged by."""
    if model.spec.task == "classify":
        seen = {ground.labels.whole for ground in learnt}
        if len(seen) < 2:
            raise LabelError(f"all scenes to learn from are of the class {', '.join(map(str, seen))}: give scenes of two or more")
        return
    for name, grounds in (("learn from", learnt), ("judge by", judged)):
        if not sum(len(ground.centres) for ground in grounds):
            raise LabelError(
                f"there is no object of {', '.join(model.spec.classes)} to {name} in {len(grounds)} scenes: "
                "look at --class-column, --classes and --ignore, or give other scenes with --scenes and --val"
            )


def _finish(out: Path, folder: Path, training: SceneTraining, some: Sequence) -> Path:
    """The best weights under their final name, with their card; pictures in the run folder."""
    best = load_model(folder / BEST)
    run = json.loads((folder / RUN).read_text())
    provenance = {
        **best.spec.provenance,
        "trained_on": [Path(href).name for href, _, _ in run["config"]["learnt"]],
        "judged_by": [Path(href).name for href, _, _ in run["config"]["judged"]],
        "recipe": run["config"]["recipe"],
        "versions": run["versions"],
        "chosen_on": {k: round(v, 4) if isinstance(v, float) else v for k, v in training.best.items()},
    }
    final = Model(best.net, replace(best.spec, provenance=provenance))
    if best.spec.task != "classify":
        picture(final, some[:8], best.spec.threshold).save(folder / "samples.png")
    curves(folder)
    return save_model(final, out, card=card(final))


