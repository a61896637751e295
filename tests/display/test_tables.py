"""Tables, as text and as HTML."""

import re

import pytest
from bs4 import BeautifulSoup

from lstm_toolkit.display.tables import Table

MIXED = Table(
    "Mixed <title>",
    ("name", "count", "nothing", "size", "pieces", "why", "ops"),
    [
        ("first", 7, None, "1,024 bytes", "3 pieces of 12 bytes, each 40 bytes apart", "", "2 TRANSPOSE, 1 WHILE"),
        ("<b>second</b>", "unknown", "", "36 in 7 turns", "one piece", "4 bits", "1 WHILE"),
        ("3rd", -1.5, None, "12.5 %", "one piece", "too small", "1 WHILE"),
    ],
)


def cells(table):
    """The texts and the sides of all cells, row by row; the first row is the header."""
    rows = BeautifulSoup(table._repr_html_(), "html.parser").select("tr")
    every = [row.select("th, td") for row in rows]
    sides = [[re.fullmatch("text-align: (left|right)", cell["style"])[1] for cell in row] for row in every]
    return [[cell.text for cell in row] for row in every], sides


def test_words_stand_at_the_left_and_numbers_at_the_right():
    _, sides = cells(MIXED)
    assert sides == [["left", "right", "right", "left", "left", "left"]] * 4


def test_a_column_without_a_value_is_not_shown():
    texts, _ = cells(MIXED)
    assert texts[0] == ["name", "count", "size", "pieces", "why", "ops"]
    assert texts[2] == ["<b>second</b>", "unknown", "36 in 7 turns", "one piece", "4 bits", "1 WHILE"]
    assert "nothing" not in str(MIXED)
    assert "None" not in str(MIXED)


def test_text_is_aligned_as_html_is():
    lines = str(MIXED).splitlines()
    assert lines[0] == "Mixed <title>"
    assert (
        len({line.index(text) + len(text) for line, text in zip(lines[3:], ("7", "unknown", "-1.5"), strict=True)}) == 1
    )
    assert len({line.index(text) for line, text in zip(lines[3:], ("3 pieces", "one", "one"), strict=True)}) == 1


@pytest.mark.parametrize("missing", ["", "-", "unknown", None])
def test_a_column_of_missing_numbers_is_no_column_of_numbers(missing):
    _, sides = cells(Table("", ("what", "amount"), [("words", missing or ""), ("more", "-")]))
    assert sides[1] == ["left", "left"]


def test_a_table_without_rows_is_its_title():
    empty = Table("Nothing found", ("severity", "code"), [])
    assert str(empty) == "Nothing found"
    assert empty._repr_html_() == "<p><strong>Nothing found</strong></p>"


def test_a_row_that_is_too_short_is_an_error():
    with pytest.raises(ValueError, match="shorter"):
        str(Table("", ("a", "b"), [("x", "y"), ("z",)]))
