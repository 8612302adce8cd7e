"""The run folder: what was asked, with which versions, how it went; and the card of the model that came out.

    <name>.run/    run.json (command, versions, seed, options), best.safetensors, last.ckpt, logs/, tensorboard/,
                   curves.png and samples.png (labels green, found magenta)
"""

from __future__ import annotations

import csv
import json
import platform
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from xtgeo.errors import OutputError
from xtgeo.model import Model

CHECKPOINT, BEST, RUN = "last.ckpt", "best.safetensors", "run.json"


def check_out(out: Path, replaceable: bool) -> Path:
    """The path, if a model may be written there; before any work is done."""
    if out.suffix != ".safetensors":
        raise OutputError(f"{out} must end in .safetensors")
    if out.exists() and not replaceable:
        raise OutputError(f"{out} exists: use --overwrite to replace it, or another name")
    if not out.parent.is_dir():
        raise OutputError(f"folder {out.parent} does not exist: create it first")
    return out


def enter(folder: Path, config: dict, *, resume: bool, overwrite: bool) -> None:
    """Makes the run folder, or checks that it is of the same training."""
    path = folder / RUN
    if resume:
        if not path.exists() or not (folder / CHECKPOINT).exists():
            raise OutputError(f"there is nothing to resume in {folder}: leave --resume out")
        before = json.loads(path.read_text())["config"]
        other = [f"{part}.{k}" for part in ("recipe", "spec") for k in config[part] if config[part][k] != before[part].get(k)]
        other += [part for part in ("learnt", "judged") if config[part] != before[part]]
        if other:
            raise OutputError(
                f"{folder} belongs to another training: {', '.join(other)} differ; give the same options, or leave --resume out"
            )
        return
    if (folder / CHECKPOINT).exists() and not overwrite:
        raise OutputError(f"{folder} holds a training: continue it with --resume, or replace it with --overwrite")
    folder.mkdir(exist_ok=True)
    for name in (CHECKPOINT, BEST):
        (folder / name).unlink(missing_ok=True)
    versions = {p: version(p) for p in ("torch", "lightning", "timm", "numpy", "rasterio")}
    content = {
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {"python": platform.python_version(), "xtgeo": version("xtgeo-sat"), **versions},
        "config": config,
    }
    path.write_text(json.dumps(content, indent=1))


def card(model: Model) -> str:
    """What there is to know of a trained model, in Markdown: what it takes and finds, where it comes from, how good it was."""
    spec, origin = model.spec, model.spec.provenance
    start = f" It started from {origin['started_from']}." if "started_from" in origin else ""
    count = sum(p.numel() for p in model.net.parameters()) / 1e6
    figures = ", ".join(f"{k} {v:g}" for k, v in origin["chosen_on"].items() if k not in ("score", "threshold"))
    return "\n".join(
        [
            f"# {spec.name}",
            "",
            f"Finds {', '.join(spec.classes)} (task {spec.task}) in {' '.join(spec.bands)}, {spec.units}, {spec.gsd:g} m a pixel.",
            "",
            f"**Network.** xT with {spec.backbone} as region encoder and context {spec.context}, {count:.1f} M weights.{start}",
            "",
            f"**Data.** Learnt from {len(origin['trained_on'])} scenes: {', '.join(origin['trained_on'][:12])}. "
            f"Judged by {len(origin['judged_by'])}: {', '.join(origin['judged_by'][:12])}.",
            "",
            f"**Figures.** On tiles of the latter, which also chose the weights and the threshold {spec.threshold:g}: {figures}. "
            "Figures of whole scenes come from `xtgeo evaluate`.",
            "",
            f"**Recipe.** {', '.join(f'{k} {v}' for k, v in origin['recipe'].items())}.",
            "",
        ]
    )


def curves(folder: Path) -> None:
    """Loss and figures against steps, of all sessions of this run; without matplotlib the numbers are in logs/."""
    if not find_spec("matplotlib"):
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows: list[dict] = []
    for path in sorted(folder.glob("logs/version_*/metrics.csv"), key=lambda p: int(p.parent.name.split("_")[1])):
        with open(path, newline="") as f:
            rows += list(csv.DictReader(f))
    figure = Figure(figsize=(8, 3), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    shown = (left, ("train/loss", "val/loss")), (right, ("val/f1", "val/precision", "val/recall", "val/accuracy"))
    for axes, names in shown:
        for name in names:
            points = [(int(r["step"]) + 1, float(r[name])) for r in rows if r.get(name)]
            if points:
                axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 20 else None)
        axes.set_xlabel("step")
        axes.legend()
    figure.savefig(folder / "curves.png", dpi=100)
