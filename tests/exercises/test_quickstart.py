"""The checks of the exercises in codelab 00: they pass on what is right, and have a hint for each mistake."""

import numpy as np
import pytest

from lstm_toolkit import inspect
from lstm_toolkit.exercises import quickstart as exercises


def ops(tflite):
    return inspect(tflite).ops


def is_fused(tflite):
    summary = inspect(tflite)
    return len(summary.lstm_nodes) > 0 and summary.ops["WHILE"] == 0


FUSED = [
    (lambda tflite: None, "returns nothing"),
    (lambda tflite: ops(tflite)["UNIDIRECTIONAL_SEQUENCE_LSTM"], "return True or False, not int"),
    (lambda tflite: False, "says False of a file that has one UNIDIRECTIONAL"),
    (lambda tflite: True, "says True of a file that has a WHILE and no LSTM op"),
    (lambda tflite: ops(tflite)["WHILE"] == 0, "no WHILE, and no LSTM op either"),
    (lambda tflite: len(inspect(tflite).lstm_nodes) > 0, "an LSTM op, but a WHILE too"),
    (
        lambda tflite: ops(tflite)["UNIDIRECTIONAL_SEQUENCE_LSTM"] > 0 and ops(tflite)["WHILE"] == 0,
        "has a BIDIRECTIONAL_SEQUENCE_LSTM",
    ),
]


@pytest.mark.parametrize(("answer", "hint"), FUSED)
def test_is_fused_has_a_hint_for_each_mistake(answer, hint):
    with pytest.raises(AssertionError, match=hint):
        exercises.check_is_fused(answer)


@pytest.mark.parametrize(
    ("name", "lstm_op", "loops"),
    [
        ("fused", "UNIDIRECTIONAL_SEQUENCE_LSTM", 0),
        ("bidirectional", "BIDIRECTIONAL_SEQUENCE_LSTM", 0),
        ("mixed", "UNIDIRECTIONAL_SEQUENCE_LSTM", 1),
        ("loop", None, 1),
        ("unrolled", None, 0),
    ],
)
def test_the_files_are_what_the_hints_say(name, lstm_op, loops):
    counts = ops(exercises.small_files()[name])
    assert {op: count for op, count in counts.items() if "SEQUENCE_LSTM" in op} == ({lstm_op: 1} if lstm_op else {})
    assert counts["WHILE"] == loops


def outputs(runner, sequences):
    return np.concatenate([runner(sequence[np.newaxis]) for sequence in sequences])


def largest_error(runner, sequences, wanted):
    return np.abs(outputs(runner, sequences) - wanted).max()


def after_resets(runner, sequences, wanted):
    errors = []
    for sequence, each in zip(sequences, wanted, strict=True):
        runner.reset()
        errors.append(np.abs(runner(sequence[np.newaxis]) - each).max())
    return np.max(errors)


def with_pythons_max(runner, sequences, wanted):
    largest = 0.0
    for sequence, each in zip(sequences, wanted, strict=True):
        largest = max(largest, np.abs(runner(sequence[np.newaxis]) - each).max())
    return largest


ERRORS = [
    (lambda runner, sequences, wanted: None, "returns nothing"),
    (
        lambda runner, sequences, wanted: np.abs(outputs(runner, sequences) - wanted),
        r"number, not ndarray \[5, 2\]",
    ),
    (lambda runner, sequences, wanted: largest_error(runner, sequences, wanted) < 1e-5, "one number, not bool"),
    (lambda runner, sequences, wanted: 0.0, "does not call the runner"),
    (lambda runner, sequences, wanted: runner(sequences[0]), r"\[1, 4, 3\], and was given \[4, 3\]"),
    (lambda runner, sequences, wanted: runner(sequences), r"\[1, 4, 3\], and was given \[5, 4, 3\]"),
    (lambda runner, sequences, wanted: runner(sequences[:1] * 0), "none of the sequences"),
    (lambda runner, sequences, wanted: outputs(runner, sequences).max(), "of a runner that gives what Keras gives"),
    (lambda runner, sequences, wanted: (outputs(runner, sequences) - wanted).max(), "0.25 too small"),
    (lambda runner, sequences, wanted: np.abs(outputs(runner, sequences) - wanted).sum(), "not by 2.5"),
    (after_resets, "do not reset the runner"),
    (lambda runner, sequences, wanted: largest_error(runner, sequences[:1], wanted[:1]), "says 0: compare every call"),
    (lambda runner, sequences, wanted: np.abs(outputs(runner, sequences) - wanted).mean(), "take the largest"),
    (with_pythons_max, "np.max passes NaN on"),
]


@pytest.mark.parametrize(("answer", "hint"), ERRORS)
def test_largest_error_has_a_hint_for_each_mistake(answer, hint):
    with pytest.raises(AssertionError, match=hint):
        exercises.check_largest_error(answer)


def test_right_answers_pass():
    exercises.check_is_fused(is_fused)
    exercises.check_largest_error(largest_error)
    exercises.check_largest_error(lambda *given: float(largest_error(*given)))
