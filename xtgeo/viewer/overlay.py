"""Objects that are drawn over a scene: any vector file, and what of it a page needs to know."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from geopandas.array import GeometryDtype

from xtgeo.detections import Detections
from xtgeo.errors import LabelError
from xtgeo.evaluate.objects import SCORES, SIZES, lonlat, read_frame
from xtgeo.evaluate.place import Measures, measure
from xtgeo.grid import is_georeferenced
from xtgeo.scene import Scene

Vectors: TypeAlias = os.PathLike | str | Detections | gpd.GeoDataFrame


@dataclass(frozen=True, eq=False)
class Overlay:
    """Points or polygons over one scene; arrays of one length."""

    name: str
    """Of the file, without folder."""
    path: Path | None
    """None where they come from memory."""
    frame: gpd.GeoDataFrame
    """The rows as they are in the file, those with a geometry in the scene; values of rare types as text."""
    geometry: np.ndarray
    """In longitude and latitude; longitudes go on beyond 180 where the scene lies across the antimeridian."""
    ids: tuple[str, ...]
    """The column `detect_id`, where each row has its own; else the number of the row in the file, from 1."""

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def at(self) -> Measures:
        """Where they are and how large; longitudes as in `geometry`."""
        at, west = measure(self.geometry), shapely.bounds(self.geometry)[:, 0] if len(self) else np.empty(0)
        return replace(at, lon=at.lon + 360 * np.round((west - at.lon) / 360))

    @cached_property
    def score(self) -> np.ndarray | None:
        """0 to 1 as a rule; NaN where there is none, None where no object has one."""
        score = self._numbers(SCORES)
        return None if score is None or np.isnan(score).all() else score

    @cached_property
    def length_m(self) -> np.ndarray:
        """The column `length_m` or `vessel_length_m`, else measured on outlines; NaN where it is not known."""
        return self._size("length", self.at.length_m)

    @cached_property
    def area_m2(self) -> np.ndarray:
        """As `length_m`."""
        return self._size("area", self.at.area_m2)

    @cached_property
    def kind(self) -> np.ndarray:
        """The column `class`, else what `is_vessel` and `is_fishing` say; "" where it is not known."""
        kind = np.full(len(self), "", object)
        if "class" in self.frame:
            return np.array([*("" if pd.isna(v) else str(v) for v in self.frame["class"]), None], object)[:-1]
        for column, value, name in (
            ("is_vessel", 1, "vessel"),
            ("is_vessel", 0, "other"),
            ("is_fishing", 1, "fishing"),
        ):
            if column in self.frame:
                said = pd.to_numeric(self.frame[column], errors="coerce").to_numpy(float, na_value=np.nan)
                kind[said == value] = name
        return kind

    def record(self, index: int) -> dict:
        """Every column of one row as plain values, and its id."""
        row = pd.DataFrame(self.frame.drop(columns="geometry")).iloc[[index]]
        plain = json.loads(row.to_json(orient="records", date_format="iso", double_precision=7))[0]
        return {"detect_id": self.ids[index], **{k: v for k, v in plain.items() if v is not None and v != ""}}

    def to_json(self) -> str:
        """For the page: columns of equal length, null where a value is not known; GeoJSON's geometry, null of points alone."""
        points = bool((shapely.get_type_id(self.geometry) == 0).all())
        columns = {
            "name": self.name,
            "points": points,
            "lon": _plain(self.at.lon, 7),
            "lat": _plain(self.at.lat, 7),
            "score": None if self.score is None else _plain(self.score, 4),
            "class": self.kind.tolist(),
            "length": _plain(self.length_m, 1),
            "area": _plain(self.area_m2, 0),
            "flags": [str(v or "") for v in self.frame["flags"].fillna("")] if "flags" in self.frame else None,
        }
        corners = shapely.transform(self.geometry, lambda xy: np.round(xy, 7))
        geometry = "null" if points else f"[{','.join(shapely.to_geojson(corners))}]"
        return f'{json.dumps(columns, separators=(",", ":"), allow_nan=False)[:-1]},"geometry":{geometry}}}'

    def _size(self, size: str, measured: np.ndarray) -> np.ndarray:
        told = self._numbers(SIZES[size])
        measured = np.where(measured > 0, measured, np.nan)
        return measured if told is None else np.where(np.isnan(told), measured, told)

    def _numbers(self, names: tuple[str, ...]) -> np.ndarray | None:
        columns = [pd.to_numeric(self.frame[name], errors="coerce") for name in names if name in self.frame]
        if not columns:
            return None
        values = columns[0].to_numpy(float, na_value=np.nan)
        return np.where(np.isfinite(values), values, np.nan)  # JSON knows no infinity


