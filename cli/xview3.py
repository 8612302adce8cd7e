"""xtgeo xview3: the jobs of the xView3-SAR challenge."""

from __future__ import annotations

import json as json_
import sys
from typing import Annotated

import typer
from xtgeo.cli.options import (
    DeviceOption,
    DtypeOption,
    MemoryOption,
    OverwriteOption,
    QuietOption,
    ThresholdOption,
    memory,
)

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The xView3-SAR challenge: predict, split.")


@app.command()
def predict(
    data: Annotated[str, typer.Argument(metavar="DATA_DIR", help="Folder of scene folders.")],
    scene_ids: Annotated[str, typer.Argument(metavar="SCENE_IDS", help="Ids with commas between them.")],
    out: Annotated[str, typer.Argument(metavar="OUT.csv")],
    model: Annotated[str, typer.Option("--model", "-m", help="Bundled name or file of task detect.")] = "points-sar",
    threshold: ThresholdOption = None,
    minutes: Annotated[float, typer.Option("--minutes", help="Allowed for a scene; what takes longer is said.")] = 15.0,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    max_memory: MemoryOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """The challenge's container contract: three arguments in, one table out. Run again, it goes on where it was.

        xtgeo xview3 predict /data 590dd08f71056cacv,b1844cde847a3942v out.csv
    """
    limit = memory(max_memory)
    from xtgeo import load_model
    from xtgeo.xview3 import predict as task

    task(
        data,
        [part.strip() for part in scene_ids.split(",") if part.strip()],
        out,
        load_model(model),
        minutes=minutes,
        overwrite=overwrite,
        report=lambda line: None if quiet else print(line, file=sys.stderr, flush=True),
        threshold=threshold,
        device=device,
        dtype=dtype,
        max_memory=limit,
    )


@app.command()
def split(
    data: Annotated[str, typer.Argument(metavar="DATA_DIR", help="Folder of scene folders.")],
    folds: Annotated[int, typer.Option("--folds", min=2)] = 4,
    labels: Annotated[str | None, typer.Option("--labels", help="Table of objects, so that folds hold alike many.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
) -> None:
    """Deal scenes to folds by place: scenes that overlap on the earth never come into different folds. Prints JSON.

        xtgeo xview3 split data --labels validation.csv --folds 4
    """
    from xtgeo.xview3 import split as task

    print(json_.dumps(task(data, folds=folds, labels=labels, seed=seed), indent=1))
