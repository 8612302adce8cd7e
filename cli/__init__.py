"""The command line: one file per command. A command parses, calls one library function, prints.

Heavy imports stand inside the commands, so that `xtgeo --help` answers at once.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer
from xtgeo.cli import (
    batch,
    classify,
    convert,
    detect,
    doctor,
    evaluate,
    info,
    models,
    report,
    segment,
    simulate,
    train,
    view,
    xview3,
)

from xtgeo.errors import XtgeoError

app = typer.Typer(
    name="xtgeo",
    help="Every vessel in a whole satellite scene, on the map, with one command.\n\n"
    "xtgeo segment scene.tif --out vessels.gpkg",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("segment")(segment.segment)
app.command("detect")(detect.detect)
app.command("batch")(batch.batch)
app.command("classify")(classify.classify)
app.command("train")(train.train)
app.command("info")(info.info)
app.add_typer(models.app, name="models")
app.add_typer(simulate.app, name="simulate")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(xview3.app, name="xview3")
app.command("view")(view.view)
app.command("report")(report.report)
app.command("convert")(convert.convert)
app.command("doctor")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        from xtgeo import __version__

        print(f"xtgeo {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def _stop(number: int, _) -> None:
    """Ends the run in order, as Ctrl-C does; when asked a second time at once, for which a journal is fit as well."""
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)


def main() -> None:
    """Entry point: an error of ours is one line and exit code 1, Ctrl-C is 130, SIGTERM 143; anything else is our bug, in full."""
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        app()
    except XtgeoError as e:
        print(f"error: {' '.join(str(e).split())}", file=sys.stderr)
        sys.exit(1)
    except SystemExit as e:
        if e.code in (130, 143):  # Ctrl-C, which typer takes for itself, and SIGTERM
            print("interrupted: run again to resume", file=sys.stderr)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
