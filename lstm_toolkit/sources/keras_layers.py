"""What happens at the calls of Keras's recurrent layers while a model is traced, or run as the source.

While `recurrent_calls` is open, every recurrent layer of every model comes through `_wrapped_call`: traced, it marks
itself for fusing; run as the source, it computes what Keras computes. In both cases the states come from and go to the
same places, so that a converted file can be compared with its source under every way of handling state.

It works for Keras 3 and for tf_keras (Keras 2), whose layers have the same attributes.
"""

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from lstm_toolkit.passes.plain.activations import ACTIVATIONS as STEP_ACTIVATIONS
from lstm_toolkit.passes.plain.activations import SATURATING
from lstm_toolkit.sources import general_cells, marks
from lstm_toolkit.sources.traced import LayerReport
from lstm_toolkit.tflite.recurrent import ACTIVATIONS, FUSED_OPS, RNN_ACTIVATIONS, numbered
from lstm_toolkit.weights.operands import LSTM_COMPOSITE, SIMPLE_RNN_COMPOSITE

_NAMED = tuple(sorted(STEP_ACTIVATIONS - {"hard_sigmoid_of_keras_2"}))
_OTHER_NAMES = {"silu": "swish"}

States = dict[str, Any]
"""States by name: `NAME_h`, and for an LSTM `NAME_c`, each [batch, units]."""


@dataclasses.dataclass
class RecurrentCalls:
    """What is to happen at the calls of recurrent layers, and what was seen of them.

    Attributes:
        library: the module `keras`, or `tf_keras`.
        marking: whether layers mark themselves for fusing; otherwise Keras computes them.
        state: "reset", "carry" or "explicit"; "auto" is what each layer says.
        plain: whether layers are marked for plain ops, which can hold more than the fused ones.
        states: where layers with carried or explicit states find them, by name; absent ones are zeros.
        paired: ids of the layers that are forward halves of bidirectional ones.
        layers: every call, in order.
        new_states: what the states are after the calls.
        state_shapes: shape of each carried or explicit state.
        has_mask: whether any layer got a mask.
        numbering: whether the calls of one layer are numbered; not where a model is traced more than once.
    """

    library: Any
    marking: bool
    state: str = "auto"
    plain: bool = False
    states: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    paired: frozenset[int] = frozenset()
    layers: list[LayerReport] = dataclasses.field(default_factory=list)
    new_states: States = dataclasses.field(default_factory=dict)
    state_shapes: dict[str, list[int | None]] = dataclasses.field(default_factory=dict)
    has_mask: bool = False
    numbering: bool = True


_lock = threading.RLock()


@contextlib.contextmanager
def recurrent_calls(calls: RecurrentCalls) -> Iterator[RecurrentCalls]:
    """While it is open, the calls of recurrent layers in this process go the way that `calls` says."""
    layers = calls.library.layers
    with _lock, contextlib.ExitStack() as undo:
        for cls in (layers.RNN, layers.LSTM, layers.GRU):
            # In Keras 3 they all call their base class, in Keras 2 these do not.
            if "inner_loop" not in vars(cls) or cls is layers.RNN:
                _replace_attribute(undo, cls, "call", _wrapped_call(vars(cls)["call"], calls))
        if hasattr(layers.RNN, "_maybe_config_dropout_masks"):
            _replace_attribute(undo, layers.TimeDistributed, "call", _wrapped_time_distributed(layers))
            # A dropout mask draws on a seed variable, even when the layer is not training.
            _replace_attribute(undo, layers.RNN, "_maybe_config_dropout_masks", lambda *_: None)
        yield calls


def _replace_attribute(undo: contextlib.ExitStack, owner: type, name: str, value: Any) -> None:
    undo.callback(setattr, owner, name, vars(owner)[name])
    setattr(owner, name, value)


def _wrapped_call(original: Callable[..., Any], calls: RecurrentCalls) -> Callable[..., Any]:
    def call(
        layer: Any, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = False, **others: Any
    ) -> Any:
        recurrent = _Recurrent(layer, calls.library, calls.plain)
        name = numbered(layer.name, {each.name for each in calls.layers} if calls.numbering else ())
        state = "carry" if layer.stateful else "reset"
        state = "given" if initial_state is not None else state if calls.state == "auto" else calls.state
        reason = recurrent.why_not(mask, state)
        calls.has_mask |= mask is not None
        calls.layers.append(
            LayerReport(name, type(layer).__name__, "stock lowering" if reason else recurrent.op, reason)
        )
        if reason:
            return original(layer, sequences, initial_state=initial_state, mask=mask, training=training, **others)
        state_names = recurrent.state_names(name)
        if state in ("carry", "explicit"):
            zeros = recurrent.zeros(sequences)
            calls.state_shapes |= {key: list(zero.shape) for key, zero in zip(state_names, zeros, strict=True)}
            start = [calls.states.get(key, zero) for key, zero in zip(state_names, zeros, strict=True)]
        else:
            start = [] if initial_state is None else list(tf.nest.flatten(initial_state))
        if calls.marking:
            output, states = recurrent.marked(sequences, start, mask, name, state, paired=id(layer) in calls.paired)
        else:
            output, states = recurrent.computed(original, sequences, start, mask)
        if state in ("carry", "explicit"):
            calls.new_states |= zip(state_names, states, strict=True)
        return [output, *recurrent.nested(states)] if layer.return_state else output

    return call


