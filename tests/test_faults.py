"""Whatever stops a run, nothing is lost, nothing half-written is seen, and the same command ends in the same bytes.

Runs are processes of their own, forked from one that has imported everything; kills, signals, full disks and lost files are real.
"""

import importlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import torch
from forked import FORKS
from torch import nn

from xtgeo.errors import SceneError
from xtgeo.model import Model, Spec

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")

SPEC = Spec(
    name="bright", bands=("vv",), units="db", mean=(-20.0,), std=(1.0,), gsd=10.0, region=128, span=2, margin=8, stride=8,
    threshold=0.5,
)  # fmt: skip
SHAPE = 1100, 1130
"""25 tiles of 256 x 256 pixels."""
NAMES = "v.gpkg", "m.tif", "s.tif"
JOURNAL = ".v.gpkg.journal"
COUNT = itertools.count()


class Bright(nn.Module):
    """Probability one half at -9 dB, as a 3 x 3 mean sees it; without parameters, so that nothing is measured."""

    seconds, stop_at, seen, pipe = 0.0, None, 0, None
    """How long a tile takes; before which tile the process waits for a word; tiles so far; where it says so."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.full((1, 1, 3, 3), 1 / 9))

    def forward(self, x):
        if x.device.type != "meta":
            Bright.seen += 1
            time.sleep(Bright.seconds)
            if Bright.seen == Bright.stop_at:
                Bright.pipe.send("here")
                Bright.pipe.recv()
        return 0.2 * (nn.functional.conv2d(x, self.weight, padding=1) - 11.0)


def command(pipe, said, words, prepare, seconds, stop_at):
    """`xtgeo segment` with the model above, in a process of its own."""
    from xtgeo.cli import main

    import xtgeo.choose

    for number, path in enumerate(said, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one tile at a time
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    xtgeo.choose.choose_model, xtgeo.choose.load_for = (lambda *_: "bright"), (lambda *_: Model(Bright(), SPEC).eval())
    Bright.seconds, Bright.stop_at, Bright.seen, Bright.pipe = seconds, stop_at, 0, pipe
    if prepare:
        prepare()
    sys.argv = ["xtgeo", "segment", *map(str, words)]
    pipe.send("begun")
    main()


class Run:
    """One such process. `after` it has begun, or `at` a tile, something may be done to it."""

    def __init__(self, folder, source, *, seconds=0.0, stop_at=None, prepare=None, quiet=True, also=()):
        outputs = itertools.chain(*zip(("--out", "--mask", "--scores"), (folder / name for name in NAMES), strict=True))
        words = [source, *outputs, *["--quiet"] * quiet, "--land", "off", *also]
        self.said = [Path(tempfile.gettempdir(), f"{os.getpid()}-{next(COUNT)}.{name}") for name in ("out", "err")]
        self.told = []
        self.pipe, other = FORKS.Pipe()
        self.process = FORKS.Process(target=command, args=(other, self.said, words, prepare, seconds, stop_at))
        self.process.start()
        assert self.pipe.recv() == "begun"

    def at_the_tile(self):
        """Waits until the tile is reached, where the process waits in turn."""
        assert self.pipe.poll(60) and self.pipe.recv() == "here"
        return self

    def go_on(self):
        self.pipe.send("go")
        return self

    def end(self):
        """Exit code, and what was said on standard error."""
        self.process.join(120)
        if not self.told:
            self.told = [path.read_text() for path in self.said]
            for path in self.said:
                path.unlink()
        return self.process.exitcode, self.told[1]

    def summary(self):
        """What --json said."""
        return json.loads(self.told[0])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def failed(run, *words):
    """One clear line, and exit code 1."""
    code, err = run.end()
    assert code == 1 and err.startswith("error: ") and err.count("\n") == 1, (code, err)
    assert all(word in err for word in words), err
    return True


@pytest.fixture(scope="module")
def room():
    """A folder that others may look into, in memory where that can be: none of this needs a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def folder(room):
    """For the outputs of one test."""
    path = Path(tempfile.mkdtemp(dir=room))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def scene(room):
    path = room / "scene.tif"
    rng = np.random.default_rng(0)
    data = rng.normal(-22, 1.0, SHAPE).astype(np.float32)
    for y, x in zip(rng.integers(0, SHAPE[0] - 9, 60), rng.integers(0, SHAPE[1] - 9, 60), strict=True):
        data[y : y + 6, x : x + 9] = 3.0
    data[:200, :270] = -32768
    with rasterio.open(
        path, "w", driver="GTiff", height=SHAPE[0], width=SHAPE[1], count=1, dtype="float32", nodata=-32768, tiled=True,
        blockxsize=128, blockysize=128, compress="deflate", crs="EPSG:32631",
        transform=rasterio.Affine(10, 0, 500000, 0, -10, 5800000),
    ) as file:  # fmt: skip
        file.write(data, 1)
        file.set_band_description(1, "vv")
        file.set_band_unit(1, "dB")
    return path


