"""The documentation is a site that builds without a warning, loads nothing from elsewhere, and says what is so."""

import ast
import inspect
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import pytest
import typer
import yaml
from xtgeo.cli import app

import xtgeo

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = typer.main.get_command(app)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
sys.path.insert(0, str(ROOT / "docs"))
LOADS = {
    "script": "src",
    "link": "href",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "object": "data",
    "embed": "src",
}
"""What a browser fetches by itself, and where it says from."""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site. A warning is an error: a link to nothing, a page that is in no menu, a docstring that cannot be read."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


class Fetched(HTMLParser):
    """Addresses that a page loads without being asked."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag in LOADS and values.get("rel") != "canonical":
            self.found.append(values.get(LOADS[tag]) or "")


def test_the_site_loads_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        for address in Fetched(page.read_text()).found:
            assert not re.match(r"(?:[a-z]+:)?//", address), f"{page.name} loads {address}"
    for style in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text()), style


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```|((?:^ {4}\S.*\n(?:\s*\n(?= {4}\S))?)+)", re.M | re.S)


def blocks(page: Path, language: str) -> list[str]:
    """The samples of a page in a language; indented ones are for a shell."""
    found = [(m[1], m[2]) if m[3] is None else ("", textwrap.dedent(m[3])) for m in BLOCK.finditer(page.read_text())]
    return [text for name, text in found if name == language]


def command_lines(text: str) -> list[list[str]]:
    """The words of each call of xtgeo in a piece of shell, without its name."""
    found = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        for part in re.split(r"(?:^|[;|&]|\bdo) *(?=xtgeo )", line)[1:]:
            words = shlex.shlex(part, posix=True, punctuation_chars=";|&>")
            words.whitespace_split = True
            found.append(list(itertools.takewhile(lambda word: word[0] not in ";|&>", list(words)[1:])))
    return found


INCOMPLETE = ("BadOptionUsage", "MissingParameter", "NoArgsIsHelpError")
"""Errors of the command line that prose may make: an argument or a value is left out."""


def parse(words: list[str], *, whole: bool) -> None:
    """Walks the words through the real command line without running it; `whole` asks for all that is required."""
    command, context = PROGRAM, None
    while True:
        try:
            context = command.make_context(command.name or "xtgeo", list(words), parent=context)
        except Exception as e:
            assert not whole and type(e).__name__ in INCOMPLETE, f"xtgeo {' '.join(words)}: {e or type(e).__name__}"
            return
        if not hasattr(command, "resolve_command") or not context._protected_args:
            return
        _, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_command_lines_of_the_docs_are_understood(page):
    for text in blocks(page, ""):
        for words in command_lines(text):
            parse(words, whole=True)
    for words in command_lines("\n".join(re.findall(r"`(xtgeo [a-z][^`\n]*)`", page.read_text()))):
        parse(words, whole=False)


def test_a_command_line_that_makes_no_sense_is_noticed():
    for line in ("xtgeo segment a.tif --nonsense", "xtgeo nonsense", "xtgeo models nonsense", "xtgeo batch --format"):
        with pytest.raises(Exception, match=r"(?i)nonsense|format|argument"):
            parse(command_lines(line)[0], whole=True)


def known(text: str) -> Iterator[tuple[ast.AST, object]]:
    """Each expression of a sample that stands for something of xtgeo, with what it is. A name that is not there is an error."""
    tree = ast.parse(text)
    names = {name: getattr(xtgeo, name) for name in xtgeo.__all__} | {"xtgeo": xtgeo}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "xtgeo":
            for alias in node.names:
                home = import_module(node.module)
                thing = getattr(home, alias.name, None) or import_module(f"{node.module}.{alias.name}")
                names[alias.asname or alias.name] = thing
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("xtgeo."):
                    import_module(alias.name)
    assigned = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}

    def meaning(node: ast.AST):
        if isinstance(node, ast.Name):
            return None if node.id in assigned else names.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = meaning(node.value)
            return getattr(owner, node.attr) if inspect.ismodule(owner) else None
        return None

    for node in ast.walk(tree):
        thing = meaning(node)
        if thing is not None:
            yield node, thing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_the_docs_names_what_is_there(page):
    for text in blocks(page, "python"):
        things = {id(node): thing for node, thing in known(text)}
        for call in ast.walk(ast.parse(text)):
            if isinstance(call, ast.Call) and id(call.func) in things:
                signature = inspect.signature(things[id(call.func)])
                words = {word.arg: None for word in call.keywords if word.arg}
                places = [None for place in call.args if not isinstance(place, ast.Starred)]
                signature.bind_partial(*places, **words)


def test_a_sample_with_a_name_that_is_not_there_is_noticed():
    for text in ("from xtgeo import nonsense", "import xtgeo\nxtgeo.nonsense(1)", "from xtgeo.nonsense import a"):
        with pytest.raises((AttributeError, ImportError), match="nonsense"):
            list(known(text))


def test_every_command_explains_itself_by_an_example():
    from hooks import commands

    for words, command, _ in commands():
        if hasattr(command, "list_commands") and not command.invoke_without_command:
            continue
        examples = [line for line in (command.help or "").splitlines() if re.match(rf" *{words}(?: |$)", line)]
        assert examples, f"{words} --help shows no example"
        for line in examples:
            for example in command_lines(line):
                parse(example, whole=True)


def test_every_public_name_is_in_the_reference():
    named = re.findall(
        r"^::: xtgeo\.(\w+)$", "".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md")), re.M
    )
    errors = {name for name in xtgeo.__all__ if name.endswith("Error")}
    assert set(xtgeo.__all__) - errors == set(named) - {"errors"}


def test_the_readme_leads_to_what_is_there():
    text = (ROOT / "README.md").read_text()
    assert text.index("make demo") < text.index("make test") < 600 and len(text.splitlines()) < 75
    for target in re.findall(r"\]\(([^)#:]+)[#)]", text):
        assert (ROOT / target).exists(), target


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0" and cited["authors"] == [{"name": "The xtgeo developers"}]
    assert cited["version"] == xtgeo.__version__ == PROJECT["version"] and cited["license"] == PROJECT["license"]


def test_the_tables_of_figures_are_those_of_their_files():
    from tables import MARKED, render

    used = set()
    for page in PAGES:
        text = page.read_text()
        used |= {found[2] for found in MARKED.finditer(text)}
        assert render(text) == text, f"{page.name} is not what its figures say: make tables"
    files = {path.stem: json.loads(path.read_text()) for path in (ROOT / "docs" / "figures").glob("*.json")}
    assert used == set(files) and len(used) > 10
    for name, figures in files.items():
        script = figures["command"].split()[1]
        assert (
            (ROOT / script).exists() and figures["machine"] and re.fullmatch(r"2\d{3}-\d\d-\d\d", figures["written"])
        ), name


@pytest.mark.parametrize("page", ["testing.md", "promises.md"])
def test_the_tests_that_the_docs_name_exist(page):
    files = {path.stem: path.read_text() for path in (ROOT / "tests").glob("*.py")}
    everything = "\n".join(files.values())
    for name in re.findall(r"`(test_\w+)`", (ROOT / "docs" / page).read_text()):
        assert name in files or f"def {name}(" in everything, name
