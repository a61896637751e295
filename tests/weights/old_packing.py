"""How version 1.0.0 split and packed weights, kept for one release as the oracle of `weights/packing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.weights.gate_weights import GateWeights
from lstm_toolkit.weights.operands import BIASES, INPUT_WEIGHTS, LAYER_NORM_COEFFICIENTS, RECURRENT_WEIGHTS

Array = npt.NDArray[np.float32]

KERAS_GATES = ("input", "forget", "cell", "output")
"""Order of the columns of `kernel`, `recurrent_kernel` and `bias`."""

TORCH_GATES = ("input", "forget", "cell", "output")
"""Order of the rows of `weight_ih`, `weight_hh` and the biases. PyTorch writes i, f, g, o: its g is the cell gate."""

LINGVO_GATES = ("cell", "input", "forget", "output")
"""Order of the columns of `wm`, `b` and `ln_scale`."""

LINGVO_COUPLED_GATES = ("cell", "forget", "output")
"""The same with `couple_input_forget_gates`."""

THETA = ("wm", "b", "w_proj", "ln_scale")
"""Names of all arrays that a theta may have; only `wm` is always there."""

LINGVO_KINDS = dict(zip(THETA, ("joint_kernel", "bias", "projection", "layer_norm"), strict=True))
"""What the arrays of a theta are in the words of `split_packed`."""

PACKED_KINDS = {
    "kernel": ("inputs", "gates * units"),
    "recurrent_kernel": ("outputs", "gates * units"),
    "joint_kernel": ("inputs + outputs", "gates * units"),
    "recurrent_diagonal": ("gates * units",),
    "peephole": ("gates but cell * units",),
    "bias": ("gates * units",),
    "layer_norm": ("gates * units",),
    "projection": ("units", "outputs"),
    "projection_bias": ("outputs",),
}
"""What `split_packed` splits: for each kind of packed weights the sizes of its axes, with gates in the last one."""

OPERAND_OF_KIND = {
    "kernel": "input_to_{}_weights",
    "recurrent_kernel": "recurrent_to_{}_weights",
    "recurrent_diagonal": "recurrent_to_{}_weights",
    "peephole": "cell_to_{}_weights",
    "bias": "{}_gate_bias",
    "layer_norm": "{}_layer_norm_coefficients",
}


def split_packed(
    packed: Mapping[str, npt.NDArray[Any]],
    *,
    gates: Sequence[str],
    gate_axis: int = -1,
    inputs: int | None = None,
    forget_gate_bias: float = 0.0,
) -> dict[str, Array]:
    """Splits weights that are packed in any order of gates.

    Args:
        packed: arrays by kind, a key of `PACKED_KINDS`, or by the name of an operand of the op, which stays as it is.
        gates: the order of the gates in every packed array; without "input" for a coupled input gate.
        gate_axis: axis of the matrices along which the gates are packed: -1, or 0 where matrices are transposed.
        inputs: the input size, where no kernel tells it.
        forget_gate_bias: added to the bias of the forget gate.

    Raises:
        ValueError: for shapes that do not fit together; the message has expected and actual.
    """
    check_packed({kind: array.shape for kind, array in packed.items()}, gates=gates, gate_axis=gate_axis)
    by_row = {
        kind: array.T if gate_axis == -1 and array.ndim == 2 and kind in PACKED_KINDS else array
        for kind, array in packed.items()
    }
    if "joint_kernel" in by_row:
        joint = by_row.pop("joint_kernel")
        outputs = by_row["projection"].shape[0] if "projection" in by_row else joint.shape[0] // len(gates)
        inputs = joint.shape[1] - outputs if inputs is None else inputs
        by_row["kernel"], by_row["recurrent_kernel"] = joint[:, :inputs], joint[:, inputs:]
    parts: dict[str, Array] = {}
    for kind, array in by_row.items():
        if kind in OPERAND_OF_KIND:
            order = [gate for gate in gates if gate != "cell"] if kind == "peephole" else gates
            parts |= _split(OPERAND_OF_KIND[kind], array, order)
        else:
            parts[{"projection": "projection_weights"}.get(kind, kind)] = array
    if forget_gate_bias:
        for gate in gates:
            parts.setdefault(f"{gate}_gate_bias", np.zeros(len(parts["input_to_forget_weights"]), np.float32))
        # The key is the op's operand, an array; the number of the same name is an option of cells.
        parts["forget_gate_bias"] = parts["forget_gate_bias"] + np.float32(forget_gate_bias)
    return parts


def check_packed(
    shapes: Mapping[str, Sequence[int]],
    *,
    gates: Sequence[str],
    gate_axis: int = -1,
    names: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Checks that the shapes of packed weights fit together.

    Args:
        shapes, gates, gate_axis: as for `split_packed`.
        names: what to call each kind in a message.

    Returns:
        The sizes `units`, `inputs` and `outputs`, as far as the shapes tell them.

    Raises:
        ValueError: naming what does not fit, with expected and actual shape.
    """
    names, count = names or {}, len(gates)
    own = {
        kind: list(shape)[:: 1 if gate_axis == -1 or kind not in PACKED_KINDS else -1] for kind, shape in shapes.items()
    }
    for kind, shape in own.items():
        if kind in PACKED_KINDS and len(shape) != len(PACKED_KINDS[kind]):
            raise ValueError(
                f"{names.get(kind, kind)} must be {list(PACKED_KINDS[kind])}, got shape {list(shapes[kind])}"
            )
    columns = [own[kind][-1] for kind in ("joint_kernel", "kernel", "recurrent_diagonal", "bias") if kind in own]
    units = own["projection"][0] if "projection" in own else None
    units = own["recurrent_kernel"][0] if units is None and "recurrent_kernel" in own else units
    units = columns[0] // count if units is None and columns else units
    if units is None:
        return {}
    outputs = own["projection"][1] if "projection" in own else units
    inputs = own["kernel"][0] if "kernel" in own else own["joint_kernel"][0] - outputs if "joint_kernel" in own else 0
    sizes = {"inputs": inputs, "outputs": outputs, "inputs + outputs": inputs + outputs, "units": units}
    sizes |= {"gates * units": count * units, "gates but cell * units": (count - 1) * units}
    for kind, shape in own.items():
        expected = [sizes[axis] for axis in PACKED_KINDS.get(kind, ())]
        if expected and shape != expected:
            what = f"{names.get(kind, kind)} ({kind}, {count} gates)" if names else kind
            turned = expected[:: 1 if gate_axis == -1 else -1]
            raise ValueError(f"{what} must have shape {turned}, got {list(shapes[kind])}")
    told = {"units": units, "outputs": outputs}
    return told | ({"inputs": inputs} if {"kernel", "joint_kernel"} & set(own) else {})


