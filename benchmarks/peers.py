"""The same network over the same scene to the same two files, by xtgeo and by what people use otherwise.

    python benchmarks/peers.py [--rounds 3] [--small]

    scene.tif (vv, vh)  --U-Net-->  mask.tif (uint8)  and  outlines.gpkg

Every run is a process of its own with the same weights and number of threads; the runs of a round follow each other. The
peers have the allocator settings that xtgeo knows; xtgeo tries whether they pay. Prints one JSON object. `wall_s` is the
job without imports and the building of the network; memory is the peak over what the process held before the job;
`computed_per_pixel` counts all that went through the network, trials of the engine included. The peers are in the extra
`peers`; one that is not installed is skipped, and the JSON says so.

Peers get what favours them: one tile at a time (more need more memory and are not faster on a processor), channels_last,
clipped tiles where averaging would need two more arrays, pixels normalised by the window.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import ClassVar

import numpy as np
import psutil
import rasterio
import torch
import torch.nn.functional as F
from pipeline import PIECE, make_scene, peak_bytes
from rasterio.windows import Window
from torch import Tensor, nn

from xtgeo.allocator import keep_freed_memory
from xtgeo.engine import cores

MEAN, STD, NODATA = (-18.0, -25.0), (5.0, 5.0), -32768.0
"""Of the bands, in dB; what lies beyond the scene is NODATA for every peer and 0 for the network."""
TILE, OVERLAP, STRIDE = 512, 64, 32
"""Pixels: what users of torchgeo and MONAI choose; the network's sides are multiples of STRIDE."""
CHUNK = 2048
"""Side of dask's chunks in pixels."""
REGION = 512
"""Side of xtgeo's regions in pixels; it sees half of OVERLAP beyond them, as the others do."""
POSITIVE = 0.003
"""Share of pixels that are to be foreground."""


class Net(nn.Module):
    """segmentation_models_pytorch's U-Net on a resnet18, untrained, plus a fixed answer to bright pixels.

    (b, 2, y, x) -> logits (b, 1, y, x) for sides of any length. Noise alone would have no objects, and random weights
    look farther than any overlap: the U-Net is computed in full and then has a small say.
    """

    seen: ClassVar[list[int]] = []
    """Pixels of every pass in this process, so that nobody's redundant pixels are overlooked."""

    def __init__(self, bias: float):
        import segmentation_models_pytorch as smp

        super().__init__()
        torch.manual_seed(0)
        self.unet = smp.Unet("resnet18", in_channels=len(MEAN), classes=1, encoder_weights=None)
        self.bias = bias
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        if x.device.type != "meta":
            self.seen.append(len(x) * h * w)
        x = F.pad(x, (0, -w % STRIDE, 0, -h % STRIDE))
        bright = F.avg_pool2d(x.mean(1, keepdim=True), 5, 1, 2)
        return (0.03 * self.unet(x) + bright - self.bias)[..., :h, :w]


def normalise(pixels: Tensor) -> Tensor:
    """(b, 2, y, x) in dB -> what the network takes, laid out as it likes best."""
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (MEAN, STD))
    x = torch.where(pixels == NODATA, 0.0, (pixels - mean) / std)
    return x.contiguous(memory_format=torch.channels_last)


def torchgeo(path: Path, folder: Path, net: Net) -> dict:
    """GridGeoSampler's tiles, clipped by half of the overlap except at the scene's border, into a full mask."""
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    dataset = RasterDataset(path)
    sampler = GridGeoSampler(dataset, size=TILE, stride=TILE - OVERLAP)
    x, y, _ = dataset.bounds
    h, w = round((y.stop - y.start) / y.step), round((x.stop - x.start) / x.step)
    mask, m = np.zeros((h, w), np.uint8), OVERLAP // 2
    for batch in DataLoader(dataset, batch_size=1, sampler=sampler, collate_fn=stack_samples, num_workers=0):
        answers = net(normalise(batch["image"]))[:, 0] >= 0
        for answer, bounds in zip(answers.numpy(), batch["bounds"], strict=True):
            top, left = round((y.stop - bounds[1].stop) / y.step), round((bounds[0].start - x.start) / x.step)
            y0, x0 = max(0, top + m * (top > 0)), left + m * (left > 0)
            y1 = top + TILE - m * (top + TILE < h)
            x1 = left + TILE - m * (left + TILE < w)
            mask[y0:y1, x0:x1] = answer[y0 - top : y1 - top, x0 - left : x1 - left][: h - y0, : w - x0]
    return write(mask, path, folder)


