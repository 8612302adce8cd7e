"""A picture of a scene with the outlines of what was found."""

from __future__ import annotations

import os
from io import BytesIO

import numpy as np
import shapely
from PIL import Image, ImageDraw

from xtgeo.detections import Detections
from xtgeo.picture import colours
from xtgeo.scene import Scene
from xtgeo.write.staged import check_target, reported, staged

OUTLINE, RING = (255, 210, 0, 255), (255, 90, 60, 255)
SMALL = 8
"""Objects of fewer pixels in the picture get a ring around them."""
PICTURES = (".png", ".jpg")


def quicklook(scene: Scene, detections: Detections, suffix: str = ".png", *, max_side: int = 1600) -> bytes:
    """A picture of at most `max_side` pixels: the scene from block means, outlines on top, nodata transparent (.jpg: black).

    Colours are those of `xtgeo.picture`. A small scene is enlarged up to four times.
    """
    picture = _fit(Image.fromarray(colours(scene, scene.overview(2 * max_side))), max_side)
    scale = np.array([picture.width / scene.shape[1], picture.height / scene.shape[0]])
    pen = ImageDraw.Draw(picture)
    for outline in shapely.transform(detections.geometry, lambda xy: xy * scale):
        for ring in shapely.get_rings(shapely.get_parts(outline)):
            pen.line([tuple(p) for p in ring.coords], fill=OUTLINE, width=1)
        x0, y0, x1, y1 = outline.bounds
        if max(x1 - x0, y1 - y0) < SMALL:
            x, y = (x0 + x1) / 2, (y0 + y1) / 2
            pen.ellipse([x - SMALL, y - SMALL, x + SMALL, y + SMALL], outline=RING, width=2)
    out = BytesIO()
    if suffix == ".png":
        picture.save(out, "PNG", optimize=False)
    else:
        black = Image.new("RGBA", picture.size, "black")
        Image.alpha_composite(black, picture).convert("RGB").save(out, "JPEG", quality=85)
    return out.getvalue()


def write_picture(path: os.PathLike | str, picture: bytes, *, overwrite: bool = False) -> None:
    """A file that is complete when it has its name."""
    path = check_target(path, overwrite=overwrite)
    with staged(path, overwrite=overwrite) as part, reported(path):
        part.write_bytes(picture)


def _fit(picture: Image.Image, max_side: int) -> Image.Image:
    """As large as `max_side` allows, but no pixel larger than 4 x 4."""
    zoom = max_side / max(picture.size)
    zoom = min(4, int(zoom)) if zoom >= 1 else zoom
    size = tuple(max(1, round(side * zoom)) for side in picture.size)
    return picture.resize(size, Image.Resampling.NEAREST if zoom >= 1 else Image.Resampling.BOX)
