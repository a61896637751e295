"""Random models that are not Keras's: Lingvo's cells, bare weights and marked functions."""

from typing import Any

import numpy as np
import tensorflow as tf

from attacks.source import Array, Arrays, Source, Twin, chance, one_of
from lstm_toolkit import GateWeights, composite, lingvo
from tests.helpers.lingvo_cells import loop

GATES = ("input", "forget", "cell", "output")


def sigmoid(z: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-z))


def lstm(
    parts: dict[str, Array], x: Array, states: tuple[Array, Array], *, clip: float = 0.0
) -> tuple[Array, Array, Array]:
    """An LSTM of the op's operands in NumPy and float64: outputs [batch, time, outputs], h and c."""
    parts = {name: np.asarray(array, np.float64) for name, array in parts.items()}
    h, c = states
    outputs = []

    def gate(name: str, step: Array, cell: Array | None) -> Array:
        z = step @ parts[f"input_to_{name}_weights"].T + h @ parts[f"recurrent_to_{name}_weights"].T
        if cell is not None and f"cell_to_{name}_weights" in parts:
            z = z + cell * parts[f"cell_to_{name}_weights"]
        norm = parts.get(f"{name}_layer_norm_coefficients")
        if norm is not None:
            centered = z - z.mean(axis=1, keepdims=True)
            z = centered / np.sqrt((centered**2).mean(axis=1, keepdims=True) + 1e-8) * norm
        return z + parts.get(f"{name}_gate_bias", 0.0)

    for step in np.asarray(x, np.float64).swapaxes(0, 1):
        forget = sigmoid(gate("forget", step, c))
        admit = sigmoid(gate("input", step, c)) if "input_to_input_weights" in parts else 1.0 - forget
        c = forget * c + admit * np.tanh(gate("cell", step, None))
        c = np.clip(c, -clip, clip) if clip else c
        h = sigmoid(gate("output", step, c)) * np.tanh(c)
        if "projection_weights" in parts:
            h = h @ parts["projection_weights"].T + parts.get("projection_bias", 0.0)
        outputs.append(h)
    return np.stack(outputs, axis=1), h, c


def drawing(name: str, size: int) -> Any:
    """What draws one sequence."""
    return lambda random, batch, time: {name: random.normal(size=(batch, time, size)).astype(np.float32)}


