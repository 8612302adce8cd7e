"""How many ships the bundled models find, beside a threshold or CFAR detector.

    python benchmarks/accuracy.py [--ports ../shared/data/sen2ships]

Prints one JSON object. Objects are matched one to one at an intersection over union of 0.3 or with either centre inside
the other. Simulated scenes have seeds that training never draws (it draws from a million up) and that chose nothing.
Vessels that do not stand out from the sea in either polarisation (`detectable` False) are neither missed nor, when
found, false.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import torch
from scipy import ndimage

from xtgeo import detect, load_model, open_scene, segment
from xtgeo.decode import fragments
from xtgeo.detections import Origin, describe
from xtgeo.evaluate import match_objects, match_points
from xtgeo.model import Model
from xtgeo.model.cfar import score_of
from xtgeo.scene import Block, Scene
from xtgeo.simulate import SimulatedScene, sentinel1, write_scene
from xtgeo.window import Window

SEEDS = (71, 72, 73, 74)
PORTS = ("algiers", "valencia")
HAZE = 0.06
"""Reflectance that is added to all pixels and bands of a port."""
TUNED = 1e-12
"""False-alarm rate of the CFAR with the best F1 on scenes 900 to 905, which helped to choose the model's threshold too."""


def outlines(scene: Scene, mask: np.ndarray, least: int = 3) -> gpd.GeoDataFrame:
    """Objects of a mask, at least `least` pixels large, as the library's own polygons."""
    found = fragments(mask.astype(np.uint8), mask[None].astype(np.float32), Window(0, 0, *mask.shape))
    found = found[found.pixels >= least]
    return describe(
        found, scene.grid, shape=scene.shape, classes=("vessel",), origin=Origin(scene.id, "", "")
    ).to_frame()


def cfar(scene: Scene, land: np.ndarray, pfa: float = 1e-6) -> gpd.GeoDataFrame:
    """The bundled CFAR, with what lies on the true land or within 100 m of it left out: no real land mask is as good."""
    found = segment(scene, load_model("cfar"), threshold=score_of(pfa)).detections
    wet = ~ndimage.binary_dilation(land, iterations=10)
    return found.where(wet[found["detect_scene_row"], found["detect_scene_column"]]).to_frame()


def bright_on_water(block: Block, level: float = 0.12) -> np.ndarray:
    """Near infrared over `level` within 100 m of water (NDWI over 0), larger land left out: (y, x)."""
    green, nir = block.data[1], block.data[3]
    water = ndimage.binary_opening((green - nir) / (green + nir + 1e-6) > 0, iterations=2)
    bright = (nir > level) & ~water & ndimage.binary_dilation(water, iterations=10) & block.valid
    labels, n = ndimage.label(bright, np.ones((3, 3)))
    size = np.bincount(labels.ravel(), minlength=n + 1)
    return bright & (size[labels] < 400)


def count(found: gpd.GeoDataFrame, truth: gpd.GeoDataFrame) -> np.ndarray:
    """Pairs, found, true; hidden vessels left out."""
    match = match_objects(found.geometry.values, truth.to_crs(found.crs).geometry.values)
    hidden = np.flatnonzero(~truth["detectable"].to_numpy(bool)) if "detectable" in truth else np.empty(0, int)
    hit_hidden = np.isin(match.pairs[:, 1], hidden).sum()
    return np.array([len(match.pairs) - hit_hidden, match.found - hit_hidden, match.true - len(hidden)])


def figures(counts: np.ndarray) -> dict:
    pairs, found, true = (int(v) for v in counts)
    return {
        "precision": round(pairs / max(found, 1), 3),
        "recall": round(pairs / true, 3),
        "f1": round(2 * pairs / (found + true), 3),
        "found": found,
        "true": true,
    }


def count_points(points: gpd.GeoDataFrame, sim: SimulatedScene) -> tuple[np.ndarray, list[bool], list[bool], list[float]]:
    """Pairs within 200 m, found, true, of all objects that stand out; of pairs: vessel and fishing right, error of length."""
    found = points[["detect_scene_row", "detect_scene_column"]].to_numpy() + 0.5
    match = match_points(found, np.array([(s.row, s.column) for s in sim.ships]), within=20)
    right = [(points.iloc[i], sim.ships[j]) for i, j in match.pairs if sim.ships[j].detectable]
    counts = [len(right), match.found - len(match.pairs) + len(right), sum(s.detectable for s in sim.ships)]
    vessels = [(said, ship) for said, ship in right if ship.is_vessel and said["is_vessel"]]
    return (
        np.array(counts),
        [bool(said["is_vessel"]) == ship.is_vessel for said, ship in right],
        [bool(said["is_fishing"]) == ship.is_fishing for said, ship in vessels],
        [abs(said["vessel_length_m"] - ship.length_m) / ship.length_m for said, ship in vessels],
    )


