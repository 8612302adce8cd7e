"""xtgeo: every object of a whole satellite scene, on the map.

    scene = xtgeo.open_scene("scene.tif")
    result = xtgeo.segment(scene, xtgeo.load_model("vessels-sar"), out="vessels.gpkg")

Importing this module loads neither torch nor rasterio; the names below load what they need when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xtgeo.batches import batch
    from xtgeo.cluster import connect
    from xtgeo.conversion import convert
    from xtgeo.detections import Detections
    from xtgeo.errors import ClusterError, JournalError, ModelError, OutputError, PlanError, SceneError, XtgeoError
    from xtgeo.infer import classify, plan, predict
    from xtgeo.job import detect, segment
    from xtgeo.masks import Masks
    from xtgeo.model import XT, Model, Spec, load_model, load_official, save_model
    from xtgeo.plot import plot_nest
    from xtgeo.read import open_scene
    from xtgeo.scene import Block, Scene
    from xtgeo.viewer import report, view
    from xtgeo.window import Nest, Tile, Window
    from xtgeo.write import RasterSink, VectorSink

_HOMES = {
    "xtgeo.batches": ["batch"],
    "xtgeo.cluster": ["connect"],
    "xtgeo.conversion": ["convert"],
    "xtgeo.detections": ["Detections"],
    "xtgeo.errors": ["ClusterError", "JournalError", "ModelError", "OutputError", "PlanError", "SceneError", "XtgeoError"],
    "xtgeo.infer": ["classify", "plan", "predict"],
    "xtgeo.masks": ["Masks"],
    "xtgeo.model": ["Model", "Spec", "XT", "load_model", "load_official", "save_model"],
    "xtgeo.plot": ["plot_nest"],
    "xtgeo.read": ["open_scene"],
    "xtgeo.scene": ["Block", "Scene"],
    "xtgeo.job": ["detect", "segment"],
    "xtgeo.viewer": ["report", "view"],
    "xtgeo.window": ["Nest", "Tile", "Window"],
    "xtgeo.write": ["RasterSink", "VectorSink"],
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xtgeo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
