"""segment() and detect(): the whole job, from a scene to files that other tools open.

    predict -> decode -> journal            tile by tile, may be killed at any moment
    journal -> merge -> describe -> sinks   once, in the order of the tiles
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial, wraps
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow
import shapely

from xtgeo.backscatter import backscatter, has_backscatter
from xtgeo.choose import LARGEST_RATIO, adapt
from xtgeo.decode import SCORE_SCALE, Fragments, fragments, labels, quantise
from xtgeo.detections import Detections, Origin, describe
from xtgeo.engine import Engine, pick_device
from xtgeo.errors import ModelError, OutputError, SceneError, XtgeoError
from xtgeo.extent import measured_lengths
from xtgeo.grid import pixel_size_m
from xtgeo.infer import Plan, plan, predict
from xtgeo.item import check_item, describe_run, write_item
from xtgeo.journal import DamagedJournal, Journal, is_placed
from xtgeo.masks import Masks, Overlay
from xtgeo.merge import merge
from xtgeo.model import Model, Spec
from xtgeo.outline import NODATA
from xtgeo.peaks import Peaks, find_peaks, merge_peaks, outline_peaks
from xtgeo.points import describe_points
from xtgeo.read.area import pixels_inside, read_area
from xtgeo.read.holes import with_holes
from xtgeo.scene import Block, Scene
from xtgeo.window import Nest, Window
from xtgeo.write import (
    FORMATS,
    PICTURES,
    RasterSink,
    VectorSink,
    check_crs,
    check_target,
    quicklook,
    together,
    write_picture,
)
from xtgeo.write.dataset import check_dataset, crs_of_dataset
from xtgeo.write.warp import plan_warp

if TYPE_CHECKING:
    from distributed import Client

    from xtgeo.cluster import Cluster

COLOURS = ((8, 24, 48), (255, 210, 0), (255, 90, 60), (80, 200, 120), (120, 160, 255), (230, 120, 230), (200, 200, 200))
"""Of a mask: what is nothing, and the first classes."""
CELL_PX = 64
"""How exactly the outline of what was looked at is known, in pixels."""
FACTS = {
    "product_id": "product_id",
    "platform": "platform",
    "orbit_direction": "sat:orbit_state",
    "relative_orbit": "sat:relative_orbit",
}
"""Fields of objects, and what `Scene.facts` calls them."""
SUFFIXES = {"out": FORMATS, "mask": (".tif", ".tiff"), "scores": (".tif", ".tiff"), "quicklook": PICTURES, "stac": (".json",)}

MASKS = Masks()
ON_ERROR = "fail", "mask"
Call = Callable[..., Any]
"""Calls a function with arguments where pixels are read: here, or on a worker."""


@dataclass(frozen=True)
class Summary:
    """What a run did; plain values."""

    scene: str
    model: str
    model_version: str
    objects: int
    megapixels: float
    """Of the scene."""
    seconds: float
    """Of this run; after a resume only of the rest."""
    mpx_per_s: float
    """Computed in this run, over the seconds."""
    tiles: int
    tiles_resumed: int
    """Tiles that an earlier, interrupted run had finished."""
    engine: dict
    tile_px: int
    computed_per_pixel: float
    threshold: float
    context: str
    """How far it reached: tile or scene."""
    outputs: dict[str, str] = field(default_factory=dict)
    warp: str = ""
    """With `warp`: how far GDAL's thin plate is from the control points' own surface."""
    note: str | None = None
    """What the user should know of what was not done, in one line."""
    unreadable: list[dict] = field(default_factory=list)
    """With `on_error` "mask", tiles that could not be read: y, x, h, w in pixels of the scene, and the reason."""

    def __str__(self) -> str:
        objects = f"{self.objects} object{'s' * (self.objects != 1)}"
        rest = f", {self.tiles_resumed} of {self.tiles} tiles from an earlier run" if self.tiles_resumed else ""
        return (
            f"{self.scene}: {objects} by {self.model} in {self.seconds:.1f} s "
            f"({self.mpx_per_s:.1f} Mpx/s{rest}): {', '.join(self.outputs.values()) or 'nothing written'}"
            f"{f'; {self.warp}' if self.warp else ''}"
        )


@dataclass(frozen=True)
class Result:
    """The objects of a scene and how they were found."""

    detections: Detections
    summary: Summary


def segment(
    scene: Scene,
    model: Model,
    *,
    out: os.PathLike | str | None = None,
    mask: os.PathLike | str | None = None,
    scores: os.PathLike | str | None = None,
    quicklook: os.PathLike | str | None = None,
    stac: os.PathLike | str | None = None,
    warp: str | None = None,
    threshold: float | None = None,
    min_area: float | None = None,
    aoi: os.PathLike | str | None = None,
    masks: Masks = MASKS,
    crs: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    max_memory: int | None = None,
    context: str = "tile",
    like: Plan | None = None,
    client: Client | None = None,
    on_error: str = "fail",
    overwrite: bool = False,
    append: bool = False,
    allow_ungeoreferenced: bool = False,
    progress: Callable[[int, int, int], None] | None = None,
) -> Result:
    """Every object of the scene, whole and once, and the files that were asked for.

    `out` takes outlines (.gpkg, .geojson, .fgb, .parquet, .csv), `mask` class labels and `scores` probabilities as
    COGs on the scene's grid or, with `warp`, on a map in that CRS, `quicklook` a picture (.png, .jpg), `stac` a STAC Item (.json).
    `threshold` is the probability that counts and `min_area` the smallest
    object in square metres (None: the model's), `crs` that of the outlines (None: the scene's, EPSG:4326 for GCPs),
    `max_memory` in bytes for the whole process. `context` "scene" lets all regions of the scene exchange information,
    not those of a tile alone, in two passes. `like`: tiles and number format are those of this plan, so that many scenes are
    computed alike; device, dtype and max_memory then count no more. `client`: a dask.distributed Client whose workers compute the
    tiles; max_memory is then the limit of each. `on_error`: a tile whose pixels cannot be read ends the run ("fail"), or is nodata
    in every output and told of in the table `run` and in the summary ("mask"). `progress(tiles done, tiles in all, pixels done
    now)` is called after each tile of each pass.

    Only tiles that meet the polygons of `aoi` are looked at, and what is centred in them is kept; `masks` says what is done about
    land and known works, which changes outlines and points, not `mask` and `scores`.

    `append` adds the outlines to a dataset of many scenes: a .gpkg, or a folder named .parquet with a file for each scene, in
    EPSG:4326 unless `crs` says otherwise when it is begun. A scene that is there is refused, or replaced with `overwrite`.

    While it runs, finished tiles are kept in `.<output>.journal` beside the first output; after an interruption the
    same call continues there and gives the same bytes. Outputs appear under their names only when complete.

    Raises the children of XtgeoError: the scene does not fit the model, an output exists, memory does not suffice.
    """
    scene, spec = _ready(scene, model, "segment", allow_ungeoreferenced, on_error), model.spec
    threshold = spec.threshold if threshold is None else threshold
    if min_area is None:
        min_area = spec.min_area if scene.is_georeferenced else 0.0
    area, overlay = None if aoi is None else read_area(aoi, scene), masks.over(scene)
    paths = {"out": out, "mask": mask, "scores": scores, "quicklook": quicklook, "stac": stac}
    targets = _targets(scene, [aoi, *masks.files], crs, overwrite, append, **paths)

    decode = partial(_decode, threshold=threshold, area=area, wanted=frozenset(targets))

    def objects(scene: Scene, journal: Journal, origin: Origin, call: Call) -> Detections:
        whole = merge(Fragments.from_bytes(packed) for _, packed in journal.get("fragments"))
        detections = describe(whole, scene.grid, shape=scene.shape, classes=spec.classes, origin=origin)
        if area is not None:
            detections = detections.within(area)
        return detections.larger_than(min_area) if min_area else detections

    return _run(
        scene, model, targets, decode, objects, area=area, overlay=overlay, crs=crs, threshold=threshold,
        options={"min_area": min_area},
        device=device, dtype=dtype, max_memory=max_memory, context=context, like=like, client=client, on_error=on_error,
        overwrite=overwrite, append=append, progress=progress, warp=warp,
    )  # fmt: skip


def detect(
    scene: Scene,
    model: Model,
    *,
    out: os.PathLike | str | None = None,
    quicklook: os.PathLike | str | None = None,
    stac: os.PathLike | str | None = None,
    threshold: float | None = None,
    aoi: os.PathLike | str | None = None,
    masks: Masks = MASKS,
    crs: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    max_memory: int | None = None,
    context: str = "tile",
    like: Plan | None = None,
    client: Client | None = None,
    on_error: str = "fail",
    overwrite: bool = False,
    append: bool = False,
    allow_ungeoreferenced: bool = False,
    progress: Callable[[int, int, int], None] | None = None,
) -> Result:
    """Every object of the scene as one point with its attributes, by a model of task "detect", or one whose outlines are points.

    Arguments, interruption and errors as in `segment`; the fields are those of `xtgeo.points`. Of points closer than the
    model's `separation` the one with the higher score stays, also across tiles.
    """
    spec, task = model.spec, "segment" if model.spec.points else "detect"
    scene = _ready(scene, model, task, allow_ungeoreferenced, on_error)
    threshold = spec.threshold if threshold is None else threshold
    area, overlay = None if aoi is None else read_area(aoi, scene), masks.over(scene)
    targets = _targets(scene, [aoi, *masks.files], crs, overwrite, append, out=out, quicklook=quicklook, stac=stac)
    radius = round(spec.separation / spec.gsd / model.cell_px)

    decode = partial(_peaks, threshold=threshold, radius=radius, stride=model.cell_px)
    if spec.points:
        decode = partial(_decode, threshold=threshold, area=area, wanted=frozenset(targets))

    def objects(scene: Scene, journal: Journal, origin: Origin, call: Call) -> Detections:
        parts = [_outlines(journal, spec)] if spec.points else (Peaks.from_bytes(p) for _, p in journal.get("peaks"))
        whole = merge_peaks(parts, radius=radius)
        sigma0 = contrast = np.full((len(scene.bands), len(whole)), np.nan)
        if has_backscatter(scene):
            sigma0, contrast = call(backscatter, scene, whole.row, whole.column)
        measured, pixel_m = np.full(len(whole), np.nan), pixel_size_m(scene.grid)
        fits = all(1 / LARGEST_RATIO <= side / spec.gsd <= LARGEST_RATIO for side in pixel_m)
        if spec.measures and fits and has_backscatter(scene):
            measured = call(measured_lengths, scene, whole.row, whole.column, pixel_m)
        detections = describe_points(
            whole,
            scene.grid,
            shape=scene.shape,
            gsd=spec.gsd,
            sigma0_db=dict(zip((band.lower() for band in scene.bands), sigma0, strict=True)),
            contrast_db=contrast.max(0),
            measured_m=measured,
            origin=origin,
        )
        return detections if area is None else detections.within(area)

    return _run(
        scene, model, targets, decode, objects, area=area, overlay=overlay, crs=crs, threshold=threshold, options={},
        device=device, dtype=dtype, max_memory=max_memory, context=context, like=like, client=client, on_error=on_error,
        overwrite=overwrite, append=append, progress=progress,
    )  # fmt: skip


def _outlines(journal: Journal, spec: Spec) -> Peaks:
    """The middle of every whole outline that is large enough."""
    whole = merge(Fragments.from_bytes(packed) for _, packed in journal.get("fragments"))
    whole = whole[whole.pixels * spec.gsd**2 >= spec.min_area]
    return outline_peaks(whole.geometry, whole.score_max, gsd=spec.gsd, blur=spec.blur)


def _ready(scene: Scene, model: Model, task: str, allow_ungeoreferenced: bool, on_error: str) -> Scene:
    """The scene as the model reads it; refused where the model is for something else, or the scene has no place."""
    spec = model.spec
    if spec.task != task:
        other = "load_model(...).net(images)" if spec.task == "boxes" else f"xtgeo.{spec.task}"
        raise ModelError(f"{spec.name} is a model of task {spec.task}, not {task}: use {other}, or another model")
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error is {on_error!r}: choose {' or '.join(ON_ERROR)}")
    # Samples are read on the way, which may be what cannot be read.
    source = scene.source
    scene = replace(adapt(with_holes(scene) if on_error == "mask" else scene, spec), source=source)
    if not scene.is_georeferenced and not allow_ungeoreferenced:
        raise SceneError(
            f"{scene.id} has neither a CRS with a geotransform nor ground control points, so results have no place on the "
            "earth; use --allow-ungeoreferenced for outlines in the file's own coordinates"
        )
    return scene


def _targets(scene: Scene, beside: list, crs: str | None, overwrite: bool, append: bool, **paths) -> dict[str, Path]:
    """The outputs that were asked for, by name; refused where one cannot be written, before any work is done."""
    targets = {name: Path(path) for name, path in paths.items() if path is not None}
    overwrite = overwrite or is_placed(_beside(scene, targets, append), targets.values())
    if crs is not None:
        check_crs(crs)
        if not scene.is_georeferenced:
            raise OutputError(f"{scene.id} has no place on the earth, outlines cannot be put into {crs}; leave --crs out")
    if append and "out" in targets:
        if not scene.is_georeferenced:
            raise OutputError(f"{scene.id} has no place on the earth and cannot stand beside other scenes; leave --append out")
        check_dataset(targets["out"], scene.id, overwrite=overwrite)
        crs_of_dataset(targets["out"], crs)
    alone = {name: path for name, path in targets.items() if not (append and name == "out")}
    _check_targets(alone, [*scene.source.files, *(path for path in beside if path is not None)], overwrite=overwrite)
    return targets


def _origin(scene: Scene, spec: Spec, config: dict) -> Origin:
    """What every object of a run says alike."""
    told = {name: scene.facts.get(key) for name, key in FACTS.items()}
    return Origin(scene.id, spec.name, spec.version, config["threshold"], digest(config), scene.time_at, **told)


def digest(plain: object) -> str:
    """Sixteen hexadecimal digits that change with any of these plain values."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _beside(scene: Scene, targets: dict[str, Path], append: bool) -> Path | None:
    """Where the journal of a run lies: beside its first output."""
    first = next((path for name, path in targets.items() if name != "quicklook"), None)
    if first is None:
        return None
    # Several scenes may be on their way into one dataset.
    who = f"{first.name}.{scene.id}" if append and first == targets.get("out") else first.name
    return first.with_name(f".{who}.journal")


