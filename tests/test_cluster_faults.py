"""Whatever dies of a cluster, a batch ends: in the bytes of one machine, or with one line, and then the same command goes on.

Schedulers, workers and batches are the real commands, in processes of their own; kills and signals are real.
"""

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
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from html import escape
from pathlib import Path

import numpy as np
import psutil
import pytest
import rasterio
from distributed import Client
from forked import FORKS

from xtgeo import Masks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")

SHAPE = 531, 700
TILES = 9
NAMES = [f"{name}{ending}" for name in "abcd" for ending in (".gpkg", ".jpg", ".mask.tif")]
KEPT = [".batch.lock", ".batch.sqlite", "report.html", "summary.json"]
OPTIONS = "--mask", "--land", "off", "--dtype", "fp32", "--quiet"


def command(said, words, environment, prepare):
    """A command of dask or xtgeo, as from a shell, in a session of its own."""
    os.setsid()
    for number, path in enumerate(said, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [words[0], *map(str, words[1:])]
    if words[0] == "dask":
        import dask.config
        from dask.__main__ import main

        dask.config.refresh()  # its options are in the environment
    else:
        from xtgeo.cli import main
    if prepare:
        prepare()
    main()


class Command:
    """Such a process, with what it starts; gone when the block ends."""

    def __init__(self, *words, prepare=None, **environment):
        self.folder = Path(tempfile.mkdtemp())
        self.said = [self.folder / "out", self.folder / "err"]
        self.process = FORKS.Process(target=command, args=(self.said, words, environment, prepare))
        self.process.start()
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for number, seconds in ((signal.SIGTERM, 2), (signal.SIGKILL, 10)):
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)
            self.process.join(seconds)
        shutil.rmtree(self.folder)

    @property
    def errors(self):
        return self.said[1].read_text() if self.said[1].exists() else ""

    def says(self, pattern, seconds=60):
        """Waits until it has said so."""
        return until(lambda: re.search(pattern, self.errors), seconds, lambda: self.errors)

    def end(self, seconds=120):
        """Exit code, and what was said on standard error."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"still there after {seconds} s: {self.errors}"
        return self.process.exitcode, self.errors

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        return self.end(10)


def until(what, seconds=60, told=lambda: ""):
    """Its first answer that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := what():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"not in {seconds} s: {told()}")


def scheduler(port=0, *words, **environment):
    return Command("dask", "scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard", *words, **environment)


def address(scheduler):
    return scheduler.says(r"Scheduler at:\s+(\S+)")[1]


def worker(place, folder, *words, **environment):
    return Command(
        "dask", "worker", place, "--host", "127.0.0.1", "--nthreads", 1, "--no-dashboard", "--local-directory", folder, *words,
        **environment,
    )  # fmt: skip


@contextmanager
def cluster(workers, folder, *words):
    """Address of a scheduler, and its workers, without nannies."""
    with scheduler() as boss:
        place = address(boss)
        started = [worker(place, folder, "--no-nanny", *words) for _ in range(workers)]
        try:
            yield place, started
        finally:
            for one in started:
                one.__exit__()


