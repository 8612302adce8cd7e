"""Training: samples and crops, losses, the loop. `xtgeo.train.raster` makes targets of outlines and needs rasterio."""

from xtgeo.train.data import IGNORE, Augment, Sample, crops
from xtgeo.train.loop import answer, fit
from xtgeo.train.losses import focal_dice

__all__ = ["IGNORE", "Augment", "Sample", "answer", "crops", "fit", "focal_dice"]
