import json
import os
import signal
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from forked import Forked
from odc.geo.geobox import GeoBox
from pandas.testing import assert_frame_equal
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rio_cogeo.cogeo import cog_validate
from xtgeo.cli import main

from xtgeo import load_model, open_scene, segment
from xtgeo.conversion import convert
from xtgeo.detections import Origin, moment
from xtgeo.errors import LabelError, OutputError
from xtgeo.evaluate.xview3 import score
from xtgeo.evaluate.xview3_files import read_labels, read_predictions, to_predictions
from xtgeo.grid import WGS84, GcpGrid, lonlat_to_pixel, pixel_to_crs, pixel_to_lonlat
from xtgeo.item import OPTIONS, describe_run, write_item
from xtgeo.model.spec import Spec
from xtgeo.peaks import Peaks
from xtgeo.points import describe_points
from xtgeo.scene import Block, Scene
from xtgeo.window import Window
from xtgeo.write import FORMATS, RasterSink, VectorSink, dataset, read_tables
from xtgeo.write.warp import plan_warp

SHAPE = (700, 531)
UTM = GeoBox(SHAPE, Affine(10, 0, 500000, 0, -10, 5800000), "EPSG:32631")
TIME = datetime(2024, 5, 6, 7, 8, 9, 123000, tzinfo=UTC)
OUTLINE = shapely.box(0, 0, 531, 700)
RUN = {"scene_id": "a", "xtgeo": "0", "threshold": 0.1 + 0.2, "tile_px": 512, "model_sha256": "0" * 64}


def scattered(n=40, seed=0, scene_id="a", grid=UTM):
    """Points with everything that can be null null somewhere."""
    rng = np.random.default_rng(seed)
    known = rng.random(n) < 0.7
    found = Peaks(
        y=np.zeros(n, int), x=np.zeros(n, int), row=rng.uniform(0, 700, n), column=rng.uniform(0, 531, n),
        score=rng.random(n).astype("f4"), vessel=np.where(known, rng.random(n), np.nan).astype("f4"),
        fishing=rng.random(n).astype("f4"), length=rng.uniform(5, 300, n).astype("f4"), top=np.ones(n, bool),
    )  # fmt: skip
    return describe_points(
        found, grid, shape=SHAPE, gsd=10.0, sigma0_db={"vh": rng.normal(-10, 3, n)}, contrast_db=rng.random(n),
        measured_m=np.full(n, np.nan),
        origin=Origin(scene_id, "m", "1", 0.3, "c", moment(TIME if seed % 2 == 0 else None), "p", "s1a", None, 7),
    )  # fmt: skip


def save(path, found=None, scene_id="a", **options):
    found = scattered(scene_id=scene_id) if found is None else found
    with VectorSink(path, **{"run": RUN | {"scene_id": scene_id}} | options) as sink:
        sink.write(found, (scene_id, OUTLINE))
    return path


def in_order(table):
    return table.sort_values("detect_id", ignore_index=True)


def same(a, b, metres=0.0):
    """Whether two files hold the same values of the same types at the same places."""
    a, b = (in_order(read_tables(path).detections) for path in (a, b))
    assert_frame_equal(pd.DataFrame(a.drop(columns="geometry")), pd.DataFrame(b.drop(columns="geometry")), check_exact=True)
    if metres:
        assert a.geometry.distance(b.geometry.to_crs(a.crs)).max() < metres
        return True
    assert a.crs == b.crs
    return bool(shapely.equals_identical(a.geometry.values, b.geometry.values).all())


