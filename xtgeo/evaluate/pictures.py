"""Pictures of an outcome: the precision-recall curve, and chips of what was missed and of what is not there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from PIL import Image, ImageDraw

from xtgeo.errors import LabelError, OutputError
from xtgeo.evaluate.compare import Outcome
from xtgeo.evaluate.figures import average_precision, curve
from xtgeo.evaluate.objects import Objects
from xtgeo.evaluate.pairing import files_of, spell
from xtgeo.evaluate.place import flatten, neighbours
from xtgeo.grid import lonlat_to_pixel, pixel_size_m
from xtgeo.picture import SIDE, colours, sheet
from xtgeo.read import open_scene
from xtgeo.scene import Scene
from xtgeo.window import Window
from xtgeo.write.staged import check_target, reported, staged

CURVES = (".png", ".svg", ".pdf")
LABEL, FOUND = (255, 210, 0), (255, 90, 60)
LEAST_PX = 24
"""A chip shows at least so many pixels of the scene on either side of the object."""
BARE_M = 10.0
"""Pixel size where there is no scene to show."""


def check_targets(curve: os.PathLike | str | None, misses: os.PathLike | str | None, *, overwrite: bool = False) -> None:
    """Refuses pictures that cannot be written, before any work is done."""
    if misses:
        check_target(misses, suffixes=(".png",), overwrite=overwrite)
    if curve:
        check_target(curve, suffixes=CURVES, overwrite=overwrite)
        _plots()


def _plots():
    try:
        from matplotlib.figure import Figure
    except ImportError as e:
        raise OutputError("a curve is drawn by matplotlib, which is not installed: pip install 'xtgeo-sat[plots]'") from e
    return Figure


def open_scenes(patterns: Sequence[str], outcome: Outcome) -> dict[str, Scene]:
    """Scenes by the names that the outcome gives them; one scene is the one, whatever it is called."""
    names = {*outcome.found.scene, *outcome.true.scene}
    opened = {path: open_scene(path) for path in files_of(patterns, "scene")}
    if len(opened) == len(names) == 1:
        return dict(zip(names, opened.values(), strict=True))
    return {name: scene for scene in opened.values() if (name := spell(scene.id, names)) is not None}


def write_curve(path: os.PathLike | str, outcome: Outcome, *, overwrite: bool = False) -> None:
    """A picture (.png, .svg or .pdf) of precision over recall, with the whole file's point and that of the best F1."""
    path = check_target(path, suffixes=CURVES, overwrite=overwrite)
    figure = _plots()((6, 5), layout="constrained")
    if outcome.by_score is None:
        raise LabelError("predictions have no score, and a curve needs one: name its column with --score-column")
    recall, precision, score = curve(outcome)
    axes = figure.subplots()
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title=f"pairs by {outcome.rule}")
    axes.grid(alpha=0.3)
    if len(recall):
        axes.plot(recall, precision, label=f"average precision {average_precision(recall, precision):.3f}")
        f1 = 2 * recall * precision / np.maximum(recall + precision, 1e-12)
        for n, mark, name in ((int(f1.argmax()), "o", "best F1"), (len(f1) - 1, "s", "all predictions")):
            told = f"{name}: F1 {f1[n]:.3f} from score {score[n]:.2f}"
            axes.plot(recall[n], precision[n], mark, label=told, fillstyle="none")
        axes.legend(loc="lower left")
    with staged(path, overwrite=overwrite) as part, reported(path):
        figure.savefig(part, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)


def write_misses(
    path: os.PathLike | str, outcome: Outcome, scenes: Mapping[str, Scene], *, count: int = 24, overwrite: bool = False
) -> None:
    """A PNG of up to `count` missed labels, the largest first, and as many false predictions, the surest first.

    scenes: pixels to show, by the outcome's names of scenes; where there are none, outlines stand on black, 10 m to a pixel.
    Labels are yellow, predictions red.
    """
    path = check_target(path, suffixes=(".png",), overwrite=overwrite)
    chips = [*_missed(outcome, count), *_false(outcome, count)]
    title = f"{outcome.is_missed.sum()} missed, {outcome.is_false.sum()} false by {outcome.rule}; labels yellow, predictions red"
    paper = sheet([(_draw(chip, outcome, scenes.get(chip.scene)), chip.caption) for chip in chips], title)
    with staged(path, overwrite=overwrite) as part, reported(path):
        paper.save(part, "PNG", optimize=False)


