"""Examples of the docs run as they are written."""

import subprocess
import sys
from pathlib import Path

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
