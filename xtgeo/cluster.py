"""The same tiles on a Dask scheduler: a task is some tiles, a worker holds each model once, pixels do not travel.

    client                                       worker
    Cluster.answers(scene, plan, tiles, keep) -> read(tile.full) -> answer -> keep -> a few kilobytes

The scheduler knows a scene once and two tasks for each thread that could compute them, however many scenes wait. A worker that dies
takes nothing with it: its tiles go to another. A tile is computed at least once and taken by the client once.
"""

from __future__ import annotations

import logging
import queue
import signal
import threading
import time
import uuid
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial, wraps
from itertools import count
from typing import TYPE_CHECKING, Any

import psutil
import torch
from dask.utils import funcname
from distributed import Client, Future, KilledWorker, LocalCluster, Security, WorkerPlugin, get_worker
from distributed.client import ClosedClientError
from distributed.comm import CommClosedError

from xtgeo.allocator import keep_freed_memory
from xtgeo.choose import adapt
from xtgeo.engine import Engine, cores, prepare
from xtgeo.errors import ClusterError, PlanError, SceneError, XtgeoError
from xtgeo.infer import USUAL, Plan, answer, look, meet, no_tokens, plan, read
from xtgeo.model import Model
from xtgeo.scene import Block, Scene

if TYPE_CHECKING:
    from xtgeo.tokens import Told

Keep = Callable[[Block], dict[str, bytes]]
"""What is kept of a tile's answer; pickled."""
PER_THREAD = 2
"""Tasks that the scheduler knows for each thread: one is computed, one waits so that no thread does."""
TASK_PX = 2048
"""Tiles of a task cover about a square of this side, where there are enough for all threads: a scheduler and a client spend some
milliseconds on each task, whatever it holds."""
JOIN_SECONDS = 60
"""How long there may be no worker, at the beginning and later."""
CONNECT_SECONDS = 30
"""How long the scheduler may take to answer."""
NEWS_SECONDS = 5
"""How often the number of threads is asked for."""
LOST = CancelledError, ClosedClientError, CommClosedError, ConnectionError, TimeoutError
"""How Dask says that there is no scheduler any more."""
SHARE = 0.6
"""Of a worker's memory that tiles may take: Dask begins to move data to the disk at 60 %, and pauses at 80 %."""


