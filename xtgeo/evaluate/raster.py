"""Class rasters against class rasters, pixel by pixel, in windows.

    iou        pixels of the class in both / in either
    precision  in both / predicted
    recall     in both / true
    f1         2 x in both / (predicted + true), also known as Dice

A pixel counts where both rasters have a value. Pixels beside each other are alike, so that there are no honest intervals within one
scene; from five scenes on, scenes are resampled as in `xtgeo.evaluate.intervals`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from xtgeo.errors import LabelError
from xtgeo.evaluate.intervals import FEW_SCENES, Figure, draws, figures, plain
from xtgeo.grid import same_grid
from xtgeo.read import open_scene
from xtgeo.scene import Scene
from xtgeo.window import Window

STEP = 1024
"""Side of the windows that are read, in pixels."""


@dataclass(frozen=True)
class Pixels:
    """Figures of one class."""

    value: int
    """Of the class in the rasters."""
    predicted: int
    """Pixels."""
    true: int
    """Pixels."""
    iou: Figure
    precision: Figure
    recall: Figure
    f1: Figure


@dataclass(frozen=True)
class RasterReport:
    """What `xtgeo evaluate --raster` prints."""

    scenes: int
    resampled: str
    """"scenes", or "nothing" where there are too few."""
    pixels: int
    """That count."""
    left_out: int
    """Without a value in either raster, or of an ignored class."""
    accuracy: Figure
    """Share of the pixels that are right."""
    classes: tuple[Pixels, ...]

    def as_dict(self) -> dict:
        """Plain values for JSON; None for what is not defined."""
        return plain(asdict(self))

    def __str__(self) -> str:
        yes = "95 % intervals from resampled scenes" if self.resampled == "scenes" else "no intervals: too few scenes to resample"
        rows = [f"{'class':<8}{'predicted':>12}{'true':>12}  {'IoU':<24}{'precision':<24}{'recall':<24}F1"]
        for c in self.classes:
            rows.append(f"{c.value:<8}{c.predicted:>12}{c.true:>12}  {c.iou!s:<24}{c.precision!s:<24}{c.recall!s:<24}{c.f1}")
        rows.append(f"{self.pixels} pixels, {self.left_out} left out, accuracy {self.accuracy}")
        return "\n".join([*rows, f"{self.scenes} scene{'s' * (self.scenes > 1)}; {yes}"])


def compare_rasters(
    pairs: Iterable[tuple[os.PathLike | str, os.PathLike | str]],
    *,
    ignore: Sequence[int] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> RasterReport:
    """Figures of pairs (predicted, true) of one-band rasters of whole numbers on one grid each.

    ignore: true classes whose pixels do not count. Memory: two windows, and the number of classes squared.
    """
    counts = [_confusion(_open(found), _open(true), set(ignore)) for found, true in pairs]
    classes = sorted({value for count, _ in counts for pair in count for value in pair})
    tables = np.array([[[count.get((p, t), 0) for t in classes] for p in classes] for count, _ in counts]).astype(float)
    tables = tables.reshape(len(counts), len(classes), len(classes))
    if not tables.sum():
        raise LabelError("no pixel has a value in both rasters: check their nodata")
    resampled = len(counts) > FEW_SCENES
    values = np.array([_measure(np.tensordot(w, tables, 1)) for w in draws(len(counts), resamples if resampled else 0, seed)])
    rows = figures(values)
    total = tables.sum(0)
    return RasterReport(
        scenes=len(counts),
        resampled="scenes" if resampled else "nothing",
        pixels=int(total.sum()),
        left_out=sum(left for _, left in counts),
        accuracy=rows[0][0],
        classes=tuple(
            Pixels(value, int(total[n].sum()), int(total[:, n].sum()), *rows[n + 1]) for n, value in enumerate(classes)
        ),
    )


def _open(path: os.PathLike | str) -> Scene:
    scene = open_scene(path, units="unknown")
    if len(scene.bands) != 1:
        raise LabelError(f"{path} has {len(scene.bands)} bands; a class raster has one, with a whole number for each class")
    return scene


def _confusion(found: Scene, true: Scene, ignore: set[int]) -> tuple[dict[tuple[int, int], int], int]:
    """Pixels by (predicted, true) class, and how many do not count."""
    if not same_grid(found.grid, true.grid):
        raise LabelError(
            f"{found.href} ({found.shape[1]} x {found.shape[0]}) and {true.href} ({true.shape[1]} x {true.shape[0]}) do not "
            "lie on one grid; bring one to the other's, for example with gdalwarp -r near -te ... -tr ... -t_srs ..."
        )
    count: dict[tuple[int, int], int] = {}
    h, w = found.shape
    for y in range(0, h, STEP):
        for x in range(0, w, STEP):
            window = Window(y, x, min(STEP, h - y), min(STEP, w - x))
            for pair, n in _window_counts(found, true, window):
                count[pair] = count.get(pair, 0) + n
    count = {pair: n for pair, n in count.items() if pair[1] not in ignore}
    return count, h * w - sum(count.values())


def _window_counts(found: Scene, true: Scene, window: Window) -> Iterable[tuple[tuple[int, int], int]]:
    a, b = found.read(window), true.read(window)
    valid = a.valid & b.valid
    both = np.stack([block.data[0][valid] for block in (a, b)])
    if (both != np.round(both)).any() or (np.abs(both) >= 2**24).any():
        raise LabelError(f"{found.href} or {true.href} has values that are no classes; a class raster holds whole numbers")
    low = int(both.min(initial=0))
    a, b = both.astype(np.int64) - low
    side = int(b.max(initial=0)) + 1
    code, n = np.unique(a * side + b, return_counts=True)
    return zip(zip((code // side + low).tolist(), (code % side + low).tolist(), strict=True), n.tolist(), strict=True)


def _measure(table: np.ndarray) -> np.ndarray:
    """(1 + classes, 4): accuracy in the first row, then IoU, precision, recall, F1 of each class."""
    both, predicted, true = np.diag(table), table.sum(1), table.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = np.stack([both / (predicted + true - both), both / predicted, both / true, 2 * both / (predicted + true)], 1)
        return np.concatenate([np.full((1, 4), both.sum() / table.sum()), rows])
