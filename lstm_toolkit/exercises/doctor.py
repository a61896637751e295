"""Checks of the exercises in codelab 09: what is wrong with a file, and what it takes to mend it."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from lstm_toolkit.doctor.diagnose import Diagnosis, Finding, gravest_first
from lstm_toolkit.exercises import Array, require, require_bool, require_number, several

Run = Callable[[npt.ArrayLike], Array]
T = TypeVar("T")


def check_plan(plan: Callable[[Diagnosis, set[str]], Any]) -> None:
    """Checks a function that picks, from the findings of a file, what `repair` can mend and what takes the source.

    Args:
        plan: takes findings and the set of codes that were wanted; returns the codes for `repair`, and the findings
            that can only be mended where the source model is. Wanted things and notes are in neither.
    """
    clips = [_finding("cell-clip", "warning", f"op {place}", repairable=True) for place in (0, 4)]
    leak = _finding("state-leak", "warning", "op 4", repairable=True)
    scales = _finding("int8-scales", "error", "op 7", repairable=True)
    halves = _finding("split-halves", "note", "op 2, op 5", repairable=True)
    loop = _finding("loop-lstm", "warning", "encoder", repairable=True)
    stuck = _finding("loop-lstm", "warning", "decoder", repairable=False)
    flex = _finding("flex-op", "error", "FlexErf", repairable=False)
    batch = _finding("open-batch", "note", "lstm", repairable=False)
    for findings, wanted in (
        ([clips[0], leak], set()),
        ([clips[0], leak, flex], set()),
        ([*clips, leak], {"state-leak"}),
        ([scales, halves, batch], set()),
        ([loop, stuck, *clips], {"cell-clip", "state-leak"}),
        ([], {"cell-clip"}),
    ):
        diagnosis = gravest_first(findings)
        answer = plan(diagnosis, set(wanted))
        first, second = several(answer, 2, "return two things, the codes and the findings, not {}")
        require(not isinstance(first, str), "the first thing must be several codes, not one text")
        codes = _all_of(str, first, "the first thing must be codes", "repair takes codes such as 'cell-clip'")
        whole = "the second thing must be whole findings"
        left = _all_of(Finding, second, "the second thing must be findings", whole)
        faults = [each for each in diagnosis if each.code not in wanted and each.severity != "note"]
        _compare_codes(codes, diagnosis, wanted, {each.code for each in faults if each.repairable})
        _compare_findings(left, wanted, [each for each in faults if not each.repairable])


def check_remembers(remembers: Callable[[Run, Array], Any]) -> None:
    """Checks a function that finds out, by calling a file, whether it remembers state between two calls.

    Args:
        remembers: takes a function that runs a file, and one input for it, [1, 12, 1]; returns True or False.
    """
    noise = np.random.default_rng(5).normal(size=(1, 12, 1)).astype(np.float32)
    balanced = np.tile(np.array([[1.0], [-1.0]], np.float32), (6, 1))[np.newaxis]
    for keeps, carries, x, hint in (
        (1.0, False, noise, "two inputs give two outputs in every file: compare two calls with the same input"),
        (1.0, True, noise, "it starts a call where the last one ended"),
        (0.1, True, noise, "it forgets within a few steps, so that only the first outputs of a call tell"),
        (
            1.0,
            True,
            balanced,
            "this x leaves c where it was, as `flat` does, so that the call after it starts as the call before it. "
            "Call with something else in between, such as numbers that do not sum to 0",
        ),
        (1.0, False, balanced, "two inputs give two outputs in every file: compare two calls with the same input"),
    ):
        answer = remembers(_leaky(keeps, carries=carries), x.copy())
        require_bool(answer)
        fact = "a file that remembers" if carries else "a file that starts every call from zero"
        require(bool(answer) == carries, f"{fact}, and the answer is {bool(answer)}: {hint}")


def check_find_clip(find_clip: Callable[[Run], Any]) -> None:
    """Checks a function that finds the cell clip of a bracket counter that it can only run.

    Args:
        find_clip: takes a counter as `bracket_counter` gives it; returns its clip, a number below 100 that may be off
            by 0.05, or 0 where it has none.
    """
    for clip in (10.0, 6.0, 42.0, 0.0, 7.5, 20.25):
        answer = find_clip(bracket_counter(clip))
        require_number(answer)
        value = float(answer)
        require(
            np.isfinite(value),
            f"the answer is {value}: in float32 the tanh of a large c is 1, and 1 has no inverse. Count how many "
            "closing brackets it takes to bring the output back to 0",
        )
        if clip:
            require(abs(value - clip) < 0.05, f"a counter that clips at {clip:g}: {_why_not(value, clip)}")
        else:
            require(value == 0.0, f"a counter without a clip: its clip in the file is 0, and the answer is {value:g}")


def bracket_counter(cell_clip: float) -> Run:
    """A bracket counter that clips its cells, and starts every call from zero.

    Args:
        cell_clip: the bound of c; 0 for none.

    Returns:
        A function of brackets [1, any number of them, 1], 1 for an open and -1 for a closing one. It returns outputs
        [1, that number, 2], float32: the tanh of the open brackets, and of the steps.
    """

    def clipped(count: float, news: float) -> float:
        return min(max(count + news, -cell_clip), cell_clip) if cell_clip else count + news

    def run(text: npt.ArrayLike) -> Array:
        x = np.asarray(text, np.float64)
        hint = f"a counter takes brackets [1, any number of them, 1], not {list(x.shape)}"
        require(x.ndim == 3 and x.shape[0] == x.shape[2] == 1, hint)
        news = (np.tanh(20 * x[0, :, 0]), np.ones(x.shape[1]))
        counts = [list(itertools.accumulate(each.tolist(), clipped, initial=0.0))[1:] for each in news]
        return np.tanh(np.array(counts).T[np.newaxis]).astype(np.float32)

    return run


def _leaky(keeps: float, *, carries: bool) -> Run:
    """A file of one unit that keeps a part of its memory at each step, and all of it between calls if it carries."""
    memory = 0.0

    def run(x: npt.ArrayLike) -> Array:
        nonlocal memory
        values = np.asarray(x, np.float64)
        require(values.shape == (1, 12, 1), f"this file takes [1, 12, 1], as x has it, not {list(values.shape)}")
        start = memory if carries else 0.0
        steps = list(itertools.accumulate(values.ravel().tolist(), lambda c, news: keeps * c + news, initial=start))
        memory = steps[-1]
        return np.tanh(np.array(steps[1:])).astype(np.float32).reshape(1, 12, 1)

    return run


def _why_not(value: float, clip: float) -> str:
    if value == 0.0 or (clip > 14 and value < clip - 1.5):
        return f"the answer is {value:g}. Open more brackets than the clip, which may be anything below 100"
    if clip != round(clip) and abs(value - clip) < 1:
        return (
            f"the answer is {value:g}. A clip need not be a whole number: near 0, np.arctanh of the output is c, and "
            "says what counting leaves out"
        )
    if abs(value - clip) < 1.5:
        return f"the answer is {value:g}, one off. After the first closing bracket, which has index 0, c is one less"
    return f"the answer is {value:g}. After that many closing brackets the output is back at 0"


def _finding(code: str, severity: str, location: str, *, repairable: bool) -> Finding:
    return Finding(code, severity, f"what is wrong: {code}", "what to do about it", location, repairable)


def _all_of(kind: type[T], part: Any, several: str, each_is: str) -> list[T]:
    """A part of an answer as a list; raises AssertionError where it is not several things, each of a kind."""
    require(np.iterable(part), f"{several}, not {type(part).__name__}")
    found = list(part)
    for each in found:
        require(isinstance(each, kind), f"{each_is}, not a {type(each).__name__}")
    return found


def _compare_codes(codes: Iterable[str], findings: Diagnosis, wanted: set[str], expected: set[str]) -> None:
    for code in codes:
        require(code not in wanted, f"{code!r} is wanted, and must stay as it is")
        found = [each for each in findings if each.code == code]
        require(found, f"{code!r} is not among the findings")
        require(any(each.repairable for each in found), f"repair cannot mend {code!r}: its finding is not repairable")
        require(code in expected, f"{code!r} is a note, which can wait")
    missing = sorted(expected - set(codes))
    require(not missing, f"repair could mend {missing[:1]}, and its code is missing")


def _compare_findings(left: list[Finding], wanted: set[str], expected: list[Finding]) -> None:
    for each in left:
        place = f"the finding {each.code!r} at {each.location!r}"
        require(each.code not in wanted, f"{place} is wanted, and takes no source")
        require(not each.repairable, f"{place} can be mended in the file, and takes no source")
        require(each in expected, f"{place} is a note, which can wait")
    for each in expected:
        require(
            each in left,
            f"the finding {each.code!r} at {each.location!r} is not repairable, and is missing. Whether repair can "
            "mend it is said by the finding; two with the same code may differ",
        )
