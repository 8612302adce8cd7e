"""How fast the Sentinel-1 simulator is, how much memory it takes, and how near its chips of ships come to real ones.

    python benchmarks/simulator.py [--large 18000 28000] [--opensarship DIR] [--picture side_by_side.png] [--docs docs]

Prints one JSON object. Speed: a scene in memory by one thread; one drawn strip by strip and thrown away; the same written as
xView3 lays it out and as GeoTIFF, each in a process of its own, whose peak memory is told. With OpenSARShip (calibrated GRD
chips around ships whose lengths AIS tells) each real chip is set beside a simulated one of the same size, ship's length,
incidence and brightness of the sea, and both are measured alike; `--picture` shows them side by side. Those pixels are not
ours to hand on, so `--docs` draws the pictures of the documentation from simulated ones alone.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from scipy.ndimage import label

from xtgeo.simulate import Conditions, plan_sentinel1, sentinel1, write_scene, write_xview3
from xtgeo.simulate.echo import plan_echoes
from xtgeo.simulate.geometry import SWATH_PX
from xtgeo.simulate.sea import sigma0_db
from xtgeo.simulate.targets import vessel
from xtgeo.window import Window

RING_PX = 6
"""Width of the rim of a chip."""
BRIGHT_DB = 7.0
ALONE = Conditions(noise="none", structures=False, ghosts=False, rfi=False, ice=0, border_px=0, slicks=0)


@dataclass(frozen=True)
class Chip:
    """A ship and the sea around it."""

    vv: np.ndarray
    """(y, x) sigma0, linear."""
    vh: np.ndarray | None
    length_m: float
    incidence_deg: float


def real_chips(folder: Path) -> Iterator[Chip]:
    """GRD chips of OpenSARShip with the length that AIS gives; bands are VH, VV or VV alone."""
    for product in sorted(folder.glob("*_GRDH_*")):
        for ship in re.findall(r"<ship>.*?</ship>", (product / "Ship.xml").read_text(errors="replace"), re.S):
            x, y, length, incidence = (
                float(re.search(rf"<{name}>([\d.]+)", ship)[1]) for name in ("Center_x", "Center_y", "Length", "Incidence")
            )
            for path in (product / "Patch_Cal").glob(f"*_x{x:.0f}_y{y:.0f}.tif"):
                with rasterio.open(path) as raster:
                    bands = raster.read()
                if length > 0 and min(bands.shape[1:]) >= 2 * RING_PX + 9:
                    yield Chip(bands[-1], bands[0] if len(bands) == 2 else None, length, incidence)


def like(chip: Chip, seed: int) -> Chip:
    """A simulated chip of the same shape, incidence, length of ship and brightness of the sea."""
    rng, shape = np.random.default_rng(seed), tuple(max(64, n) for n in chip.vv.shape)
    plan = plan_sentinel1(shape, seed=seed, density=0, land=False, nodata=False, wind=wind(chip), conditions=ALONE)
    params = replace(plan.params, calibration_db=(0.0, 0.0), subpixel=(0.0, 0.0))
    row, column = (n / 2 + rng.uniform(-0.5, 0.5) for n in shape)
    ship = vessel(rng, row, column, rng.uniform(0, 360), chip.length_m, fishing=chip.length_m < 30 and rng.random() < 0.5)
    near = params.look.near_px + SWATH_PX * (chip.incidence_deg - 30.85) / 15.14 - params.look.range_px(row, column)
    params = replace(params, look=replace(params.look, near_px=near))
    drawn = replace(plan, params=params, objects=plan_echoes(rng, [ship], params, shape=shape)).read(Window(0, 0, *shape))
    y, x = ((big - small) // 2 for big, small in zip(shape, chip.vv.shape, strict=True))
    vv, vh = 10 ** (drawn.data[:, y : y + chip.vv.shape[0], x : x + chip.vv.shape[1]] / 10)
    return Chip(vv, None if chip.vh is None else vh, chip.length_m, chip.incidence_deg)


def wind(chip: Chip) -> float:
    """The wind under which the sea is as bright as the chip's rim, in m/s."""
    speeds = np.linspace(1, 18, 69)
    return float(np.interp(10 * np.log10(np.median(chip.vv[rim(chip.vv.shape)])), sigma0_db(speeds, chip.incidence_deg)[0], speeds))


