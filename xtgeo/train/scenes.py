"""Scenes with labels: what they hold in common, and crops read from them as they are needed. Nothing is tiled to disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import shapely

from xtgeo.choose import LARGEST_RATIO, adapt
from xtgeo.errors import LabelError, SceneError
from xtgeo.grid import pixel_size_m, same_place
from xtgeo.model import Spec
from xtgeo.scene import Block, Scene
from xtgeo.train.data import IGNORE, Cut
from xtgeo.train.labels import Labels
from xtgeo.window import Nest, Window

SAMPLED = 16
"""Windows of each scene that statistics are taken from."""


@dataclass(frozen=True)
class LabelledScene:
    """A scene and its truth, or a part of both: a `Ground` for crops."""

    scene: Scene
    """In the bands and units of `spec`; optional bands may be missing."""
    labels: Labels
    spec: Spec
    """What the network takes: order of bands, normalisation, task, classes."""
    area: Window
    """What may be seen, in pixels; beyond it nothing is valid."""
    shore: np.ndarray
    """(n, 2) row, column of places near the shore."""

    @cached_property
    def objects(self) -> Labels:
        """Labels of known class whose centre lies in the area."""
        row, column = self.labels.centres.T
        inside = (row >= self.area.y) & (row < self.area.y + self.area.h)
        inside &= (column >= self.area.x) & (column < self.area.x + self.area.w)
        return self.labels.take(inside & (self.labels.names != ""))

    @cached_property
    def centres(self) -> np.ndarray:
        return self.objects.centres if self.labels.raster is None else self._pixels[:, :2]

    @cached_property
    def kinds(self) -> np.ndarray:
        if self.labels.raster is not None:
            return self._pixels[:, 2]
        return np.array([self.spec.classes.index(name) for name in self.objects.names], int)

    @cached_property
    def _pixels(self) -> np.ndarray:
        """Row, column and class of some pixels of every class in every tile of a label raster."""
        rng, found = np.random.default_rng(0), [np.empty((0, 3), int)]
        for tile in Nest(self.area.shape, 512, 1, 0):
            at = tile.core.shift(self.area.y, self.area.x)
            planes = self.labels.class_planes(at, self.spec.classes)
            for value in np.setdiff1d(planes, (0, IGNORE)):
                places = np.argwhere(planes == value)
                some = places[rng.choice(len(places), min(20, len(places)), replace=False)]
                found.append(np.column_stack([some + (at.y, at.x), np.full(len(some), value)]))
        return np.concatenate(found)

    def read(self, window: Window) -> Block:
        """Pixels in the spec's units, all its bands, a missing one at its mean; valid within the area alone."""
        block = self.scene.read(window)
        names = [band.lower() for band in self.spec.bands]
        data = np.empty((len(names), *window.shape), np.float32)
        data[:] = np.array(self.spec.mean, np.float32)[:, None, None]
        data[[names.index(band.lower()) for band in self.scene.bands]] = block.data
        valid, inside = np.zeros(window.shape, bool), window & self.area
        if inside:
            there = inside.shift(-window.y, -window.x).slices
            valid[there] = block.valid[there]
        return Block(window, data, valid)

    def truth(self, window: Window) -> np.ndarray:
        """Target of the spec's task, `IGNORE` beyond the area."""
        make = self.labels.centre_planes if self.spec.task == "detect" else self.labels.class_planes
        target, outside = make(window, self.spec.classes), np.ones(window.shape, bool)
        inside = window & self.area
        if inside:
            outside[inside.shift(-window.y, -window.x).slices] = False
        target[..., outside] = IGNORE
        return target

    def normalise(self, block: Block) -> np.ndarray:
        """(c, h, w): what the network takes, 0 where invalid or missing."""
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (self.spec.mean, self.spec.std))
        return (block.data - mean) / std * block.valid

    def cut(self, window: Window) -> Cut:
        block, target = self.read(window), self.truth(window)
        target[..., ~block.valid] = IGNORE
        return self.normalise(block), block.valid, target

    def part(self, area: Window) -> LabelledScene:
        """A part of it, which knows nothing of the rest."""
        return replace(self, area=area & self.area)


