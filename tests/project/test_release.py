"""What is published: one version, what is said for citing and for telling of faults, and a check that sees faults."""

import re
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import lstm_toolkit
from lstm_toolkit.cli import main
from tests.helpers.tools import tool

ROOT = Path(__file__).parents[2]
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
LICENCE = (ROOT / "LICENSE").read_bytes()
METADATA = f"Version: {lstm_toolkit.__version__}\nLicense-Expression: Apache-2.0\nLicense-File: LICENSE\n".encode()
check_release = tool("check_release")


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_one_version():
    assert check_release.version() == lstm_toolkit.__version__
    assert yaml.safe_load(read("CITATION.cff"))["version"] == lstm_toolkit.__version__
    released = [word for word in re.findall(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE) if word != "Unreleased"]
    assert released[0] == lstm_toolkit.__version__


def test_the_tag_is_the_version_and_the_changelog_has_it(monkeypatch, tmp_path):
    version = lstm_toolkit.__version__
    monkeypatch.setattr(check_release, "ROOT", tmp_path)
    (tmp_path / "lstm_toolkit").mkdir()
    (tmp_path / "lstm_toolkit/_version.py").write_text(read("lstm_toolkit/_version.py"))
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## {version} (today)\n\n## 0.1\n")
    assert check_release.wrong_tag(f"v{version}") == []
    assert check_release.wrong_tag("v0.1") == [f"the tag is v0.1, and the version {version}"]
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## Unreleased\n\n## {version} (today)\n")
    assert check_release.wrong_tag(f"v{version}") == [f"CHANGELOG.md begins with Unreleased, not with {version}"]


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, []),
        ({"tests/a.py": b""}, ["the wheel holds tests/a.py"]),
        ({"lstm_toolkit/one.ipynb": b""}, ["the wheel holds lstm_toolkit/one.ipynb"]),
        ({"lstm_toolkit/test_a.py": b""}, ["the wheel holds lstm_toolkit/test_a.py"]),
        ({"a-1.dist-info/licenses/LICENSE": b""}, ["the wheel has another licence than LICENSE, or none"]),
        (
            {"a-1.dist-info/METADATA": METADATA.replace(b"Apache", b"MIT")},
            ["the wheel has License-Expression 'MIT-2.0'"],
        ),
    ],
)
def test_a_wheel(tmp_path, change, wrong):
    content = {"lstm_toolkit/a.py": b"", "a-1.dist-info/METADATA": METADATA, "a-1.dist-info/licenses/LICENSE": LICENCE}
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        for name, data in (content | change).items():
            archive.writestr(name.replace("a-1", "lstm_toolkit-1"), data)
    assert check_release.wrong_wheel(tmp_path / "a.whl") == wrong


def test_a_source_distribution(tmp_path):
    for name, data in {"PKG-INFO": METADATA, "LICENSE": LICENCE, "more.py": b""}.items():
        (tmp_path / name).write_bytes(data)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for name in ("PKG-INFO", "LICENSE", "more.py"):
            archive.add(tmp_path / name, f"a-1/{name}")
    assert check_release.wrong_sources(tmp_path / "a.tar.gz", {"LICENSE", "more.py"}) == []
    wrong = [f"the source distribution {each}" for each in ("holds more.py", "lacks less.py")]
    assert check_release.wrong_sources(tmp_path / "a.tar.gz", {"LICENSE", "less.py"}) == wrong


@pytest.mark.parametrize(
    ("ops", "error", "right"), [("U", 1e-7, True), ("U", 1e-3, False), ("W", 0.0, False), ("U", None, False)]
)
def test_a_conversion(ops, error, right):
    names = {"U": "UNIDIRECTIONAL_SEQUENCE_LSTM", "W": "WHILE"}
    assert bool(check_release.wrong_report({"ops": {names[ops]: 1}, "max_abs_error": error})) is not right


def test_only_the_job_that_publishes_may_do_so_and_it_runs_nothing_of_the_repository():
    workflow = yaml.safe_load(read(".github/workflows/publish.yml"))
    assert workflow[True] == {"push": {"tags": ["v*"]}}  # YAML takes "on" for true
    jobs = workflow["jobs"]
    assert (workflow["permissions"], jobs["check"]["permissions"]) == ({}, {"contents": "read"})
    assert (jobs["publish"]["permissions"], jobs["publish"]["environment"]) == ({"id-token": "write"}, "pypi")
    assert jobs["publish"]["needs"] == "check"
    uses = [step.get("uses", "").partition("@")[0] for step in jobs["publish"]["steps"]]
    assert uses == ["actions/download-artifact", "pypa/gh-action-pypi-publish"]
    assert "make release-check" in [step.get("run") for step in jobs["check"]["steps"]]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms_ask_for_commands_that_there_are(path):
    said = [str(each["attributes"].get("description")) for each in yaml.safe_load(path.read_text())["body"]]
    asked = [words.split() for text in said for words in re.findall(r"`lstm-toolkit ([^`]+)`", text)]
    assert ["diagnose", "--json"] in [[name, options[-1]] for name, *options in asked]
    for name, *arguments in asked:
        main.commands[name].make_context(name, arguments)


def test_the_files_that_are_checked_are_those_that_there_are():
    checked = {name for files in check_release.SCHEMAS.values() for name in files}
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / ".github").rglob("*.yml")}
    assert checked == there | {"CITATION.cff"}


def test_each_promise_names_tests_that_there_are():
    rows = [line.split("|")[1:3] for line in read("SECURITY.md").splitlines() if re.match(r"\| (?!Of )[\w`]", line)]
    assert len(rows) >= 12
    for promise, held_by in rows:
        names = re.findall(r"`([\w/.]*)::(\w+)`", held_by)
        assert names, promise
        file = ""
        for path, test in names:
            file = path or file
            assert re.search(rf"^def {test}\(", read(file), re.MULTILINE), (promise, file, test)
