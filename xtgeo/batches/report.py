"""summary.json for programs and report.html for people: what became of the scenes of a batch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from xtgeo.batches.record import Record, Row
from xtgeo.write.staged import reported, staged

if TYPE_CHECKING:
    from xtgeo.batches.run import Standing

SHOWN = 2000
"""Scenes that are done in the page; all are in summary.json. Failures are all shown."""
KEPT = ("objects", "megapixels", "seconds", "mpx_per_s", "tiles", "outputs", "note")
"""Of what is known of a scene, in summary.json."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #16202c; }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
dl { display: flex; flex-wrap: wrap; gap: .6rem 2.5rem } dt { color: #5a6a7c; font-size: .8rem } dd { margin: 0; font-size: 1.3rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .35rem .8rem .35rem 0; vertical-align: top;
border-bottom: 1px solid #dde3ea } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
th.p { width: 17rem } .bad { color: #a6231b } img { max-width: 16rem; max-height: 10rem; background: #eef1f4; display: block }
pre { white-space: pre-wrap; font-size: .8rem } code { font-size: .85rem }
@media (prefers-color-scheme: dark) { body { background: #10161d; color: #dfe6ee } th, td { border-color: #2a3541 }
.bad { color: #ff8f86 } img { background: #1a232d } dt { color: #93a3b4 } }
"""


def write_report(folder: Path, record: Record, standing: Standing) -> None:
    """Both files in the folder, each complete whenever it is there."""
    rows = list(record.rows())
    options = record.meta("options") or {}
    counts = {
        "scenes": standing.scenes, "done": standing.done, "failed": standing.failed, "left": standing.left,
        "objects": standing.objects, "megapixels": round(sum(row.facts["megapixels"] for row in rows if row.state == "done"), 3),
        "seconds_of_this_run": standing.seconds, "megapixels_of_this_run": standing.megapixels,
    }  # fmt: skip
    summary = {
        **counts,
        "options": options,
        "failures": [{"scene": row.name, "href": row.href, "error": row.facts["error"]} for row in rows if row.state == "failed"],
        "results": [
            {"scene": row.name, "href": row.href, **{key: row.facts[key] for key in KEPT if row.facts.get(key) is not None}}
            for row in rows
            if row.state == "done"
        ],
    }
    _write(folder / "summary.json", json.dumps(summary, indent=1))
    _write(folder / "report.html", "".join(_page(folder, rows, counts, options)))


def _write(path: Path, text: str) -> None:
    with staged(path, overwrite=True) as part, reported(path):
        part.write_text(text, encoding="utf-8")


def _page(folder: Path, rows: list[Row], counts: dict, options: dict) -> Iterator[str]:
    done = [row for row in rows if row.state == "done"]
    failed = [row for row in rows if row.state == "failed"]
    title = f"{counts['done']} of {counts['scenes']} scenes"
    yield "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    yield f"<title>{title}</title>"
    yield f"<style>{STYLE}</style><h1>{title}: {counts['objects']:,} objects</h1><dl>"
    speed = counts["megapixels_of_this_run"] / max(counts["seconds_of_this_run"], 1e-3)
    for name, value in {
        "done": f"{counts['done']:,}", "failed": f"{counts['failed']:,}", "left": f"{counts['left']:,}",
        "megapixels": f"{counts['megapixels']:,.0f}", "this run": f"{counts['seconds_of_this_run']:,.0f} s",
        "speed": f"{speed:.3g} Mpx/s", "model": str(options.get("model", "")),
    }.items():  # fmt: skip
        yield f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
    yield "</dl>"
    if failed:
        yield "<h2 class=bad>Failed</h2><table><tr><th>scene<th>reason"
        for row in failed:
            yield f"<tr><td title='{escape(row.href)}'>{escape(row.name)}<td class=bad>{escape(row.facts['error'])}"
            if "traceback" in row.facts:
                yield f"<details><summary>details</summary><pre>{escape(row.facts['traceback'])}</pre></details>"
        yield "</table>"
    heads = "<th class=p>picture<th>scene<th class=n>objects<th class=n>Mpx<th class=n>s<th class=n>Mpx/s<th>files"
    yield f"<h2>Done</h2><table><tr>{heads}"
    for row in done[:SHOWN]:
        facts, files = row.facts, [os.path.basename(path) for path in row.facts["outputs"].values()]
        picture = next((name for name in files if name.endswith(".jpg")), None)
        yield "<tr><td>" + (f"<a href='{quote(picture)}'><img loading=lazy src='{quote(picture)}' alt=''></a>" if picture else "")
        note = f"<br><small>{escape(facts['note'])}</small>" if facts.get("note") else ""
        yield f"<td title='{escape(row.href)}'>{escape(row.name)}{note}<td class=n>{facts['objects']:,}"
        yield f"<td class=n>{facts['megapixels']:,.1f}<td class=n>{facts['seconds']:,.1f}<td class=n>{facts['mpx_per_s']:.3g}<td>"
        yield "<br>".join(f"<a href='{quote(name)}'>{escape(name)}</a>" for name in files)
    yield "</table>"
    if len(done) > SHOWN:
        yield f"<p>{len(done) - SHOWN:,} more scenes are in <a href='summary.json'>summary.json</a>."
    yield f"<h2>Options</h2><pre>{escape(json.dumps(options, indent=1))}</pre></html>\n"
