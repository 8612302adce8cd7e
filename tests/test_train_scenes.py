"""Labels of every kind lie where they should, and crops of scenes see what is there."""

import json
import pickle
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from rasterio.control import GroundControlPoint

from xtgeo.errors import LabelError, SceneError
from xtgeo.grid import pixel_to_crs
from xtgeo.model import Spec
from xtgeo.read import open_scene
from xtgeo.train import IGNORE, Augment, Crops, Sampling
from xtgeo.train.areas import Areas, Stretch, area_of
from xtgeo.train.labels import Labels, read_labels
from xtgeo.train.prepare import expand, prepare
from xtgeo.train.scenes import coast, common_gsd, hold_out, label, statistics
from xtgeo.window import Nest, Window

SQUARES = [(20, 30, 8), (60, 100, 10), (110, 40, 6)]
"""Row, column and side."""
SPEC = Spec(
    name="t", bands=("vv", "vh"), units="db", mean=(-20.0, -20.0), std=(2.0, 2.0), gsd=10.0, region=64, margin=16, stride=16,
    classes=("ship", "buoy"), backbone="mobilenetv4_conv_small",
)  # fmt: skip


def write_tif(path, origin=(500_000.0, 4_000_000.0), shape=(150, 180), pixel=10.0, gcps=False, seed=0):
    """Noise at -20 dB with squares at -5, a wedge of nodata on the right."""
    data = np.random.default_rng(seed).normal(-20, 1, (2, *shape)).astype(np.float32)
    for row, column, side in SQUARES:
        data[:, row : row + side, column : column + side] = -5
    data[:, :, -12:] = -9999
    place = Affine(pixel, 0, origin[0], 0, -pixel, origin[1])
    profile = {"driver": "GTiff", "count": 2, "height": shape[0], "width": shape[1], "dtype": "float32", "nodata": -9999}
    profile |= {"gcps": points(place, shape), "crs": "EPSG:4326"} if gcps else {"crs": "EPSG:32631", "transform": place}
    with rasterio.open(path, "w", **profile) as f:
        f.write(data)
        f.descriptions = ("vv", "vh")
        f.units = ("dB", "dB")
    return path


def points(place, shape):
    from pyproj import Transformer

    to = Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True)
    places = [(r, c) for r in np.linspace(0, shape[0], 6) for c in np.linspace(0, shape[1], 7)]
    return [GroundControlPoint(r, c, *to.transform(place.c + place.a * c, place.f + place.e * r)) for r, c in places]


def outlines(scene, crs="EPSG:4326"):
    shapes = []
    for row, column, side in SQUARES:
        rows, columns = np.array([0, 0, 1, 1]) * side + row, np.array([0, 1, 1, 0]) * side + column
        shapes.append(shapely.Polygon(np.stack(pixel_to_crs(scene.grid, rows, columns, crs), 1)))
    table = {"kind": ["ship", "buoy", None], "confidence": ["HIGH", "LOW", "HIGH"]}
    return gpd.GeoDataFrame(table, geometry=shapes, crs=crs)


def spec_of(classes, task="segment"):
    return replace(SPEC, classes=classes, task=task)


def bright_pixels(scene):
    block = scene.read(Window(0, 0, *scene.shape))
    return (block.data[0] > -10) & block.valid


@pytest.fixture
def scene(tmp_path):
    return open_scene(write_tif(tmp_path / "port.tif"))


def grounds(scene, path, **options):
    return label([scene], read_labels([scene], [path], **options), SPEC)[0]


@pytest.mark.parametrize("ending", ["gpkg", "geojson", "fgb", "parquet"])
@pytest.mark.parametrize("gcps", [False, True])
def test_outlines_of_any_file_and_crs_lie_on_what_is_bright(tmp_path, ending, gcps):
    scene = open_scene(write_tif(tmp_path / "port.tif", gcps=gcps))
    frame, path = outlines(scene, "EPSG:4326" if ending == "geojson" else "EPSG:3857"), tmp_path / f"port_labels.{ending}"
    frame.to_parquet(path) if ending == "parquet" else frame.to_file(path)
    labels = read_labels([scene], [path], column="kind", ignore=())[0]
    planes = labels.class_planes(Window(0, 0, *scene.shape), SPEC.classes)
    bright = bright_pixels(scene)
    assert np.array_equal(planes > 0, bright)
    assert [planes[r + 2, c + 2] for r, c, _ in SQUARES] == [1, 2, IGNORE]
    assert sorted(labels.length_m) == pytest.approx([60, 80, 100], rel=0.02)


