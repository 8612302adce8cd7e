"""A STAC Item beside a run: what was found where, from what, by which model, with which options (STAC 1.1).

    extension         facts
    projection 2.0    proj:code, proj:shape and proj:transform of each raster
    raster 2.0        raster:scale of its bands; data type, nodata and names are STAC's own since 1.1
    processing 1.2    processing:software with versions, processing:lineage
    mlm 1.4           the model: bands it takes with their scaling, classes it gives, options of the run
    sat 1.0           the orbit, where the scene says it

The model's asset has no address that would hold elsewhere, so its href is a name, urn:xtgeo:model:<name>:<version>, and
xtgeo:model_sha256 says of which spec and weights it was made.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import shapely

from xtgeo.detections import on_map
from xtgeo.errors import OutputError
from xtgeo.grid import Grid, grid_crs, is_georeferenced
from xtgeo.model import Spec
from xtgeo.read.remote import unsigned
from xtgeo.scene import Scene
from xtgeo.write.staged import reported, staged

EXTENSION = "https://stac-extensions.github.io/{}/schema.json"
MEDIA = {
    ".gpkg": "application/geopackage+sqlite3",
    ".geojson": "application/geo+json",
    ".fgb": "application/vnd.flatgeobuf",
    ".parquet": "application/vnd.apache.parquet",
    ".csv": "text/csv",
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".tiff": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".png": "image/png",
}
ASSETS = {
    "out": ("detections", "Objects", ["data"]),
    "mask": ("mask", "Class of each pixel", ["data"]),
    "scores": ("scores", "Probability of each pixel", ["data"]),
    "quicklook": ("quicklook", "Picture with what was found", ["overview"]),
}
"""Outputs of a run: name of the asset, title, roles."""
OPTIONS = ("threshold", "min_area_m2", "land", "land_buffer_m", "infrastructure_radius_m")
OPTIONS += ("context", "dtype", "tile_px", "config_hash")
"""Facts of a run that change what comes out."""
STRAIGHT = 1e-5
"""Corners that bend the footprint by less, in degrees, are left out: a metre."""
TASKS = {"segment": "semantic-segmentation", "detect": "object-detection"}


def check_item(scene: Scene) -> None:
    """Refuses scenes of which no Item can tell, before any work is done."""
    if scene.time is None:
        raise OutputError(
            f"a STAC Item needs the time of acquisition, and {scene.id} has none: write it into the file with "
            'gdal_edit.py -mo TIFFTAG_DATETIME="2024:05:06 07:08:09", or leave --stac out'
        )


def write_item(path: Path, item: Mapping, *, overwrite: bool = False) -> None:
    """An Item as JSON."""
    with staged(path, overwrite=overwrite) as part, reported(path):
        part.write_text(json.dumps(item, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def describe_run(
    path: Path,
    scene: Scene,
    spec: Spec,
    footprint: shapely.Geometry,
    outputs: Mapping[str, Path],
    rasters: Mapping[str, tuple[Grid, tuple[int, int], dict]],
    run: Mapping[str, object],
) -> dict:
    """The Item of one run.

    path: where it will be, from which hrefs of outputs are told. footprint: what was looked at, in pixels of the scene. rasters: of
    outputs that are rasters, grid, shape and the options of RasterSink. run: what the table `run` holds.
    """
    geometry, bbox = _place(scene, footprint)
    facts = {k: v for k, v in scene.facts.items() if k.partition(":")[0] in ("sat", "platform", "constellation")}
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            EXTENSION.format(name)
            for name in (
                "projection/v2.0.0", "raster/v2.0.0", "processing/v1.2.0", "mlm/v1.4.0",
                *(["sat/v1.0.0"] if any(k.startswith("sat:") for k in facts) else []),
            )
        ],
        "id": f"{scene.id}_{spec.name}",
        "geometry": geometry,
        **({"bbox": bbox} if bbox else {}),
        "properties": {
            "title": f"{', '.join(spec.classes)} in {scene.id}",
            **_times(scene),
            **facts,
            "bands": [{"name": band} for band in scene.bands],
            "processing:software": {"xtgeo": str(run["xtgeo"]), "PyTorch": version("torch"), "rasterio": version("rasterio")},
            "processing:lineage": f"{spec.name} {spec.version} on {scene.id} ({', '.join(scene.bands)} in {scene.units})",
            **_model(spec, run),
            "xtgeo:run": {name: _plain(value) for name, value in run.items()},
        },
        "links": [{"rel": "via", "href": _href(place, path), "title": f"Scene {scene.id}"} for place in _places(scene)],
        "assets": {ASSETS[name][0]: _asset(name, out, path, rasters.get(name)) for name, out in outputs.items() if name in ASSETS},
    }  # fmt: skip
    item["assets"]["model"] = {
        "href": f"urn:xtgeo:model:{spec.name}:{spec.version}",
        "title": f"Model {spec.name}",
        "roles": ["mlm:model"],
        "mlm:artifact_type": "safetensors.torch.save_file",
        "xtgeo:model_sha256": run["model_sha256"],
    }
    return item


def _place(scene: Scene, footprint: shapely.Geometry) -> tuple[dict | None, list[float] | None]:
    """Geometry in longitude and latitude and its box, west beyond east over the antimeridian; nothing where there is no place."""
    if not is_georeferenced(scene.grid):
        return None, None
    outline = on_map(np.array([footprint], object), scene.grid, "EPSG:4326")[0]
    outline = shapely.orient_polygons(shapely.set_precision(shapely.simplify(outline, STRAIGHT), 1e-7))
    west, south, east, north = outline.bounds
    parts = shapely.bounds(shapely.get_parts(outline))
    if west == -180 and east == 180 and (gap := _gap(parts)) is not None:
        west, east = gap
    return json.loads(shapely.to_geojson(outline)), [west, south, east, north]


def _gap(parts: np.ndarray) -> tuple[float, float] | None:
    """Where an outline that is cut at the antimeridian begins in the west and ends in the east; nothing where it goes round."""
    begin, end = parts[np.argsort(parts[:, 0])][:, [0, 2]].T
    reach = np.maximum.accumulate(end)
    gaps = begin[1:] - reach[:-1]
    if not len(gaps) or gaps.max() <= 0:
        return None
    i = int(gaps.argmax())
    return float(begin[i + 1]), float(reach[i])


def _times(scene: Scene) -> dict:
    first, middle, last = (_iso(t) for t in scene.time_at(np.array([0.5, scene.shape[0] / 2, scene.shape[0] - 0.5])))
    return {"datetime": middle, **({"start_datetime": first, "end_datetime": last} if first != last else {})}


def _iso(time: np.datetime64) -> str:
    return f"{np.datetime_as_string(time, 'ms')}Z"


def _asset(name: str, out: Path, path: Path, raster) -> dict:
    _, title, roles = ASSETS[name]
    asset = {"href": _href(out, path), "title": title, "type": MEDIA[out.suffix.lower()], "roles": roles}
    return asset if raster is None else asset | _raster(*raster)


def _raster(grid: Grid, shape: tuple[int, int], options: Mapping) -> dict:
    crs = grid_crs(grid)
    has_transform = hasattr(grid, "affine") and crs is not None
    band = {"data_type": "uint8", "nodata": options["nodata"], **({"raster:scale": options["scale"]} if "scale" in options else {})}
    return {
        "proj:code": f"EPSG:{crs.to_epsg()}" if crs is not None and crs.to_epsg() else None,
        **({"proj:wkt2": crs.to_wkt()} if crs is not None and not crs.to_epsg() else {}),
        "proj:shape": list(shape),
        **({"proj:transform": list(grid.affine[:6])} if has_transform else {}),
        "bands": [{"name": name, **band} for name in options["descriptions"]],
    }


def _model(spec: Spec, run: Mapping[str, object]) -> dict:
    """The model in the words of the MLM extension; options of the run are its hyperparameters."""
    batch = ["batch", "bands", "height", "width"]
    options = {name: _plain(value) for name, value in run.items() if name in OPTIONS and value is not None}
    return {
        # MLM's pattern: begins with a letter, at least three characters.
        "mlm:name": re.sub(r"[^\w.\- ]", "_", f"xtgeo {spec.name}", flags=re.ASCII).strip("._- "),
        "mlm:architecture": f"xT: {spec.backbone}, context {spec.context}" if spec.backbone else spec.name,
        "mlm:framework": "PyTorch",
        "mlm:framework_version": ".".join(re.findall(r"\d+", version("torch"))[:3]),
        "mlm:tasks": [TASKS[spec.task]],
        "mlm:accelerator": "cuda" if run.get("device") == "cuda" else None,
        "mlm:input": [
            {
                "name": f"pixels in {spec.units}, {spec.gsd:g} m",
                "bands": list(spec.bands),
                "input": {"shape": [-1, len(spec.bands), -1, -1], "dim_order": batch, "data_type": "float32"},
                "value_scaling": [
                    {"type": "z-score", "mean": mean, "stddev": std} for mean, std in zip(spec.mean, spec.std, strict=True)
                ],
            }
        ],
        "mlm:output": [
            {
                "name": ", ".join(spec.classes),
                "tasks": [TASKS[spec.task]],
                "result": {
                    "shape": [-1, spec.answers, -1, -1],
                    "dim_order": ["batch", "channel", "height", "width"],
                    "data_type": "float32",
                },
                "classification:classes": [],
            }
        ],
        "mlm:hyperparameters": options,
    }


def _places(scene: Scene) -> tuple[str, ...]:
    """Where the scene is: its product, file or URL, or each of several files; nowhere for what was in memory."""
    alone = os.path.exists(scene.href) or scene.href.count("://") == 1
    return (scene.href,) if alone else tuple(unsigned(file).removeprefix("/vsicurl/") for file in scene.source.files)


def _href(target: os.PathLike | str, path: Path) -> str:
    """Relative to the Item's folder; what is no file on this disk as it is."""
    text = os.fspath(target)
    if "://" in text or text.startswith("/vsi"):
        return text
    try:
        relative = Path(os.path.relpath(Path(text).absolute(), path.absolute().parent)).as_posix()
    except ValueError:  # another drive
        return Path(text).absolute().as_posix()
    return relative if relative.startswith("../") else f"./{relative}"


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
