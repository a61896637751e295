"""Quantizes a converted file, and compares what comes out with the float file."""

import warnings
from collections.abc import Callable
from typing import Any

from lstm_toolkit.passes import small_weights
from lstm_toolkit.quantization import int8
from lstm_toolkit.quantization.report import QuantizationReport, compare_files
from lstm_toolkit.quantization.samples import Samples, split, warnings_about, warnings_about_ranges
from lstm_toolkit.runtime.first_run import first_run
from lstm_toolkit.runtime.runner import Runner
from lstm_toolkit.tflite import files

KINDS = ("dynamic", "float16", "int8")
"""dynamic: int8 weights, float results; float16: float16 weights; int8: weights and results."""

IO_DTYPES = ("float32", "int8")


class QuantizationWarning(UserWarning):
    """A doubt about a calibration; the report has it too."""


def quantize(
    tflite: bytes,
    kind: str,
    samples: Samples,
    *,
    calibrate: bool = False,
    io_dtype: str = "float32",
    progress: Callable[[int], Any] = lambda _: None,
) -> tuple[bytes, QuantizationReport]:
    """Quantizes a float file.

    Args:
        tflite: the file.
        kind: one of `KINDS`.
        samples: inputs by name, to take ranges on if `calibrate`, and to compare both files on.
        calibrate: whether the samples are a representative dataset; every fifth is then kept for the comparison.
        io_dtype: for int8, of inputs and outputs: "float32" or "int8".
        progress: called with the number of samples that are done.

    Returns:
        The quantized file and the report.

    Raises:
        ConversionError: if something in the file cannot be quantized in this way, or LiteRT crashes or hangs on the
            quantized one; names the layer or the op, and the remedy.
    """
    carries = bool(Runner(tflite).state)
    calibration, held_out = split(samples, in_order=carries) if calibrate else (samples, [])
    doubts = warnings_about(calibration, held_out) if calibrate else []
    if kind == "int8":
        quantized, kept, cut = int8.quantize(
            tflite, calibration, held_out=held_out, io_dtype=io_dtype, progress=progress
        )
        doubts += warnings_about_ranges(cut, len(held_out))
    else:
        model = files.read_model(tflite)
        kept = small_weights.to_int8(model) if kind == "dynamic" else []
        if kind == "float16":
            small_weights.to_float16(model)
        files.sign(model)
        quantized = files.write_model(model)
    first_run(quantized, remedy=f'convert without quantization="{kind}", or with another one')
    for doubt in doubts:
        warnings.warn(doubt, QuantizationWarning, stacklevel=3)
    compared = held_out or samples
    return quantized, QuantizationReport(
        kind=kind,
        outputs=compare_files(tflite, quantized, compared),
        samples=len(compared),
        held_out=bool(held_out),
        carries=carries,
        kept_float=tuple(kept),
        warnings=tuple(doubts),
    )
