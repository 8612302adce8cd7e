"""Tables and shorelines of the xView3-SAR challenge.

    predictions  detect_scene_row, detect_scene_column, scene_id, is_vessel, is_fishing, vessel_length_m, as CSV;
                 or the points of `xtgeo detect` in any of its formats
    labels       the challenge's CSV; of its columns those above, distance_from_shore_km and confidence are read
    shorelines   {scene_id}_shoreline.npy is an object array of (n, 2) contours, row and column in pixels, which numpy stores
                 as a pickle; {scene_id}_shoreline.npz says the same in plain numbers:
                 `vertices` (n, 2) float64, and contour k is vertices[starts[k]:starts[k + 1]]

A pickle can run any program when it is opened. It is opened only when that is allowed, and then by a reader that builds
arrays of numbers and nothing else.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyogrio
from pyogrio.errors import DataSourceError

from xtgeo.errors import LabelError, OutputError
from xtgeo.evaluate.pairing import some
from xtgeo.write.staged import check_target, reported, staged

PREDICTIONS = ("detect_scene_row", "detect_scene_column", "scene_id", "is_vessel", "is_fishing", "vessel_length_m")
"""Columns of the challenge's predictions, in its order."""
LABELS = (*PREDICTIONS, "distance_from_shore_km", "confidence")
"""Columns of its labels that count."""
CONFIDENCES = ("HIGH", "MEDIUM", "LOW")
TRUTHS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


def read_predictions(paths: Sequence[os.PathLike | str]) -> pd.DataFrame:
    """Predictions of all files in one table, in the challenge's columns; classes are nullable booleans."""
    return _read(paths, "predictions", PREDICTIONS)


def read_labels(paths: Sequence[os.PathLike | str]) -> pd.DataFrame:
    """Labels of all files in one table; classes are nullable booleans, unknown lengths NaN."""
    table = _read(paths, "labels", LABELS)
    if not len(table):
        raise LabelError(f"{_names(paths)} holds no label: there is nothing to evaluate against")
    if len(strange := set(table["confidence"].dropna()) - set(CONFIDENCES)) or table["confidence"].isna().any():
        told = ", ".join(map(str, sorted(strange))) or "nothing"
        raise LabelError(f"confidence in {_names(paths)} must be one of {', '.join(CONFIDENCES)}, found {told}")
    if (table["vessel_length_m"] <= 0).any():
        raise LabelError(f"{_names(paths)} has lengths that are not positive; leave vessel_length_m empty where it is not known")
    return table


def check_scenes(predictions: pd.DataFrame, labels: pd.DataFrame) -> None:
    """Refuses tables that share no scene: they belong to different data."""
    found, true = set(predictions["scene_id"]), set(labels["scene_id"])
    if found and not found & true:
        raise LabelError(
            f"no scene is in both tables: predictions are of {some(found)}, labels of {some(true)}; make their scene_id agree"
        )


def to_predictions(points: pd.DataFrame) -> pd.DataFrame:
    """Points of `xtgeo detect` as the challenge wants them: six columns, no nulls.

    What is no vessel does not fish. A length that is not known is 0 m: that is an error of 1 and no more, where an empty cell
    would make the challenge's whole score NaN.
    """
    table = pd.DataFrame(points)[list(PREDICTIONS)].copy()
    for name in ("is_vessel", "is_fishing"):
        table[name] = table[name].fillna(False).astype(bool)
    return table.assign(vessel_length_m=table["vessel_length_m"].fillna(0.0))


def write_predictions(points: pd.DataFrame, path: os.PathLike | str, *, overwrite: bool = False) -> None:
    """Writes points, such as `xtgeo.detect(...).detections.to_frame()`, as the challenge's CSV."""
    path = check_target(path, suffixes=(".csv",), overwrite=overwrite)
    with staged(path, overwrite=overwrite) as part, reported(path):
        to_predictions(points).to_csv(part, index=False)


def _read(paths: Sequence[os.PathLike | str], what: str, columns: tuple[str, ...]) -> pd.DataFrame:
    tables = []
    for path in paths:
        table = _read_file(path, what)
        missing = [name for name in columns if name not in table]
        if missing:
            raise LabelError(f"{what} {path} lack the column {', '.join(missing)}; found {', '.join(map(str, table)) or 'none'}")
        ours = what == "predictions" and "presence_score" in table
        table = _typed(table[list(columns)], f"{what} {path}")
        tables.append(to_predictions(table) if ours else table)
    return pd.concat(tables, ignore_index=True)


def _read_file(path: os.PathLike | str, what: str) -> pd.DataFrame:
    suffix = Path(path).suffix.lower()
    try:
        if suffix == ".csv":
            return pd.read_csv(path, index_col=False, dtype=object)
        if suffix == ".parquet":
            return pd.read_parquet(path)
        layers = pyogrio.list_layers(path)[:, 0]
        layer = "detections" if "detections" in layers else layers[0]
        return pyogrio.read_dataframe(path, layer=layer, read_geometry=False)
    except pd.errors.EmptyDataError as e:
        raise LabelError(f"{what} {path} is empty: it has not even a header") from e
    except (DataSourceError, OSError, ValueError, IndexError) as e:
        raise LabelError(f"{what} {path} cannot be read as a table: {str(e).splitlines()[0]}") from e


