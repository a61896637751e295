"""Takes TensorFlow functions as sources: concrete functions, and the signatures of SavedModels.

Such a function can be converted if its recurrent layers were marked when it was traced: by `fusable_lstms`, or by
tf_keras, which leaves an annotation of its own that the stock converter knows.
"""

import contextlib
import importlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from lstm_toolkit.errors import ConversionError, InvalidModelError, LstmToolkitError
from lstm_toolkit.process_state import prepare_tensorflow
from lstm_toolkit.runtime.random_inputs import RandomInputs
from lstm_toolkit.sources.frame import Frame, Results, fixed_specs
from lstm_toolkit.sources.keras_files import first_line
from lstm_toolkit.sources.keras_layers import RecurrentCalls, recurrent_calls
from lstm_toolkit.sources.reference import OwnVariables, random_op
from lstm_toolkit.sources.traced import TracedModel, TraceOptions, kept_layers
from lstm_toolkit.tflite.paths import MAX_BYTES, read_regular, regular_size, setting

logger = logging.getLogger("lstm_toolkit")

_LARGEST = 2 << 30
"""Bytes that a protobuf can have."""


@contextlib.contextmanager
def fusable_lstms(*, state: str = "auto") -> Iterator[None]:
    """While it is open, Keras models that this thread exports carry the marks by which `convert` fuses their LSTMs.

    Wrap `model.export(path)`, `tf.saved_model.save(model, path)` or the tracing of a function of your own. What is
    exported runs in TensorFlow as before, and `convert(path)` can fuse it later and elsewhere. Layers that cannot be
    fused are exported as usual.

    Args:
        state: "auto", "reset" or "carry", as for `convert`.

    Raises:
        ValueError: for another state.
        ConversionError: in a process that was forked when TensorFlow was in use.
    """
    if state not in ("auto", "reset", "carry"):
        raise ValueError(f"state must be one of auto, reset, carry, got {state!r}")
    prepare_tensorflow()
    with recurrent_calls(RecurrentCalls(keras, marking=True, state=state, numbering=False)):
        yield


def load_saved_model(path: Path) -> Any:
    """Loads the serving signature of a SavedModel, which is code that runs when it is loaded.

    Raises:
        InvalidModelError: if the folder is not that of a SavedModel, or has no signature.
        ConversionError: if no layer in it is marked; nothing is run then.
    """
    if not (path / "saved_model.pb").is_file():
        raise InvalidModelError(f"{str(path)!r} is not the folder of a SavedModel: it has no saved_model.pb")
    for each in path.rglob("*"):
        if not each.is_dir():
            regular_size(each)
    content = saved_model_pb2.SavedModel()
    try:
        content.ParseFromString(read_regular(path / "saved_model.pb", setting(MAX_BYTES, _LARGEST)))
        _check_marked(content, path)
        logger.info("loading the SavedModel %s, which is code that runs when it is loaded", path)
        loaded = tf.saved_model.load(str(path))
    except LstmToolkitError:
        raise
    except Exception as error:  # a damaged folder: TensorFlow passes on what its protobuf and file readers raise
        raise InvalidModelError(
            f"{str(path)!r} is not a SavedModel that TensorFlow can load: {first_line(str(error))}; export it again"
        ) from error
    names = list(loaded.signatures)
    if not names:
        raise InvalidModelError(f"{str(path)!r} has no signature to convert; save it with signatures=")
    function = loaded.signatures["serving_default" if "serving_default" in names else names[0]]
    function.loaded = loaded  # its variables live as long as the object that was loaded
    return function


def _check_marked(content: Any, path: Path) -> None:
    """Raises ConversionError if no function of a SavedModel is marked, or known as that of a layer without a mark."""
    functions = [each for graph in content.meta_graphs for each in graph.graph_def.library.function]
    is_marked = any({"_implements", "api_implements"}.intersection(each.attr) for each in functions)
    if not is_marked and not kept_layers(node.name for each in functions for node in each.node_def):
        raise ConversionError(
            f"{str(path)!r} was not exported as fusable, so that its recurrent layers are loops like any other; export "
            "it again inside `with lstm_toolkit.fusable_lstms():`, or convert the Keras model itself"
        )


