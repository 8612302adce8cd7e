import itertools
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas
import pytest
import rasterio
import shapely
import torch
from forked import Forked
from rasterio.features import rasterize
from torch import nn

from xtgeo import Model, Spec, open_scene, segment
from xtgeo.errors import JournalError, OutputError, PlanError, SceneError, XtgeoError
from xtgeo.journal import Journal

SPEC = Spec(
    name="bright",
    bands=("vv",),
    units="db",
    mean=(-20.0,),
    std=(1.0,),
    gsd=10.0,
    region=64,
    span=2,
    margin=8,
    stride=8,
    threshold=0.5,
)


class Bright(nn.Module):
    """Probability one half at -9 dB, as a 3 x 3 mean sees it: a network of one's own, with a receptive field."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, 1, 3, 3), 1 / 9))

    def forward(self, x):
        return nn.functional.conv2d(x, self.weight, padding=1) - 11.0


@pytest.fixture
def model():
    return Model(Bright(), SPEC).eval()


SHIPS = [(60, 120, 12, 20), (126, 126, 6, 8), (200, 40, 5, 5), (300, 500, 20, 9), (10, 250, 4, 60)]
"""(y, x, h, w): within a tile, across four, alone, at a seam, along a border of tiles."""


@pytest.fixture
def path(tmp_path):
    return write_scene(tmp_path / "scene.tif")


def write_scene(path: Path, *, crs="EPSG:32631", shape=(331, 530), nodata_corner=True, pixel=10) -> Path:
    rng = np.random.default_rng(0)
    data = rng.normal(-22, 1.0, shape).astype(np.float32)
    for y, x, h, w in SHIPS:
        data[y : y + h, x : x + w] = 3.0
    if nodata_corner:
        data[250:, :70] = -32768
    place = {"crs": crs, "transform": rasterio.Affine(pixel, 0, 500000, 0, -pixel, 5800000)} if crs else {}
    with rasterio.open(
        path, "w", driver="GTiff", height=shape[0], width=shape[1], count=1, dtype="float32", nodata=-32768,
        tiled=True, blockxsize=128, blockysize=128, **place,
    ) as file:  # fmt: skip
        file.write(data, 1)
        file.set_band_description(1, "vv")
        file.set_band_unit(1, "dB")
        file.update_tags(datetime="2024-05-06T07:08:09Z")
    return path


def run(path, model, **options):
    return segment(open_scene(path), model, device="cpu", dtype="fp32", **options)


def test_every_object_comes_out_whole_once_and_in_its_place(path, model, tmp_path):
    result = run(path, model, out=tmp_path / "v.gpkg")
    frame = gpd.read_file(tmp_path / "v.gpkg", layer="detections")
    assert len(frame) == len(SHIPS) == result.summary.objects and frame.crs.to_epsg() == 32631
    truth = [shapely.box(500000 + x * 10, 5800000 - (y + h) * 10, 500000 + (x + w) * 10, 5800000 - y * 10) for y, x, h, w in SHIPS]
    for outline in truth:
        overlap = frame.geometry.intersection(outline).area / frame.geometry.union(outline).area
        assert overlap.max() > 0.8
    assert set(frame["class"]) == {"vessel"} and frame["detect_id"].is_unique
    assert frame["score"].between(0.5, 1).all() and (frame["score_max"] >= frame["score"]).all()
    assert frame["timestamp"].notna().all() and not list(tmp_path.glob(".*"))


def test_however_the_scene_is_cut_the_same_objects_come_out(path, model, tmp_path):
    frames = []
    for region, span in ((64, 1), (64, 3), (512, 1)):
        cut = Model(model.net, replace(SPEC, region=region, span=span))
        frame = run(path, cut).detections.to_frame().sort_values("detect_id").reset_index(drop=True)
        assert frame.pop("config_hash").nunique() == 1
        frames.append(frame)
    for frame in frames[1:]:
        assert frame.geometry.geom_equals(frames[0].geometry).all()
        pandas.testing.assert_frame_equal(frame.drop(columns="geometry"), frames[0].drop(columns="geometry"))


def test_mask_scores_and_outlines_agree(path, model, tmp_path):
    run(path, model, out=tmp_path / "v.gpkg", mask=tmp_path / "m.tif", scores=tmp_path / "s.tif")
    frame = gpd.read_file(tmp_path / "v.gpkg", layer="detections")
    with rasterio.open(tmp_path / "m.tif") as m, rasterio.open(tmp_path / "s.tif") as s, rasterio.open(path) as scene:
        assert m.crs == s.crs == scene.crs and m.transform == s.transform == scene.transform and m.shape == scene.shape
        mask, valid = m.read(1), scene.read(1) != -32768
        assert m.nodata == s.nodata == 255 and ((mask == 255) == ~valid).all()
        probability = s.read(1) * s.scales[0]
        assert (mask[valid] == (s.read(1)[valid] >= 127)).mean() > 0.999 and probability[valid].max() <= 1
        burnt = rasterize(frame.geometry, m.shape, transform=m.transform)
    assert (burnt[valid] == mask[valid]).all()


def test_the_same_run_gives_the_same_bytes(path, model, tmp_path):
    names = {"out": "v.gpkg", "mask": "m.tif", "scores": "s.tif", "quicklook": "q.png"}
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        run(path, model, **{k: tmp_path / folder / v for k, v in names.items()})
    for name in names.values():
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def killed(folder, scene, after):
    """A run whose process is killed once `after` tiles are in the journal."""
    put, tiles = Journal.put, itertools.count(1)

    def put_and_die(*args, **options):
        put(*args, **options)
        if next(tiles) == after:
            os.kill(os.getpid(), signal.SIGKILL)

    Journal.put = put_and_die
    run(scene, Model(Bright(), SPEC), out=folder / "v.gpkg", mask=folder / "m.tif")


@pytest.mark.parametrize("after", [1, 7, 14])
def test_a_killed_run_continues_to_the_same_bytes(path, model, tmp_path, after):
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
    run(path, model, out=tmp_path / "whole/v.gpkg", mask=tmp_path / "whole/m.tif")
    assert Forked(tmp_path / "err", killed, tmp_path / "killed", path, after).end() == (-signal.SIGKILL, "")
    assert all(p.name.startswith(".v.gpkg.journal") for p in (tmp_path / "killed").iterdir())
    result = run(path, model, out=tmp_path / "killed/v.gpkg", mask=tmp_path / "killed/m.tif")
    assert result.summary.tiles_resumed == after
    for name in ("v.gpkg", "m.tif"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "killed").iterdir()) == ["m.tif", "v.gpkg"]


def test_an_interrupted_run_of_other_options_is_refused(path, model, tmp_path):
    def stop(done, total, pixels):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(path, model, out=tmp_path / "v.gpkg", progress=stop)
    with pytest.raises(JournalError, match=r"threshold was 0\.5, is 0\.6"):
        run(path, model, out=tmp_path / "v.gpkg", threshold=0.6)
    other = Model(Bright(), SPEC)
    other.net.weight.data *= 1.01
    with pytest.raises(JournalError, match="model was bright"):
        run(path, other, out=tmp_path / "v.gpkg")
    assert run(path, model, out=tmp_path / "v.gpkg", threshold=0.6, overwrite=True).summary.tiles_resumed == 0


def test_an_area_keeps_what_is_centred_in_it(path, model, tmp_path):
    area = gpd.GeoDataFrame(geometry=[shapely.box(500000, 5800000 - 1700, 501800, 5800000)], crs="EPSG:32631").to_crs(4326)
    area.to_file(tmp_path / "a.geojson")
    result = run(path, model, aoi=tmp_path / "a.geojson", mask=tmp_path / "m.tif")
    assert result.summary.objects == 2 and result.summary.tiles < 15
    with rasterio.open(tmp_path / "m.tif") as m:
        assert (m.read(1)[180:] == 255).all() and (m.read(1)[:165, :175] != 255).all()
    far = gpd.GeoDataFrame(geometry=[shapely.box(100, 0, 101, 1)], crs=4326)
    far.to_file(tmp_path / "far.geojson")
    with pytest.raises(SceneError, match="does not overlap"):
        run(path, model, aoi=tmp_path / "far.geojson", mask=tmp_path / "m2.tif")


def test_an_area_is_read_from_our_own_files_and_tables_without_geometry_are_refused(path, model, tmp_path):
    whole = run(path, model, out=tmp_path / "v.gpkg").summary.objects
    run(path, model, out=tmp_path / "v.parquet")
    for name in ("v.gpkg", "v.parquet"):
        assert run(path, model, aoi=tmp_path / name, out=tmp_path / f"of_{name}").summary.objects == whole
    (tmp_path / "a.csv").write_text("name,size\na,1\n")
    with pytest.raises(SceneError, match="a table without geometry"):
        run(path, model, aoi=tmp_path / "a.csv")
    with pytest.raises(OutputError, match="is no map"):
        run(path, model, crs="EPSG:5703", out=tmp_path / "w.gpkg")


def test_small_objects_can_be_left_out(path, model):
    assert run(path, model, min_area=3000.0).summary.objects == len(SHIPS) - 1


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_without_a_place_only_on_request_and_then_in_pixels(tmp_path, model):
    path = write_scene(tmp_path / "s.tif", crs=None)
    with pytest.raises(SceneError, match="--allow-ungeoreferenced"):
        run(path, model, out=tmp_path / "v.gpkg")
    result = run(path, model, out=tmp_path / "v.gpkg", allow_ungeoreferenced=True)
    bounds = result.detections.to_frame().total_bounds
    assert bounds[0] >= 0 and bounds[2] <= 530 and result.detections.to_frame()["lon"].isna().all()


def test_outputs_are_protected_and_the_work_is_not_started(path, model, tmp_path):
    (tmp_path / "v.gpkg").write_bytes(b"mine")
    with pytest.raises(OutputError, match="--overwrite"):
        run(path, model, out=tmp_path / "v.gpkg")
    assert (tmp_path / "v.gpkg").read_bytes() == b"mine"
    for options in ({"out": tmp_path / "v.xyz"}, {"out": tmp_path / "no" / "v.gpkg"}, {"quicklook": tmp_path / "q.bmp"}):
        with pytest.raises(OutputError):
            run(path, model, **options)
    with pytest.raises(PlanError):
        run(path, model, out=tmp_path / "w.gpkg", max_memory=1000)
    assert not (tmp_path / "w.gpkg").exists()


def test_a_scene_without_a_valid_pixel_is_refused_and_nothing_is_left(tmp_path, model):
    path = tmp_path / "void.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=90, width=70, count=1, dtype="float32", crs="EPSG:32631", nodata=-32768,
        transform=rasterio.Affine(10, 0, 500000, 0, -10, 5800000),
    ) as file:  # fmt: skip
        file.write(np.full((1, 90, 70), -32768, np.float32))
        file.set_band_description(1, "vv")
        file.set_band_unit(1, "dB")
    with pytest.raises(SceneError, match="no valid pixel"):
        run(path, model, out=tmp_path / "v.gpkg", mask=tmp_path / "m.tif")
    assert [p.name for p in tmp_path.iterdir()] == ["void.tif"]


def test_what_is_read_is_never_written_and_each_output_has_its_own_name(path, model, tmp_path):
    before = path.read_bytes()
    with pytest.raises(OutputError, match="is what is read"):
        run(path, model, mask=tmp_path / "." / path.name, overwrite=True)
    with pytest.raises(OutputError, match="two outputs have one name"):
        run(path, model, mask=tmp_path / "m.tif", scores=tmp_path / "m.tif")
    assert path.read_bytes() == before and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("options", [{"device": "tpu"}, {"dtype": "fp8"}, {"max_memory": 1}])
def test_a_run_that_never_began_leaves_nothing_that_stops_the_next(path, model, tmp_path, options):
    with pytest.raises(XtgeoError):
        segment(open_scene(path), model, out=tmp_path / "v.gpkg", **options)
    assert not list(tmp_path.glob(".*"))
    assert run(path, model, out=tmp_path / "v.gpkg").summary.objects == len(SHIPS)


def test_with_context_of_the_scene_a_stopped_run_continues_to_the_same_bytes(path, tmp_path, monkeypatch):
    from xtgeo.engine import Engine
    from xtgeo.model import build

    # Two runs that each measure may take different numbers of threads, which can change a last digit.
    monkeypatch.setattr("xtgeo.infer.choose_engine", lambda *_, **__: Engine(keep_memory=False))
    torch.manual_seed(0)
    encoder = {"backbone": "mobilenetv4_conv_small", "context": "attention", "context_dim": 32}
    spec = replace(SPEC, name="wide", margin=16, stride=16, threshold=0.9, **encoder)  # at less, noise is one object without end
    wide = Model(build(spec), spec).eval()
    for gate in wide.net.context.gates:
        gate.reset_parameters()
    seen = []

    def stop(done, total, pixels):
        seen.append((done, total))
        if pixels and done == total - 3:
            raise KeyboardInterrupt

    (tmp_path / "stopped").mkdir()
    run(path, wide, out=tmp_path / "v.gpkg", scores=tmp_path / "s.tif", context="scene")
    outputs = {"out": tmp_path / "stopped/v.gpkg", "scores": tmp_path / "stopped/s.tif"}
    with pytest.raises(KeyboardInterrupt):
        run(path, wide, **outputs, context="scene", progress=stop)
    assert seen == [(i, 30) for i in range(28)]  # 15 tiles, twice
    with pytest.raises(JournalError, match="context was scene, is tile"):
        run(path, wide, **outputs)
    assert run(path, wide, **outputs, context="scene").summary.tiles_resumed == 12
    for name in ("v.gpkg", "s.tif"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()


def test_outputs_appear_all_together_or_not_at_all(path, model, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "no space left on device")

    with monkeypatch.context() as m:
        m.setattr("xtgeo.write.vector.write_tables", fail)
        with pytest.raises(OutputError, match="disk is full"):
            run(path, model, out=tmp_path / "v.gpkg", mask=tmp_path / "m.tif")
    assert {p.name for p in tmp_path.iterdir()} == {"scene.tif", ".v.gpkg.journal"}
    again = run(path, model, out=tmp_path / "v.gpkg", mask=tmp_path / "m.tif").summary
    assert again.tiles_resumed == again.tiles and (tmp_path / "m.tif").exists()


def test_numbers_that_cannot_be_decibels_are_refused(path, model, tmp_path):
    with rasterio.open(path) as file:
        profile, data = file.profile, file.read()
    with rasterio.open(tmp_path / "dn.tif", "w", **profile) as file:
        file.write(np.where(data > -100, 10 ** (data / 20) * 3000, data).astype(np.float32))
        file.set_band_description(1, "vv")
    for units in ("db", "linear"):  # taken as it is, and converted
        with pytest.raises(SceneError, match=f"said to hold {units}"):
            segment(open_scene(tmp_path / "dn.tif", units=units), model, out=tmp_path / "v.gpkg")


def test_the_summary_is_plain_values(path, model):
    from dataclasses import asdict

    summary = asdict(run(path, model).summary)
    assert json.loads(json.dumps(summary)) == summary
