"""Quantizes a file to int8 whose recurrent layers become plain ops with int16 states.

TensorFlow's quantizer gets the file with each recurrent layer as one CUSTOM op, which it leaves float between a
DEQUANTIZE and a QUANTIZE. Then the layers become plain ops there, and these int16. States that are inputs and outputs
have 16 bits too, but for an h that int8 ops take as well.
"""

from collections.abc import Callable
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.passes import coarse_sums, int8_scales
from lstm_toolkit.passes.int16.rewrite import to_int16
from lstm_toolkit.passes.int16.scales import Range
from lstm_toolkit.passes.plain.lower import put_back, set_aside
from lstm_toolkit.quantization.forms import FloatForms
from lstm_toolkit.quantization.int16x8 import calibrated, kept_float, with_headroom
from lstm_toolkit.quantization.samples import Samples
from lstm_toolkit.stock import worker
from lstm_toolkit.tflite import files, graph
from lstm_toolkit.tflite.types import Model


def quantize(
    file: FloatForms,
    calibration: Samples,
    *,
    held_out: Samples,
    progress: Callable[[int], Any] = lambda _: None,
) -> tuple[bytes, list[tuple[str, str]], int]:
    """Quantizes a plain float file to int8, with int16 in its recurrent layers.

    Args:
        file: the file, with its layers whole; all shapes fixed.
        calibration: the samples to take ranges on.
        held_out: other samples, to see whether they keep to those ranges; may be empty.
        progress: called with the number of samples that are done.

    Returns:
        The file, the ops of the layers that stay float with the reason, and the number of held-out samples that go
        beyond a range.

    Raises:
        ConversionError: if TensorFlow's quantizer refuses the file.
    """
    found, moments, cut = calibrated(file, calibration, held_out, progress)
    whole = files.read_model(file.whole or file.tflite)
    recurrences = set_aside(whole)
    _set_ranges(whole, found)
    model = files.read_model(worker.quantize_elsewhere(files.write_model(whole)))
    int8_scales.equalize(model)
    coarse_sums.coarsen(model)
    others = {id(op) for subgraph in model.subgraphs for op in subgraph.operators}
    put_back(model, recurrences, file.write)
    wanted = with_headroom(found) | _ranges_of_int8(model)
    left = to_int16(model, wanted, moments, is_wanted=lambda op: id(op) not in others)
    files.sign(model)
    return files.write_model(model), kept_float(model, left), cut


def _set_ranges(model: Model, found: dict[str, Range]) -> None:
    """Gives the float tensors of a file the ranges that TensorFlow's quantizer makes scales of."""
    for tensor in model.subgraphs[0].tensors:
        name = graph.text(tensor.name)
        is_float = tensor.type == schema.TensorType.FLOAT32 and graph.constant(model, tensor) is None
        if is_float and name in found:
            quantization = schema.QuantizationParametersT()
            quantization.min, quantization.max = [found[name][0]], [found[name][1]]
            tensor.quantization = quantization


def _ranges_of_int8(model: Model) -> dict[str, Range]:
    """What the float results of a DEQUANTIZE can be, by name."""
    main, found = model.subgraphs[0], {}
    for operator in main.operators:
        if graph.operator_name(model, operator) == "DEQUANTIZE":
            scale, zero_point = graph.scale_of(main.tensors[operator.inputs[0]])
            ends = (-128 - zero_point) * scale, (127 - zero_point) * scale
            found[graph.text(main.tensors[operator.outputs[0]].name)] = ends
    return found
