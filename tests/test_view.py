import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from io import BytesIO
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.warp import Resampling, reproject
from starlette.testclient import TestClient

from xtgeo import open_scene, view
from xtgeo.errors import LabelError, OutputError, SceneError
from xtgeo.evaluate.compare import compare, default_rule
from xtgeo.evaluate.figures import report
from xtgeo.evaluate.objects import read_objects
from xtgeo.grid import lonlat_bounds, lonlat_to_pixel, pixel_to_lonlat
from xtgeo.scene import Block
from xtgeo.train.labels import read_labels
from xtgeo.viewer.chip import SIDE, chip
from xtgeo.viewer.overlay import read_overlay
from xtgeo.viewer.review import Review
from xtgeo.viewer.server import STATIC, Page
from xtgeo.viewer.world import NORTH, TILE, SceneMap, to_map
from xtgeo.window import Window

SHAPE = (531, 700)
NODATA = -32768.0
TOKEN = "t0ken"


def affine(crs, x, y, pixel, down=-1):
    return {"crs": crs, "transform": rasterio.Affine(pixel, 0, x, 0, down * pixel, y)}


def gcps(lon=5.0, lat=40.0):
    """Radar geometry: turned, and bent."""
    points = []
    for row in np.linspace(0, SHAPE[0], 6):
        for column in np.linspace(0, SHAPE[1], 7):
            x = lon + 1e-4 * (column + 0.2 * row) + 3e-9 * column * row
            points.append(
                GroundControlPoint(row, column, x, lat - 9e-5 * (row - 0.17 * column) + 2e-9 * column**2, 0.0)
            )
    return {"crs": "EPSG:4326", "gcps": points}


PLACES = {
    "utm": affine("EPSG:32631", 500_000, 5_800_000, 10),
    "gcps": gcps(),
    "gcps across the antimeridian": gcps(lon=179.97),
    "degrees across the antimeridian": affine("EPSG:4326", 179.96, -16, 1e-4),
    "south up": affine("EPSG:32733", 400_000, 6_000_000, 20, down=1),
    "web mercator": affine("EPSG:3857", -13_000_000, 4_000_000, 15),
    "beyond the end of the map": affine("EPSG:32631", 500_000, 9_450_000, 40),
    "polar": affine("EPSG:3995", -700_000, 0, 1000),
}


def write_scene(path: Path, place: dict, *, shape=SHAPE, overviews=(), seed=0) -> Path:
    data = np.random.default_rng(seed).normal(-20, 3, shape).astype(np.float32)
    data[100:230, 333:444] = NODATA
    with rasterio.open(
        path, "w", driver="GTiff", height=shape[0], width=shape[1], count=1, dtype="float32", nodata=NODATA, tiled=True,
        blockxsize=128, blockysize=128, **place,
    ) as file:  # fmt: skip
        file.write(data, 1)
        file.set_band_description(1, "vv")
        file.set_band_unit(1, "dB")
        file.build_overviews(overviews, Resampling.average)
    return path


@pytest.fixture
def scene(tmp_path):
    return open_scene(write_scene(tmp_path / "scene.tif", PLACES["utm"]))


def tile_around(scene_map, z):
    """The tile in which the middle of the scene lies: x, y."""
    west, south, east, north = scene_map.bounds
    across, down = to_map((west + east) / 2, (south + north) / 2)
    return int(across % 1 * 2**z), int(down * 2**z)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)))


def warped(scene_map, z, x, y, resampling):
    """The tile's pixels in dB and whether they are valid, by GDAL."""
    side = 2 * np.pi * 6378137 / 2**z
    corner = x * side - np.pi * 6378137, np.pi * 6378137 - y * side
    with rasterio.open(scene_map.scene.href) as file:
        data = file.read(1)
        power = np.where(data == NODATA, np.nan, 10 ** (data / 10)).astype(np.float32)
        out = np.full((TILE, TILE), np.nan, np.float32)
        target = rasterio.Affine(side / TILE, 0, corner[0], 0, -side / TILE, corner[1])
        reproject(power, out, src_transform=file.transform, src_crs=file.crs, dst_transform=target, dst_crs="EPSG:3857",
                  src_nodata=np.nan, dst_nodata=np.nan, resampling=resampling, tolerance=0)  # fmt: skip
    return np.nan_to_num(10 * np.log10(out)), np.isfinite(out)


