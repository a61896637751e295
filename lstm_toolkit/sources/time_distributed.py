"""`TimeDistributed` in one call of its layer, with the steps folded into the batch.

    before  [transpose] [one step of the input: the layer] ... [stack] [transpose]
    after   [reshape to batch * steps rows] [the layer] [reshape to batch, steps]

Keras 3 calls the layer once a step, and so does tf_keras with a layer of the user's own. One call is the same, if the
layer computes each row of its batch from that row alone, and keeps no state from call to call. A trial on random rows
tells whether it does; the comparison of file and source, where the source is called step by step, confirms it.
"""

import dataclasses
import inspect
from typing import Any

import numpy as np
import tensorflow as tf

from lstm_toolkit.runtime.random_inputs import random_array
from lstm_toolkit.sources.reference import OwnVariables

_OPEN_SIZE = 32
"""What an open size is in the trial: enough for a few convolutions one after the other."""


@dataclasses.dataclass(frozen=True)
class FoldedCall:
    """A call of a `TimeDistributed` of Keras 3 or tf_keras, to be made with its steps in the batch.

    Attributes:
        wrapper: the layer.
        inputs: [batch, steps, ...], or for tf_keras a structure of these.
        training: as the layer takes it.
        mask: [batch, steps, ...] or None, as the layer takes it.
    """

    wrapper: Any
    inputs: Any
    training: Any
    mask: Any

    @property
    def _is_of_keras_2(self) -> bool:
        return hasattr(self.wrapper, "_always_use_reshape")

    @property
    def can_be_left(self) -> bool:
        """Whether TensorFlow's converter takes the library's own call, which that of Keras 3 over open steps is not."""
        return self._is_of_keras_2 or tf.nest.flatten(self.inputs)[0].shape[1] is not None

    def is_the_same(self) -> bool:
        """Whether the layer gives random rows the same in one call and in two, and leaves its variables as they are."""
        if self._is_of_keras_2 and self.mask is not None and not self.wrapper._always_use_reshape:
            return False  # there a masked step repeats the output of the step before
        random = np.random.default_rng(0)
        with tf.init_scope():
            own_variables = OwnVariables(self.wrapper.layer.variables, ())
            calls = [tf.nest.map_structure(lambda each: _random_rows(random, each), self._arguments) for _ in "12"]
            joined = tf.nest.map_structure(lambda *each: tf.concat(each, axis=0), *calls)
            try:
                with own_variables.continued():
                    at_once, *apart = [tf.nest.flatten(self._apply(*call)) for call in (joined, *calls)]
                return all(map(_agrees, at_once, *apart)) and not own_variables.have_changed
            except Exception:  # whatever a layer raises that cannot be called on such rows
                return False

    def outputs(self) -> Any:
        """What the layer gives, [batch, steps, ...]."""
        batch, steps = _sizes(tf.nest.flatten(self.inputs)[0])[:2]
        lead = [batch, -1 if tf.is_tensor(steps) else steps]
        rows = self._apply(*tf.nest.map_structure(_folded, self._arguments))
        return tf.nest.map_structure(lambda each: tf.reshape(each, [*lead, *_sizes(each)[1:]]), rows)

    @property
    def _arguments(self) -> list[Any]:
        return [self.inputs, *([self.mask] if self.mask is not None and self._takes("mask") else [])]

    def _takes(self, argument: str) -> bool:
        return argument in inspect.signature(self.wrapper.layer.call).parameters

    def _apply(self, rows: Any, *masks: Any) -> Any:
        layer = self.wrapper.layer
        options = {"training": self.training} if self._takes("training") else {}
        options |= dict(zip(["mask"], masks, strict=False))
        return layer(rows, **options) if self._is_of_keras_2 else layer.call(rows, **options)


def _sizes(tensor: Any) -> list[Any]:
    """The size of each axis: a number, or a tensor where it is open."""
    return [tf.shape(tensor)[axis] if size is None else size for axis, size in enumerate(tensor.shape)]


def _folded(tensor: Any) -> Any:
    """[batch, steps, ...] as [batch * steps, ...]."""
    batch, steps = tensor.shape[:2]
    return tf.reshape(tensor, [-1 if None in (batch, steps) else batch * steps, *_sizes(tensor)[2:]])


def _random_rows(random: np.random.Generator, tensor: Any) -> Any:
    """A random [batch, ...] for [batch, steps, ...]."""
    batch, _, *rest = tensor.shape
    shape = [batch or 2, *(_OPEN_SIZE if size is None else size for size in rest)]
    return tf.constant(random_array(random, shape, np.dtype(tensor.dtype.as_numpy_dtype)))


def _agrees(at_once: Any, first: Any, second: Any) -> bool:
    expected = np.concatenate([first, second])
    tolerance = 1e-4 * max(1.0, np.abs(expected).max(initial=0.0))
    return at_once.shape == expected.shape and np.allclose(at_once, expected, rtol=0.0, atol=tolerance)
