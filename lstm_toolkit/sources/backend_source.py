"""A Keras model on any backend as the `Source` that a file is compared with: itself, called as its user calls it.

What is changed about it is what `reference.py` changes on the TensorFlow backend, and nothing of it stays: variables
have the values of a scope of Keras's own, which this thread alone sees.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy.typing as npt

from lstm_toolkit.process_state import Place, replaced_here
from lstm_toolkit.sources.array_source import ArraySource, Layout
from lstm_toolkit.sources.keras_calls import (
    in_float32,
    inference_arguments,
    like,
    named,
    packing,
    without_dropout_masks,
)
from lstm_toolkit.sources.traced import Arrays
from lstm_toolkit.tflite.recurrent import numbered


@dataclasses.dataclass(frozen=True)
class States:
    """How the layers of a model handle their states.

    Attributes:
        state: "auto", "reset", "carry" or "explicit", as for `convert`.
        names: of the explicit states, in the order in which the layers are called.
        kept: names of the calls of layers that have no explicit states.
    """

    state: str
    names: tuple[str, ...] = ()
    kept: frozenset[str] = frozenset()


class BackendSource(ArraySource):
    """See the module.

    Args:
        model: the model or layer.
        structure: of its inputs; None for a list, or the tensor itself where there is one.
        layout: of the file's arrays.
        states: how they are handled.
    """

    def __init__(self, model: Any, structure: Any, layout: Layout, states: States) -> None:
        super().__init__(layout, lambda: map(keras.ops.convert_to_numpy, model.weights), apart=True)
        self._model, self._packed, self._states = model, packing(structure), states
        self._layers = list(model._flatten_layers())
        self._recurrent = [each for each in self._layers if isinstance(each, keras.layers.RNN)]
        self._own = {id(each): each for layer in self._recurrent if layer.stateful for each in _variables(layer)}
        self._others: dict[int, tuple[Any, Any]] = {}

    def __call__(self, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
        """See `Source`."""
        turned, _, time_major = self._layout
        given = [array.swapaxes(0, 1) if turns else array for array, turns in zip(arrays, turned, strict=True)]
        count = len(given) - len(self._states.names)
        calls = _Calls(self._states, given[count:], self._carried)
        with in_float32(self._layers), replaced_here(self._replacements(calls)), self._scope() as scope:
            outputs = named(self._model(self._packed(given[:count]), **inference_arguments(self._model)))
        if not self._is_changed:
            self._keep(scope)
        arrays_of = {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}
        if time_major:
            arrays_of = {name: each.swapaxes(0, 1) if each.ndim > 2 else each for name, each in arrays_of.items()}
        return arrays_of | {name: keras.ops.convert_to_numpy(value) for name, value in calls.new.items()}

    @property
    def _is_changed(self) -> bool:
        """Whether a layer handles its state in another way than it says itself."""
        state = self._states.state
        return state != "auto" and any(state != ("carry" if each.stateful else "reset") for each in self._recurrent)

    def _scope(self) -> Any:
        """Variables with the values that the last call left, and states that are zeros at the first one."""
        zeros = {key: (each, keras.ops.zeros(each.shape, each.dtype)) for key, each in self._own.items()}
        carried = {} if self._is_changed else self._carried
        return keras.StatelessScope(list((zeros | self._others | carried).values()))

    def _keep(self, scope: Any) -> None:
        found = {id(each): each for each in self._model.non_trainable_variables} | self._own
        values = {key: (each, scope.get_current_value(each)) for key, each in found.items()}
        values = {key: pair for key, pair in values.items() if pair[1] is not None}
        self._carried.update((key, pair) for key, pair in values.items() if key in self._own)
        self._others = {key: pair for key, pair in values.items() if key not in self._own}

    def _replacements(self, calls: "_Calls") -> dict[Place, Callable[[Any], Callable[..., Any]]]:
        replacements = without_dropout_masks(keras.layers.RNN)
        if self._is_changed:
            replacements[keras.layers.RNN, "call"] = calls.replaced
        return replacements


def _variables(layer: Any) -> list[Any]:
    return [each for each in keras.tree.flatten(layer.states) if each is not None]


class _Calls:
    """The calls of recurrent layers in one call of a model, whose states are not handled as the layers say.

    Args:
        states: how they are.
        given: the explicit ones.
        carried: by the name of the call what a carrying layer starts from, and where it leaves what comes out.
    """

    def __init__(self, states: States, given: Sequence[Any], carried: dict[Any, Any]) -> None:
        self._states, self._carried = states, carried
        self._given: Iterator[tuple[str, Any]] = iter(list(zip(states.names, given, strict=True)))
        self._names: set[str] = set()
        self.new: dict[str, Any] = {}

    def replaced(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """The `call` of recurrent layers, in the place of Keras's own."""

        def call(layer: Any, sequences: Any, initial_state: Any = None, **options: Any) -> Any:
            name = numbered(layer.name, self._names)
            self._names.add(name)
            state = self._states.state
            if initial_state is not None or state == "reset" or name in self._states.kept:
                return original(like(layer, stateful=False), sequences, initial_state=initial_state, **options)
            zeros = layer.get_initial_state(batch_size=keras.ops.shape(sequences)[0])
            start = self._carried.get(name, zeros)
            if state == "explicit":
                given = [next(self._given) for _ in keras.tree.flatten(zeros)]
                start = keras.tree.pack_sequence_as(zeros, [array for _, array in given])
            alone = like(layer, stateful=False, return_state=True)
            output, *last = original(alone, sequences, initial_state=start, **options)
            if state == "explicit":
                self.new |= {key: value for (key, _), value in zip(given, keras.tree.flatten(last), strict=True)}
            else:
                self._carried[name] = last
            return [output, *last] if layer.return_state else output

        return call
