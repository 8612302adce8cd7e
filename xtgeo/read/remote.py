"""What comes over a network: short texts by URL, and patience with servers.

GDAL repeats a request that fails with 429, 500, 502, 503 or 504 only where it asks for one range at a time; a connection that
breaks off or stalls is repeated nowhere. So whole reads are repeated here too, unless the server refuses.
"""

from __future__ import annotations

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from xtgeo.errors import SceneError

Answer = TypeVar("Answer")
TRIES = 4
PERMANENT = {401: "asks who you are", 403: "does not let you in", 404: "does not know the file", 410: "no longer has the file"}
TIMEOUT_S = 30
LARGEST_TEXT = 32 << 20
SIGNED = re.compile(r"(^|[&;])([\w-]*signature|sig|[\w-]*token|[\w-]*api[_-]?key|password|secret)=", re.IGNORECASE)
"""Names of what a query is signed with, by Azure, Amazon, Google and others."""


def is_url(href: object) -> bool:
    """Whether this is fetched by HTTP."""
    return isinstance(href, str) and href.lower().startswith(("http://", "https://"))


def unsigned(href: str) -> str:
    """A URL without the user's name and password, and without a query that is signed: credentials do not belong into outputs."""
    scheme, mark, rest = href.partition("://")
    if not mark or not scheme.lower().endswith(("http", "https", "s3", "gs", "az")):
        return href
    place, _, query = rest.partition("?")
    host, slash, path = place.partition("/")
    kept = f"?{query}" if query and not SIGNED.search(query) else ""
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}{kept}"


def patiently(
    task: Callable[[], Answer], failures: tuple[type[BaseException], ...], hopeless: Callable[[BaseException], object]
) -> Answer:
    """What `task` gives, tried four times with growing pauses; `hopeless(error)` ends it at once.

    The first pause is GDAL_HTTP_RETRY_DELAY, as GDAL's own: 1 second unless set.
    """
    pause = float(os.environ.get("GDAL_HTTP_RETRY_DELAY", 1))
    for left in reversed(range(TRIES)):
        try:
            return task()
        except failures as error:
            if not left or hopeless(error):
                raise
        time.sleep(pause)
        pause *= 2


def passing(href: str) -> tuple[type[BaseException], ...]:
    """Failures of fsspec's file systems that may pass; none for what lies on disk."""
    if "://" not in href:
        return ()
    import aiohttp

    return OSError, TimeoutError, aiohttp.ClientError


def is_final(error: BaseException) -> bool:
    """Whether fsspec's failure will stay: the file is not there, or not for this user."""
    status = getattr(error, "status", None) or 0
    return isinstance(error, FileNotFoundError | PermissionError) or (400 <= status < 500 and status != 429)


def fetch(url: str, limit: int = LARGEST_TEXT) -> bytes:
    """The body behind an HTTP address; refused above `limit` bytes.

    Sends GDAL_HTTP_HEADERS and GDAL_HTTP_BEARER, as GDAL does, but not to another host that it is redirected to.
    """
    try:
        body = patiently(lambda: _get(url, limit + 1), (OSError, http.client.HTTPException), _is_refusal)
    except urllib.error.HTTPError as error:
        told = PERMANENT.get(error.code, error.reason)
        said = f"the server {told} (HTTP {error.code})"
        raise SceneError(f"cannot fetch {url}: {said}; check the address and your credentials") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SceneError(f"cannot fetch {url}: {getattr(error, 'reason', error)}; check the address and the network") from error
    if len(body) > limit:
        raise SceneError(f"{url} has more than {limit >> 20} MB: it is no description of a scene")
    return body


def refusal(url: str) -> str:
    """Why the server will not give this file however often it is asked, in words; empty where there is hope."""
    try:
        _get(url, 1)
    except urllib.error.HTTPError as error:
        return f"the server {PERMANENT[error.code]} (HTTP {error.code})" if error.code in PERMANENT else ""
    except (OSError, http.client.HTTPException, ValueError):
        pass
    return ""


def _is_refusal(error: BaseException) -> bool:
    return isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 429


def _get(url: str, count: int) -> bytes:
    request = urllib.request.Request(url, headers={"Accept": "*/*", "User-Agent": "xtgeo"})
    for name, value in _headers():
        request.add_unredirected_header(name, value)
    if count == 1:
        request.add_header("Range", "bytes=0-0")
    with urllib.request.build_opener(_SameKind).open(request, timeout=TIMEOUT_S) as answer:
        body, end = bytearray(), time.monotonic() + 10 * TIMEOUT_S
        while len(body) < count and (part := answer.read(min(1 << 16, count - len(body)))):
            body += part
            if time.monotonic() > end:
                raise TimeoutError("the server takes minutes for a short text")
        promised = answer.headers.get("Content-Length")
        if promised and promised.isdigit() and len(body) < min(int(promised), count):
            raise http.client.IncompleteRead(bytes(body))
        return bytes(body)


class _SameKind(urllib.request.HTTPRedirectHandler):
    """Redirects stay with HTTP, and on the same host where the address was not internal and would become so."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        from xtgeo.read.trust import is_internal

        if not is_url(newurl) or (is_internal(newurl) and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc):
            raise urllib.error.HTTPError(newurl, 403, "redirects to an internal address", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _headers() -> list[tuple[str, str]]:
    told = [part.split(":", 1) for part in os.environ.get("GDAL_HTTP_HEADERS", "").replace("\n", ",").split(",") if ":" in part]
    headers = [(name.strip(), value.strip()) for name, value in told]
    if bearer := os.environ.get("GDAL_HTTP_BEARER"):
        headers.append(("Authorization", f"Bearer {bearer}"))
    return headers
