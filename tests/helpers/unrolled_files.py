"""Unrolled LSTMs in the many spellings of converters, written by hand, and what they compute."""

import dataclasses
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from hypothesis import strategies as st

from lstm_toolkit.tflite import files
from lstm_toolkit.tflite.builder import OpBuilder
from tests.helpers.calls import RESOLVERS
from tests.helpers.schema_models import empty_model

ACTIVATIONS = {
    "TANH": np.tanh,
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1),
}
GATES = ("input", "forget", "cell", "output")


@dataclasses.dataclass(frozen=True)
class Spelling:
    """How an unrolled LSTM is written down.

    Attributes:
        product: "two" (x and h apart), "joined" ([x, h] times one matrix), "hoisted" (x of all steps at once).
        matrix: "FULLY_CONNECTED" or "BATCH_MATMUL", for h where it is apart.
        bias: where it is added: "x", "h", "both" (a part each), "after".
        split: "SPLIT", "SPLIT_V", "SLICE", "STRIDED_SLICE", or "none" (a product a gate).
        order: of the gates in the packed weights.
        start: "folded" (the first step knows that h and c are zero), "zeros" (constants), "given" (inputs).
        read: how a step of x is taken: "unpack", "transpose", "strided", "slice", "gather".
        write: "pack", "swap" (packed with time first, then swapped), "join" (CONCATENATION), "last", "states".
        backwards: from the last step to the first.
        activation: of the cell, as the operator is called.
        swapped: the operands of ADD and MUL the other way round.
        copies: every step has its own copy of the weights.
        projection: size of the output, 0 for that of the cell.
        layers: one on top of the other.
    """

    product: str = "two"
    matrix: str = "FULLY_CONNECTED"
    bias: str = "x"
    split: str = "SPLIT"
    order: tuple[str, ...] = GATES
    start: str = "folded"
    read: str = "unpack"
    write: str = "pack"
    backwards: bool = False
    activation: str = "TANH"
    swapped: bool = False
    copies: bool = False
    projection: int = 0
    layers: int = 1


SPELLINGS = st.builds(
    Spelling,
    product=st.sampled_from(["two", "joined", "hoisted"]),
    matrix=st.sampled_from(["FULLY_CONNECTED", "BATCH_MATMUL"]),
    bias=st.sampled_from(["x", "h", "both", "after"]),
    split=st.sampled_from(["SPLIT", "SPLIT_V", "SLICE", "STRIDED_SLICE", "none"]),
    order=st.permutations(GATES).map(tuple),
    start=st.sampled_from(["folded", "zeros", "given"]),
    read=st.sampled_from(["unpack", "transpose", "strided", "slice", "gather"]),
    write=st.sampled_from(["pack", "swap", "join", "last", "states"]),
    backwards=st.booleans(),
    activation=st.sampled_from(["TANH", "RELU", "RELU6", "RELU_N1_TO_1"]),
    swapped=st.booleans(),
    copies=st.booleans(),
    projection=st.sampled_from([0, 0, 2]),
    layers=st.sampled_from([1, 2]),
)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of a file, all different."""

    batch: int = 2
    steps: int = 4
    inputs: int = 3
    units: int = 5


@dataclasses.dataclass
class Layer:
    """Weights by gate: w [units, inputs], r [units, outputs], b [units]; p [projection, units] or None."""

    w: dict[str, np.ndarray]
    r: dict[str, np.ndarray]
    b: dict[str, np.ndarray]
    p: np.ndarray | None


def layers_for(spelling: Spelling, sizes: Sizes, seed: int) -> list[Layer]:
    """Random weights, of every layer's own size."""
    random, inputs, found = np.random.default_rng(seed), sizes.inputs, []
    for number in range(spelling.layers):
        units = sizes.units + number
        outputs = spelling.projection or units

        def drawn(*shape: int) -> dict[str, np.ndarray]:
            return {gate: random.normal(0, 0.5, shape).astype(np.float32) for gate in GATES}

        p = random.normal(0, 0.5, (outputs, units)).astype(np.float32) if spelling.projection else None
        found.append(Layer(drawn(units, inputs), drawn(units, outputs), drawn(units), p))
        inputs = outputs
    return found


