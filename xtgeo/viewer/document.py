"""A report: results as one file that opens anywhere, with a map, pictures, counts, how they were made, and what failed.

It is a page without a server: pictures are inside, nothing is asked of anybody, and its size is bounded. The map is a canvas of our
own rather than MapLibre, whose program alone is 1.6 MB, and whose workers not every browser starts for a file.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from importlib.resources import files
from io import BytesIO
from math import floor
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from PIL import Image

from xtgeo.errors import LabelError, XtgeoError
from xtgeo.evaluate.objects import lonlat
from xtgeo.read import open_scene
from xtgeo.read.stac import is_stac, leads_away
from xtgeo.scene import Scene
from xtgeo.viewer.overlay import Overlay
from xtgeo.viewer.world import SceneMap, to_map
from xtgeo.write.staged import check_target, reported, staged
from xtgeo.write.tables import FORMATS, Tables, read_tables

OBJECTS = 20_000
"""On the map at most, those with the highest scores; all are counted."""
CORNERS = 500_000
"""Of outlines at most; beyond that an object is a ring around its centre."""
PICTURES = 200
"""Scenes with a picture at most."""
PIXELS = 12_000_000
"""Of all pictures together."""
LONGEST = 1200
"""Side of a picture at most."""
AT_ONCE = 64_000_000
"""Pixels of a scene that are read for a picture; of a larger one without coarse copies the quicklook beside the result is taken."""
FINE = 1e9
"""Places are whole numbers in the page: the map is this many long, so that one is 4 cm."""


@dataclass(frozen=True, eq=False)
class _Result:
    """What was found in one scene."""

    name: str
    file: Path
    """In which it stands."""
    objects: Overlay
    """In longitude and latitude, all on one side of the antimeridian; in pixels where the scene has no place on the earth."""
    footprint: np.ndarray
    """Polygons of what was looked at, as `objects`; may be empty."""
    run: dict
    """What was done, plain values."""
    placed: bool
    """Whether it has a place on the earth."""
    picture: bytes | None = None
    """WebP."""
    frame: tuple[float, float, float, float] | None = None
    """Of the picture on a map that is one long: left, top, right, bottom; None where its place is not known."""


@dataclass(frozen=True)
class Report:
    """What `report` wrote."""

    path: Path
    scenes: int
    objects: int
    size: int
    """Bytes."""
    left_out: tuple[str, ...] = ()
    """What the file has no room for, or could not be read."""

    def __str__(self) -> str:
        text = f"{self.path}: {_n(self.scenes, 'scene')}, {_n(self.objects, 'object')}, {self.size / 1e6:.1f} MB"
        return "\nleft out: ".join([text, *self.left_out])


def report(
    paths: Sequence[os.PathLike | str] | os.PathLike | str,
    out: os.PathLike | str,
    *,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Report:
    """Writes a report on vector outputs of xtgeo, or on folders of such files, as that of `batch`.

    Scenes are opened for their pictures where the results say they are, as far as those are files; nothing is fetched.
    What is no output of xtgeo in a folder is left out, and told. progress: is told what is being done.

    Raises LabelError where there is no result, OutputError where `out` cannot be written.
    """
    path = check_target(out, suffixes=(".html",), overwrite=overwrite)
    places = [Path(p) for p in ([paths] if isinstance(paths, os.PathLike | str) else paths)]
    tables, left = _read(places)
    failures = [failure for place in places for failure in _failures(place)]
    if not tables and not failures:
        reason = left[0] if left else "give a .gpkg, or a folder with some"
        raise LabelError(f"there is no result of xtgeo in {', '.join(map(str, places))}: {reason}")
    results, twice = _results(tables)
    left += twice
    side = int(min(LONGEST, np.sqrt(PIXELS / max(1, min(len(results), PICTURES)))))
    for i, result in enumerate(results[:PICTURES]):
        progress(f"scene {i + 1} of {len(results)}: {result.name}")
        results[i], why = _with_picture(result, side)
        left += [f"the picture of {result.name}: {why}"] if why else []
    if len(results) > PICTURES:
        left.append(f"pictures of {len(results) - PICTURES:,} scenes beyond the first {PICTURES}")
    drawing, short = _drawing([result for result in results if result.placed])
    left += short
    with staged(path, overwrite=overwrite) as part, reported(path):
        part.write_text("".join(_page(results, failures, drawing, left)), encoding="utf-8")
    return Report(path, len(results), sum(len(r.objects) for r in results), path.stat().st_size, tuple(left))


def _read(places: list[Path]) -> tuple[list[tuple[Path, Tables]], list[str]]:
    """Results by file, and what in a folder is none; a file that was named must be one."""
    tables, left = [], []
    for place in places:
        if not place.is_dir() or place.suffix == ".parquet":
            tables.append((place, read_tables(place)))
            continue
        for file in sorted(place.iterdir()):
            if file.suffix.lower() in FORMATS and not file.name.startswith("."):
                try:
                    found = read_tables(file)
                except LabelError:
                    left.append(f"{file.name} is no result of xtgeo")
                    continue
                if "review" in found.detections:  # whose objects are those of a result
                    left.append(f"{file.name} is a review")
                else:
                    tables.append((file, found))
    return tables, left


def _failures(place: Path) -> list[dict]:
    """Those of a batch in this folder: scene, href, error."""
    try:
        failures = json.loads((place / "summary.json").read_text(encoding="utf-8"))["failures"]
        return [{key: str(failure[key]) for key in ("scene", "href", "error")} for failure in failures]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _results(tables: list[tuple[Path, Tables]]) -> tuple[list[_Result], list[str]]:
    """Scene by scene, each once, and what was there twice; longitudes go on from those of the first place."""
    results, middle = [], None
    known: dict[tuple[str, str], Path] = {}
    twice: dict[str, None] = {}
    for file, whole in tables:
        for name in sorted(whole.scene_ids):
            own = whole.of_scene(name)
            ids = tuple(own.detections["detect_id"].astype(str))
            key = name, _content(own) or file.stem  # in two formats, or copied
            if key in known:
                twice[f"{file.name} holds {name} once more, as {known[key].name} does"] = None
                continue
            known[key] = file
            placed = own.detections.crs is not None
            shapes, footprint = own.detections.geometry.values, own.scene_footprint.geometry.values
            if placed:
                shapes, footprint = (
                    lonlat(frame) if len(frame) else np.empty(0, object)
                    for frame in (own.detections, own.scene_footprint)
                )
                corners = shapely.get_coordinates([*footprint[:1], *shapes[:1]])
                middle = corners[0, 0] if middle is None and len(corners) else middle
                shapes, footprint = (
                    shapely.transform(some, lambda xy, at=middle: _beside(xy, at)) for some in (shapes, footprint)
                )
            frame = own.detections.reset_index(drop=True)
            objects = Overlay(file.name, file, frame, np.asarray(shapes, object), ids)
            run = json.loads(own.run.to_json(orient="records"))[0] if len(own.run) else {}
            results.append(_Result(name, file, objects, np.asarray(footprint, object), run, placed))
    return results, list(twice)


def _content(tables: Tables) -> str:
    """What tells objects of one run from those of another, whatever the format; "" where there are none."""
    score = "presence_score" if tables.are_points else "score"
    rows = zip(tables.detections["detect_id"].astype(str), tables.detections[score].round(4), strict=True)
    return " ".join(f"{name} {value:.4f}" for name, value in sorted(rows))


def _beside(xy: np.ndarray, middle: float) -> np.ndarray:
    return np.stack([xy[:, 0] + 360 * np.round((middle - xy[:, 0]) / 360), xy[:, 1]], 1)


def _with_picture(result: _Result, side: int) -> tuple[_Result, str]:
    """The result with its picture, and why it has none or no place for it."""
    quicklook = next((p for p in _beside_files(result) if p.is_file()), None)
    try:
        scene_map = SceneMap(_scene(result))
        large = np.prod(scene_map.scene.shape) > AT_ONCE and scene_map.progress < 1
        if not large or quicklook is None:
            scene_map.fill()
            paint = scene_map.paint
        else:
            paint = partial(scene_map.drape, _opened(quicklook))
        west, south, east, north = scene_map.bounds
        middle = (
            result.objects.at.lon[:1].tolist() or shapely.get_coordinates(result.footprint)[:1, 0].tolist() or [west]
        )
        turn = 360 * round((middle[0] - (west + east) / 2) / 360)
        (left, right), (bottom, top) = to_map([west + turn, east + turn], [south, north])
        around = int(side / max(right - left, bottom - top))
        x, y = floor(left * around), floor(top * around)  # left of the map's own corner where longitudes go on
        h, w = floor(bottom * around) - y + 1, floor(right * around) - x + 1
        picture = paint(y, x, h, w, around)
        return replace(result, picture=_webp(picture), frame=tuple(v / around for v in (x, y, x + w, y + h))), ""
    except (XtgeoError, OSError, Image.DecompressionBombError) as e:
        why = " ".join(str(e).split())
        if quicklook is None:
            return result, why
    try:
        picture = Image.fromarray(_opened(quicklook))
    except (OSError, Image.DecompressionBombError):
        return result, why
    picture.thumbnail((side, side))
    return replace(result, picture=_webp(np.asarray(picture))), f"it is not on the map, {why}"


def _beside_files(result: _Result) -> list[Path]:
    """Where a quicklook of the scene may lie."""
    stems = [stem for stem in (result.file.stem, result.name) if Path(stem).name == stem]  # a name may be anything
    return [result.file.with_name(f"{stem}{suffix}") for stem in dict.fromkeys(stems) for suffix in (".jpg", ".png")]


def _scene(result: _Result) -> Scene:
    """The scene of a result, if it is a file that is there, as the results say or beside them."""
    told = str(result.run.get("source") or "")
    here = [
        place
        for place in (Path(told), result.file.parent / told)
        if told and "://" not in told and (place.is_file() or place.is_dir())
    ]
    if not here:
        raise LabelError(f"{told or 'its scene'} is not there" if "://" not in told else f"{told} is not fetched")
    if is_stac(here[0]) and leads_away(here[0]):
        raise LabelError(f"the images of {told} are not fetched")
    noise = result.run.get("noise")
    return open_scene(here[0], **({"noise": noise} if noise in ("snap", "clip", "none") else {}))


def _opened(picture: Path) -> np.ndarray:
    with Image.open(picture) as opened:
        return np.asarray(opened.convert("RGBA"))


def _webp(picture: np.ndarray) -> bytes:
    out = BytesIO()
    Image.fromarray(picture).save(out, "WEBP", quality=78, method=3)
    return out.getvalue()


def _drawing(results: list[_Result]) -> tuple[dict, list[str]]:
    """What the map draws, and what it has no room for. Places are whole numbers from the upper left corner of all."""
    scene = np.repeat(np.arange(len(results)), [len(r.objects) for r in results])
    index = np.concatenate([np.arange(len(r.objects)) for r in results]) if results else np.empty(0, int)
    score = np.concatenate([_scores(r) for r in results]) if results else np.empty(0)
    best = np.argsort(-np.nan_to_num(score, nan=-1), kind="stable")
    left = (
        [f"{len(best) - OBJECTS:,} of {len(best):,} objects on the map, those with the lowest scores"]
        if len(best) > OBJECTS
        else []
    )
    best = best[:OBJECTS]
    corners = np.zeros(len(best), int)
    for i, (n, k) in enumerate(zip(scene[best], index[best], strict=True)):
        corners[i] = shapely.get_num_coordinates(results[n].objects.geometry[k])
    outlined = np.cumsum(corners) <= CORNERS
    if not outlined.all():
        left.append(f"outlines of {int((~outlined).sum()):,} objects: they are rings on the map")
    prints = [_whole(shape) for r in results for shape in r.footprint]
    everything = [_whole_points(r.objects.at.lon, r.objects.at.lat) for r in results] + [
        p for rings in prints for p in rings
    ]
    frames = [np.reshape(r.frame, (2, 2)) * FINE for r in results if r.frame]
    corner = np.concatenate([*everything, *frames, np.empty((0, 2))])
    x0, y0 = corner.min(0).astype(int) if len(corner) else (0, 0)
    kinds = sorted({kind for r in results for kind in r.objects.kind})
    objects = []
    for i, (n, k) in enumerate(zip(scene[best].tolist(), index[best].tolist(), strict=True)):
        some = results[n].objects
        (x, y), shape = (_whole_points(some.at.lon[k], some.at.lat[k])[0] - (x0, y0)).tolist(), some.geometry[k]
        rings = (
            [(ring - (x0, y0)).ravel().tolist() for ring in _whole(shape)]
            if outlined[i] and shape.geom_type != "Point"
            else 0
        )
        length = some.length_m[k]
        objects.append(
            [x, y, n, kinds.index(some.kind[k]), _round(score[best[i]], 3), _round(length, 1), some.ids[k], rings]
        )
    scenes = [
        {
            "name": r.name,
            "rings": [(ring - (x0, y0)).ravel().tolist() for shape in r.footprint for ring in _whole(shape)],
            "frame": r.frame and [round(v * FINE - o) for v, o in zip(r.frame, (x0, y0) * 2, strict=True)],
        }
        for r in results
    ]
    return {"origin": [int(x0), int(y0)], "fine": FINE, "kinds": kinds, "scenes": scenes, "objects": objects}, left


def _scores(result: _Result) -> np.ndarray:
    told = result.objects.score
    return np.full(len(result.objects), np.nan) if told is None else told


def _whole(shape: shapely.Geometry) -> list[np.ndarray]:
    """Rings of a polygon as (n, 2) whole numbers on the map."""
    rings = shapely.get_rings(shapely.get_parts(shape))
    return [_whole_points(*shapely.get_coordinates(ring).T) for ring in rings]


def _whole_points(lon, lat) -> np.ndarray:
    return np.round(np.stack(np.broadcast_arrays(*map(np.atleast_1d, to_map(lon, lat))), 1) * FINE).astype(int)


def _round(value: float, digits: int) -> float | None:
    return None if np.isnan(value) else round(float(value), digits)


def _page(results: list[_Result], failures: list[dict], drawing: dict, left: list[str]):
    count = sum(len(r.objects) for r in results)
    title = f"{_n(count, 'object')} in {_n(len(results), 'scene')}"
    style, script = ((files("xtgeo.viewer") / "static" / name).read_text() for name in ("report.css", "report.js"))
    yield "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width, initial-scale=1'>"
    yield "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'; "
    yield "script-src 'unsafe-inline'; img-src data:\"><meta name=color-scheme content='light dark'>"
    yield f"<title>{title}</title><style>{style}</style><main><header><h1>{title}</h1></header>"
    if any(r.placed for r in results):
        yield "<section id=map aria-label='Map of scenes and objects'><canvas tabindex=0></canvas><div id=tools>"
        yield "<button type=button data-by=in aria-label='closer'>+</button>"
        yield "<button type=button data-by=out aria-label='farther'>−</button>"
        yield "<button type=button data-by=all title='everything'>⤢</button></div><div id=key></div><div id=scale></div>"
        yield "<div id=pointer></div><div id=told hidden></div></section>"
    yield f"<section class=figures>{_classes(results)}"
    score = np.concatenate([_scores(r) for r in results]) if results else np.empty(0)
    length = np.concatenate([r.objects.length_m for r in results if r.placed] or [np.empty(0)])
    yield _histogram("Score", score, "") + _histogram("Length", length, " m") + "</section>"
    if failures:
        yield f"<section><h2 class=bad>{_n(len(failures), 'scene')} failed</h2><table><tr><th>scene<th>reason"
        yield from (
            f"<tr><td title='{escape(f['href'])}'>{escape(f['scene'])}<td>{escape(f['error'])}" for f in failures
        )
        yield "</table></section>"
    yield f"<section><h2>Scenes</h2><div class=scenes>{''.join(_card(results, r) for r in results)}</div></section>"
    yield f"<section><h2>How they were made</h2>{_provenance(results)}</section>"
    if left:
        yield f"<section><h2>Left out</h2><ul>{''.join(f'<li>{escape(text)}' for text in left)}</ul></section>"
    data = json.dumps(drawing, separators=(",", ":")).replace("<", "\\u003c")
    yield f"</main><script type=application/json id=data>{data}</script><script>{script}</script></html>\n"


def _card(results: list[_Result], result: _Result) -> str:
    placed = [r for r in results if r.placed]
    number = placed.index(result) if result.placed else -1
    image = (
        f"<img alt='' data-scene={number} src='data:image/webp;base64,{b64encode(result.picture).decode()}'>"
        if result.picture
        else ""
    )
    kinds = Counter(result.objects.kind.tolist()).most_common()
    told = ", ".join(f"{n:,} {escape(kind or 'no class')}" for kind, n in kinds) or "nothing was found"
    go = f"<button type=button data-go={number}>on the map</button>" if result.placed else ""
    return (
        f"<article>{image or '<div class=none>no picture</div>'}<h3>{escape(result.name)}</h3>"
        f"<p>{told}</p><p class=soft>{escape(result.file.name)} {go}</p></article>"
    )


def _classes(results: list[_Result]) -> str:
    kinds = Counter(kind for r in results for kind in r.objects.kind).most_common()
    flags = Counter(
        f
        for r in results
        if "flags" in r.objects.frame
        for text in r.objects.frame["flags"].fillna("")
        for f in text.split(",")
        if f
    )
    rows = [
        f"<tr><td><i data-kind='{escape(kind)}'></i>{escape(kind or 'no class')}<td class=n>{n:,}" for kind, n in kinds
    ]
    rows += [f"<tr class=soft><td>flag {escape(flag.strip())}<td class=n>{n:,}" for flag, n in flags.most_common()]
    return f"<figure><figcaption>Classes</figcaption><table>{''.join(rows)}</table></figure>" if rows else ""


def _histogram(name: str, values: np.ndarray, unit: str, bars: int = 24) -> str:
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    low, high = (
        (0.0, 1.0)
        if not unit and values.min() >= 0 and values.max() <= 1
        else (float(values.min()), float(values.max()))
    )
    counts, _ = np.histogram(values, bars, (low, high if high > low else low + 1))
    rects = [
        f"<rect x='{i * 10 + 0.5}' y='{60 - 60 * n / counts.max():.1f}' width=9 height='{60 * n / counts.max():.1f}'>"
        f"<title>{_n(int(n), 'object')}</title></rect>"
        for i, n in enumerate(counts.tolist())
    ]
    middle = np.median(values)
    return (
        f"<figure><figcaption>{name}: median {middle:.3g}{unit}</figcaption>"
        f"<svg viewBox='0 0 240 60' preserveAspectRatio=none role=img aria-label='{name}'>{''.join(rects)}</svg>"
        f"<div class=ends><span>{low:.3g}{unit}</span><span>{high:.3g}{unit}</span></div></figure>"
    )


def _provenance(results: list[_Result]) -> str:
    """What all runs say alike once, the rest scene by scene."""
    runs = pd.DataFrame([r.run for r in results], index=[r.name for r in results]).drop(
        columns="scene_id", errors="ignore"
    )
    if runs.empty:
        return "<p>The results do not say: their format has no place for the table <code>run</code>."
    texts = runs.astype(object).where(runs.notna(), "").astype(str)
    alike = [name for name in texts if texts[name].nunique() == 1]
    rows = "".join(f"<tr><td>{escape(name)}<td>{escape(texts[name].iloc[0])}" for name in alike if texts[name].iloc[0])
    rest = [name for name in texts if name not in alike]
    html = f"<table class=run>{rows}</table>"
    if rest:
        html += "<div class=wide><table><tr><th>scene" + "".join(f"<th>{escape(name)}" for name in rest)
        lines = zip(texts.index, texts[rest].itertuples(index=False), strict=True)
        html += (
            "".join(f"<tr><td>{escape(name)}" + "".join(f"<td>{escape(v)}" for v in line) for name, line in lines)
            + "</table></div>"
        )
    return html


def _n(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