def batch(folder, *words, scenes="in/*.tif", **environment):
    given = folder.parent / scenes
    common = "--out-dir", folder, "--model", folder.parent / "small.safetensors", *OPTIONS
    return Command("xtgeo", "batch", given, *common, *words, **environment)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Four scenes, twelve more to be busy with, and a model with small tiles."""
    from xtgeo import simulate
    from xtgeo.model import Model, load_model, save_model

    folder = tmp_path_factory.mktemp("room")
    for name in ("in", "more"):
        (folder / name).mkdir()
    simulate.write_scene(simulate.sentinel1(SHAPE, seed=4, density=25, wind=4, land=False), folder / "a.tif")
    with rasterio.open(folder / "a.tif") as file:
        data, profile, names = file.read(), file.profile, file.descriptions
    for name, turned in zip("abcd", (data, data[:, ::-1], data[:, :, ::-1], data[:, ::-1, ::-1]), strict=True):
        with rasterio.open(folder / "in" / f"{name}.tif", "w", **profile) as file:
            file.write(turned)
            file.descriptions, file.units = names, ("dB", "dB")
    for name in "efghijklmnop":
        shutil.copyfile(folder / "in" / "a.tif", folder / "more" / f"{name}.tif")
    model = load_model("vessels-sar")
    save_model(Model(model.net, replace(model.spec, name="small", region=256, span=1)), folder / "small.safetensors")
    return folder


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    """Address of a scheduler with one worker that nothing happens to."""
    with cluster(1, tmp_path_factory.mktemp("dask")) as (place, _):
        yield place


@pytest.fixture(scope="module")
def whole(room, standing):
    """Bytes of each output of a batch that nothing disturbed; they are those of one machine alone."""
    from xtgeo import open_scene, segment
    from xtgeo.batches.record import Record
    from xtgeo.batches.run import planned
    from xtgeo.model import load_model

    folder, alone = room / "whole", room / "alone"
    with batch(folder, "--scheduler", standing) as run:
        assert run.end() == (0, "")
    assert names(folder) == sorted([*KEPT, *NAMES])
    alone.mkdir()
    model, record = load_model(room / "small.safetensors"), Record(folder)
    for name in "abcd":
        scene = open_scene(room / "in" / f"{name}.tif")
        plan = planned(record, None, model, scene, {"dtype": "fp32"})
        ends = {"out": ".gpkg", "mask": ".mask.tif", "quicklook": ".jpg"}
        found = segment(
            scene, model, like=plan, masks=Masks("off"), **{out: alone / f"{name}{ending}" for out, ending in ends.items()}
        )
        assert len(plan.nest) == TILES and len(found.detections) > 2
    record.close()
    assert {name: (folder / name).read_bytes() == (alone / name).read_bytes() for name in NAMES} == dict.fromkeys(NAMES, True)
    return {name: (alone / name).read_bytes() for name in NAMES}


def complete(folder, whole):
    """All outputs with these bytes, and nothing else but the batch's own."""
    assert names(folder) == sorted([*KEPT, *NAMES])
    assert [name for name in NAMES if (folder / name).read_bytes() != whole[name]] == []
    return True


def tiles(folder):
    """Tiles in journals, of all scenes that are on their way."""
    count = 0
    for path in folder.glob(".*.journal"):
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as db:
            count += db.execute("SELECT count(DISTINCT tile) FROM answers").fetchone()[0]
    return count


def facts(folder):
    """Of each scene that is done."""
    with closing(sqlite3.connect(folder / ".batch.sqlite")) as db:
        return {name: json.loads(text) for name, text in db.execute("SELECT name, facts FROM scenes WHERE state = 'done'")}


@contextmanager
def watching(place):
    with Client(place, set_as_default=False) as client:
        yield client


def test_a_worker_that_is_killed_costs_its_tiles_and_nothing_else(room, standing, whole, tmp_path):
    with watching(standing) as client, worker(standing, tmp_path, "--no-nanny") as victim:
        here = victim.says(r"Start worker at:\s+(\S+)")[1]
        with batch(room / "killed", "--scheduler", standing) as run:
            until(lambda: client.processing([here])[here] and tiles(room / "killed"))
            victim.kill()
            assert run.end() == (0, "")
    assert complete(room / "killed", whole)


def test_a_worker_that_joins_late_is_given_tiles(room, standing, whole, tmp_path):
    folder = room / "late"
    with batch(folder, room / "more" / "*.tif", "--scheduler", standing) as run, watching(standing) as client:
        until(lambda: tiles(folder))
        with worker(standing, tmp_path, "--no-nanny") as second:
            here = second.says(r"Start worker at:\s+(\S+)")[1]
            assert run.end() == (0, "")
            assert client.run(executed, workers=[here])[here] > 2
    assert len(facts(folder)) == 16 and all((folder / name).read_bytes() == whole[name] for name in NAMES)


def executed(dask_worker):
    return dask_worker.state.executed_count