def split_keras(layer: Any) -> dict[str, Array]:
    """Source: points 3 and 4 of the guide's contract, "kernel and recurrent_kernel are transposed", "split along
    dimension 0 into input gate, forget gate, cell and output gate".
    """
    packed = layer.get_weights() if hasattr(layer, "get_weights") else list(layer)
    if len(packed) not in (2, 3):
        raise ValueError(
            "expected kernel, recurrent_kernel and perhaps bias of one built Keras LSTM, "
            f"got {len(packed)} array(s); a layer that was never called has no weights yet"
        )
    arrays = dict(zip(("kernel", "recurrent_kernel", "bias"), map(np.asarray, packed), strict=False))
    return split_packed(arrays, gates=KERAS_GATES)


def pack_keras(weights: GateWeights) -> list[Array]:
    _refuse_others(weights, "a Keras LSTM", (*INPUT_WEIGHTS, *RECURRENT_WEIGHTS, *BIASES))
    packed = [_pack(weights, f"{kind}_to_{{}}_weights", KERAS_GATES).T.copy() for kind in ("input", "recurrent")]
    return packed if weights.forget_gate_bias is None else [*packed, _pack(weights, "{}_gate_bias", KERAS_GATES)]


def theta_shapes(*, inputs: int, outputs: int, hidden: int, gates: int) -> dict[str, tuple[int, ...]]:
    """The shapes of every array that a theta may have, by name, in the order of `THETA`."""
    columns = gates * hidden
    return {"wm": (inputs + outputs, columns), "b": (columns,), "w_proj": (hidden, outputs), "ln_scale": (columns,)}


def split_lingvo(
    cell_or_theta: Any,
    *,
    num_input_nodes: int | None,
    forget_gate_bias: float | None,
    couple_input_forget_gates: bool | None,
) -> dict[str, Array]:
    """Source: `lingvo/core/rnn_cell.py`: `wm` multiplies [inputs, m], in that order."""
    if hasattr(cell_or_theta, "theta"):
        given = (num_input_nodes, forget_gate_bias, couple_input_forget_gates)
        if any(option is not None for option in given):
            raise ValueError(
                "num_input_nodes, forget_gate_bias and couple_input_forget_gates are the cell's own: "
                "give them only beside a mapping"
            )
        num_input_nodes = cell_or_theta.num_input_nodes
        forget_gate_bias = cell_or_theta.forget_gate_bias
        couple_input_forget_gates = cell_or_theta.couple_input_forget_gates
        cell_or_theta = cell_or_theta.theta
    unknown = sorted(set(cell_or_theta) - set(THETA))
    if unknown or "wm" not in cell_or_theta:
        missing = [] if "wm" in cell_or_theta else ["wm"]
        raise ValueError(f"theta has arrays named {list(THETA)}; unknown: {unknown}; missing: {missing}")
    theta = {name: np.asarray(array, np.float32) for name, array in cell_or_theta.items()}
    gates, inputs = _check_theta(theta, num_input_nodes, couple_input_forget_gates)

    packed = {LINGVO_KINDS[name]: array for name, array in theta.items()}
    return split_packed(packed, gates=gates, inputs=inputs, forget_gate_bias=forget_gate_bias or 0.0)


