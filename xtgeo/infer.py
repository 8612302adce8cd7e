"""predict() and classify(): a scene through a model, tile by tile, in memory that does not grow with the scene.

    reader threads -> forward threads -> Blocks, in the order of the tiles

With context of the whole scene, tiles pass twice: first their tokens are kept, then, when all tokens have met, they are
answered. Every queue is bounded. Tiles without a valid pixel are skipped before they are read where the file can tell.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import psutil
import torch

from xtgeo.choose import adapt
from xtgeo.engine import DTYPES, Engine, choose_engine, context_bytes, forward_bytes, prepare, run
from xtgeo.errors import ModelError, PlanError, SceneError
from xtgeo.model import Model
from xtgeo.scene import Block, Scene
from xtgeo.tokens import Tokens, Told, token_grid
from xtgeo.window import Nest, Tile, Window

T = TypeVar("T")
CONTEXT_REACHES = "tile", "scene"

AHEAD = 2
"""Tiles read ahead of the ones being computed."""
READERS = 2
"""Reading threads; decoding releases Python's lock."""
MOST_CACHE = 128 << 20
"""Bytes of decoded blocks that are kept; a scan over a wider scene decodes some blocks twice and stays in its memory."""
USUAL = 1 << 30
"""Bytes that a run takes over what the process holds, unless it is told otherwise or one region needs more."""
OTHER_BYTES = 224 << 20
"""GDAL's own cache, what its threads work with, and libraries that are loaded on the way."""
OVERHEAD = 1.5
"""Workspace of convolutions and what the allocator cannot reuse, over the bytes of live tensors."""


