"""The page and what it asks for: a small web server for one person on one machine.

    ./                       the page; it holds nothing of the scene
    scene, status            what the scene is; how far its coarse copies are
    tiles/VERSION/Z/X/Y.png  the scene on the map
    objects/N                what is drawn over it
    objects/N/I, chips/N/I   the record and the picture of one object
    review                   marks, to read and to write

All but the page itself want a token in the header `X-Xtgeo-Token`. The page finds it in its own address behind the #, which
browsers send to nobody. There is no cookie, so no other page can act in its reader's name. A request whose `Host` is a name that
is not the server's is refused, whatever it brings: a foreign name that was pointed at this machine would send it. Nothing
that a client sends is used as a file name.
"""

from __future__ import annotations

import asyncio
import gzip
import hmac
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from ipaddress import ip_address

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from xtgeo.errors import XtgeoError
from xtgeo.picture import Stretch
from xtgeo.viewer.chip import chip
from xtgeo.viewer.overlay import Overlay
from xtgeo.viewer.review import STATES, Review
from xtgeo.viewer.world import SceneMap

STATIC = {
    "": ("index.html", "text/html; charset=utf-8"),
    "view.css": ("view.css", "text/css; charset=utf-8"),
    "view.js": ("view.js", "text/javascript; charset=utf-8"),
    "maplibre-gl.css": ("maplibre-gl.css", "text/css; charset=utf-8"),
    "maplibre-gl.mjs": ("maplibre-gl.mjs", "text/javascript; charset=utf-8"),
    "maplibre-gl-worker.mjs": ("maplibre-gl-worker.mjs", "text/javascript; charset=utf-8"),
}
GUARD = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self' http://127.0.0.1:* http://localhost:*",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
THREADS = 4
"""Pictures that are painted at once; each thread has its own handles of the scene's files."""
MOST_BODY = 1 << 20


