"""Refusals of the doctor's desk."""

import pytest

from lstm_toolkit import Limits
from lstm_toolkit.panels.desk import PATIENT, examine, treat
from tests.helpers.refusals import Refusal

REFUSALS = [
    Refusal(
        ("stops the process that works on it: {}; if you trust where it comes from, allow more, with limits=", "0.01"),
        lambda: examine(PATIENT, limits=Limits(seconds=0.01)),
        lambda: examine(PATIENT, limits=Limits(seconds=120.0, memory=None)),
    ),
    Refusal(
        ("keep takes what can be mended in the file, ", "cell-clip, state-leak", "got stream"),
        lambda: treat(examine(PATIENT), "stream"),
        lambda: treat(examine(PATIENT), "state-leak"),
    ),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_what_the_message_advises_helps(refusal):
    refusal.follow()
