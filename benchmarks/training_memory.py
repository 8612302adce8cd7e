"""Peak memory of one training step against the side of the image: plain, with activation checkpointing, and exact by tiles.

    python benchmarks/training_memory.py [--sides 512 1024 2048 4096 8192] [--backbone convnext_atto] [--most 16]
    python benchmarks/training_memory.py --device cuda --most 70 --span 4 --sides 1024 2048 4096 8192 16384

Prints one JSON object: for each way and side the gigabytes that a step takes over those held before it, the size of its token
store (tokens, what they were told, and the gradient of either: an exact step holds three such arrays at a time), and its seconds;
"not tried" from the first side on whose predecessor leads one to expect more than `--most` GB. Each case runs in a process of its
own, with a C library that gives freed memory back at once, so that what counts is what a step holds and not what it has left in
pieces. On a GPU it is the device's memory that counts, and the noise that stands for pixels is made there. The picture is the one
that xT (arXiv 2403.01915) is known for, with gradients that are not cut.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import psutil
import torch
import torch.nn.functional as F

from xtgeo.model import Spec, build
from xtgeo.train.exact import dense_step
from xtgeo.window import Nest, Tile

WAYS = ("plain", "checkpointing", "exact")
SPEC = Spec(
    name="memory",
    bands=("vv", "vh"),
    units="db",
    mean=(0.0, 0.0),
    std=(1.0, 1.0),
    gsd=10.0,
    region=256,
    span=1,
    margin=16,
    backbone="convnext_atto",
    context="attention",
    context_options={"group": 4},
)


def tile_pixels(tile: Tile, nest: Nest, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, as if it had been read from a file; beyond the image nothing."""
    valid = np.zeros(tile.full.shape, bool)
    m = nest.margin
    valid[max(0, m - tile.core.y) :, max(0, m - tile.core.x) :] = True
    valid[nest.shape[0] - tile.full.y :], valid[:, nest.shape[1] - tile.full.x :] = False, False
    if device != "cpu":
        there = torch.from_numpy(valid).to(device)[None]
        x = torch.randn(1, 2, *tile.full.shape, device=device, generator=torch.Generator(device).manual_seed(tile.index))
        return x.mul_(there), there
    x = np.random.default_rng(tile.index).standard_normal((1, 2, *tile.full.shape), np.float32) * valid
    return torch.from_numpy(x), torch.from_numpy(valid)[None]


def held_bytes(device: str) -> int:
    """Memory in use, of the device or of this process; the highest that was counted on the device so far is forgotten."""
    if device == "cpu":
        return psutil.Process().memory_info().rss
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def peak_bytes(device: str) -> int:
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def step(way: str, side: int, backbone: str, span: int, device: str) -> dict:
    """One step in this process: gigabytes over those held before, and seconds."""
    torch.manual_seed(0)
    spec = replace(SPEC, backbone=backbone, span=span)
    net = build(spec, checkpoint=way == "checkpointing").train().to(device)
    net.batch = batch(device)
    for gate in net.context.gates:
        gate.reset_parameters()
    nest = Nest((side, side), spec.region, spec.span, spec.margin)
    warm = Nest((64 if device == "cpu" else spec.region * span,) * 2, spec.region, span, spec.margin)
    dense_step(net, warm, lambda t: tile_pixels(t, warm, device), lambda y, t: F.softplus(y).sum())  # loads what is loaded once
    held, start = held_bytes(device), time.perf_counter()
    if way == "exact":
        dense_step(net, nest, lambda t: tile_pixels(t, nest, device), lambda y, t: F.softplus(y).sum() / side**2)
    else:
        whole = Nest((side, side), side, 1, spec.margin)
        F.softplus(net(*tile_pixels(whole[0], whole, device))).mean().backward()
    peak = peak_bytes(device)
    return {"gb": round((peak - held) / 1e9, 3), "seconds": round(time.perf_counter() - start, 1 if device == "cpu" else 2)}


def batch(device: str) -> int:
    """Regions per pass through the encoder, as the engine takes them."""
    return 1 if device == "cpu" else 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192])
    parser.add_argument("--backbone", default=SPEC.backbone)
    parser.add_argument("--most", type=float, default=16.0, help="Gigabytes that may be expected of a case.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--span", type=int, default=SPEC.span, help="Regions along the side of a tile of the exact step.")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--one", nargs=2, metavar=("WAY", "SIDE"), help="One case in this process.")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(step(args.one[0], int(args.one[1]), args.backbone, args.span, args.device)))
        return
    report = {"backbone": args.backbone, "region": SPEC.region, "bands": 2, "dtype": "fp32", "threads": torch.get_num_threads()}
    if args.device == "cuda":
        tf32 = torch.backends.cudnn.allow_tf32
        report |= {"device": torch.cuda.get_device_name(), "span": args.span, "batch": batch("cuda"), "tf32_convolutions": tf32}
    for way in args.ways:
        cases: dict[int, dict | str] = {}
        for side in args.sides:
            before = [(s, c["gb"]) for s, c in cases.items() if isinstance(c, dict)]
            failed = "out of memory" in cases.values()
            if failed or way != "exact" and before and before[-1][1] * (side / before[-1][0]) ** 2 > args.most:
                cases[side] = "not tried"
                continue
            command = [sys.executable, __file__, "--backbone", args.backbone, "--device", args.device, "--span", str(args.span)]
            command += ["--one", way, str(side)]
            env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
            done = subprocess.run(command, capture_output=True, text=True, env=env)
            if "OutOfMemoryError" in done.stderr:
                cases[side] = "out of memory"
                continue
            if done.returncode:
                raise SystemExit(done.stderr)
            tokens = (-(-side // SPEC.context_stride)) ** 2 * SPEC.context_dim * 4
            cases[side] = {**json.loads(done.stdout), "token_store_gb": round(3 * tokens / 1e9, 4)}
            print(way, side, cases[side], file=sys.stderr)
        measured = [(s, c["gb"]) for s, c in cases.items() if isinstance(c, dict)]
        if way != "exact" and measured:
            side, gb = measured[-1]
            report[f"largest side in {args.most:g} GB, {way}, extrapolated"] = int(side * (args.most / gb) ** 0.5)
        report[way] = {str(side): case for side, case in cases.items()}
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
