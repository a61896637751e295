"""The versions that the tests were run with, and a warning where what is installed lies outside them."""

import functools
import re
import warnings
from collections.abc import Mapping
from importlib import metadata

RUN_ON = "2026-11-26"
"""The day of the runs."""

RUNS: Mapping[str, Mapping[str, str]] = {
    "make test-oldest": {
        "python": "3.10",
        "tensorflow": "2.18.0",
        "keras": "3.8.0",
        "tf_keras": "2.18.0",
        "ai-edge-litert": "2.3.0",
        "numpy": "1.26.0",
    },
    "make test-colab": {
        "python": "3.13",
        "tensorflow": "2.20.0",
        "keras": "3.13.2",
        "tf_keras": "2.20.1",
        "ai-edge-litert": "2.3.0",
        "numpy": "2.1.3",
    },
    "make test": {
        "python": "3.11",
        "tensorflow": "2.21.0",
        "keras": "3.15.1",
        "tf_keras": "2.21.0",
        "ai-edge-litert": "2.3.0",
        "numpy": "2.4.6",
    },
    "make test-newest": {
        "python": "3.13",
        "tensorflow": "2.21.0",
        "keras": "3.15.1",
        "tf_keras": "2.21.0",
        "ai-edge-litert": "2.3.0",
        "numpy": "2.4.6",
    },
}
"""For each command the versions that it ran with, from the oldest to the newest."""

WATCHED = ("tensorflow", "keras", "tf_keras", "ai-edge-litert")
"""Packages of which a release that was never tried may give another result."""


def tested(name: str) -> tuple[str, str]:
    """The lowest and the highest version of a package (or "python") that was run: its first two numbers."""
    versions = sorted(numbers(run[name], 2) for run in RUNS.values())
    low, high = (".".join(map(str, each)) for each in (versions[0], versions[-1]))
    return low, high


def span(versions: tuple[str, str]) -> str:
    """The lowest and the highest version in words: "2.18 to 2.21", or one where they are equal."""
    return " to ".join(dict.fromkeys(versions))


def installed(name: str) -> str | None:
    """The version of a package that is installed; None if it is not. Imports nothing of it."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def beyond(name: str, version: str) -> str | None:
    """Whether a version is "older" or "newer" than all that were run; None if neither. Patch releases do not count."""
    low, high = (numbers(each, 2) for each in tested(name))
    given = numbers(version, 2)
    if low <= given <= high:
        return None
    return "older" if given < low else "newer"


def untested() -> list[str]:
    """A sentence for each watched package that is installed in a version older or newer than all that were run."""
    found = {name: version for name in WATCHED if (version := installed(name))}
    return [
        f"{name} {version} is {side} than what lstm_toolkit was tested with ({span(tested(name))})"
        for name, version in found.items()
        if (side := beyond(name, version))
    ]


@functools.cache
def warning() -> str | None:
    """What to warn of, once in a process; None if everything that is installed was tested."""
    found = untested()
    return f"{'; '.join(found)}. `lstm-toolkit environment` shows all versions." if found else None


@functools.cache
def warn_once() -> None:
    """Warns, in the first call of a process, of packages that were never tested."""
    if said := warning():
        warnings.warn(said, stacklevel=3)


def numbers(version: str, count: int) -> tuple[int, ...]:
    """The first numbers of a version, as many as there are: of "3.8.0rc1" and 2, (3, 8)."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:count])
