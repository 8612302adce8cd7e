"""From files to what `train_scenes` takes: a model with fresh or known weights, scenes to learn from, scenes to judge by."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely

from xtgeo.errors import LabelError, SceneError, TrainError
from xtgeo.grid import pixel_size_m
from xtgeo.haze import take_off_haze
from xtgeo.model import Model, Spec, build, bundled, load_model
from xtgeo.model.weights import weights_path
from xtgeo.read import open_scene
from xtgeo.read.ancillary import is_xview3, near_shore
from xtgeo.read.area import read_area
from xtgeo.scene import Scene
from xtgeo.train.labels import UNCERTAIN, Labels, read_labels
from xtgeo.train.scenes import LabelledScene, coast, common_bands, common_gsd, hold_out, label, statistics

SHARE = 0.2
"""Of the scenes that are judged by where the user names none."""


def prepare(
    scenes: Sequence[str | os.PathLike],
    labels: Sequence[str | os.PathLike],
    *,
    task: str = "segment",
    val: Sequence[str | os.PathLike] = (),
    val_labels: Sequence[str | os.PathLike] = (),
    share: float = SHARE,
    classes: Sequence[str] | None = None,
    column: str | None = None,
    ignore: Sequence[str] = UNCERTAIN,
    bands: str | None = None,
    units: str | None = None,
    nodata: float | None = None,
    land: str | os.PathLike | None = None,
    dark: float | None = None,
    start: str | None = None,
    weights: str | None = None,
    name: str = "model",
    backbone: str = "convnext_atto",
    context: str = "attention",
    region: int = 512,
    span: int = 1,
) -> tuple[Model, list[LabelledScene], list[LabelledScene]]:
    """A model, scenes to learn from and scenes to judge by, from files or patterns of files.

    scenes, val: rasters, folders, patterns such as "train/*.tif"; what is among `val` is not learnt from. labels, val_labels: see
    `xtgeo.train.labels`; those of `val` are looked for among `labels` where `val_labels` is empty. Without `val` a `share`
    of the scenes is held out. column names the class in the labels, `classes` those to learn, others are background. bands,
    units, nodata: as `open_scene` takes them. land: polygons, for crops near the shore; xView3
    folders say themselves where that is. dark: level in the scenes' units to which the darkest pixels of every scene are
    brought first, see `xtgeo.haze`; such as 0.03 of reflectance. start: a model whose bands, units,
    normalisation, classes and weights are taken; without one they come from the scenes and the labels, with `backbone`,
    `context`, and tiles of `span` x `span` regions of `region` pixels. weights: what the region encoder starts from, as
    `xtgeo.model.build` takes it, or the name of a bundled model whose backbone is `backbone`; its bands may be others.
    """
    if start and weights:
        raise TrainError("--start takes all weights of a model, --weights those of a region encoder: give one of them")
    if start and dark is not None:
        raise TrainError("--start takes what a model does about haze too: leave --dark out, or --start")
    apart = expand(val)
    learnt, judged = (
        [open_scene(path, bands=bands, units=units, nodata=nodata) for path in some]
        for some in ([path for path in expand(scenes) if path not in apart], apart)
    )
    if not learnt:
        raise SceneError("no scene was found: give --scenes FILE, FOLDER or a pattern in quotes, such as 'train/*.tif'")
    every = learnt + judged
    _check_ids(every)
    known = read_labels(learnt, expand(labels), column=column, ignore=ignore)
    known += read_labels(judged, expand(val_labels or labels), column=column, ignore=ignore) if judged else []
    if start:
        model = load_model(start)
        spec = replace(model.spec, name=name, provenance={}, measures=False)
        if spec.task != task:
            raise LabelError(f"{start} is a model to {spec.task}, not to {task}: give --task {spec.task} or another --start")
        if classes and tuple(classes) != spec.classes:
            raise LabelError(f"{start} knows the classes {', '.join(spec.classes)}: leave --classes out, or --start")
        if column is None and len(spec.classes) == 1:
            known = [replace(k, names=np.where(k.names == "", "", spec.classes[0]).astype(object)) for k in known]
    else:
        names = tuple(classes) if classes else _class_names(known, task)
        if column is None and classes and len(names) == 1:
            known = [replace(k, names=np.where(k.names == "", "", names[0]).astype(object)) for k in known]
        spec = _spec(
            learnt, known, task, names, dark=dark, name=name, backbone=backbone, context=context, region=region, span=span
        )
        model = Model(build(spec, weights=weights_path(weights) if weights in bundled() else weights), spec)
    if origin := start or weights:
        spec = replace(spec, provenance={"started_from": Path(origin).name})
    grounds = label(every, known, spec, shore=[_shore(land, scene) for scene in every])
    if judged:
        return Model(model.net, spec), grounds[: len(learnt)], grounds[len(learnt) :]
    return Model(model.net, spec), *hold_out(grounds, share)


def expand(patterns: Sequence[str | os.PathLike]) -> list[str]:
    """Files and folders behind patterns, sorted within each; refused where one finds nothing."""
    out = []
    for pattern in map(str, patterns):
        found = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else [pattern]
        if not found:
            raise SceneError(f"no file is like {pattern!r}")
        out += found
    return out


def _check_ids(scenes: Sequence[Scene]) -> None:
    seen: dict[str, str] = {}
    for scene in scenes:
        if scene.id in seen:
            raise SceneError(f"two scenes are called {scene.id}: {seen[scene.id]} and {scene.href}; labels could be of either")
        seen[scene.id] = scene.href


def _class_names(known: Sequence[Labels], task: str) -> tuple[str, ...]:
    """All that occur, sorted; of label rasters, which have numbers, as many as there are."""
    if task == "classify":
        return tuple(sorted({k.whole for k in known if k.whole}))
    if task == "detect":
        return ("object",)
    rasters = [k.raster for k in known if k.raster is not None]
    if rasters:
        highest = int(max(r.overview(2048).data.max() for r in rasters))
        return tuple(f"class_{i + 1}" for i in range(max(1, highest)))
    return tuple(sorted({str(n) for k in known for n in k.names} - {""}))


def _spec(
    scenes: Sequence[Scene],
    known: Sequence[Labels],
    task: str,
    names: tuple[str, ...],
    *,
    dark: float | None,
    name: str,
    backbone: str,
    context: str,
    region: int,
    span: int,
) -> Spec:
    if task == "classify" and any(k.whole is None for k in known):
        raise LabelError("task classify needs a class for every scene: give --labels FILE.csv with the columns scene_id and class")
    units = {s.units for s in scenes}
    if len(units) > 1 or "unknown" in units:
        raise SceneError(f"the scenes hold {', '.join(sorted(units))}: say what they are with --units, alike for all")
    bands = common_bands(scenes, None)
    levels = () if dark is None else (dark,) * len(bands)
    seen = [s.select(*bands) for s in scenes]
    mean, std = statistics([take_off_haze(s, levels) for s in seen] if levels else seen)
    metres = [float(np.prod(pixel_size_m(s.grid))) for s in scenes]
    pairs = zip(known, metres, strict=False)  # labels of scenes to judge by come last and are not looked at
    sizes = [shapely.area(k.shapes[k.names != ""]) * m for k, m in pairs if len(k) and m == m]
    sizes = np.concatenate(sizes) if sizes else np.empty(0)
    least = float(np.percentile(sizes[sizes > 0], 2)) / 2 if task == "segment" and (sizes > 0).any() else 0.0
    return Spec(
        name=name,
        bands=bands,
        units=units.pop(),
        mean=mean,
        std=std,
        gsd=common_gsd(scenes),
        dark=levels,
        task=task,
        classes=names,
        activation="softmax" if task == "classify" else "sigmoid",
        min_area=round(least, 1),
        region=region,
        span=span,
        backbone=backbone,
        context=context,
        head_dim=48,
    )


def _shore(land: str | os.PathLike | None, scene: Scene) -> np.ndarray:
    """Places on the rim of the user's land, or where the coarse rasters of an xView3 folder say that land is near."""
    if land is None:
        return near_shore(scene.href, scene) if is_xview3(scene.href) else np.empty((0, 2))
    try:
        return coast(read_area(Path(land), scene), scene.shape)
    except SceneError as e:
        if "does not overlap" in str(e):
            return np.empty((0, 2))
        raise
