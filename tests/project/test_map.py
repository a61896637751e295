"""CONTRIBUTING's map of the package: every folder is on it, in the order of the imports, and every file is there."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "lstm_toolkit"
MAP = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## The map")[1].split("\n## ")[0]
ROWS = [row.split("|")[1:-1] for row in MAP.splitlines() if row.startswith("| `")]


def places(cell):
    return [PACKAGE / name for name in re.findall(r"`([a-z_0-9/]+(?:/|\.py))`", cell)]


def test_every_folder_is_on_the_map():
    folders = {path.parent for path in PACKAGE.rglob("__init__.py")} - {PACKAGE}
    assert folders <= {place for row in ROWS for place in places(row[0])}


def test_what_the_map_names_is_there():
    named = [place for row in ROWS for place in places(row[0])]
    assert len(named) > 20
    assert [place for place in named if not place.exists()] == []
    for row in ROWS:
        folder = places(row[0])[0]
        for name in re.findall(r"`([a-z_0-9]+\.py)`", row[2]):
            assert (folder / name).exists(), (folder, name)


def test_the_answers_lead_somewhere():
    answers = [row.split("|")[2] for row in MAP.splitlines() if row.startswith("| ") and "?" in row]
    assert len(answers) == 8
    assert all(places(answer) and all(place.exists() for place in places(answer)) for answer in answers)


def test_the_map_is_in_the_order_of_the_imports():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    level = {name.strip(): number for number, layer in enumerate(layers) for name in layer.split("|")}
    named = [place.relative_to(PACKAGE).parts[0] for row in ROWS for place in places(row[0])]
    levels = [level[name.removesuffix(".py")] for name in named]
    assert levels == sorted(levels)
