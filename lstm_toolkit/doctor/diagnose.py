"""`diagnose`: what is wrong with a `.tflite` file, or will be with the file made of a Keras model."""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lstm_toolkit.display.tables import Table, Tabular
from lstm_toolkit.doctor.faults import FAULTS
from lstm_toolkit.escapes import printable
from lstm_toolkit.runtime.targets import TARGETS
from lstm_toolkit.tflite import files
from lstm_toolkit.tflite.types import Model

SEVERITIES = ("error", "warning", "note")
"""From results that are wrong, over results that may be wrong, to what could be better."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One fault in one place.

    Attributes:
        code: stable name of the kind of fault; `FAULTS` in `lstm_toolkit.doctor.faults` lists those of files.
        severity: "error": results are wrong, or the file does not run; "warning": results may be wrong, or it is much
            slower than it could be; "note": something to know.
        message: the fact.
        remedy: what to do about it.
        location: the op, or the layer of a Keras model.
        repairable: whether `repair` mends it in the file, unless it is told to leave it alone.
    """

    code: str
    severity: str
    message: str
    remedy: str
    location: str
    repairable: bool = False

    def __post_init__(self) -> None:
        # What is said of a file repeats names out of it.
        for name in ("message", "location"):
            object.__setattr__(self, name, printable(getattr(self, name)))


class Diagnosis(Tabular, tuple[Finding, ...]):
    """Findings, the gravest first: a tuple that shows itself as a table."""

    def tables(self) -> tuple[Table, ...]:
        """One table with a row a finding."""
        rows = [(f.severity, f.code, f.location, f.message, f.remedy) for f in self]
        counts = Counter(f.severity for f in self)
        title = ", ".join(f"{counts[each]} {each}(s)" for each in SEVERITIES if counts[each]) or "Nothing found"
        return (Table(title, ("severity", "code", "where", "what", "remedy"), rows),)

    def to_dict(self) -> dict[str, Any]:
        """The findings as values that JSON can hold."""
        return {"findings": [dataclasses.asdict(finding) for finding in self]}


def diagnose(model: Any, *, target: str | None = None, run: bool = False, time_limit: float = 20.0) -> Diagnosis:
    """Looks for faults.

    Args:
        model: the bytes or the path of a `.tflite` file, or a `Conversion`; or a Keras model or layer, or the path of
            a `.keras` or `.h5` file, for which it says what stands in the way of converting it.
        target: "litert", "compiled" or "micro": also what keeps the file from running there.
        run: also run the file on the target, in a process of its own and on random inputs, and compare the results with
            those of the LiteRT interpreter; this takes a second or two, and runs what is in the file.
        time_limit: seconds that `run` may take on each of the two.

    Returns:
        A tuple, one `Finding` a fault, the gravest first; empty where nothing was found.

    Raises:
        InvalidModelError: if the file cannot be read.
        ConversionError: if a Keras model cannot be called as it is.
        ValueError: for an unknown target, or for `run` without a target or a file.
        LstmToolkitError: if the target to run on is not installed.
    """
    check_target(target)
    model = getattr(model, "tflite", model)
    is_path = isinstance(model, (str, os.PathLike))
    is_keras = not isinstance(model, (bytes, bytearray, memoryview)) and (
        not is_path or Path(model).suffix in (".keras", ".h5", ".hdf5")
    )
    if run and (target is None or is_keras):
        raise ValueError("run needs a target and a .tflite file")
    if is_keras:
        findings = list(_of_keras(model))
    else:
        data = files.read_bytes(model)
        findings = list(of_file(files.read_model(data), target))
        # What is known to be wrong needs no second proof, and a loop without an end would use up the time.
        if run and target is not None and all(finding.severity != "error" for finding in findings):
            findings += _of_trial(data, target, time_limit)
    return gravest_first(findings)


def check_target(target: str | None) -> None:
    """Refuses a target that there is none of.

    Raises:
        ValueError: names those that there are.
    """
    if target not in (None, *TARGETS):
        raise ValueError(f"target must be one of {', '.join(TARGETS)} or None, got {target!r}")


def gravest_first(findings: Iterable[Finding]) -> Diagnosis:
    """Sorts findings by severity, as `diagnose` returns them."""
    return Diagnosis(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def of_file(model: Model, target: str | None = None) -> Iterator[Finding]:
    """Yields the findings of a `ModelT`, which stays as it is."""
    asked_for = files.is_own(model)
    for fault in FAULTS:
        if not fault.concerns(target) or (fault.unless_asked_for and asked_for):
            continue
        for location, message, *otherwise in fault.find(model):
            repairable = fault.mend is not None and not fault.only_if_named and not otherwise
            remedy = otherwise[0] if otherwise else fault.remedy
            yield Finding(fault.code, fault.severity, message, remedy, location, repairable)


def _of_trial(data: bytes, target: str, time_limit: float) -> Iterator[Finding]:
    from lstm_toolkit.runtime.trial import why_not_on

    reason = why_not_on(target, data, time_limit=time_limit)
    if reason:
        message = f"tried on random inputs, it fails there: {reason}"
        yield Finding("trial", "error", message, f'convert the source with target="{target}"', target)


def _of_keras(model: Any) -> Iterator[Finding]:
    from lstm_toolkit.sources.keras_files import import_keras
    from lstm_toolkit.sources.source import loaded
    from lstm_toolkit.sources.traced import NOT_IN_THE_FILE, TraceOptions

    source = loaded(model)
    import_keras()
    from lstm_toolkit.sources import keras_models

    traced = keras_models.trace(source, TraceOptions(on_unsupported="report"))
    for layer in traced.layers or ():
        if layer.reason and layer.op != NOT_IN_THE_FILE:
            code = "mask" if "mask" in layer.reason else "not-fusable"
            yield Finding(
                code,
                "error",
                f"this {layer.layer_class} cannot become a fused op: {layer.reason}",
                'do what the reason says, or pass on_unsupported="keep" to convert: the stock lowering, if it is right',
                layer.name,
            )
    batches = [tensor.shape[0] for tensor in getattr(source, "inputs", None) or ()]
    if None in batches:
        yield Finding(
            "open-batch",
            "note",
            "the batch of the inputs is open, and a fused op needs a fixed one",
            "pass batch_size to convert, which takes 1 otherwise",
            source.name,
        )
