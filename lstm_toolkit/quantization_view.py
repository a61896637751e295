"""`quantization_view`: where the error of a quantized file comes from, tensor by tensor, gate by gate, step by step.

The LSTMs of the float file are computed again in float64, first with the weights of one gate replaced by those that the
quantized file stores, then with all of them replaced. The rest of the file's error comes from activations and states.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.display.tables import Table, Tabular
from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.escapes import in_figure
from lstm_toolkit.inspection.read import inspect
from lstm_toolkit.inspection.summary import ModelSummary
from lstm_toolkit.inspection.values import LstmNode, TensorSummary
from lstm_toolkit.runtime.compare import signal_to_noise
from lstm_toolkit.runtime.runner import Runner, keeping_all_tensors
from lstm_toolkit.runtime.signature import signature
from lstm_toolkit.tflite import files
from lstm_toolkit.weights import reference
from lstm_toolkit.weights.gate_weights import GateWeights
from lstm_toolkit.weights.operands import GATES

FUSED = ("UNIDIRECTIONAL_SEQUENCE_LSTM", "LSTM")

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class TensorRange:
    """An integer tensor and the range of its values.

    Attributes:
        name: of the tensor; of weights LAYER/OPERAND.
        dtype: "int8", "int16", "int32" or "uint8".
        scale, zero_point: a stored number q stands for scale * (q - zero_point).
        low, high: range of the values that were seen, for states after each call; for intermediates, which are inside
            an op, the range that they can hold.
        used: the share of the dtype's whole range that lies between them; None for intermediates.
        signal_to_noise: of weights against those of the float file, in decibels; None for computed tensors.
    """

    name: str
    dtype: str
    scale: float
    zero_point: int
    low: float
    high: float
    used: float | None
    signal_to_noise: float | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class LayerError:
    """The error of one LSTM's output.

    Attributes:
        layer: its name.
        sources: what was quantized: the weights of each gate, those of the projection, all weights, the whole file.
        by_step: [sources, time], mean absolute error relative to the largest output, over all samples and units.
    """

    layer: str
    sources: tuple[str, ...]
    by_step: npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class QuantizationView(Tabular):
    """A quantized file seen from inside.

    Attributes:
        weights: by gate, of every LSTM.
        computed: the results of integer ops, states included.
        errors: of every LSTM, in the order of the file.
    """

    weights: tuple[TensorRange, ...]
    computed: tuple[TensorRange, ...]
    errors: tuple[LayerError, ...]

    def tables(self) -> tuple[Table, ...]:
        """Weights, computed tensors, and the mean error of each LSTM by its source."""
        header = ("tensor", "dtype", "scale", "zero point", "range", "used")
        errors = [
            (each.layer, source, f"{row.mean():.2%}", f"{row[-1]:.2%}")
            for each in self.errors
            for source, row in zip(each.sources, each.by_step, strict=True)
        ]
        return (
            Table("Weights", (*header, "signal to noise"), [_row(each) for each in self.weights]),
            Table("Computed tensors", header, [_row(each) for each in self.computed]),
            Table("Errors of LSTM outputs", ("layer", "quantized", "mean over time", "at the last step"), errors),
        )

    def picture(self, layer: str | None = None) -> Any:
        """The errors of an LSTM as a heat map, source by source and step by step.

        Args:
            layer: its name; None for the first.

        Returns:
            A `codelab.Picture`, with a figure of matplotlib and a text for those who do not see it.

        Raises:
            ValueError: for an unknown layer.
        """
        from matplotlib.figure import Figure

        from lstm_toolkit.display.picture import Picture

        names = [each.layer for each in self.errors]
        if not names or layer not in (None, *names):
            raise ValueError(f"the file has the LSTMs {names}, got {layer!r}")
        error = self.errors[0 if layer is None else names.index(layer)]
        percent, steps = 100 * error.by_step, error.by_step.shape[1]
        figure = Figure((8, 0.8 + 0.45 * len(error.sources)), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(percent, aspect="auto", cmap="cividis", vmin=0)
        axes.set_yticks(range(len(error.sources)), list(map(in_figure, error.sources)))
        axes.set(
            xlabel="time step",
            title=f"{in_figure(error.layer)}: mean error of the output, percent of the largest output",
        )
        if steps <= 12:
            # In the map of colours, black and white are read equally well there.
            middle = 0.465 * percent.max()
            for row, column in np.ndindex(percent.shape):
                color = "black" if percent[row, column] > middle else "white"
                text = f"{percent[row, column]:.2f}"
                axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
        figure.colorbar(image, ax=axes, label="percent")
        worst = error.sources[int(error.by_step[:-2].mean(axis=1).argmax())]
        alt = (
            f"Heat map of the error of LSTM {error.layer} over {steps} time steps, one row each for quantizing "
            f"{', '.join(error.sources)}. Of the weights those of the {worst} cost most."
        )
        return Picture(figure, alt)


def quantization_view(
    quantized: bytes | str | os.PathLike[str],
    float_file: bytes | str | os.PathLike[str],
    samples: Sequence[Mapping[str, npt.ArrayLike]],
) -> QuantizationView:
    """Looks into a quantized file.

    Args:
        quantized: the file.
        float_file: the one that it was made of: for int8 with `bidirectional="split"`.
        samples: inputs by name to run both on, float also where the file takes int8; not empty.

    Raises:
        InvalidModelError: if a file cannot be read, or the float file has other LSTMs.
        ValueError: for inputs that do not fit.
    """
    data = [files.read_bytes(each) for each in (quantized, float_file)]
    summaries = [inspect(each) for each in data]
    stored, wanted = ({node.name: node for node in each.lstm_nodes} for each in summaries)
    shared = [name for name, node in wanted.items() if node.op in FUSED]
    if missing := [name for name in shared if name not in stored]:
        raise InvalidModelError(f"the quantized file has no LSTMs {missing}; it was made of another file")
    tensors = [t for t in summaries[0].subgraphs[0].tensors if t.quantization and t.role != "constant"]
    values = [_values_inside(each, samples) for each in data]
    errors = []
    for name in shared:
        _, given = _sequences(summaries[0], stored[name], values[0])
        x, exact = _sequences(summaries[1], wanted[name], values[1])
        errors.append(_layer_error(stored[name], wanted[name], x, exact, given))
    return QuantizationView(
        weights=tuple(row for name in shared for row in _of_weights(stored[name], wanted[name])),
        computed=tuple(_range_of(t.name, t, values[0].get(-1 if t.index is None else t.index)) for t in tensors),
        errors=tuple(errors),
    )


def _values_inside(tflite: bytes, samples: Sequence[Mapping[str, npt.ArrayLike]]) -> dict[int, Array]:
    """What every tensor holds after each sample, [samples, ...], by its index, dequantized."""
    with Runner(tflite, xnnpack=False, isolated=True) as runner:  # a file that crashes does so there
        given = [runner.quantized(sample) for sample in samples]
        runner.outputs(**given[0])
    interpreter = keeping_all_tensors(tflite)
    inputs, _ = signature(interpreter)
    found: dict[int, list[Array]] = {}
    for sample in given:
        for name, value in sample.items():
            interpreter.set_tensor(inputs[name]["index"], value.astype(inputs[name]["dtype"]))
        interpreter.invoke()
        for details in interpreter.get_tensor_details():
            if details["name"] and details["dtype"] in (np.float32, np.int8, np.int16, np.uint8):
                with contextlib.suppress(ValueError):  # a tensor without data, as the intermediates are
                    value = interpreter.get_tensor(details["index"])
                    scale, zero_point = details["quantization"]
                    real = (value.astype(np.float64) - zero_point) * scale if scale else value
                    found.setdefault(details["index"], []).append(real)
    return {index: np.stack(values) for index, values in found.items() if values[0].size}


def _sequences(summary: ModelSummary, node: LstmNode, values: Mapping[int, Array]) -> tuple[Array, Array]:
    """The input and the output of an LSTM over all samples, [samples * batch, time, size] each."""
    op, found = summary.subgraphs[node.subgraph].ops[node.index], []
    for tensor in (op.inputs[0], op.outputs[0]):
        array = values[-1 if tensor is None or tensor.index is None else tensor.index]
        if node.layout == "time_major":
            array = array.swapaxes(1, 2)
        if node.layout == "step":
            array = array[:, :, np.newaxis]
        found.append(array.reshape(-1, *array.shape[2:]))
    return found[0], found[1]


def _range_of(name: str, tensor: TensorSummary, values: Array | None, noise: float | None = None) -> TensorRange:
    assert tensor.quantization is not None
    scale, zero_point = tensor.quantization.scale[0], tensor.quantization.zero_point[0]
    limits = np.iinfo(tensor.dtype)
    low, high = (scale * (float(limit) - zero_point) for limit in (limits.min, limits.max))
    used = None
    if values is not None:
        whole, low, high = high - low, float(values.min()), float(values.max())
        used = (high - low) / whole
    return TensorRange(name, tensor.dtype, scale, zero_point, low, high, used, noise)


def _of_weights(quantized: LstmNode, float_: LstmNode) -> Iterator[TensorRange]:
    stored, wanted = dict(quantized.operands), dict(float_.weights.operands())
    for name, values in quantized.weights.operands():
        tensor = stored.get(name)
        if tensor is None or tensor.quantization is None or tensor.dtype not in ("int8", "int16"):
            continue
        noise = signal_to_noise(wanted[name], values) if name in wanted else None
        yield _range_of(f"{quantized.name}/{name}", tensor, values, noise)


def _layer_error(quantized: LstmNode, float_: LstmNode, x: Array, wanted: Array, given: Array) -> LayerError:
    """Runs an LSTM on what the float file feeds it, with one part of the weights after the other replaced.

    Args:
        quantized: the LSTM in the quantized file.
        float_: the same LSTM in the float file.
        x: its input in the float file.
        wanted: its output there.
        given: its output in the quantized file.
    """
    own, stored = dict(float_.weights.operands()), dict(quantized.weights.operands())
    common = [name for name in own if name in stored]
    parts = {gate: [n for n in common if f"_{gate}_" in n or n.startswith(f"{gate}_gate")] for gate in GATES}
    parts |= {"projection": [n for n in common if n.startswith("projection")], "all weights": common}

    def computed(weights: GateWeights) -> Array:
        clips = float_.cell_clip, float_.proj_clip
        return reference.lstm(weights, x, activation=float_.activation, cell_clip=clips[0], proj_clip=clips[1])[0]

    exact = computed(float_.weights)
    rows = {
        part: np.abs(computed(GateWeights.from_operands(own | {name: stored[name] for name in names})) - exact)
        for part, names in parts.items()
        if names
    }
    rows["whole file"] = np.abs(given - wanted)
    largest = float(np.abs(wanted).max(initial=0.0)) or 1.0
    by_step = np.stack([row.mean(axis=(0, 2)) / largest for row in rows.values()])
    return LayerError(float_.name, tuple(rows), by_step)


def _row(each: TensorRange) -> tuple[str, ...]:
    noise = () if each.signal_to_noise is None else (f"{each.signal_to_noise:.0f} dB",)
    used = "" if each.used is None else f"{each.used:.0%}"
    seen = f"{each.low:.3g} to {each.high:.3g}"
    return (each.name, each.dtype, f"{each.scale:.3g}", str(each.zero_point), seen, used, *noise)