@dataclasses.dataclass(frozen=True)
class _Recurrent:
    """A recurrent layer of either library: its cells, its states, and how it is marked or computed."""

    layer: Any
    library: Any
    plain: bool

    @property
    def is_stacked(self) -> bool:
        return isinstance(self.layer.cell, self.library.layers.StackedRNNCells)

    @property
    def cells(self) -> list[Any]:
        return list(self.layer.cell.cells) if self.is_stacked else [self.layer.cell]

    @property
    def kind(self) -> str:
        layers, cell = self.library.layers, self.cells[0]
        kinds = {"simple_rnn": layers.SimpleRNNCell, "gru": layers.GRUCell}
        return next((kind for kind, cls in kinds.items() if isinstance(cell, cls)), "lstm")

    @property
    def is_simple(self) -> bool:
        return self.kind == "simple_rnn"

    @property
    def op(self) -> str:
        return FUSED_OPS[SIMPLE_RNN_COMPOSITE if self.is_simple else LSTM_COMPOSITE]

    def part_names(self, name: str) -> list[str]:
        """Names of the cells in the file: the layer's own for one, numbered for stacked ones."""
        return [f"{name}_cell{number}" for number in range(len(self.cells))] if self.is_stacked else [name]

    def state_names(self, name: str) -> list[str]:
        return [f"{part}_{kind}" for part in self.part_names(name) for kind in ("hc" if self.kind == "lstm" else "h")]

    def zeros(self, sequences: Any) -> list[Any]:
        batch = sequences.shape[1 if getattr(self.layer, "time_major", False) else 0]
        sizes = [size for cell in self.cells for size in tf.nest.flatten(cell.state_size)]
        return [tf.zeros([tf.shape(sequences)[0] if batch is None else batch, int(size)]) for size in sizes]

    def nested(self, states: list[Any]) -> list[Any]:
        """States as the layer takes and returns them: [h, c], or a list of these for stacked cells."""
        if not self.is_stacked:
            return states
        sizes = [len(tf.nest.flatten(cell.state_size)) for cell in self.cells]
        return [states[start:stop] for start, stop in itertools.pairwise(np.cumsum([0, *sizes]))]

    def computed(
        self, original: Callable[..., Any], sequences: Any, start: list[Any], mask: Any
    ) -> tuple[Any, list[Any]]:
        """Lets Keras compute the layer from given states; its own, if it is stateful, are left alone."""
        layer = self.layer
        before = layer.stateful, layer.return_state
        layer.stateful, layer.return_state = False, True
        try:
            initial_state = self.nested(start) if start else None
            output, *states = original(layer, sequences, initial_state=initial_state, mask=mask, training=False)
        finally:
            layer.stateful, layer.return_state = before
        return output, tf.nest.flatten(states)

    def why_not(self, mask: Any, state: str) -> str | None:
        """Why the layer cannot be fused exactly, and what to use instead; None if it can."""
        layer, cells, layers = self.layer, self.cells, self.library.layers
        known = (layers.LSTMCell, layers.SimpleRNNCell, *([layers.GRUCell] if self.plain else []))
        own_cells = [cell for cell in cells if type(cell).call not in [cls.call for cls in known]]
        if not isinstance(cells[0], known):
            name = type(cells[0]).__name__
            remedy = 'use an LSTM layer, or lowering="unrolled" or "loop"' if name == "GRUCell" else "use an LSTM layer"
            return f"it is not an LSTM, and there is no fused op for a {name}; {remedy}"
        loops = [getattr(cls, "inner_loop", None) for cls in (layers.RNN, layers.LSTM, layers.GRU)]
        if own_cells or getattr(type(layer), "inner_loop", None) not in loops:
            classes = ", ".join(type(each).__name__ for each in (layer, *cells))
            return f"it overrides the computation of Keras's own layer ({classes}); use Keras's own"
        if len({type(cell) for cell in cells}) > 1 or (self.is_stacked and self.kind != "lstm"):
            return "it stacks cells other than LSTMCell; stack layers instead"
        for cell in cells:
            reason = self._why_not_cell(cell)
            if reason:
                return reason
        if self.plain and state == "carry":
            return 'it carries its state from call to call, and plain ops cannot; pass state="explicit"'
        return None if mask is None else self._why_not_masked(mask, state)

    def _why_not_cell(self, cell: Any) -> str | None:
        serialize = self.library.activations.serialize
        gates, own = self._gate_activation(cell), self._activation_name(cell.activation)
        lowered = self.plain
        remedy = 'lowering="unrolled" or "loop"'
        if gates not in (STEP_ACTIVATIONS if lowered else ("sigmoid",)):
            name = serialize(cell.recurrent_activation)
            if lowered:
                return f"its recurrent activation is {name!r}, which is not among {', '.join(_NAMED)}"
            return (
                f"its recurrent activation is {name!r}, and the gates of the fused op are sigmoid; use 'sigmoid', or "
                f"{remedy}"
            )
        fused = RNN_ACTIVATIONS if self.is_simple else ACTIVATIONS
        if own not in (STEP_ACTIVATIONS if lowered else fused):
            name, allowed = serialize(cell.activation), ", ".join(_NAMED if lowered else fused)
            if lowered:
                return f"its activation is {name!r}, which is not among {allowed}"
            return f"its activation is {name!r}, and the fused op has only {allowed}; use one of them, or {remedy}"
        if cell.variable_dtype != "float32" or cell.compute_dtype != "float32":
            dtype = cell.compute_dtype if cell.variable_dtype == "float32" else cell.variable_dtype
            return f"its weights are {dtype}, and the fused op's float32; use float32"
        return None

    def _gate_activation(self, cell: Any) -> str | None:
        return "sigmoid" if self.is_simple else self._activation_name(cell.recurrent_activation)

    def _is_fusable(self, cell: Any) -> bool:
        fused = RNN_ACTIVATIONS if self.is_simple else ACTIVATIONS
        own, gates = self._activation_name(cell.activation), self._gate_activation(cell)
        return self.kind != "gru" and gates == "sigmoid" and own in fused

    def _activation_name(self, function: Any) -> str | None:
        for name in sorted(STEP_ACTIVATIONS | set(marks.ACTIVATIONS)):
            places = (self.library.activations, getattr(self.library, "ops", None), tf.nn)
            known = [getattr(place, each, None) for place in places for each in (name, _OTHER_NAMES.get(name, name))]
            if function is marks.ACTIVATIONS.get(name) or function in [each for each in known if each is not None]:
                of_keras_2 = name == "hard_sigmoid" and self.library.__name__ == "tf_keras"
                return "hard_sigmoid_of_keras_2" if of_keras_2 else name
        return None

    def _why_not_masked(self, mask: Any, state: str) -> str | None:
        if self.layer.go_backwards and state != "reset":
            return (
                f"it runs backwards over a mask from a {state} state, which the padding would change; drop one of them"
            )
        if state == "carry":
            return 'it carries its state past the padding of a mask; pass state="reset" or state="explicit"'
        if self.layer.go_backwards and self.is_simple:
            return "it runs backwards over a mask, and a simple RNN cannot stand still; use an LSTM layer"
        gates = {self._gate_activation(cell) for cell in self.cells}
        if not self.is_simple and not gates <= SATURATING:
            return f"it stands still over a mask, and its gates never shut with {gates.pop()!r}; drop the mask"
        known = tf.get_static_value(_mask_tensor(mask))
        if known is not None and (np.diff(known.astype(int), axis=1) > 0).any():
            return "its mask has padding before a valid step; only padding on the right can be converted"
        return None

    def marked(
        self, sequences: Any, start: list[Any], mask: Any, name: str, state: str, *, paired: bool
    ) -> tuple[Any, list[Any]]:
        """Marks the layer; returns its output, and the last states of its cells in a flat list."""
        layer = self.layer
        time_major = getattr(layer, "time_major", False)
        sequence = marks.swapped(sequences) if time_major else sequences
        steps = None if mask is None else marks.swapped(_mask_tensor(mask)) if time_major else _mask_tensor(mask)
        valid = steps
        padding = None
        # Only these need the states to stand still over the padding; for the others it is enough to look away.
        stands_still = layer.go_backwards or layer.return_state or state == "explicit" or paired
        if valid is not None and stands_still and not self.is_simple:
            padding = 1.0 - tf.cast(valid, tf.float32)[:, :, tf.newaxis]
        sequence = _with_channel(sequence, padding)
        if layer.go_backwards:
            sequence = tf.reverse(sequence, axis=[1])
            padding, valid = (None if padding is None else tf.reverse(padding, axis=[1])), None

        outputs: Any = None
        states: list[Any] = []
        carry = state == "carry"
        # What a carried state starts from is in the file's own memory.
        starts = [[] for _ in self.cells] if carry or not start else self.nested(start) if self.is_stacked else [start]
        for number, (cell, part) in enumerate(zip(self.cells, self.part_names(name), strict=True)):
            if outputs is not None:
                sequence = _with_channel(outputs, padding)
            first = starts[number]
            activation, masked = self._activation_name(cell.activation) or "", padding is not None
            if self._is_fusable(cell):
                flags = {"simple": self.is_simple, "masked": masked, "carry": carry}
                outputs, others = _marked_cell(cell, activation, sequence, first, part, **flags)
            else:
                outputs, others = general_cells.marked(
                    cell,
                    sequence,
                    first,
                    kind=self.kind,
                    layer=part,
                    activation=activation,
                    recurrent_activation=self._gate_activation(cell) or "",
                    masked=masked,
                )
            otherwise = first[0] if first else tf.zeros_like(outputs[:, 0])
            states += [outputs[:, -1] if valid is None else marks.last_valid(outputs, valid, otherwise), *others]
        last, outputs = (outputs[:, -1], outputs) if valid is None else _padded_outputs(layer, outputs, valid)
        if steps is not None and layer.go_backwards and layer.unroll and layer.zero_output_for_mask:
            # Keras's unrolled loop blanks what it has read backwards by the mask in the order of time.
            outputs = tf.where(steps[:, :, tf.newaxis], outputs, 0.0)
        if not layer.return_sequences:
            return last, states
        return (marks.swapped(outputs) if time_major else outputs), states