@pytest.mark.parametrize("place", PLACES)
def test_a_pixel_is_shown_where_it_lies(tmp_path, place):
    scene = open_scene(write_scene(tmp_path / "scene.tif", PLACES[place]))
    scene_map, around = SceneMap(scene), 2**28
    block = scene.read(Window(0, 0, *SHAPE))
    painted = scene_map.stretch.paint(scene_map.scene, block)
    rng = np.random.default_rng(1)
    shown = 0
    for row, column in zip(rng.integers(0, SHAPE[0], 60), rng.integers(0, SHAPE[1], 60), strict=True):
        lon, lat = pixel_to_lonlat(scene.grid, row + 0.5, column + 0.5)
        if abs(lat) < NORTH:
            across, down = to_map(lon, lat)
            got = scene_map.paint(int(down * around), int(across * around), 1, 1, around)[0, 0]
            assert (got == (painted[row, column] if block.valid[row, column] else 0)).all(), (row, column)
            shown += 1
    assert shown >= 15


@pytest.mark.parametrize("place", PLACES)
def test_what_is_interpolated_in_a_tile_is_what_each_pixel_alone_would_be(tmp_path, place):
    scene_map = SceneMap(open_scene(write_scene(tmp_path / "scene.tif", PLACES[place])))
    scene_map.fill()
    for z in (scene_map.depth, scene_map.depth - 2, 3, 0):
        x, y = tile_around(scene_map, z)
        tile = pixels(scene_map.tile(z, x, y))
        rng, seen = np.random.default_rng(2), np.argwhere(tile[..., 3] > 0)
        assert len(seen) or z < 5, "there it is less than a pixel"
        if len(seen):
            some = seen[rng.integers(0, len(seen), 40)]
            alone = np.stack([scene_map.paint(y * TILE + i, x * TILE + j, 1, 1, TILE << z)[0, 0] for i, j in some])
            differs = np.abs(alone.astype(int) - tile[tuple(some.T)]).max(1)
            assert (differs == 0).mean() > 0.8 and np.median(differs) == 0, z


def test_tiles_are_those_of_an_independent_warp(tmp_path, scene):
    scene_map = SceneMap(scene)
    scene_map.fill()
    for z in (scene_map.depth, scene_map.depth - 1):  # every pixel of the scene is one or several of the map
        x, y = tile_around(scene_map, z)
        data, valid = warped(scene_map, z, x, y, Resampling.nearest)
        expected = (
            scene_map.stretch.paint(scene_map.scene, Block(Window(0, 0, TILE, TILE), data[None], valid))
            * valid[..., None]
        )
        assert (pixels(scene_map.tile(z, x, y)) == expected).all(-1).mean() > 0.98
    for z in (scene_map.depth - 4, scene_map.depth - 5):  # and now the other way round
        x, y = tile_around(scene_map, z)
        data, valid = warped(scene_map, z, x, y, Resampling.average)
        tile = pixels(scene_map.tile(z, x, y))
        both = valid & (tile[..., 3] > 0)
        assert (valid == (tile[..., 3] > 0)).mean() > 0.99 and both.any()
        expected = scene_map.stretch.paint(scene_map.scene, Block(Window(0, 0, TILE, TILE), data[None], valid))
        differs = tile[both].astype(float)[:, 0] - expected[both][:, 0]
        assert abs(differs.mean()) < 2 and differs.std() < expected[both][:, 0].std(), z


def test_nodata_is_transparent_and_never_averaged(tmp_path):
    path = write_scene(tmp_path / "scene.tif", PLACES["gcps"])
    with rasterio.open(path, "r+") as file:
        data = file.read(1)
        file.write(np.where(data == NODATA, NODATA, -12).astype(np.float32), 1)
    scene_map = SceneMap(open_scene(path))
    scene_map.fill()
    for z in range(scene_map.depth + 1):
        tile = pixels(scene_map.tile(z, *tile_around(scene_map, z)))
        assert set(np.unique(tile[..., 3])) <= {0, 255}
        assert len(np.unique(tile[tile[..., 3] > 0], axis=0)) <= 1, "one colour, however coarse"
        assert not tile[tile[..., 3] == 0].any()


