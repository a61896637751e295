"""Finds what looks like an unrolled LSTM at a glance, whether or not it is one: its products tell."""

import dataclasses
import itertools

from lstm_toolkit.passes.loops.evaluate import ACTIVATION_OPS
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.types import Model, Operator, Subgraph

UNNAMED = "unrolled"
"""Name of a layer that no tensor tells."""


@dataclasses.dataclass(frozen=True)
class Glance:
    """Products with the same weights, each of the output of the one before.

    Attributes:
        name: of the layer, as the names of the tensors tell it, or else `unrolled`.
        outputs: indices of the tensors that hold h, step by step; without those of the steps that no product takes.
        steps: how many there are.
    """

    name: str
    outputs: tuple[int, ...]
    steps: int


def glances(model: Model, subgraph: Subgraph) -> list[Glance]:
    """Finds LSTMs that are laid out step by step, from three steps on; the model stays as it is."""
    found = []
    producers = graph.producers(subgraph)
    uses: dict[tuple[int, int], list[Operator]] = {}
    for op in subgraph.operators:
        if graph.operator_name(model, op) == "FULLY_CONNECTED" and len(op.inputs) > 1:
            buffer = subgraph.tensors[op.inputs[1]].buffer
            uses.setdefault((buffer, 0) if buffer else (0, op.inputs[1]), []).append(op)
    for users in uses.values():
        ids = {id(user) for user in users}
        behind = [user for user in users if ids & _output_gate(model, producers, user.inputs[0])]
        # The first output comes from a step without a product, and the last one goes into none.
        if behind:
            first = 1 if _output_gate(model, producers, users[0].inputs[0]) else 0
            name = layer_name(graph.text(subgraph.tensors[users[0].outputs[0]].name))
            found.append(Glance(name, tuple(int(user.inputs[0]) for user in behind), len(users) + first))
    return found


def layer_name(tensor: str) -> str:
    """Name of a layer by that of a tensor that it computes: the scope before that of a cell, or PyTorch's module."""
    for place in tensor.split(";"):
        scopes = place.split("/")
        for layer, inner in itertools.pairwise(scopes[:-1]):
            if layer and "cell" in inner:
                return layer
        module = scopes[-1].rpartition("torch.nn.modules.rnn.")[2]
        if len(scopes) > 1 and module and module != scopes[-1]:
            return module
    return UNNAMED


def _output_gate(model: Model, producers: dict[int, Operator], tensor: int) -> set[int]:
    """Identities of the FULLY_CONNECTED of the output gate, where a tensor is sigmoid(o) * activation(c)."""
    product = producers.get(tensor)
    if product is None or graph.operator_name(model, product) != "MUL":
        return set()
    factors = [producers[index] for index in product.inputs if index in producers]
    names = [graph.operator_name(model, factor) for factor in factors]
    if len(factors) != 2 or "LOGISTIC" not in names or not set(names) <= set(ACTIVATION_OPS):
        return set()
    gate = factors[names.index("LOGISTIC")]
    waiting, found = {id(gate): gate}, set()
    for _ in range(8):
        sums = {key for key, op in waiting.items() if graph.operator_name(model, op) == "FULLY_CONNECTED"}
        found |= sums
        inputs = [index for key, op in waiting.items() if key not in sums for index in op.inputs if index in producers]
        waiting = {id(producers[index]): producers[index] for index in inputs}
    return found
