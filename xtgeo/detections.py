"""Detections: the objects of a scene with their place on the earth and their size in true metres.

    objects (pixels)  --describe-->  Detections  --to_frame-->  GeoDataFrame in any CRS

Geometry stays in pixels of the scene until `to_frame`: radar geometry is exact there and nowhere else.

    field           type      meaning
    detect_id       text      {scene_id}_{row}_{column}; from the second object on the same pixel on, _2, _3 ... follows
    scene_id        text
    class           text
    score           float     mean probability over the object's pixels, 0 to 1
    score_max       float     the highest of them
    area_m2         float     square metres on the ground, holes taken off
    length_m        float     long side of the smallest rectangle around the outline
    width_m         float     its short side
    heading_deg     float     direction of the long side, 0 to 180, clockwise from true north; bow and stern look alike
    lon, lat        float     centroid, degrees in EPSG:4326, seven decimals
    detect_scene_row, detect_scene_column int  pixel in which the centroid lies
    top, left, bottom, right int  rows and columns of the smallest box around it; bottom and right are the first beyond it
    timestamp       time      acquisition, UTC; null where it is not known
    touches_edge    bool      whether a pixel lies on the border of the scene, where the object may go on
    distance_from_shore_km float  from the centroid to the nearest edge of land and water; null where it is not known
    flags           text      comma-separated: "land", "infrastructure", as `xtgeo.masks` finds them; empty where there is none

and of where it comes from, in points too:

    product_id, platform, orbit_direction text  of the scene; null where it does not say
    relative_orbit  int       as these
    model_id, model_version text
    threshold       float     probability that counted
    config_hash     text      16 digits, equal where model, options and version of xtgeo are

Metres, lon and lat are null where the scene has no place on the earth. Outlines follow the edges of pixels: the
rectangle around an aslant ship is up to a pixel longer and wider than the ship.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from odc.geo.crs import CRS

from xtgeo.decode import Fragments
from xtgeo.errors import SceneError
from xtgeo.grid import (
    GcpGrid,
    Grid,
    geocentric,
    grid_crs,
    is_georeferenced,
    pixel_to_crs,
    pixel_to_lonlat,
    round_the_earth,
)

if TYPE_CHECKING:
    from lonboard import Map
    from matplotlib.axes import Axes
    from PIL import Image

    from xtgeo.scene import Scene
    from xtgeo.window import Window

ORIGIN = {
    "product_id": "str",
    "platform": "str",
    "orbit_direction": "str",
    "relative_orbit": "Int64",
    "model_id": "str",
    "model_version": "str",
    "threshold": "float64",
    "config_hash": "str",
}
"""Columns that say where an object comes from, and their pandas types."""

FIELDS = {
    "detect_id": "str",
    "scene_id": "str",
    "class": "str",
    "score": "float64",
    "score_max": "float64",
    "area_m2": "float64",
    "length_m": "float64",
    "width_m": "float64",
    "heading_deg": "float64",
    "lon": "float64",
    "lat": "float64",
    "detect_scene_row": "int64",
    "detect_scene_column": "int64",
    "top": "int64",
    "left": "int64",
    "bottom": "int64",
    "right": "int64",
    "timestamp": "datetime64[ms, UTC]",
    "touches_edge": "bool",
    "distance_from_shore_km": "float64",
    "flags": "str",
    **ORIGIN,
}
"""Columns of every output and their pandas types, in order."""

STEP_PX = 50
"""Longest edge in pixels that is carried to another CRS or into metres as one straight line."""


@dataclass(frozen=True)
class Origin:
    """Where the objects of a run come from: what all of them say alike."""

    scene_id: str
    model_id: str
    model_version: str
    threshold: float = float("nan")
    config_hash: str | None = None
    time_at: Callable[[np.ndarray], np.ndarray] = field(default_factory=lambda: moment(None))
    """When rows were acquired, as `Scene.time_at` says it."""
    product_id: str | None = None
    platform: str | None = None
    orbit_direction: str | None = None
    relative_orbit: int | None = None

    def columns(self, n: int) -> dict[str, np.ndarray]:
        """The columns of ORIGIN for `n` objects."""
        return {
            name: repeat(getattr(self, name), n) if kind != "float64" else np.full(n, getattr(self, name))
            for name, kind in ORIGIN.items()
        }


@dataclass(frozen=True, eq=False)
class Detections:
    """Objects of one scene; columns of equal length."""

    columns: Mapping[str, np.ndarray]
    """Those of `fields`, by name; times are datetime64[ms] in UTC."""
    geometry: np.ndarray
    """MultiPolygons along the edges of pixels, or points; x = column, y = row of the scene."""
    grid: Grid
    """Where the scene's pixels lie on the earth."""
    fields: Mapping[str, str] = field(default_factory=lambda: FIELDS)
    """Names and pandas types of the columns: those above for outlines, those of `xtgeo.points` for points."""

    def __post_init__(self):
        if list(self.columns) != list(self.fields):
            raise ValueError(f"detections have the columns {', '.join(self.fields)}, not {', '.join(self.columns)}")
        if {len(column) for column in self.columns.values()} != {len(self.geometry)}:
            raise ValueError("the columns of detections must have one length")

    def __len__(self) -> int:
        return len(self.geometry)

    def __repr__(self) -> str:
        return f"<Detections: {len(self)} objects with {', '.join(self.fields)}>"

    def __getitem__(self, name: str) -> np.ndarray:
        """One column."""
        return self.columns[name]

    def where(self, keep: np.ndarray) -> Detections:
        """Some of them, by mask or index array."""
        return Detections({k: c[keep] for k, c in self.columns.items()}, self.geometry[keep], self.grid, self.fields)

    def with_columns(self, **columns: np.ndarray) -> Detections:
        """The same objects with other values in some columns."""
        return Detections({**self.columns, **columns}, self.geometry, self.grid, self.fields)

    def larger_than(self, area_m2: float) -> Detections:
        """Those of at least so many square metres; refused where metres are not known."""
        if not is_georeferenced(self.grid):
            raise SceneError("a scene without a place on the earth has no square metres; leave the least area out")
        return self.where(self["area_m2"] >= area_m2)

    def within(self, area: shapely.Geometry) -> Detections:
        """Those whose centroid lies in an area or on its rim; the area in pixels, x = column, y = row."""
        shapely.prepare(area)
        return self.where(shapely.intersects(area, shapely.centroid(self.geometry)))

    def plot(
        self,
        scene: Scene | None = None,
        window: Window | None = None,
        *,
        ax: Axes | None = None,
        by: str | None = None,
        max_side: int = 1024,
    ) -> Axes:
        """A picture of them, over the scene if it is given, see `xtgeo.plot.plot_detections`."""
        from xtgeo import plot

        return plot.plot_detections(self, scene, window, ax=ax, by=by, max_side=max_side)

    def chips(self, scene: Scene, n: int = 24, *, by: str = "score", lowest: bool = False) -> Image.Image:
        """A sheet of up to `n` of them as the scene shows them, the surest first, see `xtgeo.plot.chips`."""
        from xtgeo import plot

        return plot.chips(self, scene, n, by=by, lowest=lowest)

    def explore(self, *, height: int = 600) -> Map:
        """A map to walk about in, see `xtgeo.plot.explore`."""
        from xtgeo import plot

        return plot.explore(self, height=height)

    def _repr_html_(self) -> str:
        from xtgeo.plot.html import detections_html

        return detections_html(self)

    def to_frame(self, crs: object = None) -> gpd.GeoDataFrame:
        """A table with the outlines in `crs`; None is the grid's own, EPSG:4326 for control points, pixels without any."""
        table = pd.DataFrame({name: _series(self[name], kind) for name, kind in self.fields.items()})
        own = grid_crs(self.grid) if crs is None else CRS(crs)
        return gpd.GeoDataFrame(
            table, geometry=on_map(self.geometry, self.grid, crs), crs=None if own is None else own.to_wkt()
        )