def _check_theta(theta: Mapping[str, Array], inputs: int | None, coupled: bool | None) -> tuple[tuple[str, ...], int]:
    """Finds the order of the gates and the input size, and checks every shape against them."""
    for name in ("wm", "w_proj"):
        if name in theta and theta[name].ndim != 2:
            raise ValueError(f"{name} must have 2 dimensions, got shape {list(theta[name].shape)}")
    rows, columns = theta["wm"].shape
    if "w_proj" in theta:
        hidden, outputs = theta["w_proj"].shape
    elif inputs is not None:
        hidden = outputs = rows - inputs
    elif coupled is not None:
        hidden = outputs = columns // (3 if coupled else 4)
    else:
        # [10, 24] is as well 8 cells of 3 gates as 6 cells of 4: nothing in the arrays tells them apart.
        raise ValueError("without w_proj, wm alone does not tell: give num_input_nodes or couple_input_forget_gates")
    gates = LINGVO_COUPLED_GATES if (columns == 3 * hidden if coupled is None else coupled) else LINGVO_GATES
    inputs = rows - outputs if inputs is None else inputs
    if inputs < 1 or hidden < 1:
        raise ValueError(
            f"wm [num_input_nodes + num_output_nodes, {len(gates)} * hidden] of shape {[rows, columns]} "
            f"leaves num_input_nodes = {inputs} and hidden = {hidden}"
        )
    _check_shapes(theta, theta_shapes(inputs=inputs, outputs=outputs, hidden=hidden, gates=len(gates)))
    return gates, inputs


def pack_lingvo(weights: GateWeights, *, forget_gate_bias: float) -> dict[str, Array]:
    holds = (*INPUT_WEIGHTS, *RECURRENT_WEIGHTS, *BIASES, "projection_weights", *LAYER_NORM_COEFFICIENTS)
    _refuse_others(weights, "a Lingvo LSTMCellSimple", holds, coupled=True)
    gates = LINGVO_GATES if weights.has_input_gate else LINGVO_COUPLED_GATES
    kinds = [_pack(weights, f"{kind}_to_{{}}_weights", gates) for kind in ("input", "recurrent")]
    theta = {"wm": np.concatenate(kinds, axis=1).T.copy()}
    if weights.forget_gate_bias is not None or forget_gate_bias:
        has_bias = weights.forget_gate_bias is not None
        b = _pack(weights, "{}_gate_bias", gates) if has_bias else np.zeros(theta["wm"].shape[1], np.float32)
        start = gates.index("forget") * weights.units
        b[start : start + weights.units] -= np.float32(forget_gate_bias)
        theta["b"] = b
    if weights.projection_weights is not None:
        theta["w_proj"] = weights.projection_weights.T.copy()
    if weights.forget_layer_norm_coefficients is not None:
        theta["ln_scale"] = _pack(weights, "{}_layer_norm_coefficients", gates)
    return theta


def split_torch(module_or_state_dict: Any, *, layer: int, reverse: bool) -> dict[str, Array]:
    """Source: the section "Variables" of `torch.nn.LSTM`."""
    state = module_or_state_dict
    state = state.state_dict() if hasattr(state, "state_dict") else state
    suffix = _torch_suffix(layer, reverse)
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    arrays = {kind + suffix: _array(state[kind + suffix]) for kind in kinds if kind + suffix in state}
    i_h, h_h, b_i, b_h, h_r = (kind + suffix for kind in kinds)
    missing = [name for name in (i_h, h_h) if name not in arrays]
    missing += [name for name in (b_i, b_h) if name not in arrays and {b_i, b_h} & set(arrays)]
    if missing:
        raise ValueError(f"missing: {missing}; there are {sorted(state)}")
    for name in (i_h, h_h, h_r):
        if name in arrays and arrays[name].ndim != 2:
            raise ValueError(f"{name} must have 2 dimensions, got shape {list(arrays[name].shape)}")
    inputs, outputs = arrays[i_h].shape[1], arrays[h_h].shape[1]
    units = arrays[h_r].shape[1] if h_r in arrays else outputs
    expected: dict[str, tuple[int, ...]] = dict.fromkeys((b_i, b_h), (4 * units,))
    expected |= {i_h: (4 * units, inputs), h_h: (4 * units, outputs), h_r: (outputs, units)}
    _check_shapes(arrays, expected)

    packed = {"kernel": arrays[i_h], "recurrent_kernel": arrays[h_h]}
    if b_i in arrays:
        packed["bias"] = arrays[b_i] + arrays[b_h]
    if h_r in arrays:
        packed["projection"] = arrays[h_r]
    return split_packed(packed, gates=TORCH_GATES, gate_axis=0)


