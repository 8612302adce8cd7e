"""Simulated scenes: the laws they keep, their truth, and their files against rasterio."""

import threading

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from xtgeo.errors import OutputError
from xtgeo.simulate import Conditions, plan_sentinel1, sentinel1, write_scene, write_xview3
from xtgeo.window import Window

COLUMNS = (
    "detect_lat detect_lon vessel_length_m source detect_scene_row detect_scene_column is_vessel is_fishing "
    "distance_from_shore_km scene_id confidence top left bottom right detect_id"
).split()
SHAPE = 700, 1131
"""Two blocks by three, of which only two are whole in width."""
RICH = {"seed": 7, "density": 30, "land": 0.3, "wind": 5.0}
EVERYTHING = Conditions(ice=0.2, rfi=True, slicks=0.2, border_px=20, texture=6)


@pytest.fixture(scope="module")
def harbour():
    """A scene with a coast, ships, fixed objects and nodata, of odd size."""
    sims = (sentinel1((700, 531), seed=seed, density=40) for seed in range(14, 60))
    return next(s for s in sims if 0.05 < s.land.mean() < 0.5 and not s.valid.all() and len(s.labels()) > 5)


@pytest.fixture(scope="module")
def open_sea():
    return sentinel1((700, 531), seed=3, density=30, land=False, nodata=False)


@pytest.fixture(scope="module")
def whole():
    return sentinel1(SHAPE, **RICH, conditions=EVERYTHING)


