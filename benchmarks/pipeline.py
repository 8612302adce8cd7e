"""What the pipeline costs over the network alone, how fast it is, and whether memory grows with the scene.

    python benchmarks/pipeline.py [--rounds 3] [--small]
    python benchmarks/pipeline.py --device cuda --no-memory --rounds 2 --dtypes bf16 fp32 --out .parquet

Prints one JSON object. Wall times are compared within one run, in interleaved rounds; memory is the peak of a process
of its own over what it held before `segment` (interpreter, libraries and weights). The forward passes alone find the tiles'
pixels in memory; on a GPU these go there and scores come back, as in the job.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import rasterio
import torch
from rasterio.windows import Window as RasterWindow

from xtgeo import load_model, open_scene, segment
from xtgeo.engine import Engine, prepare, run
from xtgeo.infer import plan
from xtgeo.simulate import sentinel1
from xtgeo.window import Nest

PIECE = 2048


def make_scene(path: Path, shape: tuple[int, int]) -> Path:
    """A two-band deflate-compressed tiled GeoTIFF in dB: one simulated piece, turned and repeated."""
    piece = sentinel1((PIECE, PIECE), seed=5, density=1.0, nodata=False)
    profile = {
        "driver": "GTiff", "dtype": "float32", "count": 2, "height": shape[0], "width": shape[1],
        "crs": "EPSG:32631", "transform": rasterio.Affine(10, 0, 500000, 0, -10, 5000000), "tiled": True,
        "blockxsize": 512, "blockysize": 512, "compress": "deflate", "predictor": 3, "nodata": -32768,
        "BIGTIFF": "YES", "num_threads": "ALL_CPUS",
    }  # fmt: skip
    with rasterio.Env(GDAL_CACHEMAX=64), rasterio.open(path, "w", **profile) as file:
        file.descriptions, file.units = ("vv", "vh"), ("dB", "dB")
        for i, y in enumerate(range(0, shape[0], PIECE)):
            for j, x in enumerate(range(0, shape[1], PIECE)):
                h, w = min(PIECE, shape[0] - y), min(PIECE, shape[1] - x)
                data = piece.data[:, :: -1 if i % 2 else 1, :: -1 if j % 2 else 1]
                file.write(np.ascontiguousarray(data[:, :h, :w]), window=RasterWindow(x, y, w, h))
    return path


def forward_alone(model, scene, nest: Nest, engine: Engine) -> float:
    """Seconds for the network alone over the same tiles with the same engine; their pixels lie in memory."""
    ready, tiles = prepare(model, engine), list(nest)
    with ThreadPoolExecutor(4) as pool:
        blocks = list(pool.map(lambda tile: scene.read(tile.full), tiles))

    def one(block) -> None:
        run(ready, torch.from_numpy(block.data)[None], torch.from_numpy(block.valid)[None])

    with ThreadPoolExecutor(engine.workers, initializer=torch.set_num_threads, initargs=(engine.threads,)) as pool:
        list(pool.map(one, blocks[: engine.workers]))
        start = time.perf_counter()
        list(pool.map(one, blocks))
        return time.perf_counter() - start


def wall(
    path: Path, folder: Path, rounds: int, *, device: str = "auto", dtype: str = "auto", out: str = ".gpkg"
) -> dict:
    """Wall time of the whole job over that of the forward passes."""
    scene, model = open_scene(path), load_model("vessels-sar")
    whole, alone, share = [], [], []
    if device == "cuda":  # the first use of a device pays for its libraries
        side = model.spec.region * model.spec.span + 2 * model.spec.margin
        ready = prepare(model, Engine(device, "fp32" if dtype == "fp32" else "bf16", True, 1, 1, 16))
        for _ in range(3):
            run(ready, torch.zeros(1, len(model.spec.bands), side, side), torch.ones(1, side, side, dtype=torch.bool))
    for i in range(rounds):
        result = segment(scene, model, device=device, dtype=dtype, out=folder / f"{dtype}-{i}{out}")
        engine = Engine(**result.summary.engine)
        nest = Nest(scene.shape, model.spec.region, result.summary.tile_px // model.spec.region, model.spec.margin)
        whole.append(result.summary.seconds)
        alone.append(forward_alone(model, scene, nest, engine))
        share.append(whole[-1] / alone[-1])
    megapixels = scene.shape[0] * scene.shape[1] / 1e6
    return {
        "scene_mpx": megapixels,
        "segment_s": [round(v, 2) for v in whole],
        "forward_alone_s": [round(v, 2) for v in alone],
        "segment_over_forward": round(statistics.median(share), 3),
        "segment_mpx_per_s": round(megapixels / statistics.median(whole), 2),
        "computed_per_pixel": result.summary.computed_per_pixel,
        "objects": result.summary.objects,
        "engine": result.summary.engine,
        "tile_px": result.summary.tile_px,
    }


def peak_bytes(process: int | str = "self") -> int:
    """Highest resident memory of a process. getrusage would count that of the process that started it."""
    line = next(v for v in Path(f"/proc/{process}/status").read_text().splitlines() if v.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def memory(path: str, out: str, queue) -> None:
    """Peak of this process over what it held with libraries and weights loaded, in MB."""
    scene, model = open_scene(path), load_model("vessels-sar")
    held = psutil.Process().memory_info().rss
    result = segment(scene, model, out=out)
    peak = peak_bytes()
    queue.put(
        {
            "scene_mpx": result.summary.megapixels,
            "held_mb": round(held / 1e6),
            "peak_over_held_mb": round((peak - held) / 1e6),
            "planned_mb": round(plan(scene, model).bytes / 1e6),
            "mpx_per_s": result.summary.mpx_per_s,
            "objects": result.summary.objects,
            "engine": result.summary.engine,
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="A ninth of the area, to see that it runs.")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="Of the wall times.")
    parser.add_argument("--dtypes", nargs="+", choices=("auto", "bf16", "fp32"), default=["auto"], help="Of the wall times.")
    parser.add_argument("--out", default=".gpkg", help="Extension of the file of outlines.")
    parser.add_argument("--no-memory", action="store_true", help="Wall times alone.")
    args = parser.parse_args()
    shrink = 3 if args.small else 1
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sides = [12288 // shrink, 24576 // shrink]
        peaks = []
        for side in [] if args.no_memory else sides:
            path, queue = make_scene(folder / f"{side}.tif", (side, side)), spawn.Queue()
            process = spawn.Process(target=memory, args=(str(path), str(folder / f"{side}.gpkg"), queue))
            process.start()
            peaks.append(queue.get())
            process.join()
            path.unlink()
        path = make_scene(folder / "scene.tif", (10_000 // shrink, 12_000 // shrink))
        report: dict = {}
        for dtype in args.dtypes:
            times = wall(path, folder, args.rounds, device=args.device, dtype=dtype, out=args.out)
            report["wall" if len(args.dtypes) == 1 else f"wall, {dtype}"] = times
    if args.device == "cuda":
        report["device"] = torch.cuda.get_device_name()
    if peaks:
        growth = peaks[1]["peak_over_held_mb"] / peaks[0]["peak_over_held_mb"]
        report |= {"memory": peaks, "memory_growth_4x_area": round(growth, 3)}
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
