"""Masks: the valid steps of each row come to the front, so that a recurrent op reads them without a gap.

A row a, -, b, c, - (- is padding) is read as a, b, c, -, -, or from its end as c, b, a, -, -. What the op makes of the
padding behind the last valid step is never shown: the output at a step is that at the last valid step read so far.
"""

from typing import Any

import numpy as np
import tensorflow as tf


class ValidSteps:
    """The valid steps of a sequence, as a layer reads them.

    Args:
        mask: [batch, time], bool, in the order of time.
        backwards: whether the layer reads from the last step to the first one.
        padding_first: of a backward layer, whether its op reads what a forward one reads, from the end, and so the
            padding first; it has to stand still there.
        for_micro: whether only ops of TensorFlow Lite Micro may be used, which sorts nothing, and which adds up no
            integers; floats would be rounded where the file becomes int8.

    Attributes:
        mask: as it was given.
        read: the mask in the order in which the layer reads.
    """

    def __init__(
        self, mask: Any, *, backwards: bool = False, padding_first: bool = False, for_micro: bool = False
    ) -> None:
        self.mask, self.read = mask, tf.reverse(mask, axis=[1]) if backwards else mask
        self._time = tf.shape(mask)[1] if mask.shape[1] is None else mask.shape[1]
        self._adds_up = not for_micro or mask.shape[1] is None
        sums = tf.cast(mask, tf.int32)
        self._count = tf.reduce_sum(sums, axis=1) if self._adds_up else self._so_far(mask)[:, -1]
        self._reversed = padding_first
        self._in_place = is_padded_at_end(mask) and (padding_first or not backwards)
        if not self._in_place:
            from_end = backwards and not padding_first
            self._order = self._counted_order(from_end=from_end) if for_micro else self._sorted_order(from_end=from_end)

    def _sorted_order(self, *, from_end: bool) -> Any:
        places = tf.range(self._time)
        key = tf.cast(self.mask, tf.int32) * (2 * self._time) + (places if from_end else -places)
        return tf.math.top_k(key, k=self._time).indices

    def _counted_order(self, *, from_end: bool) -> Any:
        """For each k the place of the valid step up to which there are k + 1 valid ones; 0 where there is none."""
        mask = self.read if from_end else self.mask
        number = tf.cast(mask, tf.int32) * self._so_far(mask)
        wanted = tf.reshape(tf.range(1, self._time + 1), [1, -1, 1])
        places = tf.argmax(tf.cast(tf.expand_dims(number, 1) == wanted, tf.float32), axis=2, output_type=tf.int32)
        return self._time - 1 - places if from_end else places

    def _so_far(self, mask: Any) -> Any:
        """The number of valid steps up to each step."""
        sums = tf.cast(mask, tf.int32)
        if self._adds_up:
            return tf.cumsum(sums, axis=1)
        shift = 1
        while shift < mask.shape[1]:
            sums += tf.pad(sums[:, :-shift], [[0, 0], [shift, 0]])
            shift *= 2
        return sums

    def gathered(self, sequence: Any, *, with_channel: bool = False) -> Any:
        """The sequence, [batch, time, size], as the op reads it, perhaps with the channel of `with_channel`."""
        if not self._in_place:
            sequence = tf.gather(sequence, self._order, axis=1, batch_dims=1)
        if with_channel:
            sequence = _with_channel(sequence, self._at_front())
        # Reversed last, so that both halves of a bidirectional layer read one tensor.
        return tf.reverse(sequence, axis=[1]) if self._reversed else sequence

    def with_channel(self, outputs: Any) -> Any:
        """The outputs of an op with zeros at the padding, and one more channel, which is 1 there and 0 elsewhere."""
        valid = self._at_front()
        return _with_channel(outputs, tf.reverse(valid, axis=[1]) if self._reversed else valid)

    def _at_front(self) -> Any:
        if self._in_place:
            return self.mask
        return tf.range(self._time)[tf.newaxis] < tf.expand_dims(self._count, 1)

    def last(self, outputs: Any, otherwise: Any) -> Any:
        """The output at the last valid step of each row; `otherwise` [batch, units] for a row that has none."""
        if self._reversed:
            return outputs[:, -1]
        picked = _gather(outputs, self._count - 1)
        return tf.where(tf.expand_dims(self._count > 0, 1), picked, otherwise)

    def held(self, outputs: Any, before: Any, *, only_valid: bool = False) -> Any:
        """The outputs in the order in which the layer reads: at each step that at the last valid step so far.

        Args:
            outputs: of the op, [batch, time, units].
            before: [batch, units], what is shown before the first valid step.
            only_valid: whether `before` is shown at every padded step.
        """
        if self._in_place and self._reversed:
            return outputs
        number = self._so_far(self.read)
        place = number - 1
        if self._reversed:
            place += tf.expand_dims(self._time - self._count, 1)
        picked = _gather(outputs, place)
        shown = self.read if only_valid else number > 0
        return tf.where(tf.expand_dims(shown, 2), picked, tf.expand_dims(before, 1))


def is_padded_at_end(mask: Any) -> bool:
    """Whether tracing shows that all padding of a mask [batch, time] is at the end of its row.

    It shows in a constant, and in a comparison of counted steps with lengths, as `tf.sequence_mask` makes it.
    """
    known = tf.get_static_value(mask)
    if known is not None:
        return not (np.diff(known.astype(int), axis=1) > 0).any()
    operation = mask.op
    while operation.type in ("Cast", "Identity"):
        operation = operation.inputs[0].op
    if operation.type not in ("Less", "LessEqual", "Greater", "GreaterEqual"):
        return False
    steps, lengths = operation.inputs if operation.type.startswith("Less") else reversed(operation.inputs)
    return lengths.shape.rank is not None and lengths.shape[-1:] == [1] and _counts_up(steps)


def _counts_up(steps: Any) -> bool:
    known = tf.get_static_value(steps)
    if known is not None:
        return bool((np.diff(known, axis=-1) >= 0).all())
    while steps.op.type in ("Cast", "Identity", "ExpandDims"):
        steps = steps.op.inputs[0]
    by = tf.get_static_value(steps.op.inputs[2]) if steps.op.type == "Range" else None
    return by is not None and by > 0


def _with_channel(sequence: Any, valid: Any) -> Any:
    valid = tf.expand_dims(valid, 2)
    return tf.concat([tf.where(valid, sequence, 0.0), 1.0 - tf.cast(valid, tf.float32)], axis=2)


def _gather(outputs: Any, places: Any) -> Any:
    """The outputs [batch, time, units] at some places of each row; a place below 0 is taken for 0."""
    return tf.gather(outputs, tf.maximum(places, 0), axis=1, batch_dims=1)
