"""What `convert` does with `lowering="auto"`: files of all candidates out of one trace, and the report of one."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

from lstm_toolkit.conversion import choice as choice_conversion
from lstm_toolkit.conversion import convert, parity
from lstm_toolkit.conversion.choice import Candidate
from lstm_toolkit.conversion.report import Conversion, ConversionReport
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.passes.plain.lower import lower
from lstm_toolkit.passes.plain.match import matches
from lstm_toolkit.passes.plain.recurrence import FORMS
from lstm_toolkit.quantization import quantize
from lstm_toolkit.quantization.report import QuantizationReport
from lstm_toolkit.quantization.samples import Samples
from lstm_toolkit.runtime.runner import RUNTIMES, Runner
from lstm_toolkit.sources.source import trace
from lstm_toolkit.sources.traced import LayerReport, TracedModel, TraceOptions
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.files import read_model

logger = logging.getLogger("lstm_toolkit")

MOST_STEPS = 2000
"""Steps over all layers up to which a file is unrolled: each has ops of its own, and ten thousand take a minute."""


@dataclasses.dataclass(frozen=True)
class _Source:
    """A traced model with the float32 file that all others are made of or compared with.

    Attributes:
        traced: the model.
        file: of the fused ops, or of loops where a layer has no fused op.
        report: of that file.
        carried: the states that it carries.
        fused: whether it has the fused ops.
        lowered: makes the float32 file of a form, with so many steps a turn.
    """

    traced: TracedModel
    file: bytes
    report: ConversionReport
    carried: frozenset[str]
    fused: bool
    lowered: Callable[[str, int | None], bytes]


def convert_fastest(
    model: Any,
    *,
    trace_options: TraceOptions,
    merge: bool,
    kind: str | None,
    max_error: float | None,
    time_budget: float,
    verify: bool,
    runtimes: Sequence[str] = RUNTIMES,
) -> Conversion:
    """Converts a model in every way, and returns the fastest one.

    Args:
        model: as `convert` takes it.
        trace_options: how it is traced.
        merge: whether both directions of a layer become one op.
        kind: the quantization that was asked for, or None.
        max_error: with no quantization asked for, the largest relative error that int8 weights may cause.
        time_budget: seconds.
        verify: whether the float32 file of the chosen way is compared with the source.
        runtimes: those that may be chosen.

    Raises:
        ConversionError: if no way is left, or the model cannot be converted at all.
    """
    source = _source(model, trace_options, merge)
    samples = convert.random_samples(source.file, source.traced)
    files = _Files(source, samples)
    quantizations = (None, "dynamic") if max_error is not None else (kind,)
    ways = choice_conversion.candidates(
        quantizations=quantizations,
        runtimes=runtimes,
        fused=source.fused,
        steps_per_turn=(None, 4, 20) if source.fused else (None,),
    )
    errors: dict[Candidate, float] = {}

    def confirm(way: Candidate) -> None:
        if verify:
            # A function that is marked to carry its state in the file has none of its own.
            reset = source.traced.layers is None and bool(source.carried)
            file = files.float32(way.lowering, way.steps_per_turn)
            errors[way] = parity.verify(file, source.traced, reset=reset, runtime=way.runtime)

    logger.info("timing")
    choice = choice_conversion.choose(
        ways,
        lambda way: Runner(files.file(way)[0], runtime=way.runtime),
        Runner(source.file),
        samples,
        max_error=max_error,
        time_budget=time_budget,
        confirm=confirm,
    )
    chosen = choice.chosen
    tflite, quantized = files.file(chosen)
    report = dataclasses.replace(
        source.report,
        layers=_layers(source.report.layers, chosen.lowering),
        ops=graph.count_operators(read_model(tflite)),
        max_abs_error=errors.get(chosen),
        quantization=quantized,
        automatic=choice,
    )
    return Conversion(tflite, report, chosen.runtime)


def _layers(layers: tuple[LayerReport, ...], lowering: str) -> tuple[LayerReport, ...]:
    if lowering == "fused":
        return layers
    return tuple(dataclasses.replace(each, op=each.op if each.reason else lowering) for each in layers)


def _source(model: Any, trace_options: TraceOptions, merge: bool) -> _Source:
    """Traces the model for the fused ops, or else for plain ones."""
    try:
        return _fused_source(model, dataclasses.replace(trace_options, on_unsupported="raise"), merge)
    except ConversionError as not_fused:
        try:
            return _plain_source(model, trace_options, merge)
        except ConversionError:
            if trace_options.on_unsupported == "keep":
                return _fused_source(model, trace_options, merge)
            raise not_fused from None


def _fused_source(model: Any, trace_options: TraceOptions, merge: bool) -> _Source:
    traced = trace(model, trace_options)
    file, report, carried = convert.lowered(traced, merge=merge, form="fused")
    steps = _steps(file)

    def lowered(form: str, steps_per_turn: int | None) -> bytes:
        if form == "unrolled":
            _check_steps(steps)
        return lower(file, form=form, steps_per_turn=steps_per_turn)

    return _Source(traced, file, report, carried, True, lowered)


def _plain_source(model: Any, trace_options: TraceOptions, merge: bool) -> _Source:
    traced = trace(model, dataclasses.replace(trace_options, plain=True))
    file, report, carried = convert.lowered(traced, merge=merge, form="loop")
    sequences = [spec.shape[1] or 0 for spec in traced.function.inputs if len(spec.shape) > 1]
    steps = max(sequences, default=0) * len(report.layers)

    def lowered(form: str, steps_per_turn: int | None) -> bytes:
        if form == "loop":
            return file
        _check_steps(steps)
        return convert.lowered(traced, merge=merge, form=form)[0]

    return _Source(traced, file, report, carried, False, lowered)


def _steps(file: bytes) -> int:
    """Steps of all recurrent ops together; 0 where none can be lowered anyway."""
    model = read_model(file)
    try:
        found = [match for subgraph in model.subgraphs for match in matches(model, subgraph, "loop")]
    except ConversionError:
        return 0
    return sum(each.steps or 0 for match in found for each in match.recurrences)


def _check_steps(steps: int) -> None:
    if steps > MOST_STEPS:
        raise ConversionError(f"unrolled over {steps:,} steps, more than {MOST_STEPS:,}, the file would be large")


class _Files:
    """The files of the candidates, each made once."""

    def __init__(self, source: _Source, samples: Samples) -> None:
        self._source, self._samples = source, samples
        self.float32 = functools.cache(self._float32)
        self._quantized = functools.cache(self._make_quantized)

    def file(self, way: Candidate) -> tuple[bytes, QuantizationReport | None]:
        """The file of a candidate, and how far it is from float32 if it is quantized."""
        if way.quantization is None:
            return self.float32(way.lowering, way.steps_per_turn), None
        return self._quantized(way.lowering, way.steps_per_turn, way.quantization)

    def _float32(self, form: str, steps_per_turn: int | None) -> bytes:
        return self._source.lowered(form, steps_per_turn) if form in FORMS else self._source.file

    def _make_quantized(
        self, form: str, steps_per_turn: int | None, kind: str
    ) -> tuple[bytes, QuantizationReport | None]:
        return quantize.quantize(self.float32(form, steps_per_turn), kind, self._samples)
