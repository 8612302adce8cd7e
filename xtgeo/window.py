"""Window, Tile, Nest: how a scene is cut. Integers only, pixels from the upper-left corner, y before x.

        Nest(shape, region=4, span=2, margin=1)         one Tile: core of 2 x 2 regions

        +--------+--------+----+                        . . . . . . . . . .   full = core + margin
        |        |        |    |                        . +-------+-------+
        |  tile  |  tile  |tile|                        . | region| region|
        |        |        |    |                        . +-------+-------+
        +--------+--------+----+                        . | region| region|
        |  tile  |  tile  |tile|                        . +-------+-------+
        +--------+--------+----+                        . . . . . . . . . .
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A half-open rectangle of pixels; may reach beyond the scene. h and w are never negative."""

    y: int
    x: int
    h: int
    w: int

    def __post_init__(self):
        if self.h < 0 or self.w < 0:
            raise ValueError(f"a window cannot have a negative side: {self}")

    @property
    def shape(self) -> tuple[int, int]:
        return self.h, self.w

    @property
    def slices(self) -> tuple[slice, slice]:
        """For indexing an array whose origin is the scene's; only for windows inside it."""
        return slice(self.y, self.y + self.h), slice(self.x, self.x + self.w)

    def __and__(self, other: Window) -> Window:
        """The common part; of zero size where there is none."""
        y, x = max(self.y, other.y), max(self.x, other.x)
        y1 = min(self.y + self.h, other.y + other.h)
        x1 = min(self.x + self.w, other.x + other.w)
        return Window(y, x, max(0, y1 - y), max(0, x1 - x))

    def __bool__(self) -> bool:
        return self.h > 0 and self.w > 0

    def pad(self, n: int) -> Window:
        """n pixels more on every side."""
        return Window(self.y - n, self.x - n, self.h + 2 * n, self.w + 2 * n)

    def shift(self, y: int, x: int) -> Window:
        """The same rectangle, y rows down and x columns to the right."""
        return Window(self.y + y, self.x + x, self.h, self.w)


@dataclass(frozen=True)
class Tile:
    """One unit of work: `core` is what it answers for, `full` what it looks at (may reach beyond the scene)."""

    index: int
    """Position in the nest, row-major."""
    core: Window
    full: Window


@dataclass(frozen=True)
class Nest:
    """A scene cut into tiles of `span` x `span` regions; the cores of the tiles partition the scene exactly.

    Every region, and so every tile, sees `margin` pixels beyond its border: neighbouring regions then agree where
    they meet. The last row and column of tiles are as small as what is left; nothing is dropped, nothing shifted.
    """

    shape: tuple[int, int]
    """(height, width) of the scene in pixels."""
    region: int = 512
    """Side of a region in pixels."""
    span: int = 4
    """Regions along a tile's side: the area over which context reaches."""
    margin: int = 0
    """Pixels seen beyond each border of a region."""

    def __post_init__(self):
        if min(self.shape) < 1 or self.region < 1 or self.span < 1 or self.margin < 0:
            raise ValueError(f"a nest needs positive sizes and a margin of zero or more: {self}")

    @property
    def side(self) -> int:
        """Side of a tile's core in pixels."""
        return self.region * self.span

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return -(-self.shape[0] // self.side), -(-self.shape[1] // self.side)

    def __len__(self) -> int:
        return self.grid[0] * self.grid[1]

    def __getitem__(self, index: int) -> Tile:
        if not 0 <= index < len(self):
            raise IndexError(f"tile {index} of {len(self)}")
        row, column = divmod(index, self.grid[1])
        core = Window(row * self.side, column * self.side, self.side, self.side) & Window(0, 0, *self.shape)
        return Tile(index, core, core.pad(self.margin))

    def at(self, core: Window) -> int:
        """The index of the tile with this core."""
        return core.y // self.side * self.grid[1] + core.x // self.side

    def __iter__(self) -> Iterator[Tile]:
        return (self[i] for i in range(len(self)))
