"""Model: a network with the Spec that says what it wants and what it gives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtgeo.errors import ModelError
from xtgeo.model.spec import Spec
from xtgeo.model.xt import XT, Nested, XTClassifier

LONGEST = 6.3
"""Largest logarithm of a length in metres: the longest ship ever built had 458."""


class Model(nn.Module):
    """Physical values in, probabilities out: (b, c, h + 2 m, w + 2 m) in `spec.units` -> (b, k, h, w) in 0..1.

    Of task "detect": (b, 6, h / s, w / s), cells with the answers that `CENTRE` names. Of task "classify": (b, k). Of task
    "boxes" the network itself is asked, `model.net(images)`: its answers have no fixed size.

    `net` is an `XT`, or any module that maps (b, c, h, w) to (b, k, h, w) logits: a U-Net of your own runs as
    `Model(unet, Spec(...))`. Invalid pixels reach the network as 0, the mean of valid ones, and are never averaged in.
    """

    def __init__(self, net: nn.Module, spec: Spec):
        super().__init__()
        self.net, self.spec = net, spec
        self.channels_last = False
        """Memory layout of what enters the network; changes speed, and results by rounding only."""
        self.register_buffer("mean", torch.tensor(spec.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(-1, 1, 1), persistent=False)

    def logits(self, data: Tensor, valid: Tensor, told: Tensor | None = None) -> Tensor:
        """data (b, c, h + 2 m, w + 2 m) float32, valid (b, h + 2 m, w + 2 m) bool -> (b, k, h, w).

        told: what the tile's tokens learnt from the whole scene, as `XT` takes it; None lets the tile know of itself alone.
        """
        if self.spec.task == "boxes":
            raise ValueError(f"{self.spec.name} answers boxes: ask model.net(images), see xtgeo.model.boxes.Boxes")
        return self.answer(self._enter(data, valid), valid, told)

    def answer(self, x: Tensor, valid: Tensor, told: Tensor | None = None) -> Tensor:
        """Logits as above from data that is normalised already, 0 where invalid: what a training step calls."""
        if isinstance(self.net, XT):
            return self.net(x, valid, told)
        if isinstance(self.net, XTClassifier):
            return self.net(x, valid)
        m, s = self.spec.margin, self.spec.stride
        h, w = x.shape[-2:]
        x = F.pad(x, (0, -w % s, 0, -h % s))
        y = self.net(x)
        if y.shape[1:] != (self.spec.channels, *x.shape[-2:]):
            raise ModelError(
                f"{self.spec.name} turns {tuple(x.shape)} into {tuple(y.shape)}; its spec wants "
                f"{self.spec.channels} channels of the same height and width: mend the network or the spec's classes"
            )
        return y[..., m : h - m, m : w - m]

    def forward(self, data: Tensor, valid: Tensor, told: Tensor | None = None) -> Tensor:
        return self.probabilities(self.logits(data, valid, told))

    def probabilities(self, logits: Tensor) -> Tensor:
        """What the network's answers mean; of centres also where in the cell they lie and how long the object is."""
        y = logits.float()
        if self.spec.task == "detect":
            return torch.cat([y[:, :-1].sigmoid(), y[:, -1:].clamp(max=LONGEST).exp()], 1)
        if self.spec.activation == "none":
            return y
        return y.sigmoid() if self.spec.activation == "sigmoid" else y.softmax(1)

    def tokens(self, data: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """What the context encoder is given of a tile: tokens (b, d, y, x), and which saw a valid pixel (b, y, x)."""
        return self.net.tokens(self._enter(data, valid), valid)

    @property
    def cell_px(self) -> int:
        """Side in pixels of what one answer is for."""
        return self.net.head.stride if isinstance(self.net, XT) else 1

    @property
    def has_context(self) -> bool:
        """Whether there are tokens that regions could exchange."""
        return isinstance(self.net, Nested) and hasattr(self.net.context, "gather")

    def _repr_html_(self) -> str:
        from xtgeo.plot.html import model_html

        return model_html(self)

    def _enter(self, data: Tensor, valid: Tensor) -> Tensor:
        """Normalised, in the weights' number format, 0 where invalid."""
        x = (data - self.mean).div_(self.std).to(self.dtype)
        if valid.is_meta or not valid.all():  # looking is cheaper than filling
            x = x.masked_fill_(~valid[:, None], 0.0)
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        return x

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return next((p.dtype for p in self.net.parameters()), torch.float32)


def fold_batchnorm(model: Model) -> Model:
    """The same function with every batch normalisation worked into the convolution before it; for inference only.

    A pair is folded where a convolution stands directly before a normalisation of its width in the same parent.
    """
    for parent in list(model.net.modules()):
        children = list(parent.named_children())
        for (_, conv), (name, norm) in zip(children, children[1:], strict=False):
            if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
                continue
            if conv.out_channels != norm.num_features or norm.running_var is None:
                continue
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            bias = torch.zeros_like(scale) if conv.bias is None else conv.bias
            conv.weight = nn.Parameter(conv.weight * scale.view(-1, 1, 1, 1), requires_grad=False)
            conv.bias = nn.Parameter(norm.bias + (bias - norm.running_mean) * scale, requires_grad=False)
            setattr(parent, name, nn.Sequential(*(c for n, c in norm.named_children() if n in ("drop", "act"))))
    return model
