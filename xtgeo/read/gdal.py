"""GDAL as we use it: its names for places, one handle for each thread, a small cache, its errors in one line.

GDAL's block cache is one for the whole process and holds 5 % of the machine's memory by default. `BlockCache` keeps
what is needed again, so GDAL's is set to 32 MiB when the first file is opened, unless GDAL_CACHEMAX is set in the
environment. A setting for each read (`rasterio.Env` in every thread) would also be one for the process, and two threads
that restore it in turn leave whichever value came last.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.env import set_gdal_config
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError

from xtgeo.read.remote import Answer, is_url, patiently, refusal

CACHE_BYTES = 32 << 20
REMOTE = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    # A server that sends less than a kilobyte a second for half a minute has stalled.
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
}
"""How files are fetched, where the user's environment does not say otherwise."""
SCHEMES = {
    "http://": "/vsicurl/http://",
    "https://": "/vsicurl/https://",
    "s3://": "/vsis3/",
    "gs://": "/vsigs/",
    "az://": "/vsiaz/",
}

FAILURES = (RasterioError, CPLE_BaseError, CRSError, UnicodeDecodeError, MemoryError)
"""What rasterio raises for a file that GDAL cannot read; UnicodeDecodeError is for tags, MemoryError for sizes."""

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


def local_file(path: str) -> str | None:
    """The file on this machine that holds this: itself, or the zip or tar it lies in; None for what is elsewhere."""
    if os.path.exists(path):
        return path
    if path.startswith("/vsisubfile/"):
        return local_file(path.partition(",")[2])
    if not path.startswith(("/vsizip/", "/vsitar/")):
        return None
    inner = path[len("/vsizip/") :]
    if inner.startswith("{"):
        inner = inner[1:].partition("}")[0]
    while inner and not os.path.isfile(inner):
        inner = inner.rpartition("/")[0]
    return inner or None


def bound_cache():
    """Set GDAL's block cache to a size that does not count."""
    if "GDAL_CACHEMAX" not in os.environ:
        set_gdal_config("GDAL_CACHEMAX", CACHE_BYTES)


def environment(path: str) -> rasterio.Env:
    """Where GDAL's warnings go to logging instead of stderr, and remote folders are not listed file by file."""
    if path.startswith("/vsitar/"):  # what lies beside a file is opened with every driver: not from there
        return rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR")
    own = os.environ.keys() | (rasterio.env.getenv().keys() if rasterio.env.hasenv() else set())
    return rasterio.Env(**{key: value for key, value in REMOTE.items() if is_remote(path) and key not in own})


class Handles:
    """One open dataset for each thread of each process: GDAL's are not thread-safe. Closed when the thread ends."""

    def __init__(self, path: str, level: int | None, drivers: tuple[str, ...] | None):
        self.path, self.level, self.drivers = path, level, drivers
        self._local = threading.local()

    def __reduce__(self):
        return Handles, (self.path, self.level, self.drivers)

    def dataset(self) -> rasterio.DatasetReader:
        """This thread's own."""
        process, dataset = getattr(self._local, "held", (None, None))
        if process != os.getpid():
            dataset = self._open()
            self._local.held = os.getpid(), dataset
        return dataset

    def _open(self) -> rasterio.DatasetReader:
        options = {} if self.level is None else {"overview_level": self.level}
        with quietly():
            # Not rasterio.open, which takes one driver.
            dataset = rasterio.DatasetReader(self.path, driver=self.drivers and list(self.drivers), sharing=False, **options)
        with suppress(CPLE_BaseError):  # a complaint that opening has left behind would be raised by whatever is asked next
            _ = dataset.colorinterp
        return dataset


@contextmanager
def quietly() -> Iterator[None]:
    """No word of rasterio's about pixels without a place; for whatever makes it look while threads are reading.

    The filters of warnings belong to the whole process: two threads that swap them at once would lose one.
    """
    with _filtering, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def steadily(path: str, task: Callable[[], Answer]) -> Answer:
    """What `task` gives, tried again where a network is in between, unless the server has said no."""
    if not is_remote(path):
        return task()
    fresh = {}

    def attempt() -> Answer:
        with rasterio.Env(**fresh):
            return task()

    def hopeless(error: BaseException) -> bool:
        fresh["CPL_VSIL_CURL_NON_CACHED"] = path  # else GDAL remembers that a file is not there, and does not ask again
        return bool(_PERMANENT.search(reason(error)) or refused(path))

    return patiently(attempt, FAILURES, hopeless)


def refused(path: str) -> str:
    """Why the server gives nothing of a file, in words; GDAL does not say so when it happens in the middle of a file."""
    url = path.removeprefix("/vsicurl/")
    return refusal(url) if is_url(url) else ""


_PERMANENT = re.compile(r"code: 4(?!29)\d\d|supported file format|Access ?Denied|InvalidAccessKey|resolve host", re.IGNORECASE)


def reason(error: BaseException) -> str:
    """GDAL's own words, from the innermost error, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()).rstrip(".;")
