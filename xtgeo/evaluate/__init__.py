"""How good results are: objects against labels, the xView3 metric, class rasters against class rasters.

    match.py         one-to-one pairs: the best assignment, or greedy by score
    place.py         objects of any CRS in true metres
    pairing.py       which files belong together
    objects.py       predictions and labels from vector files, scene by scene
    compare.py       which predictions are right, which are false, which labels are missed
    figures.py       precision, recall, F1, average precision, by class and size
    intervals.py     numbers with the bounds that a bootstrap gives them
    raster.py        the same for pixels
    pictures.py      the precision-recall curve, and chips of what went wrong
    xview3.py        the official metric of the xView3-SAR challenge
    xview3_files.py  its tables and shorelines
"""

from xtgeo.evaluate.match import Match, match_objects, match_points

__all__ = ["Match", "match_objects", "match_points"]