@dataclass(frozen=True)
class _Chip:
    objects: Objects
    """Labels or predictions."""
    index: int
    """Of the one in the middle."""
    caption: str

    @property
    def scene(self) -> str:
        return self.objects.scene[self.index]


def _missed(outcome: Outcome, count: int) -> Iterator[_Chip]:
    size = np.nan_to_num(outcome.true.size, nan=-1)
    for n in np.flatnonzero(outcome.is_missed)[np.argsort(-size[outcome.is_missed], kind="stable")][:count]:
        told = f" {size[n]:.0f}" if size[n] > 0 else ""
        yield _Chip(outcome.true, int(n), f"missed{told}  {outcome.true.scene[n]}")


def _false(outcome: Outcome, count: int) -> Iterator[_Chip]:
    found, scored = outcome.found, outcome.found.score is not None
    rank = found.score if scored else found.at.area_m2
    for n in np.flatnonzero(outcome.is_false)[np.argsort(-rank[outcome.is_false], kind="stable")][:count]:
        told = f" {rank[n]:.2f}" if scored else ""
        yield _Chip(found, int(n), f"false{told}  {found.scene[n]}")


def _draw(chip: _Chip, outcome: Outcome, scene: Scene | None) -> Image.Image:
    """A square of SIDE pixels around the object, with all objects near it."""
    at, n, side = chip.objects.at, chip.index, SIDE
    metre = 1 / (BARE_M if scene is None else float(np.nanmean(pixel_size_m(scene.grid))))
    half = int(np.ceil(max(LEAST_PX, 2.5 * at.radius_m[n] * metre)))
    row, column = (half, half) if scene is None else map(float, lonlat_to_pixel(scene.grid, at.lon[n], at.lat[n]))
    window = Window(round(row) - half, round(column) - half, 2 * half, 2 * half)
    picture = Image.new("RGB", (side, side)) if scene is None else _pixels(scene, window, side)
    pen = ImageDraw.Draw(picture)
    for objects, colour in ((outcome.true, LABEL), (outcome.found, FOUND)):
        near = _near(objects, chip, 1.5 * half / metre)
        if scene is None:
            shapes = flatten(objects.geometry[near], at.lon[[n] * len(near)], at.lat[[n] * len(near)])
            shapes = shapely.transform(shapes, lambda xy: np.stack([half + xy[:, 0] * metre, half - xy[:, 1] * metre], 1))
        else:
            shapes = _in_pixels(objects.geometry[near], scene)
        zoom, corner = side / (2 * half), np.array([window.x, window.y])
        for shape in shapely.transform(shapes, lambda xy, zoom=zoom, corner=corner: (xy - corner) * zoom):
            _outline(pen, shape, colour)
    return picture


def _pixels(scene: Scene, window: Window, side: int) -> Image.Image:
    picture = Image.fromarray(colours(scene, scene.read(window))).resize((side, side), Image.Resampling.NEAREST)
    return Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture).convert("RGB")


def _near(objects: Objects, chip: _Chip, reach_m: float) -> np.ndarray:
    """Indices of objects of the chip's scene of which some lies within `reach_m` of its middle."""
    middle = chip.objects.at.where(np.array([chip.index]))
    near = neighbours(objects.at, middle, objects.at.radius_m, np.array([reach_m]))[0]
    return near[objects.scene[near] == chip.scene]


def _in_pixels(geometry: np.ndarray, scene: Scene) -> np.ndarray:
    lonlat = shapely.get_coordinates(geometry)
    row, column = lonlat_to_pixel(scene.grid, lonlat[:, 0], lonlat[:, 1])
    return shapely.set_coordinates(geometry.copy(), np.stack([column, row], 1))


def _outline(pen: ImageDraw.ImageDraw, shape: shapely.Geometry, colour: tuple[int, int, int]) -> None:
    if isinstance(shape, shapely.Point):
        pen.ellipse([shape.x - 6, shape.y - 6, shape.x + 6, shape.y + 6], outline=colour)
        return
    for ring in shapely.get_rings(shapely.get_parts(shape)):
        pen.line([tuple(p) for p in ring.coords], fill=colour)