def _again(run: Callable[..., Result]) -> Callable[..., Result]:
    """Once more where the journal turns out to be damaged when it is read: opened again, it is set aside."""

    @wraps(run)
    def attempt(*arguments, **options) -> Result:
        try:
            return run(*arguments, **options)
        except DamagedJournal:
            return run(*arguments, **options)

    return attempt


@_again
def _run(
    scene: Scene,
    model: Model,
    targets: dict[str, Path],
    decode: Callable[[Block], dict[str, bytes]],
    objects: Callable[[Scene, Journal, Origin, Call], Detections],
    *,
    area: shapely.Geometry | None,
    overlay: Overlay,
    crs: str | None,
    threshold: float,
    options: dict,
    device: str,
    dtype: str,
    max_memory: int | None,
    context: str,
    like: Plan | None,
    client: Client | None,
    on_error: str,
    overwrite: bool,
    append: bool,
    progress: Callable[[int, int, int], None] | None,
    warp: str | None = None,
) -> Result:
    """The work that all tasks share: `decode` says what is kept of a tile's answer, `objects` what it is together."""
    start, spec = time.monotonic(), model.spec
    if on_error == "mask" and context == "scene":
        raise SceneError(
            "with --context scene every tile is told of every other, also of one that cannot be read: leave --on-error mask "
            "or --context scene out"
        )
    known, cluster, call = fingerprint(model), None, _call
    if client is None:
        pick_device(device)
    else:
        from xtgeo.cluster import Cluster  # distributed takes a second to import

        cluster = Cluster.of(client, model, known)
        call = cluster.call
    if "stac" in targets:
        check_item(scene)
    how_to_warp = None if warp is None else plan_warp(scene.grid, scene.shape, warp)
    identity = {
        "scene": scene.fingerprint(),
        "model": f"{spec.name} {spec.version} {known[:16]}",
        "threshold": threshold,
        **options,
        "aoi": None if area is None else hashlib.sha256(shapely.to_wkb(area)).hexdigest()[:16],
        **overlay.identity,
        "crs": crs,
        "outputs": {name: path.name for name, path in targets.items()},
        **({} if warp is None else {"warp": warp}),
        "device": device,
        "dtype": dtype,
        "context": context,
        **({} if like is None else {"like": [asdict(like.engine), like.nest.span]}),
    }
    beside = _beside(scene, targets, append)
    again = overwrite or is_placed(beside, targets.values())
    with open_journal(beside, identity, replace=overwrite) as journal:
        tried = with_holes(scene) if on_error == "mask" else scene
        how = _plan(tried, model, journal, like, cluster, device=device, dtype=dtype, max_memory=max_memory, context=context)
        todo = tiles_in(how.nest, area)
        journal.clear([tile for tile, _ in journal.get("unreadable")])
        resumed = journal.done() & todo
        pixels, first_pass = 0, len(how.nest) if context == "scene" else 0
        report = progress or (lambda done, total, pixels: None)
        total = first_pass + len(todo)
        report(len(resumed), total, 0)
        rest, keep = sorted(todo - resumed), partial(_keep, decode=decode)

        def looked(n: int) -> None:
            report(len(resumed) + n, total, 0)

        if cluster is None:
            missed: dict[int, str] | None = {} if on_error == "mask" else None
            blocks = predict(scene, model, plan=how, tiles=set(rest), looked=looked, unreadable=missed)
            answers = ((tile, keep(block, (missed or {}).get(tile))) for tile, block in zip(rest, blocks, strict=True))
        else:
            answers = cluster.answers(scene, how, rest, keep, lenient=on_error == "mask", looked=looked)
        with closing(answers):  # an error that somebody keeps, as a notebook does, would keep workers busy
            for n, (tile, answer) in enumerate(answers, first_pass + len(resumed) + 1):
                journal.put(tile, **answer)
                pixels += how.nest[tile].core.h * how.nest[tile].core.w
                report(n, total, pixels)
        _check_unchanged(scene, identity["scene"], journal)
        unreadable = [_missed(how.nest[tile].core, why) for tile, why in journal.get("unreadable")]
        if not any(any(cells) for _, cells in journal.get("valid")):
            journal.clear()
            if unreadable:
                raise SceneError(f"{scene.id} holds no valid pixel that can be read: {_told(unreadable)}")
            raise SceneError(
                f"{scene.id} holds no valid pixel{' in the area' if area is not None else ''}: all is nodata; "
                "check the file, or name its nodata value with --nodata"
            )
        config = {
            "xtgeo": version("xtgeo-sat"),
            "model": identity["model"],
            "bands": ", ".join(scene.bands),
            "units": scene.units,
            **({"noise": scene.facts["s1:noise"]} if "s1:noise" in scene.facts else {}),
            "threshold": threshold,
            **options,
            "aoi": identity["aoi"],
            **overlay.identity,
            "dtype": how.engine.dtype,
            "tile_px": how.nest.side,
            "context": context,
        }
        holes = [Window(m["y"], m["x"], m["h"], m["w"]) for m in unreadable]
        seen = with_holes(scene, holes) if on_error == "mask" else scene
        detections = overlay.mark(objects(seen, journal, _origin(scene, spec, config), call))
        footprint = _looked_at(journal, how.nest, area)
        run = {
            "scene_id": scene.id,
            "source": str(scene.href),
            "xtgeo": config["xtgeo"],
            "model_id": spec.name,
            "model_version": spec.version,
            "model_sha256": known,
            "config_hash": digest(config),
            **{name: config[name] for name in ("bands", "units", "noise", "threshold") if name in config},
            **({"min_area_m2": options["min_area"]} if "min_area" in options else {}),
            **overlay.record,
            **{name: config[name] for name in ("dtype", "tile_px", "context")},
            **({"unreadable": json.dumps(unreadable)} if unreadable else {}),
        }
        _write(
            seen, model, journal, detections, how.nest, targets, footprint=footprint, crs=crs, run=run, overwrite=again,
            append=append, warp=how_to_warp, call=call,
        )  # fmt: skip
    seconds = time.monotonic() - start
    h, w = scene.shape
    summary = Summary(
        scene=scene.id,
        model=spec.name,
        model_version=spec.version,
        objects=len(detections),
        megapixels=round(h * w / 1e6, 3),
        seconds=round(seconds, 3),
        mpx_per_s=round(pixels / 1e6 / seconds, 3),
        tiles=len(todo),
        tiles_resumed=len(resumed),
        engine=asdict(how.engine),
        tile_px=how.nest.side,
        computed_per_pixel=round(how.computed_per_pixel, 4),
        threshold=threshold,
        context=context,
        outputs={name: str(path) for name, path in targets.items()},
        note="; ".join(filter(None, (overlay.note, journal.note, _told(unreadable)))) or None,
        unreadable=unreadable,
        warp="" if how_to_warp is None else str(how_to_warp),
    )
    return Result(detections, summary)


