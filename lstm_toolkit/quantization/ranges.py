"""Which real numbers the int8 numbers of a tensor reach from and to: what the samples showed, and more for new ones.

A result beyond its range becomes the end of the range, and a recurrent op takes that in again. So an input that drives
a tensor a little further than any sample did costs many times the error that a wider range adds everywhere. How much
wider a range has to be, the samples tell by how much they differ from each other.

TensorFlow's calibrator keeps one range a tensor, which does not tell that, and sees a cell state after the last step
only. So the samples run once more here, and the cell states of all steps are computed from what each LSTM takes in.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.inspection.read import inspect
from lstm_toolkit.inspection.values import LstmNode
from lstm_toolkit.passes import int8_scales
from lstm_toolkit.quantization.samples import Samples
from lstm_toolkit.runtime.runner import keeping_all_tensors
from lstm_toolkit.runtime.signature import signature
from lstm_toolkit.tflite import files, graph
from lstm_toolkit.tflite.recurrent import RecurrentOp, recurrent_ops
from lstm_toolkit.tflite.types import Model, Subgraph, Tensor
from lstm_toolkit.weights import reference
from lstm_toolkit.weights.operands import INPUT_WEIGHTS

Array = npt.NDArray[np.float32]

Extremes = dict[int, npt.NDArray[np.float64]]
"""The smallest and the largest value of each sample, [samples, 2], by the tensor's index in the main subgraph."""

Range = tuple[float, float]

QUANTIZED = ("UNIDIRECTIONAL_SEQUENCE_LSTM", "LSTM")
"""Recurrent ops that have an int8 kernel."""

RARE = 1e-3
"""The share of new samples that may go beyond an end of a range. With ranges of 40 random samples the largest error on
1000 new ones is then 4 percent, and 11 with a fixed margin for what is computed (medians of 26 models). It costs half
the samples a tenth of their error: 1.2 percent, and 1.1."""

MOST = 0.5
"""The share of its width by which a range may grow at an end: two ends that do so cost all values one bit."""

UNSEEN_MARGIN = 0.22
"""The share by which a range is widened where no values can be read: inside an op, and inside a loop."""

LARGEST_CELL = 64.0
"""The largest absolute value of a cell state whose tanh the int8 kernel can take."""

LARGEST_SUM = 2.0**18
"""The largest sum of inputs times weights that the int8 kernel can turn into 16 bits without an overflow of 32."""

LEAST_WIDTH, LARGEST = 1e-30, 1e38
"""The least width and the largest end of a range: float32 holds the scale, and its product with another."""

CHUNK = 64
"""The number of samples whose sequences are in memory at a time."""


class LargeInputsError(ConversionError):
    """Inputs of a layer are so large that 8 bits leave nothing of its sums, whatever computes them."""


def fit(model: Model, samples: Samples) -> dict[int, Range]:
    """Sets the ranges of a calibrated file, in place, before the quantizer makes scales of them.

    An end of an input that a sample reaches twice is a bound, as of pixels from 0 to 1, and stays. What only moves data
    has one range for what it takes and what it gives, and an LSTM one for its output, state and hidden tensor.

    Args:
        model: the file, whose LSTM ops have intermediates.
        samples: those that it was calibrated on.

    Returns:
        The range of each float tensor of the main subgraph that was read, by its index.

    Raises:
        ConversionError: if a cell state is too large for the int8 kernel.
    """
    subgraph = model.subgraphs[0]
    seen = extremes(model, samples)
    ranges = {index: for_new(each) for index, each in seen.items()}
    for place, index in enumerate(map(int, subgraph.inputs)):
        if index in ranges:
            ranges[index] = _up_to_bounds([list(sample.values())[place] for sample in samples])
    _follow_moves(model, subgraph, seen, ranges)
    ranges = {index: with_width(each) for index, each in ranges.items()}
    _widen_unseen(model, subgraph, seen)
    for index, (low, high) in ranges.items():
        _set_range(subgraph.tensors[index], low, high)
    for op in recurrent_ops(model):
        if op.name in QUANTIZED and op.operator.intermediates is not None:
            output = op.operator.outputs[0]
            if op.subgraph is subgraph and output in ranges:
                for tensor in int8_scales.equal_tensors(op):
                    _set_range(tensor, *ranges[output])
            _check_cell(op, seen)
            _fit_kernel(op)
    for tensor in (tensor for each in model.subgraphs for tensor in each.tensors):
        _set_range(tensor, *with_width(_range(tensor)))
    return ranges


