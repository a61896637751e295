"""Finds LSTMs that a converter unrolled over time."""

import re
from typing import Any

from lstm_toolkit.passes.loops.fuse import _output_gate
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.types import Model


def unrolled_lstms(model: Model) -> tuple[tuple[str, int], ...]:
    """Finds LSTMs that are laid out step by step, from three steps on; the model stays as it is.

    Returns:
        For each its name, as the names of the tensors tell it, or else `unrolled`, and its number of steps.
    """
    found = []
    for subgraph in model.subgraphs:
        producers = graph.producers(subgraph)
        uses: dict[tuple[int, int], list[Any]] = {}
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
                name = re.search(r"([^/;]+)/[^/;]*cell[^/;]*/", graph.text(subgraph.tensors[users[0].outputs[0]].name))
                found.append((name[1] if name else "unrolled", len(users) + first))
    return tuple(found)
