"""Training: samples and crops, losses, the loop. `xtgeo.train.raster` makes targets of outlines and needs rasterio."""

from xtgeo.train.data import IGNORE, OPTICAL, SAR, Augment, Crops, Held, Sample, Sampling, centre_planes, crops
from xtgeo.train.learn import Area, Learn, from_areas, from_boxes, from_crops
from xtgeo.train.loop import Training, answer, fit
from xtgeo.train.losses import centre_loss, focal_dice

__all__ = [
    "IGNORE",
    "OPTICAL",
    "SAR",
    "Area",
    "Augment",
    "Crops",
    "Held",
    "Learn",
    "Sample",
    "Sampling",
    "Training",
    "answer",
    "centre_loss",
    "centre_planes",
    "crops",
    "fit",
    "focal_dice",
    "from_areas",
    "from_boxes",
    "from_crops",
]
