"""A Sentinel-1 GRD product, as folder or zip, as one scene of calibrated backscatter in radar geometry.

Read are the measurements and, of each, three annotations: of the image itself (control points, times, orbit), of its
calibration and of its noise; from the manifest the relative orbit and the processor's version. Names and meaning of what is
read: "Sentinel-1 Product Specification", S1-RS-MDA-52-7441.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from xml.etree.ElementTree import Element

import numpy as np

from xtgeo.errors import SceneError
from xtgeo.grid import EPSG_4326, GcpGrid
from xtgeo.read.archive import Archive
from xtgeo.read.bands import Band, choose_bands
from xtgeo.read.calibration import Calibration, Sigma0Source, Swath, Table, fill_zeros
from xtgeo.read.header import Header
from xtgeo.read.raster import RasterSource, open_raster
from xtgeo.read.stack import StackSource
from xtgeo.scene import Scene

IMAGE = re.compile(r"(s1[a-d]-\w+-(\w+)-(vv|vh|hh|hv)-[\w-]*?-(\d{3}))(-cog)?\.(xml|tiff?)", re.IGNORECASE)
"""Of a measurement and its annotation: the name they share, the product's type, polarisation and number of the image."""
FIRST_CLEAN = 2.9, datetime(2018, 3, 13, tzinfo=UTC)
"""Version of the processor that removes border noise itself, and when it came into use."""
MOST_SIDE, MOST_POINTS = 1_000_000, 100_000
REMEDIES = {
    "annotation": "give its measurements as files, whose raw numbers are read without it",
    "measurement": "name only the bands that are there with --bands, such as --bands vv",
    "calibration": "open its raw numbers with --units dn",
    "noise": "leave the noise in with --noise none",
}
AGREE_DEGREES = 1e-5
"""By how much control points of the annotation and of the measurement may differ: a metre."""


@dataclass(frozen=True)
class Image:
    """The files of one polarisation, by their names in the product; None where one is missing."""

    polarisation: str
    annotation: str | None
    measurement: str | None
    calibration: str | None
    noise: str | None


class Point(NamedTuple):
    """A control point, in the pixels of `xtgeo.grid`."""

    row: float
    col: float
    x: float
    y: float
    z: float


def is_sentinel1(archive: Archive) -> bool:
    """Whether these are the files of a Sentinel-1 product of images."""
    return any(_part(name) for name in archive.names)


def open_sentinel1(
    archive: Archive, *, bands: Mapping[str, int | str] | str | None, units: str | None, nodata: float | None, noise: str
) -> Scene:
    """The scene of a product: sigma nought in dB, or as `units` says, "linear"; any other units are of its raw numbers.

    Bands are named by polarisation, in the order of the product's image numbers; an image that `bands` leaves out may be missing.
    `noise`: see `calibration`.
    """
    return open_images(archive, *_images(archive), bands=bands, units=units, nodata=nodata, noise=noise)


def open_images(
    archive: Archive,
    product: str,
    images: list[Image],
    *,
    bands: Mapping[str, int | str] | str | None,
    units: str | None,
    nodata: float | None,
    noise: str,
) -> Scene:
    """The scene of a product's images; the rest as in `open_sentinel1`."""
    calibrated = units in (None, "db", "linear")
    chosen = choose_bands(bands, [Band(image.polarisation, units or "db") for image in images])
    used = sorted(set(chosen.values()))
    images = [images[i - 1] for i in used]
    facts = _facts(archive, product, noise if calibrated else None)
    opened = [_open_image(archive, image, facts, nodata=nodata, noise=noise if calibrated else None) for image in images]
    sources, roots = zip(*opened, strict=True)
    if len({source.shape for source in sources}) > 1:
        raise SceneError(f"the images of {product} differ in size: {', '.join(f'{s.shape[0]} x {s.shape[1]}' for s in sources)}")
    first = roots[0]
    with _naming(archive, images[0].annotation):
        grid, facts = _grid(first, images[0], sources[0].shape), facts | _facts_of(first)
        start = _time(_text(first, "imageAnnotation/imageInformation/productFirstLineUtcTime"))
        row_seconds = _number(first, "imageAnnotation/imageInformation/azimuthTimeInterval")
    return Scene(
        source=StackSource(sources) if len(sources) > 1 else sources[0],
        grid=grid,
        bands=tuple(chosen),
        indexes=tuple(used.index(i) + 1 for i in chosen.values()),
        stored_units="linear" if calibrated else units,
        units=units or "db",
        id=product,
        href=archive.path,
        time=start,
        row_seconds=row_seconds,
        facts=facts,
    )


