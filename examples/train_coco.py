"""Trains and evaluates boxes on COCO: torchvision's FCOS or Faster R-CNN on the regions and context of an xT.

    python examples/train_coco.py ROOT coco.safetensors --weights timm --device cuda

ROOT holds the folders train2017 and val2017 and annotations/instances_train2017.json and instances_val2017.json. Prints one JSON
object with COCO's average precisions and recalls on the validation images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from xtgeo.model import Model, Spec, build, save_model
from xtgeo.model.boxes import HEADS
from xtgeo.train import fit, from_boxes
from xtgeo.train.datasets import Coco, coco_metrics, collate_boxes

MEAN, STD = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)
"""Of ImageNet's red, green and blue."""


def batches(loader: DataLoader) -> Iterator[tuple[list[Tensor], list[dict]]]:
    """Images and targets without end, every second image mirrored."""
    while True:
        for images, targets in loader:
            flipped = [_mirrored(*pair) if torch.rand(()) < 0.5 else pair for pair in zip(images, targets, strict=True)]
            yield [image for image, _ in flipped], [target for _, target in flipped]


def _mirrored(image: Tensor, target: dict) -> tuple[Tensor, dict]:
    w, boxes = image.shape[-1], target["boxes"]
    return image.flip(-1), {**target, "boxes": torch.stack([w - boxes[:, 2], boxes[:, 1], w - boxes[:, 0], boxes[:, 3]], 1)}


@torch.inference_mode()
def evaluate(model: Model, data: Coco) -> dict[str, float]:
    """COCO's figures over all images of the data set."""
    found, targets = [], []
    for image, target in data:
        found += model.net([image.to(model.mean.device)])
        targets.append(target)
    return {name: round(value, 4) for name, value in coco_metrics(found, targets).items()}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("out")
    parser.add_argument("--head", default="fcos", choices=HEADS)
    parser.add_argument("--side", type=int, default=1024, help="Longer side of an image, in pixels.")
    parser.add_argument("--region", type=int, default=256)
    parser.add_argument("--backbone", default="swinv2_tiny_window8_256.ms_in1k")
    parser.add_argument("--context", default="attention")
    parser.add_argument("--weights", help='"timm" where a hub is reachable, or a file; none draws at random.')
    parser.add_argument("--steps", type=int, default=90_000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="Processes that read images.")
    args = parser.parse_args(argv)
    train, val = (
        Coco(args.root / f"{part}2017", args.root / "annotations" / f"instances_{part}2017.json", side=args.side)
        for part in ("train", "val")
    )
    spec = Spec(
        name="coco", bands=("red", "green", "blue"), units="rgb", mean=MEAN, std=STD, gsd=1.0, task="boxes", threshold=0.05,
        classes=train.classes, backbone=args.backbone, context=args.context, region=args.region, context_dim=256,
        context_stride=32, head_dim=256, head_options={"head": args.head},
        provenance={"data": "COCO 2017", "script": "examples/train_coco.py", "steps": args.steps},
    )  # fmt: skip
    model = Model(build(spec, weights=args.weights, drop_path=0.1), spec)
    loader = DataLoader(train, args.batch, shuffle=True, num_workers=args.workers, collate_fn=collate_boxes)
    model = fit(model, batches(loader), steps=args.steps, lr=args.lr, device=args.device, learn=from_boxes())
    save_model(model, args.out)
    print(json.dumps(evaluate(model, val)))


if __name__ == "__main__":
    main()
