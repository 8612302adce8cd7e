"""The official metric of the xView3-SAR challenge, and the same without its quirks.

Reference: Paolo et al. 2022, arXiv 2206.00897, and DIUx-xView/xview3-reference, reference/metric.py (2021). A scene is
scored on a grid of 10 m, whatever its geotransform says. Quirks of the reference:

    no_predictions    a scene without predictions vanishes, and its labels are not missed
    no_labels         a scene without labels that count vanishes, and its predictions are not false
    emptied           a scene whose predictions all lie on LOW labels; the reference crashes, here its labels are missed
    one_sided_shore   near shore there are only labels or only predictions: they are neither missed nor false
    on_vertex         a prediction on the only shoreline vertex within reach counts as far from shore
    unknown_class     a null class of a prediction is the opposite of the truth
    unknown_length    one null length of a prediction makes `length_acc` and `aggregate` NaN

"strict" has none of them: every scene of either table counts, a null class says no, a null length is an error of 1. One
peculiarity is the metric's own and stays in both, but is counted: `low_steals`, where a prediction is taken for a LOW label and
removed although it lay near one that counts, which is then missed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree, distance_matrix

PIXEL_M = 10
REACH_M = 200
"""Pairs lie closer than that."""
SHORE_KM = 2
LONGEST_M = 500
"""Lengths are cut there."""
NEVER = 99_999_990
"""Cost of a pair out of reach."""
SCORES = ("loc_fscore", "loc_fscore_shore", "vessel_fscore", "fishing_fscore", "length_acc", "aggregate")
QUIRKS = ("no_predictions", "no_labels", "emptied", "one_sided_shore", "on_vertex", "unknown_class", "unknown_length", "low_steals")


@dataclass(frozen=True)
class Rules:
    """How the metric is taken; the defaults are the leaderboard's."""

    mode: str = "reference"
    """"reference", or "strict" without quirks."""
    low: str = "drop"
    """LOW labels: "drop" removes them and the predictions on them, "keep" leaves those false, "count" makes them labels as any."""
    costly: bool = True
    """Whether pairs out of reach cost so much that as many as possible are made within reach."""

    def __post_init__(self):
        for name, known in (("mode", ("reference", "strict")), ("low", ("drop", "keep", "count"))):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}: choose one of {', '.join(known)}")


