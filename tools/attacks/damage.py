"""Damages `.tflite` files; the mutant of a number is always the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.tools import flatbuffer_utils

from tests.helpers import fuzz_worker

TEXTS = tuple(
    text.encode("utf-8", "surrogatepass")
    for text in (
        "",
        "\u202egnp",
        "\u2066a\u2069",
        "\u200b",
        "\ud800",
        "\U000e0041",
        "a\nb",
        "x" * 5000,
        "\x7f",
        "\u2028",
    )
)
"""Names that turn text round, hide in it, break lines, or are no text."""
NUMBERS = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 3.4e38, -3.4e38)


def whole_files(folder: Path) -> list[bytes]:
    """The files that are damaged."""
    return [path.read_bytes() for path in sorted((folder / "whole").glob("*.tflite"))]


def damaged(files: list[bytes], number: int) -> bytes:
    """The mutant with a number: byte by byte, or through the schema's objects."""
    random = np.random.default_rng(number)
    ways: tuple[Callable[[np.random.Generator, bytes], bytes], ...] = (
        *(fuzz_worker.flipped, fuzz_worker.truncated, fuzz_worker.spliced, fuzz_worker.wild, fuzz_worker.random_bytes),
        *(fuzz_worker.restructured, fuzz_worker.restructured, fuzz_worker.renamed),
        *(edited(way) for way in (swap_indices, resize_vectors, odd_constants, odd_types, odd_shapes, odd_names)),
        *(edited(way) for way in (drop_or_repeat, other_quantization, rewire)),
    )
    data = files[int(random.integers(len(files)))]
    return ways[int(random.integers(len(ways)))](random, data)


def edited(edit: Callable[[np.random.Generator, Any, Any], None]) -> Callable[[np.random.Generator, bytes], bytes]:
    """What edits a model and one of its subgraphs as the schema's objects, as a change of a file."""

    def change(random: np.random.Generator, data: bytes) -> bytes:
        for _ in range(10):
            model = flatbuffer_utils.read_model_from_bytearray(data)
            graph = model.subgraphs[random.integers(len(model.subgraphs))]
            try:
                for _ in range(random.integers(1, 4)):
                    edit(random, model, graph)
                return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
            except Exception:
                continue  # the codec cannot write it
        return data

    return change


def _any(random: np.random.Generator, values: Any) -> Any:
    return values[int(random.integers(len(values)))]


def swap_indices(random: np.random.Generator, model: Any, graph: Any) -> None:
    """Two operands of an op, two buffers, or two ops change places."""
    way = random.integers(4)
    op = _any(random, graph.operators)
    if way == 0:
        places = random.integers(len(op.inputs), size=2)
        op.inputs = list(op.inputs)
        op.inputs[places[0]], op.inputs[places[1]] = op.inputs[places[1]], op.inputs[places[0]]
    elif way == 1:
        one, other = _any(random, graph.tensors), _any(random, graph.tensors)
        one.buffer, other.buffer = other.buffer, one.buffer
    elif way == 2:
        one, two = random.integers(len(graph.operators), size=2)
        graph.operators[one], graph.operators[two] = graph.operators[two], graph.operators[one]
    else:
        other = _any(random, graph.operators)
        op.outputs, other.outputs = other.outputs, op.outputs


def resize_vectors(random: np.random.Generator, model: Any, graph: Any) -> None:
    """A buffer, a list of operands, or the inputs or outputs of the graph get longer or shorter."""
    way = random.integers(4)
    if way == 0:
        buffer = _any(random, [each for each in model.buffers if each.data is not None and len(each.data)])
        buffer.data = np.resize(buffer.data, max(0, len(buffer.data) + int(random.integers(-9, 10))))
        return
    owner, name = [
        (_any(random, graph.operators), "inputs"),
        (_any(random, graph.operators), "outputs"),
        (graph, str(_any(random, ("inputs", "outputs")))),
    ][way - 1]
    values = list(getattr(owner, name))
    longer = [*values, *values[: random.integers(1, 3)]]
    setattr(owner, name, longer if random.random() < 0.5 else values[: random.integers(len(values) + 1)])