def rim(shape: tuple[int, int]) -> np.ndarray:
    out = np.ones(shape, bool)
    out[RING_PX:-RING_PX, RING_PX:-RING_PX] = False
    return out


def measure(chip: Chip) -> dict[str, float]:
    """What can be said of a chip without knowing whether it is real; contrasts in dB."""
    edge, out = rim(chip.vv.shape), {}
    for name, band in (("vv", chip.vv), ("vh", chip.vh)):
        if band is None:
            continue
        sea = float(np.median(band[edge]))
        out[f"rim_{name}_db"] = 10 * np.log10(sea)
        out[f"peak_over_rim_{name}_db"] = 10 * np.log10(band.max() / sea)
        out[f"peak_{name}_db"] = 10 * np.log10(band.max())
        numbers, _ = label(band > sea * 10 ** (BRIGHT_DB / 10), np.ones((3, 3)))
        at = numbers[np.unravel_index(band.argmax(), band.shape)]
        own = numbers == at
        out[f"bright_pixels_{name}"] = float(own.sum()) if at else 0.0
        out[f"rcs_{name}_dbm2"] = 10 * np.log10(max(1e-9, float((band - sea)[own].sum())) * 100)
        # Corners rather than the whole rim: the sea changes along it.
        corners = [band[y, x] for y in (np.s_[:9], np.s_[-9:]) for x in (np.s_[:9], np.s_[-9:])]
        calm = [c for c in corners if c.max() < 8 * c.mean() and c.min() > 0]
        if calm:
            out[f"rim_looks_{name}"] = float(np.mean([c.mean() ** 2 / c.var() for c in calm]))
            off = [c / c.mean() - 1 for c in calm]
            lag = np.mean([((o[1:] * o[:-1]).mean() + (o[:, 1:] * o[:, :-1]).mean()) / 2 for o in off])
            out[f"rim_neighbours_{name}"] = float(lag / np.mean([o.var() for o in off]))
    if chip.vh is not None:
        out["ship_vv_over_vh_db"] = out["rcs_vv_dbm2"] - out["rcs_vh_dbm2"]
    return out


def compared(pairs: list[tuple[Chip, Chip]]) -> dict:
    """10th, 50th and 90th percentile of each measure, and how measures of the ship grow with its length."""
    tables = [[measure(pair[side]) for pair in pairs] for side in (0, 1)]
    lengths = np.log10([real.length_m for real, _ in pairs])
    report: dict = {"chips": len(pairs), "length_m": percentiles(10**lengths)}
    for name in dict.fromkeys(key for row in tables[0] for key in row):
        real, made = ([row[name] for row in table if name in row] for table in tables)
        report[name] = {"real": percentiles(real), "simulated": percentiles(made)}
    for name, grow in (("bright_pixels_vv", np.log10), ("rcs_vv_dbm2", lambda v: np.array(v) / 10)):
        slopes = [np.polyfit(lengths, grow([max(1.0, row[name]) for row in table]), 1)[0] for table in tables]
        report[f"{name}_grows_as_length_to_the"] = dict(zip(("real", "simulated"), np.round(slopes, 2).tolist(), strict=True))
    return report


def percentiles(values) -> list[float]:
    return np.round(np.percentile(values, (10, 50, 90)), 2).tolist()


