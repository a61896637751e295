"""The first run of a file: which op is named where it crashes or hangs, and what it leaves to others."""

import pytest

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.runtime import first_run as module
from lstm_toolkit.runtime.first_run import first_run
from lstm_toolkit.runtime.limits import Limits
from tests.helpers.hostile_files import edited_sum, endless, fine_sum
from tests.helpers.sum_file import sum_file


def test_a_file_that_runs():
    assert first_run(sum_file(), remedy="") is None


def test_a_file_that_crashes():
    with pytest.raises(ConversionError, match=r"^LiteRT crashes or hangs in op 0 ADD \(.*\): SIG.*; do this$"):
        first_run(fine_sum(), remedy="do this")


def test_a_file_that_hangs(monkeypatch):
    for name in ("LIMITS", "LIMITS_OF_PART"):
        monkeypatch.setattr(module, name, Limits(seconds=2.0, memory=None))
    with pytest.raises(
        ConversionError, match=r"^LiteRT crashes or hangs in op 0 WHILE \(.*\): it did not answer in 2 seconds; "
    ):
        first_run(endless(), remedy="do this")


def test_why_a_file_is_refused_is_for_others_to_say():
    def unknown(model):
        model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = 32
        model.operatorCodes[0].customCode = b"Unknown"

    assert first_run(edited_sum(unknown), remedy="") is None
