"""Compares a quantized file with the float file that it was made of, output by output."""

import dataclasses
import math
import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.display.tables import Table, Tabular
from lstm_toolkit.errors import ParityError
from lstm_toolkit.runtime.compare import signal_to_noise
from lstm_toolkit.runtime.runner import Runner


@dataclasses.dataclass(frozen=True)
class OutputError:
    """The error of one output over all samples.

    Attributes:
        name: of the output.
        max_abs_error, mean_abs_error: largest and mean absolute difference from the float file.
        largest: largest absolute value that the float file gives.
        signal_to_noise: power of the float output against that of the error, in decibels; infinite without error.
        argmax_agreement: share of the vectors along the last axis whose largest entry is at the same place; None for
            an output whose last axis has one entry.
    """

    name: str
    max_abs_error: float
    mean_abs_error: float
    largest: float
    signal_to_noise: float
    argmax_agreement: float | None

    @property
    def relative_error(self) -> float:
        """Largest error, relative to the largest output."""
        return self.max_abs_error / self.largest if self.largest else math.inf if self.max_abs_error else 0.0


@dataclasses.dataclass(frozen=True, repr=False)
class QuantizationReport(Tabular):
    """The error that a quantization brings into the results.

    Attributes:
        kind: "dynamic", "float16" or "int8".
        outputs: the error of each output.
        samples: the number of samples that were compared.
        held_out: whether they were kept from the calibration; else they are random, or the calibration's own.
        kept_float: layers whose weights stay float, each with the reason.
        warnings: doubts about the calibration.
    """

    kind: str
    outputs: tuple[OutputError, ...]
    samples: int
    held_out: bool
    kept_float: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def relative_error(self) -> float:
        """Largest error of any output, relative to the largest value of that output."""
        return max(output.relative_error for output in self.outputs)

    def check(
        self,
        *,
        max_relative_error: float = math.inf,
        min_signal_to_noise: float = -math.inf,
        min_argmax_agreement: float = 0.0,
    ) -> None:
        """Raises an error if a quantization costs more than the limits allow.

        Args:
            max_relative_error: upper limit for the largest error of each output, relative to its largest value.
            min_signal_to_noise: lower limit for each output, in decibels.
            min_argmax_agreement: lower limit for each output that has an argmax.

        Raises:
            ParityError: names the first output beyond a limit, and both numbers.
        """
        for each in self.outputs:
            agreement = 1.0 if each.argmax_agreement is None else each.argmax_agreement
            for what, found, limit, unit, is_beyond in (
                ("relative error", each.relative_error, max_relative_error, "", operator.gt),
                ("signal to noise", each.signal_to_noise, min_signal_to_noise, " dB", operator.lt),
                ("argmax agreement", agreement, min_argmax_agreement, "", operator.lt),
            ):
                # NaN, as a figure or as a limit, is always refused.
                if is_beyond(found, limit) or math.isnan(found) or math.isnan(limit):
                    side = "above" if is_beyond is operator.gt else "below"
                    raise ParityError(
                        f"output {each.name!r} of the {self.kind} file has a {what} of {found:.3g}{unit}, {side} "
                        f'{limit:g}; take more typical samples, or quantization="float16"',
                        max_abs_error=each.max_abs_error,
                        tolerance=max_relative_error * each.largest,
                    )

    def tables(self) -> tuple[Table, ...]:
        """One row an output; then what stays float, and warnings, if any."""
        rows = [
            (
                each.name,
                f"{each.relative_error:.2%}",
                f"{each.max_abs_error:.2g}",
                f"{each.mean_abs_error:.2g}",
                f"{each.signal_to_noise:.0f} dB",
                "" if each.argmax_agreement is None else f"{each.argmax_agreement:.1%}",
            )
            for each in self.outputs
        ]
        which = "held-out" if self.held_out else "random"
        title = f"Quantization to {self.kind}, against float on {self.samples} {which} samples"
        header = ("output", "largest error", "absolute", "mean", "signal to noise", "same argmax")
        tables = [Table(title, header, rows)]
        if self.kept_float:
            tables.append(Table("Weights that stay float", ("layer", "reason"), self.kept_float))
        if self.warnings:
            tables.append(Table("Warnings", ("what",), [(each,) for each in self.warnings]))
        return tuple(tables)

    def to_dict(self) -> dict[str, Any]:
        """The report as values that JSON can hold."""
        fields = dataclasses.asdict(self)
        for output in fields["outputs"]:
            if math.isinf(output["signal_to_noise"]):
                output["signal_to_noise"] = None
        return fields | {"relative_error": self.relative_error}


def compare_files(
    float_file: bytes, quantized_file: bytes, samples: list[dict[str, npt.NDArray[Any]]]
) -> tuple[OutputError, ...]:
    """Runs both files on the same samples.

    Integer inputs and outputs of the quantized file are quantized and dequantized with its own scales. A file that
    carries its state goes from sample to sample, from zero at the first.
    """
    wanted, given = (_outputs(file, samples) for file in (float_file, quantized_file))
    return tuple(_output_error(name, wanted[name], given[name]) for name in wanted)


def _outputs(file: bytes, samples: list[dict[str, npt.NDArray[Any]]]) -> dict[str, npt.NDArray[np.float64]]:
    """Each output over all samples, [samples, ...], by name."""
    runner = Runner(file)
    results = [runner.dequantized(runner.outputs(**runner.quantized(sample))) for sample in samples]
    return {name: np.stack([each[name] for each in results]).astype(np.float64) for name in runner.output_names}


def _output_error(name: str, wanted: npt.NDArray[np.float64], given: npt.NDArray[np.float64]) -> OutputError:
    error = np.abs(wanted - given)
    return OutputError(
        name=name,
        max_abs_error=float(error.max(initial=0.0)),
        mean_abs_error=float(error.mean()),
        largest=float(np.abs(wanted).max(initial=0.0)),
        signal_to_noise=signal_to_noise(wanted, given),
        argmax_agreement=float(np.mean(wanted.argmax(-1) == given.argmax(-1))) if wanted.shape[-1] > 1 else None,
    )
