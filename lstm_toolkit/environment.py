"""`environment`: what is installed, what was tested, and what is missing."""

import dataclasses
import platform
import re
from importlib import metadata
from typing import Any

from lstm_toolkit._version import __version__
from lstm_toolkit.display.tables import Table, Tabular
from lstm_toolkit.versions import RUN_ON, WATCHED, beyond, installed, span, tested

EXTRAS = ("codelabs", "legacy", "sweep", "torch", "viewer")
"""The extras for users; the others are for who works on the package."""


@dataclasses.dataclass(frozen=True)
class Package:
    """A package that lstm_toolkit needs, always or for an extra.

    Attributes:
        name: of the package.
        bounds: the versions that lstm_toolkit asks for.
        extra: the extra that needs it; None if it is always needed.
        installed: its version; None if it is not installed.
        tested: the lowest and the highest version that tests were run with; None if they do not depend on it.
        side: "older" or "newer" than what was tested; None if neither.
    """

    name: str
    bounds: str
    extra: str | None
    installed: str | None
    tested: tuple[str, str] | None
    side: str | None

    @property
    def remark(self) -> str | None:
        """What is to be said of it; None if all is well."""
        if self.installed is not None:
            return self.side and f"{self.side} than tested"
        return "missing" if self.extra is None else f"missing: pip install 'lstm_toolkit[{self.extra}]'"


@dataclasses.dataclass(frozen=True, repr=False)
class Environment(Tabular):
    """What is installed. It shows itself as a table.

    Attributes:
        python: the version of Python.
        system: the operating system and the processor.
        packages: what lstm_toolkit always needs, and then what its extras need.
    """

    python: str
    system: str
    packages: tuple[Package, ...]

    @property
    def is_tested(self) -> bool:
        """Whether all that is always needed is there, and nothing is older or newer than what was tested."""
        there = all(each.installed for each in self.packages if each.extra is None)
        return there and not any(each.side for each in self.packages) and beyond("python", self.python) is None

    def tables(self) -> tuple[Table, ...]:
        """One table, a row for each package."""
        side = beyond("python", self.python)
        python = Package("Python", "", None, self.python, tested("python"), side)
        rows = [
            (each.name, each.installed, each.tested and span(each.tested), each.bounds, each.extra, each.remark)
            for each in (python, *self.packages)
        ]
        title = f"lstm_toolkit {__version__} on {self.system} (tested on {RUN_ON})"
        return (Table(title, ("package", "installed", "tested", "asked for", "extra", "remark"), rows),)

    def to_dict(self) -> dict[str, Any]:
        """The same as a dictionary for JSON."""
        return {
            "lstm_toolkit": __version__,
            "python": self.python,
            "system": self.system,
            "tested_on": RUN_ON,
            "is_tested": self.is_tested,
            "packages": [dataclasses.asdict(each) | {"remark": each.remark} for each in self.packages],
        }


def environment() -> Environment:
    """What is installed here, what was tested, and what is missing. Loads none of the packages."""
    packages = tuple(_package(*each) for each in _requirements())
    return Environment(platform.python_version(), f"{platform.system()} {platform.machine()}", packages)


def _requirements() -> list[tuple[str, str, str | None]]:
    """Name, bounds and extra of each package; what is always needed comes first."""
    try:
        lines = metadata.requires("lstm_toolkit") or []
    except metadata.PackageNotFoundError:  # a copy of the sources that nobody has installed
        return [(name, "", None) for name in WATCHED]
    found = []
    for line in lines:
        match = re.fullmatch(r"([\w.-]+)\s*\(?([^;()\[]*)\)?\s*(?:;.*?(?:extra == ['\"]([\w-]+)['\"])?)?", line)
        if match and (match[3] in EXTRAS or (match[3] is None and "extra" not in line)):
            found.append((match[1], match[2].strip(), match[3]))
    return sorted(found, key=lambda each: (each[2] or "", each[0]))


def _package(name: str, bounds: str, extra: str | None) -> Package:
    version = installed(name)
    # Metadata may spell a name with a hyphen where it has an underscore.
    watched = next((each for each in WATCHED if each.replace("_", "-") == name.replace("_", "-")), None)
    side = beyond(watched, version) if watched and version else None
    return Package(name, bounds, extra, version, tested(watched) if watched else None, side)
