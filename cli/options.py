"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import json as json_
import re
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer


class Land(StrEnum):
    """What --land may be."""

    suppress = "suppress"
    flag = "flag"
    off = "off"


class OnError(StrEnum):
    """What --on-error may be."""

    fail = "fail"
    mask = "mask"


SceneArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="SCENE",
        help="File, URL, folder, product as it came (SAFE, zip, tar), STAC item, Zarr store, or several files of one band.",
    ),
]
BandsOption = Annotated[
    str | None,
    typer.Option("--bands", help="Which bands, by name: red,nir; where the file does not say, names for them: vv=1,vh=2"),
]
UnitsOption = Annotated[
    str | None,
    typer.Option("--units", help="What the numbers are: db, linear, amplitude, reflectance, dn10000, dn, rgb."),
]
NodataOption = Annotated[float | None, typer.Option("--nodata", help="Value that means no data, where no tag says so.")]
CloudsOption = Annotated[
    str, typer.Option("--clouds", help="Clouds of a Sentinel-2 or Landsat product: keep, or mask (and their shadows).")
]
TrustedOption = Annotated[
    bool, typer.Option("--trusted", help="Let the scene's file point to other files and internal addresses, and be of any size.")
]
NoiseOption = Annotated[
    str, typer.Option("--noise", help="What becomes of a Sentinel-1 product's thermal noise: snap, clip or none.")
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Bundled name or .safetensors file; by default the bundled one that fits."),
]
ThresholdOption = Annotated[
    float | None, typer.Option("--threshold", min=0, max=1, help="Probability that counts; default: the model's.")
]
AoiOption = Annotated[
    str | None, typer.Option("--aoi", help="Vector file, any CRS: only objects centred in its polygons; the rest is not read.")
]
LandOption = Annotated[
    Land,
    typer.Option("--land", help="Objects on land: flag them, suppress those well inland, or off, look at no land."),
]
LandMaskOption = Annotated[
    str | None,
    typer.Option(
        "--land-mask",
        help="Polygons of land, or a raster above 0 on land, any CRS; default: what lies beside an xView3 scene, else the packaged "
        "coastline, if installed.",
    ),
]
LandBufferOption = Annotated[
    float, typer.Option("--land-buffer", min=0, help="Metres from the water's edge within which nothing is suppressed.")
]
InfrastructureOption = Annotated[
    str | None,
    typer.Option("--infrastructure", help="Vector file of platforms, turbines ..., any CRS: objects near one are flagged."),
]
InfrastructureRadiusOption = Annotated[
    float, typer.Option("--infrastructure-radius", min=0, help="How near that is, in metres.")
]
CrsOption = Annotated[
    str | None, typer.Option("--crs", help="CRS of the vectors; default: the scene's, EPSG:4326 for GCPs.")
]
QuicklookOption = Annotated[str | None, typer.Option("--quicklook", help="Picture with what was found, .png or .jpg")]
StacOption = Annotated[str | None, typer.Option("--stac", help="STAC Item that tells of the run and its outputs, .json")]
AppendOption = Annotated[
    bool, typer.Option("--append", help="Add to a dataset of many scenes: --out is a .gpkg, or a folder named .parquet.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda")]
DtypeOption = Annotated[str, typer.Option("--dtype", help="auto (measured), fp32 or bf16")]
MemoryOption = Annotated[
    str | None, typer.Option("--max-memory", help="Limit for the whole process, such as 4GB.")
]
ContextOption = Annotated[
    str, typer.Option("--context", help="How far regions exchange information: tile, or scene (two passes).")
]
OnErrorOption = Annotated[
    OnError,
    typer.Option("--on-error", help="A tile that cannot be read ends the run (fail), or is nodata and told of (mask)."),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
UngeoreferencedOption = Annotated[
    bool, typer.Option("--allow-ungeoreferenced", help="Accept a scene without a place; results in its own coordinates.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable summary on standard output.")]

SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def memory(text: str | None) -> int | None:
    """Bytes from "4GB", "500 MB", "2GiB" or a plain number."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]?i?)b?\s*", text.lower())
    if not found or found[1].count(".") > 1 or found[1] == ".":
        raise typer.BadParameter(f"{text!r} is no amount of memory; write it as 4GB or 800MB")
    return int(float(found[1]) * SIZES[found[2]])


def open_source(
    href: list[str], bands: str | None, units: str | None, nodata: float | None, noise: str, clouds: str, trusted: bool
):
    """The scene behind the arguments of a command."""
    from xtgeo import open_scene

    place = href[0] if len(href) == 1 else href
    return open_scene(place, bands=bands, units=units, nodata=nodata, noise=noise, clouds=clouds, trusted=trusted)


def masks(land: Land, land_mask: str | None, land_buffer: float, infrastructure: str | None, infrastructure_radius: float):
    """What the options about land and known works say together."""
    if land is Land.off and land_mask is not None:
        raise typer.BadParameter("--land off looks at no land, so --land-mask is of no use: leave one of them out")
    from xtgeo import Masks

    return Masks(land.value, land_mask, land_buffer, infrastructure, infrastructure_radius)


def run(
    task,
    scene: list[str],
    model: str | None,
    *,
    bands,
    units,
    nodata,
    noise,
    clouds,
    trusted,
    max_memory,
    quiet: bool,
    json: bool,
    **options,
):
    """Opens the scene, finds the model, and runs `task` (`xtgeo.segment` or `xtgeo.detect`) with a progress bar."""
    limit = memory(max_memory)

    from xtgeo.cli.progress import progress

    from xtgeo.choose import choose_model, load_for

    source = open_source(scene, bands, units, nodata, noise, clouds, trusted)
    chosen = load_for(source, model or choose_model(source, task.__name__))
    with progress(source, quiet=quiet) as report:
        result = task(source, chosen, max_memory=limit, progress=report, **options)
    if result.summary.note and not quiet:
        typer.echo(result.summary.note, err=True)
    if json:
        print(json_.dumps(asdict(result.summary)))
    elif not quiet:
        print(result.summary)
