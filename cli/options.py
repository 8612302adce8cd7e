"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import re
from typing import Annotated

import typer

SceneArgument = Annotated[
    list[str],
    typer.Argument(metavar="SCENE", help="Raster file, URL, folder, or several one-band files that make one scene."),
]
BandsOption = Annotated[
    str | None, typer.Option("--bands", help="Names for the bands, where the file does not say: vv=1,vh=2")
]
UnitsOption = Annotated[
    str | None,
    typer.Option("--units", help="What the numbers are: db, linear, amplitude, reflectance, dn10000, dn, rgb."),
]
NodataOption = Annotated[float | None, typer.Option("--nodata", help="Value that means no data, where no tag says so.")]

SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def memory(text: str | None) -> int | None:
    """Bytes from "4GB", "500 MB", "2GiB" or a plain number."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]?i?)b?\s*", text.lower())
    if not found or found[1].count(".") > 1 or found[1] == ".":
        raise typer.BadParameter(f"{text!r} is no amount of memory; write it as 4GB or 800MB")
    return int(float(found[1]) * SIZES[found[2]])


def open_source(href: list[str], bands: str | None, units: str | None, nodata: float | None):
    """The scene behind the arguments of a command."""
    from xtgeo import open_scene

    return open_scene(href[0] if len(href) == 1 else href, bands=bands, units=units, nodata=nodata)
