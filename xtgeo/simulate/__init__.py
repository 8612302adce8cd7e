"""Sentinel-1 scenes with known ships."""

from xtgeo.simulate.geometry import Nesz
from xtgeo.simulate.params import Conditions, Params
from xtgeo.simulate.plan import ScenePlan
from xtgeo.simulate.sentinel1 import plan_sentinel1, sentinel1
from xtgeo.simulate.targets import Ghost, Ship
from xtgeo.simulate.truth import SimulatedScene, Truth
from xtgeo.simulate.write import write_scene, write_xview3

__all__ = [
    "Conditions",
    "Ghost",
    "Nesz",
    "Params",
    "ScenePlan",
    "Ship",
    "SimulatedScene",
    "Truth",
    "plan_sentinel1",
    "sentinel1",
    "write_scene",
    "write_xview3",
]
