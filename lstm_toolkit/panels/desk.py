"""The doctor's desk: what is in a file, what is wrong with it, and what becomes of it when it is mended.

    examine(file)                     summary, drawing, findings, and what can be mended
    treat(examination, keep=...)      the mended file, before and after, and three calls of both

Files may come from strangers: all of the work is done in a process of its own, within limits.
"""

import dataclasses
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from lstm_toolkit.display.tables import Table, Tabular
from lstm_toolkit.doctor.diagnose import Diagnosis, Finding, diagnose, gravest_first
from lstm_toolkit.doctor.faults import FAULTS
from lstm_toolkit.doctor.repair import Change, repair
from lstm_toolkit.errors import ConversionError, InvalidModelError
from lstm_toolkit.escapes import in_html
from lstm_toolkit.inspection.drawing import Drawing
from lstm_toolkit.inspection.read import inspect
from lstm_toolkit.panels.apart import apart
from lstm_toolkit.panels.three_calls import RESETS, ThreeCalls, compare_calls
from lstm_toolkit.runtime.limits import Limits
from lstm_toolkit.runtime.scratch import scratch_folder
from lstm_toolkit.runtime.trial import is_installed
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.files import LARGEST, read_model, write_whole
from lstm_toolkit.tflite.paths import MAX_BYTES, check_size, read_regular, setting

LIMITS = Limits()
"""Of reading, mending and comparing a `.tflite` file."""

KERAS_LIMITS = Limits(seconds=300.0, memory=None)
"""Of converting a Keras file; loading it has limits of its own."""

MOST_PLACES = 12
"""Ops that can be left alone one by one."""

PATIENT = Path(__file__).with_name("patient.tflite")
"""A file to try: a counter of brackets that the stock converter made of tf_keras; it clips, and its state leaks."""

_ZIP, _HDF5 = b"PK", b"\x89HDF"
_PLACE = re.compile(r"(subgraph \d+, )?op \d+ [A-Z0-9_]+(?= \(|$)")


@dataclasses.dataclass(frozen=True)
class Choice:
    """Something that can be mended or be left alone.

    Attributes:
        word: the code of a fault, or the place of an op, as `keep` takes it.
        text: the same with how often it is there.
        is_on: whether it is mended unless somebody says otherwise.
    """

    word: str
    text: str
    is_on: bool = True


@dataclasses.dataclass(frozen=True, repr=False)
class Examination(Tabular):
    """What is in a file, and what is wrong with it.

    Attributes:
        name: of the file.
        tflite: its bytes; of a Keras file those of the file that it was converted to, empty if it cannot be.
        findings: as `diagnose` has them; of a Keras file those of the model and of the file that it became.
        choices: what can be mended, or be left alone.
        summary: the tables of `inspect`.
        ops: number of operators by name.
        drawing: of the main graph; None if there is a refusal.
        converted: how the file was compared with the Keras model that it was made of; empty for a `.tflite` file.
        refusal: why a Keras model cannot be converted, in the words of `convert`, or why a file cannot be shown, in
            those of `inspect`; else empty.
        target: the runtime that the file was examined for, or None.
    """

    name: str
    tflite: bytes
    findings: Diagnosis
    choices: tuple[Choice, ...] = ()
    summary: tuple[Table, ...] = ()
    ops: tuple[tuple[str, int], ...] = ()
    drawing: Drawing | None = None
    converted: tuple[Table, ...] = ()
    refusal: str = ""
    target: str | None = None

    def tables(self) -> tuple[Table, ...]:
        """The findings, and the summary of the file."""
        return (*self.findings.tables(), *self.converted, *self.summary)

    def _repr_html_(self) -> str:
        return f"<h4>{in_html(self.name)}</h4>{super()._repr_html_()}{self.drawing_html('Graph of the file')}"

    def drawing_html(self, label: str) -> str:
        """The drawing, or why there is none."""
        return self.drawing.html(label) if self.drawing else f"<p>{in_html(self.refusal)}</p>"


