"""Checks of the exercises in codelab 06: an adapter, a mark, and what one op can be."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lstm_toolkit.exercises import Array, Float64, random_weights, require, require_shape, several
from lstm_toolkit.weights import reference
from lstm_toolkit.weights.gate_weights import GateWeights
from lstm_toolkit.weights.operands import GATES
from lstm_toolkit.weights.packing import Packing

COLLEAGUES_CLIP, COLLEAGUES_BIAS = 1.5, 1.0
"""The bound of c in the colleague's function of the second exercise, and what it adds to the forget gate's sum."""

_BATCH, _TIME, _INPUTS, _UNITS = 2, 7, 5, 6
_MY_ORDER = ("forget", "input", "output", "cell")
_COLLEAGUES_ORDER = ("output", "cell", "input", "forget")
_OPTIONS = ("gates", "activation", "cell_clip", "forget_gate_bias")
_FUNCTIONS: dict[str, Callable[[Float64], Float64]] = {
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "hard_sigmoid": lambda z: np.clip(z / 6 + 0.5, 0.0, 1.0),
    "relu": lambda z: np.maximum(z, 0.0),
    "tanh": np.tanh,
}
_POSSIBLE = {"A": True, "B": False, "C": True, "D": False, "E": True, "F": False}


def check_adapter(to_keras: Callable[[Array, Array, int], Any]) -> None:
    """Checks a function from one matrix with the gates forget, input, output, cell to the weights of a Keras LSTM.

    Args:
        to_keras: takes weights [inputs + units, 4 * units], offsets [4 * units] and the number of inputs; returns
            kernel [inputs, 4 * units], recurrent_kernel [units, 4 * units] and bias [4 * units].
    """
    random = np.random.default_rng(61)
    sizes = {"kernel": _INPUTS, "recurrent_kernel": _UNITS, "bias": 1}
    blocks = {
        name: {gate: random.normal(size=(rows, _UNITS)).astype(np.float32) for gate in GATES}
        for name, rows in sizes.items()
    }
    kernel, recurrent, offsets = (np.hstack([parts[gate] for gate in _MY_ORDER]) for parts in blocks.values())
    answer = to_keras(np.vstack([kernel, recurrent]), offsets[0], _INPUTS)
    arrays = several(answer, 3, "Keras has kernel, recurrent_kernel and bias; the function returns {} arrays")
    for (name, parts), each in zip(blocks.items(), arrays, strict=True):
        given = np.asarray(each)
        expected = (4 * _UNITS,) if name == "bias" else (sizes[name], 4 * _UNITS)
        require_shape(given, expected, f"{name} must be")
        for number, gate in enumerate(GATES):
            columns = slice(number * _UNITS, (number + 1) * _UNITS)
            found = given.reshape(-1, 4 * _UNITS)[:, columns]
            here = [other for other, block in parts.items() if np.array_equal(found, block)]
            what = f"yours are the {here[0]} gate's" if here else "yours are no gate's"
            where = f"columns {columns.start} to {columns.stop - 1} of {name}"
            require(here == [gate], f"{where} must be the {gate} gate's, {what}")


def check_marked(marked: Any) -> None:
    """Checks the colleague's function, marked by `lstm_toolkit.composite`: converts it once, and looks into the file.

    Args:
        marked: takes steps [batch, time, inputs], into [4 * units, inputs], back [4 * units, units] and offsets
            [4 * units], with the gates output, cell, input, forget; returns outputs [batch, time, units].
    """
    require(callable(marked), "mark the function: lstm_toolkit.composite(...)(colleagues_lstm)")
    import tensorflow as tf

    from lstm_toolkit.conversion.convert import convert
    from lstm_toolkit.errors import LstmToolkitError
    from lstm_toolkit.inspection.read import inspect

    own, arrays = _colleagues_weights()
    variables = [tf.Variable(array) for array in arrays]
    spec = tf.TensorSpec([_BATCH, _TIME, _INPUTS], name="steps")
    try:
        call = tf.function(lambda steps: marked(steps, *variables), autograph=False).get_concrete_function(spec)
        functions = call.graph.as_graph_def().library.function
        require(any("_implements" in each.attr for each in functions), "the function has no mark with operands")
        conversion = convert(call, verify=False)
    except (LstmToolkitError, TypeError, ValueError) as error:
        raise AssertionError(str(error)) from error
    nodes = inspect(conversion.tflite).lstm_nodes
    require(len(nodes) == 1, f"the file must have one fused op, and has {len(nodes)}")
    _check_gates(own, nodes[0].weights)
    clip = nodes[0].cell_clip
    hint = f"the function bounds c at {COLLEAGUES_CLIP}, the op at {clip:.3g}, where 0 is none: composite has an option"
    require(abs(clip - COLLEAGUES_CLIP) < 1e-6, hint)
    steps = np.random.default_rng(63).normal(scale=2.0, size=(_BATCH, _TIME, _INPUTS)).astype(np.float32)
    biased = {"forget_gate_bias": own["forget_gate_bias"] + np.float32(COLLEAGUES_BIAS)}
    wanted, _, _ = reference.lstm(GateWeights.from_operands(own | biased), steps, cell_clip=COLLEAGUES_CLIP)
    runner = conversion.runner()
    # A second call too: an op that carries its state is right in the first one alone.
    given = [runner(steps) for _ in range(2)][1]
    alone = isinstance(given, np.ndarray) and given.shape == wanted.shape
    require(alone, f"the function returns outputs {list(wanted.shape)} and nothing else")
    difference = np.abs(np.asarray(given) - wanted).max()
    require(difference < 1e-5, f"the gates are right, but the file is off by {difference:.2g}: an option is too many")


def _check_gates(own: Mapping[str, Array], weights: GateWeights) -> None:
    """Compares the weights in the file with the function's own, gate by gate."""
    for gate in GATES:
        name = f"input_to_{gate}_weights"
        found = [other for other in GATES if np.array_equal(getattr(weights, name), own[f"input_to_{other}_weights"])]
        what = f"the rows that the function uses as its {found[0]} gate" if found else "rows of no gate"
        require(found == [gate], f"{name} of the op got {what}: look at the line with tf.split")
        name = f"{gate}_gate_bias"
        added = (getattr(weights, name) - own[name]).mean()
        wanted = COLLEAGUES_BIAS if gate == "forget" else 0.0
        require(
            abs(added - wanted) < 1e-5,
            f"the function adds {wanted:g} to the {gate} gate's sum beside offsets, the op {added:.3g}: "
            "composite has an option",
        )


