"""`repair`: mends the faults of a `.tflite` file that can be mended without its source model."""

import dataclasses
import os
from collections.abc import Collection
from typing import Any

from lstm_toolkit.display.tables import Table, Tabular
from lstm_toolkit.doctor.diagnose import Diagnosis, gravest_first, of_file
from lstm_toolkit.doctor.faults import FAULTS
from lstm_toolkit.tflite import files


@dataclasses.dataclass(frozen=True)
class Change:
    """What one pass changed.

    Attributes:
        code: of the fault that it mended.
        what: the change, in a sentence.
    """

    code: str
    what: str


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


def repair(tflite: bytes | str | os.PathLike[str], *, codes: Collection[str] | None = None) -> Repair:
    """Mends a `.tflite` file.

    Args:
        tflite: its bytes or its path.
        codes: the faults to mend; None for all that `diagnose` finds and that can be mended in the file. Leave out
            "state-leak" for a file that is to continue a sequence from call to call, and "cell-clip" where the source
            model clips.

    Returns:
        The new file, what was changed, and what is left. A file that needs nothing comes back unchanged.

    Raises:
        InvalidModelError: if the file cannot be read.
        ValueError: for a code that is unknown or cannot be mended.
    """
    mendable = {fault.code: fault.mend for fault in FAULTS if fault.mend is not None}
    unknown = sorted(set(codes or ()) - set(mendable))
    if unknown:
        raise ValueError(f"only {', '.join(mendable)} can be mended, got {', '.join(unknown)}")
    data = files.read_bytes(getattr(tflite, "tflite", tflite))
    model = files.read_model(data)
    before = gravest_first(of_file(model))
    found = {finding.code for finding in before}
    changes = []
    for code, mend in mendable.items():
        if code in found and (codes is None or code in codes):
            what = mend(model)
            if what:
                changes.append(Change(code, what))
    if not changes:
        return Repair(data, (), before)
    mended = files.write_model(model)
    after = gravest_first(of_file(files.read_model(mended)))
    # What cannot be mended in the file may leave no trace in it once the rest is mended.
    gone = [each for each in before if not each.repairable and each.code not in {finding.code for finding in after}]
    return Repair(mended, tuple(changes), Diagnosis([*after, *gone]))
