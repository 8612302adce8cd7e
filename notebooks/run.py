"""Runs notebooks from top to bottom, each in a folder of its own, and stores what they gave.

    python notebooks/run.py                      all of them, in full size: minutes each
    python notebooks/run.py notebooks/01*.ipynb  one

Pictures are stored as JPEG and nothing is kept of widgets and of times, so that a notebook stays small and reads well on the web.
02 needs real data: it says where to get it, and is left as it is where XTGEO_SHARED does not lead there.
"""

from __future__ import annotations

import base64
import os
import sys
import tempfile
from io import BytesIO
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("XTGEO_SHARED", HERE.parents[1] / "shared"))

PICTURE_BYTES = 40_000


class Here(AsyncKernelManager):
    """A kernel of the Python that runs this, whatever kernels are installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], language="python")


def run(path: Path, folder: Path, *, small: bool = False, timeout: float = 1800) -> nbformat.NotebookNode:
    """The notebook with its outputs, executed in `folder`; an error in a cell is raised with the cell's text."""
    notebook = nbformat.read(path, as_version=4)
    env = {**os.environ, "XTGEO_SHARED": str(SHARED), "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    env.pop("XTGEO_SMALL", None)
    client = NotebookClient(
        notebook, timeout=timeout, kernel_manager_class=Here, resources={"metadata": {"path": str(folder)}}, record_timing=False,
        store_widget_state=False,
    )  # fmt: skip
    client.execute(env=env | ({"XTGEO_SMALL": "1"} if small else {}))
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            shrink(output)
    return notebook


def shrink(output: nbformat.NotebookNode) -> None:
    """Text that a page shows better is left out; pictures become JPEGs of at most PICTURE_BYTES."""
    data = output.get("data", {})
    if "text/html" in data:
        data.pop("text/plain", None)
    if "image/png" not in data:
        return
    picture = Image.open(BytesIO(base64.b64decode(data.pop("image/png")))).convert("RGBA")
    paper = Image.new("RGB", picture.size, "white")
    paper.paste(picture, mask=picture)
    side, quality = 1000, 90
    while True:
        side, quality = max(100, side - 100), max(40, quality - 10)
        out, small = BytesIO(), paper.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        small.save(out, "JPEG", quality=quality, optimize=True)
        if out.tell() <= PICTURE_BYTES or side == 100:
            break
    data["image/jpeg"] = base64.b64encode(out.getvalue()).decode()
    output["metadata"] = {}


def main() -> None:
    for path in map(Path, sys.argv[1:] or sorted(HERE.glob("*.ipynb"))):
        if path.name.startswith("02") and not SHARED.is_dir():
            print(f"{path.name}: left as it is, for there is no {SHARED}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(run(path, Path(folder)), path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