def test_coarse_copies_are_read_once_and_are_the_means_of_the_scene(scene):
    scene_map = SceneMap(scene)
    assert scene_map.progress == 0
    z = scene_map.depth - 4
    assert not pixels(scene_map.tile(z, *tile_around(scene_map, z))).any(), "not yet read is transparent, and not kept"
    scene_map.fill()
    assert scene_map.progress == 1 and pixels(scene_map.tile(z, *tile_around(scene_map, z))).any()
    for i, level in enumerate(scene_map._levels[1:], 1):
        block, mean = level.scene.read(Window(0, 0, *level.scene.shape)), scene.means(Window(0, 0, *SHAPE), 2**i)
        assert (block.valid == mean.valid).all()
        differs = np.abs(block.data - mean.data)[:, mean.valid]
        assert differs.mean() < 0.05 and (i > 1 or differs.max() == 0), "squares with nodata in them alone"


def test_a_file_with_copies_of_its_own_is_not_read_through(tmp_path):
    scene_map = SceneMap(
        open_scene(write_scene(tmp_path / "scene.tif", PLACES["utm"], shape=(1100, 1300), overviews=(2, 4)))
    )
    assert scene_map.progress == 1 and [level.scene.shape for level in scene_map._levels] == [
        (1100, 1300),
        (550, 650),
        (275, 325),
    ]
    z = scene_map.depth - 5
    assert pixels(scene_map.tile(z, *tile_around(scene_map, z))).any()


def test_tiles_beside_the_scene_are_empty(scene):
    scene_map = SceneMap(scene)
    x, y = tile_around(scene_map, 8)
    for dx, dy in ((2, 0), (-2, 0), (0, 2), (0, -2), (128, 0)):
        assert not pixels(scene_map.tile(8, (x + dx) % 256, y + dy)).any()


def test_a_scene_across_the_antimeridian_is_on_both_sides_of_it(tmp_path):
    scene_map = SceneMap(open_scene(write_scene(tmp_path / "scene.tif", PLACES["degrees across the antimeridian"])))
    scene_map.fill()
    west, _, east, _ = scene_map.bounds
    assert west < 180 < east < 181
    z = 9
    y = tile_around(scene_map, z)[1]
    assert pixels(scene_map.tile(z, 2**z - 1, y)).any() and pixels(scene_map.tile(z, 0, y)).any()


@pytest.mark.parametrize(
    ("place", "told"), [({}, "no place on the earth"), (affine("EPSG:3995", -300_000, 300_000, 100), "ends at 85.05")]
)
@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_what_a_map_cannot_show_is_refused(tmp_path, place, told):
    with pytest.raises(SceneError, match=told):
        SceneMap(open_scene(write_scene(tmp_path / "scene.tif", place)))


# Objects


