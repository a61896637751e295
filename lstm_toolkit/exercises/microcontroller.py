"""Checks of the exercises in codelab 10: what fits on a microcontroller, and its arithmetic."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.exercises import require, require_answer, require_number, require_shape

Integers = npt.NDArray[np.int64]
Files = dict[str, tuple[int, int, float]]

INT16 = (-32768, 32767)

SHARE_OF_RAM = 0.75
"""Share of the memory that an arena may take; the rest is for the program around the model."""


def check_multiply_adds(gru_multiply_adds: Callable[[int, int, int], Any]) -> None:
    """Checks a function that counts the multiply-adds of a call of a GRU layer.

    Args:
        gru_multiply_adds: takes time steps, input size and units; returns a whole number.
    """
    for steps, size, units in ((1, 5, 4), (7, 3, 10), (16, 6, 24), (100, 40, 64)):
        answer = gru_multiply_adds(steps, size, units)
        require_answer(answer)
        require_number(answer)
        step = 3 * units * (size + units)
        wrong = {
            step: "that is one step; a call has as many as there are time steps",
            steps * step * 4 // 3: "an LSTM has four blocks of weights; a GRU has three",
            steps * (step + 3 * units): "a bias is added and not multiplied",
            steps * (step + 6 * units): "a bias is added and not multiplied",
            steps * units * (size + units): "that is one of the blocks of weights; a GRU has three",
            steps * 3 * units * size: "the product of the state with the recurrent weights is missing",
            steps * 3 * units * units: "the product of the input with its weights is missing",
        }
        reason = "" if answer == steps * step else wrong.get(answer, "every weight is used once in every step")
        require(
            answer == steps * step,
            f"for {steps} steps of {size} numbers and {units} units it is {steps * step:,}, not {answer:,}: {reason}",
        )


def check_rescale(rescale: Callable[[Integers, int, int], Any]) -> None:
    """Checks a function that brings a sum of products to the scale of an int16 tensor, with integers alone.

    Args:
        rescale: takes totals, int64 of any shape; a multiplier; and a shift. Returns int16 of the same shape: the
            nearest to total * multiplier / 2**shift, halves upwards, and the ends of int16 for what lies beyond.
    """
    random = np.random.default_rng(21)
    cases = [(np.array([[5, 6, 7], [-5, -6, -7]]), 1, 2), (np.array([4, 1000, -1000]), 24_576, 16)]
    cases.append((np.array([70_000, -70_000, 40_000, -40_000]), 20_000, 14))
    totals = random.integers(-(1 << 45), 1 << 45, 200)
    # Products just below a half: a float has too few bits to know on which side they are.
    multiplier, shift = 32_749, 45
    inverse = pow(multiplier, -1, 1 << shift)
    below = [((1 << (shift - 1)) - 1 - n) * inverse % (1 << shift) for n in range(16)]
    cases.append((np.array([*totals, *below]), multiplier, shift))
    for total, multiplier, shift in cases:
        _require_rescaled(rescale, total.astype(np.int64), multiplier, shift)


def _require_rescaled(
    rescale: Callable[[Integers, int, int], Any], total: Integers, multiplier: int, shift: int
) -> None:
    answer = rescale(total.copy(), multiplier, shift)
    require_answer(answer)
    given = np.asarray(answer)
    require(given.dtype == np.int16, f"the array is {given.dtype}, and the tensor holds int16")
    require_shape(given, total.shape, "the result must have the shape of the totals,")
    # Python's own integers have no end, and // rounds downwards.
    exact = [(2 * each * multiplier + (1 << shift)) // (2 << shift) for each in total.ravel().tolist()]
    wanted = np.clip(np.array(exact), *INT16)
    wrong = np.flatnonzero(wanted != given.ravel())
    if not wrong.size:
        return
    value, want, got = int(total.ravel()[wrong[0]]), int(wanted[wrong[0]]), int(given.ravel()[wrong[0]])
    if not INT16[0] <= exact[wrong[0]] <= INT16[1]:
        reason = "what lies beyond int16 must become its end: clip before the type changes"
    elif abs(got - want) == 1 and shift > 40:
        reason = "a float has 53 bits, and this product more: stay with integers"
    elif abs(got - want) == 1:
        reason = (
            "a shift to the right rounds downwards: add half of what it divides by first, so that halves go upwards"
        )
    else:
        reason = "multiply first, then divide by 2**shift"
    raise AssertionError(
        f"{value} * {multiplier} / 2**{shift} is {value * multiplier / 2**shift:.6g}, so {want}, not {got}: {reason}"
    )


def check_choose(choose: Callable[[Files, int, int], Any]) -> None:
    """Checks a function that chooses a file for a board.

    Args:
        choose: takes files, by name the arena and the file in bytes and the error; the bytes of RAM and of flash of the
            board. Returns the name of the file with the smallest error of those that fit: the arena into three quarters
            of the RAM, the file into the flash. "none" if no file fits.
    """
    random = np.random.default_rng(22)
    for turn in range(60):
        names = random.permutation(["a", "b", "c", "d", "e"])
        sizes = random.integers(4_000, 90_000, (len(names), 2))
        errors = random.permutation(len(names)) / 100
        files = {str(n): (int(a), int(f), float(e)) for n, (a, f), e in zip(names, sizes, errors, strict=True)}
        ram, flash = (1024 * int(each) for each in random.choice([32, 64, 256], 2)) if turn else (65_536, 65_536)
        _require_chosen(choose, files, ram, flash)
    _require_chosen(choose, {"too large": (99_000, 10_000, 0.0), "too long": (1000, 99_000, 0.1)}, 65_536, 65_536)
    _require_chosen(choose, {"just": (49_152, 65_536, 0.2), "one more": (49_168, 65_536, 0.1)}, 65_536, 65_536)


def _require_chosen(choose: Callable[[Files, int, int], Any], files: Files, ram: int, flash: int) -> None:
    answer = choose(dict(files), ram, flash)
    require_answer(answer)
    fits = {name: each for name, each in files.items() if each[0] <= SHARE_OF_RAM * ram and each[1] <= flash}
    best = min(fits, key=lambda name: fits[name][2]) if fits else "none"
    require(answer == "none" or answer in files, f"return the name of a file, or 'none', not {answer!r}")
    where = f"with {ram:,} bytes of RAM and {flash:,} of flash, "
    require(answer != "none" or best == "none", f"{where}{best!r} fits, and you say that none does")
    if answer != best:
        arena, size, error = files[answer]
        if size > flash:
            reason = f"its file of {size:,} bytes does not fit into the flash"
        elif arena > SHARE_OF_RAM * ram:
            reason = f"its arena of {arena:,} bytes is more than three quarters of the RAM"
        else:
            reason = f"its error is {error}, and that of {best!r}, which fits too, {files[best][2]}"
        raise AssertionError(f"{where}{answer!r} is not the one: {reason}")