@pytest.mark.parametrize("suffix", FORMATS)
def test_there_and_back_keeps_every_value_type_and_place(tmp_path, suffix):
    first = save(tmp_path / "a.gpkg", crs="EPSG:3857")
    done = convert(first, tmp_path / f"b{suffix}")
    convert(tmp_path / f"b{suffix}", tmp_path / "c.gpkg")
    assert done.objects == 40 and same(first, tmp_path / "c.gpkg", metres=0.02 if suffix == ".geojson" else 0)
    before, after = read_tables(first), read_tables(tmp_path / "c.gpkg")
    table = after.detections
    assert str(table["is_vessel"].dtype) == "boolean" and table["is_vessel"].isna().any() and table["is_vessel"].any()
    assert str(table["timestamp"].dtype) == "datetime64[ms, UTC]" and (table["timestamp"] == TIME).all()
    assert table["orbit_direction"].isna().all() and (table["relative_orbit"] == 7).all() and set(table["flags"]) == {"", "edge"}
    if suffix == ".csv":
        assert done.lost == ("scene_footprint", "run") and not len(after.run) and not len(after.scene_footprint)
        return
    assert_frame_equal(before.run, after.run)
    there = after.scene_footprint.to_crs(before.scene_footprint.crs)
    assert there["scene_id"].tolist() == ["a"]
    assert shapely.hausdorff_distance(there.geometry[0], before.scene_footprint.geometry[0]) < 0.02


@pytest.mark.parametrize("suffix", FORMATS)
def test_columns_that_others_added_and_no_rows_at_all_survive(tmp_path, suffix):
    save(tmp_path / "a.gpkg")
    frame = gpd.read_file(tmp_path / "a.gpkg", layer="detections")
    frame["seen"], frame["mmsi"] = pd.array([None, True] * 20, "boolean"), pd.array([None, 244123456] * 20, "Int64")
    pyogrio.write_dataframe(frame, tmp_path / "b.gpkg", layer="detections")
    convert(tmp_path / "b.gpkg", tmp_path / f"c{suffix}")
    seen = in_order(read_tables(tmp_path / f"c{suffix}").detections)
    truth = in_order(frame)
    assert seen["mmsi"].fillna(0).astype(int).tolist() == truth["mmsi"].fillna(0).tolist()
    assert seen["seen"].isna().sum() == 20 and seen["seen"].dropna().astype(bool).all()

    empty = save(tmp_path / "e.gpkg", scattered(0))
    convert(empty, tmp_path / f"e2{suffix}")
    convert(tmp_path / f"e2{suffix}", tmp_path / "e3.gpkg")
    there, back = (read_tables(path).detections for path in (empty, tmp_path / "e3.gpkg"))
    assert len(back) == 0 and back.dtypes.to_dict() == there.dtypes.to_dict()


def test_xview3s_metric_is_that_of_the_points_whichever_way_they_go(tmp_path):
    found = scattered(200)
    table = found.to_frame()
    rng = np.random.default_rng(1)
    labels = pd.DataFrame(
        {
            "detect_scene_row": table["detect_scene_row"] + rng.integers(-12, 13, 200),
            "detect_scene_column": table["detect_scene_column"] + rng.integers(-12, 13, 200),
            "scene_id": "a",
            "is_vessel": rng.random(200) < 0.7,
            "vessel_length_m": rng.uniform(10, 200, 200),
            "distance_from_shore_km": rng.uniform(0, 6, 200),
            "confidence": rng.choice(["HIGH", "MEDIUM", "LOW"], 200),
        }
    )
    labels["is_fishing"] = labels["is_vessel"] & (rng.random(200) < 0.5)
    labels.to_csv(tmp_path / "labels.csv", index=False)
    true = read_labels([tmp_path / "labels.csv"])
    direct = score(to_predictions(table), true)
    save(tmp_path / "p.gpkg", found)
    convert(tmp_path / "p.gpkg", tmp_path / "p.parquet")
    convert(tmp_path / "p.parquet", tmp_path / "p.csv", columns="xview3")
    assert list(pd.read_csv(tmp_path / "p.csv")) == [
        "detect_scene_row", "detect_scene_column", "scene_id", "is_vessel", "is_fishing", "vessel_length_m",
    ]  # fmt: skip
    assert score(read_predictions([tmp_path / "p.csv"]), true) == direct and direct.aggregate > 0