def test_what_is_uncertain_is_neither_right_nor_wrong_and_other_classes_are_background(scene, tmp_path):
    outlines(scene).to_file(tmp_path / "l.gpkg")
    planes = read_labels([scene], [tmp_path / "l.gpkg"], column="kind")[0].class_planes(Window(0, 0, 150, 180), SPEC.classes)
    assert planes[62, 102] == IGNORE
    ground = label([scene], read_labels([scene], [tmp_path / "l.gpkg"], column="kind", ignore=()), spec_of(("ship",)))[0]
    assert ground.truth(Window(0, 0, 150, 180))[62, 102] == 0 and len(ground.centres) == 1


def test_every_window_of_the_labels_is_that_part_of_the_whole(scene, tmp_path):
    outlines(scene).to_file(tmp_path / "l.gpkg")
    for task in ("segment", "detect"):
        spec = spec_of(("ship", "buoy"), task)
        ground = label([scene], read_labels([scene], [tmp_path / "l.gpkg"], column="kind"), spec)[0]
        whole = ground.truth(Window(0, 0, 150, 180))
        for tile in Nest((150, 180), 32, 1, 0):
            assert np.array_equal(ground.truth(tile.core), whole[(..., *tile.core.slices)]), task
    assert (whole[0] == 1).sum() == 1 and whole[0, 24, 34] == 1 and whole[0, 65, 105] == IGNORE


def test_the_xview3_table_gives_centres_and_what_is_known_of_them(scene, tmp_path):
    rows = [
        (24, 34, True, True, 18.0, "HIGH"), (65, 105, True, np.nan, np.nan, "MEDIUM"), (113, 43, False, np.nan, 30.0, "LOW"),
        (5, 5, np.nan, np.nan, np.nan, "HIGH"), (900, 5, True, False, 10.0, "HIGH"),
    ]  # fmt: skip
    names = ["detect_scene_row", "detect_scene_column", "is_vessel", "is_fishing", "vessel_length_m", "confidence"]
    pd.DataFrame(rows, columns=names).assign(scene_id="port").to_csv(tmp_path / "l.csv", index=False)
    labels = read_labels([scene], [tmp_path / "l.csv"])[0]
    assert list(labels.names) == ["object", "object", "", ""]
    assert np.array_equal(labels.vessel, [1, 1, 0, np.nan], equal_nan=True)
    planes = labels.centre_planes(Window(0, 0, 150, 180), ("object",))
    assert planes[:, 24, 34].tolist() == [1, 1, 1, 9] and planes[:, 65, 105].tolist() == [1, 1, IGNORE, 0]
    assert planes[0, 113, 43] == IGNORE and planes[0, 5, 5] == IGNORE and (planes[0] == 1).sum() == 2


def test_coco_outlines_boxes_and_crowds_are_read_by_file_name(scene, tmp_path):
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [[30, 20, 38, 20, 38, 28, 30, 28]], "bbox": [30, 20, 8, 8]},
        {"id": 2, "image_id": 7, "category_id": 4, "segmentation": [], "bbox": [100, 60, 10, 10]},
        {"id": 3, "image_id": 7, "category_id": 3, "iscrowd": 1, "segmentation": {"counts": []}, "bbox": [40, 110, 6, 6]},
        {"id": 4, "image_id": 8, "category_id": 3, "bbox": [0, 0, 9, 9]},
    ]
    images = [{"id": 7, "file_name": "x/port.jpg"}, {"id": 8, "file_name": "other.jpg"}]
    categories = [{"id": 3, "name": "ship"}, {"id": 4, "name": "buoy"}]
    (tmp_path / "l.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    ground = grounds(scene, tmp_path / "l.json")
    planes, bright = ground.truth(Window(0, 0, 150, 180)), bright_pixels(scene)
    assert np.array_equal(planes > 0, bright)
    assert [planes[r + 2, c + 2] for r, c, _ in SQUARES] == [1, 2, IGNORE]


def test_a_label_raster_is_the_target_where_it_lies_on_the_scene(scene, tmp_path):
    mask = np.zeros((150, 180), np.uint8)
    for i, (row, column, side) in enumerate(SQUARES):
        mask[row : row + side, column : column + side] = (1, 2, 255)[i]
    place = Affine(10, 0, 500_000, 0, -10, 4_000_000)
    profile = {"driver": "GTiff", "count": 1, "height": 150, "width": 180, "dtype": "uint8", "crs": "EPSG:32631", "nodata": 255}
    with rasterio.open(tmp_path / "l.tif", "w", transform=place, **profile) as f:
        f.write(mask, 1)
    ground = grounds(scene, tmp_path / "l.tif")
    assert np.array_equal(ground.truth(Window(0, 0, 150, 180)), mask)
    assert set(ground.kinds) == {1, 2} and all(mask[y, x] in (1, 2) for y, x in ground.centres)
    with rasterio.open(tmp_path / "l.tif", "w", transform=Affine(10, 0, 500_030, 0, -10, 4_000_000), **profile) as f:
        f.write(mask, 1)
    with pytest.raises(LabelError, match="does not lie on the pixels of port"):
        grounds(scene, tmp_path / "l.tif")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f.set_crs(None, allow_override=True), "no CRS"),
        (lambda f: f.set_geometry(f.geometry.boundary), "LineString"),
        (lambda f: f.set_geometry(f.translate(5, 5)), "no label"),
        (lambda f: f.iloc[:0], "no label"),
        (lambda f: f.rename(columns={"kind": "sort"}), "no column 'kind'"),
    ],
)
@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_labels_that_cannot_be_used_are_refused_in_one_line(scene, tmp_path, make, message):
    path = tmp_path / "port.gpkg"
    make(outlines(scene)).to_file(path)
    with pytest.raises(LabelError, match=message) as e:
        read_labels([scene], [path], column="kind")
    assert "\n" not in str(e.value)


