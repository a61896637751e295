"""Wrong and right answers to the exercises in codelab 10."""

import numpy as np


def gru_multiply_adds(steps, size, units):
    return steps * 3 * units * (size + units)


def rescale(total, multiplier, shift):
    rounded = (total * multiplier + (1 << (shift - 1))) >> shift
    return np.clip(rounded, -32768, 32767).astype(np.int16)


def with_floats(total, multiplier, shift):
    return np.clip(np.floor(total.astype(np.float64) * multiplier / 2**shift + 0.5), -32768, 32767).astype(np.int16)


def in_python(total, multiplier, shift):
    halves = [(each * multiplier * 2 // 2**shift + 1) // 2 for each in total.ravel().tolist()]
    return np.array([min(max(each, -32768), 32767) for each in halves], np.int16).reshape(total.shape)


def choose(files, ram, flash):
    fits = {name: error for name, (arena, size, error) in files.items() if arena <= 0.75 * ram and size <= flash}
    return min(fits, key=fits.get, default="none")


def as_a_loop(files, ram, flash):
    best, smallest = "none", float("inf")
    for name, (arena, size, error) in files.items():
        if 4 * arena <= 3 * ram and size <= flash and error < smallest:
            best, smallest = name, error
    return best


COUNTS = [
    (lambda steps, size, units: None, "returns nothing"),
    (lambda steps, size, units: "many", "return a number, not str"),
    (lambda steps, size, units: 3 * units * (size + units), "7 steps of 3 .* not 390: that is one step"),
    (lambda steps, size, units: 4 * steps * units * (size + units), "a GRU has three"),
    (lambda steps, size, units: steps * 3 * units * (size + units + 1), "a bias is added"),
    (lambda steps, size, units: steps * 3 * units * (size + units + 2), "a bias is added"),
    (lambda steps, size, units: steps * units * (size + units), "one of the blocks"),
    (lambda steps, size, units: steps * 3 * units * size, "recurrent weights is missing"),
    (lambda steps, size, units: steps * 3 * units * units, "input with its weights is missing"),
    (lambda steps, size, units: 1, "every weight is used once in every step"),
]

TOTALS = [
    (lambda total, multiplier, shift: None, "returns nothing"),
    (lambda total, multiplier, shift: total * multiplier >> shift, "is int64, and the tensor holds int16"),
    (lambda total, multiplier, shift: rescale(total, multiplier, shift).ravel(), "shape of the totals"),
    (lambda total, multiplier, shift: (total * multiplier >> shift).astype(np.int16), "rounds downwards: add half"),
    (
        lambda total, multiplier, shift: ((total * multiplier + (1 << (shift - 1))) >> shift).astype(np.int16),
        "70000 .* so 32767, not .*clip before the type",
    ),
    (
        lambda total, multiplier, shift: np.clip(np.rint(total * multiplier / 2**shift), -32768, 32767).astype(
            np.int16
        ),
        "halves go upwards",
    ),
    (with_floats, "a float has 53 bits"),
    (lambda total, multiplier, shift: rescale(total, 1, shift), "multiply first"),
]

CHOICES = [
    (lambda files, ram, flash: None, "returns nothing"),
    (lambda files, ram, flash: "z", "name of a file, or 'none', not 'z'"),
    (lambda files, ram, flash: "none", "fits, and you say that none does"),
    (lambda files, ram, flash: choose(files, ram, 10**9), "does not fit into the flash"),
    (lambda files, ram, flash: choose(files, 10**9, flash), "more than three quarters of the RAM"),
    (lambda files, ram, flash: choose(files, ram / 0.75, flash), "more than three quarters of the RAM"),
    (
        lambda files, ram, flash: choose({n: (a, s, -e) for n, (a, s, e) in files.items()}, ram, flash),
        "which fits too",
    ),
    (
        lambda files, ram, flash: choose({n: (a + 1, s, e) for n, (a, s, e) in files.items()}, ram, flash),
        "'just' fits, and you say",
    ),
]

WRONG = {"check_multiply_adds": COUNTS, "check_rescale": TOTALS, "check_choose": CHOICES}
RIGHT = {
    "check_multiply_adds": [gru_multiply_adds, lambda t, i, u: np.int64(3 * t * (u * i + u * u))],
    "check_rescale": [rescale, in_python],
    "check_choose": [choose, as_a_loop],
}
