"""Compares a mended file with the one that it was made of, over three calls in a row."""

import dataclasses
import math
from collections.abc import Collection
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.display.tables import Table, Tabular
from lstm_toolkit.errors import LstmToolkitError
from lstm_toolkit.runtime.compare import TOLERANCE, difference, finite_share
from lstm_toolkit.runtime.random_inputs import DOMAINS
from lstm_toolkit.runtime.trial import INTEGER_TOLERANCE, LEAST_FINITE, Trial, random_calls, run_on
from lstm_toolkit.tflite import files

RESETS = frozenset({"state-leak", "state-set-once", "stream"})
"""Codes whose repair makes every call start as the first one does."""

WRONG_BEFORE = {
    "cell-clip": "cells reach the clip that was taken off",
    "shared-state": "inference overwrites an operand that is also a state",
    "joint-outputs": "the kernel joins two outputs wrongly",
    "int8-scales": "an int8 op has several scales where its kernel takes one",
}
"""Codes of faults that make results wrong within a call, and where the original differs for that."""


@dataclasses.dataclass(frozen=True, repr=False)
class ThreeCalls(Tabular):
    """How far a mended file is from the original, call by call.

    Attributes:
        claim: what is compared, and what has to agree, in sentences.
        in_a_row: for each call the largest difference from the original that is called in a row too.
        anew: for each call the largest difference from the original in an interpreter that was not called before.
        allowed: for each call the difference that counts as none.
        holds: whether what has to agree does; None where nothing has to.
        why_not: why nothing was compared; empty if it was.
    """

    claim: str
    in_a_row: tuple[float, ...] = ()
    anew: tuple[float, ...] = ()
    allowed: tuple[float, ...] = ()
    holds: bool | None = None
    why_not: str = ""

    def tables(self) -> tuple[Table, ...]:
        """One row a call; a difference that counts as none is told in words, as its digits depend on the machine."""
        if self.why_not:
            return ()
        rows = [
            (number, *("agrees" if each <= allowed else f"differs by {each:.2g}" for each in pair))
            for number, (allowed, *pair) in enumerate(zip(self.allowed, self.in_a_row, self.anew, strict=True), start=1)
        ]
        header = ("call", "original, called in a row too", "original, started anew")
        return (Table("The mended file, called three times in a row, against the original", header, rows),)

    @property
    def verdict(self) -> str:
        """The outcome in a sentence."""
        if self.why_not:
            return f"Nothing was compared: {self.why_not}."
        words = {
            None: "They differ, as the original is wrong.",
            True: "So they do.",
            False: "They do not: do not use the mended file, and report it.",
        }
        return words[self.holds]


def compare_calls(
    before: bytes, after: bytes, changed: Collection[str], *, carries: bool, time_limit: float = 20.0
) -> ThreeCalls:
    """Runs two files in processes of their own on the same random inputs.

    Args:
        before: the original.
        after: the mended file.
        changed: codes of the faults that were mended.
        carries: whether the mended file still carries a state from call to call.
        time_limit: seconds for each of the runs.
    """
    resets, wrong = RESETS & set(changed), [why for code, why in WRONG_BEFORE.items() if code in changed]
    claim = _claim(resets=bool(resets), carries=carries, wrong=wrong)
    try:
        runs = _runs(before, after, time_limit)
    except LstmToolkitError as error:
        return ThreeCalls(claim, why_not=str(error))
    if isinstance(runs, str):
        return ThreeCalls(claim, why_not=runs)
    in_a_row, anew, mended = runs
    tolerance = INTEGER_TOLERANCE if _has_integers(before) else TOLERANCE
    allowed = tuple(tolerance * max(1.0, _largest(each)) for each in anew)
    errors, errors_anew = (tuple(map(_distance, wanted, mended)) for wanted in (in_a_row, anew))
    compared = zip(errors_anew if resets else errors, allowed, strict=True)
    agrees = [error <= most for error, most in compared][: 1 if resets and carries else None]
    return ThreeCalls(claim, errors, errors_anew, allowed, all(agrees) if all(agrees) or not wrong else None)


def _claim(*, resets: bool, carries: bool, wrong: list[str]) -> str:
    if not resets:
        what = "All three have to agree with the original that is called in a row too"
    elif carries:
        what = "The first has to agree; what the original carries, this file carries only in part"
    else:
        what = "All three have to agree with the original that is started anew for each, since every call now starts so"
    unless = f", unless {', or '.join(wrong)}: there the original is wrong" if wrong else ""
    return f"Three calls in a row of the mended file on random inputs. {what}{unless}."


Outputs = list[dict[str, Any]]


def _runs(before: bytes, after: bytes, time_limit: float) -> tuple[Outputs, Outputs, Outputs] | str:
    """The outputs of the original in a row, of the original anew, and of the mended file; or why there are none."""
    for domain in DOMAINS:
        calls = random_calls(before, domain=domain)
        (row,) = run_on("litert", [(before, calls)], time_limit=time_limit)
        if row.refused is not None:
            return f"the original does not run: {row.refused}"
        if finite_share(*row.outputs) >= LEAST_FINITE:
            break
    else:
        return "the original gives hardly a finite number for random inputs"
    *anew, mended = run_on("litert", [*((before, [call]) for call in calls), (after, calls)], time_limit=time_limit)
    refused = next((f"{each.refused}" for each in (*anew, mended) if each.refused is not None), None)
    if refused is not None:
        return f"a file does not run: {refused}"
    return _outputs(row), [each.outputs[0] for each in anew], _outputs(mended)


def _outputs(trial: Trial) -> Outputs:
    return list(trial.outputs)


def _distance(wanted: dict[str, Any], given: dict[str, Any]) -> float:
    """The largest difference over all outputs; those that do not match differ infinitely."""
    if {name: each.shape for name, each in wanted.items()} != {name: each.shape for name, each in given.items()}:
        return math.inf
    return max((difference(each, given[name])[0] for name, each in wanted.items()), default=0.0)


def _largest(outputs: dict[str, Any]) -> float:
    return max((difference(each, each)[1] for each in outputs.values()), default=0.0)


def _has_integers(tflite: bytes) -> bool:
    kinds = (schema.TensorType.INT8, schema.TensorType.INT16)
    return any(tensor.type in kinds for subgraph in files.read_model(tflite).subgraphs for tensor in subgraph.tensors)
