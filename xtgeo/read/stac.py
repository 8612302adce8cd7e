"""STAC Items and ItemCollections (stacspec.org, 1.0 and 1.1): which files hold which bands, and what the numbers mean.

    Item -> the image behind each band that is wanted -> one grid, the finest -> Scene
    items of one date -> a mosaic of those scenes

Reads the JSON itself: of the extensions eo, raster and sar, and of the common bands of 1.1, a dozen fields are of use.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import unquote

import numpy as np
from odc.geo.geobox import GeoBox

from xtgeo.errors import SceneError
from xtgeo.grid import same_grid
from xtgeo.read.bands import Band, choose_bands, one_unit
from xtgeo.read.metadata import POLARISATION, UNIT_WORDS, moment
from xtgeo.read.mosaic import mosaic
from xtgeo.read.raster import RasterSource
from xtgeo.read.regrid import on_grid
from xtgeo.read.remote import LARGEST_TEXT, fetch, is_url, unsigned
from xtgeo.read.sentinel1_item import open_item_images, radar_files
from xtgeo.read.sentinel2 import offset_since, other_names
from xtgeo.read.stack import RASTERS, StackSource
from xtgeo.read.trust import path_of, refuse_absurd, refuse_place, resolve, safe_json
from xtgeo.scene import Scene

IMAGES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "image/png", "image/jpeg")
PICTURES = {"thumbnail", "overview", "visual", "rendered_preview", "tilejson"}
MASKS = {"metadata", "data-mask", "cloud", "cloud-shadow", "snow-ice", "land-water", "water-mask"}
CLASSIFIED = {"classification:classes", "classification:bitfields"}
MOST_ITEMS = 1000
CLASSES = re.compile(r"scl|qa|qa[_-]?(pixel|radsat|aerosol)|fmask|cloud[_-]?mask", re.IGNORECASE)
"""Names of bands of classes and flags, where nothing else says that they are."""
FACTS = ("platform", "constellation", "eo:cloud_cover", "processing:level", "s2:processing_baseline")
FACT_PREFIXES = ("sat:", "view:", "sar:")
ONE_PASS = timedelta(hours=1)
"""A pass over midnight has two dates."""


@dataclass(frozen=True)
class AssetBand(Band):
    """One band of an asset: value = scale * number + offset, where the item says so."""

    asset: str = ""
    href: str = ""
    """Where the asset is, checked when it is opened."""
    number: int = 1
    """In the file, from 1."""
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    told: bool = False
    """Whether the item describes the band."""
    nearest: bool = False
    """Classes and flags: never mixed."""


@dataclass(frozen=True)
class Item:
    """What a STAC Item says."""

    id: str
    home: str
    """Path or URL that its hrefs are relative to; empty where nobody knows."""
    was_there: bool
    """Whether it was read from there, rather than that it says so itself."""
    time: datetime | None
    facts: Mapping[str, str | int | float]
    bands: tuple[AssetBand, ...]
    """Every band of every image; where several have one name, the one to be preferred comes first."""
    radar: Mapping[str, Mapping[str, str]]
    """Files that belong to radar images; see `radar_files`."""
    taken_off: bool
    """Whether the catalogue says that it has taken Sentinel-2's offset off the pixels."""


def is_stac(href: object) -> bool:
    """Whether this is an Item or ItemCollection: an object, its JSON as a dict, several of them, a file, or a URL."""
    if isinstance(href, str | os.PathLike):
        path = path_of(os.fspath(href)) if is_url(href) else _parted(os.fspath(href))[0]
        if path.lower().endswith((".json", ".geojson")):
            return True
        return is_url(href) and "/items" in path and not path.lower().endswith(RASTERS)
    if isinstance(href, Sequence):
        return bool(href) and not any(isinstance(part, str | os.PathLike) for part in href) and all(is_stac(part) for part in href)
    return (isinstance(href, Mapping) or hasattr(href, "to_dict")) and not hasattr(href, "dims")  # which is xarray's


