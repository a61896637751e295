"""Unrolled GRUs and simple RNNs in the many spellings of converters, written by hand, and what they compute."""

import dataclasses
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.helpers.unrolled_files import ACTIVATIONS, Sizes, Spelling, Writer, unrolled_file

GATES_OF = {
    "after": ("update", "reset", "candidate"),
    "before": ("update", "reset", "candidate"),
    "rnn": ("cell",),
}
"""Gates of the cells: a GRU with the reset gate after the recurrent product, one with it before, and a simple RNN."""


@dataclasses.dataclass(frozen=True)
class CellSpelling(Spelling):
    """How an unrolled GRU or RNN is written down.

    Attributes:
        cell: of `GATES_OF`.
        output: of a GRU, "weighted" (z * h + (1 - z) * n) or "moved" (n + z * (h - n)).
        order: of the gates in the packed weights.
        has_recurrent_bias: whether the recurrent product has a bias of its own.
    """

    cell: str = "after"
    output: str = "weighted"
    order: tuple[str, ...] = GATES_OF["after"]
    has_recurrent_bias: bool = True


@st.composite
def cell_spellings(draw):
    cell = draw(st.sampled_from(sorted(GATES_OF)))
    return CellSpelling(
        cell=cell,
        order=tuple(draw(st.permutations(GATES_OF[cell]))),
        product=draw(st.sampled_from(["two", "hoisted"] if cell == "after" else ["two", "joined", "hoisted"])),
        matrix=draw(st.sampled_from(["FULLY_CONNECTED", "BATCH_MATMUL"])),
        bias=draw(st.sampled_from(["x", "after"])),
        split=draw(st.sampled_from(["SPLIT", "SPLIT_V", "SLICE", "STRIDED_SLICE", "none"])),
        start=draw(st.sampled_from(["folded", "zeros", "given"])),
        read=draw(st.sampled_from(["unpack", "transpose", "strided", "slice", "gather"])),
        write=draw(st.sampled_from(["pack", "swap", "join", "last", "states"])),
        backwards=draw(st.booleans()),
        activation=draw(st.sampled_from(["TANH", "TANH", "RELU6", "RELU_N1_TO_1"])),
        swapped=draw(st.booleans()),
        copies=draw(st.booleans()),
        layers=draw(st.sampled_from([1, 2])),
        output=draw(st.sampled_from(["weighted", "moved"])),
        has_recurrent_bias=draw(st.booleans()),
    )


CELL_SIZES = st.builds(
    Sizes, batch=st.integers(1, 3), steps=st.integers(2, 7), inputs=st.integers(1, 4), units=st.integers(1, 5)
)


@dataclasses.dataclass
class CellLayer:
    """Weights by gate: w [units, inputs], r [units, units], b and rb [units]."""

    w: dict[str, np.ndarray]
    r: dict[str, np.ndarray]
    b: dict[str, np.ndarray]
    rb: dict[str, np.ndarray]
    p: None = None


def cell_layers_for(spelling: CellSpelling, sizes: Sizes, seed: int) -> list[CellLayer]:
    """Random weights, of every layer's own size."""
    random, inputs, found = np.random.default_rng(seed), sizes.inputs, []
    for number in range(spelling.layers):
        units = sizes.units + number

        def drawn(*shape: int) -> dict[str, np.ndarray]:
            return {gate: random.normal(0, 0.5, shape).astype(np.float32) for gate in GATES_OF[spelling.cell]}

        layer = CellLayer(drawn(units, inputs), drawn(units, units), drawn(units), drawn(units))
        if not spelling.has_recurrent_bias or spelling.cell != "after":
            layer.rb = {gate: np.zeros_like(each) for gate, each in layer.rb.items()}
        found.append(layer)
        inputs = units
    return found


def computed_cells(
    spelling: CellSpelling, layers: list[CellLayer], x: np.ndarray, states: list[np.ndarray]
) -> list[np.ndarray]:
    """The outputs of the file, in float64: a loop that shares no code with anything."""
    sequence, results = x.astype(np.float64), []
    for number, layer in enumerate(layers):
        h = states[number].astype(np.float64) if states else np.zeros((len(x), len(layer.w[spelling.order[0]])))
        steps, made = range(x.shape[1]), {}
        for t in reversed(steps) if spelling.backwards else steps:
            h = _after(spelling, layer, sequence[:, t], h)
            made[t] = h
        sequence = np.stack([made[t] for t in steps], axis=1)
        results += [h] if spelling.write == "states" else []
    if spelling.write == "last":
        return [sequence[:, 0 if spelling.backwards else -1]]
    return [sequence, *results]


def _after(spelling: CellSpelling, layer: CellLayer, x: np.ndarray, h: np.ndarray) -> np.ndarray:
    act, (w, r, b, rb) = ACTIVATIONS[spelling.activation], (layer.w, layer.r, layer.b, layer.rb)
    if spelling.cell == "rnn":
        return act(x @ w["cell"].T + h @ r["cell"].T + b["cell"])
    z, reset = (1 / (1 + np.exp(-(x @ w[gate].T + b[gate] + h @ r[gate].T + rb[gate]))) for gate in ("update", "reset"))
    if spelling.cell == "after":
        recurrent = reset * (h @ r["candidate"].T + rb["candidate"])
    else:
        recurrent = (reset * h) @ r["candidate"].T
    n = act(x @ w["candidate"].T + b["candidate"] + recurrent)
    return z * h + (1 - z) * n


