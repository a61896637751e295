"""`Plan`: one way to convert a model; and the plans that a request leads to.

| target | plans |
|---|---|
| None, "litert" | what the request says; with lowering="auto" fused ops, or else plain ones, out of which the other |
|  | files to time are made |
| "compiled" | plain ops, since there are no variable tensors: unrolled up to `UNROLLED_STEPS`, else a loop |
| "micro" | fused ops where its kernel takes every layer, with both directions split and an input gate of its own for |
|  | CIFG; else a loop of one step a turn, which of all plain forms takes the least memory |
| any, "int8" | fused ops, but for "compiled", if all layers can be such; else plain ops as for "int16x8" |
| any, "int16x8" | plain ops, unrolled up to `UNROLLED_STEPS`, else a loop; for "micro" as above, where fused ops run |
|  | there alone |

A lowering other than the default stays as it was asked for.
"""

import dataclasses

from lstm_toolkit.conversion.request import Request
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.runtime.installed import is_installed

_NO_VARIABLES = "CompiledModel takes no variable tensors"

UNROLLED_STEPS = 100
"""Up to how many steps plain ops for `CompiledModel` are unrolled; beyond, a loop is smaller and not slower."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """One way to convert a model.

    Attributes:
        lowering: "fused", or the form of plain ops: "unrolled" or "loop".
        by_length: plain ops are unrolled up to `UNROLLED_STEPS` steps and a loop beyond, whatever `lowering` says.
        steps_per_turn: of a loop; None chooses.
        merge: both directions of a layer become one op.
        for_micro: ops are such as TensorFlow Lite Micro has; if its kernel does not take a fused one, `NeedsPlainOps`
            is raised.
        integers: ops are such as suit a quantization to int16: all steps of plain ops are alike.
        on_unsupported: "raise" or "keep", as for `convert`.
        reason: why layers are plain ops though fused ones were asked for; None if they were not.
    """

    lowering: str
    by_length: bool = False
    steps_per_turn: int | None = None
    merge: bool = False
    for_micro: bool = False
    integers: bool = False
    on_unsupported: str = "raise"
    reason: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether recurrent layers become plain ops."""
        return self.lowering != "fused"


def plans_for(request: Request) -> tuple[Plan, ...]:
    """The plans of a request, the best first; a later one is for models that the earlier ones cannot hold.

    Raises:
        ConversionError: if the target cannot run what was asked for.
    """
    if request.quantization in ("int8", "int16x8"):
        return _for_integers(request)
    if request.target == "compiled":
        return (_for_compiled(request),)
    if request.target == "micro":
        return _for_micro(request)
    if request.is_timed:
        return _to_time(request)
    return (Plan(lowering=request.lowering, merge=request.merges, on_unsupported=request.on_unsupported),)


def _for_integers(request: Request) -> tuple[Plan, ...]:
    is_micro, is_compiled = request.target == "micro", request.target == "compiled"
    if is_compiled and "int16" in request.io_dtypes:
        raise ConversionError(
            'CompiledModel takes and gives no int16; pass io_dtype="float32" or "int8", between which and int16 the '
            "file changes by itself"
        )
    plain = Plan(
        lowering="loop",
        steps_per_turn=1 if is_micro else None,
        for_micro=is_micro,
        integers=True,
        on_unsupported=request.on_unsupported,
    )
    if request.lowering in ("unrolled", "loop"):
        return (dataclasses.replace(plain, lowering=request.lowering),)
    plain = dataclasses.replace(plain, by_length=not is_micro)
    reason = _NO_VARIABLES if is_compiled else None
    if request.quantization == "int16x8" and not (is_micro and is_installed("micro")):
        reason = "there is no int16 kernel of the fused op"
        if is_micro:
            reason = "LiteRT has no int16 kernel of the fused op, and tflite-micro is not installed to check it there"
    if reason:
        return (dataclasses.replace(plain, reason=reason),)
    on_unsupported = "raise" if is_micro else request.on_unsupported
    is_int16 = request.quantization == "int16x8"
    return Plan(lowering="fused", for_micro=is_micro, integers=is_int16, on_unsupported=on_unsupported), plain


def _for_compiled(request: Request) -> Plan:
    if request.lowering in ("unrolled", "loop"):
        return Plan(lowering=request.lowering, on_unsupported=request.on_unsupported)
    return Plan(
        lowering="loop",
        by_length=True,
        on_unsupported=request.on_unsupported,
        reason=_NO_VARIABLES,
    )


def _for_micro(request: Request) -> tuple[Plan, ...]:
    if request.quantization in ("dynamic", "float16"):
        raise ConversionError(
            f'TensorFlow Lite Micro has no kernels for quantization="{request.quantization}" (int8 weights beside '
            'float inputs it even computes wrongly, in silence); pass quantization="int8" or None'
        )
    fused = Plan(lowering="fused", for_micro=True)
    plain = Plan(lowering="loop", steps_per_turn=1, for_micro=True, on_unsupported=request.on_unsupported)
    if request.lowering in ("unrolled", "loop"):
        return (dataclasses.replace(plain, lowering=request.lowering),)
    return fused, plain


def _to_time(request: Request) -> tuple[Plan, ...]:
    fused = Plan(lowering="fused", merge=request.merges)
    plain = Plan(lowering="loop", on_unsupported=request.on_unsupported)
    kept = dataclasses.replace(fused, on_unsupported="keep")
    return (fused, plain, kept) if request.on_unsupported == "keep" else (fused, plain)
