"""A chip: one object as the scene has it, in its own pixels, with its outline."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import shapely
from PIL import Image, ImageDraw

from xtgeo.errors import SceneError
from xtgeo.grid import lonlat_to_pixel
from xtgeo.picture import Stretch
from xtgeo.scene import Scene
from xtgeo.window import Window

SIDE = 320
"""Of the picture, in its own pixels."""
LEAST = 40
"""Pixels of the scene that are shown at least."""
MARK = (255, 214, 10, 255)
FINE = 3
"""Times as fine the outline is drawn, to be smooth."""


def chip(scene: Scene, stretch: Stretch, shape: shapely.Geometry, *, outlined: bool = True) -> bytes:
    """PNG of an object, `shape` in longitude and latitude, amid three times its size; nodata is transparent.

    A pixel of the scene is a square of several of the picture, as long as the object is no larger than a hundred pixels.

    Raises SceneError where the object is so far away that the scene has no pixel for it.
    """
    row, column = lonlat_to_pixel(scene.grid, *shapely.get_coordinates(shape).T)
    if not np.isfinite(row + column).all():
        raise SceneError(f"the object lies far off {scene.id}: it has no picture")
    top, left, bottom, right = row.min(), column.min(), row.max(), column.max()
    extent = max(bottom - top, right - left)
    factor = max(1, int(np.ceil(3 * extent / SIDE)))
    zoom = int(np.clip(SIDE // max(LEAST, 3 * extent), 1, SIDE // LEAST))
    side = SIDE // zoom * factor
    window = Window(round((top + bottom - side) / 2), round((left + right - side) / 2), side, side)
    block = scene.means(window, factor) if factor > 1 else scene.read(window)
    picture = Image.fromarray(stretch.paint(scene, block)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    if outlined:
        pen_scale = SIDE * FINE / side
        sheet = Image.new("RGBA", (SIDE * FINE,) * 2)
        _draw(ImageDraw.Draw(sheet), shapely.transform(shape, lambda xy: _on_sheet(scene, window, xy) * pen_scale))
        picture = Image.alpha_composite(picture, sheet.resize(picture.size, Image.Resampling.BOX))
    out = BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _on_sheet(scene: Scene, window: Window, lonlat: np.ndarray) -> np.ndarray:
    row, column = lonlat_to_pixel(scene.grid, *lonlat.T)
    return np.stack([column - window.x, row - window.y], 1)


def _draw(pen: ImageDraw.ImageDraw, shape: shapely.Geometry) -> None:
    if shape.geom_type == "Point":
        radius = 14 * FINE
        pen.ellipse(
            [shape.x - radius, shape.y - radius, shape.x + radius, shape.y + radius], outline=MARK, width=2 * FINE
        )
        return
    for ring in shapely.get_rings(shapely.get_parts(shape)):
        pen.line([tuple(p) for p in ring.coords], fill=MARK, width=2 * FINE, joint="curve")
