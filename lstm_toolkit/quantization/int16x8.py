"""Quantizes a plain float file to int16 activations and states with int8 weights, for LiteRT and TensorFlow Lite Micro.

Ranges are taken on a file in which all layers are unrolled, since nothing can be read inside of a loop. A loop gets
them by the names of its tensors, so that both forms compute the same numbers.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lstm_toolkit.passes import fused_int16
from lstm_toolkit.passes.int16.rewrite import to_int16
from lstm_toolkit.passes.int16.scales import Range
from lstm_toolkit.passes.int16.weights import Moments
from lstm_toolkit.quantization import ranges
from lstm_toolkit.quantization.forms import FloatForms
from lstm_toolkit.quantization.moments import MomentsOf
from lstm_toolkit.quantization.ranges import Extremes
from lstm_toolkit.quantization.samples import Samples
from lstm_toolkit.tflite import files, graph
from lstm_toolkit.tflite.types import Model, Operator

HEADROOM = 2.0
"""How many times as wide as for new samples a range is: it costs one of 16 bits, and nothing is cut."""


def quantize(
    file: FloatForms,
    calibration: Samples,
    *,
    held_out: Samples,
    progress: Callable[[int], Any] = lambda _: None,
) -> tuple[bytes, list[tuple[str, str]], int]:
    """Quantizes a plain float file to int16 with int8 weights.

    Args:
        file: the file; all shapes fixed, recurrent layers plain ops whose steps are alike (`lower_model`), or fused
            ops that TensorFlow Lite Micro takes.
        calibration: the samples to take ranges on.
        held_out: other samples, to see whether they keep to those ranges; may be empty.
        progress: called with the number of samples that are done.

    Returns:
        The file, the ops that stay float with the reason, and the number of held-out samples that go beyond a range.
    """
    found, moments, cut = calibrated(file, calibration, held_out, progress)
    model = files.read_model(file.tflite)
    wide = with_headroom(found)
    fused = fused_int16.to_int16(model, {name: max(-low, high) for name, (low, high) in wide.items()})
    kept = kept_float(model, to_int16(model, wide, moments))
    if fused:
        fused_int16.join(model)
    files.sign(model)
    return files.write_model(model), kept, cut


def calibrated(
    file: FloatForms, calibration: Samples, held_out: Samples, progress: Callable[[int], Any]
) -> tuple[dict[str, Range], Moments, int]:
    """The ranges of a file's tensors by name, its moments, and the number of held-out samples beyond a range."""
    model = files.read_model(file.unrolled or file.tflite)
    moments = MomentsOf(model)
    seen = ranges.extremes(model, calibration, progress, moments.add)
    found = ranges_by_name(model, seen)
    tensors = model.subgraphs[0].tensors
    fitted = {index: found[graph.text(tensors[index].name)] for index in seen}
    return found, moments.found, ranges.beyond(fitted, ranges.extremes(model, held_out)) if held_out else 0


def ranges_by_name(model: Model, seen: Extremes) -> dict[str, Range]:
    """The range of the float tensors of a file by name, which those of all steps of a layer have together.

    Args:
        model: the file.
        seen: what its tensors reach, as `ranges.extremes` gives it.
    """
    joined: dict[str, np.ndarray] = {}
    for index, each in seen.items():
        name = graph.text(model.subgraphs[0].tensors[index].name)
        other = joined.get(name, each)
        joined[name] = np.stack([np.minimum(each[:, 0], other[:, 0]), np.maximum(each[:, 1], other[:, 1])], axis=1)
    return {name: ranges.with_width(ranges.for_new(each)) for name, each in joined.items()}


def with_headroom(found: Mapping[str, Range]) -> dict[str, Range]:
    """Ranges as wide as 16 bits have room for."""
    return {name: (HEADROOM * low, HEADROOM * high) for name, (low, high) in found.items()}


def kept_float(model: Model, left: list[Operator]) -> list[tuple[str, str]]:
    """The ops that stay float, by the names of their results, each with the reason."""
    tensors: Mapping[int, Any] = {id(op): each.tensors for each in model.subgraphs for op in each.operators}
    named = (
        (graph.text(tensors[id(op)][op.outputs[0]].name), graph.operator_name(model, op))
        for op in left
        if len(op.outputs) and id(op) in tensors
    )
    return [(name, f"there is no int16 kernel of {op}") for name, op in dict.fromkeys(named)]