def describe(
    objects: Fragments,
    grid: Grid,
    *,
    shape: tuple[int, int],
    classes: Sequence[str],
    origin: Origin,
) -> Detections:
    """Place, size and names of whole objects.

    shape: (height, width) of the scene in pixels. classes: names of the labels 1, 2, ...
    """
    n = len(objects)
    if n and objects.class_id.max() > len(classes):
        raise ValueError(f"label {objects.class_id.max()} has no name among {', '.join(classes)}")
    centre = shapely.get_coordinates(shapely.centroid(objects.geometry))
    column, row = np.floor(centre).astype(int).T
    x0, y0, x1, y1 = shapely.bounds(objects.geometry).reshape(-1, 4).T
    score_max = objects.score_max.astype(float)
    if is_georeferenced(grid):
        lon, lat = pixel_to_lonlat(grid, centre[:, 1], centre[:, 0])
    else:
        lon = lat = np.full(n, np.nan)
    area, length, width, heading = _measure(objects.geometry, grid, lon, lat)
    columns = {
        "detect_id": identify(origin.scene_id, row, column),
        "scene_id": repeat(origin.scene_id, n),
        "class": np.array(["", *classes], object)[objects.class_id],
        "score": np.minimum(objects.score_sum / objects.pixels, score_max).round(6),
        "score_max": score_max.round(6),
        "area_m2": area.round(2),
        "length_m": length.round(2),
        "width_m": width.round(2),
        "heading_deg": heading.round(2) % 180,
        "lon": lon.round(7),
        "lat": lat.round(7),
        "detect_scene_row": row,
        "detect_scene_column": column,
        **{name: v.astype(int) for name, v in (("top", y0), ("left", x0), ("bottom", y1), ("right", x1))},
        "timestamp": origin.time_at(centre[:, 1]),
        "touches_edge": (x0 <= 0) | (y0 <= 0) | (x1 >= shape[1]) | (y1 >= shape[0]),
        "distance_from_shore_km": np.full(n, np.nan),
        "flags": repeat("", n),
        **origin.columns(n),
    }
    return Detections(columns, objects.geometry, grid)


