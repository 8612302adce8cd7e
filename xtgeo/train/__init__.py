"""Training: samples and crops, losses, the loop. `xtgeo.train.raster` makes targets of outlines and needs rasterio."""

from xtgeo.train.data import IGNORE, Augment, Sample, centre_planes, crops
from xtgeo.train.learn import Area, Learn, from_areas, from_boxes, from_crops
from xtgeo.train.loop import answer, fit
from xtgeo.train.losses import centre_loss, focal_dice

__all__ = [
    "IGNORE",
    "Area",
    "Augment",
    "Learn",
    "Sample",
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
