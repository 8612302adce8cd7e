"""From nothing to vessels on a picture: simulate a Sentinel-1 scene, segment it, see how many ships were found.

    python examples/demo.py demo
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import geopandas as gpd

from xtgeo.evaluate import match_objects


def xtgeo(*words: str | Path) -> None:
    """Runs a command as a user would, and shows it."""
    print("$ xtgeo", *words, flush=True)
    subprocess.run([sys.executable, "-m", "xtgeo.cli", *map(str, words)], check=True)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    folder.mkdir(parents=True, exist_ok=True)
    scene, vessels, picture = folder / "scene.tif", folder / "vessels.gpkg", folder / "vessels.png"
    xtgeo("simulate", "sentinel1", scene, "--shape", "4096", "4096", "--seed", "1", "--overwrite")
    xtgeo("segment", scene, "--out", vessels, "--quicklook", picture, "--overwrite")
    found, truth = gpd.read_file(vessels, layer="detections"), gpd.read_file(folder / "scene_truth.gpkg")
    match = match_objects(found.geometry.values, truth.geometry.values)
    bright = truth["detectable"].to_numpy(bool)
    hit = bright[match.pairs[:, 1]].sum()
    print(
        f"found {hit} of {bright.sum()} ships that stand out from the sea (of {match.true} in all, {len(match.pairs)} found); "
        f"{match.found - len(match.pairs)} of {match.found} outlines are false. See {vessels} and {picture}"
    )


if __name__ == "__main__":
    main()
