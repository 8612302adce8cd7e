"""Predictions and labels from vector files: what is evaluated, scene by scene, in longitude and latitude."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from xtgeo.errors import LabelError
from xtgeo.evaluate.pairing import agree, refuse_twins
from xtgeo.evaluate.place import Measures, measure

SCORES = ("score", "presence_score")
"""Columns in which xtgeo writes how sure it is."""
SIZES = {"length": ("length_m", "vessel_length_m"), "area": ("area_m2",)}
"""Columns in which a size may stand; where there is none it is measured on polygons."""
LONLAT = (("detect_lon", "detect_lat"), ("lon", "lat"))
UNCERTAIN = {"confidence": ("LOW",)}
"""What is neither missed nor false unless the user says otherwise, where labels have the column; as in training, and in xView3."""
STEP_M = 1000
"""Longest edge that is carried to degrees as one straight line."""


@dataclass(frozen=True)
class Columns:
    """What the columns of predictions and labels mean."""

    score: str | None = None
    """Of predictions; None: `score` or `presence_score`, where there is one."""
    kind: str | None = None
    """Class, in both; None: there is but one class."""
    size: str = "length"
    """Of labels: "length", "area", or a column of numbers."""
    ignore: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: UNCERTAIN)
    """Columns of labels and the values, as text ("" is null), with which a label is neither missed nor, when found, false."""


@dataclass(frozen=True, eq=False)
class Objects:
    """Points or polygons with what is known of them; arrays of one length."""

    geometry: np.ndarray
    """In longitude and latitude; edges at most 1 km long."""
    at: Measures
    scene: np.ndarray
    """Name of the scene of each."""
    score: np.ndarray | None
    kind: np.ndarray
    """Class as text, None where it is not known, "" where there is but one."""
    size: np.ndarray
    """Metres, square metres or the column's own unit; NaN where it is not known."""
    ignored: np.ndarray

    def __len__(self) -> int:
        return len(self.geometry)

    @property
    def is_polygons(self) -> bool:
        """Whether each has an area."""
        return bool(np.isin(shapely.get_type_id(self.geometry), (3, 6)).all())


def read_objects(
    predictions: Sequence[os.PathLike | str], labels: Sequence[os.PathLike | str], columns: Columns = Columns()
) -> tuple[Objects, Objects]:
    """Predictions and labels of vector files, or CSV with longitude and latitude; whatever their CRS.

    Scenes are told apart by the column `scene_id`, where there is none by the file's name: `a_labels.gpkg` belongs to `a.gpkg`
    and to the scene_id `a`. One file of each without scene_id on both sides are one scene.
    """
    for paths in (predictions, labels):
        refuse_twins(paths)
    found = [read_frame(path, "predictions") for path in predictions]
    true = [read_frame(path, "labels") for path in labels]
    columns = _known_score(columns, found)
    scenes = _scenes(predictions, found), _scenes(labels, true)
    named = all("scene_id" in frame for frame in [*found, *true])
    if len(found) == len(true) == 1 and not named:
        scenes = tuple([np.full(len(frames[0]), Path(predictions[0]).stem, object)] for frames in (found, true))
    else:
        empty = {Path(path).stem for path, frame in zip(predictions, found, strict=True) if frame.empty}
        scenes = scenes[0], _common({*np.concatenate(scenes[0]), *empty}, scenes[1], named)
    found = [to_objects(frame, scene, columns, labels=False) for frame, scene in zip(found, scenes[0], strict=True)]
    true = [to_objects(frame, scene, columns, labels=True) for frame, scene in zip(true, scenes[1], strict=True)]
    if not sum(map(len, true)):
        raise LabelError(f"no label in {', '.join(map(str, labels))}: there is nothing to evaluate against")
    return _join(found), _join(true)


def to_objects(frame: gpd.GeoDataFrame, scene: np.ndarray, columns: Columns = Columns(), *, labels: bool) -> Objects:
    """The objects of a table of valid points or polygons with a CRS.

    scene: the name of the scene of each. Labels have sizes and may be ignored, predictions have scores.
    """
    _check(frame)
    geometry = lonlat(frame)
    at = measure(geometry)
    kind = _texts(frame, columns.kind, "--class-column") if columns.kind else np.full(len(frame), "", object)
    if labels:
        ignored = _ignored(frame, columns.ignore) | pd.isna(kind)
        return Objects(geometry, at, scene, None, kind, _sizes(frame, at, columns.size), ignored)
    score = None if columns.score is None else _numbers(frame, columns.score, "--score-column")
    return Objects(geometry, at, scene, score, kind, np.full(len(frame), np.nan), np.zeros(len(frame), bool))


