"""xtgeo train: scenes and labels in, a model file out."""

from __future__ import annotations

import json as json_
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from xtgeo.cli.options import BandsOption, JsonOption, NodataOption, QuietOption, UnitsOption

from xtgeo.errors import TrainError

TASKS = ("segment", "detect", "classify")


def train(
    scenes: Annotated[list[str], typer.Option("--scenes", help="File, folder or pattern in quotes; may be repeated.")],
    labels: Annotated[
        list[str],
        typer.Option("--labels", help="Vectors, label rasters, COCO .json, xView3 .csv: one for all, or named like the scenes."),
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="The model, .safetensors")],
    task: Annotated[str, typer.Option("--task", help=" | ".join(TASKS))] = "segment",
    val: Annotated[
        list[str] | None, typer.Option("--val", help="Scenes to judge by; without them a part is held out, see --share.")
    ] = None,
    val_labels: Annotated[list[str] | None, typer.Option("--val-labels", help="Their labels, if not among --labels.")] = None,
    share: Annotated[float, typer.Option("--share", min=0.01, max=0.9, help="Held out to judge by, without --val.")] = 0.2,
    class_column: Annotated[str | None, typer.Option("--class-column", help="Column of the labels that names the class.")] = None,
    classes: Annotated[str | None, typer.Option("--classes", help="Those to learn, as ship,buoy; others are background.")] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", help="Labels that are neither right nor wrong; default: confidence=LOW")
    ] = None,
    land: Annotated[str | None, typer.Option("--land", help="Polygons of land, for crops near the shore.")] = None,
    bands: BandsOption = None,
    units: UnitsOption = None,
    nodata: NodataOption = None,
    dark: Annotated[
        float | None, typer.Option("--dark", help="Against haze: level the darkest 2 % of each scene are brought to, as 0.03.")
    ] = None,
    start: Annotated[str | None, typer.Option("--start", help="Bundled name or file to go on from.")] = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="What the region encoder starts from: timm, torchgeo's name, a file, a bundled model."),
    ] = None,
    backbone: Annotated[str, typer.Option("--backbone", help="Region encoder, see xtgeo models parts.")] = "convnext_atto",
    context: Annotated[str, typer.Option("--context", help="Context encoder, see xtgeo models parts.")] = "attention",
    region: Annotated[int, typer.Option("--region", help="Side of a region in pixels.")] = 512,
    span: Annotated[int, typer.Option("--span", help="Regions along the side of a tile.")] = 1,
    steps: Annotated[int, typer.Option("--steps", min=1)] = 2000,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Crops a step.")] = 8,
    side: Annotated[int, typer.Option("--side", min=32, help="Of a crop, in pixels.")] = 512,
    every: Annotated[int, typer.Option("--every", min=1, help="Steps between two judgements, each with a checkpoint.")] = 200,
    lr: Annotated[float, typer.Option("--lr", help="Highest learning rate.")] = 2e-3,
    loss: Annotated[str, typer.Option("--loss", help="To segment: focal_dice, focal, dice or soft_f1.")] = "focal_dice",
    objects: Annotated[float, typer.Option("--objects", min=0, max=1, help="Share of crops around objects.")] = 0.6,
    shore: Annotated[float, typer.Option("--shore", min=0, max=1, help="Share of crops near the shore.")] = 0.1,
    augment: Annotated[
        str | None, typer.Option("--augment", help="sar, optical or none; default: by the units.")
    ] = None,
    area: Annotated[
        int, typer.Option("--area", min=0, help="Learn from areas of this side by exact steps in the memory of one tile; 0: crops.")
    ] = 0,
    patience: Annotated[int, typer.Option("--patience", min=0, help="Stop after so many judgements without a better one.")] = 0,
    precision: Annotated[str, typer.Option("--precision", help="auto (measured), fp32 or bf16")] = "auto",
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that read crops.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda")] = "auto",
    devices: Annotated[int, typer.Option("--devices", min=1, help="How many of them.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of the same command.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model and its run folder.")] = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Train a model on scenes and labels; `xtgeo segment --model` or `xtgeo detect --model` use it at once.

    Beside MODEL.safetensors, MODEL.run keeps command, versions, checkpoints, curves and pictures.

        xtgeo train --scenes "train/*.tif" --labels "train/*.gpkg" --out model.safetensors
    """
    if task not in TASKS:
        raise typer.BadParameter(f"task is one of {', '.join(TASKS)}, not {task!r}")
    if not find_spec("lightning"):
        raise TrainError("training needs lightning, which is not installed: pip install 'xtgeo-sat[train]'")
    from xtgeo.train.labels import UNCERTAIN
    from xtgeo.train.prepare import prepare
    from xtgeo.train.run import Recipe, is_first, train_scenes

    model, learnt, judged = prepare(
        scenes,
        labels,
        task=task,
        val=val or (),
        val_labels=val_labels or (),
        share=share,
        classes=tuple(c.strip() for c in classes.split(",")) if classes else None,
        column=class_column,
        ignore=UNCERTAIN if ignore is None else ignore,
        bands=bands,
        units=units,
        nodata=nodata,
        land=land,
        dark=dark,
        start=start,
        weights=weights,
        name=Path(out).stem,
        backbone=backbone,
        context=context,
        region=region,
        span=span,
    )
    if augment is None:
        augment = "sar" if model.spec.units in ("db", "linear", "amplitude") else "optical"
    try:
        recipe = Recipe(
            steps=steps, batch=batch, side=side, every=every, lr=lr, loss=loss, objects=objects, shore=shore, augment=augment,
            area=area, patience=patience, precision=precision, seed=seed, workers=workers, device=device, devices=devices,
        )  # fmt: skip
    except ValueError as e:
        raise typer.BadParameter(str(e)) from e
    path, best = train_scenes(
        model, learnt, judged, recipe, out=out, resume=resume, overwrite=overwrite, progress=not quiet
    )
    if json and is_first():
        print(json_.dumps({"model": str(path), **best}))
    elif not quiet and is_first():
        told = ", ".join(f"{k} {v:.3g}" for k, v in best.items() if k not in ("score", "step"))
        print(f"{path}: best at step {best['step']} ({told}); pictures and curves in {path.with_suffix('.run')}")
