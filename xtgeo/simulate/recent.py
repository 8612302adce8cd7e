"""What was worked out last, kept for the next who asks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any


class Recent:
    """The last `size` answers by their keys; threads may share it, and may work out the same answer twice.

    functools.lru_cache around a bound method would hold its owner in a circle, and with it the memory of every scene that was
    drawn since the garbage collector last came by.
    """

    def __init__(self, size: int):
        self.size = size
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[..., Any], *args) -> Any:
        """The answer kept for a key, or make(*args)."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        answer = make(*args)
        with self._lock:
            self._kept[key] = answer
            if len(self._kept) > self.size:
                self._kept.popitem(last=False)
        return answer
