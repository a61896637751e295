"""A Keras cell as the passes know it: its kind, its activations, and what keeps it from being marked.

It works for Keras 3 and for tf_keras (Keras 2), whose cells have the same attributes.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from lstm_toolkit.passes.plain.activations import ACTIVATIONS as PLAIN_ACTIVATIONS
from lstm_toolkit.sources.activations import activation_name
from lstm_toolkit.sources.cells import MarkOptions
from lstm_toolkit.tflite.recurrent import ACTIVATIONS, FUSED_OPS, RNN_ACTIVATIONS
from lstm_toolkit.weights.operands import LSTM_COMPOSITE, SIMPLE_RNN_COMPOSITE

OR_PLAIN = 'or lowering="unrolled" or "loop"'
"""The way out for what plain ops hold and fused ones do not."""

_SIGMOID_GATES = "the gates of the fused op are sigmoid; use 'sigmoid'"
_NAMED = ", ".join(sorted(PLAIN_ACTIVATIONS - {"hard_sigmoid_of_keras_2"}))
_FUSED_ACTIVATIONS = {"lstm": tuple(ACTIVATIONS), "simple_rnn": tuple(RNN_ACTIVATIONS), "gru": ()}


@dataclasses.dataclass(frozen=True)
class KnownCell:
    """A cell of a recurrent layer, or one that a model calls itself.

    Attributes:
        cell: the cell.
        library: the module `keras`, or `tf_keras`.
        plain: whether it is marked for plain ops, which can hold more than the fused ones.
    """

    cell: Any
    library: Any
    plain: bool

    @property
    def kind(self) -> str | None:
        """The kind, as `MarkOptions` has it: "lstm", "gru" or "simple_rnn"; None for any other cell."""
        layers = self.library.layers
        kinds = {"lstm": layers.LSTMCell, "gru": layers.GRUCell, "simple_rnn": layers.SimpleRNNCell}
        return next((kind for kind, cls in kinds.items() if isinstance(self.cell, cls)), None)

    @property
    def op(self) -> str:
        """The fused op that the cell becomes over a sequence."""
        return FUSED_OPS[SIMPLE_RNN_COMPOSITE if self.kind == "simple_rnn" else LSTM_COMPOSITE]

    @property
    def states(self) -> dict[str, int]:
        """The size of each state, by its name: h, and of an LSTM c."""
        sizes = [int(size) for size in tf.nest.flatten(self.cell.state_size)]
        return dict(zip("hc" if self.kind == "lstm" else "h", sizes, strict=True))

    @property
    def activation(self) -> str | None:
        """The activation of the cell, or None if plain ops do not have it."""
        return activation_name(self.cell.activation, self.library)

    @property
    def gate_activation(self) -> str | None:
        """The activation of the gates, likewise; "sigmoid" for a cell without gates."""
        if self.kind == "simple_rnn":
            return "sigmoid"
        return activation_name(self.cell.recurrent_activation, self.library)

    def drops(self, training: Any) -> bool:
        """Whether its dropout is on in a call with this `training`, so that its results differ from call to call."""
        has_dropout = getattr(self.cell, "dropout", 0) or getattr(self.cell, "recurrent_dropout", 0)
        return bool(has_dropout) and training is not None and (tf.is_tensor(training) or bool(training))

    def why_unknown(self) -> str | None:
        """Why nothing can hold a cell of its class, and what to use instead; None if something can."""
        if self.kind is not None and (self.kind != "gru" or self.plain):
            return None
        remedy = f"use an LSTM layer, {OR_PLAIN}" if self.kind else "use an LSTM layer"
        return f"it is not an LSTM, and there is no fused op for a {type(self.cell).__name__}; {remedy}"

    def why_not(self) -> str | None:
        """Why the cell cannot be marked exactly, and what to use instead; None if it can."""
        unknown = self.why_unknown()
        if unknown:
            return unknown
        cell, fused = self.cell, _FUSED_ACTIVATIONS[self.kind or ""]
        for what, name, allowed, fact in (
            ("recurrent_activation", self.gate_activation, ("sigmoid",), _SIGMOID_GATES),
            ("activation", self.activation, fused, f"the fused op has only {', '.join(fused)}; use one of them"),
        ):
            if name in allowed or (self.plain and name is not None):
                continue
            function = getattr(cell, what)
            own_name = getattr(function, "__name__", type(function).__name__)
            found = f"its {what.replace('_', ' ')} is {own_name!r},"
            if self.plain:
                return f"{found} which is not among {_NAMED}; use one of them"
            return f"{found} and {fact}" + (f", {OR_PLAIN}" if name is not None else "")
        if cell.variable_dtype != "float32" or cell.compute_dtype != "float32":
            dtype = cell.compute_dtype if cell.variable_dtype == "float32" else cell.variable_dtype
            return f"its weights are {dtype}, and the fused op's float32; use float32"
        return None

    def options(self, name: str, *, masked: bool = False, carry: bool = False) -> MarkOptions:
        """What the passes are told of the cell, which `why_not` has passed, under a name of its own."""
        kind, activation, gates = self.kind or "", self.activation or "", self.gate_activation or ""
        return MarkOptions(
            layer=name,
            kind=kind,
            activation=activation,
            recurrent_activation=gates,
            fused=gates == "sigmoid" and activation in _FUSED_ACTIVATIONS[kind],
            masked=masked,
            carry=carry,
        )
