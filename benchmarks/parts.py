"""What region encoders and context encoders cost, alone and together.

    python benchmarks/parts.py [--tokens 1024 4096 16384 65536] [--area 2048] [--rounds 2] [--backbones ...]

Prints one JSON object. `context`: for every encoder over square grids of tokens (128 channels, depth 2, as bundled models have)
GFLOP and processor seconds in one thread. `together`: for every backbone and context the regions and megapixels a second over a
square area on all cores, fp32 and bf16, the time over that without context in the same round, and megabytes of live tensors.
`tasks`: the same for every task and head with one backbone and attention, the time over that of task "segment".
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

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


def context_cost(tokens: list[int]) -> dict:
    torch.set_num_threads(1)
    report: dict = {}
    for label, (name, options) in cases().items():
        encoder = context_encoder(name, 128, 2, spacing=640.0, options=options).eval()
        report[label] = {}
        for n in tokens:
            if n > LONGEST.get(label, n):
                continue
            side = round(n**0.5)
            x = torch.randn(1, 128, side, side, generator=torch.Generator().manual_seed(0))
            mask = torch.ones(1, side, side, dtype=torch.bool)
            with torch.inference_mode():
                with FlopCounterMode(display=False) as flops:
                    encoder(x, mask)
                start = time.thread_time()
                encoder(x, mask)
                seconds = time.thread_time() - start
            report[label][str(n)] = {"gflop": round(flops.get_total_flops() / 1e9, 2), "seconds": round(seconds, 3)}
            print(label, n, report[label][str(n)], file=sys.stderr)
    return report


def together(backbones: list[str], area: int, rounds: int, dtypes: list[str]) -> dict:
    n = torch.get_num_threads()
    report: dict = {"threads": n, "area_px": area}
    for backbone in backbones:
        for dtype in dtypes:
            engine, runs = Engine("cpu", dtype, True, 1, n), {}
            for context in CONTEXTS:
                spec = Spec(**part(backbone, context, area))
                try:
                    model = Model(build(spec), spec)
                    model.net.requires_grad_(False)
                    runs[context] = prepare(model, engine), round(forward_bytes(model, engine, (area + 32,) * 2) / 1e6)
                except ModelError as e:
                    report.setdefault("refused", {})[f"{backbone} + {context}"] = str(e)
            data, valid = pixels(area)
            seconds: dict[str, list[float]] = {context: [] for context in runs}
            for ready, _ in runs.values():
                run(ready, data, valid)  # the first pays for what is set up once
            for _ in range(rounds):
                for context, (ready, _) in runs.items():
                    start = time.perf_counter()
                    run(ready, data, valid)
                    seconds[context].append(time.perf_counter() - start)
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


def tasks(backbone: str, area: int, rounds: int, dtype: str = "fp32") -> dict:
    """Of boxes with the scores of fresh weights, which leave little to choose from."""
    engine = Engine("cpu", dtype, True, 1, torch.get_num_threads())
    data, valid = pixels(area)
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
    args = parser.parse_args()
    keep_freed_memory()
    report = {"together": together(args.backbones, args.area, args.rounds, args.dtypes)}
    report["tasks"] = tasks("convnext_atto", args.area, args.rounds)
    print(json.dumps({**report, "context": context_cost(args.tokens)}, indent=1))


if __name__ == "__main__":
    main()
