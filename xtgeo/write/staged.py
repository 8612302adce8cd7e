"""Files that appear under their names only when they are complete."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xtgeo.errors import OutputError

FULL = ("no space left", "disk is full", "disk full", "file too large", "write error", "short write", "i/o error")
"""How the libraries below say that a disk is full."""


def check_target(path: os.PathLike | str, *, suffixes: tuple[str, ...] = (), overwrite: bool = False) -> Path:
    """The path, if a file may be written there; before any work is done."""
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise OutputError(f"{path} has an unknown extension {path.suffix!r}: choose one of {', '.join(suffixes)}")
    if path.is_dir():
        raise OutputError(f"{path} is a folder: give the name of a file in it")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists: use --overwrite to replace it, or another name")
    if not path.parent.is_dir():
        raise OutputError(f"folder {path.parent} does not exist: create it first")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"folder {path.parent} is not writable: choose another one")
    return path


@contextmanager
def staged(path: os.PathLike | str, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary name beside `path` to write to; moved there when the block ends well, removed when it does not."""
    path = check_target(path, overwrite=overwrite)
    part = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        with reported(path):
            part.unlink(missing_ok=True)
            yield part
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
    finally:
        for left in (part, *(part.with_name(part.name + s) for s in ("-journal", "-wal", "-shm", ".aux.xml"))):
            left.unlink(missing_ok=True)


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """A full or broken disk is an OutputError in one line; what is not about writing passes."""
    try:
        yield
    except Exception as e:
        text = " ".join(str(e).split())
        full = isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        if full or any(word in text.lower() for word in FULL):
            raise OutputError(f"{path} cannot be written, the disk is full ({text}): free some space, run again") from e
        if isinstance(e, PermissionError):
            raise OutputError(f"{path} cannot be written: {text}") from e
        raise
