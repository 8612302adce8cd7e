import hashlib
import json
import os
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from forked import Forked
from odc.geo.geobox import GeoBox
from PIL import Image
from rasterio.control import GroundControlPoint
from rio_cogeo.cogeo import cog_validate

from xtgeo import open_scene
from xtgeo.decode import NODATA, SCORE_SCALE, Fragments
from xtgeo.detections import FIELDS, Origin, describe, moment
from xtgeo.errors import OutputError
from xtgeo.grid import GcpGrid, pixel_to_lonlat
from xtgeo.scene import Block
from xtgeo.window import Nest, Window
from xtgeo.write import FORMATS, RasterSink, VectorSink, check_crs, check_target, quicklook, write_picture

SHAPE = (700, 531)
UTM = GeoBox(SHAPE, Affine(10, 0, 500000, 0, -10, 5800000), "EPSG:32631")
NOWHERE = GeoBox(SHAPE, Affine.identity(), None)
OUTLINE = shapely.box(0, 0, *SHAPE[::-1])
BOXES = [(20, 30, 23, 41), (100, 7, 104, 9), (0, 600, 5, 610)]


def by_points(grid=UTM):
    rows, columns = (v.ravel() for v in np.meshgrid(np.linspace(0, 700, 8), np.linspace(0, 531, 7), indexing="ij"))
    lon, lat = pixel_to_lonlat(grid, rows, columns)
    points = [GroundControlPoint(*p, 12.5) for p in zip(rows, columns, lon, lat, strict=True)]
    return GcpGrid.from_gcps(points, SHAPE, "EPSG:4326")


def detections(grid=UTM, boxes=BOXES, time=datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)):
    n = len(boxes)
    outlines = shapely.multipolygons([[shapely.box(*b)] for b in boxes]) if n else np.empty(0, object)
    pixels = shapely.area(outlines).astype(int)
    found = Fragments(outlines, np.ones(n, np.uint8), pixels, pixels * 0.75, np.full(n, 0.9, "f4"), np.zeros(n, bool))
    return describe(
        found, grid, shape=SHAPE, classes=("vessel",),
        origin=Origin("a", "m", "1", 0.5, "c", moment(time), "p", "s1a", "ascending", 7),
    )  # fmt: skip


def save(path, found=None, **options):
    with VectorSink(path, **options) as sink:
        sink.write(detections() if found is None else found, ("a", OUTLINE))
    return path


def load(path):
    if path.suffix == ".parquet":
        return gpd.read_parquet(path)
    if path.suffix == ".csv":
        table = pd.read_csv(path, dtype={"scene_id": str, "model_version": str, "flags": str}, parse_dates=["timestamp"])
        table["flags"] = table["flags"].fillna("")
        return gpd.GeoDataFrame(table.drop(columns=["geometry", "crs"]), geometry=gpd.GeoSeries.from_wkt(table["geometry"]))
    return gpd.read_file(path, **({"layer": "detections"} if path.suffix == ".gpkg" else {}))


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


formats = pytest.mark.parametrize("suffix", FORMATS)


@formats
def test_vectors_come_back_as_they_were(tmp_path, suffix):
    frame = load(save(tmp_path / f"v{suffix}")).sort_values("detect_scene_row", ignore_index=True)
    truth = detections().to_frame("EPSG:4326" if suffix == ".geojson" else None).sort_values("detect_scene_row", ignore_index=True)
    assert list(frame.columns) == [*FIELDS, "geometry"]
    assert os.listdir(tmp_path) == [f"v{suffix}"]
    assert shapely.hausdorff_distance(frame.geometry.values, truth.geometry.values).max() < 1e-6
    if suffix != ".csv":
        assert frame.crs == truth.crs
    for name in FIELDS:
        assert ((frame[name] == truth[name]) | truth[name].isna() & frame[name].isna()).all(), name
        assert frame[name].dtype.kind == truth[name].dtype.kind or truth[name].isna().all(), name
    assert str(frame["timestamp"].dt.tz) == "UTC"


@formats
def test_nothing_found_gives_a_file_with_all_columns(tmp_path, suffix):
    for when in (None, datetime(2024, 5, 6, tzinfo=UTC)):
        path = save(tmp_path / f"v{suffix}", detections(boxes=[], time=when), overwrite=True)
        if suffix == ".csv":
            assert path.read_text().strip() == ",".join([*FIELDS, "geometry", "crs"])
            continue
        frame = load(path)
        assert len(frame) == 0
        # GeoJSON has no place for the columns of features that are not there.
        if suffix != ".geojson":
            assert list(frame.columns) == [*FIELDS, "geometry"] and frame.crs.to_epsg() == 32631
        if suffix in (".gpkg", ".fgb"):
            filled = save(tmp_path / f"w{suffix}", overwrite=True)
            empty, filled = (pyogrio.read_info(p, layer=0) for p in (path, filled))
            assert empty["ogr_types"] == filled["ogr_types"] and empty["geometry_type"] == "MultiPolygon"