def test_without_a_scheduler_a_batch_ends_with_one_line_and_goes_on_when_it_is_back(room, whole, tmp_path):
    folder = room / "lost"
    with scheduler() as boss:
        place = address(boss)
        with worker(place, tmp_path, "--no-nanny"), batch(folder, "--scheduler", place) as run:
            until(lambda: tiles(folder) > 2)
            boss.kill()
            assert failed(run, 60, place, "gone", "resumes")
    kept = tiles(folder)
    with scheduler(place.rpartition(":")[2]) as boss:
        assert address(boss) == place
        with worker(place, tmp_path, "--no-nanny"), batch(folder, "--scheduler", place) as run:
            assert run.end() == (0, "")
    assert complete(folder, whole) and sum(of["tiles_resumed"] for of in facts(folder).values()) >= kept - 1 > 0


def failed(run, seconds, *words):
    """One clear line, and exit code 1, in time."""
    code, err = run.end(seconds)
    assert code == 1 and err.startswith("error: ") and err.count("\n") == 1, (code, err)
    assert all(word in err for word in words), err
    return True


def identities(folder):
    """What changes when a file is written again."""
    done = facts(folder) if (folder / ".batch.sqlite").exists() else ()
    return {name: ((folder / name).stat().st_ino, (folder / name).stat().st_mtime_ns) for name in NAMES if name[0] in done}


def die_before_done(n):
    """The process is killed when the outputs of a scene, the n-th, have their names, and the record does not know it yet."""
    from xtgeo.batches.record import Record

    put, count = Record.put, itertools.count(1)

    def last(self, row):
        if row.state == "done" and next(count) == n:
            os.kill(os.getpid(), signal.SIGKILL)
        put(self, row)

    Record.put = last


def test_killed_again_and_again_a_batch_does_no_scene_twice_and_ends_in_the_same_bytes(room, standing, whole):
    folder, moments = room / "again", random.Random(0)
    prepared = [partial(die_before_done, 1), partial(die_before_done, 2), *[None] * 12]
    for prepare in prepared:
        before = identities(folder) if folder.exists() else {}
        with batch(folder, "--scheduler", standing, prepare=prepare) as run:
            if prepare is None:
                run.process.join(moments.uniform(0.3, 4))
                with suppress(ProcessLookupError):
                    os.kill(run.pid, signal.SIGKILL)
            code, err = run.end()
        assert (code, err) in ((-signal.SIGKILL, ""), (0, ""))
        assert [name for name in NAMES if (folder / name).exists() and (folder / name).read_bytes() != whole[name]] == []
        assert before.items() <= identities(folder).items()
        if code == 0:
            break
    else:
        with batch(folder, "--scheduler", standing) as run:
            assert run.end() == (0, "")
    assert complete(folder, whole)


