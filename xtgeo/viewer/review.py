"""A review: what a person says of each object, in a GeoPackage that `xtgeo evaluate` and `xtgeo train` take as labels.

    mark      layer      review    confidence  to evaluate and train
    true      labels     true      HIGH        a label
    unsure    labels     unsure    LOW         neither right nor wrong
    (none)    labels     unseen    LOW         neither right nor wrong
    false     rejected   false     LOW         no label: a prediction there is false, pixels there are background

Both read the first layer, which is `labels`, and pass over `confidence=LOW` unless told otherwise. Rows are those of the file that
is reviewed, with its columns and CRS. The table `review` counts them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
from filelock import FileLock
from pyogrio.errors import DataLayerError, DataSourceError

from xtgeo.errors import OutputError
from xtgeo.viewer.overlay import Overlay
from xtgeo.write.staged import check_target, reported, staged
from xtgeo.write.tables import check_layers, read_layer, typed, write_layer

STATES = ("true", "false", "unsure")
LAYERS = ("labels", "rejected")
OWN = ("detect_id", "review", "confidence")
"""Columns that a review writes, whatever was in them."""


class Review:
    """Marks of the objects of one overlay; on disk whenever `save` has returned. Thread-safe.

    A file that is there is taken up: marks of these objects, rows of other scenes, and what another process wrote in the meantime.
    """

    def __init__(self, overlay: Overlay, path: os.PathLike | str):
        self.path = check_target(path, suffixes=(".gpkg",), overwrite=True)
        if overlay.path and self.path.exists() and self.path.samefile(overlay.path):
            raise OutputError(f"{self.path} is what is reviewed: give --review another name")
        if overlay.path is None and "detect_id" not in overlay.frame:
            raise OutputError(
                "what is to be reviewed has no column detect_id, by which its objects would be known again: add one"
            )
        self._overlay, self._number = overlay, {name: i for i, name in enumerate(overlay.ids)}
        self._lock = threading.Lock()
        self._marks: dict[int, str] = {}
        self._changed: set[int] = set()
        self._others: list[gpd.GeoDataFrame] = []
        self._seen: tuple | None = None
        self._take_up()

    @property
    def marks(self) -> dict[int, str]:
        """What was said, by index of the object."""
        with self._lock:
            return dict(self._marks)

    def __str__(self) -> str:
        """Such as "12 true, 3 false, 1 unsure, 84 unseen"."""
        said = list(self.marks.values())
        counts = {state: said.count(state) for state in STATES} | {"unseen": len(self._overlay) - len(said)}
        return ", ".join(f"{count:,} {state}" for state, count in counts.items())

    @property
    def is_unsaved(self) -> bool:
        """Whether a mark is not on disk yet."""
        return bool(self._changed)

    def mark(self, marks: Mapping[int, str | None]) -> None:
        """Says of objects that they are true, false or unsure; None takes back what was said."""
        with self._lock:
            for i, state in marks.items():
                if state is not None and state not in STATES:
                    raise ValueError(f"unknown mark {state!r}: choose one of {', '.join(STATES)}")
                self._marks.pop(i, None)
                if state:
                    self._marks[i] = state
                self._changed.add(i)

    def save(self) -> None:
        """Writes the file anew, complete or not at all; other processes that review into the same file wait."""
        with reported(self.path), FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=30):
            self._take_up()
            with self._lock:
                said, now = self._changed, dict(self._marks)
                self._changed = set()
            try:
                labels, rejected, counts = self._tables(now)
                with staged(self.path, overwrite=True) as part:
                    write_layer(labels, part, "labels", append=False)
                    write_layer(rejected, part, "rejected", append=True)
                    write_layer(counts, part, "review", append=True)
                    check_layers(part, {"labels": len(labels), "rejected": len(rejected), "review": len(counts)})
            except BaseException:
                with self._lock:
                    self._changed |= said
                raise
            self._seen = _stamp(self.path)

    def _tables(self, marks: Mapping[int, str]) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame, pd.DataFrame]:
        said = np.full(len(self._overlay), "unseen", object)
        said[list(marks)] = list(marks.values())
        frame = self._overlay.frame.assign(
            detect_id=list(self._overlay.ids), review=said, confidence=np.where(said == "true", "HIGH", "LOW")
        )
        labels, rejected = frame[said != "false"], frame[said == "false"]
        if self._others:
            labels, rejected = _concat(labels, self._others[0]), _concat(rejected, self._others[1])
        labels, rejected = _told_apart(labels), _told_apart(rejected)
        rows = _concat(labels, rejected)
        scenes = rows["scene_id"].astype(str) if "scene_id" in rows else pd.Series("", rows.index)
        counts = pd.crosstab(scenes.to_numpy(), rows["review"].to_numpy()).reindex(
            columns=[*STATES, "unseen"], fill_value=0
        )
        return labels, rejected, counts.rename_axis("scene_id").reset_index().rename_axis(None, axis=1)

    def _take_up(self) -> None:
        """Reads what is on disk, if it is not what was last seen there; marks that are not saved yet stand."""
        stamp = _stamp(self.path)
        if stamp is None or stamp == self._seen:
            return
        layers = [layer.to_crs(self._overlay.frame.crs) for layer in _read(self.path)]
        self._refuse_others(layers)
        with self._lock:
            for i in [i for i in self._marks if i not in self._changed]:
                del self._marks[i]
            for layer in layers:
                for name, state in zip(layer["detect_id"], layer["review"], strict=True):
                    i = self._number.get(name)
                    if i is not None and i not in self._changed and state in STATES:
                        self._marks[i] = state
        self._others = [layer[~layer["detect_id"].isin(self._number)] for layer in layers]
        self._seen = stamp

    def _refuse_others(self, layers: list[gpd.GeoDataFrame]) -> None:
        """Refuses a review whose objects have the names of ours and lie elsewhere, as where rows of two files are counted."""
        frame = self._overlay.frame
        near = 1e-5 if frame.crs.is_geographic else 1.0  # of points that were carried from one CRS to another
        for layer in layers:
            named = layer[layer["detect_id"].isin(self._number)]
            there = shapely.bounds(named.geometry.values).reshape(-1, 4)
            rows = [self._number[name] for name in named["detect_id"]]
            ours = shapely.bounds(frame.geometry.values[rows]).reshape(-1, 4)
            apart = (there[:, :2] > ours[:, 2:] + near) | (ours[:, :2] > there[:, 2:] + near)
            if apart.any():
                name = named["detect_id"].iloc[int(np.argmax(apart.any(1)))]
                raise OutputError(
                    f"{self.path} is a review of other objects, its {name} lies elsewhere: give --review another name"
                )


def _concat(a: gpd.GeoDataFrame, b: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    return pd.concat([a, b], ignore_index=True) if len(a) and len(b) else a if len(a) else b


def _told_apart(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Without columns that a GeoPackage takes for others: to it Confidence is confidence, and fid and geom are its own."""
    taken, keep = {"fid", "geom", *OWN}, []
    for name in frame.columns:
        if name in OWN or name.lower() not in taken:
            keep.append(name)
            taken.add(name.lower())
    return frame[keep]


def _read(path: Path) -> list[gpd.GeoDataFrame]:
    """The two layers of a review; refused where the file is something else."""
    try:
        names = set(pyogrio.list_layers(path)[:, 0])
        if not {*LAYERS, "review"} <= names:
            raise OutputError(f"{path} is no review, and stays as it is: give --review another name")
        return [typed(read_layer(path, name)) for name in LAYERS]
    except (DataSourceError, DataLayerError, ValueError) as e:
        raise OutputError(
            f"{path} is no review that can be read ({' '.join(str(e).split())}): give --review another name"
        ) from e


def _stamp(path: Path) -> tuple | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