def _mask_tensor(mask: Any) -> Any:
    return tf.cast(tf.nest.flatten(mask)[0], tf.bool)


def _with_channel(sequence: Any, padding: Any) -> Any:
    return sequence if padding is None else tf.concat([sequence, padding], axis=2)


def _marked_cell(
    cell: Any, activation: str, sequence: Any, start: list[Any], name: str, *, simple: bool, masked: bool, carry: bool
) -> tuple[Any, list[Any]]:
    """Marks one cell over a sequence; returns its outputs and, for an LSTM, its last c."""
    kernel, recurrent_kernel = tf.convert_to_tensor(cell.kernel), tf.convert_to_tensor(cell.recurrent_kernel)
    bias = tf.convert_to_tensor(cell.bias) if cell.use_bias else tf.zeros(kernel.shape[-1:])
    weights = (kernel, recurrent_kernel, bias)
    if simple:
        return marks.simple_rnn(sequence, start, *weights, layer=name, activation=activation, carry=carry), []
    outputs, c = marks.lstm(sequence, start, *weights, layer=name, activation=activation, masked=masked, carry=carry)
    return outputs, [c]


def _padded_outputs(layer: Any, outputs: Any, valid: Any) -> tuple[Any, Any]:
    """The last output and all outputs as Keras has them: over the padding the last valid output again, or zeros."""
    zeros = tf.zeros_like(outputs[:, 0])
    last = marks.last_valid(outputs, valid, zeros)
    filling = tf.zeros_like(last) if layer.zero_output_for_mask else last
    outputs = tf.where(valid[:, :, tf.newaxis], outputs, filling[:, tf.newaxis, :])
    return (outputs[:, -1] if layer.zero_output_for_mask else last), outputs


def _sizes(tensor: Any) -> list[Any]:
    """The size of each axis: a number, or a tensor where it is dynamic."""
    return [tf.shape(tensor)[axis] if size is None else size for axis, size in enumerate(tensor.shape)]


def _wrapped_time_distributed(layers: Any) -> Callable[..., Any]:
    """Calls a recurrent layer once, on [batch * steps, ...], where Keras 3 calls it step by step."""
    original = layers.TimeDistributed.call

    def call(wrapper: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if not isinstance(wrapper.layer, (layers.RNN, layers.Bidirectional)) or mask is not None:
            return original(wrapper, inputs, training=training, mask=mask)
        batch, steps, *rest = _sizes(inputs)
        outputs = wrapper.layer.call(tf.reshape(inputs, [batch * steps, *rest]), training=training)
        return tf.nest.map_structure(lambda each: tf.reshape(each, [batch, steps, *_sizes(each)[1:]]), outputs)

    return call