@dataclass(frozen=True)
class Tally:
    """Decisions by their outcome."""

    right: int = 0
    false: int = 0
    missed: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.right + other.right, self.false + other.false, self.missed + other.missed)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where there is nothing."""
        both = 2 * self.right + self.false + self.missed
        return 2 * self.right / both if both else 0.0


@dataclass(frozen=True)
class SceneScore:
    """What one scene adds to the score."""

    scene_id: str
    loc: Tally = Tally()
    """Predictions against labels."""
    shore: Tally = Tally()
    """The same near the shore, with pairs of its own."""
    vessel: Tally = Tally()
    """Over pairs: is it a vessel."""
    fishing: Tally = Tally()
    """Over pairs with a true vessel: does it fish."""
    length_error: float = 0.0
    """Sum over pairs with a known true length of |predicted - true| / true."""
    lengths: int = 0
    """Number of those pairs."""
    dropped: int = 0
    """Predictions removed for lying on a LOW label."""
    quirks: frozenset[str] = frozenset()
    """Those of the reference that touch the scene."""


@dataclass(frozen=True)
class Score:
    """The metric over all scenes."""

    rules: Rules
    scenes: tuple[SceneScore, ...]

    @property
    def loc_fscore(self) -> float:
        """F1 of finding objects."""
        return self.total("loc").f1

    @property
    def loc_fscore_shore(self) -> float:
        """F1 of finding objects within 2 km of the shore."""
        return self.total("shore").f1

    @property
    def vessel_fscore(self) -> float:
        """F1 of telling vessels from other objects."""
        return self.total("vessel").f1

    @property
    def fishing_fscore(self) -> float:
        """F1 of telling fishing vessels from other vessels."""
        return self.total("fishing").f1

    @property
    def length_acc(self) -> float:
        """1 - mean relative error of the length, not below 0; 0 without a length."""
        n = sum(scene.lengths for scene in self.scenes)
        return float(1 - np.minimum(sum(scene.length_error for scene in self.scenes) / n, 1)) if n else 0.0

    @property
    def aggregate(self) -> float:
        """loc_fscore x (1 + the other four) / 5."""
        others = self.length_acc + self.vessel_fscore + self.fishing_fscore + self.loc_fscore_shore
        return self.loc_fscore * (1 + others) / 5

    @property
    def quirks(self) -> dict[str, int]:
        """How many scenes each quirk of the reference touches."""
        return {name: sum(name in scene.quirks for scene in self.scenes) for name in QUIRKS}

    def total(self, name: str) -> Tally:
        """Of loc, shore, vessel or fishing: the sum over scenes."""
        return sum((getattr(scene, name) for scene in self.scenes), Tally())

    def as_dict(self) -> dict[str, float | None]:
        """The six numbers under the reference's names; None for NaN."""
        numbers = {name: getattr(self, name) for name in SCORES}
        return {name: None if np.isnan(number) else number for name, number in numbers.items()}

    def details(self) -> dict:
        """What else there is to say, as plain values: the rules, sums over scenes, quirks, and each scene."""
        totals = {name: asdict(self.total(name)) for name in ("loc", "shore", "vessel", "fishing")}
        scenes = [asdict(scene) | {"quirks": sorted(scene.quirks)} for scene in self.scenes]
        return {**asdict(self.rules), "totals": totals, "quirks": self.quirks, "scenes": scenes}

    def __str__(self) -> str:
        rows = [f"{name:<18}{'NaN' if number is None else f'{number:.6f}'}" for name, number in self.as_dict().items()]
        loc = self.total("loc")
        several = f"{len(self.scenes)} scene" + "s" * (len(self.scenes) > 1)
        rows.append(f"{several}: {loc.right} right, {loc.false} false, {loc.missed} missed; mode {self.rules.mode}")
        touched = [f"{name} {count}" for name, count in self.quirks.items() if count]
        return "\n".join([*rows, f"scenes touched by quirks of the reference: {', '.join(touched) or 'none'}"])


def score(
    predictions: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    shore: Callable[[str], np.ndarray] | None = None,
    rules: Rules = Rules(),
) -> Score:
    """The metric of `predictions` against `labels`, tables as `xview3_files` reads them.

    shore: gives the shoreline's vertices (n, 2), row and column in pixels, of a scene by its id; asked for one scene after
    the other. Without it nothing is near the shore and `loc_fscore_shore` is 0.
    """
    found, true = (dict(iter(table.groupby("scene_id", sort=False))) for table in (predictions, labels))
    empty = predictions.iloc[:0], labels.iloc[:0]
    scenes = [
        _score_scene(name, found.get(name, empty[0]), true.get(name, empty[1]), shore, rules) for name in {**true, **found}
    ]
    return Score(rules, tuple(scenes))


def _score_scene(name: str, found: pd.DataFrame, labels: pd.DataFrame, shore, rules: Rules) -> SceneScore:
    counted = labels if rules.low == "count" else labels[labels["confidence"] != "LOW"]
    kept, stolen = _without_low(found, labels, counted, rules) if rules.low == "drop" else (found, False)
    n, m = len(kept), len(counted)
    touched = {
        "no_predictions": bool(m) and not len(found),
        "no_labels": bool(n) and not m,
        "emptied": bool(m and len(found)) and not n,
        "low_steals": stolen,
    }
    quirks = {quirk for quirk, is_so in touched.items() if is_so}
    if rules.mode == "reference" and not (len(found) and m):
        return SceneScore(name, quirks=frozenset(quirks))
    i, j = _pair(kept, counted, rules)
    parts = _score_attributes(kept.iloc[i], counted.iloc[j], rules.mode, quirks)
    near = Tally() if shore is None else _score_shore(kept, counted, shore(name), rules, quirks)
    loc = Tally(len(i), n - len(i), m - len(i))
    return SceneScore(name, loc, near, *parts, dropped=len(found) - n, quirks=frozenset(quirks))


