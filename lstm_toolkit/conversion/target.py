"""Runs plans until one gives a file, and checks that the target of the request can run it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lstm_toolkit.conversion.owners import owners_in_file
from lstm_toolkit.conversion.pipeline import run_plan
from lstm_toolkit.conversion.plans import Plan
from lstm_toolkit.conversion.report import Conversion
from lstm_toolkit.conversion.request import Request
from lstm_toolkit.doctor.diagnose import diagnose
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.passes.for_micro import NeedsPlainOps
from lstm_toolkit.quantization.ranges import LargeInputsError
from lstm_toolkit.quantization.samples import replayable
from lstm_toolkit.runtime.trial import is_installed
from lstm_toolkit.sources.traced import LayerReport
from lstm_toolkit.tflite import files

NAMES = {"litert": "the LiteRT interpreter", "compiled": "CompiledModel", "micro": "TensorFlow Lite Micro"}

_REMEDIES = {"micro-open": "pass time_steps", "trial": "leave out target for a file for the LiteRT interpreter"}


def first_right(model: Any, request: Request, plans: Sequence[Plan]) -> Conversion:
    """The conversion by the first plan that the model fits.

    Raises:
        ConversionError: as the last plan does.
    """
    refusal: ConversionError | None = None
    request = dataclasses.replace(request, representative_dataset=replayable(request.representative_dataset))
    for plan in plans:
        try:
            conversion = run_plan(model, request, plan)
        except ConversionError as error:
            if plan is plans[-1] or isinstance(error, LargeInputsError):
                raise
            refusal = error
        else:
            return _explained(conversion, plan, refusal)
    raise AssertionError("a request has a plan")


def check_target(conversion: Conversion, target: str, *, run: bool) -> None:
    """Makes sure that the target runs a file.

    Args:
        conversion: the file.
        target: "litert", "compiled" or "micro".
        run: whether to run the file there too, where the target is installed, and to compare it with LiteRT.

    Raises:
        ConversionError: names what stands in the way, and what to do.
    """
    run = run and is_installed(target)
    errors = [found for found in diagnose(conversion.tflite, target=target, run=run) if found.severity == "error"]
    if errors:
        found = errors[0]
        remedy = _REMEDIES.get(found.code)
        if remedy is None:
            owners = owners_in_file(files.read_model(conversion.tflite), found.location)
            remedy = f"take {owners} out of the model, and compute it outside of the file"
            if found.location == "GELU":
                remedy = f"give {owners} its approximate form, lambda x: keras.activations.gelu(x, approximate=True)"
        raise ConversionError(f"{NAMES[target]} cannot run the file: {found.location}: {found.message}; {remedy}")


def _explained(conversion: Conversion, plan: Plan, refusal: ConversionError | None) -> Conversion:
    """Says in the report why layers are plain ops though fused ones were asked for."""
    reasons: Mapping[str, str] = refusal.reasons if isinstance(refusal, NeedsPlainOps) else {}
    if reasons:
        otherwise: str | None = "another layer cannot be a fused op there"
    else:
        otherwise = plan.reason if refusal is None else str(refusal).split("; ")[0]
    if otherwise is None:
        return conversion

    def explained(layer: LayerReport) -> LayerReport:
        found = (reason for name, reason in reasons.items() if layer.owns(name))
        return dataclasses.replace(layer, reason=layer.reason or next(found, otherwise))

    report = dataclasses.replace(conversion.report, layers=tuple(map(explained, conversion.report.layers)))
    return dataclasses.replace(conversion, report=report)
