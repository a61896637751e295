"""Wrong and right answers to the exercises in codelab 05."""

import numpy as np

NAMES = ("num_input_nodes", "num_output_nodes", "num_hidden_nodes", "couple_input_forget_gates", "enable_lstm_bias")


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def options_of(theta, **changes):
    rows, columns = theta["wm"].shape
    hidden, outputs = theta["w_proj"].shape
    values = (rows - outputs, outputs, hidden, columns == 3 * hidden, "b" in theta)
    return dict(zip(NAMES, values, strict=True)) | {name: change(theta) for name, change in changes.items()}


def coupled_step(
    theta,
    x,
    m,
    c,
    cap,
    forget_gate_bias,
    *,
    order=(0, 1, 2),
    news=lambda f: 1 - f,
    stays=lambda f: f,
    bound=lambda c, cap: np.clip(c, -cap, cap),
):
    sums = np.concatenate([x, m], axis=1) @ theta["wm"] + theta["b"]
    blocks = np.split(sums, 3, axis=1)
    cell, forget, output = (blocks[block] for block in order)
    f = sigmoid(forget + forget_gate_bias)
    c = stays(f) * c + news(f) * np.tanh(cell)
    c = bound(c, cap)
    return sigmoid(output) * np.tanh(c) @ theta["w_proj"], c


def changed_step(**changes):
    """The right step on other arguments."""

    def step(theta, x, m, c, cap, forget_gate_bias):
        given = {"theta": theta, "x": x, "m": m, "c": c, "cap": cap, "forget_gate_bias": forget_gate_bias}
        return coupled_step(**given | {name: change(given) for name, change in changes.items()})

    return step


def m_first(given):
    return given["theta"] | {"wm": np.roll(given["theta"]["wm"], -4, axis=0)}


def normalize(products, ln_scale, b, gates, *, axis=2, epsilon=1e-8, ddof=0):
    parts = products.reshape(len(products), gates, -1)
    centered = parts - parts.mean(axis=axis, keepdims=True)
    normalized = centered / np.sqrt(parts.var(axis=axis, ddof=ddof, keepdims=True) + epsilon)
    return normalized.reshape(products.shape) * ln_scale + b


def outside_the_root(products, ln_scale, b, gates):
    parts = products.reshape(len(products), gates, -1)
    normalized = (parts - parts.mean(axis=2, keepdims=True)) / (parts.std(axis=2, keepdims=True) + 1e-8)
    return normalized.reshape(products.shape) * ln_scale + b


OPTIONS = [
    (lambda theta: None, "returns nothing"),
    (lambda theta: 3, "return a dict of the options, not int"),
    (lambda theta: {"num_input_nodes": 3}, "the options are num_input_nodes, .*; yours are num_input_nodes$"),
    (
        lambda theta: options_of(theta, num_input_nodes=lambda theta: len(theta["wm"])),
        r"for wm \[7, 20\], .*: num_input_nodes is 3, not 7; wm has a row for each input and a row for each output",
    ),
    (
        lambda theta: options_of(theta, num_output_nodes=lambda theta: theta["w_proj"].shape[0]),
        "num_output_nodes is 4, not 5; w_proj leads from",
    ),
    (
        lambda theta: options_of(theta, num_hidden_nodes=lambda theta: theta["wm"].shape[1] // 4),
        "num_hidden_nodes is 6, not 4",
    ),
    (
        lambda theta: options_of(theta, couple_input_forget_gates=lambda theta: theta["wm"].shape[1] % 3 == 0),
        "couple_input_forget_gates is False, not True; count the columns",
    ),
    (lambda theta: options_of(theta, enable_lstm_bias=lambda theta: True), "enable_lstm_bias is False, not True"),
]

STEPS = [
    (lambda *given: None, "returns nothing"),
    (lambda *given: 0.5, "returns a single float"),
    (lambda *given: coupled_step(*given)[:1], "the new m and the new c; the function returns 1 things"),
    (lambda *given: coupled_step(*given)[::-1], r"the new m must be \[6, 4\], not \[6, 5\]; w_proj makes m smaller"),
    (lambda *given: (coupled_step(*given)[0], None), r"the new c must be \[6, 5\], not \[\]"),
    (changed_step(theta=m_first), "the first rows of wm are for x"),
    (changed_step(theta=lambda given: given["theta"] | {"b": 0}), "b is missing from the sums"),
    (changed_step(forget_gate_bias=lambda given: 0), "forget_gate_bias is missing"),
    (changed_step(cap=lambda given: np.inf), "cell_value_cap is missing"),
    (changed_step(bound=lambda given: np.minimum), "cell_value_cap bounds the new c from below too"),
    (changed_step(bound=lambda given: lambda c, cap: np.maximum(c, -cap)), "bounds the new c from above too"),
    (
        lambda *given: coupled_step(*given, order=(1, 0, 2)),
        "order cell, forget, output; you .* as forget, cell, output",
    ),
    (
        lambda *given: coupled_step(*given, order=(2, 0, 1)),
        "order cell, forget, output; you .* as forget, output, cell",
    ),
    (lambda *given: coupled_step(*given, news=lambda f: f, stays=lambda f: 1 - f), "you have them exchanged"),
    (lambda *given: coupled_step(*given, news=lambda f: 1), "all of the news comes in"),
    (changed_step(x=lambda given: 2 * given["x"]), "the new c is f"),
    (lambda *given: (2 * coupled_step(*given)[0], coupled_step(*given)[1]), "the new c is right. The new m is"),
]

SUMS = [
    (lambda *given: None, "returns nothing"),
    (lambda *given: 0.5, r"must be \[4, 15\], not \[\]"),
    (lambda products, ln_scale, b, gates: normalize(products, ln_scale, b, 1), "you normalize all gates together"),
    (lambda *given: normalize(*given, axis=0), "yours go over the batch"),
    (lambda *given: normalize(*given, ddof=1), "and not by one less"),
    (lambda products, ln_scale, b, gates: normalize(products + b, ln_scale, 0, gates), "after the normalization"),
    (lambda products, ln_scale, b, gates: normalize(products, 1 + ln_scale, b, gates), "not what is added to 1"),
    (lambda products, ln_scale, b, gates: normalize(products, 1, b, gates), "ln_scale is missing"),
    (lambda products, ln_scale, b, gates: normalize(products, ln_scale, 0, gates), "b is missing"),
    (lambda products, ln_scale, b, gates: normalize(products, 1, b, gates) * ln_scale, "b is scaled too"),
    (lambda products, ln_scale, b, gates: products * ln_scale + b, "with 3 gates: less the gate's mean"),
    (
        lambda products, ln_scale, b, gates: normalize(products, ln_scale, b, 3) if gates == 3 else products,
        "with 4 gates",
    ),
    (lambda *given: normalize(*given, epsilon=0), "where all products of a gate are equal"),
    (lambda *given: normalize(*given, epsilon=1e-3), "inside the root"),
    (outside_the_root, "inside the root"),
]

WRONG = {
    "check_options": OPTIONS,
    "check_coupled_step": STEPS,
    "check_normalize": SUMS,
}
RIGHT = {
    "check_options": [options_of],
    "check_coupled_step": [coupled_step],
    "check_normalize": [normalize],
}
