"""Labels of scenes, whatever file they come in, as objects in the scene's own pixels.

    vector file     polygons or points in any CRS; a column may name the class, others what is known of a vessel
    xView3 CSV      one row for each object, scene_id and pixel of its centre (arXiv 2206.00897)
    COCO JSON       outlines and boxes in pixels of images, found by file name (arXiv 1405.0312)
    raster          the class of every pixel on the scene's own grid: 0 background, 255 or nodata not known
    class CSV       columns scene_id and class: what a whole scene is
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from xtgeo.errors import LabelError, SceneError
from xtgeo.grid import lonlat_to_pixel, pixel_size_m, same_grid
from xtgeo.read import open_scene
from xtgeo.read.area import read_vectors
from xtgeo.scene import Scene
from xtgeo.train.data import IGNORE, centre_planes
from xtgeo.train.raster import burn
from xtgeo.window import Window

VECTORS = (".gpkg", ".geojson", ".fgb", ".parquet", ".shp", ".kml", ".gml")
RASTERS = (".tif", ".tiff", ".vrt", ".png", ".jp2", ".img")
UNCERTAIN = ("confidence=LOW",)
"""What is neither truth nor background unless the user says otherwise, as in xView3."""


@dataclass(frozen=True)
class Labels:
    """Objects of one scene; columns of equal length."""

    shapes: np.ndarray
    """(n,) shapely polygons or points, x = column, y = row of the scene."""
    names: np.ndarray
    """(n,) class of each, "" where it is not known: such objects are neither right nor wrong."""
    vessel: np.ndarray
    """(n,) 1 or 0, NaN where it is not known."""
    fishing: np.ndarray
    """(n,) 1 or 0, NaN where it is not known."""
    length_m: np.ndarray
    """(n,) metres, NaN where it is not known."""
    raster: Scene | None = None
    """Class of every pixel, instead of shapes."""
    whole: str | None = None
    """Class of the whole scene."""

    @classmethod
    def of(cls, shapes: Iterable, names: Iterable[str], **columns: np.ndarray) -> Labels:
        """From shapes and their classes; vessel, fishing and length_m where they are given."""
        shapes = np.array(list(shapes), object)
        known = {k: np.asarray(columns.get(k, np.full(len(shapes), np.nan)), float) for k in ("vessel", "fishing", "length_m")}
        return cls(shapes, np.array(list(names), object), **known)

    def __len__(self) -> int:
        return len(self.shapes)

    def take(self, which: np.ndarray) -> Labels:
        """Some of them, by mask or index array."""
        columns = {k: getattr(self, k)[which] for k in ("shapes", "names", "vessel", "fishing", "length_m")}
        return replace(self, **columns)

    @cached_property
    def centres(self) -> np.ndarray:
        """(n, 2) row, column."""
        points = shapely.centroid(self.shapes.astype(object)) if len(self) else []
        return np.stack([shapely.get_y(points), shapely.get_x(points)], 1) if len(self) else np.empty((0, 2))

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self.shapes)

    def within(self, window: Window) -> Labels:
        """Those that touch a window, in pixels of the window."""
        near = np.sort(self._tree.query(shapely.box(window.x, window.y, window.x + window.w, window.y + window.h)))
        some = self.take(near)
        return replace(some, shapes=shapely.transform(some.shapes, lambda xy: xy - (window.x, window.y)))

    def class_planes(self, window: Window, classes: Sequence[str]) -> np.ndarray:
        """Target of task "segment", (h, w) uint8: 0 background, 1.. the classes, `IGNORE` where the class is not known."""
        if self.raster is not None:
            block = self.raster.read(window)
            return np.where(block.valid, block.data[0], IGNORE).astype(np.uint8)
        some = self.within(window)
        values = np.array([classes.index(name) + 1 if name else IGNORE for name in some.names], int)
        return burn(some.shapes, window.shape, values=values)

    def centre_planes(self, window: Window, classes: Sequence[str]) -> np.ndarray:
        """Target of task "detect", (4, h, w) uint8, see `xtgeo.train.centre_planes`; unknown objects are ignored."""
        some = self.within(window)
        unknown = some.names == ""
        reach = [shape.buffer(3) for shape in some.shapes[unknown]]
        seen = some.take(~unknown)
        known = {
            k: [None if np.isnan(v) else v for v in getattr(seen, k)] for k in ("vessel", "fishing", "length_m")
        }
        ignored = burn(reach, window.shape) > 0
        return centre_planes(window.shape, *np.floor(seen.centres).T, **known, ignored=ignored)


def read_labels(
    scenes: Sequence[Scene], paths: Sequence[str | os.PathLike], *, column: str | None = None, ignore: Sequence[str] = UNCERTAIN
) -> list[Labels]:
    """The labels of every scene, from one file for all or from files whose names begin with those of their scenes.

    column: that names the class; without one every object is of class "object" (of xView3 "vessel" or "object").
    ignore: `column=value` rows whose class counts as not known.

    Raises LabelError where a file cannot be read, a scene has none, or no label lies in any scene.
    """
    if not paths:
        raise LabelError("no label file was found; give --labels FILE, or a pattern in quotes")
    several = len(paths) > 1
    labels = [
        _read(scene, _of_scene(scene, paths) if several else paths, column, ignore) for scene in scenes
    ]
    if not any(len(some) or some.raster or some.whole for some in labels):
        raise LabelError(
            f"no label of {paths[0]} {'and others ' * several}lies in {scenes[0].id}{' or another scene' * (len(scenes) > 1)}: "
            "check that they are of the same place, and their CRS"
        )
    return labels


def _of_scene(scene: Scene, paths: Sequence) -> list:
    """Files whose name is the scene's, or the scene's and something after a sign: port.tif and port_vessels.gpkg."""
    mine = [p for p in paths if Path(p).stem == scene.id]
    mine = mine or [p for p in paths if Path(p).stem.startswith(scene.id) and not Path(p).stem[len(scene.id)].isalnum()]
    if not mine:
        raise LabelError(
            f"no label file for {scene.id}: among {len(paths)} ({Path(paths[0]).name} ..) none has a name that begins with "
            f"{scene.id!r}; rename it, or give one file for all scenes"
        )
    return mine


def _read(scene: Scene, paths: Sequence, column: str | None, ignore: Sequence[str]) -> Labels:
    parts = []
    for path in paths:
        kind = Path(path).suffix.lower()
        if kind in RASTERS:
            return _from_raster(scene, path)
        if kind == ".csv":
            parts.append(_from_csv(scene, path, column, ignore))
        elif kind == ".json" and "annotations" in _json(str(path), _changed(path)):
            parts.append(_from_coco(scene, path))
        else:
            parts.append(_from_vectors(scene, path, column, ignore))
    if len(parts) == 1:
        return parts[0]
    whole = next((p.whole for p in parts if p.whole), None)
    columns = {k: np.concatenate([getattr(p, k) for p in parts]) for k in ("shapes", "names", "vessel", "fishing", "length_m")}
    return Labels(**columns, whole=whole)


def _from_vectors(scene: Scene, path, column: str | None, ignore: Sequence[str]) -> Labels:
    frame = _vectors(str(path), _changed(path))
    if not scene.is_georeferenced:
        raise LabelError(f"{scene.id} has no place on the earth, labels {path} cannot be laid over it")
    kinds = set(frame.geom_type.dropna()) - {"Polygon", "MultiPolygon", "Point"}
    if kinds:
        raise LabelError(f"labels {path} hold {', '.join(sorted(kinds))}; they must be polygons or points")
    names = _names(frame, column, path)
    names[_uncertain(frame, ignore)] = ""
    shapes = shapely.transform(frame.geometry.values, _to_pixels(scene))
    bounds = shapely.bounds(shapes)
    h, w = scene.shape
    with np.errstate(invalid="ignore"):
        inside = (bounds[:, 0] < w) & (bounds[:, 1] < h) & (bounds[:, 2] >= 0) & (bounds[:, 3] >= 0)
    inside &= ~shapely.is_empty(shapes) & ~shapely.is_missing(shapes)
    known = _attributes(frame)
    if np.isnan(known["length_m"]).all():
        known["length_m"] = _lengths(shapes, scene)
    return Labels(shapes, names, **known).take(inside)


def _to_pixels(scene: Scene):
    def move(lonlat: np.ndarray) -> np.ndarray:
        row, column = lonlat_to_pixel(scene.grid, lonlat[:, 0], lonlat[:, 1])
        return np.stack([column, row], 1)

    return move


def _lengths(shapes: np.ndarray, scene: Scene) -> np.ndarray:
    """Long side in metres of the smallest rectangle around each polygon, NaN of points."""
    metres = np.array(pixel_size_m(scene.grid)[::-1])
    boxes = shapely.minimum_rotated_rectangle(shapely.transform(shapes, lambda xy: xy * metres))
    sides = [np.linalg.norm(np.diff(shapely.get_coordinates(b)[:3], axis=0), axis=1) for b in boxes]
    return np.array([max(s) if len(s) == 2 else np.nan for s in sides])


def _names(frame: pd.DataFrame, column: str | None, path, usual: str = "object") -> np.ndarray:
    if column is None:
        return np.full(len(frame), usual, object)
    if column not in frame:
        raise LabelError(f"labels {path} have no column {column!r}: they have {', '.join(map(str, frame.columns))}")
    return np.array(["" if pd.isna(v) else str(v) for v in frame[column]], object)


def _uncertain(frame: pd.DataFrame, ignore: Sequence[str]) -> np.ndarray:
    out = np.zeros(len(frame), bool)
    for rule in ignore:
        name, sign, value = rule.partition("=")
        if not sign:
            raise LabelError(f"--ignore {rule!r} is not column=value, such as confidence=LOW")
        if name in frame:
            out |= (frame[name].astype(str) == value).to_numpy()
        elif rule not in UNCERTAIN:
            raise LabelError(f"--ignore {rule!r}: the labels have no column {name!r}, but {', '.join(map(str, frame.columns))}")
    return out


def _attributes(frame: pd.DataFrame) -> dict[str, Any]:
    """What xView3's columns say, NaN where they are missing or empty."""
    columns = {"vessel": "is_vessel", "fishing": "is_fishing", "length_m": "vessel_length_m"}
    return {k: _numbers(frame[c]) if c in frame else np.full(len(frame), np.nan) for k, c in columns.items()}


