"""Regions: how a tile is cut for the region encoder, and how what it says is joined again.

b: batch   c: channels   h, w: sides of the core in pixels   m: margin in pixels   r: side of a region   s: stride
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from xtgeo.errors import ModelError
from xtgeo.model.pretrained import load_weights, read_weights, translate

RECOMMENDED = {
    "mobilenetv4_conv_small": (0.3, (2, 4, 8, 16), (32, 32, 64, 96)),
    "resnet18": (2.8, (2, 4, 8, 16), (64, 64, 128, 256)),
    "resnet50": (8.5, (2, 4, 8, 16), (64, 256, 512, 1024)),
    "convnext_atto": (1.5, (4, 8, 16), (40, 80, 160)),
    "convnext_tiny": (12.3, (4, 8, 16), (96, 192, 384)),
    "convnext_base": (60.1, (4, 8, 16), (128, 256, 512)),
    "convnextv2_nano": (7.5, (4, 8, 16), (80, 160, 320)),
    "convnextv2_tiny": (12.4, (4, 8, 16), (96, 192, 384)),
    "swin_tiny_patch4_window7_224": (12.2, (4, 8, 16), (96, 192, 384)),
    "swinv2_tiny_window8_256": (12.2, (4, 8, 16), (96, 192, 384)),
    "swinv2_base_window8_256": (59.6, (4, 8, 16), (128, 256, 512)),
    "hiera_tiny_224": (13.6, (4, 8, 16), (96, 192, 384)),
    "hiera_base_224": (30.2, (4, 8, 16), (96, 192, 384)),
}
"""A place to begin among timm's pyramids: millions of parameters, strides and channels up to stride 16."""


def split_regions(x: Tensor, region: int, margin: int) -> list[list[Tensor]]:
    """Rows of regions of x (b, c, h + 2 m, w + 2 m), each with its margin; the last row and column as small as they are.

    >>> [[tuple(part.shape[-2:]) for part in row] for row in split_regions(torch.zeros(1, 1, 14, 12), 8, 2)]
    [[(12, 12)], [(6, 12)]]
    """
    h, w = x.shape[-2] - 2 * margin, x.shape[-1] - 2 * margin
    return [
        [
            x[..., y : y + min(region, h - y) + 2 * margin, left : left + min(region, w - left) + 2 * margin]
            for left in range(0, w, region)
        ]
        for y in range(0, h, region)
    ]


def join_regions(rows: list[list[Tensor]], margin: int = 0) -> Tensor:
    """The inverse of `split_regions`: margins, in elements of the parts, are cut off, the rest is put side by side."""
    inner = slice(margin, -margin or None)
    return torch.cat([torch.cat([part[..., inner, inner] for part in row], -1) for row in rows], -2)


