"""A Sentinel-1 GRD product whose files a STAC Item names one by one: read as a SAFE folder is.

Assets go by the keys of stactools-sentinel1, which the catalogues of Copernicus, Element 84 and Microsoft use: vv, vh, hh, hv;
schema-product-vv, schema-calibration-vv, schema-noise-vv, and so on; safe-manifest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from xtgeo.errors import SceneError
from xtgeo.read.archive import LARGEST_TEXT, Archive
from xtgeo.read.remote import fetch, is_url
from xtgeo.read.sentinel1 import Image, open_images
from xtgeo.read.trust import path_of
from xtgeo.scene import Scene

KEY = re.compile(r"(?:schema-)?(product|calibration|noise)-(vv|vh|hh|hv)|safe[-_](manifest)", re.IGNORECASE)
KINDS = ("annotation", "calibration", "noise")


@dataclass(frozen=True)
class NamedFiles(Archive):
    """Files that lie wherever an item says; `path` is the item."""

    places: Mapping[str, str]
    """Path or URL of each name."""

    def gdal(self, name: str) -> str:
        """The file's path or URL."""
        return self.places[name]

    def begin(self, name: str) -> bytes:
        """What a file holds, up to a byte more than a text may have."""
        place = self.places[name]
        if is_url(place):
            return fetch(place, LARGEST_TEXT)
        if "://" not in place:
            with open(place, "rb") as file:
                return file.read(LARGEST_TEXT + 1)
        try:
            import fsspec

            with fsspec.open(place, **_like_gdal(place)) as file:
                return file.read(LARGEST_TEXT + 1)
        except ImportError as error:
            raise SceneError(f"{place} cannot be read: {error}; GDAL reads pixels from there, but not texts") from error
        except Exception as error:  # every file system has errors of its own
            told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise SceneError(f"cannot read {place}: {told}; check the address and your credentials") from error


def radar_files(assets: Mapping[str, Mapping]) -> dict[str, dict[str, str]]:
    """{polarisation: {kind: href}} of annotations, calibration and noise; {"": {"manifest": href}} of the manifest."""
    found: dict[str, dict[str, str]] = {}
    for key, asset in assets.items():
        match = KEY.fullmatch(key)
        if match and isinstance(asset, Mapping) and isinstance(asset.get("href"), str):
            kind, polarisation, manifest = match.groups(default="")
            found.setdefault(polarisation.lower(), {})[(kind or manifest).lower().replace("product", "annotation")] = asset["href"]
    for files in found.values():
        if annotation := _annotation(files):
            files["annotation"] = annotation
    return found


def _annotation(files: Mapping[str, str]) -> str:
    """Microsoft's catalogue names the report on interference instead, where there is one; the annotation lies where SAFE has it."""
    told = files.get("annotation", "")
    if told and not path_of(told).rpartition("/")[2].startswith("rfi-"):
        return told
    place, mark, rest = files.get("calibration", "").partition("annotation/calibration/calibration-")
    return f"{place}annotation/{rest}" if mark else ""


def open_item_images(
    home: str,
    name: str,
    measurements: Mapping[str, str],
    files: Mapping[str, Mapping[str, str]],
    place: Callable[[str, str], str],
    *,
    bands: Mapping[str, str],
    units: str | None,
    nodata: float | None,
    noise: str,
) -> Scene:
    """The scene of an item's images.

    measurements: {polarisation: href}. files: see `radar_files`. place: from an href, and words for it, to the path or URL to read.
    bands: {name: polarisation}. The others as in `open_sentinel1`.
    """
    places: dict[str, str] = {}

    def known(href: str | None, what: str) -> str | None:
        if not href:
            return None
        at = place(href, what)
        short = at.partition("?")[0] if "://" in at else at  # what a signed URL is signed with stays out of what is told
        places[short] = at
        return short

    raw = units not in (None, "db", "linear")
    images = []
    for polarisation, href in measurements.items():
        there = files.get(polarisation, {})
        needed = KINDS[:1] if raw else KINDS[:2] if noise == "none" else KINDS
        if missing := [kind for kind in needed if not there.get(kind)]:
            raise SceneError(
                f"item {name} names no {' and no '.join(missing)} of {polarisation}, without which its numbers do not become sigma "
                "nought: open the product itself, or its raw numbers with --units dn"
            )
        annotation, calibration, noises = (known(there.get(kind), f"the {kind} of {polarisation} in item {name}") for kind in KINDS)
        images.append(Image(polarisation, annotation, known(href, f"asset {polarisation} of item {name}"), calibration, noises))
    known(files.get("", {}).get("manifest"), f"the manifest of item {name}")
    return open_images(
        NamedFiles(home, tuple(sorted(places)), places), name, images, bands=bands, units=units, nodata=nodata, noise=noise
    )


def _like_gdal(place: str) -> dict:
    """GDAL's variables for Amazon S3 that s3fs does not know, in its words."""
    if not place.startswith("s3://"):
        return {}
    told = os.environ.get
    options: dict[str, object] = {"anon": told("AWS_NO_SIGN_REQUEST", "").upper() in ("YES", "TRUE", "ON", "1")}
    options["requester_pays"] = told("AWS_REQUEST_PAYER", "").lower() == "requester"
    if server := told("AWS_S3_ENDPOINT"):
        options["endpoint_url"] = f"http{'' if told('AWS_HTTPS', '').upper() in ('NO', 'FALSE', 'OFF', '0') else 's'}://{server}"
    return options
