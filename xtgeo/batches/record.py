"""Record of a batch: what became of each scene, in one SQLite file in the output folder, a transaction a change.

A scene is `begun` before anything of it is written and `done` when its files are there, so that what a killed batch left can be
told from files that are not ours.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from xtgeo.errors import JournalError, OutputError
from xtgeo.write.staged import reported

NAME, LOCK, OWNER = ".batch.sqlite", ".batch.lock", ".batch.owner"
FORMAT = 1


@dataclass(frozen=True)
class Row:
    """What is known of one scene."""

    name: str
    href: str
    state: str
    """begun, done or failed"""
    identity: str
    """Changes with the scene's file, the model and the options."""
    ours: bool
    """Whether files of its name in the folder can only be ours."""
    facts: dict
    """Of a scene that is done: objects, megapixels, seconds, ...; of one that failed: error."""


class Record:
    """Rows by name; used by any thread, by one process at a time."""

    def __init__(self, folder: Path):
        self._path, self._lock = folder / NAME, threading.Lock()
        with self._using():
            self._db = sqlite3.connect(self._path, check_same_thread=False)
            self._db.execute("PRAGMA synchronous=FULL")
            with self._db:
                self._db.execute("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT)")
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS scenes "
                    "(name TEXT PRIMARY KEY, href TEXT, state TEXT, identity TEXT, ours INTEGER, facts TEXT)"
                )
        if (found := self.meta("format")) not in (None, FORMAT):
            raise JournalError(f"{self._path} was written by another version of xtgeo (format {found}): take another folder")
        self.set_meta("format", FORMAT)

    def meta(self, name: str):
        with self._using():
            row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set_meta(self, name: str, value: object) -> None:
        with self._using(), self._db:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value, sort_keys=True)))

    def put(self, row: Row) -> None:
        with self._using(), self._db:
            values = row.name, row.href, row.state, row.identity, int(row.ours), json.dumps(row.facts, sort_keys=True)
            self._db.execute("INSERT OR REPLACE INTO scenes VALUES (?, ?, ?, ?, ?, ?)", values)

    def get(self, name: str) -> Row | None:
        with self._using():
            found = self._db.execute("SELECT * FROM scenes WHERE name = ?", (name,)).fetchone()
        return None if found is None else _row(found)

    def rows(self, state: str | None = None) -> Iterator[Row]:
        """By name."""
        where, values = ("", ()) if state is None else (" WHERE state = ?", (state,))
        with self._using():
            found = self._db.execute(f"SELECT * FROM scenes{where} ORDER BY name", values).fetchall()
        return map(_row, found)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _using(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.OperationalError as e:
            raise OutputError(f"{self._path} cannot be written ({e}): check the folder's rights and space, run again") from e
        except (sqlite3.DatabaseError, ValueError, TypeError) as e:
            raise JournalError(
                f"{self._path}, which tells what is done, is damaged ({e}): move it away and give --redo, or take another folder"
            ) from e


def _row(values: tuple) -> Row:
    *texts, ours, facts = values
    return Row(*texts, bool(ours), json.loads(facts))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Holds the folder for one batch. The lock is the system's: it goes with the process, so none is ever stale."""
    lock, owner = FileLock(folder / LOCK, timeout=0), folder / OWNER
    try:
        lock.acquire()
    except Timeout as e:
        try:
            who = owner.read_text().strip()
        except OSError:  # it has just ended, or only begins
            who = "another process"
        raise OutputError(f"{folder} is in use by another batch ({who}): wait for it, or take another folder") from e
    except OSError as e:
        raise OutputError(f"{folder} cannot be written ({e.strerror}): choose another folder") from e
    try:
        with reported(owner):
            owner.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()
