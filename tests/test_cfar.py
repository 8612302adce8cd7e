"""CFAR: the false-alarm rate is what it is said to be, and no bit depends on where a scene is cut."""

from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from scipy import integrate, special
from test_infer import Memory, gather

from xtgeo import detect, load_model, open_scene, segment
from xtgeo import engine as engine_module
from xtgeo.choose import choose_model, load_for
from xtgeo.engine import Engine, choose_engine
from xtgeo.errors import ModelError
from xtgeo.infer import Plan, predict
from xtgeo.model import Model, bundled, load_spec
from xtgeo.model.cfar import MIDDLE, build_cfar, pfa_of, rarity, rarity_table, ring, score_of, sums
from xtgeo.scene import Scene
from xtgeo.window import Nest


@pytest.mark.parametrize(
    ("nu", "six", "seven"),
    [(np.inf, 5.04, 5.65), (20, 6.79, 7.89), (10, 8.23, 9.72), (5, 10.8, 13.0), (3, 13.8, 16.9), (2, 17.3, 21.5)],
)
def test_k_distributed_sea_exceeds_these_multiples_once_in_a_million_pixels(nu, six, seven):
    """Multiples of the mean for 4.4 looks, by an independent numeric inversion."""
    got = rarity(np.array([six, seven]), looks=4.4, texture=0.0 if nu == np.inf else 1 / nu)
    assert got == pytest.approx([6, 7], abs=0.02)


@pytest.mark.parametrize("nu", [3.0, 10.0])
def test_the_rarity_is_the_share_of_drawn_pixels_that_are_brighter(nu):
    rng = np.random.default_rng(0)
    power = rng.gamma(nu, 1 / nu, 2_000_000) * rng.gamma(4.4, 1 / 4.4, 2_000_000)
    for ratio in (2.0, 4.0, 6.0):
        share = (power > ratio).mean()
        assert -np.log10(share) == pytest.approx(rarity(np.array([ratio]), looks=4.4, texture=1 / nu)[0], abs=0.05)


def test_scores_and_false_alarm_rates_are_inverse():
    assert score_of(1e-6) == 0.5 and pfa_of(score_of(3e-8)) == pytest.approx(3e-8)


def sea(shape, seed=0, nu=8.0, ships=()):
    """Decibels of K-distributed sea, with bright squares."""
    rng = np.random.default_rng(seed)
    power = 0.01 * rng.gamma(nu, 1 / nu, shape) * rng.gamma(4.4, 1 / 4.4, shape)
    for y, x in ships:
        power[..., y : y + 3, x : x + 4] = 3.0
    return (10 * np.log10(power + 1e-5)).astype(np.float32)


def scores(model, db, valid=None):
    """Of the inner pixels."""
    valid = np.ones(db.shape[-2:], bool) if valid is None else valid
    with torch.inference_mode():
        return model(torch.from_numpy(db)[None], torch.from_numpy(valid)[None])[0, 0].numpy()


def test_false_alarms_are_as_rare_as_the_threshold_says():
    model = build_cfar()
    db = np.full((4, 1000, 1000), -100.0, np.float32)
    db[0] = sea((1000, 1000), seed=3)
    found = scores(model, db)
    for pfa in (1e-3, 1e-4):
        assert 0.5 * pfa < (found >= score_of(pfa)).mean() < 2 * pfa


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 60), st.integers(1, 60), st.integers(0, 99))
def test_a_pixel_has_the_same_bits_however_the_scene_is_cut(y, x, h, w, seed):
    model = build_cfar(gsd=40.0)
    m, rng = model.spec.margin, np.random.default_rng(seed)
    db = np.full((4, 100 + 2 * m, 100 + 2 * m), -100.0, np.float32)
    db[:2] = sea((2, *db.shape[1:]), seed, ships=[(60, 50), (90, 80)])
    valid = rng.random(db.shape[1:]) > 0.1
    valid[:, : rng.integers(m + 30)] = False
    db[:, ~valid] = -100.0
    whole = scores(model, db, valid)
    part = np.s_[y : y + h + 2 * m, x : x + w + 2 * m]
    assert np.array_equal(scores(model, db[:, *part], valid[part]), whole[y : y + h, x : x + w])


@pytest.mark.parametrize("n", [1, 2, 3, 7, 12])
def test_sums_are_those_of_neighbours(n):
    x = torch.randn(5, 30, dtype=torch.float64)
    assert torch.allclose(sums(x, n, -1), x.unfold(-1, n, 1).sum(-1))


