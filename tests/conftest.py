import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: by default each process takes every core
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real scenes and golden numbers, beside the checkout or where XTGEO_SHARED points."""
    path = Path(os.environ.get("XTGEO_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not path.is_dir():
        pytest.skip(f"real data not found at {path}: set XTGEO_SHARED")
    return path
