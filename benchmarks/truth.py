"""The table of truth: detectors of points beside each other, on simulated scenes and on real radar chips.

    python benchmarks/truth.py [--models cfar points-sar FILE ...] [--opensarship DIR] [--hrsid DIR]

Prints one JSON object. Real labels are for evaluation only: no model was trained on them.

`simulated`: scenes with seeds that training never draws, in the xView3 layout; the official metric in strict mode, all of it,
by wind and by distance to the shore, and how many azimuth ghosts are reported. `chips`: OpenSARShip's calibrated Sentinel-1
chips, one ship each, set into simulated sea as bright as their rim (most are smaller than what a detector looks at); the
threshold of each model is that which gives one false alarm in 10 Mpx of simulated sea; recall, and the error of the length
against AIS, also from VV alone. `hrsid`: chips of 0.5 to 3 m averaged to a fifth of their size and taken for VV at 10 m,
their power set so that its median is that of a calm sea: far from what any of the models has seen.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
import shapely
from affine import Affine
from PIL import Image
from safetensors.torch import load_file

from xtgeo import Scene, detect, load_model, open_scene
from xtgeo.evaluate import match_objects, match_points
from xtgeo.evaluate.xview3 import Rules, score
from xtgeo.evaluate.xview3_files import read_labels, to_predictions
from xtgeo.model import Model, load_spec
from xtgeo.read.gdal import quietly
from xtgeo.simulate import Conditions, SimulatedScene, sentinel1, write_xview3

SEEDS = range(3001, 3013)
SEA_SEEDS, SEA_SIDE = range(3101, 3106), 2048
PER_FALSE_ALARM = 10.0
"""Megapixels of sea."""
LOW = 0.05
"""Points with a lower score are not looked at where the threshold is to be found."""
SET_SIDE = 384
"""Of the sea that a chip is set into, in pixels."""
SHRINK, SEA_DB = 5, -20.0


def load(file: str) -> Model:
    """A bundled model or a file; one without a backbone is the U-Net of benchmarks/same_budget.py."""
    if not Path(file).is_file() or load_spec(file).backbone:
        return load_model(file)
    sys.path.insert(0, str(Path(__file__).parent))
    from same_budget import unet

    net = unet()
    net.load_state_dict(load_file(file))
    return Model(net, load_spec(file)).eval()


def points(scene: Scene, model: Model, threshold: float | None = None) -> pd.DataFrame:
    return pd.DataFrame(detect(scene, model, threshold=threshold, dtype="fp32").detections.to_frame().drop(columns="geometry"))


def simulated(models: dict[str, Model], seeds: Sequence[int], side: int) -> dict:
    report: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        sims = [sentinel1((side, side), seed=seed) for seed in seeds]
        for sim in sims:
            write_xview3(sim, folder)
        labels, winds = read_labels([Path(folder) / "labels.csv"]), {sim.id: sim.params.wind for sim in sims}

        def shore(scene_id: str) -> np.ndarray:
            return np.load(Path(folder) / "shoreline" / f"{scene_id}_shoreline.npy").reshape(-1, 2)

        for name, model in models.items():
            said = pd.concat([points(open_scene(Path(folder) / sim.id), model) for sim in sims], ignore_index=True)
            said = to_predictions(said)
            case = {"all": numbers(said, labels, shore)}
            for told, low, high in (("wind under 5 m/s", 0, 5), ("5 to 9 m/s", 5, 9), ("over 9 m/s", 9, 99)):
                some = [k for k, wind in winds.items() if low <= wind < high]
                if some:
                    case[told] = numbers(said[said.scene_id.isin(some)], labels[labels.scene_id.isin(some)], shore)
            case["recall within 2 km of the shore"], case["recall beyond"] = recall_by_shore(said, labels, 2.0)
            case["ghosts reported"], case["ghosts"] = ghosts(said, labels, sims)
            report[name] = case
            print(name, case["all"], file=sys.stderr)
    wind = sorted(round(v, 1) for v in winds.values())
    report["scenes"] = {"seeds": list(seeds), "side": side, "labels": len(labels), "wind": wind}
    return report


def numbers(said: pd.DataFrame, labels: pd.DataFrame, shore) -> dict:
    result = score(said, labels, shore=shore, rules=Rules(mode="strict"))
    loc = result.total("loc")
    both = {"right": loc.right, "false": loc.false, "missed": loc.missed}
    return {**{k: None if v is None else round(v, 3) for k, v in result.as_dict().items()}, **both}


def recall_by_shore(said: pd.DataFrame, labels: pd.DataFrame, km: float) -> tuple[float | None, float | None]:
    """Share of labels with a point within 200 m, pair by pair; None where there are no labels."""
    found, place = [], ["detect_scene_row", "detect_scene_column"]
    for scene_id, some in labels.groupby("scene_id"):
        there, here = (t[place].to_numpy(float) for t in (said[said.scene_id == scene_id], some))
        hit = np.zeros(len(some), bool)
        hit[match_points(there, here, within=20).pairs[:, 1]] = True
        found.append(pd.DataFrame({"near": some.distance_from_shore_km.to_numpy() <= km, "hit": hit}))
    table = pd.concat(found)
    parts = [table.hit[table.near == near] for near in (True, False)]
    return tuple(round(float(part.mean()), 3) if len(part) else None for part in parts)


def ghosts(said: pd.DataFrame, labels: pd.DataFrame, sims: Sequence[SimulatedScene]) -> tuple[int, int]:
    """Azimuth ghosts that stand out, more than 200 m from any label: with a point within 200 m, and all."""
    reported = total = 0
    for sim in sims:
        points_at, true = (
            t.loc[t.scene_id == sim.id, ["detect_scene_row", "detect_scene_column"]].to_numpy(float) for t in (said, labels)
        )
        places = np.array([(g.row, g.column) for g in sim.ghosts if g.detectable]).reshape(-1, 2)
        alone = places[[not len(true) or np.hypot(*(true - place).T).min() > 20 for place in places]]
        total += len(alone)
        reported += sum(bool(len(points_at)) and np.hypot(*(points_at - place).T).min() <= 20 for place in alone)
    return reported, total


def write_chip(path: Path, power: np.ndarray, bands: tuple[str, ...]) -> Scene:
    """Power (band, y, x) as a scene in dB at 10 m somewhere at sea."""
    profile = {"driver": "GTiff", "count": len(bands), "height": power.shape[1], "width": power.shape[2], "dtype": "float32"}
    with rasterio.open(path, "w", crs="EPSG:32631", transform=Affine(10, 0, 5e5, 0, -10, 4e6), nodata=-9999, **profile) as f:
        f.write((10 * np.log10(power + 1e-5)).astype(np.float32))
        f.descriptions, f.units = bands, ("dB",) * len(bands)
    return open_scene(path)


def sea(side: int, seed: int, wind: float | None = None) -> np.ndarray:
    """Power of VV and VH of a simulated sea without a single object, (2, side, side)."""
    bare = Conditions(structures=False, ghosts=False, ice=0)
    sim = sentinel1((side, side), seed=seed, density=0, land=False, nodata=False, wind=wind, conditions=bare)
    return np.maximum(10 ** (sim.data / 10) - 1e-5, 0)


def thresholds(models: dict[str, Model], bands: tuple[str, ...]) -> dict[str, float]:
    """Of each model, that with one false alarm in 10 Mpx of simulated sea without a single object."""
    found: dict[str, list[float]] = {name: [] for name in models}
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEA_SEEDS:
            scene = write_chip(Path(folder) / f"{seed}.tif", sea(SEA_SIDE, seed), ("vv", "vh")).select(*bands)
            for name, model in models.items():
                found[name] += points(scene, model, LOW).presence_score.tolist()
    allowed = int(len(SEA_SEEDS) * SEA_SIDE**2 / 1e6 / PER_FALSE_ALARM)
    return {name: max(LOW, sorted([*scores, *[0.0] * (allowed + 1)], reverse=True)[allowed]) for name, scores in found.items()}


def ships(folder: Path) -> list[tuple[Path, float, int]]:
    """GRD chips with the length by AIS in metres and the number of bands. The tables are no well-formed XML."""
    out = []
    for product in sorted(folder.glob("*_GRDH_*")):
        for ship in re.findall(r"<ship>.*?</ship>", (product / "Ship.xml").read_text(errors="replace"), re.S):
            x, y, length = (float(re.search(rf"<{name}>([\d.]+)", ship)[1]) for name in ("Center_x", "Center_y", "Length"))
            for path in (product / "Patch_Cal").glob(f"*_x{x:.0f}_y{y:.0f}.tif"):
                out.append((path, length, 2 if "_1SDV_" in product.name else 1))
    return out


def set_in(chip: np.ndarray, calm: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A chip in the middle of a sea as bright as its rim, and where it lies there: y, x, h, w."""
    (h, w), side = chip.shape[1:], calm.shape[1]
    rim = np.ones((h, w), bool)
    rim[3:-3, 3:-3] = False
    out = calm * (np.median(chip[:, rim], 1) / np.median(calm, (1, 2)))[:, None, None]
    y, x = (side - h) // 2, (side - w) // 2
    out[:, y : y + h, x : x + w] = chip
    return out, (y, x, h, w)