def on_map(polygons: np.ndarray, grid: Grid, crs: object = None) -> np.ndarray:
    """Polygons in pixels as MultiPolygons in `crs` (None: the grid's own); those over the antimeridian are cut there.

    Points stay points.

    In the grid's own affine every corner is exact and nothing is added or cut. Anywhere else long edges get points
    in between, since a straight line in the pixels is not straight on the map.
    """
    if crs is not None and not is_georeferenced(grid):
        raise SceneError(f"a scene without a place on the earth cannot be put into {crs}; leave the output CRS out")
    target = grid_crs(grid) if crs is None else CRS(crs)
    if target != getattr(grid, "crs", None):
        polygons = shapely.segmentize(polygons, STEP_PX)
    xy, index = shapely.get_coordinates(polygons, return_index=True)
    x, y = pixel_to_crs(grid, xy[:, 1], xy[:, 0], crs)
    if not np.isfinite(x + y).all():
        raise SceneError(f"some outlines do not lie in the area of {target}; choose another output CRS")
    turn = 0.0 if crs is None and not isinstance(grid, GcpGrid) else round_the_earth(target)
    if len(polygons) and (shapely.get_type_id(polygons) == shapely.GeometryType.POINT).all():
        return shapely.points(x, y)
    polygons = _many(shapely.set_coordinates(polygons.copy(), np.stack([x, y], 1)))
    return _cut(_unwrapped(polygons, turn), turn) if turn else polygons


def cut_round_the_earth(geometry: np.ndarray, crs: object) -> np.ndarray:
    """Geometry that was carried to `crs` corner by corner: polygons over the antimeridian, which now span the earth, cut there."""
    turn = round_the_earth(CRS(crs))
    if not turn or (shapely.get_type_id(geometry) == shapely.GeometryType.POINT).all():
        return geometry
    return _cut(_unwrapped(_many(geometry), turn), turn)


def _unwrapped(polygons: np.ndarray, turn: float) -> np.ndarray:
    """The same with every x within half a `turn` of the first of its polygon."""
    xy, index = shapely.get_coordinates(polygons, return_index=True)
    first = xy[np.searchsorted(index, np.arange(len(polygons))), 0]
    xy[:, 0] += turn * np.round((first[index] - xy[:, 0]) / turn)
    return shapely.set_coordinates(polygons, xy)