def random_parts(random: np.random.Generator, inputs: int, *, few: bool = False) -> dict[str, Array]:
    """Random operands of an LSTM, with anything that the op takes or a part of it."""
    units = int(random.integers(1, 7))
    projects = not few and chance(random, 0.3)
    outputs = int(random.integers(1, 7)) if projects else units
    gates = GATES if chance(random, 0.7) else GATES[1:]
    shapes: dict[str, tuple[int, ...]] = {}
    for name in gates:
        shapes[f"input_to_{name}_weights"] = (units, inputs)
        shapes[f"recurrent_to_{name}_weights"] = (units, outputs)
    if chance(random, 0.8):
        shapes |= {f"{name}_gate_bias": (units,) for name in gates}
    if not few and chance(random, 0.3):
        shapes |= {f"cell_to_{name}_weights": (units,) for name in gates if name != "cell"}
    if not few and chance(random, 0.3):
        shapes |= {f"{name}_layer_norm_coefficients": (units,) for name in gates}
    if projects:
        shapes |= {"projection_weights": (outputs, units)}
        shapes |= {"projection_bias": (outputs,)} if chance(random, 0.5) else {}
    return {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def weights_source(seed: int) -> Source:
    """One or two layers of bare weights, in one or both directions."""
    random = np.random.default_rng((seed, 0))
    width = size = int(random.integers(1, 6))
    stack: list[list[dict[str, Array]]] = []
    for _ in range(random.integers(1, 3)):
        layer = [random_parts(random, width, few=chance(random, 0.5)) for _ in range(one_of(random, 1, 1, 2))]
        stack.append(layer)
        width = sum(output_size(parts) for parts in layer)
    held: dict[tuple[int, int], tuple[Array, Array]] = {}

    def call(arrays: Arrays, *, carries: bool = False) -> Arrays:
        x = arrays["inputs"]
        for number, layer in enumerate(stack):
            halves = []
            for way, parts in enumerate(layer):
                units = parts["input_to_forget_weights"].shape[0]
                zero = np.zeros((len(x), output_size(parts))), np.zeros((len(x), units))
                start = held.get((number, way), zero) if carries else zero
                y, h, c = lstm(parts, x[:, ::-1] if way else x, start)
                held[number, way] = h, c
                halves.append(y[:, ::-1] if way else y)
            x = np.concatenate(halves, axis=2)
        return {"output_0": x}

    made = [tuple(GateWeights.from_operands(parts) for parts in layer) for layer in stack]
    return Source(
        what=f"bare weights, {[len(layer) for layer in stack]}",
        model=[each if len(each) > 1 else each[0] for each in made],
        draw=drawing("inputs", size),
        own=Twin(call),
        carrying=lambda *_: Twin(lambda arrays: call(arrays, carries=True), held.clear),
    )


def output_size(parts: dict[str, Array]) -> int:
    """The width of the outputs of an LSTM."""
    projection = parts.get("projection_weights")
    return int((parts["input_to_forget_weights"] if projection is None else projection).shape[0])


def lingvo_source(seed: int) -> Source:
    """A cell of Lingvo's in a loop."""
    random = np.random.default_rng((seed, 0))
    size = int(random.integers(1, 7))
    kind = one_of(random, lingvo.LSTMCellSimple, lingvo.LayerNormalizedLSTMCellSimple)
    cell = kind(
        num_input_nodes=size,
        num_output_nodes=int(random.integers(1, 7)),
        num_hidden_nodes=one_of(random, 0, 0, 3, 5),
        cell_value_cap=one_of(random, 10.0, 0.5),
        forget_gate_bias=one_of(random, 0.0, 1.0),
        couple_input_forget_gates=chance(random, 0.4),
        enable_lstm_bias=chance(random, 0.7),
    )
    cell.load_theta({name: random.normal(0, 0.7, variable.shape) for name, variable in cell.theta.items()})

    def call(arrays: Arrays) -> Arrays:
        x = arrays["inputs"].astype(np.float64)
        return {"output_0": loop(cell, x, np.zeros(x.shape[:2]))[0]}

    seen: list[Array] = []  # in the calls since the last reset

    def carried(arrays: Arrays) -> Arrays:
        seen.append(arrays["inputs"])
        y = call({"inputs": np.concatenate(seen, axis=1)})["output_0"]
        return {"output_0": y[:, -seen[-1].shape[1] :]}

    return Source(
        what=f"lingvo {kind.__name__}",
        model=lingvo.RNN(cell),
        draw=drawing("inputs", size),
        own=Twin(call),
        carrying=lambda *_: Twin(carried, seen.clear),
    )


def composite_source(seed: int) -> Source:
    """A marked function with its gates in any order."""
    random = np.random.default_rng((seed, 0))
    size, units, time = int(random.integers(1, 6)), int(random.integers(1, 7)), int(random.integers(1, 8))
    order = "".join(random.permutation(list("ifco")))
    shapes = ((size, 4 * units), (units, 4 * units), (4 * units,))
    weights = [random.normal(0, 0.6, shape).astype(np.float32) for shape in shapes]

    def mine(x: Any, w: Any, u: Any, b: Any) -> Any:
        h = c = tf.zeros([x.shape[0], units])
        outputs = []
        for step in tf.unstack(x, axis=1):
            z = dict(zip(order, tf.split(tf.matmul(step, w) + tf.matmul(h, u) + b, 4, axis=1), strict=True))
            c = tf.sigmoid(z["f"]) * c + tf.sigmoid(z["i"]) * tf.tanh(z["c"])
            h = tf.sigmoid(z["o"]) * tf.tanh(c)
            outputs.append(h)
        return tf.stack(outputs, axis=1)

    operands = {"x": "input", "w": "kernel", "u": "recurrent_kernel", "b": "bias"}
    marked = composite(operands=operands, gates=order)(mine)
    names = {"i": "input", "f": "forget", "c": "cell", "o": "output"}
    parts: dict[str, Array] = {}
    for place, letter in enumerate(order):
        columns = slice(place * units, (place + 1) * units)
        parts[f"input_to_{names[letter]}_weights"] = weights[0][:, columns].T
        parts[f"recurrent_to_{names[letter]}_weights"] = weights[1][:, columns].T
        parts[f"{names[letter]}_gate_bias"] = weights[2][columns]

    def call(arrays: Arrays) -> Arrays:
        x = arrays["steps"]
        return {"output_0": lstm(parts, x, (np.zeros((len(x), units)), np.zeros((len(x), units))))[0]}

    batch = int(random.integers(1, 4))
    variables = [tf.constant(each) for each in weights]
    return Source(
        what=f"composite, gates {order}",
        model=lambda x: marked(x, *variables),
        options={"input_signature": [tf.TensorSpec([batch, time, size], name="steps")]},
        draw=drawing("steps", size),
        own=Twin(call),
        batch=batch,
        time=time,
    )
