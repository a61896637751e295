"""What a PyTorch module takes and gives: the tensors in it one by one, with their names."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.sources.keras_files import first_line
from lstm_toolkit.tflite.recurrent import numbered


@dataclasses.dataclass(frozen=True)
class Examples:
    """The example inputs of a module.

    Attributes:
        signature: of the module's `forward`.
        arguments: by the names of its parameters.
        tensors: all tensors in these, by names that the parameters give them.
    """

    signature: inspect.Signature
    arguments: Mapping[str, Any]
    tensors: Mapping[str, Any]

    def call(self, module: Any, tensors: Sequence[Any]) -> Any:
        """Calls a module with other tensors in the places of the examples."""
        given = iter(tensors)
        arguments = _replaced(dict(self.arguments), lambda _: next(given))
        bound = inspect.BoundArguments(self.signature, arguments)
        return module(*bound.args, **bound.kwargs)


def examples_of(module: Any, given: Any) -> Examples:
    """The example inputs of a module, out of an `input_signature`.

    Args:
        module: the module.
        given: a tensor or an array; a tuple or list of arguments; or a dict of them by the names of the parameters. An
            argument may be a tuple, list or dict of tensors; what is no tensor stays as it is.

    Raises:
        ConversionError: if the module cannot be called with them.
    """
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    if isinstance(given, Mapping):
        kwargs = given
    else:
        args = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    signature = inspect.signature(module.forward)
    try:
        arguments = signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise ConversionError(
            f"{type(module).__name__}.forward{signature} cannot be called with the example inputs: {error}; pass as "
            "input_signature a tuple of its arguments, or a dict by their names"
        ) from error
    arguments = _replaced(arguments, _as_tensor)
    tensors: dict[str, Any] = {}
    for path, leaf in _leaves(arguments):
        if isinstance(leaf, torch.Tensor):
            tensors[numbered("_".join(path), tensors)] = leaf
    if not tensors:
        raise ConversionError(
            f"{type(module).__name__} needs example inputs, which fix the shapes of its file, since no PyTorch module "
            "knows its own; pass input_signature=torch.zeros(1, 100, 3), a tuple of such tensors, or a dict of them by "
            "the names of forward's parameters"
        )
    return Examples(signature, arguments, tensors)


def outputs_of(value: Any) -> dict[str, Any]:
    """The tensors in what a module returns, by name: a dict and a NamedTuple name them, others are `output_0`, ...

    Raises:
        ConversionError: if there is something else among them.
    """
    outputs: dict[str, Any] = {}
    for path, leaf in _leaves(value):
        if leaf is None:
            continue
        if not isinstance(leaf, torch.Tensor):
            raise ConversionError(
                f"the module returns {type(leaf).__name__} beside tensors, which a file cannot; let its forward return "
                "tensors alone, or a tuple or a dict of them"
            )
        is_numbered = all(each.isdecimal() for each in path)
        name = f"output_{len(outputs)}" if is_numbered else "_".join(path)
        outputs[numbered(f"output_{name}" if name[0].isdecimal() else name, outputs)] = leaf
    return outputs


def as_float32(tensor: Any) -> Any:
    """A tensor of another floating-point type as float32; any other as it is."""
    return tensor.float() if tensor.is_floating_point() else tensor


def to_array(tensor: Any) -> Any:
    """A tensor as an array of the type that it has in a file, which has 32 bits at most."""
    array = tensor.detach().cpu().numpy()
    narrow = {"int64": np.int32, "float64": np.float32}.get(str(array.dtype))
    return array if narrow is None else array.astype(narrow)


def called(module: Any, examples: Examples) -> Any:
    """What a module returns for the example inputs.

    Raises:
        ConversionError: if it cannot be called with them.
    """
    try:
        return examples.call(module, list(examples.tensors.values()))
    except ConversionError:
        raise
    except Exception as error:  # whatever the module's own code raises
        shapes = {name: list(tensor.shape) for name, tensor in examples.tensors.items()}
        raise ConversionError(
            f"{type(module).__name__} cannot be called with the example inputs, of shapes {shapes}: "
            f"{first_line(str(error))}; pass as input_signature tensors with which it can be called in eval mode"
        ) from error


def _as_tensor(leaf: Any) -> Any:
    if isinstance(leaf, (np.ndarray, np.generic)):
        leaf = torch.as_tensor(leaf)
    return as_float32(leaf.detach().cpu()) if isinstance(leaf, torch.Tensor) else leaf


def _items(value: Any) -> Iterator[tuple[str, Any]] | None:
    """The parts of a value with their names; None for a leaf."""
    if isinstance(value, Mapping):
        return ((str(name), each) for name, each in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return zip(value._fields, value, strict=True)
    if isinstance(value, (tuple, list)):
        return ((str(number), each) for number, each in enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ((each.name, getattr(value, each.name)) for each in dataclasses.fields(value))
    return None


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    items = _items(value)
    if items is None:
        yield path or ("0",), value
        return
    for name, each in items:
        yield from _leaves(each, (*path, name))


def _replaced(value: Any, new: Callable[[Any], Any]) -> Any:
    """A value with other tensors and arrays in it."""
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        return new(value)
    if isinstance(value, Mapping):
        return {name: _replaced(each, new) for name, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_replaced(each, new) for each in value))
    if isinstance(value, (tuple, list)):
        return type(value)(_replaced(each, new) for each in value)
    return value
