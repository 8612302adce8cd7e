"""A scene of 29,000 x 25,000 pixels with context over all of it: time and memory, beside context within tiles.

    python benchmarks/whole_scene.py [--shape 25000 29000]

Prints one JSON object. The scene is one simulated piece of 2,048 px, repeated by a VRT. The network is that of `vessels-sar`
with two-level attention (8 x 8 tokens a group) in place of its own; the added layers are as they were born, which changes
what is found but not what it costs. Each run is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil

PIECE = 2048


def repeat(piece: Path, out: Path, shape: tuple[int, int]) -> None:
    """A VRT of (height, width) that shows the piece again and again."""
    h, w = shape
    bands = []
    for band, name in ((1, "vv"), (2, "vh")):
        sources = "".join(
            f"<SimpleSource><SourceFilename relativeToVRT='1'>{piece.name}</SourceFilename><SourceBand>{band}</SourceBand>"
            f"<SrcRect xOff='0' yOff='0' xSize='{min(PIECE, w - x)}' ySize='{min(PIECE, h - y)}'/>"
            f"<DstRect xOff='{x}' yOff='{y}' xSize='{min(PIECE, w - x)}' ySize='{min(PIECE, h - y)}'/></SimpleSource>"
            for y in range(0, h, PIECE)
            for x in range(0, w, PIECE)
        )
        bands.append(
            f"<VRTRasterBand dataType='Float32' band='{band}'><Description>{name}</Description><UnitType>dB</UnitType>"
            f"<NoDataValue>-32768</NoDataValue>{sources}</VRTRasterBand>"
        )
    out.write_text(
        f"<VRTDataset rasterXSize='{w}' rasterYSize='{h}'><SRS>EPSG:32631</SRS>"
        f"<GeoTransform>500000, 10, 0, 5000000, 0, -10</GeoTransform>{''.join(bands)}</VRTDataset>"
    )


def one(path: str, context: str) -> dict:
    from xtgeo import load_model, open_scene, segment
    from xtgeo.model import Model, build

    kept = load_model("vessels-sar")
    spec = replace(kept.spec, context_options={"group": 8})
    net = build(spec)
    net.load_state_dict(kept.net.state_dict(), strict=False)
    held, start = psutil.Process().memory_info().rss, time.perf_counter()
    summary = segment(open_scene(path), Model(net, spec).eval(), out=f"{path}.gpkg", context=context, overwrite=True).summary
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "peak_gb": round(peak / 1e9, 3),
        "over_interpreter_and_weights_gb": round((peak - held) / 1e9, 3),
        "tile_px": summary.tile_px,
        "engine": summary.engine,
        "objects": summary.objects,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=2, default=(25000, 29000), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--one", nargs=2, metavar=("PATH", "CONTEXT"), help="One run in this process.")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(*args.one)))
        return
    from xtgeo.simulate import sentinel1, write_scene

    with tempfile.TemporaryDirectory() as folder:
        piece, scene = Path(folder) / "piece.tif", Path(folder) / "scene.vrt"
        write_scene(sentinel1((PIECE, PIECE), seed=5, density=1.0, nodata=False), piece)
        repeat(piece, scene, tuple(args.shape))
        report: dict = {"megapixels": args.shape[0] * args.shape[1] / 1e6}
        for context in ("tile", "scene"):
            command = [sys.executable, __file__, "--one", str(scene), context]
            report[context] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            print(context, report[context], file=sys.stderr)
        report["scene over tile, seconds"] = round(report["scene"]["seconds"] / report["tile"]["seconds"], 3)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
