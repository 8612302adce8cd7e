"""Frame: the coordinates of a picture, and what tells a reader where he is: ticks, graticule, scale bar, north.

    a grid along the axes of its CRS     x and y of the CRS; north is up also where the file's first row is the south
    control points, or a turned grid     columns and rows of the scene, with meridians and parallels drawn across
    no place on the earth                columns and rows
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrow
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation
from odc.geo.geobox import GeoBox

from xtgeo.grid import WGS84, Grid, grid_crs, is_georeferenced, pixel_to_lonlat
from xtgeo.window import Window

SHARE = 0.25
"""Of the picture's width, what a scale bar takes at most."""
INK, RIM = "white", "black"
STEPS = [1, 2, 5, 10]
"""Of ticks and scale bars, times a power of ten."""
DARK = "#10151c"
"""Ground of a picture without a scene."""


@dataclass(frozen=True, eq=False)
class Frame:
    """Where pixels of a scene lie in a picture of a window of it."""

    grid: Grid
    window: Window

    @property
    def is_map(self) -> bool:
        """Whether the picture's x and y are those of the grid's CRS."""
        grid = self.grid
        return isinstance(grid, GeoBox) and grid.crs is not None and grid.affine.b == grid.affine.d == 0

    def place(self, row, column) -> tuple[np.ndarray, np.ndarray]:
        """x and y in the picture of pixel coordinates (0, 0 is the corner of the first pixel)."""
        row, column = np.asarray(row, float), np.asarray(column, float)
        if not self.is_map or not isinstance(self.grid, GeoBox):
            return column, row
        a = self.grid.affine
        return a.a * column + a.c, a.e * row + a.f

    def shapes(self, geometry: np.ndarray) -> np.ndarray:
        """Geometry in pixels (x = column, y = row) as it lies in the picture."""
        return shapely.transform(geometry, lambda xy: np.stack(self.place(xy[:, 1], xy[:, 0]), 1))

    def limits(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """(left, right) and (bottom, top) of the window."""
        w = self.window
        x, y = self.place([w.y, w.y + w.h], [w.x, w.x + w.w])
        return tuple(sorted(x.tolist())), tuple(sorted(y.tolist(), reverse=not self.is_map))

    def metres(self) -> np.ndarray:
        """True ground metres at the picture's middle: [[east by x, east by y], [north by x, north by y]]; NaN without a place."""
        if not is_georeferenced(self.grid):
            return np.full((2, 2), np.nan)
        y, x = self.window.y + self.window.h / 2, self.window.x + self.window.w / 2
        row, column = [y, y, y - 0.5, y + 0.5], [x - 0.5, x + 0.5, x, x]
        lon, lat = pixel_to_lonlat(self.grid, row, column)
        if not np.isfinite(lon + lat).all():
            return np.full((2, 2), np.nan)
        turn, _, far = WGS84.inv(lon[::2], lat[::2], lon[1::2], lat[1::2])
        px, py = self.place(row, column)
        step = np.array([px[1] - px[0], py[3] - py[2]])
        return np.array([np.sin(np.radians(turn)), np.cos(np.radians(turn))]) * far / step

    def aspect(self) -> float:
        """How tall a unit of y is drawn for a unit of x, so that the ground is not distorted at the picture's middle."""
        across, down = np.hypot(*self.metres())
        return float(down / across) if np.isfinite(across + down) and across > 0 else 1.0

    def up(self) -> np.ndarray | None:
        """The way to true north in the picture, (right, up) of length 1; None where there is none."""
        metres = self.metres()
        if not np.isfinite(metres).all() or abs(np.linalg.det(metres)) < 1e-12:
            return None
        x, y = np.linalg.solve(metres, [0.0, 1.0])
        way = np.array([x, y * self.aspect() * (1 if self.is_map else -1)])
        return way / np.hypot(*way)

    def apply(self, ax: Axes) -> None:
        """Limits, ticks and names of the axes, scale bar and north."""
        (left, right), (bottom, top) = self.limits()
        ax.set(xlim=(left, right), ylim=(bottom, top), aspect=self.aspect())
        ax.autoscale(False)
        ax.tick_params(labelsize=8)
        if self.is_map:
            self._map_ticks(ax)
        elif not (is_georeferenced(self.grid) and self._graticule(ax)):
            ax.set_xlabel("column", fontsize=8)
            ax.set_ylabel("row", fontsize=8)
        self._scale_bar(ax)
        self._north(ax)

    def _map_ticks(self, ax: Axes) -> None:
        crs, spans = grid_crs(self.grid), [abs(b - a) for a, b in self.limits()]
        name = f"EPSG:{crs.epsg}" if crs.epsg else str(crs.proj.name)
        for axis, span, degrees in ((ax.xaxis, spans[0], "EW"), (ax.yaxis, spans[1], "NS")):
            axis.set_major_locator(MaxNLocator(5, steps=STEPS))
            if crs.geographic:
                axis.set_major_formatter(_degrees(degrees, span / 10))
            else:
                axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if abs(v - round(v)) < 1e-6 else f"{v:,.3f}"))
        if not crs.geographic:
            ax.set_xlabel(f"x ({crs.units[0]}, {name})", fontsize=8)
            ax.set_ylabel(f"y ({crs.units[1]})", fontsize=8)
        ax.tick_params("y", rotation=90)
        for label in ax.get_yticklabels():
            label.set_verticalalignment("center")

    def _graticule(self, ax: Axes) -> bool:
        """Meridians and parallels, named where they leave the picture; False where they cannot be drawn, as round a pole."""
        w = self.window
        rows, columns = np.linspace(w.y, w.y + w.h, 33), np.linspace(w.x, w.x + w.w, 33)
        lon, lat = pixel_to_lonlat(self.grid, rows[:, None], columns)
        if not np.isfinite(lon + lat).all():
            return False
        lon = lon[16, 16] + (lon - lon[16, 16] + 180) % 360 - 180
        if np.ptp(lon) > 170:
            return False
        # On the bottom stands the coordinate that changes more along it: a swath may lie on its side.
        eastward = abs(lon[-1, -1] - lon[-1, 0]) * math.cos(math.radians(lat[16, 16])) >= abs(lat[-1, -1] - lat[-1, 0])
        for values, letters, below in ((lon, "EW", eastward), (lat, "NS", not eastward)):
            levels = MaxNLocator(4, steps=STEPS).tick_values(values.min(), values.max())
            name = _degrees(letters, levels[1] - levels[0])
            levels = levels[(levels > values.min()) & (levels < values.max())]
            if not len(levels):
                continue
            ax.contour(columns, rows, values, levels, colors=INK, linewidths=0.6, alpha=0.5)
            edge, along = (values[-1], columns) if below else (values[:, 0], rows)
            slope = np.sign(np.diff(edge))
            axis = ax.xaxis if below else ax.yaxis
            if abs(slope.sum()) != len(slope):
                axis.set_ticks([])
                continue
            seen = levels[(levels >= edge.min()) & (levels <= edge.max())]
            axis.set_ticks(np.interp(seen, edge[:: int(slope[0])], along[:: int(slope[0])]), [name(v, None) for v in seen])
        return True

    def _scale_bar(self, ax: Axes) -> None:
        (left, right), per_x = self.limits()[0], float(np.hypot(*self.metres()[:, 0]))
        if not np.isfinite(per_x) or per_x <= 0:
            return
        length = _round_length(SHARE * (right - left) * per_x)
        start = left + 0.04 * (right - left)
        ends, at = [start, start + length / per_x], ax.get_xaxis_transform()
        for width, colour in ((5, RIM), (2.5, INK)):
            (line,) = ax.plot(ends, [0.05, 0.05], color=colour, lw=width, transform=at, solid_capstyle="butt", zorder=6)
        line.set_gid("scale bar")
        text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
        ax.text(sum(ends) / 2, 0.075, text, transform=at, ha="center", va="bottom", **readable())

    def _north(self, ax: Axes) -> None:
        way = self.up()
        if way is None:
            return
        at = ax.figure.dpi_scale_trans + ScaledTranslation(0.93, 0.9, ax.transAxes)
        x, y = way * -0.16
        arrow = FancyArrow(
            x, y, *(way * 0.32), width=0.025, head_width=0.13, head_length=0.14, length_includes_head=True,
            transform=at, facecolor=INK, edgecolor=RIM, lw=0.8, zorder=6, clip_on=False, gid="north",
        )  # fmt: skip
        ax.add_artist(arrow)
        ax.text(*(way * 0.25), "N", transform=at, ha="center", va="center", **readable())


def readable(colour: str = INK) -> dict:
    """How text is read on whatever is beneath."""
    return {"color": colour, "fontsize": 8, "zorder": 6, "path_effects": [withStroke(linewidth=1.5, foreground=RIM)]}


def _round_length(most: float) -> float:
    """The longest of 1, 2 and 5 times a power of ten that is not longer than `most`."""
    power = 10.0 ** math.floor(math.log10(most))
    return next(n * power for n in (5, 2, 1) if n * power <= most * (1 + 1e-9))


def _degrees(letters: str, step: float) -> Callable[[float, object], str]:
    """Of a number of degrees, with the digits that a step needs: 4.25 is 4.25°E."""
    digits = max(0, math.ceil(-math.log10(step) - 1e-9))

    def name(value: float, _: object) -> str:
        value = (value + 180) % 360 - 180 if letters == "EW" else value
        text = f"{abs(value):.{digits}f}°"
        return text if float(text[:-1]) == 0 else text + letters[int(value < 0)]

    return name
