"""How long vessels are said to be: by the network of `points-sar`, and measured on the pixels by several rules.

    python benchmarks/lengths.py [--scenes 16]

Simulated scenes of 1,536 px, from seed 910 on, every second with vessels of 40 to 400 m. Prints one JSON object: for the network
alone, and for lengths measured from a rarity on where they come out at least so long (else the network's), the mean error in
metres and xView3's 1 - relative error. `xtgeo.extent` has the rule that was chosen here, on simulated scenes alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely

from xtgeo import detect, extent, load_model, open_scene
from xtgeo.evaluate import match_points
from xtgeo.grid import pixel_size_m
from xtgeo.model import Model
from xtgeo.simulate import Conditions, sentinel1, write_scene

SIDE, SEED = 1536, 910
RARITIES, LEAST = (6.0, 9.0, 12.0), (30.0, 60.0, 90.0)


def lengths(model: Model, seed: int) -> np.ndarray:
    """Of each vessel that was found: true, the network's, measured by rarity, (n, 2 + rarities)."""
    wide = Conditions(lengths_m=(40, 400)) if seed % 2 else Conditions()
    sim = sentinel1((SIDE, SIDE), seed=seed, conditions=wide)
    with tempfile.TemporaryDirectory() as folder:
        write_scene(sim, Path(folder) / "scene.tif")
        scene = open_scene(Path(folder) / "scene.tif")
        found = detect(scene, model, dtype="fp32").detections
        columns, rows = shapely.get_coordinates(found.geometry).T
        measured = []
        for extent.RARITY in RARITIES:
            measured.append(extent.measured_lengths(scene, rows, columns, pixel_size_m(scene.grid)))
    ships = [ship for ship in sim.ships if ship.is_vessel]
    pairs = match_points(np.stack([rows, columns], 1), np.array([(s.row, s.column) for s in ships]).reshape(-1, 2), within=20).pairs
    said = np.stack([found["vessel_length_m"], *measured], 1)
    rest = np.array([[ships[j].length_m, *said[i]] for i, j in pairs]).reshape(-1, 2 + len(RARITIES))
    return rest[np.isfinite(rest[:, 1])]


def errors(said: np.ndarray, true: np.ndarray) -> dict[str, float]:
    off = np.abs(said - true)
    return {"mae_m": round(float(off.mean()), 1), "length_acc": round(float(1 - np.minimum(off / true, 1).mean()), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=16, help="At least two.")
    args = parser.parse_args()
    extent.LEAST_M = 0.0
    bundled = load_model("points-sar")
    model = Model(bundled.net, replace(bundled.spec, measures=False))
    parts: dict[str, list] = {"as at sea": [], "40 to 400 m": []}
    for seed in range(SEED, SEED + args.scenes):
        parts["40 to 400 m" if seed % 2 else "as at sea"].append(lengths(model, seed))
        print(seed, file=sys.stderr, flush=True)
    report = {}
    for name, some in parts.items():
        true, network, *measured = np.concatenate(some).T
        report[name] = {"vessels": len(true), "network": errors(network, true)}
        for rarity, length in zip(RARITIES, measured, strict=True):
            for least in LEAST:
                said = np.where(length >= least, length, network)
                report[name][f"measured from rarity {rarity:g} and {least:g} m on"] = errors(said, true)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