def boxes(scene, n=12, side=8):
    """Squares of the scene's pixels and where they are: (n, 2) rows and columns of their corners, GeoDataFrame in EPSG:4326."""
    rng = np.random.default_rng(5)
    corners = np.stack([rng.integers(0, SHAPE[0] - side, n), rng.integers(0, SHAPE[1] - side, n)], 1)
    shapes = [shapely.box(column, row, column + side, row + side) for row, column in corners.tolist()]
    shapes = shapely.transform(shapes, lambda xy: np.stack(pixel_to_lonlat(scene.grid, xy[:, 1], xy[:, 0]), 1))
    columns = {
        "scene_id": scene.id,
        "class": ["vessel", "buoy"] * (n // 2),
        "score": np.linspace(0.5, 0.95, n),
        "flags": "",
    }
    ids = [f"{scene.id}_{row}_{column}" for row, column in corners.tolist()]
    return corners, gpd.GeoDataFrame({"detect_id": ids, **columns}, geometry=shapes, crs="EPSG:4326")


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".fgb", ".parquet"])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32631", "EPSG:3035"])
def test_objects_lie_where_they_are_whatever_the_file_and_its_crs(tmp_path, scene, suffix, crs):
    corners, frame = boxes(scene)
    path = tmp_path / f"vessels{suffix}"
    moved = frame.to_crs("EPSG:4326" if suffix == ".geojson" else crs)
    moved.to_parquet(path) if suffix == ".parquet" else moved.to_file(path)
    overlay = read_overlay(path, scene, SceneMap(scene).bounds)
    there = dict(zip(frame["detect_id"], corners, strict=True))
    row, column = lonlat_to_pixel(scene.grid, overlay.at.lon, overlay.at.lat)
    for i, name in enumerate(overlay.ids):
        assert np.hypot(*(there[name] + 4 - (row[i], column[i]))) < 0.05
    assert overlay.length_m == pytest.approx(80, abs=0.5) and set(overlay.kind) == {"vessel", "buoy"}
    told = json.loads(overlay.to_json())
    assert {len(v) for v in told.values() if isinstance(v, list)} == {len(frame)} and json.dumps(told, allow_nan=False)


def test_points_say_what_they_are(tmp_path, scene):
    west, south, east, north = lonlat_bounds(scene.grid)
    table = pd.DataFrame(
        {"lon": [(west + east) / 2] * 4, "lat": [(south + north) / 2] * 4, "presence_score": [0.9, 0.8, 0.7, None]}
    )
    table = table.assign(
        is_vessel=[True, True, False, None],
        is_fishing=[True, False, None, None],
        vessel_length_m=[30, None, None, None],
    )
    table.to_csv(tmp_path / "points.csv", index=False)
    overlay = read_overlay(tmp_path / "points.csv", scene, SceneMap(scene).bounds)
    assert overlay.ids == ("1", "2", "3", "4") and overlay.kind.tolist() == ["fishing", "vessel", "other", ""]
    told = json.loads(overlay.to_json())
    assert told["points"] and told["score"] == [0.9, 0.8, 0.7, None] and told["length"] == [30, None, None, None]


def test_scores_that_say_nothing_are_no_scores(scene):
    _, frame = boxes(scene)
    bounds = SceneMap(scene).bounds
    none, some = (
        json.loads(read_overlay(frame.assign(score=score), scene, bounds).to_json())["score"]
        for score in (np.nan, [np.inf, 0.5, *[np.nan] * 10])
    )
    assert none is None and some == [None, 0.5, *[None] * 10]


def test_of_a_dataset_only_what_belongs_to_the_scene_is_shown(tmp_path, scene):
    _, frame = boxes(scene)
    frame.loc[3:, "scene_id"] = "elsewhere"
    bounds = SceneMap(scene).bounds
    assert len(read_overlay(frame, scene, bounds)) == 3
    away = frame.assign(scene_id="another", geometry=frame.translate(40, 0))
    with pytest.raises(LabelError, match="none of the 12 objects of objects lies in scene"):
        read_overlay(away, scene, bounds)
    assert len(read_overlay(frame[:0], scene, bounds)) == 0, "nothing was found there"
    mixed = frame.set_geometry([*frame.geometry[:6], *shapely.centroid(frame.geometry.values[6:])])
    for other, told in ((mixed, "points and polygons"), (frame.boundary.to_frame("geometry"), "LineString")):
        with pytest.raises(LabelError, match=told):
            read_overlay(other, scene, bounds)


def test_objects_follow_the_scene_across_the_antimeridian(tmp_path):
    scene = open_scene(write_scene(tmp_path / "scene.tif", PLACES["degrees across the antimeridian"]))
    bounds = SceneMap(scene).bounds
    here = gpd.GeoDataFrame(geometry=[shapely.Point(179.99, -16.01), shapely.Point(-179.99, -16.01)], crs="EPSG:4326")
    overlay = read_overlay(here, scene, bounds)
    assert (
        json.loads(overlay.to_json())["lon"]
        == shapely.get_x(overlay.geometry).tolist()
        == pytest.approx([179.99, 180.01])
    )


