"""Checks of the exercises in codelab 02: layouts in memory, what layers become, and where the padding goes."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.exercises import require, require_answer

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


def check_to_right(to_right: Callable[[npt.NDArray[np.int32]], Any]) -> None:
    """Checks a function that moves the padding of token rows to the right.

    Args:
        to_right: takes tokens [batch, time], where 0 is padding; returns an array of the same shape with the same
            words in the same order, and all padding behind them.
    """
    random = np.random.default_rng(6)
    tokens, wanted = np.zeros((2, 40, 6), np.int32)
    for row, wanted_row in zip(tokens, wanted, strict=True):
        words = random.integers(1, 30, size=random.integers(0, 7))
        row[np.sort(random.permutation(6)[: len(words)])] = words
        wanted_row[: len(words)] = words
    answer = to_right(tokens.copy())
    require_answer(answer)
    answer = np.asarray(answer)
    require(answer.shape == tokens.shape, f"of {list(tokens.shape)} tokens the function makes {list(answer.shape)}")
    require(answer.dtype.kind in "iu", f"tokens are integers, not {answer.dtype}")
    for row, wanted_row, given in zip(tokens, wanted, answer, strict=True):
        before = f"{row.tolist()} became {given.tolist()}: "
        require(np.array_equal(np.sort(row), np.sort(given)), f"{before}these are other words, or more or fewer")
        require(given[: np.count_nonzero(given)].all(), f"{before}there is padding before a word")
        require(np.array_equal(given, wanted_row), f"{before}the words are in another order")


def _index(answer: Any) -> int:
    require_answer(answer)
    try:
        return operator.index(answer)
    except TypeError:
        raise AssertionError(f"give an integer, not {type(answer).__name__}") from None
