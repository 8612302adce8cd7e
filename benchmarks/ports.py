"""Sentinel-2 ports that a model has not seen: trained on the others, fold by fold, every port judged once.

    python benchmarks/ports.py FOLDER KEEP [--folds 5] [--steps 800] [--batch 2] [--dark 0.03] [--networks attention none unet]

FOLDER holds sen2ships, see examples/train_vessels_s2.py, whose recipe this is. All networks cost the same (5.4 to 5.6 GFLOP for
544 x 544 px) and have one region encoder, which starts from that of `vessels-sar`: simulated radar, no port. `--folds 10` leaves
one port out at a time. The threshold is 0.55, the middle of those that the recipe tries, for every fold: nothing is chosen on what
is judged but for the batch, which was tried on the first fold, and the least area, which is that of the recipe.

Each fold's figures are kept in KEEP, where they are found again (another recipe needs another folder): folds may be computed one
by one (`--only`), or by several processes. Prints one JSON object of the networks whose folds are complete: object F1 and pixel
IoU of each port, their mean and standard deviation over ports, and F1 over all vessels together; "rule" is what is bright in the
near infrared beside water.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accuracy import bright_on_water
from torch import nn

from xtgeo import Block
from xtgeo.allocator import keep_freed_memory
from xtgeo.evaluate import match_objects
from xtgeo.model import Model, Spec, build
from xtgeo.model.weights import weights_path
from xtgeo.train import Augment, answer, crops, fit
from xtgeo.train.raster import burn, outlines

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import train_vessels_s2 as recipe  # noqa: E402

THRESHOLD = 0.55
BACKBONE, START = "mobilenetv4_conv_small", "vessels-sar"


def network(name: str, spec: Spec) -> Model:
    """xT with a context encoder or "none", or "unet": segmentation_models_pytorch's; all with one region encoder."""
    torch.manual_seed(0)
    spec = replace(spec, context="none" if name == "unet" else name)
    known = weights_path(START)
    if name != "unet":
        return Model(build(spec, weights=known), spec)
    from segmentation_models_pytorch import Unet

    net = Unet(f"tu-{BACKBONE}", 4, None, decoder_channels=(48, 24, 12, 6), in_channels=len(spec.bands), classes=1)
    nn.init.constant_(net.segmentation_head[0].bias, -2.0)
    start = build(spec, weights=known).regions.net.state_dict()
    lost = net.encoder.model.load_state_dict(start, strict=False).unexpected_keys  # it has deeper stages, which it does not use
    assert not lost
    return Model(net, replace(spec, backbone="", stride=32, margin=32))


def vessels_of(model: Model, block: Block) -> np.ndarray:
    """Where the model sees vessels: (y, x)."""
    p = answer(model, torch.from_numpy(block.data), torch.from_numpy(block.valid))[0].numpy()
    return (p >= THRESHOLD) & block.valid


def judge(said: np.ndarray, port: tuple) -> dict[str, float]:
    block, vessels, pixel_m2 = port
    true = (burn(vessels, block.valid.shape) == 1) & block.valid
    match = match_objects(outlines(said, recipe.SPEC.min_area / pixel_m2), vessels)
    return {
        "pairs": len(match.pairs),
        "found": match.found,
        "true": match.true,
        "f1": round(2 * len(match.pairs) / max(1, match.found + match.true), 3),
        "iou": round(float((said & true).sum() / max(1, (said | true).sum())), 3),
    }


def fold(name: str, spec: Spec, ports: dict[str, tuple], apart: list[str], steps: int, batch: int) -> dict[str, dict]:
    model, rng = network(name, spec), np.random.default_rng(0)
    spec = model.spec
    samples = recipe.held([recipe.sample(*port[:2], spec, rng) for key, port in ports.items() if key not in apart])
    augment = Augment(turn=180, scale=1.4, mirror=True, gain=0.15, shift=0.35, noise=0.1)
    batches = crops(samples, recipe.SIDE + 2 * spec.margin, batch, rng, centred=0.85, augment=augment)
    trained = fit(model, batches, steps=steps, lr=2e-3, average=0.99)
    return {key: judge(vessels_of(trained, ports[key][0]), ports[key]) for key in apart}


def mean(values: list[float]) -> dict[str, float]:
    """Over ports."""
    return {"mean": round(float(np.mean(values)), 3), "sd": round(float(np.std(values, ddof=1)), 3)}


def summary(ports: dict[str, dict]) -> dict:
    pairs, found, true = (sum(port[key] for port in ports.values()) for key in ("pairs", "found", "true"))
    means = {key: mean([port[key] for port in ports.values()]) for key in ("f1", "iou")}
    return means | {"f1_all_vessels": round(2 * pairs / (found + true), 3), "ports": ports}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("keep", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--dark", type=float, help="Level that the darkest of each port are brought to; default: left alone.")
    parser.add_argument("--networks", nargs="*", default=["attention", "none", "unet"])
    parser.add_argument("--only", nargs="+", type=int, help="Folds to compute now; default: all.")
    args = parser.parse_args()
    keep_freed_memory()
    args.keep.mkdir(parents=True, exist_ok=True)
    spec = replace(recipe.SPEC, backbone=BACKBONE, head_dim=64, dark=() if args.dark is None else (args.dark,) * 5)
    ports = {tif.stem: recipe.read_port(tif, spec) for tif in sorted(args.folder.glob("*.tif"))}
    report: dict = {"steps": args.steps, "batch": args.batch, "dark": args.dark, "folds": args.folds, "threshold": THRESHOLD}
    report["rule"] = summary({key: judge(bright_on_water(port[0]), port) for key, port in ports.items()})
    for name in args.networks:
        judged: dict[str, dict] = {}
        for i in range(args.folds):
            dark = "" if args.dark is None else f"-dark-{args.dark:g}"
            kept = args.keep / f"{name}-{args.steps}x{args.batch}{dark}-{i}-of-{args.folds}.json"
            if not kept.exists() and i in (args.only or range(args.folds)):
                figures = fold(name, spec, ports, list(ports)[i :: args.folds], args.steps, args.batch)
                half = kept.with_suffix(".part")
                half.write_text(json.dumps(figures))
                half.rename(kept)
                print(name, i, figures, file=sys.stderr, flush=True)
            judged |= json.loads(kept.read_text()) if kept.exists() else {}
        if judged.keys() == ports.keys():
            report[name] = summary(judged)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
