"""The examples of the API reference run as they stand, and each public name has one."""

import doctest
import re
from pathlib import Path

import pytest

import lstm_toolkit
from lstm_toolkit import errors, lingvo

PAGES = sorted((Path(__file__).parents[2] / "docs" / "api").glob("*.rst"))


def examples(page):
    return doctest.DocTestParser().get_doctest(page.read_text(), {}, page.stem, str(page), 0)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page(page, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner()
    result = runner.run(examples(page), out=(said := []).append)
    assert result.attempted > 1
    assert result.failed == 0, "".join(said)
    capfd.readouterr()


def test_every_public_name_has_an_example():
    source = "".join(example.source for page in PAGES for example in examples(page).examples)
    names = {*lstm_toolkit.__all__, *lingvo.__all__, *(name for name in vars(errors) if name.endswith("Error"))}
    assert {name for name in names if not re.search(rf"\b{name}\b", source)} == set()
