"""xtgeo batch: many scenes into one folder, on all workers of a Dask cluster."""

from __future__ import annotations

import json as json_
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
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
    InfrastructureOption,
    InfrastructureRadiusOption,
    JsonOption,
    Land,
    LandBufferOption,
    LandMaskOption,
    LandOption,
    ModelOption,
    NodataOption,
    NoiseOption,
    OnError,
    OnErrorOption,
    QuietOption,
    ThresholdOption,
    TrustedOption,
    UngeoreferencedOption,
    UnitsOption,
    masks,
    memory,
)

SECONDS = 15
"""Between two plain lines."""


class Format(StrEnum):
    """Of outlines and points."""

    gpkg = "gpkg"
    geojson = "geojson"
    fgb = "fgb"
    parquet = "parquet"
    csv = "csv"


class Task(StrEnum):
    """What is done with each scene."""

    segment = "segment"
    detect = "detect"


def batch(
    scenes: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENES",
            help="Patterns in quotes, paths, URLs; a .txt of these, one a line; a .csv with a column scene and options; a STAC "
            "ItemCollection.",
        ),
    ],
    out_dir: Annotated[str, typer.Option("--out-dir", "-o", help="Folder for SCENE.gpkg, summary.json and report.html.")],
    model: ModelOption = None,
    task: Annotated[
        Task | None, typer.Option("--task", help="Outlines (segment) or points (detect); default: what the model is for.")
    ] = None,
    format: Annotated[Format, typer.Option("--format", help="Of outlines or points.")] = Format.gpkg,
    mask: Annotated[bool, typer.Option("--mask", help="Class of each pixel too, as a COG.")] = False,
    scores: Annotated[bool, typer.Option("--scores", help="Probability of each pixel too, as a COG.")] = False,
    quicklooks: Annotated[
        bool, typer.Option("--quicklooks/--no-quicklooks", help="A picture of each scene, for the report.")
    ] = True,
    stac: Annotated[bool, typer.Option("--stac", help="A STAC Item for each scene.")] = False,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Address of a Dask scheduler, such as tcp://host:8786; default: workers here.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes started here; default: one for each processor.")
    ] = None,
    dashboard: Annotated[
        str, typer.Option("--dashboard", help="Address of the page that shows workers started here; other machines cannot see it.")
    ] = "127.0.0.1:8787",
    tls_ca_file: Annotated[str | None, typer.Option("--tls-ca-file", help="Authority's certificate, for tls://.")] = None,
    tls_cert: Annotated[str | None, typer.Option("--tls-cert", help="Own certificate.")] = None,
    tls_key: Annotated[str | None, typer.Option("--tls-key", help="Its key.")] = None,
    retries: Annotated[int, typer.Option("--retries", min=0, help="How often a failed scene is tried again, at the end.")] = 1,
    redo: Annotated[
        bool, typer.Option("--redo", help="Compute anew what was done with other options, or from a file that has changed.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many scenes, pixels, how long and how much memory; write nothing.")
    ] = False,
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
    max_memory: Annotated[str | None, typer.Option("--max-memory", help="Limit for each worker, such as 4GB.")] = None,
    context: ContextOption = "tile",
    on_error: OnErrorOption = OnError.fail,
    allow_ungeoreferenced: UngeoreferencedOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Find the objects of many scenes, on all processors of this machine or of a cluster.

    Run it again, and only what is missing or failed is done. Exit code 1 where a scene failed: see report.html.

        xtgeo batch "scenes/*.zip" --out-dir results
    """
    given = {"bands": bands, "units": units, "nodata": nodata, "threshold": threshold, "min_area": min_area, "aoi": aoi, "crs": crs}
    limit = memory(max_memory)
    options = {
        **{name: value for name, value in given.items() if value is not None},
        "noise": noise, "clouds": clouds, "trusted": trusted, "device": device, "dtype": dtype, "max_memory": limit,
        "context": context, "on_error": on_error.value, "allow_ungeoreferenced": allow_ungeoreferenced,
        "masks": masks(land, land_mask, land_buffer, infrastructure, infrastructure_radius),
    }  # fmt: skip
    tls = (tls_ca_file, tls_cert, tls_key) if tls_ca_file and tls_cert and tls_key else None
    if tls is None and (tls_ca_file or tls_cert or tls_key):
        raise typer.BadParameter("TLS needs all three: --tls-ca-file, --tls-cert and --tls-key")
    if workers and scheduler:
        raise typer.BadParameter("--workers starts workers here; those of --scheduler are started with `dask worker`")
    from xtgeo import batch as work
    from xtgeo import connect
    from xtgeo.batches import entries, forecast

    for handler in logging.getLogger("distributed").handlers:
        handler.setLevel(logging.CRITICAL)  # what ends a batch is told in one line
    chosen = None if task is None else task.value
    listed = entries(scenes)
    client = connect(
        scheduler, workers=workers, memory=limit and 2 * limit, dashboard=dashboard, tls=tls
    )
    if dry_run:
        told = forecast(listed, model, task=chosen, client=client, **options)
        for name, reason in told.unreadable.items():
            print(f"{name}: {reason}", file=sys.stderr)
        print(json_.dumps(asdict(told)) if json else told)
        return
    with _progress(len(listed), quiet=quiet) as report:
        standing = work(
            listed, model, out_dir, task=chosen, client=client, format=format.value, mask=mask, scores=scores,
            quicklooks=quicklooks, stac=stac, retries=retries, redo=redo, progress=report, **options,
        )  # fmt: skip
    if json:
        print(json_.dumps(asdict(standing)))
    elif not quiet:
        print(f"{standing}: {out_dir}/report.html")
    if standing.failed:
        raise typer.Exit(1)


@contextmanager
def _progress(scenes: int, *, quiet: bool) -> Iterator[Callable]:
    """Shows how far a batch is: a bar on a terminal, a line now and then elsewhere."""
    if quiet:
        yield lambda standing: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = BarColumn(), MofNCompleteColumn(), TextColumn("scenes  {task.fields[told]}"), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=scenes, told="")

            def show(standing) -> None:
                failed = f"{standing.failed} failed, " if standing.failed else ""
                told = f"{failed}{standing.megapixels / max(standing.seconds, 1e-3):.1f} Mpx/s  {standing.dashboard}"
                bar.update(task, completed=standing.done + standing.failed, told=told)

            yield show
    else:
        last, shown = time.monotonic(), ""

        def line(standing) -> None:
            nonlocal last, shown
            if standing.dashboard != shown:
                shown = standing.dashboard
                print(f"dashboard: {shown}", file=sys.stderr)
            now = time.monotonic()
            if now - last >= SECONDS:
                last, new = now, standing.done + standing.failed - standing.earlier
                left = f", about {standing.left / new * standing.seconds:.0f} s left" if new else ""
                print(f"{standing}{left}", file=sys.stderr)

        yield line
