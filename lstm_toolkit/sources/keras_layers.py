"""What happens at the calls of Keras's recurrent layers while a model is traced, or run as the source.

While `recurrent_calls` is open, every recurrent layer of every model comes through `_wrapped_call`: traced, it marks
itself for fusing; run as the source, it computes what Keras computes. In both cases the states come from and go to the
same places, so that a converted file can be compared with its source under every way of handling state.

It works for Keras 3 and for tf_keras (Keras 2), whose layers have the same attributes.
"""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.process_state import Place, replaced_here
from lstm_toolkit.sources import cell_calls
from lstm_toolkit.sources.keras_calls import like, refuse_other_backends, without_dropout_masks
from lstm_toolkit.sources.known_cells import KnownCell
from lstm_toolkit.sources.layer_call import LayerCall
from lstm_toolkit.sources.time_distributed import FoldedCall
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
        results: of every call by name, what came out of it.
        unread: of calls whose results nobody reads, by name, what came out of them before; now they give zeros.
        trying: whether a layer is called only to see what it does; Keras computes it then, and nothing is kept.
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
    results: States = dataclasses.field(default_factory=dict)
    unread: States = dataclasses.field(default_factory=dict)
    trying: bool = False

    def name_of(self, layer: Any) -> str:
        """The name of this call of a layer."""
        return numbered(layer.name, {each.name for each in self.layers} if self.numbering else ())

    def state_of(self, layer: Any) -> str:
        """What becomes of the state of a layer that is given none."""
        return _own_state(layer) if self.state == "auto" else self.state

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


@contextlib.contextmanager
def recurrent_calls(calls: RecurrentCalls) -> Iterator[RecurrentCalls]:
    """While it is open, the calls of recurrent layers in this thread go the way that `calls` says."""
    with replaced_here(_replacements(calls)):
        yield calls


def _replacements(calls: RecurrentCalls) -> dict[Place, Callable[[Any], Callable[..., Any]]]:
    """What makes another function of each function of the library that has a say in how layers are called."""
    layers, function = calls.library.layers, type(tf.function(lambda: None))
    replacements: dict[Place, Callable[[Any], Callable[..., Any]]] = {
        (function, "__call__"): lambda original: _wrapped_function(original, calls),
        (layers.TimeDistributed, "call"): lambda original: _wrapped_time_distributed(original, calls),
    }
    if calls.library.__name__ == "keras" and calls.library.backend.backend() != "tensorflow":
        return {(layers.Layer, "__call__"): lambda _: lambda *_, **__: refuse_other_backends()}
    # In Keras 3 all layers call their base class, in Keras 2 these do not.
    convolutional = next(cls for cls in layers.ConvLSTM1D.__mro__ if cls.__base__ is layers.RNN)
    old = () if hasattr(layers.RNN, "inner_loop") else (layers.LSTM, layers.GRU, convolutional)
    for cls in (layers.RNN, *old):
        replacements[cls, "call"] = lambda original: _wrapped_call(_counted(original, calls), calls)
    for cls in (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell):
        replacements[cls, "call"] = lambda original: _wrapped_cell_call(original, calls)
    if without_masks := without_dropout_masks(layers.RNN):
        replacements |= without_masks
        if calls.library.__version__.startswith("3.8."):
            for cls in (layers.LSTM, layers.GRU):
                replacements[cls, "inner_loop"] = lambda original: _wrapped_inner_loop(original, layers.RNN)
        keras_numpy: Any = sys.modules["keras.src.backend.tensorflow.numpy"]
        if calls.marking and hasattr(keras_numpy, "signbit"):
            replacements[keras_numpy, "signbit"] = _wrapped_signbit
    return replacements


def _wrapped_inner_loop(original: Callable[..., Any], base: Any) -> Callable[..., Any]:
    """Takes no dropout mask outside training, as Keras 3.8 does, which then leaves it on the cell."""

    def inner_loop(
        layer: Any, sequences: Any, initial_state: Any, mask: Any, training: Any = False
    ) -> tuple[Any, Any, Any]:
        if training or not layer.dropout:
            return original(layer, sequences, initial_state, mask, training)
        return base.inner_loop(layer, sequences, initial_state, mask, training)

    return inner_loop


def _wrapped_signbit(original: Callable[..., Any]) -> Callable[..., Any]:
    """Has no BitwiseAnd, which TensorFlow Lite lacks and `argmax` and `argmin` bring into a model."""

    def signbit(x: Any) -> Any:
        if not (tf.is_tensor(x) and x.dtype.is_floating):
            return original(x)
        return tf.bitcast(tf.cast(x, tf.float32), tf.int32) < 0

    return signbit