def test_a_ring_leaves_its_inner_square_out():
    x = torch.rand(40, 50, dtype=torch.float64)
    windows = [torch.nn.functional.avg_pool2d(x[None], 2 * r + 1, 1)[0] * (2 * r + 1) ** 2 for r in (9, 4)]
    assert torch.allclose(ring(x, 4, 9), windows[0] - windows[1][5:-5, 5:-5])


def test_a_bright_neighbour_does_not_hide_a_ship():
    """One pass would: the neighbour raises the mean and the texture of the ring."""
    model, db = build_cfar(), np.full((4, 400, 400), -100.0, np.float32)
    db[0] = sea((400, 400), ships=[(200, 200)])
    alone = scores(model, db)
    db[0, 200:212, 232:244] = 15.0
    both, m = scores(model, db), model.spec.margin
    ship = np.s_[200 - m : 203 - m, 200 - m : 204 - m]
    assert alone[ship].min() > 0.6 and both[ship].min() > 0.55


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    db = sea((2, 700, 640), ships=[(100, 90), (300, 310), (511, 420), (640, 600)])
    db[1] -= 8
    db[:, :, 560:590] = -9999
    profile = {"driver": "GTiff", "count": 2, "height": 700, "width": 640, "dtype": "float32", "nodata": -9999, "crs": "EPSG:32631"}
    path = tmp_path_factory.mktemp("cfar") / "sea.tif"
    with rasterio.open(path, "w", transform=Affine(10, 0, 5e5, 0, -10, 4e6), **profile) as f:
        f.write(db)
        f.descriptions, f.units = ("vv", "vh"), ("dB", "dB")
    return path


def test_the_same_bytes_come_from_any_size_of_tiles(path, tmp_path):
    scene, model, results = open_scene(path), load_model("cfar"), []
    for i, region in enumerate((512, 150)):
        cut = Model(model.net, replace(model.spec, region=region, span=1))
        result = segment(scene, cut, out=tmp_path / f"{i}.geojson", scores=tmp_path / f"{i}.tif")
        with rasterio.open(tmp_path / f"{i}.tif") as f:
            results.append((result.summary.objects, f.read()))
    assert results[0][0] == results[1][0] == 4 and np.array_equal(results[0][1], results[1][1])


def test_points_say_where_and_how_long_and_not_what(path, tmp_path):
    detect(open_scene(path), load_model("cfar"), out=tmp_path / "p.gpkg")
    found = gpd.read_file(tmp_path / "p.gpkg", layer="detections").sort_values("detect_scene_row")
    assert found["detect_scene_row"].tolist() == [101, 301, 512, 641] and found["is_vessel"].isna().all()
    assert (found["vessel_length_m"] >= 10).all() and (found["presence_score"] > 0.6).all()
    alone = detect(open_scene(path).select("vh"), load_model("cfar")).detections
    assert len(alone) == 4


def test_what_no_network_of_numbers_can_be_is_refused(path):
    with pytest.raises(ModelError, match="no weights that could be bf16"):
        segment(open_scene(path), load_model("cfar"), dtype="bf16", out=None)


COARSE = build_cfar(gsd=40.0)
"""Rings of 11 to 21 pixels: the same arithmetic at a quarter of the reach."""


def held(*bands, valid=None, names=("vv", "vh"), units="db", gsd=40.0):
    """A scene in memory."""
    data = np.stack(bands)
    valid = np.ones(data.shape[1:], bool) if valid is None else valid
    grid = GeoBox(valid.shape, Affine(gsd, 0, 500000, 0, -gsd, 4000000), "EPSG:32631")
    names = names[: len(data)]
    return Scene(Memory(data, valid), grid, names, tuple(range(1, len(data) + 1)), units, units, "memory", "memory")


def answers(scene):
    """Scores of a whole scene, through the pipeline, in tiles of 128 pixels."""
    nest = Nest(scene.shape, 64, 2, COARSE.spec.margin)
    how = Plan(nest, Engine(channels_last=False, keep_memory=False), 0, 0)
    return gather(predict(scene, COARSE, plan=how), scene.shape)[0]


@pytest.mark.parametrize("nu", [0.6, 1.0, 4.4, 30.0])
@pytest.mark.parametrize("ratio", [0.1, 1.0, 7.0, 60.0])
def test_rarity_is_the_tail_of_the_bessel_density(nu, ratio):
    start = 2 * np.sqrt(4.4 * nu * ratio)

    def density(z):  # in z = 2 sqrt(L nu r), without exp(-start)
        log = (4.4 + nu - 1) * np.log(z / 2) - special.gammaln(4.4) - special.gammaln(nu) - z + start
        return 2 * np.exp(log) * special.kve(nu - 4.4, z)

    tail = integrate.quad(density, start, np.inf, epsrel=1e-11, epsabs=0, limit=400)[0]
    exact = (start - np.log(tail)) / np.log(10)
    assert rarity(np.array([ratio]), looks=4.4, texture=1 / nu)[0] == pytest.approx(exact, abs=2e-4)


