"""Pass: float ops become int16 ops with int8 weights, wherever both runtimes have an int16 kernel.

    before  [FULLY_CONNECTED: float x, W, b] [ADD] [LOGISTIC] [RSQRT] ...
    after   [QUANTIZE: x to int16] [FULLY_CONNECTED: int16, int8 W by channel, int64 b] [ADD] [LOGISTIC] [DEQUANTIZE]
            [RSQRT] ...

    before  [GATHER: float rows of a table]
    after   [GATHER: int8 rows] [QUANTIZE: to int16, by a whole number]

What has no such kernel stays float between a DEQUANTIZE and a QUANTIZE. What an int8 op gives or takes is rescaled to
or from int16 by one QUANTIZE. LiteRT and TensorFlow Lite Micro give the same numbers, but for a rare product near the
middle of two results, which their MUL and QUANTIZE round differently.

Another op is added by a `Rule` in `rules.RULES`; the ranges of its tensors come by their names.
"""

import copy
import math
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.passes.int16 import weights
from lstm_toolkit.passes.int16.rules import UNIT, Rule, Scales, data_of, floats_of, rule_of
from lstm_toolkit.passes.int16.scales import LARGEST, Chosen, Groups, Range
from lstm_toolkit.passes.int16.weights import Moments
from lstm_toolkit.tflite import edit, graph
from lstm_toolkit.tflite.types import Model, Operator, Subgraph
from lstm_toolkit.weights.operands import ABSENT, SHUT_GATE

FLOAT, INT16 = schema.TensorType.FLOAT32, schema.TensorType.INT16
INT8 = schema.TensorType.INT8


def to_int16(
    model: Model,
    ranges: Mapping[str, Range],
    moments: Moments = MappingProxyType({}),
    *,
    is_wanted: Callable[[Operator], bool] = lambda _: True,
) -> list[Operator]:
    """Gives the float ops of a `ModelT` that have one their int16 form, in place.

    Args:
        model: the file; shapes fixed.
        ranges: for the name of each float tensor that a wanted op takes or gives and that is no constant, what it
            reaches. A tensor of a step of a layer has its name in all steps (`OpBuilder.step`).
        moments: of what ops with weights take, as far as they are known.
        is_wanted: whether an op is to become int16.

    Returns:
        The wanted ops that stay float.
    """
    chosen: Chosen = []
    left = []
    for number, subgraph in enumerate(model.subgraphs):
        for operator in filter(is_wanted, subgraph.operators):
            rule = rule_of(model, subgraph, operator)
            if rule is not None:
                chosen.append((number, operator, rule))
            elif floats_of(subgraph, [*operator.inputs, *operator.outputs]) and not _is_edge(model, operator):
                left.append(operator)
    for number, operator, rule in chosen:
        _with_own_constants(model, model.subgraphs[number], operator, rule)
    groups = Groups(model, chosen, {**ranges, **_ranges_of_tables(model, chosen)})
    rules = {id(operator): rule for _, operator, rule in chosen}
    rewriters = [_Rewriter(model, number, rules, groups, moments) for number in range(len(model.subgraphs))]
    for each in rewriters:
        each.rewrite()
    return left


def _is_edge(model: Model, operator: Operator) -> bool:
    return graph.operator_name(model, operator) in ("QUANTIZE", "DEQUANTIZE")


def _ranges_of_tables(model: Model, chosen: Chosen) -> dict[str, Range]:
    """What can be taken out of each table, by the name of the result: more than some samples take."""
    found = {}
    for number, operator, rule in chosen:
        tensors = model.subgraphs[number].tensors
        values = graph.float_constant(model, tensors[operator.inputs[0]]) if rule.is_table else None
        if values is not None:
            ends = float(values.min(initial=0.0)), float(values.max(initial=0.0))
            found[graph.text(tensors[operator.outputs[0]].name)] = ends
    return found


def _with_own_constants(model: Model, subgraph: Subgraph, operator: Operator, rule: Rule) -> None:
    """Gives an op tensors of its own for the constants among its data, since each may need another scale."""
    data = data_of(subgraph, operator, rule)
    inputs = list(operator.inputs)
    for place, index in enumerate(inputs):
        if index in data and graph.float_constant(model, subgraph.tensors[index]) is not None:
            subgraph.tensors.append(copy.copy(subgraph.tensors[index]))
            inputs[place] = len(subgraph.tensors) - 1
    operator.inputs = inputs


