"""Audits the packages of this environment: their licences, and the vulnerabilities that are known of them.

    python tools/audit.py

pip-audit asks the package index for vulnerabilities. Where that does not answer, the list `advisories.json` stands in,
which says when it was made; the output says which of the two it was.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import click
from packaging.utils import canonicalize_name
from packaging.version import Version

ADVISORIES = Path(__file__).with_name("advisories.json")

LICENCES = ("Apache", "BSD", "ISC", "MIT", "Mozilla Public License", "MPL", "PSF", "Python Software Foundation")
"""What the name of a licence holds that lets anybody use the package; of several licences one has to."""

READ_BY_HAND = {
    "axe-playwright-python": "its LICENSE is MIT's",
    "namex": "its LICENSE is Apache 2.0",
    "tflite-micro": "built from the repository of that name, whose LICENSE is Apache 2.0",
}
"""Packages whose metadata name no licence."""

OWN = "lstm_toolkit"


@click.command()
def main() -> None:
    """Prints a line for what was asked and for each finding; the exit code is 1 if there is any."""
    findings, source = wrong_licences(), "pip-audit"
    vulnerable = asked_of_the_index()
    if vulnerable is None:
        known = json.loads(ADVISORIES.read_text())
        source = f"a list made on {known['made']} from {known['source']}, since the package index has no such data"
        vulnerable = in_the_list(known["affected_below"])
    findings += vulnerable
    click.echo("\n".join([f"Vulnerabilities: by {source}", *findings, f"{len(findings)} findings"]))
    sys.exit(1 if findings else 0)


def wrong_licences(allowed: tuple[str, ...] = LICENCES) -> list[str]:
    """A line for each installed package that has no licence that is allowed."""
    command = [sys.executable, "-m", "piplicenses", "--from=mixed", "--format=json", "--ignore-packages", OWN]
    listed = subprocess.run([*command, *READ_BY_HAND], capture_output=True, text=True, check=True).stdout
    return [
        f"{each['Name']} {each['Version']}: licence {each['License']!r}"
        for each in json.loads(listed)
        if not any(name in each["License"] for name in allowed)
    ]


def asked_of_the_index() -> list[str] | None:
    """A line for each vulnerability that pip-audit finds; None if the index tells nothing of most packages."""
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--progress-spinner=off"]
    done = subprocess.run([*command, "--format=json"], capture_output=True, text=True)
    try:
        dependencies: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        return None
    told = [each for each in dependencies if "vulns" in each]
    if 2 * len(told) < len(dependencies):
        return None
    return [f"{each['name']} {each['version']}: {found['id']}" for each in told for found in each["vulns"]]


def in_the_list(affected_below: Mapping[str, str]) -> list[str]:
    """A line for each installed package whose version is below, or is, one that the list names."""
    versions: dict[str, str] = {
        canonicalize_name(each.metadata["Name"]): each.version for each in metadata.distributions()
    }
    return [
        f"{name} {versions[name]}: known vulnerabilities below {bound}"
        for name, bound in affected_below.items()
        if name in versions and Version(versions[name]) < Version(bound)
    ]


if __name__ == "__main__":
    main()
