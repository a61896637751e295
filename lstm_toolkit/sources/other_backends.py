"""A Keras model whose backend is not TensorFlow, but JAX, PyTorch or another: how it comes into another process.

Only TensorFlow's converter writes a file, so the model is saved, and another process loads it there, in Keras's safe
mode and on the TensorFlow backend. Nothing of it is computed by TensorFlow here.
"""

import importlib
import operator
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.sources.keras_calls import inputs_structure
from lstm_toolkit.sources.keras_files import first_line
from lstm_toolkit.sources.traced import InputSpec

_MODULE = (
    "define it, with a name, in a module (a .py file, neither a notebook nor the script itself), under "
    "@keras.saving.register_keras_serializable()"
)


class CustomObject(NamedTuple):
    """A class or a function in a model that is not Keras's own.

    Attributes:
        layer: the name of the layer that uses it.
        registered: the name under which Keras finds it.
        module, name: where it can be imported from; None and empty where it is not registered.
    """

    layer: str
    registered: str
    module: str | None
    name: str

    def imported(self) -> Any:
        """The class or the function, in a process that does not have it yet."""
        return operator.attrgetter(self.name)(importlib.import_module(str(self.module)))


def plain_signature(signature: Any) -> Any:
    """An `input_signature` whose leaves are of `InputSpec`, which needs no TensorFlow; None for None.

    Args:
        signature: in the structure of the model's input, anything that has a shape and a dtype: of `keras.Input`,
            `keras.InputSpec` or `tf.TensorSpec`.
    """

    def plain(spec: Any) -> InputSpec:
        dtype = keras.backend.standardize_dtype(getattr(spec, "dtype", None) or "float32")
        return InputSpec(tuple(spec.shape), np.dtype(dtype), getattr(spec, "name", None) or "")

    if signature is None:
        return None
    given = keras.tree.map_structure(plain, signature)
    return given[0] if isinstance(given, (list, tuple)) and len(given) == 1 else given


def savable(model: Any, signature: Any) -> Any:
    """The model with all of its weights, or a model of a bare layer, which shares the layer's.

    Args:
        model: a Keras model or layer.
        signature: as `plain_signature` returns it.

    Raises:
        ConversionError: if it does not know its inputs, or cannot be called on them.
    """
    is_model = isinstance(model, keras.Model)
    if is_model and all(each.built for each in model._flatten_layers()):
        return model
    structure = inputs_structure(model) if signature is None else signature
    if structure is None:
        raise ConversionError(
            f"{type(model).__name__} {model.name!r} was never called; pass a keras.Input as input_signature"
        )
    tensors = keras.tree.map_structure(
        lambda each: keras.Input(batch_shape=each.shape, dtype=str(each.dtype), name=each.name or None), structure
    )
    try:
        outputs = model(tensors)
    except Exception as error:  # whatever the layers of a model raise when they are called
        raise ConversionError(
            f"{type(model).__name__} {model.name!r} cannot be called on symbolic inputs: {first_line(str(error))}; "
            "call it once on such arrays, which builds it, or pass another input_signature"
        ) from error
    return model if is_model else keras.Model(tensors, outputs, name=model.name)


def custom_objects(model: Any) -> list[CustomObject]:
    """The classes and functions of a model that are not Keras's own, each of which another process can import.

    Raises:
        ConversionError: for what it cannot load in Keras's safe mode; names the layer, the fact and the remedy.
    """
    try:
        config = keras.saving.serialize_keras_object(model)
    except Exception as error:  # whatever a `get_config` raises
        layer = next(filter(_cannot_be_saved, reversed(list(model._flatten_layers()))), model)
        raise ConversionError(
            f"layer {layer.name!r} ({type(layer).__name__}) cannot be saved: {first_line(str(error))}; give its class "
            "a get_config with the arguments of its __init__"
        ) from error
    found = list(dict.fromkeys(_customs_in(config, model.name)))
    for each in found:
        reason = _why_not_importable(each)
        if reason:
            raise ConversionError(f"layer {each.layer!r} {reason}; {_MODULE}")
    return found


def _cannot_be_saved(layer: Any) -> bool:
    try:
        keras.saving.serialize_keras_object(layer)
    except Exception:  # whatever a `get_config` raises
        return True
    return False


def _customs_in(config: Any, layer: str) -> Iterator[CustomObject]:
    """Those in what Keras writes of a model.

    Args:
        config: of the model, or a part of it.
        layer: the name of the innermost layer that it belongs to.
    """
    if isinstance(config, (list, tuple)):
        for each in config:
            yield from _customs_in(each, layer)
    if not isinstance(config, Mapping):
        return
    inner = config.get("config")
    if isinstance(inner, Mapping) and {"build_config", "inbound_nodes"} & set(config):
        layer = config.get("name") or inner.get("name", layer)
    if config.get("class_name") == "__lambda__":
        yield CustomObject(layer, "lambda", None, "")
    elif _is_custom(config):
        yield _custom(str(inner if config["class_name"] == "function" else config["registered_name"]), layer)
    # The loss and the metrics, with which it was compiled, are not loaded.
    for key in set(config) - {"compile_config"}:
        yield from _customs_in(config[key], layer)


def _is_custom(config: Mapping[str, Any]) -> bool:
    if config.get("class_name") == "function":
        return True
    module = str(config.get("module") or "").partition(".")[0]
    return "registered_name" in config and module not in ("keras", "builtins")


def _custom(registered: str, layer: str) -> CustomObject:
    found = keras.saving.get_registered_object(registered)
    if found is None:
        return CustomObject(layer, registered, None, "")
    return CustomObject(layer, registered, found.__module__, found.__qualname__)


def _why_not_importable(custom: CustomObject) -> str:
    if custom.registered == "lambda":
        return "holds a lambda, which is code, and Keras's safe mode runs none out of a file"
    what = f"uses {custom.registered!r}, which"
    if custom.module is None:
        return f"{what} is not registered with Keras, so that no other process can load it"
    if custom.module == "__main__" or "<locals>" in custom.name:
        where = "in __main__" if custom.module == "__main__" else "in a function"
        return f"{what} is defined {where}, so that no other process can import it"
    return ""