def _check_targets(targets: dict[str, Path], sources: list, *, overwrite: bool) -> None:
    """Refuses what cannot be written, what is read, and two outputs of one name; before any work is done."""
    for name, path in targets.items():
        check_target(path, suffixes=SUFFIXES[name], overwrite=overwrite)
        if path.exists() and any(os.path.exists(source) and path.samefile(source) for source in sources):
            raise OutputError(f"{path} is what is read: give the output another name")
    if len({path.resolve() for path in targets.values()}) < len(targets):
        raise OutputError(f"two outputs have one name ({', '.join(map(str, targets.values()))}): give each its own")


@contextmanager
def open_journal(path: Path | None, identity: dict, *, replace: bool):
    """A journal that is deleted when the work is complete and kept when it is not."""
    journal = Journal(path, identity, replace=replace)
    try:
        yield journal
    except BaseException:
        # Without a finished tile there is nothing to continue, and the next try may have other options.
        try:
            nothing = not journal.done()
        except XtgeoError:  # it is damaged: whoever opens it next sets it aside
            nothing = False
        journal.delete() if nothing else journal.close()
        raise
    journal.delete()


def fingerprint(model: Model) -> str:
    """SHA-256 of the spec and of all weights, as 64 hexadecimal digits."""
    digest = hashlib.sha256(model.spec.to_json().encode())
    for name, value in sorted(model.net.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(-1).float().numpy().tobytes())
    return digest.hexdigest()


