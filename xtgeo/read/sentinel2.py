"""Sentinel-2 L1C and L2A as they come: a SAFE folder, or its zip or tar, read in place.

Reflectance = (number + offset) / quantification, both from the product's MTD_MSIL1C.xml or MTD_MSIL2A.xml: since processing
baseline 04.00 (January 2022) numbers are 1,000 higher than before, so that dark water need not be cut off at zero. 0 is no
data, 65535 saturated. (Sentinel-2 Products Specification Document, S2-PDGS-TAS-DI-PSD, 14.9 and later.)
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Any
from xml.etree import ElementTree

from xtgeo.errors import SceneError
from xtgeo.read.archive import Archive
from xtgeo.read.metadata import moment
from xtgeo.read.optical import BandFile, CloudFile, Product

METADATA = re.compile(r"MTD_MSIL(1C|2A)\.xml$|S2\w_\w{4}_MTD_(?:SAFL1C|SAFL2A)_\w+\.xml$")
IMAGE = re.compile(r"(?:^|_)(B\d\d|B8A|SCL|AOT|WVP)(?:_(10|20|60)m)?\.jp2$", re.IGNORECASE)
NAME = re.compile(r"S2[A-Z]_MSIL(1C|2A)_(\d{8}T\d{6})_N(\d{4})_R(\d{3})_T(\d{2}[A-Z]{3})_\d{8}T\d{6}")
TILE = re.compile(r"_T(\d{2}[A-Z]{3})_")

BANDS = {
    "B01": (60, "coastal"),
    "B02": (10, "blue"),
    "B03": (10, "green"),
    "B04": (10, "red"),
    "B05": (20, "rededge1", "rededge071"),
    "B06": (20, "rededge2", "rededge075"),
    "B07": (20, "rededge3", "rededge078"),
    "B08": (10, "nir"),
    "B8A": (20, "nir08"),
    "B09": (60, "nir09"),
    "B10": (60, "cirrus"),
    "B11": (20, "swir1", "swir16"),
    "B12": (20, "swir2", "swir22"),
}
"""Metres per pixel, and other names; the order is that of band_id in the metadata, but for B8A, which comes before
B09 there too."""
EXTRA = ("SCL", "AOT", "WVP")
"""Classes, aerosol and water vapour of L2A, as stored."""
SATURATED = 65535.0
OFFSET = -1000.0
"""What baseline 04.00 and later take off, where the metadata is not at hand."""
USERS_OWN = 99
"""Processing baseline of what a user has processed."""
CLOUDY = (3, 8, 9, 10)
"""Of SCL: shadow of clouds, cloud of medium and of high probability, thin cirrus."""


def is_sentinel2(archive: Archive) -> bool:
    """Whether this is a product: by its metadata, or by images that lie where a product's do."""
    return bool(archive.find(METADATA.match)) or any("GRANULE/" in path for *_, path in _images(archive))


def other_names(*names: str) -> tuple[str, ...]:
    """All names, in lower case, of the band that has one of these; none where there is none such."""
    asked = {name.lower() for name in names}
    known = {band: (band.lower(), *names) for band, (_, *names) in BANDS.items()}
    return next((told for told in known.values() if asked & set(told)), ())


def offset_of(path: str) -> float:
    """What the processor added to the numbers, taken off again; by the product's name in the path."""
    found = re.search(r"_MSIL\w+?_\d{8}T\d{6}_N(\d\d)\d\d_", path, re.IGNORECASE)
    return offset_since(found[1]) if found else 0.0


def offset_since(baseline: str) -> float:
    """The same, by the processing baseline ("05.09"); nothing for 99.99, which is Sen2Cor of any version on a user's machine."""
    number = re.match(r"\s*(\d\d)", baseline)
    return OFFSET if number and 4 <= int(number[1]) < USERS_OWN else 0.0


