"""Checks of the exercises in codelab 05: what a checkpoint tells, one coupled step, layer normalization."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.exercises import Array, Float64, require, require_answer, require_shape, several
from lstm_toolkit.weights import reference
from lstm_toolkit.weights.gate_weights import GateWeights

Theta = dict[str, Array]

CELL_VALUE_CAP, FORGET_GATE_BIAS = 0.7, 1.5

_BATCH, _INPUTS, _OUTPUTS, _HIDDEN = 6, 3, 4, 5
_COUPLED_GATES = ("cell", "forget", "output")

_WHERE_TO_LOOK = {
    "num_input_nodes": "wm has a row for each input and a row for each output of the last step",
    "num_output_nodes": "w_proj leads from the hidden nodes, its rows, to the outputs, its columns",
    "num_hidden_nodes": "w_proj leads from the hidden nodes, its rows, to the outputs, its columns",
    "couple_input_forget_gates": "count the columns that wm has for each hidden node",
    "enable_lstm_bias": "look whether there is a b",
}


def check_options(options_of: Callable[[Theta], Any]) -> None:
    """Checks a function that reads the options of a cell off the arrays of its checkpoint.

    Args:
        options_of: takes a theta with `w_proj`, and with or without `b`; returns a dict of `num_input_nodes`,
            `num_output_nodes`, `num_hidden_nodes`, `couple_input_forget_gates` and `enable_lstm_bias`.
    """
    for values in ((3, 4, 5, False, True), (7, 2, 6, True, True), (2, 4, 6, False, False), (4, 3, 8, True, False)):
        wanted = dict(zip(_WHERE_TO_LOOK, values, strict=True))
        inputs, outputs, hidden, coupled, biased = values
        theta = _random_theta(inputs, outputs, hidden, gates=3 if coupled else 4)
        if not biased:
            del theta["b"]
        given = options_of(dict(theta))
        require_answer(given)
        require(isinstance(given, Mapping), f"return a dict of the options, not {type(given).__name__}")
        hint = f"the options are {', '.join(wanted)}; yours are {', '.join(map(str, given))}"
        require(set(given) == set(wanted), hint)
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in theta.items())
        for option, value in wanted.items():
            answer = given[option]
            hint = f"for {shapes}: {option} is {value}, not {answer}; {_WHERE_TO_LOOK[option]}"
            require(np.ndim(answer) == 0 and answer == value, hint)


def check_coupled_step(step: Callable[..., Any]) -> None:
    """Checks a function that computes one step of a Lingvo cell with coupled gates, a bias and a projection.

    Args:
        step: takes theta, x [batch, inputs], m [batch, outputs], c [batch, hidden], `cell_value_cap` and
            `forget_gate_bias`; returns the new m and c.
    """
    theta = _random_theta(_INPUTS, _OUTPUTS, _HIDDEN, gates=3)
    random = np.random.default_rng(51)
    # Large enough to drive c beyond both bounds.
    x, m = (random.normal(scale=2.0, size=(_BATCH, size)).astype(np.float32) for size in (_INPUTS, _OUTPUTS))
    c = random.uniform(-0.7, 0.7, (_BATCH, _HIDDEN)).astype(np.float32)
    copies = ({name: array.copy() for name, array in theta.items()}, x.copy(), m.copy(), c.copy())
    answer = step(*copies, CELL_VALUE_CAP, FORGET_GATE_BIAS)
    things = several(answer, 2, "a step gives the new m and the new c; the function returns {} things")
    given_m, given_c = map(np.asarray, things)
    remark = "; w_proj makes m smaller than c" if given_m.shape == c.shape else ""
    require(given_m.shape == m.shape, f"the new m must be {list(m.shape)}, not {list(given_m.shape)}{remark}")
    require_shape(given_c, c.shape, "the new c must be")
    wanted_m, wanted_c = _after_step(_by_gate(theta), x, m, c)
    for mistake, wrong_c in _wrong_steps(theta, x, m, c).items():
        require(not _close(given_c, wrong_c), mistake)
    require(_close(given_c, wanted_c), "the new c is f * c + (1 - f) * tanh(cell), bounded; yours is another")
    hint = "the new c is right. The new m is sigmoid(output) * tanh(new c), times w_proj, and no more"
    require(_close(given_m, wanted_m), hint)


def _wrong_steps(theta: Theta, x: Array, m: Array, c: Array) -> dict[str, Float64]:
    """What the new c is after each of the mistakes that are easily made, by hint."""
    weights, zeros = _by_gate(theta), np.zeros_like
    exchanged = {name: -array if "forget" in name else array for name, array in weights.operands()}
    open_gate = {
        "input_to_input_weights": zeros(weights.input_to_cell_weights),
        "recurrent_to_input_weights": zeros(weights.recurrent_to_cell_weights),
        "input_gate_bias": np.full(_HIDDEN, 1e4, np.float32),
    }
    wrong = {
        "the first rows of wm are for x, the rows below for m": _by_gate(
            theta | {"wm": np.roll(theta["wm"], -_OUTPUTS, axis=0)}
        ),
        "b is missing from the sums": _by_gate(theta | {"b": zeros(theta["b"])}),
        "forget_gate_bias is missing: it is added to the forget gate's sum": _by_gate(theta, forget_gate_bias=0.0),
        "f is how much of the old c stays, 1 - f how much news comes in; you have them exchanged": (
            GateWeights.from_operands(exchanged)
        ),
        "all of the news comes in; the coupled gate lets in 1 - f of it": dataclasses.replace(weights, **open_gate),
    }
    for order in itertools.permutations(range(3)):
        if order != (0, 1, 2):
            read_as = ", ".join(_COUPLED_GATES[order.index(block)] for block in range(3))
            hint = f"the columns of wm and b are in the order {', '.join(_COUPLED_GATES)}; you read them as {read_as}"
            wrong[hint] = _by_gate(theta | {name: _turned(theta[name], order) for name in ("wm", "b")})
    _, unbounded = _after_step(weights, x, m, c, 0.0)
    return {
        "cell_value_cap is missing: it bounds the new c": unbounded,
        "cell_value_cap bounds the new c from below too": np.minimum(unbounded, CELL_VALUE_CAP),
        "cell_value_cap bounds the new c from above too": np.maximum(unbounded, -CELL_VALUE_CAP),
    } | {hint: _after_step(parts, x, m, c)[1] for hint, parts in wrong.items()}


def check_normalize(normalize: Callable[..., Any]) -> None:
    """Checks a function that normalizes the matrix products of all gates, then scales them, then adds the bias.

    Args:
        normalize: takes products [batch, gates * hidden], ln_scale and b [gates * hidden], and the number of gates;
            returns the sums [batch, gates * hidden] that go into the sigmoids and the tanh.
    """
    for gates in (3, 4):
        random = np.random.default_rng(52 + gates)
        size = gates * _HIDDEN
        products = random.normal(0.4, 1.5, (4, size)).astype(np.float32)
        products[2] *= 1e-4
        # A number whose mean is exact, so that nothing but the variance of 0 is in question.
        products[3] = 0.5
        ln_scale, b = (random.normal(1.0, 0.5, size).astype(np.float32) for _ in range(2))
        answer = normalize(products.copy(), ln_scale.copy(), b.copy(), gates)
        require_answer(answer)
        given = np.asarray(answer)
        require_shape(given, products.shape, "the sums must be")
        plain = _normalized(products, gates)
        for mistake, wrong in _wrong_sums(products, ln_scale, b, gates).items():
            require(not _close(given[:2], wrong[:2]), mistake)
        wanted = plain * ln_scale + b
        hint = f"with {gates} gates: less the gate's mean, over the root of its variance, times ln_scale, plus b"
        require(_close(given[:2], wanted[:2], 1e-2), hint)
        require(
            _close(given[3], wanted[3]),
            "where all products of a gate are equal, their variance is 0 and the sums are b: add 1e-8 before the root",
        )
        hint = "where the products are almost equal, you are off: 1e-8 is added to the variance, inside the root"
        require(_close(given, wanted), hint)


def _wrong_sums(products: Array, ln_scale: Array, b: Array, gates: int) -> dict[str, Float64]:
    """What the sums are after each of the mistakes that are easily made, by hint."""
    plain = _normalized(products, gates)
    over_batch = (products - products.mean(axis=0)) / np.sqrt(products.var(axis=0) + 1e-8)
    factors = {
        "you normalize all gates together; each gate has a mean and a variance of its own": _normalized(products, 1),
        "mean and variance are those of a gate's units in one row; yours go over the batch": over_batch,
        "the variance divides by the number of units, and not by one less": plain * np.sqrt(1 - 1 / _HIDDEN),
    }
    return {hint: factor * ln_scale + b for hint, factor in factors.items()} | {
        "the bias is added after the normalization": _normalized(products + b, gates) * ln_scale,
        "ln_scale is the factor itself, and not what is added to 1": plain * (1 + ln_scale) + b,
        "ln_scale is missing": plain + b,
        "b is missing": plain * ln_scale,
        "b is scaled too; ln_scale belongs to the normalized products alone": (plain + b) * ln_scale,
    }


def _normalized(products: npt.ArrayLike, gates: int) -> Float64:
    """Each gate's part of each row, less its mean, over the root of its variance with 1e-8 added."""
    wide = np.asarray(products, np.float64)
    parts = wide.reshape(len(wide), gates, -1)
    centered = parts - parts.mean(axis=2, keepdims=True)
    return (centered / np.sqrt((centered**2).mean(axis=2, keepdims=True) + 1e-8)).reshape(wide.shape)


def _random_theta(inputs: int, outputs: int, hidden: int, *, gates: int) -> Theta:
    random = np.random.default_rng(50)
    shapes = {"wm": (inputs + outputs, gates * hidden), "b": (gates * hidden,), "w_proj": (hidden, outputs)}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def _turned(array: Array, order: tuple[int, ...]) -> Array:
    parts = np.split(array, 3, axis=-1)
    return np.concatenate([parts[block] for block in order], axis=-1)


def _by_gate(theta: Theta, *, forget_gate_bias: float = FORGET_GATE_BIAS) -> GateWeights:
    return GateWeights.from_lingvo(theta, couple_input_forget_gates=True, forget_gate_bias=forget_gate_bias)


def _after_step(
    weights: GateWeights, x: Array, m: Array, c: Array, cap: float = CELL_VALUE_CAP
) -> tuple[Float64, Float64]:
    _, new_m, new_c = reference.lstm(weights, x[:, np.newaxis], h=m, c=c, cell_clip=cap)
    return new_m, new_c


def _close(given: npt.NDArray[Any], wanted: npt.NDArray[Any], tolerance: float = 1e-4) -> bool:
    return bool(np.allclose(given, wanted, rtol=0, atol=tolerance))
