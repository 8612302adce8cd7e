"""Notebooks run from top to bottom, in reduced size, and are stored as they read well."""

import base64
import re
import sys
from io import BytesIO
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))
from run import PICTURE_BYTES, run, shrink  # noqa: E402

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
each = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
MACHINE = re.compile(r"/(work|tmp|home|root|Users)/|[A-Z]:\\\\|\.venv|site-packages")


@pytest.fixture
def kernel(monkeypatch, tmp_path):
    """Files of the kernel and of matplotlib go into a folder of the test."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))


@each
@pytest.mark.filterwarnings("default")  # of Jupyter itself; what cells warn of would be in their outputs
def test_a_notebook_runs_from_top_to_bottom(path, kernel, tmp_path, request):
    if path.name.startswith("02"):
        request.getfixturevalue("shared")
    if path.name.startswith("04"):
        pytest.importorskip("lightning")
    notebook = run(path, tmp_path, small=True, timeout=600)
    assert_reads_well(notebook)
    assert any("image/jpeg" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))


@each
def test_a_notebook_is_stored_with_small_outputs_and_nothing_of_the_machine(path):
    assert path.stat().st_size < 300_000
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert_reads_well(notebook)
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert not MACHINE.search("".join(cell.source for cell in notebook.cells))


def assert_reads_well(notebook):
    """Every code cell was run, in order; no warnings, no errors, no paths of a machine, no large pictures."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for output in (output for cell in cells for output in cell.outputs):
        assert output.output_type != "error" and output.get("name") != "stderr", output
        texts = [output.get("text", ""), *(v for k, v in output.get("data", {}).items() if k.startswith("text/"))]
        assert not MACHINE.search("".join(texts)), texts
        assert len(output.get("data", {}).get("image/jpeg", "")) < 1.5 * PICTURE_BYTES


def test_a_picture_that_hardly_compresses_is_made_small_enough():
    out = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1000, 1200, 3), np.uint8)).save(out, "PNG")
    output = nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(out.getvalue()).decode()})
    shrink(output)
    assert 10_000 < len(base64.b64decode(output["data"]["image/jpeg"])) <= PICTURE_BYTES
