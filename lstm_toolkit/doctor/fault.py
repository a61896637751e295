"""What a fault of a `.tflite` file is, and how a search for one says where it stands."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

from lstm_toolkit.escapes import printable
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.recurrent import RecurrentOp, recurrent_ops
from lstm_toolkit.tflite.types import Model, Operator, Subgraph

Found = Iterator[tuple[str, str] | tuple[str, str, str]]
"""Places and messages; with a remedy of its own, what cannot be mended in the file."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        code: stable name.
        severity: "error" if results are wrong or the file does not run, "warning" if results may be wrong or the
            file is much worse than it could be, "note" otherwise.
        find: yields place and message of each occurrence in a `ModelT`.
        remedy: what to do about it.
        mend: takes it out of a `ModelT` in place and says in a sentence what it changed; None where that takes the
            source model.
        unless_asked_for: not a fault in a file that lstm_toolkit wrote.
        only_if_named: may be meant, so that `repair` mends it only where its code is given.
        target: the runtime on which it is one; None for all.
        not_on: the runtime on which it is none, since what is mended would not run there.
    """

    code: str
    severity: str
    find: Callable[[Model], Found]
    remedy: str
    mend: Callable[[Model], str] | None = None
    unless_asked_for: bool = False
    only_if_named: bool = False
    target: str | None = None
    not_on: str | None = None

    def concerns(self, target: str | None) -> bool:
        """Whether it is one in a file for a runtime, or in any file if that is None."""
        return self.target in (None, target) and (target is None or self.not_on != target)


def place(model: Model, subgraph: Subgraph, operator: Operator) -> str:
    """Where an op stands, as messages have it."""
    number, place = model.subgraphs.index(subgraph), subgraph.operators.index(operator)
    where = f"op {place} {printable(graph.operator_name(model, operator))}"
    return where if number == 0 else f"subgraph {number}, {where}"


def named_place(model: Model, subgraph: Subgraph, operator: Operator) -> str:
    """The place of an op with the name of what it computes."""
    return f"{place(model, subgraph, operator)} ({printable(graph.text(subgraph.tensors[operator.outputs[0]].name))})"


def each(
    message_for: Callable[[RecurrentOp], str | None], ops: Callable[[Model], Iterable[RecurrentOp]] = recurrent_ops
) -> Callable[[Model], Found]:
    """Makes a search: it yields place and message of each recurrent op for which the message is not None."""

    def find(model: Model) -> Found:
        for op in ops(model):
            message = message_for(op)
            if message:
                yield named_place(model, op.subgraph, op.operator), message

    return find
