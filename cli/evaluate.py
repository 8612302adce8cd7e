"""xtgeo evaluate: how good results are."""

from __future__ import annotations

import json as json_
from typing import Annotated

import typer
from xtgeo.cli.options import JsonOption, OverwriteOption

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

PredictionsOption = Annotated[
    list[str] | None, typer.Option("--predictions", "-p", help="File or quoted pattern; may be given several times.")
]
LabelsOption = Annotated[
    list[str] | None, typer.Option("--labels", "-l", help="File or quoted pattern; may be given several times.")
]
PickleOption = Annotated[
    bool, typer.Option("--allow-pickle", help="Open shorelines that are pickles; only from where you trust.")
]


@app.callback(invoke_without_command=True)
def evaluate(
    context: typer.Context,
    predictions: PredictionsOption = None,
    labels: LabelsOption = None,
    match: Annotated[
        str | None,
        typer.Option("--match", help="iou=0.3, centre=0.3 (as iou, or either centre inside the other), distance=200m."),
    ] = None,
    raster: Annotated[bool, typer.Option("--raster", help="Both are class rasters: compare pixels.")] = False,
    class_column: Annotated[str | None, typer.Option("--class-column", help="Classes; a pair must agree in it.")] = None,
    score_column: Annotated[
        str | None, typer.Option("--score-column", help="How sure a prediction is; default: score or presence_score.")
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", help="Labels that are neither missed nor false: class=a,b, class= for null; else confidence=LOW"),
    ] = None,
    size: Annotated[str, typer.Option("--size", help="Recall by length, area, or a column of the labels.")] = "length",
    bins: Annotated[str | None, typer.Option("--bins", help="Bounds of sizes: 0,25,50,100")] = None,
    scene: Annotated[list[str] | None, typer.Option("--scene", help="Scenes to show in --misses; file or pattern.")] = None,
    curve: Annotated[str | None, typer.Option("--curve", help="Picture of precision over recall, .png, .svg, .pdf")] = None,
    misses: Annotated[str | None, typer.Option("--misses", help="Picture of the worst errors, .png")] = None,
    resamples: Annotated[int, typer.Option("--resamples", min=0, help="Bootstrap replicates for the intervals.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same intervals.")] = 0,
    json: JsonOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """How good predictions are against labels: precision, recall, F1, average precision, by class and size.

        xtgeo evaluate --predictions vessels.gpkg --labels labels.gpkg --match iou=0.3
    """
    if context.invoked_subcommand is not None:
        return
    predictions, labels = _files(predictions, labels)
    if raster:
        if any((match, class_column, score_column, bins, scene, curve, misses)) or size != "length":
            raise typer.BadParameter("--raster compares pixels: of the options for objects it takes --ignore class=... only")
        from xtgeo.evaluate.pairing import pair_files
        from xtgeo.evaluate.raster import compare_rasters

        classes = _classes(_columns(ignore))
        report = compare_rasters(pair_files(predictions, labels), ignore=classes, resamples=resamples, seed=seed)
    else:
        if scene and not misses:
            raise typer.BadParameter("--scene is what --misses shows: give --misses misses.png too")
        if size not in ("length", "area") and not bins:
            raise typer.BadParameter(f"--size {size} is a column of its own: give its bounds, such as --bins 0,10,100")
        from xtgeo.evaluate import compare, figures, objects, pictures
        from xtgeo.write import together

        rule = compare.Rule.parse(match) if match else None
        pictures.check_targets(curve, misses, overwrite=overwrite)
        columns = objects.Columns(score_column, class_column, size, objects.UNCERTAIN if ignore is None else _columns(ignore))
        found, true = objects.read_objects(predictions, labels, columns)
        outcome = compare.compare(found, true, rule or compare.default_rule(found, true))
        report = figures.report(outcome, size=size, bins=_bins(bins), resamples=resamples, seed=seed)
        with together():
            if curve:
                pictures.write_curve(curve, outcome, overwrite=overwrite)
            if misses:
                pictures.write_misses(misses, outcome, pictures.open_scenes(scene or [], outcome), overwrite=overwrite)
    print(json_.dumps(report.as_dict()) if json else report)


@app.command()
def xview3(
    predictions: PredictionsOption = None,
    labels: LabelsOption = None,
    shore: Annotated[
        str | None, typer.Option("--shore", help="Folder of {scene_id}_shoreline.npz or .npy; without it that score is 0.")
    ] = None,
    mode: Annotated[str, typer.Option("--mode", help="reference: as the challenge; strict: without its quirks.")] = "reference",
    low: Annotated[
        str, typer.Option("--low", help="LOW labels: drop predictions on them, keep those as false, or count the labels.")
    ] = "drop",
    costly: Annotated[
        bool, typer.Option("--costly/--no-costly", help="Pair as many as possible within reach, as the leaderboard does.")
    ] = True,
    allow_pickle: PickleOption = False,
    json: JsonOption = False,
) -> None:
    """The official metric of xView3-SAR, on its CSV or on points of xtgeo detect.

        xtgeo evaluate xview3 --predictions points.gpkg --labels validation.csv --shore shoreline
    """
    from functools import partial

    from xtgeo.evaluate import xview3 as metric
    from xtgeo.evaluate import xview3_files as files

    predictions, labels = _files(predictions, labels)
    try:
        rules = metric.Rules(mode, low, costly)
    except ValueError as e:
        raise typer.BadParameter(str(e)) from e
    found, true = files.read_predictions(predictions), files.read_labels(labels)
    files.check_scenes(found, true)
    line = shore and partial(files.read_shoreline, folder=shore, allow_pickle=allow_pickle)
    score = metric.score(found, true, shore=line or None, rules=rules)
    print(json_.dumps(score.as_dict() | score.details()) if json else score)


@app.command("shore")
def shore_(
    source: Annotated[str, typer.Argument(metavar="IN_DIR", help="Folder of {scene_id}_shoreline.npy.")],
    target: Annotated[str, typer.Argument(metavar="OUT_DIR", help="Folder for {scene_id}_shoreline.npz.")],
    allow_pickle: PickleOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Convert xView3's shorelines, which are pickles, to plain numbers that open without risk.

        xtgeo evaluate shore shoreline shoreline_npz --allow-pickle
    """
    from xtgeo.evaluate.xview3_files import convert_shorelines

    count = convert_shorelines(source, target, allow_pickle=allow_pickle, overwrite=overwrite)
    print(f"{target}: {count} shorelines")


def _files(predictions: list[str] | None, labels: list[str] | None) -> tuple[list[str], list[str]]:
    if not predictions or not labels:
        raise typer.BadParameter("give both --predictions and --labels")
    from xtgeo.evaluate.pairing import files_of

    return files_of(predictions, "predictions"), files_of(labels, "labels")


def _columns(ignore: list[str] | None) -> dict[str, tuple[str, ...]]:
    """Values by column from "confidence=LOW,MEDIUM"; nothing after the = is null."""
    columns: dict[str, tuple[str, ...]] = {}
    for text in ignore or []:
        name, equals, values = text.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"cannot read --ignore {text!r}: write it as confidence=LOW")
        columns[name.strip()] = (*columns.get(name.strip(), ()), *(value.strip() for value in values.split(",")))
    return columns


def _classes(columns: dict[str, tuple[str, ...]]) -> list[int]:
    if set(columns) - {"class"} or not all(value.isdigit() for values in columns.values() for value in values):
        raise typer.BadParameter("with --raster write --ignore as class=0,3: the values of the pixels that do not count")
    return [int(value) for values in columns.values() for value in values]


def _bins(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        bounds = [float(word) for word in text.split(",")]
    except ValueError as e:
        raise typer.BadParameter(f"cannot read --bins {text!r}: write it as 0,25,50,100") from e
    if any(not low < high for low, high in zip(bounds, bounds[1:], strict=False)):
        raise typer.BadParameter(f"--bins {text} must ascend")
    return bounds
