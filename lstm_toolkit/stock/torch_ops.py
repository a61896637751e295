"""PyTorch's recurrent layers as ops of their own, which `torch.export` and litert-torch keep whole.

    before  [aten.lstm: x, states, weights of all layers and directions -> y, h, c]
    marked  [lstm_toolkit.layers: the same]
    after   [lstm_toolkit.direction: x, weights of one layer and direction, perhaps h0, c0 -> y, perhaps c], ...

Nothing computes them. In the file they are CUSTOM ops, for `passes.torch_marks`.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import torch
from flatbuffers import flexbuffers

KINDS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN_TANH", "rnn_relu": "RNN_RELU"}
"""The functions of PyTorch's recurrent layers, by the modes that the layers have."""

LIBRARY = torch.library.Library("lstm_toolkit", "DEF")
LIBRARY.define(
    "layers(Tensor x, Tensor[] start, Tensor[] weights, bool has_biases, int count, bool both_ways, bool batch_first, "
    "str kind, str name, bool carry) -> Tensor[]"
)
LIBRARY.define("direction(Tensor x, Tensor[] weights, Tensor[] start, int[] sizes, str kind, str options) -> Tensor[]")


@torch.library.register_fake("lstm_toolkit::layers", lib=LIBRARY)
def directions(  # noqa: PLR0913 (as the op has them)
    x: Any,
    start: Sequence[Any],
    weights: Sequence[Any],
    has_biases: bool,  # noqa: FBT001
    count: int,
    both_ways: bool,  # noqa: FBT001
    batch_first: bool,  # noqa: FBT001
    kind: str,
    name: str,
    carry: bool,  # noqa: FBT001
) -> list[Any]:
    """What `torch.nn.LSTM` and its kin compute, direction by direction.

    Args:
        x: [batch, time, input size], or [time, batch, input size] without `batch_first`.
        start: h, and c of an LSTM, each [count * directions, batch, size]; empty for zeros.
        weights: of all layers and directions, as PyTorch's `_flat_weights`.
        has_biases: whether there are two biases in each.
        count: of the layers.
        both_ways: whether there are two directions.
        batch_first: see `x`.
        kind: one of `KINDS`' values.
        name: of the call.
        carry: whether the states live on from call to call.

    Returns:
        The outputs, laid out as x, the last h, and the last c of an LSTM.
    """
    sequence = x if batch_first else x.transpose(0, 1)
    ways = ("", "_reverse") if both_ways else ("",)
    operands = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if has_biases else [])]
    operands += ["weight_hr"] * (len(weights) > count * len(ways) * len(operands))
    last: list[list[Any]] = []
    for layer in range(count):
        outputs = []
        for way in ways:
            number = len(last)
            own = weights[number * len(operands) : (number + 1) * len(operands)]
            part = name if count * len(ways) == 1 else f"{name}_l{layer}{way}"
            options = {"layer": quote(part), "weights": ",".join(operands), "kind": kind, "carry": carry}
            sizes = own[-1].shape if "weight_hr" in operands else [own[1].shape[1]] * 2
            y, *others = torch.ops.lstm_toolkit.direction(
                sequence.flip(1) if way else sequence,
                own,
                [each[number] for each in start],
                list(sizes),
                kind,
                flexbuffers.Dumps(options).hex(),
            )
            last.append([y[:, -1], *others])
            outputs.append(y.flip(1) if way else y)
        sequence = torch.cat(outputs, 2) if both_ways else outputs[0]
    states = [torch.stack(list(each)) for each in zip(*last, strict=True)]
    return [sequence if batch_first else sequence.transpose(0, 1), *states]


@torch.library.register_fake("lstm_toolkit::direction", lib=LIBRARY)
def _direction(x: Any, _: Any, __: Any, sizes: Sequence[int], kind: str, ___: str) -> list[Any]:
    outputs, units = sizes
    y = x.new_empty([*x.shape[:2], outputs])
    return [y, x.new_empty([x.shape[0], units])] if kind == "LSTM" else [y]
