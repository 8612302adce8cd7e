"""Does context help, at equal pixels? Ships told from their azimuth ghosts, which lie 4.5 to 5.9 km away from what casts them.

    python benchmarks/ghosts.py FOLDER [--steps 400] [--seeds 0 1 2] [--workers 2]

Prints one JSON object; scenes, weights and results stay in FOLDER, and a run that was cut short goes on there. Three networks
learn from the same simulated Sentinel-1 scenes in the same order: without context, with context whose tokens are told the
wrong places ("shuffled": the same weights and the same arithmetic, a new permutation each time), and with context. All start
from `points-sar`, whose encoder stays as it is, whose head learns on, and whose context encoder is made anew and, true or
shuffled, learns alone first (`listen`). A ghost looks like a ship, is labelled as background, and can be told from one by its
bright double kilometres up or down the track.

Scenes are open sea of 20.5 km a side at 20 m, means of 2 x 2 pixels of power; a step sees one of them. Figures are of twelve
scenes, at the threshold of the best F1 on four others, and, since ghosts can be traded for ships, at that where these four have
a recall of 0.85. Objects that do not stand out are neither missed nor false.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtgeo.allocator import keep_freed_memory
from xtgeo.evaluate import match_points
from xtgeo.model import Model, build, load_model, save_model
from xtgeo.peaks import find_peaks
from xtgeo.scene import Block
from xtgeo.train import answer, centre_loss, centre_planes, fit, from_crops
from xtgeo.window import Window

ARMS = ("context", "none", "shuffled")
SIDE, DENSITY = 2048, 10.0
TRAINING, CHOOSING, TESTING = range(3000, 3160), range(2100, 2104), range(2200, 2212)
"""Seeds of the scenes."""
GSD = 20.0
RECALL = 0.85
THRESHOLDS = np.arange(0.1, 0.9, 0.025)
NEAR_PX = 10.0
"""200 m: within it a point is the object's, or the ghost's."""


class Shuffled(nn.Module):
    """A context encoder that hears of all tokens, but not where they are."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        size = tokens.shape[-2:]
        order = torch.randperm(size.numel(), device=tokens.device)
        told = self.encoder(tokens.flatten(2)[..., order].unflatten(-1, size), mask.flatten(1)[:, order].unflatten(-1, size))
        return told.flatten(2)[..., order.argsort()].unflatten(-1, size)


def simulate(seed: int, path: Path) -> None:
    """A scene and its truth at 20 m; places in its pixels."""
    from xtgeo.simulate import sentinel1
    from xtgeo.simulate.sentinel1 import to_db

    sim = sentinel1((SIDE, SIDE), seed=seed, density=DENSITY, land=False, nodata=False)
    power = (10 ** (sim.data / 10)).reshape(2, SIDE // 2, 2, SIDE // 2, 2).mean(axis=(2, 4))
    ships = [
        (s.row / 2, s.column / 2, s.detectable, s.is_vessel, -1 if s.is_fishing is None else s.is_fishing, s.length_m)
        for s in sim.ships
    ]
    ghosts = [(g.row / 2, g.column / 2, g.detectable, g.ship is not None) for g in sim.ghosts]
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, data=to_db(power).astype(np.float16), ships=np.array(ships), ghosts=np.array(ghosts).reshape(-1, 4))
    partial.rename(path)


def truth(scene: np.lib.npyio.NpzFile) -> np.ndarray:
    """Target of `centre_loss`; what does not stand out is neither right nor wrong."""
    ships, shape = scene["ships"], scene["data"].shape[1:]
    seen, hidden = (ships[ships[:, 2] == known] for known in (1, 0))
    ignored = np.zeros(shape, bool)
    for row, column in hidden[:, :2].astype(int):
        ignored[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3] = True
    return centre_planes(
        shape, seen[:, 0], seen[:, 1], vessel=seen[:, 3], fishing=[None if f < 0 else f for f in seen[:, 4]],
        length_m=np.where(seen[:, 3] == 1, seen[:, 5], 0), ignored=ignored,
    )  # fmt: skip


def entered(pixels: np.ndarray, model: Model) -> tuple[Tensor, Tensor]:
    """Pixels (2, y, x) in dB as the network takes a tile: normalised, with the margin around, and which are valid."""
    sides = (model.spec.margin,) * 4
    data = (torch.from_numpy(pixels.astype(np.float32)) - model.mean) / model.std
    return F.pad(data, sides)[None], F.pad(torch.ones(1, *pixels.shape[1:], dtype=torch.bool), sides)


