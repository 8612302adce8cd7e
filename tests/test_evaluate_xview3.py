import functools
import io
import json
import math
import pickle

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtgeo.errors import LabelError, OutputError
from xtgeo.evaluate.xview3 import SCORES, Rules, score
from xtgeo.evaluate.xview3_files import (
    LABELS,
    PREDICTIONS,
    check_scenes,
    convert_shorelines,
    read_labels,
    read_predictions,
    read_shoreline,
    write_predictions,
)

VARIANTS = {
    "official": Rules(),
    "no_drop_low": Rules(low="keep"),
    "no_costly": Rules(costly=False),
    "score_all": Rules(low="count"),
}
CASES = """01_basic 02_tolerance 03_hungarian_vs_greedy 04_duplicates 05_low_confidence 06_low_steals 06b_low_steals 07_classes
08_length 08b_length_floor 09_shore 10_shore_skip 11_scenes 12_random""".split()
A, B, C = (letter * 16 + "v" for letter in "abc")


def table(rows, columns=LABELS):
    """Rows of (scene, row, column) and then keywords over the defaults."""
    base = {"is_vessel": True, "is_fishing": None, "vessel_length_m": np.nan}
    base |= {"distance_from_shore_km": 9999.99, "confidence": "HIGH"}
    rows = [{**base, "scene_id": s, "detect_scene_row": r, "detect_scene_column": c, **more} for s, r, c, more in rows]
    typed = pd.DataFrame(rows, columns=list(columns))
    return typed.astype({"is_vessel": "boolean", "is_fishing": "boolean"})


def found(*rows):
    return table([(s, r, c, {"is_fishing": False, "vessel_length_m": 50.0, **more}) for s, r, c, more in rows], PREDICTIONS)


def labels(*rows):
    return table(rows)


def read_case(folder):
    shore = functools.partial(read_shoreline, folder=folder / "shoreline", allow_pickle=True)
    return read_predictions([folder / "predictions.csv"]), read_labels([folder / "labels.csv"]), shore


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_the_reference_mode_gives_the_golden_numbers(shared, case, variant):
    folder = shared / "golden" / "xview3_metric"
    golden = json.loads((folder / "golden.json").read_text())
    assert set(golden) == set(CASES)
    predictions, truth, shore = read_case(folder / case)
    answer = score(predictions, truth, shore=shore, rules=VARIANTS[variant])
    if "error" in golden[case][variant]:
        assert answer.total("loc").missed == 1 and answer.as_dict() == dict.fromkeys(SCORES, 0.0)
        assert answer.quirks["emptied"] == 1
    else:
        assert answer.as_dict() == pytest.approx(golden[case][variant], abs=1e-9, rel=0)


@pytest.mark.parametrize("case", CASES)
def test_modes_differ_only_where_a_quirk_touches_a_scene(shared, case):
    predictions, truth, shore = read_case(shared / "golden" / "xview3_metric" / case)
    reference, strict = (score(predictions, truth, shore=shore, rules=Rules(mode)) for mode in ("reference", "strict"))
    for a, b in zip(reference.scenes, strict.scenes, strict=True):
        assert a.scene_id == b.scene_id and (a == b or b.quirks - {"low_steals"})


def test_in_strict_mode_every_scene_counts():
    truth = labels((A, 100, 100, {}), (B, 100, 100, {}), (C, 100, 100, {"confidence": "LOW"}))
    predictions = found((A, 100, 100, {}), (C, 900, 900, {}), ("d", 5, 5, {}))
    reference, strict = (score(predictions, truth, rules=Rules(mode)) for mode in ("reference", "strict"))
    assert reference.loc_fscore == 1.0
    assert (strict.total("loc").right, strict.total("loc").false, strict.total("loc").missed) == (1, 2, 1)
    assert reference.quirks == strict.quirks and strict.quirks["no_predictions"] == 1 and strict.quirks["no_labels"] == 2