@pytest.fixture(scope="module")
def whole(scene, room):
    """Bytes of a run that nothing disturbed, and how many seconds it took."""
    folder = room / "whole"
    folder.mkdir()
    run = Run(folder, scene, seconds=0.02)
    start = time.monotonic()
    assert run.end() == (0, "")
    return {name: (folder / name).read_bytes() for name in NAMES}, time.monotonic() - start


def complete(folder, whole):
    """All outputs with these bytes, and nothing else."""
    assert names(folder) == sorted(NAMES)
    for name in NAMES:
        assert (folder / name).read_bytes() == whole[0][name], name
    return True


def resumed(folder, scene, whole, **options):
    """The same command again ends well, in the same bytes."""
    assert Run(folder, scene, **options).end() == (0, "")
    return complete(folder, whole)


def done(folder):
    """Tiles in the journal."""
    with closing(sqlite3.connect(folder / JOURNAL)) as db:
        return db.execute("SELECT count(DISTINCT tile) FROM answers").fetchone()[0]


@pytest.mark.parametrize("part", range(4))
def test_killed_at_any_moment_it_resumes_to_the_same_bytes(scene, whole, room, part):
    """Five moments in each quarter of the time that a run takes."""
    moments = random.Random(part)
    for i in range(5):
        folder = room / f"killed{part}{i}"
        folder.mkdir()
        run = Run(folder, scene, seconds=0.02)
        time.sleep(whole[1] * (part + (i + moments.random()) / 5) / 4)
        run.process.kill()
        assert run.end()[0] in (-signal.SIGKILL, 0)
        assert complete(folder, whole) if names(folder) == sorted(NAMES) else resumed(folder, scene, whole)


def die_at(name, n):
    """The process is killed when a function is called for the n-th time."""
    owner, _, name = name.rpartition(".")
    try:
        owner = importlib.import_module(owner)
    except ModuleNotFoundError:
        module, _, kind = owner.rpartition(".")
        owner = getattr(importlib.import_module(module), kind)
    function, count = getattr(owner, name), itertools.count(1)

    def once(*arguments, **options):
        if next(count) == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    setattr(owner, name, once)


@pytest.mark.parametrize(
    ("call", "placed"),
    [
        ("xtgeo.write.tables.check_layers", 0), ("xtgeo.journal.Journal.place", 0), ("os.replace", 0), ("os.replace", 1),
        ("os.replace", 2), ("xtgeo.write.staged._sync", 3), ("xtgeo.journal.Journal.delete", 3),
    ],
)  # fmt: skip
def test_killed_while_outputs_get_their_names_it_still_resumes(scene, whole, folder, call, placed):
    run = Run(folder, scene, prepare=partial(die_at, call, placed + 1 if call == "os.replace" else 1))
    assert run.end() == (-signal.SIGKILL, "")
    assert len(set(NAMES) & set(names(folder))) == placed and JOURNAL in names(folder)
    assert resumed(folder, scene, whole)