def read_overlay(vectors: Vectors, scene: Scene, bounds: tuple[float, float, float, float]) -> Overlay:
    """What of a vector file, or of a result in memory, belongs to the scene with these bounds in degrees (east may be beyond 180).

    Rows whose `scene_id` is the scene's; where none is, those that lie within the bounds.
    """
    if isinstance(vectors, Detections):
        if not is_georeferenced(vectors.grid):
            raise LabelError("the detections have no place on the earth, they cannot be shown on a map")
        path, frame = None, vectors.to_frame("EPSG:4326")
    elif isinstance(vectors, gpd.GeoDataFrame):
        path, frame = None, vectors
    else:
        path = Path(vectors)
        frame = read_frame(path, "vectors")
    name = path.name if path else "objects"
    if frame.crs is None:
        raise LabelError(
            f"{name} has no CRS, it cannot be laid over {scene.id}: say which it is, for example with ogr2ogr -a_srs"
        )
    kinds = set(frame.geom_type.dropna())
    if "Point" in kinds and len(kinds) > 1:
        raise LabelError(f"{name} holds points and polygons: make a file of each")
    if others := kinds - {"Point", "Polygon", "MultiPolygon"}:
        raise LabelError(f"{name} holds {', '.join(sorted(others))}: give points or polygons")
    frame = _storable(frame if frame.geometry.name == "geometry" else frame.rename_geometry("geometry"))
    ids = _ids(frame)
    there = ~(frame.geometry.isna() | frame.geometry.is_empty).to_numpy()
    if "scene_id" in frame and (mine := (frame["scene_id"].astype(str) == scene.id).to_numpy()).any():
        there &= mine
        geometry = _beside(lonlat(frame[there]), bounds)
    else:
        geometry = _beside(lonlat(frame[there]), bounds)
        near = _touch(geometry, bounds)
        if len(near) and not near.any():
            raise LabelError(
                f"none of the {len(near):,} objects of {name} lies in {scene.id}: check their CRS, and the scene"
            )
        there[there], geometry = near, geometry[near]
    return Overlay(name, path, frame[there].reset_index(drop=True), geometry, tuple(ids[there]))


def _storable(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """What GeoPackage or JSON have no type for as text: durations, complex and huge numbers, a second geometry."""
    own, changed = frame.geometry.name, {}
    for name, column in frame.items():
        kind = column.dtype
        if kind == np.float16:
            changed[name] = column.astype(np.float32)
        elif kind.kind == "u" and kind.itemsize == 8 and not (column > np.iinfo(np.int64).max).any():
            changed[name] = column.astype("Int64")
        elif (isinstance(kind, GeometryDtype) and name != own) or kind.kind in "cm" or (kind.kind == "u" and kind.itemsize == 8):
            changed[name] = column.astype(str).where(column.notna(), None)
    return frame.assign(**changed)


def _ids(frame: gpd.GeoDataFrame) -> np.ndarray:
    if "detect_id" in frame and frame["detect_id"].notna().all() and frame["detect_id"].is_unique:
        return frame["detect_id"].astype(str).to_numpy(object)
    return np.array([*map(str, range(1, len(frame) + 1)), None], object)[:-1]


def _beside(geometry: np.ndarray, bounds: tuple[float, float, float, float]) -> np.ndarray:
    """The same on the side of the antimeridian on which the scene is."""
    west, _, east, _ = shapely.bounds(geometry).T if len(geometry) else np.empty((4, 0))
    turns = 360 * np.round(((bounds[0] + bounds[2]) / 2 - (west + east) / 2) / 360)
    for i in np.flatnonzero(turns):
        geometry[i] = shapely.transform(geometry[i], lambda xy, by=turns[i]: xy + [by, 0])
    return geometry


def _touch(geometry: np.ndarray, bounds: tuple[float, float, float, float]) -> np.ndarray:
    west, south, east, north = shapely.bounds(geometry).T if len(geometry) else np.empty((4, 0))
    return (west <= bounds[2]) & (east >= bounds[0]) & (south <= bounds[3]) & (north >= bounds[1])


def _plain(values: np.ndarray, digits: int) -> list[float | None]:
    return [None if np.isnan(v) else round(v, digits) for v in np.asarray(values, float).tolist()]