def test_global_fishing_watchs_columns_hold_vessels_and_nothing_that_is_not_known(tmp_path):
    save(tmp_path / "p.gpkg")
    done = convert(tmp_path / "p.gpkg", tmp_path / "g.csv", columns="gfw")
    table, truth = pd.read_csv(tmp_path / "g.csv"), read_tables(tmp_path / "p.gpkg").detections
    assert list(table) == [
        "scene_id", "timestamp", "lat", "lon", "presence_score", "length_m", "mmsi", "matching_score", "fishing_score",
        "matched_category",
    ]  # fmt: skip
    kept = truth[truth["is_vessel"].fillna(True).astype(bool)]
    assert 0 < len(table) == len(kept) < len(truth) and done.lost[-1] == f"{len(truth) - len(table)} objects that are no vessels"
    assert table["length_m"].tolist() == kept["vessel_length_m"].tolist() and set(table["timestamp"]) == {"2024-05-06 07:08:09 UTC"}
    assert table[["mmsi", "matching_score", "matched_category"]].isna().all().all()


def test_geoparquet_is_1_1_with_a_box_for_each_row(tmp_path):
    path = save(tmp_path / "p.parquet")
    told = json.loads(pq.read_schema(path).metadata[b"geo"])
    assert told["version"] == "1.1.0" and told["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    boxes, frame = pq.read_table(path, columns=["bbox"]).to_pandas()["bbox"], gpd.read_parquet(path)
    assert [b["xmin"] for b in boxes] == frame.geometry.x.tolist() and "bbox" not in frame


def test_a_geojson_over_the_antimeridian_is_cut_there_and_turns_right(tmp_path):
    grid = GeoBox(SHAPE, Affine(10, 0, 817000, 0, -10, 8120000), "EPSG:32760")
    with VectorSink(tmp_path / "a.gpkg") as sink:
        sink.write(scattered(grid=grid), ("a", OUTLINE))
    convert(tmp_path / "a.gpkg", tmp_path / "a.geojson")
    whole = json.loads((tmp_path / "a.geojson").read_text())
    assert "crs" not in whole and whole["xtgeo"]["crs"] == "EPSG:4326"
    outline = read_tables(tmp_path / "a.geojson").scene_footprint.geometry[0]
    assert outline.bounds[0] == -180 and outline.bounds[2] == 180 and outline.area < 0.1 and len(outline.geoms) == 2


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet"])
def test_scenes_are_added_one_by_one_and_are_there_once(tmp_path, suffix):
    path = tmp_path / f"all{suffix}"
    for i, name in enumerate("abc"):
        save(path, scattered(10 + i, seed=i, scene_id=name), name, append=True)
    tables = read_tables(path)
    assert tables.detections.groupby("scene_id").size().to_dict() == {"a": 10, "b": 11, "c": 12}
    assert (
        tables.detections.crs.to_epsg() == 4326
        and tables.run["scene_id"].tolist() == ["a", "b", "c"]
        and len(tables.scene_footprint) == 3
    )
    with pytest.raises(OutputError, match="scene b is in .* already: use --overwrite"):
        save(path, scattered(5, scene_id="b"), "b", append=True)
    save(path, scattered(5, scene_id="b"), "b", append=True, overwrite=True)
    assert read_tables(path).detections.groupby("scene_id").size().to_dict() == {"a": 10, "b": 5, "c": 12}
    with pytest.raises(OutputError, match="is in WGS 84.*leave --crs out"):
        save(path, scattered(5, scene_id="d"), "d", append=True, crs="EPSG:3857")
    truth = scattered(10, scene_id="a").to_frame("EPSG:4326")
    assert_frame_equal(
        in_order(read_tables(path).of_scene("a").detections).drop(columns="geometry"),
        in_order(truth).drop(columns="geometry"),
        check_exact=True,
    )


def test_a_scene_in_which_nothing_was_found_is_there_too(tmp_path):
    for suffix in (".gpkg", ".parquet"):
        path = tmp_path / f"all{suffix}"
        save(path, scattered(0), append=True)
        with pytest.raises(OutputError, match="scene a is in"):
            save(path, append=True)
        save(path, scattered(3, scene_id="b"), "b", append=True)
        assert len(read_tables(path).detections) == 3 and read_tables(path).scene_ids == {"a", "b"}


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet"])
def test_what_was_one_dataset_becomes_another_and_what_is_replaced_leaves_nothing(tmp_path, suffix):
    utm, path = tmp_path / "utm.gpkg", tmp_path / f"all{suffix}"
    for name in "ab":
        save(utm, scattered(7, scene_id=name), name, append=True, crs="EPSG:32631")
    assert convert(utm, path, append=True).objects == 14
    assert read_tables(path).detections.crs.to_epsg() == 4326 and read_tables(utm).detections.crs.to_epsg() == 32631
    with VectorSink(path, append=True, overwrite=True) as sink:
        sink.write(scattered(1, scene_id="a"))
    tables = read_tables(path)
    assert len(tables.detections) == 8 and set(tables.run["scene_id"]) == set(tables.scene_footprint["scene_id"]) == {"b"}


def test_layers_that_others_put_into_a_dataset_stay(tmp_path):
    path = save(tmp_path / "all.gpkg", append=True)
    pyogrio.write_dataframe(pd.DataFrame({"styleName": ["red"]}), path, layer="layer_styles", append=True)
    save(path, scattered(3, scene_id="b"), "b", append=True)
    assert pyogrio.read_dataframe(path, layer="layer_styles")["styleName"].tolist() == ["red"]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT count(*) FROM rtree_detections_geom").fetchone() == (43,)


def add(path, sources, before=None):
    """Adds scenes to a dataset, in another process, after something was done there."""
    if before:
        before()
    for source in sources:
        dataset.append_tables(read_tables(source), path)


def die_at(module, name):
    """The process is killed where this is called next."""
    setattr(sys.modules[module], name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))


