"""Outlines and points to files that other tools open, by extension."""

from __future__ import annotations

import os
import sqlite3
import warnings
from collections.abc import Mapping
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
from odc.geo.crs import CRS
from pyproj.exceptions import CRSError

from xtgeo.detections import Detections, on_map
from xtgeo.errors import OutputError
from xtgeo.grid import is_georeferenced
from xtgeo.write.staged import check_target, reported, staged

FORMATS = (".gpkg", ".geojson", ".fgb", ".parquet", ".csv")
EPOCH = "2000-01-01T00:00:00.000Z"
"""GeoPackage wants to know when a layer changed; equal content shall be equal bytes, so it always was then."""


class VectorSink:
    """Detections to one vector file, complete or not at all; several writes, as of several scenes, make one layer.

        with VectorSink("vessels.gpkg") as sink:
            sink.write(detections)

    .gpkg has the layer `detections`, the layer `scene_footprint` and, with `run`, a table of plain values. .geojson is RFC
    7946: longitude and latitude, whatever `crs` says; pixels where the scene has no place. .csv has the outline as WKT.
    """

    def __init__(
        self,
        path: os.PathLike | str,
        *,
        crs: str | None = None,
        run: Mapping[str, object] | None = None,
        overwrite: bool = False,
    ):
        """crs: of the outlines; None is that of the first scene, EPSG:4326 for control points."""
        self.path = check_target(path, suffixes=FORMATS, overwrite=overwrite)
        if crs is not None:
            check_crs(crs)
        self._crs, self._run, self._overwrite = crs, run, overwrite
        self._frames: list[gpd.GeoDataFrame] = []
        self._footprints: list[gpd.GeoDataFrame] = []

    def __enter__(self) -> VectorSink:
        return self

    def write(self, detections: Detections, footprint: tuple[str, tuple[int, int]] | None = None) -> None:
        """Objects of one scene, and, where it is to be kept, the scene's name and shape for its outline."""
        crs = self._frames[0].crs if self._frames else self._crs
        if self.path.suffix.lower() == ".geojson":
            crs = "EPSG:4326" if is_georeferenced(detections.grid) else None
        frame = detections.to_frame(crs)
        self._frames.append(frame)
        if footprint is not None:
            name, (h, w) = footprint
            box = np.array([shapely.multipolygons([shapely.box(0, 0, w, h)])], object)
            outline = on_map(box, detections.grid, crs)
            self._footprints.append(gpd.GeoDataFrame({"scene_id": [name]}, geometry=outline, crs=frame.crs))

    def __exit__(self, kind, error, traceback) -> None:
        if kind is not None or not self._frames:
            return
        frame = pd.concat(self._frames, ignore_index=True)
        # Pixels have no CRS, and that was asked for.
        with staged(self.path, overwrite=self._overwrite) as part, reported(self.path), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")
            match self.path.suffix.lower():
                case ".gpkg":
                    self._write_gpkg(part, frame)
                case ".geojson":
                    standard = "YES" if frame.crs else "NO"
                    _write_whole(part, frame, driver="GeoJSON", RFC7946=standard, COORDINATE_PRECISION=7)
                case ".fgb":
                    _write_whole(part, frame, driver="FlatGeobuf")
                case ".parquet":
                    frame.to_parquet(part, index=False)
                case ".csv":
                    table = pd.DataFrame(frame.drop(columns="geometry"))
                    table.assign(geometry=frame.geometry.to_wkt(rounding_precision=7)).to_csv(part, index=False)

    def _write_gpkg(self, part: Path, frame: gpd.GeoDataFrame) -> None:
        layers = {"detections": frame}
        if self._footprints:
            layers["scene_footprint"] = pd.concat(self._footprints, ignore_index=True)
        if self._run:
            layers["run"] = pd.DataFrame({k: [v] for k, v in self._run.items()})
        with _still_clock():
            for name, table in layers.items():
                shape = {"geometry_type": _kind(table)} if "geometry" in table else {}
                pyogrio.write_dataframe(table, part, layer=name, driver="GPKG", append=name != "detections", **shape)
        with closing(sqlite3.connect(part)) as db, db:
            for name, table in layers.items():
                _check_layer(db, name, table)
            db.execute("UPDATE gpkg_contents SET last_change = ?", (EPOCH,))


def _kind(table: gpd.GeoDataFrame) -> str:
    return "Point" if "detect_scene_row" in table else "MultiPolygon"  # also of a table without rows


def _write_whole(part: Path, frame: gpd.GeoDataFrame, **options) -> None:
    """Through memory: on a full disk GDAL can close these files short of their ends and say nothing."""
    memory = BytesIO()
    pyogrio.write_dataframe(frame, memory, layer="detections", geometry_type=_kind(frame), **options)
    part.write_bytes(memory.getvalue())


def _check_layer(db: sqlite3.Connection, name: str, table: pd.DataFrame) -> None:
    """Refuses a layer that is not all there: on a full disk GDAL can lose its last steps and say nothing."""
    counts = [f'SELECT count(*) FROM "{name}"', f"SELECT feature_count FROM gpkg_ogr_contents WHERE table_name = '{name}'"]
    if "geometry" in table:
        counts.append(f'SELECT count(*) FROM "rtree_{name}_geom"')
    found = [db.execute(count).fetchone() for count in counts]
    placed = db.execute("SELECT min_x FROM gpkg_contents WHERE table_name = ?", (name,)).fetchone()
    if any(n != (len(table),) for n in found) or ("geometry" in table and len(table) and placed in (None, (None,))):
        raise OSError(f"layer {name} is incomplete")


def check_crs(crs: str) -> None:
    """Refuses what is no CRS, before any work is done."""
    try:
        found = CRS(crs)
    except (CRSError, ValueError) as e:
        raise OutputError(f"unknown CRS {crs!r}: write it as EPSG:4326, WKT or a PROJ string") from e
    if not (found.geographic or found.projected):
        raise OutputError(f"{crs!r} is no map: it is a {found.proj.type_name}; choose a projected or geographic 2D CRS")


@contextmanager
def _still_clock():
    """GDAL writes a fixed date into GeoPackages."""
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": EPOCH})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})
