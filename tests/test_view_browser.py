"""The page of `xtgeo view` in a real browser."""

import re
import shutil
from io import BytesIO

import geopandas as gpd
import numpy as np
import pytest
import shapely
from PIL import Image
from test_view import PLACES, SHAPE, boxes, write_scene

from xtgeo import open_scene, view
from xtgeo.grid import pixel_to_lonlat

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = """--headless=new --no-sandbox --disable-gpu --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader
--disable-background-networking --disable-component-update --disable-sync --no-first-run""".split()
WAIT = 30_000
"""Milliseconds: machines that test are busy."""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no browser found: install chromium")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as p:
        with p.chromium.launch(executable_path=BROWSER, args=OPTIONS) as browser:
            yield browser


@pytest.fixture
def scene(tmp_path):
    return open_scene(write_scene(tmp_path / "scene.tif", PLACES["gcps"]))


@pytest.fixture
def vectors(tmp_path, scene):
    """Twelve squares, scores 0.5 to 0.95, half of them vessels; none on another."""
    corners = np.stack([40 + 40 * np.arange(12), 50 + 50 * np.arange(12)], 1)
    shapes = [shapely.box(x, y, x + 4 + i, y + 8) for i, (y, x) in enumerate(corners.tolist())]
    shapes = shapely.transform(shapes, lambda xy: np.stack(pixel_to_lonlat(scene.grid, xy[:, 1], xy[:, 0]), 1))
    frame = (
        boxes(scene)[1].assign(length_m=10.0 * np.arange(1, 13)).set_geometry(gpd.GeoSeries(shapes, crs="EPSG:4326"))
    )
    frame.to_file(tmp_path / "vessels.gpkg", layer="detections")
    return tmp_path / "vessels.gpkg"


class Reader:
    """A person before the page; at the end nothing was asked of another place and nothing went wrong."""

    def __init__(self, browser, url, **options):
        self.page = browser.new_page(viewport={"width": 1200, "height": 760}, reduced_motion="reduce", **options)
        self.asked, self.wrong = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: message.type == "error" and self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.base, self.url = url.split("#")[0], url

    def __enter__(self):
        self.page.goto(self.url)
        self.page.wait_for_selector("body[data-ready][data-complete]", timeout=WAIT)
        return self

    def __exit__(self, kind, *_):
        self.page.close()
        if kind is None:
            assert not self.wrong
            foreign = [url for url in self.asked if not url.startswith((self.base, "blob:" + self.base, "data:"))]
            assert not foreign, "the page asks nobody but its server"

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def expect(self, selector, text):
        self.page.locator(selector, has_text=re.compile(text)).wait_for(timeout=WAIT)

    def listed(self):
        """Scores in the order of the list."""
        return [float(text) for text in self.page.locator(".row .number:nth-child(-n+2)").all_inner_texts()]

    def picked(self):
        """`detect_id` on the card."""
        self.page.wait_for_selector("#record tr", timeout=WAIT)
        return self.text("#record tr:first-child td:last-child")

    def middle(self):
        box = self.page.locator("#map").bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def settle(self, selector="#map"):
        """A picture, when two in a row are the same."""
        before = None
        for _ in range(60):
            now = self.page.locator(selector).screenshot()
            if now == before:
                return np.asarray(Image.open(BytesIO(now)).convert("RGB")).astype(int)
            before = now
            self.page.wait_for_timeout(250)
        raise AssertionError("the map does not come to rest")


