"""The model that a file is compared with: the user's own, called as its user calls it.

This is all that is changed about it:

| What is changed | Why |
|---|---|
| variables are copies, which nobody else sees | converting leaves the model as it is, also for other threads |
| states of stateful layers are zeros at the first call | the file starts from zeros, too |
| `training=False` where `call` demands a value, or has another default | a file is for inference |
| layers in mixed precision compute in float32 | those of the file do |
| where `state` is not what the layers say, states come from the caller and go to it, layer by layer, and | Keras has |
|  `TimeDistributed` calls a recurrent layer once for all steps | no such model |

A function is its own reference, too, with zeros in the states of its stateful layers at every call: the check resets
the file of a function between two calls, because what `composite` carries in a file TensorFlow does not.
"""

import contextlib
import contextvars
import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import tensorflow as tf

from lstm_toolkit.process_state import replaced_here, seen_here


class OwnVariables:
    """The variables of a model that the calls of the reference may change: they change copies of them.

    Args:
        variables: those that a call may change, of TensorFlow or Keras.
        states: those among them, or beside them, that start as zeros.
    """

    def __init__(self, variables: Iterable[Any], states: Iterable[Any]) -> None:
        self._states = {id(each): each for each in _of_tensorflow(states)}
        self._variables = list((self._states | {id(each): each for each in _of_tensorflow(variables)}).values())
        self._start: list[Any] = []
        self._copies: list[Any] | None = None

    @contextlib.contextmanager
    def continued(self) -> Iterator[None]:
        """While it is open, this thread has the copies, which go on from where they were when it was last open."""
        if self._copies is None:
            states = self._states
            self._start = [tf.zeros_like(each) if id(each) in states else tf.identity(each) for each in self._variables]
            # A `tf.Variable` would be one that the function makes that is being traced.
            resource_variable = _variables_of_tensorflow().ResourceVariable
            self._copies = [resource_variable(each, trainable=False) for each in self._start]
        with _in_place(self._variables, self._copies):
            yield

    @property
    def have_changed(self) -> bool:
        """Whether the calls since the last start have changed one of them."""
        return not all(map(np.array_equal, self._start, self._copies or self._start))

    def restart(self) -> None:
        """Lets the next call start anew."""
        self._copies = None


def _variables_of_tensorflow() -> Any:
    return importlib.import_module("tensorflow.python.ops.resource_variable_ops")


def _of_tensorflow(variables: Iterable[Any]) -> Iterator[Any]:
    for variable in variables:
        of_tensorflow = getattr(variable, "_value", variable)
        # A variable of a distribution strategy has parts.
        parts = getattr(of_tensorflow, "values", None)
        yield from parts if isinstance(parts, tuple) else [of_tensorflow]


_handles: contextvars.ContextVar[Mapping[int, Any]] = contextvars.ContextVar("_handles", default=MappingProxyType({}))
"""For the id of the handle by which TensorFlow knows a variable, the handle of its copy."""


@contextlib.contextmanager
def _in_place(variables: Sequence[Any], copies: Sequence[Any]) -> Iterator[None]:
    """While it is open, what this thread reads and assigns of variables is in copies, which no other thread sees.

    What TensorFlow traces meanwhile has the variables themselves, so that it holds afterwards, too; it gets the copies
    where it is called.
    """
    if not variables:
        yield
        return
    variable = _variables_of_tensorflow().BaseResourceVariable
    function = importlib.import_module(
        "tensorflow.python.eager.polymorphic_function.concrete_function"
    ).ConcreteFunction
    before = _handles.get()
    # Where this is open already, they are copies of copies.
    new = {id(each.handle): copy.handle for each, copy in zip(variables, copies, strict=True)}
    _handles.set({old: new.get(id(handle), handle) for old, handle in before.items()} | new)
    try:
        with (
            seen_here({(variable, "_handle"): lambda _, handle: _handle_here(handle)}),
            replaced_here({(function, "_call_flat"): _on_copies}),
        ):
            yield
    finally:
        _handles.set(before)


def _handle_here(handle: Any) -> Any:
    return _handles.get().get(id(handle), handle) if tf.executing_eagerly() else handle


def _on_copies(original: Callable[..., Any]) -> Callable[..., Any]:
    def call_flat(function: Any, tensor_inputs: Sequence[Any], captured_inputs: Sequence[Any]) -> Any:
        return original(function, tensor_inputs, [_handle_here(each) for each in captured_inputs])

    return call_flat


_RANDOM_OP = re.compile(r"Random|Multinomial|TruncatedNormal|Stateful(Uniform|Standard)")


def random_op(function: Any) -> str | None:
    """Name of the first op in a concrete function that draws random numbers; None if there is none."""
    graph = function.graph.as_graph_def()
    bodies = (graph.node, *(each.node_def for each in graph.library.function))
    return next((node.name for nodes in bodies for node in nodes if _RANDOM_OP.search(node.op)), None)
