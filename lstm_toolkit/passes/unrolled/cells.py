"""The recurrent cells that are found in unrolled files, as expressions.

LSTM   h = sigmoid(output) * activation(c)      c = sigmoid(forget) * c + sigmoid(input) * activation(cell)
GRU    h = z * h + (1 - z) * n, or n + z * (h - n)      z = sigmoid(update)
       n = activation(candidate of x + sigmoid(reset) * recurrent of h), or
       n = activation(candidate of x and sigmoid(reset) * h)
RNN    h = activation(cell)

What is not written otherwise is a sum of products of x and h with constant weights, and of constant biases.
"""

import dataclasses
import functools

from lstm_toolkit.passes.unrolled.patterns import Activation, Constant, Named, Op, Pattern, State, Sum, sums, without

H = State("h")


@dataclasses.dataclass(frozen=True)
class Cell:
    """A kind of recurrent cell.

    Attributes:
        kind: what it is called, with its article.
        outputs: the spellings of its output.
        state: the state that the expression of the output starts from; None where only its sums do.
    """

    kind: str
    outputs: tuple[Pattern, ...]
    state: str | None

    @functools.cached_property
    def forms(self) -> tuple[Pattern, ...]:
        """The spellings of a step: any one, and one that starts from zeros, with a recurrent bias and without."""
        zeros: tuple[tuple[str, ...], ...] = ((), ("h", "c"), ("h", "c", "recurrent"))
        found = (without(output, each) for each in zeros for output in self.outputs)
        return tuple(dict.fromkeys(each for each in found if each is not None))

    @functools.cached_property
    def sums(self) -> dict[str, Sum]:
        """Its sums by gate, those before others that take them."""
        return {each.gate: each for each in sums(self.outputs[0])}

    @property
    def starts_apart(self) -> bool:
        """Whether a step that starts from zeros shows what cell it belongs to."""
        return self.state is not None


def _gate(name: str) -> Op:
    return Op("LOGISTIC", (Sum(name, of=H),))


_C = Named(
    "c",
    Op(
        "ADD",
        (
            Op("MUL", (_gate("forget"), State("c"))),
            Op("MUL", (_gate("input"), Activation(Sum("cell", of=H)))),
        ),
    ),
)
LSTM = Cell("an LSTM", (Op("MUL", (_gate("output"), Activation(_C))),), "c")


def _gru(candidate: Sum) -> Cell:
    update, new = Named("update", _gate("update")), Named("candidate", Activation(candidate))
    weighted = Op("ADD", (Op("MUL", (update, H)), Op("MUL", (Op("SUB", (Constant(1.0), update)), new))))
    moved = Op("ADD", (Op("MUL", (update, Op("SUB", (H, new)))), new))
    return Cell("a GRU", (weighted, moved), "h")


GRU_RESET_AFTER = _gru(Sum("candidate", plus=Op("MUL", (_gate("reset"), Sum("recurrent", of=H, has_x=False)))))
GRU_RESET_BEFORE = _gru(Sum("candidate", of=Named("reset h", Op("MUL", (_gate("reset"), H)))))
RNN = Cell("an RNN", (Activation(Sum("cell", of=H)),), None)

CELLS = (LSTM, GRU_RESET_AFTER, GRU_RESET_BEFORE, RNN)
