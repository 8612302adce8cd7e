"""xtgeo simulate: scenes with known ships."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from xtgeo.cli.progress import progress

app = typer.Typer(help="Make scenes whose ships are known.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Make scenes whose ships are known."""


@app.command()
def sentinel1(
    out: Annotated[Path, typer.Argument(help="GeoTIFF to write, or the folder with --layout xview3.")],
    shape: Annotated[tuple[int, int], typer.Option("--shape", help="Rows and columns in pixels.")] = (4096, 4096),
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same scene.")] = 0,
    density: Annotated[
        float | None,
        typer.Option("--density", min=0, help="Vessels per megapixel of water; default 2 to 8, over 64 Mpx 0.2 to 1.2."),
    ] = None,
    wind: Annotated[
        float | None, typer.Option("--wind", min=0.5, max=25, help="Wind in m/s; default 1 to 18.")
    ] = None,
    land: Annotated[
        float | None, typer.Option("--land", min=0, max=0.95, help="Share of land; 0 leaves islets and rocks. Default: drawn.")
    ] = None,
    ice: Annotated[
        float | None, typer.Option("--ice", min=0, max=1, help="Share of the sea under ice; default 0 in 97 of 100 scenes.")
    ] = None,
    noise: Annotated[
        str, typer.Option("--noise", help="How the noise floor is removed: snap as the usual processor, clip, or none.")
    ] = "snap",
    ghosts: Annotated[bool, typer.Option("--ghosts/--no-ghosts", help="Azimuth ambiguities of ships and land.")] = True,
    layout: Annotated[str, typer.Option("--layout", help="geotiff, or xview3 for its folder of files.")] = "geotiff",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Simulate a Sentinel-1 scene (VV, VH in dB, 10 m) with its ships as polygons and as an xView3 label table.

    Pixels are written as they are drawn: a scene of 18000 x 28000 takes one to three minutes and a gigabyte of memory.

        xtgeo simulate sentinel1 scene.tif --shape 4096 4096 --seed 1
    """
    if layout not in ("geotiff", "xview3"):
        raise typer.BadParameter(f"unknown layout {layout!r}; choose geotiff or xview3")
    if min(shape) < 64:
        raise typer.BadParameter("a simulated scene needs at least 64 pixels a side")
    if noise not in ("snap", "clip", "none"):
        raise typer.BadParameter(f"unknown noise rule {noise!r}; choose snap, clip or none")
    from xtgeo import simulate

    plan = simulate.plan_sentinel1(
        shape,
        seed=seed,
        density=density,
        wind=wind,
        land=True if land is None else land,
        conditions=simulate.Conditions(ice=ice, noise=noise, ghosts=ghosts),
    )
    write = simulate.write_xview3 if layout == "xview3" else simulate.write_scene
    with progress(plan, quiet=quiet) as report:
        known = write(plan, out, overwrite=overwrite, report=report)
    vessels = known.truth()
    print(
        f"{out / known.id if layout == 'xview3' else out}: {shape[1]} x {shape[0]} px, wind {known.params.wind:.0f} m/s, "
        f"vessels: {len(vessels)}, {int(vessels['detectable'].sum())} of them bright enough to be seen"
    )
