"""xtgeo doctor: is everything here that xtgeo needs?"""

from __future__ import annotations

import json as json_
import platform
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

PACKAGES = (
    "torch", "torchvision", "timm", "safetensors", "rasterio", "pyogrio", "geopandas", "pyarrow", "shapely", "pyproj",
    "odc-geo", "xarray", "dask", "numpy", "scipy", "pillow", "psutil",
)  # fmt: skip
DRIVERS = {
    "GTiff": "GeoTIFF scenes",
    "COG": "--mask and --scores",
    "VRT": "virtual mosaics",
    "JP2OpenJPEG": "JPEG 2000 scenes (Sentinel-2 products)",
}
REINSTALL = "take the wheel, which has it: pip install --force-reinstall {}"
VECTORS = {"GPKG": ".gpkg", "GeoJSON": ".geojson", "FlatGeobuf": ".fgb"}


def doctor(json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False) -> None:
    """Check the installation and say what to mend. Exit code 1 where something is missing.

        xtgeo doctor
    """
    findings = list(examine())
    if json:
        print(json_.dumps([{"name": n, "found": f, "remedy": r} for n, f, r in findings]))
    else:
        for name, found, remedy in findings:
            print(f"{'ok  ' if not remedy else 'FAIL'}  {name:<22} {found}")
            if remedy:
                print(f"      -> {remedy}")
    if any(remedy for _, _, remedy in findings):
        raise typer.Exit(1)


def examine() -> Iterator[tuple[str, str, str]]:
    """(what was looked at, what was found, what to do: empty where all is well)."""
    import xtgeo

    yield "xtgeo", xtgeo.__version__, ""
    yield "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", ""
    for name in PACKAGES:
        try:
            yield name, version(name), ""
        except PackageNotFoundError:
            yield name, "missing", f"pip install {name}"
    yield from _gdal()
    yield from _proj()
    yield from _torch()
    yield from _machine()


def _gdal() -> Iterator[tuple[str, str, str]]:
    import pyogrio
    import rasterio

    yield "GDAL (rasterio)", rasterio.__gdal_version__, ""
    yield "GDAL (pyogrio)", ".".join(map(str, pyogrio.__gdal_version__)), ""
    with rasterio.Env() as env:
        have = env.drivers()
    for name, purpose in DRIVERS.items():
        yield f"raster {name}", purpose, "" if name in have else REINSTALL.format("rasterio")
    write = {name for name, mode in pyogrio.list_drivers().items() if "w" in mode}
    for name, purpose in VECTORS.items():
        yield f"vector {name}", purpose, "" if name in write else REINSTALL.format("pyogrio")


def _proj() -> Iterator[tuple[str, str, str]]:
    import pyproj
    from pyproj.exceptions import ProjError

    try:
        x, _ = pyproj.Transformer.from_crs(4326, 32631, always_xy=True).transform(3.0, 50.0)
        good = abs(x - 500_000) < 1
    except ProjError:
        good = False
    remedy = "unset PROJ_LIB and PROJ_DATA: they point to the data of another PROJ" if not good else ""
    yield "PROJ data", f"{pyproj.proj_version_str}, {pyproj.datadir.get_data_dir()}", remedy


def _torch() -> Iterator[tuple[str, str, str]]:
    import torch

    from xtgeo.engine import cores
    from xtgeo.model import bundled, load_model

    try:
        import torchvision  # noqa: F401

        yield "torch and torchvision", "work together", ""
    except RuntimeError as e:
        yield "torch and torchvision", str(e).splitlines()[0], "install a matching pair: pip install -U torch torchvision"
    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none, the CPU is used"
    yield "CUDA device", cuda, ""
    yield "threads", f"{cores()} usable, torch takes {torch.get_num_threads()}", ""
    for name in bundled():
        model = load_model(name)
        yield f"model {name}", f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M weights, loads", ""


def _machine() -> Iterator[tuple[str, str, str]]:
    import shutil

    import psutil

    memory, disk = psutil.virtual_memory(), shutil.disk_usage(tempfile.gettempdir())
    short = memory.available < 2e9
    yield "memory", f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free", (
        "free some memory or give --max-memory; 2 GB are wanted" if short else ""
    )
    full = disk.free < 1e9
    yield "temporary disk", f"{disk.free / 1e9:.1f} GB free", "free some disk; 1 GB is wanted" if full else ""
