"""Puts fused ops and loops in the place of unrolled layers.

    before  [UNPACK: x -> x0, x1, ...] [FULLY_CONNECTED] [SPLIT] [LOGISTIC] ... [PACK: h0, h1, ... -> y]
    after   [UNIDIRECTIONAL_SEQUENCE_LSTM: x -> y]

The subgraph is built anew from its outputs backwards. What holds numbers of the layers' outputs is made out of the ops'
outputs, so that the operators of the steps are needed by nobody, and are left out.
"""

from collections.abc import Mapping

import numpy as np

from lstm_toolkit.passes.unrolled.elements import Names
from lstm_toolkit.passes.unrolled.evaluation import Evaluation
from lstm_toolkit.passes.unrolled.layers import LOOP, Place, op_of, put
from lstm_toolkit.passes.unrolled.moves import Mover
from lstm_toolkit.passes.unrolled.sequences import Departs, Sequence
from lstm_toolkit.tflite import edit, graph
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import ABSENT

_MOST_PARTS = 8


class Stands(Departs):
    """A layer that cannot leave its place.

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
            found: its recurrent layers, by their names.

        Raises:
            Stands: for a layer of which more is needed than its op computes, or whose input nobody holds.
        """
        self._model, self._subgraph, self._evaluation, self._found = model, subgraph, evaluation, found
        self._producers = graph.producers(subgraph)
        self._mover = Mover(model, subgraph)
        self._owners = np.full(evaluation.elements.count, -1, np.int16)
        self._inner = np.full(evaluation.elements.count, -1, np.int16)
        for number, sequence in enumerate(found.values()):
            self._owners[sequence.h] = number
            if sequence.c is not None:
                self._inner[sequence.c] = number
        self._kept: dict[int, Operator] = {}
        self._moved: dict[int, int] = {}
        self._places: list[Place] = []
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
        operators += [*self._mover.operators, *(place.operator for place in self._places)]
        for operator in operators:
            operator.inputs = [self._moved.get(int(index), int(index)) for index in operator.inputs]
        subgraph.operators = operators
        for index in dict.fromkeys(map(int, subgraph.outputs)):
            if index in self._moved:
                self._produce(index, self._moved[index])
        for place in self._places:
            put(self._model, self._found[place.layer], place)
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
        if any(names is not None for names in sequence.before):
            for names, of in zip(sequence.before, (sequence.h, sequence.c), strict=False):
                assert of is not None
                given.append(self._start(layer, names, of.shape[1:]))
        h = sequence.h if time_major else sequence.h.swapaxes(0, 1)
        op, outputs = op_of(sequence.cell), []
        # A loop gives its last state as well as the sequence; of an RNN's op that is the last step of the sequence.
        if sequence.c is not None or op == LOOP:
            state = sequence.h if sequence.c is None else sequence.c
            outputs = [edit.add_tensor(self._subgraph, f"{layer}/last", state.shape[1:])]
            self._mover.know(outputs[0], state[-1])
        outputs.insert(0, edit.add_tensor(self._subgraph, layer, h.shape))
        self._mover.know_sequence(outputs[0], h, 0 if time_major else 1)
        placeholder = edit.new_operator(self._model, op, [source, *given], outputs)
        self._places.append(Place(self._subgraph, placeholder, layer, time_major))
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
