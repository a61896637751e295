"""Traces bare weights as a model: one `GateWeights`, layers of them, or a PyTorch `nn.LSTM`.

The file is compared with the NumPy reference.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.runtime.random_inputs import RandomInputs
from lstm_toolkit.sources import marks
from lstm_toolkit.sources.frame import Frame, Results, fixed_specs
from lstm_toolkit.sources.traced import LayerReport, TracedModel, TraceOptions
from lstm_toolkit.tflite.recurrent import FUSED_OPS
from lstm_toolkit.weights import reference
from lstm_toolkit.weights.gate_weights import GateWeights
from lstm_toolkit.weights.operands import GATES, LSTM_COMPOSITE

Layers = list[dict[str, GateWeights]]
"""For each layer the weights of its directions by name: one, or forward and backward."""

Direction = Callable[[str, GateWeights, Any, Sequence[Any]], tuple[Any, Any, Any]]
"""Runs one direction: from its name, weights, sequence [batch, time, input_size] and the states to start from, [h, c]
or [], to the outputs, the last h and the last c."""


def layers_of(model: Any) -> Layers | None:
    """The layers that bare weights stand for, or None if `model` is something else.

    Args:
        model: a `GateWeights`; a list of layers, each a `GateWeights` or a pair (forward, backward) of them; or a
            `torch.nn.LSTM`, or its `state_dict()`.

    Raises:
        ConversionError: if it is a PyTorch module with a `forward` of its own.
        ValueError: as `GateWeights.from_torch`.
    """
    if isinstance(model, GateWeights):
        model = [model]
    state = model.state_dict() if hasattr(model, "state_dict") else model
    if isinstance(state, Mapping) and "weight_ih_l0" in state:
        forward = getattr(type(model), "forward", None)
        if forward is not None and not forward.__module__.startswith("torch."):
            raise ConversionError(
                f"{type(model).__name__} has a forward of its own, of which its weights tell nothing; pass its "
                "state_dict() for the LSTM that has these weights"
            )
        count = sum(f"weight_ih_l{number}" in state for number in range(len(state)))
        directions = [False, True] if "weight_ih_l0_reverse" in state else [False]
        model = [
            tuple(GateWeights.from_torch(state, layer=number, reverse=reverse) for reverse in directions)
            for number in range(count)
        ]
    if not isinstance(model, (list, tuple)) or not model:
        return None
    layers = [each if isinstance(each, tuple) else (each,) for each in model]
    if not all(len(each) in (1, 2) and all(isinstance(w, GateWeights) for w in each) for each in layers):
        return None
    suffixes = ("", "_reverse")
    return [
        {f"lstm_l{number}{suffix}": weights for suffix, weights in zip(suffixes, each, strict=False)}
        for number, each in enumerate(layers)
    ]


def trace(layers: Layers, options: TraceOptions) -> TracedModel:
    """Traces the layers, each on the outputs of the one below, from the input `inputs` [batch, time, input_size].

    Raises:
        ConversionError: if the layers or the signature do not fit together.
    """
    _check_widths(layers)
    state = "reset" if options.state == "auto" else options.state
    size = next(iter(layers[0].values())).input_size
    signature = options.input_signature
    given = tf.nest.flatten(signature) if signature is not None else [tf.TensorSpec([None, None, None])]
    if len(given) != 1 or not given[0].shape.is_compatible_with([None, None, size]):
        raise ConversionError(
            f"the weights take one input [None, None, {size}], got input_signature with the shapes "
            f"{[spec.shape.as_list() for spec in given]}"
        )
    specs = fixed_specs(("inputs",), [tf.TensorSpec([*given[0].shape[:2], size])], options)
    states = {
        f"{name}_{kind}": [specs[0].shape[0], width]
        for layer in layers
        for name, weights in layer.items()
        for kind, width in (("h", weights.output_size), ("c", weights.units))
    }
    frame = Frame(("inputs",), specs, (True,), options, states if state == "explicit" else {})

    def run(direction: Direction, tensors: Sequence[Any], start: Mapping[str, Any]) -> Results:
        (x,) = tensors
        last: dict[str, Any] = {}
        for layer in layers:
            outputs = []
            for name, weights in layer.items():
                backward, names = name.endswith("_reverse"), (f"{name}_h", f"{name}_c")
                first = [start[each] for each in names] if start else []
                y, h, c = direction(name, weights, tf.reverse(x, [1]) if backward else x, first)
                last |= zip(names, (h, c), strict=True)
                outputs.append(tf.reverse(y, [1]) if backward else y)
            x = tf.concat(outputs, axis=2) if len(outputs) > 1 else outputs[0]
        return {"output_0": x}, {} if state == "reset" else last

    return frame.traced_model(
        "weights",
        frame.function(functools.partial(run, functools.partial(_marked, carry=state == "carry"))),
        functools.partial(run, _computed),
        variables=(),
        layers=[LayerReport(name, "GateWeights", FUSED_OPS[LSTM_COMPOSITE]) for layer in layers for name in layer],
        random_inputs=RandomInputs(),
    )


def _check_widths(layers: Layers) -> None:
    for number, (below, above) in enumerate(itertools.pairwise(layers), start=1):
        width = sum(weights.output_size for weights in below.values())
        sizes = [weights.input_size for weights in above.values()]
        if set(sizes) != {width}:
            raise ConversionError(f"layer {number} takes {sizes} numbers a step, and the one below gives {width}")


def _computed(_name: str, weights: GateWeights, sequence: Any, start: Sequence[Any]) -> tuple[Any, Any, Any]:
    """Computes one direction of one layer by the NumPy reference, in float64."""
    return reference.lstm(weights, np.asarray(sequence), **dict(zip("hc", start, strict=False)))


def _marked(
    name: str, weights: GateWeights, sequence: Any, start: Sequence[Any], *, carry: bool
) -> tuple[Any, Any, Any]:
    """Marks one direction of one layer; its operands are the op's own, gate by gate."""
    operands = dict(weights.operands())

    def body(x: Any, *tensors: Any) -> tuple[Any, Any]:
        # The converter drops this body; it only has to depend on its arguments and to have the right shapes.
        total = tf.add_n([tf.reduce_sum(tensor) for tensor in tensors])
        outputs = tf.reduce_sum(x, axis=2, keepdims=True) + total * tf.ones([weights.output_size])
        return outputs, outputs[:, 0, :1] + tf.zeros([weights.units])

    attributes = {"weights": ",".join(operands), "gates": ",".join(GATES if weights.has_input_gate else GATES[1:])}
    marked = marks.mark(body, LSTM_COMPOSITE, layer=name, carry=carry, **attributes)
    outputs, c = marked(sequence, *(tf.constant(array) for array in operands.values()), *start)
    batch, steps, _ = sequence.shape
    outputs = tf.ensure_shape(outputs, [batch, steps, weights.output_size])
    return outputs, outputs[:, -1], tf.ensure_shape(c, [batch, weights.units])
