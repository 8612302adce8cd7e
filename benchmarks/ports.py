"""Sentinel-2 ports that a model has not seen: trained on the others, fold by fold, every port judged once.

    python benchmarks/ports.py FOLDER [--folds 5] [--steps 3000] [--side 384] [--networks attention none unet]

FOLDER holds sen2ships, see examples/train_vessels_s2.py, whose recipe this is, from fresh weights. `--folds 10` leaves one port
out at a time. The threshold is the one that was fixed beforehand, 0.55, not chosen on what is judged. Prints one JSON object:
object F1 and pixel IoU of each port, their mean and standard deviation over ports, and F1 over all vessels together.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from xtgeo.allocator import keep_freed_memory
from xtgeo.evaluate import match_objects
from xtgeo.model import Model, build
from xtgeo.train import Augment, answer, crops, fit
from xtgeo.train.raster import burn, outlines

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import train_vessels_s2 as recipe  # noqa: E402

THRESHOLD = 0.55


def network(name: str) -> Model:
    """xT with a context encoder or "none", or "unet": segmentation_models_pytorch's; all with one region encoder."""
    torch.manual_seed(0)
    spec = replace(recipe.SPEC, backbone=BACKBONE, head_dim=64, context="none" if name == "unet" else name)
    known = weights_path(START)
    if name != "unet":
        return Model(build(spec, weights=known), spec)
    from segmentation_models_pytorch import Unet

    net = Unet(f"tu-{BACKBONE}", 4, None, decoder_channels=(48, 24, 12, 6), in_channels=len(spec.bands), classes=1)
    nn.init.constant_(net.segmentation_head[0].bias, -2.0)
    net.encoder.model.load_state_dict(build(spec, weights=known).regions.net.state_dict())
    return Model(net, replace(spec, backbone="", stride=32, margin=32))


def judge(model: Model, port: tuple) -> dict[str, float]:
    block, vessels, pixel_m2 = port
    p = answer(model, torch.from_numpy(block.data), torch.from_numpy(block.valid))[0].numpy()
    said, true = (p >= THRESHOLD) & block.valid, (burn(vessels, block.valid.shape) == 1) & block.valid
    match = match_objects(outlines(said, model.spec.min_area / pixel_m2), vessels)
    return {
        "pairs": len(match.pairs),
        "found": match.found,
        "true": match.true,
        "f1": round(2 * len(match.pairs) / max(1, match.found + match.true), 3),
        "iou": round(float((said & true).sum() / max(1, (said | true).sum())), 3),
    }


def fold(name: str, ports: dict[str, tuple], apart: list[str], steps: int, side: int) -> dict[str, dict]:
    model, rng = network(name), np.random.default_rng(0)
    spec = model.spec
    samples = [recipe.sample(*port[:2], spec, rng) for key, port in ports.items() if key not in apart]
    augment = Augment(turn=180, scale=1.4, mirror=True, gain=0.15, shift=0.35, noise=0.1)
    batches = crops(samples, side + 2 * spec.margin, recipe.BATCH, rng, centred=0.85, augment=augment)
    trained = fit(model, batches, steps=steps, lr=2e-3, average=0.99)
    return {key: judge(trained, ports[key]) for key in apart}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--side", type=int, default=recipe.SIDE, help="Of a crop in pixels, without its margin.")
    parser.add_argument("--networks", nargs="+", default=["attention", "none", "unet"])
    args = parser.parse_args()
    keep_freed_memory()
    ports = {tif.stem: recipe.read_port(tif) for tif in sorted(args.folder.glob("*.tif"))}
    report: dict = {"steps": args.steps, "side": args.side, "folds": args.folds, "threshold": THRESHOLD}
    for name in args.networks:
        judged: dict[str, dict] = {}
        for i in range(args.folds):
            judged |= fold(name, ports, list(ports)[i :: args.folds], args.steps, args.side)
            print(name, i, judged, file=sys.stderr, flush=True)
        pairs, found, true = (sum(port[key] for port in judged.values()) for key in ("pairs", "found", "true"))
        f1, iou = (np.array([port[key] for port in judged.values()]) for key in ("f1", "iou"))
        report[name] = {
            "ports": judged,
            "f1": {"mean": round(float(f1.mean()), 3), "sd": round(float(f1.std(ddof=1)), 3)},
            "iou": {"mean": round(float(iou.mean()), 3), "sd": round(float(iou.std(ddof=1)), 3)},
            "f1_all_vessels": round(2 * pairs / (found + true), 3),
        }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