class RegionEncoder(nn.Module):
    """Any timm feature pyramid: (b, c, h, w) -> list of (b, ci, h / si, w / si), finest first, any h and w up to `side`.

    Only levels up to `stride` are kept; deeper blocks are removed from the network. `strides` and `channels` tell the
    levels. What a network wants for its windows or mask units is padded with zeros below and on the right, and cut off
    its levels: up to `side` for networks that are built for one size (Swin, Hiera, MaxViT), to a multiple for others.
    """

    def __init__(
        self,
        name: str,
        bands: int | Sequence[str],
        *,
        side: int,
        stride: int = 16,
        weights: str | Path | None = None,
        drop_path: float = 0.0,
        checkpoint: bool = False,
        frozen: int = 0,
    ):
        """name: timm's name, with or without the tag of its weights, such as "convnext_tiny.fb_in22k".

        bands: their number, or their names, which weights of named bands are matched with.
        side: largest side of a region, margin included, in pixels.
        weights: "timm", torchgeo's name of a weight, or a file: see `read_weights`; None draws at random.
        drop_path: stochastic depth, the probability that the deepest block of the whole network is left out in training.
        checkpoint: keep the inputs of blocks only and compute the rest again in the backward pass: the same gradients.
            Batch normalisations in training count each region twice, as everywhere in timm.
        frozen: everything that the first so many levels are computed from, the stem included, takes no gradient, and its
            normalisations and stochastic depth stay as in inference, whatever `train` says.

        Raises ModelError where timm does not know the name, or the network is no pyramid, cannot take the bands, has levels of
        other sizes than it declares, no stochastic depth, or other tensors than the weights.
        """
        super().__init__()
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path is a probability below 1, not {drop_path}")
        if not timm.is_model(name):
            near = timm.list_models(f"*{name.split('_')[0]}*")[:8]
            raise ModelError(f"timm has no model {name!r}; close to it: {', '.join(near) or 'nothing'}")
        found, theirs = ({}, ()) if weights is None else read_weights(weights, name)
        self.bands, self.frozen, self.checkpoint = bands if isinstance(bands, int) else len(bands), frozen, False
        state = self._grow(name, side, stride, drop_path, found)
        if drop_path and not any(isinstance(m, DropPath) and m.drop_prob for m in self.net.modules()):
            raise ModelError(f"{name} has no stochastic depth up to stride {stride}: leave drop_path at 0")
        if weights is not None:
            load_weights(self.net, state, str(weights), bands, theirs)
        if frozen:
            self._freeze(side)
        self.checkpoint = checkpoint and not _checkpoints_blocks(self.net)  # last: shadows are not computed again

    def _grow(self, name: str, side: int, stride: int, drop_path: float, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Makes the network, with the least padding that it runs with; gives the weights that were found, by its names."""
        options = {"in_chans": self.bands, "num_classes": 0, "drop_path_rate": drop_path}
        for self.multiple in (stride, 2 * stride, 4 * stride, 8 * stride):
            try:
                self.net, taken = _create(name, img_size=_up(side, self.multiple), **options)
            except AssertionError as e:  # Twins looks at the size at once
                trouble = str(e)
                continue
            self.side = taken.get("img_size")
            state = translate(found, self.net) if found else {}  # before pruning: timm converts whole networks
            self._prune(name, stride)
            trouble = self._trouble(side)
            if not trouble:
                return state
        raise ModelError(f"{name} cannot encode regions of side {side} with {self.bands} bands: {trouble}")

    def _prune(self, name: str, stride: int) -> None:
        """Keeps the levels up to a stride, and what they are computed from."""
        if not hasattr(self.net, "forward_intermediates"):
            raise ModelError(f"{name} gives no intermediate levels; take one that does, such as convnext_atto")
        info = list(self.net.feature_info)
        kept = [i for i, level in enumerate(info) if level["reduction"] <= stride]
        found = [info[i]["reduction"] for i in kept]
        if len(set(found)) < 2 or found[-1] != stride:
            raise ModelError(f"{name} is no pyramid: up to stride {stride} it has levels at strides {found or 'none'}")
        self.indices = self.net.prune_intermediate_layers(kept, prune_norm=True, prune_head=True)
        self.channels = [info[i]["num_chs"] for i in kept]
        self.strides = found

    def _trouble(self, side: int) -> str:
        """What goes wrong with the largest region or, where any size is taken, the smallest; "" where nothing does."""
        m = self.multiple
        self.eval()
        try:
            with torch.no_grad():
                for h, w in [(side, side), (m, 3 * m)] if self.side is None else [(side, side)]:
                    self._shadow(h, w)
        except Exception as e:  # networks refuse sizes with whatever comes to hand
            return str(e).splitlines()[0] if str(e) else type(e).__name__
        finally:
            self.train()
        return ""

    def _shadow(self, h: int, w: int) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Levels of an h x w region and what they come from, on torch's meta device, where nothing is computed."""
        state = {k: t.detach().to("meta") for k, t in (*self.named_parameters(), *self.named_buffers())}
        params = {k: state[k].requires_grad_() for k, _ in self.named_parameters()}
        x = torch.empty(1, self.bands, h, w, device="meta")
        return functional_call(self, state, x, tie_weights=False), params  # tied: a block used twice would stay on meta

    def _freeze(self, side: int) -> None:
        if not 0 <= self.frozen <= len(self.strides):
            raise ValueError(f"of {len(self.strides)} levels, {self.frozen} cannot be frozen")
        self.eval()
        levels, params = self._shadow(side, side)
        grads = torch.autograd.grad(
            [level.sum() for level in levels[: self.frozen]], list(params.values()), allow_unused=True
        )
        for p, grad in zip(self.parameters(), grads, strict=True):
            p.requires_grad_(grad is None)
        self.train()

    def train(self, mode: bool = True) -> RegionEncoder:
        super().train(mode)
        for module in self.net.modules() if self.frozen else ():
            params = list(module.parameters())
            if params and not any(p.requires_grad for p in params):
                module.eval()
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        h, w = x.shape[-2:]
        high, wide = (self.side or _up(n, self.multiple) for n in (h, w))
        if h > high or w > wide:
            raise ValueError(f"the encoder was built for regions up to {self.side} x {self.side}, this one is {h} x {w}")
        if (h, w) != (high, wide):
            x = F.pad(x, (0, wide - w, 0, high - h))
        levels = checkpoint(self._levels, x, use_reentrant=False) if self.checkpoint else self._levels(x)
        for level, s in zip(levels, self.strides, strict=True):
            if level.shape[-2:] != (high // s, wide // s):
                found = " x ".join(map(str, level.shape[-2:]))
                raise ModelError(f"the level at stride {s} of a {high} x {wide} region is {found}")
        return [level[..., : _up(h, s) // s, : _up(w, s) // s] for level, s in zip(levels, self.strides, strict=True)]

    def _levels(self, x: Tensor) -> list[Tensor]:
        return self.net.forward_intermediates(x, indices=self.indices, intermediates_only=True, output_fmt="NCHW")

    def encode_rows(self, rows: list[list[Tensor]], batch: int = 1) -> list[list[list[Tensor]]]:
        """Every region through the encoder, `batch` of equal size at a time: [level][row][column]."""
        flat = [part for row in rows for part in row]
        coded: list[list[Tensor]] = [[] for _ in flat]
        order = sorted(range(len(flat)), key=lambda i: (flat[i].shape[-2:], i))
        for _, same in groupby(order, key=lambda i: flat[i].shape[-2:]):
            same = list(same)
            for some in (same[i : i + batch] for i in range(0, len(same), batch)):
                levels = self(torch.cat([flat[i] for i in some]))
                for n, parts in enumerate(zip(*(level.chunk(len(some)) for level in levels), strict=True)):
                    coded[some[n]] = list(parts)
        columns = len(rows[0])
        return [
            [[coded[i * columns + j][n] for j in range(columns)] for i in range(len(rows))]
            for n in range(len(self.strides))
        ]


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _create(name: str, **options) -> tuple[nn.Module, dict]:
    """timm's network, and those of the options that it takes."""
    while True:
        try:
            return timm.create_model(name, **options), options
        except TypeError as e:
            refused = next((option for option in options if f"'{option}'" in str(e)), None)
            if refused is None:
                raise
            del options[refused]
        except RuntimeError as e:
            if "tag" not in str(e):
                raise
            known = ", ".join(timm.list_pretrained(name.split(".")[0] + ".*"))
            raise ModelError(f"timm has no weights {name}; it has {known or 'none of that network'}") from e


def _checkpoints_blocks(net: nn.Module) -> bool:
    """Tells timm to compute blocks again in the backward pass; False where it cannot."""
    try:
        net.set_grad_checkpointing()
    except AssertionError:
        return False
    return True
