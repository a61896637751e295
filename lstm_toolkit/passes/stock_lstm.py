"""Passes for fused LSTMs that the stock converter made of tf_keras's annotation.

    before  [LSTM, clip 10: its states shared with weights or with another op]
    after   [LSTM, no clip: its own states, named lstm/output_state and lstm/cell_state]

A Keras LSTM has no clip; the converter writes one all the same. It also merges constants that are equal in shape and
value, so that a weight of zeros may share its tensor with a state, which inference overwrites.
"""

from collections import Counter
from typing import Any

import numpy as np

from lstm_toolkit.tflite import edit, graph, recurrent
from lstm_toolkit.tflite.recurrent import numbered
from lstm_toolkit.tflite.types import Model, Subgraph
from lstm_toolkit.weights.operands import STATES


def remove_clip(model: Model) -> int:
    """Takes the clip off every recurrent op, in place; returns how many had one."""
    clipped = [op for op in _recurrent(model) if getattr(op.builtinOptions, "cellClip", 0.0)]
    for op in clipped:
        op.builtinOptions.cellClip = 0.0
    return len(clipped)


def unshare_states(model: Model) -> int:
    """Gives every state that has another use a tensor of its own, in place; returns how many had one.

    What else used the tensor gets zeros, which is what the converter merged with the state.
    """
    changed = 0
    for subgraph in model.subgraphs:
        as_state = Counter(index for op in subgraph.operators for index in recurrent.state_tensors(model, op))
        uses = Counter(int(index) for op in subgraph.operators for index in op.inputs)
        for index in [index for index in as_state if uses[index] > 1 and not _is_reset(model, subgraph, index)]:
            _separate(model, subgraph, index)
            changed += 1
    return changed


def name_states(model: Model) -> None:
    """Names the states as `graft` does, by a name for each op, in place."""
    taken: list[str] = []
    for subgraph in model.subgraphs:
        for op in subgraph.operators:
            states = recurrent.state_tensors(model, op)
            if states:
                taken.append(numbered("lstm", taken))
            for index, state in zip(states, STATES, strict=False):
                subgraph.tensors[index].name = f"{taken[-1]}/{state}".encode()


def _recurrent(model: Model) -> list[Any]:
    return [op for subgraph in model.subgraphs for op in subgraph.operators if recurrent.state_tensors(model, op)]


def _is_reset(model: Model, subgraph: Subgraph, index: int) -> bool:
    return index in recurrent.set_states(model, subgraph)


def _separate(model: Model, subgraph: Subgraph, shared: int) -> None:
    tensor = subgraph.tensors[shared]
    name, shape = graph.text(tensor.name), graph.shape_of(tensor)
    zeros = edit.add_constant(model, subgraph, f"{name}/zeros", np.zeros(shape, np.float32))
    for number, op in enumerate(subgraph.operators):
        positions = recurrent.STATE_OPERANDS.get(graph.operator_name(model, op), ())
        for place, index in enumerate(list(op.inputs)):
            if index != shared:
                continue
            own = place in positions
            fresh = f"{name}/{number}_{place}"
            op.inputs[place] = edit.add_tensor(subgraph, fresh, shape, variable=True) if own else zeros
