"""batch(): scene after scene on the workers of a cluster, tiles of several scenes at a time, each scene into its own files."""

from __future__ import annotations

import json
import os
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distributed import Client

from xtgeo.batches.listing import OPEN, WORK, Entry, entries
from xtgeo.batches.record import Record, Row, alone
from xtgeo.batches.report import write_report
from xtgeo.choose import choose_model, load_for
from xtgeo.cluster import Cluster, connect, turn
from xtgeo.engine import Engine
from xtgeo.errors import ClusterError, ModelError, OutputError, PlanError, SceneError, XtgeoError
from xtgeo.grid import pixel_size_m
from xtgeo.infer import Plan
from xtgeo.job import MASKS, detect, digest, fingerprint, segment
from xtgeo.model import Model, load_model
from xtgeo.model.weights import WEIGHTLESS
from xtgeo.read import open_scene
from xtgeo.scene import Scene
from xtgeo.window import Nest
from xtgeo.write import FORMATS

TASKS = {"segment": segment, "detect": detect}
OPENING = {*OPEN, "trusted"}
WORKING = {*WORK, "masks", "device", "dtype", "max_memory", "context", "on_error", "allow_ungeoreferenced"}
PLANNING = {"device", "dtype", "max_memory"}
"""What a plan is made from; the scenes then take the plan."""
MOST_AT_ONCE = 32
"""Scenes that have begun and are not done."""
REPORT_SECONDS = 60
"""Between two reports on the way."""
SAME_GSD = 0.05
"""Pixels that differ less count as of one size."""


@dataclass(frozen=True)
class Standing:
    """How far a batch is."""

    scenes: int
    done: int
    """With those of earlier runs."""
    earlier: int
    failed: int
    running: int
    objects: int
    megapixels: float
    """Computed in this run, also of scenes that are not done."""
    seconds: float
    """Of this run."""
    dashboard: str = ""
    """Where the workers can be watched."""

    @property
    def left(self) -> int:
        return self.scenes - self.done - self.failed

    def __str__(self) -> str:
        speed = f", {self.megapixels / self.seconds:.1f} Mpx/s" if self.megapixels and self.seconds else ""
        known = f" ({self.earlier} from earlier runs)" if self.earlier else ""
        failed = f", {self.failed} failed" if self.failed else ""
        left = f", {self.left} left" if self.left else ""
        return f"{self.done} of {self.scenes} scenes done{known}{failed}{left}: {self.objects} objects{speed}"


class Stopped(XtgeoError):
    """The batch was stopped; what is finished is kept."""


def batch(
    scenes: str | os.PathLike | Sequence[str | os.PathLike | Entry],
    model: Model | str | os.PathLike | None,
    out_dir: str | os.PathLike,
    *,
    task: str | None = None,
    client: Client | AbstractContextManager[Client] | None = None,
    format: str = "gpkg",
    mask: bool = False,
    scores: bool = False,
    quicklooks: bool = True,
    stac: bool = False,
    retries: int = 1,
    redo: bool = False,
    progress: Callable[[Standing], None] | None = None,
    **options: Any,
) -> Standing:
    """Every object of many scenes: `<out_dir>/<name>.gpkg` for each, and summary.json and report.html for all.

    `scenes`: patterns, paths, lists, see `xtgeo.batches.entries`. `model`: a Model, a name, a file; None: the bundled one that
    fits the first scene. `client`: a dask.distributed Client, or what `xtgeo.connect` gives, which is entered when there is
    something to do; None: workers on this machine, one for each processor. `format` of the outlines or points (gpkg, geojson, fgb,
    parquet, csv); `mask`, `scores`, `quicklooks`, `stac`: what else is written for each scene. `options`: what `open_scene`, and
    `segment` or `detect` take, for all scenes; what an entry says goes before.

    Scenes that are done are not done again. What was computed with other options, by another model, or from a file that has
    changed is refused, or computed anew with `redo`. A scene that fails does not stop the others; it is tried `retries` times more
    after them. All are computed by one plan, so the bytes are those of `segment` or `detect` with `like` that plan, whatever the
    number of workers. `progress` is called, by any thread, as tiles are done.

    Raises XtgeoError where nothing can begin, or the scheduler is lost. Failed scenes are told by `Standing.failed` and the report.
    """
    folder = Path(out_dir)
    listed = _listed(scenes)
    outputs = _outputs(format, mask, scores, quicklooks, stac)
    _check_options(options)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise OutputError(f"{folder} cannot be made ({e.strerror}): choose another folder") from e
    with ExitStack() as stack:
        stack.enter_context(alone(folder))
        record = Record(folder)
        stack.callback(record.close)
        net = _model(model, listed, task, options)
        name = net.spec.task if task is None and net.spec.task in TASKS else task or "segment"
        _check_task(name, net, mask or scores or any("min_area" in given for given in (options, *(entry.work for entry in listed))))
        common = _common(net, name, sorted(outputs), options)
        todo = _todo(record, folder, listed, common, outputs, redo)
        record.set_meta("options", common)
        run = _Run(folder, record, net, name, outputs, options, common, listed, todo, progress)
        if todo:
            run.all(client if isinstance(client, Client) else stack.enter_context(client or connect()), retries)
        write_report(folder, record, run.standing())
        return run.standing()


