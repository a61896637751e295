"""Work between two calls, as an app has it that calls a model once a frame: it takes the caches."""

import contextlib
import os
from pathlib import Path

import numpy as np

UNKNOWN = 32 << 20
"""Bytes of a last-level cache that the system does not tell."""

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def last_level_cache() -> int | None:
    """Bytes of this machine's largest cache, as Linux or the C library tells; None where neither does."""
    sizes = [os.sysconf(name) for name in ("SC_LEVEL3_CACHE_SIZE", "SC_LEVEL2_CACHE_SIZE") if name in os.sysconf_names]
    for file in _CACHES.glob("index*/size"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            text = file.read_text().strip()
            sizes.append(int(text[:-1]) * _UNITS[text[-1]])
    return max(sizes, default=0) or None


class OtherWork:
    """Called, it reads a buffer twice as large as the last-level cache, so that the caches hold nothing else.

    Attributes:
        cache: bytes of the cache, or None if the system does not tell.
        size: bytes that a call reads.
    """

    def __init__(self) -> None:
        self.cache = last_level_cache()
        self.size = 2 * (self.cache or UNKNOWN)
        # Not zeros: pages that were never written are all one page, which stays in the cache.
        self._read = np.ones(self.size // 8, np.int64).max

    def __call__(self) -> None:
        """Reads the buffer, which takes some milliseconds."""
        self._read()

    def __str__(self) -> str:
        known = f"{self.cache / 1e6:.1f} MB" if self.cache else "whose size the system does not tell"
        return f"{self.size / 1e6:.0f} MB of other data (twice the last-level cache, {known})"