@dataclass(frozen=True)
class Plan:
    """How a scene will be computed; print it, compare it, hand it to `predict`."""

    nest: Nest
    engine: Engine
    cache: int
    """Bytes for decoded blocks that several tiles share."""
    bytes: int
    """Expected peak over what the process holds already."""
    context: str = "tile"
    """How far context reaches: over a tile, or over the whole scene in two passes."""

    @property
    def computed_per_pixel(self) -> float:
        """Pixels that the network sees for each pixel of the scene."""
        m, r = self.nest.margin, self.nest.region
        sides = [-(-side // r) * 2 * m + side for side in self.nest.shape]
        return sides[0] * sides[1] / (self.nest.shape[0] * self.nest.shape[1])

    def over(self, scene: Scene) -> Plan:
        """The same tiles and engine for another scene; nothing is measured, and what it needs is not checked again."""
        nest = replace(self.nest, shape=scene.shape)
        return replace(self, nest=nest, cache=min(MOST_CACHE, scene.scan_bytes(nest.side + 2 * nest.margin)))


def plan(
    scene: Scene,
    model: Model,
    *,
    device: str = "auto",
    dtype: str = "auto",
    max_memory: int | None = None,
    context: str = "tile",
    engine: Engine | None = None,
    span: int | None = None,
    threads: int | None = None,
    many: bool = False,
) -> Plan:
    """The largest tiles and the fastest engine that fit `max_memory`.

    `max_memory` is the limit for the whole process in bytes. None: what it holds and 1 GiB, or, where that is too little
    for one region, what it holds and 70 % of what is free. Where the model's own tile does not fit, tiles of fewer
    regions are taken, down to one; context then reaches less far, unless `context` is "scene": then all tokens of the scene
    meet, in a second pass over its pixels. Give `engine` and `span` to repeat an earlier run instead of measuring.

    `threads`: a tile is computed in each of so many threads, come what may, as in a worker of Dask; a GPU computes one.
    `many`: the plan is for other scenes too (`Plan.over`), so tiles may be larger than this scene.
    """
    _check_context(model, context)
    spec, held = model.spec, psutil.Process().memory_info().rss
    free = held + int(0.7 * psutil.virtual_memory().available)
    scene = adapt(scene, spec)
    if engine is None:
        scene.check_values()
        engine = choose_engine(model, *_piece(scene, model), device=device, dtype=dtype)
    if threads and engine.device == "cpu":
        engine = replace(engine, workers=threads, threads=1)
    longest = spec.span if many else -(-max(scene.shape) // spec.region)
    spans = [span] if span else sorted({min(s, longest) for s in range(1, spec.span + 1)}, reverse=True)
    limit = min(held + USUAL, free) if max_memory is None else max_memory
    for how in _plans(scene, model, engine, spans, context, parallel=threads is None, many=many):
        if held + how.bytes <= limit:
            return how
    if max_memory is None and held + how.bytes <= (limit := free):
        return how
    raise PlanError(
        f"{spec.name} needs about {(held + how.bytes) / 1e9:.1f} GB for tiles of {how.nest.side} pixels, {limit / 1e9:.1f} GB are "
        "allowed: raise --max-memory, or use a smaller model"
    )


def _check_context(model: Model, context: str) -> None:
    if context not in CONTEXT_REACHES:
        raise ModelError(f"unknown reach of context {context!r}; choose {' or '.join(CONTEXT_REACHES)}")
    spec = model.spec
    if spec.task == "boxes":
        raise ModelError(f"{spec.name} finds boxes in images, not in scenes: use load_model(...).net(images)")
    if context == "scene" and not model.has_context:
        raise ModelError(f"{spec.name} has no context encoder that could see the whole scene; leave --context scene out")
    if context == "scene" and spec.region % spec.context_stride:
        raise ModelError(
            f"regions of {spec.name} have {spec.region} pixels, no multiple of its tokens' {spec.context_stride}: "
            "context of the whole scene is not possible, leave --context scene out"
        )


def _plans(
    scene: Scene, model: Model, engine: Engine, spans: list[int], context: str, *, parallel: bool, many: bool
) -> Iterator[Plan]:
    """Plans that need less and less memory: first fewer tiles at the same time, where that is free, then smaller ones."""
    kept = meeting = 0
    if context == "scene":
        kept, meeting = context_bytes(model, engine, token_grid(Nest(scene.shape), model.spec.context_stride))
    for span in spans:
        nest = Nest(scene.shape, model.spec.region, span, model.spec.margin)
        h, w = ((nest.side if many else min(nest.side, side)) + 2 * nest.margin for side in nest.shape)
        forward = forward_bytes(model, engine, (h, w)) if engine.device == "cpu" else 0
        cache = min(MOST_CACHE, scene.scan_bytes(h))
        fewest = (1,) if parallel else (engine.workers,)
        for workers in range(engine.workers, 0, -1) if parallel and span == spans[0] else fewest:
            tiles = workers + AHEAD + 1
            read = tiles * h * w * (4 * len(scene.bands) + 1)
            answers = 2 * tiles * h * w * (4 * model.spec.answers + 1)
            # Tokens meet while no tile is computed.
            live = kept + max(workers * forward + read + answers, meeting)
            expected = int(OVERHEAD * live) + cache + OTHER_BYTES
            threads = engine.threads * engine.workers // workers
            yield Plan(nest, replace(engine, workers=workers, threads=threads), cache, expected, context)


def predict(
    scene: Scene,
    model: Model,
    *,
    plan: Plan | None = None,
    tiles: Container[int] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    max_memory: int | None = None,
    context: str = "tile",
    looked: Callable[[int], None] | None = None,
    unreadable: dict[int, str] | None = None,
) -> Iterator[Block]:
    """Class probabilities, tile by tile: Blocks of (classes, y, x) float32 in 0..1 on the tiles' cores.

    A model of task "detect" answers for cells of `model.cell_px` pixels what `xtgeo.model.spec.CENTRE` names; windows then
    count cells.

    The cores partition the scene and come in row-major order. Where nothing was measured the probability is 0 and
    `valid` False. `tiles` restricts the work to some positions in the nest. With `context` "scene" all tiles are looked at
    once before the first answer, and `looked` is called with their number so far. Results do not depend on the number
    of workers or on the regions per batch. With `unreadable` a tile whose pixels cannot be read is not measured anywhere, and
    is put there with the reason, before it comes.
    """
    if model.spec.task == "classify":
        raise ModelError(f"{model.spec.name} gives one answer for a whole scene: use xtgeo.classify")
    plan = plan or globals()["plan"](scene, model, device=device, dtype=dtype, max_memory=max_memory, context=context)
    scene, engine = adapt(scene, model.spec).with_cache(plan.cache), plan.engine
    wanted = (tile for tile in plan.nest if tiles is None or tile.index in tiles)
    ready = prepare(model, engine)
    told = meet(ready, plan, _look(scene, ready, plan, looked)) if plan.context == "scene" else None

    def work(block: Block | None, tile: Tile) -> Block:
        return answer(ready, block, tile, scene.bands, None if told is None else told[tile.core])

    yield from _stream(scene, wanted, engine, work, unreadable)


def classify(
    scene: Scene,
    model: Model,
    *,
    device: str = "auto",
    dtype: str = "auto",
    max_memory: int | None = None,
    looked: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Probabilities in 0..1 of the classes of a whole scene, by a model of task "classify"; the likeliest first.

    Tokens of every tile meet in the context encoder, whatever the scene's size; `looked(tiles done, tiles in all)` is called
    after each tile. Raises ModelError for a model that does something else or does not fit the scene.
    """
    spec = model.spec
    if spec.task != "classify":
        raise ModelError(f"{spec.name} is a model of task {spec.task}, not classify: take another model")
    how = plan(scene, model, device=device, dtype=dtype, max_memory=max_memory, context="scene")
    scene, engine = adapt(scene, spec).with_cache(how.cache), how.engine
    ready = prepare(model, engine)
    tokens = _look(scene, ready, how, None if looked is None else lambda n: looked(n, len(how.nest)))
    if not tokens.mask.any():
        raise SceneError(f"{scene.id} holds no valid pixel: check the file, or name its nodata value with --nodata")
    with _all_threads(engine), torch.inference_mode():
        seen, mask = tokens.tokens[None].to(engine.device), tokens.mask[None].to(engine.device)
        logits = ready.net.head(ready.net.context.encoder.classify(seen, mask))[0].float().cpu()
    p = logits.sigmoid() if spec.activation == "sigmoid" else logits.softmax(0)
    return dict(sorted(zip(spec.classes, p.tolist(), strict=True), key=lambda entry: -entry[1]))


def _look(scene: Scene, model: Model, plan: Plan, looked: Callable[[int], None] | None) -> Tokens:
    """The first pass: tokens of every tile."""
    tokens = no_tokens(model, plan)

    def work(block: Block | None, tile: Tile) -> None:
        if block is not None:
            tokens.put(tile.core, *look(model, block, scene.bands))

    for n, _ in enumerate(_stream(scene, plan.nest, plan.engine, work), 1):
        if looked:
            looked(n)
    return tokens


def no_tokens(model: Model, plan: Plan) -> Tokens:
    """Room for the tokens of a scene."""
    return Tokens(plan.nest, model.spec.context_stride, model.spec.context_dim, DTYPES[plan.engine.dtype])


def look(model: Model, block: Block, bands: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """What a prepared model sees in a tile: tokens (d, y, x) and which of them saw a valid pixel (y, x)."""
    with torch.inference_mode():
        seen, mask = model.tokens(*(t.to(model.mean.device) for t in _tensors(model, block, bands)))
    return seen[0], mask[0]


def meet(model: Model, plan: Plan, tokens: Tokens) -> Told:
    """Between the passes: what all tokens tell each other."""
    with _all_threads(plan.engine), torch.inference_mode():
        return Told(tokens, model.net.context.encoder, model.mean.device)


@contextmanager
def _all_threads(engine: Engine) -> Iterator[None]:
    """All of the engine's threads for one computation."""
    threads = torch.get_num_threads()
    torch.set_num_threads(engine.threads * engine.workers)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _stream(
    scene: Scene,
    tiles: Iterable[Tile],
    engine: Engine,
    work: Callable[[Block | None, Tile], T],
    unreadable: dict[int, str] | None = None,
) -> Iterator[T]:
    """`work` on every tile's pixels (None where there is none to see), in forward threads; results in the tiles' order."""
    stop = threading.Event()
    with (
        ThreadPoolExecutor(READERS, "xtgeo-read") as readers,
        ThreadPoolExecutor(engine.workers, "xtgeo-forward", torch.set_num_threads, (engine.threads,)) as workers,
    ):
        pending: deque[Future[T]] = deque()
        try:
            for tile in tiles:
                block = readers.submit(lambda tile=tile: None if stop.is_set() else read(scene, tile, unreadable))
                pending.append(workers.submit(lambda block=block, tile=tile: work(block.result(), tile)))
                while len(pending) > engine.workers + AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            stop.set()
            for future in pending:
                future.cancel()


def read(scene: Scene, tile: Tile, unreadable: dict[int, str] | None = None) -> Block | None:
    """The tile's pixels; None where there is none to see, and with `unreadable`, which gets the reason, where it cannot be read."""
    try:
        if not scene.maybe_valid(tile.core):
            return None
        block = scene.read(tile.full)
    except SceneError as e:
        if unreadable is None:
            raise
        unreadable[tile.index] = str(e)
        return None
    m = tile.core.y - tile.full.y
    return block if block.valid[m : m + tile.core.h, m : m + tile.core.w].any() else None


def answer(model: Model, block: Block | None, tile: Tile, bands: tuple[str, ...], news: torch.Tensor | None) -> Block:
    """What a prepared model says of the core of a tile, whose tokens heard `news` from the rest of the scene, if anything."""
    core, f, k = tile.core, model.cell_px, model.spec.answers
    cells = Window(core.y // f, core.x // f, -(-core.h // f), -(-core.w // f))
    if block is None:
        return Block(cells, np.zeros((k, *cells.shape), np.float32), np.zeros(cells.shape, bool))
    m = core.y - tile.full.y
    valid = block.valid[m : m + core.h, m : m + core.w]
    if f > 1:  # a cell is measured where one of its pixels is
        padded = np.pad(valid, ((0, -core.h % f), (0, -core.w % f)))
        valid = padded.reshape(cells.h, f, cells.w, f).any(axis=(1, 3))
    scores = run(model, *_tensors(model, block, bands), news)[0].numpy()
    scores = scores[-k:]  # softmax: channel 0 is the background
    scores *= valid
    return Block(cells, scores, valid)


def _tensors(model: Model, block: Block, bands: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """(1, c, y, x) and (1, y, x); a band that the scene lacks is its mean everywhere, which the network sees as 0."""
    valid = torch.from_numpy(block.valid)[None]
    have = [band.lower() for band in bands]
    wanted = [band.lower() for band in model.spec.bands]
    if have == wanted:
        return torch.from_numpy(block.data)[None], valid
    data = torch.empty((1, len(wanted), *block.valid.shape))
    for i, band in enumerate(wanted):
        data[0, i] = torch.from_numpy(block.data[have.index(band)]) if band in have else model.spec.mean[i]
    return data, valid


def _piece(scene: Scene, model: Model) -> tuple[torch.Tensor, torch.Tensor]:
    """A region from the middle of the scene, as the network will see it."""
    nest = Nest(scene.shape, model.spec.region, 1, model.spec.margin)
    tile = nest[(nest.grid[0] // 2) * nest.grid[1] + nest.grid[1] // 2]
    return _tensors(model, scene.read(tile.full), scene.bands)
