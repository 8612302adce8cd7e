"""Networks over arrays: they know bands, valid masks and metres, and nothing of files."""

from xtgeo.model.model import Model, fold_batchnorm
from xtgeo.model.official import load_official, save_official
from xtgeo.model.spec import Spec
from xtgeo.model.weights import bundled, load_model, load_spec, save_model
from xtgeo.model.xt import XT, XTClassifier, build

__all__ = [
    "XT",
    "Model",
    "Spec",
    "XTClassifier",
    "build",
    "bundled",
    "fold_batchnorm",
    "load_model",
    "load_official",
    "load_spec",
    "save_model",
    "save_official",
]
