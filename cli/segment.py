"""xtgeo segment: a scene in, georeferenced objects out."""

from __future__ import annotations

from typing import Annotated

import typer
from xtgeo.cli.options import (
    AoiOption,
    BandsOption,
    CloudsOption,
    ContextOption,
    CrsOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    MemoryOption,
    ModelOption,
    NodataOption,
    NoiseOption,
    OverwriteOption,
    QuicklookOption,
    QuietOption,
    SceneArgument,
    ThresholdOption,
    UngeoreferencedOption,
    UnitsOption,
    run,
)


def segment(
    scene: SceneArgument,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Outlines: .gpkg, .geojson, .fgb, .parquet or .csv")
    ] = None,
    mask: Annotated[str | None, typer.Option("--mask", help="Class of each pixel, as a COG.")] = None,
    scores: Annotated[str | None, typer.Option("--scores", help="Probability of each pixel, as a COG.")] = None,
    quicklook: QuicklookOption = None,
    model: ModelOption = None,
    bands: BandsOption = None,
    units: UnitsOption = None,
    nodata: NodataOption = None,
    noise: NoiseOption = "snap",
    clouds: CloudsOption = "keep",
    threshold: ThresholdOption = None,
    min_area: Annotated[
        float | None, typer.Option("--min-area", min=0, help="Smallest object in square metres; default: the model's.")
    ] = None,
    aoi: AoiOption = None,
    crs: CrsOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    max_memory: MemoryOption = None,
    context: ContextOption = "tile",
    overwrite: OverwriteOption = False,
    allow_ungeoreferenced: UngeoreferencedOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Find the objects of a scene: one command, any size, bounded memory.

    A run that was stopped continues where it was when the same command is given again.

        xtgeo segment scene.tif --out vessels.gpkg --quicklook vessels.png
    """
    if not any((out, mask, scores)):
        raise typer.BadParameter("nothing to write: give --out vessels.gpkg, --mask or --scores")
    from xtgeo import segment as task

    run(
        task,
        scene,
        model,
        bands=bands,
        units=units,
        nodata=nodata,
        noise=noise,
        clouds=clouds,
        max_memory=max_memory,
        quiet=quiet,
        json=json,
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
        context=context,
        overwrite=overwrite,
        allow_ungeoreferenced=allow_ungeoreferenced,
    )
