"""Journal: finished tiles, kept beside the output until it is complete. One SQLite file, one transaction a tile.

SQLite survives being killed at any moment: a tile is in the journal whole or not at all. The output is made from the
journal alone, in the order of the tiles, so that an interrupted run and an uninterrupted one give the same bytes.

A disk may still change or lose what it was given. So every value has a checksum, and a journal is read whole when it is
opened: a damaged one is set aside as `<journal>.damaged`, and the work begins anew.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from zlib import crc32

from xtgeo.errors import JournalError, OutputError

HEAD, SIGN = b"SQLite format 3\0", b"xtJ3"
"""With what our files begin, and what stands at byte 68: it changes when journals of older versions cannot be continued."""
IN_USE = sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED
DAMAGED = sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR
"""Of SQLite's codes; our statements are right, so that an error in one of them is one of the tables they name."""


class DamagedJournal(JournalError):
    """What was kept does not come back. Opened again, the journal is set aside."""


class Journal:
    """Answers of tiles by their index: named byte strings. Used by one thread at a time; `path` None keeps it in memory.

    `identity` are plain JSON values that say what is computed: scene, model, options. A journal on disk with another
    identity is refused, with the difference, and so is what is no journal; `engine` of an unfinished run is kept and wins,
    since results depend on its number format.
    """

    _db: sqlite3.Connection | None = None
    note: str | None = None
    """That earlier work was lost, and why; for the user, in one line."""

    def __init__(self, path: os.PathLike | None, identity: dict, *, replace: bool = False):
        """replace: throw away what is there, if it has another identity or is damaged."""
        self.path = None if path is None else Path(path)
        identity = json.loads(json.dumps(identity))
        try:
            try:
                found = self._open()
            except DamagedJournal as e:
                self.close()
                if not replace:
                    self._set_aside(e)
                self.delete()
                found = self._open()
            if found not in (None, identity):
                if not replace:
                    raise JournalError(self._difference(found, identity))
                self.delete()
                self._open()
            with self._reported():
                self._set_meta("identity", identity)
        except BaseException as e:
            self.close()  # or a notebook, which keeps the error and so the journal, could not try again
            if isinstance(e, OutputError) and self.path and self.path.exists() and not self.path.stat().st_size:
                self.delete()
            raise

    @property
    def plan(self) -> dict | None:
        """How the run was computed so far, as `set_plan` was told."""
        with self._reported():
            return self._meta("plan")

    def set_plan(self, plan: dict) -> None:
        with self._reported():
            self._set_meta("plan", plan)

    def put(self, tile: int, **answers: bytes) -> None:
        """Keeps a tile's answers, all or none."""
        with self._reported(), self._db:
            rows = [(tile, name, value, _checksum(tile, name, value)) for name, value in answers.items()]
            self._db.executemany("INSERT INTO answers VALUES (?, ?, ?, ?)", rows)

    def done(self) -> set[int]:
        """Tiles that need not be computed again."""
        with self._reported():
            return {row[0] for row in self._db.execute("SELECT DISTINCT tile FROM answers")}

    def get(self, name: str) -> Iterator[tuple[int, bytes]]:
        """One kind of answer of all tiles, in the order of their indexes."""
        with self._reported():
            yield from self._answers("WHERE name = ? ORDER BY tile", name)

    def clear(self, tiles: Iterable[int] | None = None) -> None:
        """Forgets all answers, or those of some tiles."""
        with self._reported(), self._db:
            if tiles is None:
                self._db.execute("DELETE FROM answers")
            else:
                self._db.executemany("DELETE FROM answers WHERE tile = ?", [(tile,) for tile in tiles])

    def place(self, files: Iterable[tuple[Path, Path]]) -> None:
        """Notes which complete files are about to get their names, (from, to), so that `is_placed` knows them again."""
        with self._reported():
            self._set_meta("placed", {os.path.abspath(path): _mark(part) for part, path in files})

    def close(self) -> None:
        if self._db is not None:
            self._db.close()

    def delete(self) -> None:
        """Closes the journal and removes it: the work is complete, or unwanted."""
        self.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self._rollback.unlink(missing_ok=True)

    @property
    def _rollback(self) -> Path:
        """Where SQLite keeps what it needs to undo a transaction."""
        return self.path.with_name(f"{self.path.name}-journal")

    def _open(self) -> dict | None:
        """The identity of what is there, which has been read whole; None for a new journal."""
        with self._reported():
            self._db = sqlite3.connect(":memory:" if self.path is None else self.path, timeout=1, check_same_thread=False)
            self._db.text_factory = lambda text: text.decode(errors="replace")
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("BEGIN EXCLUSIVE")
            with self._db:
                if self._db.execute("PRAGMA schema_version").fetchone()[0]:
                    return self._checked()
                self._db.execute(f"PRAGMA application_id={int.from_bytes(SIGN)}")
                self._db.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT, checksum INTEGER)")
                self._db.execute(
                    "CREATE TABLE answers (tile INTEGER, name TEXT, value BLOB, checksum INTEGER, PRIMARY KEY (tile, name))"
                )
            return None

    def _checked(self) -> dict | None:
        if self._db.execute("PRAGMA application_id").fetchone()[0] != int.from_bytes(SIGN):
            raise sqlite3.DatabaseError("it is a file of another program or version")
        found = self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        for _ in self._answers(""):
            pass
        self._meta("plan")
        return self._meta("identity")

    def _answers(self, which: str, *values: str) -> Iterator[tuple[int, bytes]]:
        for tile, name, value, checksum in self._db.execute(f"SELECT * FROM answers {which}", values):
            if checksum != _checksum(tile, name, value):
                raise sqlite3.DatabaseError(f"tile {tile} is not what was kept")
            yield tile, value

    def _set_aside(self, damage: DamagedJournal) -> None:
        with self._reported():
            with open(self.path, "rb") as file:
                head = file.read(72)
            # A lost block is often one of zeros, and a file that was cut can be shorter than its head.
            if any(head) and not (HEAD.startswith(head[:16]) and SIGN.startswith(head[68:])):
                raise JournalError(f"{self.path} is not a journal of this xtgeo: delete it or use --overwrite") from damage
            aside = self.path.with_name(f"{self.path.name}.damaged")
            os.replace(self.path, aside)
        self.note = f"the journal of an interrupted run was damaged, it is now {aside}; the work was begun anew"

    def _meta(self, name: str) -> dict | None:
        row = self._db.execute("SELECT * FROM meta WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        if row[2] != _checksum(*row[:2]):
            raise sqlite3.DatabaseError(f"its {name} is not what was kept")
        return json.loads(row[1])

    def _set_meta(self, name: str, value: dict) -> None:
        text = json.dumps(value, sort_keys=True)
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (name, text, _checksum(name, text)))

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise  # a tile put twice is our bug
        except (sqlite3.Error, OSError, ValueError) as e:
            code = getattr(e, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in IN_USE:
                raise JournalError(f"{self.path} is in use: another run is writing the same output; wait or stop it") from e
            if isinstance(e, OSError) or (isinstance(e, sqlite3.OperationalError) and code not in DAMAGED):
                raise OutputError(
                    f"{self.path} cannot be written: {e}; free some space or choose another folder, then run again to resume"
                ) from e
            raise DamagedJournal(f"{self.path} is damaged ({e}): run again, and the work begins anew") from e

    def _difference(self, found: dict, wanted: dict) -> str:
        changed = [
            f"{key} was {_short(found.get(key))}, is {_short(wanted.get(key))}"
            for key in sorted({*found, *wanted})
            if found.get(key) != wanted.get(key)
        ]
        return (
            f"{self.path} holds an unfinished run of another kind: {'; '.join(changed)}. Repeat that run's options to "
            "resume it, or use --overwrite to start afresh"
        )


def is_placed(journal: Path | None, outputs: Iterable[Path]) -> bool:
    """Whether what there is of these outputs has been put there by the run of this journal, which was stopped right after."""
    if journal is None:
        return False
    try:
        with closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=rw", uri=True, timeout=1)) as db:
            known = json.loads(db.execute("SELECT value FROM meta WHERE name = 'placed'").fetchone()[0])
    except (sqlite3.Error, ValueError, TypeError):  # no such journal, in use, damaged, or nothing was placed
        return False
    ours = {path for path, mark in known.items() if os.path.exists(path) and _mark(Path(path)) == mark}
    return bool(ours) and all(os.path.abspath(path) in ours for path in outputs if path.is_file())


def _mark(path: Path) -> list[int]:
    """What stays as it is when a file gets another name."""
    found = path.stat()
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def _checksum(*values: object) -> int:
    """Of a row's values: numbers, texts, bytes, or whatever a damaged file holds in their place."""
    *names, last = values
    return crc32(last if isinstance(last, bytes) else str(last).encode(), crc32(repr(names).encode()))


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 60 else f"{text[:57]}..."