def _plan(scene: Scene, model: Model, journal: Journal, like: Plan | None, cluster: Cluster | None, **options) -> Plan:
    """A new plan, or, to continue, one with the number format and tiles of the interrupted run."""
    kept, context, limit = journal.plan, options["context"], options["max_memory"]
    if kept is not None:
        engine, span = Engine(**kept["engine"]), kept["span"]
        if cluster is not None:
            return Plan(Nest(scene.shape, model.spec.region, span, model.spec.margin), engine, 0, 0, context).over(scene)
        return plan(scene, model, engine=engine, span=span, max_memory=limit, context=context)
    if like is not None:
        how = like.over(scene)
    elif cluster is not None:
        how = cluster.plan(scene, **options)
    else:
        how = plan(scene, model, **options)
    journal.set_plan({"engine": asdict(how.engine), "span": how.nest.span})
    return how


def tiles_in(nest: Nest, area: shapely.Geometry | None) -> set[int]:
    if area is None:
        return set(range(len(nest)))
    boxes = [shapely.box(t.core.x, t.core.y, t.core.x + t.core.w, t.core.y + t.core.h) for t in nest]
    return set(np.flatnonzero(shapely.intersects(area, boxes)).tolist())


def _call(function: Callable, *arguments):
    return function(*arguments)


