"""Pass: an int8 LSTM has one scale for its output, its state and its hidden tensor, and no op moves data across scales.

    before  [LSTM int8: output at one scale, state and hidden at another] [REVERSE_V2: from one scale to another]
    after   [LSTM int8: all three at one scale] [QUANTIZE: to the scale of the output before, if that is another]
            [QUANTIZE] [REVERSE_V2: both ends at one scale]

The quantizer gives all inputs of a CONCATENATION one scale by changing the output's alone. But the kernel takes one
scale for granted for the output, the state h and, where there is no projection, the fifth intermediate (hidden), and an
op that only moves data copies the stored numbers, whatever they stand for. The one scale has to hold what any of the
three holds: the state's own range is that of the last steps only, since the calibrator sees it only after a call.
Source: `CalculateLstmInteger8x8_16` in `tflite/kernels/lstm_eval.cc`.
"""

from collections.abc import Iterator
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.tflite import edit, graph
from lstm_toolkit.tflite.types import Model, Operator, Subgraph, Tensor
from lstm_toolkit.weights.operands import ABSENT, OPERANDS

OUTPUT_STATE = OPERANDS.index("output_state")
PROJECTION = OPERANDS.index("projection_weights")
HIDDEN = 4
"""Place of the hidden tensor among the intermediates."""

MOVED_INPUTS = {
    "CONCATENATION": None,
    "PACK": None,
    "SPLIT": slice(1, 2),
} | dict.fromkeys(
    ("RESHAPE", "TRANSPOSE", "REVERSE_V2", "STRIDED_SLICE", "SLICE", "GATHER", "UNPACK", "SQUEEZE", "EXPAND_DIMS"),
    slice(0, 1),
)
"""For each op that only moves data which of its inputs are that data; None for all."""

Quantization = tuple[int, float, int]


def unequal_scales(model: Model) -> Iterator[tuple[str, str]]:
    """Yields place and fact for each LSTM and each op that moves data whose scales differ where they must not."""
    for subgraph in model.subgraphs:
        for place, operator in enumerate(subgraph.operators):
            name = graph.operator_name(model, operator)
            if _is_integer_lstm(subgraph, operator, name):
                if len({_quantization(tensor) for tensor in _equal_tensors(subgraph, operator)}) > 1:
                    yield (
                        f"op {place} {name}",
                        "output, state and hidden have different scales, which the kernel ignores",
                    )
            elif _moved_across(subgraph, operator, name):
                yield (
                    f"op {place} {name}",
                    "it moves int8 data between tensors of different scales without rescaling it",
                )


def equalize(model: Model) -> str:
    """Mends what `unequal_scales` finds in a `ModelT`, in place; returns what it changed."""
    lstms = moves = 0
    for subgraph in model.subgraphs:
        operators = []
        for operator in subgraph.operators:
            name = graph.operator_name(model, operator)
            before, after = [], []
            if _is_integer_lstm(subgraph, operator, name):
                lstms += _with_one_scale(model, subgraph, operator)
                after = _requantize_output(model, subgraph, operator)
            elif wrong := _moved_across(subgraph, operator, name):
                output = operator.outputs[0]
                before = [_requantize_input(model, subgraph, operator, place, output) for place in wrong]
                moves += 1
            operators += [*before, operator, *after]
        subgraph.operators = operators
    return f"{lstms} LSTM(s) have one scale for output, state and hidden; {moves} op(s) move data within one scale"


def _is_integer_lstm(subgraph: Subgraph, operator: Operator, name: str) -> bool:
    if name != "UNIDIRECTIONAL_SEQUENCE_LSTM" or len(operator.inputs) <= OUTPUT_STATE:
        return False
    return (
        subgraph.tensors[operator.inputs[0]].type == schema.TensorType.INT8
        and operator.inputs[OUTPUT_STATE] != ABSENT
        and subgraph.tensors[operator.inputs[OUTPUT_STATE]].type == schema.TensorType.INT8
    )


def _quantization(tensor: Tensor) -> Quantization | None:
    scale, zero_point = graph.scale_of(tensor)
    return (tensor.type, scale, zero_point) if scale else None


def _equal_tensors(subgraph: Subgraph, operator: Operator) -> list[Any]:
    """State, output and, without a projection, hidden: the kernel computes with the state's scale for all."""
    indices = [operator.inputs[OUTPUT_STATE], operator.outputs[0]]
    intermediates = operator.intermediates if operator.intermediates is not None else []
    if operator.inputs[PROJECTION] == ABSENT and len(intermediates) > HIDDEN:
        indices.append(intermediates[HIDDEN])
    return [subgraph.tensors[index] for index in indices]


def _moved_across(subgraph: Subgraph, operator: Operator, name: str) -> list[int]:
    """The places of the inputs of an op that moves data whose scale is not the output's."""
    if name not in MOVED_INPUTS or not len(operator.outputs):
        return []
    expected = _quantization(subgraph.tensors[operator.outputs[0]])
    wanted = MOVED_INPUTS[name]
    places = range(len(operator.inputs))
    return [
        place
        for place in (places if wanted is None else places[wanted])
        if operator.inputs[place] != ABSENT
        and expected is not None
        and (found := _quantization(subgraph.tensors[operator.inputs[place]])) is not None
        and found != expected
    ]


def _with_one_scale(model: Model, subgraph: Subgraph, operator: Operator) -> bool:
    """Gives state, output and hidden one scale; returns whether they had different ones."""
    tensors = _equal_tensors(subgraph, operator)
    found = [quantization for tensor in tensors if (quantization := _quantization(tensor)) is not None]
    if len(found) < len(tensors) or len(set(found)) == 1:
        return False
    output = tensors[1]
    for tensor in (tensors[0], *tensors[2:]):
        tensor.quantization, tensor.type = _covering(found, preferred=found[1]), output.type
    return True


def _covering(found: list[Quantization], *, preferred: Quantization) -> Any:
    """Parameters whose range holds all the ranges: the preferred ones if they do."""
    low = min(-(128 + zero_point) * scale for _, scale, zero_point in found)
    high = max((127 - zero_point) * scale for _, scale, zero_point in found)
    _, scale, zero_point = preferred
    # A hundredth of a range is less than what the calibration itself leaves open.
    slack = 0.01 * (high - low)
    if -(128 + zero_point) * scale > low + slack or (127 - zero_point) * scale < high - slack:
        scale = (high - low) / 255
        zero_point = round(-128 - low / scale)
    quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = [scale], [zero_point]
    return quantization


def _requantize_output(model: Model, subgraph: Subgraph, operator: Operator) -> list[Any]:
    """A QUANTIZE behind an op whose output must have its state's scale, where what follows needs another."""
    state, wanted = subgraph.tensors[operator.inputs[OUTPUT_STATE]], operator.outputs[0]
    if _quantization(state) == _quantization(subgraph.tensors[wanted]):
        return []
    own = edit.like(subgraph, wanted, "at_the_scale_of_its_state", quantization=state.quantization)
    operator.outputs = [own]
    return [edit.new_operator(model, "QUANTIZE", [own], [wanted])]


def _requantize_input(model: Model, subgraph: Subgraph, operator: Operator, place: int, output: int) -> Any:
    source = operator.inputs[place]
    target = edit.like(subgraph, source, "requantized", quantization=subgraph.tensors[output].quantization)
    operator.inputs[place] = target
    return edit.new_operator(model, "QUANTIZE", [source], [target])