def open_stac(
    href: object,
    open_file: Callable[..., Scene],
    *,
    bands: Mapping[str, int | str] | str | None = None,
    units: str | None = None,
    nodata: float | None = None,
    noise: str = "snap",
    trusted: bool = False,
) -> Scene:
    """The scene of an Item, or of several of one date side by side: the first valid pixel counts, in the order given.

    `open_file(path, units=, nodata=)` opens an asset, but not Sentinel-1 GRD, which is calibrated (`noise`: see calibration.py).
    `bands` picks by name, common name or asset ("B04,nir") and may rename ("red=B04"); without it every band that an item describes
    is there, on the grid of the finest. Refused: items of several dates, bands that are not there, assets that point where they may
    not (see trust.py).
    """
    items = _items(href)
    _refuse_dates(items)
    scenes = [_open_item(item, open_file, bands, units, nodata, noise, trusted) for item in items]
    first = scenes[0]
    if len(scenes) == 1:
        return first
    for scene in scenes[1:]:
        if (scene.bands, scene.units) != (first.bands, first.units):
            raise SceneError(
                f"item {scene.id} has {', '.join(scene.bands)} in {scene.units}, item {first.id} has {', '.join(first.bands)} in "
                f"{first.units}: choose what both have with --bands"
            )
    source, grid = mosaic(scenes)
    if not trusted:
        refuse_absurd(first.id, source.shape, source.count)
    return replace(
        first,
        source=source,
        grid=grid,
        indexes=tuple(range(1, len(first.bands) + 1)),
        id=os.path.commonprefix([scene.id for scene in scenes]).rstrip("_-. ") or first.id,
        time=min((scene.time for scene in scenes if scene.time), default=None),
        href=unsigned(_spelled(href)) or ",".join(scene.href for scene in scenes),
        facts={k: v for k, v in first.facts.items() if all(scene.facts.get(k) == v for scene in scenes)},
    )


def leads_away(href: object) -> bool:
    """Whether images of its items are elsewhere than on this machine."""
    return any("://" in band.href.removeprefix("file://") for item in _items(href) for band in item.bands)


def item_ids(href: object) -> list[str]:
    """Of the items of a file, a URL or an object, in its order."""
    return [item.id for item in _items(href)]


def _items(href: object) -> list[Item]:
    """Those of a file, a URL or an object, as far as a fragment picks them: items.json#2024-06-01, items.json#ID."""
    document, home, pick = _document(href)
    found = document.get("features") if document.get("type") == "FeatureCollection" else [document]
    if not isinstance(found, list) or not found or len(found) > MOST_ITEMS:
        number = len(found) if isinstance(found, list) else "no list of"
        raise SceneError(f"{home or 'the ItemCollection'} holds {number} items: give 1 to {MOST_ITEMS}")
    homes = [home or _own_home(item) for item in found]
    items = [_item(item, at, was_there=bool(home)) for item, at in zip(found, homes, strict=True)]
    if not pick:
        return items
    picked = [item for item in items if item.id == pick] or [i for i in items if i.time and i.time.isoformat().startswith(pick)]
    if not picked:
        raise SceneError(f"{home} holds no item {pick}: it has " + ", ".join(f"{i.id} ({_date(i)})" for i in items[:8]))
    return picked


def _document(href: object) -> tuple[dict, str, str]:
    """(JSON, where it came from, which of its items)."""
    if isinstance(href, str | os.PathLike):
        home, pick = _parted(os.fspath(href))
        if is_url(home):
            content = fetch(home)
        else:
            try:
                with open(home, "rb") as file:
                    content = file.read(LARGEST_TEXT + 1)
            except OSError as error:
                raise SceneError(f"cannot open {home}: {error.strerror}; check the path") from error
            if len(content) > LARGEST_TEXT:
                raise SceneError(f"{home} has more than {LARGEST_TEXT >> 20} MB: it is no STAC Item")
        return safe_json(content, home), home, pick
    plain = [part if isinstance(part, Mapping) else part.to_dict() for part in ([href] if not isinstance(href, Sequence) else href)]
    return (plain[0] if len(plain) == 1 else {"type": "FeatureCollection", "features": plain}), "", ""


def _parted(href: str) -> tuple[str, str]:
    """(path or URL, fragment)."""
    place, mark, pick = href.rpartition("#")
    return (place, unquote(pick)) if mark and place.split("?")[0].lower().endswith((".json", ".geojson")) else (href, "")


