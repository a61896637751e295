"""Wrong and right answers to the exercises in codelab 01."""

import numpy as np

from lstm_toolkit.weights.operands import GATES

LINGVO = ("cell", "input", "forget", "output")


def pack(order=LINGVO, *, recurrent_first=False, bias_order=None):
    def function(weights):
        parts = [
            np.hstack([getattr(weights, f"{part}_to_{gate}_weights").T for gate in order])
            for part in ("input", "recurrent")
        ]
        b = np.concatenate([getattr(weights, f"{gate}_gate_bias") for gate in bias_order or order])
        return np.vstack(parts[::-1] if recurrent_first else parts), b

    return function


def find_order(lstm, units):
    order = []
    for block in range(4):
        bias = np.zeros(4 * units)
        bias[block * units : (block + 1) * units] = -1e4
        outputs, last_c = lstm(bias)
        if not last_c.any():
            order.append("input")
        elif not outputs.any():
            order.append("output")
        elif (last_c < 0).all():
            order.append("cell")
        else:
            order.append("forget")
    return order


SPLITS = [
    (lambda kernel: None, "returns nothing"),
    (lambda kernel: 3, "returns a single int"),
    (lambda kernel: kernel.T, "four gates, the function returns 24 arrays"),
    (lambda kernel: [None] * 4, r"is \[6, 3\], not \[\]"),
    (lambda kernel: [[[1], [2, 3]]] * 4, "rows of unequal length"),
    (lambda kernel: (part for part in np.split(kernel, 4, axis=1)), r"is \[6, 3\], not \[3, 6\]"),
    (lambda kernel: np.split(kernel, 4, axis=1), r"is \[6, 3\], not \[3, 6\]"),
    (lambda kernel: kernel.reshape(4, 6, 3), r"array 0 .* \[0, 1\] is not kernel\[1, 0\]"),
    (lambda kernel: np.split(kernel.T, 4)[::-1], "array 0 must be the input gate"),
    (
        lambda kernel: [np.split(kernel.T, 4)[k] for k in (0, 1, 3, 2)],
        r"array 2 must be the cell gate.*\[0, 12\]",
    ),
]

PACKS = [
    (lambda weights: None, "returns nothing"),
    (lambda weights: 3, "returns a single int"),
    (lambda weights: pack()(weights)[:1], "has wm and b, the function returns 1"),
    (lambda weights: ([[1], [2, 3]], 4), "rows of unequal length"),
    (lambda weights: (pack()(weights)[0].T, pack()(weights)[1]), r"wm must be \[9, 24\], not \[24, 9\]"),
    (lambda weights: (pack()(weights)[0], pack()(weights)[1][:18]), r"b must be \[24\], not \[18\]"),
    (pack(GATES), "columns 0 to 5 of wm belong to the cell gate: their first rows"),
    (pack(recurrent_first=True), "columns 0 to 5 .* their first rows are its input weights"),
    (
        lambda weights: (np.vstack([pack()(weights)[0][:3], pack(GATES)(weights)[0][3:]]), pack()(weights)[1]),
        "columns 0 to 5 .* the rows below are its recurrent weights",
    ),
    (pack(bias_order=GATES), "0 to 5 of b belong to the cell gate"),
]

ORDERS = [
    (lambda lstm, units: None, "returns nothing"),
    (lambda lstm, units: 3, "returns a single int"),
    (lambda lstm, units: ("input", "forget"), "has each of input, forget, cell, output once"),
    (lambda lstm, units: (None, 1, "cell", "output"), "has each of input, forget, cell, output once"),
    (lambda lstm, units: [np.zeros(3)] * 4, "has each of input, forget, cell, output once"),
    (lambda lstm, units: GATES, "block 2 is not the cell gate. With -10000 in that block outputs are 0"),
    (lambda lstm, units: [{"cell": "forget", "forget": "cell"}.get(g, g) for g in find_order(lstm, units)], "no trace"),
]

WRONG = {
    "check_split": SPLITS,
    "check_pack_lingvo": PACKS,
    "check_find_order": ORDERS,
}
RIGHT = {
    "check_split": [lambda kernel: np.split(kernel.T, 4)],
    "check_pack_lingvo": [pack()],
    "check_find_order": [find_order],
}