def odd_constants(random: np.random.Generator, model: Any, graph: Any) -> None:
    """Some or all numbers of a constant become extreme ones."""
    buffer = _any(random, [each for each in model.buffers if each.data is not None and len(each.data) >= 4])
    values = np.frombuffer(bytes(buffer.data[: len(buffer.data) // 4 * 4]), np.float32).copy()
    if random.random() < 0.5:
        chosen = random.random(len(values)) < _any(random, (0.1, 1.0))
        values[chosen] = _any(random, NUMBERS)
    else:
        values.view(np.int32)[random.integers(len(values))] = _any(random, fuzz_worker.ODD_NUMBERS)
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)


def odd_types(random: np.random.Generator, model: Any, graph: Any) -> None:
    """A tensor gets another type, or becomes variable or a constant."""
    tensor = _any(random, graph.tensors)
    way = random.integers(3)
    if way == 0:
        tensor.type = int(random.integers(20))
    elif way == 1:
        tensor.isVariable = not tensor.isVariable
    else:
        tensor.buffer = int(random.integers(len(model.buffers)))


def odd_shapes(random: np.random.Generator, model: Any, graph: Any) -> None:
    """A shape gets another size, another rank, or open sizes."""
    tensor = _any(random, graph.tensors)
    shape = list(tensor.shape) if tensor.shape is not None else []
    way = random.integers(5)
    if way == 0 and shape:
        shape[random.integers(len(shape))] = _any(random, (-1, 0, 1, 2, 3, 8, 4096, 2**31 - 1))
    elif way == 1:
        shape.append(int(random.integers(4)))
    elif way == 2:
        shape = shape[1:]
    elif way == 3:
        tensor.shapeSignature = [-1] * len(shape)
    else:
        shape = shape[::-1]
    tensor.shape = shape


def odd_names(random: np.random.Generator, model: Any, graph: Any) -> None:
    """Names of tensors, signatures and custom ops become odd text."""
    owners = [*graph.tensors, graph, *(model.metadata or []), *model.operatorCodes]
    for signature in model.signatureDefs or []:
        owners += [signature, *signature.inputs, *signature.outputs]
    for owner in owners:
        for name in ("name", "signatureKey", "customCode"):
            if hasattr(owner, name) and random.random() < 0.5:
                setattr(owner, name, _any(random, TEXTS))


def drop_or_repeat(random: np.random.Generator, model: Any, graph: Any) -> None:
    """An op, a tensor, a buffer, a signature or a subgraph is there twice or not at all."""
    owners = [graph.operators, graph.tensors, model.buffers, model.subgraphs, model.operatorCodes]
    owners += [model.signatureDefs] if model.signatureDefs else []
    values = _any(random, owners)
    place = int(random.integers(len(values)))
    if random.random() < 0.5:
        values.insert(place, values[place])
    else:
        del values[place]


def other_quantization(random: np.random.Generator, model: Any, graph: Any) -> None:
    """A tensor takes the quantization of another one, or odd scales and zero points."""
    tensor, other = _any(random, graph.tensors), _any(random, graph.tensors)
    tensor.quantization = other.quantization
    if tensor.quantization is None or random.random() < 0.3:
        return
    if random.random() < 0.5:
        tensor.quantization.scale = [_any(random, NUMBERS)] * int(random.integers(3))
    else:
        tensor.quantization.zeroPoint = [int(_any(random, (-(2**63), -129, 0, 128, 2**31, 2**63 - 1)))]


def rewire(random: np.random.Generator, model: Any, graph: Any) -> None:
    """An op reads or writes other tensors, which all exist, or becomes another op."""
    op = _any(random, graph.operators)
    way = random.integers(4)
    if way < 2:
        name = ("inputs", "outputs")[way]
        values = list(getattr(op, name))
        values[random.integers(len(values))] = int(random.integers(-1, len(graph.tensors)))
        setattr(op, name, values)
    elif way == 2:
        op.opcodeIndex = int(random.integers(len(model.operatorCodes)))
    else:
        code = _any(random, model.operatorCodes)
        code.builtinCode = int(random.integers(200))
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