def test_near_the_shore_strict_counts_what_stands_alone():
    truth = labels((A, 500, 1150, {"distance_from_shore_km": 1.5}), (B, 500, 1150, {"distance_from_shore_km": 1.5}))
    predictions = found((A, 500, 1150, {}), (B, 500, 5000, {}))
    line = np.array([[500.0, 1000.0]])
    reference, strict = (score(predictions, truth, shore=lambda _: line, rules=Rules(mode)) for mode in ("reference", "strict"))
    assert (reference.loc_fscore_shore, strict.loc_fscore_shore) == (1.0, pytest.approx(2 / 3))
    assert reference.quirks["one_sided_shore"] == strict.quirks["one_sided_shore"] == 1
    none = score(predictions, truth, shore=lambda _: np.empty((0, 2)), rules=Rules("strict"))
    assert none.total("shore").missed == 2 and none.loc_fscore_shore == 0


def test_the_shore_is_near_up_to_22_hundred_metres_and_the_reference_does_not_see_a_vertex_that_is_hit():
    truth = labels((A, 0, 1000, {"distance_from_shore_km": 1.0}))
    for column, near in ((1220, True), (1221, False)):
        answer = score(found((A, 0, column, {})), truth, shore=lambda _: np.array([[0.0, 1000.0]]), rules=Rules("strict"))
        assert answer.total("shore").false == near
    hit, line = found((A, 0, 1000, {})), np.array([[0.0, 1000.0]])
    reference, strict = (score(hit, truth, shore=lambda _: line, rules=Rules(mode)) for mode in ("reference", "strict"))
    assert (reference.loc_fscore_shore, strict.loc_fscore_shore) == (0.0, 1.0)
    assert reference.quirks["on_vertex"] == strict.quirks["on_vertex"] == 1
    more = score(hit, truth, shore=lambda _: np.array([[0.0, 1000.0], [0.0, 1001.0]]))
    assert more.loc_fscore_shore == 1.0 and more.quirks["on_vertex"] == 0


def test_a_null_of_a_prediction_is_wrong_in_the_reference_and_says_no_in_strict():
    truth = labels((A, 0, 0, {"is_fishing": True}), (A, 0, 100, {"is_vessel": False}), (A, 0, 200, {}))
    predictions = found((A, 0, 0, {"is_fishing": None}), (A, 0, 100, {"is_vessel": None}), (A, 0, 200, {}))
    reference, strict = (score(predictions, truth, rules=Rules(mode)) for mode in ("reference", "strict"))
    assert (reference.total("vessel").right, reference.total("vessel").false) == (2, 1)
    assert (strict.total("vessel").right, strict.total("vessel").false) == (2, 0)
    assert reference.total("fishing").missed == strict.total("fishing").missed == 1
    assert strict.quirks["unknown_class"] == 1


def test_a_null_length_poisons_the_reference_and_is_an_error_of_one_in_strict():
    truth = labels((A, 0, 0, {"vessel_length_m": 100.0}), (A, 0, 100, {"vessel_length_m": 100.0}))
    predictions = found((A, 0, 0, {"vessel_length_m": np.nan}), (A, 0, 100, {"vessel_length_m": 100.0}))
    reference, strict = (score(predictions, truth, rules=Rules(mode)) for mode in ("reference", "strict"))
    assert math.isnan(reference.length_acc) and math.isnan(reference.aggregate) and reference.as_dict()["aggregate"] is None
    assert strict.length_acc == 0.5 and strict.quirks["unknown_length"] == 1
    assert "NaN" in str(reference)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_scenes_add_up_and_the_perfect_answer_is_one(seed):
    rng = np.random.default_rng(seed)
    rows = []
    for scene in (A, B, C):
        # Further apart than any two can be paired across.
        for k in range(rng.integers(1, 12)):
            kind = {"is_vessel": True, "is_fishing": True, "vessel_length_m": float(rng.uniform(9, 600))}
            rows.append((scene, 100 * k, int(rng.integers(0, 90)), {**kind, "distance_from_shore_km": 1.0}))
    truth = labels(*rows)
    perfect = score(truth[list(PREDICTIONS)], truth, shore=lambda _: np.stack(np.mgrid[0:1200:50, 0:1], -1).reshape(-1, 2) + 0.5)
    assert perfect.loc_fscore == perfect.length_acc == perfect.vessel_fscore == perfect.fishing_fscore == 1
    moved = truth.assign(detect_scene_row=truth["detect_scene_row"] + rng.integers(0, 30, len(truth)))
    whole = score(moved, truth, rules=Rules("strict"))
    parts = [score(moved[moved["scene_id"] == s], truth[truth["scene_id"] == s], rules=Rules("strict")) for s in (A, B, C)]
    assert whole.scenes == tuple(part.scenes[0] for part in parts)
    shuffled = score(moved.sample(frac=1, random_state=0), truth.sample(frac=1, random_state=1), rules=Rules("strict"))
    assert shuffled.total("loc") == whole.total("loc")