@dataclasses.dataclass(frozen=True, repr=False)
class Treatment(Tabular):
    """A file before and after.

    Attributes:
        before: the examination.
        tflite: the bytes of the mended file; those that were given where nothing was changed.
        changes: what was changed.
        findings: what is left.
        ops: number of operators by name.
        drawing: of the main graph.
        calls: both files over three calls; None where nothing was changed.
    """

    before: Examination
    tflite: bytes
    changes: tuple[Change, ...]
    findings: Diagnosis
    ops: tuple[tuple[str, int], ...]
    drawing: Drawing | None
    calls: ThreeCalls | None = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the mended file, whole or not at all.

        Raises:
            OSError: if it cannot be written.
        """
        write_whole(path, self.tflite)

    def tables(self) -> tuple[Table, ...]:
        """The changes, both files side by side, the findings that are left, and the three calls."""
        changes = [(change.code, change.what) for change in self.changes]
        title = "Changes" if changes else "Nothing was changed"
        left = self.findings.tables() if self.findings else ()
        return (
            Table(title, ("code", "what"), changes),
            self._sides(),
            *left,
            *(self.calls.tables() if self.calls else ()),
        )

    def _sides(self) -> Table:
        findings = [Counter(finding.code for finding in each) for each in (self.before.findings, self.findings)]
        ops = [Counter(dict(each)) for each in (self.before.ops, self.ops)]
        rows = [
            (f"{kind} {name}", before[name], after[name])
            for kind, (before, after) in (("finding", findings), ("op", ops))
            for name in sorted(before | after)
        ]
        rows.append(("bytes", len(self.before.tflite), len(self.tflite)))
        return Table("Before and after", ("what", "before", "after"), rows)

    def __repr__(self) -> str:
        said = f"\n\n{self.calls.claim}\n{self.calls.verdict}" if self.calls else ""
        return super().__repr__() + said

    def _repr_html_(self) -> str:
        return super()._repr_html_() + self.said_html() + self.drawings_html()

    def said_html(self) -> str:
        """What the three calls say, in sentences."""
        return f"<p>{in_html(self.calls.claim)} {in_html(self.calls.verdict)}</p>" if self.calls else ""

    def drawings_html(self) -> str:
        """Both graphs side by side, or one below the other where there is no room."""
        sides = {
            "Before": self.before.drawing_html("Graph before"),
            "After": self.drawing.html("Graph after") if self.drawing else "",
        }
        drawn = "".join(
            f'<div style="flex: 1 1 16em; min-width: 0"><h4>{title}</h4>{each}</div>' for title, each in sides.items()
        )
        return f'<div style="display: flex; flex-wrap: wrap; gap: 1em">{drawn}</div>'


def examine(
    model: Any,
    *,
    name: str | None = None,
    target: str | None = None,
    state: str = "auto",
    limits: Limits | None = None,
) -> Examination:
    """Says what is in a file and what is wrong with it; a Keras file is converted first.

    Args:
        model: the path or the bytes of a `.tflite`, `.keras` or `.h5` file, or a `Conversion`.
        name: what to call it; None for the name of the path.
        target: "litert", "compiled" or "micro": also what keeps the file from running there, for which it is run there
            if that runtime is installed. A Keras file is converted for it.
        state: of `convert`, for a Keras file.
        limits: of the process that does the work; None for `LIMITS` or `KERAS_LIMITS`.

    Raises:
        InvalidModelError: if it cannot be read, or exceeds the limits.
        ValueError: for an unknown target or state.
    """
    model, most = getattr(model, "tflite", model), setting(MAX_BYTES, LARGEST)
    is_path = isinstance(model, (str, os.PathLike))
    name = name or (Path(model).name if is_path else "the file")
    data = read_regular(model, most) if is_path else bytes(model)
    check_size(name, "has", len(data), most)
    if data.startswith((_ZIP, _HDF5)):
        return apart(_of_keras, data, name, target, state, name=name, limits=limits or KERAS_LIMITS)
    return apart(_of_tflite, data, name, target, name=name, limits=limits or LIMITS)


def _of_tflite(data: bytes, name: str, target: str | None) -> Examination:
    findings = diagnose(data, target=target, run=target is not None and is_installed(target))
    examined = Examination(
        name=name,
        tflite=data,
        findings=findings,
        choices=_choices(findings),
        ops=tuple(sorted(graph.count_operators(read_model(data)).items())),
        target=target,
    )
    try:
        summary = inspect(data)
    except InvalidModelError as error:  # such as weights that are a state too, which can be mended
        return dataclasses.replace(examined, refusal=str(error))
    return dataclasses.replace(examined, summary=summary.tables(), drawing=summary.drawing())


def _of_keras(data: bytes, name: str, target: str | None, state: str) -> Examination:
    from lstm_toolkit.conversion.convert import convert
    from lstm_toolkit.sources.source import loaded

    with scratch_folder() as folder:
        path = Path(folder) / ("model.keras" if data.startswith(_ZIP) else "model.h5")
        path.write_bytes(data)
        try:
            model = loaded(path)
        except (ConversionError, InvalidModelError) as error:
            raise type(error)(str(error).replace(str(path), name)) from error
    of_model = diagnose(model)
    try:
        conversion = convert(model, target=target, state=state)
    except ConversionError as error:
        return Examination(name, b"", of_model, refusal=str(error), target=target)
    examined = _of_tflite(conversion.tflite, name, target)
    checked = conversion.report.checked
    assert checked is not None  # it is compared unless somebody says otherwise
    compared, *left_out = checked.tables()
    title = "Compared with the Keras model, first three calls in a row, then others: largest difference"
    title += f" {checked.max_abs_error:.0e}"
    return dataclasses.replace(
        examined,
        findings=gravest_first([*of_model, *examined.findings]),
        converted=(dataclasses.replace(compared, title=title), *left_out),
    )


def _choices(findings: Diagnosis) -> tuple[Choice, ...]:
    if_named = {fault.code for fault in FAULTS if fault.mend and fault.only_if_named}
    mendable = [each for each in findings if each.repairable or each.code in if_named]
    codes = [each.code for each in mendable]
    places = list(dict.fromkeys(place for each in mendable if (place := _place(each))))
    counted = {code: f"{code}, {codes.count(code)} times" if codes.count(code) > 1 else code for code in codes}
    of_codes = tuple(Choice(code, text, code not in if_named) for code, text in counted.items())
    return of_codes + (tuple(Choice(each, each) for each in places) if 1 < len(places) <= MOST_PLACES else ())


def _place(finding: Finding) -> str:
    """The place of the op, without the name of its output, which may be anything."""
    match = _PLACE.match(finding.location)
    return match[0] if match else ""


def treat(examination: Examination, keep: Any = None, *, limits: Limits = LIMITS) -> Treatment:
    """Mends a file, and compares it with what it was.

    Args:
        examination: of the file.
        keep: words of the choices to leave alone, or one of them; None for those that are not on.
        limits: of the process that does the work.

    Raises:
        InvalidModelError: if the file exceeds the limits.
        ValueError: for a word that is none of a choice, and for an examination without a file.
    """
    words = {choice.word for choice in examination.choices}
    kept = {each.word for each in examination.choices if not each.is_on} if keep is None else _set(keep)
    if not examination.tflite or kept - words:
        got = "a model that was not converted" if not examination.tflite else ", ".join(sorted(kept - words))
        raise ValueError(f"keep takes what can be mended in the file, {', '.join(sorted(words))}, got {got}")
    changed = apart(_treated, examination, kept, name=examination.name, limits=limits)
    return Treatment(examination, *changed)


def _set(words: Any) -> set[str]:
    return {words} if isinstance(words, str) else set(words)


def _treated(examination: Examination, kept: set[str]) -> tuple[Any, ...]:
    """What a `Treatment` has beside the examination."""
    codes = {choice.word for choice in examination.choices} & {fault.code for fault in FAULTS}
    mended = repair(examination.tflite, codes=codes - kept, keep=kept - codes, target=examination.target)
    if not mended.changes:
        same = examination
        return same.tflite, (), same.findings, same.ops, same.drawing, None
    after = _of_tflite(mended.tflite, examination.name, examination.target)
    left = gravest_first(dict.fromkeys([*mended.left, *after.findings]))
    carries = bool(kept - codes) or any(finding.code in RESETS for finding in left)
    changed = [change.code for change in mended.changes]
    calls = compare_calls(examination.tflite, mended.tflite, changed, carries=carries)
    return mended.tflite, mended.changes, left, after.ops, after.drawing, calls
