"""xtgeo convert: one vector output becomes another."""

from __future__ import annotations

from typing import Annotated

import typer
from xtgeo.cli.options import OverwriteOption


def convert(
    source: Annotated[str, typer.Argument(help="Vector output of xtgeo, or a folder of .parquet files")],
    target: Annotated[str, typer.Argument(help="File to write: .gpkg, .geojson, .fgb, .parquet or .csv")],
    columns: Annotated[str, typer.Option("--columns", help="Of a .csv: all, xview3 or gfw (Global Fishing Watch).")] = "all",
    append: Annotated[
        bool, typer.Option("--append", help="Add to a dataset of many scenes: TARGET is a .gpkg, or a folder named .parquet.")
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Turn one vector output into another, with every value, type and place; what a format has no place for is said.

        xtgeo convert vessels.gpkg vessels.parquet

        xtgeo convert points.gpkg predictions.csv --columns xview3
    """
    from xtgeo.conversion import convert as task

    done = task(source, target, columns=columns, append=append, overwrite=overwrite)
    print(
        f"{target}: {done.objects} object{'s' * (done.objects != 1)}" + (f"; without {', '.join(done.lost)}" if done.lost else "")
    )
