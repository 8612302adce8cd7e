"""How fast Sentinel-1 GRD is opened, read and calibrated, and how well its pixels are placed.

    python benchmarks/sentinel1.py ../shared/data/safe/*.zip [--lines 4096] [--whole]

Each product is copied with its first lines alone (`--lines`) and a simulated sea in place of what was measured, and scanned
in tiles of 2,048 pixels with a margin of 16, as a model scans it, from the folder by one thread and by two. The zip is opened
as a user would, once more than the disk needs. Prints JSON: seconds, megabytes of uint16 per second of the clock and of the
processor, peak memory, and metres on the ground at control points that were left out: as they are, and brought down to the
sea, since between points on mountains no surface can know the terrain. `--whole`: nothing but the run of `vessels-sar` over
the product in all its lines, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import rasterio
from geolocation import GEOD, hold_out, there_and_back
from pipeline import memory

from xtgeo import open_scene
from xtgeo.grid import EPSG_4326, GcpGrid
from xtgeo.read.archive import Archive, open_archive
from xtgeo.read.gdal import quietly
from xtgeo.read.sentinel1 import Point
from xtgeo.simulate import sentinel1 as simulate
from xtgeo.window import Nest

SIDE = 2048
"""Of the simulated piece that is repeated over the product, in pixels."""


def copy(real: Archive, folder: Path, lines: int | None) -> Path:
    """The product with so many lines (None: all) of a simulated sea with ships, as numbers that its mean table calibrates."""
    piece = simulate((SIDE, SIDE), seed=5, density=1.0, nodata=False)
    for name in real.names:
        path, text = folder / name, real.bytes(name)
        if re.search(r"\.(xsd|png|pdf|html|kml)$", name):
            continue
        if re.search(r"annotation/s1.*xml$", name):
            w = int(re.search(rb"<numberOfSamples>(\d+)", text)[1])
            lines = lines or int(re.search(rb"<numberOfLines>(\d+)", text)[1])
            text = re.sub(rb"<numberOfLines>\d+", b"<numberOfLines>%d" % lines, text)
            band = piece.bands.index(re.search(rb"<polarisation>(\w+)", text)[1].decode().lower())
            tables = real.xml(name.replace("annotation/", "annotation/calibration/calibration-")).iter("sigmaNought")
            table = np.mean([np.array(t.text.split(), float).mean() for t in tables])
            dn = np.tile((table * 10 ** (piece.data[band] / 20)).astype(np.uint16), -(-w // SIDE))[:, :w]
            measurement = folder / name.replace("annotation", "measurement").replace(".xml", ".tiff")
            measurement.parent.mkdir(parents=True, exist_ok=True)
            with quietly(), rasterio.open(
                measurement, "w", driver="GTiff", height=lines, width=w, count=1, dtype="uint16", blockysize=1
            ) as file:
                for y in range(0, lines, SIDE):
                    h = min(SIDE, lines - y)
                    file.write(dn[:h], 1, window=rasterio.windows.Window(0, y, w, h))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    return next(folder.iterdir())


def scan(safe: Path, threads: int) -> dict[str, float]:
    """Every tile of the product, by so many threads."""
    scene = open_scene(safe)
    nest = Nest(scene.shape, margin=16)
    start, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda tile: scene.read(tile.full).valid.all(), nest):
            pass
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    megabytes = 2 * len(scene.bands) * scene.shape[0] * scene.shape[1] / 1e6
    return {
        "mb": round(megabytes),
        "mb_per_s": round(megabytes / seconds, 1),
        "mb_per_cpu_s": round(megabytes / cpu, 1),
        "peak_mb": round(int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024),
    }


def whole(product: Archive) -> dict:
    """The run of a model over all of the product: seconds, and memory over what the process held before."""
    spawn = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        safe, queue = copy(product, Path(folder), None), spawn.SimpleQueue()
        process = spawn.Process(target=memory, args=(str(safe), str(Path(folder) / "vessels.gpkg"), queue))
        process.start()
        process.join()
        if process.exitcode:
            raise RuntimeError(f"the run over {safe.name} ended with {process.exitcode}")
        return queue.get()


def grids(real: Archive) -> dict[str, GcpGrid]:
    """The control points as they are, and as if all lay on the ellipsoid: h / tan(incidence) nearer to the radar."""
    (name, *_) = (n for n in real.names if re.search(r"annotation/s1.*xml$", n))
    root = real.xml(name)
    shape = tuple(int(root.findtext(f".//{tag}")) for tag in ("numberOfLines", "numberOfSamples"))
    names = ("line", "pixel", "longitude", "latitude", "height", "incidenceAngle")
    table = np.array([[float(p.findtext(n)) for n in names] for p in root.iter("geolocationGridPoint")])
    grid = GcpGrid.from_gcps((Point(r + 0.5, c + 0.5, *p) for r, c, *p in table[:, :5].tolist()), shape, EPSG_4326)
    nearer = grid.height / np.tan(np.radians(table[:, 5].reshape(grid.lon.shape)))
    lon, lat = grid.lon, grid.lat
    for _ in range(3):  # away from the radar is along a row, once the mountains are gone
        away = GEOD.inv(lon[:, :-1], lat[:, :-1], lon[:, 1:], lat[:, 1:])[0]
        lon, lat, _ = GEOD.fwd(grid.lon, grid.lat, np.concatenate([away, away[:, -1:]], 1) + 180, nearer)
    return {"as_they_are": grid, "at_sea_level": replace(grid, lon=lon, lat=lat)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("products", nargs="*", default=sorted(Path("../shared/data/safe").glob("*.zip")))
    parser.add_argument("--lines", type=int, default=4096)
    parser.add_argument("--whole", action="store_true", help="The run of a model over the whole product instead.")
    arguments = parser.parse_args()
    for product in arguments.products:
        real = open_archive(product)
        if arguments.whole:
            print(json.dumps({"product": os.path.basename(real.path), "vessels_sar": whole(real)}))
            continue
        with tempfile.TemporaryDirectory() as folder:
            safe = copy(real, Path(folder), arguments.lines)
            figures = {}
            for threads in (1, 2):
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:  # its memory is its own
                    figures[f"threads_{threads}"] = alone.submit(scan, safe, threads).result()
            packed = Path(folder) / "product.zip"
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                for path in safe.rglob("*.*"):
                    archive.write(path, path.relative_to(folder))
            opening = []
            for _ in range(3):
                start = time.perf_counter()
                open_scene(packed)
                opening.append(time.perf_counter() - start)
        placed = grids(real)
        print(
            json.dumps(
                {
                    "product": os.path.basename(real.path),
                    "open_zip_s": [round(s, 2) for s in opening],
                    "read_and_calibrate": figures,
                    "there_and_back_px": {name: there_and_back(grid) for name, grid in placed.items()},
                    "hold_out": {name: hold_out(grid) for name, grid in placed.items()},
                }
            )
        )


if __name__ == "__main__":
    main()
