"""xtgeo models: the models that come with xtgeo, and published ones that it can take."""

from __future__ import annotations

import json as json_
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context, json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False
) -> None:
    """List the bundled models and what they expect; show the card of one, or take a published one.

        xtgeo models
    """
    if context.invoked_subcommand:
        return
    from xtgeo.model import bundled, load_spec
    from xtgeo.model.weights import WEIGHTLESS

    specs = [load_spec(name) for name in (*bundled(), *WEIGHTLESS)]
    if json:
        print(json_.dumps([asdict(spec) for spec in specs]))
        return
    for spec in specs:
        some = " (one is enough)" if len(spec.optional) == len(spec.bands) > 1 else ""
        commands = f"xtgeo {spec.task}{', xtgeo detect' if spec.points else ''}"
        print(f"{spec.name}  finds {', '.join(spec.classes)} ({commands})")
        print(f"  bands  {' '.join(spec.bands)}{some} in {spec.units}, {spec.gsd:g} m per pixel")
        size = f"{spec.backbone}, context {spec.context}" if spec.backbone else "no weights, no context"
        print(f"  size   {size}; card: xtgeo models show {spec.name}")


@app.command()
def show(name: Annotated[str, typer.Argument(help="Name of a bundled model, or a .safetensors file.")]) -> None:
    """Print a model's card: data, licence, figures, limits. Of a file: what it expects of a scene and what it gives.

        xtgeo models show vessels-sar
    """
    from xtgeo.model.weights import load_card, load_spec

    card = load_card(name)
    if card is not None:
        print(card.rstrip())
        return
    for field, value in asdict(load_spec(name)).items():
        print(f"{field:<16} {' '.join(map(str, value)) if isinstance(value, tuple) else value}")


@app.command()
def parts() -> None:
    """List the parts that models are built of: context encoders with their options, region encoders, tasks.

        xtgeo models parts
    """
    import inspect
    from dataclasses import fields

    from xtgeo.model.boxes import HEADS, BoxOptions
    from xtgeo.model.context import CONTEXTS, ENCODERS
    from xtgeo.model.regions import RECOMMENDED
    from xtgeo.model.spec import TASKS

    print("Context encoders (Spec.context), with the options that Spec.context_options takes:")
    for name in CONTEXTS:
        kind = ENCODERS.get(name)
        first = "every region for itself" if kind is None else (inspect.getdoc(kind) or "").split(":")[0]
        print(f"  {name:<15} {first}")
        if kind is not None:
            options = inspect.signature(kind).parameters.values()
            told = (f"{o.name}={o.default!r}" for o in options if o.default is not o.empty and o.name != "class_token")
            print(f"  {'':<15} {', '.join(told)}")
    print("Region encoders (Spec.backbone): every feature pyramid of timm by timm's name; to begin with")
    for name, (millions, strides, channels) in RECOMMENDED.items():
        print(f"  {name:<30} {millions:5.1f} M parameters, strides {strides}, channels {channels}")
    told = (f"{option.name}={option.default!r}" for option in fields(BoxOptions))
    print(f"Tasks (Spec.task): {', '.join(TASKS)}; heads for boxes: {', '.join(HEADS)}, with the options (Spec.head_options)")
    print(f"  {', '.join(told)}")


@app.command()
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

        xtgeo models convert swin-t-hyper-512-256.ckpt swin-t.safetensors
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