@pytest.mark.parametrize("name", ["all.gpkg", "all.parquet"])
@pytest.mark.parametrize("call", ["xtgeo.journal.Journal.place", "xtgeo.journal.Journal.delete"])
def test_killed_while_a_scene_is_added_to_a_dataset_it_is_there_once(scene, folder, name, call):
    from xtgeo.write import read_tables

    run = Run(folder, scene, prepare=partial(die_at, call, 1), also=("--append", "--out", folder / name))
    assert run.end() == (-signal.SIGKILL, "")
    assert Run(folder, scene, also=("--append", "--out", folder / name)).end() == (0, "")
    tables = read_tables(folder / name)
    assert len(tables.run) == 1 and tables.detections["detect_id"].is_unique and len(tables.detections) > 9
    assert set(names(folder)) == {name, *NAMES[1:], f".{name}.lock"}


def test_a_file_that_came_in_between_is_never_overwritten(scene, whole, folder):
    run = Run(folder, scene, prepare=partial(die_at, "os.replace", 2))
    assert run.end()[0] == -signal.SIGKILL
    first = next(name for name in NAMES if (folder / name).exists())
    other = next(name for name in NAMES if not (folder / name).exists())
    (folder / other).write_bytes(b"mine")
    assert failed(Run(folder, scene), other if NAMES.index(other) < NAMES.index(first) else first, "exists", "--overwrite")
    assert (folder / other).read_bytes() == b"mine"
    (folder / other).unlink()
    assert resumed(folder, scene, whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_in_order_and_the_same_command_resumes(scene, whole, folder, number, code):
    run = Run(folder, scene, stop_at=8).at_the_tile()
    os.kill(run.process.pid, number)
    assert run.go_on().end() == (code, "interrupted: run again to resume\n")
    assert names(folder) == [JOURNAL] and done(folder) >= 4
    assert resumed(folder, scene, whole)


def test_asked_twice_it_ends_at_once(scene, whole, folder):
    run = Run(folder, scene, stop_at=8).at_the_tile()
    os.kill(run.process.pid, signal.SIGTERM)
    while run.process.is_alive():  # the first may not have been heard yet
        time.sleep(0.05)
        with suppress(ProcessLookupError):
            os.kill(run.process.pid, signal.SIGTERM)
    assert run.end()[0] == -signal.SIGTERM and resumed(folder, scene, whole)


@pytest.fixture
def disk(folder):
    """A disk of four megabytes."""
    path = folder / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if mounted.returncode:
        pytest.skip(f"a disk cannot be mounted: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", path], check=True)


def test_on_a_full_disk_a_run_is_complete_or_says_so_and_resumes_when_there_is_room(scene, whole, disk):
    stopped = set()
    for kilobytes in (4, 300, 500, 1000, 1470, 1500, 1530, 1560, 1700):
        ballast = disk / "ballast"
        with open(ballast, "wb") as file:
            file.write(bytes(shutil.disk_usage(disk).free - kilobytes * 1024))
        run = Run(disk, scene)
        code, err = run.end()
        ballast.unlink()
        if code:
            assert failed(run, "cannot be written", "disk is full" if JOURNAL not in err else "full")
            stopped.add(next(name for name in (JOURNAL, *NAMES) if name in err))
            assert set(names(disk)) <= {JOURNAL}
            assert resumed(disk, scene, whole)
        assert complete(disk, whole)
        for name in NAMES:
            (disk / name).unlink()
    assert {JOURNAL, "v.gpkg"} < stopped and stopped & {"m.tif", "s.tif"}, stopped


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_a_damaged_journal_costs_the_work_and_nothing_else(scene, whole, folder, damage):
    run = Run(folder, scene, stop_at=8).at_the_tile()
    run.process.kill()
    run.end()
    with closing(sqlite3.connect(folder / JOURNAL)) as db:
        db.execute("PRAGMA schema_version")  # SQLite undoes here what the kill left half-written, not in the damaged file
    content = (folder / JOURNAL).read_bytes()
    half = len(content) // 2
    bad = {"cut": content[:half], "garbage": content[:half] + b"garbage" * 99 + content[half + 693 :], "empty": b""}[damage]
    (folder / JOURNAL).write_bytes(bad)
    also = ("--json",)
    run = Run(folder, scene, also=also, quiet=False)
    code, err = run.end()
    assert code == 0 and run.summary()["tiles_resumed"] == 0
    aside = folder / f"{JOURNAL}.damaged"
    if bad:
        assert "was damaged, it is now" in err and str(aside) in err and err.count("\n") == 1
        assert aside.read_bytes() == bad
        aside.unlink()
    assert complete(folder, whole)


