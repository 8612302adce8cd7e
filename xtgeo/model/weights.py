"""Weights: one safetensors file with its Spec inside. Nothing is ever unpickled."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from xtgeo.errors import ModelError
from xtgeo.model.cfar import build_cfar
from xtgeo.model.model import Model
from xtgeo.model.spec import Spec
from xtgeo.model.xt import build

BUNDLED = Path(str(files("xtgeo.weights")))
WEIGHTLESS = {"cfar": build_cfar}
"""Models that are made when they are asked for; no file has their names. `gsd=` makes them for other pixels than 10 m."""


def bundled() -> list[str]:
    """Names of the models whose weights come with xtgeo."""
    return sorted(p.stem for p in BUNDLED.glob("*.safetensors"))


def weights_path(name: str | os.PathLike) -> Path:
    """The file behind a bundled name or a path."""
    for path in (Path(name), BUNDLED / f"{name}.safetensors"):
        if path.is_file():
            return path
    raise ModelError(f"no model {str(name)!r}: give a .safetensors file or one of {', '.join([*bundled(), *WEIGHTLESS])}")


def load_spec(name: str | os.PathLike) -> Spec:
    """What a model expects and gives, without loading its weights."""
    if name in WEIGHTLESS:
        return WEIGHTLESS[name]().spec
    path = weights_path(name)
    try:
        with safe_open(path, "pt") as f:
            text = (f.metadata() or {}).get("spec")
    except (SafetensorError, OSError) as e:
        raise ModelError(f"{path} is not a readable safetensors file: {e}") from e
    if text is None:
        raise ModelError(f"{path} holds no xtgeo spec; save it with xtgeo.model.save_model(model, path)")
    return Spec.from_json(text)


def load_model(name: str | os.PathLike) -> Model:
    """A model, ready for inference, by bundled name or path of a .safetensors file."""
    if name in WEIGHTLESS:
        return WEIGHTLESS[name]()
    path, spec = weights_path(name), load_spec(name)
    if not spec.backbone:
        raise ModelError(f"{path} holds a network that xtgeo did not build: load it yourself, then Model(net, spec)")
    model = Model(build(spec), spec)
    with safe_open(path, "pt") as f:
        state = {key: f.get_tensor(key) for key in f.keys()}
    try:
        model.net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except RuntimeError as e:
        raise ModelError(f"the weights in {path} do not fit their own spec: {str(e).splitlines()[-1].strip()}") from e
    return model.eval()


def load_card(name: str | os.PathLike) -> str | None:
    """What there is to know of a model, in Markdown; None where a file holds no card."""
    path = BUNDLED / f"{name}.md" if name in WEIGHTLESS else weights_path(name)
    if path.parent == BUNDLED:
        return path.with_suffix(".md").read_text(encoding="utf-8")
    with safe_open(path, "pt") as f:
        return (f.metadata() or {}).get("card")


def save_model(
    model: Model, path: str | os.PathLike, *, dtype: torch.dtype = torch.float32, card: str | None = None
) -> Path:
    """Writes the weights, in `dtype`, the spec and a card (Markdown) to one file; complete or not at all."""
    path = Path(path)
    state = {
        k: (v.to(dtype) if v.is_floating_point() else v).contiguous().cpu() for k, v in model.net.state_dict().items()
    }
    partial = path.with_name(f".{path.name}.partial")
    save_file(state, partial, metadata={"spec": model.spec.to_json()} | ({"card": card} if card else {}))
    os.replace(partial, path)
    return path
