"""What a batch would take, from headers and a few tiles: nothing is written."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from distributed import Client

from xtgeo.batches.listing import Entry
from xtgeo.batches.run import _check_options, _listed, _model, _open, planned
from xtgeo.cluster import Cluster, connect
from xtgeo.errors import SceneError, XtgeoError
from xtgeo.infer import Plan
from xtgeo.job import fingerprint, tiles_in
from xtgeo.model import Model
from xtgeo.read.area import read_area
from xtgeo.scene import Block, Scene

OPENERS = 8
"""Threads that read headers."""
TOGETHER = 64
"""Scenes that are open at the same time."""
TRIALS = 2
"""Tiles for each thread that are timed, after one that is not."""


@dataclass(frozen=True)
class Forecast:
    """What is to be done, and about how long it takes on the workers that were there."""

    scenes: int
    megapixels: float
    empty_megapixels: float
    """Of them in tiles that hold nothing but nodata, or lie outside the area, as far as headers and masks tell: skipped."""
    tiles: int
    """To be computed."""
    threads: int
    mpx_per_s: float
    """Of all threads together, reading included."""
    seconds: float
    tile_px: int
    worker_bytes: int
    """About what a worker takes for tiles, over what it holds."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Scenes that cannot be opened or do not fit, and why."""

    def __str__(self) -> str:
        minutes = self.seconds / 60
        time = f"{minutes / 60:.1f} hours" if minutes > 90 else f"{minutes:.1f} minutes" if minutes > 2 else f"{self.seconds:.0f} s"
        return (
            f"{self.scenes} scenes, {self.megapixels:,.0f} Mpx in {self.tiles:,} tiles of {self.tile_px} px "
            f"({self.empty_megapixels:,.0f} Mpx of nodata or outside are skipped): about {time} "
            f"with {self.threads} threads ({self.mpx_per_s:.1f} Mpx/s), {self.worker_bytes / 1e9:.1f} GB for tiles in each worker"
        )


def forecast(
    scenes: str | os.PathLike | Sequence[str | os.PathLike | Entry],
    model: Model | str | os.PathLike | None,
    *,
    task: str | None = None,
    client: Client | AbstractContextManager[Client] | None = None,
    **options: Any,
) -> Forecast:
    """Arguments as of `batch`. Every scene is opened; a few tiles of the first one are computed to tell the speed."""
    listed = _listed(scenes)
    _check_options(options)
    net = _model(model, listed, task, options)
    if isinstance(client, Client):
        return _forecast(listed, net, client, options)
    with client or connect() as own:
        return _forecast(listed, net, own, options)


def _forecast(listed: list[Entry], model: Model, client: Client, options: Mapping) -> Forecast:
    cluster = Cluster.of(client, model, fingerprint(model))
    plan: Plan | None = None
    rate = 0.0
    unreadable: dict[str, str] = {}
    pixels = empty = tiles = 0

    def opened(entry: Entry) -> Scene | str:
        try:
            return _open(entry, options)
        except XtgeoError as e:
            return str(e)

    with ThreadPoolExecutor(OPENERS) as pool:
        several = (listed[i : i + TOGETHER] for i in range(0, len(listed), TOGETHER))
        for entry, scene in (pair for some in several for pair in zip(some, pool.map(opened, some), strict=True)):
            if isinstance(scene, str):
                unreadable[entry.name] = scene
                continue
            try:
                if plan is None:
                    plan = planned(None, cluster, model, scene, options)
                    rate = _rate(cluster, plan.over(scene), scene)
                nest = plan.over(scene).nest
                aoi = entry.work.get("aoi", options.get("aoi"))
                some = tiles_in(nest, None if aoi is None else read_area(aoi, scene))
            except XtgeoError as e:
                unreadable[entry.name] = str(e)
                continue
            computed = [core for i in some if scene.maybe_valid(core := nest[i].core)]
            seen = sum(core.h * core.w for core in computed)
            whole = scene.shape[0] * scene.shape[1]
            pixels, empty, tiles = pixels + whole, empty + whole - seen, tiles + len(computed)
    if plan is None:
        raise SceneError(f"none of the {len(listed)} scenes can be opened; the first: {next(iter(unreadable.values()), '')}")
    return Forecast(
        scenes=len(listed) - len(unreadable),
        megapixels=round(pixels / 1e6, 3),
        empty_megapixels=round(empty / 1e6, 3),
        tiles=tiles,
        threads=cluster.threads,
        mpx_per_s=round(rate / 1e6, 3),
        seconds=round((pixels - empty) / rate, 1),
        tile_px=plan.nest.side,
        worker_bytes=plan.bytes,
        unreadable=unreadable,
    )


def _rate(cluster: Cluster, plan: Plan, scene: Scene) -> float:
    """Pixels in a second with all threads busy: tiles that hold something, over and over where the scene has few."""
    full = [i for i, tile in enumerate(plan.nest) if scene.maybe_valid(tile.core)] or [0]
    some = (full * (1 + (1 + TRIALS) * cluster.threads // len(full)))[: (1 + TRIALS) * cluster.threads]
    _run(cluster, scene, plan, some[: cluster.threads])
    start = time.monotonic()
    _run(cluster, scene, plan, some[cluster.threads :])
    cores = [plan.nest[i].core for i in some[cluster.threads :]]
    return sum(core.h * core.w for core in cores) / (time.monotonic() - start)


def _run(cluster: Cluster, scene: Scene, plan: Plan, tiles: Iterable[int]) -> None:
    for _ in cluster.answers(scene, plan, tiles, _nothing):
        pass


def _nothing(block: Block) -> dict[str, bytes]:
    return {}