def test_labels_are_found_by_the_name_of_their_scene(tmp_path):
    a, b = (open_scene(write_tif(tmp_path / name)) for name in ("port.tif", "porto.tif"))
    for s in (a, b):
        outlines(s).iloc[: 1 if s is a else 2].to_file(tmp_path / f"{s.id}_labels.gpkg")
    files = [tmp_path / "port_labels.gpkg", tmp_path / "porto_labels.gpkg"]
    assert [len(one) for one in read_labels([a, b], files)] == [1, 2]
    with pytest.raises(LabelError, match="no label file for porto"):
        read_labels([a, b], [files[0], tmp_path / "other.gpkg"])


def test_crops_are_a_function_of_seed_and_number_and_survive_a_process(scene, tmp_path):
    outlines(scene).to_file(tmp_path / "l.gpkg")
    ground = grounds(scene, tmp_path / "l.gpkg", column="kind", ignore=())
    source = Crops([ground], 64, sampling=Sampling(0.8), augment=Augment(turn=90, mirror=True, noise=0.1, haze=0.5), seed=4)
    there = pickle.loads(pickle.dumps(source))
    for i in (5, 3):
        for a, b in zip(source[i], there[i], strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(source[5][0], source[3][0])
    plain = Crops([ground], 64, sampling=Sampling(1.0), seed=1)
    for i in range(10):
        data, valid, target = plain[i]
        assert ((target[valid] == 1) | (target[valid] == 2) | (target[valid] == IGNORE)).eq(data[0][valid] > 5).all()
        assert (target[~valid] == IGNORE).all() and (data[:, ~valid] == 0).all()


def test_crops_lie_where_the_shares_say(scene, tmp_path):
    outlines(scene).to_file(tmp_path / "l.gpkg")
    land = shapely.box(0, 130, 180, 150)
    ground = label([scene], read_labels([scene], [tmp_path / "l.gpkg"]), spec_of(("object",)), shore=[coast(land, scene.shape)])[0]
    assert len(ground.shore) >= 4 and (ground.shore[:, 0] == 130).any()
    rng, source = np.random.default_rng(0), Crops([ground], 20, sampling=Sampling(0.0, 1.0))
    rows = [source.place(rng)[1] for _ in range(50)]
    assert min(rows) > 120
    kinds = Crops([grounds(scene, tmp_path / "l.gpkg", column="kind", ignore=())], 4, sampling=Sampling(1.0))
    columns = np.array([kinds.place(rng)[2] for _ in range(200)])
    assert 60 < (columns > 80).sum() < 140  # one ship, one buoy: either as often
    with pytest.raises(ValueError, match="shares"):
        Sampling(0.8, 0.3)


def test_centres_move_with_a_turned_crop_and_none_is_lost_or_doubled(scene, tmp_path):
    outlines(scene).to_file(tmp_path / "l.gpkg")
    ground = label([scene], read_labels([scene], [tmp_path / "l.gpkg"]), spec_of(("object",), "detect"))[0]
    source = Crops([ground], 60, sampling=Sampling(1.0), augment=Augment(turn=180, scale=1.5, mirror=True), seed=2)
    found = 0
    for i in range(12):
        data, valid, target = source[i]
        rows, columns = (target[0] == 1).nonzero(as_tuple=True)
        found += len(rows)
        inside = (rows > 3) & (columns > 3) & (rows < 56) & (columns < 56)
        assert (data[0, rows[inside], columns[inside]] > 4).all()
    assert found >= 12


def test_a_part_of_a_scene_knows_nothing_of_the_rest(scene, tmp_path):
    outlines(scene).to_file(tmp_path / "l.gpkg")
    upper, lower = (part[0] for part in hold_out([grounds(scene, tmp_path / "l.gpkg", column="kind", ignore=())], 0.4))
    assert (len(upper.centres), len(lower.centres)) == (2, 0)
    for part in (upper, lower):
        data, valid, target = part.cut(Window(60, 0, 60, 180))
        assert valid.any() and not valid.all() and (target[~valid] == IGNORE).all()
    assert not (upper.cut(Window(0, 0, 150, 180))[1] & lower.cut(Window(0, 0, 150, 180))[1]).any()


def test_scenes_of_one_place_are_held_out_together(tmp_path):
    scenes = [open_scene(write_tif(tmp_path / f"{i}.tif", origin=(500_000.0 + 1e5 * (i // 2), 4_000_000.0))) for i in range(8)]
    some = label(scenes, [Labels.of([shapely.box(30, 20, 38, 28)], ["ship"])] * 8, SPEC)
    learnt, judged = hold_out(some, 0.25)
    assert len(judged) == 2 and len(learnt) == 6
    assert {int(g.scene.id) // 2 for g in judged}.isdisjoint({int(g.scene.id) // 2 for g in learnt})


def test_statistics_are_of_valid_pixels_and_sizes_of_pixels_must_agree(scene, tmp_path):
    mean, std = statistics([scene])
    assert np.allclose(mean, -20, atol=0.6) and (np.array(std) < 3).all()
    other = open_scene(write_tif(tmp_path / "coarse.tif", pixel=50.0))
    assert common_gsd([scene]) == pytest.approx(10, rel=0.01)
    with pytest.raises(SceneError, match="two sizes"):
        common_gsd([scene, other])


def test_the_coast_is_where_land_ends_within_the_scene():
    places = coast(shapely.box(-10, 40, 200, 300), (100, 120))
    assert (places[:, 0] == 40).all() and len(places) >= 3 and coast(shapely.Polygon(), (9, 9)).shape == (0, 2)


def test_an_area_read_tile_by_tile_is_the_crop_of_its_size(scene, tmp_path):
    outlines(scene).to_file(tmp_path / "l.gpkg")
    ground = grounds(scene, tmp_path / "l.gpkg", column="kind", ignore=())
    window = Window(10, 20, 96, 80)
    data, valid, target = ground.part(window).cut(window)
    area = area_of(ground, window)
    turned = area_of(ground, window, _Always(), Augment(reverse=True))
    for tile in Nest(window.shape, 32, 1, 16):
        for some, sign in ((area, 1), (turned, -1)):
            x, seen = some.read(tile)
            inner = (..., slice(16, 16 + tile.core.h), slice(16, 16 + tile.core.w))
            assert np.allclose(x[0][inner], data[:, ::sign, ::sign][(..., *tile.core.slices)])
            assert np.array_equal(seen[0][inner[1:]], valid[::sign, ::sign][tile.core.slices])
            assert np.array_equal(some.truth(tile)[0], target[::sign, ::sign][tile.core.slices])
    areas, one = Areas(Crops([ground], 64, sampling=Sampling(1.0))), Nest((64, 64), 64, 1, 16)[0]
    assert areas[0].shape == (64, 64) and torch.equal(areas[3].read(one)[0], areas[3].read(one)[0])


class _Always:
    """A generator whose coin falls on one side and whose bounds are met in the middle."""

    def random(self):
        return 0.0

    def uniform(self, low, high, shape):
        return np.zeros(shape)


def test_stretches_follow_each_other_without_gap_or_repetition():
    order = Stretch(5)
    seen = []
    for epoch in range(3):
        order.set_epoch(epoch)
        seen += list(order)
    assert seen == list(range(15)) and len(order) == 5


def test_patterns_that_find_nothing_and_scenes_of_one_name_are_refused(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    with pytest.raises(SceneError, match="no file is like"):
        expand([str(tmp_path / "*.tif")])
    for folder in "ab":
        write_tif(tmp_path / folder / "port.tif")
    with pytest.raises(SceneError, match="two scenes are called port"):
        prepare([str(tmp_path / "*" / "port.tif")], [tmp_path / "l.gpkg"])


def test_a_missing_band_is_nothing_to_the_network(scene, tmp_path):
    outlines(scene).to_file(tmp_path / "l.gpkg")
    spec = replace(spec_of(("object",)), optional=("vv", "vh"))
    ground = label([scene.select("vh")], read_labels([scene], [tmp_path / "l.gpkg"]), spec)[0]
    data = ground.cut(Window(0, 0, 40, 40))[0]
    assert (data[0] == 0).all() and data[1].any() and (ground.read(Window(0, 0, 40, 40)).data[0] == spec.mean[0]).all()