def computed(spelling: Spelling, layers: list[Layer], x: np.ndarray, states: list[np.ndarray]) -> list[np.ndarray]:
    """The outputs of the file, in float64: a loop that shares no code with anything."""
    act, sequence = ACTIVATIONS[spelling.activation], x.astype(np.float64)
    results = []
    for number, layer in enumerate(layers):
        units = len(layer.b["cell"])
        outputs = units if layer.p is None else len(layer.p)
        h, c = np.zeros((len(x), outputs)), np.zeros((len(x), units))
        if states:
            h, c = (each.astype(np.float64) for each in states[2 * number : 2 * number + 2])
        steps = range(x.shape[1])
        made: dict[int, np.ndarray] = {}
        for t in reversed(steps) if spelling.backwards else steps:
            z = {gate: sequence[:, t] @ layer.w[gate].T + h @ layer.r[gate].T + layer.b[gate] for gate in GATES}
            sigmoid = {gate: 1 / (1 + np.exp(-z[gate])) for gate in GATES}
            c = sigmoid["forget"] * c + sigmoid["input"] * act(z["cell"])
            m = sigmoid["output"] * act(c)
            h = m if layer.p is None else m @ layer.p.T
            made[t] = h
        sequence = np.stack([made[t] for t in steps], axis=1)
        results += [h, c] if spelling.write == "states" else []
    if spelling.write == "last":
        return [sequence[:, 0 if spelling.backwards else -1]]
    return [sequence, *results]


def unrolled_file(
    spelling: Spelling, sizes: Sizes, layers: list[Any], changed: Any = None, writer: Any = None
) -> bytes:
    """The bytes of a file with x, and where the start is given h and c of each layer, as its inputs.

    Args:
        spelling: how it is written.
        sizes: of the file.
        layers: its weights.
        changed: called with the number of the layer, the step, and a copy of the layer; returns the layer of that step.
        writer: of the steps; None is that of LSTMs.
    """
    model = empty_model()
    model.description = b"by hand"
    subgraph = model.subgraphs[0]
    ops = OpBuilder(model, subgraph, "net")
    x = ops.tensor("x", (sizes.batch, sizes.steps, sizes.inputs))
    subgraph.inputs = [x]
    outputs, states = [], []
    for number, layer in enumerate(layers):
        own = (writer or Writer)(
            ops, spelling, layer, lambda t, own, n=number: own if changed is None else changed(n, t, own)
        )
        x, ends, starts = own.layer(x, is_last=number == len(layers) - 1)
        subgraph.inputs += starts
        states += ends
    outputs = [x, *(states if spelling.write == "states" else [])]
    subgraph.operators, subgraph.outputs = ops.operators, outputs
    return files.write_model(model)


