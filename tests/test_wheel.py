"""What is installed is what is tested: the wheel holds the whole package, and works away from the checkout.

The slow tests make environments of their own from the package index, 6 GB each for a while:
pytest -m "slow and network" tests/test_wheel.py
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import geopandas as gpd
import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = {"dask": "dask-core", "torch": "pytorch"}
"""Names that conda-forge has for what pip calls otherwise."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy: a build leaves folders in its source."""
    source = tmp_path_factory.mktemp("source")
    for name in ("xtgeo", "cli"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist", source])
    [made] = (source / "dist").glob("*.whl")
    return made


def run(words, **options) -> str:
    """Runs a command and gives what it printed; what it complained of is the failure."""
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def away(**more: str) -> dict[str, str]:
    """The environment without anything that leads back to the checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "XTGEO_"))} | more


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    files = {path for path in (ROOT / "xtgeo").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    package = {path.relative_to(ROOT).as_posix() for path in files}
    package |= {f"xtgeo/cli/{path.name}" for path in (ROOT / "cli").glob("*.py")}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == package


def test_what_the_wheel_installs_finds_vessels_from_an_empty_folder(wheel, tmp_path):
    place, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    install = ["install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--target", place, wheel]
    run([sys.executable, "-m", "pip", "--disable-pip-version-check", *install])
    here = {"cwd": empty, "env": away(PYTHONPATH=str(place))}
    code = "import xtgeo, xtgeo.cli; print(xtgeo.__file__, xtgeo.cli.__file__)"
    assert all(name.startswith(str(place)) for name in run([sys.executable, "-c", code], **here).split())
    xtgeo = place / "bin" / "xtgeo"
    run(
        [xtgeo, "simulate", "sentinel1", "scene.tif", "--shape", "768", "700", "--seed", "1", "--density", "20"], **here
    )
    run([xtgeo, "segment", "scene.tif", "--out", "vessels.gpkg", "--land", "off", "--quiet"], **here)
    assert len(gpd.read_file(empty / "vessels.gpkg", layer="detections"))


def lowest() -> list[str]:
    """The oldest versions that pyproject promises to work with, as pip's constraints."""
    return [re.sub(r"\[.*?\]", "", one).replace(">=", "==") for one in PROJECT["dependencies"]]


def test_every_dependency_has_a_lowest_version():
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", line) for line in lowest())


def test_conda_gets_the_same_versions():
    found = dict(re.findall(r"^  - ([\w-]+)(?: (>=[\d.]+))?$", (ROOT / "environment.yml").read_text(), re.M))
    asked = dict(re.fullmatch(r"([\w-]+)(?:\[.*])?(>=[\d.]+)", one).groups() for one in PROJECT["dependencies"])
    extra = {"python": PROJECT["requires-python"], "pip": "", "torchgeo": ">=0.8"}  # conda's torchgeo brings a GDAL that fits
    found.pop("conda-forge")
    assert found == {CONDA.get(name, name): version for name, version in asked.items()} | extra
    assert f"torchgeo{extra['torchgeo']}" in PROJECT["optional-dependencies"]["torchgeo"]


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("versions", ["newest", "lowest"])
def test_an_empty_environment_gets_all_it_needs_and_runs_the_demo(versions, wheel, tmp_path):
    """Every command of the demo, and what follows it, with nothing but the wheel and what the wheel asks for."""
    venv.create(tmp_path / "env", with_pip=True)
    python, here = tmp_path / "env" / "bin" / "python", {"cwd": tmp_path, "env": away()}
    (tmp_path / "constraints.txt").write_text("\n".join(lowest() if versions == "lowest" else []))
    install = ["install", "--quiet", "--no-cache-dir", "--constraint", "constraints.txt", wheel]
    try:
        run([python, "-m", "pip", "--disable-pip-version-check", *install], **here)
        run([python, "-m", "pip", "check"], **here)
        shutil.copy(ROOT / "examples" / "demo.py", tmp_path)
        assert re.search(r"found \d\d+ of \d+ ships", run([python, "demo.py", "demo"], **here))
        xtgeo = [python, "-m", "xtgeo.cli"]
        run([*xtgeo, "detect", "demo/scene.tif", "--out", "points.gpkg", "--quiet"], **here)
        run([*xtgeo, "convert", "demo/vessels.gpkg", "vessels.parquet"], **here)
        run([*xtgeo, "evaluate", "--predictions", "vessels.parquet", "--labels", "demo/scene_truth.gpkg"], **here)
        run([*xtgeo, "batch", "demo/scene.tif", "--out-dir", "out", "--workers", "1", "--quiet"], **here)
        run([*xtgeo, "doctor"], **here)
    finally:
        shutil.rmtree(tmp_path / "env", ignore_errors=True)