def _own_home(item: object) -> str:
    """Where an item in memory came from, by its link to itself.

    The link is the item's own word, so a file counts only if it is there and holds that very item.
    """
    links = item.get("links") if isinstance(item, Mapping) else None
    for link in links if isinstance(links, list) else []:
        if isinstance(link, Mapping) and link.get("rel") == "self" and isinstance(link.get("href"), str):
            at = link["href"].removeprefix("file://")
            if is_url(at):
                return at
            if os.path.isfile(at) and _document(at)[0].get("id") == item.get("id"):
                return at
    return ""


def _item(item: object, home: str, *, was_there: bool) -> Item:
    if not isinstance(item, Mapping) or item.get("type") != "Feature" or not isinstance(item.get("assets"), Mapping):
        kind = item.get("type") if isinstance(item, Mapping) else type(item).__name__
        raise SceneError(
            f"{home or 'this'} is no STAC Item or ItemCollection (type {str(kind)[:40]!r}, assets missing): give an Item, not a "
            "Catalog or Collection"
        )
    told = item.get("properties")
    told = told if isinstance(told, Mapping) else {}
    time = moment(*(text for key in ("datetime", "start_datetime") if isinstance(text := told.get(key), str)))
    facts = {k: v for k, v in told.items() if (k in FACTS or k.startswith(FACT_PREFIXES)) and isinstance(v, str | int | float)}
    names: dict[str, int] = {}
    bands = []
    for key, asset in item["assets"].items():
        if isinstance(asset, Mapping) and isinstance(asset.get("href"), str) and _is_image(asset):
            for band in _asset_bands(str(key), asset):
                bands.append((_rank(band, asset, names.setdefault(band.name, len(names))), band))
    bands = [band for _, band in sorted(bands, key=lambda pair: pair[0])]
    taken_off = told.get("earthsearch:boa_offset_applied") is True
    if taken_off:  # earth-search tells of -0.1 all the same
        bands = [replace(band, offset=0.0 if band.offset == -0.1 else band.offset) for band in bands]
    if any(band.told for band in bands):  # then what is not described is a mask or a picture
        bands = [replace(band, extra=band.extra or not band.told) for band in bands]
    if not all(band.extra or _is_aside(band) for band in bands):
        bands = [replace(band, extra=band.extra or _is_aside(band)) for band in bands]
    if str(facts.get("constellation") or facts.get("platform")).lower().startswith("sentinel-2"):
        bands = [replace(band, aliases=(*band.aliases, *other_names(band.name, *band.aliases))) for band in bands]
    seen: set[str] = set()
    for i, band in enumerate(bands):
        bands[i] = replace(band, extra=band.extra or band.name in seen)
        seen.add(band.name)
    return Item(
        id=str(item.get("id", "item")),
        home=home,
        was_there=was_there,
        time=time,
        facts=facts,
        bands=tuple(bands),
        radar=radar_files(item["assets"]),
        taken_off=taken_off,
    )


def _is_image(asset: Mapping) -> bool:
    kind, path = str(asset.get("type") or "").lower(), path_of(asset["href"]).lower()
    return kind.startswith(IMAGES) or (not kind and path.endswith(RASTERS))


def _rank(band: AssetBand, asset: Mapping, order: int) -> tuple:
    """Data before pictures, an asset for the band alone before one for several, GeoTIFF before JPEG 2000, small pixels first."""
    gsd = asset.get("gsd")
    size = gsd if isinstance(gsd, int | float) else math.inf
    return band.extra, len(_described(asset)) > 1, "jp2" in str(asset.get("type")).lower(), order, size


def _is_aside(band: AssetBand) -> bool:
    """Whether a band does not belong with those of reflectance: temperature, and the panchromatic band."""
    return band.units == "kelvin" or "pan" in band.aliases


def _described(asset: Mapping) -> list[Mapping]:
    """What an asset says of each of its bands: `bands` of 1.1, eo:bands and raster:bands of 1.0, over the asset's own fields."""
    lists = [v for key in ("eo:bands", "raster:bands", "bands") if isinstance(v := asset.get(key), list)]
    number = max([len(v) for v in lists], default=1)
    own = {key: value for key, value in asset.items() if key not in ("name", "description", "title")}
    described = []
    for i in range(min(number, 256)):
        band = dict(own)
        for part in lists:
            if i < len(part) and isinstance(part[i], Mapping):
                band |= part[i]
        described.append(band)
    return described


