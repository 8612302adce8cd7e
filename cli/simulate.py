"""xtgeo simulate: scenes with known ships."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
        float | None, typer.Option("--density", min=0, help="Vessels per megapixel of water; default 2 to 8.")
    ] = None,
    wind: Annotated[
        float | None, typer.Option("--wind", min=0.5, max=25, help="Wind in m/s; default 1 to 18.")
    ] = None,
    layout: Annotated[str, typer.Option("--layout", help="geotiff, or xview3 for its folder of files.")] = "geotiff",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Simulate a Sentinel-1 scene (VV, VH in dB, 10 m) with its ships as polygons and as an xView3 label table."""
    if layout not in ("geotiff", "xview3"):
        raise typer.BadParameter(f"unknown layout {layout!r}; choose geotiff or xview3")
    if min(shape) < 64:
        raise typer.BadParameter("a simulated scene needs at least 64 pixels a side")
    from xtgeo import simulate

    scene = simulate.sentinel1(shape, seed=seed, density=density, wind=wind)
    if layout == "xview3":
        out = simulate.write_xview3(scene, out, overwrite=overwrite)
    else:
        simulate.write_scene(scene, out, overwrite=overwrite)
    vessels = scene.truth()
    print(
        f"{out}: {shape[1]} x {shape[0]} px, wind {scene.params.wind:.0f} m/s, {len(vessels)} vessels, "
        f"{int(vessels['detectable'].sum())} of them bright enough to be seen"
    )
