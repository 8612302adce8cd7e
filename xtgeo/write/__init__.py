"""Sinks: they take blocks or detections as they come; nothing is visible at the final path until it is complete."""

from xtgeo.write.quicklook import PICTURES, quicklook, write_picture
from xtgeo.write.raster import RasterSink
from xtgeo.write.staged import check_target, together
from xtgeo.write.tables import FORMATS, Tables, read_tables
from xtgeo.write.vector import VectorSink, check_crs

__all__ = [
    "FORMATS", "PICTURES", "RasterSink", "Tables", "VectorSink", "check_crs", "check_target", "quicklook", "read_tables",
    "together", "write_picture",
]  # fmt: skip
