"""Engine: how a model is run on this machine, chosen by a short measurement instead of by rule.

bf16 is twice as fast as fp32 on one CPU and slower on the next; one thread per tile beats two threads per operation
here and not there; glibc's allocator costs a third of some networks' time. So: try, on a piece of the real scene.

What changes results, the number format, is chosen by processor time in one thread: another program that runs at the same
time lengthens the wall time, but hardly that.
"""

from __future__ import annotations

import copy
import os
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xtgeo.allocator import keep_freed_memory
from xtgeo.errors import ModelError
from xtgeo.model import Model, fold_batchnorm
from xtgeo.model.precision import bf16_pays
from xtgeo.model.xt import Nested

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
WORTH = 0.9
"""A choice other than the plain one must take at most this share of its time: what is not clearly faster is noise."""
WORTH_MEMORY = 0.8
"""The same for an allocator that keeps what it frees: it can cost as much memory again."""

LONG = 0.15
"""Seconds of one trial after which it is not repeated: trials are no part of the work."""


@dataclass(frozen=True)
class Engine:
    """How tiles are computed. `dtype` and `channels_last` change results, by rounding; `threads` now and then a last digit."""

    device: str = "cpu"
    dtype: str = "fp32"
    channels_last: bool = True
    workers: int = 1
    """Tiles computed at the same time."""
    threads: int = 1
    """Threads within a tile."""
    batch: int = 1
    """Regions of equal size in one pass through the encoder."""
    keep_memory: bool = True
    """Whether the allocator keeps what it frees."""


def pick_device(name: str) -> str:
    """"auto", "cpu" or "cuda" -> the device that is used; refused where there is no such device."""
    if name not in ("auto", "cpu", "cuda"):
        raise ModelError(f"unknown device {name!r}; choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("no CUDA device is available to torch; use --device cpu or see `xtgeo doctor`")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def prepare(model: Model, engine: Engine) -> Model:
    """A copy of the model for inference: batch normalisation folded, weights in the engine's format, on its device."""
    ready = copy.deepcopy(model).eval()
    with torch.inference_mode():
        ready = fold_batchnorm(ready)
        ready.net.to(engine.device, DTYPES[engine.dtype])
        if engine.channels_last:
            ready.net.to(memory_format=torch.channels_last)
        ready.channels_last = engine.channels_last
        if isinstance(ready.net, Nested):
            ready.net.batch = engine.batch
        return ready.to(engine.device)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_engine(
    model: Model, data: Tensor, valid: Tensor, *, device: str = "auto", dtype: str = "auto", parallel: bool = True
) -> Engine:
    """The fastest engine for a piece of a scene, data (1, c, y, x) and valid (1, y, x), about one region.

    Tried in turn, each kept if clearly faster: bf16, if one convolution is; the allocator; all cores on one tile at a time
    instead of a tile for each (which does not wait for the slowest thread; not if `parallel` is False). The allocator is left
    as chosen. Nothing is tried with a network without weights: it has no number format but its own.
    """
    if dtype not in ("auto", *DTYPES):
        raise ModelError(f"unknown dtype {dtype!r}; choose auto, {' or '.join(DTYPES)}")
    device, n = pick_device(device), cores()
    if next(model.net.parameters(), None) is None:
        if dtype == "bf16":
            raise ModelError(f"{model.spec.name} has no weights that could be bf16; leave --dtype out")
        workers = n if device == "cpu" and parallel else 1
        return Engine(device, "fp32", False, workers, keep_memory=keep_freed_memory())
    if device == "cuda":
        fast = bf16_pays("cuda") if dtype == "auto" else dtype == "bf16"
        return Engine("cuda", "bf16" if fast else "fp32", True, 1, n, 16, False)
    keep_freed_memory(False)  # an earlier run in this process may have set it: every choice starts from the same place
    best = Engine("cpu", "fp32" if dtype == "auto" else dtype, True, 1, 1, keep_memory=False)
    ready = prepare(model, best)
    took = _cost(ready, best, data, valid)
    if dtype == "auto" and bf16_pays():
        other = replace(best, dtype="bf16")
        short = prepare(model, other)
        seconds = _cost(short, other, data, valid)
        if seconds < WORTH * took:
            best, ready, took = other, short, seconds
    if keep_freed_memory():
        if _cost(ready, best, data, valid) < WORTH_MEMORY * took:
            best = replace(best, keep_memory=True)
        else:
            keep_freed_memory(False)
    threaded, parted = replace(best, threads=n), replace(best, workers=n)
    if not parallel or n == 1:
        return threaded
    together, apart = (_seconds(ready, engine, data, valid) for engine in (threaded, parted))
    return threaded if together < WORTH * apart else parted


def _cost(ready: Model, engine: Engine, data: Tensor, valid: Tensor) -> float:
    """Processor seconds per piece in one thread."""

    def once() -> float:
        begin = time.thread_time()
        run(ready, data, valid)
        return time.thread_time() - begin

    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(engine.threads,)) as pool:
        return _best(lambda: pool.submit(once).result())


