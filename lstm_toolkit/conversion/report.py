"""What a conversion returns: `Conversion` (the file) and `ConversionReport` (what became of each layer)."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from lstm_toolkit.display.tables import Table, Tabular
from lstm_toolkit.runtime.compare import TOLERANCE
from lstm_toolkit.sources.traced import LayerReport
from lstm_toolkit.tflite.files import write_whole

if TYPE_CHECKING:
    from lstm_toolkit.conversion.choice import AutomaticChoice
    from lstm_toolkit.quantization.report import QuantizationReport
    from lstm_toolkit.runtime.runner import Runner


@dataclasses.dataclass(frozen=True, repr=False)
class Checked(Tabular):
    """How a file was compared with its source.

    Attributes:
        calls: the number of calls; the first three in a row on one interpreter, without a reset between them.
        inputs: where they come from: first the domain of the random inputs ("normal", "from 0 to 1", "from 1 to 2"),
            or "representative_dataset"; then the kinds of the others: "zeros", "constant", "tiny" and "large".
        left_out: kinds that say nothing about the file, each with the reason.
        finite: the share of finite numbers in the output of the source that has the fewest. What is not finite in the
            source is not compared, but for random inputs, where it has to be the same in the file.
        masks: the ways in which rows were padded: "right", "left", "holes", "all valid", "none valid".
        max_abs_error: the largest absolute difference over all outputs and calls but the "large" one.
        backend: of Keras, on which the source was computed: "jax", "torch"; None for TensorFlow, and for what is not a
            Keras model.
    """

    calls: int
    inputs: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    finite: float
    masks: tuple[str, ...]
    max_abs_error: float
    backend: str | None = None

    def tables(self) -> tuple[Table, ...]:
        """One row; and one for each kind that was left out."""
        row = (self.calls, ", ".join(self.inputs), f"{self.finite:.0%}", ", ".join(self.masks) or "no mask")
        where = f" on Keras's backend {self.backend}" if self.backend else ""
        compared = Table(f"Compared with the source{where}", ("calls", "inputs", "finite", "padding"), [row])
        left_out = Table("Inputs that say nothing about the file", ("inputs", "why"), self.left_out)
        return (compared, left_out) if self.left_out else (compared,)

    def to_dict(self) -> dict[str, Any]:
        """The check as values that JSON can hold."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, repr=False)
class ConversionReport(Tabular):
    """What a conversion did.

    Attributes:
        layers: the recurrent layers in the order in which they were called.
        ops: number of operators in the file by name, over all subgraphs.
        checked: how the file was compared with its source; None if `verify` was off. Of a quantized file, the float32
            file that it was made of.
        quantization: how far a quantized file is from the float32 one; None without quantization.
        automatic: with lowering="auto", what was timed, and which was the fastest; else None.
    """

    layers: tuple[LayerReport, ...]
    ops: Counter[str]
    checked: Checked | None = None
    quantization: QuantizationReport | None = None
    automatic: AutomaticChoice | None = None

    @property
    def max_abs_error(self) -> float | None:
        """Largest absolute difference from the source, as `Checked` has it; None if `verify` was off."""
        return self.checked.max_abs_error if self.checked else None

    def tables(self) -> tuple[Table, ...]:
        """The report as tables: layers, operators, and what was compared."""
        error = "not verified" if self.max_abs_error is None else f"largest error {_magnitude(self.max_abs_error)}"
        layers = [(layer.name, layer.layer_class, layer.op, layer.reason or "") for layer in self.layers]
        return (
            Table(f"Recurrent layers ({error})", ("layer", "class", "op", "why not fused"), layers),
            Table("Operators", ("op", "count"), sorted(self.ops.items())),
            *(self.checked.tables() if self.checked else ()),
            *(self.quantization.tables() if self.quantization else ()),
            *(self.automatic.tables() if self.automatic else ()),
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as values that JSON can hold."""
        return {
            "layers": [dataclasses.asdict(layer) for layer in self.layers],
            "ops": dict(sorted(self.ops.items())),
            "max_abs_error": self.max_abs_error,
            "checked": self.checked.to_dict() if self.checked else None,
            "quantization": self.quantization.to_dict() if self.quantization else None,
            "automatic": self.automatic.to_dict() if self.automatic else None,
        }


@dataclasses.dataclass(frozen=True)
class Conversion:
    """A converted model.

    Attributes:
        tflite: the bytes of the `.tflite` file.
        report: what became of each layer, and the error against the source.
        runtime: what `runner` runs the file on: "interpreter", or "compiled" where lowering="auto" found that faster.
        num_threads: that `runner` lets it use: 1, or more where lowering="auto" found that faster.
    """

    tflite: bytes = dataclasses.field(repr=False)
    report: ConversionReport
    runtime: str = "interpreter"
    num_threads: int = 1

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the file, whole or not at all.

        Raises:
            OSError: if it cannot be written; what stood at `path` before is untouched then.
        """
        write_whole(path, self.tflite)

    def runner(self, **kwargs: Any) -> Runner:
        """A `Runner` on this model, by default on its `runtime` and `num_threads`; takes the arguments of `Runner`."""
        from lstm_toolkit.runtime.runner import Runner

        options: dict[str, Any] = {"runtime": self.runtime, "num_threads": self.num_threads}
        return Runner(self.tflite, **options | kwargs)

    def __str__(self) -> str:
        return f"{len(self.tflite):,} bytes\n\n{self.report}"

    def _repr_html_(self) -> str:
        return f"<p>{len(self.tflite):,} bytes</p>{self.report._repr_html_()}"


def _magnitude(error: float) -> str:
    """An error within the tolerance as that bound alone: how far below it rounding goes differs between processors."""
    return f"below {TOLERANCE:.0e}" if error < TOLERANCE else f"{error:.1e}"