def _asset_bands(key: str, asset: Mapping) -> list[AssetBand]:
    roles = asset.get("roles")
    roles = {str(role) for role in roles} if isinstance(roles, list) else set()
    described, found = _described(asset), []
    for number, band in enumerate(described, 1):
        name, common = (_text(band, *keys) for keys in (("name",), ("eo:common_name", "common_name")))
        polarisation = POLARISATION.search((name or (key if len(described) == 1 else "")).lower())
        own = (polarisation and polarisation[1]) or name or (key if len(described) == 1 else f"{key}_{number}")
        scale, offset = (_number(band, *keys) for keys in (("raster:scale", "scale"), ("raster:offset", "offset")))
        unit = _text(band, "unit", "raster:unit").lower()
        units = UNIT_WORDS.get(unit)
        if unit in ("", "1") and scale is not None and 0 < scale < 0.01:
            units = "reflectance"
        found.append(
            AssetBand(
                name=own,
                units=units or "",
                aliases=tuple({text.lower() for text in (common, name, key if len(described) == 1 else "") if text}),
                extra=bool(roles & (PICTURES | MASKS)),
                asset=key,
                href=asset["href"],
                number=number,
                scale=scale,
                offset=offset,
                nodata=_number(band, "nodata", "raster:nodata"),
                told=bool(name or common or polarisation),
                nearest=bool(roles & MASKS or CLASSIFIED & band.keys() or CLASSES.fullmatch(own)),
            )
        )
    return found


def _text(band: Mapping, *keys: str) -> str:
    return next((band[key].strip() for key in keys if isinstance(band.get(key), str)), "")


def _number(band: Mapping, *keys: str) -> float | None:
    for key in keys:
        if isinstance(band.get(key), int | float | str) and not isinstance(band[key], bool):
            try:
                return float(band[key])  # "nan", "inf" and "-inf" are how STAC spells them
            except (ValueError, OverflowError):
                raise SceneError(f"{key} of an asset is {str(band[key])[:40]!r}, which is no number") from None
    return None


def _refuse_dates(items: list[Item]):
    times = [item.time for item in items]
    dates = sorted({_date(item) for item in items})
    near = None not in times and max(times) - min(times) <= ONE_PASS
    if len(items) > 1 and not near and (len(dates) > 1 or None in times):
        told = ", ".join(dates[:6]) + (", ..." if len(dates) > 6 else "")
        raise SceneError(
            f"{len(items)} items of {len(dates)} dates ({told}) are no scene: choose a date or an item, as in "
            f"items.json#{dates[-1]} or items.json#{items[0].id}"
        )


def _date(item: Item) -> str:
    return item.time.date().isoformat() if item.time else "no date"


def _open_item(item: Item, open_file, bands, units: str | None, nodata: float | None, noise: str, trusted: bool) -> Scene:
    if not item.bands:
        raise SceneError(f"item {item.id} has no asset that is an image: looked for {', '.join(IMAGES)}")
    try:
        chosen = choose_bands(bands, item.bands)
    except SceneError as error:
        raise SceneError(f"item {item.id}: {error}") from error
    if not chosen:
        there = ", ".join(band.name for band in item.bands)
        raise SceneError(f"item {item.id} has only masks and pictures: {there}; name some with --bands")
    wanted = [item.bands[number - 1] for number in chosen.values()]
    if any(band.name in item.radar for band in wanted):
        return _open_radar(item, dict(zip(chosen, wanted, strict=True)), units, nodata, noise, trusted)
    files: dict[str, Scene] = {}
    for band in wanted:
        if band.href not in files:
            files[band.href] = _open_asset(item, band, open_file, units, nodata, trusted)
    scenes = list(files.values())
    grid = _finest(item, scenes)
    starts = dict(zip(files, np.cumsum([0, *(scene.source.count for scene in scenes)]).tolist(), strict=False))
    told = {name: files[band.href].units for name, band in zip(chosen, wanted, strict=True)}
    for band in wanted:
        if band.number > (there := files[band.href].source.count):
            raise SceneError(f"item {item.id} says that asset {band.asset} has {band.number} bands; it has {there}")
    unit = one_unit(told)
    classes = {band.href for band in wanted if band.nearest}
    sources = tuple(
        scene.source if same_grid(scene.grid, grid) else on_grid(scene.source, scene.grid, grid, nearest=href in classes)
        for href, scene in files.items()
    )
    return Scene(
        source=sources[0] if len(sources) == 1 else StackSource(sources),
        grid=grid,
        bands=tuple(chosen),
        indexes=tuple(starts[band.href] + band.number for band in wanted),
        stored_units=unit,
        units=unit,
        id=item.id,
        href=unsigned(item.home) or scenes[0].href,
        time=item.time or scenes[0].time,
        facts=item.facts,
        aliases={alias: name for name, band in zip(chosen, wanted, strict=True) for alias in (band.name.lower(), *band.aliases)},
    )


