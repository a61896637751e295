"""Pass: inputs and outputs of a file are integers.

    before  [x: float32] [QUANTIZE] [op int8] ... [DEQUANTIZE] [y: float32]        before  [x: float32] [op float32]
    after   [x: int8] [op int8] ... [y: int8]                                      after   [x: int8] [DEQUANTIZE] [op]

A QUANTIZE between int8 and int16 stands where an op needs the other type. An edge of type uint8 is one of int8 behind a
QUANTIZE that adds 128, since the kernels of TensorFlow Lite Micro take uint8 to int8 and back alone.
"""

import copy
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.passes.int8_scales import MOVED_INPUTS
from lstm_toolkit.runtime.trial import signature_names
from lstm_toolkit.tflite import edit, files, graph
from lstm_toolkit.tflite.types import Model, Operator, Quantization, Subgraph

Ranges = Mapping[str, tuple[float, float]]
"""Smallest and largest value of each float input or output, by its name."""

Types = schema.TensorType

_OFFSET = 128
"""Between the zero points of int8 and uint8."""


def set_types(model: Model, dtypes: tuple[str, str], ranges: tuple[Ranges, Ranges]) -> None:
    """Gives the float inputs and outputs of a `ModelT` integer types, in place; the others stay as they are.

    Args:
        model: the file.
        dtypes: of the inputs, and of the outputs: "float32", which leaves them, "int8", "int16" or "uint8".
        ranges: of the inputs, and of the outputs. Where the file computes with the same type behind an input or before
            an output, its scale is that of this tensor.
    """
    main, names = model.subgraphs[0], signature_names(model)
    for side, edge, dtype, known in zip(("inputs", "outputs"), (_input, _output), dtypes, ranges, strict=True):
        old = dict(zip(map(int, getattr(main, side)), names[side], strict=True))
        moved = {
            index: _named(main, index, _shifted(model, main, edge, index, dtype, known[name]))
            for index, name in old.items()
            if dtype != "float32" and main.tensors[index].type == Types.FLOAT32
        }
        setattr(main, side, [moved.get(int(index), int(index)) for index in getattr(main, side)])
        for signature in (each for each in graph.listed(model.signatureDefs) if not each.subgraphIndex):
            for entry in graph.listed(getattr(signature, side)):
                entry.tensorIndex = moved.get(entry.tensorIndex, entry.tensorIndex)
    used = graph.consumed(main)
    main.operators = [
        op for op in main.operators if graph.operator_name(model, op) != "DEQUANTIZE" or op.outputs[0] in used
    ]
    files.prune(model)


def check_inputs(model: Model) -> None:
    """Makes sure that no float input is read in a way that its nearest integers would change altogether.

    Raises:
        ConversionError: if an input holds whole numbers, or is compared with another number than 0; names the remedy.
    """
    main = model.subgraphs[0]
    for index, name in zip(map(int, main.inputs), signature_names(model)["inputs"], strict=True):
        if main.tensors[index].type != Types.FLOAT32:
            continue
        for operator in _readers(model, main, index):
            op = graph.operator_name(model, operator)
            if op == "CAST" and main.tensors[operator.outputs[0]].type != Types.FLOAT32:
                raise ConversionError(
                    f"input {name!r} cannot be integers with a scale: the model takes its numbers as whole ones, such "
                    'as tokens; declare it with dtype="int32", which stays as it is, or pass io_dtype="float32"'
                )
            values = [graph.constant(model, main.tensors[each]) for each in operator.inputs]
            others = [each for each in values if each is not None and np.any(each)]
            if op in ("EQUAL", "NOT_EQUAL") and others:
                raise ConversionError(
                    f"input {name!r} cannot be integers with a scale: the model compares it with "
                    f"{np.ravel(others[0])[0]:g}, as a mask does, which they may not hold; pad with 0 "
                    '(mask_value=0.0), which they do, or pass io_dtype="float32"'
                )


