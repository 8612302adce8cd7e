import json
import math

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import box

from xtgeo.errors import LabelError
from xtgeo.evaluate.compare import Rule, compare, default_rule
from xtgeo.evaluate.figures import average_precision, curve, report
from xtgeo.evaluate.objects import Columns, read_objects
from xtgeo.evaluate.place import measure

IOU = Rule("iou", 0.3)


def frame(geometry, crs="EPSG:32632", **columns):
    return gpd.GeoDataFrame(columns, geometry=list(geometry), crs=crs)


def write(path, geometry, crs="EPSG:32632", **columns):
    table = frame(geometry, crs, **columns)
    table.to_parquet(path) if path.suffix == ".parquet" else table.to_file(path)
    return path


def ships(n, seed, side=3000):
    """Slim boxes in a square of UTM zone 32, far enough from its middle meridian for the scale to matter."""
    rng = np.random.default_rng(seed)
    x, y = 700_000 + rng.uniform(0, side, n), 6_000_000 + rng.uniform(0, side, n)
    length, width = rng.uniform(40, 300, n), rng.uniform(15, 50, n)
    turn = rng.uniform(0, 180, n)
    boxes = [shapely.affinity.rotate(box(a, b, a + w, b + h), t) for a, b, w, h, t in zip(x, y, length, width, turn, strict=True)]
    return np.array(boxes, object)


def shaken(boxes, seed, by=40):
    moves = np.random.default_rng(seed).uniform(-by, by, (len(boxes), 2))
    return [shapely.transform(b, lambda xy, d=d: xy + d) for b, d in zip(boxes, moves, strict=True)]


def outcome_of(tmp_path, found, true, rule=IOU, crs=("EPSG:32632", "EPSG:32632"), **scores):
    pair = write(tmp_path / "p.gpkg", found, crs[0], **scores), write(tmp_path / "l.gpkg", true, crs[1])
    return compare(*read_objects(pair[:1], pair[1:]), rule)


@pytest.mark.parametrize("lat", [-72.0, 0.0, 55.0, 84.0, 89.9])
@pytest.mark.parametrize("lon", [10.0, 179.9999])
def test_sizes_are_true_metres_anywhere(tmp_path, lon, lat):
    """A ship of 200 x 40 m in a projection made for its place."""
    local = f"+proj=laea +lat_0={lat} +lon_0={lon} +ellps=WGS84 +units=m"
    ship = shapely.affinity.rotate(box(-100, -20, 100, 20), 30, origin=(0, 0))
    path = write(tmp_path / "s.parquet", [ship], local)
    at = read_objects([path], [path])[1].at
    assert at.area_m2[0] == pytest.approx(8000, rel=1e-4) and at.length_m[0] == pytest.approx(200, rel=1e-4)
    assert at.lat[0] == pytest.approx(lat, abs=1e-6) and math.cos(math.radians(at.lon[0] - lon)) == pytest.approx(1)
    assert at.radius_m[0] == pytest.approx(math.hypot(100, 20), rel=1e-4)


def test_what_is_cut_at_the_antimeridian_is_whole_again(tmp_path):
    halves = shapely.multipolygons([box(179.999, -10, 180, -9.999), box(-180, -10, -179.998, -9.999)])
    uncut = box(179.999, -10, 180.002, -9.999)
    wrapped = shapely.transform(uncut, lambda xy: np.where(xy > 180, xy - [360, 0], xy))
    utm = gpd.GeoSeries([uncut], crs="EPSG:4326").to_crs("EPSG:32701")[0]
    for other, crs in ((uncut, "EPSG:4326"), (wrapped, "EPSG:4326"), (utm, "EPSG:32701")):
        pair = write(tmp_path / "p.parquet", [halves], "EPSG:4326"), write(tmp_path / "l.parquet", [other], crs)
        found, true = read_objects(pair[:1], pair[1:])
        assert found.at.area_m2[0] == pytest.approx(true.at.area_m2[0], rel=1e-6)
        assert compare(found, true, Rule("iou", 0.999)).partner.tolist() == [0]
        assert abs(found.at.lon[0]) > 179.99


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:25833", "EPSG:3035"])
@pytest.mark.parametrize("rule", [IOU, Rule("centre", 0.5), Rule("distance", 35.0)])
def test_the_crs_of_the_labels_changes_nothing(tmp_path, crs, rule):
    true = ships(60, 0)
    found = shaken(true, 1)
    same = outcome_of(tmp_path, found, true, rule)
    other = gpd.GeoSeries(list(true), crs="EPSG:32632").to_crs(crs)
    moved = outcome_of(tmp_path, found, other, rule, crs=("EPSG:32632", crs))
    assert 0 < (same.partner >= 0).sum() < 60
    assert moved.partner.tolist() == same.partner.tolist()
    assert moved.true.size == pytest.approx(same.true.size, rel=1e-4)


