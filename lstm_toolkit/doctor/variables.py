"""Finds the variables that a file reads before anything sets them; the runtime stops there.

    [VAR_HANDLE "kernel"] [READ_VARIABLE] ...                       nothing sets the variable
    [CALL_ONCE: VAR_HANDLE "kernel", ASSIGN_VARIABLE] [VAR_HANDLE "kernel"] [READ_VARIABLE] ...     all is well

The converter leaves such files when it is not given what holds the variables. Tables are the same: HASHTABLE,
HASHTABLE_IMPORT and HASHTABLE_FIND.
"""

from lstm_toolkit.doctor.fault import Found, place
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.types import Model, Operator, Tensor

Key = tuple[str, ...]
"""What tells a variable or a table from others."""

_HANDLES = {"VAR_HANDLE", "HASHTABLE"}
_SETTERS = {"ASSIGN_VARIABLE", "HASHTABLE_IMPORT"}
_READERS = {"READ_VARIABLE", "HASHTABLE_FIND", "HASHTABLE_SIZE"}

_MOST_RUNS = 10_000
"""Subgraphs that are followed; a damaged file could call two at every level."""


def unset_variables(model: Model) -> Found:
    """Yields the first op that reads a variable, or a table, which nothing sets before, and says how many there are."""
    entries = {0, *(int(each.subgraphIndex) for each in model.signatureDefs or [])}
    walks = [_Walk(model, entry) for entry in sorted(entries)]
    found: dict[Key, str] = {}
    for walk in walks:
        set_elsewhere = {key for other in walks if other is not walk for key in other.set}
        found |= {key: where for key, where in walk.unset.items() if key not in set_elsewhere}
    for kind in sorted({key[0] for key in found}):
        (name, where), *others = [(key[-1], where) for key, where in found.items() if key[0] == kind]
        more = f" (and {len(others)} more)" if others else ""
        yield where, f"it reads the {kind} {name!r}{more}, which nothing sets before: the file does not run"


class _Walk:
    """What a call of one subgraph sets, and what it reads unset, with all that it calls.

    Attributes:
        set: the variables that are set.
        unset: for those that are read before that, the op that does so first.
    """

    def __init__(self, model: Model, entry: int) -> None:
        self.set: set[Key] = set()
        self.unset: dict[Key, str] = {}
        self._model, self._done = model, set[tuple[int, tuple[Key | None, ...]]]()
        self._run(entry, (None,) * len(model.subgraphs[entry].inputs))

    def _run(self, number: int, arguments: tuple[Key | None, ...]) -> None:
        if (number, arguments) in self._done or len(self._done) >= _MOST_RUNS:
            return
        self._done.add((number, arguments))
        subgraph = self._model.subgraphs[number]
        known = dict(zip(subgraph.inputs, arguments, strict=False))
        for op in subgraph.operators:
            name = graph.operator_name(self._model, op)
            given = [known.get(index) for index in op.inputs]
            if name in _HANDLES and len(op.outputs):
                known[op.outputs[0]] = _key(op, subgraph.tensors[op.outputs[0]])
            elif given and given[0] is not None and name in _SETTERS:
                self.set.add(given[0])
            elif given and given[0] is not None and name in _READERS and given[0] not in self.set:
                self.unset.setdefault(given[0], place(self._model, subgraph, op))
            for callee in graph.called_subgraphs(op):
                # An IF takes its condition before what it hands on.
                count = len(self._model.subgraphs[callee].inputs)
                self._run(callee, tuple(given[len(given) - count :]) if count else ())
            if name == "WHILE":
                known |= dict(zip(op.outputs, given, strict=False))


def _key(op: Operator, tensor: Tensor) -> Key:
    options = op.builtinOptions
    if hasattr(options, "tableId"):
        return "table", str(options.tableId)
    names = [graph.text(getattr(options, field, None)) for field in ("container", "sharedName")]
    return ("variable", *names) if any(names) else ("variable", graph.text(tensor.name))