def _part(name: str) -> tuple[str, str, re.Match] | None:
    """(folder of the product, kind of file, match of IMAGE) of a name in an archive; None for any other file."""
    folder, _, file = name.rpartition("/")
    for kind, inside, before in (
        ("calibration", "annotation/calibration", "calibration-"),
        ("noise", "annotation/calibration", "noise-"),
        ("annotation", "annotation", ""),
        ("measurement", "measurement", ""),
    ):
        root = folder.removesuffix(inside)
        found = IMAGE.fullmatch(file.removeprefix(before))
        fits = folder.endswith(inside) and (not root or root.endswith("/")) and file.startswith(before)
        if fits and found and (kind == "measurement") == found[6].lower().startswith("tif"):
            return root, kind, found
    return None


def _images(archive: Archive) -> tuple[str, list[Image]]:
    """The product's name and its images, in the order of their numbers; refused where it is not one product of GRD."""
    roots, types, found = set(), set(), {}
    for name in archive.names:
        if part := _part(name):
            root, kind, match = part
            roots.add(root)
            types.add(match[2].lower())
            found.setdefault((match[4], match[3].lower(), match[1].lower()), {})[kind] = name
    place = os.path.basename(archive.path).removesuffix(".zip").removesuffix(".ZIP")
    if len(roots) > 1:
        raise SceneError(f"{archive.path} holds {len(roots)} products ({', '.join(sorted(roots)[:4])}): give them one by one")
    if types != {"grd"}:
        raise SceneError(
            f"{archive.path} is a Sentinel-1 product of type {', '.join(sorted(types)).upper()}, whose numbers are not detected "
            "images: give a GRD product"
        )
    product = roots.pop().rstrip("/").rpartition("/")[2] or place
    images = [
        Image(polarisation, *(files.get(kind) for kind in ("annotation", "measurement", "calibration", "noise")))
        for (_, polarisation, _), files in sorted(found.items())
    ]
    if len({image.polarisation for image in images}) < len(images):
        raise SceneError(f"{archive.path} has two images of one polarisation: it is not one GRD product")
    return product.removesuffix(".SAFE"), images


def _open_image(archive: Archive, image: Image, facts: dict, *, nodata: float | None, noise: str | None):
    """(source, annotation) of an image: calibrated by a rule for noise, raw without."""
    for kind in ("annotation", "measurement", *(("calibration", "noise") if noise else ())):
        if getattr(image, kind) is None and not (kind == "noise" and noise == "none"):
            raise SceneError(
                f"{archive.path} is not whole: it has no {kind} of {image.polarisation}; copy or download it again, or "
                f"{REMEDIES[kind]}"
            )
    root = archive.xml(image.annotation)
    with _naming(archive, image.annotation):
        shape = _shape(root)
        raw, header = open_raster(archive.gdal(image.measurement), nodata=0.0 if nodata is None else nodata)
        if raw.shape != shape or raw.count != 1 or raw.stored != "uint16":
            raise ValueError(
                f"it tells of {shape[0]} x {shape[1]} numbers of uint16, the measurement has {raw.count} band(s) of "
                f"{raw.shape[0]} x {raw.shape[1]} {raw.stored}"
            )
        _refuse_cut(archive, image.measurement, raw)
        _refuse_other_points(root, header)
        start = _time(_text(root, "adsHeader/startTime"))
    if noise is None:
        return raw, root
    gain, thermal, swaths = _gain(archive, image), None, ()
    if noise != "none":
        thermal, swaths = _thermal(archive, image)
    version = float(facts.get("s1:ipf_version", "nan"))
    border = version < FIRST_CLEAN[0] if version == version else start < FIRST_CLEAN[1]
    return Sigma0Source(raw, Calibration(gain, thermal, swaths, noise), shape, border), root


