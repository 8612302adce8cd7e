"""Truth outlines burnt into targets. Needs rasterio; the loop does not."""

from __future__ import annotations

import numpy as np
from rasterio.features import rasterize, shapes
from scipy import ndimage
from shapely import MultiPolygon
from shapely.geometry import shape

from xtgeo.train.data import IGNORE


def burn(outlines, shape: tuple[int, int], *, values=None, ignored=()) -> np.ndarray:
    """Target (h, w) uint8: inside the outlines (pixel coordinates x = column, y = row) 1 or their values, 255 in ignored ones.

    A pixel belongs to an outline that holds its centre; outlines too small to hold any take the pixels they touch. Where
    they overlap the later one counts, and any before an ignored one or one of value 255.
    """
    target = np.zeros(shape, np.uint8)
    values = np.ones(len(outlines), int) if values is None else np.asarray(values, int)
    pairs = [(s, int(v)) for s, v in zip(outlines, values, strict=True) if not s.is_empty]
    first = [(s, IGNORE) for s in ignored if not s.is_empty] + [p for p in pairs if p[1] == IGNORE]
    for group in (first, [p for p in pairs if p[1] != IGNORE]):
        small = [(s, v) for s, v in group if s.area < 4]
        if small:
            rasterize(small, out=target, all_touched=True)
        if group:
            rasterize(group, out=target)
    return target


def outlines(mask: np.ndarray, least: float = 2) -> list:
    """Objects of a mask (h, w) as polygons in pixel coordinates; pixels that touch at a corner belong together.

    Objects of fewer than `least` pixels are left out.
    """
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    large = np.bincount(labels.ravel()) >= least  # early in a training there are thousands of specks
    large[0] = False
    parts: dict[float, list] = {}
    for geometry, value in shapes(labels.astype(np.int32), mask=large[labels]):
        parts.setdefault(value, []).append(shape(geometry))
    return [p[0] if len(p) == 1 else MultiPolygon(p) for p in parts.values()]  # parts touch at corners only: no union needed
