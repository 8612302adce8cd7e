"""The simulator's physics against the figures it is built on, and its files against rasterio."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from shapely.geometry import Point

from xtgeo.errors import OutputError
from xtgeo.simulate import sentinel1, write_scene, write_xview3
from xtgeo.simulate.echo import Surface, draw_objects
from xtgeo.simulate.fields import gamma_from_gaussian, power_law, speckle, spectral_field, upsample
from xtgeo.simulate.geometry import GHOST_PX, SEAMS_PX, Look
from xtgeo.simulate.sea import INCIDENCE, VV_DB, WIND, sigma0_db
from xtgeo.simulate.sentinel1 import remove_noise
from xtgeo.simulate.targets import PIXEL_M, Plan, hull, outline, point_response

COLUMNS = (
    "detect_lat detect_lon vessel_length_m source detect_scene_row detect_scene_column is_vessel is_fishing "
    "distance_from_shore_km scene_id confidence top left bottom right detect_id"
).split()


@pytest.fixture(scope="module")
def harbour():
    """A scene with a coast, ships, fixed objects and nodata, of odd size."""
    sims = (sentinel1((700, 531), seed=seed, density=40) for seed in range(60))
    return next(s for s in sims if 0.05 < s.land.mean() < 0.5 and not s.valid.all() and len(s.labels()) > 5)


@pytest.fixture(scope="module")
def open_sea():
    return sentinel1((700, 531), seed=3, density=30, land=False, nodata=False)


def test_the_same_seed_gives_the_same_scene_and_another_seed_another():
    first, again, other = (sentinel1((130, 97), seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(first.data, again.data) and first.ships == again.ships
    assert not np.array_equal(first.data, other.data) and first.id != other.id


@settings(max_examples=12, deadline=None)
@given(st.integers(64, 210), st.integers(64, 210), st.integers(0, 10_000))
def test_every_shape_is_answered_with_finite_decibels(h, w, seed):
    sim = sentinel1((h, w), seed=seed, density=20)
    assert sim.data.shape == (2, h, w) and sim.data.dtype == np.float32
    assert sim.valid.shape == sim.land.shape == sim.grid.shape == (h, w)
    assert np.isfinite(sim.data).all() and sim.data.min() > -52 and sim.data.max() < 45
    assert (sim.data[:, ~sim.valid] == 0).all()


def test_a_scene_smaller_than_64_pixels_is_refused():
    with pytest.raises(ValueError, match="64"):
        sentinel1((63, 200))


def test_land_and_nodata_can_be_left_out():
    for seed in range(6):
        sim = sentinel1((80, 80), seed=seed, land=False, nodata=False)
        assert sim.valid.all() and not sim.land.any()


def test_speckle_has_the_looks_and_the_correlation_of_a_grd_product():
    field = speckle(np.random.default_rng(0), (800, 800))
    assert field.mean() == pytest.approx(1, abs=0.01)
    assert field.mean() ** 2 / field.var() == pytest.approx(4.4, abs=0.3)
    off = field - field.mean()
    assert (off[:, 1:] * off[:, :-1]).mean() / off.var() == pytest.approx(0.68, abs=0.06)
    assert abs((off[:, 6:] * off[:, :-6]).mean() / off.var()) < 0.03


@given(st.floats(2, 40))
@settings(max_examples=8, deadline=None)
def test_a_gamma_field_keeps_its_mean_and_gets_its_order(order):
    field = gamma_from_gaussian(np.random.default_rng(1).standard_normal(100_000), order)
    assert field.mean() == pytest.approx(1, abs=0.02)
    assert 1 / field.var() == pytest.approx(order, rel=0.1)


def test_upsampling_keeps_corners_and_straight_lines():
    coarse = np.add.outer(np.arange(4.0), 2 * np.arange(3.0))
    fine = upsample(coarse, (31, 17))
    assert fine == pytest.approx(np.add.outer(np.linspace(0, 3, 31), np.linspace(0, 4, 17)), abs=1e-5)


def test_a_steeper_spectrum_is_smoother():
    rough, smooth = (spectral_field(np.random.default_rng(2), (128, 96), power_law(e)) for e in (0.5, 2.0))
    assert np.abs(np.diff(smooth, axis=0)).mean() < 0.3 * np.abs(np.diff(rough, axis=0)).mean()


def test_the_sea_answers_with_the_table_and_grows_with_wind():
    wind, incidence = np.meshgrid(WIND, INCIDENCE, indexing="ij")
    assert sigma0_db(wind, incidence)[0] == pytest.approx(VV_DB)
    vv, vh = sigma0_db(np.linspace(1, 18, 50), 38.0)
    assert (np.diff(vv) > 0).all() and (np.diff(vh) > 0).all()
    up, cross = (sigma0_db(10.0, 38.0, angle)[0] for angle in (0, 90))
    assert 3 < up - cross < 6


@pytest.mark.parametrize("wind", [3, 7, 12])
def test_the_mean_of_the_sea_is_that_of_the_model(wind):
    sim = sentinel1((700, 531), seed=11, density=0, wind=wind, land=False, nodata=False)
    look = sim.params.look
    expected = sigma0_db(wind, look.incidence_deg(350, 265), sim.params.wind_from_deg - look.heading_deg - 90)[0]
    power = 10 ** ((sim.data[0] - sim.params.calibration_db[0]) / 10)
    # Slicks and the drawn wind field move the mean; the noise rule holds up what is darker than the noise.
    assert 10 * np.log10(np.median(power)) == pytest.approx(expected, abs=3)


def test_calm_sea_in_vh_lies_near_minus_29_db_whatever_the_wind():
    means = []
    for seed in range(24):
        sim = sentinel1((130, 131), seed=seed, density=0, wind=1 + seed % 5, land=False, nodata=False)
        if sim.params.rfi:
            continue
        vh = sim.data[1] - sim.params.calibration_db[1]
        means.append(vh.mean())
        low, high = np.percentile(vh, (16, 84))
        assert 1.2 < (high - low) / 2 < 3.5
    assert np.mean(means) == pytest.approx(-29.2, abs=1)


def test_the_noise_rule_leaves_negative_results_as_they_were():
    power = np.array([1.0, 3.0], np.float32)
    remove_noise(power, np.array([2.0, 2.0], np.float32))
    assert power.tolist() == [1.0, 1.0]


def test_noise_jumps_where_sub_swaths_meet():
    look = Look(-12.0, SEAMS_PX[1] - 100.0)
    vv, _ = look.noise((64, 200), 0.0)
    # The seam crosses the first row 100 / cos(12 deg) pixels from its start.
    assert vv[0, 98] / vv[0, 106] > 1.3


def test_range_grows_away_from_the_sensor_which_looks_right():
    ascending, descending = Look(-12.0, 0.0), Look(-168.0, 0.0)
    assert ascending.across[0] > 0 > descending.across[0]
    assert ascending.along[1] < 0 < descending.along[1]
    assert np.dot(ascending.along, ascending.across) == pytest.approx(0)


def test_incidence_runs_over_the_swath():
    look = Look(0.0, 0.0)
    assert look.incidence_deg(0, 0) == pytest.approx(30.85)
    assert look.incidence_deg(0, 25_000) == pytest.approx(45.99)


def point_target(look: Look, shape, row: float, column: float, rcs=1e6) -> tuple[list[np.ndarray], list, list]:
    plan = Plan(row, column, 20, 20, 0, "turbine", rcs, rcs)
    flat = tuple(np.full(shape, 1e-3, np.float32) for _ in range(2))
    rng, valid = np.random.default_rng(0), np.ones(shape, bool)
    return draw_objects(rng, [plan], look, Surface(flat, flat, valid, (0.0, 0.0)))


def test_a_target_keeps_its_radar_cross_section_and_its_place():
    (vv, _), (ship,), _ = point_target(Look(-12.0, 4000.0), (401, 401), 200.5, 180.5)
    assert np.unravel_index(vv.argmax(), vv.shape) == (200, 180)
    near = vv[190:212, 170:192].sum() * PIXEL_M**2
    assert near == pytest.approx(1e6, rel=0.05)
    assert ship.contrast_vv_db > 40 and ship.detectable


@pytest.mark.parametrize("swath", [0, 1, 2])
def test_azimuth_ghosts_lie_where_the_pulse_rate_puts_them(swath):
    near = (0, *SEAMS_PX)[swath] + 3000.0
    look = Look(-168.0, near + 400)
    (vv, _), _, ghosts = point_target(look, (1401, 801), 700.5, 400.5)
    assert len(ghosts) == 2
    for sign in (-1, 1):
        ahead = vv[:400] if sign * look.along[1] < 0 else vv[1000:]
        y, x = np.unravel_index(ahead.argmax(), ahead.shape)
        y = y + (0 if sign * look.along[1] < 0 else 1000)
        offset = np.array([x - 400, y - 700])
        assert GHOST_PX[swath][0] - 2 <= sign * offset @ look.along <= GHOST_PX[swath][1] + 2
        assert 1 <= offset @ look.across <= 4
        assert -31 < 10 * np.log10(vv[y, x] / vv.max()) < -19
        (ghost,) = (g for g in ghosts if abs(g.row - y - 0.5) < 3 and abs(g.column - x - 0.5) < 3)
        assert ghost.detectable and ghost.contrast_vv_db == pytest.approx(10 * np.log10(1 + vv[y, x] / 1.45e-3), abs=0.1)


def test_the_point_response_is_20_metres_wide_and_its_sidelobes_are_low():
    x = np.linspace(-10, 10, 4001)
    db = 20 * np.log10(point_response(x) + 1e-9)
    assert np.ptp(x[db > -3.01]) == pytest.approx(1.07, abs=0.03)
    assert db[np.abs(x) > 1.7].max() < -20


@given(st.floats(7, 400), st.floats(0, 360))
def test_the_outline_is_the_hull_and_ten_metres_around_it(length, heading):
    ship = hull(50, 60, length, length / 6, heading)
    wide = outline(ship)
    assert wide.contains(ship) and wide.is_valid
    assert ship.exterior.distance(wide.exterior) == pytest.approx(1.0, abs=1e-6)
    h = np.deg2rad(heading)
    bow = Point(60 + length / 20 * np.sin(h), 50 - length / 20 * np.cos(h))
    assert ship.exterior.distance(bow) < 1e-6


def test_ships_shine_where_the_truth_says(open_sea):
    clear = [s for s in open_sea.ships if s.is_vessel and max(s.contrast_vv_db, s.contrast_vh_db) > 12]
    assert len(clear) > 3
    mask = rasterize([s.outline for s in clear], out_shape=open_sea.valid.shape, all_touched=True).astype(bool)
    best = open_sea.data.max(axis=0)
    assert np.median(best[mask]) > np.median(best[~mask]) + 6
    for ship in clear:
        own = rasterize([ship.outline], out_shape=mask.shape, all_touched=True).astype(bool)
        brighter = [open_sea.data[b][own].max() - np.median(open_sea.data[b][~mask]) for b in (0, 1)]
        assert max(brighter) > 7


def test_longer_ships_are_brighter_and_more_often_detectable():
    ships = [s for seed in range(6) for s in sentinel1((300, 301), seed=seed, density=200, land=False).ships]
    ships = [s for s in ships if s.is_vessel]
    small, large = ([s for s in ships if low <= s.length_m < high] for low, high in ((0, 20), (60, 500)))
    assert np.mean([s.detectable for s in small]) < np.mean([s.detectable for s in large])
    assert np.mean([s.contrast_vv_db for s in large]) > 10 + np.mean([s.contrast_vv_db for s in small])


def test_lengths_follow_the_labels():
    lengths = [s.length_m for seed in range(4) for s in sentinel1((400, 401), seed=seed, density=300, land=False).ships]
    assert 28 < np.median(lengths) < 60 and np.percentile(lengths, 95) < 260


def test_density_counts_vessels_per_megapixel_of_water():
    sims = [sentinel1((500, 400), seed=seed, density=40) for seed in range(10)]
    water = sum(np.count_nonzero(s.valid & ~s.land) for s in sims) / 1e6
    vessels = sum(s.is_vessel for sim in sims for s in sim.ships)
    assert vessels / water == pytest.approx(40, rel=0.25)


def test_objects_float_on_valid_water(harbour):
    for ship in harbour.ships:
        at = int(ship.row), int(ship.column)
        assert harbour.valid[at] and not harbour.land[at]


def test_land_is_brighter_than_water_in_vh(harbour):
    vh = harbour.data[1]
    assert np.median(vh[harbour.land & harbour.valid]) > np.median(vh[~harbour.land & harbour.valid]) + 5


def test_the_grid_is_utm_at_ten_metres_where_it_was_asked_for():
    sim = sentinel1((64, 65), origin=(4.25, -33.5))
    assert sim.grid.crs.epsg == 32731
    assert (sim.grid.affine.a, sim.grid.affine.e) == (10, -10)
    lon, lat = sim.lonlat(0, 0)
    assert (lon[0], lat[0]) == (pytest.approx(4.25, abs=1e-6), pytest.approx(-33.5, abs=1e-6))


def test_the_truth_lies_on_the_map_and_holds_vessels_only(harbour):
    truth = harbour.truth()
    assert isinstance(truth, gpd.GeoDataFrame) and truth.crs.is_projected and truth.is_vessel.all()
    assert {"detect_id", "length_m", "width_m", "heading_deg", "is_fishing", "detectable"} <= set(truth.columns)
    assert truth.detect_id.is_unique
    corner = harbour.grid.affine
    x, y = corner.c + 10 * truth.column, corner.f - 10 * truth.row
    assert truth.contains(gpd.GeoSeries.from_xy(x, y, crs=truth.crs)).all()
    assert len(harbour.objects()) == len(harbour.ships)


def test_labels_have_the_columns_of_xview3_in_order(harbour):
    labels = harbour.labels()
    assert list(labels.columns) == COLUMNS
    for name in ("detect_scene_row", "detect_scene_column", "top", "left", "bottom", "right"):
        assert pd.api.types.is_integer_dtype(labels[name])
    assert (labels.confidence == "HIGH").all() and (labels.source == "manual").all()
    assert labels.scene_id.str.fullmatch(r"[0-9a-f]{16}v").all()
    assert (labels.top <= labels.detect_scene_row).all() and (labels.detect_scene_row < labels.bottom).all()
    assert (labels.left <= labels.detect_scene_column).all() and (labels.detect_scene_column < labels.right).all()
    assert (labels.is_fishing.isna() == ~labels.is_vessel.astype(bool)).all()
    km = labels.distance_from_shore_km
    assert ((km <= 10) | (km == 9999.99)).all() and (km <= 10).all()


def test_without_land_the_distance_from_shore_is_unknown(open_sea):
    assert (open_sea.labels().distance_from_shore_km == 9999.99).all()


def test_an_empty_scene_has_empty_tables():
    sims = (sentinel1((64, 64), seed=seed, density=0, land=False) for seed in range(30))
    sim = next(s for s in sims if not s.ships)
    assert len(sim.truth()) == 0 and list(sim.labels().columns) == COLUMNS


def test_a_written_scene_reads_back_as_it_was(harbour, tmp_path):
    path, truth, labels = write_scene(harbour, tmp_path / "scene.tif")
    with rasterio.open(path) as raster:
        assert raster.descriptions == ("vv", "vh") and raster.units == ("dB", "dB")
        assert raster.nodata == -32768 and raster.profile["tiled"] and raster.tags()["UNITS"] == "dB"
        assert raster.tags()["datetime"] == harbour.time.isoformat()
        assert raster.crs.to_epsg() == harbour.grid.crs.epsg and raster.transform == harbour.grid.affine
        data = raster.read()
    assert np.array_equal(data[:, harbour.valid], harbour.data[:, harbour.valid])
    assert (data[:, ~harbour.valid] == -32768).all()
    frame = gpd.read_file(truth)
    assert len(frame) == len(harbour.truth()) and list(pd.read_csv(labels).columns) == COLUMNS
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scene.tif", "scene_labels.csv", "scene_truth.gpkg"]


def test_the_xview3_folder_holds_half_floats_in_strips_and_coarse_ancillaries(harbour, tmp_path):
    folder = write_xview3(harbour, tmp_path)
    with rasterio.open(folder / "VH_dB.tif") as raster:
        assert raster.tags(1, ns="IMAGE_STRUCTURE")["NBITS"] == "16"
        assert raster.dtypes == ("float32",) and not raster.profile["tiled"] and raster.compression is None
        data = raster.read(1)
    assert np.array_equal(data == -32768, ~harbour.valid)
    assert np.abs(data - harbour.data[1])[harbour.valid].max() <= 1 / 32
    for name in ("bathymetry", "owiMask", "owiWindSpeed", "owiWindDirection", "owiWindQuality"):
        with rasterio.open(folder / f"{name}.tif") as raster:
            assert raster.res == (500, 500) and raster.nodata == -32768
            bounds = raster.bounds
        box = harbour.grid.boundingbox
        assert bounds.left < box.left and bounds.right > box.right
        assert bounds.bottom < box.bottom and bounds.top > box.top
    assert list(pd.read_csv(tmp_path / "labels.csv").columns) == COLUMNS


def test_existing_files_are_refused_unless_asked(tmp_path):
    sim = sentinel1((64, 64), seed=1)
    write_scene(sim, tmp_path / "a.tif")
    with pytest.raises(OutputError, match="a.tif exists"):
        write_scene(sim, tmp_path / "a.tif")
    write_scene(sim, tmp_path / "a.tif", overwrite=True)
    write_xview3(sim, tmp_path / "x")
    with pytest.raises(OutputError, match="overwrite"):
        write_xview3(sim, tmp_path / "x")


def test_a_folder_that_cannot_be_made_is_one_clear_line_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_scene(sentinel1((64, 64)), tmp_path / "file" / "scene.tif")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