def read_frame(path: os.PathLike | str, what: str) -> gpd.GeoDataFrame:
    """Whatever table with geometry the file holds; its name is kept for messages."""
    try:
        match Path(path).suffix.lower():
            case ".csv":
                frame = _points(pd.read_csv(path, index_col=False, low_memory=False), path)
            case ".parquet":
                frame = gpd.read_parquet(path)
            case _:
                frame = pyogrio.read_dataframe(path, layer=_layer(path))
    except (DataSourceError, DataLayerError, OSError, ValueError) as e:
        raise LabelError(f"{what} {path} cannot be read as vectors: {str(e).splitlines()[0]}") from e
    if not isinstance(frame, gpd.GeoDataFrame):
        raise LabelError(f"{what} {path} is a table without geometry; give points or polygons, such as a .gpkg or .geojson")
    frame.attrs["name"] = f"{what} {path}"
    return frame


def _layer(path: os.PathLike | str) -> str:
    layers = pyogrio.list_layers(path)
    placed = [name for name, kind in layers if kind is not None]
    if not placed:
        raise ValueError("no layer has a geometry")
    return "detections" if "detections" in placed else placed[0]


def _points(table: pd.DataFrame, path: os.PathLike | str) -> gpd.GeoDataFrame:
    for lon, lat in LONLAT:
        if {lon, lat} <= set(table):
            return gpd.GeoDataFrame(table, geometry=gpd.points_from_xy(table[lon], table[lat]), crs="EPSG:4326")
    raise LabelError(f"{path} has no columns lon and lat; give such a CSV, or a vector file such as a .gpkg")


def _check(frame: gpd.GeoDataFrame) -> None:
    name, geometry = _name(frame), frame.geometry.values
    if frame.crs is None:
        raise LabelError(f"{name} has no CRS; say which it is, for example with ogr2ogr -a_srs EPSG:4326")
    if (bad := np.flatnonzero(geometry.isna() | geometry.is_empty)).size:
        raise LabelError(f"{name}: {bad.size} objects have no geometry, the first is number {bad[0] + 1}; remove them")
    kinds = set(geometry.geom_type) - {"Point", "Polygon", "MultiPolygon"}
    if kinds:
        raise LabelError(f"{name} holds {', '.join(sorted(kinds))}; only points and polygons can be evaluated")
    if (bad := np.flatnonzero(~geometry.is_valid)).size:
        reason = shapely.is_valid_reason(geometry[bad[0]])
        raise LabelError(
            f"{name}: {bad.size} geometries are invalid, the first is number {bad[0] + 1} ({reason}); "
            "repair them, for example with ogr2ogr -makevalid"
        )


def _name(frame: gpd.GeoDataFrame) -> str:
    return frame.attrs.get("name", "the table")


def lonlat(frame: gpd.GeoDataFrame) -> np.ndarray:
    geometry = np.asarray(shapely.force_2d(frame.geometry.values), object)
    unit = frame.crs.axis_info[0].unit_conversion_factor
    if frame.crs.is_geographic:
        geometry, unit = _whole(geometry, np.pi / unit), unit * 6_378_137
    dense = gpd.GeoSeries(shapely.segmentize(geometry, STEP_M / unit), crs=frame.crs)
    geometry = np.asarray(dense.to_crs("EPSG:4326").values, object)
    corners = shapely.get_coordinates(geometry)
    if not np.isfinite(corners).all() or (np.abs(corners) > (540, 90 + 1e-9)).any():
        raise LabelError(f"{_name(frame)}: its coordinates lie outside the area of its CRS {frame.crs.name}")
    return geometry


def _whole(geometry: np.ndarray, half_turn: float) -> np.ndarray:
    """The same with no edge the long way round the earth: what lies on both sides of the antimeridian goes beyond it."""
    west, _, east, _ = shapely.bounds(geometry).T if len(geometry) else np.empty((4, 0))
    wide = np.flatnonzero(east - west > half_turn)
    xy, index = shapely.get_coordinates(geometry[wide], return_index=True)
    first = xy[np.searchsorted(index, np.arange(len(wide))), 0]
    xy[:, 0] += 2 * half_turn * np.round((first[index] - xy[:, 0]) / (2 * half_turn))
    geometry[wide] = shapely.set_coordinates(geometry[wide], xy)
    return geometry


