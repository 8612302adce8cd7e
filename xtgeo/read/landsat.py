"""Landsat Collection 2 as it comes: a folder or a tar, read in place; Level-2 surface reflectance and Level-1 top-of-atmosphere.

Level 2: reflectance = 2.75e-5 number - 0.2, temperature = 0.00341802 number + 149 kelvins; Level 1: reflectance = (mult
number + add) / sin(elevation of the sun). Factors are those of the product's MTL (text, XML or JSON) where it is there. 0 is
no data, the largest number saturated. (Landsat 8-9 Collection 2 Level 2 Science Product Guide, LSDS-1619; Level 1 Data Format
Control Book, LSDS-1822.)
"""

from __future__ import annotations

import json
import math
import re
from datetime import datetime

from xtgeo.errors import SceneError
from xtgeo.read.archive import Archive
from xtgeo.read.metadata import moment
from xtgeo.read.optical import BandFile, CloudFile, Product

FILE = re.compile(
    r"^(?P<id>L(?P<sensor>[COTE])(?P<number>0[4-9])_L(?P<level>[12])(?P<kind>SP|SR|TP|GT|GS)_(?P<path>\d{3})(?P<row>\d{3})_"
    r"(?P<day>\d{8})_\d{8}_02_(?P<tier>T1|T2|RT))_(?P<what>\w+?)\.(?P<ext>TIF|txt|xml|json)$",
    re.IGNORECASE,
)
OLI = {
    "1": ("coastal",),
    "2": ("blue",),
    "3": ("green",),
    "4": ("red",),
    "5": ("nir", "nir08"),
    "6": ("swir1", "swir16"),
    "7": ("swir2", "swir22"),
    "8": ("pan",),
    "9": ("cirrus",),
}
TM = {
    "1": ("blue",),
    "2": ("green",),
    "3": ("red",),
    "4": ("nir", "nir08"),
    "5": ("swir1", "swir16"),
    "7": ("swir2", "swir22"),
    "8": ("pan",),
}
"""Band numbers and their other names: Landsat 8 and 9; Landsat 4, 5 and 7."""
SURFACE, TEMPERATURE = (2.75e-5, -0.2), (0.00341802, 149.0)
RESOLUTION, PAN = 30.0, 15.0
CLOUDY = 0b11110
"""Of QA_PIXEL: dilated cloud, cirrus, cloud, shadow of a cloud."""


def is_landsat(archive: Archive) -> bool:
    """Whether this is a Collection 2 product: by the names of its files."""
    return any(FILE.match(name.rpartition("/")[2]) for name in archive.names)


def read_product(archive: Archive) -> Product:
    """What the product says."""
    files = [(found, name) for name in archive.names if (found := FILE.match(name.rpartition("/")[2]))]
    ids = sorted({found["id"].upper() for found, _ in files})
    if len(ids) > 1:
        raise SceneError(f"{archive.path} holds {len(ids)} scenes ({', '.join(ids[:3])}): give the folder or the tar of one")
    named = files[0][0]
    rasters = {found["what"].upper(): archive.gdal(name) for found, name in files if found["ext"].upper() == "TIF"}
    metadata = {found["ext"].lower(): name for found, name in files if found["what"].upper() == "MTL"}
    facts = _metadata(archive, metadata)
    bands = _bands(archive, named, rasters, facts)
    if not bands:
        raise SceneError(f"{archive.path} holds no band of reflectance that is known ({', '.join(rasters) or 'no .TIF at all'})")
    image = facts.get("IMAGE_ATTRIBUTES", {})
    there, listed = {band.name for band in bands}, set()
    for text in facts.get("PRODUCT_CONTENTS", {}).values():
        if (found := FILE.match(text)) and re.fullmatch(r"(SR_)?B[1-9]", found["what"].upper()):
            listed.add(found["what"].upper())
    return Product(
        id=ids[0],
        bands=tuple(bands),
        missing=tuple(sorted(listed - there)),
        resolution=RESOLUTION,
        clouds=CloudFile(rasters["QA_PIXEL"], bits=CLOUDY) if "QA_PIXEL" in rasters else "its QA_PIXEL file is not there",
        time=_time(image, named["day"]),
        facts=_facts(archive, image, named),
    )


def _bands(archive: Archive, named: re.Match, rasters: dict[str, str], facts: dict) -> list[BandFile]:
    numbers = OLI if named["number"] in ("08", "09") else TM
    surface = named["level"] == "2"
    bands = []
    for number, aliases in numbers.items():
        name = f"SR_B{number}" if surface else f"B{number}"
        if name not in rasters:
            continue
        scale, offset, most = _surface(archive, number, facts) if surface else _top(archive, number, facts)
        pan = aliases == ("pan",)
        bands.append(
            BandFile(
                name=name,
                units="reflectance",
                aliases=(*aliases, f"b{number}"),
                extra=pan,
                path=rasters[name],
                resolution=PAN if pan else RESOLUTION,
                scale=scale,
                offset=offset,
                saturated=most,
            )
        )
    for name in ("ST_B10", "ST_B6"):
        if name in rasters:
            group = facts.get("LEVEL2_SURFACE_TEMPERATURE_PARAMETERS", {})
            scale, offset = (_number(archive, group, f"TEMPERATURE_{part}_BAND_{name}", default)
                             for part, default in zip(("MULT", "ADD"), TEMPERATURE, strict=True))
            bands.append(BandFile(name, "kelvin", ("thermal",), True, rasters[name], RESOLUTION, scale, offset))
    for name in ("QA_PIXEL", "QA_RADSAT"):
        if name in rasters:
            bands.append(BandFile(name, "unknown", (), True, rasters[name], RESOLUTION, nearest=True))
    return bands


