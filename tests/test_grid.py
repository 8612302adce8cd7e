import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer

from xtgeo.errors import SceneError
from xtgeo.grid import (
    GcpGrid,
    grid_crs,
    is_georeferenced,
    lonlat_bounds,
    lonlat_to_pixel,
    pixel_size_m,
    pixel_to_crs,
    pixel_to_lonlat,
    same_grid,
)
from xtgeo.read import open_scene

WGS84 = Geod(ellps="WGS84")
SHAPE = (531, 700)


def swath(lon, lat, azimuth=-12.0, shape=SHAPE, rows=8, columns=11, spacing=100.0):
    """Control points of an invented swath: rows along a great circle, columns across it."""
    points = []
    for row in np.linspace(0, shape[0], rows):
        along = WGS84.fwd(lon, lat, azimuth, row * spacing)
        for column in np.linspace(0, shape[1], columns):
            x, y, _ = WGS84.fwd(along[0], along[1], along[2] + 90, (column - shape[1] / 2) * spacing)
            points.append(SimpleNamespace(row=row, col=column, x=x, y=y, z=7.0))
    return points


def gcps(path):
    with rasterio.open(path) as file:
        return file.gcps[0], file.shape, file.gcps[1].to_wkt()


def miss(grid):
    """Metres between each control point and where the grid puts it."""
    row, column, lon, lat, _ = grid.points
    return WGS84.inv(lon, lat, *pixel_to_lonlat(grid, row, column))[2]


affines = st.builds(
    lambda angle, scale, flip: Affine(
        scale * np.cos(angle),
        -flip * scale * np.sin(angle),
        5e5,
        scale * np.sin(angle),
        flip * scale * np.cos(angle),
        5.2e6,
    ),
    st.floats(-4, 4),
    st.floats(0.5, 100),
    st.sampled_from([-1, 1]),
)


@given(affines, st.floats(-500, 1500), st.floats(-500, 1500))
@settings(max_examples=60, deadline=None)
def test_pixels_come_back_from_lonlat_also_rotated_and_south_up(affine, row, column):
    grid = GeoBox(SHAPE, affine, "EPSG:32631")
    back = lonlat_to_pixel(grid, *pixel_to_lonlat(grid, row, column))
    np.testing.assert_allclose(back, (row, column), atol=1e-4)


@given(st.floats(-180, 180), st.floats(-89.9, 89.9), st.floats(-180, 180))
@settings(max_examples=30, deadline=None)
def test_control_points_are_met_anywhere_on_earth_and_the_way_back_is_exact(lon, lat, azimuth):
    grid = GcpGrid.from_gcps(swath(lon, lat, azimuth), SHAPE, "EPSG:4326")
    assert grid.is_regular
    assert miss(grid).max() < 1e-4
    row, column = np.random.default_rng(0).uniform(-50, 750, (2, 200))
    back = lonlat_to_pixel(grid, *pixel_to_lonlat(grid, row, column))
    np.testing.assert_allclose(back, (row, column), atol=1e-4)


def test_a_swath_over_the_antimeridian_and_a_pole_has_no_jump():
    for lon, lat in ((179.9, 10.0), (30.0, 89.8)):
        grid = GcpGrid.from_gcps(swath(lon, lat), SHAPE, "EPSG:4326")
        row = np.linspace(0, 531, 532)
        place = pixel_to_lonlat(grid, row, np.full(532, 350.0))
        steps = WGS84.inv(place[0][:-1], place[1][:-1], place[0][1:], place[1][1:])[2]
        np.testing.assert_allclose(steps, 100.0, rtol=1e-3)


def test_the_surface_between_control_points_is_the_swath_itself():
    grid = GcpGrid.from_gcps(swath(5.0, 60.0), SHAPE, "EPSG:4326")
    dense = GcpGrid.from_gcps(swath(5.0, 60.0, rows=15, columns=21), SHAPE, "EPSG:4326")
    assert WGS84.inv(*pixel_to_lonlat(grid, *dense.points[:2]), *dense.points[2:4])[2].max() < 0.05
    np.testing.assert_allclose(pixel_size_m(grid), 100.0, rtol=1e-3)


def test_scattered_control_points_get_a_thin_plate_that_meets_them():
    keep = np.random.default_rng(1).random(88) < 0.7
    points = [p for p, k in zip(swath(179.9, 60.0), keep, strict=True) if k]
    grid = GcpGrid.from_gcps(points, SHAPE, "EPSG:4326")
    assert not grid.is_regular
    assert miss(grid).max() < 0.01
    assert np.median(grid.leave_one_out()) < 5.0
    row, column = np.random.default_rng(0).uniform(0, 531, (2, 50))
    back = lonlat_to_pixel(grid, *pixel_to_lonlat(grid, row, column))
    np.testing.assert_allclose(back, (row, column), atol=1e-4)


