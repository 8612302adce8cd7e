"""Which predictions are right, which are false, which labels are missed."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from xtgeo.errors import LabelError
from xtgeo.evaluate.match import assign, overlap, take_by_score
from xtgeo.evaluate.objects import Objects
from xtgeo.evaluate.place import flatten, gap_m, neighbours
from xtgeo.grid import WGS84

ELSEWHERE_M = 500_000.0
"""Farther apart than any two objects of one scene."""


@dataclass(frozen=True)
class Rule:
    """When a found and a true object may be a pair."""

    kind: str
    """"iou": overlap; "centre": overlap, or either centre inside the other object; "distance": of the centres."""
    limit: float
    """Least intersection over union, or largest distance in metres."""

    def __post_init__(self):
        if self.kind not in ("iou", "centre", "distance"):
            raise ValueError(f"unknown rule {self.kind!r}: choose iou, centre or distance")
        if not 0 < self.limit <= (np.inf if self.kind == "distance" else 1):
            raise ValueError(f"{self.kind} cannot be {self.limit}")

    @classmethod
    def parse(cls, text: str) -> Rule:
        """From "iou=0.3", "centre=0.3", "distance=200m" or "distance=0.2km"."""
        found = re.fullmatch(r"\s*(?:(iou|centre)\s*=\s*([0-9.]+)|distance\s*=\s*([0-9.]+)\s*(km|m)?)\s*", text)
        try:
            if found and found[1]:
                return cls(found[1], float(found[2]))
            if found:
                return cls("distance", float(found[3]) * (1000 if found[4] == "km" else 1))
        except ValueError:
            pass
        raise LabelError(f"cannot read the match {text!r}: write it as iou=0.3, centre=0.3 or distance=200m")

    def __str__(self) -> str:
        return f"{self.kind}={self.limit:g}" + ("m" if self.kind == "distance" else "")


@dataclass(frozen=True, eq=False)
class Outcome:
    """Predictions and labels, and what became of each."""

    found: Objects
    true: Objects
    rule: Rule
    partner: np.ndarray
    """(found,) index of the label that each prediction is paired with, or -1: as many pairs as possible, then the closest."""
    neutral: np.ndarray
    """(found,) no partner, but an ignored label within the rule: neither right nor false."""
    by_score: np.ndarray | None
    """(found,) `partner` of the greedy pairs by which average precision is defined; None without scores."""
    neutral_by_score: np.ndarray | None
    """(found,) `neutral` of those."""

    @property
    def is_missed(self) -> np.ndarray:
        """(true,) counts, and has no partner."""
        return ~self.true.ignored & ~np.isin(np.arange(len(self.true)), self.partner)

    @property
    def is_false(self) -> np.ndarray:
        """(found,) neither paired nor neutral."""
        return (self.partner < 0) & ~self.neutral


def default_rule(found: Objects, true: Objects) -> Rule:
    """Overlap of 0.3 between polygons, else 200 m."""
    return Rule("iou", 0.3) if found.is_polygons and true.is_polygons else Rule("distance", 200.0)


def compare(found: Objects, true: Objects, rule: Rule) -> Outcome:
    """Pairs within each scene and class, one to one."""
    if rule.kind != "distance" and not (found.is_polygons and true.is_polygons):
        raise LabelError(f"--match {rule} needs polygons on both sides, and there are points; use --match distance=200m")
    _refuse_elsewhere(found, true)
    i, j, closeness = _candidates(found, true, rule)
    real = ~true.ignored[j] & (found.kind[i] == true.kind[j])
    close_to_ignored = np.zeros(len(found), bool)
    # Where the class of a label is not known, a prediction of any class may be right.
    close_to_ignored[i[true.ignored[j] & ((found.kind[i] == true.kind[j]) | pd.isna(true.kind[j]))]] = True
    i, j, closeness = i[real], j[real], closeness[real]
    partner = np.full(len(found), -1)
    pairs = assign(i, j, (0 if rule.kind == "distance" else 1) - closeness)
    partner[pairs[:, 0]] = pairs[:, 1]
    by_score = None if found.score is None else take_by_score(i, j, closeness, found.score)
    neutral_by_score = None if by_score is None else (by_score < 0) & close_to_ignored
    return Outcome(found, true, rule, partner, (partner < 0) & close_to_ignored, by_score, neutral_by_score)


def _refuse_elsewhere(found: Objects, true: Objects) -> None:
    """Predictions and labels of which none are near each other are of different places, or of a wrong CRS."""
    if len(found) and len(true) and gap_m(found.at, true.at) > ELSEWHERE_M:
        there = [f"longitude {o.at.lon[0]:.2f}, latitude {o.at.lat[0]:.2f}" for o in (found, true)]
        raise LabelError(
            f"predictions (one at {there[0]}) and labels (one at {there[1]}) are nowhere near each other: check CRS and scenes"
        )


def _candidates(found: Objects, true: Objects, rule: Rule) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs (i, j) of one scene within the rule, and how close they are: intersection over union, or minus metres."""
    by_distance = rule.kind == "distance"
    reach = (np.full(len(found), rule.limit), np.zeros(len(true))) if by_distance else (found.at.radius_m, true.at.radius_m)
    i, j = neighbours(found.at, true.at, *reach)
    same = found.scene[i] == true.scene[j]
    i, j = i[same], j[same]
    lon, lat = true.at.lon[j], true.at.lat[j]
    if by_distance:
        closeness = -np.asarray(WGS84.inv(found.at.lon[i], found.at.lat[i], lon, lat)[2])
        good = closeness >= -rule.limit
    else:
        closeness, centred = overlap(flatten(found.geometry[i], lon, lat), flatten(true.geometry[j], lon, lat))
        good = (closeness >= rule.limit) | (centred & (rule.kind == "centre"))
    return i[good], j[good], closeness[good]