def _surface(archive: Archive, number: str, facts: dict) -> tuple[float, float, float]:
    """(scale, offset, saturated) of Level 2."""
    group = facts.get("LEVEL2_SURFACE_REFLECTANCE_PARAMETERS", {})
    scale, offset = (_number(archive, group, f"REFLECTANCE_{part}_BAND_{number}", default)
                     for part, default in zip(("MULT", "ADD"), SURFACE, strict=True))
    return scale, offset, _number(archive, group, f"QUANTIZE_CAL_MAX_BAND_{number}", 65535.0)


def _top(archive: Archive, number: str, facts: dict) -> tuple[float, float, float]:
    """(scale, offset, saturated) of Level 1, reflectance at the top of the atmosphere with the sun at the scene's centre."""
    group = facts.get("LEVEL1_RADIOMETRIC_RESCALING", {})
    scale, offset = (_number(archive, group, f"REFLECTANCE_{part}_BAND_{number}") for part in ("MULT", "ADD"))
    sun = math.sin(math.radians(_number(archive, facts.get("IMAGE_ATTRIBUTES", {}), "SUN_ELEVATION")))
    if not sun > 0:
        raise SceneError(f"{archive.path} was taken with the sun below the horizon: there is no reflectance")
    most = _number(archive, facts.get("LEVEL1_MIN_MAX_PIXEL_VALUE", {}), f"QUANTIZE_CAL_MAX_BAND_{number}", 65535.0)
    return scale / sun, offset / sun, most


def _number(archive: Archive, group: dict[str, str], key: str, default: float | None = None) -> float:
    if key not in group and default is not None:
        return default
    try:
        value = float(group[key])
    except (KeyError, ValueError) as error:
        found = f"it says {group[key]!r}" if key in group else "it is not there"
        raise SceneError(
            f"{archive.path} needs {key} from its MTL file to turn numbers into reflectance, but {found}: copy or download it "
            "again, or give the product of Level 2"
        ) from error
    if not math.isfinite(value):
        raise SceneError(f"the MTL file of {archive.path} says {key} = {value}: it is damaged; copy or download it again")
    return value


def _metadata(archive: Archive, files: dict[str, str]) -> dict[str, dict[str, str]]:
    """{group: {key: text}} of the MTL; keys such as REFLECTANCE_MULT_BAND_2 stand in several groups."""
    if "txt" in files:
        return _odl(archive.bytes(files["txt"]).decode("utf-8", "replace"))
    if "xml" in files:
        groups = list(archive.xml(files["xml"]))
        return {group.tag: {leaf.tag: (leaf.text or "").strip() for leaf in group} for group in groups}
    if "json" in files:
        try:
            whole = json.loads(archive.bytes(files["json"]))["LANDSAT_METADATA_FILE"]
            return {name: {key: str(value) for key, value in group.items()} for name, group in whole.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SceneError(f"{files['json']} in {archive.path} is not whole; copy or download it again") from error
    return {}


def _odl(text: str) -> dict[str, dict[str, str]]:
    groups: dict[str, dict[str, str]] = {}
    inside: list[str] = []
    for line in text.splitlines():
        key, is_told, value = (part.strip() for part in line.partition("="))
        if not is_told:
            continue
        if key == "GROUP":
            inside.append(value)
        elif key == "END_GROUP":
            inside = inside[:-1]
        elif inside:
            groups.setdefault(inside[-1], {})[key] = value.strip('"')
    return groups


def _time(image: dict[str, str], day: str) -> datetime | None:
    """The scene's centre; Landsat tells no start."""
    date, time = image.get("DATE_ACQUIRED", ""), image.get("SCENE_CENTER_TIME", "")
    return moment(f"{date}T{time[:15].rstrip('Z')}+00:00" if date and time else "", date, day)


def _facts(archive: Archive, image: dict[str, str], named: re.Match) -> dict[str, str | int | float]:
    numbers = {"eo:cloud_cover": "CLOUD_COVER", "view:sun_elevation": "SUN_ELEVATION", "view:sun_azimuth": "SUN_AZIMUTH"}
    known = {name: _number(archive, image, key) for name, key in numbers.items() if key in image}
    if known.get("eo:cloud_cover", 0) < 0:  # -1 stands for unknown
        del known["eo:cloud_cover"]
    if "view:sun_azimuth" in known:
        known["view:sun_azimuth"] %= 360
    return {
        "platform": f"landsat-{int(named['number'])}",
        "constellation": "landsat",
        "processing:level": f"L{named['level']}{named['kind'].upper()}",
        "landsat:collection_number": "02",
        "landsat:collection_category": named["tier"].upper(),
        "landsat:wrs_path": named["path"],
        "landsat:wrs_row": named["row"],
        **known,
    }