def monai(path: Path, folder: Path, net: Net) -> dict:
    """The whole scene in memory, windows blended by gaussian weights."""
    from monai.inferers import sliding_window_inference

    with rasterio.open(path) as file:
        scene = torch.from_numpy(file.read())[None]
    logits = sliding_window_inference(
        scene, (TILE, TILE), 1, lambda x: net(normalise(x)), overlap=OVERLAP / TILE, mode="gaussian"
    )
    del scene
    return write((logits[0, 0] >= 0).numpy().view(np.uint8), path, folder)


def dask(path: Path, folder: Path, net: Net) -> dict:
    """Chunks with a rim through `overlap` and `map_blocks`, one thread each, as many at a time as there are cores."""
    import rioxarray
    from dask.array.overlap import overlap

    m = OVERLAP // 2

    def answer(block: np.ndarray) -> np.ndarray:
        torch.set_num_threads(1)  # counts per thread, and these are dask's
        with torch.inference_mode():
            logits = net(normalise(torch.from_numpy(block)[None]))[0, 0, m:-m, m:-m]
        return (logits >= 0).numpy().view(np.uint8)

    scene = rioxarray.open_rasterio(path, chunks=(len(MEAN), CHUNK, CHUNK), lock=False).data
    rims = overlap(scene, depth={0: 0, 1: m, 2: m}, boundary={0: "none", 1: NODATA, 2: NODATA})
    mask = rims.map_blocks(answer, dtype=np.uint8, drop_axis=[0], chunks=scene.chunks[1:])
    return write(mask.compute(scheduler="threads", num_workers=cores()), path, folder)


def write(mask: np.ndarray, path: Path, folder: Path) -> dict:
    """mask.tif and outlines.gpkg from a mask of the whole scene, as the peers' users do it."""
    import geopandas
    from rasterio.features import shapes
    from shapely.geometry import shape

    with rasterio.open(path) as file:
        profile = {**file.profile, "count": 1, "dtype": "uint8", "nodata": 255, "predictor": 1}
    with rasterio.open(folder / "mask.tif", "w", **profile) as file:
        file.write(mask, 1)
    found = shapes(mask, mask=mask == 1, connectivity=8, transform=profile["transform"])
    outlines = geopandas.GeoDataFrame(geometry=[shape(outline) for outline, _ in found], crs=profile["crs"])
    outlines.to_file(folder / "outlines.gpkg")
    return {"polygons": len(outlines)}


def xtgeo(path: Path, folder: Path, net: Net, dtype: str = "auto") -> dict:
    """The same network with its Spec."""
    from xtgeo import Model, Spec, open_scene, segment

    spec = Spec(
        "unet", ("vv", "vh"), "db", MEAN, STD, gsd=10, region=REGION, span=1, margin=OVERLAP // 2, stride=STRIDE
    )
    scene = open_scene(path)
    result = segment(scene, Model(net, spec), out=folder / "outlines.gpkg", mask=folder / "mask.tif", dtype=dtype)
    return {"polygons": result.summary.objects, "engine": result.summary.engine}


def xtgeo_fp32(path: Path, folder: Path, net: Net) -> dict:
    """At the peers' number format."""
    return xtgeo(path, folder, net, "fp32")


VARIANTS: dict[str, Callable[[Path, Path, Net], dict]] = {
    "torchgeo": torchgeo,
    "monai": monai,
    "dask": dask,
    "xtgeo_fp32": xtgeo_fp32,
    "xtgeo": xtgeo,
}
NEEDS = {
    "torchgeo": ("torchgeo.datasets", "torchgeo.samplers", "geopandas"),
    "monai": ("monai.inferers", "geopandas"),
    "dask": ("rioxarray", "dask.array.overlap", "geopandas"),
    "xtgeo_fp32": ("xtgeo.job",),
    "xtgeo": ("xtgeo.job",),
}
"""Modules that are loaded before the clock starts."""
PACKAGES = ("torch", "segmentation-models-pytorch", "torchgeo", "monai", "dask", "rioxarray")


