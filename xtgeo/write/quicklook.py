"""A picture of a scene with the outlines of what was found."""

from __future__ import annotations

import os

import numpy as np
import shapely
from PIL import Image, ImageDraw

from xtgeo.detections import Detections
from xtgeo.scene import Block, Scene
from xtgeo.write.staged import check_target, staged

OUTLINE, RING = (255, 210, 0, 255), (255, 90, 60, 255)
SMALL = 8
"""Objects of fewer pixels in the picture get a ring around them."""
RGB = (("red", "green", "blue"), ("b04", "b03", "b02"), ("band_1", "band_2", "band_3"))


def write_quicklook(
    path: os.PathLike | str, scene: Scene, detections: Detections, *, max_side: int = 1600, overwrite: bool = False
) -> None:
    """A PNG of at most `max_side` pixels: the scene from block means, outlines on top, nodata transparent.

    Radar is shown in decibels (VV red and blue, VH green, or grey), optical scenes in true colour where they have it.
    """
    path = check_target(path, suffixes=(".png",), overwrite=overwrite)
    block = scene.overview(max_side)
    picture = Image.fromarray(_colours(scene, block))
    scale = np.array([block.valid.shape[1] / scene.shape[1], block.valid.shape[0] / scene.shape[0]])
    enlarge = max(1, min(max_side // max(block.valid.shape), 4))
    if enlarge > 1:
        picture = picture.resize((picture.width * enlarge, picture.height * enlarge), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    for outline in shapely.transform(detections.geometry, lambda xy: xy * scale * enlarge):
        x0, y0, x1, y1 = outline.bounds
        for polygon in shapely.get_parts(outline):
            pen.line([tuple(p) for p in polygon.exterior.coords], fill=OUTLINE, width=1)
        if max(x1 - x0, y1 - y0) < SMALL:
            pen.ellipse([(x0 + x1) / 2 - SMALL, (y0 + y1) / 2 - SMALL, (x0 + x1) / 2 + SMALL, (y0 + y1) / 2 + SMALL], outline=RING)
    with staged(path, overwrite=overwrite) as part:
        picture.save(part, "PNG", optimize=False)


def _colours(scene: Scene, block: Block) -> np.ndarray:
    """(y, x, 4) uint8."""
    names = [band.lower() for band in scene.bands]
    if {"vv", "vh"} <= set(names):
        picked = [names.index("vv"), names.index("vh"), names.index("vv")]
    else:
        wanted = next((bands for bands in RGB if set(bands) <= set(names)), (names[0],) * 3)
        picked = [names.index(band) for band in wanted]
    layers = block.data[picked]
    if scene.units in ("linear", "amplitude"):
        layers = np.log10(np.maximum(layers, 1e-5))
    grey = np.stack([_stretch(layer, block.valid) for layer in layers], -1)
    return np.concatenate([grey, np.where(block.valid, 255, 0).astype(np.uint8)[..., None]], -1)


def _stretch(layer: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Valid values between their 1st and 99.5th percentile as 0 to 255."""
    if not valid.any():
        return np.zeros(layer.shape, np.uint8)
    low, high = np.percentile(layer[valid], (1, 99.5))
    return (np.clip((layer - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