class Page:
    """What one server shows."""

    def __init__(
        self, scene_map: SceneMap, overlays: Sequence[Overlay], review: Review | None, token: str, hosts: Sequence[str]
    ):
        self.map, self.overlays, self.review = scene_map, overlays, review
        self._token, self._hosts = token, {name.lower() for name in hosts}
        self._pool = ThreadPoolExecutor(THREADS, "xtgeo-view")
        self._turn = asyncio.Lock()
        self._slots = asyncio.Semaphore(THREADS)
        self._legend = _legend(scene_map.stretch)
        self._packed: dict[str, tuple[bytes, bytes]] = {}

    def app(self) -> Starlette:
        """The ASGI application."""
        data = {
            "scene": self.scene,
            "status": self.status,
            "tiles/{version:int}/{z:int}/{x:int}/{y:int}.png": self.tile,
            "objects/{n:int}": self.objects,
            "objects/{n:int}/{i:int}": self.record,
            "chips/{n:int}/{i:int}": self.chip,
            "review": self.marks,
        }
        routes = [Route(f"/{name}", self._static(name), methods=["GET"]) for name in STATIC]
        routes += [Route(f"/{path}", self._guarded(task), methods=["GET"]) for path, task in data.items()]
        routes += [Route("/review", self._guarded(self.mark), methods=["POST"])]
        return Starlette(routes=routes, exception_handlers={HTTPException: self._refused, XtgeoError: self._failed})

    def close(self) -> None:
        """Ends the work that nobody waits for."""
        self.map.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _static(self, name: str):
        async def answer(request: Request) -> Response:
            self._check_host(request)
            file, kind = STATIC[name]
            return self._pack(
                request, f"static/{name}", lambda: (files("xtgeo.viewer") / "static" / file).read_bytes(), kind
            )

        return answer

    def _guarded(self, task):
        async def answer(request: Request) -> Response:
            self._check_host(request)
            if not hmac.compare_digest(request.headers.get("x-xtgeo-token", "").encode(), self._token.encode()):
                raise HTTPException(403, "this needs the token of the address that xtgeo view printed")
            return await task(request)

        return answer

    def _check_host(self, request: Request) -> None:
        host = request.headers.get("host", "").lower()
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if name not in self._hosts and not _is_address(name):
            raise HTTPException(
                421, f"this server is not {name or 'without a name'}: open the address that xtgeo view printed"
            )

    async def _refused(self, request: Request, error: HTTPException) -> Response:
        return _json({"error": error.detail}, error.status_code)

    async def _failed(self, request: Request, error: XtgeoError) -> Response:
        return _json({"error": " ".join(str(error).split())}, 500)

    async def scene(self, request: Request) -> Response:
        """What the page's head says."""
        scene, scene_map = self.map.scene, self.map
        return _json(
            {
                "id": scene.id,
                "shape": scene.shape,
                "time": scene.time and scene.time.isoformat(),
                "bounds": scene_map.bounds,
                "depth": scene_map.depth,
                "progress": scene_map.progress,
                "layers": self._legend,
                "overlays": [{"name": overlay.name, "count": len(overlay)} for overlay in self.overlays],
                "review": self.review and self.review.path.name,
            }
        )

    async def status(self, request: Request) -> Response:
        """How far the coarse copies are, 0 to 1, and why they do not go on."""
        return _json({"progress": round(self.map.progress, 4), "trouble": self.map.trouble})

    async def tile(self, request: Request) -> Response:
        """One tile; who has moved on in the meantime costs no work."""
        z, x, y = (request.path_params[name] for name in "zxy")
        if not (z <= 24 and x < 1 << z and y < 1 << z):
            raise HTTPException(404, "there is no such tile")
        async with self._slots:
            if await request.is_disconnected():
                return Response(status_code=499)
            final = self.map.progress == 1.0  # before it is painted: what comes meanwhile is not in it
            png = await self._work(self.map.tile, z, x, y)
        # With the token, lest the browser show the scene that was served at this port before.
        kept = {"Cache-Control": "private, max-age=600", "Vary": "X-Xtgeo-Token"} if final else {}
        return Response(png, media_type="image/png", headers=GUARD | kept)

    async def objects(self, request: Request) -> Response:
        """All objects of one file, once."""
        n, overlay = request.path_params["n"], self._overlay(request)
        return await self._work(
            self._pack, request, f"objects/{n}", lambda: overlay.to_json().encode(), "application/json"
        )

    async def record(self, request: Request) -> Response:
        """Every column of one object."""
        return _json(self._overlay(request).record(self._index(request)))

    async def chip(self, request: Request) -> Response:
        """The picture of one object; `?plain` without outline."""
        shape = self._overlay(request).geometry[self._index(request)]
        task = self.map.scene, self.map.stretch, shape
        png = await self._work(lambda: chip(*task, outlined="plain" not in request.query_params))
        return Response(png, media_type="image/png", headers=GUARD)

    async def marks(self, request: Request) -> Response:
        """What has been said so far, by index of the object."""
        return _json(self._told())

    async def mark(self, request: Request) -> Response:
        """Takes {"marks": {"12": "true", "13": null}}; answers when the file on disk says so."""
        if self.review is None:
            raise HTTPException(409, "nothing is reviewed here: give xtgeo view a vector file")
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BODY:
                raise HTTPException(413, "too many marks at once")
        try:
            marks = {int(i): state for i, state in json.loads(body)["marks"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise HTTPException(400, 'marks are {"marks": {"12": "true"}}') from e
        if not all(0 <= i < len(self.overlays[0]) and state in (*STATES, None) for i, state in marks.items()):
            raise HTTPException(400, f"a mark is {', '.join(STATES)} or null, of an object that is there")
        self.review.mark(marks)
        async with self._turn:  # who waited meanwhile finds it done
            if self.review.is_unsaved:
                await self._work(self.review.save)
        return _json(self._told())

    def _told(self) -> dict:
        return (
            {"marks": self.review.marks, "file": self.review.path.name} if self.review else {"marks": {}, "file": None}
        )

    def _overlay(self, request: Request) -> Overlay:
        n = request.path_params["n"]
        if n >= len(self.overlays):
            raise HTTPException(404, "there is no such file")
        return self.overlays[n]

    def _index(self, request: Request) -> int:
        i = request.path_params["i"]
        if i >= len(self._overlay(request)):
            raise HTTPException(404, "there is no such object")
        return i

    async def _work(self, task, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self._pool, task, *arguments)

    def _pack(self, request: Request, name: str, content, kind: str) -> Response:
        """What does not change, compressed once."""
        if name not in self._packed:
            plain = content()
            self._packed[name] = plain, gzip.compress(plain, 5)
        packed = "gzip" in request.headers.get("accept-encoding", "")
        headers = GUARD | {"Vary": "Accept-Encoding"} | ({"Content-Encoding": "gzip"} if packed else {})
        return Response(self._packed[name][packed], media_type=kind, headers=headers)


def _is_address(name: str) -> bool:
    """Whether a host is a number: no foreign name can be pointed at this machine under it."""
    try:
        return bool(ip_address(name))
    except ValueError:
        return False


def _legend(stretch: Stretch) -> list[dict]:
    """What the colours of the scene are: what is black and what is white in each layer."""
    names = list(stretch.bands)
    if len(names) == 2:
        names = [names[1], "mean of both", names[0]]
    limits = zip(names, stretch.low, stretch.high, strict=True)
    return [
        {"name": name, "low": round(low, 3), "high": round(high, 3), "unit": stretch.unit} for name, low, high in limits
    ]


def _json(content: object, status: int = 200) -> Response:
    return Response(json.dumps(content), status, GUARD, "application/json")
