"""How a scene looks: its numbers as red, green and blue.

Radar is shown in decibels, VH as red, VV as blue and their mean as green, which makes the sea blue and ships white; another
polarisation in grey. Optical scenes are shown in true colour where they have it, else their first band in grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from xtgeo.scene import Block, Scene

GAMMA = 0.7
"""Of reflectance: the sea is dark, and vessels are at sea."""
RGB = (("red", "green", "blue"), ("b04", "b03", "b02"), ("band_1", "band_2", "band_3"))
DECIBELS = {"linear": 10, "amplitude": 20, "db": 0}
"""Times log10(x) is decibels; 0 where they are it already."""
LEAST_DB = 15.0
"""From black to white in radar: a calm sea alone is not stretched into noise."""

SIDE, COLUMNS, CAPTION = 172, 8, 18
"""Of a sheet of chips: side of a chip in pixels, chips in a row, height of the line under a chip."""
PAPER, INK = (24, 26, 30), (225, 225, 225)


@dataclass(frozen=True)
class Stretch:
    """What is black and what is white in each layer of a scene's picture: the same in every part that is painted with it."""

    bands: tuple[str, ...]
    """Those that are shown: three for colours, one for grey, two (VV, VH) for radar's colours."""
    units: str
    """Of the scene's numbers."""
    low: tuple[float, ...]
    """Black, for each layer, in `unit`."""
    high: tuple[float, ...]
    """White."""
    gamma: float = 1.0
    """Below 1 lifts what is dark."""

    @property
    def unit(self) -> str:
        """Of what is stretched: db for all radar."""
        return "db" if self.units in DECIBELS else self.units

    @classmethod
    def of(cls, scene: Scene, block: Block | None = None) -> Stretch:
        """Between the 1st and 99.5th percentile of a block, by default of the scene's overview; radar spans at least 15 dB."""
        block = scene.overview(512) if block is None else block
        bands = shown(scene)
        plain = cls(bands, scene.units, (), ())
        layers = plain._layers(scene, block)
        limits = [_percentiles(layer[block.valid]) for layer in layers]
        if plain.unit == "db":
            limits = [(low, max(high, low + LEAST_DB)) for low, high in limits]
        gamma = GAMMA if scene.units in ("reflectance", "dn10000") else 1.0
        return cls(bands, scene.units, *map(tuple, zip(*limits, strict=True)), gamma)

    def paint(self, scene: Scene, block: Block) -> np.ndarray:
        """How a block of the scene looks, (y, x, 4) uint8: red, green, blue and whether there is anything."""
        alpha = np.where(block.valid, 255, 0).astype(np.uint8)
        layers = [
            (np.clip((layer - low) / max(high - low, 1e-6), 0, 1) ** self.gamma * 255).astype(np.uint8)
            for layer, low, high in zip(self._layers(scene, block), self.low, self.high, strict=True)
        ]
        return np.stack([*(layers * 3 if len(layers) == 1 else layers), alpha], -1)

    def _layers(self, scene: Scene, block: Block) -> list[np.ndarray]:
        """One (y, x) for grey, or three, in `unit`."""
        layers = [block.data[scene.bands.index(band)] for band in self.bands]
        if times := DECIBELS.get(self.units):
            layers = [times * np.log10(np.maximum(layer, 1e-5)) for layer in layers]
        return [layers[1], (layers[0] + layers[1]) / 2, layers[0]] if len(layers) == 2 else layers


def shown(scene: Scene) -> tuple[str, ...]:
    """The bands of a scene that its picture is made of: (VV, VH), red, green and blue, or the first."""
    found = next((names for names in (("vv", "vh"), *RGB) if all(scene.find(name) for name in names)), scene.bands[:1])
    return tuple(scene.find(name) for name in found)


def colours(scene: Scene, block: Block) -> np.ndarray:
    """How a block of the scene looks when it is stretched by itself, (y, x, 4) uint8."""
    return Stretch.of(scene, block).paint(scene, block)


def sheet(chips: Sequence[tuple[Image.Image, str]], title: str) -> Image.Image:
    """Squares of SIDE pixels with a caption under each, in rows, under a title."""
    step, columns = SIDE + 4, max(3, min(COLUMNS, len(chips)))
    paper = Image.new("RGB", (columns * step, -(-len(chips) // columns) * (step + CAPTION) + CAPTION), PAPER)
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(12)
    pen.text((4, 1), title, INK, font)
    for n, (chip, caption) in enumerate(chips):
        x, y = n % columns * step, n // columns * (step + CAPTION) + CAPTION
        paper.paste(chip, (x + 2, y + 2))
        pen.text((x + 4, y + step), caption, INK, font)
    return paper


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    return tuple(np.percentile(values, (1, 99.5)).tolist()) if values.size else (0.0, 1.0)