def _wrapped_call(original: Callable[..., Any], calls: RecurrentCalls) -> Callable[..., Any]:
    def call(
        layer: Any, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = False, **others: Any
    ) -> Any:
        if calls.trying:
            options = others | {"initial_state": initial_state, "mask": mask, "training": training}
            return _tried(original, calls, layer, sequences, **options)
        name = calls.name_of(layer)
        state = "given" if initial_state is not None else calls.state_of(layer)
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
            if name in calls.unread:
                return tf.nest.map_structure(lambda each: _zeros_like(each, sequences), calls.unread[name])
            kept = layer if not layer.stateful or state == "carry" else like(layer, stateful=False)
            results = original(kept, sequences, initial_state=initial_state, mask=mask, training=training, **others)
            calls.results[name] = results
            return results
        kept = one.zeros(sequences) if state in ("carry", "explicit") else {}
        calls.state_shapes |= {key: list(zero.shape) for key, zero in kept.items()}
        start = [calls.states.get(key, zero) for key, zero in kept.items()]
        if initial_state is not None:
            start = list(tf.nest.flatten(initial_state))
        if calls.marking:
            output, states = one.marked(sequences, start, mask)
        else:
            output, states = one.computed(original, sequences, start, mask)
        calls.results[name] = [output, *states]
        if kept:
            calls.new_states |= zip(kept, states, strict=True)
        return [output, *one.nested(states, like=initial_state)] if layer.return_state else output

    return call


def _tried(original: Callable[..., Any], calls: RecurrentCalls, layer: Any, *arguments: Any, **options: Any) -> Any:
    """What Keras computes of a layer that keeps no state."""
    if calls.state_of(layer) == "carry":
        raise ValueError("a carried state goes from step to step")
    return original(like(layer, stateful=False), *arguments, **options)


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
        if calls.depth or calls.trying or not calls.marking:
            return original(cell, inputs, states, training=training, **others)
        known, flat = KnownCell(cell, calls.library, calls.plain), tf.nest.flatten(states)
        name, reason = calls.name_of(cell), cell_calls.why_not(known, inputs, flat, training)
        calls.layers.append(LayerReport(name, type(cell).__name__, "plain ops" if reason else known.op, reason))
        if reason:
            calls.results[name] = original(cell, inputs, states, training=training, **others)
            return calls.results[name]
        calls.results[name] = new = cell_calls.marked(known, inputs, flat, name)
        return new[0], new if tf.nest.is_nested(states) else new[0]

    return call


def _own_state(layer: Any) -> str:
    return "carry" if layer.stateful else "reset"


def _zeros_like(result: Any, sequences: Any) -> Any:
    """Zeros in the place of a result, of which only the number of steps can be open."""
    sizes = [tf.shape(sequences)[axis] if size is None else size for axis, size in enumerate(result.shape)]
    return tf.zeros(sizes, result.dtype)


def _wrapped_function(original: Callable[..., Any], calls: RecurrentCalls) -> Callable[..., Any]:
    """Runs the Python code of a `tf.function` anew: a trace from before holds no marks, and one from now would stay."""
    autograph = tf.__internal__.autograph

    def call(function: Any, *arguments: Any, **named: Any) -> Any:
        # An annotation is for the converter, and what runs while models are exported is the user's own affair.
        if function._attributes or (not calls.numbering and tf.executing_eagerly()):
            return original(function, *arguments, **named)
        code = function.python_function
        if not function._autograph:
            return code(*arguments, **named)
        status = autograph.control_status_ctx()
        with type(status)(type(status.status).ENABLED) as converting:
            return autograph.tf_convert(code, converting, user_requested=True)(*arguments, **named)

    return call


def _wrapped_time_distributed(original: Callable[..., Any], calls: RecurrentCalls) -> Callable[..., Any]:
    # States from outside are those of the rows of one call.
    folds = calls.marking or calls.state == "explicit"

    def call(wrapper: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        folded = FoldedCall(wrapper, inputs, training, mask)
        if folds and not calls.trying:
            calls.trying = True
            try:
                is_the_same = folded.is_the_same()
            finally:
                calls.trying = False
            if is_the_same:
                return folded.outputs()
            if calls.numbering and not folded.can_be_left:
                raise ConversionError(
                    f"layer {wrapper.name!r} (TimeDistributed): its {type(wrapper.layer).__name__} does not compute "
                    "each row of a batch from that row alone, or keeps a state, so an open number of steps cannot be "
                    "put into the batch; pass time_steps"
                )
        return original(wrapper, inputs, training=training, mask=mask)

    return call
