"""Chooses the forms of layers that a target runs: the part of `convert(..., target=...)` that is not conversion.

| target | what it gets |
|---|---|
| "litert" | what `convert` makes without a target |
| "compiled" | plain ops, since there are no variable tensors: unrolled up to `UNROLLED_STEPS`, else a loop |
| "micro" | fused ops where its kernel takes every layer, with both directions split and an input gate of its own for |
|  | CIFG; else, in float, a loop of one step a turn, which of all plain forms takes the least memory |

A lowering other than the default stays as it was asked for.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lstm_toolkit.conversion.report import Conversion
from lstm_toolkit.doctor.diagnose import diagnose
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.passes import coupled_gate
from lstm_toolkit.runtime import targets
from lstm_toolkit.runtime.trial import is_installed
from lstm_toolkit.sources.traced import LayerReport
from lstm_toolkit.tflite import graph, recurrent
from lstm_toolkit.tflite.types import Model
from lstm_toolkit.weights.operands import CELL_COMPOSITE, OPERANDS_OF

UNROLLED_STEPS = 100
"""Up to how many steps plain ops for `CompiledModel` are unrolled; beyond, a loop is smaller and not slower."""

NAMES = {"litert": "the LiteRT interpreter", "compiled": "CompiledModel", "micro": "TensorFlow Lite Micro"}

_REMEDIES = {"micro-open": "pass time_steps", "trial": "pass verify=False to have the file all the same"}

_CHOSEN_LOWERINGS = ("fused", "auto")


class NeedsPlainOps(ConversionError):
    """Some layers cannot be fused ops on the target.

    Attributes:
        reasons: why, by layer.
    """

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"layer {layer!r}: {reason}" for layer, reason in reasons.items()))
        self.reasons = reasons


@dataclasses.dataclass(frozen=True)
class Forms:
    """What a conversion that is under way has to know of its target.

    Attributes:
        fused_on_micro: fused ops have to be such as TensorFlow Lite Micro takes.
        by_length: plain ops are unrolled or a loop, whatever the number of steps speaks for.
        steps_per_turn: of loops; None leaves it open.
    """

    fused_on_micro: bool = False
    by_length: bool = False
    steps_per_turn: int | None = None

    def prepare(self, model: Model) -> None:
        """Gives the fused ops of a `ModelT` the form that the target takes, in place.

        Raises:
            NeedsPlainOps: if they have none.
        """
        if not self.fused_on_micro:
            return
        reasons: dict[str, str] = {}
        for subgraph in model.subgraphs:
            for operator in subgraph.operators:
                states, name = recurrent.state_tensors(model, operator), graph.operator_name(model, operator)
                if not states:
                    continue
                reason: str | None = f"there is no op {name}"
                if name == targets.MICRO_LSTM:
                    if recurrent.is_coupled(operator):
                        coupled_gate.uncouple(model, subgraph, operator)
                    reason = targets.why_not_lstm(subgraph, operator)
                if reason:
                    reasons[recurrent.layer_of(subgraph.tensors[states[0]])] = reason
        if reasons:
            raise NeedsPlainOps(reasons)

    def plain_form(self, model: Model, form: str) -> str:
        """The form of the plain ops of a `ModelT`, which stays what it is where it was asked for."""
        if not self.by_length:
            return form
        return "unrolled" if all(0 < steps <= UNROLLED_STEPS for steps in _steps(model)) else "loop"


_wanted: contextvars.ContextVar[Forms | None] = contextvars.ContextVar("wanted_forms", default=None)


def wanted() -> Forms:
    """The forms that the conversion under way has to give."""
    return _wanted.get() or Forms()


@contextlib.contextmanager
def _giving(forms: Forms) -> Iterator[None]:
    token = _wanted.set(forms)
    try:
        yield
    finally:
        _wanted.reset(token)


def _steps(model: Model) -> Iterator[int]:
    """The number of steps of each recurrent op, -1 where it is open."""
    for subgraph in model.subgraphs:
        for operator in subgraph.operators:
            if graph.operator_name(model, operator) in (*OPERANDS_OF, CELL_COMPOSITE):
                shape = graph.shape_of(subgraph.tensors[operator.inputs[0]])
                yield 1 if len(shape) < 3 else shape[0 if getattr(operator.builtinOptions, "timeMajor", False) else 1]


def convert_for(target: str, convert: Callable[..., Conversion], options: Mapping[str, Any]) -> Conversion:
    """Converts for a target.

    Args:
        target: one of `targets.TARGETS`.
        convert: `conversion.convert` of the model, without a target.
        options: its keyword arguments.

    Returns:
        The conversion. Where `verify` is on and the target is installed, the file has run there and agreed with LiteRT.

    Raises:
        ConversionError: as `convert`, and if no form of the model runs on the target; names what stands in the way.
    """
    if target != "litert" and options["lowering"] == "auto":
        # The target leaves one way, so there is nothing to choose by time.
        if options["max_error"] is not None:
            raise ValueError(
                f'target={target!r} leaves lowering="auto" one way, so max_error lets nothing in; pass '
                "quantization for int8 weights"
            )
        options = {name: value for name, value in options.items() if name not in ("max_error", "time_budget")}
    conversion = {"litert": _for_litert, "compiled": _for_compiled, "micro": _for_micro}[target](convert, dict(options))
    runs = bool(options["verify"]) and is_installed(target)
    errors = [f for f in diagnose(conversion.tflite, target=target, run=runs) if f.severity == "error"]
    if errors:
        found = errors[0]
        remedy = _REMEDIES.get(found.code, "take the layer that needs it out of the model")
        raise ConversionError(f"{NAMES[target]} cannot run the file: {found.location}: {found.message}; {remedy}")
    return conversion


def _for_litert(convert: Callable[..., Conversion], options: dict[str, Any]) -> Conversion:
    return convert(**options)


def _for_compiled(convert: Callable[..., Conversion], options: dict[str, Any]) -> Conversion:
    if options["quantization"] == "int8":
        raise ConversionError(
            "CompiledModel takes no variable tensors, in which int8 LSTMs keep their state; pass "
            'quantization="dynamic" or "float16"'
        )
    if options["lowering"] not in _CHOSEN_LOWERINGS:
        return convert(**options)
    with _giving(Forms(by_length=True)):
        conversion = convert(**options | {"lowering": "loop"})
    return _with_reason(conversion, {}, "CompiledModel takes no variable tensors")


def _for_micro(convert: Callable[..., Conversion], options: dict[str, Any]) -> Conversion:
    if options["quantization"] in ("dynamic", "float16"):
        raise ConversionError(
            f"TensorFlow Lite Micro has no kernels for quantization={options['quantization']!r} (int8 weights beside "
            'float inputs it even computes wrongly, in silence); pass quantization="int8" or None'
        )
    options["bidirectional"] = "split"
    if options["lowering"] in _CHOSEN_LOWERINGS:
        try:
            with _giving(Forms(fused_on_micro=True)):
                return convert(**options | {"lowering": "fused", "on_unsupported": "raise"})
        except ConversionError as error:
            refusal = error
        if options["quantization"] == "int8":
            raise ConversionError(
                f"not all layers can be int8 on TensorFlow Lite Micro: {refusal}; without quantization they can be "
                "plain ops there"
            ) from refusal
        options["lowering"] = "loop"
    else:
        refusal = None
    with _giving(Forms(steps_per_turn=1)):
        conversion = convert(**options)
    if refusal is None:
        return conversion
    reasons = refusal.reasons if isinstance(refusal, NeedsPlainOps) else {}
    other = "another layer cannot be a fused op there" if reasons else str(refusal).split("; ")[0]
    return _with_reason(conversion, reasons, other)


def _with_reason(conversion: Conversion, reasons: Mapping[str, str], otherwise: str) -> Conversion:
    """Says in the report why layers are plain ops though fused ones were asked for."""

    def explained(layer: LayerReport) -> LayerReport:
        if layer.reason:
            return layer
        # Both directions of a layer have names that start with its own.
        found = [reason for name, reason in reasons.items() if name.startswith(layer.name)]
        return dataclasses.replace(layer, reason=found[0] if found else otherwise)

    report = dataclasses.replace(conversion.report, layers=tuple(map(explained, conversion.report.layers)))
    return dataclasses.replace(conversion, report=report)
