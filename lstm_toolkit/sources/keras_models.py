"""Traces a Keras 3 model into a TensorFlow function in which every recurrent layer is marked for fusing."""

import contextlib
import dataclasses
import functools
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.process_state import replaced_here
from lstm_toolkit.runtime.random_inputs import RandomInputs
from lstm_toolkit.sources.frame import Frame, Results, Run, fixed_specs
from lstm_toolkit.sources.keras_calls import (
    in_float32,
    inference_arguments,
    inputs_structure,
    named,
    packing,
    refuse_other_backends,
)
from lstm_toolkit.sources.keras_files import first_line
from lstm_toolkit.sources.keras_layers import RecurrentCalls, recurrent_calls
from lstm_toolkit.sources.own_arithmetic import is_left_by_saving
from lstm_toolkit.sources.reference import OwnVariables, random_op
from lstm_toolkit.sources.traced import NOT_IN_THE_FILE, TracedModel, TraceOptions


def trace(model: Any, options: TraceOptions) -> TracedModel:
    """Traces a model in inference mode, with every recurrent layer marked.

    Raises:
        ConversionError: if a recurrent layer cannot be marked, or the model not be traced; names layer and reason.
    """
    return _Model(model, options).traced_model()


class _Model:
    """A model with its inputs, and all that is asked of its layers."""

    def __init__(self, model: Any, options: TraceOptions) -> None:
        self._model, self._options, self._library = model, options, _library_of(model)
        self._names, self._specs, self._packed = _inputs_of(model, options)
        _build(model, self._packed(self._specs), self._library)
        self._layers = list(model._flatten_layers())
        arguments = inference_arguments(model) if self._library is keras else {"training": False}
        self._call = functools.partial(model, **arguments)

    def traced_model(self) -> TracedModel:
        frame = Frame(self._names, self._specs, self._sequences, self._options)
        if self._options.state == "explicit":
            # Which states there are, and how large, only a first call can tell.
            calls = self._calls(marking=False)
            self._traced(frame, calls)
            frame = dataclasses.replace(frame, states=calls.state_shapes)
        calls = self._calls(marking=True)
        function = self._traced(frame, calls)
        unread = _leave_out_unread(calls)
        refuse_unfused(calls, self._options.on_unsupported)
        if unread:
            function = self._traced(frame, dataclasses.replace(self._calls(marking=True), unread=unread))
        _refuse_random(self._model, function)
        return frame.traced_model(
            self._model.name,
            function,
            self._source(calls),
            variables=(getattr(variable, "_value", variable) for variable in self._model.variables),
            layers=calls.layers,
            random_inputs=self._random_inputs(padded=calls.has_mask),
        )

    def _of_class(self, name: str) -> list[Any]:
        return [each for each in self._layers if isinstance(each, getattr(self._library.layers, name))]

    @property
    def _tokens(self) -> tuple[bool, ...]:
        # An embedding takes integers, and a model may well give it a floating-point input.
        embeds = bool(self._of_class("Embedding"))
        return tuple(len(spec.shape) == 2 and (spec.dtype.is_integer or embeds) for spec in self._specs)

    @property
    def _sequences(self) -> tuple[bool, ...]:
        return tuple(
            len(spec.shape) > 2 or are_tokens or (len(spec.shape) == 2 and spec.dtype.is_bool)
            for spec, are_tokens in zip(self._specs, self._tokens, strict=True)
        )

    def _random_inputs(self, *, padded: bool) -> RandomInputs:
        return RandomInputs(
            integer_bound=min((each.input_dim for each in self._of_class("Embedding")), default=2),
            tokens=self._tokens,
            padded=padded,
            mask_value=next((each.mask_value for each in self._of_class("Masking")), None),
            time_axes=tuple(int(not self._options.time_major) if each else None for each in self._sequences),
        )

    def _calls(self, *, marking: bool) -> RecurrentCalls:
        options, both = self._options, self._of_class("Bidirectional")
        halves = [half for each in both for half in (each.forward_layer, each.backward_layer) if options.merge]
        return RecurrentCalls(
            self._library,
            marking=marking,
            state=options.state,
            plain=options.plain,
            paired=frozenset(map(id, halves)),
            for_micro=options.for_micro,
        )

    def _run(self, calls: RecurrentCalls, tensors: Sequence[Any], states: Mapping[str, Any]) -> Results:
        calls.states = states
        with _called_by_class(self._layers), recurrent_calls(calls), in_float32(self._layers):
            return named(self._call(self._packed(tensors))), calls.new_states

    def _traced(self, frame: Frame, calls: RecurrentCalls) -> Any:
        try:
            return frame.function(functools.partial(self._run, calls))
        except Exception as error:  # whatever the layers of a model raise when they are called
            refuse_unfused(calls, self._options.on_unsupported)
            raise ConversionError(
                f"model {self._model.name!r} cannot be traced: {first_line(str(error))}; call it on such inputs to see "
                "the whole error, or pass another input_signature"
            ) from error

    def _source(self, calls: RecurrentCalls) -> Run:
        own_variables = OwnVariables(self._model.non_trainable_variables, calls.state_variables)

        def source(tensors: Sequence[Any], states: Mapping[str, Any]) -> Results:
            # Older releases of Keras fail within the layer, and leave a dropout mask of that batch on its cell.
            if calls.state_variables and tensors[0].shape[0] != self._specs[0].shape[0]:
                raise ValueError
            if calls.state_variables and not states:
                own_variables.restart()
            with own_variables.continued():
                if calls.changed:
                    return self._run(self._calls(marking=False), tensors, states)
                with in_float32(self._layers):
                    # The states are in the variables, and the next call goes on from them.
                    outputs = named(self._call(self._packed(tensors)))
                    return outputs, {"is_continued": True} if calls.state_variables else {}

        return source


