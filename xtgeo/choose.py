"""Which model fits a scene, and why another does not."""

from __future__ import annotations

import math
import os

import numpy as np

from xtgeo.errors import ModelError, SceneError
from xtgeo.grid import pixel_size_m
from xtgeo.haze import take_off_haze
from xtgeo.model import Model, Spec, bundled, load_model, load_spec
from xtgeo.model.weights import WEIGHTLESS
from xtgeo.scene import CONVERSIONS, Scene

LARGEST_RATIO = 2.0
"""Between a scene's ground sample distance and the model's; beyond it ships are of another size than the ones learnt."""


def present(scene: Scene, spec: Spec) -> tuple[str, ...]:
    """The scene's bands that the model asks for, in the model's order; see `Scene.find`."""
    return tuple(found for band in spec.bands if (found := scene.find(band)))


def misfits(scene: Scene, spec: Spec, *, check_gsd: bool = True) -> list[str]:
    """Why the model cannot be used on the scene; empty where it can."""
    reasons = []
    missing = [band for band in spec.bands if not scene.find(band)]
    found = len(missing) < len(spec.bands)
    if not found or not set(missing) <= set(spec.optional):
        needed = missing if found else spec.bands
        reasons.append(f"it needs the bands {', '.join(needed)}; the scene has {', '.join(scene.bands)}")
    if scene.units != spec.units and (scene.stored_units, spec.units) not in CONVERSIONS:
        reasons.append(f"it needs {spec.units}, the scene holds {scene.units}")
    gsd = max(pixel_size_m(scene.grid))
    if check_gsd and not math.isnan(gsd) and not 1 / LARGEST_RATIO <= gsd / spec.gsd <= LARGEST_RATIO:
        reasons.append(f"it was trained at {spec.gsd:g} m per pixel, the scene has {gsd:.3g} m")
    return reasons


def fitting_models(scene: Scene, task: str | None = None) -> list[str]:
    """Names of the bundled models, of a task or of all, that can be used on the scene."""
    return [name for name in _of(task) if not misfits(scene, load_spec(name))]


def _of(task: str | None) -> list[str]:
    return [name for name in bundled() if task in (None, load_spec(name).task)]


def choose_model(scene: Scene, task: str = "segment") -> str:
    """The one bundled model that fits the scene; refused, with the reasons, where there is none or more than one."""
    names = fitting_models(scene, task)
    if len(names) == 1:
        return names[0]
    if names:
        raise ModelError(f"several models fit {scene.id}: choose one with --model {' | '.join(names)}")
    reasons = "; ".join(f"{name}: {', and '.join(misfits(scene, load_spec(name)))}" for name in _of(task))
    raise ModelError(
        f"no bundled model to {task} fits {scene.id} ({reasons or 'there is none'}): name bands and units (--bands vv=1,vh=2 "
        "--units db) or give a model of your own with --model"
    )


def load_for(scene: Scene, name: str | os.PathLike) -> Model:
    """The model of this name or file; one without weights is made for the scene's pixels, if their size is known."""
    if name in WEIGHTLESS and scene.is_georeferenced:
        return WEIGHTLESS[name](gsd=float(np.mean(pixel_size_m(scene.grid))))
    return load_model(name)


def adapt(scene: Scene, spec: Spec) -> Scene:
    """The scene as the model reads it: its bands in its order, its units, without haze. Refused where it does not fit.

    A ground sample distance other than the model's is accepted here: who names a model may know better.
    """
    reasons = misfits(scene, spec, check_gsd=False)
    if not reasons:
        dark = [level for band, level in zip(spec.bands, spec.dark, strict=False) if scene.find(band)]
        scene = scene.select(*present(scene, spec)).convert(spec.units)
        return take_off_haze(scene, dark) if dark and not scene.haze else scene
    if scene.units != spec.units and len(reasons) == 1 and "bands" not in reasons[0]:
        scene.convert(spec.units)  # says what the values look like
    raise SceneError(f"model {spec.name} does not fit {scene.id}: {', and '.join(reasons)}; name bands and units "
                     "with --bands vv=1,vh=2 --units db")