def pack_torch(weights: GateWeights, *, layer: int, reverse: bool) -> dict[str, Array]:
    holds = (*INPUT_WEIGHTS, *RECURRENT_WEIGHTS, *BIASES, "projection_weights")
    _refuse_others(weights, "a PyTorch LSTM", holds)
    suffix = _torch_suffix(layer, reverse)
    state = {
        "weight_ih" + suffix: _pack(weights, "input_to_{}_weights", TORCH_GATES),
        "weight_hh" + suffix: _pack(weights, "recurrent_to_{}_weights", TORCH_GATES),
    }
    if weights.forget_gate_bias is not None:
        bias = _pack(weights, "{}_gate_bias", TORCH_GATES)
        state |= {"bias_ih" + suffix: bias, "bias_hh" + suffix: np.zeros_like(bias)}
    if weights.projection_weights is not None:
        state["weight_hr" + suffix] = weights.projection_weights.copy()
    return state


def _torch_suffix(layer: int, reverse: bool) -> str:
    return f"_l{layer}{'_reverse' if reverse else ''}"


def _array(value: Any) -> Array:
    # A tensor that needs a gradient, sits on another device or is bfloat16 has no direct way to NumPy.
    if hasattr(value, "detach"):
        value = value.detach().cpu().float().numpy()
    return np.asarray(value, np.float32)


def _split(operand: str, packed: npt.NDArray[Any], gates: Sequence[str]) -> dict[str, Array]:
    """Cuts an array into one block of rows a gate; `operand` has {} for the gate's name."""
    return {operand.format(gate): block for gate, block in zip(gates, np.split(packed, len(gates)), strict=True)}


def _pack(weights: GateWeights, operand: str, gates: Sequence[str]) -> Array:
    """The inverse of `_split`, always a copy."""
    return np.concatenate([getattr(weights, operand.format(gate)) for gate in gates])


def _check_shapes(arrays: Mapping[str, npt.NDArray[Any]], expected: Mapping[str, tuple[int, ...]]) -> None:
    for name, array in arrays.items():
        if array.shape != expected[name]:
            raise ValueError(f"{name} must have shape {list(expected[name])}, got {list(array.shape)}")


def _refuse_others(weights: GateWeights, holder: str, holds: Sequence[str], *, coupled: bool = False) -> None:
    extra = [name for name, _ in weights.operands() if name not in holds]
    if extra or not (weights.has_input_gate or coupled):
        reason = f"there are {extra}" if extra else "the input gate is coupled to the forget gate"
        raise ValueError(f"{holder} cannot hold these weights: {reason}")


ORDERS = {"keras": KERAS_GATES, "lingvo": LINGVO_GATES, "pytorch": TORCH_GATES}


def pack_for_a_picture(weights: GateWeights, order: str) -> list[tuple[str, Array]]:
    """Kind and array of everything that a picture shows of weights in an order."""
    gates = tuple(gate for gate in ORDERS[order] if gate != "input" or weights.has_input_gate)
    packed: dict[str, Array] = {}
    for kind in PACKED_KINDS:
        parts = [getattr(weights, operand) for operand in operands_of(kind, gates_of(kind, gates))]
        has_kind = weights.has_diagonal_recurrence == (kind == "recurrent_diagonal") or "recurrent" not in kind
        if kind != "joint_kernel" and has_kind and parts[0] is not None:
            values = np.concatenate(parts)
            packed[kind] = values if order == "pytorch" else values.T
    if order == "lingvo" and "recurrent_kernel" in packed:
        joint = np.concatenate([packed.pop("kernel"), packed.pop("recurrent_kernel")])
        packed = {"joint_kernel": joint, **packed}
    found = list(packed.items())
    if order == "pytorch" and "bias" in packed:
        found.append(("bias", np.zeros_like(packed["bias"])))
    return found


def gates_of(kind: str, gates: Sequence[str]) -> tuple[str, ...]:
    if kind.startswith("projection"):
        return ()
    return tuple(gate for gate in gates if kind != "peephole" or gate != "cell")


def operands_of(kind: str, gates: Sequence[str]) -> tuple[str, ...]:
    if kind == "joint_kernel":
        return (*operands_of("kernel", gates), *operands_of("recurrent_kernel", gates))
    if kind.startswith("projection"):
        return ("projection_weights" if kind == "projection" else kind,)
    return tuple(OPERAND_OF_KIND[kind].format(gate) for gate in gates)
