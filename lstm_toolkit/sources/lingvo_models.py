"""Traces Lingvo cells and RNNs into TensorFlow functions whose LSTMs are marked for fusing."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.runtime.random_inputs import RandomInputs
from lstm_toolkit.sources import lingvo_modules as lingvo
from lstm_toolkit.sources.marks import last_valid, swapped
from lstm_toolkit.sources.traced import LayerReport, TracedModel, TraceOptions, fixed_shape
from lstm_toolkit.tflite.recurrent import FUSED_OPS, SINGLE_STEP_OP
from lstm_toolkit.weights.operands import LSTM_COMPOSITE


def trace(model: lingvo.RNN | lingvo.LSTMCellSimple, options: TraceOptions) -> TracedModel:
    """Traces an RNN over sequences, or a cell over one step.

    The inputs are `inputs` [batch, time, num_input_nodes], or [batch, num_input_nodes] for a cell, and with a second
    `tf.TensorSpec` in `input_signature` `padding` [batch, time], 1 where a step is padded, which must be at the end.
    "auto" is "reset" for an RNN, and "carry" for a cell, which would be of no use without.

    Raises:
        ConversionError: if the cell does what the fused op cannot, or the signature does not fit.
    """
    is_cell = isinstance(model, lingvo.LSTMCellSimple)
    cell = model if isinstance(model, lingvo.LSTMCellSimple) else model.cell
    if not cell.output_nonlinearity:
        raise ConversionError(
            f"cell {cell.name!r} has output_nonlinearity=False, and the fused op always takes the activation of c; "
            "train it with output_nonlinearity=True"
        )
    state = ("carry" if is_cell else "reset") if options.state == "auto" else options.state
    specs, time_major = _specs(cell, is_cell, options), options.time_major
    has_padding = len(specs) > 1
    if has_padding and state == "carry":
        raise ConversionError(
            f"cell {cell.name!r} would carry its state past the padding; pass state='reset' or state='explicit'"
        )
    if has_padding and state == "explicit" and isinstance(cell, lingvo.LayerNormalizedLSTMCellSimple):
        raise ConversionError(
            f"cell {cell.name!r} normalizes what would hold its state over the padding; pass state='reset', or drop "
            "the padding"
        )
    batch, names = specs[0].shape[0], ["inputs", "padding"][: len(specs)]
    if time_major:
        specs = [tf.TensorSpec([spec.shape[1], batch, *spec.shape[2:]], spec.dtype) for spec in specs]
    states = {f"{cell.name}_h": cell.output_size, f"{cell.name}_c": cell.hidden_size}
    if state == "explicit":
        specs += [tf.TensorSpec([batch, size]) for size in states.values()]
        names += list(states)

    def run(tensors: Sequence[Any], start: Sequence[Any], *, mark: bool) -> tuple[Any, list[Any]]:
        x, *padding = (swapped(t) if time_major else t for t in tensors[: 1 + has_padding])
        # In the file the states stand still over the padding only where they are asked for.
        first = padding[0] if padding and (state == "explicit" or not mark) else None
        outputs, c = lingvo.marked_run(cell, x, start, first, mark=mark, carry=state == "carry" and mark)
        if padding and mark:
            zero = start[0] if start else tf.zeros_like(outputs[:, 0])
            outputs, h = _with_padding(outputs, padding[0], zero)
        else:
            h = outputs if is_cell else outputs[:, -1]
        return (swapped(outputs) if time_major else outputs), [h, c]

    def function(*tensors: Any) -> dict[str, Any]:
        outputs, last = run(tensors, tensors[1 + has_padding :], mark=True)
        return {"output_0": outputs} | (dict(zip(states, last, strict=True)) if state == "explicit" else {})

    carried: list[Any] = []

    def source(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        tensors = [tf.convert_to_tensor(array) for array in arrays]
        outputs, last = run(tensors, tensors[1 + has_padding :] if state == "explicit" else carried, mark=False)
        if state == "carry":
            carried[:] = last
        results = {"output_0": outputs} | (dict(zip(states, last, strict=True)) if state == "explicit" else {})
        return {name: value.numpy() for name, value in results.items()}

    named = [tf.TensorSpec(spec.shape, spec.dtype, name=f"input_{n:04d}") for n, spec in enumerate(specs)]
    holder = tf.Module()
    holder.variables_of_model = list(cell.theta.values())
    op = SINGLE_STEP_OP if is_cell else FUSED_OPS[LSTM_COMPOSITE]
    return TracedModel(
        name=cell.name,
        batch=batch,
        function=tf.function(function, autograph=False).get_concrete_function(*named),
        trackable=holder,
        input_names=tuple(names),
        layers=(LayerReport(cell.name, type(cell).__name__, op),),
        source=source,
        random_inputs=RandomInputs(
            paddings=tuple(name == "padding" for name in names),
            time_axis=int(not time_major),
            # A cell's own c is never beyond its cap.
            limits=tuple(cell.cell_value_cap if name.endswith("_c") else None for name in names),
        ),
    )


def _specs(cell: Any, is_cell: bool, options: TraceOptions) -> list[tf.TensorSpec]:
    input_signature = options.input_signature
    if is_cell:
        options = dataclasses.replace(options, time_steps=None)
    default = [None, cell.num_input_nodes] if is_cell else [None, None, cell.num_input_nodes]
    given = tf.nest.flatten(input_signature) if input_signature is not None else [tf.TensorSpec(default)]
    wanted = ([default], [default, [None, None]])
    if len(given) not in (1, 2 - is_cell) or not all(
        spec.shape.is_compatible_with(shape) for spec, shape in zip(given, wanted[len(given) - 1], strict=True)
    ):
        shapes = [spec.shape.as_list() for spec in given]
        raise ConversionError(
            f"cell {cell.name!r} takes inputs {default}{'' if is_cell else ' and perhaps padding [None, None]'}, "
            f"got input_signature with the shapes {shapes}"
        )
    return [
        tf.TensorSpec(fixed_shape(name, spec.shape.as_list(), options), tf.float32)
        for name, spec in zip(("inputs", "padding"), given, strict=False)
    ]


def _with_padding(outputs: Any, padding: Any, start: Any) -> tuple[Any, Any]:
    """The outputs with the last valid one over the padding at the end, and that last one."""
    valid = padding < 0.5
    last = last_valid(outputs, valid, start)
    return tf.where(valid[:, :, tf.newaxis], outputs, last[:, tf.newaxis, :]), last