def _keep(block: Block, why: str | None = None, *, decode: Callable[[Block], dict[str, bytes]]) -> dict[str, bytes]:
    return {"valid": _cells(block.valid), **decode(block), **({"unreadable": why.encode()} if why else {})}


def _missed(core: Window, why: bytes) -> dict:
    return {"y": core.y, "x": core.x, "h": core.h, "w": core.w, "reason": why.decode()}


def _told(unreadable: list[dict]) -> str:
    if not unreadable:
        return ""
    first, count = unreadable[0], f"{len(unreadable)} tiles" if len(unreadable) > 1 else "1 tile"
    return f"{count} could not be read, now nodata, the first at row {first['y']}, column {first['x']}: {first['reason']}"


def _check_unchanged(scene: Scene, before: dict, journal: Journal) -> None:
    """Refuses to end a run whose scene was replaced on the way; raises SceneError where it is gone, too, but keeps the tiles."""
    if scene.source.files and scene.fingerprint() != before:
        journal.clear()
        raise SceneError(f"{scene.id} has changed while it was read ({scene.href}): run again when it is complete")


def _peaks(block: Block, *, threshold: float, radius: int, stride: int) -> dict[str, bytes]:
    return {"peaks": find_peaks(block, threshold=threshold, radius=radius, stride=stride).to_bytes()}


