"""Asks a module about cases in a process of its own, which a case may end."""

import sys
from collections.abc import Iterable
from typing import Any

from lstm_toolkit.runtime.worker import WorkerEndedError, WorkerProcess


def answers(module: str, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Asks `python -m module` about each of some cases; for one that ends the process, the answer is {"error": how}."""
    found: dict[str, dict[str, Any]] = {}
    process = None
    for name in names:
        process = process or WorkerProcess([sys.executable, "-m", module])
        try:
            found[name] = process.ask(name, time_limit=120)
        except WorkerEndedError as error:
            found[name], process = {"error": f"it ended the process: {error}"}, None
    if process is not None:
        process.kill()
    return found