def limit():
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, resource.RLIM_INFINITY))


def test_processes_that_add_at_the_same_time_wait_for_each_other(tmp_path):
    names = [f"{name}{i}" for name in "ab" for i in range(4)]
    sources = [save(tmp_path / f"{name}.gpkg", scattered(4, scene_id=name), name) for name in names]
    paths = [tmp_path / "all.gpkg", tmp_path / "all.parquet"]
    running = [Forked(tmp_path / f"{path.suffix}{i}", add, path, sources[i::2]) for path in paths for i in range(2)]
    assert [run.end() for run in running] == [(0, "")] * 4
    for path in paths:
        assert read_tables(path).scene_ids == set(names) and len(read_tables(path).detections) == 4 * len(names)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_kill_or_a_full_disk_while_a_scene_is_added_leaves_what_was_there(tmp_path):
    second = save(tmp_path / "b.gpkg", scattered(9, scene_id="b"), "b")
    paths, full = {}, save(tmp_path / "full.gpkg", append=True)
    held = full.read_bytes()
    stopped = Forked(tmp_path / "full", add, full, [second], limit)
    for name, where in (
        ("rows.gpkg", (dataset.__name__, "check_layers")),
        ("sync.gpkg", ("os", "fsync")),
        ("sync.parquet", ("os", "fsync")),
    ):
        path = save(tmp_path / name, append=True)
        files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
        killed = Forked(tmp_path / f"{name}.err", add, path, [second], partial(die_at, *where))
        paths[path] = killed, files, [file.read_bytes() for file in files]
    for path, (killed, files, before) in paths.items():
        assert killed.end() == (-signal.SIGKILL, "") and list(tmp_path.rglob(f"*{path.stem}*partial*")) + list(
            path.glob(".*partial*")
        )
        assert [file.read_bytes() for file in files] == before and read_tables(path).scene_ids == {"a"}
        save(path, scattered(9, scene_id="b"), "b", append=True)
        assert read_tables(path).scene_ids == {"a", "b"}
    code, err = stopped.end()
    last = err.splitlines()[-1]
    assert code == 1 and "xtgeo.errors.OutputError" in last and "full.gpkg cannot be written" in last and full.read_bytes() == held
    assert not list(tmp_path.rglob("*partial*"))