def test_control_points_in_another_crs_and_in_another_order_give_the_same_grid():
    points = swath(5.0, 60.0)
    to_utm = Transformer.from_crs("EPSG:4326", "EPSG:32631", always_xy=True)
    moved = []
    for p in reversed(points):
        x, y = to_utm.transform(p.x, p.y)
        moved.append(SimpleNamespace(row=p.row, col=p.col, x=x, y=y, z=p.z))
    a, b = (GcpGrid.from_gcps(p, SHAPE, crs) for p, crs in ((points, "EPSG:4326"), (moved, "EPSG:32631")))
    assert same_grid(a, b, tolerance_px=1e-5)


def test_too_few_control_points_or_all_on_one_line_are_refused():
    line = [SimpleNamespace(row=float(i), col=2.0 * i, x=i, y=i, z=0) for i in range(9)]
    for points in (swath(5, 60)[:3], line):
        with pytest.raises(SceneError, match="at least 4 that span"):
            GcpGrid.from_gcps(points, SHAPE, "EPSG:4326")


def test_grids_survive_a_trip_to_another_process():
    for grid in (
        GeoBox(SHAPE, Affine(10, 0, 5e5, 0, -10, 6e6), "EPSG:32631"),
        GcpGrid.from_gcps(swath(5.0, 60.0), SHAPE, "EPSG:4326"),
    ):
        pixel_to_lonlat(grid, 1.0, 2.0)
        there = pickle.loads(pickle.dumps(grid))
        assert pixel_to_lonlat(there, 3.0, 4.0) == pixel_to_lonlat(grid, 3.0, 4.0)
        assert same_grid(there, grid)


def test_ground_metres_are_true_in_web_mercator_and_degrees():
    mercator = GeoBox((10, 10), Affine(10, 0, 1_000_000, 0, -10, 8_399_737.9), "EPSG:3857")
    np.testing.assert_allclose(pixel_size_m(mercator), 5.0, rtol=0.01)
    degrees = GeoBox((10, 10), Affine(1e-3, 0, 5, 0, -1e-3, 60), "EPSG:4326")
    np.testing.assert_allclose(pixel_size_m(degrees), (111.4, 55.8), rtol=0.01)
    assert np.isnan(pixel_size_m(GeoBox((10, 10), Affine.identity(), None))).all()


def test_a_grid_counting_longitudes_to_360_is_found_from_both_sides_of_the_antimeridian():
    grid = GeoBox((10, 40), Affine(1, 0, 160, 0, -1, 5), "EPSG:4326")
    lon, lat = pixel_to_lonlat(grid, [2.5, 2.5], [10.5, 30.5])
    np.testing.assert_allclose(lon, [170.5, -169.5])
    np.testing.assert_allclose(lonlat_to_pixel(grid, lon, lat)[1], [10.5, 30.5])


def test_what_is_not_on_earth_is_nan():
    grid = GeoBox((10, 10), Affine(10, 0, 0, 0, -10, 95), "EPSG:4326")
    assert np.isnan(pixel_to_lonlat(grid, 0.0, 0.0)).all()
    swath_grid = GcpGrid.from_gcps(swath(5.0, 60.0), SHAPE, "EPSG:4326")
    assert np.isnan(lonlat_to_pixel(swath_grid, -175.0, -60.0)).all()
    assert np.isnan(lonlat_to_pixel(swath_grid, np.nan, 60.0)).all()


def test_without_a_crs_there_are_coordinates_but_no_place():
    grid = GeoBox(SHAPE, Affine(2, 0, 7, 0, -2, 9), None)
    assert not is_georeferenced(grid) and grid_crs(grid) is None
    assert tuple(map(float, pixel_to_crs(grid, 1.0, 1.0))) == (9.0, 7.0)
    with pytest.raises(SceneError, match="no place on the earth"):
        pixel_to_lonlat(grid, 0, 0)


def test_pixel_to_crs_agrees_with_proj():
    grid = GeoBox(SHAPE, Affine(10, 0, 5e5, 0, -10, 6e6), "EPSG:32631")
    x, y = pixel_to_crs(grid, np.full((2, 3), 100.0), np.full((2, 3), 50.0), "EPSG:3857")
    expected = Transformer.from_crs(32631, 3857, always_xy=True).transform(500_500, 5_999_000)
    assert x.shape == (2, 3)
    np.testing.assert_allclose((x[0, 0], y[0, 0]), expected)
    geolocated = GcpGrid.from_gcps(swath(5.0, 60.0), SHAPE, "EPSG:4326")
    assert str(grid_crs(geolocated)) == "EPSG:4326"
    lon, lat = pixel_to_lonlat(geolocated, 3.0, 4.0)
    assert pixel_to_crs(geolocated, 3.0, 4.0) == (lon, lat)
    expected = Transformer.from_crs(4326, 32631, always_xy=True).transform(lon, lat)
    np.testing.assert_allclose(pixel_to_crs(geolocated, 3.0, 4.0, "EPSG:32631"), expected)


