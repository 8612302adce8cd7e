"""xtgeo classify: a scene in, what it shows out."""

from __future__ import annotations

import json as json_
from typing import Annotated

import typer
from xtgeo.cli.options import (
    BandsOption,
    CloudsOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    MemoryOption,
    NodataOption,
    NoiseOption,
    QuietOption,
    SceneArgument,
    TrustedOption,
    UnitsOption,
    memory,
    open_source,
)


def classify(
    scene: SceneArgument,
    model: Annotated[str, typer.Option("--model", "-m", help=".safetensors file of a model of task classify.")],
    top: Annotated[int, typer.Option("--top", min=1, help="Classes to print, the likeliest first.")] = 5,
    bands: BandsOption = None,
    units: UnitsOption = None,
    nodata: NodataOption = None,
    noise: NoiseOption = "snap",
    clouds: CloudsOption = "keep",
    trusted: TrustedOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    max_memory: MemoryOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Say which class a whole scene or photograph belongs to, whatever its size.

    No model of this kind comes with xtgeo; docs/guide.md says how one is trained.

        xtgeo classify photo.tif --model species.safetensors
    """
    limit = memory(max_memory)

    from xtgeo.cli.progress import progress

    from xtgeo import classify as task
    from xtgeo import load_model

    source, chosen = open_source(scene, bands, units, nodata, noise, clouds, trusted), load_model(model)
    with progress(source, quiet=quiet) as report:
        said = task(
            source, chosen, device=device, dtype=dtype, max_memory=limit, looked=lambda n, total: report(n, total, 0)
        )
    if json:
        print(json_.dumps({"scene": source.id, "model": chosen.spec.name, "classes": said}))
        return
    for name, probability in list(said.items())[:top]:
        print(f"{probability:6.3f}  {name}")
