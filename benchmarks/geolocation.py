"""How far off the geolocation of a GCP-only scene is.

    python benchmarks/geolocation.py ../shared/data/geo/s1_grd_gcps.tif

Prints JSON: the error of the spline at the control points themselves, when each is left out in turn, there and back,
and, for comparison, of the one affine that many tools fit. Where the points form a lattice, every second row and column of it is
kept, and the others are looked for by spline, thin plate, affine and polynomials. Metres on the ground.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from pyproj import Geod
from rasterio.control import GroundControlPoint
from rasterio.transform import from_gcps
from scipy.interpolate import RBFInterpolator

from xtgeo import open_scene
from xtgeo.grid import GcpGrid, lonlat_to_pixel, pixel_to_lonlat

GEOD = Geod(ellps="WGS84")


def stats(metres: np.ndarray) -> dict[str, float]:
    return {"mean_m": float(np.mean(metres)), "max_m": float(np.max(metres))}


def hold_out(grid: GcpGrid) -> dict[str, dict[str, float]]:
    """Error at the points of a lattice that are left out, when every second row and column of it is kept, and the last."""
    rows, columns = (np.unique([*range(0, n, 2), n - 1]) for n in grid.lon.shape)
    some = np.ix_(rows, columns)
    kept = GcpGrid(grid.shape, grid.rows[rows], grid.columns[columns], grid.lon[some], grid.lat[some], grid.height[some])
    left = np.ones(grid.lon.shape, bool)
    left[some] = False
    row, column, lon, lat = (v[left.ravel()] for v in grid.points[:4])
    at = np.stack([row, column], 1) / max(grid.shape)
    known = np.stack(kept.points[:2], 1) / max(grid.shape)
    turn = np.round((lon.mean() - kept.lon.ravel()) / 360) * 360  # a polynomial knows nothing of the antimeridian
    place = np.stack([kept.lon.ravel() + turn, kept.lat.ravel()], 1)
    found = {"spline": pixel_to_lonlat(kept, row, column), "thin_plate": RBFInterpolator(known, place)(at).T}
    for name, order in (("affine", 1), ("polynomial_2", 2), ("polynomial_3", 3)):
        powers = [(i, j) for i in range(order + 1) for j in range(order + 1 - i)]

        def terms(points, powers=powers):
            return np.stack([points[:, 0] ** i * points[:, 1] ** j for i, j in powers], 1)

        found[name] = (terms(at) @ np.linalg.lstsq(terms(known), place, rcond=None)[0]).T
    return {name: stats(GEOD.inv(lon, lat, *there)[2]) for name, there in found.items()}


def there_and_back(grid: GcpGrid) -> float:
    """Largest distance in pixels between a place on the scene and where it comes back to."""
    rng = np.random.default_rng(0)
    rows, columns = rng.uniform(0, grid.shape[0], 10_000), rng.uniform(0, grid.shape[1], 10_000)
    back = lonlat_to_pixel(grid, *pixel_to_lonlat(grid, rows, columns))
    return float(np.hypot(back[0] - rows, back[1] - columns).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", default=["../shared/data/geo/s1_grd_gcps.tif"])
    for href in parser.parse_args().scenes:
        scene = open_scene(href)
        row, column, lon, lat = scene.grid.points[:4]
        at = pixel_to_lonlat(scene.grid, row, column)
        affine = from_gcps([GroundControlPoint(r, c, x, y) for r, c, x, y in zip(row, column, lon, lat, strict=True)])
        print(
            json.dumps(
                {
                    "scene": scene.id,
                    "control_points": len(row),
                    "spline_at_points": stats(GEOD.inv(lon, lat, *at)[2]),
                    "spline_leave_one_out": stats(scene.grid.leave_one_out()),
                    "there_and_back_px": there_and_back(scene.grid),
                    "one_affine": stats(GEOD.inv(lon, lat, *(affine * (column, row)))[2]),
                    **({"hold_out": hold_out(scene.grid)} if scene.grid.is_regular else {}),
                }
            )
        )


if __name__ == "__main__":
    main()
