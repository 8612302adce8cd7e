import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real scenes and golden numbers, beside the checkout or where XTGEO_SHARED points."""
    path = Path(os.environ.get("XTGEO_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not path.is_dir():
        pytest.skip(f"real data not found at {path}: set XTGEO_SHARED")
    return path
