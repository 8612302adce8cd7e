"""The same tiles on a Dask cluster: the same bytes, whatever the number of workers; nothing is left on the scheduler."""

import pickle
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster
from test_infer import SPEC as NESTED
from test_job import SPEC, Bright, write_scene

from xtgeo import Model, detect, load_model, open_scene, segment
from xtgeo import cluster as cluster_module
from xtgeo.cluster import Cluster, Slots, connect
from xtgeo.engine import Engine
from xtgeo.errors import ClusterError, SceneError
from xtgeo.infer import Plan, plan
from xtgeo.job import fingerprint
from xtgeo.model import build
from xtgeo.window import Nest

# Tornado and distributed leave sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
HERE = {"threads_per_worker": 1, "processes": False, "protocol": "tcp", "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
"""Workers in this process: what is tested here are tiles, not processes."""


@pytest.fixture(scope="module")
def clients():
    """Of one, two and three workers."""
    made, stack = {}, []
    for n in (1, 2, 3):
        local = LocalCluster(n_workers=n, memory_limit=0, **HERE)
        made[n] = Client(local, set_as_default=False)
        stack += [made[n], local]
    yield made
    for one in stack:
        one.close()


@pytest.fixture(scope="module")
def model():
    return Model(Bright(), SPEC).eval()


@pytest.fixture
def path(tmp_path):
    return write_scene(tmp_path / "scene.tif")


def alike(scene, model, span=2, context="tile"):
    nest = Nest(scene.shape, model.spec.region, span, model.spec.margin)
    return Plan(nest, Engine(threads=1, keep_memory=False), 0, 0, context)


def outputs(folder):
    folder.mkdir()
    return {"out": folder / "v.gpkg", "mask": folder / "m.tif", "scores": folder / "s.tif", "quicklook": folder / "q.png"}


def same_files(one, two):
    assert all(one[name].read_bytes() == two[name].read_bytes() for name in one), "a file differs"


def forgets(client):
    """Whether the client lets go of every task; it does so in its own thread."""
    deadline = time.monotonic() + 30
    while client.futures and time.monotonic() < deadline:
        time.sleep(0.01)
    return not client.futures


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_outlines_and_rasters_are_those_of_a_single_machine_whatever_the_number_of_workers(
    clients, model, path, tmp_path, workers
):
    scene = open_scene(path)
    here, there = outputs(tmp_path / "here"), outputs(tmp_path / "there")
    like = alike(scene, model)
    alone = segment(scene, model, like=like, **here)
    away = segment(scene, model, like=like, client=clients[workers], **there)
    assert len(away.detections) == len(alone.detections) > 0 and away.summary.tiles == alone.summary.tiles
    same_files(here, there)


def test_points_are_those_of_a_single_machine(clients, path, tmp_path):
    scene, cfar = open_scene(path), load_model("cfar")
    like = alike(scene, cfar, span=1)
    files = [tmp_path / f"{name}.gpkg" for name in ("here", "there")]
    assert len(detect(scene, cfar, like=like, out=files[0]).detections) > 0
    detect(scene, cfar, like=like, out=files[1], client=clients[2])
    assert files[0].read_bytes() == files[1].read_bytes()


def test_context_of_the_scene_meets_from_all_workers(clients, tmp_path):
    torch.manual_seed(0)
    spec = replace(NESTED, bands=("vv",), optional=(), mean=(-15.0,), std=(6.0,), min_area=0.0)
    net = build(spec)
    with torch.no_grad():
        for gate in net.context.gates:
            gate.weight.normal_(std=0.05)
    model, scene = Model(net, spec).eval(), open_scene(write_scene(tmp_path / "s.tif", shape=(200, 260)))
    like = alike(scene, model, context="scene")
    here, there = outputs(tmp_path / "here"), outputs(tmp_path / "there")
    segment(scene, model, like=like, context="scene", **here)
    told = []
    segment(scene, model, like=like, context="scene", client=clients[2], progress=lambda *a: told.append(a), **there)
    same_files(here, there)
    assert told[-1][0] == told[-1][1] == 2 * len(like.nest)


def test_a_run_that_began_alone_goes_on_on_a_cluster(clients, model, path, tmp_path):
    scene = open_scene(path)
    like = alike(scene, model)

    def stop(done, total, pixels):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment(scene, model, like=like, out=tmp_path / "v.gpkg", progress=stop)
    result = segment(scene, model, like=like, out=tmp_path / "v.gpkg", client=clients[2])
    assert result.summary.tiles_resumed == 3
    segment(scene, model, like=like, out=tmp_path / "alone.gpkg")
    assert (tmp_path / "v.gpkg").read_bytes() == (tmp_path / "alone.gpkg").read_bytes()


def test_a_plan_is_made_on_a_worker_and_is_for_larger_scenes_too(clients, model, path):
    scene = open_scene(path)
    made = Cluster.of(clients[1], model, fingerprint(model)).plan(scene)
    assert (made.engine.workers, made.engine.threads) == (1, 1)
    wide = replace(SPEC, span=40)
    many = plan(scene, Model(Bright(), wide), many=True, threads=2, max_memory=8 << 30)
    assert many.nest.span == 40 and many.engine.workers == 2
    assert plan(scene, Model(Bright(), wide), max_memory=8 << 30).nest.span == 9, "alone it is as wide as the scene"


def test_an_error_of_a_tile_is_the_runs_and_leaves_nothing_behind(clients, model, path, tmp_path):
    scene, client = open_scene(path), clients[2]
    cluster = Cluster.of(client, model, fingerprint(model))
    like = alike(scene, model, span=1)
    path.write_bytes(path.read_bytes()[:70_000])
    with pytest.raises(SceneError, match="cannot open|cannot read"):
        segment(scene, model, like=like, client=client, out=tmp_path / "v.gpkg")
    assert not (tmp_path / "v.gpkg").exists()
    assert cluster.slots.free == cluster_module.PER_THREAD * 2
    assert forgets(client)


def test_what_nobody_takes_any_more_is_called_off(clients, model, path):
    scene, client = open_scene(path), clients[1]
    cluster = Cluster.of(client, model, fingerprint(model))
    answers = cluster.answers(scene, alike(scene, model, span=1), range(40), _nothing)
    next(answers)
    assert cluster.slots.free < cluster_module.PER_THREAD
    answers.close()
    assert cluster.slots.free == cluster_module.PER_THREAD and forgets(client)


def _nothing(block):
    return {}


def test_the_scheduler_knows_two_tiles_for_each_thread_whatever_there_is_to_do(clients, model, path):
    scene, client = open_scene(path), clients[2]
    cluster = Cluster.of(client, model, fingerprint(model))
    most = 0
    for _ in cluster.answers(scene, alike(scene, model, span=1), [*range(54)] * 3, _nothing):
        most = max(most, len(client.futures))
    assert most <= cluster_module.PER_THREAD * 2 + 1, "and the scene itself"


@pytest.mark.parametrize(("side", "count", "tasks"), [(128, 40, 10), (128, 6, 2), (64, 6, 6), (1 << 20, 40, 2)])
def test_a_task_is_some_tiles_where_there_are_enough_for_all_threads(
    clients, model, path, monkeypatch, side, count, tasks
):
    scene, client, asked = open_scene(path), clients[1], []
    submit = client.submit
    monkeypatch.setattr(client, "submit", lambda *words, **options: asked.append(words[0]) or submit(*words, **options))
    monkeypatch.setattr(cluster_module, "TASK_PX", side)  # tiles have 64
    cluster = Cluster.of(client, model, fingerprint(model))
    answered = [tile for tile, _ in cluster.answers(scene, alike(scene, model, span=1), range(count), _nothing)]
    assert sorted(answered) == [*range(count)] and asked.count(cluster_module._each) == tasks


def test_slots_are_never_more_than_allowed_and_all_get_one():
    slots, now, most, lock = Slots(lambda: 3), [0], [0], threading.Lock()

    def work():
        for _ in range(50):
            slots.take(wait=True)
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            with lock:
                now[0] -= 1
            slots.give()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads) and most[0] <= 3 and slots.free == 3


