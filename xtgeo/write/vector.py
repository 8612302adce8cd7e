"""Outlines and points to files that other tools open, by extension."""

from __future__ import annotations

import os
from collections.abc import Mapping

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from odc.geo.crs import CRS
from pyproj.exceptions import CRSError

from xtgeo.detections import Detections, on_map
from xtgeo.errors import OutputError
from xtgeo.grid import is_georeferenced
from xtgeo.write.dataset import append_tables, check_dataset, crs_of_dataset
from xtgeo.write.staged import check_target, reported, staged
from xtgeo.write.tables import FORMATS, Tables, footprints, write_tables


class VectorSink:
    """Detections to one vector file, complete or not at all; several writes, as of several scenes, make one layer.

        with VectorSink("vessels.gpkg") as sink:
            sink.write(detections)

    What each format holds beside the objects is told in `xtgeo.write.tables`. .geojson is RFC 7946: longitude and latitude,
    whatever `crs` says; pixels where the scene has no place.
    """

    def __init__(
        self,
        path: os.PathLike | str,
        *,
        crs: str | None = None,
        run: Mapping[str, object] | None = None,
        overwrite: bool = False,
        append: bool = False,
    ):
        """crs: of the outlines; None is that of the first scene, EPSG:4326 for control points.

        append: into a dataset of many scenes, a .gpkg or a folder named .parquet, in which `overwrite` replaces the scene alone;
        `crs` None is then that of the dataset, EPSG:4326 for a new one.
        """
        if crs is not None:
            check_crs(crs)
        if append:
            self.path = check_dataset(path)
            crs = crs_of_dataset(self.path, crs)
        else:
            self.path = check_target(path, suffixes=FORMATS, overwrite=overwrite)
        self._crs, self._run, self._overwrite, self._append = crs, run, overwrite, append
        self._frames: list[gpd.GeoDataFrame] = []
        self._footprints: list[gpd.GeoDataFrame] = []

    def __enter__(self) -> VectorSink:
        return self

    def write(self, detections: Detections, footprint: tuple[str, shapely.Geometry] | None = None) -> None:
        """Objects of one scene, and, where it is to be kept, the scene's name and its outline in pixels, x = column, y = row."""
        crs = self._frames[0].crs if self._frames else self._crs
        if self.path.suffix.lower() == ".geojson":
            crs = "EPSG:4326" if is_georeferenced(detections.grid) else None
        frame = detections.to_frame(crs)
        self._frames.append(frame)
        if footprint is not None:
            name, outline = footprint
            self._footprints.append(footprints([name], on_map(np.array([outline], object), detections.grid, crs), frame.crs))

    def __exit__(self, kind, error, traceback) -> None:
        if kind is not None or not self._frames:
            return
        tables = Tables(
            pd.concat(self._frames, ignore_index=True),
            pd.concat(self._footprints, ignore_index=True) if self._footprints else footprints([], [], self._frames[0].crs),
            pd.DataFrame({k: [v] for k, v in (self._run or {}).items()}),
        )
        if self._append:
            append_tables(tables, self.path, crs=self._crs, overwrite=self._overwrite)
            return
        with staged(self.path, overwrite=self._overwrite) as part, reported(self.path):
            write_tables(tables, part)


def check_crs(crs: str) -> None:
    """Refuses what is no CRS, before any work is done."""
    try:
        found = CRS(crs)
    except (CRSError, ValueError) as e:
        raise OutputError(f"unknown CRS {crs!r}: write it as EPSG:4326, WKT or a PROJ string") from e
    if not (found.geographic or found.projected):
        raise OutputError(f"{crs!r} is no map: it is a {found.proj.type_name}; choose a projected or geographic 2D CRS")
