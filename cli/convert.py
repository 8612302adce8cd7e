"""xtgeo convert: a checkpoint that the authors of xT published becomes a safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Published classification checkpoint: torch pickle or .safetensors")],
    out: Annotated[Path, typer.Argument(help="File to write, .safetensors")],
    region: Annotated[
        int | None, typer.Option("--region", help="Side of a region in pixels; default: 256, for Hiera what it says.")
    ] = None,
    window: Annotated[
        int | None, typer.Option("--window", help="Tokens of a window: 128 for checkpoints named xl; default: no windows.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Turn a published xT classifier into a safetensors file that says what it is. No code in it is run.

        xtgeo convert swin-t-hyper-512-256.ckpt swin-t.safetensors
    """
    from xtgeo.model.official import load_official, save_official
    from xtgeo.write import check_target

    check_target(out, suffixes=(".safetensors",), overwrite=overwrite)
    model = load_official(checkpoint, region=region, window=window)
    save_official(model, out)
    kind, millions = model.kind, sum(p.numel() for p in model.parameters()) / 1e6
    print(
        f"{out}: {kind.encoder}, {kind.head} head, {kind.classes} classes, regions of {kind.region} px, "
        f"{millions:.1f} M parameters"
    )