def _decode(block: Block, *, threshold: float, area: shapely.Geometry | None, wanted: frozenset[str]) -> dict[str, bytes]:
    """What is kept of a tile: fragments of objects, and the pixels of the rasters that were asked for."""
    classes = labels(block.data, block.valid, threshold=threshold)
    answers = {"fragments": fragments(classes, block.data, block.window).to_bytes()}
    if not {"mask", "scores"} & wanted:
        return answers
    inside = block.valid if area is None else block.valid & pixels_inside(area, block.window)
    if "mask" in wanted:
        answers["mask"] = _pack(np.where(inside, classes, NODATA))
    if "scores" in wanted:
        answers["scores"] = _pack(quantise(block.data, inside))
    return answers


def _pack(pixels: np.ndarray) -> bytes:
    return pyarrow.compress(np.ascontiguousarray(pixels).tobytes(), codec="zstd", asbytes=True)


def _unpack(packed: bytes, shape: tuple[int, ...]) -> np.ndarray:
    raw = pyarrow.decompress(packed, decompressed_size=int(np.prod(shape)), codec="zstd", asbytes=True)
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _cells(valid: np.ndarray) -> bytes:
    """One bit for each square of CELL_PX pixels of a tile's core: whether anything was measured in it."""
    h, w = valid.shape
    rows, columns = np.arange(0, h, CELL_PX), np.arange(0, w, CELL_PX)
    return np.packbits(np.logical_or.reduceat(np.logical_or.reduceat(valid, rows, 0), columns, 1)).tobytes()


