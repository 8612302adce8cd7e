"""Trains the bundled model `vessels-s2` on Sentinel-2 ports with hand-drawn vessels (sen2ships, MIT).

    python examples/train_vessels_s2.py FOLDER vessels-s2.safetensors

FOLDER holds `<port>.tif` (B02 B03 B04 B08 B11, reflectance) and `<port>_vessels.gpkg`. Two ports are kept apart, for
choosing the step and the threshold and for reporting. The region encoder starts from that of `vessels-sar`. Some 40 minutes on one
CPU core, five on a GPU.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
import torch
from scipy import ndimage

from xtgeo import Block, Scene, Window, open_scene
from xtgeo.allocator import keep_freed_memory
from xtgeo.choose import adapt
from xtgeo.evaluate import match_objects
from xtgeo.grid import lonlat_to_pixel, pixel_size_m
from xtgeo.model import Model, Spec, build, save_model
from xtgeo.model.weights import weights_path
from xtgeo.train import Augment, Held, Sample, answer, crops, fit
from xtgeo.train.raster import burn, outlines

KEPT_APART = ("algiers", "valencia")
SPEC = Spec(
    name="vessels-s2",
    bands=("B02", "B03", "B04", "B08", "B11"),
    units="reflectance",
    mean=(0.0705, 0.0840, 0.0845, 0.1365, 0.1338),
    std=(0.0580, 0.0660, 0.0832, 0.1268, 0.1288),
    gsd=8.0,
    dark=(0.03,) * 5,
    min_area=1000.0,  # the smallest labelled vessel has 1,046 square metres
    backbone="mobilenetv4_conv_small",
    context="attention",
    span=1,
    head_dim=48,
    licence="MIT",
)
SIDE, BATCH = 384, 4


def read_port(tif: Path, spec: Spec) -> tuple[Block, list[shapely.Polygon], float]:
    """A port's pixels as a model reads them, its vessels as polygons in pixels, and the square metres of a pixel."""
    scene = adapt(open_scene(tif), spec)
    vessels = gpd.read_file(tif.with_name(f"{tif.stem}_vessels.gpkg")).to_crs("EPSG:4326")
    outlines = [to_pixels(scene, s) for s in vessels.geometry]
    return scene.read(Window(0, 0, *scene.shape)), outlines, float(np.prod(pixel_size_m(scene.grid)))


def to_pixels(scene: Scene, outline: shapely.Geometry) -> shapely.Geometry:
    """An outline in degrees as x = column, y = row."""

    def move(lonlat: np.ndarray) -> np.ndarray:
        row, column = lonlat_to_pixel(scene.grid, lonlat[:, 0], lonlat[:, 1])
        return np.stack([column, row], 1)

    return shapely.transform(outline, move)


def quays(block: Block, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Places on land within 60 m of water, where what looks like a ship is none."""
    green, nir = block.data[1], block.data[3]
    water = ndimage.binary_opening((green - nir) / (green + nir + 1e-6) > 0.05, iterations=2) & block.valid
    places = np.argwhere(ndimage.binary_dilation(water, iterations=6) & ~water & block.valid)
    return [tuple(places[i]) for i in rng.integers(len(places), size=count)] if len(places) else []


def sample(block: Block, vessels: list, spec: Spec, rng: np.random.Generator) -> Sample:
    """A port as the loop wants it: crops centred on ships and, somewhat fewer, on quays."""
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (spec.mean, spec.std))
    ships = [(s.centroid.y, s.centroid.x) for s in vessels]
    centres = ships * 20 + quays(block, 14 * len(ships), rng)
    return Sample((block.data - mean) / std, block.valid, burn(vessels, block.valid.shape), np.array(centres))


def held(samples: list[Sample]) -> list[Sample] | list[Held]:
    """On a GPU, where there is one: there crops are made many times as fast."""
    if not torch.cuda.is_available():
        return samples
    return [Held(s, "cuda") for s in samples]


def score(model: Model, ports: list, threshold: float) -> dict[str, float]:
    """Object precision, recall and F1 over whole ports."""
    pairs = found = true = 0
    for block, vessels, pixel_m2 in ports:
        p = answer(model, torch.from_numpy(block.data), torch.from_numpy(block.valid))[0].numpy()
        match = match_objects(outlines((p >= threshold) & block.valid, model.spec.min_area / pixel_m2), vessels)
        pairs, found, true = pairs + len(match.pairs), found + match.found, true + match.true
    return {
        "precision": round(pairs / max(1, found), 3),
        "recall": round(pairs / true, 3),
        "f1": round(2 * pairs / (found + true), 3),
        "vessels": true,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out")
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--every", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backbone", default=SPEC.backbone)
    parser.add_argument("--context", default=SPEC.context)
    parser.add_argument("--weights", default="vessels-sar", help="What the region encoder starts from: a bundled model or a file.")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    spec = replace(SPEC, backbone=args.backbone, context=args.context)
    rng = np.random.default_rng(args.seed)
    tifs = sorted(args.folder.glob("*.tif"))
    samples = [sample(*read_port(tif, spec)[:2], spec, rng) for tif in tifs if tif.stem not in KEPT_APART]
    apart = [read_port(tif, spec) for tif in tifs if tif.stem in KEPT_APART]
    best = {"f1": -1.0}

    def report(step: int, loss: float, model: Model) -> None:
        for threshold in (0.45, 0.5, 0.525, 0.55, 0.575, 0.6, 0.65):
            figures = score(model, apart, threshold)
            print(json.dumps({"step": step, "loss": round(loss, 4), "threshold": threshold, **figures}), flush=True)
            if step > args.steps // 2 and figures["f1"] > best["f1"]:
                provenance = {
                    "data": "sen2ships (MIT), contains modified Copernicus Sentinel data 2023",
                    "script": "examples/train_vessels_s2.py",
                    "started_from": Path(args.weights).name,
                    "seed": args.seed,
                    "steps": args.steps,
                    "batch": args.batch,
                    "chosen_at_step": step,
                    "chosen_on": {"ports": " and ".join(KEPT_APART), **figures},
                }
                best.update(figures)
                final = Model(model.net, replace(spec, threshold=threshold, provenance=provenance))
                save_model(final, args.out, dtype=torch.float16)

    augment = Augment(turn=180, scale=1.4, mirror=True, gain=0.15, shift=0.35, noise=0.1)
    batches = crops(held(samples), SIDE + 2 * spec.margin, args.batch, rng, centred=0.85, augment=augment)
    model = Model(build(spec, weights=weights_path(args.weights)), spec)
    fit(model, batches, steps=args.steps, lr=2e-3, every=args.every, report=report)


if __name__ == "__main__":
    main()
