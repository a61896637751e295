"""Checks of the exercises in codelab 02: layouts in memory, what layers become, and how a mask is read."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.exercises import Array, require, require_answer

SIZES = (3, 7, 5)
"""Sequences, time steps and numbers a step of the arrays that `check_place` tries."""

_COUNTS = {
    "LSTM(4, unroll=True), 20 steps": (1, "unroll is advice to Keras; the op runs over all steps, however many"),
    "RNN([LSTMCell(4), LSTMCell(5), LSTMCell(6)])": (3, "each cell runs over the whole sequence, after the one below"),
    "TimeDistributed(LSTM(4)), 5 paragraphs": (1, "the paragraphs of all texts become one batch, however many"),
    "one LSTM(4), called on 3 inputs": (3, "the calls share weights; what can they not share?"),
    "TimeDistributed(RNN([LSTMCell(4), LSTMCell(5)])), 5 paragraphs": (
        2,
        "the paragraphs become a batch, but the second cell reads what the first one gives",
    ),
    "LSTM(4), then SimpleRNN(5)": (1, "a simple RNN has a fused op too, but of another name"),
}
"""For each layer of `check_counts`, how many UNIDIRECTIONAL_SEQUENCE_LSTM it becomes, and the hint."""


def check_place(place: Callable[[str, tuple[int, int, int], int, int, int], Any]) -> None:
    """Checks a function that says where a number stands in the memory of a batch of sequences.

    Args:
        place: takes "batch_major" or "time_major", the sizes (sequences, time steps, numbers a step), and the indices
            of a sequence, of a step and of a number in the step; returns how many numbers stand before that one.
            All places are tried.
    """
    batch, time, inputs = SIZES
    memory = np.arange(batch * time * inputs)
    by_sequence = memory.reshape(batch, time, inputs)
    by_step = memory.reshape(time, batch, inputs).swapaxes(0, 1)
    for layout, first, wanted, other in (
        ("batch_major", "sequence", by_sequence, by_step),
        ("time_major", "step", by_step, by_sequence),
    ):
        answer = np.array([_index(place(layout, SIZES, *each)) for each in np.ndindex(SIZES)]).reshape(SIZES)
        require(not np.array_equal(answer, 4 * wanted), "count numbers, and not bytes")
        swapped = f"that is the other layout: in {layout} all of one {first} comes first"
        require(not np.array_equal(answer, other), swapped)
        for sequence, step, number in np.argwhere(answer != wanted)[:1]:
            raise AssertionError(
                f"{layout}, sizes {SIZES}: number {number} of step {step} of sequence {sequence} is at "
                f"{wanted[sequence, step, number]}, not at {answer[sequence, step, number]}"
            )


def check_counts(counts: Mapping[str, Any]) -> None:
    """Checks how many LSTM ops each of six layers becomes.

    Args:
        counts: a number of UNIDIRECTIONAL_SEQUENCE_LSTM for each layer, by its description in the codelab.
    """
    require(isinstance(counts, Mapping), f"keep the dictionary; this is of type {type(counts).__name__}")
    for name, (wanted, hint) in _COUNTS.items():
        require(name in counts, f"{name!r} is missing in the dictionary")
        require(counts[name] is not None, f"no guess yet for {name}")
        require(_index(counts[name]) == wanted, f"{name} does not become {counts[name]}: {hint}")


def check_put_back(put_back: Callable[[Array, npt.NDArray[np.bool_]], Any]) -> None:
    """Checks a function that puts outputs of words that were read first back to the steps of their sentences.

    Args:
        put_back: takes outputs [batch, time, units] and valid [batch, time], bool; returns an array of the shape of the
            outputs: at each step the output after the last valid step up to there, and zeros before the first one.
    """
    for batch, time in ((40, 6), (5, 40)):
        _check_put_back(put_back, batch, time)


def _check_put_back(put_back: Callable[[Array, npt.NDArray[np.bool_]], Any], batch: int, time: int) -> None:
    random = np.random.default_rng(6)
    outputs = random.normal(size=(batch, time, 3)).astype(np.float32)
    valid = random.random((batch, time)) < random.random((batch, 1))
    valid[0], valid[1] = False, True
    wanted = np.zeros_like(outputs)
    for row, steps, shown in zip(outputs, valid, wanted, strict=True):
        words = 0
        for place, is_word in enumerate(steps):
            words += int(is_word)
            shown[place] = row[words - 1] if words else 0
    answer = put_back(outputs.copy(), valid.copy())
    require_answer(answer)
    answer = np.asarray(answer)
    require(answer.shape == outputs.shape, f"of {list(outputs.shape)} outputs the function makes {list(answer.shape)}")
    for steps, shown, given in zip(valid, wanted, answer, strict=True):
        for step in np.flatnonzero(~np.isclose(given, shown).all(axis=1)):
            words = int(np.count_nonzero(steps[: step + 1]))
            where = f"valid {steps.astype(int).tolist()}, step {step}: "
            require(words, f"{where}there is no word yet, so the output is zero")
            require(steps[step], f"{where}this is padding, so the output after the last word is shown again")
            raise AssertionError(f"{where}this is word {words}, whose output the op gives at step {words - 1}")


def _index(answer: Any) -> int:
    require_answer(answer)
    try:
        return operator.index(answer)
    except TypeError:
        raise AssertionError(f"give an integer, not {type(answer).__name__}") from None
