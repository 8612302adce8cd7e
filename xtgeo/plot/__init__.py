"""Pictures: scenes, what was found in them, how they are cut and what a model thinks of them.

    plot_scene(scene)                   a scene or a window of it, with scale bar, north and coordinates
    plot_detections(detections, scene)  outlines and points
    plot_nest(scene, nest)              tiles, regions and margins
    plot_scores(scene, scores)          probabilities over the scene
    chips(detections, scene)            each object by itself, the surest first: an image
    explore(detections)                 a map to walk about in

The first four give matplotlib's Axes, to draw more on and to save: `ax.figure.savefig("scene.png")`. What draws is loaded when it
is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from xtgeo.errors import OutputError

if TYPE_CHECKING:
    from xtgeo.plot.draw import plot_detections, plot_nest, plot_scene, plot_scores
    from xtgeo.plot.explorer import explore
    from xtgeo.plot.sheet import chips

_HOMES = {
    "xtgeo.plot.draw": ["plot_detections", "plot_nest", "plot_scene", "plot_scores"],
    "xtgeo.plot.explorer": ["explore"],
    "xtgeo.plot.sheet": ["chips"],
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
_EXTRAS = {"matplotlib": "plots", "lonboard": "notebook"}
"""What may be missing, and the extra that brings it."""

__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'xtgeo.plot' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOME[name]), name)
    except ModuleNotFoundError as e:
        if e.name not in _EXTRAS:
            raise
        raise OutputError(f"{name} needs {e.name}, which is not installed: pip install 'xtgeo-sat[{_EXTRAS[e.name]}]'") from e
