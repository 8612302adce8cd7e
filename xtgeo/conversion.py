"""Conversion: one vector output of xtgeo into another, and into the tables of xView3 and of Global Fishing Watch.

columns   what a .csv then holds
all       every field, the outline as WKT and the CRS
xview3    the six columns of the challenge's predictions
gfw       the ten columns of Global Fishing Watch's public SAR vessel detections; of AIS nothing is known, so mmsi,
          matching_score and matched_category are empty
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from xtgeo.errors import OutputError
from xtgeo.evaluate.xview3_files import to_predictions, write_predictions
from xtgeo.write.dataset import append_tables, check_dataset
from xtgeo.write.staged import check_target, reported, staged
from xtgeo.write.tables import FORMATS, Tables, read_tables, write_tables

COLUMNS = ("all", "xview3", "gfw")


@dataclass(frozen=True)
class Conversion:
    """What a conversion did."""

    objects: int
    """Rows that were written."""
    lost: tuple[str, ...] = ()
    """What the target has no place for, or leaves out."""


def convert(
    source: os.PathLike | str,
    target: os.PathLike | str,
    *,
    columns: str = "all",
    append: bool = False,
    overwrite: bool = False,
) -> Conversion:
    """Writes a vector output of xtgeo as another format, with every value, type and place; the extension says which.

    What formats lose is told in `xtgeo.write.tables`. columns: one of COLUMNS, other than "all" for a .csv. append: into a dataset
    of many scenes, a .gpkg or a folder named .parquet, in which `overwrite` replaces the scenes of `source` alone.

    Raises LabelError where `source` is no output of xtgeo, OutputError where `target` cannot be written.
    """
    path = Path(target)
    if columns not in COLUMNS:
        raise OutputError(f"unknown columns {columns!r}: choose one of {', '.join(COLUMNS)}")
    if columns != "all" and path.suffix.lower() != ".csv":
        raise OutputError(f"columns {columns} are those of a .csv, and {path} is none: choose another name, or all columns")
    if append:
        check_dataset(path)
    else:
        check_target(path, suffixes=FORMATS, overwrite=overwrite)
        if path.exists() and os.path.exists(source) and path.samefile(source):
            raise OutputError(f"{path} is what is read: give the output another name")
    tables = read_tables(source)
    if columns == "xview3":
        return _to_xview3(tables, source, path, overwrite)
    if columns == "gfw":
        return _to_gfw(tables, path, overwrite)
    if append:
        append_tables(tables, path, overwrite=overwrite)
        return Conversion(len(tables.detections))
    with staged(path, overwrite=overwrite) as part, reported(path):
        write_tables(tables, part)
    return Conversion(len(tables.detections), _lost(tables, path))


def _lost(tables: Tables, path: Path) -> tuple[str, ...]:
    suffix, lost = path.suffix.lower(), []
    if suffix == ".csv":
        lost = [name for name in tables.layers() if name != "detections"]
    elif suffix == ".geojson" and tables.detections.crs is not None and tables.detections.crs != "EPSG:4326":
        lost = [f"the CRS {tables.detections.crs.to_string().splitlines()[0][:60]}: coordinates are longitude and latitude"]
    return tuple(lost)


def _to_xview3(tables: Tables, source, path: Path, overwrite: bool) -> Conversion:
    if not tables.are_points:
        raise OutputError(
            f"{source} holds outlines, and xView3 wants points with is_vessel and is_fishing: make them with xtgeo detect"
        )
    write_predictions(tables.detections, path, overwrite=overwrite)
    return Conversion(len(tables.detections), _others(tables, to_predictions(tables.detections)))


def _to_gfw(tables: Tables, path: Path, overwrite: bool) -> Conversion:
    table = to_gfw(tables.detections)
    with staged(path, overwrite=overwrite) as part, reported(path):
        table.to_csv(part, index=False)
    left = len(tables.detections) - len(table)
    return Conversion(len(table), (*_others(tables, table), *([f"{left} objects that are no vessels"] if left else [])))


def _others(tables: Tables, table: pd.DataFrame) -> tuple[str, ...]:
    return (f"{len(set(tables.detections) - set(table))} other columns", *_lost(tables, Path(".csv")))


def to_gfw(detections: pd.DataFrame) -> pd.DataFrame:
    """Points or outlines in the columns of Global Fishing Watch's `sar_vessel_detections_pipev4`; what is no vessel is left out."""
    points = "presence_score" in detections
    table = pd.DataFrame(detections)
    if points:
        table = table[table["is_vessel"].fillna(True).astype(bool)]
    return pd.DataFrame(
        {
            "scene_id": table["scene_id"],
            "timestamp": table["timestamp"].dt.strftime("%Y-%m-%d %H:%M:%S UTC"),
            "lat": table["lat"],
            "lon": table["lon"],
            "presence_score": table["presence_score" if points else "score"],
            "length_m": table["vessel_length_m" if points else "length_m"],
            "mmsi": pd.array([None] * len(table), "Int64"),
            "matching_score": float("nan"),
            "fishing_score": table["fishing_score"] if points else float("nan"),
            "matched_category": pd.array([None] * len(table), "str"),
        }
    )
