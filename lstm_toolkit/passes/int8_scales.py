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

from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.tflite import edit, graph
from lstm_toolkit.tflite.recurrent import RecurrentOp
from lstm_toolkit.tflite.types import Model, Operator, Quantization, Subgraph, Tensor
from lstm_toolkit.weights.operands import ABSENT

HIDDEN = 4
"""Place of the hidden tensor among the intermediates."""

_MOVING_TEXT = """
    BROADCAST_TO EXPAND_DIMS GATHER GATHER_ND MIRROR_PAD RESHAPE REVERSE_V2 SLICE SPLIT_V SQUEEZE STRIDED_SLICE TILE
    TRANSPOSE UNPACK
"""
_MOVING = _MOVING_TEXT.split()

MOVED_INPUTS = dict.fromkeys(_MOVING, slice(1)) | {
    "CONCATENATION": slice(None),
    "PACK": slice(None),
    "SPLIT": slice(1, 2),
}
"""For each op that only moves data which of its inputs are that data."""

Scale = tuple[int, float, int]
"""Type, scale and zero point of a tensor."""


def unequal_scales(model: Model) -> Iterator[tuple[str, str]]:
    """Yields place and message for each LSTM, and each op that moves data, whose scales must be equal and differ."""
    for subgraph in model.subgraphs:
        for place, operator in enumerate(subgraph.operators):
            where, op = f"op {place} {graph.operator_name(model, operator)}", RecurrentOp(model, subgraph, operator)
            if _is_integer_lstm(op):
                if len({_quantization(tensor) for tensor in equal_tensors(op)}) > 1:
                    yield where, "output, state and hidden have different scales, which the kernel ignores"
            elif _moved_across(model, subgraph, operator):
                yield where, "it moves int8 data between tensors of different scales without rescaling it"


def equalize(model: Model) -> str:
    """Mends what `unequal_scales` finds in a `ModelT`, in place; returns what it changed."""
    lstms = moves = 0
    for subgraph in model.subgraphs:
        operators = []
        for operator in subgraph.operators:
            op, before, after = RecurrentOp(model, subgraph, operator), [], []
            if _is_integer_lstm(op):
                lstms += _with_one_scale(op)
                after = _requantize_output(op)
            elif wrong := _moved_across(model, subgraph, operator):
                before = [_requantize_input(model, subgraph, operator, place) for place in wrong]
                moves += 1
            operators += [*before, operator, *after]
        subgraph.operators = operators
    return f"{lstms} LSTM(s) have one scale for output, state and hidden; {moves} op(s) move data within one scale"


def _is_integer_lstm(op: RecurrentOp) -> bool:
    kinds = {"input", "output_state"} if op.name == "UNIDIRECTIONAL_SEQUENCE_LSTM" else ()
    return {op.tensor(name).type for name in kinds} == {schema.TensorType.INT8}


def _quantization(tensor: Tensor) -> Scale | None:
    scale, zero_point = graph.scale_of(tensor)
    return (tensor.type, scale, zero_point) if scale else None


def equal_tensors(op: RecurrentOp) -> list[Tensor]:
    """State, output and, without a projection, hidden: the kernel computes with the state's scale for all."""
    intermediates = graph.listed(op.operator.intermediates)
    hidden = [] if op.has("projection_weights") else intermediates[HIDDEN : HIDDEN + 1]
    return [op.tensor("output_state"), *(op.subgraph.tensors[index] for index in (op.operator.outputs[0], *hidden))]


def _moved_across(model: Model, subgraph: Subgraph, operator: Operator) -> list[int]:
    """The places of the inputs of an op that moves data whose scale is not the output's."""
    moved = MOVED_INPUTS.get(graph.operator_name(model, operator))
    if moved is None or not operator.outputs:
        return []
    expected = _quantization(subgraph.tensors[operator.outputs[0]])
    places = [place for place in [*range(len(operator.inputs))][moved] if operator.inputs[place] != ABSENT]
    found = {place: _quantization(subgraph.tensors[operator.inputs[place]]) for place in places}
    return [place for place in places if expected is not None and found[place] not in (None, expected)]


def _with_one_scale(op: RecurrentOp) -> bool:
    """Gives state, output and hidden one scale; returns whether they had different ones."""
    tensors = equal_tensors(op)
    found = [quantization for tensor in tensors if (quantization := _quantization(tensor)) is not None]
    if len(found) < len(tensors) or len(set(found)) == 1:
        return False
    output = tensors[1]
    for tensor in (tensors[0], *tensors[2:]):
        tensor.quantization, tensor.type = _covering(found, preferred=found[1]), output.type
    return True


def _covering(found: list[Scale], *, preferred: Scale) -> Quantization:
    """Parameters whose range covers all the ranges: the preferred ones if theirs does."""
    low = min(-(128 + zero_point) * scale for _, scale, zero_point in found)
    high = max((127 - zero_point) * scale for _, scale, zero_point in found)
    _, scale, zero_point = preferred
    # A hundredth of a range is less than what the calibration itself leaves open.
    slack = 0.01 * (high - low)
    if -(128 + zero_point) * scale > low + slack or (127 - zero_point) * scale < high - slack:
        scale = (high - low) / 255
        zero_point = round(-128 - low / scale)
    return edit.scaled(scale, zero_point)


def _requantize_output(op: RecurrentOp) -> list[Operator]:
    """A QUANTIZE behind an op whose output must have its state's scale, where what follows needs another."""
    state, wanted = op.tensor("output_state"), op.operator.outputs[0]
    if _quantization(state) == _quantization(op.subgraph.tensors[wanted]):
        return []
    own = edit.like(op.subgraph, wanted, "at_the_scale_of_its_state", quantization=state.quantization)
    op.operator.outputs = [own]
    return [edit.new_operator(op.model, "QUANTIZE", [own], [wanted])]


def _requantize_input(model: Model, subgraph: Subgraph, operator: Operator, place: int) -> Operator:
    """A QUANTIZE before an op that only moves data, to the scale of its output."""
    source, output = operator.inputs[place], subgraph.tensors[operator.outputs[0]]
    operator.inputs[place] = target = edit.like(subgraph, source, "requantized", quantization=output.quantization)
    return edit.new_operator(model, "QUANTIZE", [source], [target])
