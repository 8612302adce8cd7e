"""The classification checkpoints that the authors of xT published (Gupta et al. 2024, arXiv 2403.01915).

    images -> regions -> Swin V2 or Hiera, last level, joined -> head -> logits of the 284 reptiles of iNaturalist 2018

Parts bear the names of https://github.com/bair-climate-initiative/xT, so that a state dict fits as it is. Three heads:

    naive  mean of all tokens -> Linear -> GELU -> LayerNorm -> Linear
    hyper  Linear -> plus positions -> class token put last -> causal attention blocks -> its LayerNorm -> Linear
    mamba  the same with Mamba blocks, every other one over the reversed sequence

"XL" checkpoints are hyper checkpoints, key by key, run over overlapping windows: see `ContextHead`. Two departures: attention
is exact at any length, where the official HyperAttention samples keys at random beyond 4096 tokens; images need not be square.

b: images   r: regions   s: side of a region in pixels   k: classes   y, x: token grid
n: tokens   c: channels of the encoder's last level   d: channels of a token of the head   v: heads   e = d / v
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from math import isqrt
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from xtgeo.errors import ModelError, OutputError
from xtgeo.model.context.mamba import Mamba1
from xtgeo.model.context.positions import places
from xtgeo.model.regions import join_regions, split_regions

WIDTH = 768
"""Channels of a token in the head, whatever the encoder."""
HEAD = 128
"""Channels of an attention head."""
STRIDE = 32
"""Pixels along a side of the encoder's last level."""
ENCODERS = {
    (96, (2, 2, 6, 2)): "swinv2_tiny_window16_256",
    (96, (2, 2, 18, 2)): "swinv2_small_window16_256",
    (128, (2, 2, 18, 2)): "swinv2_base_window16_256",
    (192, (2, 2, 18, 2)): "swinv2_large_window12to16_192to256",
    (96, (12,)): "hiera_tiny_224",
    (96, (16,)): "hiera_small_224",
    (96, (24,)): "hiera_base_224",
    (112, (24,)): "hiera_base_plus_224",
}
"""timm's names of the published encoders, by channels of a patch and blocks per stage; Hiera numbers its blocks throughout."""
HEADS = {
    "decoder.layers.0.attn.qkv.weight": "hyper",
    "decoder.layers.0.mixer.A_log": "mamba",
    "decoder.layers.0.weight": "naive",
}
"""The heads, by a key that only they have."""
COMPUTED = ("relative_coords_table", "relative_position_index", "attn_mask")
"""Buffers of Swin V2 that some versions of timm save; the module's own are right."""
NOTED = {"region": int, "window": int, "source": str}
"""What `save_official` notes that weights do not tell."""
BEHIND = ("encoder.model.norm.", "encoder.model.head.")
"""Parts of Hiera that come after the level that xT reads."""


@dataclass(frozen=True)
class Kind:
    """Everything needed to build an `OfficialXT`: read off its weights, but for the region of a Swin and the window."""

    encoder: str
    """timm's name of the region encoder."""
    head: str
    """One of the names in `HEADS`."""
    layers: int
    """Context blocks of the head; 0 in a naive one."""
    classes: int
    """Logits for an image."""
    region: int
    """Side of a region in pixels."""
    window: int = 0
    """Tokens that the context sees at once, 128 in the published XL; 0: all of them."""
    source: str = ""
    """Name of the file that the weights came from."""

    def __post_init__(self):
        if self.region <= 0 or self.region % STRIDE:
            raise ModelError(f"regions of {self.region} px cannot be encoded: give a multiple of {STRIDE}, such as 256")
        if self.window and (self.window < 2 or self.head != "hyper"):
            raise ModelError(
                f"windows of {self.window} tokens over a {self.head} head: XL is a hyper head with windows of 128; "
                "leave the window out for any other"
            )


class SwinLevel(nn.Module):
    """Last level of a Swin V2 without its final norm: (r, 3, s, s) -> (r, c, s / 32, s / 32)."""

    def __init__(self, name: str, region: int):
        super().__init__()
        self.model = timm.create_model(name, features_only=True, out_indices=(3,), img_size=region)
        self.channels = self.model.feature_info.channels()[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)[0].permute(0, 3, 1, 2)