def _colleagues_weights() -> tuple[dict[str, Array], tuple[Array, Array, Array]]:
    """Weights by operand, and the same packed as the colleague's function takes them: into, back, offsets."""
    own = dict(random_weights(62, _UNITS, _INPUTS).operands())
    names = ("input_to_{}_weights", "recurrent_to_{}_weights", "{}_gate_bias")
    into, back, offsets = (np.concatenate([own[name.format(gate)] for gate in _COLLEAGUES_ORDER]) for name in names)
    return own, (into, back, offsets)


def check_declarations(declarations: Any) -> None:
    """Checks for six LSTMs whether each can be one fused op, and by which options of `lstm_toolkit.composite`.

    Args:
        declarations: by letter, A to F, a dict of options, or None for an LSTM that the op cannot be. An op that
            is declared so is computed and compared with the LSTM.
    """
    require(isinstance(declarations, Mapping), "declarations is a dict: a letter, and options or None")
    for letter, possible in _POSSIBLE.items():
        options = declarations.get(letter, ...)
        require(options is not ..., f"{letter}: no answer yet")
        if options is None:
            require(not possible, f"{letter}: composite has an option for what is different here, or two")
            continue
        require(isinstance(options, Mapping), f"{letter}: give a dict of options, or None, not {options!r}")
        others = sorted(set(options) - set(_OPTIONS))
        require(not others, f"{letter}: {', '.join(_OPTIONS)} are enough; there is {', '.join(map(str, others))}")
        difference = _difference(letter, dict(options))
        require(difference < 1e-5, f"{letter}: with {dict(options)} the op is off by {difference:.2g}")


def _difference(letter: str, options: dict[str, Any]) -> float:
    """How far the op, declared with some options, is from one of the six."""
    from lstm_toolkit.sources.composite import composite

    try:
        composite(operands={"x": "input"}, **options)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{letter}: {error}") from error
    random = np.random.default_rng(64)
    count = 3 if letter == "C" else 4
    shapes: dict[str, tuple[int, ...]] = {
        "kernel": (_INPUTS, count * _UNITS),
        "recurrent_kernel": (_UNITS, count * _UNITS),
    }
    shapes |= {"bias": (count * _UNITS,)} | ({"peephole": (3 * _UNITS,)} if letter == "F" else {})
    packed = {kind: random.normal(scale=0.7, size=shape).astype(np.float32) for kind, shape in shapes.items()}
    x = random.normal(size=(_BATCH, _TIME, _INPUTS))
    letters = {"i": "input", "f": "forget", "c": "cell", "g": "cell", "o": "output"}
    gates = tuple(letters.get(each, each) for each in options.get("gates", GATES))
    try:
        packing = Packing(gates=gates, forget_gate_bias=options.get("forget_gate_bias", 0.0))
        weights = GateWeights.from_operands(packing.split(packed))
    except ValueError as error:
        raise AssertionError(f"{letter}: with gates={options.get('gates', 'ifgo')!r}, {error}") from error
    activation, clip = options.get("activation", "tanh"), options.get("cell_clip", 0.0)
    given, _, _ = reference.lstm(weights, x, activation=activation, cell_clip=clip)
    wanted = _outputs(letter, x, **packed)
    return float(np.abs(given - wanted).max() / max(1.0, np.abs(wanted).max()))


def _outputs(
    letter: str, x: Float64, kernel: Array, recurrent_kernel: Array, bias: Array, peephole: Array | None = None
) -> Float64:
    """What one of the six LSTMs computes, written down step by step."""
    h = c = np.zeros((len(x), _UNITS))
    gate = _FUNCTIONS["hard_sigmoid" if letter == "D" else "sigmoid"]
    news = _FUNCTIONS["relu" if letter in "AB" else "tanh"]
    shown = _FUNCTIONS["relu" if letter == "A" else "tanh"]
    peephole_i, peephole_f, peephole_o = (0.0,) * 3 if peephole is None else np.split(peephole, 3)
    outputs = []
    for step in x.swapaxes(0, 1):
        sums = step @ kernel + h @ recurrent_kernel + bias
        *first, g, o = np.split(sums, 3 if letter == "C" else 4, axis=1)
        o = gate(o + peephole_o * c)
        f = gate(first[-1] + peephole_f * c + (2.0 if letter == "E" else 0.0))
        i = 1 - f if letter == "C" else gate(first[0] + peephole_i * c)
        c = f * c + i * news(g)
        c = np.clip(c, -0.5, 0.5) if letter == "E" else c
        h = o * shown(c)
        outputs.append(h)
    return np.stack(outputs, axis=1)
