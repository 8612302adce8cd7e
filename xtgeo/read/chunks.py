"""A Zarr store whose chunks are looked at before they are decoded. Needs zarr; see zarr.py."""

from __future__ import annotations

import struct

from zarr.storage import WrapperStore

from xtgeo.read.trust import MOST_DECODED


class CheckedStore(WrapperStore):
    """C-Blosc believes a chunk's header, and reads as far as that says: a damaged one ends the process. Here it is an error.

    Chunks inside of shards are not seen.
    """

    def __init__(self, store, blosc: frozenset[str]):
        super().__init__(store)
        self.blosc = blosc
        """Paths in the store of arrays that Blosc has packed."""

    def __reduce__(self):
        return CheckedStore, (self._store, self.blosc)

    async def get(self, key, prototype, byte_range=None):
        """A value of the store, whole or in part."""
        value = await self._store.get(key, prototype, byte_range)
        if value is not None and self._is_packed(key, byte_range):
            _check(key, value.to_bytes()[:16], len(value))
        return value

    def _is_packed(self, key: str, byte_range) -> bool:
        name = key.rpartition("/")[2]
        return (
            name != "zarr.json"
            and not name.startswith(".z")
            and byte_range is None
            and any(key.startswith(f"{path}/") or not path for path in self.blosc)
        )


def _check(key: str, head: bytes, size: int):
    """By the header of C-Blosc 1: version, flags, and three sizes."""
    if len(head) == 16:
        unpacked, _, packed = struct.unpack("<III", head[4:])
        if packed == size and unpacked <= MOST_DECODED:
            return
    raise ValueError(f"chunk {key} is damaged: its {size:,} bytes are not what its header tells")