def test_the_model_is_made_ready_once_on_each_worker(clients, model):
    weights = cluster_module.Weights("x", model)
    engine = Engine(threads=1, keep_memory=False)
    assert weights.ready(engine) is weights.ready(engine)
    again = pickle.loads(pickle.dumps(weights))
    assert again.name == "x" and np.allclose(again.model.net.weight.detach(), model.net.weight.detach())
    client = clients[3]
    assert Cluster.of(client, model, "same") is Cluster.of(client, model, "same") is not Cluster.of(client, model, "other")


def test_a_cluster_without_workers_is_an_error_that_says_what_to_do(model, monkeypatch):
    monkeypatch.setattr(cluster_module, "JOIN_SECONDS", 0.2)
    with LocalCluster(n_workers=0, **HERE) as local, Client(local, set_as_default=False) as client:
        with pytest.raises(ClusterError, match="no worker has joined .*: start some with `dask worker tcp"):
            Cluster.of(client, model, "none")


def test_workers_that_have_gpus_to_give_are_asked_for_one(model):
    with LocalCluster(n_workers=1, resources={"GPU": 1}, **HERE) as local, Client(local, set_as_default=False) as client:
        assert Cluster.of(client, model, "gpu")._has_gpu_resource()


@pytest.mark.gpu
@pytest.mark.parametrize("context", ["tile", "scene"])
def test_workers_with_a_gpu_give_what_one_gpu_gives_alone(path, context):
    """The worker is a process of its own, with the resource `GPU`."""
    scene, vessels = open_scene(path), load_model("vessels-sar")
    alone = segment(scene, vessels, device="cuda", dtype="fp32", context=context, threshold=0.01)
    apart = {"threads_per_worker": 1, "processes": True, "protocol": "tcp", "host": "127.0.0.1", "dashboard_address": None}
    with LocalCluster(n_workers=1, memory_limit=0, resources={"GPU": 1}, **apart) as local:
        with Client(local, set_as_default=False) as client:
            away = segment(
                scene, vessels, client=client, device="cuda", dtype="fp32", context=context, threshold=0.01
            )
    assert away.summary.engine["device"] == alone.summary.engine["device"] == "cuda"
    assert away.summary.objects == alone.summary.objects > 0


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense", "tcp://no.such.host.invalid:8786"])
def test_no_scheduler_is_one_line(address, monkeypatch):
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 1)
    with pytest.raises(ClusterError, match="no scheduler answers at .*: check the address"):
        with connect(address):
            pass
