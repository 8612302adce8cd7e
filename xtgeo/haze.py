"""Dark-object subtraction: haze and glint add about the same light to all pixels of a band, and the darkest ones tell how much.

Chavez, P. S. (1988): An improved dark-object subtraction technique for atmospheric scattering correction of multispectral data.
Remote Sensing of Environment 24, 459-479. What is darkest here is a percentile, not the start of the histogram.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from xtgeo.scene import Scene, within_block
from xtgeo.window import Window

DARKEST = 2.0
"""Percentile of a scene's valid pixels that is taken for dark."""
WHOLE = 1024
"""Side in pixels up to which a scene is looked at whole."""
LOOKS, LOOK_PX = 8, 128
"""Squares down and across that are looked at in larger scenes without overviews, and their side."""


def take_off_haze(scene: Scene, dark: Sequence[float]) -> Scene:
    """The scene whose darkest pixels are `dark`, a level per band in its units; see `darkest`."""
    levels = darkest(scene)
    return scene if np.isnan(levels).any() else replace(scene, haze=tuple((levels - np.asarray(dark)).tolist()))


def darkest(scene: Scene) -> np.ndarray:
    """(band,) the level under which 2 % of the valid pixels lie, in the scene's units; NaN where there are none.

    Of the file's own overview of at least 512 px where there is one, of all pixels of a small scene, else of 64 squares: files
    with and without overviews may differ by a little, the same file never does.
    """
    scene = replace(scene, haze=())
    (h, w), coarse = scene.shape, scene.source.coarser(WHOLE // 2)
    if coarse is not None:
        blocks = [replace(scene, source=coarse).read(Window(0, 0, *coarse.shape))]
    elif max(h, w) <= WHOLE:
        blocks = [scene.read(Window(0, 0, h, w))]
    else:
        down, across = (
            sorted({within_block(int(at), LOOK_PX, block) for at in np.linspace(0, max(0, side - LOOK_PX), LOOKS)})
            for side, block in zip((h, w), scene.source.block_shape, strict=True)
        )
        blocks = [scene.read(Window(y, x, LOOK_PX, LOOK_PX)) for y in down for x in across]
    values = np.concatenate([block.data[:, block.valid] for block in blocks], axis=1)
    return np.percentile(values, DARKEST, axis=1) if values.size else np.full(len(scene.bands), np.nan)
