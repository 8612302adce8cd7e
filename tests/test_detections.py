from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer
from rasterio.control import GroundControlPoint

from xtgeo.decode import Fragments, fragments
from xtgeo.detections import FIELDS, Origin, describe, moment
from xtgeo.errors import SceneError
from xtgeo.grid import GcpGrid, lonlat_to_pixel, pixel_to_lonlat
from xtgeo.merge import merge
from xtgeo.window import Window

SHAPE = (700, 531)
GEOD = Geod(ellps="WGS84")


def about(lon, lat, crs, size, rotation=0.0, south_up=False):
    """A grid of square pixels around a place."""
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    turn = Affine.rotation(rotation) if rotation else Affine.identity()
    here = Affine.translation(x, y) @ turn @ Affine.scale(size, size if south_up else -size)
    return GeoBox(SHAPE, here @ Affine.translation(-SHAPE[1] / 2, -SHAPE[0] / 2), crs)


def by_points(grid):
    """The same place as a lattice of control points."""
    rows, columns = (v.ravel() for v in np.meshgrid(np.linspace(0, 700, 8), np.linspace(0, 531, 7), indexing="ij"))
    lon, lat = pixel_to_lonlat(grid, rows, columns)
    points = [GroundControlPoint(*p, 0.0) for p in zip(rows, columns, lon, lat, strict=True)]
    return GcpGrid.from_gcps(points, SHAPE, "EPSG:4326")


GRIDS = {
    "utm": about(3.5, 55.0, "EPSG:32631", 10.0),
    "utm far from its meridian": about(6.2, 40.0, "EPSG:32631", 10.0),
    "web mercator at 55 north": about(12.0, 55.0, "EPSG:3857", 10.0),
    "degrees": about(-8.0, 55.0, "EPSG:4326", 1e-4),
    "south-up": about(3.5, -33.0, "EPSG:4326", 1e-4, south_up=True),
    "rotated": about(10.0, 60.0, "EPSG:32632", 10.0, rotation=27.0),
    "polar": about(40.0, 84.0, "EPSG:3995", 40.0),
    "antimeridian": about(180.0, -17.0, "EPSG:32760", 10.0),
    "control points": by_points(about(3.5, 55.0, "EPSG:32631", 10.0, rotation=12.0)),
    "control points on the antimeridian": by_points(about(179.999, 65.0, "EPSG:32660", 10.0, rotation=-12.0)),
}
on_all_grids = pytest.mark.parametrize("grid", [pytest.param(g, id=name) for name, g in GRIDS.items()])


def objects(*polygons):
    """Polygons in pixels, as if they had been found."""
    n = len(polygons)
    polygons = shapely.multipolygons([[p] for p in polygons]) if n else np.empty(0, object)
    pixels = np.maximum(shapely.area(polygons), 1).astype(int)
    return Fragments(
        polygons, np.ones(n, np.uint8), pixels, pixels * 0.75, np.full(n, 0.9, np.float32), np.zeros(n, bool)
    )


def detections(found, grid, classes=("vessel",), **options):
    origin = Origin(**{"scene_id": "s", "model_id": "m", "model_version": "1", **options})
    return describe(found, grid, shape=SHAPE, classes=classes, origin=origin)


def ship(grid, heading, length=400.0, width=80.0, row=350.3, column=260.8):
    """A rectangle on the ground, in pixels of the grid."""
    lon, lat = pixel_to_lonlat(grid, row, column)
    lons, lats = [], []
    for along, across in ((1, 1), (1, -1), (-1, -1), (-1, 1)):
        a, b, _ = GEOD.fwd(lon, lat, heading, along * length / 2)
        a, b, _ = GEOD.fwd(a, b, heading + 90, across * width / 2)
        lons.append(a)
        lats.append(b)
    return shapely.Polygon(np.stack(lonlat_to_pixel(grid, lons, lats)[::-1], 1))


@on_all_grids
@pytest.mark.parametrize("heading", [0.0, 31.0, 90.0, 135.0, 179.0])
def test_size_and_heading_are_those_on_the_ground(grid, heading):
    found = detections(objects(ship(grid, heading)), grid)
    assert found["length_m"][0] == pytest.approx(400, abs=0.15)
    assert found["width_m"][0] == pytest.approx(80, abs=0.15)
    assert found["area_m2"][0] == pytest.approx(32_000, rel=1e-3)
    assert abs((found["heading_deg"][0] - heading + 90) % 180 - 90) < 0.1
    assert 0 <= found["heading_deg"][0] < 180


@on_all_grids
def test_area_is_that_on_the_ellipsoid_without_the_holes(grid):
    outline = shapely.Polygon([(100, 90), (390, 90), (390, 470), (100, 470)], [[(150, 150), (250, 150), (250, 250)]])
    lonlat = shapely.transform(shapely.segmentize(outline, 5), lambda xy: np.stack(pixel_to_lonlat(grid, *xy.T[::-1]), 1))
    rings = shapely.get_rings(lonlat)
    truth = sum(abs(GEOD.geometry_area_perimeter(ring)[0]) * (1 if i == 0 else -1) for i, ring in enumerate(rings))
    assert detections(objects(outline), grid)["area_m2"][0] == pytest.approx(truth, rel=2e-5)


@on_all_grids
def test_the_centre_is_the_centroid(grid):
    found = detections(objects(shapely.box(200, 300, 211, 305)), grid)
    assert (found["detect_scene_row"][0], found["detect_scene_column"][0]) == (302, 205)
    row, column = lonlat_to_pixel(grid, found["lon"][0], found["lat"][0])
    assert row == pytest.approx(302.5, abs=0.01) and column == pytest.approx(205.5, abs=0.01)


