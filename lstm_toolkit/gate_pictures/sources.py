"""The packed weights of an LSTM as its framework stores them, read from whatever holds them.

No framework is imported: an object is asked only for its arrays, as in `adapters`.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.weights.gate_weights import GateWeights
from lstm_toolkit.weights.packing import (
    KERAS_GATES,
    LINGVO_COUPLED_GATES,
    LINGVO_GATES,
    LINGVO_KINDS,
    OPERAND_OF_KIND,
    PACKED_KINDS,
    TORCH_GATES,
)

Array = npt.NDArray[np.float32]

ORDERS = {"keras": KERAS_GATES, "lingvo": LINGVO_GATES, "pytorch": TORCH_GATES}
"""For each framework the order of the gates in its packed arrays; a coupled input gate is left out."""

FRAMEWORKS = {"keras": "Keras", "lingvo": "Lingvo", "pytorch": "PyTorch"}
"""How the frameworks write their names."""

_NAMES: dict[str, dict[str, str]] = {
    "keras": {},
    "lingvo": {kind: name for name, kind in LINGVO_KINDS.items()},
    "pytorch": {"kernel": "weight_ih_l0", "recurrent_kernel": "weight_hh_l0", "bias": "bias_ih_l0"}
    | {"projection": "weight_hr_l0"},
}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class StoredArray:
    """One array as its framework stores it.

    Attributes:
        name: that the framework gives it; of a bidirectional layer with the direction in it.
        kind: key of `adapters.PACKED_KINDS`.
        values: float32, read-only.
        gates: order of the gates along `gate_axis`; empty where the array belongs to no gate.
        gate_axis: -1, or 0 where matrices are stored as the op takes them.
        inputs: of a joint kernel, how many of its rows belong to the input; else 0.
    """

    name: str
    kind: str
    values: Array
    gates: tuple[str, ...]
    gate_axis: int = -1
    inputs: int = 0

    def __post_init__(self) -> None:
        values = np.array(self.values, np.float32)
        values.setflags(write=False)
        object.__setattr__(self, "values", values)


@dataclasses.dataclass(frozen=True, eq=False)
class Half:
    """One direction of an LSTM.

    Attributes:
        prefix: what its operands' names start with: "", "forward_" or "backward_".
        weights: by gate.
        arrays: the same, packed.
        forget_gate_bias: what the cell adds to the bias of its forget gate.
    """

    prefix: str
    weights: GateWeights
    arrays: tuple[StoredArray, ...]
    forget_gate_bias: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class PackedSource:
    """An LSTM with its packed weights.

    Attributes:
        title: what it is, with its name.
        order: key of `ORDERS`.
        stored: whether the arrays are the source's own, and not packed for the picture.
        op: the fused op that takes them.
        halves: one, or forward and backward.
    """

    title: str
    order: str
    stored: bool
    op: str
    halves: tuple[Half, ...]


def read_source(source: Any, *, order: str | None, layer: int, node: int) -> PackedSource:
    """Reads the packed weights of an LSTM. Arguments and errors as for `gate_layout`."""
    if order is not None and order not in ORDERS:
        raise ValueError(f"order must be one of {sorted(ORDERS)}, got {order!r}")
    title, own, op, halves = _read(source, layer, node)
    if len(halves) == 2:
        _check_directions(halves)
    order = order or own or _order_that_holds(halves[0].weights)
    if order != own:
        halves = [Half(half.prefix, half.weights, _pack(half.weights, order, half.prefix)) for half in halves]
    op = op or ("BIDIRECTIONAL_SEQUENCE_LSTM" if len(halves) == 2 else "UNIDIRECTIONAL_SEQUENCE_LSTM")
    return PackedSource(title, order, order == own, op, tuple(halves))


def _read(source: Any, layer: int, node: int) -> tuple[str, str | None, str | None, list[Half]]:
    """Title, order, op and halves; no order where the gates are not packed, no op where nothing names one."""
    if hasattr(source, "forward_layer") and hasattr(source, "backward_layer"):
        halves = [_keras(getattr(source, f"{prefix}layer"), prefix) for prefix in ("forward_", "backward_")]
        return _titled(source), "keras", None, halves
    if hasattr(source, "get_weights"):
        return _titled(source), "keras", None, [_keras(source, "")]
    cell = source if hasattr(source, "theta") else getattr(source, "cell", None)
    if hasattr(cell, "theta"):
        return _titled(cell), "lingvo", None, [_lingvo(cell)]
    if hasattr(source, "state_dict") or isinstance(source, Mapping):
        state = source.state_dict() if hasattr(source, "state_dict") else source
        return f"PyTorch LSTM, layer {layer}", "pytorch", None, _torch(state, layer)
    pair = source if isinstance(source, tuple) and len(source) == 2 else (source,)
    if all(isinstance(each, GateWeights) for each in pair):
        prefixes = ("",) if len(pair) == 1 else ("forward_", "backward_")
        halves = [Half(prefix, each, ()) for prefix, each in zip(prefixes, pair, strict=True)]
        return "GateWeights", None, None, halves
    if isinstance(source, (bytes, bytearray, memoryview, str, os.PathLike)) or hasattr(source, "tflite"):
        return _file(source, node)
    raise TypeError(
        "expected a Keras LSTM layer, a Lingvo cell, a torch.nn.LSTM or its state_dict, a .tflite file (bytes or path) "
        f"or GateWeights, got {type(source).__name__}"
    )


def _titled(source: Any) -> str:
    name = repr(str(getattr(source, "name", "")))
    return f"{type(source).__name__} {name if len(name) <= 40 else name[:37] + '...'}"


def _keras(layer: Any, prefix: str) -> Half:
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
    weights = GateWeights.from_keras(layer)
    kinds = ("kernel", "recurrent_kernel", "bias")
    stored = (
        StoredArray(name=prefix + kind, kind=kind, values=values, gates=KERAS_GATES)
        for kind, values in zip(kinds, arrays, strict=False)
    )
    return Half(prefix, weights, tuple(stored))


def _lingvo(cell: Any) -> Half:
    weights = GateWeights.from_lingvo(cell)
    gates = LINGVO_GATES if weights.has_input_gate else LINGVO_COUPLED_GATES
    arrays = []
    for name, variable in cell.theta.items():
        kind = LINGVO_KINDS[name]
        inputs = weights.input_size if kind == "joint_kernel" else 0
        own = () if kind == "projection" else gates
        arrays.append(StoredArray(name=name, kind=kind, values=np.asarray(variable), gates=own, inputs=inputs))
    return Half("", weights, tuple(arrays), float(cell.forget_gate_bias))


def _torch(state: Mapping[str, Any], layer: int) -> list[Half]:
    if "wm" in state:
        raise TypeError(
            "a theta alone does not tell its options: give the cell, or GateWeights.from_lingvo(theta, ...) with "
            'order="lingvo"'
        )
    directions = (False, True) if f"weight_ih_l{layer}_reverse" in state else (False,)
    prefixes = ("forward_", "backward_") if len(directions) == 2 else ("",)
    kinds = {"weight_ih": "kernel", "weight_hh": "recurrent_kernel", "bias_ih": "bias", "bias_hh": "bias"}
    halves = []
    for reverse, prefix in zip(directions, prefixes, strict=True):
        weights = GateWeights.from_torch(state, layer=layer, reverse=reverse)
        suffix, arrays = f"_l{layer}{'_reverse' if reverse else ''}", []
        for name, kind in (kinds | {"weight_hr": "projection"}).items():
            if name + suffix in state:
                value = state[name + suffix]
                value = value.detach().cpu().float().numpy() if hasattr(value, "detach") else value
                gates = () if kind == "projection" else TORCH_GATES
                arrays.append(StoredArray(name=name + suffix, kind=kind, values=value, gates=gates, gate_axis=0))
        halves.append(Half(prefix, weights, tuple(arrays)))
    return halves


def _file(source: Any, number: int) -> tuple[str, str | None, str, list[Half]]:
    from lstm_toolkit.inspection.read import inspect  # needs LiteRT, which the other sources do not

    nodes = inspect(source).lstm_nodes
    if not nodes:
        raise InvalidModelError("the .tflite file has no fused LSTM op")
    if not 0 <= number < len(nodes):
        names = ", ".join(f"{index}: {each.name!r}" for index, each in enumerate(nodes))
        raise ValueError(f"node must be 0 to {len(nodes) - 1}, got {number}; the fused LSTM ops are {names}")
    node = nodes[number]
    halves = [Half("", node.weights, ())]
    if node.backward_weights is not None:
        halves = [Half("forward_", node.weights, ()), Half("backward_", node.backward_weights, ())]
    name = repr(node.name)
    return f".tflite, op {number} {name if len(name) <= 40 else name[:37] + '...'}", None, node.op, halves


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


def _pack(weights: GateWeights, order: str, prefix: str) -> tuple[StoredArray, ...]:
    """Packs weights in an order; what its framework does not have is packed in the same order."""
    gates = tuple(gate for gate in ORDERS[order] if gate != "input" or weights.has_input_gate)
    axis = 0 if order == "pytorch" else -1
    packed: dict[str, tuple[Array, tuple[str, ...]]] = {}
    for kind in PACKED_KINDS:
        own = gates_of(kind, gates)
        operands = operands_of(kind, own)
        parts = [getattr(weights, operand) for operand in operands]
        has_kind = weights.has_diagonal_recurrence == (kind == "recurrent_diagonal") or "recurrent" not in kind
        if kind != "joint_kernel" and has_kind and parts[0] is not None:
            values = np.concatenate(parts)
            packed[kind] = (values if axis == 0 else values.T, own)
    if order == "lingvo" and "recurrent_kernel" in packed:
        joint = np.concatenate([packed.pop("kernel")[0], packed.pop("recurrent_kernel")[0]])
        packed = {"joint_kernel": (joint, gates), **packed}
    if order == "pytorch" and "bias" in packed:
        packed["bias_hh_l0"] = (np.zeros_like(packed["bias"][0]), gates)
    reverse = "_reverse" if prefix == "backward_" else ""
    return tuple(
        StoredArray(
            name=_NAMES[order].get(kind, kind) + reverse
            if order == "pytorch"
            else prefix + _NAMES[order].get(kind, kind),
            kind="bias" if kind == "bias_hh_l0" else kind,
            values=values,
            gates=own,
            gate_axis=axis,
            inputs=weights.input_size if kind == "joint_kernel" else 0,
        )
        for kind, (values, own) in packed.items()
    )


def gates_of(kind: str, gates: Sequence[str]) -> tuple[str, ...]:
    """The gates that a kind of packed weights has, in order."""
    if kind.startswith("projection"):
        return ()
    return tuple(gate for gate in gates if kind != "peephole" or gate != "cell")


def operands_of(kind: str, gates: Sequence[str]) -> tuple[str, ...]:
    """The operands that a kind of packed weights becomes; of a joint kernel those of the input, then the recurrent."""
    if kind == "joint_kernel":
        return (*operands_of("kernel", gates), *operands_of("recurrent_kernel", gates))
    if kind.startswith("projection"):
        return ("projection_weights" if kind == "projection" else kind,)
    return tuple(OPERAND_OF_KIND[kind].format(gate) for gate in gates)
