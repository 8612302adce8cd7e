"""Tables of figures, made of docs/figures/*.json: `make tables` writes them into the pages between their marks.

    <!-- figures/peers.json -->      what lies between is made of that file; the site's build and tests/test_docs.py hold it to that
    <!-- end -->

A file says what was measured, by which command, on which machine, and on which day it came into the page ("written"), and holds
numbers rather than text: "columns" with a title and, for numbers, the decimals that are shown; "rows" of values: a number, a
text, null, or {"value": number, "rounds": [numbers], "bold": true}.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent
MARKED = re.compile(r"^(<!-- figures/(\w+)\.json -->\n).*?^(<!-- end -->)$", re.M | re.S)


def render(markdown: str) -> str:
    """The page with its tables made anew."""
    return MARKED.sub(
        lambda m: m[1] + table(json.loads((DOCS / "figures" / f"{m[2]}.json").read_text())) + m[3], markdown
    )


def table(figures: dict) -> str:
    """A table in Markdown."""
    columns = figures["columns"]
    titles = [column["title"] for column in columns]
    rows = [
        [cell(value, column.get("decimals", 0)) for value, column in zip(row, columns, strict=True)]
        for row in figures["rows"]
    ]
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(
        "|" + "|".join("---" if text == "---" else f" {text} ".replace("  ", " ") for text in line) + "|\n"
        for line in lines
    )


def cell(value: object, decimals: int) -> str:
    """One value as text."""
    if isinstance(value, dict):
        rounds = value.get("rounds")
        text = cell(value["value"], decimals) + (
            f" ({', '.join(cell(one, decimals) for one in rounds)})" if rounds else ""
        )
        return f"**{text}**" if value.get("bold") else text
    if isinstance(value, (int, float)):
        return f"{value:,.{decimals}f}"
    return value or ""


if __name__ == "__main__":
    for page in DOCS.rglob("*.md"):
        page.write_text(render(page.read_text()))
