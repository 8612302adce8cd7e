"""Networks over arrays: they know bands, valid masks and metres, and nothing of files."""

from xtgeo.model.model import Model, fold_batchnorm
from xtgeo.model.spec import Spec
from xtgeo.model.weights import bundled, load_model, load_spec, save_model
from xtgeo.model.xt import XT, build

__all__ = ["XT", "Model", "Spec", "build", "bundled", "fold_batchnorm", "load_model", "load_spec", "save_model"]
