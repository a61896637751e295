"""The packed weights of an LSTM as its framework stores them, read from whatever holds them."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.weights.frameworks import KERAS, LINGVO, Packed, read_keras, read_lingvo, read_torch, torch_packing
from lstm_toolkit.weights.gate_weights import GateWeights
from lstm_toolkit.weights.packing import PACKED_KINDS

FRAMEWORKS = {"keras": "Keras", "lingvo": "Lingvo", "pytorch": "PyTorch"}
"""How the frameworks write their names, by the order of the gates that each has."""


PREFIXES = ("forward_", "backward_")
"""What names of operands start with in the op for both directions."""

_BY_GATE = Packed(KERAS, {})


@dataclasses.dataclass(frozen=True, eq=False)
class Half:
    """One direction of an LSTM.

    Attributes:
        weights: by gate.
        packed: the same as arrays; none where the source stores its weights by gate.
        prefix: what its operands' names start with: "", "forward_" or "backward_".
    """

    weights: GateWeights
    packed: Packed = _BY_GATE
    prefix: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class PackedSource:
    """An LSTM with its packed weights.

    Attributes:
        title: what it is, with its name.
        order: key of `FRAMEWORKS`.
        stored: whether the arrays are the source's own, and not packed for the picture.
        op: the fused op that takes them.
        halves: one, or forward and backward, all with arrays.
    """

    title: str
    order: str
    stored: bool
    op: str
    halves: tuple[Half, ...]


def read_source(source: Any, *, order: str | None, layer: int, node: int) -> PackedSource:
    """Reads the packed weights of an LSTM. Arguments and errors as for `gate_layout`."""
    if order is not None and order not in FRAMEWORKS:
        raise ValueError(f"order must be one of {sorted(FRAMEWORKS)}, got {order!r}")
    title, own, op, halves = _read(source, layer, node)
    if len(halves) == 2:
        _check_directions(halves)
        halves = [dataclasses.replace(half, prefix=prefix) for half, prefix in zip(halves, PREFIXES, strict=True)]
    order = order or own or _order_that_holds(halves[0].weights)
    if order != own:
        halves = [dataclasses.replace(half, packed=_pack(half, order)) for half in halves]
    op = op or ("BIDIRECTIONAL_SEQUENCE_LSTM" if len(halves) == 2 else "UNIDIRECTIONAL_SEQUENCE_LSTM")
    return PackedSource(title, order, order == own, op, tuple(halves))


def _read(source: Any, layer: int, node: int) -> tuple[str, str | None, str | None, list[Half]]:
    """Title, order, op and halves; no order where the gates are not packed, no op where nothing names one."""
    if hasattr(source, "forward_layer") and hasattr(source, "backward_layer"):
        return _titled(source), "keras", None, [_keras(getattr(source, f"{each}layer"), each) for each in PREFIXES]
    if hasattr(source, "get_weights"):
        return _titled(source), "keras", None, [_keras(source)]
    cell = source if hasattr(source, "theta") else getattr(source, "cell", None)
    if hasattr(cell, "theta"):
        return _titled(cell), "lingvo", None, [_half(read_lingvo(cell))]
    if hasattr(source, "state_dict") or isinstance(source, Mapping):
        state = source.state_dict() if hasattr(source, "state_dict") else source
        return f"PyTorch LSTM, layer {layer}", "pytorch", None, _torch(state, layer)
    pair = source if isinstance(source, tuple) and len(source) == 2 else (source,)
    if all(isinstance(each, GateWeights) for each in pair):
        return "GateWeights", None, None, [Half(each) for each in pair]
    if isinstance(source, (bytes, bytearray, memoryview, str, os.PathLike)) or hasattr(source, "tflite"):
        return _file(source, node)
    raise TypeError(
        "expected a Keras LSTM layer, a Lingvo cell, a torch.nn.LSTM or its state_dict, a .tflite file (bytes or path) "
        f"or GateWeights, got {type(source).__name__}"
    )


def _titled(source: Any) -> str:
    return f"{type(source).__name__} {_quoted(str(getattr(source, 'name', '')))}"


def _quoted(name: str) -> str:
    text = repr(name)
    return text if len(text) <= 40 else text[:37] + "..."


def _keras(layer: Any, prefix: str = "") -> Half:
    inner = [each for each in getattr(layer, "layers", ()) if hasattr(each, "get_weights")]
    if inner:
        names = ", ".join(_titled(each) for each in inner)
        raise ValueError(f"{_titled(layer)} is a model of several layers; give one LSTM layer of it: {names}")
    arrays = layer.get_weights()
    if len(arrays) in (2, 3) and arrays[1].ndim == 2 and arrays[1].shape[1] != 4 * arrays[1].shape[0]:
        units, columns = arrays[1].shape
        raise ValueError(
            f"{_titled(layer)} is no LSTM: recurrent_kernel must be [units, 4 * units], got [{units}, {columns}]"
        )
    stored = read_keras(layer)
    packing = stored.packing.renamed(f"{prefix}{{}}")
    arrays = dict(zip(packing.arrays, stored.arrays.values(), strict=False))
    return _half(Packed(packing, arrays))


def _half(packed: Packed) -> Half:
    return Half(GateWeights(**packed.split()), packed)


def _torch(state: Mapping[str, Any], layer: int) -> list[Half]:
    if "wm" in state:
        raise TypeError(
            "a theta alone does not tell its options: give the cell, or GateWeights.from_lingvo(theta, ...) with "
            'order="lingvo"'
        )
    directions = (False, True) if f"weight_ih_l{layer}_reverse" in state else (False,)
    return [_half(read_torch(state, layer=layer, reverse=reverse)) for reverse in directions]


def _file(source: Any, number: int) -> tuple[str, str | None, str, list[Half]]:
    from lstm_toolkit.inspection.read import inspect  # needs LiteRT, which the other sources do not

    nodes = inspect(source).lstm_nodes
    if not nodes:
        raise InvalidModelError("the .tflite file has no fused LSTM op")
    if not 0 <= number < len(nodes):
        names = ", ".join(f"{index}: {each.name!r}" for index, each in enumerate(nodes))
        raise ValueError(f"node must be 0 to {len(nodes) - 1}, got {number}; the fused LSTM ops are {names}")
    node = nodes[number]
    halves = [Half(weights) for weights in (node.weights, node.backward_weights) if weights is not None]
    return f".tflite, op {number} {_quoted(node.name)}", None, node.op, halves


def _check_directions(halves: Sequence[Half]) -> None:
    forward, backward = (half.weights for half in halves)
    if forward.units != backward.units:
        raise ValueError(
            "the fused op takes as many units in both directions, and convert() fills the smaller half up with zeros; "
            f"there are {forward.units} forward and {backward.units} backward: give each half by itself"
        )
    if any(half.weights.forget_layer_norm_coefficients is not None for half in halves):
        raise ValueError("BIDIRECTIONAL_SEQUENCE_LSTM has no layer normalization: give each half by itself")


def _order_that_holds(weights: GateWeights) -> str:
    others = (weights.projection_weights, weights.forget_layer_norm_coefficients)
    return "keras" if weights.has_input_gate and all(each is None for each in others) else "lingvo"


def _pack(half: Half, order: str) -> Packed:
    """Packs weights in an order; what its framework does not have is packed in the same order."""
    packing = {"keras": KERAS, "lingvo": LINGVO, "pytorch": torch_packing(layer=0, reverse=False)}[order]
    kinds = list(PACKED_KINDS)
    others = {kind: kind for kind in kinds if kind not in ("joint_kernel", *packing.arrays.values())}
    # Before the kernels, which hold the same where no joint kernel can.
    arrays = sorted(
        {**packing.arrays, **others}.items(), key=lambda item: (item[1] != "joint_kernel", kinds.index(item[1]))
    )
    packing = dataclasses.replace(packing, arrays=dict(arrays), couples=True)
    reverse = "_reverse" if half.prefix == "backward_" else ""
    packing = packing.renamed(f"{{}}{reverse}" if order == "pytorch" else f"{half.prefix}{{}}")
    if not half.weights.has_input_gate:
        packing = packing.coupled()
    return Packed(packing, packing.pack(dict(half.weights.operands())))
