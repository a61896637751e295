"""What happens at the calls of Keras's recurrent layers while a model is traced, or run as the source.

While `recurrent_calls` is open, every recurrent layer of every model comes through `_wrapped_call`: traced, it marks
itself for fusing; run as the source, it computes what Keras computes. In both cases the states come from and go to the
same places, so that a converted file can be compared with its source under every way of handling state.

It works for Keras 3 and for tf_keras (Keras 2), whose layers have the same attributes.
"""

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.sources import cell_calls
from lstm_toolkit.sources.known_cells import KnownCell
from lstm_toolkit.sources.layer_call import LayerCall
from lstm_toolkit.sources.traced import LayerReport, kept_scope
from lstm_toolkit.tflite.recurrent import numbered

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
        paired: ids of the layers that are to become halves of one bidirectional op.
        for_micro: whether only ops of TensorFlow Lite Micro may stand around layers.
        layers: every call, in order.
        new_states: what the states are after the calls.
        state_shapes: shape of each carried or explicit state.
        has_mask: whether any layer got a mask.
        numbering: whether the calls of one layer are numbered; not where a model is traced more than once.
        depth: how many recurrent layers are being computed by Keras, one in the other.
        called: for every call the layer, its state, and the graph that it was traced in.
        never: names of the calls that no file can compute, whatever lowering they have.
        carrying: names of those that carry a state and cannot be marked; the stock lowering carries none.
    """

    library: Any
    marking: bool
    state: str = "auto"
    plain: bool = False
    states: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    paired: frozenset[int] = frozenset()
    for_micro: bool = False
    layers: list[LayerReport] = dataclasses.field(default_factory=list)
    new_states: States = dataclasses.field(default_factory=dict)
    state_shapes: dict[str, list[int | None]] = dataclasses.field(default_factory=dict)
    has_mask: bool = False
    numbering: bool = True
    depth: int = 0
    called: list[tuple[Any, str, Any]] = dataclasses.field(default_factory=list)
    never: set[str] = dataclasses.field(default_factory=set)
    carrying: set[str] = dataclasses.field(default_factory=set)

    def name_of(self, layer: Any) -> str:
        """The name of this call of a layer."""
        return numbered(layer.name, {each.name for each in self.layers} if self.numbering else ())

    @property
    def changed(self) -> bool:
        """Whether a layer handles its state in another way than it says itself."""
        return any(state not in ("given", _own_state(layer)) for layer, state, _ in self.called)

    @property
    def state_variables(self) -> list[Any]:
        """The variables in which stateful layers keep their states."""
        states = [layer.states for layer, _, _ in self.called if layer.stateful]
        return [each for each in tf.nest.flatten(states) if each is not None]

    def is_again(self, layer: Any) -> bool:
        """Whether a layer, at its latest call, is called more than once in its graph, or in a loop."""
        *before, (_, _, graph) = self.called
        if tf.executing_eagerly():
            return False
        return cell_calls.is_in_a_loop() or any(each is layer and where is graph for each, _, where in before)


_lock = threading.RLock()


@contextlib.contextmanager
def recurrent_calls(calls: RecurrentCalls) -> Iterator[RecurrentCalls]:
    """While it is open, the calls of recurrent layers in this process go the way that `calls` says."""
    layers = calls.library.layers
    with _lock, contextlib.ExitStack() as undo:
        for cls in (layers.RNN, layers.LSTM, layers.GRU):
            # In Keras 3 they all call their base class, in Keras 2 these do not.
            if "inner_loop" not in vars(cls) or cls is layers.RNN:
                original = _counted(vars(cls)["call"], calls)
                _replace_attribute(undo, cls, "call", _wrapped_call(original, calls))
        for cls in (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell):
            _replace_attribute(undo, cls, "call", _wrapped_cell_call(vars(cls)["call"], calls))
        if hasattr(layers.RNN, "_maybe_config_dropout_masks"):
            _replace_attribute(undo, layers.TimeDistributed, "call", _wrapped_time_distributed(calls))
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
        name = calls.name_of(layer)
        state = _own_state(layer) if calls.state == "auto" else calls.state
        state = "given" if initial_state is not None else state
        paired = id(layer) in calls.paired
        one = LayerCall(layer, calls.library, name, state, plain=calls.plain, paired=paired, for_micro=calls.for_micro)
        if initial_state is not None:
            rows = cell_calls.in_every_row(tf.nest.flatten(initial_state), sequences, axis=one.batch_axis)
            initial_state = tf.nest.pack_sequence_as(initial_state, rows)
        calls.called.append((layer, state, tf.compat.v1.get_default_graph()))
        never = one.why_never(training, again=calls.is_again(layer))
        if never and not calls.numbering:
            raise ConversionError(f"layer {name!r} ({type(layer).__name__}): {never}")
        reason = never or one.why_not(mask)
        if never:
            calls.never.add(name)
        elif reason and state == "carry":
            calls.carrying.add(name)
        calls.has_mask |= mask is not None
        calls.layers.append(LayerReport(name, type(layer).__name__, "stock lowering" if reason else one.op, reason))
        if reason:
            with one.attributes(stateful=layer.stateful and state == "carry"):
                return original(layer, sequences, initial_state=initial_state, mask=mask, training=training, **others)
        kept = one.zeros(sequences) if state in ("carry", "explicit") else {}
        calls.state_shapes |= {key: list(zero.shape) for key, zero in kept.items()}
        start = [calls.states.get(key, zero) for key, zero in kept.items()]
        if initial_state is not None:
            start = list(tf.nest.flatten(initial_state))
        if calls.marking:
            output, states = one.marked(sequences, start, mask)
        else:
            output, states = one.computed(original, sequences, start, mask)
        if kept:
            calls.new_states |= zip(kept, states, strict=True)
        return [output, *one.nested(states, like=initial_state)] if layer.return_state else output

    return call


def _counted(original: Callable[..., Any], calls: RecurrentCalls) -> Callable[..., Any]:
    """The original call of a layer, in which the calls of its cells are known not to be the model's own.

    Its ops have a scope that says so, by which a function tells later what could not be marked.
    """

    @functools.wraps(original)
    def call(layer: Any, *arguments: Any, **options: Any) -> Any:
        calls.depth += 1
        try:
            with tf.name_scope(kept_scope(layer.name, type(layer).__name__)):
                return original(layer, *arguments, **options)
        finally:
            calls.depth -= 1

    return call


def _wrapped_cell_call(original: Callable[..., Any], calls: RecurrentCalls) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(cell: Any, inputs: Any, states: Any, training: Any = False, **others: Any) -> Any:
        if calls.depth or not calls.marking:
            return original(cell, inputs, states, training=training, **others)
        known, flat = KnownCell(cell, calls.library, calls.plain), tf.nest.flatten(states)
        name, reason = calls.name_of(cell), cell_calls.why_not(known, inputs, flat, training)
        calls.layers.append(LayerReport(name, type(cell).__name__, "plain ops" if reason else known.op, reason))
        if reason:
            return original(cell, inputs, states, training=training, **others)
        new = cell_calls.marked(known, inputs, flat, name)
        return new[0], new if tf.nest.is_nested(states) else new[0]

    return call


def _own_state(layer: Any) -> str:
    return "carry" if layer.stateful else "reset"


def _sizes(tensor: Any) -> list[Any]:
    """The size of each axis: a number, or a tensor where it is dynamic."""
    return [tf.shape(tensor)[axis] if size is None else size for axis, size in enumerate(tensor.shape)]


def _wrapped_time_distributed(calls: RecurrentCalls) -> Callable[..., Any]:
    """Calls a recurrent layer once, on [batch * steps, ...], where Keras 3 calls it step by step."""
    layers = calls.library.layers
    original = layers.TimeDistributed.call

    def call(wrapper: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        is_recurrent = isinstance(wrapper.layer, (layers.RNN, layers.Bidirectional))
        # A carried state goes from step to step.
        carries = is_recurrent and (calls.state == "carry" or (wrapper.layer.stateful and calls.state == "auto"))
        if not is_recurrent or carries or mask is not None:
            return original(wrapper, inputs, training=training, mask=mask)
        batch, steps, *rest = _sizes(inputs)
        outputs = wrapper.layer.call(tf.reshape(inputs, [batch * steps, *rest]), training=training)
        return tf.nest.map_structure(lambda each: tf.reshape(each, [batch, steps, *_sizes(each)[1:]]), outputs)

    return call
