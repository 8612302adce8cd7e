"""Datasets of many scenes, to which one scene after another is added: a GeoPackage, or a folder of GeoParquet files.

    vessels.gpkg      layers `detections`, `scene_footprint`, `run` with the rows of all scenes
    vessels.parquet/  one file for each scene; pyarrow, pandas, geopandas and duckdb read the folder as one table

A scene is there once: a second time it is refused, or replaced. Several processes may add at the same time, they wait for
each other. A GeoPackage is copied, the copy is changed and takes its place, so a run that is killed leaves what was there:
half a second for 100 MB. Layers and styles that others put into it stay.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from contextlib import closing, nullcontext
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pyogrio
from filelock import FileLock, Timeout
from odc.geo.crs import CRS
from pyogrio.errors import DataSourceError

from xtgeo.errors import OutputError
from xtgeo.write.staged import check_target, reported, staged, together, until_placed
from xtgeo.write.tables import Tables, check_layers, parts_of, read_tables, write_layer, write_tables

SUFFIXES = (".gpkg", ".parquet")
WAIT_S = 600
"""How long one process waits for another that adds a scene."""
TYPES = {"i": "INTEGER", "f": "REAL", "b": "BOOLEAN", "M": "DATETIME"}
"""What GeoPackage calls the kinds of numpy's types; the rest is TEXT."""


