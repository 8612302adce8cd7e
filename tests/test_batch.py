"""A batch: each scene once, its own files, the bytes of a single run; what is done is not done again."""

import json
import re
from dataclasses import asdict
from html import unescape
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from filelock import FileLock
from loopback import serve
from test_cluster import HERE, pytestmark  # noqa: F401
from test_job import SPEC, Bright, write_scene
from test_stac import item, save
from typer.testing import CliRunner
from xtgeo.cli import app

from xtgeo import Model, batch, open_scene, segment
from xtgeo.batches import Entry, entries, forecast
from xtgeo.batches.record import LOCK, OWNER, Record
from xtgeo.engine import Engine
from xtgeo.errors import ModelError, OutputError, SceneError
from xtgeo.infer import Plan
from xtgeo.window import Nest


@pytest.fixture(scope="module")
def client():
    with LocalCluster(n_workers=2, memory_limit=0, **HERE) as local, Client(local, set_as_default=False) as one:
        yield one


@pytest.fixture(scope="module")
def model():
    return Model(Bright(), SPEC).eval()


@pytest.fixture
def scenes(tmp_path):
    (tmp_path / "in").mkdir()
    return [write_scene(tmp_path / "in" / f"s{i}.tif", shape=(150 + 40 * i, 260)) for i in range(3)]


def names(found):
    return [entry.name for entry in found]


def test_scenes_come_from_patterns_paths_and_lists(scenes, tmp_path):
    (tmp_path / "in" / "list.txt").write_text(f"# all\n{scenes[0]}\n\ns1.tif  # beside the list\nhttps://a.example/x/S1_b.zip\n")
    assert names(entries([tmp_path / "in" / "*.tif"])) == names(entries(scenes)) == ["s0", "s1", "s2"]
    assert names(entries([str(tmp_path / "in" / "*.tif"), scenes[1]])) == ["s0", "s1", "s2"], "one that is named twice counts once"
    listed = entries([tmp_path / "in" / "list.txt"])
    assert names(listed) == ["s0", "s1", "S1_b"] and listed[1].href == str(scenes[1])
    for nothing, says in (([], "no scenes were given"), ([tmp_path / "*.zip"], "nothing matches .* quotes")):
        with pytest.raises(SceneError, match=says):
            entries(nothing)


def test_a_table_says_how_single_scenes_are_done(scenes, tmp_path):
    table = tmp_path / "in" / "t.csv"
    table.write_text("scene,name,units,threshold,nodata\ns0.tif,first,db,0.7,\ns1.tif,,,,-5\n")
    first, second = entries([table])
    assert first == Entry(str(scenes[0]), "first", {"units": "db"}, {"threshold": 0.7})
    assert second == Entry(str(scenes[1]), "s1", {"nodata": -5.0}, {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file\nx.tif\n", "no column 'scene'|unknown column 'file'"),
        ("scene,colour\nx.tif,red\n", "unknown column 'colour'.*bands"),
        ("scene,threshold\nx.tif,much\n", "row 2: .*much"),
        ("scene,threshold\nx.tif,0.5,0.6\n", "row 2, has more cells"),
        ("scene,threshold\nx.tif\n", "row 2, has fewer cells"),
        ("scene,threshold\n,0.5\n", "row 2, names no scene"),
        ("scene\n", "no scenes were given"),
    ],
)
def test_a_table_that_is_not_one_is_refused_in_one_line(tmp_path, text, says):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(SceneError, match=says):
        entries([tmp_path / "t.csv"])
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00scene")
    with pytest.raises(SceneError, match="no UTF-8 text"):
        entries([tmp_path / "t.csv"])