def test_distances_are_those_on_the_ground_and_not_of_the_projection(tmp_path):
    """In Web Mercator at 60 degrees north, 390 m on the map are 195 m on the ground."""
    x, y = 1_000_000.0, 8_400_000.0
    near = outcome_of(tmp_path, [shapely.Point(x + 390, y)], [shapely.Point(x, y)], Rule("distance", 200), crs=("EPSG:3857",) * 2)
    far = outcome_of(tmp_path, [shapely.Point(x + 410, y)], [shapely.Point(x, y)], Rule("distance", 200), crs=("EPSG:3857",) * 2)
    assert (near.partner.tolist(), far.partner.tolist()) == ([0], [-1])


def coco(found, score, true, iou):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def xywh(polygon):
        x0, y0, x1, y1 = polygon.bounds
        return [x0 - 700_000, y0 - 6_000_000, x1 - x0, y1 - y0]

    truth, answers = COCO(), COCO()
    base = {"image_id": 1, "category_id": 1, "iscrowd": 0}
    for data, boxes in ((truth, true), (answers, found)):
        notes = [{"id": n + 1, "bbox": xywh(b), "area": b.area, **base} for n, b in enumerate(boxes)]
        if data is answers:
            notes = [note | {"score": float(s)} for note, s in zip(notes, score, strict=True)]
        data.dataset = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": notes}
        data.createIndex()
    judge = COCOeval(truth, answers, "bbox")
    judge.params.iouThrs, judge.params.maxDets = np.array([iou]), [1, 10, 10_000]
    judge.evaluate()
    judge.accumulate()
    return float(judge.eval["precision"][0, :, 0, 0, 2].mean())


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_coco(tmp_path, seed):
    pytest.importorskip("pycocotools")
    rng = np.random.default_rng(seed)
    true = [box(*b.bounds) for b in ships(50, seed)]
    found = shaken(true[:40], seed, 60) + shaken(true[:20], seed + 9, 60) + [box(*b.bounds) for b in ships(30, seed + 1)]
    score = rng.random(len(found)).round(2)
    ours = report(outcome_of(tmp_path, found, true, score=score), resamples=0).overall.average_precision.value
    assert 0.05 < ours < 0.95 and ours == pytest.approx(coco(found, score, true, 0.3), abs=1e-9)


def test_average_precision_by_hand():
    """Right, false, right of four labels: 1 up to a recall of 1/4, 2/3 up to 1/2, nothing beyond."""
    recall, precision = np.array([0.25, 0.25, 0.5]), np.array([1.0, 0.5, 2 / 3])
    assert average_precision(recall, precision) == pytest.approx((26 * 1 + 25 * 2 / 3) / 101)
    assert average_precision(np.empty(0), np.empty(0)) == 0


def test_ignored_labels_are_neither_missed_nor_false(tmp_path):
    true = [box(x, 0, x + 100, 50) for x in (0, 1000, 2000, 3000)]
    found = [true[0], true[1], shapely.transform(true[1], lambda xy: xy + 5), box(8000, 0, 8100, 50)]
    labels = write(tmp_path / "l.gpkg", true, confidence=["HIGH", "LOW", "low", None])
    predictions = write(tmp_path / "p.gpkg", found, score=[0.5, 0.9, 0.8, 0.7])
    plain = report(compare(*read_objects([predictions], [labels], Columns(ignore={})), IOU), resamples=0)
    assert (plain.overall.labels, plain.overall.predictions, plain.overall.pairs) == (4, 4, 2)
    usual = report(compare(*read_objects([predictions], [labels]), IOU), resamples=0)
    assert usual.ignored_labels == 2 and usual.overall.labels == 2, "LOW, unless told otherwise"
    told = report(compare(*read_objects([predictions], [labels], Columns(ignore={"confidence": ("LOW", "")})), IOU), resamples=0)
    assert (told.overall.labels, told.overall.predictions, told.overall.pairs) == (1, 2, 1)
    assert (told.ignored_labels, told.neutral_predictions) == (3, 2)
    assert told.overall.average_precision.value == pytest.approx(0.5)


def test_a_label_that_counts_comes_before_one_that_is_ignored(tmp_path):
    labels = write(tmp_path / "l.gpkg", [box(0, 0, 100, 50), box(0, 0, 101, 50)], sure=["no", "yes"])
    predictions = write(tmp_path / "p.gpkg", [box(0, 0, 100, 50)], score=[0.5])
    outcome = compare(*read_objects([predictions], [labels], Columns(ignore={"sure": ("no",)})), IOU)
    assert outcome.partner.tolist() == outcome.by_score.tolist() == [1] and not outcome.neutral.any()