def _pair(found: pd.DataFrame, true: pd.DataFrame, rules: Rules) -> tuple[np.ndarray, np.ndarray]:
    """Indices of pairs within reach.

    The whole matrix, in the tables' order: of several best assignments, frequent among whole pixels, it has to be the one
    that the reference gets from the same solver. A thousand by a thousand takes it a hundredth of a second.
    """
    if not len(found) or not len(true):
        return np.empty(0, int), np.empty(0, int)
    place = ["detect_scene_row", "detect_scene_column"]
    far = distance_matrix(found[place].to_numpy(float), true[place].to_numpy(float)) * PIXEL_M
    i, j = linear_sum_assignment(np.where(far > REACH_M, NEVER, far) if rules.costly else far)
    near = far[i, j] < REACH_M
    return i[near], j[near]


def _without_low(found: pd.DataFrame, labels: pd.DataFrame, counted: pd.DataFrame, rules: Rules) -> tuple[pd.DataFrame, bool]:
    """Predictions that are not taken for a LOW label, and whether a label that counts has lost its partner that way."""
    i, j = _pair(found, labels, rules)
    low = i[labels["confidence"].to_numpy()[j] == "LOW"]
    kept = found.drop(found.index[low])
    stolen = bool(len(low)) and len(_pair(found, counted, rules)[0]) > len(_pair(kept, counted, rules)[0])
    return kept, stolen


def _score_shore(found: pd.DataFrame, true: pd.DataFrame, vertices: np.ndarray, rules: Rules, quirks: set) -> Tally:
    near, vanished = _near_shore(found, vertices)
    if vanished.any():
        quirks.add("on_vertex")
    found = found[near & ~vanished] if rules.mode == "reference" else found[near]
    true = true[(true["distance_from_shore_km"] <= SHORE_KM).to_numpy()]
    if bool(len(found)) != bool(len(true)):
        quirks.add("one_sided_shore")
        if rules.mode == "reference":
            return Tally()
    n = len(_pair(found, true, rules)[0])
    return Tally(n, len(found) - n, len(true) - n)


def _near_shore(found: pd.DataFrame, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) whether a vertex is within reach, and whether all such lie exactly on the prediction: the reference sees none then."""
    if not len(found) or not len(vertices):
        return np.zeros(len(found), bool), np.zeros(len(found), bool)
    tree, places = cKDTree(vertices), found[["detect_scene_row", "detect_scene_column"]].to_numpy(float)
    reach = (SHORE_KM + REACH_M / 1000) * 1000 / PIXEL_M
    near = tree.query(places, distance_upper_bound=np.nextafter(reach, np.inf))[0] <= reach
    vanished = np.zeros(len(found), bool)
    for n in np.flatnonzero(near & (tree.query(places)[0] == 0)):
        within = tree.query_ball_point(places[n], reach, return_length=True)
        vanished[n] = within == tree.query_ball_point(places[n], 0.0, return_length=True)
    return near, vanished


def _score_attributes(found: pd.DataFrame, true: pd.DataFrame, mode: str, quirks: set) -> tuple[Tally, Tally, float, int]:
    """Vessel, fishing, sum of length errors and their number, over pairs: row k of both tables."""
    is_vessel = true["is_vessel"].fillna(False).to_numpy(bool)
    vessel = _score_class(found["is_vessel"], true["is_vessel"], mode, quirks)
    fishing = _score_class(found["is_fishing"][is_vessel], true["is_fishing"][is_vessel], mode, quirks)
    length, said = (np.minimum(table["vessel_length_m"].to_numpy(float), LONGEST_M) for table in (true, found))
    known = np.isfinite(length)
    error = np.abs(said - length)[known] / length[known]
    if np.isnan(error).any():
        quirks.add("unknown_length")
        error = error if mode == "reference" else np.where(np.isnan(error), 1.0, error)
    return vessel, fishing, float(error.sum()), int(known.sum())


def _score_class(said: pd.Series, true: pd.Series, mode: str, quirks: set) -> Tally:
    known = true.notna().to_numpy()
    said, true = said[known], true[known].to_numpy(bool)
    null = said.isna().to_numpy()
    if null.any():
        quirks.add("unknown_class")
    said = np.where(null, ~true if mode == "reference" else False, said.fillna(False).to_numpy(bool))
    return Tally(int((said & true).sum()), int((said & ~true).sum()), int((~said & true).sum()))