def _cut(polygons: np.ndarray, turn: float) -> np.ndarray:
    """The same with every x within half a `turn` of 0: what lies beyond is cut off and put where it belongs."""
    low, south, high, north = shapely.bounds(polygons).reshape(-1, 4).T
    for i in np.flatnonzero((low < -turn / 2) | (high > turn / 2)):
        pieces = []
        for k in range(round(low[i] / turn), round(high[i] / turn) + 1):
            lap = shapely.box((k - 0.5) * turn, south[i], (k + 0.5) * turn, north[i])
            piece = shapely.intersection(polygons[i], lap)
            pieces.extend(shapely.get_parts(shapely.transform(piece, lambda xy, k=k: xy - [k * turn, 0])))
        polygons[i] = shapely.multipolygons([piece for piece in pieces if piece.area > 0])
    return polygons


def _measure(polygons: np.ndarray, grid: Grid, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """(area, length, width, heading) of each in metres and degrees; NaN where lon, lat of its centre is not known.

    Corners are taken into the plane that touches the ellipsoid at the centre, x to the east and y to true north. There
    is no special place on the earth for this, and an object of 100 km is wrong by less than 1 in 10,000.
    """
    answer = np.full((4, len(polygons)), np.nan)
    placed = np.flatnonzero(np.isfinite(lon + lat))
    if not len(placed):
        return answer
    local = shapely.segmentize(polygons[placed], STEP_PX)
    xy, index = shapely.get_coordinates(local, return_index=True)
    vertex = pixel_to_lonlat(grid, xy[:, 1], xy[:, 0])
    local = shapely.set_coordinates(local, _east_north(*vertex, lon[placed][index], lat[placed][index]))
    corners = shapely.get_coordinates(shapely.oriented_envelope(local)).reshape(-1, 5, 2)
    sides = np.diff(corners[:, :3], axis=1)
    lengths = np.hypot(*np.moveaxis(sides, -1, 0))
    # Of two equal sides, as of a square, the one between north and east counts, whatever the last digit says.
    headings = np.degrees(np.arctan2(sides[..., 0], sides[..., 1])) % 180
    equal = np.abs(np.diff(lengths, axis=1)[:, 0]) < 1e-6 * lengths.max(axis=1)
    long = np.where(equal, np.argmin(headings % 179.99999, axis=1), np.argmax(lengths, axis=1))
    heading = headings[np.arange(len(local)), long]
    answer[:, placed] = shapely.area(local), lengths.max(axis=1), lengths.min(axis=1), heading
    return answer


def _east_north(lon, lat, lon0, lat0) -> np.ndarray:
    """Metres to the east and to the north of (lon0, lat0) in the plane that touches WGS 84 there."""
    d = geocentric(lon, lat) - geocentric(lon0, lat0)
    a, b = np.radians(lon0), np.radians(lat0)
    east = -np.sin(a) * d[0] + np.cos(a) * d[1]
    north = np.cos(b) * d[2] - np.sin(b) * (np.cos(a) * d[0] + np.sin(a) * d[1])
    return np.stack([east, north], axis=1)


def identify(scene_id: str, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Names of objects by the pixels they lie in; of several on one pixel the second ends in _2."""
    seen: dict[str, int] = {}
    names = []
    for r, c in zip(row.tolist(), column.tolist(), strict=True):
        name = f"{scene_id}_{r}_{c}"
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return np.array(names, object)


def repeat(value: object, n: int) -> np.ndarray:
    """A column that says the same n times."""
    column = np.empty(n, object)
    column[:] = value
    return column


def moment(time: datetime | None) -> Callable[[np.ndarray], np.ndarray]:
    """For all rows the same time, of the time zone it names or else of UTC; not a time where it is not known."""
    if time is not None and time.tzinfo:
        time = time.astimezone(UTC).replace(tzinfo=None)
    return lambda rows: np.full(np.shape(rows), np.datetime64("NaT" if time is None else time, "ms"))


def _series(column: np.ndarray, kind: str) -> pd.Series:
    return pd.Series(pd.to_datetime(column, utc=True) if kind.startswith("datetime") else column).astype(kind)


def _many(polygons: np.ndarray) -> np.ndarray:
    """All as MultiPolygons."""
    parts, index = shapely.get_parts(polygons, return_index=True)
    return shapely.multipolygons(parts, indices=index) if len(parts) else np.empty(0, object)