def test_every_item_of_a_collection_is_a_scene_and_its_id_is_no_path(tmp_path, client, model):
    write_scene(tmp_path / "vv.tif", shape=(90, 120), nodata_corner=False)
    asset = {"vv": {"href": "vv.tif", "type": "image/tiff; application=geotiff", "bands": [{"name": "vv"}]}}
    features = [item(asset, id=name, date=f"2024-06-0{i}T00:00:00Z") for i, name in enumerate(("a", "../../b c"), 1)]
    path = save(tmp_path / "items.json", {"type": "FeatureCollection", "features": features})
    found = entries([path])
    assert names(found) == ["a", "b_c"]
    assert [open_scene(entry.href, units="db").id for entry in found] == ["a", "../../b c"]
    assert batch([path], model, tmp_path / "out", client=client, units="db").done == 2
    assert {p.name for p in (tmp_path / "out").glob("*.gpkg")} == {"a.gpkg", "b_c.gpkg"}


def test_scenes_that_would_share_names_are_refused_before_anything_is_done(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(SceneError, match="2 scenes would share names.*scene,name"):
        entries([write_scene(tmp_path / "s.tif"), write_scene(tmp_path / "x" / "S.tif")])


@pytest.mark.parametrize(
    ("href", "name"),
    [
        ("S1A_IW_GRDH_1SDV.SAFE.zip", "S1A_IW_GRDH_1SDV"),
        ("LC08_L2SP.tar.gz", "LC08_L2SP"),
        ("/data/S2A.SAFE/", "S2A"),
        ("https://a.example/p/x.tif?sig=%2Fsecret", "x"),
        ("s3://bucket/a/b.tif", "b"),
        ("..", "scene"),
        ("C:\\data\\x.tif", "x"),
        ("v1.2_scene.tif", "v1.2_scene"),
    ],
)
def test_files_are_called_after_the_scene(href, name):
    assert names(entries([href])) == [name]


def test_each_scene_has_the_bytes_of_a_single_run(scenes, tmp_path, client, model):
    out, told = tmp_path / "out", []
    standing = batch(scenes, model, out, client=client, mask=True, scores=True, progress=told.append)
    assert (standing.scenes, standing.done, standing.failed, standing.left) == (3, 3, 0, 0)
    record = Record(out)
    kept = record.meta("plan tile None auto auto")
    record.close()
    for path in scenes:
        scene = open_scene(path)
        like = Plan(Nest(scene.shape, SPEC.region, kept["span"], SPEC.margin), Engine(**kept["engine"]), 0, 0)
        (alone := tmp_path / path.stem).mkdir()
        segment(
            scene, model, like=like, out=alone / f"{path.stem}.gpkg", mask=alone / f"{path.stem}.mask.tif",
            scores=alone / f"{path.stem}.scores.tif", quicklook=alone / f"{path.stem}.jpg",
        )  # fmt: skip
        for file in alone.iterdir():
            assert file.read_bytes() == (out / file.name).read_bytes(), file.name
    assert {p.name for p in out.iterdir() if p.name.startswith(".")} == {".batch.sqlite", LOCK}
    assert told and all(a.done <= b.done for a, b in zip(told, told[1:], strict=False))
    summary = json.loads((out / "summary.json").read_text())
    assert summary["objects"] == sum(r["objects"] for r in summary["results"]) == standing.objects > 0
    assert summary["done"] == 3 and not summary["failures"]
    page = (out / "report.html").read_text()
    assert all(f"{path.stem}.jpg" in page and f"{path.stem}.gpkg" in page for path in scenes)


def stamps(folder):
    return {p.name: p.stat().st_mtime_ns for p in folder.glob("*.gpkg")}


def test_what_is_done_is_not_done_again_and_what_is_missing_is(scenes, tmp_path, client, model):
    out = tmp_path / "out"
    batch(scenes[:2], model, out, client=client, quicklooks=False)
    before, whole = stamps(out), (out / "s1.gpkg").read_bytes()
    again = batch(scenes, model, out, client=client, quicklooks=False)
    assert (again.earlier, again.done) == (2, 3) and before.items() <= stamps(out).items()
    (out / "s1.gpkg").unlink()
    third = batch(scenes, model, out, client=client, quicklooks=False)
    assert (third.earlier, third.done) == (2, 3) and (out / "s1.gpkg").read_bytes() == whole
    assert third.objects == again.objects


def test_nothing_to_do_needs_no_cluster(scenes, tmp_path, client, model):
    out = tmp_path / "out"
    batch(scenes, model, out, client=client, quicklooks=False)

    class Never:
        def __enter__(self):
            raise AssertionError("workers were started")

        def __exit__(self, *_):
            pass

    assert batch(scenes, model, out, client=Never(), quicklooks=False).earlier == 3


def test_other_options_are_refused_with_the_difference_or_done_anew(scenes, tmp_path, client, model):
    out = tmp_path / "out"
    batch(scenes, model, out, client=client, quicklooks=False)
    before = stamps(out)
    with pytest.raises(OutputError, match=r"3 scenes that were done otherwise: threshold was null, is 0\.9.*--redo"):
        batch(scenes, model, out, client=client, quicklooks=False, threshold=0.9)
    assert stamps(out) == before
    redone = batch(scenes, model, out, client=client, quicklooks=False, threshold=0.9, redo=True)
    assert redone.earlier == 0 and all(stamps(out)[name] > at for name, at in before.items())
    assert batch(scenes, model, out, client=client, quicklooks=False, threshold=0.9).earlier == 3


def test_a_scene_whose_file_has_changed_is_noticed(scenes, tmp_path, client, model):
    out = tmp_path / "out"
    batch(scenes, model, out, client=client, quicklooks=False)
    write_scene(scenes[1], shape=(180, 260))
    with pytest.raises(OutputError, match="1 scenes that were done otherwise: the files or options of s1"):
        batch(scenes, model, out, client=client, quicklooks=False)
    assert batch(scenes, model, out, client=client, quicklooks=False, redo=True).earlier == 2


def test_a_scene_that_fails_does_not_stop_the_others_and_is_told_of(scenes, tmp_path, client, model):
    scenes[1].write_bytes(b"no scene")
    standing = batch(scenes, model, tmp_path / "out", client=client, quicklooks=False)
    assert (standing.done, standing.failed, standing.left) == (2, 1, 0)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    (failure,) = summary["failures"]
    assert failure["scene"] == "s1" and "s1.tif" in failure["error"]
    assert "s1.tif" in (tmp_path / "out" / "report.html").read_text()
    write_scene(scenes[1])
    mended = batch(scenes, model, tmp_path / "out", client=client, quicklooks=False)
    assert (mended.earlier, mended.done, mended.failed) == (2, 3, 0)


def test_a_scene_that_was_away_for_a_while_is_tried_again_at_the_end(scenes, tmp_path, client, model):
    away = scenes[0].rename(tmp_path / "away.tif")

    def back(standing):
        if standing.done == 2 and away.exists():
            away.rename(scenes[0])

    standing = batch(scenes, model, tmp_path / "out", client=client, quicklooks=False, progress=back)
    assert (standing.done, standing.failed) == (3, 0)


def test_a_file_that_is_not_ours_is_left_alone(scenes, tmp_path, client, model):
    out = tmp_path / "out"
    out.mkdir()
    (out / "s2.gpkg").write_text("mine")
    for redo in (False, True):
        standing = batch(scenes, model, out, client=client, quicklooks=False, redo=redo)
        assert (standing.done, standing.failed) == (2, 1) and (out / "s2.gpkg").read_text() == "mine"
    assert "not this batch's" in unescape((out / "report.html").read_text())


def test_a_folder_is_one_batchs_at_a_time(scenes, tmp_path, client, model):
    out = tmp_path / "out"
    out.mkdir()
    with FileLock(out / LOCK), pytest.raises(OutputError, match="in use by another batch .another process"):
        batch(scenes, model, out, client=client)
    (out / OWNER).symlink_to(out / "nowhere" / "to be written")
    with pytest.raises(OutputError, match="cannot be written"):
        batch(scenes, model, out, client=client)
    assert batch(scenes, model, out, client=client, quicklooks=False).done == 3


def test_what_a_batch_cannot_do_is_said_before_it_begins(scenes, tmp_path, client, model):
    (tmp_path / "file").write_text("")
    for kind, says, options in (
        (OutputError, "unknown format 'shp'", {"format": "shp"}),
        (ModelError, "unknown task 'guess'", {"task": "guess"}),
        (TypeError, "no option 'colour'", {"colour": 1}),
        (OutputError, "cannot be made", {"out_dir": tmp_path / "file"}),
    ):
        with pytest.raises(kind, match=says):
            batch(scenes, model, **{"out_dir": tmp_path / "out", "client": client, **options})
    with pytest.raises(ModelError, match="finds points"):
        batch(scenes, "points-sar", tmp_path / "out", client=client, mask=True)
    with pytest.raises(ModelError, match="finds points"):
        batch([Entry(str(scenes[0]), "s0", work={"min_area": 5.0})], "points-sar", tmp_path / "out", client=client)


def test_scenes_of_another_pixel_size_are_not_done_by_a_model_made_for_the_first(tmp_path, client):
    same, other = write_scene(tmp_path / "a.tif"), tmp_path / "b.tif"
    write_scene(other, pixel=25)
    table = tmp_path / "t.csv"
    table.write_text(f"scene\n{same}\n{other}\n")
    standing = batch(table, "cfar", tmp_path / "out", client=client, quicklooks=False, retries=0)
    assert (standing.done, standing.failed) == (1, 1)
    assert "scenes of one" in (tmp_path / "out" / "report.html").read_text()


def test_a_forecast_counts_what_would_be_done_and_writes_nothing(scenes, tmp_path, client, model):
    before = sorted(tmp_path.rglob("*"))
    (gone := tmp_path / "in" / "gone.tif").touch()
    told = forecast([*scenes, gone], model, client=client)
    gone.unlink()
    pixels = sum(h * w for h, w in (open_scene(path).shape for path in scenes))
    assert told.scenes == 3 and list(told.unreadable) == ["gone"] and told.megapixels == pytest.approx(pixels / 1e6, abs=1e-3)
    assert told.threads == 2 and told.tiles > 0 and told.mpx_per_s > 0
    assert told.seconds == pytest.approx((told.megapixels - told.empty_megapixels) / told.mpx_per_s, rel=0.2, abs=0.2)
    assert sorted(tmp_path.rglob("*")) == before
    json.dumps(asdict(told))
    with pytest.raises(SceneError, match="none of the 1 scenes can be opened"):
        forecast(str(tmp_path / "none.tif"), model, client=client)


def test_remote_scenes_are_read_by_the_workers(scenes, tmp_path, client, model):
    with serve(tmp_path / "in") as server:
        urls = [f"{server.url}/{path.name}" for path in scenes]
        standing = batch(urls, model, tmp_path / "out", client=client, trusted=True, quicklooks=False)
    assert standing.done == 3


def test_the_command_runs_workers_of_its_own_and_says_what_failed(scenes, tmp_path):
    scenes[1].write_bytes(b"no scene")
    arguments = ["batch", str(tmp_path / "in" / "*.tif"), "--out-dir", str(tmp_path / "out"), "--model", "cfar", "--workers", "1"]
    ran = CliRunner().invoke(app, [*arguments, "--dashboard", "127.0.0.1:0", "--json"])
    assert ran.exit_code == 1, ran.output
    told = json.loads(re.search(r"^\{.*\}$", ran.stdout, re.M)[0])
    assert (told["scenes"], told["done"], told["failed"]) == (3, 2, 1)
    assert sorted(p.name for p in Path(tmp_path / "out").glob("*.gpkg")) == ["s0.gpkg", "s2.gpkg"]
