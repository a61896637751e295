"""Traces Lingvo cells and RNNs into TensorFlow functions whose LSTMs are marked for fusing."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.runtime.random_inputs import RandomInputs
from lstm_toolkit.sources import lingvo_modules as lingvo
from lstm_toolkit.sources.frame import Frame, Results, fixed_specs
from lstm_toolkit.sources.masks import ValidSteps
from lstm_toolkit.sources.own_arithmetic import overridden_in
from lstm_toolkit.sources.traced import LayerReport, TracedModel, TraceOptions
from lstm_toolkit.tflite.recurrent import FUSED_OPS, SINGLE_STEP_OP
from lstm_toolkit.weights.operands import LSTM_COMPOSITE


def trace(model: lingvo.RNN | lingvo.LSTMCellSimple, options: TraceOptions) -> TracedModel:
    """Traces an RNN over sequences, or a cell over one step.

    The first input is `inputs`: [batch, time, num_input_nodes], or [batch, num_input_nodes] for a cell. A second
    `tf.TensorSpec` in `input_signature` is for the input `padding` [batch, time], which is 1 at padded steps. The
    state "auto" means "reset" for an RNN, and "carry" for a cell, which is of no use without it.

    Raises:
        ConversionError: if the cell does what the fused op cannot, or the signature does not fit.
    """
    is_cell = isinstance(model, lingvo.LSTMCellSimple)
    cell = model if isinstance(model, lingvo.LSTMCellSimple) else model.cell
    state = ("carry" if is_cell else "reset") if options.state == "auto" else options.state
    specs = _specs(cell, options, is_cell=is_cell)
    _refuse(cell, state, padded=len(specs) > 1)
    states = {f"{cell.name}_h": cell.output_size, f"{cell.name}_c": cell.hidden_size}
    frame = Frame(
        names=("inputs", "padding")[: len(specs)],
        specs=specs,
        sequences=(not is_cell,) * len(specs),
        options=options,
        states={name: [specs[0].shape[0], size] for name, size in states.items()} if state == "explicit" else {},
    )

    def run(tensors: Sequence[Any], start: Mapping[str, Any], *, marking: bool) -> Results:
        x, *padding = tensors
        first = [start[name] for name in states] if start else []
        steps = ValidSteps(padding[0] < 0.5, for_micro=options.for_micro) if padding and marking else None
        if steps:
            # The op holds its c over the padding only where it is asked for.
            x = steps.gathered(x, with_channel=state == "explicit")
        elif padding:
            x = tf.concat([x, padding[0][:, :, tf.newaxis]], axis=2)
        masked = bool(padding) and (state == "explicit" or not marking)
        outputs, c = lingvo.marked_run(cell, x, first, masked=masked, mark=marking, carry=state == "carry" and marking)
        if steps:
            before = first[0] if first else tf.zeros_like(outputs[:, 0])
            outputs, h = steps.held(outputs, before), steps.last(outputs, before)
        else:
            h = outputs if is_cell else outputs[:, -1]
        return {"output_0": outputs}, {} if state == "reset" else dict(zip(states, (h, c), strict=True))

    op, cap = SINGLE_STEP_OP if is_cell else FUSED_OPS[LSTM_COMPOSITE], cell.cell_value_cap
    return frame.traced_model(
        cell.name,
        frame.function(functools.partial(run, marking=True)),
        functools.partial(run, marking=False),
        variables=cell.theta.values(),
        layers=[LayerReport(cell.name, type(cell).__name__, op)],
        random_inputs=RandomInputs(
            paddings=tuple(name == "padding" for name in frame.names),
            time_axis=int(not options.time_major),
            # A cell's own c, which comes last, is never beyond its cap.
            limits=(*[None] * len(specs), None, None if cap is None else (-cap, cap)),
        ),
    )


def _refuse(cell: lingvo.LSTMCellSimple, state: str, *, padded: bool) -> None:
    """Raises ConversionError for what the fused op cannot do."""
    method = overridden_in(lingvo.__name__, cell, base=tf.Module)
    if method is not None:
        known = "LayerNormalizedLSTMCellSimple" if hasattr(cell, "ln_scale") else "LSTMCellSimple"
        raise ConversionError(
            f"cell {cell.name!r} overrides the computation of Lingvo's cell ({method}); use {known} as it is"
        )
    if not cell.output_nonlinearity:
        raise ConversionError(
            f"cell {cell.name!r} has output_nonlinearity=False, and the fused op always takes the activation of c; "
            "train it with output_nonlinearity=True"
        )
    if padded and state == "carry":
        raise ConversionError(
            f'cell {cell.name!r} would carry its state past the padding; pass state="reset" or state="explicit"'
        )
    if padded and state == "explicit" and isinstance(cell, lingvo.LayerNormalizedLSTMCellSimple):
        raise ConversionError(
            f'cell {cell.name!r} normalizes what would hold its state over the padding; pass state="reset", or drop '
            "the padding"
        )


def _specs(cell: Any, options: TraceOptions, *, is_cell: bool) -> tuple[tf.TensorSpec, ...]:
    default = [None, cell.num_input_nodes] if is_cell else [None, None, cell.num_input_nodes]
    wanted = [default] if is_cell else [default, [None, None]]
    signature = options.input_signature
    given = tf.nest.flatten(signature) if signature is not None else [tf.TensorSpec(default)]
    fits = [spec.shape.is_compatible_with(shape) for spec, shape in zip(given, wanted, strict=False)]
    if not 1 <= len(given) <= len(wanted) or not all(fits):
        shapes = [spec.shape.as_list() for spec in given]
        raise ConversionError(
            f"cell {cell.name!r} takes inputs {default}{'' if is_cell else ' and perhaps padding [None, None]'}, "
            f"got input_signature with the shapes {shapes}"
        )
    if is_cell:
        options = dataclasses.replace(options, time_steps=None)
    return fixed_specs(("inputs", "padding")[: len(given)], [tf.TensorSpec(spec.shape) for spec in given], options)
