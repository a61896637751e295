"""The model that a file is compared with: the user's own, called as its user calls it.

This is all that is changed about it:

| What is changed | Why |
|---|---|
| variables have their old values again after a call | converting leaves the model as it was |
| states of stateful layers are zeros at the first call | the file starts from zeros, too |
| `training=False` where `call` demands a value, or has another default | a file is for inference |
| layers in mixed precision compute in float32 | those of the file do |
| where `state` is not what the layers say, states come from the caller and go to it, layer by layer, and | Keras has |
|  `TimeDistributed` calls a recurrent layer once for all steps | no such model |

A function is its own reference, too, with zeros in the states of its stateful layers at every call: the check resets
the file of a function between two calls, because what `composite` carries in a file TensorFlow does not.
"""

import contextlib
import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf


class OwnVariables:
    """The variables of a model, which the calls of the reference change and give back.

    Args:
        variables: those that a call may change, of TensorFlow or Keras.
        states: those among them, or beside them, that start as zeros.
    """

    def __init__(self, variables: Iterable[Any], states: Iterable[Any]) -> None:
        given = {id(each): each for each in map(_of_tensorflow, states)}
        others = {id(each): each for each in map(_of_tensorflow, variables)}
        self._variables = list((given | others).values())
        self._states = len(given)
        self._values: list[Any] | None = None

    @contextlib.contextmanager
    def continued(self) -> Iterator[None]:
        """While it is open, the variables go on from where they were when it was last open."""
        before = [tf.identity(each) for each in self._variables]
        try:
            self._assign(self._values or [*map(tf.zeros_like, before[: self._states]), *before[self._states :]])
            yield
            self._values = [tf.identity(each) for each in self._variables]
        finally:
            self._assign(before)

    def restart(self) -> None:
        """Lets the next call start anew."""
        self._values = None

    def _assign(self, values: list[Any]) -> None:
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)


def _of_tensorflow(variable: Any) -> Any:
    return getattr(variable, "_value", variable)


def inference_arguments(model: Any) -> dict[str, bool]:
    """What a Keras 3 model takes beside its inputs, to be called for inference: nothing, unless its `call` asks it."""
    training = inspect.signature(model.call).parameters.get("training")
    return {} if training is None or training.default in (None, False) else {"training": False}


_RANDOM_OP = re.compile(r"Random|Multinomial|TruncatedNormal|Stateful(Uniform|Standard)")


def random_op(function: Any) -> str | None:
    """Name of the first op in a concrete function that draws random numbers; None if there is none."""
    graph = function.graph.as_graph_def()
    bodies = (graph.node, *(each.node_def for each in graph.library.function))
    return next((node.name for nodes in bodies for node in nodes if _RANDOM_OP.search(node.op)), None)
