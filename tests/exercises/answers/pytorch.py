"""Wrong and right answers to the exercises in codelab 11."""

import numpy as np


def lstm_to_keras(weight_ih, weight_hh, bias_ih, bias_hh):
    return weight_ih.T, weight_hh.T, bias_ih + bias_hh


def gru_to_keras(weight_ih, weight_hh, bias_ih, bias_hh):
    def swapped(rows):
        r, z, n = np.split(rows, 3)
        return np.concatenate([z, r, n])

    return swapped(weight_ih).T, swapped(weight_hh).T, np.stack([swapped(bias_ih), swapped(bias_hh)])


def gru_by_index(weight_ih, weight_hh, bias_ih, bias_hh):
    units = len(bias_ih) // 3
    order = [*range(units, 2 * units), *range(units), *range(2 * units, 3 * units)]
    return [weight_ih[order].T, weight_hh[order].T, [bias_ih[order], bias_hh[order]]]


def lingvo_order(weight_ih, weight_hh, bias_ih, bias_hh):
    i, f, g, o = np.split(weight_ih, 4)
    return np.concatenate([g, i, f, o]).T, weight_hh.T, bias_ih + bias_hh


LSTMS = [
    (lambda *w: None, "returns nothing"),
    (lambda *w: w[0], "returns 16 arrays"),
    (lambda *w: [each.T for each in w], "kernel, recurrent_kernel and bias; the function returns 4"),
    (lambda *w: (w[0], w[1], w[2] + w[3]), "kernel: PyTorch has a row for each unit.*transpose"),
    (lambda *w: (w[0].T, w[1], w[2] + w[3]), "columns 0 to 3 of recurrent_kernel|recurrent_kernel: PyTorch has a row"),
    (lingvo_order, "columns 0 to 3 of kernel must be the input gate's, yours are the cell gate's"),
    (lambda *w: (2 * w[0].T, w[1].T, w[2] + w[3]), "yours are no gate's"),
    (lambda *w: (w[0].T, w[1].T, np.stack(w[2:])), "the sum of both"),
    (lambda *w: (w[0].T, w[1].T, w[2]), "yours is one of them"),
    (lambda *w: (w[0].T, w[1].T, w[2] - w[3]), "gate by gate"),
]
GRUS = [
    (lambda *w: None, "returns nothing"),
    (
        lambda *w: (w[0].T, w[1].T, np.stack(w[2:])),
        "columns 0 to 3 of kernel must be the update gate's, yours are the res",
    ),
    (lambda *w: (*gru_to_keras(*w)[:2], w[2] + w[3]), "must keep both"),
    (lambda *w: (*gru_to_keras(*w)[:2], gru_to_keras(*w)[2].T), r"bias must be \[2, 12\], not \[12, 2\]"),
    (lambda *w: (*gru_to_keras(*w)[:2], gru_to_keras(*w)[2][::-1]), "row 0 of bias must be that of the input"),
    (lambda *w: (*gru_to_keras(*w)[:2], np.stack(w[2:])), r"columns 0 to 3 of bias\[0\] must be the update gate's"),
    (lambda *w: (gru_to_keras(*w)[0], w[1].T, gru_to_keras(*w)[2]), "columns 0 to 3 of recurrent_kernel"),
]

WRONG = {"check_lstm_to_keras": LSTMS, "check_gru_to_keras": GRUS}
RIGHT = {
    "check_lstm_to_keras": [lstm_to_keras, lambda *w: [w[0].T, w[1].T, (w[2].astype(float) + w[3]).tolist()]],
    "check_gru_to_keras": [gru_to_keras, gru_by_index],
}
