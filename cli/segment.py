"""xtgeo segment: a scene in, georeferenced objects out."""

from __future__ import annotations

import json as json_
from dataclasses import asdict
from typing import Annotated

import typer
from xtgeo.cli.options import BandsOption, NodataOption, SceneArgument, UnitsOption, memory, open_source


def segment(
    scene: SceneArgument,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Outlines: .gpkg, .geojson, .fgb, .parquet or .csv")
    ] = None,
    mask: Annotated[str | None, typer.Option("--mask", help="Class of each pixel, as a COG.")] = None,
    scores: Annotated[str | None, typer.Option("--scores", help="Probability of each pixel, as a COG.")] = None,
    quicklook: Annotated[str | None, typer.Option("--quicklook", help="Picture with the outlines, .png")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Bundled name or .safetensors file; by default the bundled one that fits."),
    ] = None,
    bands: BandsOption = None,
    units: UnitsOption = None,
    nodata: NodataOption = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", min=0, max=1, help="Probability that counts; default: the model's.")
    ] = None,
    min_area: Annotated[
        float | None, typer.Option("--min-area", min=0, help="Smallest object in square metres; default: the model's.")
    ] = None,
    aoi: Annotated[str | None, typer.Option("--aoi", help="Vector file: only objects centred in its polygons.")] = None,
    crs: Annotated[
        str | None, typer.Option("--crs", help="CRS of the outlines; default: the scene's, EPSG:4326 for GCPs.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda")] = "auto",
    dtype: Annotated[str, typer.Option("--dtype", help="auto (measured), fp32 or bf16")] = "auto",
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", help="Limit for the whole process, such as 4GB.")
    ] = None,
    context: Annotated[
        str, typer.Option("--context", help="How far regions exchange information: tile, or scene (two passes).")
    ] = "tile",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    allow_ungeoreferenced: Annotated[
        bool, typer.Option("--allow-ungeoreferenced", help="Accept a scene without a place; outlines in its own coordinates.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable summary on standard output.")] = False,
) -> None:
    """Find the objects of a scene: one command, any size, bounded memory.

    A run that was stopped continues where it was when the same command is given again.

        xtgeo segment scene.tif --out vessels.gpkg --quicklook vessels.png
    """
    if not any((out, mask, scores)):
        raise typer.BadParameter("nothing to write: give --out vessels.gpkg, --mask or --scores")
    limit = memory(max_memory)

    from xtgeo.cli.progress import progress

    from xtgeo import load_model
    from xtgeo import segment as segment_
    from xtgeo.choose import choose_model

    source = open_source(scene, bands, units, nodata)
    chosen = load_model(model or choose_model(source))
    with progress(source, quiet=quiet) as report:
        result = segment_(
            source,
            chosen,
            out=out,
            mask=mask,
            scores=scores,
            quicklook=quicklook,
            threshold=threshold,
            min_area=min_area,
            aoi=aoi,
            crs=crs,
            device=device,
            dtype=dtype,
            max_memory=limit,
            context=context,
            overwrite=overwrite,
            allow_ungeoreferenced=allow_ungeoreferenced,
            progress=report,
        )
    if json:
        print(json_.dumps({**asdict(result.summary), "outputs": result.summary.outputs}))
    elif not quiet:
        print(result.summary)
