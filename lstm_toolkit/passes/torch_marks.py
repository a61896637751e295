"""Pass: the marked layers of a PyTorch module become the composite ops that all passes know.

before  [lstm_toolkit.Torch (CUSTOM): input, weights as PyTorch packs them, perhaps h0, c0 -> sequence, perhaps c]
after   [lstm_toolkit.LSTM, .SimpleRNN or .Cell (CUSTOM): input, weights as Keras packs them, ... -> the same]

Weights of a PyTorch layer are [gates * units, input_size], and the gates of an LSTM lie in Keras's order.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from lstm_toolkit.passes.graft import marked_weights
from lstm_toolkit.tflite import edit, graph
from lstm_toolkit.tflite.recurrent import attributes_of
from lstm_toolkit.tflite.types import Model
from lstm_toolkit.weights.operands import (
    CELL_COMPOSITE,
    GATES,
    LSTM_COMPOSITE,
    SIMPLE_RNN_COMPOSITE,
    TORCH_COMPOSITE,
)

Arrays = dict[str, npt.NDArray[np.float32]]


def name_layers(model: Model) -> dict[str, str]:
    """Makes composite ops of the marked layers of a `ModelT`, in place.

    Returns:
        For the name of each layer, its class in PyTorch.

    Raises:
        ConversionError: for a layer whose weights are not constants.
    """
    classes = {}
    for subgraph in model.subgraphs:
        for operator in subgraph.operators:
            if graph.operator_name(model, operator) != TORCH_COMPOSITE:
                continue
            attributes = attributes_of(operator)
            layer, kind = attributes["layer"], attributes["kind"]
            given: Arrays = marked_weights(model, subgraph, operator, layer)
            composite, packed, options = _READERS[kind](given)
            options |= {"layer": flexbuffers.Loads(bytes(operator.customOptions))["layer"], "weights": ",".join(packed)}
            options |= {} if composite == CELL_COMPOSITE else {"carry": attributes["carry"]}
            made = [edit.add_constant(model, subgraph, f"{layer}/{name}", array) for name, array in packed.items()]
            operator.inputs = [operator.inputs[0], *made, *operator.inputs[1 + len(given) :]]
            operator.customOptions = np.frombuffer(flexbuffers.Dumps(options), np.uint8)
            operator.opcodeIndex = _custom_code(model, composite)
            classes[layer] = kind.partition("_")[0]
    return classes


def _lstm(given: Arrays) -> tuple[str, Arrays, dict[str, Any]]:
    packed = {"kernel": given["weight_ih"].T, "recurrent_kernel": given["weight_hh"].T}
    if "bias_ih" in given:
        packed["bias"] = given["bias_ih"] + given["bias_hh"]
    if "weight_hr" in given:
        packed["projection"] = given["weight_hr"].T
    # PyTorch writes i, f, g, o: its g is the cell gate.
    return LSTM_COMPOSITE, packed, {"gates": ",".join(GATES)}


def _gru(given: Arrays) -> tuple[str, Arrays, dict[str, Any]]:
    biases = [given.get(name, np.zeros(len(given["weight_ih"]), np.float32)) for name in ("bias_ih", "bias_hh")]

    def update_first(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        # PyTorch packs reset, update, new; Keras update, reset, candidate.
        reset, update, new = np.split(array, 3)
        return np.concatenate([update, reset, new])

    packed = {
        "kernel": update_first(given["weight_ih"]).T,
        "recurrent_kernel": update_first(given["weight_hh"]).T,
        "bias": np.stack([update_first(each) for each in biases]),
    }
    options = {"kind": "gru", "activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": True}
    return CELL_COMPOSITE, packed, options | {"masked": False}


def _rnn(activation: str, given: Arrays) -> tuple[str, Arrays, dict[str, Any]]:
    kernel, recurrent = given["weight_ih"].T, given["weight_hh"].T
    zeros = np.zeros(len(recurrent), np.float32)
    bias = given["bias_ih"] + given["bias_hh"] if "bias_ih" in given else zeros
    return (
        SIMPLE_RNN_COMPOSITE,
        {"kernel": kernel, "recurrent_kernel": recurrent, "bias": bias},
        {"activation": activation},
    )


_READERS: Mapping[str, Any] = {
    "LSTM": _lstm,
    "GRU": _gru,
    "RNN_TANH": lambda given: _rnn("tanh", given),
    "RNN_RELU": lambda given: _rnn("relu", given),
}


def _custom_code(model: Model, name: str) -> int:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = name.encode(), 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
