"""The page on this machine: a server in a thread of its own, until it is told to stop."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Sequence
from html import escape
from pathlib import Path

import uvicorn

from xtgeo.errors import OutputError
from xtgeo.scene import Scene
from xtgeo.viewer.overlay import Overlay, Vectors, read_overlay
from xtgeo.viewer.review import Review
from xtgeo.viewer.server import Page
from xtgeo.viewer.world import SceneMap


class View:
    """A page that is being served. In Jupyter it shows itself; `with view(...)` stops it at the end."""

    def __init__(self, page: Page, sockets: list[socket.socket], host: str, token: str):
        self.port: int = sockets[0].getsockname()[1]
        """Where the server listens."""
        self.review = page.review
        """What is said of the objects; None where nothing is reviewed."""
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self.port}/#{token}"
        """To open in a browser. Who has it sees the scene and may write the review; it is good until `stop`."""
        self._page, self._token = page, token
        config = uvicorn.Config(
            page.app(), log_level="warning", access_log=False, lifespan="off", ws="none", server_header=False,
            timeout_graceful_shutdown=2,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._threads = [
            threading.Thread(target=self._server.run, args=(sockets,), name="xtgeo-view", daemon=True),
            threading.Thread(target=page.map.fill, name="xtgeo-view-fill", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Until the server ends, or the caller is interrupted."""
        while self._threads[0].is_alive():
            self._threads[0].join(1)

    def stop(self) -> None:
        """Ends the server; marks that are not on disk yet are written. May be called twice."""
        self._server.should_exit = True
        self._page.map.stop()
        for thread in self._threads:
            thread.join()
        self._page.close()
        if self.review and self.review.is_unsaved:
            self.review.save()

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def _repr_html_(self) -> str:
        """The page in a frame; on a JupyterHub through jupyter-server-proxy, the only way there to reach this machine."""
        hub = os.environ.get("JUPYTERHUB_SERVICE_PREFIX")
        url = f"{hub.rstrip('/')}/proxy/{self.port}/#{self._token}" if hub else self.url
        return (
            f'<iframe src="{escape(url)}" width="100%" height="640" style="border:0" allow="fullscreen"></iframe>'
            f'<div><a href="{escape(url)}" target="_blank" rel="noopener">open in a window of its own</a></div>'
        )


def view(
    scene: Scene,
    *vectors: Vectors,
    review: os.PathLike | str | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    names: Sequence[str] = (),
) -> View:
    """Serves a page with the scene and what was found in it, and returns at once; the answer has `url` and `stop()`.

    vectors: files of points or polygons in any CRS, results, or tables; the first is reviewed. review: the GeoPackage for that, by
    default beside the first file, if one may write there; what it says already is taken up. host: the address to listen at; by
    default only this machine can open the page, which is not encrypted. port: 0 is any that is free. names: of hosts, under which a
    proxy serves the page.

    Raises SceneError where the map cannot show the scene, LabelError where vectors cannot be read or lie elsewhere, OutputError
    where the review cannot be written or the port is taken.
    """
    scene_map = SceneMap(scene)
    overlays = [read_overlay(some, scene, scene_map.bounds) for some in vectors]
    reviewed = _review(overlays, review)
    sockets = _listen(host, port)
    token = secrets.token_urlsafe(24)
    host = socket.gethostname() if host in ("", "0.0.0.0", "::") else host
    return View(Page(scene_map, overlays, reviewed, token, [host, "localhost", *names]), sockets, host, token)


def _review(overlays: Sequence[Overlay], path: os.PathLike | str | None) -> Review | None:
    if path is None and overlays and overlays[0].path and os.access(overlays[0].path.parent, os.W_OK):
        path = overlays[0].path.with_name(f"{overlays[0].path.stem}_review.gpkg")
    if path is None:
        return None
    if not overlays:
        raise OutputError(f"there is nothing to review into {path}: give a vector file")
    return Review(overlays[0], Path(path))


def _listen(host: str, port: int) -> list[socket.socket]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
    except OSError as e:
        raise OutputError(f"there is no host {host}: give the address of this machine, such as 127.0.0.1") from e
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen()  # who comes before the server runs waits for it
    except OSError as e:
        found.close()
        raise OutputError(
            f"cannot listen at {host}:{port} ({e.strerror}): give another --port, or 0 for any that is free"
        ) from e
    return [found]