def test_web_mercator_metres_are_not_taken_for_metres():
    found = detections(objects(shapely.box(200, 300, 210, 310)), GRIDS["web mercator at 55 north"])
    assert found["length_m"][0] == pytest.approx(100 * np.cos(np.radians(55)), rel=0.005)


def test_in_its_own_affine_an_outline_is_exact():
    grid = GRIDS["utm"]
    frame = detections(objects(shapely.box(0, 0, 500, 300)), grid).to_frame()
    x, y = grid.affine.c, grid.affine.f
    assert frame.crs.to_epsg() == 32631
    assert frame.geometry[0].bounds == (x, y - 3000, x + 5000, y)
    assert len(shapely.get_coordinates(frame.geometry[0])) == 5


def test_elsewhere_long_edges_get_points_in_between():
    grid = GRIDS["control points"]
    frame = detections(objects(shapely.box(0, 0, 500, 300)), grid).to_frame()
    assert frame.crs.to_epsg() == 4326
    assert len(shapely.get_coordinates(frame.geometry[0])) == 33
    row, column = lonlat_to_pixel(grid, *shapely.get_coordinates(frame.geometry[0]).T)
    assert ((np.abs(row) < 1e-3) | (np.abs(row - 300) < 1e-3) | (np.abs(column) < 1e-3) | (np.abs(column - 500) < 1e-3)).all()


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857"])
@pytest.mark.parametrize("name", ["antimeridian", "control points on the antimeridian"])
def test_over_the_antimeridian_outlines_are_cut_in_two(name, crs):
    found = detections(objects(shapely.box(20, 300, 520, 310)), GRIDS[name])
    outline = found.to_frame(crs).geometry[0]
    assert len(outline.geoms) == 2 and outline.is_valid
    assert all(part.bounds[2] - part.bounds[0] < (0.1 if crs == "EPSG:4326" else 11_132) for part in outline.geoms)
    half = 180 if crs == "EPSG:4326" else 20037508.342789244
    assert outline.bounds[0] == -half and outline.bounds[2] == half


def test_without_a_place_there_are_pixels_and_no_metres():
    grid = GeoBox(SHAPE, Affine.identity(), None)
    found = detections(objects(shapely.box(200, 300, 211, 305)), grid)
    frame = found.to_frame()
    assert frame.crs is None and frame.geometry[0].bounds == (200, 300, 211, 305)
    assert frame[["lon", "lat", "area_m2", "length_m", "width_m", "heading_deg"]].isna().all(axis=None)
    with pytest.raises(SceneError, match="leave the output CRS out"):
        found.to_frame("EPSG:4326")
    with pytest.raises(SceneError, match="no square metres"):
        found.larger_than(5)


def test_two_objects_on_one_pixel_have_two_names():
    ring = shapely.box(190, 290, 221, 315).difference(shapely.box(195, 295, 216, 310))
    found = detections(objects(ring, shapely.box(204, 301, 207, 304), shapely.box(0, 0, 1, 1)), GRIDS["utm"])
    assert found["detect_id"].tolist() == ["s_302_205", "s_302_205_2", "s_0_0"]


def test_what_lies_on_the_border_of_the_scene_touches_the_edge():
    boxes = [(0, 5, 2, 7), (5, 0, 7, 2), (529, 5, 531, 7), (5, 698, 7, 700), (1, 1, 530, 699)]
    found = detections(objects(*(shapely.box(*b) for b in boxes)), GRIDS["utm"])
    assert found["touches_edge"].tolist() == [True] * 4 + [False]


def test_columns_have_their_types_also_when_nothing_was_found():
    for found in (objects(), objects(shapely.box(1, 1, 3, 4))):
        for time in (None, datetime(2024, 5, 6, 7, 8, 9)):
            frame = detections(found, GRIDS["utm"], time_at=moment(time)).to_frame()
            assert frame.dtypes.astype(str).to_dict() == {**FIELDS, "geometry": "geometry"}
            assert len(frame) == len(found)


def test_times_are_utc():
    east = datetime(2024, 5, 6, 9, 8, 9, tzinfo=timezone(timedelta(hours=2)))
    for time in (east, datetime(2024, 5, 6, 7, 8, 9)):
        frame = detections(objects(shapely.box(1, 1, 3, 4)), GRIDS["utm"], time_at=moment(time)).to_frame()
        assert frame["timestamp"][0] == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def test_scores_and_classes_are_those_of_the_pixels():
    labels = np.zeros((9, 11), np.uint8)
    labels[2:4, 3:5], labels[6, 7] = 2, 1
    scores = np.full((2, 9, 11), 0.25, np.float32)
    scores[1, 2:4, 3:5] = [[0.5, 0.75], [1.0, 0.75]]
    found = detections(merge([fragments(labels, scores, Window(0, 0, 9, 11))]), GRIDS["utm"], classes=("boat", "ship"))
    assert found["class"].tolist() == ["ship", "boat"]
    assert found["score"].tolist() == [0.75, 0.25] and found["score_max"].tolist() == [1.0, 0.25]
    with pytest.raises(ValueError, match="no name"):
        detections(merge([fragments(labels, scores, Window(0, 0, 9, 11))]), GRIDS["utm"])


def test_objects_are_kept_by_size_and_by_centre():
    found = detections(objects(shapely.box(10, 10, 12, 12), shapely.box(50, 50, 60, 60)), GRIDS["utm"])
    assert found.larger_than(1000)["detect_scene_row"].tolist() == [55]
    assert found.within(shapely.box(0, 0, 30, 30))["detect_scene_row"].tolist() == [11]
    assert len(found.within(shapely.box(200, 200, 230, 230))) == 0