def _library_of(model: Any) -> Any:
    """The module `keras` or `tf_keras`, whichever the model is made of."""
    tf_keras = sys.modules.get("tf_keras")
    if tf_keras is not None and isinstance(model, tf_keras.layers.Layer):
        return tf_keras
    if not isinstance(model, keras.layers.Layer):
        raise ConversionError(f"expected a Keras model or layer, or the path of one, got {type(model).__name__}")
    refuse_other_backends()
    return keras


def _build(model: Any, specs: Any, library: Any) -> None:
    """Calls a model once on zeros, if one of its layers has no weights yet."""
    if all(layer.built for layer in model._flatten_layers()):
        return
    zeros = tf.nest.map_structure(lambda spec: tf.zeros([size or 16 for size in spec.shape], spec.dtype), specs)
    try:
        with recurrent_calls(RecurrentCalls(library, marking=False)):
            model(zeros, training=False)
    except Exception as error:  # whatever the layers of a model raise when they are called
        raise ConversionError(
            f"model {model.name!r} cannot be built: {first_line(str(error))}; call it on such inputs to see the whole "
            "error, or pass another input_signature"
        ) from error


def _leave_out_unread(calls: RecurrentCalls) -> dict[str, Any]:
    """Says of calls that no output depends on that they are not in the file.

    Returns:
        The results of those among them that are not marked. The converter keeps a loop that reads variables, whether
        its results are read or not.
    """
    loops = {}
    for number, report in enumerate(calls.layers):
        tensors = tf.nest.flatten(calls.results[report.name])
        read = {op for graph in {id(each.graph): each.graph for each in tensors}.values() for op in _needed(graph)}
        # A call that cannot be computed, because it changes what another one starts from, does so unread.
        if report.name in calls.never or any(each.op in read for each in tensors):
            continue
        if report.op == "stock lowering":
            loops[report.name] = calls.results[report.name]
        reason = "no output of the model depends on it"
        calls.layers[number] = dataclasses.replace(report, op=NOT_IN_THE_FILE, reason=reason)
    return loops


