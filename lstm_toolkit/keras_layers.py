"""What happens at the calls of Keras's recurrent layers while a model is traced, or run as the source.

While `recurrent_calls` is open, every recurrent layer of every model goes through `_Calls`: traced, it marks itself for
fusing; run as the source, it computes what Keras computes. In both cases the states come from and go to the same
places, so that a converted file can be compared with its source under every way of handling state.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from . import annotation
from .contract import LSTM_COMPOSITE, SIMPLE_RNN_COMPOSITE
from .graft import ACTIVATIONS, FUSED_OPS, RNN_ACTIVATIONS
from .report import LayerReport

_ACTIVATION_NAMES: dict[Any, str] = {
    function: name
    for name, of_tensorflow in annotation.ACTIVATIONS.items()
    for function in (getattr(keras.activations, name), getattr(keras.ops, name, None), of_tensorflow)
    if function is not None
}
_SIGMOIDS = (keras.activations.sigmoid, keras.ops.sigmoid, tf.sigmoid)
_ORIGINAL_LOOPS = {cls: vars(cls)["inner_loop"] for cls in (keras.layers.RNN, keras.layers.LSTM)}
_ORIGINAL_CALL = keras.layers.RNN.call
_ORIGINAL_TIME_DISTRIBUTED = keras.layers.TimeDistributed.call

States = dict[str, Any]
"""States by name: `NAME_h`, and for an LSTM `NAME_c`, each [batch, units]."""


@dataclasses.dataclass
class RecurrentCalls:
    """What was seen of, and what is to happen at, the calls of recurrent layers.

    Attributes:
        marking: whether layers mark themselves for fusing; otherwise Keras computes them.
        state: "reset", "carry" or "explicit"; "auto" is what each layer says.
        states: where layers with carried or explicit states find them, by name; absent ones are zeros.
        layers: every call, in order.
        new_states: what the states are after the calls.
        state_shapes: shape of each state that starts from zero or is carried.
        has_mask: whether any layer got a mask.
    """

    marking: bool
    state: str
    states: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    paired: frozenset[int] = frozenset()
    layers: list[LayerReport] = dataclasses.field(default_factory=list)
    new_states: States = dataclasses.field(default_factory=dict)
    state_shapes: dict[str, list[int | None]] = dataclasses.field(default_factory=dict)
    has_mask: bool = False


_lock = threading.RLock()


@contextlib.contextmanager
def recurrent_calls(calls: RecurrentCalls) -> Iterator[RecurrentCalls]:
    """While it is open, the calls of recurrent layers in this process go the way that `calls` says."""
    base = keras.layers.RNN
    current: list[_Call] = []
    with _lock, contextlib.ExitStack() as undo:
        # A dropout mask draws on a seed variable, even when the layer is not training; it must not reach the file.
        _replace_attribute(undo, base, "_maybe_config_dropout_masks", lambda *_: None)
        _replace_attribute(undo, base, "call", _wrapped_call(calls, current))
        _replace_attribute(undo, keras.layers.TimeDistributed, "call", _time_distributed_call)
        _replace_attribute(undo, keras.layers.Bidirectional, "_can_attempt_fused_lstm", lambda *_: False)
        for cls in _with_subclasses(base):
            if "inner_loop" in vars(cls):
                _replace_attribute(undo, cls, "inner_loop", _wrapped_loop(vars(cls)["inner_loop"], calls, current))
        yield calls


def _replace_attribute(undo: contextlib.ExitStack, owner: type, name: str, value: Any) -> None:
    undo.callback(setattr, owner, name, vars(owner)[name])
    setattr(owner, name, value)


def _with_subclasses(cls: type) -> set[type]:
    subclasses: list[type] = cls.__subclasses__()
    return {cls}.union(*map(_with_subclasses, subclasses))


@dataclasses.dataclass
class _Call:
    """One call of one layer: its name in the file, and its state: "reset", "carry", "explicit", or "given"."""

    name: str
    state: str


def _wrapped_call(calls: RecurrentCalls, current: list[_Call]) -> Callable[..., Any]:
    def call(layer: Any, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        name = _unique(layer.name, calls.layers)
        state = "carry" if layer.stateful else "reset"
        state = "given" if initial_state is not None else state if calls.state == "auto" else calls.state
        reason = _why_not(layer, mask, state)
        calls.has_mask |= mask is not None
        calls.layers.append(_report(layer, name, reason))
        if reason:
            return _ORIGINAL_CALL(layer, sequences, initial_state, mask, training)
        if state in ("carry", "explicit"):
            initial_state = _initial_state(layer, name, sequences, calls)
        current.append(_Call(name, state))
        stateful = layer.stateful
        layer.stateful = False
        try:
            return _ORIGINAL_CALL(layer, sequences, initial_state, mask, training)
        finally:
            layer.stateful = stateful
            current.pop()

    return call


def _report(layer: Any, name: str, reason: str | None) -> LayerReport:
    composite = SIMPLE_RNN_COMPOSITE if _is_simple_rnn(layer) else LSTM_COMPOSITE
    return LayerReport(name, type(layer).__name__, "stock lowering" if reason else FUSED_OPS[composite], reason)


def _unique(name: str, layers: list[LayerReport]) -> str:
    taken = {layer.name for layer in layers}
    return next(each for each in (name, *(f"{name}_call{n}" for n in range(1, len(taken) + 1))) if each not in taken)


def _cells(layer: Any) -> list[Any]:
    return list(layer.cell.cells) if isinstance(layer.cell, keras.layers.StackedRNNCells) else [layer.cell]


def _part_names(layer: Any, name: str) -> list[str]:
    """Names of a layer's cells in the file: the layer's own for one, numbered for stacked ones."""
    cells = _cells(layer)
    return [name] if len(cells) == 1 else [f"{name}_cell{number}" for number in range(len(cells))]


def _nested(layer: Any, flat: list[Any]) -> list[Any]:
    """States as the layer takes them: [h, c], or a list of these for stacked cells."""
    if not isinstance(layer.cell, keras.layers.StackedRNNCells):
        return flat
    sizes = [len(keras.tree.flatten(cell.state_size)) for cell in _cells(layer)]
    return [flat[start:stop] for start, stop in itertools.pairwise(np.cumsum([0, *sizes]))]


def _state_names(layer: Any, name: str) -> list[str]:
    kinds = "h" if _is_simple_rnn(layer) else "hc"
    return [f"{part}_{kind}" for part in _part_names(layer, name) for kind in kinds]


def _initial_state(layer: Any, name: str, sequences: Any, calls: RecurrentCalls) -> list[Any]:
    zeros = keras.tree.flatten(layer.get_initial_state(batch_size=keras.ops.shape(sequences)[0]))
    states = []
    for state_name, zero in zip(_state_names(layer, name), zeros, strict=True):
        calls.state_shapes[state_name] = list(zero.shape)
        states.append(calls.states.get(state_name, zero))
    return _nested(layer, states)


def _is_simple_rnn(layer: Any) -> bool:
    return isinstance(layer.cell, keras.layers.SimpleRNNCell)


def _why_not(layer: Any, mask: Any, state: str) -> str | None:
    """Why a recurrent layer cannot be fused exactly, and what to use instead; None if it can."""
    loop = next(vars(cls)["inner_loop"] for cls in type(layer).__mro__ if "inner_loop" in vars(cls))
    original = getattr(loop, "original", loop)
    cells = _cells(layer)
    known = (keras.layers.LSTMCell, keras.layers.SimpleRNNCell)
    if not isinstance(cells[0], known):
        return f"it is not an LSTM, and there is no fused op for a {type(cells[0]).__name__}; use keras.layers.LSTM"
    if original not in _ORIGINAL_LOOPS.values() or any(type(cell) not in known for cell in cells):
        return f"it overrides the computation of Keras's own layer ({type(layer).__name__}, {type(cells[0]).__name__})"
    if len({type(cell) for cell in cells}) > 1 or (len(cells) > 1 and _is_simple_rnn(layer)):
        return "it stacks cells other than LSTMCell; stack layers instead"
    for cell in cells:
        reason = _why_not_cell(cell)
        if reason:
            return reason
    if mask is not None:
        if layer.go_backwards and state != "reset":
            return (
                f"it runs backwards over a mask from a {state} state, which the padding would change; drop one of them"
            )
        if state == "carry":
            return 'it carries its state past the padding of a mask; pass state="reset" or state="explicit"'
        if layer.go_backwards and _is_simple_rnn(layer):
            return "it runs backwards over a mask, and a simple RNN cannot stand still; use keras.layers.LSTM"
        return _why_not_mask(mask)
    return None


def _why_not_cell(cell: Any) -> str | None:
    is_lstm = isinstance(cell, keras.layers.LSTMCell)
    if is_lstm and cell.recurrent_activation not in _SIGMOIDS:
        name = keras.activations.serialize(cell.recurrent_activation)
        return f"its recurrent activation is {name!r}, and the gates of the fused op are sigmoid; use 'sigmoid'"
    allowed = ACTIVATIONS if is_lstm else RNN_ACTIVATIONS
    if _ACTIVATION_NAMES.get(cell.activation) not in allowed:
        name = keras.activations.serialize(cell.activation)
        return f"its activation is {name!r}, and the fused op has only {', '.join(allowed)}; use one of them"
    if cell.variable_dtype != "float32":
        return f"its weights are {cell.variable_dtype}, and the fused op's float32; use float32 or mixed precision"
    return None


def _why_not_mask(mask: Any) -> str | None:
    """Refuses a mask that is known while tracing and is not padding on the right."""
    known = tf.get_static_value(_mask_tensor(mask))
    if known is not None and (np.diff(known.astype(int), axis=1) > 0).any():
        return "its mask has padding before a valid step; only padding on the right can be converted"
    return None


def _mask_tensor(mask: Any) -> Any:
    return tf.cast(keras.tree.flatten(mask)[0], tf.bool)


def _wrapped_loop(original: Callable[..., Any], calls: RecurrentCalls, current: list[_Call]) -> Callable[..., Any]:
    def inner_loop(layer: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        if not current:
            return original(layer, sequences, initial_state, mask, training=training)
        call = current[-1]
        if calls.marking:
            last, outputs, states = _marked_loop(layer, sequences, initial_state, mask, call, calls)
        else:
            last, outputs, states = _ORIGINAL_LOOPS[keras.layers.RNN](layer, sequences, initial_state, mask)
        if call.state in ("carry", "explicit"):
            names = _state_names(layer, call.name)
            calls.new_states |= zip(names, keras.tree.flatten(states), strict=True)
        return last, outputs, states

    inner_loop.original = original  # type: ignore[attr-defined]
    return inner_loop


def _marked_loop(
    layer: Any, sequences: Any, initial_state: Any, mask: Any, call: _Call, calls: RecurrentCalls
) -> tuple[Any, Any, list[Any]]:
    valid = None if mask is None else _mask_tensor(mask)
    padding = None
    # Only these need the states to stand still over the padding; for the others it is enough to look away.
    stands_still = layer.go_backwards or layer.return_state or call.state == "explicit" or id(layer) in calls.paired
    if valid is not None and stands_still and not _is_simple_rnn(layer):
        padding = 1.0 - tf.cast(valid, tf.float32)[:, :, tf.newaxis]
    sequence = _with_channel(sequences, padding)
    if layer.go_backwards:
        sequence = tf.reverse(sequence, axis=[1])
        padding, valid = (None if padding is None else tf.reverse(padding, axis=[1])), None

    outputs: Any = None
    states: list[Any] = []
    starts = initial_state if isinstance(layer.cell, keras.layers.StackedRNNCells) else [initial_state]
    for cell, part, start in zip(_cells(layer), _part_names(layer, call.name), starts, strict=True):
        if outputs is not None:
            sequence = _with_channel(outputs, padding)
        carry = call.state == "carry"
        # What a carried state starts from is zero in the file; what it is now is between the caller and the source.
        start = [tf.zeros_like(each) for each in start] if carry else start
        outputs, others = _marked_cell(cell, sequence, start, part, masked=padding is not None, carry=carry)
        h = outputs[:, -1] if valid is None else _last_valid(outputs, valid, start[0])
        states += [h, *others]
    if valid is None:
        return outputs[:, -1], outputs, _nested(layer, states)
    return *_padded_outputs(layer, outputs, valid), _nested(layer, states)


def _with_channel(sequence: Any, padding: Any) -> Any:
    return sequence if padding is None else tf.concat([sequence, padding], axis=2)


def _marked_cell(
    cell: Any, sequence: Any, start: list[Any], name: str, *, masked: bool, carry: bool
) -> tuple[Any, list[Any]]:
    """Marks one cell over a sequence; returns its outputs and, for an LSTM, its last c."""
    kernel, recurrent_kernel = tf.convert_to_tensor(cell.kernel), tf.convert_to_tensor(cell.recurrent_kernel)
    bias = tf.convert_to_tensor(cell.bias) if cell.use_bias else tf.zeros(kernel.shape[-1:])
    weights, activation = (kernel, recurrent_kernel, bias), _ACTIVATION_NAMES[cell.activation]
    if isinstance(cell, keras.layers.SimpleRNNCell):
        (h0,) = start
        return annotation.simple_rnn(sequence, h0, *weights, layer=name, activation=activation, carry=carry), []
    h0, c0 = start
    outputs, c = annotation.lstm(
        sequence, h0, c0, *weights, layer=name, activation=activation, masked=masked, carry=carry
    )
    return outputs, [c]


def _last_valid(outputs: Any, valid: Any, otherwise: Any) -> Any:
    """The output at the last valid step of each row; `otherwise` [batch, units] for a row that has none."""
    count = tf.reduce_sum(tf.cast(valid, tf.int32), axis=1)
    picked = tf.gather(outputs, tf.maximum(count - 1, 0), axis=1, batch_dims=1)
    return tf.where((count > 0)[:, tf.newaxis], picked, otherwise)


def _padded_outputs(layer: Any, outputs: Any, valid: Any) -> tuple[Any, Any]:
    """The last output and all outputs as Keras has them: over the padding the last valid output again, or zeros."""
    zeros = tf.zeros_like(outputs[:, 0])
    last = _last_valid(outputs, valid, zeros)
    filling = tf.zeros_like(last) if layer.zero_output_for_mask else last
    outputs = tf.where(valid[:, :, tf.newaxis], outputs, filling[:, tf.newaxis, :])
    return (outputs[:, -1] if layer.zero_output_for_mask else last), outputs


def _time_distributed_call(wrapper: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
    """Calls a recurrent layer once, on [batch * steps, ...], where Keras calls it step by step."""
    recurrent = isinstance(wrapper.layer, (keras.layers.RNN, keras.layers.Bidirectional))
    if not recurrent or mask is not None or wrapper.layer.stateful:
        return _ORIGINAL_TIME_DISTRIBUTED(wrapper, inputs, training=training, mask=mask)
    batch, steps = keras.ops.shape(inputs)[:2]
    folded = keras.ops.reshape(inputs, (-1 if None in inputs.shape[:2] else batch * steps, *inputs.shape[2:]))
    outputs = wrapper.layer.call(folded, training=training)
    return keras.tree.map_structure(lambda each: keras.ops.reshape(each, (batch, steps, *each.shape[1:])), outputs)
