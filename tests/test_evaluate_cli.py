import json
import shutil
import sys

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from shapely import box
from typer.testing import CliRunner
from xtgeo.cli import app

from xtgeo.errors import XtgeoError
from xtgeo.evaluate.pairing import pair_files, spell


def run(*words):
    """Exit code, what is printed, and our error in one line where there is one."""
    result = CliRunner().invoke(app, ["evaluate", *map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit | XtgeoError):
        raise result.exception
    error = str(result.exception) if isinstance(result.exception, XtgeoError) else result.stderr
    return result.exit_code, result.stdout, error


@pytest.fixture
def folder(tmp_path):
    """Ten ships of 100 m and more, of which the last two are missed, two false predictions, and a scene under them."""
    x, y = 500_000 + 400 * np.arange(10), 6_000_000 - 300 * np.arange(10)
    true = [box(a, b - 40, a + 100 + 10 * k, b) for k, (a, b) in enumerate(zip(x, y, strict=True))]
    found = [*true[:8], box(501_000, 5_999_900, 501_060, 5_999_950), box(503_000, 5_999_000, 503_060, 5_999_050)]
    kind = ["cargo", "tanker"] * 5
    gpd.GeoDataFrame({"class": kind, "sure": ["yes"] * 9 + ["no"]}, geometry=true, crs=32632).to_file(tmp_path / "a_labels.gpkg")
    scores = {"score": np.linspace(0.95, 0.5, 10), "class": kind}
    gpd.GeoDataFrame(scores, geometry=found, crs=32632).to_file(tmp_path / "a.gpkg", layer="detections")
    sea = np.random.default_rng(0).gamma(4, 0.01, (2, 330, 420)).astype(np.float32)
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=330, width=420, count=2, dtype="float32", nodata=0, crs=32632,
        transform=Affine(10, 0, 499_900, 0, -10, 6_000_100),
    ) as file:  # fmt: skip
        file.write(sea)
        file.descriptions = ("vv", "vh")
    return tmp_path


def test_both_command_lines_of_the_group_work(folder, shared):
    code, text, _ = run("--predictions", folder / "a.gpkg", "--labels", folder / "a_labels.gpkg")
    assert code == 0 and "recall by length" in text and "pairs by iou=0.3" in text
    case = shared / "golden" / "xview3_metric" / "12_random"
    words = ("--predictions", case / "predictions.csv", "--labels", case / "labels.csv", "--shore", case / "shoreline")
    code, text, _ = run("xview3", *words, "--allow-pickle", "--json")
    golden = json.loads((case.parent / "golden.json").read_text())["12_random"]["official"]
    assert code == 0 and {name: json.loads(text)[name] for name in golden} == pytest.approx(golden, abs=1e-9, rel=0)
    code, text, _ = run("xview3", *words, "--allow-pickle", "--mode", "strict")
    assert code == 0 and "mode strict" in text and "quirks" in text


def test_json_says_all_figures(folder):
    words = ("--predictions", folder / "a.gpkg", "--labels", folder / "a_labels.gpkg")
    options = ("--class-column", "class", "--ignore", "sure=no", "--bins", "0,150", "--match", "centre=0.5")
    code, text, _ = run(*words, *options, "--json")
    answer = json.loads(text)
    assert code == 0 and answer["match"] == "centre=0.5" and answer["ignored_labels"] == 1
    assert answer["overall"]["recall"]["value"] == pytest.approx(8 / 9) and answer["overall"]["average_precision"]["value"] > 0.8
    assert [c["name"] for c in answer["classes"]] == ["cargo", "tanker"]
    assert [(b["labels"], b["found"]) for b in answer["sizes"]] == [(5, 5), (4, 3)]
    assert run(*words, "--json", "--seed", "3")[1] == run(*words, "--json", "--seed", "3")[1] != run(*words, "--json")[1]


def test_pictures_show_the_curve_and_the_misses(folder):
    words = ("--predictions", folder / "a.gpkg", "--labels", folder / "a_labels.gpkg")
    curve, bare, shown = folder / "c.png", folder / "bare.png", folder / "shown.png"
    assert run(*words, "--curve", curve, "--misses", shown, "--scene", folder / "a.tif")[0] == 0
    assert run(*words, "--misses", bare)[0] == 0
    pixels = []
    for path in (shown, bare, curve):
        with Image.open(path) as picture:
            pixels.append(np.asarray(picture))
    assert pixels[0].shape == pixels[1].shape and pixels[2].shape[1] > 500
    # Two missed, the larger first, and two false: a fifth chip stays empty, the first has a yellow outline in its middle.
    chips = [[p[20:190, 176 * k + 4 : 176 * k + 170] for k in range(5)] for p in pixels[:2]]
    assert chips[0][3].std() > 20 and (chips[0][4] == (24, 26, 30)).all() and chips[0][0].std() > chips[1][0].std()
    yellow = (chips[0][0] == (255, 210, 0)).all(-1)
    red = (chips[0][2] == (255, 90, 60)).all(-1)
    assert yellow.any() and not (chips[0][0] == (255, 90, 60)).all(-1).any() and red.any()
    y, x = (np.mean(np.nonzero(yellow), 1) - 85) / 85
    assert abs(x) < 0.1 and abs(y) < 0.1
    code, _, error = run(*words, "--curve", folder / "d.png", "--misses", folder / "m.png", "--scene", folder / "nowhere.tif")
    assert code == 1 and "nowhere.tif" in error and not list(folder.glob("*d.png*")) and not list(folder.glob("*m.png*"))
    code, _, error = run(*words, "--curve", curve)
    assert code == 1 and "--overwrite" in error and run(*words, "--curve", curve, "--overwrite")[0] == 0


