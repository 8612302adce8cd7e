"""A model of your own from scenes and outlines. See notebooks/04_train_your_own.ipynb and docs/training.md.

    python examples/train_own.py "scenes/*.tif" "scenes/*.gpkg" own.safetensors [--steps 2000] [--side 512] [--class-column kind]
"""

import argparse

from xtgeo.train.prepare import prepare
from xtgeo.train.run import Recipe, train_scenes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes")
    parser.add_argument("labels")
    parser.add_argument("out")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--side", type=int, default=512, help="Of a crop and of a region, in pixels; a multiple of 16.")
    parser.add_argument("--class-column")
    args = parser.parse_args()
    model, learnt, judged = prepare(
        [args.scenes], [args.labels], column=args.class_column, backbone="mobilenetv4_conv_small", region=args.side
    )
    recipe = Recipe(steps=args.steps, batch=4, side=args.side, every=max(1, args.steps // 10))
    path, figures = train_scenes(model, learnt, judged, recipe, out=args.out, progress=True)
    f1, threshold, n = (figures[key] for key in ("f1", "threshold", "objects"))
    print(f"{path}: F1 {f1:.3f} at threshold {threshold:.2f}, on {n} objects that were held out")


if __name__ == "__main__":
    main()