def unrolled_cells(spelling: CellSpelling, sizes: Sizes, layers: list[CellLayer], changed: Any = None) -> bytes:
    """The bytes of a file with x, and where the start is given h of each layer, as its inputs."""
    return unrolled_file(spelling, sizes, layers, changed, writer=_CellWriter)


class _CellWriter(Writer):
    state_sizes = ("units",)

    def step(self, x: int, states: tuple[int | None, ...], own: CellLayer, t: int) -> tuple[int, ...]:
        (h,) = states
        if self.how.copies:
            self.ops._constants.clear()
        if self.how.cell == "rnn":
            return (self.ops.unary(self.how.activation, self.sums(x, h, own, ("cell",))["cell"]),)
        return (self.gru(x, h, own),)

    def gru(self, x: int, h: int | None, own: CellLayer) -> int:
        ops = self.ops
        if self.how.cell == "after":
            sums = self.x_parts(x, own, self.how.order)
            products = self.h_parts(h, own, self.how.order)
            both = {gate: self.binary("ADD", sums[gate], products[gate]) for gate in ("update", "reset")}
            z, reset = (ops.unary("LOGISTIC", both[gate]) for gate in ("update", "reset"))
            is_zero = h is None and not self.how.has_recurrent_bias
            total = sums["candidate"]
            if not is_zero:
                total = self.binary("ADD", total, self.binary("MUL", reset, products["candidate"]))
        else:
            gates = tuple(gate for gate in self.how.order if gate != "candidate")
            sums = self.sums(x, h, own, gates)
            z, reset = (ops.unary("LOGISTIC", sums[gate]) for gate in ("update", "reset"))
            after = None if h is None else self.binary("MUL", reset, h)
            total = self.sums(x, after, own, ("candidate",))["candidate"]
        n = ops.unary(self.how.activation, total)
        if self.how.output == "moved":
            old = ops.constant(np.float32(0)) if h is None else h
            return self.binary("ADD", self.binary("MUL", z, ops.binary("SUB", old, n)), n)
        new = self.binary("MUL", ops.binary("SUB", ops.constant(np.float32(1)), z), n)
        return new if h is None else self.binary("ADD", self.binary("MUL", z, h), new)

    def sums(self, x: int, h: int | None, own: CellLayer, gates: tuple[str, ...]) -> dict[str, int]:
        """The sums of some gates, of x and h."""
        if self.how.product == "joined" and h is not None:
            shape = (*self.ops.shape(x)[:-1], self.ops.shape(x)[-1] + self.ops.shape(h)[-1])
            both = self.ops.op("CONCATENATION", x, h, shape=shape, axis=1)
            matrices = {gate: np.concatenate([own.w[gate], own.r[gate]], axis=1) for gate in gates}
            return self.products(both, matrices, own.b, gates)
        parts = self.x_parts(x, own, gates)
        if h is None:
            return parts
        products = self.h_parts(h, own, gates)
        return {gate: self.binary("ADD", parts[gate], products[gate]) for gate in gates}

    def x_parts(self, x: int, own: CellLayer, gates: tuple[str, ...]) -> dict[str, int]:
        """What x gives to some gates, with their biases."""
        if self.how.product == "hoisted":
            parts = dict(zip(self.how.order, self.parts(x), strict=True))
            if self.how.bias == "after":
                return {gate: self.binary("ADD", parts[gate], self.ops.constant(own.b[gate])) for gate in gates}
            return {gate: parts[gate] for gate in gates}
        return self.products(x, own.w, own.b, gates)

    def h_parts(self, h: int | None, own: CellLayer, gates: tuple[str, ...]) -> dict[str, int]:
        """What h gives to some gates, with the recurrent biases; their constants where h is zero."""
        if h is None:
            batch = np.ones((self.batch, 1), np.float32)
            return {gate: self.ops.constant(batch * own.rb[gate]) for gate in gates}
        if self.how.matrix == "BATCH_MATMUL":
            biases = {gate: own.rb[gate] if own.rb[gate].any() else None for gate in gates}
            return {gate: self.of_h(h, own.r[gate], biases[gate]) for gate in gates}
        return self.products(h, own.r, own.rb, gates)

    def products(
        self, x: int, matrices: dict[str, np.ndarray], biases: dict[str, np.ndarray], gates: tuple[str, ...]
    ) -> dict[str, int]:
        """Products of some gates, in one op or in one a gate."""
        is_after = self.how.bias == "after"
        if self.how.split == "none":
            made = {
                gate: self.ops.fully_connected(x, matrices[gate], None if is_after else biases[gate]) for gate in gates
            }
        else:
            weights, bias = (np.concatenate([each[gate] for gate in gates]) for each in (matrices, biases))
            whole = self.ops.fully_connected(x, weights, None if is_after else bias)
            made = dict(zip(gates, self.parts(whole), strict=True))
        if not is_after:
            return made
        return {gate: self.binary("ADD", each, self.ops.constant(biases[gate])) for gate, each in made.items()}
