"""What is drawn with matplotlib: a scene, objects on it, how it is cut, probabilities over it."""

from __future__ import annotations

import os

import numpy as np
import shapely
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from xtgeo.detections import Detections
from xtgeo.errors import OutputError, SceneError
from xtgeo.grid import Grid, pixel_size_m, same_grid
from xtgeo.picture import Stretch
from xtgeo.plot.frame import DARK, Frame, readable
from xtgeo.plot.score import score_of
from xtgeo.plot.view import View, inside
from xtgeo.read import open_scene
from xtgeo.scene import Block, Scene
from xtgeo.window import Nest, Window

OUTLINE, RING = "#ffd200", "#ff5a3c"
CLASSES = (OUTLINE, RING, "#50c878", "#78a0ff", "#e678e6", "#c8c8c8")
LEAST_PX, SMALL_PX = 1.5, 8
"""Objects of fewer pixels on the screen get a ring around them, and below the first number no outline."""
MOST_RINGS = 1500
"""Of more objects than these rings would hide each other: they are dots."""
WIDTH_IN, HEIGHTS_IN = 7.0, (2.5, 9.0)
NAMED_TILES = 150
"""Tiles are numbered where there are no more than these."""


def plot_scene(
    scene: Scene, window: Window | None = None, *, ax: Axes | None = None, stretch: Stretch | None = None, max_side: int = 1024
) -> Axes:
    """A scene or a window of it as the eye sees it; nodata is transparent.

    Pixels are read from the file's overviews where it has any, else all of them, piece by piece, and averaged in linear power
    to `max_side` pixels: a large scene without overviews takes as long as reading it. `stretch` says what is black and what
    white (by default what is drawn does; radar spans 15 dB at least). Map coordinates are on the axes where the grid lies
    along them, meridians and parallels where it does not; the scale bar is right at the picture's middle.
    """
    view = View.of(scene, window, max_side)
    frame = Frame(scene.grid, view.window)
    ax = _axes(frame) if ax is None else ax
    (left, right), (top, bottom) = frame.place(view.rows, view.columns)
    ax.imshow(view.paint(stretch), extent=(left, right, bottom, top), zorder=1)
    frame.apply(ax)
    ax.set_title(scene.id, fontsize=8, parse_math=False)
    return ax


def plot_detections(
    detections: Detections,
    scene: Scene | None = None,
    window: Window | None = None,
    *,
    ax: Axes | None = None,
    by: str | None = None,
    max_side: int = 1024,
) -> Axes:
    """Outlines and points, over the scene if it is given; what is small on the screen gets a ring.

    by: the column that colours them, such as "score" or "class". ax: what is drawn already, by `plot_scene` for example.
    """
    if scene is not None:
        _same(scene, detections.grid, "objects")
        ax = plot_scene(scene, window, ax=ax, max_side=max_side)
    elif ax is None:
        frame = Frame(detections.grid, Window(0, 0, *detections.grid.shape) if window is None else window)
        ax = _axes(frame)
        ax.set_facecolor(DARK)
        frame.apply(ax)
    shapes = Frame(detections.grid, Window(0, 0, 1, 1)).shapes(detections.geometry)
    colours = _colours(ax, detections, by)
    x0, y0, x1, y1 = shapely.bounds(shapes).reshape(-1, 4).T
    box = ax.get_window_extent()
    across, up = box.width / abs(np.subtract(*ax.get_xlim())), box.height / abs(np.subtract(*ax.get_ylim()))
    large = np.maximum((x1 - x0) * across, (y1 - y0) * up)
    seen, small = np.flatnonzero(large >= LEAST_PX), large < SMALL_PX
    parts, part_of = shapely.get_parts(shapes[seen], return_index=True)
    rings, ring_of = shapely.get_rings(parts, return_index=True)  # points have none
    lines = [shapely.get_coordinates(ring) for ring in rings]
    ax.add_collection(LineCollection(lines, colors=colours[seen[part_of[ring_of]]], linewidths=1, zorder=4), autolim=False)
    edge = colours if by else np.broadcast_to(to_rgba(RING), colours.shape)
    size, width = (70, 1.2) if small.sum() <= MOST_RINGS else (3, 0.8)
    ax.scatter(
        (x0 + x1)[small] / 2, (y0 + y1)[small] / 2, s=size, facecolors="none", edgecolors=edge[small], linewidths=width, zorder=5
    )
    return ax


