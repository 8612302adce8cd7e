"""The xView3-SAR challenge's own job: a folder of scenes and their ids in, one table of detections out (arXiv 2206.00897)."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xtgeo.errors import OutputError, SceneError, XtgeoError
from xtgeo.evaluate.xview3_files import read_labels, to_predictions, write_predictions
from xtgeo.grid import same_place
from xtgeo.job import detect
from xtgeo.model import Model
from xtgeo.read import open_scene
from xtgeo.read.stack import XVIEW3
from xtgeo.write.staged import check_target

MINUTES = 15.0
"""That the challenge allows for a scene."""


def predict(
    data: str | os.PathLike,
    scene_ids: Sequence[str],
    out: str | os.PathLike,
    model: Model,
    *,
    minutes: float = MINUTES,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda line: None,
    **options,
) -> pd.DataFrame:
    """The challenge's table of all scenes in `data/<scene id>/`, written to `out`, a .csv, when the last scene is done.

    What each scene gave is kept in `<out>.scenes/` until then: run again, it goes on, to the same bytes. `report` is told of each
    scene how long it took, and when that is more than `minutes`: nothing is left out to keep within them.
    options: those of `xtgeo.detect`.

    Raises XtgeoError, after all other scenes are done, where one could not be: its table is then not written.
    """
    out, folder = check_target(out, suffixes=(".csv",), overwrite=overwrite), Path(f"{out}.scenes")
    if not scene_ids or len(set(scene_ids)) < len(scene_ids):
        raise SceneError(f"scene ids are given once each, with commas between them, not {','.join(scene_ids) or 'none'}")
    folder.mkdir(exist_ok=True)
    failed = []
    for i, scene_id in enumerate(scene_ids, 1):
        part, start = folder / f"{scene_id}.parquet", time.monotonic()
        if not part.exists():
            try:
                _one(Path(data) / scene_id, part, model, options)
            except XtgeoError as e:
                failed.append(f"{scene_id}: {e}")
                report(f"{scene_id} ({i} of {len(scene_ids)}) failed: {e}")
                continue
        took = (time.monotonic() - start) / 60
        late = f", more than the {minutes:g} that are allowed" if took > minutes else ""
        report(f"{scene_id} ({i} of {len(scene_ids)}): {len(pd.read_parquet(part))} objects, {took:.1f} minutes{late}")
    if failed:
        raise OutputError(
            f"{len(failed)} of {len(scene_ids)} scenes failed, {out} is not written ({failed[0]}): mend it and run again, "
            "the others are kept"
        )
    table = pd.concat([pd.read_parquet(folder / f"{scene_id}.parquet") for scene_id in scene_ids], ignore_index=True)
    write_predictions(table, out, overwrite=overwrite)
    shutil.rmtree(folder)
    return to_predictions(table)


def _one(place: Path, part: Path, model: Model, options: dict) -> None:
    """Points of one scene, whole or not at all."""
    if not place.is_dir():
        raise SceneError(f"there is no folder {place}")
    found = detect(open_scene(place), model, **options).detections
    partial = part.with_name(f".{part.name}.partial")
    pd.DataFrame(found.to_frame().drop(columns="geometry")).to_parquet(partial)
    os.replace(partial, part)


def split(
    data: str | os.PathLike, *, folds: int = 4, labels: str | os.PathLike | None = None, seed: int = 0
) -> list[list[str]]:
    """Ids of the scenes in `data` for each fold: what overlaps on the earth, directly or through others, stays together.

    Groups go, largest first, to the fold that has least: objects where `labels` (the challenge's table) are given, scenes else.
    A deterministic function of the seed, which decides between equals.
    """
    places = sorted(p for p in Path(data).iterdir() if any((p / name).exists() for name in XVIEW3))
    if not places:
        raise SceneError(f"{data} holds no folder with {' or '.join(XVIEW3)}")
    weights = pd.Series(1, [p.name for p in places])
    if labels is not None:
        counts = read_labels([labels]).groupby("scene_id").size()
        weights = counts.reindex(weights.index, fill_value=0)
    groups = same_place([open_scene(p).grid for p in places])
    order = np.random.default_rng(seed).permutation(len(groups))
    groups = sorted(([places[i].name for i in groups[k]] for k in order), key=lambda g: -weights[g].sum())
    if len(groups) < folds:
        raise SceneError(f"the {len(places)} scenes lie in {len(groups)} places: that is not enough for {folds} folds")
    out: list[list[str]] = [[] for _ in range(folds)]
    for group in groups:
        min(out, key=lambda fold: (weights[fold].sum(), len(fold))).extend(group)
    return [sorted(fold) for fold in out]