def without_context(model: Model) -> Model:
    """The same weights with every gate shut."""
    shut = copy.deepcopy(model)
    for name, p in shut.net.named_parameters():
        if "gates" in name:
            torch.nn.init.zeros_(p)
    return shut


def simulated(seeds: Sequence[int], side: int) -> dict:
    radar = load_model("vessels-sar")
    with tempfile.TemporaryDirectory() as folder:
        totals: dict[str, np.ndarray] = {}
        points, pointed = load_model("points-sar"), []
        for seed in seeds:
            path = Path(folder) / f"{seed}.tif"
            sim = sentinel1((side, side), seed=seed)
            write_scene(sim, path)
            scene, truth = open_scene(path), gpd.read_file(path.with_name(f"{seed}_truth.gpkg"))
            seen = {
                "vessels-sar": segment(scene, radar),
                "vessels-sar, fp32": segment(scene, radar, dtype="fp32"),
                "vessels-sar, VV only": segment(scene.select("vv"), radar),
                "vessels-sar, VH only": segment(scene.select("vh"), radar),
                "vessels-sar, context off": segment(scene, without_context(radar)),
                "vessels-sar, context of the scene": segment(scene, radar, context="scene"),
            }
            frames = {name: result.detections.to_frame() for name, result in seen.items()}
            frames["CFAR, true land mask"] = cfar(scene, sim.land)
            frames["CFAR, true land mask, tuned"] = cfar(scene, sim.land, TUNED)
            pointed.append(count_points(detect(scene, points).detections.to_frame(), sim))
            frames["all vessels, vessels-sar"] = frames["vessels-sar"]
            for name, frame in frames.items():
                known = truth.drop(columns="detectable") if name.startswith("all") else truth
                totals[name] = totals.get(name, 0) + count(frame, known)
    counts, vessel, fishing, length = zip(*pointed, strict=True)
    return {
        "simulated": {
            "scenes": f"{side} x {side}, seeds {list(seeds)}",
            **{name: figures(total) for name, total in totals.items()},
        },
        "points": {
            **figures(sum(counts)),
            "vessel_right": round(float(np.mean(sum(vessel, []))), 3),
            "fishing_right": round(float(np.mean(sum(fishing, []))), 3),
            "length_error_median": round(float(np.median(sum(length, []))), 3),
        },
    }


def hazy(path: Path, folder: str) -> Path:
    """The same scene with HAZE more in all bands."""
    copy = Path(folder) / f"hazy_{path.name}"
    with rasterio.open(path) as f:
        data, profile, names = f.read(), f.profile, f.descriptions
        valid = f.dataset_mask() > 0
    more = np.where(valid, np.clip(data.astype(np.int32) + round(HAZE * 10000), 0, 65535), data).astype(data.dtype)
    with rasterio.open(copy, "w", **profile) as f:
        f.write(more)
        f.descriptions, f.scales = names, (1e-4,) * len(data)
    return copy


def ports(folder: Path) -> dict:
    model, totals = load_model("vessels-s2"), {}
    with tempfile.TemporaryDirectory() as temporary:
        for port in PORTS:
            scene, truth = open_scene(folder / f"{port}.tif"), gpd.read_file(folder / f"{port}_vessels.gpkg")
            hazed = open_scene(hazy(folder / f"{port}.tif", temporary))
            frames = {
                "vessels-s2": segment(scene, model).detections.to_frame(),
                "vessels-s2, fp32": segment(scene, model, dtype="fp32").detections.to_frame(),
                "vessels-s2, context off": segment(scene, without_context(model)).detections.to_frame(),
                f"vessels-s2, {HAZE} of haze added": segment(hazed, model).detections.to_frame(),
                "bright beside water": outlines(scene, bright_on_water(scene.read(Window(0, 0, *scene.shape))), 5),
            }
            for name, frame in frames.items():
                totals[name] = totals.get(name, 0) + count(frame, truth)
    return {"scenes": ", ".join(PORTS), **{name: figures(total) for name, total in totals.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ports", type=Path, default=Path("../shared/data/sen2ships"))
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS, help="Of the simulated scenes; none: ports alone.")
    parser.add_argument("--side", type=int, default=2048, help="Of the simulated scenes, in pixels.")
    args = parser.parse_args()
    report = simulated(args.seeds, args.side) if args.seeds else {}
    if args.ports.is_dir():
        report["ports"] = ports(args.ports)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
