import json
import math

import numpy as np
import pytest
import rasterio
from affine import Affine

from xtgeo.errors import LabelError
from xtgeo.evaluate import raster
from xtgeo.evaluate.raster import compare_rasters

PLACE = Affine(10, 0, 500_000, 0, -10, 6_000_000)


def write(path, classes, nodata=255, place=PLACE, crs="EPSG:32632", **options):
    h, w = classes.shape[-2:]
    bands = classes.reshape(-1, h, w)
    with rasterio.open(
        path, "w", driver="GTiff", height=h, width=w, count=len(bands), dtype=bands.dtype, nodata=nodata, crs=crs,
        transform=place, **options,
    ) as file:  # fmt: skip
        file.write(bands)
    return path


def classes(seed, shape=(213, 307), n=3):
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, n, (-(-shape[0] // 9), -(-shape[1] // 9))).astype(np.uint8)
    return np.kron(blocks, np.ones((9, 9), np.uint8))[: shape[0], : shape[1]]


def by_hand(found, true, value, valid):
    a, b = (found == value) & valid, (true == value) & valid
    both = (a & b).sum()
    return both / (a | b).sum(), both / a.sum(), both / b.sum(), 2 * both / (a.sum() + b.sum())


@pytest.mark.parametrize("step", [50, 64, 4096])
def test_however_it_is_cut_into_windows_the_figures_are_those_of_the_whole(tmp_path, monkeypatch, step):
    monkeypatch.setattr(raster, "STEP", step)
    true = classes(0)
    found = np.where(np.random.default_rng(1).random(true.shape) < 0.2, classes(2), true)
    found[:20, 30:] = 255
    true = true.copy()
    true[100:, :7] = 9
    valid = (found != 255) & (true != 9)
    pair = write(tmp_path / "p.tif", found, tiled=True, blockxsize=32, blockysize=48), write(tmp_path / "t.tif", true, 9)
    answer = compare_rasters([pair])
    assert [c.value for c in answer.classes] == [0, 1, 2]
    assert (answer.pixels, answer.left_out) == (valid.sum(), (~valid).sum())
    assert answer.accuracy.value == pytest.approx((found == true)[valid].mean())
    for c in answer.classes:
        figures = c.iou.value, c.precision.value, c.recall.value, c.f1.value
        assert figures == pytest.approx(by_hand(found, true, c.value, valid))
        assert (c.predicted, c.true) == (((found == c.value) & valid).sum(), ((true == c.value) & valid).sum())


def test_pixels_of_an_ignored_class_do_not_count(tmp_path):
    true, found = classes(0), classes(5)
    pair = write(tmp_path / "p.tif", found), write(tmp_path / "t.tif", true)
    answer = compare_rasters([pair], ignore=[2])
    keep = true != 2
    assert answer.pixels == keep.sum() and answer.left_out == (~keep).sum()
    assert answer.classes[1].iou.value == pytest.approx(by_hand(found, true, 1, keep)[0])


def test_large_and_negative_classes_and_float_files_are_counted(tmp_path):
    true = np.array([[-5, 0, 16_000_000, 7]], np.float32)
    answer = compare_rasters([(write(tmp_path / "p.tif", true, None), write(tmp_path / "t.tif", true.astype(np.int32), None))])
    assert [(c.value, c.iou.value) for c in answer.classes] == [(-5, 1.0), (0, 1.0), (7, 1.0), (16_000_000, 1.0)]


def test_a_class_that_is_nowhere_true_has_no_recall(tmp_path):
    true = np.zeros((20, 30), np.uint8)
    found = true.copy()
    found[3, 4] = 1
    answer = compare_rasters([(write(tmp_path / "p.tif", found), write(tmp_path / "t.tif", true))])
    ship = answer.classes[1]
    assert (ship.iou.value, ship.precision.value) == (0, 0) and math.isnan(ship.recall.value)
    assert json.loads(json.dumps(answer.as_dict()))["classes"][1]["recall"]["value"] is None and "-" in str(answer)


def test_five_scenes_are_resampled_and_four_are_not(tmp_path):
    pairs = []
    for k in range(5):
        true = classes(k, (40, 51))
        found = np.where(np.random.default_rng(k).random(true.shape) < 0.1 * k, 0, true)
        pairs.append((write(tmp_path / f"p{k}.tif", found), write(tmp_path / f"t{k}.tif", true)))
    five, four = compare_rasters(pairs, resamples=200), compare_rasters(pairs[:4], resamples=200)
    assert five.classes[1].iou.low < five.classes[1].iou.value < five.classes[1].iou.high and five.resampled == "scenes"
    assert math.isnan(four.classes[1].iou.low) and four.resampled == "nothing" and "too few" in str(four)
    assert five == compare_rasters(pairs, resamples=200)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"place": Affine(10, 0, 500_005, 0, -10, 6_000_000)}, "do not lie on one grid.*gdalwarp"),
        ({"crs": "EPSG:32633"}, "do not lie on one grid"),
        ({"classes": np.zeros((30, 41), np.uint8)}, "do not lie on one grid"),
        ({"classes": np.full((30, 40), 0.5, np.float32)}, "are no classes"),
        ({"classes": np.zeros((2, 30, 40), np.uint8)}, "has 2 bands"),
        ({"classes": np.full((30, 40), 255, np.uint8)}, "no pixel has a value in both"),
    ],
)
def test_rasters_that_cannot_be_compared_are_one_line(tmp_path, options, told):
    options = {"classes": np.zeros((30, 40), np.uint8), **options}
    good = write(tmp_path / "p.tif", np.zeros((30, 40), np.uint8))
    with pytest.raises(LabelError, match=told) as caught:
        compare_rasters([(good, write(tmp_path / "t.tif", **options))])
    assert "\n" not in str(caught.value)
