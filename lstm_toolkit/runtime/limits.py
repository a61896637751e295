"""`Limits`: what a file may take that runs in a process of its own."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a file may take that runs in a process of its own.

    Attributes:
        seconds: that loading it, and each call, may take; None for no limit.
        memory: bytes of data that its process may hold; None for no limit. Windows has no such limit, and macOS does
            not keep it.
    """

    seconds: float | None = 60.0
    memory: int | None = 4 << 30