@formats
def test_the_same_content_gives_the_same_bytes(tmp_path, suffix):
    first = digest(save(tmp_path / f"a{suffix}", run={"threshold": 0.5}))
    time.sleep(1.1)
    assert digest(save(tmp_path / f"b{suffix}", run={"threshold": 0.5})) == first


def test_threads_that_write_at_the_same_time_give_the_same_bytes(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda i: save(tmp_path / f"{i}.gpkg"), range(24)))
    assert len({path.read_bytes() for path in paths}) == 1


@formats
@pytest.mark.parametrize("grid", [pytest.param(NOWHERE, id="nowhere"), pytest.param(by_points(), id="control points")])
def test_scenes_without_an_affine_on_the_earth_can_be_written(tmp_path, suffix, grid):
    frame = load(save(tmp_path / f"v{suffix}", detections(grid)))
    if grid is NOWHERE:
        assert tuple(frame.total_bounds) == (0, 7, 104, 610) and frame["lon"].isna().all()
    else:
        assert suffix == ".csv" or frame.crs.to_epsg() == 4326
        assert frame["lon"].between(*frame.total_bounds[[0, 2]]).all()


def test_geojson_is_longitude_and_latitude_with_seven_decimals(tmp_path):
    path = save(tmp_path / "v.geojson", crs="EPSG:3857")
    content = json.loads(path.read_text())
    xy = np.array(content["features"][0]["geometry"]["coordinates"][0][0])
    assert "crs" not in content and (np.abs(xy[:, 0] - 3) < 1).all() and (np.abs(xy[:, 1] - 52) < 1).all()
    assert (xy.round(7) == xy).all() and shapely.LinearRing(xy).is_ccw


def test_a_geopackage_has_the_scene_and_the_run(tmp_path):
    path = save(tmp_path / "v.gpkg", run={"model": "m", "threshold": 0.5, "source": "a.tif"})
    assert [name for name, _ in pyogrio.list_layers(path)] == ["detections", "scene_footprint", "run"]
    footprint = gpd.read_file(path, layer="scene_footprint")
    assert footprint.total_bounds.tolist() == [500000, 5793000, 505310, 5800000]
    run = pyogrio.read_dataframe(path, layer="run")
    assert run.to_dict("records") == [{"model": "m", "threshold": 0.5, "source": "a.tif"}]
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def test_several_scenes_make_one_layer(tmp_path):
    with VectorSink(tmp_path / "v.gpkg") as sink:
        sink.write(detections(), ("a", OUTLINE))
        sink.write(detections(by_points()), ("b", OUTLINE))
    frame = load(tmp_path / "v.gpkg")
    assert len(frame) == 2 * len(BOXES) and frame.crs.to_epsg() == 32631
    here, there = frame.geometry[: len(BOXES)], frame.geometry[len(BOXES) :]
    assert shapely.hausdorff_distance(here.values, there.values).max() < 0.1
    assert len(gpd.read_file(tmp_path / "v.gpkg", layer="scene_footprint")) == 2


def test_an_error_while_writing_leaves_nothing_and_the_old_file(tmp_path):
    (tmp_path / "v.gpkg").write_bytes(b"mine")
    with pytest.raises(KeyError), VectorSink(tmp_path / "v.gpkg", overwrite=True) as sink:
        sink.write(detections())
        raise KeyError
    (tmp_path / "m.tif").write_bytes(b"mine")
    with pytest.raises(KeyError), raster(tmp_path / "m.tif", overwrite=True) as sink:
        sink.write(Block(Window(0, 0, 9, 9), np.ones((1, 9, 9), np.uint8), np.ones((9, 9), bool)))
        raise KeyError
    assert sorted(os.listdir(tmp_path)) == ["m.tif", "v.gpkg"]
    assert (tmp_path / "v.gpkg").read_bytes() == (tmp_path / "m.tif").read_bytes() == b"mine"


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "v.gpkg").write_bytes(b"mine")
    with pytest.raises(OutputError, match="--overwrite"):
        VectorSink(tmp_path / "v.gpkg")
    with pytest.raises(OutputError, match=r"unknown extension '.shp': choose one of .gpkg, .geojson"):
        VectorSink(tmp_path / "v.shp")
    with pytest.raises(OutputError, match="does not exist: create it"):
        raster(tmp_path / "no" / "m.tif")
    (tmp_path / "folder.gpkg").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        check_target(tmp_path / "folder.gpkg", overwrite=True)
    with pytest.raises(OutputError, match="EPSG:4326"):
        check_crs("EPSG:nonsense")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_writable_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="not writable"):
        VectorSink(tmp_path / "v.gpkg")


