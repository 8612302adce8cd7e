"""Extent: how long the objects under points are, measured on their pixels.

    power around a point -> rarity in the sea around it (xtgeo.model.cfar) -> what is rare, in one piece -> long side, less the blur

A network that has learnt lengths from simulated ships says of real ones, whose scatterers lie otherwise, that they are too short.
What is longer than a few resolution cells can be measured, whoever found it. A piece is what touches: a ship in a row of ships, or
at a quay, is as long as what is bright around it, if that does not reach REACH_M. Points on one piece all have its length: a long
hull can have two centres.
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


def measured_lengths(scene: Scene, rows: np.ndarray, columns: np.ndarray, pixel_m: tuple[float, float]) -> np.ndarray:
    """Lengths in metres (n,) of the bright objects under points; NaN where there is none, or none that is LEAST_M long.

    scene: a radar image in dB, or what can be turned into it. rows, columns: centres (n,) in pixels from the scene's upper-left
    corner. pixel_m: down and across a pixel on the ground. A length is the long side of the smallest rectangle around the piece,
    less BLUR_M; NaN, too, where a piece is cut by what was not measured. It depends on the pixels around its point alone.
    """
    scene, (down, across) = scene.convert("db"), pixel_m
    model = build_cfar(gsd=(down + across) / 2)
    net, bands = model.net, [i for i, band in enumerate(scene.bands) if band.lower() in model.spec.bands]
    reach = round(REACH_M / down), round(REACH_M / across)
    lengths = np.full(len(rows), np.nan)
    for indices, window in squares(rows, columns, TOGETHER_PX, max(reach) + net.margin) if bands else ():
        block = scene.read(window)
        over = np.where(block.valid, block.data[bands] - LOWEST_DB, 0).astype(np.float32)
        with torch.inference_mode():
            rare = net.scores(torch.from_numpy(over))[0].numpy() >= RARITY / (RARITY + MIDDLE)
        valid = block.valid[net.margin : -net.margin, net.margin : -net.margin]
        for i in indices:
            y, x = int(rows[i]) - window.y - net.margin, int(columns[i]) - window.x - net.margin
            around = np.s_[y - reach[0] : y + reach[0] + 1, x - reach[1] : x + reach[1] + 1]
            lengths[i] = _long_side(rare[around], valid[around], down, across) - BLUR_M
    return np.where(lengths >= LEAST_M, lengths, np.nan)


def _long_side(rare: np.ndarray, valid: np.ndarray, down: float, across: float) -> float:
    """In metres, of the piece nearest to the middle of a square; NaN where none is near, or where it reaches the rim or nodata."""
    pieces, _ = ndimage.label(rare, np.ones((3, 3)))
    y, x = np.nonzero(pieces)
    away = np.hypot((y - rare.shape[0] // 2) * down, (x - rare.shape[1] // 2) * across)
    if not len(away) or away.min() > NEAR_M:
        return np.nan
    own = pieces == pieces[y[away.argmin()], x[away.argmin()]]
    whole = np.pad(valid[1:-1, 1:-1], 1)
    if (ndimage.binary_dilation(own, np.ones((3, 3))) & ~whole).any():
        return np.nan
    y, x = np.nonzero(own)
    rectangle = shapely.oriented_envelope(
        shapely.union_all(shapely.box(x * across, y * down, (x + 1) * across, (y + 1) * down))
    )
    sides = np.hypot(*np.diff(shapely.get_coordinates(rectangle)[:3], axis=0).T)
    return float(sides.max())
