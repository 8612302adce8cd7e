"""Vessels of a simulated scene in three lines, as a picture and as a sheet of chips. See notebooks/01_first_vessels.ipynb.

    python examples/first_vessels.py FOLDER [--side 1024]
"""

import argparse
from pathlib import Path

import xtgeo
from xtgeo.simulate import sentinel1, write_scene


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=1024)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    write_scene(sentinel1((args.side, args.side), seed=1, density=8), args.folder / "scene.tif", overwrite=True)

    scene = xtgeo.open_scene(args.folder / "scene.tif")
    result = xtgeo.segment(scene, xtgeo.load_model("vessels-sar"), out=args.folder / "vessels.gpkg", overwrite=True)
    print(result.summary)

    result.detections.plot(scene, by="score").figure.savefig(args.folder / "vessels.png", dpi=150)
    result.detections.chips(scene).save(args.folder / "chips.png")


if __name__ == "__main__":
    main()