def left(session):
    """Processes of a session."""
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.Error):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [
        (signal.SIGINT, 130, "interrupted: run again to resume\n"),
        pytest.param(signal.SIGTERM, 143, "interrupted: run again to resume\n", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -signal.SIGKILL, "", marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_batch_and_its_workers_and_the_same_command_goes_on(room, standing, whole, number, code, told):
    folder = room / f"signal{number}"
    with batch(folder, "--workers", 1) as run:
        until(lambda: tiles(folder) > 1)
        listening = [c.laddr.ip for p in left(run.pid) for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        assert len(left(run.pid)) > 1 and set(listening) == {"127.0.0.1"}
        with batch(folder, "--scheduler", standing) as second:
            assert failed(second, 60, str(folder), f"process {run.pid} on")
        if number == signal.SIGKILL:
            os.kill(run.pid, number)
        else:
            os.killpg(run.pid, number)  # as a terminal or a batch system does: the workers are told, too
        assert run.end(30) == (code, told)
        assert until(lambda: not left(run.pid), 20)
    assert (folder / ".batch.owner").exists() == (number == signal.SIGKILL)
    with batch(folder, "--scheduler", standing) as run:
        assert run.end() == (0, "")
    assert complete(folder, whole)


def test_a_scene_that_cannot_be_read_does_not_stop_the_others_and_mended_it_is_done_alone(room, standing, whole):
    folder, source = room / "mended", room / "some"
    shutil.copytree(room / "in", source)
    good = (source / "c.tif").read_bytes()
    (source / "c.tif").write_bytes(b"garbage" * 999)
    with batch(folder, "--scheduler", standing, scenes="some/*.tif") as run:
        assert run.end() == (1, "")
    told = json.loads((folder / "summary.json").read_text())
    assert (told["done"], told["failed"], [bad["scene"] for bad in told["failures"]]) == (3, 1, ["c"])
    assert "c.tif" in told["failures"][0]["error"] and escape(told["failures"][0]["error"]) in (folder / "report.html").read_text()
    assert not [name for name in names(folder) if name.startswith(("c.", ".c."))]
    before = identities(folder)
    (source / "c.tif").write_bytes(good)
    with batch(folder, "--scheduler", standing, "--json", scenes="some/*.tif") as run:
        assert run.end() == (0, "")
        told = json.loads(run.said[0].read_text())
    assert (told["done"], told["earlier"], told["failed"]) == (4, 3, 0) and before.items() <= identities(folder).items()
    assert sorted(facts(folder)) == list("abcd") and (folder / "c.mask.tif").read_bytes()[:2] == b"II"
    assert "Failed" not in (folder / "report.html").read_text()


AUTHORITY = """
req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout {0}-authority.key -out {0}-authority.pem
req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout {0}.key -out {0}.csr
x509 -req -days 2 -in {0}.csr -CA {0}-authority.pem -CAkey {0}-authority.key -CAcreateserial -out {0}.pem
"""


@pytest.fixture
def certificates(tmp_path):
    """Of two authorities that do not know each other: its own certificate, and one that it signed with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make certificates with")
    found = []
    for name in ("ours", "foreign"):
        for line in AUTHORITY.format(name).strip().splitlines():
            subprocess.run(["openssl", *line.split()], cwd=tmp_path, check=True, capture_output=True)
        found.append([tmp_path / f"{name}{ending}" for ending in ("-authority.pem", ".pem", ".key")])
    return found


def tls(files):
    return [word for pair in zip(("--tls-ca-file", "--tls-cert", "--tls-key"), files, strict=True) for word in pair]


def test_a_cluster_with_tls_serves_who_has_its_certificates_and_nobody_else(room, whole, certificates, tmp_path):
    ours, foreign = certificates
    folder = room / "tls"
    with scheduler(0, "--protocol", "tls", *tls(ours)) as boss:
        place = address(boss)
        assert place.startswith("tls://127.0.0.1:")
        with worker(place, tmp_path, "--no-nanny", *tls(ours)) as one:
            one.says("Registered to")
            plain = place.replace("tls", "tcp")
            for words in ((place,), (place, *tls(foreign)), (plain, *tls(ours)), (plain,)):
                with batch(folder, "--scheduler", *words) as run:
                    assert failed(run, 40, words[0], "certificates")
            assert names(folder) == sorted({*KEPT} - {"report.html", "summary.json"})
            with batch(folder, "--scheduler", place, *tls(ours)) as run:
                assert run.end() == (0, "")
    assert complete(folder, whole)


def one_block(path, side=12_288):
    """A scene that is small on the disk and one block, of 600 MB, in memory."""
    data = np.full((1, side, side), -32768, np.float32)
    data[:, :300, :300] = np.random.default_rng(0).normal(-20, 1, (300, 300))
    with rasterio.open(
        path, "w", driver="GTiff", height=side, width=side, count=1, dtype="float32", nodata=-32768, tiled=True,
        blockxsize=side, blockysize=side, compress="deflate", zlevel=1, crs="EPSG:32631",
        transform=rasterio.Affine(10, 0, 500000, 0, -10, 5800000),
    ) as file:  # fmt: skip
        file.write(data)
        file.descriptions, file.units = ("vv",), ("dB",)


@pytest.mark.slow
def test_a_scene_that_no_worker_has_memory_for_fails_and_the_others_are_done(room, whole, tmp_path):
    folder, source = room / "memory", room / "large"
    shutil.copytree(room / "in", source)
    one_block(source / "c.tif")
    with scheduler(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0") as boss:
        place = address(boss)
        with worker(place, tmp_path, "--memory-limit", "1.5GB") as nanny:
            with batch(folder, "--scheduler", place, "--max-memory", "1.3GB", scenes="large/*.tif") as run:
                assert run.end() == (1, "")
            assert nanny.errors.count("exceeded 95% memory budget. Restarting") > 1
    told = json.loads((folder / "summary.json").read_text())
    assert (told["done"], [bad["scene"] for bad in told["failures"]]) == (3, ["c"])
    assert "workers died at the same tile" in told["failures"][0]["error"] and "--max-memory" in told["failures"][0]["error"]
    assert [name for name in NAMES if name[0] != "c" and not (folder / name).exists()] == []
    assert not [name for name in names(folder) if name.startswith(("c.", ".c."))]


def test_a_worker_with_another_xtgeo_or_none_is_named_and_refused(room, standing, tmp_path):
    about, folder = tmp_path / "other" / "xtgeo_sat-0.0.1.dist-info", room / "versions"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: xtgeo-sat\nVersion: 0.0.1\n")
    other = partial(look_first, about.parent)
    with scheduler() as boss:
        place = address(boss)
        for prepare, told in ((hide, "has xtgeo not at all"), (other, "has xtgeo 0.0.1")):
            with worker(place, tmp_path, "--no-nanny", prepare=prepare) as one:
                one.says("Registered to")
                with batch(folder, "--scheduler", place) as run:
                    assert failed(run, 60, one.says(r"Start worker at:\s+(\S+)")[1], told)
    with batch(folder, room / "more" / "*.tif", "--scheduler", standing) as run:
        until(lambda: tiles(folder))
        with worker(standing, tmp_path, "--no-nanny", prepare=other) as one:
            here = one.says(r"Start worker at:\s+(\S+)")[1]
            assert failed(run, 60, here, "has xtgeo 0.0.1")


def look_first(folder):
    """What is installed there goes before the rest."""
    sys.path.insert(0, str(folder))


def hide():
    """As if xtgeo were not installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "xtgeo"]:
        del sys.modules[name]
    sys.modules["xtgeo"] = None


def test_a_run_that_ends_early_leaves_nothing_to_the_workers_even_if_its_error_is_kept(room, standing):
    from xtgeo import open_scene, segment
    from xtgeo.model import load_model

    scene, model = open_scene(room / "in" / "a.tif"), load_model(room / "small.safetensors")

    def enough(done, total, pixels):
        if done > 2:
            raise KeyboardInterrupt

    with watching(standing) as client:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt) as kept:
                segment(scene, model, client=client, masks=Masks("off"), dtype="fp32", progress=enough)
            assert until(lambda: not client.scheduler_info(n_workers=-1)["workers"].popitem()[1]["metrics"]["task_counts"], 20)
        found = segment(scene, model, client=client, masks=Masks("off"), dtype="fp32")
        assert len(found.detections) > 2 and kept


@pytest.mark.slow
def test_without_workers_a_batch_waits_a_minute_and_ends_with_one_line(room, tmp_path):
    folder = room / "deserted"
    with scheduler() as boss:
        place = address(boss)
        with worker(place, tmp_path, "--no-nanny") as one, batch(folder, "--scheduler", place) as run:
            until(lambda: tiles(folder))
            one.kill()
            start = time.monotonic()
            assert failed(run, 120, "no worker has taken work of", place, "resumes") and time.monotonic() - start > 40


@pytest.mark.slow
def test_a_scheduler_that_stands_still_is_lost_too(room, tmp_path):
    folder = room / "still"
    with scheduler() as boss:
        place = address(boss)
        with worker(place, tmp_path, "--no-nanny"), batch(folder, "--scheduler", place) as run:
            until(lambda: tiles(folder))
            os.kill(boss.pid, signal.SIGSTOP)
            assert failed(run, 150, place, "cannot be reached")


@pytest.mark.slow
def test_a_scheduler_that_comes_back_at_once_knows_nothing_and_the_batch_ends(room, whole, tmp_path):
    folder = room / "back"
    with scheduler() as boss:
        place = address(boss)
        with worker(place, tmp_path, "--no-nanny"), batch(folder, "--scheduler", place) as run:
            until(lambda: tiles(folder))
            boss.kill()
            with scheduler(place.rpartition(":")[2]), worker(place, tmp_path, "--no-nanny"):
                assert failed(run, 60, place, "resumes")
                with batch(folder, "--scheduler", place) as again:
                    assert again.end() == (0, "")
    assert complete(folder, whole)
