"""Tables: what one vector file holds. Written and read back by extension, with every value, type and place.

    suffix     objects              scene_footprint and run        what is lost
    .gpkg      layer `detections`   layers of these names          nothing
    .parquet   rows, GeoParquet 1.1 "xtgeo" in the file's metadata nothing
    .fgb       features             "xtgeo" in the description     the order of rows: it is that of the spatial index
    .geojson   features             member "xtgeo"                 the CRS, which is EPSG:4326; beyond 7 decimals of a degree;
                                                                   beyond 15 digits of a number
    .csv       rows, WKT            no place for them              both of them

A .csv says in the column `crs` in which CRS its WKT is. A folder of .parquet files is read as one.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import warnings
from collections.abc import Iterable, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pyarrow.parquet
import pyogrio
import shapely
from pyogrio.errors import DataSourceError
from pyproj.exceptions import CRSError

from xtgeo import detections, points
from xtgeo.detections import cut_round_the_earth
from xtgeo.errors import LabelError, OutputError

FORMATS = (".gpkg", ".geojson", ".fgb", ".parquet", ".csv")
EPOCH = "2000-01-01T00:00:00.000Z"
"""GeoPackage wants to know when a layer changed; equal content shall be equal bytes, so it always was then."""
_turns = threading.Lock()
FIELDS = detections.FIELDS | points.FIELDS
"""Every column that xtgeo writes and its pandas type: readers guess some of them wrong."""
STEP_M = 500
"""Longest edge that is carried from a projected CRS to degrees as one straight line."""
FGB_BYTES = 8 << 20
"""GDAL opens no FlatGeobuf whose header is larger than 10 MB."""
BROKEN = (DataSourceError, OSError, ValueError, KeyError, TypeError, CRSError, shapely.errors.ShapelyError)
"""What readers raise at files that are something else."""


@dataclass(frozen=True, eq=False)
class Tables:
    """The objects of one scene or several, where was looked for them, and how."""

    detections: gpd.GeoDataFrame
    """One row for each object: the fields of `xtgeo.detections` or `xtgeo.points`."""
    scene_footprint: gpd.GeoDataFrame = field(default_factory=lambda: footprints([], [], None))
    """scene_id and outline of what was looked at, one row for each scene; may be empty."""
    run: pd.DataFrame = field(default_factory=pd.DataFrame)
    """What was done, plain values, one row for each scene; may be empty."""

    @property
    def are_points(self) -> bool:
        """Whether objects are points rather than outlines."""
        return "presence_score" in self.detections

    @property
    def scene_ids(self) -> set[str]:
        """Of all scenes that are known here, also of those in which nothing was found."""
        return {name for table in self.layers().values() if "scene_id" in table for name in table["scene_id"]}

    def of_scene(self, scene_id: str) -> Tables:
        """What belongs to one scene."""
        return Tables(*(table[table["scene_id"] == scene_id] if "scene_id" in table else table for table in self._tables()))

    def layers(self) -> dict[str, pd.DataFrame]:
        """Tables by the names of their layers; without empty ones, but for the objects."""
        named = zip(("detections", "scene_footprint", "run"), self._tables(), strict=True)
        return {name: table for name, table in named if len(table) or name == "detections"}

    def to_crs(self, crs: object) -> Tables:
        """The same on another map; outlines over the antimeridian are cut there."""
        return Tables(_to_crs(self.detections, crs), _to_crs(self.scene_footprint, crs), self.run)

    def _tables(self) -> tuple[pd.DataFrame, ...]:
        return self.detections, self.scene_footprint, self.run


def footprints(names: list[str], outlines: Iterable, crs: object) -> gpd.GeoDataFrame:
    """A table of outlines of scenes."""
    column = pd.Series(names, dtype="str")
    with _no_crs_is_fine():
        return gpd.GeoDataFrame({"scene_id": column}, geometry=gpd.GeoSeries(outlines, crs=crs, index=column.index), crs=crs)


def write_tables(tables: Tables, part: Path) -> None:
    """Writes a file of the format that the extension says; `part` is not there yet."""
    with _no_crs_is_fine():
        {
            ".gpkg": _write_gpkg,
            ".geojson": _write_geojson,
            ".fgb": _write_fgb,
            ".parquet": _write_parquet,
            ".csv": _write_csv,
        }[part.suffix.lower()](tables, part)


def read_tables(path: os.PathLike | str) -> Tables:
    """The tables of a file that xtgeo wrote, or of a folder of such .parquet files; refused where it is something else."""
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.exists():
        raise LabelError(f"there is no file {path}: check the name")
    if path.is_dir():
        return _read_folder(path)
    if suffix not in FORMATS:
        raise LabelError(f"{path} has an unknown extension {suffix!r}: choose one of {', '.join(FORMATS)}")
    readers = {".gpkg": _read_gpkg, ".geojson": _read_geojson, ".fgb": _read_fgb, ".parquet": _read_parquet, ".csv": _read_csv}
    try:
        tables = readers[suffix](path)
    except BROKEN as e:
        raise LabelError(f"{path} cannot be read as {suffix}: {' '.join(str(e).split())}; is it a vector output of xtgeo?") from e
    _check_fields(tables.detections, path)
    return tables


def _check_fields(frame: pd.DataFrame, path: Path) -> None:
    """Refuses tables of other programs."""
    lacks = [name for name in ("detect_id", "scene_id", "detect_scene_row", "detect_scene_column") if name not in frame]
    if not {"score", "presence_score"} & set(frame):
        lacks.append("score or presence_score")
    if lacks:
        raise LabelError(
            f"{path} is no output of xtgeo, it lacks {', '.join(lacks)}; found {', '.join(map(str, frame)) or 'no column'}: "
            "convert other tables with ogr2ogr"
        )


def _read_folder(path: Path) -> Tables:
    parts = parts_of(path)
    if not parts:
        raise LabelError(f"folder {path} holds no .parquet file: give a file, or a folder that --append made")
    return join([read_tables(part) for part in parts])


def parts_of(folder: Path) -> list[Path]:
    """The files of a dataset that is a folder, in their order; those that are still being written are hidden."""
    return sorted(part for part in folder.glob("*.parquet") if not part.name.startswith("."))


def join(parts: list[Tables]) -> Tables:
    """All rows, in this order."""
    layers = zip(*(part._tables() for part in parts), strict=True)
    return Tables(*(_concat(list(tables)) for tables in layers))


def _concat(tables: list[pd.DataFrame]) -> pd.DataFrame:
    some = [table for table in tables if len(table)] or tables[:1]
    return pd.concat(some, ignore_index=True) if len(some) > 1 else some[0]


def _write_gpkg(tables: Tables, part: Path) -> None:
    for name, table in tables.layers().items():
        write_layer(table, part, name, append=name != "detections")
    check_layers(part, {name: len(table) for name, table in tables.layers().items()})


def write_layer(table: pd.DataFrame, path: Path, name: str, *, append: bool) -> None:
    """Rows into a layer of a GeoPackage; a new file, or with `append` one that is there."""
    kind = {"geometry_type": _kind(table)} if isinstance(table, gpd.GeoDataFrame) else {}
    with _still_clock(), _no_crs_is_fine():
        pyogrio.write_dataframe(table, path, layer=name, driver="GPKG", append=append, **kind)


def check_layers(path: Path, counts: Mapping[str, int]) -> None:
    """Refuses a file whose layers are not all there: on a full disk GDAL can lose its last steps and say nothing."""
    with closing(sqlite3.connect(path)) as db, db:
        for name, count in counts.items():
            told = [f'SELECT count(*) FROM "{name}"', f"SELECT feature_count FROM gpkg_ogr_contents WHERE table_name = '{name}'"]
            is_map = db.execute("SELECT data_type FROM gpkg_contents WHERE table_name = ?", (name,)).fetchone() == ("features",)
            if is_map:
                told.append(f'SELECT count(*) FROM "rtree_{name}_geom"')
            placed = db.execute("SELECT min_x FROM gpkg_contents WHERE table_name = ?", (name,)).fetchone()
            if any(db.execute(n).fetchone() != (count,) for n in told) or (is_map and count and placed in (None, (None,))):
                raise OSError(f"layer {name} is incomplete")
        db.execute("UPDATE gpkg_contents SET last_change = ?", (EPOCH,))


def _read_gpkg(path: Path) -> Tables:
    names = pyogrio.list_layers(path)[:, 0]
    layer = "detections" if "detections" in names else names[0]
    rest = {name: read_layer(path, name) for name in ("scene_footprint", "run") if name in names}
    return Tables(typed(read_layer(path, layer)), **rest)


def read_layer(path: Path, name: str | int) -> pd.DataFrame:
    """Rows of a layer; truths and integers with gaps stay what they are, where pyogrio makes floats of them."""
    frame, info = pyogrio.read_dataframe(path, layer=name), pyogrio.read_info(path, layer=name)
    gaps = {"bool": "boolean", "int16": "Int64", "int32": "Int64", "int64": "Int64"}
    for column, kind in zip(info["fields"], info["dtypes"], strict=True):
        if kind in gaps and frame[column].dtype.kind == "f":
            frame[column] = frame[column].astype(gaps[kind])
    return frame


def _write_geojson(tables: Tables, part: Path) -> None:
    if tables.detections.crs is not None:
        tables = tables.to_crs("EPSG:4326")
    options = {
        "RFC7946": "YES" if tables.detections.crs else "NO",
        "COORDINATE_PRECISION": 7,
        "NATIVE_DATA": json.dumps({"xtgeo": _rest(tables, rounded=True)}),
        "NATIVE_MEDIA_TYPE": "application/vnd.geo+json",
    }
    _write_whole(part, tables.detections, "GeoJSON", **options)


def _read_geojson(path: Path) -> Tables:
    whole = json.loads(path.read_bytes())
    if not isinstance(whole, dict) or whole.get("type") != "FeatureCollection":
        raise ValueError("it is no FeatureCollection")
    frame = read_layer(path, 0) if whole.get("features") else gpd.GeoDataFrame(geometry=[], crs="EPSG:4326")
    rest = whole.get("xtgeo") or {}
    if rest and not rest["crs"]:
        frame = frame.set_crs(None, allow_override=True)
    return _with_rest(frame, rest)


def _write_fgb(tables: Tables, part: Path) -> None:
    text = json.dumps(_rest(tables))
    if len(text) > FGB_BYTES:
        raise OutputError(f"{len(tables.scene_footprint)} footprints are too much for the header of a .fgb: choose .gpkg")
    _write_whole(part, tables.detections, "FlatGeobuf", TITLE="detections", DESCRIPTION=text)


def _read_fgb(path: Path) -> Tables:
    told = (pyogrio.read_info(path)["layer_metadata"] or {}).get("DESCRIPTION", "")
    return _with_rest(read_layer(path, 0), json.loads(told) if told.startswith('{"') else {})


def _write_whole(part: Path, frame: gpd.GeoDataFrame, driver: str, **options) -> None:
    """Through memory: on a full disk GDAL can close these files short of their ends and say nothing."""
    memory = BytesIO()
    pyogrio.write_dataframe(frame, memory, layer="detections", driver=driver, geometry_type=_kind(frame), **options)
    part.write_bytes(memory.getvalue())


def _write_parquet(tables: Tables, part: Path) -> None:
    memory = BytesIO()
    tables.detections.to_parquet(memory, index=False, schema_version="1.1.0", write_covering_bbox=True)
    table = pyarrow.parquet.read_table(memory)
    told = {**table.schema.metadata, b"xtgeo": json.dumps(_rest(tables)).encode()}
    pyarrow.parquet.write_table(table.replace_schema_metadata(told), part, compression="zstd")


def _read_parquet(path: Path) -> Tables:
    told = (pyarrow.parquet.read_schema(path).metadata or {}).get(b"xtgeo")
    return _with_rest(gpd.read_parquet(path), json.loads(told) if told else {})


def _write_csv(tables: Tables, part: Path) -> None:
    frame = tables.detections
    table = pd.DataFrame(frame.drop(columns="geometry"))
    place = {"geometry": shapely.to_wkt(frame.geometry.values, rounding_precision=-1), "crs": _crs_text(frame.crs)}
    table.assign(**place).to_csv(part, index=False)


def _read_csv(path: Path) -> Tables:
    table = pd.read_csv(path, index_col=False, dtype=dict.fromkeys([*FIELDS, "crs"], "str"))
    if "geometry" not in table:
        _check_fields(table, path)
        raise ValueError("it has no column geometry")
    maps = set(table["crs"].dropna()) if "crs" in table else set()
    if len(maps) > 1:
        raise ValueError(f"its rows are in several CRS: {', '.join(sorted(maps))}")
    shapes = shapely.from_wkt(table["geometry"].astype(object).values)
    with _no_crs_is_fine():
        frame = gpd.GeoDataFrame(
            table.drop(columns=["geometry", "crs"], errors="ignore"), geometry=shapes, crs=maps.pop() if maps else None
        )
    return Tables(typed(frame))


def _rest(tables: Tables, *, rounded: bool = False) -> dict:
    """What is not an object, and the columns, as plain values for one text. rounded: to the digits of a GeoJSON."""
    digits = 7 if rounded else -1
    shapes = shapely.to_wkt(tables.scene_footprint.geometry.values, rounding_precision=digits)
    table = pd.DataFrame(tables.scene_footprint).assign(geometry=shapes)
    return {
        "crs": _crs_text(tables.detections.crs),
        "columns": {name: str(kind) for name, kind in tables.detections.dtypes.items() if name != "geometry"},
        "scene_footprint": _records(table),
        "run": _records(tables.run),
    }


def _records(table: pd.DataFrame) -> list[dict]:
    return json.loads(table.to_json(orient="records", date_format="iso", double_precision=15))


def _with_rest(frame: gpd.GeoDataFrame, rest: dict) -> Tables:
    if not rest:
        return Tables(typed(frame))
    frame = frame.reindex(columns=[*rest["columns"], "geometry"])
    table = pd.DataFrame(rest["scene_footprint"])
    outlines = footprints([], [], frame.crs)
    if len(table):
        outlines = gpd.GeoDataFrame(
            table.drop(columns="geometry"), geometry=shapely.from_wkt(table["geometry"].astype(object).values), crs=frame.crs
        )
    return Tables(typed(frame, rest["columns"]), outlines, pd.DataFrame(rest["run"]))


def typed(frame: gpd.GeoDataFrame, kinds: Mapping[str, str] = {}) -> gpd.GeoDataFrame:  # noqa: B006
    """The same with the types that columns have when they are written: those of FIELDS, of others what `kinds` says."""
    for name, kind in ({**kinds, **FIELDS}).items():
        if name in frame and str(frame[name].dtype) != kind:
            try:
                frame[name] = _as(frame[name], kind)
            except (ValueError, TypeError) as e:
                raise ValueError(f"its column {name} is no {kind} ({e})") from e
    if "flags" in frame:
        frame["flags"] = frame["flags"].fillna("")  # an empty cell is no flag
    return frame


def _as(column: pd.Series, kind: str) -> pd.Series:
    if kind.startswith("datetime"):
        return pd.to_datetime(column, utc=True, format="ISO8601").astype(kind)
    if kind in ("bool", "boolean"):
        column = column.replace({"True": True, "False": False}).astype("boolean")
    elif kind in ("float64", "int64", "Int64") and not pd.api.types.is_numeric_dtype(column):
        column = pd.Series([None if pd.isna(v) else float(v) if "f" in kind else int(v) for v in column], index=column.index)
    return column.astype(kind)


def _kind(frame: gpd.GeoDataFrame) -> str:
    if len(frame):
        return "Point" if (frame.geom_type == "Point").all() else "MultiPolygon"
    return "Point" if "presence_score" in frame else "MultiPolygon"


def _to_crs(frame: gpd.GeoDataFrame, crs: object) -> gpd.GeoDataFrame:
    if frame.crs is None or not len(frame):
        return frame.set_crs(crs, allow_override=True) if frame.crs is not None else frame
    if frame.crs == crs:
        return frame
    if frame.crs.is_projected and _kind(frame) != "Point":
        frame = frame.set_geometry(frame.geometry.segmentize(STEP_M))
    frame = frame.to_crs(crs)
    return frame.set_geometry(gpd.GeoSeries(cut_round_the_earth(frame.geometry.values, crs), index=frame.index, crs=crs))


def _crs_text(crs) -> str:
    return "" if crs is None else crs.to_string()


@contextmanager
def _still_clock():
    """GDAL writes a fixed date into GeoPackages. Its options belong to the whole process, so threads take turns."""
    with _turns:
        before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": EPOCH})
        try:
            yield
        finally:
            pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})


@contextmanager
def _no_crs_is_fine():
    """Pixels have no CRS, and that was asked for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        yield