@pytest.mark.parametrize("name", ["s1_grd_gcps", "asar_wsm_gcps"])
def test_real_radar_control_points_are_met_to_centimetres(shared, name):
    grid = GcpGrid.from_gcps(*gcps(shared / "data/geo" / f"{name}.tif"))
    assert grid.is_regular
    assert miss(grid).max() < 0.05
    left_out = grid.leave_one_out()
    assert left_out.shape == grid.lon.shape and np.isfinite(left_out).all()
    # Decimated to pixels of 200 m and 1.5 km: the points on land jump with the height of the ground under each.
    assert np.median(left_out) < 0.25 * pixel_size_m(grid)[0]


def test_real_utm_scene_across_the_antimeridian_has_longitudes_of_both_signs(shared):
    with rasterio.open(shared / "data/geo/dateline.tif") as file:
        grid = GeoBox(file.shape, file.transform, file.crs.to_wkt())
    lon, lat = pixel_to_lonlat(grid, [0.0, 0.0], [0.0, 2325.0])
    assert lon[0] > 0 > lon[1]
    np.testing.assert_allclose(lonlat_to_pixel(grid, lon, lat)[1], [0, 2325], atol=1e-3)


@pytest.mark.parametrize(
    ("crs", "affine", "shape", "bounds"),
    [
        ("EPSG:4326", Affine(1, 0, -170, 0, -1, 60), (100, 340), (-170, -40, 170, 60)),
        ("EPSG:4326", Affine(1, 0, -180, 0, -1, 90), (180, 360), (-180, -90, 180, 90)),
        ("EPSG:4326", Affine(1, 0, 170, 0, -1, 10), (20, 20), (170, -10, -170, 10)),
        ("EPSG:32631", Affine(10, 0, 500000, 0, -10, 0), (1, 1), (3, -0.00009, 3.00009, 0)),
    ],
)
def test_bounds_of_wide_scenes_and_of_those_across_the_antimeridian(crs, affine, shape, bounds):
    assert np.allclose(lonlat_bounds(GeoBox(shape, affine, crs)), bounds, atol=1e-5)


def test_a_scene_with_the_pole_in_it_goes_all_the_way_round():
    west, south, east, north = lonlat_bounds(GeoBox((100, 100), Affine(1e4, 0, -4e5, 0, -1e4, 6e5), "EPSG:3413"))
    assert (west, east, north) == (-180, 180, 90) and 80 < south < 87


@pytest.mark.parametrize(
    ("crs", "affine"),
    [
        ("EPSG:3413", Affine(4000, 0, -2e5, 0, -4000, 2e5)),  # the north pole inside
        ("EPSG:3031", Affine(4000, 0, -2e5, 0, -4000, 2e5)),  # the south pole inside
        ("EPSG:32760", Affine(20, 0, 8e5, 0, -20, 1.2e6)),  # far south, by the antimeridian
        ("EPSG:32719", Affine(8, 6, 3e5, 6, -8, 6.3e6)),  # rotated
        ("EPSG:32631", Affine(10, 4, 5e5, 1, -12, 6e6)),  # sheared
        ("EPSG:4326", Affine(0.001, 0, 179.95, 0, -0.0005, -60)),  # over the antimeridian
        ("EPSG:3857", Affine(10, 0, -2.00375e7, 0, -10, 1.1e7)),
        ("EPSG:3832", Affine(100, 0, 3.33e6, 0, -100, -2e6)),  # a Mercator about 150 east, over the antimeridian
    ],
)
def test_a_file_anywhere_on_earth_lies_where_proj_puts_it_and_true_metres_are_geodesic(tmp_path, crs, affine):
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=90, width=100, count=1, dtype="uint8", crs=crs, transform=affine
    ) as file:
        file.write(np.ones((1, 90, 100), np.uint8))
    grid = open_scene(tmp_path / "a.tif").grid
    row, column = (v.ravel() for v in np.meshgrid(np.linspace(0.2, 90, 7), np.linspace(0.3, 100, 8)))
    x, y = affine.a * column + affine.b * row + affine.c, affine.d * column + affine.e * row + affine.f
    expected = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    lon, lat = pixel_to_lonlat(grid, row, column)
    assert WGS84.inv(lon, lat, *expected)[2].max() < 1e-3 and np.abs(lon).max() <= 180
    np.testing.assert_allclose(lonlat_to_pixel(grid, lon, lat), (row, column), atol=1e-4)
    west, south, east, north = lonlat_bounds(grid)
    inside = (lon >= west - 1e-6) & (lon <= east + 1e-6) if west <= east else (lon >= west - 1e-6) | (lon <= east + 1e-6)
    assert inside.all() and south - 1e-6 <= lat.min() and lat.max() <= north + 1e-6
    lon, lat = pixel_to_lonlat(grid, [44.5, 45.5, 45, 45], [50, 50, 49.5, 50.5])
    np.testing.assert_allclose(pixel_size_m(grid), WGS84.inv(lon[::2], lat[::2], lon[1::2], lat[1::2])[2], rtol=1e-6)
