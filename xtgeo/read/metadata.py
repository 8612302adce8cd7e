"""What headers and file names tell: band names, units, time. What they do not tell stays unknown, not guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePath

from xtgeo.read.header import Header

POLARISATION = re.compile(r"(?<![a-z])(vv|vh|hh|hv)(?![a-z])")
SENTINEL2_BAND = re.compile(r"(?<![A-Z0-9])B(0[1-9]|1[0-2]|8A)(?![A-Z0-9])", re.IGNORECASE)
SENTINEL2_SHORT = re.compile(r"^B(\d{1,2}|8A)(?![A-Z0-9])", re.IGNORECASE)
SENTINEL1_FILE = re.compile(r"^s1[a-d][-_](iw|ew|wv|s\d|sm)[-_]grd", re.IGNORECASE)

UNIT_WORDS = {
    "db": "db",
    "decibel": "db",
    "decibels": "db",
    "linear": "linear",
    "power": "linear",
    "linear power": "linear",
    "intensity": "linear",
    "amplitude": "amplitude",
    "reflectance": "reflectance",
    "dn": "dn",
    "dn10000": "dn10000",
    "rgb": "rgb",
    "kelvin": "kelvin",
    "k": "kelvin",
}

TIME_TAGS = ("datetime", "acquisition_datetime", "acquisitiondatetime", "acquisition_time", "acquisition_date")
TIME_TAGS += ("sensing_time", "product_start_time", "start_time", "mph_sensing_start", "first_line_time", "date")
TIME_FORMATS = ("%Y:%m:%d %H:%M:%S", "%d-%b-%Y %H:%M:%S.%f", "%d-%b-%Y %H:%M:%S", "%Y%m%dT%H%M%S", "%Y%m%d")


def stem(path: str) -> str:
    """File name without folders and extension; of a URL too."""
    return PurePath(path.split("?")[0]).stem


def band_names(headers: Sequence[Header]) -> tuple[str, ...]:
    """A name for each band: from its description, the name of its file, its colour; else band_1, band_2."""
    plain, ours = [], []
    for header in headers:
        alone = len(header.numbers) == 1
        for text, color in zip(header.descriptions, header.colors, strict=True):
            color = color if color in ("red", "green", "blue") else ""
            source = text or (stem(header.path) if alone else "")
            plain.append(source if text or len(headers) > 1 else color)
            ours.append(
                _well_known(text, SENTINEL2_SHORT) or (alone and _well_known(stem(header.path))) or text or color
            )
    numbered = [f"band_{i}" for i in range(1, len(ours) + 1)]
    for names in (ours, plain):
        names = [name or number for name, number in zip(names, numbered, strict=True)]
        if len(set(names)) == len(names):
            return tuple(names)
    return tuple(numbered)


def _well_known(text: str, *more: re.Pattern) -> str:
    if found := POLARISATION.search(text.lower()):
        return found[1]
    for pattern in (SENTINEL2_BAND, *more):
        if found := pattern.search(text):
            return "B" + found[1].upper().zfill(2)
    return ""


def is_sentinel1_grd(header: Header) -> bool:
    """Whether this is a measurement of a Sentinel-1 GRD product: raw numbers, 0 for nothing."""
    named = SENTINEL1_FILE.match(stem(header.path)) or (
        header.tags.get("tifftag_imagedescription", "").startswith("Sentinel-1") and bool(header.gcps)
    )
    return bool(named) and set(header.dtypes) == {"uint16"}


def units_of(headers: Sequence[Header], names: Sequence[str]) -> tuple[str, ...]:
    """For each band one of scene.UNITS, "unknown" when nothing tells."""
    answers, at = [], 0
    for header in headers:
        answers += _units_of_file(header, names[at : at + len(header.numbers)])
        at += len(header.numbers)
    return tuple(answers)


def _units_of_file(header: Header, names: Sequence[str]) -> list[str]:
    whole = UNIT_WORDS.get(header.tags.get("units", header.tags.get("unit", "")).strip().lower())
    optical = all(SENTINEL2_BAND.fullmatch(name) for name in names)
    scaled = all(0 < scale < 0.01 for scale in header.scales)
    answers = []
    for unit, description, dtype in zip(header.units, header.descriptions, header.dtypes, strict=True):
        told = (
            UNIT_WORDS.get(unit.lower()) or whole or _units_in_words(description) or _units_in_words(stem(header.path))
        )
        if told:
            answers.append(told)
        elif is_sentinel1_grd(header):
            answers.append("dn")
        elif header.gcps and dtype.startswith(("uint", "int")):
            answers.append("dn")
        elif optical and scaled:
            answers.append("reflectance")
        elif optical and dtype == "uint16" and not any(scale != 1 for scale in header.scales):
            answers.append("dn10000")
        elif dtype == "uint8" and tuple(header.colors[:3]) == ("red", "green", "blue"):
            answers.append("rgb")
        else:
            answers.append("unknown")
    return answers


def _units_in_words(text: str) -> str:
    """From names such as VV_dB, Sigma0_VV_db, Amplitude_VV, and Sigma0_VV, which SNAP writes for linear power."""
    words = re.split(r"[^a-z0-9]+", text.lower())
    if "db" in words:
        return "db"
    for word, units in (("amplitude", "amplitude"), ("intensity", "linear"), ("linear", "linear")):
        if word in words:
            return units
    calibrated = {"sigma0", "gamma0", "beta0"} & set(words)
    return "linear" if calibrated and POLARISATION.search(text.lower()) else ""


def time_of(headers: Sequence[Header]) -> datetime | None:
    """Acquisition in UTC: from tags that name it, then from the file's name, then from the TIFF's own date."""
    for header in headers:
        for key in TIME_TAGS:
            if key in header.tags and (time := _parse(header.tags[key])):
                return time
        if found := re.search(r"(?<!\d)(\d{8}t\d{6})(?!\d)", header.path, re.IGNORECASE):
            if time := _parse(found[1].upper()):
                return time
        if time := _parse(header.tags.get("tifftag_datetime", "")):
            return time
    return None


def moment(*texts: str) -> datetime | None:
    """The first of these that is a time, in UTC; UTC is meant where no zone is said."""
    return next((time for text in texts if (time := _parse(text))), None)


def _parse(text: str) -> datetime | None:
    text = text.strip()
    for parse in (datetime.fromisoformat, *((lambda t, f=f: datetime.strptime(t, f)) for f in TIME_FORMATS)):
        try:
            time = parse(text)
        except ValueError:
            continue
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    return None
