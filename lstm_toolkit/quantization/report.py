"""Compares a quantized file with the float file that it was made of, output by output.

The largest error of n samples is no bound for others, however the errors are distributed: one more sample has a chance
of 1 in n + 1 to be the largest of all. What can be said of new samples that are drawn as the n were is a bound for the
share whose error is above it. If that share were p, all n samples would be below with a chance of (1 - p)^n; the p that
makes this 5 percent is the upper end of the interval at 95 percent confidence.
"""

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
from lstm_toolkit.runtime.targets import int16_lstms
from lstm_toolkit.runtime.trial import outputs_on_micro
from lstm_toolkit.tflite import files

CONFIDENCE = 0.95
"""Of the statement about new samples."""


@dataclasses.dataclass(frozen=True)
class OutputError:
    """The error of one output over all samples.

    Attributes:
        name: of the output.
        max_abs_error, mean_abs_error: largest and mean absolute difference from the float file.
        median_abs_error: the median over the samples of the largest difference in each.
        largest: largest absolute value that the float file gives.
        signal_to_noise: power of the float output against that of the error, in decibels; infinite without error.
        argmax_agreement: share of the vectors along the last axis whose largest entry is at the same place; None for
            an output whose last axis has one entry.
    """

    name: str
    max_abs_error: float
    mean_abs_error: float
    median_abs_error: float
    largest: float
    signal_to_noise: float
    argmax_agreement: float | None

    @property
    def relative_error(self) -> float:
        """Largest error, relative to the largest output."""
        return self._relative(self.max_abs_error)

    @property
    def median_relative_error(self) -> float:
        """The error that half the samples stay below, relative to the largest output."""
        return self._relative(self.median_abs_error)

    def _relative(self, error: float) -> float:
        return error / self.largest if self.largest else math.inf if error else 0.0


@dataclasses.dataclass(frozen=True, repr=False)
class QuantizationReport(Tabular):
    """The error that a quantization brings into the results.

    Attributes:
        kind: "dynamic", "float16", "int8" or "int16x8"; of a float file which inputs or outputs are integers, as "int8
            inputs".
        outputs: the error of each output.
        samples: the number of samples that were compared.
        held_out: whether they were kept from the calibration; else they are random, or the calibration's own.
        calibrated: whether ranges were taken on samples.
        runtime: that ran the quantized file: "litert"; or "micro", for one that LiteRT cannot run.
        kept_float: layers whose weights stay float, each with the reason.
        warnings: doubts about the calibration.
        carries: whether the file carries its state, so that each sample goes on where the last one ended.
    """

    kind: str
    outputs: tuple[OutputError, ...]
    samples: int
    held_out: bool
    kept_float: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    carries: bool = False
    calibrated: bool = False
    runtime: str = "litert"

    @property
    def relative_error(self) -> float:
        """Largest error of any output on these samples, relative to the largest value of that output.

        New samples can have larger ones: see `share_above` and `most_above`.
        """
        return max(output.relative_error for output in self.outputs)

    @property
    def share_above(self) -> float | None:
        """The share of new samples, drawn as these were, that is expected to have a larger error in an output.

        None if the samples tell nothing of new ones.
        """
        return 1 / (self.samples + 1) if self._tells_of_new else None

    @property
    def most_above(self) -> float | None:
        """The upper limit of that share at a confidence of 95 percent; None if the samples tell nothing of new ones."""
        return 1 - (1 - CONFIDENCE) ** (1 / self.samples) if self._tells_of_new else None

    @property
    def _is_calibration(self) -> bool:
        return self.calibrated and not self.held_out

    @property
    def _tells_of_new(self) -> bool:
        return not self.carries and not self._is_calibration

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
                f"{each.median_relative_error:.2%}",
                f"{each.max_abs_error:.2g}",
                f"{each.mean_abs_error:.2g}",
                f"{each.signal_to_noise:.0f} dB",
                "" if each.argmax_agreement is None else f"{each.argmax_agreement:.1%}",
            )
            for each in self.outputs
        ]
        which = "held-out samples" if self.held_out else "random samples"
        if self._is_calibration:
            which = "samples, those of the calibration"
        where = "" if self.runtime == "litert" else ", run by TensorFlow Lite Micro"
        title = f"Quantization to {self.kind}, against float on {self.samples} {which}{where}"
        header = ("output", "largest error", "half below", "absolute", "mean", "signal to noise", "same argmax")
        tables = [Table(title, header, rows), Table("New samples", ("what these samples tell",), [(self._of_new(),)])]
        if self.kept_float:
            tables.append(Table("Weights that stay float", ("layer", "reason"), self.kept_float))
        if self.warnings:
            tables.append(Table("Warnings", ("what",), [(each,) for each in self.warnings]))
        return tuple(tables)

    def _of_new(self) -> str:
        if self.share_above is None or self.most_above is None:
            why = "the ranges were taken on them" if self._is_calibration else "each goes on where the last one ended"
            return f"Nothing of new ones, since {why}."
        like = "like these" if self.held_out else "drawn as these were"
        return (
            f"About 1 in {self.samples + 1} new ones {like} is further off than the largest error; at "
            f"{CONFIDENCE:.0%} confidence, at most {self.most_above:.0%} are."
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as values that JSON can hold."""
        fields = dataclasses.asdict(self)
        for output in fields["outputs"]:
            if math.isinf(output["signal_to_noise"]):
                output["signal_to_noise"] = None
        figures = ("relative_error", "share_above", "most_above")
        return fields | {name: getattr(self, name) for name in figures}


def compare_files(
    float_file: bytes, quantized_file: bytes, samples: list[dict[str, npt.NDArray[Any]]]
) -> tuple[OutputError, ...]:
    """Runs both files on the same samples; one that LiteRT cannot run (`int16_lstms`) on TensorFlow Lite Micro.

    Integer inputs and outputs of the quantized file are quantized and dequantized with its own scales. A file that
    carries its state goes from sample to sample, from zero at the first.
    """
    wanted, given = (_outputs(file, samples) for file in (float_file, quantized_file))
    return tuple(_output_error(name, wanted[name], given[name]) for name in wanted)


def _outputs(file: bytes, samples: list[dict[str, npt.NDArray[Any]]]) -> dict[str, npt.NDArray[np.float64]]:
    """Each output over all samples, [samples, ...], by name."""
    if runs_on_micro_alone(file):
        results = outputs_on_micro(file, samples)
    else:
        runner = Runner(file)
        results = [runner.dequantized(runner.outputs(**runner.quantized(sample))) for sample in samples]
    return {name: np.stack([each[name] for each in results]).astype(np.float64) for name in results[0]}


def runs_on_micro_alone(file: bytes) -> bool:
    """Whether a file has an LSTM with int16 inputs, for which LiteRT has no kernel."""
    return any(int16_lstms(files.read_model(file)))


def _output_error(name: str, wanted: npt.NDArray[np.float64], given: npt.NDArray[np.float64]) -> OutputError:
    error = np.abs(wanted - given)
    return OutputError(
        name=name,
        max_abs_error=float(error.max(initial=0.0)),
        mean_abs_error=float(error.mean()),
        largest=float(np.abs(wanted).max(initial=0.0)),
        signal_to_noise=signal_to_noise(wanted, given),
        median_abs_error=float(np.median(error.reshape(len(error), -1).max(axis=1, initial=0.0))),
        argmax_agreement=float(np.mean(wanted.argmax(-1) == given.argmax(-1))) if wanted.shape[-1] > 1 else None,
    )