def _open_radar(
    item: Item, wanted: Mapping[str, AssetBand], units: str | None, nodata: float | None, noise: str, trusted: bool
) -> Scene:
    """Images of Sentinel-1 GRD with their calibration; times and facts as annotations have them."""
    scene = open_item_images(
        unsigned(item.home) or item.id,
        item.id,
        {band.name: band.href for band in wanted.values()},
        item.radar,
        lambda href, what: _place(item, href, what, trusted),
        bands={name: band.name for name, band in wanted.items()},
        units=units,
        nodata=nodata,
        noise=noise,
    )
    aliases = {alias: name for name, band in wanted.items() for alias in (band.name, *band.aliases)}
    return replace(scene, facts=item.facts | scene.facts, aliases=aliases)


def _place(item: Item, href: str, what: str, trusted: bool) -> str:
    return resolve(href, item.home) if trusted else refuse_place(href, item.home, what, was_there=item.was_there)


def _open_asset(item: Item, band: AssetBand, open_file, units: str | None, nodata: float | None, trusted: bool) -> Scene:
    """The whole file, by what the item says of its bands where the file itself is silent."""
    path = _place(item, band.href, f"asset {band.asset} of item {item.id}", trusted)
    scene = open_file(path, units=units or band.units or None, nodata=nodata)
    is_grd = (str(item.facts.get("constellation")).lower(), item.facts.get("sar:product_type")) == ("sentinel-1", "GRD")
    if POLARISATION.fullmatch(band.name) and not units and (scene.units == "dn" or (is_grd and scene.units == "unknown")):
        raise SceneError(
            f"asset {band.asset} of item {item.id} holds raw numbers of a radar, and the item names no schema-calibration-"
            f"{band.name} by which they become sigma nought: open the product itself, or the raw numbers with --units dn"
        )
    source, told = scene.source, {b.number: b for b in item.bands if b.href == band.href}
    if not isinstance(source, RasterSource) or not told:
        return scene
    numbers = range(1, source.count + 1)
    silent = set(source.scales) == {1.0} and set(source.offsets) == {0.0}

    def fill(have: tuple, key: str, default: float | None) -> tuple:
        given = [getattr(told.get(n, band), key) for n in numbers]
        return tuple(default if v is None else v for v in given) if any(v is not None for v in given) else have

    if silent:
        source = replace(source, scales=fill(source.scales, "scale", 1.0), offsets=fill(source.offsets, "offset", 0.0))
    is_sentinel2 = scene.units == "dn10000" and "s2:processing_baseline" in item.facts
    if is_sentinel2 and not item.taken_off and set(source.offsets) == {0.0}:
        source = replace(source, offsets=(offset_since(str(item.facts["s2:processing_baseline"])),) * source.count)
    if nodata is None and set(source.nodata) == {None} and not source.mask:
        source = replace(source, nodata=fill((0.0,) * source.count if is_sentinel2 else source.nodata, "nodata", None))
    return replace(scene, source=source)


def _finest(item: Item, scenes: list[Scene]):
    """The grid of the smallest pixels."""
    grids = [scene.grid for scene in scenes]
    if all(same_grid(grids[0], grid) for grid in grids[1:]):
        return grids[0]
    if not all(isinstance(grid, GeoBox) for grid in grids):
        raise SceneError(f"the assets of item {item.id} do not share their control points: choose those that do with --bands")
    return min(grids, key=lambda grid: abs(grid.affine.a * grid.affine.e))


def _spelled(href: object) -> str:
    return os.fspath(href) if isinstance(href, str | os.PathLike) else ""
