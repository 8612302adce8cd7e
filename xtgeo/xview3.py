"""The xView3-SAR challenge's own job: a folder of scenes and their ids in, one table of detections out (arXiv 2206.00897)."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from xtgeo.engine import Engine
from xtgeo.errors import LabelError, OutputError, SceneError, XtgeoError
from xtgeo.evaluate.xview3_files import PREDICTIONS, read_labels, to_predictions, write_predictions
from xtgeo.grid import same_place
from xtgeo.infer import Plan, plan
from xtgeo.job import detect, digest, fingerprint
from xtgeo.masks import Masks
from xtgeo.model import Model
from xtgeo.read import open_scene
from xtgeo.read.stack import XVIEW3
from xtgeo.scene import Scene
from xtgeo.write.staged import check_target, reported

MINUTES = 15.0
"""That the challenge allows for a scene."""


def predict(
    data: str | os.PathLike,
    scene_ids: Sequence[str],
    out: str | os.PathLike,
    model: Model,
    *,
    threshold: float | None = None,
    device: str = "auto",
    dtype: str = "auto",
    max_memory: int | None = None,
    minutes: float = MINUTES,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """The challenge's table of all scenes in `data/<scene id>/`, written to `out`, a .csv, when the last scene is done.

    What each scene gave, and the finished tiles of one that was interrupted, are kept in `.<out>.scenes/` until then: run
    again, it goes on, and the bytes are those of one run: tiles and number format are chosen once, on the first scene, and
    kept there too. What another model, threshold, number format or other pixels gave is not taken. `report` is told of each
    scene how long it took, and when that is more than `minutes`: nothing is left out to keep within them.

    threshold, device, dtype, max_memory: as `xtgeo.detect` takes them.

    Raises XtgeoError, after all other scenes are done, where one could not be: `out` is then not written.
    """
    out = check_target(out, suffixes=(".csv",), overwrite=overwrite)
    if not scene_ids or len(set(scene_ids)) < len(scene_ids):
        raise SceneError(f"scene ids are given once each, with commas between them, not {','.join(scene_ids) or 'none'}")
    folder = out.with_name(f".{out.name}.scenes")
    with reported(folder):
        folder.mkdir(exist_ok=True)
    how = {"device": device, "dtype": dtype, "max_memory": max_memory}
    choice = folder / f"{digest([fingerprint(model), threshold, how])}.json"
    parts, failed = [], []
    for i, scene_id in enumerate(scene_ids, 1):
        start, count = time.monotonic(), f"{scene_id} ({i} of {len(scene_ids)})"
        try:
            part, known = _one(Path(data) / scene_id, choice, model, threshold, how)
        except XtgeoError as e:
            failed.append(f"{scene_id}: {e}")
            report(f"{count} failed: {e}")
            continue
        parts.append(pd.read_parquet(part, columns=list(PREDICTIONS)))
        took = (time.monotonic() - start) / 60
        late = f", more than the {minutes:g} that are allowed" if took > minutes else ""
        report(f"{count}: {len(parts[-1])} objects, {'from an earlier run' if known else f'{took:.1f} minutes{late}'}")
    if failed:
        if not any(folder.glob("*parquet*")):
            shutil.rmtree(folder)
        raise OutputError(
            f"{len(failed)} of {len(scene_ids)} scenes failed, {out} is not written ({failed[0]}): mend it or leave it out and "
            "run again, the others are kept"
        )
    table = pd.concat(parts, ignore_index=True)
    write_predictions(table, out, overwrite=overwrite)
    shutil.rmtree(folder)
    return to_predictions(table)


def _one(place: Path, choice: Path, model: Model, threshold: float | None, how: dict) -> tuple[Path, bool]:
    """File with the points of one scene, and whether it was there: its name tells from what pixels, by which model and how.

    choice: where tiles and number format for all scenes are kept.
    """
    if not place.is_dir():
        raise SceneError(f"there is no folder {place}")
    if missing := [name for name in XVIEW3 if not (place / name).exists()]:
        raise SceneError(f"{place} lacks {' and '.join(missing)}: unpack or download the scene again")
    scene = open_scene(place)
    part = choice.with_name(f"{place.name}_{digest([scene.fingerprint(), choice.stem])}.parquet")
    known = part.exists()
    if not known:
        like = _chosen(choice, scene, model, how)
        detect(scene, model, out=part, threshold=threshold, like=like, masks=Masks(land="off"))  # the table knows no land
    return part, known


def _chosen(choice: Path, scene: Scene, model: Model, how: dict) -> Plan:
    """The plan that was made on the first scene, for this one; the first scene's own where there is none yet."""
    if choice.exists():
        kept = json.loads(choice.read_text())
        return plan(scene, model, engine=Engine(**kept["engine"]), span=kept["span"])
    made = plan(scene, model, **how)
    with reported(choice):
        part = choice.with_suffix(".part")
        part.write_text(json.dumps({"engine": asdict(made.engine), "span": made.nest.span}))
        part.replace(choice)
    return made


def split(
    data: str | os.PathLike, *, folds: int = 4, labels: str | os.PathLike | None = None, seed: int = 0
) -> list[list[str]]:
    """Ids of the scenes in `data` for each fold: what overlaps on the earth, directly or through others, stays together.

    Groups go, largest first, to the fold that has least: objects where `labels` (the challenge's table) are given, scenes else.
    A deterministic function of the seed, which decides between equals.
    """
    places = sorted({path.parent for name in XVIEW3 for path in Path(data).glob(f"*/{name}")})
    if not places:
        raise SceneError(f"{data} holds no folder with {' or '.join(XVIEW3)}")
    weights = pd.Series(1, [p.name for p in places])
    if labels is not None:
        counts = read_labels([labels]).groupby("scene_id").size()
        weights = counts.reindex(weights.index, fill_value=0)
        if not weights.any():
            raise LabelError(f"{labels} has no object in the {len(places)} scenes of {data}: give the labels of these scenes")
    groups = same_place([open_scene(p).grid for p in places])
    order = np.random.default_rng(seed).permutation(len(groups))
    groups = sorted(([places[i].name for i in groups[k]] for k in order), key=lambda names: -weights[names].sum())
    if len(groups) < folds:
        raise SceneError(f"the {len(places)} scenes lie in {len(groups)} places: that is not enough for {folds} folds")
    out: list[list[str]] = [[] for _ in range(folds)]
    for group in groups:
        min(out, key=lambda fold: (weights[fold].sum(), len(fold))).extend(group)
    return [sorted(fold) for fold in out]
