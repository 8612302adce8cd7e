"""Boxes: torchvision's detection heads on the joined, contextualised pyramid.

    images -> batch, valid -> regions -> levels, joined -> context -> feature pyramid -> FCOS or Faster R-CNN -> boxes

What learns and answers is torchvision's: FCOS (Tian et al. 2020, arXiv 2006.09214), Faster R-CNN (Ren et al. 2015,
arXiv 1506.01497) and the feature pyramid (Lin et al. 2017, arXiv 1612.03144). Here are the parts around them that know
regions, valid pixels and strides.

b: batch   c: bands   h, w: sides of an image in pixels   n: boxes of an image   k: classes
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock
from torchvision.ops.poolers import initLevelMapper

from xtgeo.errors import ModelError
from xtgeo.model.context import Inject
from xtgeo.model.regions import RegionEncoder
from xtgeo.model.spec import Spec
from xtgeo.model.xt import Nested

HEADS = ("fcos", "faster_rcnn")


class Boxes(nn.Module):
    """Images in the units of `spec` -> boxes with classes: the interface of torchvision's detectors.

    Images are (c, h, w) float, of any sizes; a pixel that is not finite in some band is invalid and enters as the mean.

    In training, with targets, a dict of losses to be added up. A target is a dict of boxes (n, 4) as x0, y0, x1, y1 in
    pixels from the upper-left corner, and labels (n,) int64 from 1 in the order of `spec.classes`; n may be 0. Boxes marked
    in iscrowd (n,) are not learnt from, further entries are not looked at. The images are padded to one batch.

    In evaluation, a list of dicts of boxes, scores in 0..1 and labels, best first. Images of one shape make a batch, so
    that an answer never depends on the other images (torchvision's FCOS normalises over the padding, too).

    `detector.backbone.batch` regions go through the encoder at a time.
    """

    def __init__(self, detector: FCOS | FasterRCNN, spec: Spec):
        """detector: takes images with one channel more than `spec.bands`, 1 where a pixel is valid."""
        super().__init__()
        self.detector, self.spec = detector, spec
        self.detector.transform = _Normalise(spec)
        # torchvision's FCOS has no background: its labels are channels from 0.
        self.first = int(not isinstance(detector, FCOS))

    def forward(self, images: list[Tensor], targets: list[dict] | None = None) -> dict[str, Tensor] | list[dict]:
        """Raises ValueError for images of other bands, and for boxes and labels that cannot be."""
        images = [self._with_valid(image) for image in images]
        if self.training:
            if targets is None or len(targets) != len(images):
                raise ValueError("in training every image wants its target; call eval() first to be told boxes")
            return self.detector(images, [self._learnable(target) for target in targets])
        found: dict[int, dict] = {}
        order = sorted(range(len(images)), key=lambda i: images[i].shape)
        for _, same in groupby(order, key=lambda i: images[i].shape):
            same = list(same)
            found.update(zip(same, self.detector([images[i] for i in same]), strict=True))
        return [{**found[i], "labels": found[i]["labels"] + 1 - self.first} for i in range(len(images))]

    def _with_valid(self, image: Tensor) -> Tensor:
        bands = len(self.spec.bands)
        if image.ndim != 3 or len(image) != bands:
            raise ValueError(f"{self.spec.name} takes images ({bands}, h, w), this one is {tuple(image.shape)}")
        valid = image.isfinite().all(0, keepdim=True)
        return torch.cat([torch.where(valid, image, image.new_tensor(self.spec.mean).view(-1, 1, 1)), valid])

    def _learnable(self, target: dict) -> dict[str, Tensor]:
        boxes, labels, k = target["boxes"], target["labels"], len(self.spec.classes)
        if boxes.shape != (len(labels), 4) or (boxes[:, 2:] <= boxes[:, :2]).any():
            raise ValueError(f"boxes are (n, 4) with x0 < x1 and y0 < y1, a label each; found {boxes.tolist()}")
        if ((labels < 1) | (labels > k)).any():
            raise ValueError(f"labels are 1..{k}, in the order of {self.spec.classes}; found {labels.unique().tolist()}")
        learnt = ~target["iscrowd"].bool() if "iscrowd" in target else torch.ones_like(labels, dtype=torch.bool)
        return {"boxes": boxes[learnt], "labels": labels[learnt] - 1 + self.first}


class BoxPyramid(Nested):
    """(b, c + 1, h, w), the last channel 1 where valid -> levels by name, finest first, of `out_channels` channels each.

    A level of stride s has ceil(h / s) rows and ceil(w / s) columns, once h and w are multiples of the regions' coarsest.
    """

    def __init__(self, regions: RegionEncoder, context: nn.Module, spec: Spec, strides: list[int]):
        """strides: of the levels, the first of which are also strides of the regions."""
        first, dim = regions.strides.index(strides[0]), spec.head_dim
        channels = regions.channels[first:]
        head = FeaturePyramidNetwork(channels, dim, _Coarser(dim, len(strides) - len(channels)))
        super().__init__(regions, _from_level(context, first), head, spec)
        self.first, self.out_channels = first, dim

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = F.pad(x, (self.spec.margin,) * 4)
        levels, core = self.encode(x[:, :-1], x[:, -1] > 0.5)
        levels = self.context(levels[self.first :], core)
        return self.head({str(i): level for i, level in enumerate(levels)})


@dataclass(frozen=True)
class BoxOptions:
    """What `Spec.head_options` may hold for task "boxes"."""

    head: str = "fcos"
    """One of `HEADS`."""
    finest: int = 8
    """Stride of the finest level of the feature pyramid; objects are a few times as large as the stride of their level."""
    coarsest: int = 128
    """Stride of the coarsest."""
    most: int = 100
    """Boxes that an image has at most."""


def build_boxes(regions: RegionEncoder, context: nn.Module, spec: Spec) -> Boxes:
    """A network for boxes of `spec.classes` on a region encoder and a context encoder, which it shares.

    `spec.head_dim` are the channels of the feature pyramid, `spec.threshold` is the lowest score of a box that is given
    (average precision wants it as low as 0.05), and `spec.head_options` the rest. The parts are those that `build` makes, or
    `net.regions` and `net.context` of a trained network.

    Raises ModelError for an unknown head or option, other widths, and strides that the encoder does not have.
    """
    known = [f.name for f in fields(BoxOptions)]
    if unknown := set(spec.head_options) - set(known):
        raise ModelError(f"boxes have no option {', '.join(sorted(unknown))}; they have {', '.join(known)}")
    options, dim, own = BoxOptions(**spec.head_options), spec.head_dim, regions.strides
    finest, coarsest = options.finest, options.coarsest
    if options.head not in HEADS:
        raise ModelError(f"unknown head {options.head!r}; choose one of {', '.join(HEADS)}")
    if dim % 64:
        raise ModelError(f"the pyramid has {dim} channels; set head_dim to a multiple of 64: torchvision normalises in 32 groups")
    if finest not in own or coarsest < own[-1] or coarsest & (coarsest - 1):
        raise ModelError(
            f"strides of the pyramid go from one of {own} to a power of two from {own[-1]} on, not from {finest} to {coarsest}"
        )
    strides = [2**i for i in range(int(math.log2(finest)), int(math.log2(coarsest)) + 1)]
    pyramid, classes = BoxPyramid(regions, context, spec, strides), len(spec.classes)
    if options.head == "fcos":
        detector = FCOS(
            pyramid,
            classes,
            anchor_generator=_Anchors(strides, size=1, ratios=(1.0,)),
            score_thresh=spec.threshold,
            detections_per_img=options.most,
        )
        answering = [detector.head]
    else:
        detector = FasterRCNN(
            pyramid,
            1 + classes,
            rpn_anchor_generator=_Anchors(strides, size=4, ratios=(0.5, 1.0, 2.0)),
            box_roi_pool=_pooler(strides),
            box_score_thresh=spec.threshold,
            box_detections_per_img=options.most,
        )
        answering = [detector.rpn.head, detector.roi_heads.box_predictor]
    for part in answering:
        part.register_forward_hook(_in_float32)
    return Boxes(detector, spec)


class _Normalise(GeneralizedRCNNTransform):
    """Images with their valid pixels -> one batch, padded with zeros; nothing is resized."""

    def __init__(self, spec: Spec):
        super().__init__(0, 0, [*spec.mean, 0.0], [*spec.std, 1.0], size_divisible=1)

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target


class _Coarser(ExtraFPNBlock):
    """Further levels, each half as fine as the one before."""

    def __init__(self, dim: int, count: int):
        super().__init__()
        self.halve = nn.ModuleList(nn.Conv2d(dim, dim, 3, 2, 1) for _ in range(count))

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        for halve in self.halve:
            results = [*results, halve(results[-1].relu())]
        return results, [str(i) for i in range(len(results))]


class _Anchors(AnchorGenerator):
    """Anchors around the centres of cells.

    torchvision puts them at the cells' upper-left corners, guesses strides from the padded size, which errs on sides that
    are no multiple of the coarsest, and takes on the features' dtype, which in bf16 rounds coordinates beyond 256.
    """

    def __init__(self, strides: list[int], *, size: int, ratios: tuple[float, ...]):
        """size: side of an anchor in strides; ratios: height / width."""
        super().__init__(tuple((size * s,) for s in strides), (ratios,) * len(strides))
        self.strides = strides

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        self.set_cell_anchors(torch.float32, feature_maps[0].device)
        corners = self.grid_anchors([level.shape[-2:] for level in feature_maps], [[s, s] for s in self.strides])
        anchors = torch.cat([corner + s / 2 for corner, s in zip(corners, self.strides, strict=True)])
        return [anchors] * len(image_list.image_sizes)


def _pooler(strides: list[int]) -> MultiScaleRoIAlign:
    """A box is looked up in the level of its size; strides are told, since torchvision guesses them from its first image."""
    pooler = MultiScaleRoIAlign([str(i) for i in range(len(strides))], output_size=7, sampling_ratio=2)
    pooler.scales = [1 / s for s in strides]
    pooler.map_levels = initLevelMapper(int(math.log2(strides[0])), int(math.log2(strides[-1])))
    return pooler


def _in_float32(part: nn.Module, inputs: tuple, outputs: dict | tuple) -> dict | tuple:
    """torchvision decodes boxes in the dtype of the answers: under autocast bf16 would round coordinates to 4 px beyond 512."""
    if isinstance(outputs, dict):
        return {name: x.float() for name, x in outputs.items()}
    return tuple(x.float() if isinstance(x, Tensor) else [level.float() for level in x] for x in outputs)


def _from_level(context: nn.Module, first: int) -> nn.Module:
    """The same context, with the same weights, for the levels from `first` on."""
    if not isinstance(context, Inject):
        return context
    channels = [gate.out_channels for gate in context.gates[first:]]
    part = Inject(context.encoder, context.enter.out_channels, channels, context.strides[first:], context.stride)
    part.enter, part.gates = context.enter, context.gates[first:]
    return part
