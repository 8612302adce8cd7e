"""What the site holds beyond the files of this folder: pages made from the command line and from the changelog.

mkdocs calls the functions named on_...; the others are for tests and for `make tables`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import typer
from mkdocs.structure.files import File, Files
from xtgeo.cli import app

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


def _cell(text: str) -> str:
    """Text that may stand in a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")


def changelog_page() -> str:
    """The changelog, whose links count from the repository's root."""
    return (ROOT / "CHANGELOG.md").read_text().replace("](docs/", "](")


def on_files(files: Files, config) -> Files:
    """Adds the pages that are made."""
    made = {"cli.md": cli_page(), "changelog.md": changelog_page()}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files