def label(
    scenes: Sequence[Scene], labels: Sequence[Labels], spec: Spec, *, shore: Sequence[np.ndarray] = ()
) -> list[LabelledScene]:
    """Scenes with their labels, as a model of this spec sees them; objects of other classes are background.

    shore: of each scene, places near the shore (n, 2), row and column.
    """
    out = []
    for i, (scene, some) in enumerate(zip(scenes, labels, strict=True)):
        if spec.task == "segment" and len(some) and not shapely.area(some.shapes).any():
            raise LabelError(f"labels of {scene.id} are points, which have no outline: train with --task detect")
        some = some.take(np.isin(some.names, ["", *spec.classes]))
        if spec.task == "detect" and spec.classes == ("vessel",) and np.isnan(some.vessel).all():
            some = replace(some, vessel=np.where(some.names == "vessel", 1.0, np.nan))
        places = shore[i] if len(shore) else np.empty((0, 2))
        out.append(LabelledScene(adapt(scene, spec), some, spec, Window(0, 0, *scene.shape), places))
    return out


def coast(land: shapely.Geometry, shape: tuple[int, int], step: float = 50.0) -> np.ndarray:
    """(n, 2) row, column of places on the rim of the land, every `step` pixels, within the scene."""
    rim = shapely.intersection(shapely.boundary(land), shapely.box(1, 1, shape[1] - 1, shape[0] - 1))
    return shapely.get_coordinates(shapely.segmentize(rim, step))[:, ::-1]


def statistics(scenes: Sequence[Scene], seed: int = 0) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every band over valid pixels of some windows; scenes of the same bands and units."""
    rng, count = np.random.default_rng(seed), 0
    total, squares = np.zeros(len(scenes[0].bands)), np.zeros(len(scenes[0].bands))
    for scene in scenes:
        h, w = scene.shape
        for _ in range(SAMPLED):
            window = Window(int(rng.integers(max(1, h - 255))), int(rng.integers(max(1, w - 255))), min(256, h), min(256, w))
            block = scene.read(window)
            values = block.data[:, block.valid].astype(float)
            count, total, squares = count + values.shape[1], total + values.sum(1), squares + (values**2).sum(1)
    if not count:
        raise SceneError(f"no valid pixel was found in {scenes[0].id} or another scene; look at nodata with xtgeo info")
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    if (std == 0).any():
        raise SceneError(f"band {scenes[0].bands[int(np.argmin(std))]} of {scenes[0].id} is constant: leave it out with --bands")
    return tuple(round(float(v), 4) for v in mean), tuple(round(float(v), 4) for v in std)


def common_bands(scenes: Sequence[Scene], bands: Sequence[str] | None) -> tuple[str, ...]:
    """Bands that every scene has, in the order of the first; or those asked for, refused where one is missing."""
    have = [b for b in scenes[0].bands if all(b in s.bands for s in scenes)]
    missing = [b for b in bands or () if b not in have]
    if missing or not have:
        raise SceneError(
            f"not every scene has {f'the bands {chr(44).join(missing)}' if missing else 'a band of the same name'}: "
            f"{scenes[0].id} has {', '.join(scenes[0].bands)}; name them alike with --bands vv=1,vh=2"
        )
    return tuple(bands or have)


def common_gsd(scenes: Sequence[Scene]) -> float:
    """Median ground sample distance in metres; refused where scenes differ more than a model may from its own."""
    sizes = {s.id: max(pixel_size_m(s.grid)) for s in scenes}
    known = {k: v for k, v in sizes.items() if v == v}
    if not known:
        return 1.0
    low, high = min(known, key=known.get), max(known, key=known.get)
    if known[high] > LARGEST_RATIO * known[low]:
        raise SceneError(
            f"a pixel of {low} is {known[low]:.3g} m, of {high} {known[high]:.3g} m: objects would have two sizes; train on one"
        )
    return float(np.round(np.median(list(known.values())), 3))


def hold_out(grounds: Sequence[LabelledScene], share: float) -> tuple[list[LabelledScene], list[LabelledScene]]:
    """Scenes to learn from and scenes to judge by: whole scenes of other places where there are several, else the lower part.

    Scenes that overlap on the earth stay together, so that nothing is judged on what was learnt.
    """
    groups = same_place([g.scene.grid for g in grounds])
    if len(groups) >= 3:
        wanted, kept = share * len(grounds), []
        for group in sorted(groups, key=len):
            if len(kept) + len(group) <= max(1, round(wanted)) and len(kept) < wanted:
                kept += group
        if kept:
            return [g for i, g in enumerate(grounds) if i not in kept], [grounds[i] for i in kept]
    learnt, judged = [], []
    for ground in grounds:
        h, w = ground.area.shape
        rows = round(h * (1 - share))
        learnt.append(ground.part(Window(0, 0, rows, w)))
        judged.append(ground.part(Window(rows, 0, h - rows, w)))
    return learnt, judged
