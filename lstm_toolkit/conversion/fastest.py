"""What `convert` does with `lowering="auto"`: files of all candidates out of one trace, and the report of one."""

import dataclasses
import functools
import logging
import os
from collections.abc import Sequence
from typing import Any

from lstm_toolkit.conversion.choice import Candidate, Limits, candidates, choose
from lstm_toolkit.conversion.float_file import OUTSIDE, FloatFile, random_samples
from lstm_toolkit.conversion.pipeline import lowered, trace_for
from lstm_toolkit.conversion.plans import Plan
from lstm_toolkit.conversion.report import Checked, Conversion
from lstm_toolkit.conversion.request import Request
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.passes.plain.lower import lower
from lstm_toolkit.passes.plain.match import matches
from lstm_toolkit.quantization.quantize import quantize
from lstm_toolkit.quantization.report import QuantizationReport
from lstm_toolkit.quantization.samples import Samples
from lstm_toolkit.runtime.first_run import first_run
from lstm_toolkit.runtime.runner import Runner
from lstm_toolkit.sources.traced import LayerReport
from lstm_toolkit.tflite import files, graph

logger = logging.getLogger("lstm_toolkit")

MOST_STEPS = 2000
"""Steps over all layers up to which a file is unrolled: each has ops of its own, and ten thousand take a minute."""


def convert_fastest(model: Any, request: Request, plans: Sequence[Plan]) -> Conversion:
    """Converts a model in every way, and returns the fastest one.

    Args:
        model: as `convert` takes it.
        request: its options.
        plans: how to make the file that all others are made of, the best first.

    Raises:
        ConversionError: if no way is left, or the model cannot be converted at all.
    """
    base, plan, samples = _base(model, request, plans)
    first_run(base.tflite, remedy=OUTSIDE)
    made = _Files(base, plan)
    ways = candidates(
        quantizations=(request.quantization,) if request.max_error is None else (None, "dynamic"),
        fused=not plan.is_plain,
        steps_per_turn=(None,) if plan.is_plain else (None, 4, 20),
    )
    checked: dict[Candidate, Checked] = {}

    def confirm(way: Candidate) -> None:
        if request.verify:
            file = made.float32(way.lowering, way.steps_per_turn)
            checked[way] = base.verify(samples, tflite=file, runtime=way.runtime, num_threads=way.num_threads)

    logger.info("timing")
    choice = choose(
        ways,
        made.runner_of,
        Runner(base.tflite),
        made.samples,
        limits=Limits(request.max_error, request.time_budget, request.caches, _more_threads()),
        confirm=confirm,
    )
    chosen = choice.chosen
    tflite, quantized = made.of(chosen)
    report = dataclasses.replace(
        base.report,
        layers=tuple(_as_lowered(each, chosen.lowering) for each in base.report.layers),
        ops=graph.count_operators(files.read_model(tflite)),
        checked=checked.get(chosen),
        quantization=quantized,
        automatic=choice,
    )
    return Conversion(tflite, report, chosen.runtime, chosen.num_threads)


def _more_threads() -> tuple[int, ...]:
    """The number of processors that this process may use, if it is more than one."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return (available,) if available > 1 else ()


def _as_lowered(layer: LayerReport, lowering: str) -> LayerReport:
    return layer if layer.reason or lowering == "fused" else dataclasses.replace(layer, op=lowering)


def _base(model: Any, request: Request, plans: Sequence[Plan]) -> tuple[FloatFile, Plan, Samples]:
    """The file of the first plan that the model fits, that plan, and the representative samples.

    Raises:
        ConversionError: why the first plan does not fit; with on_unsupported="keep", why the last one does not.
    """
    refusals = []
    for plan in plans:
        try:
            traced, samples = trace_for(model, request, plan)
            return lowered(traced, plan), plan, samples
        except ConversionError as error:
            refusals.append(error)
    raise refusals[-1 if request.on_unsupported == "keep" else 0]


class _Files:
    """The files of the candidates, each made once."""

    def __init__(self, base: FloatFile, plan: Plan) -> None:
        self._base, self._plan = base, plan
        self.samples = random_samples(base)
        self.float32 = functools.cache(self._float32)
        self._quantized = functools.cache(self._make_quantized)

    def of(self, way: Candidate) -> tuple[bytes, QuantizationReport | None]:
        """The file of a candidate, and how far it is from float32 if it is quantized."""
        if way.quantization is None:
            return self.float32(way.lowering, way.steps_per_turn), None
        return self._quantized(way.lowering, way.steps_per_turn, way.quantization)

    def runner_of(self, way: Candidate) -> Runner:
        """Runs the file of a candidate, in this process, where it is timed."""
        tflite, _ = self.of(way)
        if way.num_threads == 1:
            first_run(tflite, remedy="choose another lowering", runtime=way.runtime)
        return Runner(tflite, runtime=way.runtime, num_threads=way.num_threads)

    def _float32(self, lowering: str, steps_per_turn: int | None) -> bytes:
        if lowering == self._plan.lowering and steps_per_turn is None:
            return self._base.tflite
        if lowering == "unrolled":
            self._check_steps()
        if self._plan.is_plain:
            return lowered(self._base.traced, dataclasses.replace(self._plan, lowering=lowering)).tflite
        return lower(self._base.tflite, form=lowering, steps_per_turn=steps_per_turn)

    def _make_quantized(
        self, lowering: str, steps_per_turn: int | None, kind: str
    ) -> tuple[bytes, QuantizationReport | None]:
        return quantize(self.float32(lowering, steps_per_turn), kind, self.samples)

    def _check_steps(self) -> None:
        if self._plan.is_plain:
            sequences = [spec.shape[1] or 0 for spec in self._base.traced.inputs if len(spec.shape) > 1]
            steps = max(sequences, default=0) * len(self._base.report.layers)
        else:
            steps = _steps(self._base.tflite)
        if steps > MOST_STEPS:
            raise ConversionError(f"unrolled over {steps:,} steps, more than {MOST_STEPS:,}, the file would be large")


def _steps(file: bytes) -> int:
    """Steps of all recurrent ops together; 0 where none can be lowered anyway."""
    model = files.read_model(file)
    try:
        found = [match for subgraph in model.subgraphs for match in matches(model, subgraph, "loop")]
    except ConversionError:
        return 0
    return sum(each.steps or 0 for match in found for each in match.recurrences)
