"""Training: samples and crops, losses, the loop."""

from xtgeo.train.data import IGNORE, Augment, Sample, crops
from xtgeo.train.loop import answer, fit
from xtgeo.train.losses import focal_dice
from xtgeo.train.raster import burn, outlines

__all__ = ["IGNORE", "Augment", "Sample", "answer", "burn", "crops", "fit", "focal_dice", "outlines"]