def _listed(scenes) -> list[Entry]:
    if isinstance(scenes, str | os.PathLike):
        scenes = [scenes]
    ready = [scene for scene in scenes if isinstance(scene, Entry)]
    rest = [scene for scene in scenes if not isinstance(scene, Entry)]
    return ready + (entries(rest) if rest or not ready else [])


def _outputs(format: str, mask: bool, scores: bool, quicklooks: bool, stac: bool) -> dict[str, str]:
    """What is written for each scene, and the ending of its name."""
    if f".{format}" not in FORMATS:
        raise OutputError(f"unknown format {format!r}: choose one of {', '.join(ending[1:] for ending in FORMATS)}")
    wanted = {
        "out": (True, f".{format}"), "mask": (mask, ".mask.tif"), "scores": (scores, ".scores.tif"),
        "quicklook": (quicklooks, ".jpg"), "stac": (stac, ".stac.json"),
    }  # fmt: skip
    return {name: ending for name, (yes, ending) in wanted.items() if yes}


def _check_options(options: Mapping) -> None:
    if unknown := sorted(set(options) - OPENING - WORKING):
        raise TypeError(f"batch() has no option {unknown[0]!r}; it takes {', '.join(sorted(OPENING | WORKING))}")


def _check_task(task: str, model: Model, outlines: bool) -> None:
    """outlines: whether something is asked for that points do not have."""
    if task not in TASKS:
        raise ModelError(f"unknown task {task!r}: choose {' or '.join(TASKS)}")
    if task == "detect" and outlines:
        raise ModelError(f"{model.spec.name} finds points: it has no mask, no scores and no smallest area; leave them out")


def _model(model: Model | str | os.PathLike | None, listed: list[Entry], task: str | None, options: Mapping) -> Model:
    """The model for all scenes; what depends on the scene is looked up in the first that opens."""
    if isinstance(model, Model):
        return model
    if model is not None and model not in WEIGHTLESS:
        return load_model(model)
    for i, entry in enumerate(listed):
        try:
            scene = _open(entry, options)
        except SceneError as e:
            if i == len(listed) - 1:
                raise SceneError(f"none of the {len(listed)} scenes can be opened; the last: {e}") from e
            continue
        return load_for(scene, model or choose_model(scene, task or "segment"))
    raise SceneError("there is no scene")


def _open(entry: Entry, options: Mapping) -> Scene:
    return open_scene(entry.href, **{**{k: v for k, v in options.items() if k in OPENING}, **entry.open})


def _common(model: Model, task: str, outputs: list[str], options: Mapping) -> dict:
    """Plain values that say what is done with every scene, but for what the plan tells."""
    spec = model.spec
    plain = {**options, "masks": asdict(options.get("masks", MASKS))}
    plain.pop("max_memory", None)
    return json.loads(
        json.dumps(
            {"model": f"{spec.name} {spec.version} {fingerprint(model)[:16]}", "task": task, "outputs": outputs, **plain},
            default=str,
        )
    )