def test_a_low_label_takes_a_prediction_from_one_that_counts_and_that_is_told():
    truth = labels((A, 100, 100, {}), (A, 100, 110, {"confidence": "LOW"}))
    predictions = found((A, 100, 107, {}), (A, 2000, 2000, {}))
    for mode in ("reference", "strict"):
        answer = score(predictions, truth, rules=Rules(mode))
        assert answer.quirks["low_steals"] == 1 and answer.scenes[0].dropped == 1 and answer.total("loc").missed == 1


def test_rules_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="reference, strict"):
        Rules("lenient")


def write_csv(path, text):
    path.write_text(text)
    return path


HEAD = ",".join(PREDICTIONS)


def test_classes_with_gaps_are_read_as_what_they_are(tmp_path):
    """pandas makes objects of True, False and nothing, and bool(nan) is True."""
    path = write_csv(tmp_path / "p.csv", f"{HEAD}\n1,2,{A},True,,3.5\n1,2,{A},,false,\n1,2,{A},0,1,4\n")
    read = read_predictions([path])
    assert read["is_vessel"].tolist() == [True, pd.NA, False] and read["is_fishing"].tolist() == [pd.NA, False, True]
    assert read["vessel_length_m"].isna().tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("a,b\n1,2\n", "lack the column detect_scene_row"),
        (f"{HEAD}\n1,2,{A},maybe,True,3\n", "True, False or empty, found maybe"),
        (f"{HEAD}\n1,x,{A},True,True,3\n", "detect_scene_column must be a number, found x"),
        (f"{HEAD}\n1,,{A},True,True,3\n", "detect_scene_column is empty in 1 rows"),
    ],
)
def test_predictions_that_cannot_be_read_are_one_line(tmp_path, text, told):
    with pytest.raises(LabelError, match=told) as caught:
        read_predictions([write_csv(tmp_path / "p.csv", text)])
    assert "\n" not in str(caught.value) and "p.csv" in str(caught.value)


def test_labels_that_cannot_be_are_one_line(tmp_path):
    head = ",".join(LABELS)
    for row, told in ((f"1,2,{A},True,,3,1,SURE", "HIGH, MEDIUM, LOW, found SURE"), (f"1,2,{A},True,,0,1,LOW", "not positive")):
        with pytest.raises(LabelError, match=told):
            read_labels([write_csv(tmp_path / "l.csv", f"{head}\n{row}\n")])
    with pytest.raises(LabelError, match="no label"):
        read_labels([write_csv(tmp_path / "l.csv", f"{head}\n")])
    with pytest.raises(LabelError, match="cannot be read as a table"):
        read_labels([tmp_path / "missing.gpkg"])
    with pytest.raises(LabelError, match="no scene is in both"):
        check_scenes(found((A, 1, 1, {})), labels((B, 1, 1, {})))


def test_no_prediction_at_all_is_an_answer(tmp_path):
    predictions = read_predictions([write_csv(tmp_path / "p.csv", f"{HEAD}\n")])
    truth = labels((A, 1, 1, {}))
    check_scenes(predictions, truth)
    reference, strict = (score(predictions, truth, rules=Rules(mode)) for mode in ("reference", "strict"))
    assert reference.total("loc").missed == 0 and strict.total("loc").missed == 1 and strict.aggregate == 0


