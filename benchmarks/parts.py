"""What region encoders and context encoders cost, alone and together.

    python benchmarks/parts.py [--tokens 1024 4096 16384 65536] [--area 2048] [--rounds 2] [--backbones ...]
    python benchmarks/parts.py --device cuda --rounds 5 --backbones convnext_tiny --contexts attention mamba --no-tasks

Prints one JSON object. `context`: for every encoder over square grids of tokens (128 channels, depth 2, as bundled models have)
GFLOP and processor seconds in one thread. `together`: for every backbone and context the regions and megapixels a second over a
square area on all cores, fp32 and bf16, the time over that without context in the same round, and megabytes of live tensors.
`tasks`: the same for every task and head with one backbone and attention, the time over that of task "segment".

On a GPU a time ends when the device has done its work, pixels lie there, megabytes are what torch takes of its memory, and the
seconds of `context` are wall time. fp32 is torch's own there, which multiplies in TF32 in convolutions.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from xtgeo.allocator import keep_freed_memory
from xtgeo.engine import Engine, forward_bytes, prepare, run
from xtgeo.errors import ModelError
from xtgeo.model import Model, Spec, build
from xtgeo.model.context import CONTEXTS, ENCODERS, context_encoder

OPTIONS = {"attention, group 8": ("attention", {"group": 8})}
"""Besides every encoder with its own options."""
LONGEST = {"attention": 16384}
"""Tokens beyond which an encoder whose cost is quadratic is not run."""
HEADS = {
    "segment": {},
    "detect": {"task": "detect"},
    "classify": {"task": "classify", "activation": "softmax"},
    "boxes, fcos": {"task": "boxes", "head_dim": 64},
    "boxes, faster_rcnn": {"task": "boxes", "head_dim": 64, "head_options": {"head": "faster_rcnn"}},
}
BACKBONES = (
    "mobilenetv4_conv_small",
    "convnext_atto",
    "convnext_tiny",
    "convnextv2_nano",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "hiera_tiny_224",
)


def cases() -> dict[str, tuple[str, dict]]:
    return {**{name: (name, {}) for name in ENCODERS}, **OPTIONS}


def context_cost(tokens: list[int], contexts: list[str], device: str) -> dict:
    torch.set_num_threads(1)
    report: dict = {}
    for label, (name, options) in cases().items():
        if name not in contexts:
            continue
        encoder = context_encoder(name, 128, 2, spacing=640.0, options=options).eval().to(device)
        report[label] = {}
        for n in tokens:
            if n > LONGEST.get(label, n):
                continue
            side = round(n**0.5)
            x = torch.randn(1, 128, side, side, generator=torch.Generator().manual_seed(0))
            mask = torch.ones(1, side, side, dtype=torch.bool)
            x, mask = x.to(device), mask.to(device)
            with torch.inference_mode():
                if device == "cuda":
                    times = [gpu_seconds(lambda: encoder(x, mask)) for _ in range(6)]  # noqa: B023  (called at once)
                    report[label][str(n)] = {"seconds": round(statistics.median(times[1:]), 5)}
                    print(label, n, report[label][str(n)], file=sys.stderr)
                    continue
                with FlopCounterMode(display=False) as flops:
                    encoder(x, mask)
                start = time.thread_time()
                encoder(x, mask)
                seconds = time.thread_time() - start
            report[label][str(n)] = {"gflop": round(flops.get_total_flops() / 1e9, 2), "seconds": round(seconds, 3)}
            print(label, n, report[label][str(n)], file=sys.stderr)
    return report


def gpu_seconds(once: Callable[[], object]) -> float:
    """Wall time until the device has done it."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    once()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def seconds_of(ready: Model, data: torch.Tensor, valid: torch.Tensor) -> float:
    """Of one forward pass; on a GPU without the way there and back."""
    if data.is_cuda:
        with torch.inference_mode():
            return gpu_seconds(lambda: ready(data, valid))
    start = time.perf_counter()
    run(ready, data, valid)
    return time.perf_counter() - start


def live_mb(model: Model, ready: Model, engine: Engine, data: torch.Tensor, valid: torch.Tensor) -> int:
    """Of one forward pass at its peak."""
    if engine.device == "cpu":
        return round(forward_bytes(model, engine, tuple(data.shape[-2:])) / 1e6)
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    seconds_of(ready, data, valid)
    return round((torch.cuda.max_memory_allocated() - held) / 1e6)


def engine_of(device: str, dtype: str, layout: str = "channels_last") -> Engine:
    n, last = torch.get_num_threads(), layout == "channels_last"
    return Engine("cpu", dtype, last, 1, n) if device == "cpu" else Engine(device, dtype, last, 1, n, 16, False)


