import json
import re
from base64 import b64decode
from dataclasses import replace
from io import BytesIO

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image
from test_view import PLACES, SHAPE, boxes, write_scene
from test_view_browser import BROWSER, WAIT, browser  # noqa: F401 (a fixture)
from typer.testing import CliRunner
from xtgeo.cli import app

from xtgeo import open_scene, report
from xtgeo.errors import LabelError, OutputError
from xtgeo.grid import lonlat_to_pixel, pixel_to_lonlat
from xtgeo.viewer import document
from xtgeo.viewer.overlay import read_overlay
from xtgeo.viewer.review import Review
from xtgeo.viewer.world import SceneMap
from xtgeo.write.tables import Tables, footprints, read_tables, write_tables


def write_result(folder, name, place="utm", *, found=True, run=None, suffix=".gpkg"):
    """A scene, and a result as `segment` writes it."""
    scene = open_scene(write_scene(folder / f"{name}.tif", PLACES[place]))
    corners, frame = boxes(scene)
    frame = frame.assign(
        detect_scene_row=corners[:, 0] + 4, detect_scene_column=corners[:, 1] + 4, length_m=80.0, area_m2=6400.0
    )
    frame["scene_id"] = name
    border = shapely.segmentize(shapely.box(0, 0, SHAPE[1], SHAPE[0]), 50)
    outline = shapely.transform(border, lambda xy: np.stack(pixel_to_lonlat(scene.grid, xy[:, 1], xy[:, 0]), 1))
    told = {"scene_id": name, "source": scene.href, "model_id": "bright", "threshold": 0.5} | (run or {})
    tables = Tables(frame if found else frame[:0], footprints([name], [outline], "EPSG:4326"), pd.DataFrame([told]))
    write_tables(tables, folder / f"{name}{suffix}")
    return scene, frame


def read(path):
    """The page, and what its map draws."""
    html = path.read_text(encoding="utf-8")
    return html, json.loads(re.search(r"<script type=application/json id=data>(.*?)</script>", html)[1])


def places(drawing):
    """Longitude and latitude of the objects of a drawing."""
    x, y = (np.array([o[i] for o in drawing["objects"]]) + drawing["origin"][i] for i in (0, 1))
    return x / drawing["fine"] * 360 - 180, np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * y / drawing["fine"]))))


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".geojson"])
def test_objects_are_counted_and_lie_where_they_are(tmp_path, suffix):
    scene, frame = write_result(tmp_path, "a", suffix=suffix)
    done = report(tmp_path / f"a{suffix}", tmp_path / "r.html")
    assert (done.scenes, done.objects, done.left_out) == (1, 12, ()) and done.size == (
        tmp_path / "r.html"
    ).stat().st_size
    html, drawing = read(tmp_path / "r.html")
    assert "12 objects in 1 scene" in html and "vessel" in html and "bright" in html
    there = {o[6]: place for o, *place in zip(drawing["objects"], *places(drawing), strict=True)}
    for name, row, column in frame[["detect_id", "detect_scene_row", "detect_scene_column"]].itertuples(index=False):
        assert np.hypot(*(np.array(lonlat_to_pixel(scene.grid, *there[name])) - (row, column))) < 0.1


@pytest.mark.parametrize("place", ["utm", "gcps", "gcps across the antimeridian"])
def test_the_picture_lies_under_its_objects(tmp_path, place):
    scene, _ = write_result(tmp_path, "a", place)
    assert not report(tmp_path / "a.gpkg", tmp_path / "r.html").left_out
    html, drawing = read(tmp_path / "r.html")
    picture = Image.open(BytesIO(b64decode(re.search(r"data:image/webp;base64,([^']+)", html)[1])))
    left, top, right, bottom = drawing["scenes"][0]["frame"]
    around = round(picture.width / (right - left) * drawing["fine"])
    scene_map = SceneMap(scene)
    scene_map.fill()
    corner = [(v + o) / drawing["fine"] * around for v, o in zip((top, left), drawing["origin"][::-1], strict=True)]
    alone = scene_map.paint(round(corner[0]), round(corner[1]), picture.height, picture.width, around)
    seen = (alone[..., 3] > 0) == (np.asarray(picture)[..., 3] > 127)
    assert seen.mean() > 0.99 and 0.2 < (alone[..., 3] > 0).mean() <= 1
    west = (left + drawing["origin"][0]) / drawing["fine"] * 360 - 180
    assert -1e-6 < (scene_map.bounds[0] - west + 180) % 360 - 180 < 360 / around, "it begins where the scene does"
    inside = [left <= o[0] <= right and top <= o[1] <= bottom for o in drawing["objects"]]
    assert all(inside) and drawing["scenes"][0]["rings"]