@contextmanager
def connect(
    scheduler: str | None = None,
    *,
    workers: int | None = None,
    threads: int | None = None,
    memory: int | None = None,
    dashboard: str | None = "127.0.0.1:8787",
    tls: tuple[str, str, str] | None = None,
) -> Iterator[Client]:
    """A client of the scheduler at an address such as tcp://host:8786, or of workers started here until the block ends.

    workers: processes (None: one for each processor), threads: of each (None: as many as processors allow), memory: bytes that
    each may hold (None: an equal share). dashboard: where its page is served, None for nowhere; this machine alone sees it by
    default. tls: files with the authority's certificate, the own one and its key; what is not encrypted is then refused.
    """
    security = None
    if tls is not None:
        authority, certificate, key = tls
        security = Security(
            require_encryption=True, tls_ca_file=authority, tls_client_cert=certificate, tls_client_key=key,
            tls_worker_cert=certificate, tls_worker_key=key, tls_scheduler_cert=certificate, tls_scheduler_key=key,
        )  # fmt: skip
    if scheduler is not None:
        try:
            client = Client(scheduler, security=security, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as e:
            reason = str(e).splitlines()[0] if str(e) else type(e).__name__
            raise ClusterError(
                f"no scheduler answers at {scheduler} ({reason}): check the address and, for tls://, the certificates, and "
                "start one with `dask scheduler`"
            ) from e
        with client:
            yield client
        return
    n = cores()
    workers = workers or n
    with _unheard(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is already in use")  # then the dashboard takes another port
        local = LocalCluster(
            n_workers=workers, threads_per_worker=threads or max(1, n // workers), processes=True, host="127.0.0.1",
            memory_limit=memory or "auto", dashboard_address=dashboard, security=security, silence_logs=logging.CRITICAL,
        )  # fmt: skip
    with local, Client(local, set_as_default=False) as client:
        yield client


@contextmanager
def _unheard() -> Iterator[None]:
    """A terminal sends Ctrl-C to every process; those that are started in here do not hear it, and end when they are told to."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


turn: ContextVar[int] = ContextVar("turn", default=0)
"""Of several scenes that are computed at the same time, the one with the highest goes first."""


class Weights(WorkerPlugin):
    """A model on every worker, also on those that join or come back later; made ready when the first tile comes."""

    def __init__(self, name: str, model: Model):
        self.name, self.model, self.version = name, model, _version()
        self._lock, self._ready = threading.Lock(), {}

    def __getstate__(self) -> dict:
        return {"name": self.name, "model": self.model, "version": self.version}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["name"], state["model"])
        self.version = state["version"]  # of where the work comes from

    def ready(self, engine: Engine) -> Model:
        """The model as this engine runs it."""
        torch.set_num_threads(engine.threads)
        with self._lock:
            if engine not in self._ready:
                if (found := _version()) != self.version:
                    raise _other(get_worker().address, found, self.version)
                keep_freed_memory(engine.keep_memory)
                self._ready = {engine: prepare(self.model, engine)}
            return self._ready[engine]


@dataclass(frozen=True)
class Work:
    """What all tiles of a scene have in common; goes once to each worker that computes one."""

    weights: str
    scene: Scene
    plan: Plan
    keep: Keep
    lenient: bool
    """Whether a tile that cannot be read is one without a valid pixel, with the reason as one more answer, "unreadable"."""


class Slots:
    """So many at a time, over all scenes; how many may change while they are taken."""

    def __init__(self, most: Callable[[], int]):
        self._most, self._taken, self._change = most, 0, threading.Condition()

    def take(self, *, wait: bool) -> bool:
        """One more, if there is room; if not, waits for it or gives up."""
        with self._change:
            while self._taken >= self._most():
                if not wait:
                    return False
                self._change.wait(NEWS_SECONDS)
            self._taken += 1
            return True

    def give(self, count: int = 1) -> None:
        with self._change:
            self._taken -= count
            self._change.notify_all()

    @property
    def free(self) -> int:
        with self._change:
            return max(0, self._most() - self._taken)


class Cluster:
    """Workers of a Dask client that hold a model. Used by any thread; one for each client and model, see `of`."""

    _known: weakref.WeakKeyDictionary[Client, dict[str, Cluster]] = weakref.WeakKeyDictionary()
    _lock = threading.Lock()

    @classmethod
    def of(cls, client: Client, model: Model, name: str) -> Cluster:
        """The same one again for the same client and the same `name`, which stands for spec and weights."""
        with cls._lock:
            known = cls._known.setdefault(client, {})
            if name not in known:
                known[name] = cls(client, model, name)
            return known[name]

    def __init__(self, client: Client, model: Model, name: str):
        self._client, self._model, self._weights = weakref.proxy(client), model, f"xtgeo-{name[:16]}"
        self._address = getattr(client.scheduler, "address", "the cluster")
        self._asked, self._threads, self._news = -1e9, 0, threading.Lock()
        self._awaited: set[Future] = set()
        self.slots = Slots(self._most)
        with self._reported("the model"):
            try:
                client.wait_for_workers(1, timeout=JOIN_SECONDS)
            except TimeoutError as e:
                raise self._deserted("has joined") from e
            self._check_versions(client)
            client.register_plugin(Weights(self._weights, model), name=self._weights)

    def _check_versions(self, client: Client) -> None:
        try:
            versions = client.run(_version, on_error="return", callback_timeout=JOIN_SECONDS)
        except TimeoutError as e:
            raise ClusterError(
                f"a worker of {self._address} does not answer in {JOIN_SECONDS} s: look for it in the dashboard, and end it"
            ) from e
        for worker, found in versions.items():
            if found != _version() and not isinstance(found, OSError):  # or it has left in between
                raise _other(worker, "" if isinstance(found, Exception) else found, _version())

    @property
    def threads(self) -> int:
        """That compute tiles, of all workers; as it was some seconds ago at most. A worker that is short of memory takes none."""
        with self._news:
            if time.monotonic() - self._asked > NEWS_SECONDS:
                ask = partial(self._client.scheduler.identity, n_workers=-1)
                try:
                    with self._reported("the number of threads"):
                        workers = self._client.sync(ask, callback_timeout=CONNECT_SECONDS)["workers"].values()
                finally:
                    self._asked = time.monotonic()  # where nothing answers, threads do not wait for it one after the other
                able = (w for w in workers if w["status"] == "running" or w["metrics"]["task_counts"].get("executing"))
                self._threads = sum(w["nthreads"] for w in able)
            return self._threads

    def _deserted(self, what: str) -> ClusterError:
        return ClusterError(
            f"no worker {what} {self._address} in {JOIN_SECONDS} s: start some with `dask worker {self._address}`, with enough "
            "memory, and give the same command, which resumes"
        )

    def _most(self) -> int:
        return PER_THREAD * max(1, self.threads)

    def plan(self, scene: Scene, **options) -> Plan:
        """A plan for scenes like this one, made on a worker and for what it has: its memory, threads, processor or GPU.

        options: as of `xtgeo.plan`. Each thread of a worker computes a tile in one thread.
        """
        return self.call(_plan, self._weights, scene, options)

    def call(self, function: Callable, *arguments: Any) -> Any:
        """A function that reads a scene, on a worker; before any tile that waits."""
        with self._reported(funcname(function)):
            done: queue.SimpleQueue[Future] = queue.SimpleQueue()
            task = self._client.submit(_do, function, *arguments, pure=False, priority=turn.get() + 1)
            try:
                self._await(task, done)
                return self._result(self._next(done))
            finally:
                self._release(task)

    def answers(
        self,
        scene: Scene,
        plan: Plan,
        tiles: Iterable[int],
        keep: Keep,
        *,
        lenient: bool = False,
        looked: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[int, dict[str, bytes]]]:
        """(tile, what is kept of it), as they are done, in no order; see `xtgeo.predict`.

        lenient: a tile that cannot be read has the reason among what is kept, as "unreadable", instead of ending the work.
        """
        scene = adapt(scene, self._model.spec).with_cache(plan.cache)
        work, told = Work(self._weights, scene, plan, keep, lenient), None
        if plan.context == "scene":
            told = self._tell(work, looked)
        yield from self._run(_answer, work, tiles, told)

    def _tell(self, work: Work, looked: Callable[[int], None] | None) -> Told:
        """The first pass: tokens travel, which are a thousandth of the pixels; what they tell each other is computed here."""
        tokens, nest = no_tokens(self._model, work.plan), work.plan.nest
        for n, (tile, seen) in enumerate(self._run(_look, work, range(len(nest)), None), 1):
            if seen is not None:
                tokens.put(nest[tile].core, *seen)
            if looked:
                looked(n)
        engine = work.plan.engine if torch.cuda.is_available() else Engine("cpu", work.plan.engine.dtype)
        return meet(prepare(self._model, engine), work.plan, tokens)

    def _run(self, function: Callable, work: Work, tiles: Iterable[int], told: Told | None) -> Iterator[tuple[int, Any]]:
        """`function(work, tile, news)` on workers; results as they come; what is not wanted any more is called off."""
        client, token = self._client, uuid.uuid4().hex
        resources = {"GPU": 1} if work.plan.engine.device == "cuda" and self._has_gpu_resource() else None
        submit = partial(client.submit, pure=False, priority=turn.get(), resources=resources)
        done: queue.SimpleQueue[Future] = queue.SimpleQueue()
        mine: dict[Future, list[int]] = {}
        rest, size = list(tiles), work.plan.nest.side
        together = max(1, min((TASK_PX // size) ** 2, len(rest) // self._most()))
        pieces = (rest[i : i + together] for i in range(0, len(rest), together))
        ended = False
        with self._reported(work.scene.id):
            common = submit(_same, work, key=f"scene-{token}")
            numbers = count()
            try:
                while True:
                    while not ended and self.slots.take(wait=not mine):
                        if ended := (piece := next(pieces, None)) is None:
                            self.slots.give()
                            break
                        news = [None if told is None else told[work.plan.nest[tile].core] for tile in piece]
                        key = f"{function.__name__[1:]}-{token}", next(numbers)
                        future = submit(_each, function, common, piece, news, key=key)
                        mine[future] = piece
                        self._await(future, done)
                    if not mine:
                        return
                    future = self._next(done)
                    results = self._result(future)
                    piece = mine.pop(future)
                    self._release(future)
                    self.slots.give()
                    yield from zip(piece, results, strict=True)
            finally:
                self.slots.give(len(mine))
                self._release(*mine, common)

    def abandon(self) -> None:
        """Calls off what any thread waits for, which is told so by a ClusterError."""
        with suppress(ClusterError), self._reported("what is called off"):
            self._client.cancel(list(self._awaited))

    def _await(self, future: Future, done: queue.SimpleQueue[Future]) -> None:
        self._awaited.add(future)
        future.add_done_callback(done.put)

    def _release(self, *futures: Future) -> None:
        for future in futures:
            self._awaited.discard(future)
            future.release()

    def _next(self, done: queue.SimpleQueue[Future]) -> Future:
        """The next that is done, as long as there is somebody to do it."""
        seen = time.monotonic()
        while True:
            try:
                return done.get(timeout=NEWS_SECONDS)
            except queue.Empty:
                if self.threads:
                    seen = time.monotonic()
                elif time.monotonic() - seen > JOIN_SECONDS:
                    raise self._deserted("has taken work of") from None

    def _result(self, future: Future) -> Any:
        """Of one that is done; lost with a worker that dies, it is computed again."""
        while True:
            try:
                return future.result(timeout=JOIN_SECONDS)
            except OSError as e:
                if future.status == "error":  # it was the function that raised
                    raise SceneError(f"a worker could not read it ({type(e).__name__}: {e})") from e
                if not isinstance(e, TimeoutError):
                    raise
                if not self.threads:
                    raise self._deserted("has taken work of") from e

    def _has_gpu_resource(self) -> bool:
        """Whether a worker says that it has GPUs to give, one to a task: `dask worker --resources GPU=1`."""
        return any("GPU" in (info.get("resources") or {}) for info in self._client.scheduler_info(n_workers=-1)["workers"].values())

    @contextmanager
    def _reported(self, what: str) -> Iterator[None]:
        """What Dask says, in one line."""
        try:
            yield
        except KilledWorker as e:
            raise PlanError(
                f"{what}: workers died at the same tile ({e.allowed_failures + 1} in a row), most often for lack of memory; give "
                "workers more, or tiles less with --max-memory, then run again to resume"
            ) from e
        except XtgeoError:
            raise
        except Exception as e:
            if not isinstance(e, LOST) and self._is_open():
                raise
            raise ClusterError(
                f"{what}: the scheduler at {self._address} is gone or cannot be reached; start it again and give the same command, "
                "which resumes"
            ) from e

    def _is_open(self) -> bool:
        try:
            return self._client.status in ("running", "connecting")
        except ReferenceError:  # nobody holds the client any more
            return False


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("xtgeo-sat")
    except PackageNotFoundError:
        return ""


def _other(worker: str, found: str, wanted: str) -> ClusterError:
    return ClusterError(
        f"the worker {worker} has xtgeo {found or 'not at all'}, where the work comes from it is {wanted}: install the same "
        "everywhere"
    )


def _same(work: Work) -> Work:
    return work


def _weights(name: str) -> Weights:
    return get_worker().plugins[name]


def _plainly(function: Callable) -> Callable:
    """An error of ours comes without its causes: GDAL's cannot be unpickled, and then ours would not be known either."""

    @wraps(function)
    def plain(*arguments):
        try:
            return function(*arguments)
        except XtgeoError as e:
            error = type(e)(*e.args)
        raise error

    return plain


@_plainly
def _do(function: Callable, *arguments: Any) -> Any:
    return function(*arguments)


@_plainly
def _each(function: Callable, work: Work, tiles: list[int], news: list[torch.Tensor | None]) -> list:
    return [function(work, tile, told) for tile, told in zip(tiles, news, strict=True)]


def _answer(work: Work, tile: int, news: torch.Tensor | None) -> dict[str, bytes]:
    ready, at = _weights(work.weights).ready(work.plan.engine), work.plan.nest[tile]
    missed = {} if work.lenient else None
    kept = work.keep(answer(ready, read(work.scene, at, missed), at, work.scene.bands, news))
    return {**kept, "unreadable": missed[tile].encode()} if missed else kept


def _look(work: Work, tile: int, news: None) -> tuple[torch.Tensor, torch.Tensor] | None:
    ready, at = _weights(work.weights).ready(work.plan.engine), work.plan.nest[tile]
    block = read(work.scene, at)
    return None if block is None else tuple(t.cpu() for t in look(ready, block, work.scene.bands))


def _plan(weights: str, scene: Scene, options: Mapping) -> Plan:
    worker = get_worker()
    threads, held = worker.state.nthreads, psutil.Process().memory_info().rss
    limit, most = options.get("max_memory"), worker.memory_manager.memory_limit
    if limit is None:
        limit = held + threads * USUAL
        limit = min(limit, int(SHARE * most)) if most else limit
    model = _weights(weights).model
    return plan(scene, model, **{**options, "max_memory": limit}, threads=threads, many=True)
