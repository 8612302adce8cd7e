"""Journal: finished tiles, kept beside the output until it is complete. One SQLite file, one transaction a tile.

SQLite survives being killed at any moment: a tile is in the journal whole or not at all. The output is made from the
journal alone, in the order of the tiles, so that an interrupted run and an uninterrupted one give the same bytes.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xtgeo.errors import JournalError, OutputError

FORMAT = 2
"""Changes when journals of older versions can no longer be continued."""


class Journal:
    """Answers of tiles by their index: named byte strings. Used by one thread at a time; `path` None keeps it in memory.

    `identity` are plain JSON values that say what is computed: scene, model, options. A journal on disk with another
    identity is refused, with the difference; `engine` of an unfinished run is kept and wins, since results depend on
    its number format.
    """

    def __init__(self, path: os.PathLike | None, identity: dict, *, replace: bool = False):
        """replace: throw away a journal with another identity instead of refusing it."""
        self.path = None if path is None else Path(path)
        identity = json.loads(json.dumps({"format": FORMAT, **identity}))
        with self._reported():
            try:
                self._open()
                found = self._meta("identity")
            except sqlite3.DatabaseError as e:
                if isinstance(e, sqlite3.OperationalError) or not replace:
                    raise
                found = {}
            if found is not None and found != identity:
                if not replace:
                    self.close()  # or a notebook, which keeps the error and so the journal, could not try again
                    raise JournalError(self._difference(found, identity))
                self.delete()
                self._open()
            self._set_meta("identity", identity)

    def _open(self) -> None:
        self._db = sqlite3.connect(":memory:" if self.path is None else self.path, timeout=1, check_same_thread=False)
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._db.execute("PRAGMA synchronous=NORMAL")
        with self._db:
            self._db.execute("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT)")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS answers (tile INTEGER, name TEXT, value BLOB, PRIMARY KEY (tile, name))"
            )

    @property
    def plan(self) -> dict | None:
        """How the run was computed so far, as `set_plan` was told."""
        return self._meta("plan")

    def set_plan(self, plan: dict) -> None:
        with self._reported():
            self._set_meta("plan", plan)

    def put(self, tile: int, **answers: bytes) -> None:
        """Keeps a tile's answers, all or none."""
        with self._reported(), self._db:
            self._db.executemany("INSERT INTO answers VALUES (?, ?, ?)", [(tile, k, v) for k, v in answers.items()])

    def done(self) -> set[int]:
        """Tiles that need not be computed again."""
        return {row[0] for row in self._db.execute("SELECT DISTINCT tile FROM answers")}

    def get(self, name: str) -> Iterator[tuple[int, bytes]]:
        """One kind of answer of all tiles, in the order of their indexes."""
        with self._reported():
            yield from self._db.execute("SELECT tile, value FROM answers WHERE name = ? ORDER BY tile", (name,))

    def clear(self) -> None:
        """Forgets all answers."""
        with self._reported(), self._db:
            self._db.execute("DELETE FROM answers")

    def close(self) -> None:
        self._db.close()

    def delete(self) -> None:
        """Closes the journal and removes it: the work is complete, or unwanted."""
        self.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _meta(self, name: str) -> dict | None:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def _set_meta(self, name: str, value: dict) -> None:
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value, sort_keys=True)))

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as e:
            if "locked" in str(e):
                raise JournalError(f"{self.path} is in use: another run is writing the same output; wait or stop it") from e
            raise OutputError(
                f"{self.path} cannot be written: {e}; free some space or choose another folder, then run again to resume"
            ) from e
        except sqlite3.IntegrityError:
            raise  # a tile put twice is our bug
        except (sqlite3.DatabaseError, ValueError) as e:
            raise JournalError(f"{self.path} is not a readable journal ({e}); delete it or use --overwrite") from e

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


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 60 else f"{text[:57]}..."