def whole_scenes(folder: Path, model: Model, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches of one scene, every second one turned by 180 degrees, which radar geometry allows."""
    scenes = [np.load(folder / f"{seed}.npz") for seed in TRAINING]
    pixels, planes = [scene["data"] for scene in scenes], [truth(scene) for scene in scenes]
    sides = (model.spec.margin,) * 4
    while True:
        for i in rng.permutation(len(pixels)):
            turn = slice(None, None, rng.choice([-1, 1]))
            target = torch.from_numpy(planes[i][:, turn, turn].copy())
            yield *entered(pixels[i][:, turn, turn], model), F.pad(target, sides)[None]


def network(arm: str) -> Model:
    """`points-sar` at 20 m, its encoder frozen, with a context encoder that knows nothing yet."""
    start = load_model("points-sar")
    spec = replace(
        start.spec, name=f"ghosts-{arm}", gsd=GSD, region=256, span=SIDE // 2 // 256, context_stride=32,
        context="none" if arm == "none" else "attention", provenance={"script": "benchmarks/ghosts.py"},
    )  # fmt: skip
    model = Model(build(spec, frozen=4), spec)
    kept = {k: v for k, v in start.net.state_dict().items() if not k.startswith("context.")}
    model.net.load_state_dict(kept, strict=False)
    if arm == "shuffled":
        model.net.context.encoder = Shuffled(model.net.context.encoder)
    return model


def listen(model: Model, folder: Path, rng: np.random.Generator, steps: int, scenes: int = 6) -> None:
    """The context encoder learns first and alone: of the squares that hold an object or a ghost, which hold an object.

    The first channel of what a token is told is taken as the log-odds. The region encoder does not change, so what it gives is
    computed once: a step over six scenes costs what a step of the whole network over one costs.
    """
    context, kept = model.net.context, []
    for seed in TRAINING:
        scene = np.load(folder / f"{seed}.npz")
        with torch.inference_mode():
            levels, core = model.net.encode(*entered(scene["data"], model))
        squares = torch.full([-(-side // context.stride) for side in core.shape[1:]], -1.0)
        for name, there in (("ghosts", 0.0), ("ships", 1.0)):
            some = scene[name][scene[name][:, 2] == 1, :2].astype(int) // context.stride
            squares[tuple(some.T)] = there
        kept.append((levels[-1].half(), squares))
    learning = [p for part in (context.enter, context.encoder) for p in part.parameters()]
    optimizer = torch.optim.AdamW(learning, lr=1e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    model.train()
    for _ in range(steps):
        some, turn = rng.choice(len(kept), scenes, replace=False), [-2, -1] if rng.random() < 0.5 else []
        level = torch.cat([kept[i][0] for i in some]).float().flip(turn)
        squares = torch.stack([kept[i][1] for i in some]).flip(turn)
        told = context.encoder(*context.gather([level], core.expand(scenes, -1, -1)))[:, 0]
        asked = squares >= 0
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(told[asked], squares[asked]).backward()
        torch.nn.utils.clip_grad_norm_(learning, 5.0)
        optimizer.step()
        schedule.step()


def found_in(model: Model, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 2) in pixels and scores (n,) of points in a scene, tile and context as large as it."""
    data = torch.from_numpy(np.load(path)["data"]).float()
    torch.manual_seed(0)
    said = answer(model, data, torch.ones(data.shape[1:], dtype=torch.bool)).numpy()
    block = Block(Window(0, 0, *said.shape[1:]), said, np.ones(said.shape[1:], bool))
    radius = round(model.spec.separation / GSD / model.cell_px)
    peaks = find_peaks(block, threshold=0.05, radius=radius, stride=model.cell_px)
    peaks = peaks[peaks.top]
    return np.stack([peaks.row, peaks.column], 1), peaks.score


def count(found: np.ndarray, path: Path) -> np.ndarray:
    """Pairs, found, true, and ghosts that stand out: reported and all, first those whose ship is in the scene, then the rest."""
    scene = np.load(path)
    ships, ghosts = scene["ships"], scene["ghosts"]
    ghosts = ghosts[ghosts[:, 2] == 1]
    match = match_points(found, ships[:, :2], within=NEAR_PX)
    right = int(ships[match.pairs[:, 1], 2].sum())
    false = np.delete(found, match.pairs[:, 0], axis=0)
    # Beside a real object nobody can say which of the two was reported.
    alone = np.hypot(*(ghosts[:, None, :2] - ships[None, :, :2]).transpose(2, 0, 1)).min(1) > NEAR_PX
    ghosts = ghosts[alone]
    reported = np.zeros(len(ghosts), bool)
    reported[match_points(false, ghosts[:, :2], within=NEAR_PX).pairs[:, 1]] = True
    inside = ghosts[:, 3] == 1
    return np.array([
        right, match.found - len(match.pairs) + right, int(ships[:, 2].sum()),
        (reported & inside).sum(), inside.sum(), (reported & ~inside).sum(), (~inside).sum(),
    ])  # fmt: skip


def figures(model: Model, folder: Path) -> dict:
    """On the scenes for testing, at the two thresholds that the choosing scenes choose."""

    def totals(seeds: range) -> dict[float, np.ndarray]:
        answers = [(found_in(model, folder / f"{seed}.npz"), folder / f"{seed}.npz") for seed in seeds]
        return {t: sum(count(places[scores >= t], path) for (places, scores), path in answers) for t in THRESHOLDS}

    chosen, tested = totals(CHOOSING), totals(TESTING)
    best = max(chosen, key=lambda t: 2 * chosen[t][0] / (chosen[t][1] + chosen[t][2]))
    equal = min(chosen, key=lambda t: abs(chosen[t][0] / chosen[t][2] - RECALL))
    return {"best F1": rates(best, tested[best]), "equal recall": rates(equal, tested[equal])}


def rates(threshold: float, counts: np.ndarray) -> dict:
    pairs, found, true, *haunted = (int(n) for n in counts)
    return {
        "threshold": round(float(threshold), 3),
        "precision": round(pairs / found, 3),
        "recall": round(pairs / true, 3),
        "f1": round(2 * pairs / (found + true), 3),
        "true": true,
        "false": found - pairs,
        "ghosts_reported": round(haunted[0] / haunted[1], 3),
        "ghosts": haunted[1],
        "ghosts_of_ships_outside_reported": round(haunted[2] / haunted[3], 3),
        "ghosts_of_ships_outside": haunted[3],
    }


def train(arm: str, seed: int, steps: int, folder: Path, threads: int) -> dict:
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    model = network(arm)
    if arm != "none":
        listen(model, folder, np.random.default_rng(seed), steps // 2)
    scenes = whole_scenes(folder, model, np.random.default_rng(seed))
    model = fit(model, scenes, steps=steps, lr=1.5e-3, learn=from_crops(centre_loss), average=0.99)
    if arm != "shuffled":
        save_model(model, folder / f"{arm}-{seed}.safetensors")
    return figures(model, folder)


def means(runs: list[dict]) -> dict:
    """Over the seeds, with those of each."""
    return {
        where: {
            name: {"mean": round(float(np.mean(seeds)), 3), "seeds": seeds}
            for name in runs[0][where]
            for seeds in [[run[where][name] for run in runs]]
        }
        for where in runs[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2, help="Trainings side by side.")
    parser.add_argument("--threads", type=int, default=1, help="Of each training.")
    parser.add_argument("--one", nargs=2, metavar=("ARM", "SEED"), help="One training in this process.")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(train(args.one[0], int(args.one[1]), args.steps, args.folder, args.threads)))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    missing = [s for s in (*TRAINING, *CHOOSING, *TESTING) if not (args.folder / f"{s}.npz").exists()]
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(simulate, missing, [args.folder / f"{s}.npz" for s in missing]))

    def result(arm: str, seed: int) -> dict:
        path = args.folder / f"{arm}-{seed}-{args.steps}.json"
        if not path.exists():
            options = ["--steps", str(args.steps), "--threads", str(args.threads), "--one", arm, str(seed)]
            with path.with_suffix(".log").open("w") as log:
                command = [sys.executable, __file__, str(args.folder), *options]
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, check=True)
            path.write_text(done.stdout.splitlines()[-1])
            print(arm, seed, path.read_text(), file=sys.stderr)
        return json.loads(path.read_text())

    cases = [(arm, seed) for seed in args.seeds for arm in ARMS]
    with ThreadPoolExecutor(args.workers) as pool:
        answers = dict(zip(cases, pool.map(lambda case: result(*case), cases), strict=True))
    report = {arm: means([answers[arm, seed] for seed in args.seeds]) for arm in ARMS}
    print(json.dumps({"steps": args.steps, "gsd_m": GSD, **report}, indent=1))


if __name__ == "__main__":
    main()
