"""GDAL as we use it: its names for places, one handle for each thread, a small cache, its errors in one line.

GDAL's block cache is one for the whole process and holds 5 % of the machine's memory by default. `BlockCache` keeps
what is needed again, so GDAL's is set to 32 MiB when the first file is opened, unless GDAL_CACHEMAX is set in the
environment. A setting for each read (`rasterio.Env` in every thread) would also be one for the process, and two threads
that restore it in turn leave whichever value came last.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import rasterio
from rasterio.env import set_gdal_config
from rasterio.errors import NotGeoreferencedWarning

CACHE_BYTES = 32 << 20
REMOTE = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_HTTP_MAX_RETRY": 3, "GDAL_HTTP_RETRY_DELAY": 1}
SCHEMES = {
    "http://": "/vsicurl/http://",
    "https://": "/vsicurl/https://",
    "s3://": "/vsis3/",
    "gs://": "/vsigs/",
    "az://": "/vsiaz/",
}

_filtering = threading.Lock()


def gdal_path(href: str | os.PathLike) -> str:
    """A path or URL as GDAL spells it."""
    href = os.fspath(href)
    for scheme, prefix in SCHEMES.items():
        if href.startswith(scheme):
            return prefix + href[len(scheme) :]
    return href


def is_remote(path: str) -> bool:
    """Whether GDAL fetches this over a network."""
    return path.startswith(("/vsicurl/", "/vsis3/", "/vsigs/", "/vsiaz/"))


def bound_cache():
    """Set GDAL's block cache to a size that does not count."""
    if "GDAL_CACHEMAX" not in os.environ:
        set_gdal_config("GDAL_CACHEMAX", CACHE_BYTES)


def environment(path: str) -> rasterio.Env:
    """Where GDAL's warnings go to logging instead of stderr, and remote folders are not listed file by file."""
    return rasterio.Env(**(REMOTE if is_remote(path) else {}))


class Handles:
    """One open dataset for each thread of each process: GDAL's are not thread-safe. Closed when the thread ends."""

    def __init__(self, path: str, level: int | None):
        self.path, self.level = path, level
        self._local = threading.local()

    def __reduce__(self):
        return Handles, (self.path, self.level)

    def dataset(self) -> rasterio.DatasetReader:
        """This thread's own."""
        process, dataset = getattr(self._local, "held", (None, None))
        if process != os.getpid():
            dataset = _open(self.path, self.level)
            self._local.held = os.getpid(), dataset
        return dataset


def _open(path: str, level: int | None) -> rasterio.DatasetReader:
    with quietly():
        return rasterio.open(path) if level is None else rasterio.open(path, overview_level=level)


@contextmanager
def quietly() -> Iterator[None]:
    """No word of rasterio's about pixels without a place; for whatever makes it look while threads are reading.

    The filters of warnings belong to the whole process: two threads that swap them at once would lose one.
    """
    with _filtering, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def reason(error: BaseException) -> str:
    """GDAL's own words, from the innermost error, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()).rstrip(".;")