def _typed(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Columns as what they are: pandas takes truths with gaps for objects, in which a gap counts as True."""
    answer = {}
    for column in table:
        if column in ("scene_id", "confidence"):
            answer[column] = table[column].astype(object).where(table[column].notna(), None)
        elif column in ("is_vessel", "is_fishing"):
            answer[column] = _truths(table[column], name)
        else:
            answer[column] = _numbers(table[column], name)
    typed = pd.DataFrame(answer, index=table.index)
    for column in ("detect_scene_row", "detect_scene_column", "scene_id"):
        if typed[column].isna().any():
            raise LabelError(f"{name}: {column} is empty in {int(typed[column].isna().sum())} rows; every object needs its place")
    return typed


def _truths(column: pd.Series, name: str) -> pd.Series:
    text = column.astype(object).where(column.notna(), None).map(lambda x: None if x is None else str(x).strip().lower())
    strange = set(text.dropna()) - set(TRUTHS)
    if strange:
        raise LabelError(f"{name}: {column.name} must be True, False or empty, found {some(strange)}")
    return text.map(TRUTHS).astype("boolean")


def _numbers(column: pd.Series, name: str) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    if (wrong := numbers.isna() & column.notna()).any():
        raise LabelError(f"{name}: {column.name} must be a number, found {some(set(map(str, column[wrong])))}")
    return numbers


def _names(paths: Iterable) -> str:
    return ", ".join(map(str, paths))


def read_shoreline(scene_id: str, *, folder: os.PathLike | str, allow_pickle: bool = False) -> np.ndarray:
    """(n, 2) vertices, row and column in pixels, of {scene_id}_shoreline.npz or .npy; (0, 2) where the scene has no shore."""
    plain, pickled = (Path(folder) / f"{scene_id}_shoreline{suffix}" for suffix in (".npz", ".npy"))
    if plain.exists():
        return _read_plain(plain)
    if not pickled.exists():
        raise LabelError(f"no shoreline of {scene_id} in {folder}: neither {plain.name} nor {pickled.name} is there")
    return _stack(_read_contours(pickled, allow_pickle=allow_pickle))


def convert_shorelines(source: os.PathLike | str, target: os.PathLike | str, *, allow_pickle: bool, overwrite: bool = False) -> int:
    """Writes each *_shoreline.npy of a folder as a .npz of plain numbers into another; gives how many."""
    paths = sorted(Path(source).glob("*_shoreline.npy"))
    if not paths:
        raise LabelError(f"no *_shoreline.npy in {source}: give the folder of the shorelines")
    try:
        Path(target).mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise OutputError(f"folder {target} cannot be made: {e}") from e
    targets = [check_target(Path(target) / f"{path.stem}.npz", overwrite=overwrite) for path in paths]
    for path, out in zip(paths, targets, strict=True):
        contours = _read_contours(path, allow_pickle=allow_pickle)
        starts = np.cumsum([0, *map(len, contours)])
        with staged(out, overwrite=overwrite) as part, reported(out):
            np.savez_compressed(part, vertices=_stack(contours), starts=starts)
    return len(paths)


def _read_plain(path: Path) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as file:
            return _as_vertices(file["vertices"], path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as e:
        raise LabelError(f"shoreline {path} cannot be read: {e}; convert it again") from e


def _read_contours(path: Path, *, allow_pickle: bool) -> list[np.ndarray]:
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version](file)
            if not header[2].hasobject:
                file.seek(0)
                contours = np.load(file, allow_pickle=False)
            elif not allow_pickle:
                raise LabelError(
                    f"shoreline {path} is a pickle, which can run any program: if you trust where it comes from, give "
                    "--allow-pickle, or once and for all: xtgeo evaluate shore IN_DIR OUT_DIR --allow-pickle"
                )
            else:
                contours = _Numbers(BytesIO(file.read())).load()
    except (OSError, ValueError, KeyError, EOFError, pickle.UnpicklingError, TypeError, AttributeError) as e:
        raise LabelError(f"shoreline {path} cannot be read: {e}") from e
    return [_as_vertices(contour, path) for contour in contours]


class _Numbers(pickle.Unpickler):
    """Unpickles arrays and nothing else, as the documentation of `pickle` shows under restricting globals."""

    def find_class(self, module: str, name: str):
        if (module.replace("_core", "core"), name) in {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy.core.numeric", "_frombuffer"),
            ("_codecs", "encode"),
        }:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"it wants {module}.{name}, and a shoreline is made of arrays only; do not trust it")


def _as_vertices(contour: object, path: Path) -> np.ndarray:
    contour = np.asarray(contour)
    if contour.dtype.kind not in "iuf" or contour.size and contour.shape[1:] != (2,):
        raise LabelError(f"shoreline {path} has a contour of {contour.dtype} {contour.shape}; it must be numbers of shape (n, 2)")
    return contour.reshape(-1, 2).astype(float)


def _stack(contours: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(contours) if contours else np.empty((0, 2))
