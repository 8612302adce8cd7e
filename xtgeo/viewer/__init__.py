"""Looking at results: a page with a zoomable map, served on this machine, and a report in one file.

    view(scene, "vessels.gpkg")                        the page
    report(["results"], out="report.html")             the file

Web Mercator, starlette and uvicorn live here and nowhere else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from xtgeo.errors import OutputError

if TYPE_CHECKING:
    from xtgeo.viewer.document import Report, report  # noqa: F401
    from xtgeo.viewer.live import View, view  # noqa: F401

_HOME = {"View": "live", "view": "live", "Report": "document", "report": "document"}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'xtgeo.viewer' has no attribute {name!r}")
    try:
        return getattr(import_module(f"xtgeo.viewer.{_HOME[name]}"), name)
    except ModuleNotFoundError as e:
        if e.name not in ("starlette", "uvicorn"):
            raise
        raise OutputError(f"the page needs {e.name}, which is not installed: pip install 'xtgeo-sat[view]'") from e
