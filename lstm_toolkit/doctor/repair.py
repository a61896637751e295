"""`repair`: mends the faults of a `.tflite` file that can be mended without its source model."""

import contextlib
import dataclasses
import os
from collections.abc import Collection, Iterator
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.display.tables import Table, Tabular
from lstm_toolkit.doctor.diagnose import Diagnosis, check_target, gravest_first, of_file
from lstm_toolkit.doctor.fault import named_place, place
from lstm_toolkit.doctor.faults import FAULTS
from lstm_toolkit.escapes import printable
from lstm_toolkit.tflite import files
from lstm_toolkit.tflite.recurrent import state_places
from lstm_toolkit.tflite.types import Model, Operator


@dataclasses.dataclass(frozen=True)
class Change:
    """What one pass changed.

    Attributes:
        code: of the fault that it mended.
        what: the change, in a sentence.
    """

    code: str
    what: str

    def __post_init__(self) -> None:
        # It repeats names out of the file.
        object.__setattr__(self, "what", printable(self.what))


@dataclasses.dataclass(frozen=True, repr=False)
class Repair(Tabular):
    """A mended file.

    Attributes:
        tflite: its bytes; those that were given, where nothing was changed.
        changes: what was changed, in the order in which it was.
        left: the findings that stay.
    """

    tflite: bytes
    changes: tuple[Change, ...]
    left: Diagnosis

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the file, whole or not at all.

        Raises:
            OSError: if it cannot be written; what stood at `path` before is untouched then.
        """
        files.write_whole(path, self.tflite)

    def tables(self) -> tuple[Table, ...]:
        """Two tables: the changes, and the findings that are left."""
        rows = [(change.code, change.what) for change in self.changes]
        changed = Table("Changes" if rows else "Nothing changed", ("code", "what"), rows)
        return changed, *((table for table in self.left.tables()) if self.left else ())

    def to_dict(self) -> dict[str, Any]:
        """Changes and remaining findings as values that JSON can hold."""
        return {"changes": [dataclasses.asdict(change) for change in self.changes]} | {
            "left": self.left.to_dict()["findings"]
        }


def repair(
    tflite: bytes | str | os.PathLike[str],
    *,
    codes: str | Collection[str] | None = None,
    keep: str | Collection[str] = (),
    target: str | None = None,
) -> Repair:
    """Mends a `.tflite` file.

    Args:
        tflite: its bytes or its path.
        codes: the fault or faults to mend; None for all that `diagnose` finds and that can be mended in the file, but
            for "stream": an op that takes one step a call goes on from its last call, unless this code is named.
        keep: what to leave alone: one or several codes of faults, such as "state-leak" for a file that continues a
            sequence from call to call, and "cell-clip" where the source model clips; or places of ops, as
            `Finding.location` has them, with or without the name in brackets. An op at such a place stays as it is,
            with its states.
        target: "litert", "compiled" or "micro": also what keeps the file from running there. For TensorFlow Lite
            Micro, ops that it lacks become others that compute the same, and the two halves of a bidirectional layer
            stay two.

    Returns:
        The new file, what was changed, and what is left. A file that needs nothing comes back unchanged.

    Raises:
        InvalidModelError: if the file cannot be read.
        ValueError: for a code that is unknown or cannot be mended, for a place at which the file has no op, and for an
            unknown target.
    """
    check_target(target)
    mendable = {fault.code: fault for fault in FAULTS if fault.mend is not None and fault.concerns(target)}
    wanted = {code for code, fault in mendable.items() if not fault.only_if_named} if codes is None else _set(codes)
    unknown = sorted(wanted - set(mendable))
    if unknown:
        raise ValueError(f"only {', '.join(mendable)} can be mended, got {', '.join(unknown)}")
    data = files.read_bytes(getattr(tflite, "tflite", tflite))
    model = files.read_model(data)
    before = gravest_first(of_file(model, target))
    hidden = _operators_at(model, _set(keep) - {fault.code for fault in FAULTS})
    with _hidden(model, hidden):
        wanted -= _set(keep)
        present = {finding.code for finding in (of_file(model, target) if hidden else before)}
        changes = []
        for code, fault in mendable.items():
            what = fault.mend(model) if fault.mend and code in wanted & present else ""
            if what:
                changes.append(Change(code, what))
                # An LSTM that is an op again can have faults of an op, such as halves that could be one.
                present = {finding.code for finding in of_file(model, target)}
    if not changes:
        return Repair(data, (), before)
    mended = files.write_model(model)
    after = gravest_first(of_file(files.read_model(mended), target))
    # What cannot be mended in the file may leave no trace in it once the rest is mended.
    mended_or_left = {change.code for change in changes} | {finding.code for finding in after}
    gone = [each for each in before if not each.repairable and each.code not in mended_or_left]
    return Repair(mended, tuple(changes), Diagnosis([*after, *gone]))


def _set(words: str | Collection[str]) -> set[str]:
    return {words} if isinstance(words, str) else set(words)


def _operators_at(model: Model, places: Collection[str]) -> list[Operator]:
    """The ops at some places, as findings name them."""
    found, left = [], set(places)
    for subgraph in model.subgraphs if places else []:
        for operator in subgraph.operators:
            names = {place(model, subgraph, operator)}
            names |= {named_place(model, subgraph, operator)} if len(operator.outputs) else set()
            if names & set(places):
                found.append(operator)
            left -= names
    if left:
        raise ValueError(f"keep takes codes of faults and places of ops in the file, got {', '.join(sorted(left))}")
    return found


@contextlib.contextmanager
def _hidden(model: Model, operators: Collection[Operator]) -> Iterator[None]:
    """Makes ops custom ones for a while, which no pass knows; they have their states again then."""
    if not operators:
        yield
        return
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = b"lstm_toolkit.kept"
    states = [
        (op, each, op.inputs[each]) for op in operators for each in state_places(model, op) if each < len(op.inputs)
    ]
    codes = [(op, op.opcodeIndex) for op in operators]
    model.operatorCodes.append(code)
    for op in operators:
        op.opcodeIndex = len(model.operatorCodes) - 1
    yield
    for op, index in codes:
        op.opcodeIndex = index
    for op, each, state in states:
        op.inputs[each] = state
