"""How good a model is while it learns: tiles of scenes that it does not learn from, answered with their whole context.

Figures of a finished model come from whole scenes: `xtgeo segment` or `xtgeo detect`, then `xtgeo evaluate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
import torch
from PIL import Image, ImageDraw

from xtgeo.evaluate import match_objects, match_points
from xtgeo.grid import pixel_size_m
from xtgeo.model import Model
from xtgeo.peaks import find_peaks, merge_peaks
from xtgeo.picture import colours
from xtgeo.scene import Block
from xtgeo.train.labels import Labels
from xtgeo.train.raster import outlines
from xtgeo.train.scenes import LabelledScene
from xtgeo.window import Nest, Window

THRESHOLDS = (0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8)
NEAR_PX = 20
"""Within it a point is the object's: 200 m at 10 m per pixel, as in xView3."""
TRUE, FOUND = (60, 230, 90), (255, 70, 200)


@dataclass(frozen=True)
class Exam:
    """A tile that is judged."""

    ground: LabelledScene
    core: Window


def exams(grounds: Sequence[LabelledScene], most: int = 48, seed: int = 0) -> list[Exam]:
    """At most so many tiles of the scenes: four of five with objects, the others at random."""
    full, empty = [], []
    for ground in grounds:
        spec = ground.spec
        for tile in Nest(ground.area.shape, spec.region, spec.span, spec.margin):
            core = tile.core.shift(ground.area.y, ground.area.x)
            if ground.scene.maybe_valid(core):
                (full if _in(ground.centres, core).any() else empty).append(Exam(ground, core))
    rng = np.random.default_rng(seed)
    full, empty = ([some[i] for i in rng.permutation(len(some))] for some in (full, empty))
    count = max(most - len(empty), most * 4 // 5)
    return full[:count] + empty[: max(most - len(full), most // 5)]


@torch.inference_mode()
def answer_exam(model: Model, exam: Exam) -> tuple[torch.Tensor, torch.Tensor, Block]:
    """Logits (1, k, h, w), the target beside them (1, [t,] h, w), and probabilities of the core as a block in cells."""
    m, device = model.spec.margin, model.mean.device
    core = exam.core
    full = Window(core.y - m, core.x - m, core.h + 2 * m, core.w + 2 * m)
    block = exam.ground.read(full)
    logits = model.logits(torch.from_numpy(block.data)[None].to(device), torch.from_numpy(block.valid)[None].to(device))
    valid, target, s = block.valid[m : m + core.h, m : m + core.w], exam.ground.truth(core), model.cell_px
    target[..., ~valid] = 255
    said = model.probabilities(logits)[0, -model.spec.answers :].cpu().numpy()
    cells = np.zeros(tuple(n * s for n in said.shape[-2:]), bool)
    cells[: core.h, : core.w] = valid[: cells.shape[0], : cells.shape[1]]
    cells = cells.reshape(said.shape[-2], s, said.shape[-1], s).any((1, 3))
    return logits, torch.from_numpy(target)[None].to(device), Block(Window(0, 0, *said.shape[-2:]), said, cells)


def objects(model: Model, said: Block, threshold: float, least_px: float) -> list[np.ndarray]:
    """What is found, by class: polygons, or points of task "detect", in pixels of the core."""
    spec, s = model.spec, model.cell_px
    if spec.task == "detect":
        radius = max(1, round(spec.separation / spec.gsd / s))
        peaks = merge_peaks([find_peaks(said, threshold=threshold, radius=radius, stride=s)], radius=radius)
        return [shapely.points(peaks.column, peaks.row)]
    return [np.array(outlines((p >= threshold) & said.valid, least_px), object) for p in said.data]


def count(model: Model, exam: Exam, said: Block, threshold: float) -> np.ndarray:
    """(k, 3): pairs, found and true objects of each class; what is ignored is neither missed nor false."""
    ground, core, spec = exam.ground, exam.core, model.spec
    least = spec.min_area / float(np.prod(pixel_size_m(ground.scene.grid))) if spec.min_area else 2
    near = ground.labels.within(core)
    if ground.labels.raster is not None:
        planes = ground.truth(core)
        true = [np.array(outlines(planes == i + 1, least), object) for i in range(len(spec.classes))]
        unknown = np.empty(0, object)
    else:
        inside = _in(near.centres, Window(0, 0, *core.shape))
        kinds = [near.names != ""] if spec.task == "detect" else [near.names == name for name in spec.classes]
        true = [near.shapes[inside & kind] for kind in kinds]
        unknown = near.shapes[~inside | (near.names == "")]
    out = []
    for found, wanted in zip(objects(model, said, threshold, least), true, strict=True):
        both = np.concatenate([wanted, unknown])
        match = _match(found, both, spec.task)
        out.append([(match.pairs[:, 1] < len(wanted)).sum(), match.found - (match.pairs[:, 1] >= len(wanted)).sum(), len(wanted)])
    return np.array(out)


def _match(found: np.ndarray, true: np.ndarray, task: str):
    if task == "segment":
        return match_objects(found, true)
    centres = shapely.centroid(true) if len(true) else true
    return match_points(shapely.get_coordinates(found), shapely.get_coordinates(centres), within=NEAR_PX)


def _in(centres: np.ndarray, window: Window) -> np.ndarray:
    y, x = centres[:, 0] - window.y, centres[:, 1] - window.x
    return (y >= 0) & (y < window.h) & (x >= 0) & (x < window.w)


def picture(model: Model, some: Sequence[Exam], threshold: float, side: int = 384) -> Image.Image:
    """Tiles side by side with their labels in green and what was found in magenta."""
    columns = min(4, len(some))
    sheet = Image.new("RGB", (columns * side, -(-len(some) // columns) * side))
    for i, exam in enumerate(some):
        scene = exam.ground.scene
        tile = Image.fromarray(colours(scene, scene.read(exam.core))).convert("RGB").resize((side, side))
        pen, scale = ImageDraw.Draw(tile), (side / exam.core.w, side / exam.core.h)
        for shape in _shown(exam.ground.labels, exam):
            _draw(pen, shape, scale, TRUE)
        for shapes in objects(model, answer_exam(model, exam)[2], threshold, 2):
            for shape in shapes:
                _draw(pen, shape, scale, FOUND)
        sheet.paste(tile, (i % columns * side, i // columns * side))
    return sheet


def _shown(labels: Labels, exam: Exam) -> list[shapely.Geometry]:
    if labels.raster is not None:
        return outlines(np.isin(exam.ground.truth(exam.core), (0, 255), invert=True))
    return list(labels.within(exam.core).shapes)


def _draw(pen: ImageDraw.ImageDraw, shape: shapely.Geometry, scale: tuple[float, float], colour: tuple[int, int, int]) -> None:
    shape = shapely.transform(shape, lambda xy: xy * scale)
    if shape.geom_type == "Point":
        r = 4 if colour == FOUND else 6
        pen.ellipse([shape.x - r, shape.y - r, shape.x + r, shape.y + r], outline=colour)
    for ring in shapely.get_rings(shapely.get_parts(shape)):
        pen.line([tuple(p) for p in ring.coords], fill=colour)