def _seconds(ready: Model, engine: Engine, data: Tensor, valid: Tensor) -> float:
    """Seconds per piece with all workers busy."""
    with ThreadPoolExecutor(engine.workers, initializer=torch.set_num_threads, initargs=(engine.threads,)) as pool:

        def once() -> float:
            begin = time.perf_counter()
            list(pool.map(lambda _: run(ready, data, valid), range(engine.workers)))
            return (time.perf_counter() - begin) / engine.workers

        return _best(once)


def _best(once: Callable[[], float], most: int = 2) -> float:
    """The least of some trials, of which the first pays for what is set up once; of one where it is long."""
    times = [once()]
    while len(times) < most and sum(times) < LONG:
        times.append(once())
    return min(times)


def run(model: Model, data: Tensor, valid: Tensor, told: Tensor | None = None) -> Tensor:
    """One forward pass of a prepared model: probabilities (b, k, h, w) float32 on the CPU."""
    with torch.inference_mode():
        device = model.mean.device
        return model(data.to(device), valid.to(device), None if told is None else told.to(device)).cpu()


class _Peak(TorchDispatchMode):
    """Counts the bytes of tensors that are alive at once."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.seen: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in tree_leaves(out):
            if isinstance(t, Tensor) and (storage := t.untyped_storage()) not in self.seen:
                self.seen.add(storage)
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._free, storage.nbytes())
        return out

    def _free(self, size: int) -> None:
        self.now -= size


def forward_bytes(model: Model, engine: Engine, shape: tuple[int, int]) -> int:
    """Bytes that one forward pass over (h, w) pixels, margin included, holds at its peak; nothing is computed.

    The network runs on torch's meta device, where tensors have sizes and no content. A network that cannot is an
    error that says so: without the figure a limit on memory is no promise.
    """
    shadow = prepare(model, Engine("cpu", engine.dtype, engine.channels_last))
    data = torch.empty((1, len(model.spec.bands), *shape), device="meta")
    valid = torch.empty((1, *shape), dtype=torch.bool, device="meta")
    return _peak(shadow, model.spec.name, data, valid)


def context_bytes(model: Model, engine: Engine, grid: tuple[int, int]) -> tuple[int, int]:
    """Bytes of a (Y, X) grid of tokens and of what they are told, and those that the context encoder holds besides at its peak."""
    encoder, dtype = copy.deepcopy(model.net.context.encoder).to(DTYPES[engine.dtype]), DTYPES[engine.dtype]
    tokens = torch.empty((1, model.spec.context_dim, *grid), dtype=dtype, device="meta")
    mask = torch.empty((1, *grid), dtype=torch.bool, device="meta")
    return 2 * tokens.nbytes, _peak(encoder, model.spec.name, tokens, mask)


def _peak(module: nn.Module, name: str, *inputs: Tensor) -> int:
    try:
        with torch.inference_mode(), _Peak() as peak:
            module.to("meta")(*inputs)
    except (RuntimeError, NotImplementedError) as e:
        raise ModelError(
            f"the memory of {name} cannot be planned, it does not run on torch's meta device: {str(e).splitlines()[0]}"
        ) from e
    return peak.most