class Writer:
    """Writes the steps of a layer, those of an LSTM."""

    state_sizes: tuple[str, ...] = ("outputs", "units")

    def __init__(self, ops: OpBuilder, spelling: Spelling, layer: Any, changed: Any) -> None:
        self.ops, self.how, self.own, self.changed = ops, spelling, layer, changed
        self.units = len(layer.b[spelling.order[0]])
        self.outputs = self.units if layer.p is None else len(layer.p)
        self.batch = 0

    def layer(self, x: int, *, is_last: bool) -> tuple[int, list[int], list[int]]:
        """The sequence or the last output; the states at the end; the inputs that hold the start."""
        ops, (batch, steps, _) = self.ops, self.ops.shape(x)
        self.batch, sizes = batch, [getattr(self, size) for size in self.state_sizes]
        xs = self.hoisted(x) if self.how.product == "hoisted" else self.steps(x)
        states: tuple[int | None, ...] = (None,) * len(sizes)
        starts: list[int] = []
        if self.how.start == "given":
            starts = [ops.tensor("start", (batch, size)) for size in sizes]
            states = tuple(starts)
        elif self.how.start == "zeros":
            states = tuple(ops.constant(np.zeros((batch, size), np.float32)) for size in sizes)
        made: dict[int, int] = {}
        for t in reversed(range(steps)) if self.how.backwards else range(steps):
            states = self.step(xs[t], states, self.changed(t, self.own), t)
            made[t] = states[0]
        ends = [each for each in states if each is not None]
        if self.how.write == "last" and is_last:
            return ends[0], ends, starts
        return self.sequence([made[t] for t in range(steps)], batch), ends, starts

    def steps(self, x: int) -> list[int]:
        """The steps of a sequence, [batch, size] each."""
        ops, (batch, count, size) = self.ops, self.ops.shape(x)
        match self.how.read:
            case "unpack":
                made = [ops.tensor("x", (batch, size)) for _ in range(count)]
                ops.add("UNPACK", [x], made, num=count, axis=1)
                return made
            case "transpose":
                turned = ops.transpose(x, [1, 0, 2])
                made = [ops.tensor("x", (batch, size)) for _ in range(count)]
                ops.add("UNPACK", [turned], made, num=count, axis=0)
                return made
            case "slice":
                parts = [ops.slice(x, [0, t, 0], [batch, 1, size]) for t in range(count)]
                return [ops.reshape(part, [batch, size]) for part in parts]
            case "gather":
                shape = (batch, size)
                return [ops.op("GATHER", x, ops.constant(np.array(t)), shape=shape, axis=1) for t in range(count)]
        made = []
        for t in range(count):
            bounds = [ops.constant(each) for each in ([0, t, 0], [batch, t + 1, size], [1, 1, 1])]
            options = {"beginMask": 5, "endMask": 5, "shrinkAxisMask": 2}
            made.append(ops.op("STRIDED_SLICE", x, *bounds, shape=(batch, size), **options))
        return made

    def hoisted(self, x: int) -> list[int]:
        """The product of all steps, step by step, [batch, 4 * units] each."""
        ops, (batch, count, size) = self.ops, self.ops.shape(x)
        bias = (
            None
            if self.how.bias in ("h", "after")
            else self.packed(self.own.b) * (0.5 if self.how.bias == "both" else 1)
        )
        product = ops.fully_connected(ops.reshape(x, [batch * count, size]), self.packed(self.own.w), bias)
        whole = ops.reshape(product, [batch, count, len(self.how.order) * self.units])
        return self.steps(whole)

    def packed(self, by_gate: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([by_gate[gate] for gate in self.how.order])

    def step(self, x: int, states: tuple[int | None, ...], own: Any, t: int) -> tuple[int, ...]:
        """The states after a step."""
        ops, (h, c) = self.ops, states
        if self.how.copies:
            ops._constants.clear()
        z = self.sums(x, h, own)
        gates = {gate: ops.unary("LOGISTIC", z[gate]) for gate in GATES if gate != "cell"}
        new = self.binary("MUL", gates["input"], ops.unary(self.how.activation, z["cell"]))
        c = new if c is None else self.binary("ADD", self.binary("MUL", gates["forget"], c), new)
        h = self.binary("MUL", gates["output"], ops.unary(self.how.activation, c))
        if own.p is not None:
            h = ops.fully_connected(h, own.p)
        return h, c

    def binary(self, name: str, left: int, right: int) -> int:
        return self.ops.binary(name, right, left) if self.how.swapped else self.ops.binary(name, left, right)

    def sums(self, x: int, h: int | None, own: Layer) -> dict[str, int]:
        """The sum of every gate."""
        if self.how.split == "none" and self.how.product != "hoisted":
            order = self.how.order
            return {gate: self.sum(x, h, own.w[gate], own.r[gate], own.b[gate]) for gate in order}
        packed = self.sum(x, h, *(self.packed(each) for each in (own.w, own.r, own.b)))
        return dict(zip(self.how.order, self.parts(packed), strict=True))

    def sum(self, x: int, h: int | None, w: np.ndarray, r: np.ndarray, b: np.ndarray) -> int:
        ops, where = self.ops, self.how.bias
        share = np.float32(0.5 if where == "both" else 1)
        with_x = b * share if where in ("x", "both") else None
        if h is None:
            # As a converter folds it: the bias of the product of h is all that it leaves.
            total = x if self.how.product == "hoisted" else ops.fully_connected(x, w, with_x)
            rest = b * share if where != "x" else None
            return total if rest is None else self.binary("ADD", total, ops.constant(rest))
        if self.how.product == "joined":
            shape = (*ops.shape(x)[:-1], w.shape[1] + r.shape[1])
            both = ops.op("CONCATENATION", x, h, shape=shape, axis=1)
            total = ops.fully_connected(both, np.concatenate([w, r], axis=1), None if where == "after" else b)
        else:
            left = x if self.how.product == "hoisted" else ops.fully_connected(x, w, with_x)
            right = self.of_h(h, r, b * share if where in ("h", "both") else None)
            total = self.binary("ADD", left, right)
        return self.binary("ADD", total, ops.constant(b)) if where == "after" else total

    def of_h(self, h: int, r: np.ndarray, bias: np.ndarray | None) -> int:
        ops = self.ops
        if self.how.matrix == "FULLY_CONNECTED":
            return ops.fully_connected(h, r, bias)
        shape = (ops.shape(h)[0], len(r))
        product = ops.op("BATCH_MATMUL", h, ops.constant(np.ascontiguousarray(r.T)), shape=shape)
        return product if bias is None else self.binary("ADD", product, ops.constant(bias))

    def parts(self, packed: int) -> list[int]:
        """Parts of the size of a gate."""
        ops, (batch, columns), units = self.ops, self.ops.shape(packed), self.units
        count = columns // units
        match self.how.split:
            case "SPLIT_V":
                made = [ops.tensor("gate", (batch, units)) for _ in range(count)]
                sizes, axis = ops.constant([units] * count), ops.constant(np.array(1))
                ops.add("SPLIT_V", [packed, sizes, axis], made, numSplits=count)
                return made
            case "SLICE":
                return [ops.slice(packed, [0, n * units], [batch, units]) for n in range(count)]
            case "STRIDED_SLICE":
                return [
                    ops.op(
                        "STRIDED_SLICE",
                        packed,
                        *(ops.constant(each) for each in ([0, n * units], [0, (n + 1) * units], [1, 1])),
                        shape=(batch, units),
                        beginMask=1,
                        endMask=1,
                    )
                    for n in range(count)
                ]
        return ops.split(packed, count, 1)

    def sequence(self, made: list[int], batch: int) -> int:
        ops, count = self.ops, len(made)
        shape = (batch, count, self.outputs)
        match self.how.write:
            case "swap":
                turned = (count, batch, self.outputs)
                return ops.transpose(ops.op("PACK", *made, shape=turned, valuesCount=count, axis=0), [1, 0, 2])
            case "join":
                wide = [ops.reshape(each, [batch, 1, self.outputs]) for each in made]
                return ops.op("CONCATENATION", *wide, shape=shape, axis=1)
        return ops.op("PACK", *made, shape=shape, valuesCount=count, axis=1)


def run(tflite: bytes, calls: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    """The outputs of each call, on one interpreter with XNNPACK and then on one without."""
    results = []
    for resolver in RESOLVERS:
        interpreter = Interpreter(model_content=tflite, experimental_op_resolver_type=resolver)
        interpreter.allocate_tensors()
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        for arrays in calls:
            for details, array in zip(inputs, arrays, strict=True):
                interpreter.set_tensor(details["index"], array)
            interpreter.invoke()
            results.append([interpreter.get_tensor(details["index"]) for details in outputs])
    return results


def assert_both_compute(file, joined, calls, wanted, tolerance):
    """Compares a file and what was made of it with the wanted outputs of each call, with XNNPACK and without."""
    for number, (before, after, right) in enumerate(zip(run(file, calls), run(joined, calls), wanted * 2, strict=True)):
        assert len(before) == len(after) == len(right)
        for old, new, exact in zip(before, after, right, strict=True):
            assert new.shape == old.shape == exact.shape
            np.testing.assert_allclose(old, exact, atol=tolerance, rtol=tolerance, err_msg=f"the file, call {number}")
            np.testing.assert_allclose(new, exact, atol=tolerance, rtol=tolerance, err_msg=f"joined, call {number}")