class HieraLevel(nn.Module):
    """Last level of a Hiera without its final norm: (r, 3, s, s) -> (r, c, s / 32, s / 32).

    The released models use Meta's package; timm's port has the same names, shapes and values up to there.
    """

    def __init__(self, name: str, region: int):
        super().__init__()
        self.model = timm.create_model(name, img_size=region)
        self.model.head = nn.Identity()
        self.channels = self.model.num_features

    def forward(self, x: Tensor) -> Tensor:
        return self.model.forward_intermediates(x, indices=1, intermediates_only=True)[0]


class NaiveHead(nn.Module):
    """No context: (b, c, y, x) -> (b, k) from the mean of all tokens."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.LayerNorm(4 * channels),
            nn.Linear(4 * channels, classes),
        )

    def forward(self, level: Tensor) -> Tensor:
        return self.layers(level.mean((-2, -1)))


class CausalAttention(nn.Module):
    """(b, n, d) -> (b, n, d): every token sees itself and those before it."""

    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, t: Tensor) -> Tensor:
        q, k, v = self.qkv(t).unflatten(-1, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)  # (b, v, n, e)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(a.transpose(1, 2).flatten(-2))


class GatedMLP(nn.Module):
    """LLaMA's, with GELU in place of SiLU."""

    def __init__(self):
        super().__init__()
        self.gate_proj = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.up_proj = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down_proj = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, t: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.gate_proj(t)) * self.up_proj(t))


class AttentionLayer(nn.Module):
    """(b, n, d) -> (b, n, d): pre-norm causal attention and MLP."""

    def __init__(self):
        super().__init__()
        self.attn, self.mlp = CausalAttention(), GatedMLP()
        self.input_layernorm = nn.RMSNorm(WIDTH, eps=1e-5)
        self.post_attention_layernorm = nn.RMSNorm(WIDTH, eps=1e-5)

    def forward(self, t: Tensor) -> Tensor:
        t = t + self.attn(self.input_layernorm(t))
        return t + self.mlp(self.post_attention_layernorm(t))


class MambaLayer(nn.Module):
    """(b, n, d) -> (b, n, d): Mamba (Gu & Dao 2023, arXiv 2312.00752) over the sequence or its reverse.

    What passes by the mixer is the normalised sequence, not the sequence itself: the released code says so.
    """

    def __init__(self, reverse: bool):
        super().__init__()
        self.mixer, self.norm = Mamba1(WIDTH), nn.LayerNorm(WIDTH)
        self.reverse = reverse

    def forward(self, t: Tensor) -> Tensor:
        t = self.norm(t.flip(1) if self.reverse else t)
        t = t + self.mixer(t)
        return t.flip(1) if self.reverse else t


