"""The doctor's desk over the corpus of faults."""

import pytest

import lstm_toolkit as lt
from lstm_toolkit.panels import desk
from tests.helpers import fault_corpus

CLAIMS = {
    "keras 2, stacked, as it is": (True, "started anew"),
    "keras 3, two loops": (True, "called in a row too"),
    "shared": (None, "inference overwrites an operand"),
    "int8, both ways": (None, "several scales"),
}


@pytest.mark.parametrize("name", fault_corpus.NAMES)
def test_findings_are_those_of_diagnose_and_bytes_those_of_repair(corpus, name, monkeypatch):
    monkeypatch.setattr(desk, "compare_calls", lambda *_, **__: None)
    file = corpus[name].tflite
    examination, repaired = desk._of_tflite(file, name, None), lt.repair(file)
    assert examination.findings == lt.diagnose(file)
    kept = {choice.word for choice in examination.choices if not choice.is_on}
    tflite, changes, left, *_ = desk._treated(examination, kept)
    assert tflite == repaired.tflite
    assert changes == repaired.changes
    assert left == repaired.left
    everything, *_ = desk._treated(examination, set())
    codes = {choice.word for choice in examination.choices} & {finding.code for finding in examination.findings}
    assert everything == lt.repair(file, codes=codes).tflite


@pytest.mark.parametrize("name", CLAIMS)
def test_what_three_calls_say(corpus, name):
    holds, words = CLAIMS[name]
    calls = desk.treat(desk.examine(corpus[name].tflite, name=name)).calls
    assert calls.holds is holds
    assert words in calls.claim
    assert not calls.why_not


def test_each_op_can_be_left_alone(corpus):
    file = corpus["keras 2, stacked, as it is"].tflite
    examination = desk.examine(file)
    places = [choice.word for choice in examination.choices if choice.word.startswith("op ")]
    assert len(places) == 2
    for place in places:
        kept = desk.treat(examination, place)
        assert kept.tflite == lt.repair(file, keep=place).tflite
        assert kept.calls.holds
        assert "The first has to agree" in kept.calls.claim
