"""Where a model looks: gradients of its answers with respect to the pixels, as a picture.

    python benchmarks/receptive_field.py FOLDER OUT.png [--places 24]

FOLDER is that of `benchmarks/ghosts.py`: its scenes and the weights that it trained with context. Prints one JSON object.
The effective receptive field (Luo et al. 2016, arXiv 1701.04128) of the centre cell: the mean, over places in scenes that
were not trained on, of the absolute gradient of the logit of "here is an object", summed over bands. Places are objects and
their ghosts; each is moved to the middle of the picture. "Without" is the same model with its gates shut: what is left then
is the region encoder's own field, cut off at the margin of the region.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path

import ghosts
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import LogNorm

from xtgeo.model import Model, load_model

SEEN = 960
"""Side of the tile around a place, in pixels of 20 m."""
BLOCK = 8
"""Pixels per side of a square of the picture."""


def field(model: Model, data: np.ndarray, row: int, column: int) -> np.ndarray:
    """|d logit / d pixel| of the cell in the middle of a tile around (row, column), (SEEN, SEEN); NaN outside the scene."""
    m, half = model.spec.margin, SEEN // 2
    tile, valid = np.zeros((2, SEEN + 2 * m, SEEN + 2 * m), np.float32), np.zeros((SEEN + 2 * m,) * 2, bool)
    y0, x0 = row - half - m, column - half - m
    here = np.s_[max(0, -y0) : data.shape[1] - y0, max(0, -x0) : data.shape[2] - x0]
    there = np.s_[max(0, y0) : y0 + SEEN + 2 * m, max(0, x0) : x0 + SEEN + 2 * m]
    tile[:, *here], valid[here] = data[:, *there], True
    x = torch.from_numpy(tile)[None].requires_grad_()
    cell = half // model.cell_px
    logits = model.logits(x.clone(), torch.from_numpy(valid)[None])
    (gradient,) = torch.autograd.grad(logits[0, 0, cell, cell], x)
    inner = slice(m, m + SEEN)
    answer = gradient[0].abs().sum(0)[inner, inner].numpy()
    return np.where(valid[inner, inner], answer, np.nan)


def mean_field(model: Model, folder: Path, places: int) -> np.ndarray:
    """Mean over places, in squares of BLOCK pixels, of which the middle one is 1."""
    fields = []
    for seed in ghosts.TESTING:
        scene = np.load(folder / f"{seed}.npz")
        objects, echoes = (scene[name][scene[name][:, 2] == 1, :2] for name in ("ships", "ghosts"))
        each = -(-places // 2 // len(ghosts.TESTING))
        for row, column in np.concatenate([objects[:each], echoes[:each]]).astype(int):
            fields.append(field(model, scene["data"].astype(np.float32), row, column))
    mean = np.nanmean(fields, axis=0)
    squares = mean.reshape(SEEN // BLOCK, BLOCK, SEEN // BLOCK, BLOCK).sum(axis=(1, 3))
    return squares / squares.max()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out")
    parser.add_argument("--places", type=int, default=24)
    args = parser.parse_args()
    models = [load_model(path) for path in sorted(args.folder.glob("context-*.safetensors"))]
    shut = copy.deepcopy(models)
    for model in shut:
        for gate in model.net.context.gates:
            torch.nn.init.zeros_(gate.weight)
            torch.nn.init.zeros_(gate.bias)
    km = SEEN * ghosts.GSD / 2000
    picture, axes = plt.subplots(1, 2, figsize=(9, 4.4), sharey=True, layout="constrained")
    distance = np.hypot(*np.indices((SEEN // BLOCK,) * 2) * BLOCK + (BLOCK - SEEN) / 2) * ghosts.GSD / 1000
    report: dict = {"models": len(models), "places": args.places}
    for name, some, ax in (("without context", shut, axes[0]), ("with context", models, axes[1])):
        mean = np.mean([mean_field(model, args.folder, args.places) for model in some], axis=0)
        image = ax.imshow(np.maximum(mean, 1e-7), norm=LogNorm(1e-6, 1), extent=(-km, km, -km, km), cmap="magma")
        ax.set(title=name, xlabel="km east")
        report[name] = {
            "share of the gradient beyond 1 km": round(float(mean[distance > 1].sum() / mean.sum()), 4),
            "largest at 4 to 6.5 km, of the middle": float(f"{mean[(distance > 4) & (distance < 6.5)].max():.2g}"),
        }
    axes[0].set_ylabel("km north")
    picture.colorbar(image, ax=axes, label="gradient, middle = 1")
    picture.savefig(args.out, dpi=100)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