def together(
    backbones: list[str],
    area: int,
    rounds: int,
    dtypes: list[str],
    contexts: list[str] = list(CONTEXTS),  # noqa: B006  (only read)
    device: str = "cpu",
    layout: str = "channels_last",
) -> dict:
    report: dict = {"threads": torch.get_num_threads(), "area_px": area}
    data, valid = (t.to(device) for t in pixels(area))
    for backbone in backbones:
        for dtype in dtypes:
            engine, runs = engine_of(device, dtype, layout), {}
            for context in contexts:
                spec = Spec(**part(backbone, context, area))
                try:
                    model = Model(build(spec), spec)
                    model.net.requires_grad_(False)
                    ready = prepare(model, engine)
                    runs[context] = ready, live_mb(model, ready, engine, data, valid)
                except ModelError as e:
                    report.setdefault("refused", {})[f"{backbone} + {context}"] = str(e)
            seconds: dict[str, list[float]] = {context: [] for context in runs}
            for ready, _ in runs.values():
                seconds_of(ready, data, valid)  # the first pays for what is set up once
            for _ in range(rounds):
                for context, (ready, _) in runs.items():
                    seconds[context].append(seconds_of(ready, data, valid))
            for context, times in seconds.items():
                took = statistics.median(times)
                over = [a / b for a, b in zip(times, seconds["none"], strict=True)]
                case = {
                    "mpx_per_s": round(area**2 / 1e6 / took, 2),
                    "regions_per_s": round((area / 256) ** 2 / took, 1),
                    "over_none": round(statistics.median(over), 3),
                    "live_mb": runs[context][1],
                }
                report.setdefault(backbone, {}).setdefault(dtype, {})[context] = case
                print(backbone, dtype, context, case, file=sys.stderr)
    return report


def tasks(backbone: str, area: int, rounds: int, dtype: str = "fp32", device: str = "cpu") -> dict:
    """Of boxes with the scores of fresh weights, which leave little to choose from."""
    engine = engine_of(device, dtype)
    data, valid = (t.to(device) for t in pixels(area))
    image, runs = data[0, :, :area, :area], {}
    for label, options in HEADS.items():
        spec = Spec(**{**part(backbone, "attention", area), **options})
        ready = prepare(Model(build(spec), spec), engine)
        boxes = spec.task == "boxes"
        runs[label] = (lambda net=ready.net: net([image])) if boxes else (lambda ready=ready: run(ready, data, valid))
    seconds: dict[str, list[float]] = {label: [] for label in runs}
    with torch.inference_mode():
        for n in range(rounds + 1):  # the first pays for what is set up once
            for label, once in runs.items():
                start = time.perf_counter()
                once()
                if device == "cuda":
                    torch.cuda.synchronize()
                if n:
                    seconds[label].append(time.perf_counter() - start)
    report: dict = {"backbone": backbone, "dtype": dtype}
    for label, times in seconds.items():
        over = [a / b for a, b in zip(times, seconds["segment"], strict=True)]
        case = {
            "mpx_per_s": round(area**2 / 1e6 / statistics.median(times), 2),
            "over_segment": round(statistics.median(over), 3),
        }
        report[label] = case
        print(label, case, file=sys.stderr)
    return report


def part(backbone: str, context: str, area: int) -> dict:
    """Fields of a Spec whose tile is `area` pixels wide."""
    return {
        "name": "parts", "bands": ("vv", "vh"), "units": "db", "mean": (-16.0, -26.0), "std": (6.0, 6.0), "gsd": 10.0,
        "region": 256, "span": -(-area // 256), "margin": 16, "backbone": backbone, "context": context,
    }  # fmt: skip


def pixels(area: int) -> tuple[torch.Tensor, torch.Tensor]:
    data = torch.randn(1, 2, area + 32, area + 32, generator=torch.Generator().manual_seed(0)) * 5 - 20
    return data, torch.ones(1, area + 32, area + 32, dtype=torch.bool)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="*", default=[1024, 4096, 16384, 65536])
    parser.add_argument("--area", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--backbones", nargs="*", default=list(BACKBONES))
    parser.add_argument("--dtypes", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--contexts", nargs="+", choices=CONTEXTS, default=list(CONTEXTS), help='"none" is always among them.')
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--layout", choices=("channels_last", "contiguous"), default="channels_last")
    parser.add_argument("--no-tasks", action="store_true")
    args = parser.parse_args()
    contexts = [*(name for name in args.contexts if name != "none"), "none"]
    keep_freed_memory()
    report: dict = {"device": torch.cuda.get_device_name()} if args.device == "cuda" else {}
    report["together"] = together(args.backbones, args.area, args.rounds, args.dtypes, contexts, args.device, args.layout)
    if not args.no_tasks:
        report["tasks"] = tasks("convnext_atto", args.area, args.rounds, device=args.device)
    print(json.dumps({**report, "context": context_cost(args.tokens, contexts, args.device)}, indent=1))


if __name__ == "__main__":
    main()