def test_a_pair_agrees_in_class_and_a_label_without_class_is_ignored(tmp_path):
    true = [box(x, 0, x + 100, 50) for x in (0, 1000, 2000)]
    labels = write(tmp_path / "l.gpkg", true, kind=["cargo", "cargo", None])
    predictions = write(tmp_path / "p.gpkg", true, kind=["cargo", "tanker", "tanker"])
    answer = report(compare(*read_objects([predictions], [labels], Columns(kind="kind")), IOU), resamples=0)
    assert {c.name: (c.labels, c.predictions, c.pairs) for c in answer.classes} == {"cargo": (2, 1, 1), "tanker": (0, 1, 0)}
    assert (answer.overall.labels, answer.overall.predictions, answer.overall.pairs) == (2, 2, 1)
    assert math.isnan(answer.classes[1].recall.value) and answer.overall.average_precision is None
    assert "no scores" in str(answer) and json.loads(json.dumps(answer.as_dict()))["classes"][1]["recall"]["value"] is None


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_bins_of_size_hold_every_label_once_and_the_figures_hang_together(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    true = ships(int(rng.integers(1, 30)), seed)
    keep = rng.random(len(true)) < 0.6
    found = [*np.array(shaken(true, seed + 1), object)[keep], *ships(int(rng.integers(0, 9)), seed + 2)]
    outcome = outcome_of(tmp_path_factory.mktemp("s"), found, true, score=rng.random(len(found)))
    answer = report(outcome, resamples=30, seed=seed)
    every = answer.overall
    assert sum(b.labels for b in answer.sizes) == every.labels and sum(b.found for b in answer.sizes) == every.pairs
    assert answer.as_dict() == report(outcome, resamples=30, seed=seed).as_dict()
    assert outcome.is_missed.sum() == every.labels - every.pairs and outcome.is_false.sum() == every.predictions - every.pairs
    for figure in (every.recall, every.f1):
        assert 0 <= figure.low <= figure.high <= 1
    if len(found):
        p, r = every.precision.value, every.recall.value
        assert every.f1.value == pytest.approx(2 * p * r / (p + r) if p + r else 0)
        recall, precision, score = curve(outcome)
        assert (np.diff(recall) >= 0).all() and (np.diff(score) <= 0).all() and len(score) == len(found)


def test_sizes_come_from_a_column_where_there_is_one(tmp_path):
    points = [shapely.Point(700_000, 6_000_000 + 999 * k) for k in range(3)]
    labels = write(tmp_path / "l.gpkg", points, vessel_length_m=[20.0, 150.0, None])
    predictions = write(tmp_path / "p.gpkg", [shapely.Point(700_000, 6_000_010)], presence_score=[0.7])
    found, true = read_objects([predictions], [labels])
    assert found.score.tolist() == [0.7] and default_rule(found, true) == Rule("distance", 200.0)
    answer = report(compare(found, true, Rule("distance", 200.0)), bins=(0, 100), resamples=10)
    assert [(b.labels, b.found) for b in answer.sizes] == [(1, 1), (1, 0), (1, 0)] and math.isnan(answer.sizes[2].low)
    assert "not known" in str(answer)
    ours = read_objects([predictions], [labels], Columns(size="vessel_length_m"))[1]
    assert np.array_equal(ours.size, true.size, equal_nan=True)


def scenes(tmp_path, n, name="scene{}", suffix="_labels"):
    p, q = [], []
    for k in range(n):
        true = ships(12, k)
        p.append(write(tmp_path / f"{name.format(k)}.gpkg", shaken(true, k + 50, 15 * k), score=np.linspace(0.1, 0.9, 12)))
        q.append(write(tmp_path / f"{name.format(k)}{suffix}.gpkg", true))
    return p, q


def test_scenes_are_paired_by_the_names_of_their_files_and_resampled_where_there_are_five(tmp_path):
    p, q = scenes(tmp_path, 5)
    found, true = read_objects(p, q[::-1])
    assert set(found.scene) == set(true.scene) == {f"scene{k}" for k in range(5)}
    answer = report(compare(found, true, IOU), resamples=200)
    assert (answer.scenes, answer.resampled) == (5, "scenes") and answer.overall.recall.low < answer.overall.recall.high
    single = [report(compare(*read_objects([a], [b]), IOU), resamples=0).overall.pairs for a, b in zip(p, q, strict=True)]
    assert sum(single) == answer.overall.pairs
    few = report(compare(*read_objects(p[:2], q[:2]), IOU), resamples=50)
    assert few.resampled == "objects"


def test_objects_of_another_scene_at_the_same_place_are_no_pair(tmp_path):
    true = ships(5, 0)
    p = write(tmp_path / "p.gpkg", [*true, *true], scene_id=["a"] * 5 + ["b"] * 5)
    q = write(tmp_path / "q.gpkg", [*true, *true], scene_id=["a"] * 5 + ["c"] * 5)
    answer = report(compare(*read_objects([p], [q]), IOU), resamples=0)
    assert (answer.overall.pairs, answer.overall.labels, answer.unlabelled_scenes) == (5, 10, 1)


def test_a_scene_in_which_nothing_was_found_counts(tmp_path):
    p, q = scenes(tmp_path, 3)
    write(p[1], frame([box(0, 0, 1, 1)]).geometry[:0], score=[])
    answer = report(compare(*read_objects(p, q), IOU), resamples=0)
    assert answer.overall.labels == 36 and answer.overall.predictions == 24
    nothing = report(compare(*read_objects(p[1:2], q[1:2]), IOU), resamples=5)
    assert nothing.overall.recall.value == 0 and math.isnan(nothing.overall.precision.value)
    assert nothing.overall.average_precision.value == 0 and str(nothing)


def test_names_that_do_not_belong_together_are_refused(tmp_path):
    p, q = scenes(tmp_path, 2)
    other = write(tmp_path / "elsewhere.gpkg", ships(3, 1))
    with pytest.raises(LabelError, match="no predictions belong to the labels of elsewhere"):
        read_objects(p, [*q, other])
    a, b = (write(tmp_path / f"{s}.gpkg", ships(2, 0), scene_id=[s, s]) for s in ("x", "y"))
    with pytest.raises(LabelError, match="labels of y; there are predictions of x"):
        read_objects([a], [b])


def no_crs(path):
    return write(path, ships(2, 0), None)


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (no_crs, "has no CRS"),
        (lambda p: write(p, [shapely.Polygon([(0, 0), (9, 9), (9, 0), (0, 9)])]), "1 geometries are invalid.*Self-intersection"),
        (lambda p: write(p, [box(0, 0, 9, 9), None]), "1 objects have no geometry, the first is number 2"),
        (lambda p: write(p, [shapely.LineString([(0, 0), (9, 9)])]), "holds LineString"),
        (lambda p: write(p, ships(2, 0)[:0]), "no label in"),
        (lambda p: write(p, [box(0, 0, 99, 4000)], "EPSG:4326"), "outside the area of its CRS WGS 84"),
        (lambda p: write(p, [box(0, 0, 1, 1)], "EPSG:4326"), "nowhere near each other"),
    ],
)
def test_labels_that_cannot_be_used_are_one_line(tmp_path, make, told):
    good, bad = write(tmp_path / "good.gpkg", ships(3, 0)), make(tmp_path / "bad.parquet")
    with pytest.raises(LabelError, match=told) as caught:
        compare(*read_objects([good], [bad]), IOU)
    assert "\n" not in str(caught.value)


