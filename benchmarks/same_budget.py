"""Three networks of equal cost on the same crops for the same number of steps: a plain U-Net, xT without context, xT with context.

    python benchmarks/same_budget.py FOLDER [--steps 1500] [--only unet none context] [--pool POOL] [--do train choose]
    python benchmarks/truth.py --models cfar FOLDER/unet.safetensors FOLDER/none.safetensors FOLDER/context.safetensors

All start from fresh weights and see the same stream of simulated scenes, the one that `points-sar` is trained on, or a pool of them
(examples/sar_pool.py), two crops of 1,024 px a step. The U-Net
(segmentation_models_pytorch) has the same encoder and a decoder that was made as narrow as it takes for the same arithmetic:
5.6 GFLOP for 544 x 544 pixels against 5.5. Prints one JSON object: figures on the scenes that choose thresholds, and the cost.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from xtgeo.model import Model, Spec, build, save_model
from xtgeo.simulate import sentinel1
from xtgeo.train import Augment, centre_loss, fit, from_crops

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import train_points_sar as recipe  # noqa: E402
import train_vessels_sar as outlines  # noqa: E402
from sar_pool import pooled  # noqa: E402

NAMES = ("unet", "none", "context")
DENSITY = (2, 40)
"""Least and most vessels per megapixel of the scenes that are learnt from."""


def unet(channels: int = 6) -> nn.Module:
    """Centres with attributes for every pixel from VV and VH."""
    from segmentation_models_pytorch import Unet

    encoder = "tu-mobilenetv4_conv_small"
    return Unet(encoder, 4, None, decoder_channels=(48, 24, 12, 6), in_channels=2, classes=channels)


def fresh(name: str) -> Model:
    torch.manual_seed(0)
    spec = replace(recipe.SPEC, name=name, context="attention" if name == "context" else "none", measures=False)
    if name != "unet":
        model = Model(build(spec), spec)
        nn.init.constant_(model.net.head.answer.bias[:1], -4.0)  # centres are rare
        return model
    net = unet()
    nn.init.constant_(net.segmentation_head[0].bias[:1], -4.0)
    return Model(net, replace(spec, backbone=""))


def cost(model: Model) -> dict:
    """Arithmetic and processor time of one pass over 512 x 512 pixels with their margin, in one thread."""
    x, valid = torch.randn(1, 2, 544, 544), torch.ones(1, 544, 544, dtype=torch.bool)
    torch.set_num_threads(1)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as flops:
            model.eval().answer(x, valid)
        times = []
        for _ in range(5):
            start = time.thread_time()
            model.answer(x, valid)
            times.append(time.thread_time() - start)
    return {"gflop": round(flops.get_total_flops() / 1e9, 2), "seconds": round(min(times), 3)}


def train(name: str, steps: int, pool: Path | None, report: Callable[[int, float, Model], None]) -> None:
    augment = Augment(reverse=True, gain=0.05, shift=0.25, noise=0.05, missing=(0.2, 0.2))
    model = fresh(name)
    if pool:
        stream = pooled(pool, model.spec, augment, 7)
    else:
        stream = outlines.batches(model.spec, augment, 7, DENSITY, sample=recipe.sample, long=recipe.LONG)
    fit(model, stream, steps=steps, lr=2e-3, average=0.995, learn=from_crops(centre_loss), every=max(1, steps // 6), report=report)


def choose(name: str, folder: Path, scenes: list) -> dict:
    """The best of the weights that were kept, by F1 on scenes, goes to `folder`; its figures and cost."""
    best: dict = {"f1": -1.0}
    for file in sorted((folder / name).glob("*.safetensors")):
        model = fresh(name)
        model.net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(file).items()})
        for threshold, figures in recipe.score(model.eval(), scenes).items():
            if figures["f1"] > best["f1"]:
                best.update(figures, threshold=threshold, step=int(file.stem))
                spec: Spec = replace(model.spec, threshold=threshold, provenance=figures)
                save_model(Model(model.net, spec), folder / f"{name}.safetensors")
        print(name, file.stem, best, file=sys.stderr, flush=True)
    return {**best, **cost(fresh(name))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--pool", type=Path, help="Scenes of examples/sar_pool.py, in crops of 1,024 px; default: new ones, 512.")
    parser.add_argument("--do", nargs="+", choices=("train", "choose"), default=["train", "choose"])
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if "train" in args.do:
        for name in args.only:
            train(name, args.steps, args.pool, outlines.keep(args.folder / name))
    if "choose" in args.do:
        scenes = [sentinel1((1536, 1536), seed=900 + i) for i in range(16)]
        print(json.dumps({name: choose(name, args.folder, scenes) for name in args.only}, indent=1))


if __name__ == "__main__":
    main()