def _looked_at(journal: Journal, nest: Nest, area: shapely.Geometry | None) -> shapely.Geometry:
    """Where pixels were measured and looked at, to CELL_PX; x = column, y = row of the scene."""
    boxes = []
    for tile, packed in journal.get("valid"):
        core = nest[tile].core
        rows, columns = -(-core.h // CELL_PX), -(-core.w // CELL_PX)
        cells = np.unpackbits(np.frombuffer(packed, np.uint8), count=rows * columns).reshape(rows, columns)
        edges = np.diff(np.pad(cells, ((0, 0), (1, 1))).astype(np.int8))
        # Both go row by row, so the n-th run of cells begins and ends at the n-th of each.
        (y, begin), (_, end) = np.nonzero(edges == 1), np.nonzero(edges == -1)
        y0, x0 = core.y + y * CELL_PX, core.x + begin * CELL_PX
        boxes.append(
            shapely.box(x0, y0, np.minimum(core.x + end * CELL_PX, core.x + core.w), np.minimum(y0 + CELL_PX, core.y + core.h))
        )
    whole = shapely.simplify(shapely.union_all(np.concatenate(boxes)), 0)
    return whole if area is None else shapely.intersection(whole, area)


def _write(scene, model, journal, detections, nest, targets, *, footprint, crs, run, overwrite, append, warp, call) -> None:
    """Every file that was asked for, all of them or none."""
    classes, count = model.spec.classes, len(model.spec.classes)
    names = " ".join(f"{label}={name}" for label, name in enumerate(("background", *classes)))
    rasters = {
        "mask": {
            "count": 1, "descriptions": ("class",), "nodata": NODATA, "colours": dict(enumerate(COLOURS[: count + 1])),
            "tags": {**run, "CLASSES": names},
        },
        "scores": {
            "count": count, "descriptions": classes, "nodata": NODATA, "scale": SCORE_SCALE, "averaged": True, "tags": run,
        },
    }  # fmt: skip
    with together(journal.place):
        for name, options in rasters.items():
            if name in targets:
                with RasterSink(targets[name], scene.grid, scene.shape, warp=warp, overwrite=overwrite, **options) as sink:
                    for index, packed in journal.get(name):
                        core = nest[index].core
                        pixels = _unpack(packed, (options["count"], *core.shape))
                        sink.write(Block(core, pixels, np.ones(core.shape, bool)))
        if "quicklook" in targets:
            path = targets["quicklook"]
            write_picture(path, call(quicklook, scene, detections, path.suffix.lower()), overwrite=overwrite)
        if "out" in targets:
            with VectorSink(targets["out"], crs=crs, run=run, overwrite=overwrite, append=append) as sink:
                sink.write(detections, (scene.id, footprint))
        if "stac" in targets:
            place = (scene.grid, scene.shape) if warp is None else (warp.grid, tuple(warp.grid.shape))
            of_rasters = {name: (*place, options) for name, options in rasters.items()}
            item = describe_run(targets["stac"], scene, model.spec, footprint, targets, of_rasters, run)
            write_item(targets["stac"], item, overwrite=overwrite)
