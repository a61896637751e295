"""Quantizes a converted file, and compares what comes out with the float file."""

import warnings
from collections.abc import Callable
from typing import Any

from lstm_toolkit.passes import integer_edges, small_weights
from lstm_toolkit.quantization import edges, int8, int16x8, plain_int8
from lstm_toolkit.quantization.forms import FloatForms
from lstm_toolkit.quantization.report import QuantizationReport, compare_files, runs_on_micro_alone
from lstm_toolkit.quantization.samples import Samples, split, warnings_about, warnings_about_ranges
from lstm_toolkit.runtime.first_run import first_run
from lstm_toolkit.runtime.runner import Runner
from lstm_toolkit.tflite import files
from lstm_toolkit.tflite.types import Model

KINDS = ("dynamic", "float16", "int8", "int16x8")
"""dynamic: int8 weights, float results; float16: float16 weights; int8: weights and results; int16x8: int8 weights and
int16 results."""

CALIBRATED = ("int8", "int16x8")
"""The kinds that take ranges on a representative dataset."""


class QuantizationWarning(UserWarning):
    """A doubt about a calibration; the report has it too."""


def quantize(
    file: bytes | FloatForms,
    kind: str | None,
    samples: Samples,
    *,
    calibrate: bool = False,
    io_dtypes: tuple[str, str] = edges.FLOAT,
    progress: Callable[[int], Any] = lambda _: None,
) -> tuple[bytes, QuantizationReport]:
    """Quantizes a float file.

    Args:
        file: the file; for integers in plain ops with its other forms.
        kind: one of `KINDS`, or None where only inputs and outputs become integers.
        samples: inputs by name, to take ranges on if `calibrate`, and to compare both files on.
        calibrate: whether the samples are a representative dataset; every fifth is then kept for the comparison.
        io_dtypes: of the inputs, and of the outputs: "float32", or integers (`integer_edges`) with `calibrate`.
        progress: called with the number of samples that are done.

    Returns:
        The quantized file and the report.

    Raises:
        ConversionError: if something in the file cannot be quantized in this way, or LiteRT crashes or hangs on the
            quantized one; names the layer or the op, and the remedy.
    """
    forms = FloatForms(file) if isinstance(file, bytes) else file
    tflite = forms.tflite
    forms = FloatForms(file) if isinstance(file, bytes) else file
    tflite = forms.tflite
    carries = bool(Runner(tflite).state)
    if io_dtypes[0] != "float32":
        integer_edges.check_inputs(files.read_model(tflite))
    calibration, held_out = split(samples, in_order=carries) if calibrate else (samples, [])
    doubts = warnings_about(calibration, held_out) if calibrate else []
    model, kept, cut = _made(forms, kind, calibration, held_out, progress)
    if io_dtypes != edges.FLOAT:
        samples_of = {"calibration": calibration, "held_out": held_out}
        cut = max(cut, edges.set_types(model, io_dtypes, float_file=tflite, **samples_of))
    doubts += warnings_about_ranges(cut, len(held_out))
    files.sign(model)
    quantized = files.write_model(model)
    remedy = f'convert without quantization="{kind}", or with another one' if kind else 'pass io_dtype="float32"'
    first_run(quantized, remedy=remedy)
    for doubt in doubts:
        warnings.warn(doubt, QuantizationWarning, stacklevel=3)
    compared = held_out or samples
    return quantized, QuantizationReport(
        kind=kind or _words(io_dtypes),
        outputs=compare_files(tflite, quantized, compared),
        samples=len(compared),
        held_out=bool(held_out),
        calibrated=calibrate,
        runtime="micro" if runs_on_micro_alone(quantized) else "litert",
        carries=carries,
        kept_float=tuple(kept),
        warnings=tuple(doubts),
    )


def _made(
    forms: FloatForms, kind: str | None, calibration: Samples, held_out: Samples, progress: Callable[[int], Any]
) -> tuple[Model, list[tuple[str, str]], int]:
    """The file of a kind with float inputs and outputs, what stays float in it, and how many samples go beyond."""
    if kind in CALIBRATED:
        if kind == "int8" and forms.whole is not None:
            quantized, kept, cut = plain_int8.quantize(forms, calibration, held_out=held_out, progress=progress)
        elif kind == "int8":
            quantized, kept, cut = int8.quantize(forms.tflite, calibration, held_out=held_out, progress=progress)
        else:
            quantized, kept, cut = int16x8.quantize(forms, calibration, held_out=held_out, progress=progress)
        return files.read_model(quantized), kept, cut
    model = files.read_model(forms.tflite)
    kept = small_weights.to_int8(model) if kind == "dynamic" else []
    if kind == "float16":
        small_weights.to_float16(model)
    return model, kept, 0


def _words(io_dtypes: tuple[str, str]) -> str:
    sides = zip(io_dtypes, ("inputs", "outputs"), strict=True)
    return " and ".join(f"{dtype} {side}" for dtype, side in sides if dtype != "float32")
