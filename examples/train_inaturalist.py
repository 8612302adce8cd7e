"""Trains and evaluates an xT classifier on iNaturalist 2018, the task of the paper (Gupta et al. 2024, arXiv 2403.01915).

    python examples/train_inaturalist.py ROOT reptiles.safetensors --weights timm --device cuda

ROOT holds the folder 2018 and the lists train2018.json and val2018.json. The defaults are the paper's "512/256": images of 512
pixels, regions of 256, the 284 species of Reptilia. What differs from the authors' recipe: photographs keep their proportions
(the rest is invalid), augmentation is a random crop and a flip, and a running mean of the weights is what is kept.
Prints one JSON object with the share of validation images whose likeliest class is right.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from xtgeo.model import Model, Spec, build, save_model
from xtgeo.train import fit, from_crops
from xtgeo.train.datasets import INaturalist

MEAN, STD = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)
"""Of ImageNet's red, green and blue."""


def batches(loader: DataLoader, model: Model) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Normalised images, valid pixels and classes, without end; each image cropped and flipped anew."""
    mean, std = (getattr(model, name).cpu() for name in ("mean", "std"))
    change = v2.Compose([v2.RandomResizedCrop(loader.dataset.side, scale=(0.3, 1.0), antialias=True), v2.RandomHorizontalFlip()])
    while True:
        for images, valid, labels in loader:
            both = [change(x, tv_tensors.Mask(v)) for x, v in zip(images, valid, strict=True)]
            seen = torch.stack([v.as_subclass(Tensor) for _, v in both])
            yield (torch.stack([x for x, _ in both]) - mean) / std * seen[:, None], seen, labels


@torch.inference_mode()
def top1(model: Model, loader: DataLoader) -> float:
    """Share of images whose likeliest class is the right one."""
    device, right, total = model.mean.device, 0, 0
    for images, valid, labels in loader:
        said = model(images.to(device), valid.to(device)).argmax(1).cpu()
        right, total = right + int((said == labels).sum()), total + len(labels)
    return right / total


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("out")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--region", type=int, default=256)
    parser.add_argument("--backbone", default="swinv2_tiny_window16_256.ms_in1k")
    parser.add_argument("--context", default="attention")
    parser.add_argument("--weights", help='"timm" where a hub is reachable, or a file; none draws at random.')
    parser.add_argument("--supercategory", default="Reptilia")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="Processes that read images.")
    args = parser.parse_args(argv)
    train, val = (
        INaturalist(args.root, args.root / f"{part}2018.json", side=args.side, supercategory=args.supercategory)
        for part in ("train", "val")
    )
    spec = Spec(
        name="inaturalist", bands=("red", "green", "blue"), units="rgb", mean=MEAN, std=STD, gsd=1.0, task="classify",
        classes=train.classes, activation="softmax", backbone=args.backbone, context=args.context, region=args.region,
        span=-(-args.side // args.region), margin=0, context_dim=256, context_stride=32,
        provenance={"data": "iNaturalist 2018", "script": "examples/train_inaturalist.py", "epochs": args.epochs},
    )  # fmt: skip
    model = Model(build(spec, weights=args.weights, drop_path=0.2), spec)
    model.net.batch = 16
    options = {"batch_size": args.batch, "num_workers": args.workers}
    loader = DataLoader(train, shuffle=True, drop_last=len(train) > args.batch, **options)
    learn, steps = from_crops(partial(F.cross_entropy, label_smoothing=0.3)), args.epochs * len(loader)
    model = fit(
        model, batches(loader, model), steps=steps, lr=args.lr, weight_decay=1e-4, device=args.device, learn=learn
    )
    save_model(model, args.out)
    right = top1(model, DataLoader(val, **options))
    print(json.dumps({"classes": len(train.classes), "images": len(val), "top1": round(right, 4)}))


if __name__ == "__main__":
    main()