def test_what_is_no_output_of_xtgeo_is_refused_in_one_line(tmp_path):
    gpd.GeoDataFrame({"name": ["x"]}, geometry=[shapely.Point(1, 2)], crs=4326).to_file(tmp_path / "f.gpkg")
    (tmp_path / "t.gpkg").write_bytes(b"SQLite format 3\0 not quite")
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    (tmp_path / "t.geojson").write_text("[1, 2")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    (tmp_path / "u.csv").write_text("detect_id,scene_id,detect_scene_row,detect_scene_column,presence_score\nx,a,1,2,0.5\n")
    (tmp_path / "t.shp").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    save(tmp_path / "v.gpkg")
    cases = {
        "f.gpkg": "no output of xtgeo, it lacks detect_id, scene_id", "t.gpkg": "cannot be read as .gpkg",
        "t.parquet": "cannot be read",
        "t.geojson": "cannot be read", "t.csv": "lacks detect_id", "u.csv": "no column geometry",
        "t.shp": "unknown extension '.shp'",
        "none.gpkg": "there is no file", "folder": "holds no .parquet file",
    }  # fmt: skip
    for name, words in cases.items():
        with pytest.raises(LabelError, match=words) as e:
            convert(tmp_path / name, tmp_path / "out.gpkg")
        assert "\n" not in str(e.value)
    for target, options, words in (
        ("v.gpkg", {"overwrite": True}, "is what is read"),
        ("o.shp", {}, "unknown extension '.shp'"),
        ("o.gpkg", {"columns": "gfw"}, "are those of a .csv"),
        ("o.csv", {"columns": "skylight"}, "choose one of all, xview3, gfw"),
        ("o.csv", {"append": True}, "added to a .gpkg or to a folder"),
        ("f.gpkg", {"append": True}, "no dataset of xtgeo"),
        ("no/o.gpkg", {}, "does not exist: create it"),
    ):
        with pytest.raises(OutputError, match=words):
            convert(tmp_path / "v.gpkg", tmp_path / target, **options)
    assert not (tmp_path / "out.gpkg").exists()


def by_points(lon0, lat0, bend=2e-9):
    """A scene in radar geometry, of pixels of about 10 m, heading west of north, whose control points lie on no plane."""
    wide = 1 / np.cos(np.radians(lat0))
    rows, columns = (v.ravel() for v in np.meshgrid(np.linspace(0, 700, 8), np.linspace(0, 531, 7), indexing="ij"))
    lon = lon0 + wide * (columns * 9e-5 - rows * 2e-5 + bend * columns**2)
    lat = lat0 - rows * 9e-5 - columns * 2e-5 + bend * rows * columns
    points = [GroundControlPoint(*p, 0.0) for p in zip(rows, columns, (lon + 180) % 360 - 180, lat, strict=True)]
    return GcpGrid.from_gcps(points, SHAPE, "EPSG:4326")


@pytest.mark.parametrize(
    ("lon0", "lat0", "crs"),
    [(3, 52, "EPSG:32631"), (3, 52, "EPSG:4326"), (179.97, -17, "EPSG:4326"), (179.97, -17, "EPSG:32760"), (20, 82, "EPSG:3995")],
)
def test_a_warped_raster_has_every_mark_in_its_place(tmp_path, lon0, lat0, crs):
    grid, data = by_points(lon0, lat0), np.zeros((1, *SHAPE), np.uint8)
    marks = [(40, 60), (350, 260), (650, 500)]
    for i, (row, column) in enumerate(marks, 1):
        data[0, row - 4 : row + 4, column - 4 : column + 4] = i
    how = plan_warp(grid, SHAPE, crs)
    with RasterSink(
        tmp_path / "m.tif", grid, SHAPE, nodata=255, warp=how, descriptions=("class",), colours={1: (255, 0, 0)}
    ) as sink:
        sink.write(Block(Window(0, 0, *SHAPE), data, np.ones(SHAPE, bool)))
    assert os.listdir(tmp_path) == ["m.tif"] and cog_validate(tmp_path / "m.tif")[0]
    with rasterio.open(tmp_path / "m.tif") as file:
        seen = file.read(1)
        assert (
            file.crs.to_epsg() == int(crs[5:])
            and file.descriptions == ("class",)
            and file.nodata == 255
            and file.colormap(1)[1][0] == 255
        )
        tags = file.tags()
        assert how.max_m < 2 and tags["WARP_ERROR_MAX_M"] == f"{how.max_m:.4f}" and (seen == 255).any()
        to_lonlat = Transformer.from_crs(file.crs, "EPSG:4326", always_xy=True)
        for i, place in enumerate(marks, 1):
            at = np.argwhere(seen == i).mean(0) + 0.5
            lon, lat = to_lonlat.transform(*(file.transform @ (at[1], at[0])))
            truth = pixel_to_lonlat(grid, *(np.array([float(v)]) for v in place))
            assert WGS84.inv(lon, lat, truth[0][0], truth[1][0])[2] < 12  # pixels of 10 m
        rim = shapely.get_coordinates(shapely.segmentize(OUTLINE.exterior, 50))
        x, y = pixel_to_crs(grid, rim[:, 1], rim[:, 0], crs)
        x = x + 360 * np.round((x[0] - x) / 360) if file.crs.is_geographic else x
        area = shapely.Polygon(np.stack([x, y], 1)).area / abs(file.transform.determinant)
    assert (seen != 255).sum() == pytest.approx(area, rel=0.01)


