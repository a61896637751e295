"""A file that was just made runs for the first time in a process of its own, whatever it was made for."""

import re

import pytest

from tests.helpers.spoiled import results

OUTSIDE = "; take that out of the model, and compute it outside of the file"


@pytest.mark.parametrize(
    ("case", "op", "remedy"),
    [
        ("verified", r"1 ADD \(spoiled\)", OUTSIDE),
        ("not verified", r"1 ADD \(spoiled\)", OUTSIDE),
        ("all ways", r"1 ADD \(spoiled\)", OUTSIDE),
        ("int8 weights", r"1 ADD \(spoiled\)", '; convert without quantization="dynamic", or with another one'),
        ("int8", r"\d+ SQUARED_DIFFERENCE \(.+\)", '; convert without quantization="int8", or with another one'),
    ],
)
def test_a_crash_names_the_op_and_a_remedy(case, op, remedy):
    error = results()[case]["error"]
    assert re.match(rf"ConversionError: LiteRT crashes or hangs in op {op}: SIG\w+", error), error
    assert error.endswith(remedy)


def test_a_way_that_crashes_is_not_chosen():
    result = results()["some ways"]
    assert result["error"] == ""
    assert sum("LiteRT crashes or hangs in op 1 ADD (spoiled): SIG" in reason for reason in result["reasons"]) >= 2
    assert "" in result["reasons"]