def grey(band: np.ndarray, low: float, high: float) -> np.ndarray:
    """uint8 from dB."""
    return (np.clip((band - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def sheet(chips: list[Chip], side: int, columns: int, zoom: int) -> np.ndarray:
    """Chips in a row-wise grid, VV from 5 dB under to 25 dB over the rim; what is larger than `side` is cut."""
    rows = -(-len(chips) // columns)
    out = np.full((rows * (side + 2), columns * (side + 2)), 40, np.uint8)
    for i, chip in enumerate(chips):
        db = 10 * np.log10(np.maximum(chip.vv, 1e-5) / np.median(chip.vv[rim(chip.vv.shape)]))
        y, x = (max(0, (n - side) // 2) for n in db.shape)
        part = grey(db[y : y + side, x : x + side], -5, 25)
        cell, (h, w) = divmod(i, columns), part.shape
        top, left = (n * (side + 2) + (side - size) // 2 for n, size in zip(cell, (h, w), strict=True))
        out[top : top + h, left : left + w] = part
    return out.repeat(zoom, 0).repeat(zoom, 1)


def show(pairs: list[tuple[Chip, Chip]], path: Path, columns: int = 12) -> None:
    """Real chips above their simulated likes, by length of ship."""
    pairs = sorted(pairs, key=lambda pair: pair[0].length_m)
    some = [pairs[i] for i in np.linspace(0, len(pairs) - 1, 6 * columns).astype(int)]
    strips = []
    for k in range(0, len(some), columns):
        strips += [sheet([pair[side] for pair in some[k : k + columns]], 45, columns, 2) for side in (0, 1)]
        strips.append(np.full((12, strips[0].shape[1]), 255, np.uint8))
    Image.fromarray(np.concatenate(strips)).save(path)


def document(folder: Path) -> None:
    """Pictures of simulated pixels alone, for the documentation: four kinds of sea, and ships of growing length."""
    scenes = [
        sentinel1((900, 900), seed=3, wind=6, land=0.35, density=6),
        sentinel1((900, 900), seed=24, wind=5, land=False, density=5, conditions=Conditions(slicks=0.25)),
        sentinel1((900, 900), seed=8, wind=4, land=0.0, density=60, nodata=False),
        sentinel1((900, 900), seed=21, wind=7, land=False, density=3, conditions=Conditions(ice=0.5)),
    ]
    tiles = []
    for scene in scenes:
        vv, vh = (10 * np.log10((10 ** (b / 10)).reshape(450, 2, 450, 2).mean((1, 3))) for b in scene.data)
        tile = np.stack([grey(vv, -24, -2), grey(vh, -31, -10), grey(vv, -24, -2)], -1)
        tile[~scene.valid[::2, ::2]] = 255
        tiles.append(tile)
    save(np.concatenate([np.concatenate(tiles[:2], 1), np.concatenate(tiles[2:], 1)]), folder / "simulator.png")
    lengths = np.repeat([15, 25, 40, 60, 90, 130, 200, 330], 9)
    blank = Chip(np.full((45, 45), 10**-1.85), np.full((45, 45), 10**-2.8), 0, 37.0)
    chips = [like(replace(blank, length_m=float(length)), 100 + i) for i, length in enumerate(lengths)]
    save(sheet(chips, 45, 9, 2)[..., None].repeat(3, -1), folder / "simulator_chips.png")


def save(image: np.ndarray, path: Path) -> None:
    Image.fromarray(image).quantize(32, dither=Image.Dither.NONE).save(path, optimize=True)


def speed(how: str, h: int, w: int) -> None:
    """Draws one scene and prints what it took."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        if how == "memory":
            sentinel1((h, w), seed=2)
        else:
            plan = plan_sentinel1((h, w), seed=2, land=0.3)
            planned = time.perf_counter() - start
            if how == "strips":
                for _ in plan.strips():
                    pass
            else:
                (write_scene if how == "geotiff" else write_xview3)(plan, Path(folder) / "scene.tif")
    took = time.perf_counter() - start
    report = {"seconds": round(took, 1), "mpx_per_s": round(h * w / took / 1e6, 1)}
    if how != "memory":
        report["of_them_planning"] = round(planned, 1)
    report["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(report))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=int, nargs=2, default=(18_000, 28_000), help="Rows and columns of the large scene.")
    parser.add_argument("--opensarship", type=Path, help="Folder of OpenSARShip's products.")
    parser.add_argument("--picture", type=Path, help="Picture of real and simulated chips to write; not for publication.")
    parser.add_argument("--docs", type=Path, help="Folder for the pictures of the documentation.")
    parser.add_argument("--one", nargs=3, metavar=("HOW", "ROWS", "COLUMNS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return speed(args.one[0], *map(int, args.one[1:]))
    if args.docs:
        return document(args.docs)
    report: dict = {}
    for how, h, w in (("memory", 2048, 2048), *((how, *args.large) for how in ("strips", "xview3", "geotiff"))):
        done = subprocess.run([sys.executable, __file__, "--one", how, str(h), str(w)], check=True, capture_output=True, text=True)
        report[f"{how}, {h} x {w}"] = json.loads(done.stdout)
    if args.opensarship:
        pairs = [(chip, like(chip, seed)) for seed, chip in enumerate(real_chips(args.opensarship))]
        report["opensarship"] = compared(pairs)
        if args.picture:
            show(pairs, args.picture)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