class ContextHead(nn.Module):
    """(b, c, y, x) -> (b, k) from what a class token has learnt of the n = y x tokens before it.

    With a window w <= n, as in XL, the sequence (class token included) is read in windows of w tokens that begin at 0, w / 2, w ...
    below n; those that reach the end are shorter and hold the class token. To each window the class token is appended once
    more, and what it learns in each is averaged. Windows know nothing of each other: the memory that Transformer-XL hands on is
    in the paper, but the released code never fills it.
    """

    def __init__(self, channels: int, classes: int, layers: list[nn.Module], window: int):
        super().__init__()
        self.input_proj = nn.Linear(channels, WIDTH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.layers = nn.Sequential(*layers)
        self.cls = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, classes))
        self.window = window

    def forward(self, level: Tensor) -> Tensor:
        t = self.input_proj(level.flatten(2).transpose(1, 2))  # (b, n, d)
        t = self._ended(t + positions(*level.shape[-2:], t.device).to(t.dtype))
        if 0 < self.window < t.shape[1]:
            starts = range(0, t.shape[1] - 1, self.window // 2)
            learnt = [self.layers(self._ended(t[:, i : i + self.window]))[:, -1] for i in starts]
            return self.cls(torch.stack(learnt).mean(0))
        return self.cls(self.layers(t)[:, -1])

    def _ended(self, t: Tensor) -> Tensor:
        return torch.cat([t, self.cls_token.expand(len(t), 1, -1)], 1)


class OfficialXT(nn.Module):
    """(b, 3, h, w) with h and w multiples of `kind.region` -> logits (b, k).

    Images are normalised as for ImageNet: (x / 255 - mean) / std with mean 0.485 0.456 0.406 and std 0.229 0.224 0.225 of R, G, B.
    """

    def __init__(self, kind: Kind, *, batch: int = 4):
        """batch: regions per pass through the encoder; changes speed and memory, results by rounding only."""
        super().__init__()
        self.kind, self.batch = kind, batch
        level = SwinLevel if kind.encoder.startswith("swin") else HieraLevel
        self.encoder = level(kind.encoder, kind.region)
        if kind.head == "naive":
            self.decoder = NaiveHead(self.encoder.channels, kind.classes)
        else:
            layers = [AttentionLayer() if kind.head == "hyper" else MambaLayer(i % 2 == 0) for i in range(kind.layers)]
            self.decoder = ContextHead(self.encoder.channels, kind.classes, layers, kind.window)

    def forward(self, images: Tensor) -> Tensor:
        s = self.kind.region
        if images.ndim != 4 or images.shape[1] != 3 or any(side % s or side == 0 for side in images.shape[-2:]):
            raise ModelError(
                f"images of shape {tuple(images.shape)} do not divide into RGB regions of {s} px: resize or pad them to "
                f"(b, 3, h, w) with h and w multiples of {s}"
            )
        rows = split_regions(images, s, 0)
        regions = torch.cat([part for row in rows for part in row])  # (r b, 3, s, s)
        coded = torch.cat([self.encoder(some) for some in regions.split(self.batch)])  # (r b, c, s / 32, s / 32)
        parts, columns = coded.split(len(images)), len(rows[0])
        return self.decoder(join_regions([parts[i : i + columns] for i in range(0, len(parts), columns)]))


def positions(y: int, x: int, device: torch.device) -> Tensor:
    """Fixed positions of a grid, in raster order (y x, d): sin x, cos x, sin y, cos y, a quarter of the channels each.

    The layout of MAE (He et al. 2022, arXiv 2111.06377); frequencies fall from 1 towards 1 / 10000 radians a token.
    """
    frequency = 10_000.0 ** -(torch.arange(WIDTH // 4, device=device) / (WIDTH // 4))
    down, right = places(y, x, 1.0, device)
    return torch.cat([f(place[:, None] * frequency) for place in (right, down) for f in (torch.sin, torch.cos)], 1)


def load_official(
    source: str | os.PathLike | Mapping, *, region: int | None = None, window: int | None = None, batch: int = 4
) -> OfficialXT:
    """The published model behind a checkpoint, in eval mode.

    `source` is a torch pickle (only tensors are unpickled, no code is run), a .safetensors file, or a state dict; the weights
    may lie under "state_dict", where all else is ignored, and begin with "module.". Encoder, head, depth and classes are
    recognised by names and shapes. Neither says how a Swin's regions or an XL's windows were cut:

    region: side in pixels; a Swin's is 256 unless told otherwise, a Hiera's is written in its positions.
    window: tokens; give 128 for a checkpoint named xl. A file of `save_official` remembers both.
    batch: regions per pass through the encoder.

    A ModelError names what is missing, superfluous or of the wrong shape. One thing cannot be seen: the ablation that the
    official code calls "naive" attention has the keys of hyper, but another function; no checkpoint of it was published.
    """
    name, loaded, said = "a state dict", source, {}
    if not isinstance(source, Mapping):
        name = os.fspath(source)
        loaded, said = _read(Path(source))
    state = _weights(loaded, name)
    region = said.get("region") if region is None else region
    window = said.get("window", 0) if window is None else window
    kind = recognise(state, region=region, window=window, name=name)
    model = OfficialXT(replace(kind, source=said.get("source", Path(name).name)), batch=batch)
    wanted = model.state_dict()
    faults = [f"no {key}" for key in wanted if key not in state]
    faults += [f"an unknown {key}" for key in state if key not in wanted]
    faults += [
        f"{key} of shape {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ModelError(
            f"{name} is no {kind.encoder} with a {kind.head} head: it holds {', '.join(faults[:3])}{more}; "
            "download the checkpoint again, or load what it is with the code that made it"
        )
    model.load_state_dict(state)
    return model.eval()


def save_official(model: OfficialXT, path: str | os.PathLike) -> Path:
    """Writes weights and kind to one safetensors file that `load_official` opens; complete or not at all."""
    path = Path(path)
    state = {key: value.contiguous().cpu() for key, value in model.state_dict().items()}
    partial = path.with_name(f".{path.name}.partial")
    try:
        save_file(state, partial, metadata={"official": json.dumps(asdict(model.kind))})
        os.replace(partial, path)
    except (OSError, SafetensorError) as e:
        raise OutputError(f"{path} cannot be written ({e}): check the folder's rights and space, run again") from e
    finally:
        with suppress(OSError):
            partial.unlink()
    return path


def recognise(state: Mapping[str, Tensor], *, region: int | None, window: int, name: str) -> Kind:
    """What weights are, by their names and shapes; `name` is what an error calls them."""
    heads = [head for key, head in HEADS.items() if key in state]
    numbered = {m[1] for key in state if (m := re.match(r"((?:encoder\.model.*blocks|decoder\.layers)\.\d+)\.", key))}
    depths = Counter(block.rpartition(".")[0] for block in numbered)
    layers = depths.pop("decoder.layers", 0)
    blocks = tuple(depths[stage] for stage in sorted(depths))
    channels = _size(state, "encoder.model.patch_embed.proj.weight", 0, name)
    if not heads or (channels, blocks) not in ENCODERS:
        raise ModelError(
            f"{name} is not one of the published models: its encoder has {channels} channels and blocks {blocks}, its head is "
            f"{heads[0] if heads else 'unknown'}; known are {', '.join(ENCODERS.values())} with {', '.join(HEADS.values())}"
        )
    head, encoder = heads[0], ENCODERS[channels, blocks]
    if encoder.startswith("hiera"):
        native = 4 * isqrt(_size(state, "encoder.model.pos_embed", 1, name))
        if region not in (None, native):
            raise ModelError(f"{name} was trained on regions of {native} px, not {region}: leave the region out")
        region = native
    classes = _size(state, "decoder.layers.3.weight" if head == "naive" else "decoder.cls.1.weight", 0, name)
    return Kind(encoder, head, 0 if head == "naive" else layers, classes, 256 if region is None else region, window)


def _size(state: Mapping[str, Tensor], key: str, axis: int, name: str) -> int:
    if key not in state or state[key].ndim <= axis:
        raise ModelError(f"{name} is not one of the published models: it holds no {key}, or one of fewer dimensions")
    return state[key].shape[axis]


def _read(path: Path) -> tuple[object, dict]:
    """What a file holds, and what `save_official` noted of its kind."""
    if not path.is_file():
        raise ModelError(f"no checkpoint at {path}: give the path of a downloaded file")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt") as f:
                note = json.loads((f.metadata() or {}).get("official", "{}"))
                said = {key: kind(note[key]) for key, kind in NOTED.items() if key in note}
                return {key: f.get_tensor(key) for key in f.keys()}, said
        except (SafetensorError, OSError, ValueError, TypeError) as e:
            raise ModelError(f"{path} is not a readable safetensors file ({e}): download or convert it again") from e
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old protocols and archives: they load, or are refused below
            return torch.load(path, map_location="cpu", weights_only=True), {}
    except Exception as e:  # from damaged bytes the unpickler raises almost anything, AssertionError and struct.error too
        if found := re.search(r"GLOBAL (\S+)", str(e)):
            # torch's own advice, to trust the file and execute it, is not repeated.
            raise ModelError(
                f"{path} is refused: its pickle asks for {found[1]}, and xtgeo runs no code from a checkpoint; "
                "save its state dict alone, tensors only"
            ) from e
        raise ModelError(f"{path} cannot be read as a torch checkpoint ({type(e).__name__}): download it again") from e


def _weights(loaded: object, name: str) -> dict[str, Tensor]:
    """The weights among what a checkpoint holds, without those that nobody reads."""
    if isinstance(loaded, Mapping):
        loaded = loaded.get("state_dict", loaded)
    if not isinstance(loaded, Mapping):
        raise ModelError(f"{name} holds a {type(loaded).__name__} instead of a state dict")
    state = {str(key).removeprefix("module."): value for key, value in loaded.items() if isinstance(value, Tensor)}
    return {k: v for k, v in state.items() if not k.endswith(COMPUTED) and not k.startswith(BEHIND)}
