"""Traces a Keras 3 model into a TensorFlow function in which every recurrent layer is marked for fusing."""

import contextlib
import dataclasses
import re
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lstm_toolkit.errors import ConversionError, InvalidModelError
from lstm_toolkit.runtime.random_inputs import RandomInputs
from lstm_toolkit.sources.keras_layers import RecurrentCalls, recurrent_calls
from lstm_toolkit.sources.marks import swapped
from lstm_toolkit.sources.traced import LayerReport, TracedModel, TraceOptions, fixed_shape


def load(path: Path) -> Any:
    """Loads a `.keras` or `.h5` file in Keras's safe mode, which runs no code out of the file.

    Raises:
        InvalidModelError: if there is no such file, or it is not a Keras model.
        ConversionError: if it needs code that the file alone cannot give (a Lambda layer or a custom class).
    """
    is_archive = path.suffix == ".keras" and zipfile.is_zipfile(path)
    is_legacy = path.suffix in (".h5", ".hdf5") and path.read_bytes()[:8] == b"\x89HDF\r\n\x1a\n"
    if not (is_archive or is_legacy):
        raise InvalidModelError(
            f"{str(path)!r} is not a Keras model: neither a .keras file (a zip archive), nor a .h5 file (HDF5), nor "
            "the folder of a SavedModel; load the model yourself and pass it"
        )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras passes on what its layers, zipfile, json and h5py raise
        text = str(error)
        code = re.search(r"Could not locate class '[^']+'|a `Lambda` layer|Unknown layer: '?\w+", text)
        if code:
            raise ConversionError(
                f"{str(path)!r} needs code that is not in the file, or that would have to be run out of it "
                f"({code[0]}); load the model yourself, with custom_objects or safe_mode=False if you trust the file, "
                "and pass the object"
            ) from error
        if "time_major" in text:
            raise ConversionError(
                f"{str(path)!r} was written by Keras 2, which Keras 3 cannot read; load it with tf_keras (the extra "
                "`legacy`) and pass the object"
            ) from error
        raise InvalidModelError(f"{str(path)!r} is not a model that Keras can load: {first_line(text)}") from error


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """How a model is called: its input names, and how tensors in that order become its one argument."""

    names: tuple[str, ...]
    specs: tuple[Any, ...]
    packed: Callable[[Sequence[Any]], Any]


