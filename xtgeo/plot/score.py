"""How sure the model was."""

import numpy as np

from xtgeo.detections import Detections


def score_of(detections: Detections) -> np.ndarray:
    """0 to 1 for each object: `score` of outlines, `presence_score` of points."""
    return np.asarray(detections["score" if "score" in detections.fields else "presence_score"], float)
