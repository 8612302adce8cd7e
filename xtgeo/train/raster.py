"""Truth outlines burnt into targets. Needs rasterio; the loop does not."""

from __future__ import annotations

import numpy as np
from rasterio.features import rasterize, shapes
from scipy import ndimage
from shapely import union_all
from shapely.geometry import shape

from xtgeo.train.data import IGNORE


def burn(outlines, shape: tuple[int, int], *, ignored=()) -> np.ndarray:
    """Target (h, w) uint8: 1 inside the outlines (pixel coordinates x = column, y = row), 255 in `ignored` ones.

    A pixel belongs to an outline that holds its centre; outlines too small to hold any take the pixels they touch.
    """
    target = np.zeros(shape, np.uint8)
    for polygons, value in ((ignored, IGNORE), (outlines, 1)):
        polygons = [s for s in polygons if not s.is_empty]
        if polygons:
            small = [s for s in polygons if s.area < 4]
            if small:
                rasterize([(s, value) for s in small], out=target, all_touched=True)
            rasterize([(s, value) for s in polygons], out=target)
    return target


def outlines(mask: np.ndarray, least: float = 2) -> list:
    """Objects of a mask (h, w) as polygons in pixel coordinates; pixels that touch at a corner belong together.

    Objects of fewer than `least` pixels are left out.
    """
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    parts: dict[float, list] = {}
    for geometry, value in shapes(labels.astype(np.int32), mask=labels > 0):
        parts.setdefault(value, []).append(shape(geometry))
    whole = (union_all(p) for p in parts.values())
    return [s for s in whole if s.area >= least]
