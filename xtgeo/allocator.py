"""glibc's allocator, told to keep what it frees.

By default glibc maps every large tensor anew and the kernel fills it with zero pages: for small convolutional networks
that is a good part of the whole time. Other C libraries have no such switch; there nothing happens.
"""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8
"""Numbers of mallopt(3)."""


def keep_freed_memory(keep: bool = True) -> bool:
    """Lets this process reuse freed memory (or, with False, give most of it back); True where it took effect."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # The usual thresholds grow with use up to these; once set by hand they stay where they are.
    most, usual = 2**31 - 1, 32 << 20
    values = {TRIM_THRESHOLD: 2 * usual, MMAP_THRESHOLD: usual, TOP_PAD: 128 << 10}
    if keep:
        values = {TRIM_THRESHOLD: most, MMAP_THRESHOLD: most, TOP_PAD: 64 << 20, ARENA_MAX: 1}
    return all(mallopt(name, value) == 1 for name, value in values.items())