class _naming:
    """What is wrong with numbers of a file is told with the file's name."""

    def __init__(self, archive: Archive, name: str):
        self.place = f"{name.rpartition('/')[2]} in {archive.path}"

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, ValueError):
            raise SceneError(f"{self.place} cannot be used: {error}; copy or download it again") from error


def _gain(archive: Archive, image: Image) -> Table:
    root = archive.xml(image.calibration)
    with _naming(archive, image.calibration):
        return Table.from_vectors(fill_zeros(*v) for v in _vectors(root, "calibrationVector", "sigmaNought"))


def _thermal(archive: Archive, image: Image) -> tuple[Table | None, tuple[Swath, ...]]:
    """Noise over range, None where it is 0 everywhere, as early processors left it; and how it changes over azimuth."""
    root = archive.xml(image.noise)
    with _naming(archive, image.noise):
        old = [*_vectors(root, "noiseVector", "noiseLut")]
        table = Table.from_vectors(old or _vectors(root, "noiseRangeVector", "noiseRangeLut"))
        swaths = () if old else tuple(_swath(vector) for vector in root.iter("noiseAzimuthVector"))
        return (table if table.values.any() else None), swaths


def _vectors(root: Element, tag: str, values: str) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    for vector in root.iter(tag):
        line, pixels, numbers = _number(vector, "line"), _numbers(vector, "pixel"), _numbers(vector, values)
        if len(pixels) != len(numbers):
            raise ValueError(f"line {line:g} has {len(numbers)} values for {len(pixels)} pixels")
        yield line, pixels, numbers


def _swath(vector: Element) -> Swath:
    """Stripmap images are one block, and do not say where it ends."""
    ends = {"firstAzimuthLine": 0, "lastAzimuthLine": MOST_SIDE, "firstRangeSample": 0, "lastRangeSample": MOST_SIDE}
    ends = {name: end if vector.find(name) is None else int(_number(vector, name)) for name, end in ends.items()}
    lines, values = _numbers(vector, "line"), _numbers(vector, "noiseAzimuthLut")
    if len(lines) != len(values):
        raise ValueError(f"a noiseAzimuthVector has {len(values)} values for {len(lines)} lines")
    curve = Table.from_vectors((line, np.zeros(1), [value]) for line, value in zip(lines, values, strict=True))
    return Swath(*ends.values(), curve)


def _shape(root: Element) -> tuple[int, int]:
    shape = tuple(
        int(_number(root, f"imageAnnotation/imageInformation/{name}")) for name in ("numberOfLines", "numberOfSamples")
    )
    if not all(0 < side <= MOST_SIDE for side in shape):
        raise ValueError(f"it tells of {shape[0]} x {shape[1]} pixels, which no product has")
    return shape


def _points(root: Element) -> list[Point]:
    """Control points. Line 0 is the middle of the first row: at its azimuth time, and at pixel 0, the range of the first sample."""
    grid = root.findall("geolocationGrid/geolocationGridPointList/geolocationGridPoint")
    if len(grid) > MOST_POINTS:
        raise ValueError(f"it has {len(grid):,} control points, which no product has")
    names = ("line", "pixel", "longitude", "latitude", "height")
    table = np.array([[_number(point, name) for name in names] for point in grid]).reshape(-1, 5)
    if not np.isfinite(table).all() or (np.abs(table[:, 2:4]) > (180.0, 90.0)).any():
        raise ValueError("some of its control points do not lie on the earth")
    return [Point(line + 0.5, pixel + 0.5, *place) for line, pixel, *place in table.tolist()]


def _grid(root: Element, image: Image, shape: tuple[int, int]) -> GcpGrid:
    try:
        return GcpGrid.from_gcps(_points(root), shape, EPSG_4326)
    except SceneError as error:
        raise SceneError(f"{image.annotation} places no scene: {error}") from error