def test_the_page_shows_the_scene_and_its_objects_and_pans(browser, scene, vectors):
    with view(scene, vectors) as served, Reader(browser, served.url) as reader:
        assert reader.text("h1") == "scene" and reader.text("#shown") == "12 objects"
        assert reader.listed() == sorted(reader.listed(), reverse=True) and len(reader.listed()) == 12
        before = reader.settle()
        h, w = before.shape[:2]
        assert before[h // 2 - 50 : h // 2 + 50, w // 2 - 50 : w // 2 + 50].std() > 10, "speckle, not a plain colour"
        amber = (np.abs(before - [255, 178, 36]).sum(-1) < 60).sum()
        assert amber > 100, "rings around the objects"
        x, y = reader.middle()
        reader.page.mouse.move(x, y)
        place = reader.text("#pointer")
        west, south, east, north = served._page.map.bounds
        lat, lon = (float(number) for number in re.findall(r"[\d.]+", place))
        assert south < lat < north and west < lon < east
        with reader.page.expect_request(re.compile("/tiles/"), timeout=WAIT):
            reader.page.locator(".maplibregl-ctrl-zoom-in").click()
            reader.page.locator(".maplibregl-ctrl-zoom-in").click()
        reader.page.mouse.move(x, y)
        reader.page.mouse.down()
        reader.page.mouse.move(x - 200, y - 90, steps=4)
        reader.page.mouse.up()
        assert (reader.settle() != before).any()
        reader.page.mouse.move(x, y)
        assert reader.text("#pointer") != place, "another place is in the middle now"


def test_list_and_map_show_what_passes_the_filter(browser, scene, vectors):
    with view(scene, vectors) as served, Reader(browser, served.url) as reader:
        slider = reader.page.locator("#least-score")
        slider.fill("0.8")
        expected = [s for s in np.linspace(0.5, 0.95, 12).round(2)[::-1] if s >= 0.8]
        assert reader.listed() == expected and reader.text("#shown") == "4 of 12"
        few = (np.abs(reader.settle() - [255, 178, 36]).sum(-1) < 60).sum()
        reader.page.get_by_label("vessel", exact=False).first.uncheck()
        assert reader.text("#shown") == "2 of 12"
        reader.page.get_by_role("button", name="show all").click()
        assert reader.text("#shown") == "12 objects"
        assert (np.abs(reader.settle() - [255, 178, 36]).sum(-1) < 60).sum() > few
        reader.page.locator("#least-length").fill("35")
        reader.page.locator("#most-length").fill("60")
        assert reader.text("#shown") == "3 of 12"
        reader.page.locator("#heads button[data-key=length]").click()
        lengths = reader.page.locator(".row .number:nth-child(4)").all_inner_texts()
        assert lengths == ["60", "50", "40"]


def test_list_map_and_card_are_linked(browser, scene, vectors):
    frame = gpd.read_file(vectors).sort_values("score", ascending=False)
    with view(scene, vectors) as served, Reader(browser, served.url) as reader:
        reader.page.locator(".row").nth(3).click()
        assert reader.picked() == frame["detect_id"].iloc[3]
        reader.press("j")
        reader.expect("#record", re.escape(frame["detect_id"].iloc[4]))
        reader.press("k", "k")
        reader.expect("#record", re.escape(frame["detect_id"].iloc[2]))
        assert reader.page.locator("#chip").evaluate("image => image.decode().then(() => image.naturalWidth)") == 320
        reader.settle()
        reader.press("Escape")
        assert not reader.page.locator("#card").is_visible()
        reader.page.mouse.click(*reader.middle())  # where k left it
        assert reader.picked() == frame["detect_id"].iloc[2]
        assert reader.page.locator(".row.picked").get_attribute("data-index") == str(frame.index[2])
        reader.press("?")
        assert reader.page.locator("#keys").is_visible()


def test_marks_by_key_and_button_are_saved_and_found_again(browser, scene, vectors):
    frame = gpd.read_file(vectors).sort_values("score", ascending=False)
    with view(scene, vectors) as served:
        with Reader(browser, served.url) as reader:
            reader.press("j", "1", "j", "2", "j", "3", "j", "1", "0")
            reader.page.locator(".row").nth(5).click()
            reader.page.get_by_role("button", name="true 1").click()
            reader.expect("#saved", "saved in vessels_review.gpkg")
            counts = [reader.text(f"[data-count={mark}]") for mark in ("true", "false", "unsure", "unseen")]
            assert counts == ["2", "1", "1", "8"]
            labels, rejected = (gpd.read_file(served.review.path, layer=name) for name in ("labels", "rejected"))
            said = dict(zip(labels["detect_id"], labels["review"], strict=True))
            assert [said.get(name) for name in frame["detect_id"][:6]] == [
                "true",
                None,
                "unsure",
                "unseen",
                "unseen",
                "true",
            ]
            assert list(rejected["detect_id"]) == [frame["detect_id"].iloc[1]]
        with Reader(browser, served.url) as reader:
            assert reader.text("[data-count=true]") == "2"
            reader.page.locator("#by-mark").get_by_label("unseen").uncheck()
            assert reader.text("#shown") == "4 of 12"
            reader.press("a", "j", "1", "1")
            assert reader.text("[data-count=true]") == "3", "the first two were true and false: now both are true"
            reader.expect("#saved", "saved in")


def test_a_mark_that_cannot_be_saved_says_so_and_goes_with_the_next(browser, scene, vectors):
    with view(scene, vectors) as served, Reader(browser, served.url) as reader:
        served.review.path.mkdir()
        reader.press("j", "1")
        reader.expect("#saved.bad", "not saved: .*is no review")
        served.review.path.rmdir()
        reader.press("j", "2")
        reader.expect("#saved", "^saved in")
        assert sorted(served.review.marks.values()) == ["false", "true"]
        assert any("500" in text for text in reader.wrong)
        reader.wrong.clear()


def test_the_last_mark_stands_however_slow_the_way_is(browser, scene, vectors):
    with view(scene, vectors) as served, Reader(browser, served.url) as reader:
        held = []

        def way(route):
            held.append(route) if route.request.method == "POST" and not held else route.continue_()

        reader.page.route(re.compile("/review$"), way)
        reader.press("j", "1", "2")
        reader.page.wait_for_timeout(1000)
        held[0].continue_()
        reader.expect("#saved", "^saved in")
        assert list(served.review.marks.values()) == ["false"]


def test_many_objects_are_as_quick_as_few(browser, tmp_path, scene):
    n, rng = 20_000, np.random.default_rng(0)
    lon, lat = pixel_to_lonlat(scene.grid, rng.uniform(0, SHAPE[0], n), rng.uniform(0, SHAPE[1], n))
    frame = gpd.GeoDataFrame(
        {"presence_score": rng.uniform(0, 1, n)}, geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326"
    )
    with view(scene, frame) as served, Reader(browser, served.url) as reader:
        assert reader.text("#shown") == "20,000 objects"
        reader.page.locator("#rows").evaluate("list => list.scrollTop = list.scrollHeight / 2")
        reader.page.wait_for_timeout(200)
        assert 0 < reader.page.locator(".row").count() < 60
        assert reader.listed()[0] == pytest.approx(0.5, abs=0.02)
        took = reader.page.evaluate(
            """() => { const slider = document.getElementById("least-score"), from = performance.now();
            slider.value = 0.9; slider.dispatchEvent(new Event("input")); return performance.now() - from; }"""
        )
        assert took < 2000, "milliseconds"
        assert not reader.page.locator("#tally").is_visible(), "a table in memory is not reviewed unless one says where"


def test_dark_and_light_are_what_the_reader_likes(browser, scene):
    colours = {}
    with view(scene) as served:
        for scheme in ("light", "dark"):
            with Reader(browser, served.url, color_scheme=scheme) as reader:
                picture = reader.settle("#side")
                colours[scheme] = np.median(picture)
                assert not reader.page.locator("#list").is_visible()
    assert colours["light"] > 200 > 60 > colours["dark"]


def test_without_its_token_the_page_says_what_to_do(browser, scene):
    with view(scene) as served:
        page = browser.new_page()
        page.goto(served.url.split("#")[0])
        page.locator("#notice", has_text="whole address").wait_for(timeout=WAIT)
        page.close()
