"""Folders in xView3's layout, from pixels to the official metric. See notebooks/03_xview3.ipynb and examples/xview3/recipe.sh.

    python examples/xview3.py DATA          the scenes in DATA, its labels.csv and its shoreline/; simulated if there is none
"""

import argparse
from functools import partial
from pathlib import Path

import xtgeo
from xtgeo.evaluate.xview3 import Rules, score
from xtgeo.evaluate.xview3_files import read_labels, read_predictions, read_shoreline
from xtgeo.simulate import sentinel1, write_xview3
from xtgeo.xview3 import predict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--side", type=int, default=1500, help="Of simulated scenes, in pixels.")
    args = parser.parse_args()
    if not args.data.exists():
        for seed in (40, 41):
            write_xview3(sentinel1((args.side, args.side), seed=seed, density=8), args.data)
    ids = sorted(path.name for path in args.data.iterdir() if (path / "VV_dB.tif").exists())
    predict(args.data, ids, args.data / "predictions.csv", xtgeo.load_model("points-sar"), overwrite=True, report=print)
    predictions, labels = read_predictions([args.data / "predictions.csv"]), read_labels([args.data / "labels.csv"])
    for mode in ("reference", "strict"):
        print(score(predictions, labels, shore=partial(read_shoreline, folder=args.data / "shoreline"), rules=Rules(mode)))


if __name__ == "__main__":
    main()