def _readers(model: Model, main: Subgraph, index: int) -> Iterator[Operator]:
    """Yields what takes a tensor, or a tensor that has its numbers in another order."""
    left, seen = [index], set()
    while left:
        index = left.pop()
        seen.add(index)
        for operator in main.operators:
            if index in operator.inputs:
                yield operator
                if graph.operator_name(model, operator) in MOVED_INPUTS:
                    left += {*map(int, operator.outputs)} - seen


Edge = Callable[[Model, Subgraph, int, int, tuple[float, float]], int]


def _shifted(model: Model, main: Subgraph, edge: Edge, index: int, dtype: str, ends: tuple[float, float]) -> int:
    """Makes an edge of int8 or int16, and one of uint8 beyond it where that is wanted; returns its index."""
    inner = edge(model, main, index, Types.INT16 if dtype == "int16" else Types.INT8, ends)
    if dtype != "uint8":
        return inner
    quantization = copy.deepcopy(main.tensors[inner].quantization)
    quantization.zeroPoint = [int(quantization.zeroPoint[0]) + _OFFSET]
    outer = edit.like(main, inner, "uint8", dtype=Types.UINT8, quantization=quantization)
    if edge is _input:
        main.operators.insert(0, edit.new_operator(model, "QUANTIZE", [outer], [inner]))
    else:
        main.operators.append(edit.new_operator(model, "QUANTIZE", [inner], [outer]))
    return outer


def _input(model: Model, main: Subgraph, index: int, dtype: int, ends: tuple[float, float]) -> int:
    """Makes an integer input in the place of a float one; returns its index."""
    quantizers = [op for op in main.operators if index in op.inputs and graph.operator_name(model, op) == "QUANTIZE"]
    made = [main.tensors[op.outputs[0]] for op in quantizers]
    quantization = next((each.quantization for each in made if each.type == dtype), _scale(dtype, ends))
    edge = edit.like(main, index, "integers", dtype=dtype, quantization=quantization)
    for op, tensor in zip(quantizers, made, strict=True):
        op.inputs = [edge]
        is_same = (tensor.type, graph.scale_of(tensor)) == (dtype, graph.scale_of(main.tensors[edge]))
        if is_same and not tensor.isVariable and op.outputs[0] not in main.outputs:
            main.operators.remove(op)
            edit.redirect(main, op.outputs[0], edge)
    if index in graph.consumed(main):
        main.operators.insert(0, edit.new_operator(model, "DEQUANTIZE", [edge], [index]))
    return edge


def _output(model: Model, main: Subgraph, index: int, dtype: int, ends: tuple[float, float]) -> int:
    """Makes an integer output in the place of a float one; returns its index."""
    maker, source = graph.producers(main).get(index), index
    if maker is not None and graph.operator_name(model, maker) == "DEQUANTIZE":
        held = main.tensors[maker.inputs[0]]
        if held.type in (Types.INT8, Types.INT16) and graph.scale_of(held)[0]:
            source = int(maker.inputs[0])
    tensor, fixed = main.tensors[source], source in main.inputs or main.tensors[source].isVariable
    if tensor.type == dtype and not fixed:
        return source
    quantization = tensor.quantization if tensor.type == dtype else _scale(dtype, ends)
    edge = edit.like(main, index, "integers", dtype=dtype, quantization=quantization)
    main.operators.append(edit.new_operator(model, "QUANTIZE", [source], [edge]))
    return edge


def _scale(dtype: int, ends: tuple[float, float]) -> Quantization:
    """Scale and zero point by which integers reach from one number to another, between which zero is."""
    low, high = ends
    if dtype == Types.INT16:
        return edit.scaled(max(-low, high) / 32767)
    scale = (high - low) / 255
    return edit.scaled(scale, round(-128 - low / scale))


def _named(main: Subgraph, old: int, new: int) -> int:
    """Gives a tensor the name of another, which gets its name; returns its index."""
    one, other = main.tensors[old], main.tensors[new]
    one.name, other.name = other.name, one.name
    return new
