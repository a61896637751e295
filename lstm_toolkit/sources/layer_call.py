"""One call of a Keras recurrent layer: its cells and states, what keeps it from being marked, and how it is marked.

It works for Keras 3 and for tf_keras (Keras 2), whose layers have the same attributes.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from lstm_toolkit.passes.plain.activations import SATURATING
from lstm_toolkit.sources import marks
from lstm_toolkit.sources.cells import marked_cell
from lstm_toolkit.sources.keras_calls import like
from lstm_toolkit.sources.known_cells import KnownCell
from lstm_toolkit.sources.masks import ValidSteps, is_padded_at_end
from lstm_toolkit.sources.own_arithmetic import overridden


@dataclasses.dataclass(frozen=True)
class LayerCall:
    """One call of a recurrent layer of either library.

    Attributes:
        layer: the layer.
        library: the module `keras`, or `tf_keras`.
        name: of the layer in the file.
        state: "reset", "carry", "explicit", or "given" if the call has an initial state.
        plain: whether the layer is marked for plain ops, which can hold more than the fused ones.
        paired: whether the layer is to become half of one bidirectional op.
        for_micro: whether only ops of TensorFlow Lite Micro may stand around it.
    """

    layer: Any
    library: Any
    name: str
    state: str
    plain: bool
    paired: bool
    for_micro: bool

    @property
    def op(self) -> str:
        """The fused op that the layer becomes; the ops of stacked cells that become different ones."""
        return ", ".join(dict.fromkeys(each.op for each in self._known))

    @property
    def _is_stacked(self) -> bool:
        return isinstance(self.layer.cell, self.library.layers.StackedRNNCells)

    @property
    def _cells(self) -> list[Any]:
        return list(self.layer.cell.cells) if self._is_stacked else [self.layer.cell]

    @property
    def _known(self) -> list[KnownCell]:
        return [KnownCell(cell, self.library, self.plain) for cell in self._cells]

    @property
    def _part_names(self) -> list[str]:
        """Names of the cells in the file: the layer's own for one, numbered for stacked ones."""
        return [f"{self.name}_cell{number}" for number in range(len(self._cells))] if self._is_stacked else [self.name]

    @property
    def batch_axis(self) -> int:
        """The axis of the batch in its sequences."""
        return 1 if self._time_major else 0

    @property
    def _time_major(self) -> bool:
        return getattr(self.layer, "time_major", False)

    def zeros(self, sequences: Any) -> dict[str, Any]:
        """The states before the first step, [batch, units] each, by name: `NAME_h`, and of an LSTM `NAME_c`."""
        batch = sequences.shape[self.batch_axis]
        rows = tf.shape(sequences)[self.batch_axis] if batch is None else batch
        return {
            f"{part}_{name}": tf.zeros([rows, size])
            for part, each in zip(self._part_names, self._known, strict=True)
            for name, size in each.states.items()
        }

    def nested(self, states: list[Any], like: Any = None) -> Any:
        """States as the layer takes and returns them: [h, c], or a list of these for stacked cells.

        Args:
            states: in a flat list.
            like: the states that the call was given, whose form Keras keeps.
        """
        if not self._is_stacked:
            return states
        if like is not None:
            return tf.nest.pack_sequence_as(like, states)
        sizes = [each.state_size for each in self._cells]
        if self.library.__name__ != "tf_keras":
            sizes = [tf.nest.flatten(each) for each in sizes]
        return tf.nest.pack_sequence_as(sizes, states)

    def computed(
        self, original: Callable[..., Any], sequences: Any, start: list[Any], mask: Any
    ) -> tuple[Any, list[Any]]:
        """Lets Keras compute the layer from given states; the own states of a stateful layer stay as they are."""
        initial_state = self.nested(start) if start else None
        layer = like(self.layer, stateful=False, return_state=True)
        output, *states = original(layer, sequences, initial_state=initial_state, mask=mask)
        return output, tf.nest.flatten(states)

    def why_never(self, training: Any, *, again: bool) -> str | None:
        """Why no file can do what the call does, not even one that keeps the stock lowering; None if one can.

        Args:
            training: the argument of the call.
            again: whether the layer is called more than once.
        """
        if any(each.drops(training) for each in self._known):
            return (
                "it is called with training=True, so that its dropout differs from call to call; call it without, or "
                "set its dropout and recurrent_dropout to 0"
            )
        if not self.layer.stateful and self.state != "carry":
            return None
        if self.state == "given" and hasattr(self.layer, "_process_inputs"):
            return (
                "it is stateful and is given an initial_state, which tf_keras takes at the first call only; drop one "
                "of them"
            )
        if again and self.state in ("carry", "given"):
            return (
                "it carries its state and is called more than once, so that one call goes on from where another ended; "
                "make it stateless, pass the states that one call returns (return_state) to the next (initial_state), "
                "and make the first ones inputs of the model and the last ones outputs"
            )
        return None

    def why_not(self, mask: Any) -> str | None:
        """Why the layer cannot be marked exactly, and what to use instead; None if it can."""
        unknown = next(filter(None, (each.why_unknown() for each in self._known)), None)
        reason = unknown or self._why_not_own()
        reason = reason or next(filter(None, (each.why_not() for each in self._known)), None)
        if reason is None and self.plain and self.state == "carry":
            return 'it carries its state from call to call, and plain ops cannot; pass state="explicit"'
        return reason if reason or mask is None else self._why_not_masked()

    def _why_not_own(self) -> str | None:
        layers = self.library.layers
        known = [layers.LSTM, layers.GRU, layers.SimpleRNN, layers.RNN]
        known += [layers.StackedRNNCells, layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell]
        # A layer's own `call` is run as it is, and comes to Keras's where it calls that.
        run = frozenset({"call", "__call__"})
        for each in dict.fromkeys((self.layer, self.layer.cell, *self._cells)):
            cls = next((cls for cls in known if isinstance(each, cls)), None)
            harmless = run if each is self.layer else frozenset()
            method = cls and overridden(each, cls, base=layers.Layer, harmless=harmless)
            if cls and method:
                gives_state = method.endswith(".get_initial_state")
                remedy = (
                    "give the call its states as initial_state" if gives_state else f"use Keras's own {cls.__name__}"
                )
                return f"it overrides the computation of Keras's own layer ({method}); {remedy}"
        return None

    def _why_not_masked(self) -> str | None:
        if self.state == "carry":
            return 'it carries its state past the padding of a mask; pass state="reset" or state="explicit"'
        if self._shows_c and not _shut(self._lstms):
            gates = {each.gate_activation for each in self._lstms} - SATURATING
            return (
                f"it shows c after a mask, where c stands still only behind gates that shut, and {gates.pop()!r} never "
                "shuts; use 'sigmoid', or leave out the mask or the state"
            )
        return None

    @property
    def _lstms(self) -> list[KnownCell]:
        return [each for each in self._known if each.kind == "lstm"]

    @property
    def _shows_c(self) -> bool:
        return bool(self._lstms) and (self.layer.return_state or self.state == "explicit")

    @property
    def _shuts(self) -> bool:
        """Whether a channel can make the gates of the layer hold its state."""
        return self._lstms == self._known and _shut(self._lstms)

    def marked(self, sequences: Any, start: list[Any], mask: Any) -> tuple[Any, list[Any]]:
        """Marks the layer; returns its output, and the last states of its cells in a flat list."""
        sequence = marks.swapped(sequences) if self._time_major else sequences
        steps, has_channel = None, False
        if mask is not None:
            steps, has_channel = self._valid_steps(mask)
            sequence = steps.gathered(sequence, with_channel=has_channel and self._known[0].kind == "lstm")
        elif self.layer.go_backwards:
            sequence = tf.reverse(sequence, axis=[1])
        outputs, states = self._marked_cells(sequence, start, steps, has_channel=has_channel)
        return self._shown(outputs, steps), states

    def _valid_steps(self, mask: Any) -> tuple[ValidSteps, bool]:
        """The valid steps, and whether the op has to stand still at the others, which takes a channel."""
        mask, backwards = _mask_tensor(mask), self.layer.go_backwards
        mask = marks.swapped(mask) if self._time_major else mask
        # From zero, a layer whose gates shut can read the padding first, as one op for both directions does.
        stands_still = self.state == "reset" and self._shuts
        is_half = stands_still and self.paired
        padding_first = backwards and (is_half or (stands_still and is_padded_at_end(mask)))
        steps = ValidSteps(mask, backwards=backwards, padding_first=padding_first, for_micro=self.for_micro)
        return steps, self._shows_c or is_half or padding_first

    def _marked_cells(
        self, sequence: Any, start: list[Any], steps: ValidSteps | None, *, has_channel: bool
    ) -> tuple[Any, list[Any]]:
        """Marks the cells, each on the outputs of the one before; returns the last outputs, and all last states."""
        # What a carried state starts from is in the file's own memory.
        given = [] if self.state == "carry" else start
        ends = np.cumsum([0, *(len(each.states) for each in self._known)])
        starts = [given[start:stop] for start, stop in itertools.pairwise(ends)]
        outputs: Any = None
        states: list[Any] = []
        for each, part, first in zip(self._known, self._part_names, starts, strict=True):
            # Of other cells the outputs tell the states.
            masked = has_channel and each.kind == "lstm"
            if outputs is not None:
                sequence = steps.with_channel(outputs) if steps and masked else outputs
            options = each.options(part, masked=masked, carry=self.state == "carry")
            outputs, others = marked_cell(each.cell, sequence, first, options)
            last = steps.last(outputs, first[0] if first else tf.zeros_like(outputs[:, 0])) if steps else outputs[:, -1]
            states += [last, *others]
        return outputs, states

    def _shown(self, outputs: Any, steps: ValidSteps | None) -> Any:
        """What Keras shows of the outputs: over the padding the last valid output again, or zeros."""
        layer = self.layer
        if not layer.return_sequences:
            if steps is None:
                return outputs[:, -1]
            zeros = tf.zeros_like(outputs[:, 0])
            last = steps.last(outputs, zeros)
            return tf.where(steps.read[:, -1:], last, zeros) if layer.zero_output_for_mask else last
        if steps is not None:
            # Keras's unrolled loop blanks what it has read backwards by the mask in the order of time.
            is_late = layer.zero_output_for_mask and layer.unroll and layer.go_backwards
            only_valid = layer.zero_output_for_mask and not is_late
            outputs = steps.held(outputs, tf.zeros_like(outputs[:, 0]), only_valid=only_valid)
            outputs = tf.where(tf.expand_dims(steps.mask, 2), outputs, 0.0) if is_late else outputs
        return marks.swapped(outputs) if self._time_major else outputs


def _shut(cells: list[KnownCell]) -> bool:
    return {each.gate_activation for each in cells} <= SATURATING


def _mask_tensor(mask: Any) -> Any:
    return tf.cast(tf.nest.flatten(mask)[0], tf.bool)