def test_the_same_seed_gives_the_same_scene_and_another_seed_another():
    first, again, other = (sentinel1((130, 97), seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(first.data, again.data) and first.ships == again.ships and first.id == again.id
    assert not np.array_equal(first.data, other.data) and first.id != other.id
    assert sentinel1((130, 97), seed=5, wind=3).id != first.id


@settings(max_examples=8, deadline=None)
@given(st.integers(-60, 720), st.integers(-60, 1150), st.integers(0, 760), st.integers(0, 640))
def test_however_a_scene_is_cut_its_pixels_are_the_same(whole, y, x, h, w):
    window = Window(y, x, h, w)
    block = plan_sentinel1(SHAPE, **RICH, conditions=EVERYTHING).read(window)
    inside = window & Window(0, 0, *SHAPE)
    here = inside.shift(-y, -x).slices
    assert block.data.shape == (2, h, w) and block.valid.sum() == whole.valid[inside.slices].sum()
    assert np.array_equal(block.data[:, *here], whole.data[:, *inside.slices])
    assert np.array_equal(block.valid[here], whole.valid[inside.slices]) and (block.data[:, ~block.valid] == 0).all()


def test_strips_drawn_by_threads_are_the_whole_and_tell_the_same_truth(whole):
    plan = plan_sentinel1(SHAPE, **RICH, conditions=EVERYTHING)
    strips = list(plan.strips())
    assert [s.window for s in strips] == [Window(0, 0, 512, 1131), Window(512, 0, 188, 1131)]
    for name in ("data", "valid", "land"):
        assert np.array_equal(np.concatenate([getattr(s, name) for s in strips], axis=-2), getattr(whole, name))
    known = plan.known(strips[0].contrasts | strips[1].contrasts, np.concatenate([s.shore for s in strips]))
    assert known.ships == whole.ships and known.ghosts == whole.ghosts and known.id == whole.id == plan.id
    assert known.labels().equals(whole.labels())


def test_strips_that_nobody_wants_are_not_drawn():
    plan, before = plan_sentinel1((2100, 130), seed=1), threading.active_count()
    next(strips := plan.strips())
    strips.close()
    assert threading.active_count() == before


def test_no_seam_shows_where_blocks_meet():
    sim = sentinel1((1025, 1025), seed=4, density=0, land=False, nodata=False, wind=8)
    steps = np.abs(np.diff(sim.data, axis=2)).mean(axis=1), np.abs(np.diff(sim.data, axis=1)).mean(axis=2)
    for across in steps:
        near = np.delete(across[:, 480:544], 31, axis=1)
        assert (np.abs(across[:, 511] - near.mean(axis=1)) < 4 * near.std(axis=1)).all()


@settings(max_examples=12, deadline=None)
@given(st.integers(64, 210), st.integers(64, 210), st.integers(0, 10_000))
def test_every_shape_is_answered_with_finite_decibels(h, w, seed):
    sim = sentinel1((h, w), seed=seed, density=20)
    assert sim.data.shape == (2, h, w) and sim.data.dtype == np.float32
    assert sim.valid.shape == sim.land.shape == sim.grid.shape == (h, w)
    assert np.isfinite(sim.data).all() and sim.data.min() > -52 and sim.data.max() < 45
    assert (sim.data[:, ~sim.valid] == 0).all()


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="64"):
        sentinel1((63, 200))
    with pytest.raises(ValueError, match="share from 0 to 1, not 1.5"):
        sentinel1((64, 64), land=1.5)
    for wrong in ({"noise": "gone"}, {"orbit": "polar"}, {"ice": 2}, {"texture": 0}):
        with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
            Conditions(**wrong)


def test_land_and_nodata_can_be_left_out():
    for seed in range(6):
        sim = sentinel1((80, 80), seed=seed, land=False, nodata=False)
        assert sim.valid.all() and not sim.land.any()


def test_what_is_fixed_leaves_the_rest_as_it_was_drawn():
    both = Conditions(), Conditions(noise="clip", rfi=True)
    drawn, fixed = (plan_sentinel1((200, 210), seed=9, conditions=conditions).params for conditions in both)
    same = {k: v for k, v in vars(drawn).items() if k not in ("noise", "rfi")}
    assert same == {k: v for k, v in vars(fixed).items() if k not in ("noise", "rfi")}
    assert (fixed.noise, fixed.rfi) == ("clip", True)


def test_a_quarter_of_a_scene_as_large_as_a_product_is_nodata_and_ships_are_as_rare_as_at_sea():
    plan = plan_sentinel1((24_500, 28_700), seed=2, land=False)
    rows, columns = np.meshgrid(np.arange(0, 24_500, 100), np.arange(0, 28_700, 100), indexing="ij")
    share = plan.footprint.valid(rows, columns).mean()
    assert 0.6 < share < 0.8
    vessels = sum(p.kind in ("fishing", "cargo") for p in plan.objects.plans[: plan.objects.count])
    assert 0.15 < vessels / (share * 24_500 * 28_700 / 1e6) < 1.3
    near = {p.kind for p in plan.objects.plans[: plan.objects.count]}
    assert near == {"fishing", "cargo", "turbine", "platform", "buoy"}


def test_density_counts_vessels_per_megapixel_of_water():
    sims = [sentinel1((500, 400), seed=seed, density=40) for seed in range(10)]
    water = sum(np.count_nonzero(s.valid & ~s.land) for s in sims) / 1e6
    vessels = sum(s.is_vessel for sim in sims for s in sim.ships)
    assert vessels / water == pytest.approx(40, rel=0.25)


def test_objects_float_on_valid_water_and_keep_apart(harbour, whole):
    for sim in (harbour, whole):
        for ship in sim.ships:
            at = int(ship.row), int(ship.column)
            assert sim.valid[at] and not sim.land[at]
        places = np.array([(s.row, s.column) for s in sim.ships])
        gaps = np.hypot(*(places[:, None] - places).transpose(2, 0, 1)) + 99 * np.eye(len(places))
        assert gaps.min() > 1


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


def test_the_distance_from_shore_is_that_to_the_nearest_land(harbour):
    land = np.argwhere(harbour.land) + 0.5
    for ship, km in zip(harbour.ships, harbour.labels().distance_from_shore_km, strict=True):
        assert km == pytest.approx(np.hypot(*(land - (ship.row, ship.column)).T).min() / 100, abs=0.02)


def test_without_land_the_distance_from_shore_is_unknown(open_sea):
    assert (open_sea.labels().distance_from_shore_km == 9999.99).all()


def test_an_empty_scene_has_empty_tables():
    sims = (sentinel1((64, 64), seed=seed, density=0, land=False) for seed in range(30))
    sim = next(s for s in sims if not s.ships)
    assert len(sim.truth()) == 0 and list(sim.labels().columns) == COLUMNS


def test_a_written_scene_reads_back_as_it_was(harbour, tmp_path):
    path, labels = tmp_path / "scene.tif", tmp_path / "scene_labels.csv"
    assert write_scene(harbour, path) is harbour
    with rasterio.open(path) as raster:
        assert raster.descriptions == ("vv", "vh") and raster.units == ("dB", "dB")
        assert raster.nodata == -32768 and raster.profile["tiled"] and raster.tags()["UNITS"] == "dB"
        assert raster.tags()["datetime"] == harbour.time.isoformat()
        assert raster.crs.to_epsg() == harbour.grid.crs.epsg and raster.transform == harbour.grid.affine
        data = raster.read()
    assert np.array_equal(data[:, harbour.valid], harbour.data[:, harbour.valid])
    assert (data[:, ~harbour.valid] == -32768).all()
    frame = gpd.read_file(tmp_path / "scene_truth.gpkg")
    assert len(frame) == len(harbour.truth()) and list(pd.read_csv(labels).columns) == COLUMNS
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scene.tif", "scene_labels.csv", "scene_truth.gpkg"]


def test_a_plan_is_written_as_the_scene_in_memory_is(whole, tmp_path):
    told, plan = [], plan_sentinel1(SHAPE, **RICH, conditions=EVERYTHING)
    known = write_scene(plan, tmp_path / "a.tif", report=lambda *now: told.append(now))
    write_scene(whole, tmp_path / "b.tif")
    assert known.ships == whole.ships and told == [(3, 6, 512 * 1131), (6, 6, 700 * 1131)]
    with rasterio.open(tmp_path / "a.tif") as a, rasterio.open(tmp_path / "b.tif") as b:
        assert np.array_equal(a.read(), b.read())
    assert (tmp_path / "a_labels.csv").read_text() == (tmp_path / "b_labels.csv").read_text()


def test_the_xview3_folder_holds_half_floats_in_strips_and_coarse_ancillaries(harbour, tmp_path):
    write_xview3(harbour, tmp_path)
    folder = tmp_path / harbour.id
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
    contours = np.load(tmp_path / "shoreline" / f"{harbour.id}_shoreline.npy", allow_pickle=False)
    rows, columns = np.concatenate(contours).astype(int).T
    assert len(rows) > 100 and harbour.land[rows, columns].all()


def test_a_folder_of_xview3_takes_several_scenes_and_keeps_their_labels(tmp_path):
    plans = [plan_sentinel1((200, 230), seed=seed, density=100, land=False) for seed in (1, 2)]
    counts = [len(write_xview3(plan, tmp_path).ships) for plan in plans]
    labels = pd.read_csv(tmp_path / "labels.csv")
    assert [int((labels.scene_id == plan.id).sum()) for plan in plans] == counts and min(counts) > 0
    write_xview3(plans[0], tmp_path, overwrite=True)
    assert len(pd.read_csv(tmp_path / "labels.csv")) == sum(counts)
    assert np.load(tmp_path / "shoreline" / f"{plans[0].id}_shoreline.npy").shape[0] == 0
    (tmp_path / "labels.csv").write_text("a,b\n1,2\n")
    with pytest.raises(OutputError, match="no label table"):
        write_xview3(plans[0], tmp_path, overwrite=True)


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
    with pytest.raises(OutputError, match="cannot be made"):
        write_scene(sentinel1((64, 64)), tmp_path / "file" / "scene.tif")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("write", [write_scene, write_xview3])
def test_an_interrupted_scene_leaves_nothing(write, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(plan_sentinel1((600, 100), seed=1), tmp_path / "new" / "a.tif", report=interrupt)
    assert not list(tmp_path.iterdir())
