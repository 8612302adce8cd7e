"""Trains the bundled model `vessels-sar` on simulated Sentinel-1 scenes alone.

    python examples/train_vessels_sar.py first.safetensors
    python examples/train_vessels_sar.py vessels-sar.safetensors --start first.safetensors

The second stage weighs small ships up and mistakes harder. About an hour on two CPU cores in all. The same seed on the
same machine gives the same scenes in the same order.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from xtgeo.allocator import keep_freed_memory
from xtgeo.evaluate import match_objects
from xtgeo.model import Model, Spec, build, load_model, save_model
from xtgeo.simulate import SimulatedScene, sentinel1
from xtgeo.train import Augment, Sample, answer, crops, fit, focal_dice
from xtgeo.train.raster import burn, outlines

SPEC = Spec(
    name="vessels-sar",
    bands=("vv", "vh"),
    optional=("vv", "vh"),
    units="db",
    mean=(-16.4, -26.3),
    std=(6.0, 6.0),
    gsd=10.0,
    backbone="mobilenetv4_conv_small",
    context="attention",
    span=2,
    min_area=400.0,
    head_dim=32,
    licence="Apache-2.0",
)
SIDE, BATCH, POOL, RENEW = 640, 3, 24, 10


def sample(scene: SimulatedScene, spec: Spec) -> Sample:
    """A simulated scene as the loop wants it: vessels nobody can see are neither right nor wrong."""
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (spec.mean, spec.std))
    seen = [s for s in scene.ships if s.is_vessel and s.detectable]
    hidden = [s.outline for s in scene.ships if s.is_vessel and not s.detectable]
    coast = coastal_places(scene.land, 4 * max(1, len(scene.ships) // 4))
    centres = np.array([(s.row, s.column) for s in scene.ships] + coast).reshape(-1, 2)
    target = burn([s.outline for s in seen], scene.valid.shape, ignored=hidden)
    return Sample((scene.data - mean) / std, scene.valid, target, centres)


def coastal_places(land: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Places on the coast, where rocks and quays look like ships."""
    edge = np.argwhere(land[1:, 1:] != land[:-1, :-1])
    if not len(edge):
        return []
    return [tuple(p) for p in edge[np.linspace(0, len(edge) - 1, count).astype(int)]]


def batches(spec: Spec, augment: Augment, seed: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """Crops from a pool of scenes of which one is replaced by a new one every `RENEW` batches."""
    draw = np.random.default_rng(seed)

    def scene() -> Sample:
        return sample(sentinel1((1280, 1280), seed=int(draw.integers(10**6, 2**31)), density=draw.uniform(4, 16)), spec)

    pool = [scene() for _ in range(POOL)]
    oldest = 0
    while True:
        some = crops(pool, SIDE + 2 * spec.margin, BATCH, draw, centred=0.7, augment=augment)
        for _ in range(RENEW):
            yield next(some)
        pool[oldest % POOL] = scene()
        oldest += 1


def score(model: Model, scenes: list[SimulatedScene], threshold: float) -> dict[str, float]:
    """Object precision, recall and F1 over detectable vessels; found hidden ones are not counted as false."""
    pairs = found = true = 0
    for scene in scenes:
        p = answer(model, torch.from_numpy(scene.data), torch.from_numpy(scene.valid))[0].numpy()
        shapes = outlines((p >= threshold) & scene.valid, model.spec.min_area / 100)
        ships = [s for s in scene.ships if s.is_vessel]
        match = match_objects(shapes, [s.outline for s in ships])
        matched = {j for _, j in match.pairs}
        hidden = {j for j, s in enumerate(ships) if not s.detectable}
        pairs += len(matched - hidden)
        found += match.found - len(matched & hidden)
        true += match.true - len(hidden)
    return {
        "precision": round(pairs / max(1, found), 3),
        "recall": round(pairs / max(1, true), 3),
        "f1": round(2 * pairs / max(1, found + true), 3),
        "ships": true,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--start", help="Weights of the first stage; this is then the second.")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backbone", default=SPEC.backbone)
    parser.add_argument("--context", default=SPEC.context)
    parser.add_argument("--head-dim", type=int, default=SPEC.head_dim)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    spec = replace(SPEC, backbone=args.backbone, context=args.context, head_dim=args.head_dim)
    chosen_on = [sentinel1((1536, 1536), seed=900 + i) for i in range(10)]
    best = {"f1": -1.0}

    def report(step: int, loss: float, model: Model) -> None:
        for threshold in (0.3, 0.4, 0.5, 0.6, 0.7):
            figures = score(model, chosen_on, threshold)
            print(json.dumps({"step": step, "loss": round(loss, 4), "threshold": threshold, **figures}), flush=True)
            if step > args.steps // 2 and figures["f1"] > best["f1"]:
                provenance = {
                    "data": "simulated Sentinel-1 scenes of xtgeo.simulate.sentinel1, nothing else",
                    "script": "examples/train_vessels_sar.py",
                    "seed": args.seed,
                    "steps": args.steps,
                    "chosen_at_step": step,
                    "chosen_on": {"scenes": "1536 x 1536, seeds 900 to 909", **figures},
                }
                best.update(figures)
                final = Model(model.net, replace(spec, threshold=threshold, provenance=provenance))
                save_model(final, args.out, dtype=torch.float16)

    augment = Augment(reverse=True, gain=0.05, shift=0.25, noise=0.05, missing=(0.2, 0.2))
    draws = batches(spec, augment, args.seed + bool(args.start))
    model = Model(build(spec), spec)
    if args.start:
        model.net.load_state_dict(load_model(args.start).net.state_dict())
        second = partial(focal_dice, gamma=1.0, alpha=0.5, typical=80.0)
        fit(model, draws, steps=args.steps, lr=1e-3, every=250, loss=second, report=report)
    else:
        fit(model, draws, steps=args.steps, lr=2e-3, every=250, report=report)


if __name__ == "__main__":
    main()