def points(n, seed):
    """A table as `xtgeo detect` makes it: nulls where it is no vessel."""
    rng = np.random.default_rng(seed)
    vessel = rng.random(n) < 0.7
    frame = pd.DataFrame(
        {
            "scene_id": rng.choice([A, B], n),
            "detect_scene_row": rng.integers(0, 400, n),
            "detect_scene_column": rng.integers(0, 400, n),
            "presence_score": rng.random(n).round(6),
            "is_vessel": pd.array(vessel, "boolean"),
            "is_fishing": pd.array(np.where(vessel, rng.random(n) < 0.4, None), "boolean"),
            "vessel_length_m": np.where(vessel, rng.uniform(10, 300, n), np.nan).round(1),
        }
    )
    return gpd.GeoDataFrame(frame, geometry=gpd.points_from_xy(rng.random(n), rng.random(n)), crs="EPSG:4326")


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".csv"])
@pytest.mark.parametrize("mode", ["reference", "strict"])
def test_points_and_their_challenge_table_have_one_score(tmp_path, suffix, mode):
    ours, theirs = tmp_path / f"points{suffix}", tmp_path / "challenge.csv"
    frame = points(80, 1)
    if suffix == ".gpkg":
        frame.to_file(ours, layer="detections")
    elif suffix == ".parquet":
        frame.to_parquet(ours)
    else:
        frame.to_csv(ours, index=False)
    write_predictions(frame, theirs)
    assert pd.read_csv(theirs).columns.tolist() == list(PREDICTIONS) and not pd.read_csv(theirs).isna().any().any()
    truth = points(60, 2).assign(distance_from_shore_km=1.0, confidence="HIGH")
    truth = pd.DataFrame(truth).astype({"detect_scene_row": float})[list(LABELS)]
    line = np.array([[200.0, 200.0]])
    direct, through = (score(read_predictions([p]), truth, shore=lambda _: line, rules=Rules(mode)) for p in (ours, theirs))
    assert direct == through and direct.aggregate > 0 and not direct.quirks["unknown_length"]
    with pytest.raises(OutputError, match="--overwrite"):
        write_predictions(frame, theirs)


def contours(*shapes):
    array = np.empty(len(shapes), object)
    for k, n in enumerate(shapes):
        array[k] = np.random.default_rng(k).uniform(0, 99, (n, 2))
    return array


def test_shorelines_as_plain_numbers_are_the_same_shorelines(tmp_path):
    for name, shore in ((A, contours(5, 3)), (B, contours())):
        np.save(tmp_path / f"{name}_shoreline.npy", shore, allow_pickle=True)
    for name in (A, B):
        with pytest.raises(LabelError, match="--allow-pickle"):
            read_shoreline(name, folder=tmp_path)
    out = tmp_path / "plain"
    with pytest.raises(LabelError, match="--allow-pickle"):
        convert_shorelines(tmp_path, out, allow_pickle=False)
    assert convert_shorelines(tmp_path, out, allow_pickle=True) == 2
    for name, shape in ((A, (8, 2)), (B, (0, 2))):
        plain = read_shoreline(name, folder=out)
        assert plain.shape == shape and np.array_equal(plain, read_shoreline(name, folder=tmp_path, allow_pickle=True))
    with np.load(out / f"{A}_shoreline.npz") as file:
        assert file["starts"].tolist() == [0, 5, 8]
    with pytest.raises(OutputError, match="--overwrite"):
        convert_shorelines(tmp_path, out, allow_pickle=True)
    with pytest.raises(LabelError, match="no shoreline of nowhere"):
        read_shoreline("nowhere", folder=out)


def test_contours_of_one_length_need_no_pickle(tmp_path):
    np.save(tmp_path / f"{A}_shoreline.npy", np.arange(12.0).reshape(2, 3, 2))
    assert read_shoreline(A, folder=tmp_path).tolist() == np.arange(12.0).reshape(6, 2).tolist()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("allow", [False, True])
def test_a_shoreline_runs_no_program_even_where_pickles_are_allowed(tmp_path, allow):
    bomb = np.empty(1, object)
    bomb[0] = Bomb(tmp_path / "ran")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": (1,), "fortran_order": False, "descr": "|O"})
    (tmp_path / f"{A}_shoreline.npy").write_bytes(header.getvalue() + pickle.dumps(bomb))
    with pytest.raises(LabelError, match="do not trust it" if allow else "--allow-pickle"):
        read_shoreline(A, folder=tmp_path, allow_pickle=allow)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", [f"{A}_shoreline.npy", f"{A}_shoreline.npz"])
def test_a_shoreline_that_is_none_is_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"no shoreline at all")
    with pytest.raises(LabelError, match="cannot be read"):
        read_shoreline(A, folder=tmp_path, allow_pickle=True)
    np.savez(tmp_path / f"{A}_shoreline.npz", vertices=np.zeros((4, 3)))
    with pytest.raises(LabelError, match="must be numbers of shape"):
        read_shoreline(A, folder=tmp_path)
