from dataclasses import replace

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import torch
from affine import Affine
from odc.geo.geobox import GeoBox
from test_job import SHIPS, SPEC, Bright, write_scene
from torch import nn

from xtgeo import Model, open_scene, segment
from xtgeo import detect as detect_
from xtgeo.detections import Origin
from xtgeo.errors import ModelError, OutputError
from xtgeo.model import build
from xtgeo.peaks import Peaks
from xtgeo.points import FIELDS, describe_points

CENTRES = replace(SPEC, name="blob", task="detect", margin=32, separation=200.0)


class Blob(nn.Module):
    """A centre where a 31 x 31 mean of what is brighter than -9 dB is highest; the right half of the scene fishes."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, 1, 31, 31), 1 / 31**2))

    def forward(self, x):
        share = nn.functional.conv2d((x > 11).float(), self.weight, padding=15)
        same = torch.zeros_like(share)
        heat = torch.logit(share.clamp(1e-6, 1 - 1e-6)) + 4.0
        return torch.cat([heat, same, same, same + 2, x[:, :1] - 20, same + np.log(80)], 1)


@pytest.fixture
def model():
    return Model(Blob(), CENTRES).eval()


def detect(path, model, **options):
    return detect_(open_scene(path), model, device="cpu", dtype="fp32", **options)


def test_every_object_is_one_point_however_the_scene_is_cut(tmp_path, model):
    path = write_scene(tmp_path / "scene.tif")
    frames = []
    for region, span in ((64, 2), (64, 1), (40, 3)):
        cut = Model(Blob(), replace(CENTRES, region=region, span=span)).eval()
        frames.append(detect(path, cut).detections.to_frame().drop(columns="config_hash"))
    rows, columns = frames[0]["detect_scene_row"], frames[0]["detect_scene_column"]
    assert len(frames[0]) == len(SHIPS)
    for y, x, h, w in SHIPS:
        near = (rows - y - h / 2).abs().clip(lower=(columns - x - w / 2).abs())
        assert near.min() <= 16, (y, x)
    assert all(frames[0].equals(frame) for frame in frames[1:])


def test_the_table_has_the_fields_and_the_place(tmp_path, model):
    path = write_scene(tmp_path / "scene.tif")
    detections = detect(path, model, out=tmp_path / "p.gpkg", quicklook=tmp_path / "q.png").detections
    table = gpd.read_file(tmp_path / "p.gpkg", layer="detections")
    assert list(table.columns) == [*FIELDS, "geometry"] and (table.geom_type == "Point").all()
    assert table.crs == "EPSG:32631" and len(table) == len(detections) == len(SHIPS)
    assert table["vessel_length_m"].tolist() == [80.0] * len(SHIPS) and table["is_vessel"].all()
    assert table[["sigma0_vv_db", "sigma0_vh_db", "contrast_db"]].notna().any().tolist() == [True, False, True]
    lonlat = table.to_crs("EPSG:4326").geometry
    assert np.allclose(lonlat.x, table["lon"], atol=1e-6) and np.allclose(lonlat.y, table["lat"], atol=1e-6)
    assert {name for name, _ in pyogrio.list_layers(tmp_path / "p.gpkg")} == {"detections", "scene_footprint", "run"}
    assert (tmp_path / "q.png").stat().st_size > 0


@pytest.mark.parametrize("suffix", [".geojson", ".fgb", ".parquet", ".csv"])
def test_every_format_takes_points_also_none_at_all(tmp_path, model, suffix):
    path = write_scene(tmp_path / "scene.tif")
    for threshold, count in ((0.5, len(SHIPS)), (1.0, 0)):
        out = tmp_path / f"p{count}{suffix}"
        detect(path, model, out=out, threshold=threshold)
        if suffix != ".csv":
            table = gpd.read_parquet(out) if suffix == ".parquet" else gpd.read_file(out)
            assert len(table) == count and (table.geom_type == "Point").all()


def test_a_model_is_not_used_for_another_task(tmp_path, model):
    path = write_scene(tmp_path / "scene.tif")
    with pytest.raises(ModelError, match="use xtgeo.detect"):
        segment(open_scene(path), model)
    with pytest.raises(ModelError, match="use xtgeo.segment"):
        detect(path, Model(Bright(), SPEC))
    with pytest.raises(OutputError, match="exists"):
        (tmp_path / "p.gpkg").write_text("")
        detect(path, model, out=tmp_path / "p.gpkg")


def test_a_network_with_a_coarser_answer_is_read_in_cells(tmp_path):
    """Random weights: what counts is that cells, pixels and places agree at odd sizes."""
    torch.manual_seed(0)
    spec = replace(CENTRES, margin=16, stride=16, backbone="mobilenetv4_conv_small", threshold=0.0, separation=60.0)
    model = Model(build(spec), spec).eval()
    assert model.cell_px == 2
    detections = detect(write_scene(tmp_path / "scene.tif", nodata_corner=False), model).detections
    row, column = detections["detect_scene_row"], detections["detect_scene_column"]
    assert len(row) > 100 and row.max() < 331 and column.max() < 530 and row.max() > 300 and column.max() > 500
    assert ((detections["vessel_length_m"] >= 0) | np.isnan(detections["vessel_length_m"])).all()


def peaks(**columns):
    base = {"y": 5, "x": 7, "row": 10.5, "column": 14.5, "score": 0.9, "vessel": 0.8, "fishing": 0.7, "length": 40.0, "top": True}
    return Peaks(*(np.array([v]) for v in {**base, **columns}.values()))


def described(found, grid, measured_m=np.nan):
    return describe_points(
        found, grid, shape=(400, 400), gsd=10.0, sigma0_db={"vh": np.array([-8.5])}, contrast_db=np.array([17.25]),
        measured_m=np.array([measured_m]),
        origin=Origin("s", "m", "1", 0.5),
    )  # fmt: skip


def test_what_is_no_vessel_neither_fishes_nor_has_a_vessels_length():
    grid = GeoBox((400, 400), Affine(10, 0, 500000, 0, -10, 4000000), "EPSG:32631")
    table = described(peaks(vessel=0.2), grid).to_frame()
    assert not table["is_vessel"][0] and table["is_fishing"].isna()[0]
    assert np.isnan(table["fishing_score"][0]) and np.isnan(table["vessel_length_m"][0])
    assert table["flags"][0] == "edge" and described(peaks(row=200.0, column=200.0), grid)["flags"][0] == ""


def test_lengths_are_true_metres_where_the_pixels_are_not_the_models():
    grid = GeoBox((400, 400), Affine(20, 0, 500000, 0, -20, 4000000), "EPSG:32631")
    assert described(peaks(), grid)["vessel_length_m"][0] == pytest.approx(80.0, rel=1e-2)
    assert described(peaks(), grid, 123.4)["vessel_length_m"][0] == 123.4
    assert np.isnan(described(peaks(vessel=0.2), grid, 123.4)["vessel_length_m"][0])
    nowhere = GeoBox((400, 400), Affine(1, 0, 0, 0, 1, 0), None)
    assert np.isnan(described(peaks(), nowhere)["vessel_length_m"][0])


def test_a_band_that_the_scene_lacks_has_no_backscatter():
    grid = GeoBox((400, 400), Affine(10, 0, 500000, 0, -10, 4000000), "EPSG:32631")
    table = described(peaks(), grid)
    assert np.isnan(table["sigma0_vv_db"][0]) and (table["sigma0_vh_db"][0], table["contrast_db"][0]) == (-8.5, 17.25)