class _Rewriter:
    """Writes the ops of one subgraph anew."""

    def __init__(self, model: Model, number: int, rules: Mapping[int, Rule], groups: Groups, moments: Moments) -> None:
        self._model, self._number, self._rules, self._groups, self._moments = model, number, rules, groups, moments
        self._subgraph = model.subgraphs[number]
        self._is_main = number == 0
        producers = graph.producers(self._subgraph)
        self._producers = producers
        self._loop_inputs: Collection[int] = () if self._is_main else set(map(int, self._subgraph.inputs))
        self._operators: list[Operator] = []
        self._as_int16: dict[int, int] = {}
        self._as_float: dict[int, int] = {}
        self._constants: dict[tuple[Any, ...], int] = {}
        self._channel_scales: dict[tuple[Any, ...], npt.NDArray[np.float64]] = {}

    def rewrite(self) -> None:
        subgraph = self._subgraph
        floats = {index for index in range(len(subgraph.tensors)) if subgraph.tensors[index].type == FLOAT}
        self._computed = {
            int(index) for op in subgraph.operators if id(op) in self._rules for index in op.outputs if index in floats
        } | {index for index in self._loop_inputs if index in floats and self._is_loop_variable}
        for index in self._loop_inputs:
            if index in self._computed:
                self._set_scale(index)
        for operator in subgraph.operators:
            rule = self._rules.get(id(operator))
            if rule is None:
                self._keep(operator)
            else:
                self._convert(operator, rule)
        self._finish_outputs()
        subgraph.operators = self._operators

    @property
    def _is_loop_variable(self) -> bool:
        return any(
            self._number in graph.called_subgraphs(op)
            for each in self._model.subgraphs
            for op in each.operators
            if id(op) in self._rules
        )

    def _add(self, name: str, inputs: list[int], outputs: list[int]) -> None:
        self._operators.append(edit.new_operator(self._model, name, inputs, outputs))

    def _set_scale(self, index: int, scale: float | None = None) -> None:
        tensor = self._subgraph.tensors[index]
        tensor.type, tensor.quantization = INT16, edit.scaled(scale or self._groups.scale((self._number, index)))

    def _new(self, index: int, suffix: str, scale: float) -> int:
        return edit.like(self._subgraph, index, suffix, dtype=INT16, quantization=edit.scaled(scale))

    def _keep(self, operator: Operator) -> None:
        """Keeps an op; what it takes from int16 ops becomes float before, or is rescaled for a QUANTIZE."""
        is_quantize = graph.operator_name(self._model, operator) == "QUANTIZE"
        operator.inputs = [
            self._float(int(index)) if index in self._computed and not is_quantize else index
            for index in operator.inputs
        ]
        self._operators.append(operator)

    def _float(self, index: int) -> int:
        if index not in self._as_float:
            self._as_float[index] = edit.like(self._subgraph, index, "float", dtype=FLOAT)
            self._add("DEQUANTIZE", [index], [self._as_float[index]])
        return self._as_float[index]

    def _convert(self, operator: Operator, rule: Rule) -> None:
        data = data_of(self._subgraph, operator, rule)
        data += [int(index) for index in list(operator.inputs)[slice(*rule.data)] if index in self._computed]
        inputs = list(operator.inputs)
        for place in range(len(inputs))[slice(*rule.data)]:
            if inputs[place] in data:
                inputs[place] = self._int16(int(inputs[place]))
        outputs = [int(index) for index in operator.outputs if index in self._computed]
        if rule.scales is Scales.JOINED:
            scale = self._groups.scale((self._number, outputs[0]))
            inputs = [self._rescaled(index, scale) for index in inputs]
        operator.inputs = inputs
        after = []
        for index in outputs:
            self._set_scale(index)
            if rule.scales is Scales.UNIT and self._groups.scale((self._number, index)) != UNIT:
                unit = self._new(index, "unit", UNIT)
                operator.outputs = [unit]
                after.append(([unit], [index]))
        if rule.channels is not None:
            self._convert_weights(operator, rule.channels)
        if rule.is_table:
            taken = self._taken_from_table(operator)
            after.append(([taken], list(operator.outputs)))
            operator.outputs = [taken]
        if hasattr(operator.builtinOptions, "potScaleInt16"):
            operator.builtinOptions.potScaleInt16 = False
        self._operators.append(operator)
        for source, target in after:
            self._add("QUANTIZE", source, target)

    def _int16(self, index: int) -> int:
        """The int16 tensor of what an int16 op takes."""
        if index in self._computed:
            return index
        scale = self._groups.scale((self._number, index))
        values = graph.float_constant(self._model, self._subgraph.tensors[index])
        if values is not None:
            stored = np.clip(np.rint(values.astype(np.float64) / scale), -LARGEST, LARGEST).astype(np.int16)
            return self._constant(index, stored, scale)
        if index not in self._as_int16:
            producer = self._producers.get(index)
            source = index
            if producer is not None and graph.operator_name(self._model, producer) == "DEQUANTIZE":
                source = int(producer.inputs[0])
            self._as_int16[index] = self._new(index, "int16", scale)
            self._add("QUANTIZE", [source], [self._as_int16[index]])
        return self._as_int16[index]

    def _rescaled(self, index: int, scale: float) -> int:
        if graph.scale_of(self._subgraph.tensors[index])[0] == np.float32(scale):
            return index
        rescaled = self._new(index, "rescaled", scale)
        self._add("QUANTIZE", [index], [rescaled])
        return rescaled

    def _constant(self, index: int, stored: npt.NDArray[Any], scale: Any) -> int:
        key = (stored.dtype.str, stored.shape, stored.tobytes(), np.asarray(scale).tobytes())
        if key not in self._constants:
            name = graph.text(self._subgraph.tensors[index].name)
            new = edit.add_constant(self._model, self._subgraph, name, stored)
            self._subgraph.tensors[new].quantization = edit.scaled(scale)
            self._constants[key] = new
        return self._constants[key]

    def _convert_weights(self, operator: Operator, axis: int) -> None:
        tensors = self._subgraph.tensors
        _, kernel, *bias = operator.inputs
        values = np.moveaxis(self._values(kernel), axis, 0)
        has_bias = bool(bias) and bias[0] != ABSENT
        added = self._values(bias[0]) if has_bias else np.zeros(len(values), np.float32)
        scale_in, scale_out = (graph.scale_of(tensors[index])[0] for index in (operator.inputs[0], operator.outputs[0]))
        name = graph.text(tensors[operator.outputs[0]].name)
        if np.abs(values).max(initial=0.0) >= SHUT_GATE:
            raise ConversionError(
                f"{name!r} cannot be computed in integers: it shuts the gates of its layer at padded steps by weights "
                'of 1e4, beside which the others vanish in 8 bits; pass quantization="float16", or convert without '
                "the mask"
            )
        key = (name, scale_in, scale_out, values.tobytes(), added.tobytes())
        if key not in self._channel_scales:
            moment = self._moments.get((name, values.shape[-1]))
            self._channel_scales[key] = weights.channel_scales(values, added, scale_in, scale_out, moment)
        scales = self._channel_scales[key]
        stored, stored_bias = weights.quantized(values, added, scale_in, scales)
        new = self._constant(kernel, np.ascontiguousarray(np.moveaxis(stored, 0, axis)), scales)
        tensors[new].quantization.quantizedDimension = axis
        source = bias[0] if has_bias else kernel
        operator.inputs = [operator.inputs[0], new, self._constant(source, stored_bias, scale_in * scales)]

    def _taken_from_table(self, operator: Operator) -> int:
        """Stores the table of an op in int8; returns what it takes out of it, whose scale is a multiple of int16's."""
        (output,), table = operator.outputs, int(operator.inputs[0])
        values, step = self._values(table), self._groups.scale((self._number, output))
        scale = step * max(math.ceil(np.abs(values).max(initial=0.0) / (weights.LARGEST * step)), 1)
        operator.inputs[0] = self._constant(table, np.rint(values / scale).astype(np.int8), scale)
        return edit.like(self._subgraph, output, "narrow", dtype=INT8, quantization=edit.scaled(scale))

    def _values(self, index: int) -> npt.NDArray[np.float32]:
        values = graph.float_constant(self._model, self._subgraph.tensors[index])
        # `rule_of` has seen to it.
        assert values is not None
        return values

    def _finish_outputs(self) -> None:
        """Makes the outputs of the file float again, and those of a loop's body int16."""
        outputs = []
        for index in map(int, self._subgraph.outputs):
            is_float = self._subgraph.tensors[index].type == FLOAT
            if self._is_main and index in self._computed:
                index = self._float(index)
            elif self._is_loop_variable and is_float:
                index = self._int16(index)
            outputs.append(index)
        moved = dict(zip(map(int, self._subgraph.outputs), outputs, strict=True))
        self._subgraph.outputs = outputs
        for signature in self._model.signatureDefs or []:
            if signature.subgraphIndex == self._number:
                for entry in signature.outputs:
                    entry.tensorIndex = moved.get(entry.tensorIndex, entry.tensorIndex)