def _scenes(paths: Sequence, frames: Sequence[gpd.GeoDataFrame]) -> list[np.ndarray]:
    scenes = []
    for path, frame in zip(paths, frames, strict=True):
        names = _texts(frame, "scene_id", "scene_id") if "scene_id" in frame else np.full(len(frame), Path(path).stem, object)
        if empty := pd.isna(names).sum():
            raise LabelError(f"{_name(frame)}: scene_id is empty in {empty} rows; fill it in, or leave the column out")
        scenes.append(names)
    return scenes


def _common(known: set[str], scenes: list[np.ndarray], named: bool) -> list[np.ndarray]:
    """Names of the labels' scenes as the predictions spell them; with `named` both come from scene_id and agree as they are."""
    own = {name for names in scenes for name in names}
    if named and (not known or known & own):  # scenes in which nothing was found have no prediction
        return scenes
    spelt = agree(known, own)
    return [np.array([spelt[name] for name in names], object) for names in scenes]


def _known_score(columns: Columns, frames: Sequence[gpd.GeoDataFrame]) -> Columns:
    if columns.score is not None:
        return columns
    shared = [name for name in SCORES if all(name in frame for frame in frames)]
    return Columns(shared[0] if shared else None, columns.kind, columns.size, columns.ignore)


def _column(frame: gpd.GeoDataFrame, column: str, option: str) -> pd.Series:
    if column not in frame:
        others = ", ".join(str(name) for name in frame if name != "geometry") or "none"
        raise LabelError(f"{_name(frame)} has no column {column!r} ({option}); it has {others}")
    return frame[column]


def _texts(frame: gpd.GeoDataFrame, column: str, option: str) -> np.ndarray:
    """As text, numbers without a needless .0; None for null and empty."""
    values = _column(frame, column, option)
    texts = [None if pd.isna(v) or v == "" else f"{v:g}" if isinstance(v, float) else str(v) for v in values]
    return np.array([*texts, None], object)[:-1]


def _numbers(frame: gpd.GeoDataFrame, column: str, option: str) -> np.ndarray:
    values = _column(frame, column, option)
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(float, na_value=np.nan)
    if len(numbers) and not np.isfinite(numbers).any() or (np.isnan(numbers) & values.notna().to_numpy()).any():
        raise LabelError(f"{_name(frame)}: column {column!r} ({option}) must hold numbers")
    if option == "--score-column" and np.isnan(numbers).any():
        raise LabelError(f"{_name(frame)}: {np.isnan(numbers).sum()} predictions have no {column}")
    return numbers


def _sizes(frame: gpd.GeoDataFrame, at: Measures, size: str) -> np.ndarray:
    if size not in SIZES:
        return _numbers(frame, size, "--size")
    measured = at.length_m if size == "length" else at.area_m2
    told = [frame[name] for name in SIZES[size] if name in frame]
    sizes = pd.to_numeric(told[0], errors="coerce").to_numpy(float, na_value=np.nan) if told else np.full(len(frame), np.nan)
    return np.where(np.isnan(sizes), np.where(measured > 0, measured, np.nan), sizes)


def _ignored(frame: gpd.GeoDataFrame, ignore: Mapping[str, tuple[str, ...]]) -> np.ndarray:
    mask = np.zeros(len(frame), bool)
    for column, values in ignore.items():
        if ignore is UNCERTAIN and column not in frame:
            continue
        wanted = {value.lower() for value in values}
        mask |= np.array([(text or "").lower() in wanted for text in _texts(frame, column, "--ignore")], bool)
    return mask


def _join(parts: Sequence[Objects]) -> Objects:
    def all_of(get):
        return np.concatenate([get(part) for part in parts])

    at = Measures(*(all_of(lambda p, name=name: getattr(p.at, name)) for name in Measures.__dataclass_fields__))
    score = None if parts[0].score is None else all_of(lambda p: p.score)
    geometry, scene, kind, size, ignored = (
        all_of(lambda p, name=name: getattr(p, name)) for name in ("geometry", "scene", "kind", "size", "ignored")
    )
    return Objects(geometry, at, scene, score, kind, size, ignored)
