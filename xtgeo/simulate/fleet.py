"""Where things are: ships at sea, at anchor and at quays, wind farms, platforms, buoys."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from xtgeo.simulate.land import Berth
from xtgeo.simulate.targets import Plan, draw_fixed, draw_ship

MOORED = 0.25
"""Share of the vessels that lie at a quay, where there are enough of them."""


@dataclass
class Fleet:
    """Plans that do not touch each other nor the land, filled by `place`."""

    water: np.ndarray
    """(y, x), True where something may float: valid and not land."""
    land: np.ndarray
    plans: list[Plan] = field(default_factory=list)

    def place(self, plan: Plan, gap_px: float) -> bool:
        """Takes the plan if its centre is on water, its hull clear of land, and others at least gap_px away."""
        h, w = self.water.shape
        inside = 0 <= plan.row < h and 0 <= plan.column < w
        if not inside or not self.water[int(plan.row), int(plan.column)] or self._aground(plan):
            return False
        for other in self.plans:
            room = (plan.length_m + other.length_m) / 20 + gap_px
            if (plan.row - other.row) ** 2 + (plan.column - other.column) ** 2 < room**2:
                return False
        self.plans.append(plan)
        return True

    def _aground(self, plan: Plan) -> bool:
        h = np.deg2rad(plan.heading_deg)
        at = np.array([-1, -0.5, 0, 0.5, 1]) * plan.length_m / 20
        y = np.clip((plan.row - at * np.cos(h)).astype(int), 0, self.land.shape[0] - 1)
        x = np.clip((plan.column + at * np.sin(h)).astype(int), 0, self.land.shape[1] - 1)
        return bool(self.land[y, x].any())


def plan_fleet(
    rng: np.random.Generator, valid: np.ndarray, land: np.ndarray, berths: tuple[Berth, ...], density: float
) -> list[Plan]:
    """Everything that will be drawn, with `density` vessels per megapixel of water."""
    fleet = Fleet(valid & ~land, land)
    mpx = np.count_nonzero(fleet.water) / 1e6
    if mpx > 0 and density > 0:
        count = int(rng.poisson(density * mpx))
        _moor(rng, fleet, berths, int(rng.binomial(count, MOORED)))
        _sail(rng, fleet, count - len(fleet.plans))
    if mpx > 0:
        _build(rng, fleet, mpx)
    return fleet.plans


def _moor(rng, fleet: Fleet, berths: tuple[Berth, ...], count: int) -> None:
    """Up to `count` ships side to the quay."""
    for i in rng.permutation(len(berths)):
        berth = berths[i]
        if len(fleet.plans) >= count:
            return
        ship = draw_ship(rng, 0, 0, (berth.heading_deg + 90 * rng.choice([-1, 1])) % 360, longest_m=berth.room_m)
        h = np.deg2rad(berth.heading_deg)
        off = ship.width_m / 20 + 0.8
        ship = replace(ship, row=berth.row - off * np.cos(h), column=berth.column + off * np.sin(h), smear=1.0)
        # Ships along a quay lie nearer than their lengths would allow side by side at sea.
        fleet.place(ship, gap_px=-ship.length_m / 40)


def _sail(rng, fleet: Fleet, count: int) -> None:
    """Ships anywhere on the water, a quarter of them in anchorages where all turn the same way."""
    shape = fleet.water.shape
    anchor, together = rng.uniform((0, 0), shape), rng.uniform(0, 360)
    for _ in range(20 * count):
        if count == 0:
            return
        if rng.random() < 0.25:
            (row, column), heading = anchor + rng.normal(0, 30, 2), together + rng.normal(0, 12)
        else:
            (row, column), heading = rng.uniform((0, 0), shape), rng.uniform(0, 360)
            if rng.random() < 0.15:
                anchor, together = np.array([row, column]), heading
        count -= fleet.place(draw_ship(rng, row, column, float(heading % 360)), gap_px=2.0)


def _build(rng, fleet: Fleet, mpx: float) -> None:
    """A wind farm in one scene of five, a few platforms and buoys."""
    shape = fleet.water.shape
    if rng.random() < 0.2:
        step, angle, side = rng.uniform(50, 100), rng.uniform(0, np.pi / 2), int(rng.integers(3, 9))
        j, i = np.meshgrid(*(np.arange(side) - (side - 1) / 2,) * 2)
        row, column = rng.uniform((0, 0), shape)
        rows = row + step * (i * np.cos(angle) - j * np.sin(angle)) + rng.normal(0, 2, i.shape)
        columns = column + step * (i * np.sin(angle) + j * np.cos(angle)) + rng.normal(0, 2, i.shape)
        for y, x in zip(rows.ravel(), columns.ravel(), strict=True):
            fleet.place(draw_fixed(rng, y, x, "turbine"), gap_px=2.0)
    for kind, rate in (("platform", 0.15), ("buoy", 0.1)):
        for _ in range(int(rng.poisson(rate * mpx))):
            fleet.place(draw_fixed(rng, *rng.uniform((0, 0), shape), kind), gap_px=2.0)
