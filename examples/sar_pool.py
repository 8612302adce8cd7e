"""A pool of simulated Sentinel-1 scenes on disk, from which several networks learn side by side on one GPU.

    python examples/sar_pool.py POOL --workers 12
    python examples/train_points_sar.py none --start points-sar --pool POOL --steps 1200 --every 200 --seed 5 --keep KEPT
    python examples/train_points_sar.py points-sar.safetensors --start points-sar --steps 1200 --seed 5 --choose KEPT
    python examples/train_vessels_sar.py ...                     # likewise
    python benchmarks/same_budget.py FOLDER --pool POOL --steps 1200

A GPU learns faster than two processors simulate, so scenes are simulated once, by many processes, and kept in the GPU's memory
(16 bits a number, 9 bytes a pixel for points): 260 scenes of 2,048 px take 10 GB. Crops are as large as a tile in use,
1,024 px, so that a ghost's ship is often in sight, two a step. What was kept is chosen among later, where processors are cheaper.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import train_points_sar as points
import train_vessels_sar as outlines

from xtgeo.model import Spec
from xtgeo.simulate import Conditions, sentinel1
from xtgeo.train import Augment, Held, Sample, crops

SIDE, BATCH = 1024, 2
LOOK = 200
"""Batches after which a pool is looked at again."""
DENSITY = (2, 20)
"""Least and most vessels per megapixel of water."""


def write(folder: Path, i: int, *, seed: int, side: int) -> None:
    """Scene i of a pool, with its truth for both tasks."""
    path = folder / f"{i:05}.npz"
    if path.exists():
        return
    rng = np.random.default_rng([seed, i])
    density = float(np.exp(rng.uniform(*np.log(DENSITY))))
    lengths = Conditions(lengths_m=(40, 400) if rng.random() < points.LONG else None)
    scene = sentinel1((side, side), seed=int(rng.integers(10**6, 2**31)), density=density, conditions=lengths)
    of = outlines.sample(scene, outlines.SPEC, rng)
    half = path.with_suffix(".part")
    with half.open("wb") as file:
        kept = {"data": of.data.astype(np.float16), "valid": of.valid, "outlines": of.target, "centres": of.centres}
        np.savez(file, planes=points.planes(scene), **kept)
    half.rename(path)


def pooled(folder: Path, spec: Spec, augment: Augment, seed: int, side: int = SIDE) -> Iterator[tuple[torch.Tensor, ...]]:
    """Batches of crops from a pool, which is held on a GPU where there is one; scenes that are still written are taken up."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    target = "planes" if spec.task == "detect" else "outlines"
    pool: dict[Path, Held] = {}
    rng = np.random.default_rng(seed)
    while True:
        for path in sorted(set(folder.glob("*.npz")) - pool.keys()):
            with np.load(path) as scene:
                pool[path] = Held(Sample(scene["data"], scene["valid"], scene[target], scene["centres"]), device)
        if not pool:
            raise SystemExit(f"there is no scene in {folder}: make some with examples/sar_pool.py {folder}")
        some = crops(list(pool.values()), side + 2 * spec.margin, BATCH, rng, centred=0.8, augment=augment)
        for _ in range(LOOK):
            yield next(some)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--scenes", type=int, default=260)
    parser.add_argument("--side", type=int, default=2048, help="Of a scene, in pixels.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    args.pool.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with ProcessPoolExecutor(args.workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as workers:
        for _ in workers.map(partial(write, args.pool, seed=args.seed, side=args.side), range(args.scenes)):
            pass
    print(f"{args.scenes} scenes in {args.pool}, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
