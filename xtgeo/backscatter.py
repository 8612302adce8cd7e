"""Backscatter of points: how bright an object is, and how much it stands out from what is around it.

The background is a ring like that of Global Fishing Watch's detector, which leaves out the object's own sidelobes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np

from xtgeo.scene import CONVERSIONS, Scene
from xtgeo.window import Window

OBJECT_PX = 3
"""The brightest pixel at most so far from the centre, in rows and columns, is the object's."""
INNER_PX, OUTER_PX = 20, 40
"""The background lies outside the inner and inside the outer square around the centre."""
TOGETHER_PX = 1024
"""Points of one square of this side are read at once."""


def has_backscatter(scene: Scene) -> bool:
    """Whether the scene's numbers are sigma0, or can be turned into it."""
    return scene.units == "db" or (scene.stored_units, "db") in CONVERSIONS


def backscatter(scene: Scene, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sigma0 of the brightest pixel of each object in dB, (bands, n), and in how far it exceeds the background, (bands, n).

    rows, columns: centres (n,) in pixels from the scene's upper-left corner. The background is the mean of the valid pixels'
    power. NaN where nothing was measured. Reads the scene once where there are points.
    """
    scene, n = scene.convert("db"), len(rows)
    sigma0, contrast = (np.full((len(scene.bands), n), np.nan) for _ in range(2))
    for indices, window in squares(rows, columns, TOGETHER_PX, OUTER_PX):
        block = scene.read(window)
        power = np.where(block.valid, 10 ** (block.data / 10), np.nan)
        for i in indices:
            y, x = int(rows[i]) - window.y, int(columns[i]) - window.x
            near, outer = (power[:, y - r : y + r + 1, x - r : x + r + 1] for r in (OBJECT_PX, OUTER_PX))
            ring = outer.copy()
            hole = slice(OUTER_PX - INNER_PX, OUTER_PX + INNER_PX + 1)
            ring[:, hole, hole] = np.nan
            if not np.isnan(near).all() and not np.isnan(ring).all():
                peak = 10 * np.log10(np.nanmax(near, axis=(1, 2)))
                sigma0[:, i], contrast[:, i] = peak, peak - 10 * np.log10(np.nanmean(ring, axis=(1, 2)))
    return sigma0, contrast


def squares(rows: np.ndarray, columns: np.ndarray, side: int, around: int) -> Iterator[tuple[list[int], Window]]:
    """Indices of points that lie in one square of this side, and a window that holds them with `around` pixels on every side."""
    rows, columns = np.asarray(rows), np.asarray(columns)
    square = np.stack([rows // side, columns // side], 1)
    order = np.lexsort((square[:, 1], square[:, 0]))
    for _, group in groupby(order, key=lambda i: tuple(square[i])):
        some = list(group)
        y, x = ([int(v) for v in axis[some]] for axis in (rows, columns))
        yield some, Window(min(y), min(x), max(y) - min(y) + 1, max(x) - min(x) + 1).pad(around)
