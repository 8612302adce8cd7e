"""CFAR: a detector without weights, that asks of every pixel how rare so bright a pixel is in the sea around it.

    dB -> power -> ring: mean and order of the sea -> rarity -> what is rare is left out of the rings -> rarity -> score

The sea is K-distributed: a pixel is the product of speckle, Gamma of L looks, and of texture, Gamma of the order nu, both of
mean 1 (Ward 1981; Jakeman and Pusey 1976). Its mean and nu are estimated by moments in a square ring around the pixel:
1/nu = (V - 1/L) / (1 + 1/L) with V = variance / mean^2. A second pass leaves out what the first has found, and what is
next to it. Only measured pixels count.

The score of a pixel has the same bits however the scene is cut: nothing but +, -, *, /, the square root, rounding and tables is
applied, and IEEE 754 fixes each of these to the last bit; sums add the same pixels in the same order in every tile. exp, log and
pow would not do: torch computes them with other instructions at the end of an array than in its middle.

L: looks   r: power over the mean of the ring   q: rarity, -log10 of the probability that sea is as bright   h, w: sides in pixels
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtgeo.model.model import Model
from xtgeo.model.spec import Spec

MIDDLE = 6.0
"""Rarity whose score is 0.5: one false pixel in a million."""
CENSORED = 4.0
"""Rarity from which on a pixel is left out of other pixels' rings in the second pass."""
CENSORED_M = 30.0
"""Around such a pixel, in metres, what is left out with it: its sidelobes."""
LEAST = 0.1
"""Share of a ring that must be measured, else the pixel is not tested."""
BLUR_M = 30.0
"""What blur and sidelobes add to a bright object's length at Sentinel-1's resolution of 20 m x 22 m: in the median 29 m over 115
simulated ships, 32 m over 216 real ones (OpenSARShip)."""

LOWEST_DB, HIGHEST_DB, STEPS_PER_DB = -100.0, 120.0, 256
"""Decibels become power by a table; -100 dB, and what is below, is not measured."""
ORDER_STEPS, HIGHEST_TEXTURE = 128, 2.0
"""Rows of the table of rarities, equal steps of sqrt(1/nu), up to the 1/nu given."""
RATIO_STEPS, HIGHEST_RATIO = 256, 256.0
"""Its columns, equal steps of sqrt(r), up to the r given: what is brighter counts as that."""
MOST = 300.0
"""Rarity that is not told from a higher one."""


def build_cfar(*, gsd: float = 10.0, looks: float = 4.4, guard_m: float = 200.0, outer_m: float = 400.0) -> Model:
    """A model of task "segment", which `xtgeo.detect` takes too, for pixels of `gsd` metres.

    looks: equivalent number of the product, 4.4 for Sentinel-1 IW GRDH. The ring lies between the squares that reach `guard_m`
    and `outer_m` metres from the pixel. Scores are `rarity / (rarity + 6)`; see `score_of`.
    """
    guard = max(1, round(guard_m / gsd))
    net = Cfar(guard, max(guard + 5, round(outer_m / gsd)), max(1, round(CENSORED_M / gsd)), looks)
    bands = ("vv", "vh", "hh", "hv")
    spec = Spec(
        name="cfar",
        bands=bands,
        optional=bands,
        units="db",
        mean=(LOWEST_DB,) * len(bands),
        std=(1.0,) * len(bands),
        gsd=gsd,
        classes=("object",),
        activation="none",
        points=True,
        blur=BLUR_M,
        min_area=2.5 * gsd**2,
        span=2,
        margin=net.margin,
        stride=1,
        licence="Apache-2.0",
        provenance={"looks": looks, "guard_m": guard_m, "outer_m": outer_m, "weights": "none"},
    )
    return Model(net, spec).eval()


def score_of(pfa: float) -> float:
    """The threshold on scores for a false-alarm rate per pixel: 0.5 for 1e-6, 0.538 for 1e-7."""
    rarity = -np.log10(pfa)
    return float(rarity / (rarity + MIDDLE))


