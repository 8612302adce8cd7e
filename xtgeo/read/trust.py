"""What a file may point to, and how much it may claim, unless the user trusts it.

What the user names is the user's business. What a file names (a VRT its sources, a STAC item its assets) must lie in the file's own
folder, or on a public host: a description from a stranger must not read the user's other files, or reach into his network.
Sizes are believed only within reason, for memory is set aside by them.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import zipfile
import zlib
from functools import lru_cache
from urllib.parse import unquote, urljoin, urlsplit
from xml.etree import ElementTree

from xtgeo.errors import SceneError

REMEDY = "if you trust it, open it with trusted=True (--trusted)"

DRIVERS = ("GTiff", "JP2OpenJPEG", "JP2KAK", "PNG", "JPEG", "WEBP", "BMP", "HFA", "ENVI", "EHdr", "NITF", "AAIGrid", "GRIB")
"""Formats whose pixels lie in the file or beside it. Others may point anywhere (WMS, STACIT, GTI, HDF5's links) or compute."""

MOST_PIXELS = 2**38
"""Of one scene: 524,288 squared, twenty times the largest product."""
MOST_BANDS = 2048
MOST_DECODED = 1 << 30
"""Bytes of one block, decoded; a file that wants more is read in no bounded memory."""

PLAIN = {
    *("VRTDataset", "SRS", "GeoTransform", "GCPList", "GCP", "Metadata", "MDI", "VRTRasterBand", "Description", "UnitType"),
    *("Offset", "Scale", "CategoryNames", "Category", "ColorInterp", "ColorTable", "Entry", "NoDataValue", "HideNoDataValue"),
    *("Histograms", "HistItem", "HistMin", "HistMax", "BucketCount", "IncludeOutOfRange", "Approximate", "HistCounts"),
    *("SimpleSource", "ComplexSource", "AveragedSource", "SourceFilename", "SourceBand", "SourceProperties", "SrcRect", "DstRect"),
    *("NODATA", "ScaleOffset", "ScaleRatio", "SrcMin", "SrcMax", "DstMin", "DstMax", "Exponent", "LUT", "UseMaskBand"),
    *("ColorTableComponent", "Overview", "OverviewList", "MaskBand", "BlockXSize", "BlockYSize"),
}
"""What a VRT needs to lay files side by side."""
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\x89PNG", b"\xff\xd8\xff")
MAGIC += (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"EHFA_HEADER")


BESIDE = (".ovr", ".msk")


def drivers_for(path: str, trusted: bool) -> tuple[str, ...] | None:
    """GDAL's drivers that may open this; None is all of them. Refuses a VRT that does more than to place files of its folder."""
    if trusted:
        return None
    is_vrt = os.path.isfile(path) and _is_vrt(_head(path))
    if is_vrt:
        _check_vrt(path, [])
    _check_beside(path)
    _check_zip(path)
    return (*DRIVERS, "VRT") if is_vrt else DRIVERS


def points_elsewhere(path: str) -> bool:
    """Whether this is a description rather than pixels, to say so when it is not opened."""
    special = path.lstrip().startswith("<") or path.split("?")[0].lower().endswith((".vrt", ".gti"))
    head = _head(path).lstrip(b"\xef\xbb\xbf \t\r\n")
    return special or head.startswith((b"<", b"{", b"\x89HDF", b"CDF")) or (not path.startswith("/vsi") and ":" in path[2:])


def refuse_absurd(path: str, shape: tuple[int, int], bands: int):
    """No scene is so large."""
    h, w = shape
    if h * w > MOST_PIXELS or h < 1 or w < 1:
        raise SceneError(f"{path} claims {w:,} x {h:,} pixels, more than any scene has; {REMEDY}")
    if bands > MOST_BANDS:
        raise SceneError(f"{path} claims {bands:,} bands; at most {MOST_BANDS:,} are read; {REMEDY}")


def refuse_large_blocks(path: str, block_bytes: int):
    """`block_bytes`: of one band, decoded at once."""
    if block_bytes > MOST_DECODED:
        raise SceneError(
            f"{path} has blocks of {block_bytes:,} bytes, which are decoded whole: rewrite it in tiles, for instance with "
            f"gdal_translate -of COG; {REMEDY}"
        )


def path_of(href: str) -> str:
    """The path in an address, without what follows it; empty for what is no address."""
    try:
        return urlsplit(href).path
    except ValueError:  # urllib's word for wrong brackets or ports
        return ""


def refuse_place(href: str, home: str, what: str, *, was_there: bool = True) -> str:
    """Where `href`, named by the description at `home` (a path or URL), really is; refused where it may not point.

    Relative ones are relative to `home`. Allowed: files of home's folder, for a description on disk; the same host, for one that
    was fetched from there (`was_there`) and does not only say so; and public hosts and object stores.
    """
    if not href.isprintable():
        raise SceneError(f"{what} points to {href[:200]!r}, which is no address; {REMEDY}")
    try:
        return _refuse_place(href, home, what, was_there)
    except ValueError as error:  # urllib's word for addresses with wrong brackets or ports
        raise SceneError(f"{what} points to {href[:200]}, which is no address: {error}; {REMEDY}") from error


def _refuse_place(href: str, home: str, what: str, was_there: bool) -> str:
    base, place = urlsplit(home), href.replace("\\", "/") if "://" not in href else href
    remote = base.scheme in ("http", "https", "s3", "gs", "az")
    scheme = urlsplit(place).scheme.lower()
    if scheme == "file":
        place, scheme = unquote(urlsplit(place).path), ""
    if len(scheme) == 1:  # a drive of Windows
        scheme = ""
    if remote and not scheme and not place.startswith("/vsi"):
        place = _join(home, place)
        scheme = urlsplit(place).scheme
    if scheme in ("s3", "gs", "az") and ".." not in place.split("/"):
        return place
    if scheme in ("http", "https"):
        if urlsplit(place).netloc == base.netloc and remote and was_there:
            return place
        if not is_internal(place):
            return place
        raise SceneError(f"{what} points to an internal address, {href}; {REMEDY}")
    if scheme or remote or place.startswith("/vsi") or "<" in place:
        raise SceneError(f"{what} points to {href}, which is neither a file beside it nor an address on the network; {REMEDY}")
    if not home:
        raise SceneError(f"{what} is {href}, relative to a place that nobody knows: open the item by its path or URL")
    folder = os.path.realpath(os.path.dirname(os.path.abspath(home)))
    inside = os.path.realpath(os.path.join(folder, place))
    if os.path.commonpath([folder, inside]) != folder:
        raise SceneError(f"{what} points to {href}, outside of its own folder {folder}; {REMEDY}")
    return inside


def resolve(href: str, home: str) -> str:
    """Where `href` is, for a description that is trusted."""
    try:
        scheme = urlsplit(href).scheme
    except ValueError as error:
        raise SceneError(f"{href[:200]} is no address: {error}") from error
    if scheme == "file":
        return unquote(path_of(href))
    if len(scheme) > 1 or href.startswith("/vsi"):
        return href
    return _join(home, href) if "://" in home else os.path.join(os.path.dirname(os.path.abspath(home)), href)


def is_internal(url: str) -> bool:
    """Whether an address leads to this machine or its own network. A name that is not known here is left to whoever fetches it."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return True
    return not host or _is_internal_host(host)


@lru_cache(maxsize=256)
def _is_internal_host(host: str) -> bool:
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal", ".intranet", ".lan", ".home.arpa")):
        return True
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return "." not in host
    return any(not _public(ipaddress.ip_address(address.split("%")[0])) for address in found)


def _public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    return address.is_global and not address.is_multicast and (inner is None or _public(inner))


def _join(home: str, href: str) -> str:
    """urljoin for schemes that it does not know as well."""
    scheme = urlsplit(home).scheme
    if scheme in ("http", "https"):
        return urljoin(home, href)
    joined = urljoin("http" + home[len(scheme) :], href)
    return scheme + joined.removeprefix("http") if joined.startswith("http://") else href


def safe_json(content: bytes, what: str) -> dict:
    """An object from bytes of a stranger."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        told = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise SceneError(f"{what} is no JSON: {told}") from error
    if not isinstance(value, dict):
        raise SceneError(f"{what} is no JSON object: it begins with {type(value).__name__}")
    return value


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(4096)
    except (OSError, ValueError):
        return b""


def _is_vrt(head: bytes) -> bool:
    return b"<VRTDataset" in head


def _check_vrt(path: str, above: list[str]):
    """Only elements that place files, only files of the VRT's own folder, and those are images or such VRTs."""
    if len(above) > 8 or path in above:
        raise SceneError(f"{path} is a VRT in a VRT in a VRT; {REMEDY}")
    with open(path, "rb") as file:
        content = file.read((64 << 20) + 1)
    try:
        if b"<!" in content or len(content) > 64 << 20:
            raise ValueError("it declares entities or is larger than 64 MB")
        # As text: GDAL takes no notice of the encoding that it declares, so a reader that did would see another file.
        root = ElementTree.fromstring(content.decode("utf-8-sig"))
    except (ElementTree.ParseError, ValueError) as error:
        raise SceneError(f"cannot read the VRT {path}: {error}; {REMEDY}") from error
    checked = set()
    for element in root.iter():
        if element.tag not in PLAIN:
            raise SceneError(f"{path} is a VRT that does more than to place files (<{element.tag[:40]}>); {REMEDY}")
        if element.tag == "MDI" and element.get("key", "").endswith(("_DATASET", "_FILE")):
            raise SceneError(f"{path} names another file in its metadata ({element.get('key')}); {REMEDY}")
        if element.tag != "SourceFilename":
            continue
        named = (element.text or "").strip()
        at = os.path.join(os.path.dirname(os.path.abspath(path)) if element.get("relativeToVRT") == "1" else os.getcwd(), named)
        if at not in checked:
            checked.add(at)
            _check_source(path, named, at, above)


def _check_source(path: str, named: str, at: str, above: list[str]):
    folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    inside = os.path.realpath(at)
    if ":" in os.path.splitdrive(named)[1] or "<" in named or named.startswith("/vsi") or not inside.startswith(folder + os.sep):
        raise SceneError(f"{path} is a VRT that points to {named[:200]!r}, outside of its own folder; {REMEDY}")
    if not os.path.isfile(inside):
        raise SceneError(f"{path} is a VRT of {named[:200]!r}, which is not there: copy or download it again")
    head = _head(inside)
    if _is_vrt(head):
        _check_vrt(inside, [*above, path])
    elif not head.startswith(MAGIC):
        raise SceneError(f"{path} is a VRT of {named[:200]!r}, which is no TIFF, JPEG 2000, PNG, JPEG or IMG; {REMEDY}")
    _check_beside(inside)


def _check_beside(path: str):
    """Overviews and masks beside a file are opened with every driver that GDAL has."""
    for suffix in BESIDE:
        if (head := _head(path + suffix)) and not head.startswith(MAGIC):
            raise SceneError(f"{path}{suffix} is no image, but something that may point elsewhere: remove it; or, {REMEDY}")


def _check_zip(path: str):
    """A zip on disk that GDAL is to read from: what it holds, by its own words, must be possible."""
    archive = _zip_of(path)
    if archive is None:
        return
    try:
        with zipfile.ZipFile(archive) as file:
            entries = file.infolist()
            strange = [e.filename for e in entries if e.filename.endswith(BESIDE) and not _begins_as_image(file, e)]
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
        raise SceneError(f"{archive} cannot be read: {error}; copy or download it again") from error
    if strange:
        raise SceneError(f"{archive} holds {strange[0]}, which is no image, but something that may point elsewhere; {REMEDY}")
    for entry in entries:
        if leads_out(entry.filename):
            raise SceneError(f"{archive} holds a file named {entry.filename!r}, which points outside of it: it is not read")
        # deflate reaches 1,032 at most; a scene of nothing but zeros comes near, but is not that large.
        if entry.file_size > max(1 << 30, 200 * entry.compress_size) or entry.file_size > 1 << 40:
            raise SceneError(
                f"{archive} claims that {entry.filename!r} unpacks from {entry.compress_size:,} to {entry.file_size:,} bytes; "
                f"{REMEDY}"
            )


def leads_out(name: str) -> bool:
    """Whether a file's name in an archive leads out of the folder that it would be unpacked to."""
    return name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/")


def _begins_as_image(file: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    with file.open(entry) as inside:
        return inside.read(16).startswith(MAGIC)


def _zip_of(path: str) -> str | None:
    """The local zip in a path such as /vsizip/a.zip/b.tif, /vsizip/{a.zip}/b.tif or zip://a.zip!b.tif."""
    for prefix, end in (("zip+file://", "!"), ("zip://", "!"), ("/vsizip/", "/")):
        if path.startswith(prefix):
            rest = path[len(prefix) :]
            if rest.startswith("{"):
                return rest[1 : rest.index("}")] if "}" in rest else None
            parts = rest.split(end)
            names = (end.join(parts[:n]) for n in range(1, len(parts) + 1))
            return next((name for name in names if os.path.isfile(name)), None)
    return None