def _todo(
    record: Record, folder: Path, listed: list[Entry], common: dict, outputs: dict[str, str], redo: bool
) -> list[tuple[Entry, str]]:
    """Entries that are not done, and what identifies each."""
    todo, changed = [], []
    for entry in listed:
        identity = digest([common, entry.href, dict(entry.open), dict(entry.work)])
        row, source = record.get(entry.name), _source(entry.href)
        if row is not None and row.state == "done":
            other = row.identity != identity or (source is not None and row.facts["source"] != source)
            if other:
                changed.append(entry.name)
            elif all((folder / f"{entry.name}{ending}").exists() for ending in outputs.values()):
                continue
        todo.append((entry, identity))
    if changed and not redo:
        before = record.meta("options") or {}
        what = [
            f"{key} was {json.dumps(before.get(key))[:60]}, is {json.dumps(common.get(key))[:60]}"
            for key in sorted({*before, *common})
            if before.get(key) != common.get(key)
        ]
        what = what or [f"the files or options of {', '.join(changed[:5])}{' ...' * (len(changed) > 5)}"]
        raise OutputError(
            f"{folder} holds {len(changed)} scenes that were done otherwise: {'; '.join(what)}. Repeat those options, take another "
            "folder, or use --redo to compute them anew"
        )
    return todo


def _source(href: str) -> list[int] | None:
    """Size and time of what is on disk; None where that cannot be told."""
    try:
        about = os.stat(href.rpartition("#")[0] or href)
    except (OSError, ValueError):
        return None
    return [about.st_size, about.st_mtime_ns]


