"""A product as it came: a folder, a zip or a tar, read in place. Its files have names, texts, and paths as GDAL spells them."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree

from xtgeo.errors import SceneError
from xtgeo.read.trust import leads_out

MOST_FILES = 100_000
TAR_NAME = 100
"""Longer names of a tar are kept in a way that GDAL does not read; such files are found by their place in it."""
LARGEST_TEXT = 64 << 20
"""Bytes of a text once unpacked; the largest annotation of a real product has 10 MB."""


@dataclass(frozen=True)
class Archive:
    """The files of a product, by their names inside it, "/" between folders."""

    path: str
    """The folder, the zip or the tar, absolute."""
    names: tuple[str, ...]
    """Sorted."""

    def gdal(self, name: str) -> str:
        """The file's path for GDAL."""
        if os.path.isdir(self.path):
            return os.path.join(self.path, *name.split("/"))
        if zipfile.is_zipfile(self.path):
            return f"/vsizip/{{{self.path}}}/{name}"
        if len(name) < TAR_NAME:
            return f"/vsitar/{{{self.path}}}/{name.removeprefix('./')}"
        with tarfile.open(self.path, "r:") as archive:
            entry = archive.getmember(name)
        return f"/vsisubfile/{entry.offset_data}_{entry.size},{self.path}"

    def bytes(self, name: str) -> bytes:
        """What a small file holds; refused above LARGEST_TEXT, whatever its header says."""
        try:
            content = self.begin(name)
        except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, tarfile.TarError) as error:
            raise SceneError(f"cannot read {name} in {self.path}: {error}; copy or download it again") from error
        if len(content) > LARGEST_TEXT:
            raise SceneError(f"{name} in {self.path} holds more than {LARGEST_TEXT >> 20} MB of text: it is no metadata")
        return content

    def begin(self, name: str) -> bytes:
        """What a file holds, up to a byte more than a text may have."""
        if os.path.isdir(self.path):
            with open(self.gdal(name), "rb") as file:
                return file.read(LARGEST_TEXT + 1)
        if zipfile.is_zipfile(self.path):
            with zipfile.ZipFile(self.path) as archive, archive.open(name) as file:
                return file.read(LARGEST_TEXT + 1)
        with tarfile.open(self.path, "r:") as tar, tar.extractfile(name) as file:
            return file.read(LARGEST_TEXT + 1)

    def xml(self, name: str) -> ElementTree.Element:
        """The root of an XML file; one that declares entities is refused, since no product needs any."""
        content = self.bytes(name)
        plain = content.replace(b"\0", b"")  # UTF-16 has a zero beside each letter
        if b"<!ENTITY" in plain or b"<!DOCTYPE" in plain:
            raise SceneError(f"{name} in {self.path} declares entities, which no product does: it is not read")
        try:
            return ElementTree.fromstring(content)
        except (ElementTree.ParseError, ValueError, LookupError) as error:
            raise SceneError(f"{name} in {self.path} is not whole: {error}; copy or download it again") from error

    def find(self, matches: Callable[[str], object]) -> list[str]:
        """Names of the files whose last part matches."""
        return [name for name in self.names if matches(name.rpartition("/")[2])]


def open_archive(href: str | os.PathLike) -> Archive | None:
    """The product at a local path; None for what is neither a folder, a zip nor a tar."""
    path = os.path.abspath(href)
    if os.path.isdir(path):
        return Archive(path, tuple(sorted(islice(_walk(path), MOST_FILES))))
    if not os.path.isfile(path):
        return None
    lower = path.lower()
    try:
        if lower.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                return Archive(path, _checked(path, [e.filename for e in archive.infolist() if not e.is_dir()]))
        if lower.endswith(".tar"):
            with tarfile.open(path, "r:") as archive:
                return Archive(path, _checked(path, [entry.name for entry in archive if entry.isfile()]))
    except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError) as error:
        raise SceneError(f"{path} cannot be read: {error}; copy or download it again") from error
    if lower.endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")):
        raise SceneError(
            f"{path} is compressed as a whole, which leaves no way to read a part of it: unpack it into a folder of its own with "
            "tar -xf, and give that"
        )
    return None


def _walk(path: str, depth: int = 6):
    """Files below a folder, not through links to other folders; a product is not deeper."""
    for folder, inner, files in os.walk(path):
        place = Path(folder).relative_to(path)
        if len(place.parts) >= depth:
            inner.clear()
        yield from ((place / file).as_posix() for file in files)


def _checked(path: str, names: list[str]) -> tuple[str, ...]:
    if len(names) > MOST_FILES:
        raise SceneError(f"{path} holds {len(names):,} files: it is no product")
    for name in names:
        if leads_out(name):
            raise SceneError(f"{path} holds a file named {name!r}, which points outside of it: it is not read")
    return tuple(sorted(names))
