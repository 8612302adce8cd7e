"""View: the pixels that a picture shows, and where on the scene they lie."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from xtgeo.errors import SceneError
from xtgeo.picture import Stretch
from xtgeo.scene import Block, Scene
from xtgeo.window import Window


@dataclass(frozen=True, eq=False)
class View:
    """A part of a scene, reduced to what a picture holds."""

    scene: Scene
    window: Window
    """What was asked for, inside the scene."""
    block: Block
    """Means over squares of pixels."""
    rows: tuple[float, float]
    """Where the block begins and ends, in rows of the scene; it may reach a square beyond the window."""
    columns: tuple[float, float]
    """As `rows`."""

    @classmethod
    def of(cls, scene: Scene, window: Window | None = None, max_side: int = 1024) -> View:
        """At most `max_side` pixels a side: from the file's overviews where there are any that suffice, else by means of pixels."""
        window = inside(scene, window)
        side = math.ceil(max(scene.shape) * max_side / max(window.shape))
        copy = replace(scene, source=scene.source.coarser(side) or scene.source)
        per_row, per_column = (large / small for large, small in zip(scene.shape, copy.shape, strict=True))
        y, x = int(window.y / per_row), int(window.x / per_column)
        h, w = math.ceil((window.y + window.h) / per_row) - y, math.ceil((window.x + window.w) / per_column) - x
        factor = max(1, -(-max(h, w) // max_side))
        block = copy.means(Window(y, x, h, w), factor)
        rows = (y * per_row, (y + block.valid.shape[0] * factor) * per_row)
        columns = (x * per_column, (x + block.valid.shape[1] * factor) * per_column)
        return cls(scene, window, block, rows, columns)

    def paint(self, stretch: Stretch | None = None) -> np.ndarray:
        """(y, x, 4) uint8; stretched by what is seen unless told otherwise."""
        return (stretch or Stretch.of(self.scene, self.block)).paint(self.scene, self.block)


def inside(scene: Scene, window: Window | None) -> Window:
    """The part of a window that lies in the scene, by default all of it; refused where there is none."""
    whole = Window(0, 0, *scene.shape)
    part = whole if window is None else window & whole
    if not part:
        raise SceneError(f"{window} lies outside {scene.id}, which has {scene.shape[0]} rows and {scene.shape[1]} columns")
    return part
