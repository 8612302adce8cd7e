"""Many scenes into one folder, on all workers of a Dask cluster.

listing.py    which scenes: patterns, lists, tables, STAC ItemCollections
record.py     what became of each, on disk
run.py        batch(): scene after scene, tiles of several at a time
forecast.py   what a batch would take, without doing it
report.py     summary.json and report.html
"""

from xtgeo.batches.forecast import Forecast, forecast
from xtgeo.batches.listing import Entry, entries
from xtgeo.batches.run import Standing, batch

__all__ = ["Entry", "Forecast", "Standing", "batch", "entries", "forecast"]
