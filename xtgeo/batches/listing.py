"""Which scenes a batch is about, and what its files are called."""

from __future__ import annotations

import csv
import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from xtgeo.errors import SceneError
from xtgeo.read.stac import item_ids

OPEN = {"bands": str, "units": str, "nodata": float, "noise": str, "clouds": str}
"""Columns of a table that say how a scene is opened: arguments of `xtgeo.open_scene`."""
WORK = {"threshold": float, "min_area": float, "aoi": str, "crs": str}
"""Columns that say what is done with it: arguments of `xtgeo.segment` and `xtgeo.detect`."""
ENDINGS = re.compile(r"\.(SAFE|zip|tar|tar\.gz|tgz|tiff?|jp2|vrt|nc|zarr|json|geojson|img|png)$", re.I)
SHOWN = 5


@dataclass(frozen=True)
class Entry:
    """One scene of a batch."""

    href: str
    """Where it is; a local path is absolute, since workers may be elsewhere."""
    name: str
    """Of its files in the output folder, without an extension."""
    open: Mapping[str, str | float] = field(default_factory=dict)
    """How this one is opened, where it differs from the rest."""
    work: Mapping[str, str | float] = field(default_factory=dict)
    """What is done with this one, where it differs from the rest."""


def entries(places: Sequence[str | os.PathLike]) -> list[Entry]:
    """The scenes behind patterns ("scenes/*.zip"), paths and URLs, and behind lists of such.

    A list is a .txt (a scene a line; # begins a comment, at the start or after a space), a .csv with a column `scene` and, if
    wanted, `name`, columns of OPEN and of WORK, in which an empty cell means what holds for all, or a STAC ItemCollection
    (.json), each item of which is a scene. A path in a list counts from the current folder or, if nothing is there, from that of
    the list.

    Raises SceneError where nothing is found, or two scenes would have one name.
    """
    found = [entry for place in places for entry in _entries(os.fspath(place))]
    if not found:
        raise SceneError("no scenes were given: give patterns such as 'scenes/*.tif', paths, or a list")
    unique = {(entry.href, entry.name): entry for entry in found}  # patterns may overlap
    names = Counter(entry.name.lower() for entry in unique.values())  # some file systems do not know case
    twice = [entry.href for entry in unique.values() if names[entry.name.lower()] > 1]
    if twice:
        raise SceneError(
            f"{len(twice)} scenes would share names of outputs ({', '.join(twice[:SHOWN])}{' ...' * (len(twice) > SHOWN)}): "
            "name them apart in a .csv with the columns scene,name"
        )
    return list(unique.values())


def _entries(place: str) -> Iterator[Entry]:
    ending = "" if _is_remote(place) else Path(place).suffix.lower()
    if ending == ".txt":
        yield from _lines(place)
    elif ending == ".csv":
        yield from _rows(place)
    elif items_of := _items(place):
        for item in items_of:
            yield Entry(f"{_absolute(place)}#{quote(item)}", _name(item))
    elif not _is_remote(place) and glob.has_magic(place) and not os.path.exists(place):
        matches = sorted(glob.glob(place, recursive=True))
        if not matches:
            raise SceneError(f"nothing matches {place}: check the pattern, and put it into quotes")
        yield from (_entry(match) for match in matches)
    else:
        yield _entry(place)


def _entry(place: str, name: str = "", **more: Mapping) -> Entry:
    return Entry(_absolute(place), _name(name or place), **more)


def _items(place: str) -> list[str]:
    """Ids of the items of a collection of several; empty where this is one scene."""
    path = urlsplit(place).path if _is_remote(place) else place
    if not path.lower().endswith((".json", ".geojson")) or not (_is_remote(place) or os.path.isfile(place)):
        return []
    found = item_ids(place)
    return found if len(found) > 1 else []


def _lines(path: str) -> Iterator[Entry]:
    for line in _text(path).splitlines():
        place = re.split(r"(?:^|\s)#", line)[0].strip()  # items.json#id is no comment
        if place:
            yield _entry(_found(place, path))


def _rows(path: str) -> Iterator[Entry]:
    table = csv.DictReader(_text(path).splitlines())
    columns, known = table.fieldnames or [], ["scene", "name", *OPEN, *WORK]
    unknown = [str(column) for column in columns if column not in known]
    if "scene" not in columns or unknown:
        what = f"an unknown column {unknown[0]!r}" if unknown else "no column 'scene'"
        raise SceneError(f"{path} has {what}: its columns are scene and, if wanted, {', '.join(known[1:])}")
    for number, row in enumerate(table, 2):
        if None in row or None in row.values():
            raise SceneError(f"{path}, row {number}, has {'more' if None in row else 'fewer'} cells than the header: mend it")
        told = {column: text.strip() for column, text in row.items() if text.strip()}
        if "scene" not in told:
            raise SceneError(f"{path}, row {number}, names no scene: fill the column or delete the row")
        try:
            how = [{k: kind(told[k]) for k, kind in kinds.items() if k in told} for kinds in (OPEN, WORK)]
        except ValueError as e:
            raise SceneError(f"{path}, row {number}: {e}; give a number or leave the cell empty") from e
        if "aoi" in how[1]:
            how[1]["aoi"] = os.path.abspath(_found(how[1]["aoi"], path))
        yield _entry(_found(told["scene"], path), told.get("name", ""), open=how[0], work=how[1])


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise SceneError(f"{path} cannot be read as a list of scenes ({getattr(e, 'strerror', None) or 'no UTF-8 text'})") from e


def _found(place: str, beside: str) -> str:
    there = os.path.join(os.path.dirname(beside), place)
    return there if not _is_remote(place) and not os.path.exists(place) and os.path.exists(there) else place


def _absolute(place: str) -> str:
    return place if _is_remote(place) else os.path.abspath(place)


def _is_remote(place: str) -> bool:
    """Whether this is no local path: a URL, an object store, GDAL's own kinds of places."""
    return "://" in place or place.startswith("/vsi")


def _name(text: str) -> str:
    """A name of a file from whatever names a scene: no folders, no characters that some system refuses, no dot in front."""
    last = (urlsplit(text).path if _is_remote(text) else text).rstrip("/\\").rpartition("#")[2]
    plain = re.sub(r"[^\w.-]+", "_", re.split(r"[/\\]", last)[-1])
    while ENDINGS.search(plain):
        plain = ENDINGS.sub("", plain)
    return plain.lstrip(".")[:180] or "scene"
