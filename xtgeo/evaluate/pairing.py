"""Which files, and which of them belong together."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from xtgeo.errors import LabelError


def files_of(patterns: Sequence[str], what: str) -> list[str]:
    """Files behind names and glob patterns, each once, sorted within a pattern.

    What a pattern finds are not the reviews of others that it finds: `a_review.gpkg` beside `a.gpkg`.
    """
    files: dict[str, None] = {}
    for pattern in patterns:
        # A name with brackets in it may be there as it is.
        found = [pattern] if Path(pattern).exists() else _unreviewed(sorted(glob.glob(pattern, recursive=True)))
        if not found:
            raise LabelError(f"no {what} found at {pattern}: check the name, and put patterns in quotes")
        files |= dict.fromkeys(found)
    return list(files)


def _unreviewed(paths: list[str]) -> list[str]:
    own = {os.path.splitext(path)[0] for path in paths}
    return [path for path in paths if not (path.endswith("_review.gpkg") and path.removesuffix("_review.gpkg") in own)]


def pair_files(predictions: Sequence[str], labels: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of predictions and labels of one scene each, by their names; one of each belong together whatever they are called."""
    if len(predictions) == len(labels) == 1:
        return [(predictions[0], labels[0])]
    for paths in (predictions, labels):
        refuse_twins(paths)
    known, own = ({Path(path).stem: path for path in paths} for paths in (predictions, labels))
    spelt = agree(known, own)
    alone = set(known) - set(spelt.values())
    if alone or len(set(spelt.values())) < len(own):
        raise LabelError(f"predictions and labels do not go into pairs: {some(alone or own)}; give one of each for every scene")
    return [(known[there], own[name]) for name, there in spelt.items()]


def refuse_twins(paths: Sequence[os.PathLike | str]) -> None:
    """Refuses files of one name in several folders: they would be taken for one scene."""
    stems = [Path(path).stem for path in paths]
    twins = {stem for stem in stems if stems.count(stem) > 1}
    if twins:
        raise LabelError(f"several files are called {some(twins)}: a file's name says which scene it belongs to; rename them")


def agree(known: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """Names of the labels' scenes, and how the predictions spell them; refused where one belongs to none."""
    known, names = set(known), list(names)
    spelt = {name: spell(name, known) for name in names}
    lost = [name for name, there in spelt.items() if there is None]
    if lost:
        raise LabelError(
            f"no predictions belong to the labels of {some(lost)}; there are predictions of {some(known) or 'nothing'}: "
            "name the files alike, or make their scene_id agree"
        )
    return {name: there for name, there in spelt.items() if there is not None}


def spell(name: str, known: set[str]) -> str | None:
    """The known name that is this one; else the longest one that begins it, or the only one that it begins, up to a mark."""
    if name in known:
        return name
    begins = [k for k in known if any(name.startswith(k + mark) for mark in "_-. ")]
    begun = [k for k in known if any(k.startswith(name + mark) for mark in "_-. ")]
    if begins:
        return max(begins, key=len)
    return begun[0] if len(begun) == 1 else None


def some(names: Iterable) -> str:
    """A few of them, for a message."""
    names = sorted(map(str, names))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