def test_without_matplotlib_a_curve_is_refused_before_the_work(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, error = run("--predictions", folder / "a.gpkg", "--labels", folder / "a_labels.gpkg", "--curve", folder / "c.png")
    assert code == 1 and "xtgeo-sat[plots]" in error and not (folder / "c.png").exists()


def test_a_curve_needs_scores(folder):
    words = ("--predictions", folder / "a_labels.gpkg", "--labels", folder / "a_labels.gpkg")
    code, _, error = run(*words, "--curve", folder / "c.png")
    assert code == 1 and "--score-column" in error and not (folder / "c.png").exists()


def test_patterns_give_many_scenes(folder):
    (folder / "results").mkdir()
    for k in range(5):
        for name in ("a", "a_labels"):
            gpd.read_file(folder / f"{name}.gpkg").to_file(folder / f"s{k}{name[1:]}.gpkg")
        shutil.copy(folder / "a_labels.gpkg", folder / "results" / f"s{k}_review.gpkg")
        shutil.move(folder / f"s{k}.gpkg", folder / "results")
    # The reviews there are of the predictions, and none themselves.
    words = ("--predictions", folder / "results" / "*.gpkg", "--labels", folder / "s*_labels.gpkg", "--json")
    answer = json.loads(run(*words)[1])
    assert (answer["scenes"], answer["resampled"], answer["overall"]["pairs"]) == (5, "scenes", 40)


def test_rasters_are_compared_by_name(folder):
    for name in ("x", "x_truth", "y", "y_truth"):
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="GTiff", height=40, width=31, count=1, dtype="uint8", nodata=255, crs=32632,
            transform=Affine(10, 0, 500_000, 0, -10, 6_000_000),
        ) as file:  # fmt: skip
            file.write(np.full((1, 40, 31), name[0] == "y", np.uint8))
    words = ("--raster", "--predictions", folder / "[xy].tif", "--labels", folder / "*_truth.tif")
    answer = json.loads(run(*words, "--json")[1])
    assert answer["accuracy"]["value"] == 1 and answer["scenes"] == 2
    assert json.loads(run(*words, "--json", "--ignore", "class=1")[1])["pixels"] == 40 * 31
    assert run(*words, "--match", "iou=0.3")[0] == 2 and run(*words, "--ignore", "class=ship")[0] == 2


def test_shorelines_are_converted_and_then_need_no_pickle(tmp_path, shared):
    case = shared / "golden" / "xview3_metric" / "09_shore"
    words = ("xview3", "--predictions", case / "predictions.csv", "--labels", case / "labels.csv", "--json")
    code, _, error = run(*words, "--shore", case / "shoreline")
    assert code == 1 and "--allow-pickle" in error
    assert run("shore", case / "shoreline", tmp_path / "plain")[0] == 1
    assert run("shore", case / "shoreline", tmp_path / "plain", "--allow-pickle")[0] == 0
    plain, pickled = run(*words, "--shore", tmp_path / "plain"), run(*words, "--shore", case / "shoreline", "--allow-pickle")
    assert plain[0] == 0 and plain[1] == pickled[1] and json.loads(plain[1])["loc_fscore_shore"] == pytest.approx(4 / 7)
    assert json.loads(run(*words)[1])["loc_fscore_shore"] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("--predictions", "a.gpkg"),
        ("xview3", "--labels", "a.csv"),
        ("--predictions", "a.gpkg", "--labels", "a_labels.gpkg", "--bins", "5,1"),
        ("--predictions", "a.gpkg", "--labels", "a_labels.gpkg", "--bins", "few"),
        ("--predictions", "a.gpkg", "--labels", "a_labels.gpkg", "--ignore", "sure"),
        ("--predictions", "a.gpkg", "--labels", "a_labels.gpkg", "--scene", "a.tif"),
        ("--predictions", "a.gpkg", "--labels", "a_labels.gpkg", "--size", "sure"),
        ("xview3", "--predictions", "a.gpkg", "--labels", "a_labels.gpkg", "--mode", "kind"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_exit_code_2(folder, monkeypatch, words):
    monkeypatch.chdir(folder)
    assert run(*words)[0] == 2


def test_files_that_are_not_there_are_one_line(folder):
    code, _, error = run("--predictions", folder / "z*.gpkg", "--labels", folder / "a_labels.gpkg")
    assert code == 1 and "no predictions found" in error
    code, _, error = run("--predictions", folder / "a.gpkg", "--labels", folder / "a_labels.gpkg", "--match", "iou")
    assert code == 1 and "iou=0.3" in error


def test_names_belong_together_up_to_a_mark():
    assert spell("port_labels", {"port", "port_labels_2", "po"}) == "port"
    assert spell("a", {"a_1", "b"}) == "a_1" and spell("a", {"a_1", "a_2"}) is None and spell("ab", {"a"}) is None
    assert pair_files(["x.tif"], ["y.tif"]) == [("x.tif", "y.tif")]
    with pytest.raises(XtgeoError, match="do not go into pairs: c"):
        pair_files(["a.tif", "b.tif", "c.tif"], ["a_t.tif", "b_t.tif"])
    with pytest.raises(XtgeoError, match="several files are called a"):
        pair_files(["a.tif", "x/a.tif"], ["a_t.tif", "b_t.tif"])
    with pytest.raises(XtgeoError, match="no predictions belong to the labels of c_t"):
        pair_files(["a.tif", "b.tif"], ["a_t.tif", "c_t.tif"])
