"""Decoded blocks, kept for as long as a scan over tiles will ask for them again.

A tile with its margin touches blocks that its neighbours touch too. GDAL's own cache would have to hold a row of tiles,
a gigabyte, to decode each block once. A scan from left to right and from top to bottom needs much less:

        . . . . . .+-----------+o o o o o o o       .  gone: above the window, or passed
        . . . . . .|         o |. . . . . . .       o  kept: the window's right rim, for the next tile; the foot of
        . . . . . .|  window o |. . . . . . .          this row of tiles, for the row below; what the row above left
        o o o o o o|o o o o o o|. . . . . . .
                   +-----------+
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

Key = tuple
"""(what, row, column): row and column of a block, and anything hashable that tells apart blocks at the same place."""


class BlockCache:
    """At most `limit` bytes of decoded blocks, shared by all threads; each is decoded by one thread while others wait.

    Several files may share it: a block is judged by the window that its own file was last read in.

    When everything held is still needed, new blocks are handed out and not kept: a scan too wide for the cache then
    decodes some blocks again, instead of every one. Pickled empty.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._forget()

    def __reduce__(self):
        return BlockCache, (self.limit,)

    def _forget(self):
        self._process, self._lock = os.getpid(), threading.Lock()
        self._held: dict[Key, np.ndarray] = {}
        self._decoding: dict[Key, Future] = {}
        self._scans: dict[object, tuple[range, range]] = {}
        self._bytes = 0

    def blocks(self, what: object, rows: range, columns: range, decode: Callable[[int, int], np.ndarray]) -> dict:
        """{(row, column): block} of a rectangle of blocks; `decode(row, column)` is called for those not at hand."""
        if self._process != os.getpid():  # a fork may have left the lock taken by a thread that is not here
            self._forget()
        found, mine, others = {}, {}, {}
        with self._lock:
            self._scans[what] = rows, columns
            for row in rows:
                for column in columns:
                    key = (what, row, column)
                    if key in self._held:
                        self._held[key] = found[row, column] = self._held.pop(key)
                    elif key in self._decoding:
                        others[row, column] = self._decoding[key]
                    else:
                        mine[row, column] = self._decoding[key] = Future()
        waiting = dict(mine)
        try:
            for (row, column), future in mine.items():
                block = decode(row, column)
                self._keep((what, row, column), block, (rows, columns))
                found[row, column] = block
                del waiting[row, column]
                future.set_result(block)
        except BaseException as error:
            with self._lock:
                for at in waiting:
                    del self._decoding[(what, *at)]
            for future in waiting.values():
                future.set_exception(error)
            for at in (at for at in others if at < next(iter(waiting))):
                decode(*at)  # whatever other threads do, the error is that of the first block that has one
            raise
        for at, future in others.items():
            # What another thread met may have been an error of another block.
            found[at] = decode(*at) if future.exception() else future.result()
        return found

    def _keep(self, key: Key, block: np.ndarray, scan: tuple[range, range]):
        with self._lock:
            del self._decoding[key]
            if self._bytes + block.nbytes > self.limit:
                self._drop(block.nbytes, _worth(key, *scan), key[0], scan)
            if self._bytes + block.nbytes <= self.limit:
                self._held[key] = block
                self._bytes += block.nbytes

    def _drop(self, needed: int, worth: int, what: object, scan: tuple[range, range]):
        """Let go of what is worth less, with the scan of `what` at this rectangle: the least and the oldest first."""
        scans = self._scans | {what: scan}
        worths = {key: _worth(key, *scans[key[0]]) for key in self._held}
        for less in range(worth):
            for key in [key for key, w in worths.items() if w == less]:
                if self._bytes + needed <= self.limit:
                    return
                self._bytes -= self._held.pop(key).nbytes


def shared(limit: int | BlockCache) -> BlockCache:
    """A cache of so many bytes; one that is there already is itself."""
    return limit if isinstance(limit, BlockCache) else BlockCache(limit)


def _worth(key: Key, rows: range, columns: range) -> int:
    """0: the scan is past it. 1: only this window asks for it. 2: a later one will; see the picture above.

    Two rows and two columns of blocks count as the rim: a margin may reach over a border between blocks.
    """
    _, row, column = key
    foot = row >= rows[-1] - 1
    if row not in rows or (column < columns[0] and not foot):
        return 0
    return 2 if foot or column >= columns[-1] - 1 else 1