def test_the_table_is_monotone_and_exact_to_a_few_percent_of_the_rate():
    table, rng = rarity_table(4.4), np.random.default_rng(0)
    assert (np.diff(table, axis=1) >= 0).all() and table[:, 0] == pytest.approx(0, abs=1e-6)
    for texture, ratio in rng.uniform((0, 0), (2, 40), (200, 2)):
        exact = rarity(np.array([ratio]), looks=4.4, texture=texture)[0]
        if exact < 14:
            at = [torch.tensor(np.sqrt([[v]]), dtype=torch.float32) for v in (texture, ratio)]
            assert COARSE.net._look_up(*at).item() == pytest.approx(exact, abs=0.01)


def test_what_lies_under_the_mask_and_beyond_the_border_does_not_count():
    vv, valid = sea((90, 97), seed=7), np.ones((90, 97), bool)
    valid[40:, 60:] = valid[:7] = False
    one = answers(held(np.where(valid, vv, 0), valid=valid))
    assert np.array_equal(one, answers(held(np.where(valid, vv, 30), valid=valid)))
    padded = np.zeros((110, 137), np.float32), np.zeros((110, 137), bool)
    for whole, part in zip(padded, (vv, valid), strict=True):
        whole[13:103, 21:118] = part
    assert np.array_equal(one, answers(held(padded[0], valid=padded[1]))[13:103, 21:118])


def test_too_little_sea_is_not_tested():
    vv, valid = sea((60, 60), seed=8), np.zeros((60, 60), bool)
    valid[30:33, 30:33] = True
    vv[31, 31] = 20
    assert not answers(held(vv, valid=valid)).any()
    assert answers(held(vv))[31, 31] > 0.8


def test_two_bands_are_two_chances():
    vv = sea((80, 80), seed=10)
    one, two = answers(held(vv)), answers(held(vv, vv))
    rare = one > 0.1
    expected = MIDDLE * one[rare] / (1 - one[rare]) - np.log10(2)
    assert np.allclose(MIDDLE * two[rare] / (1 - two[rare]), expected, atol=1e-4)
    vh = sea((80, 80), seed=11)
    vh[40, 40] = 5
    assert answers(held(vv, vh))[40, 40] > 0.8
    assert np.array_equal(one, answers(held(vv, names=("hh",))))


@pytest.mark.parametrize(("units", "store"), [("linear", lambda p: p), ("amplitude", np.sqrt)])
def test_units_do_not_matter(units, store):
    vv = sea((90, 90), seed=12)
    vv[40:43, 40:43] = 10
    stored = store(10 ** (vv / 10)).astype(np.float32)
    assert np.allclose(answers(held(vv)), answers(held(stored, units=units)), atol=0.01)


def test_an_engine_is_not_tried_and_the_number_format_is_its_own(monkeypatch):
    monkeypatch.setattr(engine_module, "_cost", None)
    data, valid = torch.zeros(1, 4, 64, 64), torch.ones(1, 64, 64, dtype=torch.bool)
    for dtype in ("auto", "fp32"):
        chosen = choose_engine(COARSE, data, valid, device="cpu", dtype=dtype)
        assert chosen.dtype == "fp32" and not chosen.channels_last
    with pytest.raises(ModelError, match="no weights that could be bf16"):
        choose_engine(COARSE, data, valid, device="cpu", dtype="bf16")


def test_it_is_there_by_name_and_never_chosen_unasked():
    s = held(sea((64, 64)), sea((64, 64)), gsd=10.0)
    assert load_model("cfar").spec == load_spec("cfar") and "cfar" not in bundled()
    assert choose_model(s) == "vessels-sar" and choose_model(s, "detect") == "points-sar"


@pytest.mark.parametrize("gsd", [10.0, 20.0, 40.0])
def test_the_ring_has_the_same_metres_in_every_scene(gsd):
    net = load_for(held(sea((64, 64)), gsd=gsd), "cfar").net
    assert (net.guard * gsd, net.outer * gsd) == (200, 400)


def test_points_that_are_close_and_outlines_that_are_small_are_left_out():
    vv = sea((160, 160), seed=15)
    vv[60:62, 60:62] = vv[60:62, 64:66] = -2
    vv[100, 100:102] = -2
    s = held(vv, gsd=10.0)
    model = build_cfar(guard_m=100.0, outer_m=200.0)
    assert len(segment(s, model).detections) == 2 and len(detect(s, model).detections) == 1
    model.spec = replace(model.spec, separation=20.0)
    assert len(detect(s, model).detections) == 2
