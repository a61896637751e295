"""Wrong and right answers to the exercises in codelab 02."""

import numpy as np
from keras import layers


def place(layout, sizes, sequence, step, number):
    sequences, steps, numbers = sizes
    if layout == "batch_major":
        return (sequence * steps + step) * numbers + number
    return (step * sequences + sequence) * numbers + number


OTHER = {"batch_major": "time_major", "time_major": "batch_major"}

PLACES = [
    (lambda *given: None, "returns nothing"),
    (lambda *given: float(place(*given)), "an integer, not float"),
    (lambda *given: 4 * place(*given), "count numbers, and not bytes"),
    (lambda layout, *given: place(OTHER[layout], *given), "other layout: in batch_major all of one sequence"),
    (lambda layout, *given: place("batch_major", *given), "other layout: in time_major all of one step"),
    (
        lambda layout, sizes, sequence, step, number: place(layout, sizes, sequence, step, 0),
        "number 1 of step 0 of sequence 0 is at 1, not at 0",
    ),
    (
        lambda layout, sizes, *given: place(layout, (*sizes[:2], 1), *given),
        "number 0 of step 1 of sequence 0 is at 5, not at 1",
    ),
]


def on_three_inputs(x):
    shared = layers.LSTM(4)
    return layers.Add()([shared(x), shared(2 * x), shared(3 * x)])


def cells(*units):
    return layers.RNN([layers.LSTMCell(each) for each in units])


VARIANTS = {
    "LSTM(4, unroll=True), 20 steps": (1, (20, 3), lambda x: layers.LSTM(4, unroll=True)(x)),
    "RNN([LSTMCell(4), LSTMCell(5), LSTMCell(6)])": (3, (7, 3), lambda x: cells(4, 5, 6)(x)),
    "TimeDistributed(LSTM(4)), 5 paragraphs": (
        1,
        (5, 7, 3),
        lambda x: layers.TimeDistributed(layers.LSTM(4))(x),
    ),
    "one LSTM(4), called on 3 inputs": (3, (7, 3), on_three_inputs),
    "TimeDistributed(RNN([LSTMCell(4), LSTMCell(5)])), 5 paragraphs": (
        2,
        (5, 7, 3),
        lambda x: layers.TimeDistributed(cells(4, 5))(x),
    ),
    "LSTM(4), then SimpleRNN(5)": (
        1,
        (7, 3),
        lambda x: layers.SimpleRNN(5)(layers.LSTM(4, return_sequences=True)(x)),
    ),
}
COUNTS = {name: count for name, (count, _, _) in VARIANTS.items()}


HINTS = dict(zip(COUNTS, ("advice", "each cell", "one batch", "not share", "reads", "another name"), strict=True))
COUNTED = [
    *((COUNTS | {name: 7}, f"does not become 7: .*{hint}") for name, hint in HINTS.items()),
    (None, "keep the dictionary; this is of type NoneType"),
    ({}, "'LSTM.*, 20 steps' is missing"),
    (dict.fromkeys(COUNTS), "no guess yet for LSTM"),
    (COUNTS | {"LSTM(4), then SimpleRNN(5)": "one"}, "an integer, not str"),
]


def put_back(outputs, valid):
    words = np.cumsum(valid, axis=1)[:, :, np.newaxis]
    return np.where(words > 0, np.take_along_axis(outputs, np.maximum(words - 1, 0), axis=1), 0)


def without_zeros(outputs, valid):
    return np.take_along_axis(outputs, np.maximum(np.cumsum(valid, axis=1) - 1, 0)[:, :, np.newaxis], axis=1)


def by_an_unstable_sort(outputs, valid):
    """The places of an order that need not be the one in which the words were read."""
    places = np.argsort(np.argsort(~valid, axis=1, kind="heapsort" if valid.shape[1] > 16 else "stable"), axis=1)
    last = np.maximum.accumulate(np.where(valid, np.arange(valid.shape[1]), -1), axis=1)
    places = np.take_along_axis(places, np.maximum(last, 0), axis=1)
    return np.where(last[:, :, np.newaxis] < 0, 0, np.take_along_axis(outputs, places[:, :, np.newaxis], axis=1))


ROWS = [
    (by_an_unstable_sort, r"whose output the op gives at step \d+"),
    (lambda outputs, valid: None, "returns nothing"),
    (lambda outputs, valid: outputs[0], r"of \[40, 6, 3\] outputs the function makes \[6, 3\]"),
    (without_zeros, "no word yet, so the output is zero"),
    (lambda outputs, valid: np.where(valid[:, :, np.newaxis], put_back(outputs, valid), 0), "this is padding, so"),
    (lambda outputs, valid: np.where(np.cumsum(valid, axis=1)[:, :, np.newaxis] > 0, outputs, 0), "this is"),
]

WRONG = {
    "check_place": PLACES,
    "check_counts": COUNTED,
    "check_put_back": ROWS,
}
RIGHT = {
    "check_place": [place],
    "check_counts": [COUNTS],
    "check_put_back": [put_back],
}
