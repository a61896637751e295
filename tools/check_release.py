"""Builds wheel and source distribution into `build/release`, and checks them as somebody who installs them would.

    make release-check

twine reads what the package index will show, check-wheel-contents what the wheel holds, check-jsonschema the files that
only GitHub reads. Each of the two is installed in an empty environment, where a model is converted by the command line.
With `RELEASE_TAG=v1.1.0` the tag, the version and the changelog are compared too.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Collection
from email import message_from_bytes
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
RELEASE = ROOT / "build" / "release"
SCHEMAS = {
    "citation-file-format": ["CITATION.cff"],
    "github-issue-config": [".github/ISSUE_TEMPLATE/config.yml"],
    "github-issue-forms": [".github/ISSUE_TEMPLATE/refused_model.yml", ".github/ISSUE_TEMPLATE/wrong_file.yml"],
    "github-workflows": [".github/workflows/ci.yml", ".github/workflows/publish.yml"],
}
MODEL = """
import keras
keras.utils.set_random_seed(1)
keras.Sequential([keras.Input((7, 5)), keras.layers.LSTM(6), keras.layers.Dense(3)]).save("model.keras")
"""


@click.command()
@click.option("--tag", envvar="RELEASE_TAG", help="The tag that is to be published, such as v1.1.0.")
def main(tag: str | None) -> None:
    """Prints a line for each thing that is wrong; the exit code is 1 if there is any."""
    for schema, files in SCHEMAS.items():
        python("-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", "--default-filetype=yaml", *files)
    wheel, sources = build()
    python("-m", "twine", "check", "--strict", wheel, sources)
    python("-m", "check_wheel_contents", wheel)
    wrong = [*wrong_wheel(wheel), *wrong_sources(sources, tracked()), *(wrong_tag(tag) if tag else [])]
    for distribution in () if wrong else (wheel, sources):
        click.echo(f"{distribution.name}: installing it in an empty environment")
        wrong += [f"{distribution.name}: {each}" for each in wrong_installed(distribution)]
    click.echo("\n".join([*wrong, f"{len(wrong)} things are wrong with {wheel.name} and {sources.name}"]))
    sys.exit(1 if wrong else 0)


def python(*arguments: str | Path) -> None:
    """Runs Python on the repository, and ends this process where that fails."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT)
    if done.returncode:
        sys.exit(done.returncode)


def build() -> tuple[Path, Path]:
    """The wheel, which is built from the source distribution, and that."""
    shutil.rmtree(RELEASE, ignore_errors=True)
    python("-m", "build", "--outdir", RELEASE)
    (wheel,), (sources,) = RELEASE.glob("*.whl"), RELEASE.glob("*.tar.gz")
    return wheel, sources


def version() -> str:
    """The version, from the one place where it stands."""
    (found,) = re.findall(r'^__version__ = "(.+)"$', (ROOT / "lstm_toolkit" / "_version.py").read_text(), re.MULTILINE)
    return str(found)


def tracked() -> set[str]:
    """The files of the repository."""
    return set(subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")) - {""}


def wrong_wheel(path: Path) -> list[str]:
    """What a wheel holds beside the package, and what its metadata do not say."""
    with zipfile.ZipFile(path) as archive:
        inside = {name: archive.read(name) for name in archive.namelist()}
    meant = re.compile(r"lstm_toolkit(/|-[^/]+\.dist-info/)(?!(.*/)?(tests?/|test_))(?!.*\.ipynb$)")
    strange = [name for name in inside if not meant.match(name)]
    metadata = [data for name, data in inside.items() if name.endswith(".dist-info/METADATA")]
    licences = [data for name, data in inside.items() if name.endswith(".dist-info/licenses/LICENSE")]
    return [f"the wheel holds {name}" for name in strange] + _wrong_metadata("wheel", metadata, licences)


def wrong_sources(path: Path, wanted: Collection[str]) -> list[str]:
    """What a source distribution has more or less than the repository, and what its metadata do not say."""
    with tarfile.open(path) as archive:
        inside = {each.name.partition("/")[2]: archive.extractfile(each) for each in archive if each.isfile()}
        top = [file.read() for name in ("PKG-INFO", "LICENSE") if (file := inside.get(name))]
    wrong = [f"the source distribution holds {name}" for name in sorted(set(inside) - {*wanted, "PKG-INFO"})]
    wrong += [f"the source distribution lacks {name}" for name in sorted(set(wanted) - set(inside))]
    return wrong + _wrong_metadata("source distribution", top[:1], top[1:])


def _wrong_metadata(what: str, metadata: list[bytes], licences: list[bytes]) -> list[str]:
    if licences != [(ROOT / "LICENSE").read_bytes()]:
        return [f"the {what} has another licence than LICENSE, or none"]
    said = message_from_bytes(*metadata)
    wanted = {"Version": version(), "License-Expression": "Apache-2.0", "License-File": "LICENSE"}
    return [f"the {what} has {name} {said[name]!r}" for name, value in wanted.items() if said[name] != value]


def wrong_tag(tag: str) -> list[str]:
    """Where a tag, the version and the changelog do not fit together."""
    wrong = [] if tag == f"v{version()}" else [f"the tag is {tag}, and the version {version()}"]
    newest = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[0]
    return wrong if newest == version() else [*wrong, f"CHANGELOG.md begins with {newest}, not with {version()}"]


def wrong_installed(distribution: Path) -> list[str]:
    """What a conversion gives in an empty environment that has only this distribution and what it needs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        commands: list[list[str | Path]] = [
            [sys.executable, "-m", "venv", folder / "venv"],
            [programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", distribution],
            [programs / "python", "-c", MODEL],
            [programs / "lstm-toolkit", "--version"],
            [programs / "lstm-toolkit", "convert", "model.keras", "-o", "model.tflite", "--json"],
        ]
        # The package is to come out of the environment, not out of the repository.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        for command in commands:
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
            if done.returncode:
                return [f"{' '.join(map(str, command[:4]))} failed: {done.stderr.strip()[-2000:]}"]
        return wrong_report(json.loads(done.stdout))


def wrong_report(report: dict[str, object]) -> list[str]:
    """What is wrong with the report of the conversion, and a line that says what it was."""
    click.echo(f"    {report['ops']}, largest error {report['max_abs_error']}")
    exact = isinstance(error := report["max_abs_error"], float) and error < 1e-5
    return [] if exact and "UNIDIRECTIONAL_SEQUENCE_LSTM" in str(report["ops"]) else [f"the conversion gave {report}"]


if __name__ == "__main__":
    main()