def pfa_of(score: float) -> float:
    """The false-alarm rate per pixel for a threshold on scores: the inverse of `score_of`."""
    return float(10 ** (-MIDDLE * score / (1 - score)))


class Cfar(nn.Module):
    """(b, c, h, w) decibels over -100, 0 where not measured -> (b, 1, h, w) scores in 0..1.

    The outermost `margin` pixels are not answered. A band without any measured pixel is as if it were not there.
    """

    def __init__(self, guard: int, outer: int, around: int, looks: float):
        """guard, outer: the ring, in pixels from the one in its middle; around: what is left out beside bright pixels."""
        super().__init__()
        self.guard, self.outer, self.around, self.looks = guard, outer, around, looks
        self.margin = 2 * outer + around
        self.least = LEAST * ((2 * outer + 1) ** 2 - (2 * guard + 1) ** 2)
        db = LOWEST_DB + np.arange((HIGHEST_DB - LOWEST_DB) * STEPS_PER_DB + 1) / STEPS_PER_DB
        power = 10 ** (db / 10) * (db > LOWEST_DB)
        self.register_buffer("power", torch.tensor(power, dtype=torch.float32))
        self.register_buffer("rarities", torch.tensor(rarity_table(looks), dtype=torch.float32).flatten())
        self.register_buffer("shared", torch.tensor([0, *np.log10(range(1, 9))], dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(torch.stack([self.scores(image) for image in x]), (self.margin,) * 4)

    def scores(self, image: Tensor) -> Tensor:
        """(c, h, w) -> (1, h - 2 m, w - 2 m): the rarest band counts; n bands are n chances, so it must be n times as rare."""
        inner = self._cut(image[0], self.margin)
        most, tested = torch.zeros_like(inner), torch.zeros_like(inner, dtype=torch.int32)
        for band in image:
            if band.is_meta or band.any():
                rarity, enough = self.rarity(band)
                most, tested = torch.maximum(most, rarity), tested + enough
        rarity = (most - _take(self.shared, tested)).clamp_(min=0)
        return (rarity / (rarity + MIDDLE))[None]

    def rarity(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(h, w) -> rarity (h - 2 m, w - 2 m) and which pixels were tested: two passes."""
        steps = (x * STEPS_PER_DB).round_().clamp_(0, len(self.power) - 1).to(torch.int32)
        power, used = _take(self.power, steps), (steps > 0).float()
        first, tested = self._pass(power, used)
        bright = sums(sums(((first >= CENSORED) & tested).float(), 2 * self.around + 1, -1), 2 * self.around + 1, -2)
        edge = self.outer + self.around
        return self._pass(self._cut(power, edge), self._cut(used, edge) * (bright == 0))

    def _pass(self, power: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
        """Rarity of each pixel in the ring of those that are used, and whether there were enough of them."""
        seen = power * used
        n, total, squares = (ring(x, self.guard, self.outer) for x in (used, seen, seen * power))
        power, enough = self._cut(power, self.outer), n >= self.least
        # Where nothing is used, any number will do.
        n, total = n.clamp_(min=1), total.clamp_(min=1e-12)
        texture = ((squares * n / total / total - (1 + 1 / self.looks)) / (1 + 1 / self.looks)).clamp_(0, HIGHEST_TEXTURE)
        ratio = (power * n / total).clamp_(max=HIGHEST_RATIO)
        rarity = self._look_up(texture.sqrt_(), ratio.sqrt_())
        return rarity.mul_(enough), enough & (power > 0)

    def _look_up(self, texture: Tensor, ratio: Tensor) -> Tensor:
        """Rarity by sqrt(1/nu) and sqrt(r), linear between the entries of the table."""
        y, x = texture * (ORDER_STEPS / HIGHEST_TEXTURE**0.5), ratio * (RATIO_STEPS / HIGHEST_RATIO**0.5)
        row, column = (v.floor().clamp_(max=steps - 1) for v, steps in ((y, ORDER_STEPS), (x, RATIO_STEPS)))
        at = (row * (RATIO_STEPS + 1) + column).to(torch.int32)
        y, x = y.sub_(row), x.sub_(column)
        corners = (_take(self.rarities, at + step) for step in (0, 1, RATIO_STEPS + 1, RATIO_STEPS + 2))
        upper, lower = (left + (right - left) * x for left, right in zip(corners, corners, strict=True))
        return upper + (lower - upper) * y

    @staticmethod
    def _cut(x: Tensor, n: int) -> Tensor:
        return x[..., n : x.shape[-2] - n, n : x.shape[-1] - n]


def sums(x: Tensor, n: int, dim: int) -> Tensor:
    """Sums of n neighbours along a dimension, which becomes n - 1 shorter: about 2 log2(n) additions for each.

    Every sum adds its numbers in one order, wherever the array begins; differences of running sums would not.
    """
    length, begin, size, total = x.shape[dim] - n + 1, 0, 1, None
    while True:
        if n & size:
            part = x.narrow(dim, begin, length)
            total, begin = part if total is None else total + part, begin + size
        if 2 * size > n:
            return total
        pairs = x.shape[dim] - size
        x, size = x.narrow(dim, 0, pairs) + x.narrow(dim, size, pairs), 2 * size


def ring(x: Tensor, guard: int, outer: int) -> Tensor:
    """(..., h, w) -> (..., h - 2 outer, w - 2 outer): sums over a square ring, of which nothing is ever subtracted.

        +-----------------+   -outer
        |      above      |
        +-----+-----+-----+   -guard
        |left |     |right|
        +-----+-----+-----+   guard
        |      below      |
        +-----------------+   outer
    """
    broad, h, w = outer - guard, x.shape[-2] - 2 * outer, x.shape[-1] - 2 * outer
    bars = sums(sums(x, 2 * outer + 1, -1), broad, -2)
    sides = sums(sums(x, broad, -1), 2 * guard + 1, -2)[..., broad : broad + h, :]
    second = outer + guard + 1
    return (bars[..., :h, :] + bars[..., second:, :]) + (sides[..., :w] + sides[..., second:])


def _take(table: Tensor, index: Tensor) -> Tensor:
    return table.index_select(0, index.flatten()).view(index.shape)


@cache
def rarity_table(looks: float) -> np.ndarray:
    """Rarities by sqrt(1/nu) and sqrt(r), float64 (orders, ratios)."""
    ratio = np.linspace(0, HIGHEST_RATIO**0.5, RATIO_STEPS + 1) ** 2
    texture = np.linspace(0, HIGHEST_TEXTURE**0.5, ORDER_STEPS + 1) ** 2
    return np.stack([rarity(ratio, looks=looks, texture=float(t)) for t in texture])


def rarity(ratio: np.ndarray, *, looks: float, texture: float) -> np.ndarray:
    """-log10 of the probability that K-distributed power exceeds `ratio` times its mean; `texture` is 1/nu, 0 without any.

    The probability is the mean, over the texture t, of that of speckle: of Q(L, L r / t), Q the regularised upper incomplete Gamma
    function. The integrand in log t is smooth and falls off on both sides, so equal steps converge exponentially.
    """
    from scipy.special import gammaincc, gammaln, logsumexp

    with np.errstate(divide="ignore"):
        if texture == 0:
            return np.minimum(-np.log10(gammaincc(looks, looks * ratio)), MOST)
        nu, r = 1 / texture, np.maximum(ratio, 1e-12)[:, None]
        # About where the integrand is highest, and how wide it is there.
        t = (1 + np.sqrt(1 + 4 * looks * r / nu)) / 2
        width = 1 / np.sqrt(nu * t + looks * r / t)
        u = np.log(t) + width * np.arange(-30, 12)
        log_p = logsumexp(
            nu * np.log(nu) + nu * u - nu * np.exp(u) - gammaln(nu) + np.log(gammaincc(looks, looks * r * np.exp(-u))), axis=1
        )
        return np.clip(-(log_p + np.log(width[:, 0])) / np.log(10), 0, MOST)