def chips(models: dict[str, Model], folder: Path) -> dict:
    report: dict = {}
    known, calm = ships(folder), sea(SET_SIDE, 3200, wind=6)
    for bands in (("vv", "vh"), ("vv",)):
        at = thresholds(models, bands)
        some = [(path, length) for path, length, n in known if n >= len(bands)]
        for name, model in models.items():
            hits, errors, relative = [], [], []
            with tempfile.TemporaryDirectory() as temporary:
                for i, (path, length) in enumerate(some):
                    with quietly(), rasterio.open(path) as f:
                        power = f.read()
                    power = power[np.argsort(-np.median(power, (1, 2)))][: len(bands)]  # VV is the brighter one
                    power, (y, x, h, w) = set_in(power, calm[: len(bands)])
                    found = points(write_chip(Path(temporary) / f"{i}.tif", power, bands), model, at[name])
                    row, column = found.detect_scene_row - y, found.detect_scene_column - x
                    found = found[(row >= 0) & (row < h) & (column >= 0) & (column < w)]
                    hits.append(len(found) > 0)
                    if len(found) and length > 0:
                        said = found.sort_values("presence_score").vessel_length_m.iloc[-1]
                        if said == said:
                            errors.append(abs(said - length))
                            relative.append(min(abs(min(said, 500) - length) / length, 9))
            report.setdefault(" + ".join(bands).upper(), {})[name] = {
                "threshold": round(at[name], 4),
                "recall": round(float(np.mean(hits)), 3),
                "length_mae_m": round(float(np.mean(errors)), 1) if errors else None,
                "length_acc": round(1 - min(float(np.mean(relative)), 1), 3) if relative else None,
                "lengths": len(errors),
                "chips": len(some),
            }
            print(bands, name, report[" + ".join(bands).upper()][name], file=sys.stderr)
    return report