def _refuse_cut(archive: Archive, name: str, raw: RasterSource) -> None:
    """A measurement in a zip that is shorter than its pixels; a file on its own is looked at when it is opened.

    Only sizes are compared: where the last pixels lie may be told at the file's end, and to get there all of it is inflated.
    """
    if not zipfile.is_zipfile(archive.path) or raw.handles.dataset().compression is not None:
        return
    with zipfile.ZipFile(archive.path) as whole:
        size, needed = whole.getinfo(name).file_size, 2 * raw.shape[0] * raw.shape[1]
    if size < needed:
        raise SceneError(
            f"{name} in {archive.path} is cut short: {size:,} bytes for {needed:,} of pixels; copy or download it again"
        )


def _refuse_other_points(root: Element, header: Header) -> None:
    """The measurement's own control points, if it has any, lie where the annotation has them, by line and pixel."""
    told = {(p.row - 0.5, p.col - 0.5): (p.x, p.y) for p in _points(root)}
    for point in header.gcps:
        place = told.get((round(point.row, 3), round(point.col, 3)))
        if place is None or abs(point.y - place[1]) > AGREE_DEGREES or abs((point.x - place[0] + 180) % 360 - 180) > AGREE_DEGREES:
            raise ValueError(
                f"its control points are not those of the measurement, which has ({point.x:.6f}, {point.y:.6f}) at line "
                f"{point.row:g}, pixel {point.col:g}"
            )


def _facts(archive: Archive, product: str, noise: str | None) -> dict:
    """What the manifest and the name tell; nothing of it is needed."""
    facts = {"constellation": "sentinel-1", "product_id": product}
    if noise:
        facts["s1:noise"] = noise
    for name in archive.find(lambda name: name == "manifest.safe")[:1]:
        for element in archive.xml(name).iter():
            tag = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
            if tag == "relativeOrbitNumber" and (element.text or "").strip().isdigit():
                facts.setdefault("sat:relative_orbit", int(element.text))
            if tag == "software" and element.get("name") == "Sentinel-1 IPF":
                if re.fullmatch(r"\d{1,3}\.\d{1,3}", version := element.get("version", "")):
                    facts.setdefault("s1:ipf_version", version)
    return facts


def _facts_of(root: Element) -> dict:
    """What the annotation tells, in STAC's words."""
    image = "imageAnnotation/imageInformation"
    return {
        "platform": f"sentinel-{_text(root, 'adsHeader/missionId')[1:].lower()}",
        "start_datetime": _time(_text(root, "adsHeader/startTime")).isoformat(),
        "end_datetime": _time(_text(root, "adsHeader/stopTime")).isoformat(),
        "sar:instrument_mode": _text(root, "adsHeader/mode"),
        "sar:product_type": _text(root, "adsHeader/productType"),
        "sar:pixel_spacing_range": _number(root, f"{image}/rangePixelSpacing"),
        "sar:pixel_spacing_azimuth": _number(root, f"{image}/azimuthPixelSpacing"),
        "sat:absolute_orbit": int(_number(root, "adsHeader/absoluteOrbitNumber")),
        "sat:orbit_state": _text(root, "generalAnnotation/productInformation/pass").lower(),
    }


def _text(root: Element, path: str) -> str:
    text = root.findtext(path)
    if not text or not text.strip():
        raise ValueError(f"it has no {path.rpartition('/')[2]}")
    return text.strip()


def _number(root: Element, path: str) -> float:
    """Finite; ValueError where it is not."""
    text = _text(root, path)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise ValueError(f"its {path.rpartition('/')[2]} is {text[:30]!r}, which is no number")
    return value


def _numbers(root: Element, path: str) -> np.ndarray:
    """Numbers with spaces between them."""
    try:
        return np.array(_text(root, path).split(), dtype=float)
    except ValueError as error:
        raise ValueError(f"its {path} cannot be read as numbers: {error}") from error


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