def test_a_chip_is_the_scene_itself_with_the_object_in_the_middle(scene):
    corners, frame = boxes(scene)
    scene_map = SceneMap(scene)
    for (row, column), shape in zip(corners[:4].tolist(), frame.geometry, strict=False):
        plain = pixels(chip(scene_map.scene, scene_map.stretch, shape, outlined=False))
        side = 40
        top, left = round((2 * row + 8 - side) / 2), round((2 * column + 8 - side) / 2)
        painted = scene_map.stretch.paint(scene_map.scene, scene.read(Window(top, left, side, side)))
        assert (plain == painted.repeat(SIDE // side, 0).repeat(SIDE // side, 1)).all()
        assert (pixels(chip(scene_map.scene, scene_map.stretch, shape)) != plain).any(), "the outline"


# Review


@pytest.fixture
def vectors(tmp_path, scene):
    path = tmp_path / "vessels.gpkg"
    boxes(scene)[1].to_file(path, layer="detections")
    return path


def test_an_object_far_off_the_scene_has_no_picture(tmp_path):
    scene = open_scene(write_scene(tmp_path / "s.tif", PLACES["gcps"]))
    with pytest.raises(SceneError, match="far off"):
        chip(scene, SceneMap(scene).stretch, shapely.Point(65, 10))


def overlay_of(vectors, scene):
    return read_overlay(vectors, scene, SceneMap(scene).bounds)


def test_evaluate_and_train_take_a_review_as_it_is(tmp_path, scene, vectors):
    review = Review(overlay_of(vectors, scene), tmp_path / "r.gpkg")
    review.mark(dict.fromkeys((0, 1, 2, 3, 4), "true") | dict.fromkeys((5, 6), "false") | {7: "unsure"})
    review.save()
    outcome = compare(*(found := read_objects([vectors], [tmp_path / "r.gpkg"])), default_rule(*found))
    told = report(outcome, resamples=0).overall
    assert (told.pairs, told.predictions, told.labels) == (5, 7, 5), "unsure and unseen are neither right nor wrong"
    assert told.precision.value == pytest.approx(5 / 7)
    (labels,) = read_labels([scene], [tmp_path / "r.gpkg"])
    assert len(labels) == 10 and (labels.names == "object").sum() == 5, (
        "five to learn, five to pass over, two are background"
    )
    command = [
        sys.executable,
        "-m",
        "xtgeo.cli",
        "evaluate",
        "-p",
        vectors,
        "-l",
        tmp_path / "r.gpkg",
        "--json",
        "--resamples",
        "0",
    ]
    printed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert printed["ignored_labels"] == 5


def test_a_review_is_taken_up_where_it_was_left(tmp_path, scene, vectors):
    first = Review(overlay_of(vectors, scene), tmp_path / "r.gpkg")
    assert not (tmp_path / "r.gpkg").exists(), "nothing was said"
    first.mark({0: "true", 1: "false", 2: "unsure"})
    first.save()
    again = Review(overlay_of(vectors, scene), tmp_path / "r.gpkg")
    assert again.marks == {0: "true", 1: "false", 2: "unsure"} and not again.is_unsaved
    again.mark({1: None, 3: "true"})
    again.save()
    assert Review(overlay_of(vectors, scene), tmp_path / "r.gpkg").marks == {0: "true", 2: "unsure", 3: "true"}
    counts = gpd.read_file(tmp_path / "r.gpkg", layer="review")
    assert counts.iloc[0][["true", "false", "unsure", "unseen"]].tolist() == [2, 0, 1, 9]


def test_two_who_review_into_one_file_lose_nothing(tmp_path, scene, vectors):
    one, other = (Review(overlay_of(vectors, scene), tmp_path / "r.gpkg") for _ in range(2))
    one.mark({0: "true"})
    one.save()
    other.mark({1: "false"})
    other.save()
    one.mark({2: "unsure"})
    one.save()
    assert (
        Review(overlay_of(vectors, scene), tmp_path / "r.gpkg").marks
        == one.marks
        == {0: "true", 1: "false", 2: "unsure"}
    )


def test_the_scenes_of_a_dataset_are_reviewed_one_after_the_other_into_one_file(tmp_path, scene):
    _, frame = boxes(scene)
    frame.loc[6:, "scene_id"] = "b"
    frame.to_file(tmp_path / "all.gpkg")
    write_scene(tmp_path / "b.tif", PLACES["utm"])
    for name in ("scene", "b"):
        review = Review(overlay_of(tmp_path / "all.gpkg", open_scene(tmp_path / f"{name}.tif")), tmp_path / "r.gpkg")
        review.mark({0: "true", 1: "false"})
        review.save()
    labels, rejected = (gpd.read_file(tmp_path / "r.gpkg", layer=layer) for layer in ("labels", "rejected"))
    assert len(labels) == 10 and sorted(rejected["scene_id"]) == ["b", "scene"]


def test_a_review_replaces_nothing_that_is_none(tmp_path, scene, vectors):
    overlay, before = overlay_of(vectors, scene), vectors.read_bytes()
    with pytest.raises(OutputError, match="is what is reviewed"):
        Review(overlay, vectors)
    boxes(scene)[1].to_file(tmp_path / "other.gpkg")
    with pytest.raises(OutputError, match="is no review"):
        Review(overlay, tmp_path / "other.gpkg")
    with pytest.raises(OutputError, match="unknown extension"):
        Review(overlay, tmp_path / "review.shp")
    assert vectors.read_bytes() == before


def test_a_review_that_cannot_be_written_keeps_its_marks(tmp_path, scene, vectors, monkeypatch):
    review = Review(overlay_of(vectors, scene), tmp_path / "r.gpkg")
    review.mark({0: "true"})
    monkeypatch.setattr(
        "xtgeo.viewer.review.write_layer", lambda *_, **__: (_ for _ in ()).throw(OSError("no space left"))
    )
    with pytest.raises(OutputError, match="disk is full"):
        review.save()
    assert review.is_unsaved and review.marks == {0: "true"} and not (tmp_path / "r.gpkg").exists()
    monkeypatch.undo()
    review.save()
    assert not review.is_unsaved and (tmp_path / "r.gpkg").exists()


def test_marks_are_of_their_objects_and_no_others(tmp_path, scene):
    frame = boxes(scene)[1].drop(columns="detect_id")
    frame.to_file(tmp_path / "v.gpkg")
    review = Review(overlay_of(tmp_path / "v.gpkg", scene), tmp_path / "r.gpkg")
    review.mark({0: "true", 1: "false"})
    review.save()
    frame.to_crs("EPSG:4326").to_file(tmp_path / "same.gpkg")
    again = Review(overlay_of(tmp_path / "same.gpkg", scene), tmp_path / "r.gpkg")
    assert again.marks == {0: "true", 1: "false"}, "in another CRS they are the same"
    frame[::-1].to_file(tmp_path / "turned.gpkg")
    before = (tmp_path / "r.gpkg").read_bytes()
    with pytest.raises(OutputError, match="a review of other objects, its .* lies elsewhere: give --review"):
        Review(overlay_of(tmp_path / "turned.gpkg", scene), tmp_path / "r.gpkg")
    assert (tmp_path / "r.gpkg").read_bytes() == before


def test_a_review_is_written_whatever_the_columns_are_called(tmp_path, scene):
    _, frame = boxes(scene)
    frame = frame.assign(Confidence=0.5, FID=1, fid=2, geom="x", Length=3.0, length=4.0, REVIEW="mine", a="b")
    review = Review(read_overlay(frame, scene, SceneMap(scene).bounds), tmp_path / "r.gpkg")
    review.mark({0: "true", 1: "false"})
    review.save()
    review.mark({2: "true"})
    review.save()
    labels = gpd.read_file(tmp_path / "r.gpkg", layer="labels")
    assert {"a", "Length", "confidence", "review"} <= set(labels) and (labels["confidence"] == "HIGH").sum() == 2


def test_a_review_keeps_as_text_what_a_geopackage_has_no_type_for(tmp_path, scene):
    _, frame = boxes(scene)
    n = len(frame)
    frame = frame.assign(
        half=np.full(n, 0.5, np.float16), took=pd.to_timedelta(np.arange(n), "s"), wave=np.full(n, 1 + 2j),
        huge=np.full(n, 2**63 + 5, np.uint64), small=np.full(n, 7, np.uint64), centre=frame.geometry.representative_point(),
    )  # fmt: skip
    frame.loc[frame.index[1], "took"] = pd.NaT
    overlay = read_overlay(frame, scene, SceneMap(scene).bounds)
    assert json.loads(json.dumps(overlay.record(0)))["half"] == 0.5
    review = Review(overlay, tmp_path / "r.gpkg")
    review.mark({0: "true"})
    review.save()
    row, other = gpd.read_file(tmp_path / "r.gpkg", layer="labels").iloc[:2].to_dict("records")
    assert (row["half"], row["wave"], row["huge"], row["small"]) == (0.5, "(1+2j)", str(2**63 + 5), 7)
    assert row["took"] == "0 days 00:00:00" and pd.isna(other["took"]) and row["centre"].startswith("POINT (")


# The server


@pytest.fixture
def client(tmp_path, scene, vectors):
    scene_map = SceneMap(scene)
    overlay = read_overlay(vectors, scene, scene_map.bounds)
    page = Page(scene_map, [overlay], Review(overlay, tmp_path / "r.gpkg"), TOKEN, ["localhost"])
    with TestClient(page.app(), base_url="http://127.0.0.1:8000", headers={"X-Xtgeo-Token": TOKEN}) as client:
        yield client
    page.close()


DATA = ("scene", "status", "tiles/0/3/4/2.png", "objects/0", "objects/0/0", "chips/0/0", "review")


def test_data_want_the_token_and_the_page_itself_tells_nothing(client):
    for path in DATA:
        assert client.get(path).status_code == 200, path
        for token in ("", "t0keN", TOKEN + "x", "\xe9"):
            assert client.get(path, headers={"X-Xtgeo-Token": token.encode()}).status_code == 403, path
    assert client.post("review", json={"marks": {"0": "true"}}, headers={"X-Xtgeo-Token": "no"}).status_code == 403
    assert client.get("review").json()["marks"] == {}
    for name, (_, kind) in STATIC.items():
        answer = client.get(f"/{name}", headers={"X-Xtgeo-Token": ""})
        assert answer.status_code == 200 and answer.headers["content-type"] == kind
        assert b"vessel" not in answer.content or name != ""


def test_a_foreign_name_for_this_machine_is_refused(client):
    for host, code in {
        "localhost:8000": 200,
        "127.0.0.1": 200,
        "[::1]:8000": 200,
        "evil.example": 421,
        "localhost.evil.example": 421,
        "": 421,
    }.items():
        for path in ("", "view.js", "scene", "review"):
            assert client.get(f"/{path}", headers={"Host": host}).status_code == code, (host, path)


def test_answers_cannot_be_used_by_other_pages(client):
    for path in ("", "view.js", *DATA):
        headers = client.get(f"/{path}", headers={"Origin": "https://evil.example"}).headers
        assert "access-control-allow-origin" not in headers and headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"] and "set-cookie" not in headers


@pytest.mark.parametrize(
    "path",
    ["tiles/0/3/8/0.png", "tiles/0/25/0/0.png", "tiles/0/99999999999/0/0.png", "objects/1", "objects/0/12", "chips/0/-1",
     "static/view.js", "..%2fpyproject.toml", "%2e%2e/%2e%2e/etc/passwd", "view.css/../../server.py", "NOTICE"],
)  # fmt: skip
def test_what_is_not_there_is_not_found(client, path):
    assert client.get(path).status_code == 404


def test_a_mark_is_on_disk_when_the_server_says_so(client, tmp_path):
    answer = client.post("review", json={"marks": {"0": "true", "3": "false"}})
    assert answer.json() == {"marks": {"0": "true", "3": "false"}, "file": "r.gpkg"}
    assert len(gpd.read_file(tmp_path / "r.gpkg", layer="rejected")) == 1
    for body in (b"", b"[]", b'{"marks": {"x": "true"}}', b'{"marks": {"99": "true"}}', b'{"marks": {"0": "perhaps"}}'):
        assert client.post("review", content=body).status_code == 400
    assert client.post("review", content=b"x" * (2 << 20)).status_code == 413
    assert client.get("review").json()["marks"] == {"0": "true", "3": "false"}


def test_a_tile_that_is_kept_is_of_this_server_alone(scene):
    scene_map = SceneMap(scene)
    x, y = tile_around(scene_map, 12)
    page = Page(scene_map, [], None, TOKEN, ["localhost"])
    with TestClient(page.app(), base_url="http://127.0.0.1:8000", headers={"X-Xtgeo-Token": TOKEN}) as client:
        early = client.get(f"/tiles/0/12/{x}/{y}.png")
        scene_map.fill()
        late = client.get(f"/tiles/1000/12/{x}/{y}.png")
    page.close()
    assert early.headers["cache-control"] == "no-store", "it is not finished"
    assert "max-age" in late.headers["cache-control"] and late.headers["vary"].lower() == "x-xtgeo-token"


def test_objects_are_sent_once_in_few_bytes(client):
    packed = client.get("objects/0")
    assert packed.headers["content-encoding"] == "gzip" and len(packed.json()["geometry"]) == 12
    assert "content-encoding" not in client.get("objects/0", headers={"Accept-Encoding": "identity"}).headers


def get(url, token):
    return urllib.request.urlopen(urllib.request.Request(url, headers={"X-Xtgeo-Token": token}), timeout=20)


def test_view_serves_until_it_is_stopped(scene, vectors):
    with view(scene, vectors) as page:
        base, token = page.url.split("#")
        assert base == f"http://127.0.0.1:{page.port}/" and len(token) >= 32
        assert json.load(get(base + "scene", token))["id"] == "scene"
        assert page.url in page._repr_html_()
        assert page.review.path.name == "vessels_review.gpkg"
        with pytest.raises(OutputError, match="give another --port"):
            view(scene, port=page.port)
    with pytest.raises(urllib.error.URLError):
        get(base + "scene", token)
    page.stop()


def test_on_a_hub_the_page_is_behind_its_proxy(scene, monkeypatch):
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ann/")
    with view(scene, names=["hub.example"]) as page:
        assert f'src="/user/ann/proxy/{page.port}/#' in page._repr_html_()
        base, token = page.url.split("#")
        request = urllib.request.Request(base + "scene", headers={"X-Xtgeo-Token": token, "Host": "hub.example"})
        assert urllib.request.urlopen(request, timeout=20).status == 200


def test_results_in_memory_are_shown_and_reviewed_where_one_says(tmp_path, scene):
    _, frame = boxes(scene)
    with view(scene, frame) as page:
        assert page.review is None
    with view(scene, frame.rename_geometry("shape"), review=tmp_path / "r.gpkg") as page:
        page.review.mark({0: "true"})
    assert (tmp_path / "r.gpkg").exists(), "what is not on disk yet is written at the end"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_its_address_and_ends_in_order(tmp_path, scene, vectors, number):
    command = [sys.executable, "-m", "xtgeo.cli", "view", scene.href, str(vectors), "--no-browser"]
    environment = os.environ | {"SSH_CONNECTION": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        url = process.stdout.readline().strip()
        base, token = re.fullmatch(r"(http://127\.0\.0\.1:\d+/)#(\S+)", url).groups()
        assert "ssh -N -L" in process.stdout.readline()
        body = json.dumps({"marks": {"0": "true"}}).encode()
        urllib.request.urlopen(urllib.request.Request(base + "review", body, {"X-Xtgeo-Token": token}), timeout=20)
        process.send_signal(number)
        out, error = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == (0 if number == signal.SIGINT else 143)
    assert "Traceback" not in error
    assert number == signal.SIGTERM or "1 true, 0 false, 0 unsure, 11 unseen" in out
