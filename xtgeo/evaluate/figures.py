"""Figures of how good predictions are, with intervals.

    precision          paired predictions / predictions that count
    recall             paired labels / labels that count
    f1                 2 x pairs / (predictions + labels that count)
    average_precision  as COCO defines it (Lin et al. 2014), at the one rule for pairs: predictions by descending score, each takes
                       the closest label that is free; at each recall of 0, 0.01, ... 1 the highest precision at that recall
                       or a higher one, 0 where it is never reached; the mean of the 101. There is no limit to the number
                       of predictions.

Intervals are those of `xtgeo.evaluate.intervals`: they draw whole scenes; where there are fewer than five, single decisions
(pairs, false predictions, missed labels), which says nothing of other scenes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np

from xtgeo.evaluate.compare import Outcome
from xtgeo.evaluate.intervals import FEW_SCENES, Figure, draws, figures, plain
from xtgeo.evaluate.objects import Objects

BINS = {"length": (0, 25, 50, 100, 200, np.inf), "area": (0, 500, 2000, 8000, 32000, np.inf)}
"""Bounds of sizes in metres and square metres; the upper one belongs to the next bin."""
RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Group:
    """Figures of all objects, or of those of one class."""

    name: str
    labels: int
    """That count."""
    predictions: int
    """That count."""
    pairs: int
    precision: Figure
    recall: Figure
    f1: Figure
    average_precision: Figure | None
    """None without scores."""


@dataclass(frozen=True)
class SizeBin:
    """Recall of labels from `low` to less than `high`."""

    low: float
    """NaN: the size is not known."""
    high: float
    labels: int
    found: int
    recall: Figure


@dataclass(frozen=True)
class Report:
    """What `xtgeo evaluate` prints."""

    match: str
    """The rule for pairs."""
    scenes: int
    resampled: str
    """What the intervals resample: "scenes" or "objects"."""
    ignored_labels: int
    neutral_predictions: int
    """Those on ignored labels alone."""
    unlabelled_scenes: int
    """With predictions, all of them false, and no label."""
    overall: Group
    """Over all classes; a pair must agree in class."""
    classes: tuple[Group, ...]
    size: str
    """What `sizes` are bins of."""
    sizes: tuple[SizeBin, ...]

    def as_dict(self) -> dict:
        """Plain values for JSON; None for what is not defined."""
        return plain(asdict(self))

    def __str__(self) -> str:
        return "\n".join(_lines(self))


@dataclass(frozen=True, eq=False)
class _Part:
    """Some of the predictions and labels that count: indices, and whether each is right."""

    found: np.ndarray
    right: np.ndarray
    true: np.ndarray
    hit: np.ndarray
    ranked: np.ndarray | None
    """Predictions that count for the curve, by descending score; None without scores."""
    ranked_right: np.ndarray | None

    @classmethod
    def of(cls, outcome: Outcome, found: np.ndarray | bool, true: np.ndarray | bool) -> _Part:
        """Those under the masks."""
        i = np.flatnonzero(found & ~outcome.neutral)
        j = np.flatnonzero(true & ~outcome.true.ignored)
        ranked = None
        if outcome.by_score is not None:
            order = np.argsort(-outcome.found.score, kind="stable")
            ranked = order[(found & ~outcome.neutral_by_score)[order]]
        ranked_right = None if ranked is None else outcome.by_score[ranked] >= 0
        return cls(i, outcome.partner[i] >= 0, j, ~outcome.is_missed[j], ranked, ranked_right)

    def curve(self, found_weight: np.ndarray, total: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Recall and precision after each prediction that weighs anything, and its index; `total` is the labels' weight."""
        there = found_weight[self.ranked] > 0
        ranked = self.ranked[there]
        right = np.cumsum(found_weight[ranked] * self.ranked_right[there])
        return right / total, right / np.cumsum(found_weight[ranked]), ranked


def report(
    outcome: Outcome, *, size: str = "length", bins: Sequence[float] | None = None, resamples: int = 1000, seed: int = 0
) -> Report:
    """All figures of an outcome.

    size: what the labels' sizes are. bins: bounds for it, ascending, the last bin being open; by default those of BINS.
    """
    names = sorted({k for k in (*outcome.found.kind, *outcome.true.kind) if k})
    ranges = _ranges(outcome.true, BINS.get(size, ()) if bins is None else bins)
    parts = [_Part.of(outcome, True, True)]
    parts += [_Part.of(outcome, outcome.found.kind == name, outcome.true.kind == name) for name in names]
    parts += [_Part.of(outcome, False, inside) for _, _, inside in ranges]
    scenes = {*outcome.found.scene, *outcome.true.scene}
    by_scene = len(scenes) > FEW_SCENES
    rows = _all_figures(parts, *_units(outcome, by_scene=by_scene), resamples, seed)
    groups = [_group(name, part, four) for name, part, four in zip(["all", *names], parts, rows, strict=False)]
    sizes = zip(ranges, parts[len(groups) :], rows[len(groups) :], strict=True)
    return Report(
        match=str(outcome.rule),
        scenes=len(scenes),
        resampled="scenes" if by_scene else "objects",
        ignored_labels=int(outcome.true.ignored.sum()),
        neutral_predictions=int(outcome.neutral.sum()),
        unlabelled_scenes=len({*outcome.found.scene} - {*outcome.true.scene}),
        overall=groups[0],
        classes=tuple(groups[1:]),
        size=size,
        sizes=tuple(SizeBin(low, high, len(part.true), int(part.hit.sum()), four[1]) for (low, high, _), part, four in sizes),
    )


