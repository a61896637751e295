"""Finds what looks like an unrolled layer at a glance, whether or not it is one: its products tell."""

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
        kind: what it looks like, with its article.
        inputs: indices of the tensors that the products take.
        outputs: those of them that hold h, step by step; without those of the steps that no product takes.
        steps: how many there are.
    """

    name: str
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    steps: int


def glances(model: Model, subgraph: Subgraph) -> list[Glance]:
    """Finds recurrent layers that are laid out step by step, from three steps on; the model stays as it is."""
    found = []
    producers = graph.producers(subgraph)
    uses: dict[tuple[int, int], list[Operator]] = {}
    for op in subgraph.operators:
        if graph.operator_name(model, op) == "FULLY_CONNECTED" and len(op.inputs) > 1:
            buffer = subgraph.tensors[op.inputs[1]].buffer
            uses.setdefault((buffer, 0) if buffer else (0, op.inputs[1]), []).append(op)
    for users in uses.values():
        ids = {id(user) for user in users}
        behind = [user for user in users if ids & _products_before(model, producers, user.inputs[0])]
        # The first output comes from a step without a product, and the last one goes into none.
        if behind:
            first = 1 if _products_before(model, producers, users[0].inputs[0]) else 0
            name = layer_name(graph.text(subgraph.tensors[users[0].outputs[0]].name))
            outputs = tuple(int(user.inputs[0]) for user in behind)
            is_lstm = all(_is_lstm_output(model, producers, index) for index in outputs)
            inputs = tuple(int(user.inputs[0]) for user in users)
            kind = "an LSTM" if is_lstm else "a recurrent layer"
            found.append(Glance(name, kind, inputs, outputs, len(users) + first))
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


def _is_lstm_output(model: Model, producers: dict[int, Operator], tensor: int) -> bool:
    """Whether a tensor is sigmoid(o) * activation(c)."""
    product = producers.get(tensor)
    if product is None or graph.operator_name(model, product) != "MUL":
        return False
    names = [graph.operator_name(model, producers[index]) for index in product.inputs if index in producers]
    return len(names) == 2 and "LOGISTIC" in names and set(names) <= set(ACTIVATION_OPS)


def _products_before(model: Model, producers: dict[int, Operator], tensor: int) -> set[int]:
    """Identities of the FULLY_CONNECTED that a tensor is computed of, each with something else, number by number."""
    waiting, found = {(tensor, False)}, set[int]()
    for _ in range(_DEPTH):
        behind = set[tuple[int, bool]]()
        for index, is_joined in waiting:
            operator = producers.get(index)
            name = "" if operator is None else graph.operator_name(model, operator)
            if operator is not None and name == "FULLY_CONNECTED" and is_joined:
                found.add(id(operator))
            elif operator is not None and name in _NUMBER_BY_NUMBER:
                behind |= {(int(each), is_joined or name in _JOINING) for each in operator.inputs}
        waiting = behind
    return found


_JOINING = {"ADD", "MUL", "SUB"}
_NUMBER_BY_NUMBER = {*ACTIVATION_OPS, *_JOINING, "SPLIT", "SPLIT_V", "SLICE", "STRIDED_SLICE", "RESHAPE"}
_DEPTH = 10
"""From the output of a GRU to the product of its step there are eight operators."""
