"""How far off the geolocation of a GCP-only scene is.

    python benchmarks/geolocation.py ../shared/data/geo/s1_grd_gcps.tif

Prints JSON: the error of the spline at the control points themselves, when each is left out in turn, there and back,
and, for comparison, of the one affine that many tools fit. Metres on the ground.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from pyproj import Geod
from rasterio.control import GroundControlPoint
from rasterio.transform import from_gcps

from xtgeo import open_scene
from xtgeo.grid import lonlat_to_pixel, pixel_to_lonlat

GEOD = Geod(ellps="WGS84")


def stats(metres: np.ndarray) -> dict[str, float]:
    return {"mean_m": float(np.mean(metres)), "max_m": float(np.max(metres))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", default=["../shared/data/geo/s1_grd_gcps.tif"])
    for href in parser.parse_args().scenes:
        scene = open_scene(href)
        row, column, lon, lat = scene.grid.points[:4]
        at = pixel_to_lonlat(scene.grid, row, column)
        affine = from_gcps([GroundControlPoint(r, c, x, y) for r, c, x, y in zip(row, column, lon, lat, strict=True)])
        rng = np.random.default_rng(0)
        rows, columns = rng.uniform(0, scene.shape[0], 1000), rng.uniform(0, scene.shape[1], 1000)
        back = lonlat_to_pixel(scene.grid, *pixel_to_lonlat(scene.grid, rows, columns))
        print(
            json.dumps(
                {
                    "scene": scene.id,
                    "control_points": len(row),
                    "spline_at_points": stats(GEOD.inv(lon, lat, *at)[2]),
                    "spline_leave_one_out": stats(scene.grid.leave_one_out()),
                    "there_and_back_px": float(np.hypot(back[0] - rows, back[1] - columns).max()),
                    "one_affine": stats(GEOD.inv(lon, lat, *(affine * (column, row)))[2]),
                }
            )
        )


if __name__ == "__main__":
    main()