def test_a_map_on_which_the_scene_does_not_lie_is_refused():
    with pytest.raises(OutputError, match="leave --warp out"):
        plan_warp(GeoBox(SHAPE, Affine.identity(), None), SHAPE, "EPSG:4326")
    with pytest.raises(OutputError, match="holds a pole.*choose EPSG:3995"):
        plan_warp(GeoBox(SHAPE, Affine(10, 0, -2655, 0, -10, 3000), "EPSG:3995"), SHAPE, "EPSG:4326")
    with pytest.raises(OutputError, match="does not lie in the area"):
        plan_warp(by_points(0, 0), SHAPE, "+proj=gnom +lat_0=0 +lon_0=180")
    for crs, message in (("nonsense", "unknown CRS 'nonsense'"), ("EPSG:4978", "is no map"), ("EPSG:5773", "is no map")):
        with pytest.raises(OutputError, match=message):
            plan_warp(by_points(0, 0), SHAPE, crs)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A scene in radar geometry with a third of nodata, and all that a run can write of it."""
    folder = tmp_path_factory.mktemp("searched")
    data = np.random.default_rng(0).gamma(4, 0.25, (1, *SHAPE)).astype("f4") * 1e-2
    data[0, 100:110, 200:203] = 3.0
    data[0, 600:603, 20:30] = 3.0
    data[:, :, 331:] = np.nan
    profile = {"driver": "GTiff", "height": 700, "width": 531, "count": 1, "dtype": "float32", "nodata": np.nan}
    points = [GroundControlPoint(*p) for p in np.stack(by_points(3, 52).points, 1).tolist()]
    with rasterio.open(folder / "s.tif", "w", **profile, gcps=points, crs="EPSG:4326") as file:
        file.write(data)
        file.descriptions = ("vv",)
        file.update_tags(TIFFTAG_DATETIME="2024:05:06 07:08:09")
    area = gpd.GeoSeries([shapely.box(2.9, 51.98, 3.1, 52.1)], crs=4326)
    area.to_file(folder / "area.geojson")
    scene = open_scene(folder / "s.tif", units="linear")
    outputs = {"out": folder / "v.gpkg", "mask": folder / "m.tif", "scores": folder / "p.tif", "stac": folder / "run.json"}
    result = segment(scene, load_model("cfar"), **outputs, aoi=folder / "area.geojson", warp="EPSG:32631")
    return folder, scene, result


def test_the_footprint_is_what_was_looked_at(searched):
    folder, scene, _ = searched
    outline = gpd.read_file(folder / "v.gpkg", layer="scene_footprint").geometry[0]
    row, column = lonlat_to_pixel(scene.grid, *shapely.get_coordinates(outline).T)
    south = lonlat_to_pixel(scene.grid, np.array([3.0]), np.array([51.98]))[0][0]
    assert row.min() == pytest.approx(0, abs=0.01) and row.max() < south + 20 and 331 <= column.max() < 331 + 64
    assert (gpd.read_file(folder / "v.gpkg", layer="detections")["detect_scene_row"] < south).all()


def test_a_run_says_in_every_file_how_it_was_made(searched):
    folder, scene, result = searched
    tables = read_tables(folder / "v.gpkg")
    assert len(tables.detections) == len(result.detections) > 0
    run, made = tables.run.iloc[0], json.loads((folder / "run.json").read_text())
    assert set(tables.detections["config_hash"]) == {run["config_hash"]}
    assert made["properties"]["xtgeo:run"] == json.loads(tables.run.iloc[0].to_json())
    assert set(OPTIONS) <= set(run.index)
    assert made["properties"]["mlm:hyperparameters"].items() <= made["properties"]["xtgeo:run"].items()
    assert made["properties"]["datetime"] == "2024-05-06T07:08:09.000Z"
    assert {a["href"] for name, a in made["assets"].items() if name != "model"} == {"./v.gpkg", "./m.tif", "./p.tif"}
    assert "thin plate" in str(result.summary) and result.summary.warp
    with rasterio.open(folder / "m.tif") as mask, rasterio.open(folder / "p.tif") as scores:
        assert made["assets"]["mask"]["proj:transform"] == list(mask.transform)[:6] and made["assets"]["mask"][
            "proj:shape"
        ] == list(mask.shape)
        assert mask.tags()["CLASSES"].startswith("0=background 1=") and mask.tags()["config_hash"] == run["config_hash"]
        assert (
            mask.colormap(1)[1] == (255, 210, 0, 255) and mask.crs.to_epsg() == 32631 and float(mask.tags()["WARP_ERROR_MAX_M"]) < 1
        )
        found = tables.to_crs(mask.crs).detections
        at = [(p.x, p.y) for p in found.geometry.representative_point()]
        assert [v[0] for v in mask.sample(at)] == [1] * len(found) and scores.scales == (1 / 254,)


def test_the_command_line_converts_adds_and_refuses(searched, tmp_path, monkeypatch, capsys):
    folder, _, result = searched

    def xtgeo(*words):
        monkeypatch.setattr(sys, "argv", ["xtgeo", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0, "".join(capsys.readouterr())

    n = len(result.detections)
    assert xtgeo("convert", folder / "v.gpkg", tmp_path / "v.csv") == (
        0,
        f"{tmp_path}/v.csv: {n} object{'s' * (n != 1)}; without scene_footprint, run\n",
    )
    assert xtgeo("convert", folder / "v.gpkg", tmp_path / "all.parquet", "--append")[0] == 0
    code, text = xtgeo("segment", folder / "s.tif", "--units", "linear", "-m", "cfar", "-o", tmp_path / "all.parquet", "--append")
    assert code == 1 and "scene s is in" in text and text.count("\n") == 1
    code, text = xtgeo("convert", folder / "v.gpkg", tmp_path / "x.csv", "--columns", "xview3")
    assert code == 1 and "make them with xtgeo detect" in text and not (tmp_path / "x.csv").exists()


class Nothing:
    """A source of a shape."""

    shape, count, block_shape, row_bytes, files = SHAPE, 2, (1, 1), 0, ()


def item(path, grid=UTM, footprint=OUTLINE, **options):
    spec = Spec("vessels-x", ("vv", "vh"), "db", (-15.0, -22.0), (5.0, 5.0), 10.0, backbone="b")
    scene = Scene(Nothing(), grid, ("vv", "vh"), (1, 2), "db", "db", "a", str(path.parent / "in" / "a.tif"), TIME, **options)
    (path.parent / "in").mkdir()
    (path.parent / "in" / "a.tif").touch()
    outputs = {"out": path.parent / "v.gpkg", "mask": path.parent / "sub" / "m.tif", "stac": path}
    rasters = {"mask": (grid, SHAPE, {"nodata": 255, "descriptions": ("class",)})}
    made = describe_run(path, scene, spec, footprint, outputs, rasters, RUN | {"config_hash": "c"})
    write_item(path, made)
    return made


@pytest.mark.parametrize("grid", [pytest.param(UTM, id="map"), pytest.param(by_points(179.97, -17), id="antimeridian")])
def test_a_stac_item_is_valid_and_tells_of_the_run(tmp_path, grid):
    pystac = pytest.importorskip("pystac")
    pytest.importorskip("jsonschema")
    from pystac.validation.local_validator import get_local_schema_cache

    facts = {"platform": "sentinel-1a", "sat:orbit_state": "ascending", "s1:noise": "snap"}
    made = item(tmp_path / "run.json", grid, facts=facts, row_seconds=1e-3)
    read = pystac.Item.from_file(str(tmp_path / "run.json"))
    assert read.stac_extensions and read.assets["detections"].href == "./v.gpkg" and read.assets["mask"].href == "./sub/m.tif"
    assert read.get_links("via")[0].target.endswith("in/a.tif") and made["links"][0]["href"] == "./in/a.tif"
    assert abs(read.datetime - TIME - timedelta(seconds=0.35)) < timedelta(milliseconds=2)
    assert read.properties["platform"] == "sentinel-1a" and "s1:noise" not in read.properties
    schemas = get_local_schema_cache()
    core = schemas["https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"]
    _check(core, json.loads((tmp_path / "run.json").read_text()), schemas)
    told = made["properties"]
    assert {"mlm:name", "mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output"} <= set(told)
    assert told["mlm:hyperparameters"] == {"threshold": RUN["threshold"], "tile_px": 512, "config_hash": "c"}
    assert (
        told["mlm:input"][0]["bands"] == [b["name"] for b in told["bands"]]
        and "bands" in told["mlm:input"][0]["input"]["dim_order"]
    )
    model = [a for a in made["assets"].values() if "mlm:model" in a["roles"]]
    assert len(model) == 1 and model[0]["mlm:artifact_type"] and model[0]["xtgeo:model_sha256"] == "0" * 64
    projection = pystac.extensions.projection.ProjectionExtension.ext(read.assets["mask"])
    assert projection.shape == list(SHAPE)
    if grid is UTM:
        assert projection.epsg == 32631 and projection.transform == [10, 0, 500000, 0, -10, 5800000]
    else:
        west, _, east, _ = made["bbox"]
        assert (
            179 < west < 180
            and -180 < east < -179
            and made["geometry"]["type"] == "MultiPolygon"
            and "proj:transform" not in made["assets"]["mask"]
        )
        assert shapely.geometry.shape(made["geometry"]).area < 0.02


def _check(schema, thing, schemas):
    from jsonschema import Draft7Validator
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT7

    store = Registry().with_resources((uri, Resource.from_contents(s, default_specification=DRAFT7)) for uri, s in schemas.items())
    errors = list(Draft7Validator(schema, registry=store).iter_errors(thing))
    assert not errors, errors[0].message
    broken = {**thing, "properties": {**thing["properties"], "datetime": 5}}
    assert list(Draft7Validator(schema, registry=store).iter_errors(broken))


def test_without_a_place_an_item_has_no_geometry(tmp_path):
    made = item(tmp_path / "run.json", GeoBox(SHAPE, Affine.identity(), None))
    assert made["geometry"] is None and "bbox" not in made


def test_an_item_links_to_every_file_of_its_scene_and_to_nothing_in_memory(tmp_path):
    paths = [str(tmp_path / f"{name}.tif") for name in ("vv", "vh")]
    profile = {"height": 40, "width": 50, "count": 1, "dtype": "float32", "crs": "EPSG:32631", "transform": UTM.affine}
    for path in paths:
        with rasterio.open(path, "w", **profile) as file:
            file.write(np.ones((1, 40, 50), "float32"))
    spec = Spec("vessels-x", ("vv", "vh"), "db", (-15.0, -22.0), (5.0, 5.0), 10.0, backbone="b")
    several = replace(open_scene(paths, units="db"), time=TIME)
    memory = replace(open_scene(several.to_xarray()), time=TIME)
    for scene, links in ((several, ["./vv.tif", "./vh.tif"]), (memory, [])):
        made = describe_run(tmp_path / "run.json", scene, spec, OUTLINE, {}, {}, RUN)
        assert [link["href"] for link in made["links"]] == links