def test_what_is_no_journal_is_an_error_and_left_alone(scene, folder):
    (folder / JOURNAL).write_bytes(b"some notes of mine\n" * 99)
    assert failed(Run(folder, scene), "is not a journal of this xtgeo", "--overwrite")
    assert names(folder) == [JOURNAL] and (folder / JOURNAL).read_bytes().startswith(b"some notes")


def spoil(after):
    """The journal on disk is damaged by another hand, after so many tiles."""
    from xtgeo.journal import Journal

    put, count = Journal.put, itertools.count(1)

    def spoiled(self, tile, **answers):
        put(self, tile, **answers)
        if next(count) == after:
            at = self.path.read_bytes().index(answers["scores"][:64])
            with open(self.path, "r+b") as file:
                file.seek(at)
                file.write(b"garbage")
        self._db.execute("PRAGMA shrink_memory")

    Journal.put = spoiled


def test_a_journal_that_is_damaged_on_the_way_is_set_aside_and_the_run_begins_anew(scene, whole, folder):
    run = Run(folder, scene, prepare=partial(spoil, 5), quiet=False)
    code, err = run.end()
    assert code == 0 and "was damaged, it is now" in err
    (folder / f"{JOURNAL}.damaged").unlink()
    assert complete(folder, whole)


def jump():
    """A clock that jumps hours back and forth."""
    real, turn = time.time, itertools.count()
    time.time = lambda: real() + (-1) ** next(turn) * 18_000
    time.time_ns = lambda: int(time.time() * 1e9)


def test_a_clock_that_jumps_changes_nothing(scene, whole, folder):
    run = Run(folder, scene, prepare=jump, also=("--json",))
    assert run.end() == (0, "") and 0 < run.summary()["seconds"] < 600 and complete(folder, whole)


def test_nothing_asks_what_time_it_is_but_the_record_of_a_training():
    root = Path(__file__).resolve().parents[1]
    asks = re.compile(r"\btime\.(time|time_ns|localtime|gmtime|ctime)\(|\b(now|utcnow|today)\(|from time import")
    found = [str(path) for name in ("xtgeo", "cli") for path in (root / name).rglob("*.py") if asks.search(path.read_text())]
    assert [Path(path).name for path in found] == ["record.py"]


def test_every_promise_names_tests_that_are_there():
    root = Path(__file__).resolve().parents[1]
    named = set(re.findall(r"\btest_\w+(?!\w*\.py)\b", (root / "docs/promises.md").read_text()))
    there = {name for path in root.glob("tests/*.py") for name in re.findall(r"def (test_\w+)", path.read_text())}
    modules = {path.stem for path in root.glob("tests/*.py")}
    assert len(named - modules) > 20 and named <= there | modules


def nobody():
    """Root may write anywhere; others may not."""
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)


def test_a_folder_that_is_not_writable_is_refused_before_any_work(scene, folder):
    folder.chmod(0o555)
    run = Run(folder, scene, prepare=nobody)
    assert failed(run, "is not writable: choose another one") and names(folder) == []
    folder.chmod(0o755)


