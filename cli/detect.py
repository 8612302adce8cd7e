"""xtgeo detect: a scene in, one point with attributes for every object out."""

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


def detect(
    scene: SceneArgument,
    out: Annotated[str, typer.Option("--out", "-o", help="Points: .gpkg, .geojson, .fgb, .parquet or .csv")],
    quicklook: QuicklookOption = None,
    stac: StacOption = None,
    model: ModelOption = None,
    bands: BandsOption = None,
    units: UnitsOption = None,
    nodata: NodataOption = None,
    noise: NoiseOption = "snap",
    clouds: CloudsOption = "keep",
    trusted: TrustedOption = False,
    threshold: ThresholdOption = None,
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
    """Find the objects of a scene as points: is it a vessel, does it fish, how long is it.

    A run that was stopped continues where it was when the same command is given again.

        xtgeo detect scene.tif --out points.gpkg
    """
    from xtgeo import detect as task

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
        quicklook=quicklook,
        stac=stac,
        threshold=threshold,
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
