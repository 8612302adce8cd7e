"""What Jupyter shows of a Scene, a Model and Detections: small HTML that reads on light and dark pages, and never fails."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import wraps
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from xtgeo.errors import XtgeoError
from xtgeo.grid import GcpGrid, grid_crs, lonlat_bounds, pixel_size_m
from xtgeo.picture import colours
from xtgeo.plot.score import score_of

if TYPE_CHECKING:
    from xtgeo.detections import Detections
    from xtgeo.model import Model
    from xtgeo.scene import Scene

THUMBNAIL_BYTES, THUMBNAIL_SIDES = 40_000, (256, 192, 128, 64)
MOST_PX = 16_000_000
"""A larger scene without overviews has no thumbnail: reading it all takes more than the second that one waits for a cell."""
FACTS = ("platform", "sar:instrument_mode", "sar:product_type", "sat:orbit_state", "sat:relative_orbit", "eo:cloud_cover")
COLUMNS = ("detect_id", "class", "presence_score", "score", "length_m", "vessel_length_m", "heading_deg", "lon", "lat", "flags")
ROWS, BINS = 5, 20
TABLE = "color:inherit;font-size:inherit;border-collapse:collapse"  # pages in quirks mode give tables a colour of their own
CELL = "padding:1px 10px 1px 0;text-align:left;vertical-align:top"
LINE = "border-bottom:1px solid rgba(128,128,128,.35)"


def never_fails(page: Callable[[Any], str]) -> Callable[[object], str]:
    """What would be raised here hides the object from its user: then its name is enough."""

    @wraps(page)
    def safe(noun: object) -> str:
        try:
            return page(noun)
        except Exception as error:
            return f"<pre>{escape(type(noun).__name__)} ({escape(type(error).__name__)}: {escape(str(error))})</pre>"

    return safe


@never_fails
def scene_html(scene: Scene) -> str:
    """What is known of a scene, and a thumbnail where one is quickly made."""
    h, w = scene.shape
    down, across = pixel_size_m(scene.grid)
    known = bool(np.isfinite(down + across))
    facts: dict[str, object] = {
        "time": f"{scene.time:%Y-%m-%d %H:%M:%S} UTC" if scene.time else None,
        "size": f"{w:,} x {h:,} pixels" + (f", {w * across / 1000:,.4g} x {h * down / 1000:,.4g} km" if known else ""),
        "pixel": f"{across:.4g} x {down:.4g} m" if known else None,
        "bands": ", ".join(scene.bands),
        "units": scene.units,
        "place": _place(scene),
    }
    facts |= {key.partition(":")[2] or key: scene.facts.get(key) for key in FACTS}
    return _page("Scene", scene.id, _table(facts), _thumbnail(scene))


@never_fails
def model_html(model: Model) -> str:
    """What a model expects and gives, how large it is, and its card."""
    from xtgeo.model.weights import bundled, load_card

    spec, n = model.spec, sum(p.numel() for p in model.net.parameters())
    region = f"{spec.span} x {spec.span} regions of {spec.region} px, margin {spec.margin} px"
    facts: dict[str, object] = {
        "finds": ", ".join(spec.classes) if spec.task != "detect" else "centres of objects",
        "task": f"{spec.task}, detect" if spec.points else spec.task,
        "bands": f"{', '.join(spec.bands)} in {spec.units}, {spec.gsd:g} m per pixel",
        "may lack": ", ".join(spec.optional) or None,
        "threshold": f"{spec.threshold:g}",
        "parts": f"{spec.backbone}, context {spec.context}" if spec.backbone else type(model.net).__name__,
        "nest": region if spec.backbone else None,
        "parameters": f"{n:,}",
        "licence": spec.licence or None,
    }
    card = load_card(spec.name) if spec.name in bundled() else None
    told = f"<details><summary>card</summary><pre style='white-space:pre-wrap'>{escape(card)}</pre></details>" if card else ""
    return _page("Model", f"{spec.name} {spec.version}", _table(facts) + told)


@never_fails
def detections_html(detections: Detections) -> str:
    """How many, how sure, and the first of them."""
    n, score = len(detections), score_of(detections)
    facts: dict[str, object] = {"objects": f"{n:,}"}
    if "class" in detections.fields and n:
        names, counts = np.unique([str(v) for v in detections["class"]], return_counts=True)
        facts["classes"] = ", ".join(f"{name} {count:,}" for name, count in zip(names, counts.tolist(), strict=True))
    scored = bool(np.isfinite(score).any()) if n else False
    if scored:
        facts["scores"] = f"{np.nanmin(score):.2f} to {np.nanmax(score):.2f}"
    shown = [name for name in COLUMNS if name in detections.fields]
    cells = [[f"<td style='{CELL}'>{escape(_short(detections[name][i]))}</td>" for name in shown] for i in range(min(n, ROWS))]
    rows = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    head = "".join(f"<th style='{CELL};{LINE}'>{escape(name)}</th>" for name in shown)
    more = f"<div style='opacity:.6'>and {n - ROWS:,} more</div>" if n > ROWS else ""
    table = f"<table style='{TABLE};margin-top:.6em'><tr>{head}</tr>{rows}</table>{more}" if n else ""
    name = str(detections["scene_id"][0]) if n else ""
    return _page("Detections", name, _table(facts), _histogram(score) if scored else "", below=table)


def _page(kind: str, name: str, left: str, right: str = "", below: str = "") -> str:
    title = f"<div style='{LINE};margin-bottom:.4em'><b>{kind}</b> {escape(name)}</div>"
    side = f"<div style='display:flex;gap:1.5em;flex-wrap:wrap;align-items:flex-start'><div>{left}</div>{right}</div>"
    return f"<div style='font-size:.9em'>{title}{side}{below}</div>"


def _table(facts: dict[str, object]) -> str:
    rows = (
        f"<tr><td style='{CELL};opacity:.65'>{escape(key)}</td><td style='{CELL}'>{escape(str(value))}</td></tr>"
        for key, value in facts.items()
        if value is not None
    )
    return f"<table style='{TABLE}'>{''.join(rows)}</table>"


def _place(scene: Scene) -> str:
    crs = grid_crs(scene.grid)
    if crs is None:
        return "none: neither a CRS nor control points"
    name = f"EPSG:{crs.epsg}" if crs.epsg else "a CRS of its own"
    if isinstance(scene.grid, GcpGrid):
        name = f"{scene.grid.lon.size:,} ground control points"
    west, south, east, north = lonlat_bounds(scene.grid)
    return f"{name}, {west:.3f} to {east:.3f} °E, {south:.3f} to {north:.3f} °N"


def _thumbnail(scene: Scene) -> str:
    """An image of at most THUMBNAIL_BYTES, or a line that says why there is none. No network is asked for it."""
    try:
        if any("://" in file or file.startswith("/vsi") and "curl" in file for file in scene.source.files):
            return "<div style='opacity:.6'>scene.plot() shows it</div>"
        if scene.shape[0] * scene.shape[1] > MOST_PX and scene.source.coarser(THUMBNAIL_SIDES[0]) is None:
            return "<div style='opacity:.6'>large, and without overviews:<br>scene.plot() reads it all</div>"
        picture = Image.fromarray(colours(scene, scene.overview(THUMBNAIL_SIDES[0])))
    except (XtgeoError, OSError) as error:
        return f"<div style='opacity:.6'>no thumbnail: {escape(str(error))}</div>"
    paper = Image.new("RGB", picture.size, (128, 128, 128))
    paper.paste(picture, mask=picture)
    for side in THUMBNAIL_SIDES:
        out, small = BytesIO(), paper.copy()
        small.thumbnail((side, side))
        small.save(out, "JPEG", quality=80)
        if out.tell() * 4 / 3 < THUMBNAIL_BYTES:
            break
    data = base64.b64encode(out.getvalue()).decode()
    return f"<img alt='thumbnail' width='{small.width}' height='{small.height}' src='data:image/jpeg;base64,{data}'>"


def _histogram(score: np.ndarray) -> str:
    """Bars from score 0 to 1."""
    counts = np.histogram(score[np.isfinite(score)], BINS, (0, 1))[0]
    tall = np.ceil(60 * counts / max(1, counts.max())).astype(int)
    bars = "".join(
        f"<rect x='{8 * i + 1}' y='{60 - t}' width='7' height='{t}' fill='#d08a00'><title>{i / BINS:.2f}: {c}</title></rect>"
        for i, (t, c) in enumerate(zip(tall.tolist(), counts.tolist(), strict=True))
    )
    axis = f"<path d='M0 60.5H{8 * BINS + 1}' stroke='currentColor' opacity='.5'/>"
    text = f"<text y='71'>0</text><text x='{4 * BINS}' y='71' text-anchor='middle'>score</text>"
    return (
        f"<svg width='{8 * BINS + 2}' height='74' role='img' aria-label='histogram of scores'>{bars}{axis}"
        f"<g fill='currentColor' font-size='9'>{text}<text x='{8 * BINS}' y='71' text-anchor='end'>1</text></g></svg>"
    )


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
