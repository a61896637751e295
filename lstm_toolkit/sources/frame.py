"""The frame that all sources share: names, layouts and states of the traced function, and of the source itself."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.runtime.random_inputs import RandomInputs
from lstm_toolkit.sources.array_source import ArraySource, Layout
from lstm_toolkit.sources.marks import swapped
from lstm_toolkit.sources.traced import Arrays, InputSpec, LayerReport, TracedModel, TraceOptions

Results = tuple[dict[str, Any], dict[str, Any]]
"""The outputs of a model by name, [batch, ...] each, and the new states that it carries or has explicit, by name."""

Run = Callable[[Sequence[Any], Mapping[str, Any]], Results]
"""Runs a model on its inputs, [batch, ...] each, from states by name; a state that is absent starts as zeros."""


def fixed_specs(names: Sequence[str], specs: Sequence[Any], options: TraceOptions) -> tuple[tf.TensorSpec, ...]:
    """The specs of the inputs with their names, the batch fixed, and the time too if `options` has time steps.

    Raises:
        ConversionError: if an input has another batch or time than `options` asks for.
    """
    return tuple(
        tf.TensorSpec(_fixed_shape(name, spec.shape, options), spec.dtype, name=name)
        for name, spec in zip(names, specs, strict=True)
    )


def _fixed_shape(name: str, given: Any, options: TraceOptions) -> list[int | None]:
    shape = tf.TensorShape(given)
    if not shape.rank:
        raise ConversionError(
            f"input {name!r} has no batch: its shape is {shape}; give it one whose first axis is the batch"
        )
    (batch, *rest), batch_size, time_steps = shape, options.batch_size, options.time_steps
    if batch_size is not None and batch not in (None, batch_size):
        raise ConversionError(
            f"input {name!r} has the fixed batch {batch}, and not batch_size={batch_size}; leave batch_size out"
        )
    if rest and time_steps is not None:
        if rest[0] not in (None, time_steps) and len(rest) > 1:
            raise ConversionError(
                f"input {name!r} has {rest[0]} time steps, and not time_steps={time_steps}; leave time_steps out"
            )
        rest[0] = rest[0] or time_steps
    return [batch_size or batch or 1, *rest]


@dataclasses.dataclass(frozen=True)
class Frame:
    """The inputs and states of a model, and how they are laid out in its file.

    Attributes:
        names: of the inputs.
        specs: of the inputs, [batch, ...] each, with the batch fixed.
        sequences: for each input, whether its second axis is time, which `time_major` puts first.
        options: how the model is traced.
        states: the shape [batch, size] of each explicit state, by name; empty if the states are not explicit.
    """

    names: tuple[str, ...]
    specs: tuple[tf.TensorSpec, ...]
    sequences: tuple[bool, ...]
    options: TraceOptions
    states: Mapping[str, Sequence[int | None]] = dataclasses.field(default_factory=dict)

    def function(self, run: Run) -> Any:
        """Traces `run` into a concrete function with the arguments input_0000, ..., laid out as in the file."""
        specs = [*self.specs, *(tf.TensorSpec(shape) for shape in self.states.values())]
        shapes = [
            [*spec.shape[1::-1], *spec.shape[2:]] if turned else spec.shape
            for spec, turned in zip(specs, self.turned, strict=True)
        ]
        named = [
            tf.TensorSpec(shape, spec.dtype, name=f"input_{number:04d}")
            for number, (spec, shape) in enumerate(zip(specs, shapes, strict=True))
        ]

        def function(*tensors: Any) -> dict[str, Any]:
            return self.run(run, tensors, {})

        return tf.function(function, autograph=False).get_concrete_function(*named)

    def traced_model(
        self,
        name: str,
        function: Any,
        run: Run,
        *,
        variables: Iterable[Any],
        layers: Sequence[LayerReport] | None,
        random_inputs: RandomInputs,
    ) -> TracedModel:
        """Puts the parts of a `TracedModel` together.

        Args:
            name: see `TracedModel`.
            function: see `TracedModel`; the method `function` makes it.
            run: runs the model as its author made it.
            variables: the variables that the function reads.
            layers: see `TracedModel`.
            random_inputs: see `TracedModel`.
        """
        trackable = tf.Module()
        trackable.variables_of_model = list(variables)
        input_names = (*self.names, *self.states)
        given = zip(function.inputs, input_names, strict=False)  # behind them are the variables
        return TracedModel(
            name=name,
            batch=self.specs[0].shape[0] if self.specs else None,
            function=function,
            trackable=trackable,
            input_names=input_names,
            inputs=tuple(
                InputSpec(tuple(each.shape), np.dtype(each.dtype.as_numpy_dtype), name) for each, name in given
            ),
            layers=None if layers is None else tuple(layers),
            source=FrameSource(self, run, apart=layers is not None, variables=function.variables),
            random_inputs=random_inputs,
        )

    @property
    def turned(self) -> list[bool]:
        """For each input of the file, whether time is its first axis there."""
        return [self.options.time_major and each for each in self.sequences] + [False] * len(self.states)

    def run(self, run: Run, tensors: Sequence[Any], carried: dict[str, Any]) -> dict[str, Any]:
        """Runs a model on tensors laid out as in the file; what it carries is read from `carried` and written there."""
        given = [swapped(t) if turned else t for t, turned in zip(tensors, self.turned, strict=True)]
        count = len(self.specs)
        outputs, states = run(given[:count], dict(zip(self.states, given[count:], strict=True)) or carried)
        carried.update(states)
        if self.options.time_major:
            outputs = {name: swapped(t) if len(t.shape) > 2 else t for name, t in outputs.items()}
        return outputs | (states if self.options.state == "explicit" else {})


class FrameSource(ArraySource):
    """A `Source` in the layout of a frame.

    Args:
        frame: says how arrays are laid out.
        run: runs the model on its inputs.
        apart: whether rows of a batch are computed apart from each other, by all that is known.
        variables: those of which the file has the values.
    """

    def __init__(self, frame: Frame, run: Run, *, apart: bool, variables: Sequence[Any]) -> None:
        batch = frame.specs[0].shape[0] or 0 if frame.specs else 0
        layout = Layout(tuple(frame.turned), batch, time_major=frame.options.time_major)
        super().__init__(layout, lambda: map(np.asarray, variables), apart=apart)
        self._frame, self._run = frame, run

    def __call__(self, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
        """See `Source`."""
        tensors = [tf.convert_to_tensor(array) for array in arrays]
        outputs = self._frame.run(self._run, tensors, self._carried)
        return {name: np.asarray(value) for name, value in outputs.items()}