def _needed(graph: Any) -> set[Any]:
    """The operations that the outputs of a graph, and what it assigns to variables, depend on."""
    needed: set[Any] = set()
    waiting = [*(each.op for each in graph.outputs), *(op for op in graph.control_outputs if "Assign" in op.type)]
    while waiting:
        op = waiting.pop()
        if op not in needed:
            needed.add(op)
            waiting += [*(each.op for each in op.inputs), *op.control_inputs]
    return needed


def _inputs_of(
    model: Any, options: TraceOptions
) -> tuple[tuple[str, ...], tuple[tf.TensorSpec, ...], Callable[[Sequence[Any]], Any]]:
    """Names and specs of the inputs, and what makes the model's one argument of tensors in that order."""
    signature: Any = options.input_signature
    if signature is not None:
        if isinstance(signature, (list, tuple)) and len(signature) == 1:
            (signature,) = signature
        given = [tf.TensorSpec.from_spec(spec) for spec in keras.tree.flatten(signature)]
        names = tuple(spec.name or f"input_{number}" for number, spec in enumerate(given))
    elif getattr(model, "inputs", None):
        given, names = list(model.inputs), tuple(tensor.name for tensor in model.inputs)
        signature = inputs_structure(model)
    else:
        raise ConversionError(
            f"model {model.name!r} does not know its inputs; pass input_signature, one tf.TensorSpec an input"
        )
    if len(set(names)) < len(names):
        raise ConversionError(
            f"the inputs {list(names)} share a name; give each tf.TensorSpec of input_signature its own"
        )

    return names, fixed_specs(names, given, options), packing(signature)


@contextlib.contextmanager
def _called_by_class(layers: Sequence[Any]) -> Iterator[None]:
    """While it is open, this thread calls layers by way of their classes, even if tf_keras left `call` on them."""

    def by_class(layer: Any, _: Any) -> Callable[..., Any]:
        return lambda *arguments, **named: type(layer).call(layer, *arguments, **named)

    left = [each for each in layers if "call" in vars(each) and is_left_by_saving(each, "call")]
    with replaced_here({(each, "call"): functools.partial(by_class, each) for each in left}):
        yield


def refuse_unfused(calls: RecurrentCalls, on_unsupported: str) -> None:
    """Raises for every layer at once that cannot be fused, unless these are to be kept and can be, or only reported."""
    if on_unsupported == "report":
        return
    stays = calls.never | calls.carrying
    left = [each for each in calls.layers if each.reason and each.op == "stock lowering"]
    refused = [each for each in left if on_unsupported == "raise" or each.name in stays]
    if not refused:
        return
    # Calls of one layer are refused once.
    parts = {(re.sub(r"_call\d+$", "", each.name), each.reason): each for each in reversed(refused)}
    texts = [f"layer {each.name!r} ({each.layer_class}): {each.reason}" for each in reversed(parts.values())]
    names = {each.name for each in refused}
    if names - stays:
        texts.append('or pass on_unsupported="keep" for the stock lowering of what cannot be fused')
    elif names - calls.never:
        texts.append('or pass on_unsupported="keep" and state="reset" for the stock lowering, which carries none')
    raise ConversionError("; ".join(texts))


def _refuse_random(model: Any, function: Any) -> None:
    op = random_op(function)
    if op is None:
        return
    scopes = op.split("/")
    if isinstance(model, keras.layers.Layer):
        # Keras 3 opens the scope of a layer twice, so that the second one has a number.
        scopes = [re.sub(r"_\d+$", "", each) for each in scopes]
    by_name = {each.name: each for each in model._flatten_layers()}
    *_, layer = [model, *(by_name[each] for each in scopes if each in by_name)]
    raise ConversionError(
        f"layer {layer.name!r} ({type(layer).__name__}) draws random numbers, so that no file can compute what it "
        "does; call it without training=True, or take the randomness out of it"
    )