TRUTH = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}


def _numbers(column: pd.Series) -> np.ndarray:
    """Numbers, or truth values in a column that also holds empty cells, where pandas keeps objects."""
    said = column.astype(str).str.lower().map(TRUTH)
    return said.fillna(pd.to_numeric(column, errors="coerce")).to_numpy(float)


def _from_csv(scene: Scene, path, column: str | None, ignore: Sequence[str]) -> Labels:
    frame = _table(str(path), _changed(path))
    if "scene_id" not in frame:
        raise LabelError(f"labels {path} have no column scene_id: they have {', '.join(map(str, frame.columns))}")
    mine = frame[frame["scene_id"].astype(str) == scene.id]
    pixels = ["detect_scene_row", "detect_scene_column"]
    if "class" in frame and not set(pixels) <= set(frame):
        if len(mine) != 1:
            raise LabelError(f"labels {path} give {len(mine)} classes for {scene.id}; give one row for each scene")
        return replace(Labels.of([], []), whole=str(mine["class"].iloc[0]))
    if not set(pixels) <= set(frame):
        raise LabelError(f"labels {path} need the columns {', '.join(pixels)} (objects) or class (scenes)")
    if mine.empty:
        raise LabelError(
            f"labels {path} have no row for {scene.id}; they are of {', '.join(frame['scene_id'].astype(str).unique()[:3])} .."
        )
    names = _names(mine, column, path, "vessel")
    known = _attributes(mine)
    if column is None:  # xView3's one class are all objects, as its metric counts them; what is nothing known of stays out
        names = np.where(np.isnan(known["vessel"]), "", "object").astype(object)
    names[_uncertain(mine, ignore)] = ""
    row, col = (mine[p].to_numpy(float) + 0.5 for p in pixels)
    inside = (row >= 0) & (col >= 0) & (row < scene.shape[0]) & (col < scene.shape[1])
    return Labels(shapely.points(col, row), names, **known).take(inside)


