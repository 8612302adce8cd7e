"""Trains the bundled model `vessels-sar` on simulated Sentinel-1 scenes alone.

    python examples/train_vessels_sar.py first.safetensors
    python examples/train_vessels_sar.py second.safetensors --start first.safetensors --steps 3300
    python examples/train_vessels_sar.py third.safetensors --start second.safetensors --steps 6000 --seed 1
    python examples/train_vessels_sar.py vessels-sar.safetensors --start third.safetensors --steps 1100 --seed 3 --every 275

The bundled weights took the first three stages with the simulator as it was then, and the last with it as it is. First on
crowded scenes, where every crop has ships to learn from; then on scenes with as many ships as the sea has, where it learns what is
none. Three hours on two CPU cores in all. The same seed on the same machine gives the same scenes in the same order.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from xtgeo.allocator import keep_freed_memory
from xtgeo.evaluate import match_objects
from xtgeo.model import Model, Spec, build, load_model, save_model
from xtgeo.simulate import Conditions, SimulatedScene, sentinel1
from xtgeo.train import Augment, Sample, answer, crops, fit, focal_dice, from_crops
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
    head_dim=64,
    licence="Apache-2.0",
)
SIDE, BATCH, POOL, RENEW = 512, 4, 24, 12
THRESHOLDS = (0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8)


def sample(scene: SimulatedScene, spec: Spec, rng: np.random.Generator) -> Sample:
    """A simulated scene as the loop wants it: vessels nobody can see are neither right nor wrong.

    Crops are centred on vessels, as often on what looks like one (turbines, platforms, buoys, rocks, land and its edge).
    """
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (spec.mean, spec.std))
    vessels = [s for s in scene.ships if s.is_vessel]
    seen, hidden = ([s.outline for s in vessels if s.detectable is known] for known in (True, False))
    fixed = [(s.row, s.column) for s in scene.ships if not s.is_vessel]
    n = max(8, len(vessels))
    edge = np.argwhere(scene.land[1:, 1:] != scene.land[:-1, :-1])
    alike = [*pick(fixed, n // 4, rng), *pick(edge, n // 3, rng), *pick(np.argwhere(scene.land), n // 5, rng)]
    alike += pick(rocks(scene.land), n // 3, rng)
    centres = np.array([(s.row, s.column) for s in vessels] + alike).reshape(-1, 2)
    target = burn(seen, scene.valid.shape, ignored=hidden)
    return Sample((scene.data - mean) / std, scene.valid, target, centres)


def rocks(land: np.ndarray, largest: int = 100) -> list[tuple[float, float]]:
    """Centres of islands of at most `largest` pixels."""
    labels, n = ndimage.label(land, np.ones((3, 3)))
    size = np.bincount(labels.ravel(), minlength=n + 1)
    return ndimage.center_of_mass(land, labels, np.flatnonzero(size[1:] <= largest) + 1)


def pick(places, count: int, rng: np.random.Generator) -> list:
    """`count` of the places at random; none where there are none."""
    return [tuple(places[i]) for i in rng.integers(len(places), size=count)] if len(places) else []


def batches(
    spec: Spec, augment: Augment, seed: int, density: tuple[float, float], sample: Callable[..., Sample] = sample, long: float = 0.0
) -> Iterator[tuple[torch.Tensor, ...]]:
    """Crops from a pool of scenes of which one is replaced by a new one every `RENEW` batches.

    `density`: least and most vessels per megapixel of water. `sample` makes what is learnt of a scene. `long`: share of scenes
    whose vessels are 40 to 400 m long, evenly by the logarithm; in the others half are shorter than 40 m, as in xView3.
    """
    draw = np.random.default_rng(seed)

    def scene() -> Sample:
        vessels = float(np.exp(draw.uniform(*np.log(density))))
        lengths = Conditions(lengths_m=(40, 400) if draw.random() < long else None)
        drawn = sentinel1((1280, 1280), seed=int(draw.integers(10**6, 2**31)), density=vessels, conditions=lengths)
        return sample(drawn, spec, draw)

    pool = [scene() for _ in range(POOL)]
    oldest = 0
    while True:
        some = crops(pool, SIDE + 2 * spec.margin, BATCH, draw, centred=0.8, augment=augment)
        for _ in range(RENEW):
            yield next(some)
        pool[oldest % POOL] = scene()
        oldest += 1


def score(model: Model, scenes: list[SimulatedScene]) -> dict[float, dict[str, float]]:
    """Object precision, recall and F1 over detectable vessels, by threshold; found hidden ones are not counted as false."""
    counts = {threshold: np.zeros(3, int) for threshold in THRESHOLDS}
    for scene in scenes:
        p = answer(model, torch.from_numpy(scene.data), torch.from_numpy(scene.valid))[0].numpy()
        ships = [s for s in scene.ships if s.is_vessel]
        hidden = {j for j, s in enumerate(ships) if not s.detectable}
        for threshold, count in counts.items():
            shapes = outlines((p >= threshold) & scene.valid, model.spec.min_area / 100)
            match = match_objects(shapes, [s.outline for s in ships])
            matched = {j for _, j in match.pairs}
            count += len(matched - hidden), match.found - len(matched & hidden), match.true - len(hidden)
    return {
        threshold: {
            "precision": round(pairs / max(1, found), 3),
            "recall": round(pairs / max(1, true), 3),
            "f1": round(2 * pairs / max(1, found + true), 3),
            "ships": int(true),
        }
        for threshold, (pairs, found, true) in counts.items()
    }


def keep(folder: Path) -> Callable[[int, float, Model], None]:
    """A report that keeps the weights of every look, to be chosen among later."""
    folder.mkdir(parents=True, exist_ok=True)
    return lambda step, loss, model: save_model(model, folder / f"{step:06}.safetensors", dtype=torch.float16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--start", help="Weights of the stage before.")
    parser.add_argument("--steps", type=int, default=4800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backbone", default=SPEC.backbone)
    parser.add_argument("--context", default=SPEC.context)
    parser.add_argument("--head-dim", type=int, default=SPEC.head_dim)
    parser.add_argument("--every", type=int, default=500, help="Steps between looks at the chosen scenes.")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--pool", type=Path, help="Scenes of sar_pool.py, in larger crops; default: new ones all the time.")
    parser.add_argument("--keep", type=Path, help="Weights of every look go to this folder, and nothing is chosen.")
    parser.add_argument("--choose", type=Path, help="Nothing is trained: the best of those that were kept in this folder.")
    args = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    spec = replace(SPEC, backbone=args.backbone, context=args.context, head_dim=args.head_dim)
    chosen_on = [] if args.keep else [sentinel1((1536, 1536), seed=900 + i) for i in range(32)]
    best = {"f1": -1.0}

    def report(step: int, loss: float, model: Model) -> None:
        for threshold, figures in score(model, chosen_on).items():
            print(json.dumps({"step": step, "loss": round(loss, 4), "threshold": threshold, **figures}), flush=True)
            if step > args.steps // 2 and figures["f1"] > best["f1"]:
                provenance = {
                    "data": "simulated Sentinel-1 scenes of xtgeo.simulate.sentinel1, nothing else",
                    "script": "examples/train_vessels_sar.py",
                    "seed": args.seed,
                    "steps": args.steps,
                    "chosen_at_step": step,
                    "chosen_on": {"scenes": "1536 x 1536, seeds 900 to 931", **figures},
                }
                best.update(figures)
                final = Model(model.net, replace(spec, threshold=threshold, provenance=provenance))
                save_model(final, args.out, dtype=torch.float16)

    if args.choose:
        for file in sorted(args.choose.glob("*.safetensors")):
            report(int(file.stem), 0.0, load_model(file))
        return
    augment = Augment(reverse=True, gain=0.05, shift=0.25, noise=0.05, missing=(0.2, 0.2))
    model, fitting = Model(build(spec), spec), {"steps": args.steps, "every": args.every}
    if args.start:
        model.net.load_state_dict(load_model(args.start).net.state_dict())
        loss, lr, seed, density = partial(focal_dice, gamma=1.0, alpha=0.5, typical=80.0), 1.5e-3, args.seed + 1, (2, 12)
    else:
        loss, lr, seed, density = partial(focal_dice, gamma=1.5, alpha=0.6, typical=80.0), 2e-3, args.seed, (4, 60)
    if args.pool:
        from sar_pool import pooled

        stream = pooled(args.pool, spec, augment, seed)
    else:
        stream = batches(spec, augment, seed, density)
    fit(model, stream, lr=lr, learn=from_crops(loss), report=keep(args.keep) if args.keep else report, **fitting)


if __name__ == "__main__":
    main()
