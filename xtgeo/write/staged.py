"""Files that appear under their names only when they are complete, and what can go wrong on the way, in one line."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from pyogrio.errors import DataSourceError, FeatureError
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from xtgeo.errors import OutputError

BROKEN = (OSError, sqlite3.Error, DataSourceError, FeatureError, RasterioError, CPLE_BaseError)
"""How the libraries below say that they could not write."""
FULL = ("no space left", "disk is full", "disk full", "file too large")
"""What they say, at best, when the disk is full; often it is no more than that writing failed."""
LITTLE = 1 << 20
"""A disk with fewer free bytes counts as full."""


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


_waiting: ContextVar[list[tuple[Path, Path]] | None] = ContextVar("waiting", default=None)
_held: ContextVar[ExitStack | None] = ContextVar("held", default=None)


@contextmanager
def together(before: Callable[[list[tuple[Path, Path]]], None] | None = None) -> Iterator[None]:
    """Files that are staged inside appear under their names all at once at the end, or none of them does.

    `before` is told what is about to be renamed, (from, to): a process that is killed in between can find out later.
    """
    waiting: list[tuple[Path, Path]] = []
    token = _waiting.set(waiting)
    with ExitStack() as stack:
        held = _held.set(stack)
        try:
            yield
            if before:
                before(waiting)
            for part, path in waiting:
                with reported(path):
                    os.replace(part, path)
            for folder in {path.parent for _, path in waiting}:
                _sync(folder)
        finally:
            _waiting.reset(token)
            _held.reset(held)
            for part, _ in waiting:
                _remove(part)


@contextmanager
def until_placed(lock: AbstractContextManager) -> Iterator[None]:
    """Holds a lock until what is staged inside has its name: inside `together` to its end."""
    if (stack := _held.get()) is not None:
        stack.enter_context(lock)
        yield
        return
    with lock:
        yield


@contextmanager
def staged(path: os.PathLike | str, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary name beside `path` to write to; moved there when the block ends well, removed when it does not.

    Other files whose names begin with the temporary one go with it. What a killed run left is replaced by the next.
    """
    path = check_target(path, overwrite=overwrite)
    part = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        with reported(path):
            _remove(part)
        yield part
        with reported(path):
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
            if (waiting := _waiting.get()) is not None:
                waiting.append((part, path))
                return
            os.replace(part, path)
            _sync(path.parent)
    except BaseException:
        _remove(part)
        raise
    _remove(part)


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Makes an OutputError of what the libraries raise when a file cannot be written. For writing alone."""
    try:
        yield
    except BROKEN as e:
        text = " ".join(str(e).split())
        if _is_full(e, path):
            raise OutputError(f"{path} cannot be written, the disk is full ({text}): free some space, run again") from e
        raise OutputError(f"{path} cannot be written ({text}): check the folder's rights and space, run again") from e


def _is_full(error: BaseException | None, path: Path) -> bool:
    if shutil.disk_usage(path.parent).free < LITTLE:
        return True
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            return True
        if any(words in str(error).lower() for words in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def _sync(folder: Path) -> None:
    """Carries names to the disk: without it a power cut may undo a rename. Where a system cannot do it, it does so by itself."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(part: Path) -> None:
    for left in part.parent.glob(glob.escape(part.name) + "*"):
        left.unlink(missing_ok=True)
