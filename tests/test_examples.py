"""Examples of the docs run as they are written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from distributed import LocalCluster
from test_cluster import HERE, pytestmark  # noqa: F401

from xtgeo.simulate import sentinel1, write_scene

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_a_batch_on_a_scheduler_is_made_from_python(tmp_path):
    write_scene(sentinel1((300, 260), seed=3), tmp_path / "one.tif")
    with LocalCluster(n_workers=1, memory_limit=0, **HERE) as local:
        words = [tmp_path / "*.tif", tmp_path / "out", local.scheduler_address, "--model", "cfar"]
        said = subprocess.run(
            [sys.executable, EXAMPLES / "batch_cluster.py", *map(str, words)], capture_output=True, text=True, timeout=300
        )
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[-1].startswith("1 of 1 scenes done")
    assert (tmp_path / "out" / "one.gpkg").exists() and (tmp_path / "out" / "report.html").exists()


def example(name, *words):
    """What an example says; fails where it does."""
    env = {**os.environ, "MPLBACKEND": "agg", "PYTHONWARNINGS": "default"}
    said = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *map(str, words)], capture_output=True, text=True, timeout=600, env=env
    )
    assert said.returncode == 0, said.stderr
    return said.stdout


def test_the_first_vessels_are_found_and_drawn(tmp_path):
    assert "objects by vessels-sar" in example("first_vessels", tmp_path, "--side", 700)
    assert {"scene.tif", "vessels.gpkg", "vessels.png", "chips.png"} <= {path.name for path in tmp_path.iterdir()}


def test_a_port_is_judged(tmp_path, shared):
    port = shared / "data" / "sen2ships" / "honolulu"
    said = example("port", port.with_suffix(".tif"), f"{port}_vessels.gpkg", tmp_path)
    assert "precision" in said and "95 % intervals" in said and (tmp_path / "misses.png").exists()


def test_a_folder_of_xview3_is_predicted_and_scored(tmp_path):
    said = example("xview3", tmp_path / "data", "--side", 500)
    assert said.count("aggregate") == 2 and "mode reference" in said and "mode strict" in said


def test_a_model_of_ones_own_is_trained(tmp_path):
    pytest.importorskip("lightning")
    for seed in range(2):
        write_scene(sentinel1((260, 300), seed=seed, density=60, land=False, nodata=False), tmp_path / f"{seed}.tif")
    out = tmp_path / "own.safetensors"
    said = example("train_own", tmp_path / "*.tif", tmp_path / "*_truth.gpkg", out, "--steps", 2, "--side", 128)
    assert "that were held out" in said and out.exists()


def test_context_is_shut_off_and_compared(tmp_path):
    write_scene(sentinel1((400, 420), seed=5, density=30, land=False), tmp_path / "one.tif")
    said = example("context", tmp_path / "one.tif")
    assert re.search(r"\d+ objects with context, \d+ without; \d+ are the same", said)


def test_networks_learn_from_a_pool_of_simulated_scenes(tmp_path, monkeypatch):
    """Vessels and centres from the same scenes; a pool that is there is not simulated again."""
    pytest.importorskip("lightning")
    from xtgeo.train import SAR

    words = tmp_path / "pool", "--scenes", 2, "--side", 640, "--workers", 2
    assert example("sar_pool", *words).startswith("2 scenes in")
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "pool").iterdir()}
    example("sar_pool", *words)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "pool").iterdir()} == written and len(written) == 2
    monkeypatch.syspath_prepend(EXAMPLES)
    import sar_pool
    import train_points_sar
    import train_vessels_sar

    for recipe, planes in ((train_points_sar, (4,)), (train_vessels_sar, ())):
        data, valid, target = next(sar_pool.pooled(tmp_path / "pool", recipe.SPEC, SAR, 0, side=256))
        side = 256 + 2 * recipe.SPEC.margin
        assert data.shape == (2, 2, side, side) and target.shape == (2, *planes, side, side)
        assert -2 < data[valid.expand(2, 2, side, side).swapaxes(0, 1)].mean() < 2 and (target == 1).any()
