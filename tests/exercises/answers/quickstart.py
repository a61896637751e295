"""Wrong and right answers to the exercises in codelab 00."""

import numpy as np

from lstm_toolkit import inspect


def ops(tflite):
    return inspect(tflite).ops


def is_fused(tflite):
    summary = inspect(tflite)
    return len(summary.lstm_nodes) > 0 and summary.ops["WHILE"] == 0


FUSED = [
    (lambda tflite: len(inspect(tflite).lstm_nodes) == 1 and is_fused(tflite), "False of a file that has two UNI"),
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
    (
        lambda runner, sequences, wanted: np.abs(outputs(runner, sequences) - wanted)[1:].max(),
        "off by 0.125 in number 0 of call 0",
    ),
    (
        lambda runner, sequences, wanted: abs((outputs(runner, sequences) - wanted).max()),
        "off by -0.125 in number 0 of call 1",
    ),
    (
        lambda runner, sequences, wanted: abs((outputs(runner, sequences) - wanted).min()),
        "off by 0.125 in number 0 of call 0",
    ),
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
    (with_pythons_max, "give NaN back. np.max passes it on"),
]

WRONG = {
    "check_is_fused": FUSED,
    "check_largest_error": ERRORS,
}
RIGHT = {
    "check_is_fused": [is_fused],
    "check_largest_error": [largest_error, lambda *given: float(largest_error(*given))],
}
