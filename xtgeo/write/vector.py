"""Outlines to files that other tools open, by extension."""

from __future__ import annotations

import os
import sqlite3
import warnings
from collections.abc import Mapping
from contextlib import contextmanager

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
from odc.geo.crs import CRS
from pyproj.exceptions import CRSError

from xtgeo.detections import Detections, on_map
from xtgeo.errors import OutputError
from xtgeo.write.staged import check_target, staged

FORMATS = (".gpkg", ".geojson", ".fgb", ".parquet", ".csv")
EPOCH = "2000-01-01T00:00:00.000Z"
"""GeoPackage wants to know when a layer changed; equal content shall be equal bytes, so it always was then."""


class VectorSink:
    """Detections to one vector file, complete or not at all; several writes, as of several scenes, make one layer.

        with VectorSink("vessels.gpkg") as sink:
            sink.write(detections)

    .gpkg has the layer `detections`, the layer `scene_footprint` and, with `run`, a table of plain values. .geojson is RFC
    7946: longitude and latitude, whatever `crs` says. .csv has the outline as WKT.
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
        if self.path.suffix.lower() == ".geojson":
            crs = "EPSG:4326"
        self._crs, self._run, self._overwrite = crs, run, overwrite
        self._frames: list[gpd.GeoDataFrame] = []
        self._footprints: list[gpd.GeoDataFrame] = []

    def __enter__(self) -> VectorSink:
        return self

    def write(self, detections: Detections, footprint: tuple[str, tuple[int, int]] | None = None) -> None:
        """Objects of one scene, and, where it is to be kept, the scene's name and shape for its outline."""
        frame = detections.to_frame(self._crs)
        self._frames.append(frame)
        if footprint is not None:
            name, (h, w) = footprint
            box = np.array([shapely.multipolygons([shapely.box(0, 0, w, h)])], object)
            outline = on_map(box, detections.grid, self._crs)
            self._footprints.append(gpd.GeoDataFrame({"scene_id": [name]}, geometry=outline, crs=frame.crs))

    def __exit__(self, kind, error, traceback) -> None:
        if kind is not None or not self._frames:
            return
        frame = pd.concat([f.to_crs(self._frames[0].crs) if f.crs else f for f in self._frames], ignore_index=True)
        with staged(self.path, overwrite=self._overwrite) as part, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")  # pixels have none, and that was asked for
            match self.path.suffix.lower():
                case ".gpkg":
                    self._write_gpkg(part, frame)
                case ".geojson":
                    write = {"driver": "GeoJSON", "RFC7946": "YES", "COORDINATE_PRECISION": 7}
                    pyogrio.write_dataframe(frame, part, geometry_type="MultiPolygon", **write)
                case ".fgb":
                    pyogrio.write_dataframe(frame, part, driver="FlatGeobuf", geometry_type="MultiPolygon")
                case ".parquet":
                    frame.to_parquet(part, index=False)
                case ".csv":
                    table = pd.DataFrame(frame.drop(columns="geometry"))
                    table.assign(geometry=frame.geometry.to_wkt(rounding_precision=7)).to_csv(part, index=False)

    def _write_gpkg(self, part, frame: gpd.GeoDataFrame) -> None:
        with _still_clock():
            options = {"driver": "GPKG", "geometry_type": "MultiPolygon"}
            pyogrio.write_dataframe(frame, part, layer="detections", **options)
            if self._footprints:
                outlines = pd.concat(self._footprints, ignore_index=True)
                pyogrio.write_dataframe(outlines, part, layer="scene_footprint", append=True, **options)
            if self._run:
                table = pd.DataFrame({k: [v] for k, v in self._run.items()})
                pyogrio.write_dataframe(table, part, layer="run", driver="GPKG", append=True)
        with sqlite3.connect(part) as db:
            db.execute("UPDATE gpkg_contents SET last_change = ?", (EPOCH,))
        db.close()


def check_crs(crs: str) -> None:
    """Refuses what is no CRS, before any work is done."""
    try:
        CRS(crs)
    except (CRSError, ValueError) as e:
        raise OutputError(f"unknown CRS {crs!r}: write it as EPSG:4326, WKT or a PROJ string") from e


@contextmanager
def _still_clock():
    """GDAL writes a fixed date into GeoPackages."""
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": EPOCH})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})
