"""Sentinel-1 scenes with known ships."""

from xtgeo.simulate.sentinel1 import sentinel1
from xtgeo.simulate.targets import Ship
from xtgeo.simulate.truth import Params, SimulatedScene
from xtgeo.simulate.write import write_scene, write_xview3

__all__ = ["Params", "Ship", "SimulatedScene", "sentinel1", "write_scene", "write_xview3"]