def test_a_folder_that_becomes_read_only_stops_the_run_and_not_the_next(scene, whole, folder):
    folder.chmod(0o777)
    run = Run(folder, scene, prepare=nobody, stop_at=8).at_the_tile()
    folder.chmod(0o555)
    assert failed(run.go_on(), "is not writable")
    folder.chmod(0o777)
    assert set(NAMES).isdisjoint(names(folder)) and resumed(folder, scene, whole, prepare=nobody)


def away_and_back(path):
    """Two functions: the file is gone; it is there again."""
    elsewhere = path.with_name("elsewhere")
    return partial(os.replace, path, elsewhere), partial(os.replace, elsewhere, path)


def cut_and_mended(path):
    """Half of the file is gone; all of it is there again."""
    content, found = path.read_bytes(), path.stat()

    def mend():
        path.write_bytes(content)
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))

    return partial(os.truncate, path, len(content) // 3), mend


def copied(scene, folder, **profile):
    """The same pixels in another kind of file."""
    with rasterio.open(scene) as file:
        options = {**file.profile, **profile}
        with rasterio.open(folder / "scene.tif", "w", **options) as copy:
            copy.write(file.read())
            copy.set_band_description(1, "vv")
            copy.set_band_unit(1, "dB")
    return folder / "scene.tif"


@pytest.mark.parametrize("lose", [away_and_back, cut_and_mended])
@pytest.mark.parametrize("profile", [{}, {"tiled": False, "compress": None, "blockysize": 1}], ids=["tiles", "strips"])
def test_a_source_that_goes_stops_the_run_and_when_it_is_back_the_run_resumes(scene, whole, folder, profile, lose):
    (folder / "in").mkdir()
    (folder / "out").mkdir()
    path = copied(scene, folder / "in", **profile)
    go, come = lose(path)
    run = Run(folder / "out", path, stop_at=2).at_the_tile()
    go()
    assert failed(run.go_on(), str(path)) and names(folder / "out") == [JOURNAL] and done(folder / "out") >= 1
    assert failed(Run(folder / "out", path), str(path)) and names(folder / "out") == [JOURNAL]
    come()
    assert Run(folder / "out", path).end() == (0, "")
    for name in NAMES[1:]:  # what outlines say of the run names the file
        assert pixels(folder / "out" / name) == pixels(scene.with_name("whole") / name)


def pixels(path):
    with rasterio.open(path) as file:
        return file.read().tobytes()


def test_a_zarr_store_that_goes_is_no_scene_of_nodata(scene, whole, folder):
    from xtgeo import open_scene

    out, store = folder / "out", folder / "scene.zarr"
    out.mkdir()
    table = open_scene(scene).to_xarray().chunk({"y": 256, "x": 256}).to_dataset(name="scene")
    table["scene"].attrs = {"units": "db", "grid_mapping": "spatial_ref"}
    table.to_zarr(store, zarr_format=2)
    also = ("--bands", "vv=1")
    run = Run(out, store, stop_at=2, also=also).at_the_tile()
    os.replace(store, folder / "elsewhere")
    assert failed(run.go_on(), "scene.zarr is no longer there") and names(out) == [JOURNAL]
    os.replace(folder / "elsewhere", store)
    assert Run(out, store, also=also).end() == (0, "")
    assert all(pixels(out / name) == pixels(scene.with_name("whole") / name) for name in NAMES[1:])


def test_a_source_that_is_replaced_on_the_way_gives_no_mixture(scene, folder):
    (folder / "in").mkdir()
    (folder / "out").mkdir()
    path = copied(scene, folder / "in")
    run = Run(folder / "out", path, stop_at=5).at_the_tile()
    shutil.copyfile(path, folder / "other")
    os.replace(folder / "other", path)
    assert failed(run.go_on(), "has changed while it was read") and names(folder / "out") == []


SERVER = """
import sys, time
sys.path.insert(0, {tests!r})
import loopback
with loopback.serve({folder!r}, int(sys.argv[1])) as server:
    answer, pause = loopback.Handler.answer, float(sys.argv[2])
    loopback.Handler.answer = lambda *a, **k: (time.sleep(pause), answer(*a, **k))
    print(server.server_port, flush=True)
    time.sleep(600)
"""


def serve(folder, port=0, pause=0.0):
    """A server of files in a process of its own, and its port."""
    code = SERVER.format(tests=str(Path(__file__).parent), folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", code, str(port), str(pause)], stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def stop(server):
    server.kill()
    server.communicate()


def in_haste():
    """Pauses between tries are short, and GDAL keeps no more of the file than one piece."""
    pieces = dict.fromkeys(("CPL_VSIL_CURL_CHUNK_SIZE", "CPL_VSIL_CURL_CACHE_SIZE"), "16384")
    os.environ.update(pieces, GDAL_HTTP_RETRY_DELAY="0.02")


def test_a_server_that_goes_stops_the_run_and_when_it_is_back_the_run_resumes_however_slow(scene, whole, folder):
    server, port = serve(scene.parent)
    url = f"http://127.0.0.1:{port}/scene.tif"
    run = Run(folder, url, stop_at=2, prepare=in_haste).at_the_tile()
    stop(server)
    assert failed(run.go_on(), "network") and names(folder) == [JOURNAL]
    assert failed(Run(folder, url, prepare=in_haste), "check the address")
    server, _ = serve(scene.parent, port, pause=0.1)
    assert Run(folder, url, prepare=in_haste).end() == (0, "") and names(folder) == sorted(NAMES)
    stop(server)
    for name in NAMES[1:]:
        assert pixels(folder / name) == pixels(scene.with_name("whole") / name)


SPOILT = 1060, 300
"""A row and a column of the block of 128 x 128 pixels that is damaged; 512 x 512 are read at once."""
SAMPLED = 300, 700
"""Another one, of which a sample is taken before the first tile."""


@pytest.fixture
def spoilt(scene, folder):
    """The scene with one block that cannot be decoded."""
    path = folder / "scene.tif"
    shutil.copyfile(scene, path)
    spoil_block(path, *SPOILT)
    return path


def spoil_block(path, row, column):
    with rasterio.open(path) as file:
        at = f"{column // 128}_{row // 128}"
        start, size = (int(file.get_tag_item(f"BLOCK_{what}_{at}", "TIFF", bidx=1)) for what in ("OFFSET", "SIZE"))
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(random.Random(0).randbytes(size))


def test_a_tile_that_cannot_be_read_ends_the_run_or_is_nodata_and_told_of(scene, spoilt, whole, folder):
    out = folder / "out"
    out.mkdir()
    assert failed(Run(out, spoilt), "cannot read rows", str(spoilt))
    begun = done(out)
    run = Run(out, spoilt, quiet=False, also=("--on-error", "mask", "--json"))
    code, err = run.end()
    missed = run.summary()["unreadable"]
    assert code == 0 and 0 < begun <= run.summary()["tiles_resumed"] < 25 and names(out) == sorted(NAMES)
    assert err.startswith(f"{len(missed)} tiles could not be read, now nodata, the first at row ") and err.count("\n") == 1
    holes = np.zeros(SHAPE, bool)
    for m in missed:
        assert "cannot read rows" in m["reason"] and (m["y"] % 256, m["x"] % 256) == (0, 0)
        holes[m["y"] : m["y"] + m["h"], m["x"] : m["x"] + m["w"]] = True
    assert holes[SPOILT] and len(missed) == 6  # the piece and its neighbours, whose margins reach into it
    for name in NAMES[1:]:
        with rasterio.open(out / name) as file, rasterio.open(scene.with_name("whole") / name) as before:
            assert (file.read(1)[holes] == file.nodata).all() and json.loads(file.tags()["unreadable"]) == missed
            assert (file.read(1)[~holes] == before.read(1)[~holes]).all()
    assert json.loads(gpd.read_file(out / "v.gpkg", layer="run")["unreadable"][0]) == missed
    x, y = 500000 + 10 * (SPOILT[1] + 0.5), 5800000 - 10 * (SPOILT[0] + 0.5)
    assert not gpd.read_file(out / "v.gpkg", layer="scene_footprint").geometry.covers(shapely.Point(x, y)).any()
    again = folder / "again"
    again.mkdir()
    run = Run(again, spoilt, also=("--on-error", "mask", "--quicklook", folder / "q.png"))
    assert run.end() == (0, "") and (folder / "q.png").stat().st_size > 10_000
    assert all((again / name).read_bytes() == (out / name).read_bytes() for name in NAMES[1:])
    spoil_block(spoilt, *SAMPLED)
    run = Run(folder / "again", spoilt, also=("--on-error", "mask", "--overwrite", "--json"))
    assert run.end() == (0, "") and len(run.summary()["unreadable"]) > len(missed)


def test_masked_tiles_are_tried_again_when_a_run_resumes(scene, spoilt, whole, folder):
    out = folder / "out"
    out.mkdir()
    run = Run(out, spoilt, stop_at=19, also=("--on-error", "mask")).at_the_tile()
    run.process.kill()
    run.end()
    found = spoilt.stat()
    with closing(sqlite3.connect(out / JOURNAL)) as db:
        assert db.execute("SELECT count(*) FROM answers WHERE name = 'unreadable'").fetchone()[0] > 0
    shutil.copyfile(scene, spoilt)
    os.utime(spoilt, ns=(found.st_atime_ns, found.st_mtime_ns))
    run = Run(out, spoilt, also=("--on-error", "mask", "--json"))
    assert run.end() == (0, "") and run.summary()["unreadable"] == []
    for name in NAMES[1:]:
        assert pixels(out / name) == pixels(scene.with_name("whole") / name)


def test_points_are_found_around_what_cannot_be_read(scene, spoilt):
    from xtgeo import detect, open_scene

    model = Model(Bright(), replace(SPEC, points=True)).eval()
    everywhere, around = (detect(open_scene(path), model, on_error="mask").detections.to_frame() for path in (scene, spoilt))
    hidden = [((f["detect_scene_row"] > 768) & (f["detect_scene_column"] < 768)).sum() for f in (everywhere, around)]
    assert hidden[0] > 3 and hidden[1] == 0 and len(around) > 9 and around["contrast_db"].notna().all()


def test_with_context_of_the_scene_a_tile_cannot_be_left_out(spoilt, folder):
    assert failed(Run(folder, spoilt, also=("--on-error", "mask", "--context", "scene")), "--context scene")


# Tornado and distributed leave sockets to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_on_a_cluster_the_same_tiles_are_nodata(spoilt, folder):
    from distributed import Client, LocalCluster

    from xtgeo import open_scene, segment

    here, there = ({"out": folder / f"{name}.gpkg", "scores": folder / f"{name}.tif"} for name in ("here", "there"))
    source, model = open_scene(spoilt), Model(Bright(), SPEC).eval()
    alone = segment(source, model, on_error="mask", **here)
    local = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1", memory_limit=0,
        dashboard_address="127.0.0.1:0",
    )  # fmt: skip
    with local, Client(local, set_as_default=False) as client:
        with pytest.raises(SceneError, match="cannot read rows"):
            segment(source, model, client=client, **there)
        away = segment(source, model, client=client, on_error="mask", **there)
    assert away.summary.unreadable == alone.summary.unreadable and len(away.summary.unreadable) == 6
    assert all(here[name].read_bytes() == there[name].read_bytes() for name in here)
