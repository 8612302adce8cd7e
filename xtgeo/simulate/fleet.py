"""Where things are: ships at sea, at anchor and at quays, wind farms, platforms, buoys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from xtgeo.simulate.land import Berth
from xtgeo.simulate.params import Params
from xtgeo.simulate.targets import Plan, draw_fixed, draw_ship

MOORED = 0.25
"""Share of the vessels that lie at a quay, where there are enough of them."""
CELL_PX = 64
"""Side of the cells in which neighbours are looked for; no two objects keep further off."""


@dataclass
class Fleet:
    """Plans that do not touch each other nor the land, filled by `place`."""

    shape: tuple[int, int]
    afloat: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """At which (rows, columns) something may float: measured, not land, not ice."""
    ashore: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Which pixels are land."""
    plans: list[Plan] = field(default_factory=list)
    cells: dict[tuple[int, int], list[Plan]] = field(default_factory=lambda: defaultdict(list))

    def place(self, plan: Plan, gap_px: float) -> bool:
        """Takes the plan if its centre is on water, its hull clear of land, and others at least gap_px away."""
        inside = 0 <= plan.row < self.shape[0] and 0 <= plan.column < self.shape[1]
        if not inside or not self.afloat([plan.row], [plan.column])[0] or self._aground(plan) or self._crowded(plan, gap_px):
            return False
        self.plans.append(plan)
        self.cells[int(plan.row) // CELL_PX, int(plan.column) // CELL_PX].append(plan)
        return True

    def _aground(self, plan: Plan) -> bool:
        h = np.deg2rad(plan.heading_deg)
        at = np.array([-1, -0.5, 0, 0.5, 1]) * plan.length_m / 20
        return bool(self.ashore(plan.row - at * np.cos(h), plan.column + at * np.sin(h)).any())

    def _crowded(self, plan: Plan, gap_px: float) -> bool:
        y, x = int(plan.row) // CELL_PX, int(plan.column) // CELL_PX
        for other in (o for dy in (-1, 0, 1) for dx in (-1, 0, 1) for o in self.cells.get((y + dy, x + dx), ())):
            room = (plan.length_m + other.length_m) / 20 + gap_px
            if (plan.row - other.row) ** 2 + (plan.column - other.column) ** 2 < room**2:
                return True
        return False


def fill(rng: np.random.Generator, fleet: Fleet, berths: list[Berth], params: Params, *, mpx: float) -> None:
    """Places vessels on `mpx` megapixels of water, and fixed objects if there are to be any."""
    if mpx > 0 and params.density > 0:
        count = int(rng.poisson(params.density * mpx))
        _moor(rng, fleet, berths, int(rng.binomial(count, MOORED)), params.lengths_m)
        _sail(rng, fleet, count - len(fleet.plans), params.lengths_m)
    if mpx > 0 and params.structures:
        _build(rng, fleet, mpx)


def _moor(rng, fleet: Fleet, berths: list[Berth], count: int, lengths_m: tuple[float, float] | None) -> None:
    """Up to `count` ships side to the quay."""
    for i in rng.permutation(len(berths)):
        berth = berths[i]
        if len(fleet.plans) >= count:
            return
        heading = (berth.heading_deg + 90 * rng.choice([-1, 1])) % 360
        ship = draw_ship(rng, 0, 0, heading, longest_m=berth.room_m, lengths_m=lengths_m)
        h = np.deg2rad(berth.heading_deg)
        off = ship.width_m / 20 + 0.8
        ship = replace(ship, row=berth.row - off * np.cos(h), column=berth.column + off * np.sin(h), smear=1.0)
        # Ships along a quay lie nearer than their lengths would allow side by side at sea.
        fleet.place(ship, gap_px=-ship.length_m / 40)


def _sail(rng, fleet: Fleet, count: int, lengths_m: tuple[float, float] | None) -> None:
    """Ships anywhere on the water, a quarter of them in anchorages where all turn the same way."""
    anchor, together = rng.uniform((0, 0), fleet.shape), rng.uniform(0, 360)
    for _ in range(20 * count):
        if count == 0:
            return
        if rng.random() < 0.25:
            (row, column), heading = anchor + rng.normal(0, 30, 2), together + rng.normal(0, 12)
        else:
            (row, column), heading = rng.uniform((0, 0), fleet.shape), rng.uniform(0, 360)
            if rng.random() < 0.15:
                anchor, together = np.array([row, column]), heading
        count -= fleet.place(draw_ship(rng, row, column, float(heading % 360), lengths_m=lengths_m), gap_px=2.0)


def _build(rng, fleet: Fleet, mpx: float) -> None:
    """A wind farm in one scene of five, and one more every 100 megapixels; a few platforms and buoys."""
    for _ in range(int(rng.random() < 0.2) + int(rng.poisson(mpx / 100) if mpx > 20 else 0)):
        _farm(rng, fleet)
    for kind, rate in (("platform", 0.15), ("buoy", 0.1)):
        for _ in range(int(rng.poisson(rate * mpx))):
            fleet.place(draw_fixed(rng, *rng.uniform((0, 0), fleet.shape), kind), gap_px=2.0)


def _farm(rng, fleet: Fleet) -> None:
    """Turbines on a grid of 0.5 to 1 km."""
    step, angle, side = rng.uniform(50, 100), rng.uniform(0, np.pi / 2), int(rng.integers(3, 9))
    j, i = np.meshgrid(*(np.arange(side) - (side - 1) / 2,) * 2)
    row, column = rng.uniform((0, 0), fleet.shape)
    rows = row + step * (i * np.cos(angle) - j * np.sin(angle)) + rng.normal(0, 2, i.shape)
    columns = column + step * (i * np.sin(angle) + j * np.cos(angle)) + rng.normal(0, 2, i.shape)
    for y, x in zip(rows.ravel(), columns.ravel(), strict=True):
        fleet.place(draw_fixed(rng, y, x, "turbine"), gap_px=2.0)