def read_product(archive: Archive, resolution: float | None = None) -> Product:
    """What the product says. `resolution`: in metres per pixel; of files that L2A holds in several, the nearest one below."""
    name = _root(archive)
    metadata = archive.find(METADATA.match)
    facts = _leaves(archive.xml(metadata[0])) if metadata else {}
    scales = _calibration(archive.path, name, facts)
    images = _images(archive)
    if not images:
        raise SceneError(f"{archive.path} holds no images (IMG_DATA/*_B02*.jp2): it is incomplete; copy or download it again")
    granules = sorted({re.sub(r"/IMG_DATA/.*", "", path) for _, _, path in images})
    if len(granules) > 1:
        raise SceneError(
            f"{archive.path} holds {len(granules)} granules, which do not make one grid: give one tile's files as a list"
        )
    finest = min(metres for _, metres, _ in images)
    bands = []
    for band in (*BANDS, *EXTRA):
        files = {metres: path for found, metres, path in images if found == band}
        if not files:
            continue
        below = [metres for metres in files if metres <= (resolution or finest)]
        metres = max(below) if below else min(files)
        common: dict[str, Any] = {"name": band, "path": archive.gdal(files[metres]), "resolution": metres}
        if band in EXTRA:
            bands.append(BandFile(**common, units="unknown", extra=True, nearest=band == "SCL"))
            continue
        scale, offset = scales[band]
        aliases = (*BANDS[band][1:], band.lower().replace("b0", "b"))
        bands.append(
            BandFile(**common, units="reflectance", aliases=aliases, scale=scale, offset=offset, saturated=SATURATED)
        )
    there = {band.name for band in bands}
    listed = {found[1].upper() for text in facts.get("IMAGE_FILE", []) if (found := IMAGE.search(text + ".jp2"))}
    return Product(
        id=name.removesuffix(".SAFE"),
        bands=tuple(bands),
        missing=tuple(sorted(listed - there)),
        resolution=float(finest),
        clouds=_clouds(archive, bands),
        time=_time(facts, name),
        facts=_facts(archive, facts, name),
    )


def _root(archive: Archive) -> str:
    """The product's name: of the folder that holds its metadata, else of what was opened."""
    inner = next((n for n in archive.names if METADATA.match(n.rpartition("/")[2]) or "/GRANULE/" in f"/{n}"), "")
    folder = inner.partition("/GRANULE/")[0] if "/GRANULE/" in inner else inner.rpartition("/")[0]
    own = re.sub(r"\.(zip|tar)$", "", archive.path.rpartition("/")[2], flags=re.IGNORECASE)
    return own if not folder or inner.startswith("GRANULE/") else folder.rpartition("/")[2]


def _images(archive: Archive) -> list[tuple[str, int, str]]:
    """(band, metres, name in the archive) of every image."""
    found = []
    for path in archive.names:
        match = IMAGE.search(path) if "IMG_DATA/" in path else None
        if match and match[1].upper() in (*BANDS, *EXTRA):
            band = match[1].upper()
            found.append((band, int(match[2] or BANDS.get(band, (20,))[0]), path))
    return found


def _leaves(root: ElementTree.Element) -> dict[str, list]:
    """{tag: [text, ...]} of elements without children; offsets as (band_id, text)."""
    leaves: dict[str, list] = {}
    for element in root.iter():
        tag, text = element.tag.rpartition("}")[2], (element.text or "").strip()
        if tag in ("RADIO_ADD_OFFSET", "BOA_ADD_OFFSET"):
            leaves.setdefault("ADD_OFFSET", []).append((element.get("band_id", ""), text))
        elif tag == "Spectral_Information":
            leaves.setdefault("BAND", []).append((element.get("bandId", ""), element.get("physicalBand", "")))
        elif not len(element):
            leaves.setdefault(tag, []).append(text)
    return leaves


