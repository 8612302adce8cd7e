"""What a Dask cluster costs and gives: scaling, overhead per tile, memory against the number of scenes, time lost per kill.

    python benchmarks/batch.py [--only scaling overhead memory kill] [--rounds 3] [--counts 100 1000 5000] [--small]

Prints one JSON object. Wall times are compared within one run, in interleaved rounds, and are medians; processor times and
peaks are those of processes of their own: a `dask scheduler`, `dask worker`s and a client.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from distributed import Client
from pipeline import make_scene, peak_bytes
from torch import nn

import xtgeo.cluster
from xtgeo import Model, Spec, batch, connect, load_model, open_scene, plan, segment

WAIT_SECONDS = 120
"""Until a scheduler answers or workers are there."""
REGION = 32
"""Side of the tiles whose network costs nothing."""
LAYOUTS = {"1 worker x 1 thread": (1, 1), "2 workers x 1 thread": (2, 1), "1 worker x 2 threads": (1, 2)}


def cheap(region: int) -> Model:
    """Bright is what is over -9 dB in a mean of 3 x 3 pixels: a network that costs nothing measurable."""
    spec = Spec(
        name="bright", bands=("vv",), units="db", mean=(-9.0,), std=(5.0,), gsd=10.0, region=region, span=1, margin=8, stride=8
    )
    return Model(nn.Sequential(nn.AvgPool2d(3, 1, 1)), spec).eval()


@contextmanager
def cluster(workers: int, threads: int = 1) -> Iterator[tuple[str, psutil.Process]]:
    """The address and the process of a scheduler; it and its workers are started as people start them."""
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        about = Path(folder) / "scheduler.json"
        where = ["--scheduler-file", str(about), "--no-dashboard"]
        words = ["worker", *where, "--nthreads", str(threads), "--local-directory", folder]
        first, *_ = (
            stack.enter_context(_ended(subprocess.Popen([*dask, *more], **quiet)))
            for more in [["scheduler", *where, "--host", "127.0.0.1", "--port", "0"], *[words] * workers]
        )
        _wait(lambda: about.exists() and about.read_text().endswith("}"))
        address = json.loads(about.read_text())["address"]
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=WAIT_SECONDS)
        yield address, psutil.Process(first.pid)


@contextmanager
def _ended(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while not done():
        if time.monotonic() > until:
            raise TimeoutError("a process of the cluster did not start")
        time.sleep(0.05)


def scaling(folder: Path, rounds: int, small: bool) -> dict:
    """The same scenes on as many threads, in processes or not; workers have computed a scene before."""
    side, count = (1024, 2) if small else (4096, 3)
    first, *rest = [make_scene(folder / "0.tif", (side, side)), *(folder / f"{i}.tif" for i in range(1, count))]
    for path in rest:
        shutil.copy(first, path)
    model, scenes = load_model("vessels-sar"), [first, *rest]
    seconds: dict[str, list[float]] = {name: [] for name in (*LAYOUTS, "segment")}
    with ExitStack() as stack:
        clients = {
            name: stack.enter_context(connect(workers=workers, threads=threads, dashboard=None))
            for name, (workers, threads) in LAYOUTS.items()
        }
        for number in range(1 + rounds):
            for name, taken in seconds.items():
                out = folder / f"{number} {name}"
                start = time.perf_counter()
                if name == "segment":
                    out.mkdir()
                    for path in scenes:
                        segment(open_scene(path), model, out=out / f"{path.stem}.gpkg", dtype="fp32")
                else:
                    batch(scenes, model, out, client=clients[name], quicklooks=False, dtype="fp32")
                taken.append(time.perf_counter() - start)
    seconds = {name: taken[1:] for name, taken in seconds.items()}
    alone = seconds["1 worker x 1 thread"]
    return {
        "scene_mpx": side * side / 1e6,
        "scenes": count,
        "seconds": {name: [round(v, 2) for v in taken] for name, taken in seconds.items()},
        "times_as_fast_as_1_x_1": {
            name: round(statistics.median(a / b for a, b in zip(alone, taken, strict=True)), 3) for name, taken in seconds.items()
        },
    }


def overhead(folder: Path, rounds: int, small: bool) -> dict:
    """One worker with one thread against the pipeline with one thread, on tiles that cost next to nothing.

    Once with tasks of many tiles, as the cluster makes them, and once with a task for each tile, which is the cost of a task.
    """
    usual = xtgeo.cluster.TASK_PX
    figures = {}
    for name, task_px in (("tasks_as_they_are", usual), ("a_task_a_tile", 1)):
        xtgeo.cluster.TASK_PX = task_px
        (folder / name).mkdir()
        figures[name] = _overhead(folder / name, rounds, 512 if small else 1024)
    xtgeo.cluster.TASK_PX = usual
    return figures


def _overhead(folder: Path, rounds: int, side: int) -> dict:
    scene, model = open_scene(make_scene(folder / "scene.tif", (side, side)), bands="vv"), cheap(REGION)
    how = plan(scene, model, threads=1)
    tiles = len(how.nest)
    milliseconds: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        milliseconds.setdefault(name, []).append(1000 * seconds / tiles)

    with cluster(1) as (address, scheduler), Client(address, set_as_default=False) as client:
        worker = psutil.Process(*client.run(os.getpid).values())
        for number in range(1 + rounds):
            start, own = time.perf_counter(), time.process_time()
            segment(scene, model, out=folder / f"{number}.gpkg", like=how)
            alone = time.perf_counter() - start
            note("pipeline_cpu", time.process_time() - own)
            before = time.perf_counter(), time.process_time(), _cpu(scheduler), _cpu(worker)
            segment(scene, model, out=folder / f"{number} cluster.gpkg", like=how, client=client)
            after = time.perf_counter(), time.process_time(), _cpu(scheduler), _cpu(worker)
            wall, *cpu = (b - a for a, b in zip(before, after, strict=True))
            note("pipeline_wall", alone)
            note("cluster_wall", wall)
            note("wall_added", wall - alone)
            for name, spent in zip(("client_cpu", "scheduler_cpu", "worker_cpu"), cpu, strict=True):
                note(name, spent)
    return {"tiles": tiles, "ms_per_tile": {name: round(statistics.median(v[1:]), 3) for name, v in milliseconds.items()}}


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def memory(folder: Path, counts: list[int]) -> list[dict]:
    """Peaks of a client and a scheduler that live for one batch of tiny scenes, pictures and report included."""
    spawn = multiprocessing.get_context("spawn")
    make_scene(folder / "scene.tif", (64, 64))
    rows = []
    for count in counts:
        scenes = folder / f"{count}"
        scenes.mkdir()
        for i in range(count):
            shutil.copy(folder / "scene.tif", scenes / f"{i:05}.tif")
        with cluster(2) as (address, scheduler):
            held, queue = scheduler.memory_info().rss, spawn.SimpleQueue()
            process = spawn.Process(target=_client, args=(address, str(scenes), str(folder / f"{count} out"), queue))
            process.start()
            process.join()
            if process.exitcode:
                raise RuntimeError(f"the client of {count} scenes ended with {process.exitcode}")
            rows.append(
                {
                    "scenes": count, **queue.get(), "scheduler_held_mb": round(held / 1e6, 1),
                    "scheduler_peak_mb": round(peak_bytes(scheduler.pid) / 1e6, 1),
                    "scheduler_cpu_ms_per_scene": round(1000 * _cpu(scheduler) / count, 2),
                }
            )  # fmt: skip
        shutil.rmtree(scenes)
    return rows


def _client(address: str, scenes: str, out: str, queue) -> None:
    """One batch in a process of its own."""
    model = cheap(64)
    with Client(address, set_as_default=False) as client:
        held, cpu, start = psutil.Process().memory_info().rss, time.process_time(), time.perf_counter()
        standing = batch(f"{scenes}/*.tif", model, out, client=client, bands="vv")
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        assert standing.done == standing.scenes, standing
        queue.put(
            {
                "seconds": round(seconds, 1),
                "client_held_mb": round(held / 1e6, 1),
                "client_peak_mb": round(peak_bytes() / 1e6, 1),
                "client_cpu_ms_per_scene": round(1000 * cpu / standing.scenes, 2),
                "futures_left": len(client.futures),
                "tasks_left_at_scheduler": client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)),
            }
        )


def kill(folder: Path, rounds: int, small: bool) -> dict:
    """One of two workers is killed when half of a scene is done; its nanny starts another."""
    side = 2048 if small else 6144
    scene, model = open_scene(make_scene(folder / "scene.tif", (side, side))), load_model("vessels-sar")
    seconds: dict[bool, list[float]] = {False: [], True: []}
    seen = set()
    how = plan(scene, model, threads=1, dtype="fp32")
    with cluster(2) as (address, _), Client(address, set_as_default=False) as client:
        for number in range(1 + rounds):
            for killed, taken in seconds.items():
                client.wait_for_workers(2, timeout=WAIT_SECONDS)
                victims = [min(client.run(os.getpid).values())] if killed else []

                def half(done: int, total: int, pixels: int, victims=victims) -> None:
                    if victims and 2 * done >= total:
                        os.kill(victims.pop(), signal.SIGKILL)

                out = folder / f"{number} {killed}.geojson"
                start = time.perf_counter()
                segment(scene, model, out=out, client=client, like=how, progress=half)
                taken.append(time.perf_counter() - start)
                seen.add(hashlib.sha256(out.read_bytes()).hexdigest())
    usual, disturbed = seconds[False][1:], seconds[True][1:]
    return {
        "tiles": len(how.nest),
        "tile_px": how.nest.side,
        "undisturbed_s": [round(v, 2) for v in usual],
        "killed_s": [round(v, 2) for v in disturbed],
        "lost_s_per_kill": round(statistics.median(b - a for a, b in zip(usual, disturbed, strict=True)), 2),
        "same_bytes": len(seen) == 1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {
        "scaling": lambda folder: scaling(folder, args.rounds, args.small),
        "overhead": lambda folder: overhead(folder, args.rounds, args.small),
        "memory": lambda folder: memory(folder, args.counts),
        "kill": lambda folder: kill(folder, args.rounds, args.small),
    }
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--rounds", type=int, default=3, help="After one that warms up.")
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 5000], help="Scenes for memory.")
    parser.add_argument("--small", action="store_true", help="Small scenes, to see that it runs.")
    args = parser.parse_args()
    figures = {}
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            figures[name] = parts[name](Path(folder))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
