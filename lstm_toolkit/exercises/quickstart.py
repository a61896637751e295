"""Checks of the exercises in codelab 00: whether a file is fused, and whether it computes what Keras computes."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.exercises import Array, require, require_answer, require_bool

CALLS, TIME_STEPS, INPUT_SIZE, OUTPUT_SIZE = 5, 4, 3, 2

_FILES = {
    "fused": (True, "has one UNIDIRECTIONAL_SEQUENCE_LSTM and no WHILE, so it is fused"),
    "loop": (False, "has a WHILE and no LSTM op, so it is not fused"),
    "unrolled": (False, "has no WHILE, and no LSTM op either: every time step is written out in small operators"),
    "mixed": (False, "has an LSTM op, but a WHILE too: one layer is fused and the other one is not"),
    "two": (True, "has two UNIDIRECTIONAL_SEQUENCE_LSTM and no WHILE, so it is fused"),
    "bidirectional": (
        True,
        "has a BIDIRECTIONAL_SEQUENCE_LSTM, which is a fused LSTM op as well. `lstm_nodes` of the summary holds both "
        "kinds",
    ),
}
"""For each file that `check_is_fused` tries, whether it is fused, and why."""


def check_is_fused(is_fused: Callable[[bytes], Any]) -> None:
    """Checks a function that says whether the LSTMs of a file are fused.

    Args:
        is_fused: takes the bytes of a `.tflite` file; returns True if it holds a fused LSTM op and no loop.
    """
    for name, (wanted, reason) in _FILES.items():
        answer = is_fused(small_files()[name])
        require_answer(answer)
        require_bool(answer)
        require(answer == wanted, f"the function says {answer} of a file that {reason}")


def check_largest_error(largest_error: Callable[[Any, Array, Array], Any]) -> None:
    """Checks a function that compares a file with Keras over several calls in a row.

    Args:
        largest_error: takes a runner, sequences [calls, time, input_size] and Keras's outputs [calls, outputs]; calls
            the runner with one sequence after the other, each as a batch of one, and returns the largest absolute
            difference.
    """
    random = np.random.default_rng(5)
    sequences, wanted = (
        random.normal(size=(CALLS, *shape)).astype(np.float32) for shape in ((TIME_STEPS, INPUT_SIZE), (OUTPUT_SIZE,))
    )

    def answer(errors: Array) -> tuple[float, _Scripted]:
        runner = _Scripted(sequences, wanted, errors)
        return _number(largest_error(runner, sequences.copy(), wanted.copy())), runner

    errors = np.zeros((CALLS, OUTPUT_SIZE), np.float32)
    exact, runner = answer(errors)
    require(runner.calls, "the function does not call the runner")
    require(exact == 0, f"of a runner that gives what Keras gives the function says {exact:.3g}, and not 0")
    too_small, _ = answer(errors - 0.25)
    hint = f"all outputs of a runner are 0.25 too small, and the function says {too_small:.3g}: the sign"
    require(too_small > 0, hint)
    require(abs(too_small - 0.25) < 1e-5, f"all outputs of a runner are off by 0.25, not by {too_small:.3g}")
    for call, number in np.ndindex(errors.shape):
        errors[:] = 0
        # The larger one is negative in every second case.
        errors[call, number] = 0.125 * (-1) ** call
        errors[call, number - 1] = -0.5 * errors[call, number]
        given, runner = answer(errors)
        hint = "do not reset the runner: that hides what it remembers, and who uses the file does not"
        require(not runner.resets, hint)
        remedy = "compare every call" if given == 0 else "take the largest, over all calls and all numbers"
        hint = f"off by {errors[call, number]} in number {number} of call {call}, and less elsewhere"
        require(abs(given - 0.125) < 1e-5, f"a runner is {hint}, and the function says {given:.3g}: {remedy}")
    errors[-1] = np.nan
    broken, _ = answer(errors)
    require(
        not np.isfinite(broken),
        f"the last call of a runner gives NaN, and the function says {broken:.3g}: give NaN back. np.max passes it on, "
        "max does not",
    )


@functools.cache
def small_files() -> dict[str, bytes]:
    """Files of small models by what became of their LSTM: fused, two, bidirectional, mixed, loop, unrolled.

    They are converted at the first call, which takes some seconds and needs TensorFlow.
    """
    import keras

    from lstm_toolkit import models
    from lstm_toolkit.conversion.convert import convert
    from lstm_toolkit.passes.plain.lower import lower

    layers, sequence = keras.layers, keras.Input((TIME_STEPS, INPUT_SIZE), batch_size=1)
    lstm = layers.LSTM(5, return_sequences=True)(sequence)
    mixed, two = (keras.Model(sequence, layer(2)(lstm)) for layer in (layers.GRU, layers.LSTM))
    sizes: dict[str, Any] = {"time_steps": TIME_STEPS, "input_size": INPUT_SIZE, "units": 5}
    fused = convert(models.unidirectional(**sizes), verify=False).tflite
    return {
        "fused": fused,
        "two": convert(two, verify=False).tflite,
        "bidirectional": convert(models.bidirectional(**sizes), verify=False).tflite,
        "mixed": convert(mixed, on_unsupported="keep", verify=False).tflite,
        "loop": lower(fused, form="loop", steps_per_turn=2),
        "unrolled": lower(fused),
    }


class _Scripted:
    """Stands in for a `Runner`: gives Keras's output for each sequence, and an error of its own in each call."""

    def __init__(self, sequences: Array, wanted: Array, errors: Array) -> None:
        self._sequences, self._wanted, self._errors = sequences, wanted, errors
        self.calls = self.resets = self._since_reset = 0

    def __call__(self, x: npt.ArrayLike) -> Array:
        shape = np.shape(x)
        expected = (1, TIME_STEPS, INPUT_SIZE)
        require(shape == expected, f"a call takes one sequence, {list(expected)}, and was given {list(shape)}")
        (found,) = np.nonzero((self._sequences == np.asarray(x)).all(axis=(1, 2)))
        require(len(found), "the runner was called with something that is none of the sequences")
        error = self._errors[self._since_reset % CALLS]
        self.calls += 1
        self._since_reset += 1
        return self._wanted[found] + error

    def reset(self) -> None:
        self.resets += 1
        self._since_reset = 0


def _number(answer: Any) -> float:
    require_answer(answer)
    array = np.asarray(answer)
    is_number = array.dtype.kind in "iuf" and array.ndim == 0
    require(is_number, f"return one number, not {type(answer).__name__} {list(array.shape) or ''}".rstrip())
    return float(array)
