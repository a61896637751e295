"""Makes a model of bare weights: one `GateWeights`, layers of them, or a PyTorch `nn.LSTM`.

Its source, to compare the file with, is the NumPy reference.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.runtime.random_inputs import RandomInputs
from lstm_toolkit.sources import marks
from lstm_toolkit.sources.traced import LayerReport, TracedModel, TraceOptions, fixed_shape
from lstm_toolkit.tflite.recurrent import FUSED_OPS
from lstm_toolkit.weights import reference
from lstm_toolkit.weights.gate_weights import GateWeights
from lstm_toolkit.weights.operands import GATES, LSTM_COMPOSITE

Layers = list[dict[str, GateWeights]]
"""For each layer the weights of its directions by name: one, or forward and backward."""


def layers_of(model: Any) -> Layers | None:
    """The layers that bare weights stand for, or None if `model` is something else.

    Args:
        model: a `GateWeights`; a list of layers, each a `GateWeights` or a pair (forward, backward) of them; or a
            `torch.nn.LSTM`, or its `state_dict()`.

    Raises:
        ValueError: as `GateWeights.from_torch`.
    """
    if isinstance(model, GateWeights):
        model = [model]
    state = model.state_dict() if hasattr(model, "state_dict") else model
    if isinstance(state, Mapping) and "weight_ih_l0" in state:
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
    """Traces the layers, one on the other, from `inputs` [batch, time, input_size].

    Raises:
        ConversionError: if the layers or the signature do not fit together.
    """
    own = [list(each.values()) for each in layers]
    for number, (below, above) in enumerate(itertools.pairwise(own), start=1):
        width = sum(weights.output_size for weights in below)
        if any(weights.input_size != width for weights in above):
            sizes = [weights.input_size for weights in above]
            raise ConversionError(f"layer {number} takes {sizes} numbers a step, and the one below gives {width}")
    time_major, input_signature = options.time_major, options.input_signature
    state = "reset" if options.state == "auto" else options.state
    given = tf.nest.flatten(input_signature) if input_signature is not None else [tf.TensorSpec([None, None, None])]
    size = own[0][0].input_size
    if len(given) != 1 or not given[0].shape.is_compatible_with([None, None, size]):
        raise ConversionError(f"the weights take inputs [None, None, {size}], got {input_signature}")
    batch, steps, _ = fixed_shape("inputs", [*given[0].shape.as_list()[:2], size], options)
    state_sizes = {
        f"{name}_{kind}": each
        for layer in layers
        for name, weights in layer.items()
        for kind, each in (("h", weights.output_size), ("c", weights.units))
    }
    specs = [tf.TensorSpec([steps, batch, size] if time_major else [batch, steps, size])]
    names = ["inputs"]
    if state == "explicit":
        specs += [tf.TensorSpec([batch, each]) for each in state_sizes.values()]
        names += list(state_sizes)

    def function(*tensors: Any) -> dict[str, Any]:
        x = tf.transpose(tensors[0], [1, 0, 2]) if time_major else tensors[0]
        given = dict(zip(names[1:], tensors[1:], strict=True))
        last: dict[str, Any] = {}
        for layer in layers:
            outputs = []
            for name, weights in layer.items():
                backward = name.endswith("_reverse")
                start = [given[f"{name}_h"], given[f"{name}_c"]] if given else []
                sequence = tf.reverse(x, [1]) if backward else x
                y, c = _marked(name, weights, sequence, start, carry=state == "carry")
                last |= {f"{name}_h": y[:, -1], f"{name}_c": c}
                outputs.append(tf.reverse(y, [1]) if backward else y)
            x = tf.concat(outputs, axis=2) if len(outputs) > 1 else outputs[0]
        x = tf.transpose(x, [1, 0, 2]) if time_major else x
        return {"output_0": x} | (last if given else {})

    carried: dict[str, Any] = {}

    def source(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        x = arrays[0].swapaxes(0, 1) if time_major else arrays[0]
        given = dict(zip(names[1:], arrays[1:], strict=True)) if state == "explicit" else carried
        last = {}
        for layer in layers:
            outputs = []
            for name, weights in layer.items():
                turn = -1 if name.endswith("_reverse") else 1
                h, c = (given.get(f"{name}_{kind}") for kind in "hc")
                y, last[f"{name}_h"], last[f"{name}_c"] = reference.lstm(weights, x[:, ::turn], h=h, c=c)
                outputs.append(y[:, ::turn])
            x = np.concatenate(outputs, axis=2)
        if state == "carry":
            carried.update(last)
        x = x.swapaxes(0, 1) if time_major else x
        return {"output_0": x} | (last if state == "explicit" else {})

    named = [tf.TensorSpec(spec.shape, name=f"input_{number:04d}") for number, spec in enumerate(specs)]
    op = FUSED_OPS[LSTM_COMPOSITE]
    return TracedModel(
        name="weights",
        batch=batch,
        function=tf.function(function, autograph=False).get_concrete_function(*named),
        trackable=tf.Module(),
        input_names=tuple(names),
        layers=tuple(LayerReport(name, "GateWeights", op) for layer in layers for name in layer),
        source=source,
        random_inputs=RandomInputs(),
    )


def _marked(name: str, weights: GateWeights, sequence: Any, start: Sequence[Any], *, carry: bool) -> tuple[Any, Any]:
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
    return tf.ensure_shape(outputs, [batch, steps, weights.output_size]), tf.ensure_shape(c, [batch, weights.units])
