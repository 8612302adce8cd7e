"""Context encoders: regions of a tile, or of a whole scene, talk to each other.

Each stands behind one contract, b: batch, d: channels of a token, y, x: token grid:

    encoder(tokens (b, d, y, x), mask (b, y, x)) -> (b, d, y, x)    what each token has learnt; 0 where masked
    encoder.classify(tokens, mask) -> (b, d)                        what a class token has learnt of all of them

True in the mask means that something was measured there; masked tokens are neither read nor answered. `classify` wants
an encoder built with `class_token=True`. Any module with the first method may be handed to `Inject`.
"""

from __future__ import annotations

import inspect

from torch import nn

from xtgeo.errors import ModelError
from xtgeo.model.context.attention import Attention
from xtgeo.model.context.hyper import Hyper
from xtgeo.model.context.inject import Gather, Inject, Mean, NoContext, pool_valid
from xtgeo.model.context.longformer import Longformer
from xtgeo.model.context.mamba import Mamba
from xtgeo.model.context.positions import rotary, rotate
from xtgeo.model.context.transformer_xl import TransformerXL

ENCODERS = {
    "attention": Attention,
    "hyper": Hyper,
    "longformer": Longformer,
    "mamba": Mamba,
    "transformer_xl": TransformerXL,
}
"""By the names that `Spec.context` takes, besides "none"."""
CONTEXTS = (*ENCODERS, "none")


def context_encoder(
    name: str, dim: int, depth: int, *, spacing: float, options: dict | None = None, class_token: bool = False
) -> nn.Module:
    """A context encoder by name; `spacing` in metres between tokens, `options` are the encoder's own arguments."""
    if name not in ENCODERS:
        raise ModelError(f"unknown context {name!r}; choose one of {', '.join(CONTEXTS)}")
    kind, options = ENCODERS[name], options or {}
    known = set(inspect.signature(kind).parameters) - {"dim", "depth", "spacing", "class_token"}
    if unknown := set(options) - known:
        raise ModelError(f"context {name} has no option {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}")
    return kind(dim, depth, spacing=spacing, class_token=class_token, **options)


__all__ = [
    "CONTEXTS",
    "ENCODERS",
    "Attention",
    "Gather",
    "Hyper",
    "Inject",
    "Longformer",
    "Mamba",
    "Mean",
    "NoContext",
    "TransformerXL",
    "context_encoder",
    "pool_valid",
    "rotary",
    "rotate",
]
