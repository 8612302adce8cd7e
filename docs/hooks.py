"""What the site holds beyond the files of this folder: commands, models and changes, made from what they are about.

mkdocs calls the functions named on_...; the others are for tests and for `make tables`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import tables
import typer
from mkdocs.structure.files import File, Files
from xtgeo.cli import app

from xtgeo.model import bundled, load_spec
from xtgeo.model.weights import BUNDLED, WEIGHTLESS, load_card
from xtgeo.scene import UNITS

ROOT = Path(__file__).resolve().parents[1]


def commands() -> Iterator[tuple[str, object, object]]:
    """Every command of the command line, groups before what is in them: its words, it, and its context."""

    def walk(words: str, command, parent) -> Iterator[tuple[str, object, object]]:
        context = command.make_context(words.split()[-1], [], parent=parent, resilient_parsing=True)
        yield words, command, context
        for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
            yield from walk(f"{words} {name}", command.get_command(context, name), context)

    return walk("xtgeo", typer.main.get_command(app), None)


def cli_page() -> str:
    """The page of commands, as Markdown: usage, example, arguments and options of each, as the program itself says them."""
    page = [
        "# Commands",
        "",
        "Every command answers to `--help`. What several commands share is said the same way in each.",
        "",
    ]
    for words, command, context in commands():
        records = [p.get_help_record(context) for p in command.params]
        page += [f"## {words}" if words != "xtgeo" else "## The program", "", _help(command), ""]
        page += ["```text", command.get_usage(context).removeprefix("Usage: "), "```", ""]
        rows = [f"| `{_cell(name)}` | {_cell(said)} |" for name, said in filter(None, records)]
        page += ["| argument | meaning |", "|---|---|", *rows, ""] if rows else []
    return "\n".join(page)


def _help(command) -> str:
    """What a command says of itself, its examples as code."""
    return re.sub(r"^ *(?=xtgeo )", "    ", command.help or "", flags=re.M)


def _plain(value: object) -> str:
    """A value of a Spec's provenance as words."""
    return (
        ", ".join(f"{key.replace('_', ' ')} {item}" for key, item in value.items())
        if isinstance(value, dict)
        else str(value)
    )


def _cell(text: str) -> str:
    """Text that may stand in a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")


def model_page(name: str) -> str:
    """A model's card and, from the file of its weights, what it expects of a scene and what it gives."""
    spec = load_spec(name)
    file = BUNDLED / f"{name}.safetensors"
    some = " (one is enough)" if len(spec.optional) == len(spec.bands) > 1 else ""
    facts = {
        "bands": ", ".join(spec.bands) + some,
        "units": f"`{spec.units}`: {UNITS[spec.units]}",
        "pixels": f"{spec.gsd:g} m",
        "classes": ", ".join(spec.classes),
        "commands": f"`xtgeo {spec.task}`" + (", `xtgeo detect`" if spec.points else ""),
        "threshold": f"{spec.threshold:g}",
        "smallest object": f"{spec.min_area:g} m²" if spec.min_area else "any",
        "region, margin": f"{spec.region} px, {spec.margin} px",
        "region encoder": f"`{spec.backbone}`" if spec.backbone else "none: it has no weights",
        "context encoder": f"`{spec.context}`" if spec.backbone else "none",
        "file": f"`{file.name}`, {file.stat().st_size / 1e6:.1f} MB" if file.exists() else "none",
    } | {key.replace("_", " "): _plain(value) for key, value in spec.provenance.items()}
    table = ["| | |", "|---|---|", *(f"| {key} | {_cell(value)} |" for key, value in facts.items())]
    return "\n".join([load_card(name).rstrip(), "", "## What its file says", "", *table, ""])


def changelog_page() -> str:
    """The changelog, whose links count from the repository's root."""
    return (ROOT / "CHANGELOG.md").read_text().replace("](docs/", "](")


def house() -> dict[str, str]:
    """The floors and homes that tests/test_house.py keeps, as tables; the roof is on top."""
    tree = ast.parse((ROOT / "tests" / "test_house.py").read_text())
    kept = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    floors, homes = (ast.literal_eval(kept[name]) for name in ("FLOORS", "HOMES"))
    levels = [f"| {level} | {_names(floors[level])} |" for level in reversed(range(len(floors)))]
    return {
        "<!-- floors -->": "\n".join(["| floor | rooms |", "|---|---|", *levels]),
        "<!-- homes -->": "\n".join(
            ["| library | rooms |", "|---|---|", *(f"| `{k}` | {_names(sorted(v))} |" for k, v in homes.items())]
        ),
    }


def _names(words: list[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def on_page_markdown(markdown: str, page, **_) -> str:
    """Fills in what a page leaves to be made."""
    if page.file.src_uri == "contributing.md":
        for mark, table in house().items():
            markdown = markdown.replace(mark, table)
    return tables.render(markdown)


def on_files(files: Files, config) -> Files:
    """Adds the pages that are made."""
    made = {"cli.md": cli_page(), "changelog.md": changelog_page()}
    made |= {f"models/{name}.md": model_page(name) for name in (*bundled(), *WEIGHTLESS)}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files