class _Run:
    """One call of batch()."""

    def __init__(self, folder, record, model, task, outputs, options, common, listed, todo, progress):
        self._folder, self._record, self._model, self._task = folder, record, model, task
        self._outputs, self._options, self._common, self._todo = outputs, options, common, todo
        self._progress = progress or (lambda standing: None)
        self._lock, self._planning, self._stop = threading.Lock(), threading.Lock(), threading.Event()
        self._start = self._reported = time.monotonic()
        self._pixels: dict[str, int] = {}  # of the scenes that are running
        self._computed = 0
        self._failed: dict[str, tuple[Entry, str]] = {}
        self._deadly: set[str] = set()
        self._running: set[str] = set()
        waiting = {entry.name for entry, _ in todo}
        earlier = [entry.name for entry in listed if entry.name not in waiting]
        self._scenes = len(listed)
        self._earlier = self._done = len(earlier)
        self._objects = sum(record.get(name).facts["objects"] for name in earlier)
        self._plan: Plan | None = None
        self._dashboard = ""

    def standing(self) -> Standing:
        with self._lock:
            return Standing(
                self._scenes, self._done, self._earlier, len(self._failed), len(self._running), self._objects,
                round((self._computed + sum(self._pixels.values())) / 1e6, 3), round(time.monotonic() - self._start, 3),
                self._dashboard,
            )  # fmt: skip

    def all(self, client: Client, retries: int) -> None:
        """Every scene that is left, then once more those that failed.

        Where workers died, a tile of another scene may have been with them and share the blame: such scenes then go one by one.
        """
        self._dashboard = client.dashboard_link or ""
        self._progress(self.standing())
        cluster = Cluster.of(client, self._model, fingerprint(self._model))
        for _ in range(1 + retries):
            with ThreadPoolExecutor(MOST_AT_ONCE, "xtgeo-scene") as pool:
                alone = [entry for entry in self._todo if entry[0].name in self._deadly]
                self._pass(pool, client, cluster, [entry for entry in self._todo if entry not in alone], MOST_AT_ONCE)
                self._pass(pool, client, cluster, alone, 1)
            if not self._failed:
                return
            self._todo = list(self._failed.values())

    def _pass(
        self, pool: ThreadPoolExecutor, client: Client, cluster: Cluster, todo: list[tuple[Entry, str]], at_once: int
    ) -> None:
        running: set[Future] = set()
        try:
            for number, (entry, identity) in enumerate(todo):
                while len(running) >= at_once or (running and not cluster.slots.free):
                    running = self._collect(running)
                running.add(pool.submit(self._scene, client, cluster, entry, identity, -number))
            while running:
                running = self._collect(running)
        except BaseException:
            self._stop.set()
            while running:
                cluster.abandon()
                running = wait(running, timeout=0.2).not_done
            raise

    def _collect(self, running: set[Future]) -> set[Future]:
        done, left = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()  # what ends the batch
        if time.monotonic() - self._reported > REPORT_SECONDS:
            write_report(self._folder, self._record, self.standing())
            self._reported = time.monotonic()
        return left

    def _scene(self, client: Client, cluster: Cluster, entry: Entry, identity: str, priority: int) -> None:
        if self._stop.is_set():
            return
        turn.set(priority)
        name, row = entry.name, self._record.get(entry.name)
        ours = row is not None and row.ours
        with self._lock:
            self._running.add(name)
            self._failed.pop(name, None)
        try:
            paths = {output: self._folder / f"{name}{ending}" for output, ending in self._outputs.items()}
            if not ours and (there := next((path for path in paths.values() if path.exists()), None)):
                raise OutputError(f"{there} exists and is not this batch's: move it away, or take another folder")
            scene = _open(entry, self._options)
            self._record.put(Row(name, entry.href, "begun", identity, True, {}))
            ours, source = True, _source(entry.href)
            work = {k: v for k, v in self._options.items() if k in WORKING - PLANNING}
            result = TASKS[self._task](
                scene, self._model, **{**work, **entry.work}, **paths, client=client, like=self._planned(cluster, scene),
                overwrite=True, progress=lambda done, total, pixels: self._told(name, pixels),
            )  # fmt: skip
            facts = asdict(result.summary) | {"source": source}
            self._record.put(Row(name, entry.href, "done", identity, True, facts))
        except (ClusterError, Stopped):
            raise
        except Exception as e:
            unforeseen = not isinstance(e, XtgeoError)
            facts = {"error": f"{type(e).__name__}: {e}" if unforeseen else str(e)}
            if unforeseen:
                facts["traceback"] = traceback.format_exc()
            self._record.put(Row(name, entry.href, "failed", identity, ours, facts))
            with self._lock:
                self._failed[name] = entry, identity
                if isinstance(e, PlanError):
                    self._deadly.add(name)
        else:
            with self._lock:
                self._done += 1
                self._objects += result.summary.objects
        finally:
            with self._lock:
                self._running.discard(name)
                self._computed += self._pixels.pop(name, 0)
            self._progress(self.standing())

    def _told(self, name: str, pixels: int) -> None:
        if self._stop.is_set():
            raise Stopped("stopped: give the same command again to go on")
        with self._lock:
            self._pixels[name] = pixels
        self._progress(self.standing())

    def _planned(self, cluster: Cluster, scene: Scene) -> Plan:
        """The plan for all scenes: made on the first, kept for later runs."""
        gsd = self._model.spec.gsd
        if not list(self._model.net.parameters()) and scene.is_georeferenced:
            found = sum(pixel_size_m(scene.grid)) / 2
            if abs(found / gsd - 1) > SAME_GSD:
                raise ModelError(
                    f"{self._model.spec.name} was made for pixels of {gsd:.3g} m, {scene.id} has {found:.3g} m: give scenes of one "
                    "pixel size to one batch"
                )
        with self._planning:
            if self._plan is None:
                self._plan = planned(self._record, cluster, self._model, scene, self._options)
            return self._plan


def planned(record: Record | None, cluster: Cluster, model: Model, scene: Scene, options: Mapping) -> Plan:
    """The plan that is kept for this limit of memory, or a new one, made on this scene, for all."""
    context, limit = options.get("context", "tile"), str(options.get("max_memory"))
    key = f"plan {context} {limit} {options.get('device', 'auto')} {options.get('dtype', 'auto')}"
    kept = record.meta(key) if record else None
    if kept is not None:
        nest = Nest(scene.shape, model.spec.region, kept["span"], model.spec.margin)
        return Plan(nest, Engine(**kept["engine"]), 0, kept["bytes"], context).over(scene)
    made = cluster.plan(scene, context=context, **{k: v for k, v in options.items() if k in PLANNING})
    if record:
        record.set_meta(key, {"engine": asdict(made.engine), "span": made.nest.span, "bytes": made.bytes})
    return made