def test_what_is_no_vector_file_is_one_line(tmp_path):
    (tmp_path / "t.gpkg").write_text("no file of any kind")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    (tmp_path / "e.csv").write_text("")
    good = write(tmp_path / "good.gpkg", ships(3, 0))
    for name, told in (("t.gpkg", "cannot be read"), ("t.csv", "no columns lon and lat"), ("e.csv", "cannot be read")):
        with pytest.raises(LabelError, match=told):
            read_objects([tmp_path / name], [good])


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (Columns(score="sure"), "'sure' .--score-column.; it has score, kind"),
        (Columns(kind="what"), "--class-column"),
        (Columns(size="tonnage"), "--size"),
        (Columns(ignore={"sure": ("no",)}), "--ignore"),
        (Columns(score="kind"), "must hold numbers"),
    ],
)
def test_columns_that_are_not_there_are_named(tmp_path, columns, told):
    path = write(tmp_path / "p.gpkg", ships(3, 0), score=[1.0, 0.5, 0.2], kind=["a", "b", "b"])
    with pytest.raises(LabelError, match=told):
        read_objects([path], [path], columns)


def test_points_have_no_overlap(tmp_path):
    point = write(tmp_path / "p.gpkg", [shapely.Point(700_000, 6_000_000)])
    with pytest.raises(LabelError, match="distance=200m"):
        compare(*read_objects([point], [point]), IOU)


def test_rules_are_read_and_printed_alike():
    assert [str(Rule.parse(text)) for text in ("iou=0.3", "centre = 0.5", "distance=0.2km", "distance=50")] == [
        "iou=0.3", "centre=0.5", "distance=200m", "distance=50m",
    ]  # fmt: skip
    for text in ("iou", "iou=2", "iou=0", "distance=200px", "overlap=0.3", "iou=0.3.1"):
        with pytest.raises(LabelError, match="write it as"):
            Rule.parse(text)


def test_nothing_is_measured_as_nothing():
    assert len(measure(np.empty(0, object)).lon) == 0
