"""Pretrained weights of region encoders: found, renamed to timm's names, adapted to other bands, counted.

    "timm" | a name of torchgeo | a file  --read-->  tensors  --translate-->  timm's names  --load-->  backbone

Only tensors are unpickled, and nothing is taken in part without a word.

o: outputs   i: inputs   n: bands   k: side of a kernel   w: side of a window
"""

from __future__ import annotations

import re
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import timm
import torch
from safetensors import SafetensorError, safe_open
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from xtgeo.errors import ModelError
from xtgeo.model.spec import Spec

ENOUGH = 0.9
"""Share of a backbone's tensors that weights must fit."""
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model")
"""Keys under which training scripts keep the tensors."""


def read_weights(weights: str | Path, name: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Tensors by the names of their source, and the bands of their first layer, empty where nobody tells.

    weights: "timm" for what timm publishes for its backbone `name`, torchgeo's name of a weight such as
    "ResNet50_Weights.SENTINEL2_ALL_MOCO", or a .safetensors, .pth or .pt file. How a torchgeo weight wants its bands
    normalised stands in its `transforms`: the mean and std of the spec should do the same.

    Raises ModelError where the name, the file, torchgeo or the network is missing.
    """
    if weights == "timm":
        return _from_timm(name)
    if re.fullmatch(r"\w+_Weights\.\w+", str(weights)):
        return _from_torchgeo(str(weights))
    return _from_file(Path(weights))


def translate(state: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """The tensors by the names of a whole timm network, positions resampled to its size.

    Understands any prefix, torchvision's Swin and Swin V2, the names of timm's `features_only`, and what timm itself converts,
    such as the original files of Swin, ConvNeXt and Hiera. Tensors that the network does not have stay as they are.

    Raises ModelError where the prefix is ambiguous, or a Swin was trained with windows of another side.
    """
    own = net.state_dict()
    _check_windows(state, net)
    if any(re.search(r"features\.1\.0\.attn\.qkv\.weight$", key) for key in state):
        state = _from_torchvision(state)
    state = {re.sub(r"(^|\.)(layers|stages|blocks)_(\d+)\.", r"\1\2.\3.", key): v for key, v in state.items()}
    state = _without_prefix(state, own)
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if convert is not None and len(_fitting(state, own)) < len(own):
        try:
            state = max(convert(dict(state), net), state, key=lambda s: len(_fitting(s, own)))
        except (AttributeError, KeyError, RuntimeError):
            pass  # made for other files of this family; the count in `load_weights` tells what is missing
    places = [key for key in state if key in own and key.endswith("pos_embed")]
    return state | {key: _resampled(state[key], own[key].shape) for key in places}


def load_weights(
    net: nn.Module,
    state: dict[str, Tensor],
    source: str,
    bands: int | Sequence[str],
    theirs: Sequence[str] = (),
) -> None:
    """Puts translated tensors into a timm network with `bands` inputs, or into the first stages of one.

    bands: number of bands, or their names; theirs: names of the bands that the weights were trained with.

    Raises ModelError where less than nine tenths of the network's tensors fit; warns by name of those that do not.
    """
    own, state = net.state_dict(), dict(state)
    first = net.pretrained_cfg.get("first_conv") or ()
    for key in (f"{layer}.weight" for layer in ((first,) if isinstance(first, str) else first)):
        if key in state and state[key].ndim == 4:
            known = theirs if len(theirs) == state[key].shape[1] else ()
            state[key] = adapt_input(state[key], bands, known)
    fits = _fitting(state, own)
    missing = [key for key in own if key not in fits and not key.endswith("num_batches_tracked")]
    total = sum(not key.endswith("num_batches_tracked") for key in own)
    account = (
        f"{total - len(missing)} of the {total} tensors of the backbone are in {source}; "
        f"not there, or of another shape: {_some(missing)}; there: {_some([k for k in state if k not in fits])}"
    )
    if len(missing) > (1 - ENOUGH) * total:
        raise ModelError(f"{account}; take the backbone that these weights were trained for")
    if missing:
        warnings.warn(f"{account}; what is not there stays random", stacklevel=3)
    net.load_state_dict(fits, strict=False)


def adapt_input(weight: Tensor, bands: int | Sequence[str], theirs: Sequence[str] = ()) -> Tensor:
    """A first layer's weight (o, i, k, k) for other bands: (o, n, k, k).

    bands: their number n, or their names; theirs: the i names that the weight was trained with, if known.

    A band that both sides name keeps its own weights ("B02", "b2" and "B2" are one name); any other takes the mean over the
    inputs; all are multiplied by i / n. So the answer to bands that rise and fall together keeps its size; where no name is
    shared, or all of theirs are, the sum over the inputs is kept exactly. Where no name is shared and n is i, the
    bands are taken in order, as they are.

    timm has the same factor, but repeats the inputs in turn: the filter of red would go to whatever band comes fourth.
    """
    i = weight.shape[1]
    if theirs and len(theirs) != i:
        raise ValueError(f"a weight with {i} inputs cannot have the bands {tuple(theirs)}")
    ours = [""] * bands if isinstance(bands, int) else [_plain(band) for band in bands]
    known = [_plain(band) for band in theirs]
    if not set(ours) & set(known) and len(ours) == i:
        return weight
    mean = weight.mean(1)
    columns = [weight[:, known.index(band)] if band in known else mean for band in ours]
    return torch.stack(columns, 1) * (i / len(ours))


def _plain(band: str) -> str:
    return re.sub(r"^b0+(?=\d)", "b", band.lower())


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + f" and {len(names) - 3} more" * (len(names) > 3) or "none"


def _fitting(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: state[key] for key in own if key in state and state[key].shape == own[key].shape}


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error) or 'no reason given').splitlines()[0]}"


def _from_timm(name: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    hub = name
    try:
        hub = timm.get_pretrained_cfg(name).hf_hub_id or name
        net = timm.create_model(name, pretrained=True, num_classes=0)
    except (OSError, RuntimeError) as e:
        raise ModelError(
            f"timm's weights {hub} cannot be had: {_reason(e)}; fetch them where there is a network, "
            "and give the file as weights"
        ) from e
    rgb = net.pretrained_cfg["input_size"][0] == 3
    return net.state_dict(), ("red", "green", "blue") if rgb else ()


def _from_torchgeo(name: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    try:
        from torchgeo import models
    except ImportError as e:
        raise ModelError(f"{name} is a weight of torchgeo: pip install 'xtgeo-sat[torchgeo]', or give a file") from e
    kind, member = name.split(".")
    known = getattr(getattr(models, kind, None), "__members__", {})
    if member not in known:
        near = list(known) or sorted(n for n in dir(models) if n.endswith("_Weights"))
        raise ModelError(f"torchgeo has no weight {name}; {kind if known else 'there'} are: {', '.join(near)}")
    weight = known[member]
    try:
        state = weight.get_state_dict(progress=False, weights_only=True)
    except (OSError, RuntimeError, UnpicklingError) as e:
        raise ModelError(
            f"{name} cannot be had from {weight.url}: {_reason(e)}; fetch it where there is a network, "
            "and give the file as weights"
        ) from e
    return _tensors(state), tuple(weight.meta.get("bands", ()))


def _from_file(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    if not path.is_file():
        raise ModelError(
            f"no weights {str(path)!r}: give 'timm', a name of torchgeo such as 'ResNet50_Weights.SENTINEL2_ALL_MOCO', "
            "or a .safetensors, .pth or .pt file"
        )
    try:
        if path.suffix != ".safetensors":
            return _tensors(torch.load(path, map_location="cpu", weights_only=True)), ()
        with safe_open(path, "pt") as f:
            spec = (f.metadata() or {}).get("spec")
            return {key: f.get_tensor(key) for key in f.keys()}, Spec.from_json(spec).bands if spec else ()
    except (OSError, RuntimeError, EOFError, UnpicklingError, SafetensorError) as e:
        raise ModelError(f"{path} cannot be read as tensors: {_reason(e)}; save its state_dict alone") from e


def _tensors(content: object) -> dict[str, Tensor]:
    """The tensors of what was saved, out of their wrappers."""
    while isinstance(content, dict):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), None)
        if inner is None:
            return {key: value for key, value in content.items() if isinstance(value, Tensor)}
        content = inner
    return {}


def _without_prefix(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part of a state under the prefix, such as "module.encoder_q.", that stands before most of the network's own names."""
    prefixes: Counter[str] = Counter()
    for key in state:
        starts = (0, *(dot.end() for dot in re.finditer(r"\.", key)))
        prefixes.update([key[:start] for start in starts if key[start:] in own][:1])
    (prefix, count), (second, rival) = (*prefixes.most_common(2), ("", 0), ("", 0))[:2]
    if rival > ENOUGH * count:
        raise ModelError(f"the weights hold two such networks, {prefix!r} and {second!r}: save the one that you want alone")
    return {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}


def _from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's Swin and Swin V2 by timm's names: patches, stages and mergers are numbered through in `features`."""
    out: dict[str, Tensor] = {}
    second = any(key.endswith("logit_scale") for key in state)
    for key, v in state.items():
        key = re.sub(r"features\.0\.(\d)", lambda m: f"patch_embed.{'norm' if int(m[1]) else 'proj'}", key)
        key = re.sub(r"features\.(\d*[13579])\.(\d+)", lambda m: f"layers.{int(m[1]) // 2}.blocks.{m[2]}", key)
        key = re.sub(r"features\.(\d*[02468])", lambda m: f"layers.{int(m[1]) // 2}.downsample", key)
        key = key.replace(".mlp.0.", ".mlp.fc1.").replace(".mlp.3.", ".mlp.fc2.")
        if second and key.endswith("attn.qkv.bias"):
            # Swin V2 has no bias of the keys: torchvision sets it to zero whenever it is used, timm has none.
            q, _, out[key.replace("qkv.bias", "v_bias")] = v.chunk(3)
            key, v = key.replace("qkv.bias", "q_bias"), q
        out[key] = v
    return out


def _check_windows(state: dict[str, Tensor], net: nn.Module) -> None:
    """Shapes do not tell in Swin V2: its bias is a function of places in the window, whose side stretches it."""
    index = next((v for key, v in state.items() if key.endswith("relative_position_index")), None)
    own = next((m.window_size[0] for m in net.modules() if isinstance(getattr(m, "window_size", None), tuple)), None)
    if index is None or own is None:
        return
    side = round(index.numel() ** 0.25)
    if side != own:
        raise ModelError(f"the weights were trained with windows of {side}, the backbone has {own}: take one with {side}")


def _resampled(v: Tensor, shape: torch.Size) -> Tensor:
    """Learnt positions (1, y x, d) of a square image at another size; any other form as it is, for timm to judge."""
    if v.ndim != 3 or len(shape) != 3:
        return v
    old, new = (round(n**0.5) for n in (v.shape[1], shape[1]))
    if old == new or old**2 != v.shape[1] or new**2 != shape[1]:
        return v
    return resample_abs_pos_embed(v, [new, new], [old, old], num_prefix_tokens=0)