def test_a_folder_of_a_batch_says_what_failed_and_what_is_no_result(tmp_path):
    write_result(tmp_path, "a")
    write_result(tmp_path, "b", "gcps", found=False)
    failure = {"scene": "c", "href": "scenes/c.tif", "error": "<b>damaged</b>"}
    (tmp_path / "summary.json").write_text(json.dumps({"failures": [failure]}))
    gpd.GeoDataFrame({"x": [1]}, geometry=[shapely.Point(0, 0)], crs=4326).to_file(tmp_path / "labels.gpkg")
    done = report(tmp_path, tmp_path / "r.html")
    assert (done.scenes, done.objects) == (2, 12) and done.left_out == ("labels.gpkg is no result of xtgeo",)
    html, drawing = read(tmp_path / "r.html")
    assert "1 scene failed" in html and "&lt;b&gt;damaged" in html and "nothing was found" in html
    assert [s["name"] for s in drawing["scenes"]] == ["a", "b"] and all(s["frame"] for s in drawing["scenes"])


def test_of_a_large_scene_the_quicklook_is_laid_on_the_map(tmp_path, monkeypatch):
    scene, _ = write_result(tmp_path, "a", "gcps")
    colours = np.zeros((*SHAPE, 3), np.uint8)
    colours[: SHAPE[0] // 2, :, 0] = colours[SHAPE[0] // 2 :, :, 2] = 255
    Image.fromarray(colours).save(tmp_path / "a.png")
    monkeypatch.setattr(document, "AT_ONCE", 1000)
    report(tmp_path / "a.gpkg", tmp_path / "r.html")
    html, drawing = read(tmp_path / "r.html")
    picture = np.asarray(Image.open(BytesIO(b64decode(re.search(r"data:image/webp;base64,([^']+)", html)[1]))))
    left, top, right, bottom = drawing["scenes"][0]["frame"]
    for x, y, *_ in drawing["objects"]:
        lon, lat = places({**drawing, "objects": [[x, y]]})
        row = lonlat_to_pixel(scene.grid, lon, lat)[0][0]
        if abs(row - SHAPE[0] // 2) > 10:
            at = picture[
                int((y - top) / (bottom - top) * picture.shape[0]), int((x - left) / (right - left) * picture.shape[1])
            ]
            assert (at[0] > at[2]) == (row < SHAPE[0] // 2)


def test_a_source_that_is_elsewhere_is_not_fetched_and_said(tmp_path):
    write_result(tmp_path, "a", run={"source": "https://127.0.0.1:1/a.tif"})
    write_result(tmp_path, "b", run={"source": "gone.tif"})
    done = report([tmp_path / "a.gpkg", tmp_path / "b.gpkg"], tmp_path / "r.html")
    assert len(done.left_out) == 2 and "is not fetched" in done.left_out[0] and "is not there" in done.left_out[1]


def test_nothing_is_fetched_of_an_item_that_is_a_file(tmp_path, monkeypatch):
    asset = {"href": "https://127.0.0.1:1/a.tif", "type": "image/tiff; application=geotiff"}
    item = {"type": "Feature", "stac_version": "1.0.0", "id": "a", "properties": {}, "assets": {"vv": asset}}
    (tmp_path / "item.json").write_text(json.dumps(item))
    write_result(tmp_path, "a", run={"source": "item.json"})
    monkeypatch.setattr(document, "open_scene", lambda *_, **__: pytest.fail("the network is asked"))
    (left,) = report(tmp_path / "a.gpkg", tmp_path / "r.html").left_out
    assert left == "the picture of a: the images of item.json are not fetched"


def test_objects_of_a_review_are_not_counted_again(tmp_path):
    scene, _ = write_result(tmp_path, "a")
    review = Review(read_overlay(tmp_path / "a.gpkg", scene, SceneMap(scene).bounds), tmp_path / "a_review.gpkg")
    review.mark({0: "true", 1: "false"})
    review.save()
    done = report(tmp_path, tmp_path / "r.html")
    assert (done.scenes, done.objects, done.left_out) == (1, 12, ("a_review.gpkg is a review",))


def test_a_scene_in_two_formats_is_counted_once_and_said(tmp_path):
    for name, found in (("a", True), ("b", False)):
        for suffix in (".gpkg", ".parquet"):
            write_result(tmp_path, name, found=found, suffix=suffix)
    other = read_tables(tmp_path / "a.gpkg")
    moved = other.detections.assign(score=other.detections["score"] / 2)
    write_tables(replace(other, detections=moved), tmp_path / "c.gpkg")  # of another model
    done = report([tmp_path, tmp_path / "a.gpkg"], tmp_path / "r.html")
    assert (done.scenes, done.objects) == (3, 24)
    twice = ("a.parquet", "a"), ("b.parquet", "b"), ("a.gpkg", "a")
    assert set(done.left_out) == {f"{file} holds {n} once more, as {n}.gpkg does" for file, n in twice}


def test_a_scene_of_which_only_the_run_is_known_is_reported(tmp_path):
    _, frame = write_result(tmp_path, "a")
    write_tables(Tables(frame[:0], run=pd.DataFrame([{"scene_id": "q"}])), tmp_path / "q.gpkg")
    done = report(tmp_path / "q.gpkg", tmp_path / "r.html")
    assert (done.scenes, done.objects) == (1, 0) and read(tmp_path / "r.html")[1]["scenes"][0]["rings"] == []


def test_what_there_is_no_room_for_is_said(tmp_path, monkeypatch):
    for name in ("a", "b"):
        write_result(tmp_path, name)
    for limit, value in {"OBJECTS": 15, "CORNERS": 30, "PICTURES": 1}.items():
        monkeypatch.setattr(document, limit, value)
    done = report(tmp_path, tmp_path / "r.html")
    assert len(done.left_out) == 3 and "9 of 24 objects" in done.left_out[1] and done.objects == 24
    html, drawing = read(tmp_path / "r.html")
    assert len(drawing["objects"]) == 15 and sum(bool(o[7]) for o in drawing["objects"]) == 6
    assert min(o[4] for o in drawing["objects"]) > 0.65 and html.count("data:image/webp") == 1


def test_names_from_files_stay_names(tmp_path):
    evil = "</script><script>document.title='x'</script><img src=x onerror=alert(1)>'\""
    scene, frame = write_result(tmp_path, "a")
    frame["class"] = frame["scene_id"] = evil
    frame["detect_id"] = [f"{evil}{i}" for i in range(12)]
    write_tables(Tables(frame, run=pd.DataFrame([{"scene_id": evil, "model_id": evil}])), tmp_path / "evil.gpkg")
    report(tmp_path / "evil.gpkg", tmp_path / "r.html")
    html, drawing = read(tmp_path / "r.html")
    assert html.count("<script") == 2 and "<img src=x" not in html and drawing["objects"][0][6].startswith(evil)


def test_what_is_no_result_is_refused_and_nothing_is_replaced(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabelError, match="no result of xtgeo"):
        report(tmp_path / "empty", tmp_path / "r.html")
    write_result(tmp_path, "a")
    with pytest.raises(OutputError, match="unknown extension"):
        report(tmp_path / "a.gpkg", tmp_path / "r.pdf")
    (tmp_path / "r.html").write_text("mine")
    with pytest.raises(OutputError, match="--overwrite"):
        report(tmp_path / "a.gpkg", tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == "mine"


def test_objects_without_a_place_are_counted(tmp_path):
    _, frame = write_result(tmp_path, "a")
    frame = frame.set_crs(None, allow_override=True)
    write_tables(replace(Tables(frame), scene_footprint=footprints([], [], None)), tmp_path / "p.gpkg")
    done = report(tmp_path / "p.gpkg", tmp_path / "r.html")
    html, drawing = read(tmp_path / "r.html")
    assert done.objects == 12 and "12 objects in 1 scene" in html and not drawing["objects"] and "<canvas" not in html


@pytest.mark.skipif(BROWSER is None, reason="no browser found: install chromium")
def test_the_page_opens_from_the_disk_and_asks_nobody(tmp_path, browser):  # noqa: F811
    write_result(tmp_path, "a")
    write_result(tmp_path, "b", "gcps")
    answer = CliRunner().invoke(app, ["report", str(tmp_path), "--out", str(tmp_path / "r.html"), "--quiet"])
    assert answer.exit_code == 0, answer.output
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    asked, wrong = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    page.goto((tmp_path / "r.html").as_uri())
    page.wait_for_selector("body[data-ready]", timeout=WAIT)

    def shot():
        page.wait_for_timeout(400)
        return np.asarray(Image.open(BytesIO(page.locator("canvas").screenshot())).convert("RGB")).astype(int)

    page.locator("[data-go='1']").click()
    before = shot()
    h, w = before.shape[:2]
    assert before[h // 3 : h // 2, w // 3 : w // 2].std() > 10, "speckle"
    page.locator("[data-by=in]").click()
    assert (shot() != before).mean() > 0.2
    page.locator("[data-by=all]").click()
    assert page.locator("#scale").inner_text().endswith("km")
    page.close()
    assert not wrong and all(url.startswith(("file://", "data:")) for url in asked)
