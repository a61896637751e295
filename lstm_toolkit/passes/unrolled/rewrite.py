"""Puts fused ops in the place of unrolled LSTMs.

    before  [UNPACK: x -> x0, x1, ...] [FULLY_CONNECTED] [SPLIT] [LOGISTIC] ... [PACK: h0, h1, ... -> y]
    after   [UNIDIRECTIONAL_SEQUENCE_LSTM: x -> y]

The subgraph is built anew from its outputs backwards. What holds numbers of the LSTMs' outputs is made out of the ops'
outputs, so that the operators of the steps are needed by nobody, and are left out.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from lstm_toolkit.passes import graft
from lstm_toolkit.passes.unrolled.elements import Names
from lstm_toolkit.passes.unrolled.evaluate import Evaluation
from lstm_toolkit.passes.unrolled.moves import Mover
from lstm_toolkit.passes.unrolled.sequences import Departs, Sequence
from lstm_toolkit.tflite import edit, graph, recurrent
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import ABSENT, LSTM_COMPOSITE, STATES

FUSED_OP = recurrent.FUSED_OPS[LSTM_COMPOSITE]
"""What an unrolled LSTM becomes."""

_MOST_PARTS = 8


class Stands(Departs):
    """An LSTM that cannot leave its place.

    Attributes:
        layer: its name.
    """

    def __init__(self, layer: str, reason: str) -> None:
        super().__init__(reason)
        self.layer = layer


class Rewriting:
    """A subgraph that is built anew; it stays as it is until `apply`."""

    def __init__(self, model: Model, subgraph: Subgraph, evaluation: Evaluation, found: Mapping[str, Sequence]) -> None:
        """Plans the new subgraph.

        Args:
            model: the file, which gets constants and tensors.
            subgraph: that is built anew.
            evaluation: what its tensors hold.
            found: its LSTMs, by the names of their layers, each behind those whose output it takes.

        Raises:
            Stands: for an LSTM of which more is needed than the fused op computes, or whose input nobody holds.
        """
        self._model, self._subgraph, self._evaluation, self._found = model, subgraph, evaluation, found
        self._producers = graph.producers(subgraph)
        self._mover = Mover(model, subgraph)
        self._owners = np.full(evaluation.elements.count, -1, np.int16)
        self._inner = np.full(evaluation.elements.count, -1, np.int16)
        for number, sequence in enumerate(found.values()):
            self._owners[sequence.h] = number
            self._inner[sequence.c] = number
        self._kept: dict[int, Operator] = {}
        self._moved: dict[int, int] = {}
        self._fusions: list[graft.Fusion] = []
        for index, names in evaluation.names.items():
            is_inside = names.size and (self._inner[names] >= 0).any()
            if not subgraph.tensors[index].isVariable and not self._is_owned(names) and not is_inside:
                self._mover.know(index, names)
        for layer in found:
            self._fuse(layer)
        for operator in subgraph.operators:
            if self._has_effect(operator):
                self._keep(operator)
        for index in subgraph.outputs:
            self._need(int(index))
        # To need the operand of one operator can add others.
        for operator in self._mover.operators:
            for index in operator.inputs:
                self._need(int(index))

    def apply(self) -> None:
        """Puts the new operators into the subgraph."""
        subgraph = self._subgraph
        operators = [each for each in subgraph.operators if id(each) in self._kept]
        operators += [*self._mover.operators, *(fusion.operator for fusion in self._fusions)]
        for operator in operators:
            operator.inputs = [self._moved.get(int(index), int(index)) for index in operator.inputs]
        subgraph.operators = operators
        for index in dict.fromkeys(map(int, subgraph.outputs)):
            if index in self._moved:
                self._produce(index, self._moved[index])
        for fusion in self._fusions:
            given = tuple(self._moved.get(index, index) for index in fusion.given)
            graft.replace(self._model, dataclasses.replace(fusion, given=given), {})
        edit.drop_unused(subgraph, self._has_effect)
        edit.sort_operators(subgraph)

    def _produce(self, index: int, made: int) -> None:
        """Lets an output of the subgraph hold what another tensor holds."""
        subgraph = self._subgraph
        producer = graph.producers(subgraph)[made] if made not in subgraph.outputs else None
        if producer is not None:
            edit.redirect(subgraph, made, index)
            producer.outputs = [index if each == made else each for each in producer.outputs]
            self._moved |= {old: index for old, new in self._moved.items() if new == made}
            return
        shape = graph.shape_of(subgraph.tensors[made])
        sizes = edit.add_constant(self._model, subgraph, "shape", np.array(shape, np.int32))
        subgraph.operators.append(
            edit.new_operator(self._model, "RESHAPE", [made, sizes], [index], newShape=list(shape))
        )

    def _is_owned(self, names: Names) -> bool:
        return bool(names.size and (self._owners[names] >= 0).all())

    def _has_effect(self, operator: Operator) -> bool:
        touched = {*operator.inputs, *operator.outputs} - {ABSENT}
        return not len(operator.outputs) or any(self._subgraph.tensors[index].isVariable for index in touched)

    def _keep(self, operator: Operator) -> None:
        if id(operator) not in self._kept:
            self._kept[id(operator)] = operator
            for index in operator.inputs:
                self._need(int(index))

    def _need(self, index: int) -> None:
        """Keeps what computes a tensor, or makes it anew out of the outputs of fused ops."""
        waiting = [index]
        while waiting:
            index = waiting.pop()
            operator = self._producers.get(index)
            if index in self._moved or operator is None or id(operator) in self._kept:
                continue
            names = self._evaluation.names.get(index)
            made = self._made(names) if names is not None and names.size else None
            if made is not None:
                self._moved[index] = made
                continue
            self._check_outside(operator, names)
            self._kept[id(operator)] = operator
            waiting += [int(each) for each in operator.inputs if each != ABSENT]

    def _check_outside(self, operator: Operator, names: Names | None) -> None:
        """Makes sure that an operator which is kept is none of those that compute the cell states of a fused op.

        Raises:
            Stands: if it is.
        """
        if names is None or not names.size or graph.operator_name(self._model, operator) not in ("ADD", "MUL"):
            return
        inner = int(self._inner[names].max())
        if inner >= 0:
            raise Stands(list(self._found)[inner], "a cell state before its last one is used behind it")

    def _made(self, names: Names) -> int | None:
        """A tensor made out of the outputs of fused ops; None where it has to be computed as before."""
        if self._is_owned(names):
            return self._owned(names)
        if (self._inner[names] < 0).any():
            return None
        return self._mover.moved(names)

    def _owned(self, names: Names) -> int | None:
        found = self._mover.moved(names)
        if found is not None:
            return found
        for axis in reversed(range(names.ndim)):
            owners = self._owners[np.moveaxis(names, axis, 0).reshape(names.shape[axis], -1)[:, 0]]
            ends = np.flatnonzero(np.diff(owners)) + 1
            if 0 < len(ends) < _MOST_PARTS:
                parts = [self._owned(part) for part in np.split(names, ends, axis)]
                if all(part is not None for part in parts):
                    return self._mover.joined([part for part in parts if part is not None], names, axis)
        return None

    def _fuse(self, layer: str) -> None:
        """Plans a fused op."""
        sequence = self._found[layer]
        batch_major = sequence.x.swapaxes(0, 1)
        source, time_major = self._mover.exactly(batch_major), False
        if source is None:
            source = self._mover.exactly(sequence.x)
            time_major = source is not None
        if source is None:
            source = self._input(layer, batch_major)
        given = []
        if sequence.h_before is not None or sequence.c_before is not None:
            for names, like in ((sequence.h_before, sequence.h[0]), (sequence.c_before, sequence.c[0])):
                given.append(self._start(layer, names, like.shape))
        h = sequence.h if time_major else sequence.h.swapaxes(0, 1)
        output = edit.add_tensor(self._subgraph, layer, h.shape)
        self._mover.know_sequence(output, h, 0 if time_major else 1)
        last = edit.add_tensor(self._subgraph, f"{layer}/c", sequence.c.shape[1:])
        self._mover.know(last, sequence.c[-1])
        placeholder = edit.new_operator(self._model, FUSED_OP, [source], [output, last])
        options = {"fusedActivationFunction": recurrent.ACTIVATIONS[sequence.activation], "timeMajor": time_major}
        fusion = graft.Fusion(
            subgraph=self._subgraph,
            operator=placeholder,
            layer=layer,
            op=FUSED_OP,
            options=options,
            weights=sequence.weights,
            packed=(),
            given=tuple(given),
            state_sizes=dict(zip(STATES, (sequence.h.shape[2], sequence.c.shape[2]), strict=True)),
            batch=sequence.h.shape[1],
            carry=False,
        )
        self._fusions.append(fusion)
        for index in (source, *given):
            self._need(index)

    def _input(self, layer: str, names: Names) -> int:
        """A tensor that holds the input of all steps, [batch, time, input size]."""
        found = self._owned(names) if self._is_owned(names) else self._mover.moved(names)
        if found is not None:
            return found
        steps = [self._mover.moved(np.ascontiguousarray(names[:, step])) for step in range(names.shape[1])]
        missing = [number for number, step in enumerate(steps) if step is None]
        if missing:
            raise Stands(layer, f"no tensor holds the input of its step {missing[0]} alone")
        return self._mover.packed([step for step in steps if step is not None], names, 1)

    def _start(self, layer: str, names: Names | None, shape: tuple[int, ...]) -> int:
        """A tensor that holds what a state starts from."""
        if names is None:
            return edit.add_constant(self._model, self._subgraph, f"{layer}/zeros", np.zeros(shape, np.float32))
        values = self._evaluation.elements.values(names)
        if values is not None:
            return edit.add_constant(self._model, self._subgraph, f"{layer}/start", values)
        found = self._owned(names) if self._is_owned(names) else self._mover.moved(names)
        if found is None:
            raise Stands(layer, "no tensor holds just the state that it starts from")
        return found