def of_values(values: Sequence[npt.NDArray[Any]]) -> Range:
    """The range of one input or output, by what it is in each sample; as `fit` takes it for an input."""
    return with_width(_up_to_bounds(values))


def reached(values: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    """The smallest and the largest value in each sample, [samples, 2]; 0 where there is none."""
    return np.array([(each.min(), each.max()) if each.size else (0, 0) for each in values], np.float64)


def beyond(ranges: Mapping[Any, Range], seen: Mapping[Any, npt.NDArray[np.float64]]) -> int:
    """The number of samples that go beyond one of some ranges by a step of int8 and more."""
    cut = [
        (each[:, 0] < low - (high - low) / 255) | (each[:, 1] > high + (high - low) / 255)
        for (low, high), each in ((ranges[key], seen[key]) for key in ranges)
    ]
    return int(np.any(cut, axis=0).sum())


def extremes(
    model: Model,
    samples: Samples,
    progress: Callable[[int], Any] = lambda _: None,
    also: Callable[[Callable[[int], Array]], Any] = lambda _: None,
) -> Extremes:
    """What each float tensor of the main subgraph reaches in each sample; a cell state in all steps.

    Args:
        model: a float file.
        samples: inputs by name. If it carries its state, each goes on where the last ended.
        progress: called with the number of samples that are done.
        also: called after each sample with what reads a tensor by its index.
    """
    data, subgraph = files.write_model(model), model.subgraphs[0]
    interpreter = keeping_all_tensors(data)
    read, (inputs, _) = interpreter.get_tensor, signature(interpreter)
    # A file of plain ops has none, and to read all that it holds takes as long as some samples.
    nodes = inspect(data).lstm_nodes if any(op.name in QUANTIZED for op in recurrent_ops(model)) else ()
    lstms = [_Cells(node) for node in nodes if node.op in QUANTIZED and not node.subgraph]
    computed = dict.fromkeys(int(index) for op in subgraph.operators for index in op.outputs)
    indices = [
        index
        for index in dict.fromkeys((*map(int, subgraph.inputs), *computed))
        if subgraph.tensors[index].type == schema.TensorType.FLOAT32 and read(index).size
    ]
    found: dict[int, list[Range]] = {index: [] for index in indices}
    for number, sample in enumerate(samples, start=1):
        for name, value in sample.items():
            interpreter.set_tensor(inputs[name]["index"], value)
        for lstm in lstms:
            lstm.before(read)
        interpreter.invoke()
        for index in indices:
            value = read(index)
            found[index].append((value.min(), value.max()))
        for lstm in lstms:
            lstm.after(read, is_last=number % CHUNK == 0 or number == len(samples))
        also(read)
        progress(number)
    found |= {lstm.index: [(-each, each) for each in lstm.largest] for lstm in lstms}
    return {index: np.array(values, np.float64) for index, values in found.items()}


class _Cells:
    """The largest absolute cell state of an LSTM in each sample, computed from what it takes in, `CHUNK` at a time."""

    def __init__(self, node: LstmNode) -> None:
        self._node = node
        operands = {name: tensor.index or 0 for name, tensor in node.operands}
        self.index = operands["cell_state"]
        self._read = [operands[name] for name in ("output_state", "cell_state", "input")]
        self._states: list[list[Array]] = []
        self._inputs: list[Array] = []
        self.largest: list[float] = []

    def before(self, read: Callable[[int], Array]) -> None:
        """Reads what a call starts from."""
        states = [read(index) for index in self._read[:2]]
        self._states.append(states if self._node.state == "carry" else [np.zeros_like(each) for each in states])

    def after(self, read: Callable[[int], Array], *, is_last: bool) -> None:
        """Reads what the LSTM took in, and after the last of some calls computes its cell states in all of them."""
        self._inputs.append(read(self._read[2]))
        if not is_last:
            return
        node, count = self._node, len(self._inputs)
        if node.layout == "time_major":
            steps = np.concatenate(self._inputs, axis=1)
        elif node.layout == "step":
            steps = np.concatenate(self._inputs)[np.newaxis]
        else:
            steps = np.concatenate(self._inputs).swapaxes(0, 1)
        _check_sums(node, steps)
        h, c = (np.concatenate(each) for each in zip(*self._states, strict=True))
        largest = np.zeros(len(c))
        for step in steps:
            _, h, c = reference.lstm(
                node.weights,
                step[np.newaxis],
                h=h,
                c=c,
                activation=node.activation,
                cell_clip=node.cell_clip,
                proj_clip=node.proj_clip,
                time_major=True,
            )
            largest = np.maximum(largest, np.abs(c).max(axis=1))
        self.largest += list(largest.reshape(count, -1).max(axis=1))
        self._inputs, self._states = [], []


def for_new(seen: npt.NDArray[np.float64]) -> Range:
    """The range that all but a few of new samples keep to.

    Args:
        seen: smallest and largest value of each sample, [samples, 2].
    """
    low, high = _whole(seen)
    most = MOST * (high - low)
    return max(-_reached(-seen[:, 0]), low - most), min(_reached(seen[:, 1]), high + most)


def _reached(largest: npt.NDArray[np.float64]) -> float:
    """What all but a share of `RARE` of new samples stay below, by the largest values of some samples.

    The upper half of them is taken for the upper half of a distribution whose tail is exponential, which most are that
    have a tail at all. Values that end at a bound lie close together, so that little is added to them.
    """
    ordered = np.sort(largest)[::-1]
    half = len(ordered) // 2
    if not half:
        return float(ordered[0])
    mean_excess = ordered[:half].mean() - ordered[half]
    return float(max(ordered[0], ordered[half] + mean_excess * math.log(half / (len(ordered) * RARE))))


def _whole(seen: npt.NDArray[np.float64]) -> Range:
    return float(seen[:, 0].min()), float(seen[:, 1].max())


def _up_to_bounds(values: Sequence[npt.NDArray[Any]]) -> Range:
    """The range of what is in each sample; an end that a sample reaches twice is a bound, and stays."""
    seen = reached(values)
    ends = zip(_whole(seen), for_new(seen), strict=True)
    low, high = (end if _is_bound(values, end) else wider for end, wider in ends)
    return low, high


def _is_bound(values: Sequence[npt.NDArray[Any]], end: float) -> bool:
    return any(np.count_nonzero(each == end) > 1 for each in values)


def _follow_moves(model: Model, subgraph: Subgraph, seen: Extremes, ranges: dict[int, Range]) -> None:
    """Gives what only moves data the range of what it takes, in place, and where that is a constant too, of both."""
    for operator in subgraph.operators:
        moved = int8_scales.MOVED_INPUTS.get(graph.operator_name(model, operator))
        sources = [ranges[index] for index in operator.inputs[moved] if index in ranges] if moved else []
        for index in map(int, operator.outputs):
            if sources and index in ranges:
                lows, highs = zip(_whole(seen[index]), *sources, strict=True)
                ranges[index] = min(lows), max(highs)


def _widen_unseen(model: Model, main: Subgraph, seen: Mapping[int, Any]) -> None:
    """Widens the calibrated ranges of computed tensors that cannot be read, in place."""
    for subgraph in model.subgraphs:
        for operator in subgraph.operators:
            for index in {*map(int, operator.outputs), *map(int, graph.listed(operator.intermediates))}:
                if subgraph is main and index in seen:
                    continue
                low, high = _range(subgraph.tensors[index])
                slack = UNSEEN_MARGIN / 2 * (high - low)
                _set_range(subgraph.tensors[index], low - slack, high + slack)


def _check_cell(op: RecurrentOp, seen: Extremes) -> None:
    index = op.operands["cell_state"]
    is_seen = op.subgraph is op.model.subgraphs[0] and index in seen
    largest = seen[index].max() if is_seen else max(map(abs, _range(op.tensor("cell_state"))))
    if largest > LARGEST_CELL:
        raise ConversionError(
            f"layer {op.layer!r} cannot be int8: its cell state reaches {largest:.0f}, and "
            f'the tanh of the kernel takes {LARGEST_CELL:.0f} at most; pass quantization="dynamic"'
        )


def _check_sums(node: LstmNode, steps: Array) -> None:
    """Refuses inputs, [..., input_size], whose sums overflow; layer normalization gives these ranges of their own."""
    if "layer_norm" in node.variants:
        return
    weights = [each for name in INPUT_WEIGHTS if (each := getattr(node.weights, name)) is not None]
    rows = np.concatenate(weights).astype(np.float64)
    largest = float(np.abs(steps).max(initial=0.0))
    if largest * np.abs(rows).sum(axis=1).max() <= LARGEST_SUM:
        return
    most = float(np.abs(steps @ rows.T).max())
    if most > LARGEST_SUM:
        raise LargeInputsError(
            f"layer {node.name!r} cannot be int8: its inputs reach {largest:.3g}, so that their sums with the weights "
            f'reach {most:.3g}, and the kernel takes {LARGEST_SUM:.3g} at most; pass quantization="dynamic", or '
            "normalize the inputs before training"
        )


def _fit_kernel(op: RecurrentOp) -> None:
    """Sets ranges so that the int8 kernel reads the numbers that it stores.

    Its tanh leaves the result unwritten unless the int16 cell state has a range between 1 and 64 (`ApplyTanh` takes
    0 to 6 integer bits). And it turns the sign of the zero point of the projection's input (`-hidden_zp` in
    `CalculateLstmOutputInteger8x8_16`), so that a range with one long end is cut to the length of the short one.
    """
    cell_state = op.tensor("cell_state")
    largest = min(max(1.0, *map(abs, _range(cell_state))), LARGEST_CELL)
    _set_range(cell_state, -largest, largest)
    if op.has("projection_weights"):
        hidden = op.subgraph.tensors[op.operator.intermediates[int8_scales.HIDDEN]]
        largest = max(map(abs, _range(hidden)))
        _set_range(hidden, -largest, largest)


def _range(tensor: Tensor) -> Range:
    """The calibrated range; of a tensor without one (0, 0)."""
    quantization = tensor.quantization
    if quantization is None or quantization.min is None or not len(quantization.min):
        return 0.0, 0.0
    return float(quantization.min[0]), float(quantization.max[0])


def with_width(ends: Range) -> Range:
    """A range that holds zero, and of whose width a scale can be made.

    Samples in which a tensor is always zero tell nothing of its other values; it gets -1 to 1, the size of most numbers
    in a network.
    """
    low, high = (min(max(end, -LARGEST), LARGEST) for end in (min(ends[0], 0.0), max(ends[1], 0.0)))
    return (low, high) if high - low >= LEAST_WIDTH else (-1.0, 1.0)


def _set_range(tensor: Tensor, low: float, high: float) -> None:
    if tensor.quantization is not None and tensor.quantization.min is not None and len(tensor.quantization.min):
        tensor.quantization.min, tensor.quantization.max = [low], [high]
