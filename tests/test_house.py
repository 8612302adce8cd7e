"""The house keeps its floors: a module imports from lower floors only, and each heavy library has its homes."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import xtgeo

ROOT = Path(__file__).resolve().parents[1]
FLOORS = [
    ["errors", "window", "allocator", "outline", "weights"],
    ["grid"],
    ["scene", "nearest"],
    ["picture", "haze"],
    ["read", "model", "decode", "peaks", "merge", "detections", "points", "backscatter", "write", "journal"],
    ["choose", "tokens", "evaluate", "masks", "plot", "extent"],
    ["engine", "simulate", "train", "conversion"],
    ["infer", "item"],
    ["cluster"],
    ["job"],
    ["xview3", "batches", "viewer"],
    ["cli"],
]
"""From the ground up; rooms on one floor do not know each other, but for the doors below."""
DOORS = {
    ("write", "detections"),
    ("write", "points"),
    ("merge", "decode"),
    ("detections", "decode"),
    ("points", "detections"),
    ("points", "peaks"),
    ("infer", "engine"),
    ("scene", "plot"),  # scene.plot() and what Jupyter shows: upwards, and only when they are called
    ("detections", "plot"),
    ("model", "plot"),
}
HOMES = {
    "typer": {"cli"},
    "torch": {"model", "engine", "extent", "tokens", "infer", "cluster", "train", "cli"},
    "timm": {"model", "cli"},
    "torchvision": {"model", "train", "cli"},
    "rasterio": {"read", "write", "simulate", "decode", "train", "grid", "cli"},
    "geopandas": {"write", "detections", "plot", "simulate", "read", "evaluate", "train", "viewer", "cli"},
    "starlette": {"viewer"},
    "uvicorn": {"viewer"},
    "lightning": {"train"},
    "distributed": {"batches", "cluster", "job"},
    "torchgeo": {"model", "train"},
    "matplotlib": {"plot", "evaluate", "train", "scene", "detections"},  # the last two for the type checker only
    "lonboard": {"plot", "detections"},
}


def modules():
    for folder, prefix in ((ROOT / "xtgeo", ""), (ROOT / "cli", "cli")):
        for path in sorted(folder.rglob("*.py")):
            room = prefix or path.relative_to(folder).parts[0].removesuffix(".py")
            if room != "__init__":
                yield room, path


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module if node.module != "xtgeo" else f"xtgeo.{node.names[0].name}"


@pytest.mark.parametrize(("room", "path"), [pytest.param(r, p, id=str(p.relative_to(ROOT))) for r, p in modules()])
def test_imports_go_down(room, path):
    floor = {name: i for i, names in enumerate(FLOORS) for name in names}
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "xtgeo" and rest:
            other = rest.split(".")[0]
            if other != room and other in floor:
                assert floor[other] < floor[room] or (room, other) in DOORS, f"{room} imports {other}"
        elif top in HOMES:
            assert room in HOMES[top], f"{room} imports {top}"


def test_every_module_has_a_floor():
    assert {room for room, _ in modules()} == {name for names in FLOORS for name in names}


def test_every_package_is_installed():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "xtgeo").rglob("__init__.py")}
    assert listed == found | {"xtgeo.cli"}


def test_the_public_names_are_there():
    assert all(getattr(xtgeo, name) is not None for name in xtgeo.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        xtgeo.nonsense  # noqa: B018


def test_importing_xtgeo_is_light_and_changes_nothing():
    code = (
        "import os, sys; before = dict(os.environ); import xtgeo; assert dict(os.environ) == before; "
        "heavy = {'torch', 'rasterio', 'geopandas', 'dask'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_models_and_the_training_loop_need_no_geography():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['rasterio', 'geopandas', 'dask', 'pyogrio', 'odc.geo'])); "
        "import xtgeo.model, xtgeo.model.boxes, xtgeo.train.loop, xtgeo.train.data, xtgeo.train.losses; "
        "import xtgeo.train.datasets, xtgeo.train.exact"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