def plot_nest(scene: Scene, nest: Nest, *, ax: Axes | None = None, max_side: int = 1024) -> Axes:
    """How a scene is cut: tiles in yellow, regions in thin lines, and of one tile, in red, the margin that it sees beyond its core.

    `xtgeo.plan(scene, model).nest` is the nest that a run takes.
    """
    if tuple(nest.shape) != tuple(scene.shape):
        raise ValueError(f"a nest for {nest.shape} pixels is not one of {scene.id}, which has {scene.shape}")
    ax = plot_scene(scene, ax=ax, max_side=max_side)
    frame = Frame(scene.grid, Window(0, 0, *scene.shape))
    (h, w), side = scene.shape, nest.side
    for step, colour, width in ((nest.region, "white", 0.4), (side, OUTLINE, 1.5)):
        rows, columns = ([*range(0, n, step), n] for n in (h, w))
        lines = [[(0, y), (w, y)] for y in rows] + [[(x, 0), (x, h)] for x in columns]
        lines = [np.stack(frame.place(*np.array(line, float).T[::-1]), 1) for line in lines]
        ax.add_collection(LineCollection(lines, colors=colour, linewidths=width, zorder=3), autolim=False)
    if len(nest) <= NAMED_TILES:
        for tile in nest:
            x, y = frame.place(tile.core.y + tile.core.h / 2, tile.core.x + tile.core.w / 2)
            ax.text(x, y, str(tile.index), ha="center", va="center", **readable(OUTLINE))
    rows, columns = nest.grid
    full = nest[(rows - 1) // 2 * columns + (columns - 1) // 2].full
    (x0, x1), (y0, y1) = frame.place([full.y, full.y + full.h], [full.x, full.x + full.w])
    ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=RING, linewidth=1.2, zorder=4, clip_on=False))
    metres = np.mean(pixel_size_m(scene.grid))
    far = f", {side * metres / 1000:.3g} km" if np.isfinite(metres) else ""
    ax.set_title(
        f"{scene.id}: {rows} x {columns} tiles of {nest.span} x {nest.span} regions of {nest.region} px ({side} px{far}), "
        f"margin {nest.margin} px",
        fontsize=8,
        wrap=True,
        parse_math=False,
    )
    return ax


def plot_scores(
    scene: Scene,
    scores: os.PathLike | str | Block,
    window: Window | None = None,
    *,
    band: int = 1,
    ax: Axes | None = None,
    least: float = 0.05,
    max_side: int = 1024,
) -> Axes:
    """Probabilities over a scene: the surer, the brighter and the less transparent; nothing is drawn below `least`.

    scores: the raster that `segment(..., scores=)` wrote on the scene's grid, or a block that `predict` gave, which is drawn
    where it lies. band: which class, from 1. Each pixel of the picture shows the mean of what lies under it.
    """
    frame, ranks = Frame(scene.grid, inside(scene, window)), None
    if isinstance(scores, Block):
        w, data, valid = scores.window, scores.data, scores.valid
        rows, columns = (w.y, w.y + w.h), (w.x, w.x + w.w)
        frame = Frame(scene.grid, inside(scene, w if window is None else window))
    else:
        ranks = open_scene(scores)
        _same(scene, ranks.grid, "scores")
        view = View.of(ranks, frame.window, max_side)
        data, valid, rows, columns = view.block.data, view.block.valid, view.rows, view.columns
    if not 1 <= band <= len(data):
        raise SceneError(f"scores have bands 1 to {len(data)}, not {band}")
    ax = plot_scene(scene, frame.window, ax=ax, max_side=max_side)
    p = np.where(valid, data[band - 1], 0.0)
    (left, right), (top, bottom) = frame.place(rows, columns)
    limits = ax.get_xlim(), ax.get_ylim()
    shown = ax.imshow(
        p, extent=(left, right, bottom, top), cmap="inferno", vmin=0, vmax=1, alpha=np.where(p < least, 0.0, 0.3 + 0.7 * p),
        aspect=ax.get_aspect(), zorder=2,
    )  # fmt: skip
    ax.set(xlim=limits[0], ylim=limits[1])
    name = "probability" if ranks is None else f"probability of {ranks.bands[band - 1]}"
    bar = ax.figure.colorbar(shown, ax=ax, shrink=0.7, pad=0.02)
    bar.set_label(name, fontsize=8, parse_math=False)
    bar.ax.tick_params(labelsize=8)
    return ax


def _axes(frame: Frame) -> Axes:
    """Of a new figure, as tall as what it shows."""
    (left, right), (bottom, top) = frame.limits()
    height = WIDTH_IN * abs(top - bottom) * frame.aspect() / (right - left)
    return pyplot.subplots(figsize=(WIDTH_IN, float(np.clip(height, *HEIGHTS_IN)) + 0.5), layout="constrained")[1]


def _same(scene: Scene, grid: Grid, what: str) -> None:
    if not same_grid(scene.grid, grid):
        raise SceneError(f"the {what} do not lie on the pixels of {scene.id}: draw them with the scene they were found in")


def _colours(ax: Axes, detections: Detections, by: str | None) -> np.ndarray:
    """(n, 4); a legend or a bar says what they mean."""
    n = len(detections)
    if by is None or not n:
        return np.tile(to_rgba(OUTLINE), (n, 1))
    if by != "score" and by not in detections.fields:
        raise OutputError(f"detections have no column {by!r} to be coloured by: choose one of {', '.join(detections.fields)}")
    values = score_of(detections) if by == "score" else detections[by]
    if detections.fields.get(by, "float64") in ("float64", "int64"):
        values = np.asarray(values, float)
        seen = values[np.isfinite(values)]
        low, high = (seen.min(), seen.max()) if len(seen) else (0.0, 1.0)
        scale = pyplot.cm.ScalarMappable(pyplot.Normalize(low, 1.0 if by.endswith("score") else high), "plasma")
        bar = ax.figure.colorbar(scale, ax=ax, shrink=0.7, pad=0.02)
        bar.set_label(by, fontsize=8)
        bar.ax.tick_params(labelsize=8)
        return scale.to_rgba(values)
    names, index = np.unique([str(v) for v in values], return_inverse=True)
    table = np.array([to_rgba(CLASSES[i % len(CLASSES)]) for i in range(len(names))])
    rings = [ax.plot([], [], "o", mfc="none", mec=colour)[0] for colour in table]
    legend = ax.legend(rings, ["class"] * len(names), loc="upper left", fontsize=8)
    # Afterwards, as labels that begin with _ are left out.
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set(text=str(name), parse_math=False)
    return table[index]
