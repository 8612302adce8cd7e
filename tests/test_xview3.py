"""The xView3 folder: coarse rasters lie where they belong, folds do not share places, predictions survive interruption."""

import json
import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from rasterio.warp import Resampling, reproject
from typer.testing import CliRunner
from xtgeo.cli import app

from xtgeo import load_model, open_scene
from xtgeo.errors import LabelError, OutputError, SceneError
from xtgeo.evaluate.xview3_files import PREDICTIONS, read_predictions
from xtgeo.grid import lonlat_bounds, same_place
from xtgeo.read.ancillary import FILES, _bilinear, _nearest, near_shore, open_ancillaries
from xtgeo.simulate import sentinel1, write_xview3
from xtgeo.window import Window
from xtgeo.xview3 import predict, split

SHAPE = (410, 530)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two scenes of one place and two of others, with labels."""
    folder = tmp_path_factory.mktemp("xview3")
    for seed, origin in ((1, (3.0, 40.0)), (2, (3.01, 40.01)), (3, (9.0, 45.0)), (4, (-9.0, 60.0))):
        write_xview3(sentinel1(SHAPE, seed=seed, density=30, land=0.3, origin=origin), folder)
    return folder


def ids(data):
    return sorted(p.parent.name for p in data.glob("*/VV_dB.tif"))


def write_coarse(folder, name, values, scene, *, shift=(-137.0, 211.0)):
    """A 500-m raster that begins at an odd distance outside the scene."""
    a = scene.grid.affine
    place = Affine(500, 0, a.c + shift[0] - 500, 0, -500, a.f + shift[1] + 500)
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "nodata": -32768, "crs": str(scene.grid.crs)}
    with rasterio.open(folder / name, "w", height=values.shape[0], width=values.shape[1], transform=place, **profile) as f:
        f.write(values.astype(np.float32), 1)
    return place


@pytest.fixture
def plain(tmp_path):
    """A scene of 2,000 x 1,500 pixels, empty, to lay coarse rasters on."""
    profile = {"driver": "GTiff", "count": 1, "height": 2000, "width": 1500, "dtype": "float32", "crs": "EPSG:32631"}
    (tmp_path / "s").mkdir()
    for name in ("VV_dB.tif", "VH_dB.tif"):
        with rasterio.open(tmp_path / "s" / name, "w", transform=Affine(10, 0, 477060.79, 0, -10, 793583.94), **profile) as f:
            f.write(np.full((1, 2000, 1500), -20, np.float32))
    return tmp_path / "s", open_scene(tmp_path / "s")


def test_a_ramp_in_metres_is_reproduced_up_to_the_far_edge(plain):
    folder, scene = plain
    place = write_coarse(folder, "bathymetry.tif", np.zeros((44, 34)), scene)
    rows, columns = np.arange(44)[:, None] + 0.5, np.arange(34)[None] + 0.5
    x, y = place.c + 500 * columns, place.f - 500 * rows
    write_coarse(folder, "bathymetry.tif", (x - 477060.79) / 100 + (y - 793583.94) / 50, scene)
    window = Window(1900, 1400, 100, 100)
    got = open_ancillaries(folder, scene).select("bathymetry").read(window).data[0]
    r, c = np.mgrid[1900:2000, 1400:1500] + 0.5
    assert np.allclose(got, 10 * c / 100 - 10 * r / 50, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("band", "how"), [("bathymetry", Resampling.bilinear), ("mask", Resampling.nearest)])
def test_gdal_resamples_alike_where_everything_is_known(plain, band, how):
    folder, scene = plain
    values = np.random.default_rng(0).integers(0, 3, (44, 34)) * 1.0
    place = write_coarse(folder, FILES[band], values, scene)
    want = np.zeros(scene.shape, np.float32)
    crs = str(scene.grid.crs)
    reproject(values, want, src_transform=place, src_crs=crs, dst_transform=scene.grid.affine, dst_crs=crs, resampling=how)
    got = open_ancillaries(folder, scene).select(band).read(Window(0, 0, *scene.shape)).data[0]
    assert np.abs(got - want)[40:-40, 40:-40].max() < 1e-4


def test_a_file_in_another_crs_lies_where_gdal_puts_it(plain):
    folder, scene = plain
    shape, values = (44, 34), np.random.default_rng(1).integers(0, 3, (44, 34)) * 1.0
    west, south, east, north = lonlat_bounds(scene.grid)
    place = Affine((east - west) / 30, 0, west - 0.01, 0, (south - north) / 40, north + 0.01)
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "crs": "EPSG:4326", "transform": place}
    with rasterio.open(folder / "owiMask.tif", "w", height=shape[0], width=shape[1], **profile) as f:
        f.write(values.astype(np.float32), 1)
    want, crs = np.zeros(scene.shape, np.float32), str(scene.grid.crs)
    options = {"dst_transform": scene.grid.affine, "dst_crs": crs, "resampling": Resampling.nearest}
    reproject(values, want, src_transform=place, src_crs="EPSG:4326", **options)
    got = open_ancillaries(folder, scene).select("mask").read(Window(0, 0, *scene.shape)).data[0]
    assert (got == want).mean() > 0.998  # GDAL transforms to an eighth of a cell; a shift by one pixel would be 2 % of them


def test_a_window_of_rows_and_columns_is_sampled_as_scattered_places_are():
    values, rng = np.random.default_rng(2).normal(size=(9, 7)), np.random.default_rng(3)
    row, column = rng.uniform(-2, 11, (40, 1)), rng.uniform(-2, 9, (1, 30))
    whole = np.broadcast_arrays(row, column)
    for sample in (_bilinear, _nearest):
        assert np.allclose(sample(values, row, column), sample(values, *whole), rtol=0, atol=1e-12)


def test_half_floats_and_float32_give_the_same_pixels_and_other_shapes_are_refused(tmp_path):
    place, scenes = {"crs": "EPSG:32631", "transform": Affine(10, 0, 5e5, 0, -10, 6e6)}, []
    pixels = np.random.default_rng(4).uniform(-40, 30, (2, 90, 131)).astype(np.float16).astype(np.float32)
    pixels[0, :9], pixels[1, :, -7:] = -32768, -32768
    for kind, options in (("half", {"NBITS": 16, "nodata": -32768}), ("full", {})):
        (tmp_path / kind).mkdir()
        for name, band in zip(("VV_dB.tif", "VH_dB.tif"), pixels, strict=True):
            profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "height": 90, "width": 131, **place, **options}
            with rasterio.open(tmp_path / kind / name, "w", **profile) as f:
                f.write(band, 1)
        scenes.append(open_scene(tmp_path / kind).read(Window(3, 5, 80, 126)))
    half, full = scenes
    assert np.array_equal(half.data, full.data) and np.array_equal(half.valid, full.valid)
    assert full.valid.sum() == 74 * 119 and np.array_equal(full.data[:, 6:, :119], pixels[:, 9:83, 5:124])
    with rasterio.open(tmp_path / "full" / "VH_dB.tif", "w", **{**profile, "height": 80}) as f:
        f.write(band[:80], 1)
    with pytest.raises(SceneError, match=r"do not share one grid: .*VV_dB.tif has 90 x 131 .*VH_dB.tif has 80 x 131"):
        open_scene(tmp_path / "full")


def test_holes_are_said_to_be_missing_and_mix_into_nothing(plain):
    folder, scene = plain
    wind = np.full((44, 34), 7.0)
    wind[10:14, 5:9], wind[20, 20] = -32768, -1
    write_coarse(folder, "owiWindSpeed.tif", wind, scene)
    coarse = open_ancillaries(folder, scene).select("wind_speed", "wind_speed_missing", "mask", "mask_missing")
    block = coarse.read(Window(0, 0, *scene.shape))
    speed, missing = block.data[:2]
    assert block.valid.all() and np.allclose(speed[missing == 0], 7) and (speed[missing == 1] == 0).all()
    assert 0.001 < missing.mean() < 0.05 and (block.data[2] == 0).all() and (block.data[3] == 1).all()


def test_numbers_stored_with_a_scale_are_read_as_what_they_stand_for(plain):
    folder, scene = plain
    place = write_coarse(folder, "owiWindSpeed.tif", np.zeros((44, 34)), scene)
    stored = np.full((1, 44, 34), 650, np.int16)
    stored[0, 10:14, 5:9] = -32768
    profile = {"driver": "GTiff", "count": 1, "dtype": "int16", "nodata": -32768, "crs": "EPSG:32631", "transform": place}
    with rasterio.open(folder / "owiWindSpeed.tif", "w", height=44, width=34, **profile) as f:
        f.write(stored)
        f.scales, f.offsets = (0.01,), (0.5,)
    wind = open_ancillaries(folder, scene).select("wind_speed", "wind_speed_missing")
    speed, missing = wind.read(Window(0, 0, *scene.shape)).data
    assert np.allclose(speed[missing == 0], 7) and 0.001 < missing.mean() < 0.05


def test_directions_turn_through_north_and_not_back(plain):
    folder, scene = plain
    turn = np.where(np.arange(34) % 2, 350.0, 10.0)[None].repeat(44, 0)
    write_coarse(folder, "owiWindDirection.tif", turn, scene)
    sin, cos = open_ancillaries(folder, scene).select("wind_sin", "wind_cos").read(Window(500, 500, 300, 300)).data
    assert (cos > 0.98).all() and np.abs(sin).max() < 0.18


def test_every_window_is_that_part_of_the_whole_in_any_process(data):
    folder = data / ids(data)[0]
    coarse = open_ancillaries(folder, open_scene(folder))
    whole = coarse.read(Window(0, 0, *SHAPE)).data
    there = pickle.loads(pickle.dumps(coarse))
    assert np.array_equal(there.read(Window(37, 91, 120, 222)).data, whole[:, 37:157, 91:313])
    assert coarse.fingerprint() == there.fingerprint() and coarse.shape == SHAPE
    with pytest.raises(SceneError, match="holds none of bathymetry.tif"):
        open_ancillaries(data / "shoreline", open_scene(folder))


def test_places_near_the_shore_are_water_near_land(plain):
    folder, scene = plain
    mask = np.zeros((44, 34))
    mask[:, :10] = 1
    write_coarse(folder, "owiMask.tif", mask, scene)
    places = near_shore(folder, scene)
    metres = places[:, 1] * 10 + 137 + 500 - 5000
    assert len(places) > 100 and (metres > 0).all() and metres.max() <= 2000
    write_coarse(folder, "owiMask.tif", np.where(mask == 1, 5, 0), scene)  # the other number that stands for land
    assert np.array_equal(near_shore(folder, scene), places)
    write_coarse(folder, "owiMask.tif", np.full(mask.shape, -32768), scene)  # as in a scene without wind
    assert len(near_shore(folder, scene)) == 0
    write_coarse(folder, "bathymetry.tif", np.where(mask == 1, 3, -40), scene)
    assert np.array_equal(near_shore(folder, scene), places)
    with rasterio.open(folder / "bathymetry.tif", "r+") as f:
        f.crs = "EPSG:32601"
    assert len(near_shore(folder, scene)) == 0


def test_folds_do_not_share_places_and_hold_alike_many_objects(data, tmp_path):
    scenes = [open_scene(data / i) for i in ids(data)]
    groups = same_place([s.grid for s in scenes])
    assert sorted(map(len, groups)) == [1, 1, 2]
    folds = split(data, folds=3, labels=data / "labels.csv")
    assert sorted(sum(folds, [])) == ids(data) and folds == split(data, folds=3, labels=data / "labels.csv")
    together = {scenes[i].id for i in max(groups, key=len)}
    assert any(together <= set(fold) for fold in folds)
    with pytest.raises(SceneError, match="3 places: that is not enough for 4 folds"):
        split(data)
    with pytest.raises(SceneError, match="holds no folder with VV_dB.tif"):
        split(data / "nowhere")
    pd.read_csv(data / "labels.csv").assign(scene_id="x").to_csv(tmp_path / "x.csv")
    with pytest.raises(LabelError, match="no object in the 4 scenes"):
        split(data, folds=2, labels=tmp_path / "x.csv")
    result = CliRunner().invoke(app, ["xview3", "split", str(data), "--folds", "2"])
    assert sorted(sum(json.loads(result.stdout), [])) == ids(data)


def test_predictions_go_on_where_they_were_to_the_same_bytes_and_appear_whole(data, tmp_path):
    model, some, lines = load_model("cfar"), ids(data)[:2], []
    out, kept = tmp_path / "out.csv", tmp_path / ".out.csv.scenes"
    with pytest.raises(OutputError, match=r"1 of 3 scenes failed, .* there is no folder"):
        predict(data, [some[0], "nope", some[1]], out, model, report=lines.append)
    assert not out.exists() and "nope (2 of 3) failed" in lines[1] and len(lines) == 3 and len(list(kept.glob("*.parquet"))) == 2
    table = predict(data, some, out, model, report=lines.append)
    assert all("from an earlier run" in line for line in lines[3:]) and not kept.exists()
    assert out.read_text().splitlines()[0] == ",".join(PREDICTIONS)
    assert len(read_predictions([out])) == len(table) > 0 and set(table.scene_id) <= set(some)
    predict(data, some, tmp_path / "again.csv", model)
    assert out.read_bytes() == (tmp_path / "again.csv").read_bytes()
    with pytest.raises(OutputError, match="exists"):
        predict(data, some, out, model)


def test_tiles_and_number_format_are_chosen_once_for_all_scenes_and_all_runs(data, tmp_path, monkeypatch):
    import xtgeo.xview3 as job

    measured, plan = [], job.plan

    def counted(*args, engine=None, **options):
        measured.append(engine is None)
        return plan(*args, engine=engine, **options)

    monkeypatch.setattr(job, "plan", counted)
    model, out = load_model("points-sar"), tmp_path / "out.csv"
    with pytest.raises(OutputError, match="1 of 3 scenes failed"):
        predict(data, [*ids(data)[:2], "0000000000000000v"], out, model, max_memory=16 << 30)
    assert measured == [True, False]
    predict(data, ids(data), out, model, max_memory=16 << 30)
    assert measured == [True, False, False, False]


def test_what_another_threshold_or_other_pixels_gave_is_not_taken(data, tmp_path):
    model, (one, other) = load_model("cfar"), ids(data)[:2]
    shutil.copytree(data / one, tmp_path / one)
    lines, out = [], tmp_path / "out.csv"

    def stopped(**options):
        with pytest.raises(OutputError, match="1 of 2 scenes failed"):
            predict(tmp_path, [one, "nope"], out, model, report=lines.append, **options)
        return "earlier run" in lines[-2]

    assert not stopped(threshold=0.9) and stopped(threshold=0.9) and not stopped(threshold=0.8)
    shutil.copy(data / other / "VV_dB.tif", tmp_path / one)
    shutil.copy(data / other / "VH_dB.tif", tmp_path / one)
    assert not stopped(threshold=0.8)


def test_a_scene_without_vh_fails_and_one_without_objects_gives_no_row(data, tmp_path):
    name = ids(data)[0]
    shutil.copytree(data / name, tmp_path / name)
    empty = predict(data, [name], tmp_path / "e.csv", load_model("cfar"), threshold=1.0)
    assert len(empty) == 0 and (tmp_path / "e.csv").read_text().split() == [",".join(PREDICTIONS)]
    (tmp_path / name / "VH_dB.tif").unlink()
    with pytest.raises(OutputError, match="lacks VH_dB.tif: unpack"):
        predict(tmp_path, [name], tmp_path / "o.csv", load_model("cfar"))
    assert {p.name for p in tmp_path.iterdir()} == {name, "e.csv"}


def test_the_command_keeps_the_contract_and_says_what_takes_too_long(data, tmp_path):
    out = tmp_path / "o.csv"
    words = ["xview3", "predict", str(data), ",".join(ids(data)[:1]), str(out), "--dtype", "fp32", "--minutes", "0.0001"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0 and "more than the 0.0001 that are allowed" in result.stderr
    assert list(pd.read_csv(out).columns) == list(PREDICTIONS)
    twice = CliRunner().invoke(app, ["xview3", "predict", str(data), "a,a", str(tmp_path / "p.csv")])
    assert "given once each" in str(twice.exception)
