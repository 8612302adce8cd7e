"""Chips: every object by itself at full resolution, the surest first, on one sheet."""

from __future__ import annotations

import numpy as np
import shapely
from PIL import Image, ImageDraw

from xtgeo.detections import Detections
from xtgeo.errors import OutputError, SceneError
from xtgeo.grid import pixel_size_m, same_grid
from xtgeo.picture import SIDE, Stretch, sheet
from xtgeo.plot.score import score_of
from xtgeo.scene import Block, Scene
from xtgeo.window import Window

OUTLINE = (255, 210, 0)
LEAST_PX, MOST_PX = 24, 128
"""A chip shows at least so many pixels of the scene on either side of the object, and at most, unless the object is larger."""


def chips(detections: Detections, scene: Scene, n: int = 24, *, by: str = "score", lowest: bool = False) -> Image.Image:
    """A sheet of up to `n` objects as the scene shows them, with outline, score, class and length.

    by: the column in whose order they stand, the highest first, or the lowest. All chips have one stretch, and one scale unless
    an object is larger than its chip; only their windows are read. Objects for which the column has no value are left out.
    """
    if not same_grid(scene.grid, detections.grid):
        raise SceneError(f"the objects do not lie on the pixels of {scene.id}: show them with the scene they were found in")
    numbers = [name for name, kind in detections.fields.items() if kind in ("float64", "int64")]
    if by != "score" and by not in numbers:
        raise OutputError(f"chips cannot be sorted by {by!r}: choose score, {', '.join(numbers)}")
    rank = score_of(detections) if by == "score" else np.asarray(detections[by], float)
    order = np.argsort(rank if lowest else -rank, kind="stable")
    picked = detections.where(order[np.isfinite(rank[order])][:n])
    boxes = shapely.bounds(picked.geometry).reshape(-1, 4)
    large = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    usual = int(np.clip(np.ceil(0.75 * np.percentile(large, 90)), LEAST_PX, MOST_PX)) if len(picked) else LEAST_PX
    middle = np.floor((boxes[:, :2] + boxes[:, 2:]) / 2).astype(int)
    halves = np.where(large > 1.8 * usual, np.ceil(0.6 * large), usual).astype(int)
    windows = [Window(y - h, x - h, 2 * h, 2 * h) for (x, y), h in zip(middle.tolist(), halves.tolist(), strict=True)]
    blocks = [_read(scene, window) for window in windows]
    stretch = Stretch.of(scene, _together(scene, blocks))
    drawn = [
        (_chip(scene, block, shape, stretch), caption)
        for block, shape, caption in zip(blocks, picked.geometry, _captions(picked, by), strict=True)
    ]
    metres = 2 * usual * float(np.mean(pixel_size_m(scene.grid)))
    across = f"{metres:.0f} m" if np.isfinite(metres) else f"{2 * usual} pixels"
    return sheet(drawn, f"{len(picked)} of {len(detections)} objects by {by}; a chip is {across} across")


def _read(scene: Scene, window: Window) -> Block:
    """What a chip shows; of a large window means over squares, at most twice as many a side as the chip has pixels."""
    factor = window.h // SIDE
    if factor < 2:
        return scene.read(window)
    block = scene.means(window, factor)
    h, w = (side * factor for side in block.valid.shape)
    return Block(Window(window.y, window.x, h, w), block.data, block.valid)


def _together(scene: Scene, blocks: list[Block]) -> Block:
    """All pixels of the blocks in one row."""
    data = [block.data.reshape(len(scene.bands), 1, -1) for block in blocks] or [np.zeros((len(scene.bands), 1, 0))]
    valid = [block.valid.reshape(1, -1) for block in blocks] or [np.zeros((1, 0), bool)]
    data, valid = np.concatenate(data, 2), np.concatenate(valid, 1)
    return Block(Window(0, 0, *valid.shape), data, valid)


def _chip(scene: Scene, block: Block, shape: shapely.Geometry, stretch: Stretch) -> Image.Image:
    picture = Image.fromarray(stretch.paint(scene, block)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    chip = Image.new("RGB", picture.size)
    chip.paste(picture, mask=picture)
    zoom, corner = SIDE / block.window.h, np.array([block.window.x, block.window.y])
    pen, shape = ImageDraw.Draw(chip), shapely.transform(shape, lambda xy: (xy - corner) * zoom)
    if isinstance(shape, shapely.Point):
        pen.ellipse([shape.x - 14, shape.y - 14, shape.x + 14, shape.y + 14], outline=OUTLINE)
    for ring in shapely.get_rings(shapely.get_parts(shape)):
        pen.line([tuple(p) for p in ring.coords], fill=OUTLINE)
    return chip


def _captions(detections: Detections, by: str) -> list[str]:
    score, n = score_of(detections), len(detections)
    length = next((detections[name] for name in ("length_m", "vessel_length_m") if name in detections.fields), np.full(n, np.nan))
    names = detections["class"] if "class" in detections.fields else [""] * n
    words = [[f"{s:.2f}", name, f"{m:.0f} m" if np.isfinite(m) else ""] for s, name, m in zip(score, names, length, strict=True)]
    if by not in ("score", "presence_score", "length_m", "vessel_length_m"):
        words = [[*word, f"({v:g})"] for word, v in zip(words, detections[by], strict=True)]
    return ["  ".join(filter(None, word)) for word in words]