def trace(model: Any, options: TraceOptions) -> TracedModel:
    """Traces a model in inference mode, with every recurrent layer marked.

    Raises:
        ConversionError: naming the layer and the reason.
    """
    library = _library_of(model)
    layer_classes = library.layers
    inputs = _inputs_of(model, options)
    time_major, state = options.time_major, options.state
    layers = list(model._flatten_layers())
    embeddings = [each for each in layers if isinstance(each, layer_classes.Embedding)]
    # An embedding takes integers, and a model may well give it a floating-point input.
    are_tokens = [len(spec.shape) == 2 and (spec.dtype.is_integer or bool(embeddings)) for spec in inputs.specs]
    is_sequence = [
        len(spec.shape) > 2 or tokens or (len(spec.shape) == 2 and spec.dtype.is_bool)
        for spec, tokens in zip(inputs.specs, are_tokens, strict=True)
    ]
    paired = frozenset(id(each.forward_layer) for each in layers if isinstance(each, layer_classes.Bidirectional))

    def call(tensors: Sequence[Any], calls: RecurrentCalls) -> dict[str, Any]:
        """The model's outputs and new states by name, from batch-major inputs and the states in `calls`."""
        with recurrent_calls(calls), _in_float32(layers):
            return named(model(inputs.packed(tensors), training=False))

    def traced(marking: bool, state_specs: dict[str, Any]) -> tuple[Any, RecurrentCalls]:
        calls = RecurrentCalls(library, marking=marking, state=state, plain=options.plain, paired=paired)

        def function(*tensors: Any) -> dict[str, Any]:
            calls.states = dict(zip(state_specs, tensors[len(inputs.specs) :], strict=True))
            given = [swapped(t) if time_major and s else t for t, s in zip(tensors, is_sequence, strict=False)]
            outputs = call(given, calls)
            if time_major:
                outputs = {name: swapped(t) if len(t.shape) > 2 else t for name, t in outputs.items()}
            return outputs | (calls.new_states if state == "explicit" else {})

        specs = [
            _time_major(spec) if time_major and s else spec for spec, s in zip(inputs.specs, is_sequence, strict=True)
        ]
        specs = [
            tf.TensorSpec(spec.shape, spec.dtype, name=f"input_{number:04d}")
            for number, spec in enumerate([*specs, *state_specs.values()])
        ]
        try:
            return tf.function(function, autograph=False).get_concrete_function(*specs), calls
        except Exception as error:  # whatever the layers of a model raise when they are called
            refuse_unfused(calls.layers, options.on_unsupported)
            raise ConversionError(f"model {model.name!r} cannot be traced: {first_line(str(error))}") from error

    state_specs: dict[str, Any] = {}
    if state == "explicit":
        # Which states there are, and how large, only a first call can tell.
        state_specs = {name: tf.TensorSpec(shape) for name, shape in traced(False, {})[1].state_shapes.items()}
    function, calls = traced(True, state_specs)
    refuse_unfused(calls.layers, options.on_unsupported)
    holder = tf.Module()
    holder.variables_of_model = [getattr(variable, "_value", variable) for variable in model.variables]
    names = (*inputs.names, *state_specs)
    carried: dict[str, Any] = {}

    def source(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        tensors = [tf.convert_to_tensor(array) for array in arrays]
        given = [swapped(t) if time_major and s else t for t, s in zip(tensors, is_sequence, strict=False)]
        explicit = dict(zip(state_specs, tensors[len(inputs.specs) :], strict=True))
        run = RecurrentCalls(library, marking=False, state=state, plain=options.plain, states=explicit or carried)
        outputs = call(given, run)
        carried.update(run.new_states)
        if time_major:
            outputs = {name: swapped(t) if len(t.shape) > 2 else t for name, t in outputs.items()}
        return {name: np.asarray(t) for name, t in (outputs | (run.new_states if explicit else {})).items()}

    return TracedModel(
        name=model.name,
        batch=next((spec.shape[0] for spec in inputs.specs), None),
        function=function,
        trackable=holder,
        input_names=names,
        layers=tuple(calls.layers),
        source=source,
        random_inputs=RandomInputs(
            integer_bound=min((each.input_dim for each in embeddings), default=2),
            tokens=tuple(are_tokens),
            padded=calls.has_mask,
            mask_value=next((each.mask_value for each in layers if isinstance(each, layer_classes.Masking)), None),
            time_axes=tuple((0 if time_major else 1) if s else None for s in is_sequence) + (None,) * len(state_specs),
        ),
    )


def _library_of(model: Any) -> Any:
    """The module `keras` or `tf_keras`, whichever the model is made of."""
    tf_keras = sys.modules.get("tf_keras")
    if tf_keras is not None and isinstance(model, tf_keras.layers.Layer):
        return tf_keras
    if not isinstance(model, keras.layers.Layer):
        raise ConversionError(f"expected a Keras model or layer, or the path of one, got {type(model).__name__}")
    if keras.backend.backend() != "tensorflow":
        raise ConversionError(
            f"Keras runs on {keras.backend.backend()!r} here, and only its TensorFlow backend can be converted; set "
            "the environment variable KERAS_BACKEND=tensorflow before Keras is imported"
        )
    return keras


def _inputs_of(model: Any, options: TraceOptions) -> _Inputs:
    input_signature = options.input_signature
    if input_signature is not None:
        if isinstance(input_signature, (list, tuple)) and len(input_signature) == 1:
            (input_signature,) = input_signature
        flat = [tf.TensorSpec.from_spec(spec) for spec in keras.tree.flatten(input_signature)]
        names = tuple(spec.name or f"input_{number}" for number, spec in enumerate(flat))

        def packed(tensors: Sequence[Any]) -> Any:
            return keras.tree.pack_sequence_as(input_signature, list(tensors))
    elif getattr(model, "inputs", None):
        flat, names = list(model.inputs), tuple(tensor.name for tensor in model.inputs)
        structure = getattr(model, "_inputs_struct", getattr(model, "_nested_inputs", None))

        def packed(tensors: Sequence[Any]) -> Any:
            if structure is None:
                return tensors[0] if len(tensors) == 1 else list(tensors)
            return keras.tree.pack_sequence_as(structure, list(tensors))
    else:
        raise ConversionError(
            f"model {model.name!r} does not know its inputs; pass input_signature, one tf.TensorSpec an input"
        )
    if len(set(names)) < len(names):
        raise ConversionError(
            f"the inputs {list(names)} share a name; give each tf.TensorSpec of input_signature its own"
        )
    specs = tuple(
        tf.TensorSpec(fixed_shape(name, list(tensor.shape), options), tensor.dtype)
        for name, tensor in zip(names, flat, strict=True)
    )
    return _Inputs(names, specs, packed)


def _time_major(spec: Any) -> Any:
    batch, time, *rest = spec.shape
    return tf.TensorSpec([time, batch, *rest], spec.dtype)


def named(outputs: Any) -> dict[str, Any]:
    """Names a model's outputs as the saved signature does: dict keys, or output_0, output_1, ..."""
    if isinstance(outputs, dict) and not any(keras.tree.is_nested(value) for value in outputs.values()):
        return dict(outputs)
    return {f"output_{number}": value for number, value in enumerate(keras.tree.flatten(outputs))}


@contextlib.contextmanager
def _in_float32(layers: Sequence[Any]) -> Iterator[None]:
    """While it is open, layers with float32 weights and half-precision arithmetic compute in float32."""
    with contextlib.ExitStack() as undo:
        for layer in layers:
            if layer.compute_dtype != layer.variable_dtype and isinstance(layer, keras.layers.Layer):
                undo.callback(setattr, layer, "dtype_policy", layer.dtype_policy)
                layer.dtype_policy = "float32"
        yield


def refuse_unfused(layers: Sequence[LayerReport], on_unsupported: str) -> None:
    """Raises for every layer at once that cannot be fused, unless these are to be kept."""
    refused = [f"layer {each.name!r} ({each.layer_class}): {each.reason}" for each in layers if each.reason]
    if refused and on_unsupported == "raise":
        remedy = 'or pass on_unsupported="keep" for the stock lowering of what cannot be fused'
        raise ConversionError(f"{'; '.join(refused)}; {remedy}")


def first_line(text: str) -> str:
    """The line of a message of Keras that says what is wrong, without its frame and colors."""
    lines = [re.sub(r"\x1b\[\d+m", "", line).strip() for line in text.splitlines()]
    telling = (line for line in lines if line and not line.startswith("Exception encountered when calling"))
    return next(telling, "no reason given")
