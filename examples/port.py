"""How good a model is in a real port, with bounds, and what it missed. See notebooks/02_a_port_and_how_good_it_is.ipynb.

    python examples/port.py valencia.tif valencia_vessels.gpkg FOLDER
"""

import argparse
from pathlib import Path

import xtgeo
from xtgeo.evaluate.compare import compare, default_rule
from xtgeo.evaluate.figures import report
from xtgeo.evaluate.objects import read_objects
from xtgeo.evaluate.pictures import write_misses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)

    scene, out = xtgeo.open_scene(args.scene), args.folder / f"{args.scene.stem}.gpkg"
    print(xtgeo.segment(scene, xtgeo.load_model("vessels-s2"), out=out, overwrite=True).summary)
    found, true = read_objects([out], [args.labels])
    outcome = compare(found, true, default_rule(found, true))
    print(report(outcome))
    write_misses(args.folder / "misses.png", outcome, {args.scene.stem: scene}, overwrite=True)


if __name__ == "__main__":
    main()
