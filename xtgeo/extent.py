"""Extent: how long the objects under points are, measured on their pixels.

    power around a point -> rarity in the sea around it (xtgeo.model.cfar) -> what is rare, in one piece -> long side, less the blur

A network that has learnt lengths from simulated ships says of real ones, whose scatterers lie otherwise, that they are too short.
What is longer than a few resolution cells can be measured, whoever found it.
"""

from __future__ import annotations

import numpy as np
import shapely
import torch
from scipy import ndimage

from xtgeo.backscatter import squares
from xtgeo.model.cfar import BLUR_M, LOWEST_DB, MIDDLE, build_cfar
from xtgeo.scene import Scene

RARITY = 9.0
"""-log10 of the probability that sea is as bright, from which on a pixel is the object's: `cfar`'s 6 takes in its sidelobes."""
LEAST_M = 90.0
"""Four resolution cells of Sentinel-1 IW GRDH: what looks shorter is not told."""
NEAR_M = 40.0
"""The piece lies at most so far from the point."""
REACH_M = 350.0
"""A piece that goes on beyond this distance from the point, in rows or columns, is no ship, but land or a quay."""
TOGETHER_PX = 128
"""Points of one square of this side are read at once."""
POLARISATIONS = ("vv", "vh", "hh", "hv")


def measured_lengths(scene: Scene, rows: np.ndarray, columns: np.ndarray, pixel_m: float) -> np.ndarray:
    """Lengths in metres (n,) of the bright objects under points; NaN where there is none, or none that is LEAST_M long.

    scene: a radar image in dB, or what can be turned into it. rows, columns: centres (n,) in pixels from the scene's upper-left
    corner. pixel_m: side of a pixel on the ground. A length is the long side of the smallest rectangle around the piece, less
    BLUR_M, as `cfar` gives it. It depends on the pixels around the point alone.
    """
    scene, net = scene.convert("db"), build_cfar(gsd=pixel_m).net
    bands = [i for i, band in enumerate(scene.bands) if band.lower() in POLARISATIONS]
    lengths, reach = np.full(len(rows), np.nan), round(REACH_M / pixel_m)
    for indices, window in squares(rows, columns, TOGETHER_PX, reach + net.margin) if bands else ():
        block = scene.read(window)
        over = np.where(block.valid, block.data[bands] - LOWEST_DB, 0).astype(np.float32)
        with torch.inference_mode():
            rare = net.scores(torch.from_numpy(over))[0].numpy() >= RARITY / (RARITY + MIDDLE)
        for i in indices:
            y, x = (int(at[i]) - corner - net.margin for at, corner in ((rows, window.y), (columns, window.x)))
            around = rare[y - reach : y + reach + 1, x - reach : x + reach + 1]
            lengths[i] = _length_px(around, NEAR_M / pixel_m) * pixel_m - BLUR_M
    return np.where(lengths >= LEAST_M, lengths, np.nan)


def _length_px(rare: np.ndarray, near: float) -> float:
    """Of the piece nearest to the middle of a square; NaN where none is near, or where it reaches the rim."""
    pieces, _ = ndimage.label(rare, np.ones((3, 3)))
    y, x = np.nonzero(pieces)
    away = np.hypot(y - rare.shape[0] // 2, x - rare.shape[1] // 2)
    if not len(away) or away.min() > near:
        return np.nan
    own = pieces == pieces[y[away.argmin()], x[away.argmin()]]
    if own[[0, -1]].any() or own[:, [0, -1]].any():
        return np.nan
    y, x = np.nonzero(own)
    rectangle = shapely.oriented_envelope(shapely.union_all(shapely.box(x, y, x + 1, y + 1)))
    return float(np.hypot(*np.diff(shapely.get_coordinates(rectangle)[:3], axis=0).T).max())
