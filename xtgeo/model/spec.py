"""Spec: what weights expect of a scene and what they give. It travels as JSON inside the weights file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields

from xtgeo.errors import ModelError

TASKS = ("segment", "detect", "classify", "boxes")
CENTRE = ("centre", "down", "right", "vessel", "fishing", "length")
"""What a model of task "detect" answers for every cell: whether an object's centre lies in it; where, in cells from its
upper-left corner; whether the object is a vessel, and a fishing vessel; its length in metres."""


@dataclass(frozen=True)
class Spec:
    """The contract between a model and the scenes it is used on; everything needed to build an `XT` again."""

    name: str
    """How users call the model."""
    bands: tuple[str, ...]
    """Band names in the order the network takes them."""
    units: str
    """What the numbers mean: one of the units of `Scene`, such as "db" or "reflectance"."""
    mean: tuple[float, ...]
    """Per band, subtracted before the network, in `units`."""
    std: tuple[float, ...]
    """Per band, divided by after `mean`, in `units`."""
    gsd: float
    """Ground sample distance the weights were trained at, in metres per pixel."""
    task: str = "segment"
    """"segment": a class for every pixel. "detect": centres of objects and what they are. "classify": a class for an image.
    "boxes": objects of an image as boxes with classes."""
    classes: tuple[str, ...] = ("vessel",)
    """Foreground classes, in the order of the output channels."""
    activation: str = "sigmoid"
    """"sigmoid": each channel is one class. "softmax": channel 0 is the background, the classes follow. "none": as sigmoid, but
    the network itself gives 0 to 1."""
    threshold: float = 0.5
    """Probability from which a pixel belongs to a class, a cell is a centre, or a box is given."""
    points: bool = False
    """Task "segment": whether `xtgeo.detect` takes the model too, with a point for each outline."""
    blur: float = 0.0
    """By how much its outlines are longer than the objects in them, in metres; taken off the lengths of points."""
    measures: bool = False
    """Task "detect": whether lengths of long objects are measured, in radar scenes with pixels of about `gsd` (`xtgeo.extent`)."""
    separation: float = 60.0
    """Of points that are closer than this the best stays, in metres."""
    min_area: float = 0.0
    """Smallest object that is kept unless the user says otherwise, in square metres."""
    dark: tuple[float, ...] = ()
    """Per band, the level in `units` to which the darkest pixels of a scene are brought first (`xtgeo.haze`); () leaves them."""
    optional: tuple[str, ...] = ()
    """Bands that may be missing; at least one band of `bands` must be there."""
    region: int = 512
    """Side of a region in pixels."""
    span: int = 4
    """Regions along the side of a tile: how far context reaches."""
    margin: int = 16
    """Pixels every region sees beyond its border."""
    stride: int = 16
    """Sides of a region, margin included, are brought to a multiple of this, in pixels."""
    backbone: str = ""
    """timm's name of the region encoder; empty for a network that xtgeo did not build."""
    context: str = "none"
    """Context encoder: one of `xtgeo.model.CONTEXTS`."""
    context_dim: int = 128
    """Channels of a context token."""
    context_depth: int = 2
    """Blocks of the context encoder."""
    context_stride: int = 64
    """Side of the square of pixels that one context token stands for."""
    context_options: dict = field(default_factory=dict)
    """Arguments of the context encoder beyond dim and depth, such as {"group": 8}. Plain JSON values."""
    head_dim: int = 32
    """Channels of the head; for boxes of the feature pyramid, a multiple of 64."""
    head_options: dict = field(default_factory=dict)
    """Task "boxes": fields of `xtgeo.model.boxes.BoxOptions`, such as {"head": "faster_rcnn"}. Plain JSON values."""
    version: str = "1"
    """Version of the weights."""
    licence: str = ""
    """Licence of the weights, SPDX where there is one."""
    provenance: dict = field(default_factory=dict)
    """How the weights came about: data, script, seed, figures. Plain JSON values."""

    def __post_init__(self):
        if not self.bands or not len(self.bands) == len(self.mean) == len(self.std):
            raise ValueError(f"bands, mean and std must be of one length: {self.bands}, {self.mean}, {self.std}")
        if self.dark and len(self.dark) != len(self.bands):
            raise ValueError(f"dark is one level per band, or none: {self.bands}, {self.dark}")
        if self.activation not in ("sigmoid", "softmax", "none"):
            raise ValueError(f"activation is 'sigmoid', 'softmax' or 'none', not {self.activation!r}")
        if self.task not in TASKS:
            raise ValueError(f"task is one of {', '.join(TASKS)}, not {self.task!r}")
        if min(self.std) <= 0 or self.gsd <= 0:
            raise ValueError(f"std and gsd must be positive: {self.std}, {self.gsd}")
        if self.backbone and self.margin % self.stride or self.region % self.stride:
            raise ValueError(f"margin {self.margin} and region {self.region} must be multiples of stride {self.stride}")
        if not set(self.optional) <= set(self.bands):
            raise ValueError(f"optional bands {self.optional} are not all among {self.bands}")

    @property
    def channels(self) -> int:
        """Output channels of the network."""
        if self.task == "detect":
            return len(CENTRE)
        return len(self.classes) + (self.activation == "softmax" and self.task == "segment")

    @property
    def answers(self) -> int:
        """Channels that a user is given: those of the network without the background."""
        return len(CENTRE) if self.task == "detect" else len(self.classes)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Spec:
        try:
            values = json.loads(text)
            unknown = set(values) - {f.name for f in fields(cls)}
            if unknown:
                raise ValueError(f"unknown fields {sorted(unknown)}; a newer xtgeo may know them")
            return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
        except (TypeError, ValueError) as e:
            raise ModelError(f"the spec inside the weights cannot be read: {e}") from e