def check_dataset(path: os.PathLike | str, scene_id: str | None = None, *, overwrite: bool = False) -> Path:
    """The path, if a scene may be added there; before any work is done."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"scenes are added to a .gpkg or to a folder named .parquet, not to {path}: choose one of them")
    if path.suffix.lower() == ".gpkg":
        check_target(path, overwrite=True)
    else:
        if path.is_file():
            raise OutputError(
                f"{path} is one file, to which nothing can be added: give the name of a folder, such as scenes.parquet"
            )
        check_target(path / "part" if path.is_dir() else path, overwrite=True)
    if scene_id is not None and not overwrite and _holds(path, scene_id):
        raise OutputError(f"scene {scene_id} is in {path} already: use --overwrite to replace it there")
    return path


def _holds(path: Path, scene_id: str) -> bool:
    """Whether a scene is in a dataset; in a folder its file tells, however many others there are."""
    if not path.exists() or path.is_dir():
        return (path / f"{_file_name(scene_id)}.parquet").exists()
    with closing(_connect(path)) as db:
        layers = [name for name in _layers(db) if "scene_id" in _columns(db, name)]
        rows = (db.execute(f'SELECT 1 FROM "{layer}" WHERE scene_id = ? LIMIT 1', (scene_id,)) for layer in layers)
        return any(row.fetchone() for row in rows)


def crs_of_dataset(path: Path, wanted: str | None) -> str:
    """The CRS in which outlines are added; refused where `wanted` is another one than that of what is there."""
    try:
        if path.is_dir():
            there = next((read_tables(part).detections.crs for part in parts_of(path)), None)
        else:
            there = pyogrio.read_info(path, layer="detections")["crs"] if path.exists() else None
    except (DataSourceError, ValueError) as e:
        raise OutputError(f"{path} is no dataset of xtgeo ({e}): choose another name") from e
    if there is None:
        return wanted or "EPSG:4326"
    there = CRS(there).to_wkt()
    if wanted is not None and CRS(wanted) != CRS(there):
        raise OutputError(f"{path} is in {CRS(there).proj.name}, not in {wanted}: leave --crs out, or begin another dataset")
    return there


def append_tables(tables: Tables, path: Path, *, crs: str | None = None, overwrite: bool = False) -> None:
    """Adds scenes, all of them or none. crs: as `crs_of_dataset` takes it."""
    names = sorted(tables.scene_ids)
    if tables.detections.crs is None:
        raise OutputError(f"{', '.join(names)} has no place on the earth and cannot stand in {path} beside other scenes")
    with until_placed(Lock(path)):
        for name in names:
            check_dataset(path, name, overwrite=overwrite)
        _check_kind(tables, path)
        tables = tables.to_crs(crs_of_dataset(path, crs))
        with reported(path), together() if len(names) > 1 else nullcontext():
            if path.suffix.lower() == ".gpkg":
                _append_gpkg(tables, path, names)
            else:
                path.mkdir(exist_ok=True)
                for name in names:
                    with staged(path / f"{_file_name(name)}.parquet", overwrite=True) as part:
                        write_tables(tables.of_scene(name), part)


def _append_gpkg(tables: Tables, path: Path, names: list[str]) -> None:
    with staged(path, overwrite=True) as part:
        if not path.exists():
            write_tables(tables, part)
            return
        shutil.copyfile(path, part)
        new = tables.layers()
        counts = {layer: len(table) for layer, table in new.items()}
        with closing(_connect(part)) as db, db:
            for layer in _layers(db):
                _make_room(db, layer, new.get(layer, pd.DataFrame()), names)
                counts[layer] = counts.get(layer, 0) + db.execute(f'SELECT count(*) FROM "{layer}"').fetchone()[0]
        for layer, table in new.items():
            write_layer(table, part, layer, append=True)
        check_layers(part, counts)


def _make_room(db: sqlite3.Connection, layer: str, table: pd.DataFrame, names: list[str]) -> None:
    """Takes the rows of the scenes out, and adds the columns that the layer lacks."""
    known = _columns(db, layer)
    if "scene_id" in known:
        db.executemany(f'DELETE FROM "{layer}" WHERE scene_id = ?', [(name,) for name in names])
    for name, kind in table.dtypes.items():
        if name not in known and name != "geometry":
            db.execute(f'ALTER TABLE "{layer}" ADD COLUMN "{name}" {TYPES.get(getattr(kind, "kind", "O"), "TEXT")}')


def _check_kind(tables: Tables, path: Path) -> None:
    """Refuses points among outlines, and outlines among points."""
    if not path.exists() or (path.is_dir() and not parts_of(path)):
        return
    if path.is_dir():
        points = read_tables(parts_of(path)[0]).are_points
    else:
        with closing(_connect(path)) as db:
            points = "presence_score" in _columns(db, "detections")
    if points != tables.are_points:
        kinds = ("points", "outlines") if points else ("outlines", "points")
        raise OutputError(f"{path} holds {kinds[0]}, {kinds[1]} cannot be added: begin another dataset")


class Lock:
    """Held by one process at a time, and let go when it dies; the empty file stays."""

    def __init__(self, path: Path):
        self._path, self._lock = path, FileLock(path.with_name(f".{path.name}.lock"), timeout=WAIT_S, is_singleton=True)

    def __enter__(self) -> None:
        try:
            with reported(self._path):
                self._lock.acquire()
        except Timeout as e:
            raise OutputError(f"another process has been adding to {self._path} for {WAIT_S} s: run again when it is done") from e

    def __exit__(self, *_) -> None:
        self._lock.release()


def _file_name(scene_id: str) -> str:
    """The scene's name as a file's; where it has characters that not every system takes, with a mark that keeps names apart."""
    plain = re.sub(r"[^\w.-]", "_", scene_id).lstrip("._")
    return plain if plain == scene_id else f"{plain}_{sha256(scene_id.encode()).hexdigest()[:8]}"


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path)
    try:
        if "detections" in _layers(db):
            return db
        raise sqlite3.DatabaseError("it has no layer detections")
    except sqlite3.Error as e:
        db.close()
        raise OutputError(f"{path} is no dataset of xtgeo ({e}): choose another name") from e


def _layers(db: sqlite3.Connection) -> list[str]:
    wanted = ("detections", "scene_footprint", "run")
    return [name for (name,) in db.execute("SELECT table_name FROM gpkg_contents") if name in wanted]


def _columns(db: sqlite3.Connection, layer: str) -> list[str]:
    return [row[1] for row in db.execute(f'PRAGMA table_info("{layer}")')]