def overflow(folder, names):
    """Writes every kind of file to disks that are too small for it."""
    import resource

    found = detections(boxes=[(x, y, x + 3, y + 4) for y in range(0, 600, 12) for x in range(0, 500, 12)])
    for path in (folder / name for name in names):
        write = partial(noise, path) if path.suffix == ".tif" else partial(save, path, found)
        write()
        size = path.stat().st_size
        path.unlink()
        # Almost enough is the hard case: what is lost is lost on closing.
        for limit in (size - 1, size - 3000, size * 9 // 10, size // 3, 5000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            with pytest.raises(OutputError, match=r"^[^\n]*cannot be written[^\n]*$"):
                write()
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            assert not list(folder.iterdir()), list(folder.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit on file sizes")
def test_a_full_disk_is_one_clear_line_and_never_half_a_file(tmp_path):
    (tmp_path / "disk").mkdir()
    code, err = Forked(tmp_path / "err", overflow, tmp_path / "disk", [f"v{suffix}" for suffix in FORMATS] + ["m.tif"]).end()
    assert code == 0, err[-2000:]  # libtiff says there what it thinks of the disk


def raster(path, grid=UTM, **options):
    return RasterSink(path, grid, SHAPE, **{"nodata": NODATA} | options)


def picture(seed=0, count=1):
    return np.random.default_rng(seed).integers(0, 255, (count, *SHAPE), dtype=np.uint8)


def fill(sink, data, region=200, order=1, span=1):
    with sink:
        for tile in list(Nest(SHAPE, region=region, span=span))[::order]:
            core = tile.core
            sink.write(Block(core, data[:, *core.slices], np.ones(core.shape, bool)))


def noise(path):
    fill(raster(path), picture())


def read(path):
    with rasterio.open(path) as file:
        return file.read()


@pytest.mark.parametrize("averaged", [False, True])
def test_a_raster_is_a_valid_cog_with_what_was_brought(tmp_path, averaged):
    path = tmp_path / "m.tif"
    fill(raster(path, count=2, averaged=averaged, scale=SCORE_SCALE, descriptions=("ship", "boat")), picture(count=2))
    assert os.listdir(tmp_path) == ["m.tif"]
    valid, errors, warnings = cog_validate(path)
    assert valid and not errors and not warnings
    np.testing.assert_array_equal(read(path), picture(count=2))
    with rasterio.open(path) as file:
        assert file.crs.to_epsg() == 32631 and file.transform == UTM.affine and file.nodata == NODATA
        assert file.scales == (SCORE_SCALE,) * 2 and file.descriptions == ("ship", "boat") and file.overviews(1) == [2]
        small = file.read(1, out_shape=(350, 266), resampling=rasterio.enums.Resampling.nearest)
    if averaged:
        # 531 columns become 266, so the squares are a hair less than 2 wide: exact only at the left.
        means = picture(count=2)[0, :, :2].reshape(350, 2, 2).mean((1, 2))
        assert np.abs(small[:, 0] - means).max() < 2 and small.std() < 45
    else:
        assert small.std() > 70


def test_the_order_and_size_of_blocks_do_not_matter(tmp_path):
    fill(raster(tmp_path / "a.tif"), picture())
    fill(raster(tmp_path / "b.tif"), picture(), order=-1)
    fill(raster(tmp_path / "c.tif"), picture(), region=97, span=3)
    assert digest(tmp_path / "a.tif") == digest(tmp_path / "b.tif") == digest(tmp_path / "c.tif")


def test_what_is_not_brought_or_not_valid_is_nodata(tmp_path):
    valid = np.ones((60, 50), bool)
    valid[:, 20:] = False
    with raster(tmp_path / "m.tif") as sink:
        sink.write(Block(Window(600, 11, 60, 50), np.ones((1, 60, 50), np.uint8), valid))
    expected = np.full(SHAPE, NODATA)
    expected[600:660, 11:31] = 1
    np.testing.assert_array_equal(read(tmp_path / "m.tif")[0], expected)


def test_overviews_of_scores_leave_nodata_out(tmp_path):
    data = np.full((1, *SHAPE), 100, np.uint8)
    data[:, ::2] = NODATA
    fill(raster(tmp_path / "s.tif", averaged=True), data)
    with rasterio.open(tmp_path / "s.tif", overview_level=0) as file:
        assert (file.read() == 100).all()


def test_control_points_are_kept_all_of_them(tmp_path):
    grid = by_points()
    fill(raster(tmp_path / "m.tif", grid), picture())
    assert cog_validate(tmp_path / "m.tif")[0]
    with rasterio.open(tmp_path / "m.tif") as file:
        points, crs = file.gcps
    assert crs.to_epsg() == 4326
    found = np.array([(p.row, p.col, p.x, p.y, p.z) for p in points]).T
    np.testing.assert_allclose(found, grid.points, atol=1e-9)


@pytest.mark.parametrize("south_up", [False, True])
def test_rotated_and_south_up_grids_are_kept(tmp_path, south_up):
    affine = Affine.translation(500000, 5800000) @ Affine.rotation(0 if south_up else 20)
    affine = affine @ Affine.scale(10, 10 if south_up else -10)
    fill(raster(tmp_path / "m.tif", GeoBox(SHAPE, affine, "EPSG:32631")), picture())
    with rasterio.open(tmp_path / "m.tif") as file:
        assert file.transform.almost_equals(affine, 1e-9)
        np.testing.assert_array_equal(file.read(), picture())


def test_a_scene_without_a_place_gives_a_raster_without_one(tmp_path):
    fill(raster(tmp_path / "m.tif", NOWHERE), picture())
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(tmp_path / "m.tif") as file:
        assert file.crs is None and file.transform.is_identity and file.gcps == ([], None)


def test_classes_have_their_colours(tmp_path):
    fill(raster(tmp_path / "m.tif", colours={1: (255, 0, 0), 2: (0, 0, 255)}), picture() % 3)
    with rasterio.open(tmp_path / "m.tif") as file:
        assert file.colormap(1)[1] == (255, 0, 0, 255) and file.colormap(1)[2] == (0, 0, 255, 255)
        np.testing.assert_array_equal(file.read(), picture() % 3)


def scene(path, count=1, names=("vv",), value=-20.0):
    data = np.random.default_rng(0).normal(value, 1, (count, *SHAPE)).astype(np.float32)
    data[:, 300:, :100] = np.nan
    with rasterio.open(
        path, "w", driver="GTiff", height=SHAPE[0], width=SHAPE[1], count=count, dtype="float32",
        crs="EPSG:32631", transform=UTM.affine, nodata=np.nan,
    ) as file:  # fmt: skip
        file.write(data)
        file.descriptions = names
    return path


@pytest.mark.parametrize(("names", "units"), [(("vv",), "db"), (("vv", "vh"), "db"), (("B02", "B03", "B04"), "reflectance")])
def test_a_quicklook_shows_outlines_rings_and_nodata(tmp_path, names, units):
    path = scene(tmp_path / "s.tif", len(names), names, value=-20.0 if units == "db" else 5.0)
    seen = open_scene(path, units=units)
    found = detections(boxes=[(200, 100, 260, 130), (400, 500, 403, 504)])
    write_picture(tmp_path / "q.png", quicklook(seen, found, max_side=700))
    with Image.open(tmp_path / "q.png") as image:
        picture = np.asarray(image)
    assert picture.shape == (*SHAPE, 4)
    assert (picture[320:, :90, 3] == 0).all() and (picture[:290, :, 3] == 255).all()
    outline, ring = ((picture == [*colour, 255]).all(-1) for colour in ((255, 210, 0), (255, 90, 60)))
    assert outline[100, 230] and outline[115, 200] and not outline[115, 230]
    assert ring[502, 385:400].any() and ring[480:500, 401].any() and not ring[:400].any()


def test_a_quicklook_is_never_larger_than_asked_and_small_scenes_are_enlarged(tmp_path):
    seen = open_scene(scene(tmp_path / "s.tif"), units="db")
    for side, expected in ((300, (228, 300)), (1500, (1062, 1400)), (9000, (2124, 2800))):
        write_picture(tmp_path / "q.png", quicklook(seen, detections(), max_side=side), overwrite=True)
        with Image.open(tmp_path / "q.png") as image:
            assert image.size == expected


def test_the_quicklook_of_a_real_port_has_its_vessels_outlined(tmp_path, shared):
    seen = open_scene(shared / "data/sen2ships/valencia.tif")
    write_picture(tmp_path / "q.png", quicklook(seen, detections(seen.grid, boxes=[(200, 100, 260, 130)])))
    with Image.open(tmp_path / "q.png") as image:
        picture = np.asarray(image)
    assert max(picture.shape) == 1600 and (picture == [255, 210, 0, 255]).all(-1).sum() > 100
