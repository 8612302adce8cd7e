"""xtgeo report: results as one page that opens anywhere."""

from __future__ import annotations

from typing import Annotated

import typer
from xtgeo.cli.options import OverwriteOption, QuietOption


def report(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Vector outputs of xtgeo, or folders of them, as that of xtgeo batch."),
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="The file to write, .html")],
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """One self-contained page on results: map, pictures, counts, how they were made, what failed. Opens offline.

    xtgeo report results --out report.html
    """
    from xtgeo import report as task

    say = (lambda text: None) if quiet else (lambda text: typer.echo(text, err=True))
    done = task(paths, out, overwrite=overwrite, progress=say)
    if not quiet:
        print(done)
