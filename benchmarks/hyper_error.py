"""How far HyperAttention is from exact attention.

    python benchmarks/hyper_error.py [--lengths 1024 2048 4096 8192 16384]

Prints one JSON object: relative error (Frobenius) with the default parameters by the number of tokens, as the mean over seeds;
0 is perfect, and an answer of zeros would score 1. Queries, keys and values are

    gaussian                 without structure, the worst case: no hash can tell which keys matter
    clustered                queries and keys in 64 directions: a query looks at its own cluster and at little else
    clustered, values too    what it looks at has something in common as well

In the first two exact attention averages the values nearly away: what an estimate does not average counts in full.
"""

from __future__ import annotations

import argparse
import json
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from xtgeo.model.context.hyper import hyper_attention

HEADS, WIDTH, CLUSTERS = 2, 32, 64


def gaussian(n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """q, k, v (1, v, n, e) of unit variance."""
    return torch.randn(3, 1, HEADS, n, WIDTH, generator=generator).unbind()


def clustered(n: int, generator: torch.Generator, *, common: float) -> tuple[Tensor, ...]:
    """q, k, v (1, v, n, e): q and k with a spread of a tenth of their length; of v each cluster has `common` in common."""
    q, k, v = gaussian(n, generator)
    directions, contents = torch.randn(2, CLUSTERS, WIDTH, generator=generator)
    mine, theirs = torch.randint(CLUSTERS, (2, 1, HEADS, n), generator=generator)
    return 1.5 * (directions[mine] + 0.1 * q), 1.5 * (directions[theirs] + 0.1 * k), common * contents[theirs] + v


CASES = {
    "gaussian": gaussian,
    "clustered": partial(clustered, common=0.0),
    "clustered, values too": partial(clustered, common=1.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--seeds", type=int, default=3, help="Draws of planes and samples for each length.")
    args = parser.parse_args()
    report: dict[str, dict[int, float]] = {name: {} for name in CASES}
    for name, draw in CASES.items():
        for n in args.lengths:
            q, k, v = draw(n, torch.Generator().manual_seed(n))
            truth, seen = F.scaled_dot_product_attention(q, k, v), torch.ones(1, n, dtype=torch.bool)
            told = [hyper_attention(q, k, v, seen, min_seq_len=0, seed=seed) for seed in range(args.seeds)]
            report[name][n] = round(sum(float((a - truth).norm() / truth.norm()) for a in told) / len(told), 3)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