def measure(name: str, path: Path, folder: Path, bias: float) -> dict:
    """One job in this process, which must be fresh: its time, memory and results."""
    warnings.simplefilter("ignore")
    for module in NEEDS[name]:
        importlib.import_module(module)
    if not name.startswith("xtgeo"):
        keep_freed_memory()
    torch.set_num_threads(cores())
    net = Net(bias).to(memory_format=torch.channels_last)
    with rasterio.open(path) as file, torch.inference_mode():
        net(torch.zeros(1, len(MEAN), TILE // 4, TILE // 4))
        net.seen.clear()
        held, start = psutil.Process().memory_info().rss, time.perf_counter()
        result = VARIANTS[name](path, folder, net)
        seconds = time.perf_counter() - start
        return {
            "wall_s": round(seconds, 2),
            "extra_memory_mb": round((peak_bytes() - held) / 1e6),
            "computed_per_pixel": round(sum(net.seen) / (file.width * file.height), 3),
            **result,
        }


def calibrate(path: Path) -> float:
    """The bias at which POSITIVE of the pixels are foreground, by the scene's first piece: the others repeat it."""
    net, logits = Net(0.0), []
    with rasterio.open(path) as file, torch.inference_mode():
        h, w = min(PIECE, file.height), min(PIECE, file.width)
        for y, x in product(range(0, h, TILE), range(0, w, TILE)):
            pixels = file.read(window=Window(x, y, min(TILE, w - x), min(TILE, h - y)))
            logits.append(net(normalise(torch.from_numpy(pixels)[None])).numpy().ravel())
    return float(np.quantile(np.concatenate(logits), 1 - POSITIVE))


def fresh(*job) -> dict:
    """`measure` in a new process; why it was skipped where something is not installed."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(measure, *job).result()
        except ModuleNotFoundError as e:
            return {"skipped": f"{e.name} is not installed: pip install 'xtgeo-sat[peers]'"}


def agreement(mask: Path, other: Path) -> dict:
    """How far two masks are the same: share of all pixels, and intersection over union of the foreground."""
    with rasterio.open(mask) as a, rasterio.open(other) as b:
        ours, theirs = a.read(1) == 1, b.read(1) == 1
    union = (ours | theirs).sum()
    return {
        "same_as_xtgeo_fp32": round(float((ours == theirs).mean()), 6),
        "iou_with_xtgeo_fp32": round(float((ours & theirs).sum() / union), 4) if union else None,
        "positive": round(float(theirs.mean()), 5),
    }


def summarise(runs: list[dict]) -> dict:
    """Medians over the rounds of one variant; what does not change between rounds as it is."""
    if "skipped" in runs[0]:
        return runs[0]
    walls, memory = [run["wall_s"] for run in runs], [run["extra_memory_mb"] for run in runs]
    return {
        **runs[-1],
        "wall_s": walls,
        "median_wall_s": statistics.median(walls),
        "extra_memory_mb": statistics.median(memory),
    }


def ratios(ours: str, runs: dict[str, list[dict]], peer: str) -> dict:
    """Ours over the peer's, medians of the rounds' ratios."""
    pairs = list(zip(runs[ours], runs[peer], strict=True))
    return {
        key: round(statistics.median(a[key] / b[key] for a, b in pairs), 3) for key in ("wall_s", "extra_memory_mb")
    }


def compare(folder: Path, shape: tuple[int, int], rounds: int) -> dict:
    """Every variant in every round, beginning with another one each time."""
    path = make_scene(folder / "scene.tif", shape)
    bias, names = calibrate(path), list(VARIANTS)
    runs: dict[str, list[dict]] = {name: [] for name in names}
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            place = folder / f"{name}-{i}"
            place.mkdir()
            runs[name].append(fresh(name, path, place, bias))
            print(f"round {i + 1}: {name} {runs[name][-1]}", file=sys.stderr, flush=True)
    done = [name for name in names if "skipped" not in runs[name][0]]
    table = {name: summarise(runs[name]) for name in names}
    for name in done:
        table[name] |= agreement(folder / "xtgeo_fp32-0" / "mask.tif", folder / f"{name}-0" / "mask.tif")
    peers = [name for name in done if not name.startswith("xtgeo")]
    return {
        "scene_px": shape,
        "cores": cores(),
        "bias": round(bias, 3),
        "versions": {name: version(name) for name in PACKAGES if find_spec(name.replace("-", "_"))},
        "variants": table,
        "ratios": {ours: {peer: ratios(ours, runs, peer) for peer in peers} for ours in ("xtgeo_fp32", "xtgeo")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="A scene of 2 Mpx, to see that it runs.")
    args = parser.parse_args()
    try:
        importlib.import_module("segmentation_models_pytorch")
    except ModuleNotFoundError as e:
        sys.exit(f"{e.name} is not installed, and everyone runs its U-Net: pip install 'xtgeo-sat[peers]'")
    with tempfile.TemporaryDirectory() as name:
        result = compare(Path(name), (1280, 1536) if args.small else (5000, 6000), args.rounds)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
