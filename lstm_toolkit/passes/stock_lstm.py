"""Passes for fused LSTMs that the stock converter made of tf_keras's annotation.

    before  [LSTM, clip 10: its states shared with weights or with another op]
    after   [LSTM, no clip: its own states, named lstm/output_state and lstm/cell_state]

A Keras LSTM has no clip; the converter writes one all the same. It also merges constants that are equal in shape and
value, so that a weight of zeros may share its tensor with a state, which inference overwrites.
"""

from collections import Counter

import numpy as np

from lstm_toolkit.tflite import edit, graph, recurrent
from lstm_toolkit.tflite.recurrent import numbered, recurrent_ops
from lstm_toolkit.tflite.types import Model, Subgraph
from lstm_toolkit.weights.operands import STATES


def remove_clip(model: Model) -> int:
    """Takes the clip off every recurrent op, in place; returns how many had one."""
    clipped = [op for op in recurrent_ops(model) if getattr(op.options, "cellClip", 0.0)]
    for op in clipped:
        op.options.cellClip = 0.0
    return len(clipped)


def unshare_states(model: Model) -> int:
    """Gives every state that has another use a tensor of its own, in place; returns how many had one.

    What else used the tensor gets zeros, which is what the converter merged with the state.
    """
    changed = 0
    for subgraph in model.subgraphs:
        shared = shared_states(model, subgraph)
        for index in shared:
            _separate(model, subgraph, index)
        changed += len(shared)
    return changed


def shared_states(model: Model, subgraph: Subgraph) -> list[int]:
    """Indices of the states that have another use and are not set by an op."""
    states = dict.fromkeys(index for op in recurrent_ops(model, subgraph) for index in op.states)
    uses = Counter(int(index) for op in subgraph.operators for index in op.inputs)
    settled = recurrent.set_states(model, subgraph).keys() | recurrent.set_once(model, subgraph).keys()
    return [index for index in states if uses[index] > 1 and index not in settled]


def name_states(model: Model) -> None:
    """Names the states as `graft` does, with a layer name for each op, in place."""
    taken: list[str] = []
    for op in recurrent_ops(model):
        taken.append(numbered("lstm", taken))
        for index, state in zip(op.states, STATES, strict=False):
            op.subgraph.tensors[index].name = f"{taken[-1]}/{state}".encode()


def _separate(model: Model, subgraph: Subgraph, shared: int) -> None:
    tensor = subgraph.tensors[shared]
    name, shape = graph.text(tensor.name), graph.shape_of(tensor)
    zeros = edit.add_constant(model, subgraph, f"{name}/zeros", np.zeros(shape, np.float32))
    subgraph.operators = [op for op in subgraph.operators if shared not in op.outputs]
    for number, op in enumerate(subgraph.operators):
        own = recurrent.state_places(model, op)
        for place in [place for place, index in enumerate(op.inputs) if index == shared]:
            fresh = f"{name}/{number}_{place}"
            op.inputs[place] = edit.add_tensor(subgraph, fresh, shape, variable=True) if place in own else zeros
