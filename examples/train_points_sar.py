"""Trains the bundled model `points-sar`: centres of objects in Sentinel-1 scenes, whether they are vessels, fish, and how long.

    python examples/train_points_sar.py first.safetensors
    python examples/train_points_sar.py points-sar.safetensors --start first.safetensors --steps 1100 --every 275 --seed 1

On simulated scenes alone. Encoder, context and head start from `vessels-sar`, which knows already what stands out from the sea.
Half an hour on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import train_vessels_sar as outlines

from xtgeo.allocator import keep_freed_memory
from xtgeo.evaluate import match_points
from xtgeo.model import Model, Spec, build, load_model, load_spec, save_model
from xtgeo.peaks import find_peaks, merge_peaks
from xtgeo.scene import Block
from xtgeo.simulate import SimulatedScene, sentinel1
from xtgeo.train import Augment, Sample, answer, centre_loss, centre_planes, fit, from_crops
from xtgeo.train.raster import burn
from xtgeo.window import Window

SPEC = replace(outlines.SPEC, name="points-sar", task="detect", threshold=0.5, separation=60.0, min_area=0.0, measures=True)
NEAR_PX = 20.0
"""200 m: within it a point is the object's, as in xView3."""
LONG = 0.5
"""Share of scenes with long vessels: elsewhere too few are long enough to learn that they have one centre."""
THRESHOLDS = (0.3, 0.4, 0.45, 0.5, 0.55, 0.6)


def sample(scene: SimulatedScene, spec: Spec, rng: np.random.Generator) -> Sample:
    """As for outlines; fixed objects are objects too."""
    return replace(outlines.sample(scene, spec, rng), target=planes(scene))


def planes(scene: SimulatedScene) -> np.ndarray:
    """Target of `centre_loss`. What nobody can see is neither right nor wrong."""
    seen = [s for s in scene.ships if s.detectable]
    hidden = burn([], scene.valid.shape, ignored=[s.outline for s in scene.ships if not s.detectable]) > 0
    return centre_planes(
        scene.valid.shape,
        [s.row for s in seen],
        [s.column for s in seen],
        vessel=[s.is_vessel for s in seen],
        fishing=[s.is_fishing for s in seen],
        length_m=[s.length_m if s.is_vessel else None for s in seen],
        ignored=hidden,
    )


def score(model: Model, scenes: list[SimulatedScene]) -> dict[float, dict[str, float]]:
    """By threshold: precision, recall and F1 of detectable objects, and what is said of those that were found."""
    radius = round(model.spec.separation / model.spec.gsd / model.cell_px)
    totals = {t: {"pairs": 0, "found": 0, "true": 0, "vessel": [], "fishing": [], "length": []} for t in THRESHOLDS}
    for scene in scenes:
        said = answer(model, torch.from_numpy(scene.data), torch.from_numpy(scene.valid)).numpy()
        valid = scene.valid.reshape(said.shape[1], model.cell_px, said.shape[2], model.cell_px).any(axis=(1, 3))
        block = Block(Window(0, 0, *said.shape[1:]), said, valid)
        peaks = merge_peaks([find_peaks(block, threshold=THRESHOLDS[0], radius=radius, stride=model.cell_px)], radius=radius)
        for threshold, total in totals.items():
            found = peaks[peaks.score >= threshold]
            true = np.array([(s.row, s.column) for s in scene.ships])
            match = match_points(np.stack([found.row, found.column], 1), true, within=NEAR_PX)
            right = [(a, scene.ships[b]) for a, b in match.pairs if scene.ships[b].detectable]
            total["pairs"] += len(right)
            total["found"] += match.found - (len(match.pairs) - len(right))
            total["true"] += sum(s.detectable for s in scene.ships)
            total["vessel"] += [(found.vessel[a] >= 0.5) == ship.is_vessel for a, ship in right]
            vessels = [(a, ship) for a, ship in right if ship.is_vessel]
            total["fishing"] += [(found.fishing[a] >= 0.5) == ship.is_fishing for a, ship in vessels]
            total["length"] += [abs(found.length[a] - ship.length_m) / ship.length_m for a, ship in vessels]
    return {
        threshold: {
            "precision": round(t["pairs"] / max(1, t["found"]), 3),
            "recall": round(t["pairs"] / max(1, t["true"]), 3),
            "f1": round(2 * t["pairs"] / max(1, t["found"] + t["true"]), 3),
            "vessel_right": round(float(np.mean(t["vessel"] or [0])), 3),
            "fishing_right": round(float(np.mean(t["fishing"] or [0])), 3),
            "length_error_median": round(float(np.median(t["length"] or [1])), 3),
            "objects": t["true"],
        }
        for threshold, t in totals.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--start", default="vessels-sar", help="Model whose encoder, context and head are taken.")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=375)
    parser.add_argument("--pool", type=Path, help="Scenes of sar_pool.py, in larger crops; default: new ones all the time.")
    parser.add_argument("--keep", type=Path, help="Weights of every look go to this folder, and nothing is chosen.")
    parser.add_argument("--choose", type=Path, help="Nothing is trained: the best of those that were kept in this folder.")
    args = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(args.seed)
    model = Model(build(SPEC), SPEC)
    theirs, own = load_model(args.start).net.state_dict(), model.net.state_dict()
    model.net.load_state_dict({k: v for k, v in theirs.items() if v.shape == own[k].shape}, strict=False)
    if load_spec(args.start).task != SPEC.task:
        torch.nn.init.constant_(model.net.head.answer.bias[:1], -4.0)  # centres are rare
    chosen_on = [] if args.keep else [sentinel1((1536, 1536), seed=900 + i) for i in range(32)]
    best = {"f1": -1.0}

    def report(step: int, loss: float, model: Model) -> None:
        for threshold, figures in score(model, chosen_on).items():
            print(json.dumps({"step": step, "loss": round(loss, 4), "threshold": threshold, **figures}), flush=True)
            if step > args.steps // 2 and figures["f1"] > best["f1"]:
                provenance = {
                    "data": "simulated Sentinel-1 scenes of xtgeo.simulate.sentinel1, nothing else",
                    "script": "examples/train_points_sar.py",
                    "started_from": args.start,
                    "seed": args.seed,
                    "steps": args.steps,
                    "chosen_at_step": step,
                    "chosen_on": {"scenes": "1536 x 1536, seeds 900 to 931", **figures},
                }
                best.update(figures)
                final = Model(model.net, replace(SPEC, threshold=threshold, provenance=provenance))
                save_model(final, args.out, dtype=torch.float16)

    if args.choose:
        for file in sorted(args.choose.glob("*.safetensors")):
            report(int(file.stem), 0.0, load_model(file))
        return
    augment = Augment(reverse=True, gain=0.05, shift=0.25, noise=0.05, missing=(0.2, 0.2))
    if args.pool:
        from sar_pool import pooled

        stream = pooled(args.pool, SPEC, augment, args.seed + 3)
    else:
        stream = outlines.batches(SPEC, augment, args.seed + 3, (2, 16), sample=sample, long=LONG)
    looks = outlines.keep(args.keep) if args.keep else report
    fit(model, stream, steps=args.steps, lr=1.5e-3, learn=from_crops(centre_loss), every=args.every, report=looks)


if __name__ == "__main__":
    main()