def hrsid(models: dict[str, Model], folder: Path) -> dict:
    """Objects by the model's own threshold: a point counts that lies within 3 pixels of an outline."""
    content, totals = json.loads((folder / "coco.json").read_text()), {name: np.zeros(3, int) for name in models}
    outlines: dict[int, list] = {}
    for a in content["annotations"]:
        x, y, w, h = np.array(a["bbox"]) / SHRINK
        outlines.setdefault(a["image_id"], []).append(shapely.box(x, y, x + w, y + h).buffer(3))
    with tempfile.TemporaryDirectory() as temporary:
        for image in content["images"]:
            amplitude = np.asarray(Image.open(folder / "images" / image["file_name"]).convert("L"), float)
            h, w = (side // SHRINK for side in amplitude.shape)
            power = (amplitude[: h * SHRINK, : w * SHRINK] ** 2).reshape(h, SHRINK, w, SHRINK).mean((1, 3))
            power *= 10 ** (SEA_DB / 10) / max(float(np.median(power)), 1e-3)
            name = re.sub(r"\W", "_", image["file_name"])
            scene = write_chip(Path(temporary) / f"{name}.tif", power[None], ("vv",))
            true = np.array(outlines.get(image["id"], []), object)
            for name, model in models.items():
                found = points(scene, model)
                places = shapely.buffer(shapely.points(found.detect_scene_column + 0.5, found.detect_scene_row + 0.5), 0.5)
                match = match_objects(places, true)
                totals[name] += len(match.pairs), match.found, match.true
    return {
        name: {
            "precision": round(pairs / max(found, 1), 3),
            "recall": round(pairs / true, 3),
            "f1": round(2 * pairs / (found + true), 3),
            "found": int(found),
            "true": int(true),
        }
        for name, (pairs, found, true) in totals.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["cfar", "points-sar"], help="Bundled names or files; NAME=FILE names one.")
    parser.add_argument("--opensarship", type=Path, default=Path("../shared/data/opensarship"))
    parser.add_argument("--hrsid", type=Path, default=Path("../shared/data/hrsid"))
    parser.add_argument("--side", type=int, default=2048, help="Of the simulated scenes, in pixels.")
    parser.add_argument("--scenes", type=int, default=len(SEEDS), help="Simulated ones; 0: none.")
    args = parser.parse_args()
    models = {}
    for text in args.models:
        name, _, file = text.rpartition("=")
        model = models[name or Path(file).stem] = load(file)
        if model.spec.measures:
            models[f"{name or Path(file).stem}, all lengths by its network"] = Model(model.net, replace(model.spec, measures=False))
    report = {"simulated": simulated(models, SEEDS[: args.scenes], args.side)} if args.scenes else {}
    if args.opensarship.is_dir():
        report["chips"] = chips(models, args.opensarship)
    if args.hrsid.is_dir():
        report["hrsid"] = hrsid(models, args.hrsid)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