def trace(function: Any, options: TraceOptions) -> TracedModel:
    """Traces a function, or a module that can be called, with its recurrent layers marked.

    Args:
        function: a `tf.function`, a callable `tf.Module`, or a function of TensorFlow ops.
        options: its signature, batch and time, and whether layers are traced for plain ops.

    Raises:
        ConversionError: if it has no signature, cannot be traced, or draws random numbers.
    """
    signature = options.input_signature
    for each in (function, function.__call__):
        signature = getattr(each, "input_signature", None) if signature is None else signature
    if signature is None:
        raise ConversionError("the function does not know its inputs; pass input_signature, a tf.TensorSpec each")
    given = tf.nest.flatten(signature)
    names = [spec.name or f"input_{number}" for number, spec in enumerate(given)]
    specs = fixed_specs(names, given, options)
    calls = RecurrentCalls(keras, marking=True, plain=options.plain, numbering=False)
    with recurrent_calls(calls):
        try:
            traced = tf.function(lambda *tensors: function(*tensors), autograph=False).get_concrete_function(*specs)
        except Exception as error:  # whatever the function raises on its arguments
            raise ConversionError(
                f"the function cannot be traced: {first_line(str(error))}; call it on such inputs to see the whole "
                "error, or pass another input_signature"
            ) from error
    op = random_op(traced)
    if op is not None:
        raise ConversionError(
            f"the function draws random numbers ({op}), so that no file can compute what it does; call "
            "its layers without training=True, or take the randomness out of it"
        )
    own_variables = OwnVariables([each for each in traced.variables if not each.trainable], calls.state_variables)

    def reference(*tensors: Any) -> Any:
        own_variables.restart()
        with own_variables.continued():
            return function(*tensors)

    return trace_concrete(traced, options, reference)


@contextlib.contextmanager
def _without_remapping() -> Iterator[None]:
    """Keeps TensorFlow from fusing ops of the source: with oneDNN its fused layer normalization is off by 1e-4."""
    # `tf.config.optimizer` has the options of all threads; these are those of this one.
    thread = importlib.import_module("tensorflow.python.eager.context").context()
    before = thread.function_call_options
    config = tf.compat.v1.ConfigProto.FromString(before.config_proto_serialized)
    rewriting = config.graph_options.rewrite_options
    rewriting.remapping = rewriting.OFF
    thread.function_call_options = type(before)(before.executor_type, config)
    try:
        yield
    finally:
        thread.function_call_options = before


def trace_concrete(function: Any, options: TraceOptions, reference: Callable[..., Any] | None = None) -> TracedModel:
    """Fixes the batch of a concrete function.

    Args:
        function: a `tf.types.experimental.ConcreteFunction`; the first axis of its arguments is the batch, unless their
            shapes are known whole.
        options: its batch and time.
        reference: computes the same in TensorFlow; None for the function itself.

    Raises:
        ConversionError: if an argument is not a tensor, or has another batch or time.
    """
    positional, named = function.structured_input_signature
    own = [*tf.nest.flatten(positional), *named.values()]
    if not own or not all(isinstance(spec, tf.TensorSpec) and spec.shape.rank for spec in own):
        raise ConversionError("the function must take tensors, each with a batch, and nothing else")
    names = tuple((spec.name or f"input_{number}") for number, spec in enumerate(own))
    specs = fixed_specs(names, own, options)
    frame = Frame(names, specs, (False,) * len(specs), options)

    def run(tensors: Sequence[Any], _: Mapping[str, Any], called: Callable[..., Any] = function) -> Results:
        count = len(tf.nest.flatten(positional))
        arguments = tf.nest.pack_sequence_as(positional, list(tensors[:count]))
        outputs = called(*arguments, **dict(zip(named, tensors[count:], strict=True)))
        if isinstance(outputs, dict):
            return outputs, {}
        return {f"output_{number}": value for number, value in enumerate(tf.nest.flatten(outputs))}, {}

    def source(tensors: Sequence[Any], states: Mapping[str, Any]) -> Results:
        with _without_remapping():
            return run(tensors, states, reference or function)

    try:
        fixed = frame.function(run)
    except Exception as error:  # whatever does not fit the function's own arguments
        raise ConversionError(f"the function cannot be called with {list(specs)}: {error}") from error
    traced = frame.traced_model(
        "function",
        fixed,
        source,
        variables=function.variables,
        layers=None,
        random_inputs=RandomInputs(tokens=tuple(spec.dtype.is_integer for spec in specs)),
    )
    traced.trackable.loaded = getattr(function, "loaded", None)
    return traced
