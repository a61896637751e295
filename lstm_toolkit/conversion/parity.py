"""Compares a converted file with its source: several calls in a row on one interpreter, on inputs of many kinds.

Random inputs come first, from the first of some domains on which the source gives finite numbers. Then come inputs at
which arithmetic tends to break. Those that say nothing are left out, and the report says why.
"""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.conversion.report import Checked
from lstm_toolkit.errors import ConversionError, ParityError
from lstm_toolkit.runtime.compare import TOLERANCE, compare, difference, finite_share
from lstm_toolkit.runtime.first_run import LIMITS
from lstm_toolkit.runtime.random_inputs import DOMAINS, EXTREMES, MASKS, Draw
from lstm_toolkit.runtime.runner import Runner
from lstm_toolkit.sources.keras_files import first_line
from lstm_toolkit.sources.traced import StockFile, TracedModel

DYNAMIC_SIZES = (16, 23, 11)
"""Sizes that dynamic dimensions take, call by call."""

SAMPLES = "representative_dataset"

LEAST_FINITE = (0.9, 0.5)
"""Share of finite numbers that each output of the source must have, on random inputs. The second one is for a model
that has no domain for the first: attention scores may be -inf in nearly half of their places by design."""

Inputs = Mapping[str, npt.NDArray[Any]]
Outputs = dict[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class Call:
    """The inputs of one call.

    Attributes:
        inputs: by name.
        kind: one of `EXTREMES`; empty for random inputs and samples.
        masks: the ways in which rows are padded.
    """

    inputs: Inputs
    kind: str = ""
    masks: frozenset[str] = frozenset()


class _UnsuitableError(ConversionError):
    """Inputs on which a comparison says nothing; the message says why."""


def verify(
    tflite: bytes,
    traced: TracedModel,
    *,
    reset: bool = False,
    runtime: str = "interpreter",
    num_threads: int = 1,
    samples: Sequence[Inputs] = (),
) -> Checked:
    """Runs file and source side by side: three calls in a row on random inputs, then one for each of `EXTREMES`.

    Args:
        tflite: the converted model.
        traced: its source.
        reset: whether to reset what the file carries between the calls, for a source that carries nothing.
        runtime: that runs the file, of `Runner`.
        num_threads: of `Runner`.
        samples: inputs of the user to compare on where random ones say nothing.

    Returns:
        What was compared, and the largest error.

    Raises:
        ParityError: if an output is missing or differs by more than `TOLERANCE`.
        ConversionError: if neither random inputs nor the samples can be compared on.
    """
    with Runner(tflite, runtime=runtime, num_threads=num_threads, isolated=LIMITS) as runner:
        return _verified(_Sides(traced, runner, reset=reset), traced, samples)


def _verified(sides: "_Sides", traced: TracedModel, samples: Sequence[Inputs]) -> Checked:
    refusals = []
    for least, domain in itertools.product(LEAST_FINITE, (*DOMAINS, *([SAMPLES] if samples else []))):
        try:
            usual, extremes = calls_of(traced, sides.runner, domain, samples)
            return sides.compared(usual, extremes, least=least, domain=domain)
        except _UnsuitableError as error:
            refusals.append(error)
    if samples:
        remedy = "give it samples on which the model gives stable, finite numbers"
        raise ConversionError(
            f"on random inputs and on representative_dataset, {refusals[-1]}; {remedy}"
        ) from refusals[-1]
    raise ConversionError(
        f"the file cannot be compared with its source on random inputs: {refusals[0]}; pass representative_dataset, "
        "inputs of your own to compare on"
    ) from refusals[0]


def calls_of(
    traced: TracedModel, runner: Runner, domain: str, samples: Sequence[Inputs]
) -> tuple[list[Call], list[Call]]:
    """The calls of a comparison: on random inputs of a domain, or on samples; and one for each of `EXTREMES`."""
    random = np.random.default_rng(0)
    if domain == SAMPLES:
        spread = np.linspace(0, len(samples) - 1, len(DYNAMIC_SIZES)).astype(int)
        usual, domain = [Call(samples[number]) for number in spread], "normal"
    else:
        draws = [Draw(domain=domain, turn=turn) for turn in range(len(DYNAMIC_SIZES))]
        usual = [draw(traced, runner, random, *each) for each in zip(draws, DYNAMIC_SIZES, strict=True)]
    extremes = [Draw(kind, domain, turn) for turn, kind in enumerate(EXTREMES, start=len(usual))]
    return usual, [draw(traced, runner, random, each, DYNAMIC_SIZES[-1]) for each in extremes]


def draw(
    traced: TracedModel,
    runner: Runner,
    random: np.random.Generator,
    wanted: Draw,
    dynamic_size: int = DYNAMIC_SIZES[0],
) -> Call:
    """Draws inputs that suit a model, in the shapes of its file, with one size for all open ones."""
    names = traced.input_names
    shapes = [[dynamic_size if size < 0 else size for size in runner.input_shapes[name]] for name in names]
    dtypes = [spec.dtype for spec in traced.inputs]
    arrays, masks = traced.random_inputs.draw(random, shapes, dtypes, wanted)
    kind = wanted.kind if wanted.kind in EXTREMES else ""
    return Call(dict(zip(names, arrays, strict=True)), kind, frozenset(masks))


class _Sides:
    """File and source.

    Args:
        traced: the source.
        runner: runs the file.
        reset: whether to reset what the file carries between the calls.
    """

    def __init__(self, traced: TracedModel, runner: Runner, *, reset: bool) -> None:
        self.runner = runner
        self._traced, self._source, self._reset = traced, traced.source, reset
        self._carries = False

    def compared(self, usual: Sequence[Call], extremes: Sequence[Call], *, least: float, domain: str) -> Checked:
        """Compares both sides on some calls in a row, and then on others of which each starts from zero.

        Args:
            usual: the calls in a row.
            extremes: the others; one that says nothing is left out.
            least: share of finite numbers that each output of the source must have in the calls in a row.
            domain: where the inputs of these come from.
        """
        expected, wanted = self._of_source(usual, extremes)
        share = finite_share(*expected)
        if share < least:
            raise _UnsuitableError(f"only {share:.0%} of the numbers in an output of the source are finite")
        self.runner.reset()
        errors = [
            self._error(usual[:number] if self._carries else usual[number - 1 : number], outputs, number)
            for number, outputs in enumerate(expected, start=1)
        ]
        calls, left_out = list(usual), []
        for call, outputs in zip(extremes, wanted, strict=True):
            try:
                error = self._error_of_extreme(call, outputs, len(calls) + 1)
            except _UnsuitableError as refusal:
                left_out.append((call.kind, str(refusal)))
                continue
            calls.append(call)
            expected.append(outputs)
            errors += [] if call.kind == "large" else [error]
        masks = frozenset().union(*(call.masks for call in calls))
        return Checked(
            calls=len(calls),
            inputs=(domain, *(call.kind for call in calls if call.kind)),
            left_out=tuple(left_out),
            finite=finite_share(*expected),
            masks=tuple(way for way in MASKS if way in masks),
            max_abs_error=max(errors),
            backend=self._traced.backend,
        )

    def _of_source(self, usual: Sequence[Call], extremes: Sequence[Call]) -> tuple[list[Outputs], list[Any]]:
        """What the source gives for the calls in a row, and for the others or what it raises at them."""
        self._source.reset()
        first = [self._tried(usual[0])]
        self._carries = self._source.carries
        if self._carries:
            first += map(self._tried, usual[1:])
        rest = self._independent([*usual, *extremes][len(first) :])
        outputs = [*first, *rest]
        for call, each in zip(usual, outputs, strict=False):
            if isinstance(each, Exception):
                shapes = [list(array.shape) for array in call.inputs.values()]
                reason = f"{type(each).__name__}: {first_line(str(each))}"
                raise _UnsuitableError(
                    f"it cannot run on inputs of shape {shapes} ({reason}), unless time_steps fixes open sizes"
                ) from each
        return outputs[: len(usual)], outputs[len(usual) :]

    def _tried(self, call: Call) -> Any:
        try:
            return self._source(list(call.inputs.values()))
        except Exception as error:  # whatever the source's own layers raise
            return error

    def _independent(self, calls: Sequence[Call]) -> list[Any]:
        """The outputs of calls each of which starts from zero, or what the source raises."""
        results: list[Any] = []
        for _, group in itertools.groupby(calls, lambda call: [array.shape for array in call.inputs.values()]):
            alike = list(group)
            # One call with many rows takes Keras as long as one call with a single row.
            rows = self._source.as_rows([list(call.inputs.values()) for call in alike])
            if rows is None:
                for call in alike:
                    self._source.reset()
                    results.append(self._tried(call))
            else:
                results += rows
        return results

    def _error_of_extreme(self, call: Call, wanted: Any, number: int) -> float:
        if isinstance(wanted, Exception):
            raise _UnsuitableError(
                f"the source cannot run on them ({type(wanted).__name__}: {first_line(str(wanted))})"
            )
        if finite_share(wanted) == 0:
            raise _UnsuitableError("an output of the source has no finite number")
        if self._carries:
            self.runner.reset()
        return self._error([call], wanted, number)

    def _error(self, history: Sequence[Call], wanted: Outputs, number: int) -> float:
        """The error of the last of some calls in a row.

        Args:
            history: the calls since the state was zero.
            wanted: the outputs of the source.
            number: of the call.
        """
        call = history[-1]
        if self._reset:
            self.runner.reset()
        given = self.runner.outputs(**call.inputs)
        large = max(map(_largest, call.inputs.values()), default=0.0) if call.kind == "large" else 0.0
        options: dict[str, Any] = {"call": number, "kind": call.kind, "largest_input": large}
        with contextlib.suppress(ParityError):
            return compare(wanted, given, **options)
        # Only the model itself can refuse the file, called as its user calls it, and not with many rows.
        wanted = self._replayed([each.inputs for each in history])
        try:
            return compare(wanted, given, **options)
        except ParityError as error:
            if self._source.has_changed:
                raise ConversionError(
                    f"the weights of model {self._traced.name!r} changed while it was converted, perhaps by training "
                    "in another thread; convert it when nothing trains it, or convert a copy (keras.models.clone_model "
                    "and set_weights)"
                ) from error
            moved = self._moved(history, wanted)
            if math.isfinite(error.max_abs_error) and error.max_abs_error <= 2 * moved:
                raise _UnsuitableError(
                    f"{error}; but it differs from itself by {moved:.3g} when its inputs change in the sixth digit, "
                    "since rounding grows in it"
                ) from error
            message = f"{error}; {self._remedy(call.kind)}"
            raise ParityError(message, max_abs_error=error.max_abs_error, tolerance=error.tolerance) from None

    def _replayed(self, calls: Iterable[Inputs]) -> Outputs:
        """The outputs of the source for the last of some calls in a row that start from zero."""
        self._source.reset()
        outputs: Outputs = {}
        for inputs in calls:
            outputs = self._source(list(inputs.values()))
        return outputs

    def _moved(self, history: Sequence[Call], wanted: Outputs) -> float:
        """How far the source's outputs move when its floating-point inputs change by a little.

        They change by the share `TOLERANCE`, and random inputs and samples at least by what rounding takes from numbers
        of the size of 1, such as biases. Zeros, and values that mark padding, stay.
        """
        random, suits = np.random.default_rng(0), self._traced.random_inputs
        least = 0.0 if history[-1].kind else float(np.finfo(np.float32).eps)

        def shaken(number: int, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            if array.dtype.kind != "f" or suits.is_token(number):
                return array
            change = np.maximum(TOLERANCE * np.abs(array), least) * random.choice([-1, 1], array.shape)
            return np.where((array == 0) | (array == suits.mask_value), array, array + change).astype(array.dtype)

        calls = [
            {name: shaken(number, array) for number, (name, array) in enumerate(call.inputs.items())}
            for call in history
        ]
        outputs = self._replayed(calls)
        self._replayed([call.inputs for call in history])
        return max(difference(array, outputs[name])[0] for name, array in wanted.items())

    def _remedy(self, kind: str) -> str:
        if kind:
            bounds = "; or pass representative_dataset, beyond whose range no input is drawn" if kind == "large" else ""
            return (
                "on random inputs they agree, so replace the layer whose arithmetic breaks on these in TensorFlow "
                f"Lite, such as a norm of zeros or a softplus of large numbers{bounds}"
            )
        if self._traced.layers is None:
            return "check the operands, gates and options that the function's marks declare"
        if isinstance(self._traced.function, StockFile) and self._traced.function.converter == "litert-torch":
            return (
                "a module computes something else in the file; to find it, convert its submodules one by one, and "
                "compute that one outside of the file"
            )
        return (
            "a layer computes something else in the file; to find it, convert the model up to one layer after another "
            "(keras.Model(model.inputs, layer.output))"
        )


def _largest(array: npt.NDArray[Any]) -> float:
    return float(np.abs(array).max(initial=0.0)) if array.dtype.kind == "f" else 0.0
