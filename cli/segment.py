"""xtgeo segment: a scene in, georeferenced objects out."""

from __future__ import annotations

from typing import Annotated

import typer
from xtgeo.cli.options import (
    AoiOption,
    AppendOption,
    BandsOption,
    CloudsOption,
    ContextOption,
    CrsOption,
    DeviceOption,
    DtypeOption,
    InfrastructureOption,
    InfrastructureRadiusOption,
    JsonOption,
    Land,
    LandBufferOption,
    LandMaskOption,
    LandOption,
    MemoryOption,
    ModelOption,
    NodataOption,
    NoiseOption,
    OnError,
    OnErrorOption,
    OverwriteOption,
    QuicklookOption,
    QuietOption,
    SceneArgument,
    StacOption,
    ThresholdOption,
    TrustedOption,
    UngeoreferencedOption,
    UnitsOption,
    masks,
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
    stac: StacOption = None,
    warp: Annotated[
        str | None, typer.Option("--warp", help="CRS of a map, such as EPSG:32631, on which --mask and --scores are to be.")
    ] = None,
    model: ModelOption = None,
    bands: BandsOption = None,
    units: UnitsOption = None,
    nodata: NodataOption = None,
    noise: NoiseOption = "snap",
    clouds: CloudsOption = "keep",
    trusted: TrustedOption = False,
    threshold: ThresholdOption = None,
    min_area: Annotated[
        float | None, typer.Option("--min-area", min=0, help="Smallest object in square metres; default: the model's.")
    ] = None,
    aoi: AoiOption = None,
    land: LandOption = Land.flag,
    land_mask: LandMaskOption = None,
    land_buffer: LandBufferOption = 200.0,
    infrastructure: InfrastructureOption = None,
    infrastructure_radius: InfrastructureRadiusOption = 200.0,
    crs: CrsOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    max_memory: MemoryOption = None,
    context: ContextOption = "tile",
    on_error: OnErrorOption = OnError.fail,
    overwrite: OverwriteOption = False,
    append: AppendOption = False,
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
        trusted=trusted,
        max_memory=max_memory,
        quiet=quiet,
        json=json,
        out=out,
        mask=mask,
        scores=scores,
        quicklook=quicklook,
        stac=stac,
        warp=warp,
        threshold=threshold,
        min_area=min_area,
        aoi=aoi,
        masks=masks(land, land_mask, land_buffer, infrastructure, infrastructure_radius),
        crs=crs,
        device=device,
        dtype=dtype,
        context=context,
        on_error=on_error.value,
        overwrite=overwrite,
        append=append,
        allow_ungeoreferenced=allow_ungeoreferenced,
    )
