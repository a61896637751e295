"""Checks of the exercises in codelab 11: PyTorch's packed weights become Keras's."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstm_toolkit.exercises import Array, require, require_shape, several

_INPUTS, _UNITS = 5, 4
_LSTM = {"input": "i", "forget": "f", "cell": "g", "output": "o"}
_TORCH_GRU = {"reset": "r", "update": "z", "new": "n"}
_KERAS_GRU = ("update", "reset", "new")


def check_lstm_to_keras(to_keras: Callable[[Array, Array, Array, Array], Any]) -> None:
    """Checks a function from the weights of a `torch.nn.LSTM` to those of a Keras LSTM.

    Args:
        to_keras: takes weight_ih [4 * units, inputs], weight_hh [4 * units, units], bias_ih and bias_hh [4 * units],
            with the gates i, f, g, o; returns kernel [inputs, 4 * units], recurrent_kernel [units, 4 * units] and bias
            [4 * units], with the gates i, f, c, o.
    """
    packed = _packed(111, len(_LSTM))
    kernel, recurrent, bias = _three(to_keras(*(each.copy() for each in packed)))
    order = tuple(_LSTM)
    for name, given, stored in (("kernel", kernel, packed[0]), ("recurrent_kernel", recurrent, packed[1])):
        _require_columns(name, given, stored, (order, order))
    wanted = packed[2] + packed[3]
    hint = "bias must be the sum of both: Keras and the op have one"
    require_shape(bias, wanted.shape, f"{hint}, so")
    require(not np.allclose(bias, packed[2]) and not np.allclose(bias, packed[3]), f"{hint}, and yours is one of them")
    require(np.allclose(bias, wanted, atol=1e-6), f"{hint}, gate by gate in the same order")


def check_gru_to_keras(to_keras: Callable[[Array, Array, Array, Array], Any]) -> None:
    """Checks a function from the weights of a `torch.nn.GRU` to those of a Keras GRU with reset_after=True.

    Args:
        to_keras: takes weight_ih [3 * units, inputs], weight_hh [3 * units, units], bias_ih and bias_hh [3 * units],
            with the gates r, z, n; returns kernel [inputs, 3 * units], recurrent_kernel [units, 3 * units] and bias
            [2, 3 * units], of which the first row is added to the input's product and the second to the state's, with
            the gates z, r, n.
    """
    packed = _packed(112, len(_TORCH_GRU))
    kernel, recurrent, bias = _three(to_keras(*(each.copy() for each in packed)))
    orders = tuple(_TORCH_GRU), _KERAS_GRU
    for name, given, stored in (("kernel", kernel, packed[0]), ("recurrent_kernel", recurrent, packed[1])):
        _require_columns(name, given, stored, orders)
    summed = bias.shape == packed[2].shape
    require(not summed, "bias must keep both, [2, 3 * units]: the reset gate scales one of them and not the other")
    require_shape(bias, (2, *packed[2].shape), "bias must be")
    swapped = np.allclose(np.sort(bias[0]), np.sort(packed[3]))
    require(not swapped, "row 0 of bias must be that of the input, bias_ih, and row 1 that of the state, bias_hh")
    for name, given, stored in (("bias[0]", bias[0], packed[2]), ("bias[1]", bias[1], packed[3])):
        _require_columns(name, given[np.newaxis], stored[:, np.newaxis], orders)


def _packed(seed: int, gates: int) -> tuple[Array, Array, Array, Array]:
    """Weights as PyTorch packs them: weight_ih, weight_hh, bias_ih, bias_hh."""
    random, rows = np.random.default_rng(seed), gates * _UNITS
    ih, hh, b_ih, b_hh = (random.normal(size=shape) for shape in ((rows, _INPUTS), (rows, _UNITS), rows, rows))
    return ih.astype(np.float32), hh.astype(np.float32), b_ih.astype(np.float32), b_hh.astype(np.float32)


def _three(answer: Any) -> tuple[Any, Any, Any]:
    things = several(answer, 3, "Keras has kernel, recurrent_kernel and bias; the function returns {} arrays")
    kernel, recurrent, bias = (np.asarray(each) for each in things)
    return kernel, recurrent, bias


def _require_columns(name: str, given: Any, stored: Array, orders: tuple[Sequence[str], Sequence[str]]) -> None:
    """Compares the columns of an array, gate by gate, with the rows that PyTorch stores in another order."""
    theirs, wanted = orders
    hint = f"{name}: PyTorch has a row for each unit, Keras a column; transpose, so that the shape is"
    require_shape(given, stored.T.shape, hint)
    blocks = dict(zip(theirs, np.split(stored.T, len(theirs), axis=1), strict=True))
    for number, gate in enumerate(wanted):
        columns = slice(number * _UNITS, (number + 1) * _UNITS)
        found = [other for other, block in blocks.items() if np.array_equal(given[:, columns], block)]
        what = f"yours are the {found[0]} gate's" if found else "yours are no gate's"
        where = f"columns {columns.start} to {columns.stop - 1} of {name}"
        require(found == [gate], f"{where} must be the {gate} gate's, {what}")