def _calibration(path: str, name: str, facts: dict[str, list]) -> dict[str, tuple[float, float]]:
    """{band: (scale, offset)}, so that reflectance = scale * number + offset."""
    if not facts:
        named = NAME.search(name)
        if not named or int(named[3][:2]) >= USERS_OWN:
            raise SceneError(
                f"{path} has no MTD_MSIL1C.xml or MTD_MSIL2A.xml, and its name tells no processing baseline: nothing says what its "
                "numbers mean; copy or download it again, or give its images as a list with --units dn10000"
            )
        return dict.fromkeys(BANDS, (1e-4, offset_of(f"{name}_") / 1e4))
    try:
        told = facts.get("BOA_QUANTIFICATION_VALUE") or facts.get("QUANTIFICATION_VALUE") or facts["L2A_BOA_QUANTIFICATION_VALUE"]
        quantification = float(told[0])
        order = {id_: f"B{band[1:]:0>2}" for id_, band in facts.get("BAND", [])}
        order = order or {str(i): band for i, band in enumerate(BANDS)}
        offsets = {order[id_]: float(value) for id_, value in facts.get("ADD_OFFSET", [])}
    except (KeyError, ValueError) as error:
        raise SceneError(
            f"the metadata of {path} does not say what numbers mean: {error!r} cannot be read; download it again"
        ) from error
    if not (0 < quantification < math.inf and all(math.isfinite(offset) for offset in offsets.values())):
        raise SceneError(
            f"the metadata of {path} divides by {quantification}, or adds what is no number: it is damaged; download it again"
        )
    common = next(iter(offsets.values()), 0.0)  # metadata tell of every offset there is
    return {band: (1 / quantification, offsets.get(band, common) / quantification) for band in BANDS}


def _clouds(archive: Archive, bands: list[BandFile]) -> CloudFile | str:
    if classes := [band.path for band in bands if band.name == "SCL"]:
        return CloudFile(classes[0], values=CLOUDY)
    if classes := archive.find(lambda name: name == "MSK_CLASSI_B00.jp2"):
        return CloudFile(archive.gdal(classes[0]), indexes=(1, 2), values=(1,))
    return "it has neither SCL (L2A) nor MSK_CLASSI_B00.jp2 (L1C since baseline 04.00)"


def _time(facts: dict[str, list], name: str) -> datetime | None:
    found = NAME.search(name)
    return moment(*facts.get("PRODUCT_START_TIME", []), found[2] if found else "")


def _facts(archive: Archive, facts: dict[str, list], name: str) -> dict[str, str | int | float]:
    granule = archive.find(lambda n: n == "MTD_TL.xml")
    sun = archive.xml(granule[0]).find(".//Mean_Sun_Angle") if granule else None
    tile, named = TILE.search(f"_{name}_"), NAME.search(name)
    told = {key: values[0] for key, values in facts.items() if isinstance(values[0], str) and values[0]}
    if named:
        told = {"PROCESSING_BASELINE": f"{named[3][:2]}.{named[3][2:]}", "SPACECRAFT_NAME": f"Sentinel-{name[1:3]}",
                "SENSING_ORBIT_NUMBER": named[4], "PROCESSING_LEVEL": f"Level-{named[1]}"} | told
    sure = {
        "platform": told.get("SPACECRAFT_NAME", "").lower(),
        "constellation": "sentinel-2",
        "processing:level": told.get("PROCESSING_LEVEL", "").replace("Level-", "L")[:3],
        "s2:processing_baseline": told.get("PROCESSING_BASELINE", ""),
        "grid:code": f"MGRS-{tile[1]}" if tile else "",
        "sat:orbit_state": told.get("SENSING_ORBIT_DIRECTION", "").lower(),
    }
    numbers = {
        "sat:relative_orbit": (int, told.get("SENSING_ORBIT_NUMBER")),
        "eo:cloud_cover": (float, told.get("Cloud_Coverage_Assessment")),
        "view:sun_elevation": (
            lambda zenith: round(90 - float(zenith), 6),
            sun.findtext("ZENITH_ANGLE") if sun is not None else None,
        ),
        "view:sun_azimuth": (float, sun.findtext("AZIMUTH_ANGLE") if sun is not None else None),
    }
    try:
        known = {key: read(text) for key, (read, text) in numbers.items() if text}
    except ValueError as error:
        raise SceneError(f"the metadata of {archive.path} is damaged: {error}; copy or download it again") from error
    return {key: value for key, value in sure.items() if value} | known