# One file often serves many scenes: it is read once, as long as it does not change.
def _changed(path) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError as e:
        raise LabelError(f"labels {path} cannot be read: {e.strerror}") from e


@lru_cache(maxsize=4)
def _vectors(path: str, changed: int) -> gpd.GeoDataFrame:
    """Valid shapes in EPSG:4326."""
    frame = read_vectors(path, "label file", LabelError).to_crs("EPSG:4326")
    return frame.set_geometry(shapely.make_valid(frame.geometry.values), crs="EPSG:4326")


@lru_cache(maxsize=4)
def _table(path: str, changed: int) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as e:
        raise LabelError(f"labels {path} cannot be read: {str(e).splitlines()[0]}") from e


@lru_cache(maxsize=2)
def _json(path: str, changed: int) -> dict:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise LabelError(f"labels {path} cannot be read: {str(e).splitlines()[0]}") from e


def _from_coco(scene: Scene, path) -> Labels:
    try:
        content = _json(str(path), _changed(path))
        categories = {c["id"]: c["name"] for c in content["categories"]}
        images = [i["id"] for i in content["images"] if Path(i["file_name"]).stem == scene.id]
        objects = [a for a in content["annotations"] if a["image_id"] in images]
        shapes = [_coco_shape(a) for a in objects]
        names = ["" if a.get("iscrowd") else categories[a["category_id"]] for a in objects]
    except (ValueError, KeyError, TypeError, shapely.errors.ShapelyError) as e:
        raise LabelError(f"labels {path} are no COCO file: {type(e).__name__} {e}") from e
    if not images:
        raise LabelError(f"labels {path} have no image {scene.id}; file names without their ending must be those of the scenes")
    return Labels.of(shapes, names)


def _coco_shape(annotation: dict) -> shapely.Geometry:
    """The outline, or the box where there is none in polygons."""
    outline = annotation.get("segmentation")
    if isinstance(outline, list) and outline:
        rings = [shapely.polygons(np.reshape(ring, (-1, 2))) for ring in outline if len(ring) >= 6]
        return shapely.make_valid(shapely.union_all(shapely.make_valid(rings)))
    x, y, w, h = annotation["bbox"]
    return shapely.box(x, y, x + w, y + h)


def _from_raster(scene: Scene, path) -> Labels:
    try:
        raster = open_scene(path)
    except SceneError as e:
        raise LabelError(f"label raster {path} cannot be read: {e}") from e
    if tuple(raster.shape) != tuple(scene.shape) or (scene.is_georeferenced and not same_grid(scene.grid, raster.grid)):
        raise LabelError(
            f"label raster {path} ({raster.shape[0]} x {raster.shape[1]}) does not lie on the pixels of {scene.id} "
            f"({scene.shape[0]} x {scene.shape[1]}); bring it there with gdalwarp -r near"
        )
    return replace(Labels.of([], []), raster=raster.select(raster.bands[0]))
