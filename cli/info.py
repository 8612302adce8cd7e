"""xtgeo info: what a scene is, and which models fit it."""

from __future__ import annotations

import json as json_
import math
from typing import Annotated

import typer
from xtgeo.cli.options import (
    BandsOption,
    CloudsOption,
    NodataOption,
    NoiseOption,
    SceneArgument,
    TrustedOption,
    UnitsOption,
    open_source,
)


def info(
    scene: SceneArgument,
    bands: BandsOption = None,
    units: UnitsOption = None,
    nodata: NodataOption = None,
    noise: NoiseOption = "snap",
    clouds: CloudsOption = "keep",
    trusted: TrustedOption = False,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Say what a scene is: size, bands, place, pixel size, units, valid share, time, models that fit.

        xtgeo info scene.tif
    """
    source = open_source(scene, bands, units, nodata, noise, clouds, trusted)
    facts = describe(source)
    if json:
        print(json_.dumps(facts))
        return
    h, w = facts["shape"]
    size = facts["pixel_size_m"]
    print(f"{facts['id']}  {facts['href']}")
    print(f"  size        {w} x {h} px, {w * h / 1e6:.1f} Mpx")
    print(f"  bands       {', '.join(facts['bands'])}")
    print(f"  place       {facts['place']}")
    if facts["bounds"]:
        print("  bounds      {:.5f} {:.5f} {:.5f} {:.5f}  (west south east north)".format(*facts["bounds"]))
    print("  pixel size  " + (f"{size[1]:.2f} x {size[0]:.2f} m on the ground (x, y)" if size else "unknown"))
    print(f"  units       {facts['units']} ({facts['units_meaning']})")
    print(f"  valid       {facts['valid_share']:.0%}")
    print(f"  time        {facts['time'] or 'unknown'}")
    for label, (name, value) in zip(["facts"] + [""] * len(facts["facts"]), facts["facts"].items(), strict=False):
        print(f"  {label:<11} {name} {value}")
    print(f"  models      {', '.join(facts['models']) or 'none fits'}")
    for name, reasons in facts["misfits"].items():
        print(f"              not {name}: {'; '.join(reasons)}")


def describe(scene) -> dict:
    """The facts as plain values."""
    from xtgeo.choose import fitting_models, misfits
    from xtgeo.grid import GcpGrid, grid_crs, lonlat_bounds, pixel_size_m
    from xtgeo.model import bundled, load_spec
    from xtgeo.scene import UNITS

    h, w = scene.shape
    crs, size = grid_crs(scene.grid), pixel_size_m(scene.grid)
    if isinstance(scene.grid, GcpGrid):
        place = f"{len(scene.grid.points[0])} ground control points, radar geometry"
    elif crs is None:
        place = "none: no CRS and no ground control points"
    else:
        place = f"EPSG:{crs.to_epsg()}" if crs.to_epsg() else crs.to_wkt().split('"')[1]
    bounds = [round(v, 6) for v in lonlat_bounds(scene.grid)] if scene.is_georeferenced else None
    fitting = fitting_models(scene)
    return {
        "id": scene.id,
        "href": str(scene.href),
        "shape": [h, w],
        "bands": list(scene.bands),
        "place": place,
        "crs": None if crs is None else crs.to_wkt(),
        "bounds": bounds,
        "pixel_size_m": None if math.isnan(max(size)) else [round(float(s), 4) for s in size],
        "units": scene.units,
        "units_meaning": UNITS[scene.units],
        "valid_share": round(scene.valid_share(), 4),
        "time": scene.time.isoformat() if scene.time else None,
        "facts": dict(scene.facts),
        "models": fitting,
        "misfits": {name: misfits(scene, load_spec(name)) for name in bundled() if name not in fitting},
    }