def curve(outcome: Outcome) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recall, precision and score after each prediction that counts, by descending score; all classes together."""
    if outcome.by_score is None:
        raise ValueError("without scores there is no curve")
    part = _Part.of(outcome, True, True)
    recall, precision, ranked = part.curve(np.ones(len(outcome.found)), max(1, len(part.true)))
    return recall, precision, outcome.found.score[ranked]


def average_precision(recall: np.ndarray, precision: np.ndarray) -> float:
    """Mean over 101 recalls of the highest precision from there on; recall ascending."""
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(best[np.searchsorted(recall, RECALLS)].mean())


def _four(part: _Part, found_weight: np.ndarray, true_weight: np.ndarray) -> tuple[float, ...]:
    """Precision, recall, F1 and average precision, each object as often as its weight says; NaN where not defined."""
    n, m = found_weight[part.found].sum(), true_weight[part.true].sum()
    right, hit = found_weight[part.found] @ part.right, true_weight[part.true] @ part.hit
    area = np.nan if part.ranked is None or not m else average_precision(*part.curve(found_weight, m)[:2])
    return right / n if n else np.nan, hit / m if m else np.nan, (right + hit) / (n + m) if n + m else np.nan, area


def _all_figures(parts: Sequence[_Part], found_unit: np.ndarray, true_unit: np.ndarray, resamples: int, seed: int) -> list:
    """Four figures for each part."""
    units = int(max(found_unit.max(initial=0), true_unit.max(initial=0))) + 1
    values = np.array([[_four(part, w[found_unit], w[true_unit]) for part in parts] for w in draws(units, resamples, seed)])
    return figures(values)


def _units(outcome: Outcome, *, by_scene: bool) -> tuple[np.ndarray, np.ndarray]:
    """(found,) and (true,) what each is drawn with: its scene, or its pair or itself where it counts."""
    n, m = len(outcome.found), len(outcome.true)
    if by_scene:
        units = np.unique(np.concatenate([outcome.found.scene, outcome.true.scene]), return_inverse=True)[1]
        return units[:n], units[n:]
    true_unit = n + np.arange(m)
    paired = np.flatnonzero(outcome.partner >= 0)
    true_unit[outcome.partner[paired]] = paired
    counts = np.concatenate([~outcome.neutral, outcome.is_missed])
    place = np.maximum(np.cumsum(counts) - 1, 0)  # what does not count is drawn with its neighbour, to no effect
    return place[:n], place[true_unit]


def _ranges(true: Objects, bins: Sequence[float]) -> list[tuple[float, float, np.ndarray]]:
    """Bounds and the labels between them; where some sizes are known, one more for those that are not."""
    known = ~np.isnan(true.size)
    if not known.any() or not bins:
        return []
    bounds = [*bins, *([] if np.isinf(bins[-1]) else [np.inf])]
    ranges = [(low, high, (true.size >= low) & (true.size < high)) for low, high in pairwise(map(float, bounds))]
    return ranges + ([(np.nan, np.nan, ~known)] if not known.all() else [])


def _group(name: str, part: _Part, four: Sequence[Figure]) -> Group:
    scored = part.ranked is not None
    return Group(name, len(part.true), len(part.found), int(part.right.sum()), *four[:3], four[3] if scored else None)


def _lines(report: Report) -> Iterator[str]:
    groups = (report.overall, *report.classes)
    width = max(len(group.name) for group in groups) + 2
    heads = ("precision", "recall", "F1", "average precision")
    yield f"{'':{width}}{'labels':>7}{'found':>7}{'pairs':>7}  {''.join(f'{head:<24}' for head in heads)}".rstrip()
    for group in groups:
        four = (group.precision, group.recall, group.f1, group.average_precision)
        told = "".join(f"{'no scores' if figure is None else str(figure):<24}" for figure in four)
        yield f"{group.name:{width}}{group.labels:>7}{group.predictions:>7}{group.pairs:>7}  {told}".rstrip()
    filled = [bin for bin in report.sizes if bin.labels]
    if filled:
        yield f"recall by {report.size}"
    for bin in filled:
        yield f"  {_bounds(bin):<18}{bin.found:>5} of {bin.labels:<7}{bin.recall}"
    several = f"{report.scenes} scene" + "s" * (report.scenes > 1)
    yield f"{several}, pairs by {report.match}; 95 % intervals from resampled {report.resampled}"
    if report.ignored_labels:
        yield f"{report.ignored_labels} labels are ignored, and {report.neutral_predictions} predictions that lie on them alone"
    if report.unlabelled_scenes:
        yield f"{report.unlabelled_scenes} scenes have predictions and no label: all of their predictions are false"


def _bounds(bin: SizeBin) -> str:
    if np.isnan(bin.low):
        return "not known"
    return f"{bin.low:g} and more" if np.isinf(bin.high) else f"{bin.low:g} to {bin.high:g}"
