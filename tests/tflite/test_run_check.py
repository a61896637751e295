"""Files that end the process that runs them: each is refused with its reason, and a file that nearly is one runs.

Each file is a whole one after one edit.
"""

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

import lstm_toolkit
from lstm_toolkit import Runner
from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.tflite import files
from lstm_toolkit.tflite.run_check import check_runnable
from lstm_toolkit.weights.operands import OPERANDS_OF
from tests.helpers import hostile_files
from tests.helpers.hostile_files import edited_sum
from tests.helpers.models import randomized

T, B = schema.TensorType, schema.BuiltinOperator
X = np.arange(6.0).reshape(2, 3)


def as_int8(model, scale=0.5, zero_point=3):
    model.buffers[1].data = model.buffers[1].data[:6]
    for tensor in model.subgraphs[0].tensors:
        tensor.type = T.INT8
        tensor.quantization = schema.QuantizationParametersT(scale=[scale], zeroPoint=[zero_point])


def quantized(**options):
    return edited_sum(lambda model: as_int8(model, **options))


def edited(data, edit):
    model = flatbuffer_utils.read_model_from_bytearray(data)
    edit(model, model.subgraphs[0])
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def output(**fields):
    """`sum_file` whose output has other fields."""
    return edited_sum(lambda model: vars(model.subgraphs[0].tensors[2]).update(fields))


def other_op(code, inputs, options=None, kind=0, tensors=()):
    """`sum_file` with another op, and further constants of integers."""

    def edit(model):
        main = model.subgraphs[0]
        for number, values in enumerate(tensors):
            model.buffers.append(schema.BufferT(data=np.array(values, np.int32).view(np.uint8)))
            main.tensors.append(schema.TensorT(shape=[len(values)], type=T.INT32, buffer=2 + number, name=f"c{number}"))
        model.operatorCodes[0] = schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code)
        main.operators = [schema.OperatorT(inputs=inputs, outputs=[2], builtinOptions=options, builtinOptionsType=kind)]

    return edited_sum(edit)


def slice_with_offset(begin, size):
    options = schema.StridedSliceOptionsT(offset=True)
    constants = (begin, size, [1, 1])
    return other_op(B.STRIDED_SLICE, [0, 3, 4, 5], options, schema.BuiltinOptions.StridedSliceOptions, constants)


def loop(edit):
    return edited(hostile_files.endless(), lambda model, main: edit(model))


def conditional(type_):
    """An IF whose branches give float32, and its output another type or the same."""

    def edit(model):
        main = model.subgraphs[0]
        model.operatorCodes.append(schema.OperatorCodeT(builtinCode=B.IF, deprecatedBuiltinCode=B.IF))
        branch = schema.SubGraphT(tensors=main.tensors, inputs=[0], outputs=[2], operators=main.operators)
        model.subgraphs.append(branch)
        model.buffers.append(schema.BufferT(data=np.ones(1, np.uint8)))
        main.tensors = [
            *(schema.TensorT(shape=[2, 3], name=name, type=kind) for name, kind in (("x", T.FLOAT32), ("y", type_))),
            schema.TensorT(shape=[], type=T.BOOL, buffer=2, name="true"),
        ]
        options = schema.IfOptionsT(thenSubgraphIndex=1, elseSubgraphIndex=1)
        main.operators = [
            schema.OperatorT(
                opcodeIndex=1,
                inputs=[2, 0],
                outputs=[1],
                builtinOptions=options,
                builtinOptionsType=schema.BuiltinOptions.IfOptions,
            )
        ]
        main.outputs = [1]

    return edited_sum(edit)


NO_VALUES = "takes 'addend', which has no values and which nothing computes"
NOT_POSITIVE = "has a scale that is not a positive number below 1e"
KINDS = {
    "an input is missing": (
        lambda: other_op(B.FLOOR_DIV, [0]),
        r"operator 0 of subgraph 0, FLOOR_DIV, lacks an input: it has \[0\]",
    ),
    "an input is absent": (lambda: other_op(B.FLOOR_DIV, [0, -1]), r"lacks an input: it has \[0, -1\] and needs 2"),
    "the one input is absent": (lambda: other_op(B.TANH, [-1]), "TANH, lacks an input"),
    "no bias": (lambda: other_op(B.DEPTHWISE_CONV_2D, [0, 1]), r"DEPTHWISE_CONV_2D, .* needs 3"),
    "no values": (lambda: edited_sum(lambda model: model.buffers[1].__init__()), NO_VALUES),
    "a handle": (lambda: output(type=T.RESOURCE), "takes or gives a handle or strings, which it does not know"),
    "a string": (lambda: output(type=T.STRING), "takes or gives a handle or strings"),
    "a variable": (
        lambda: output(isVariable=True),
        "has the variable tensor 'y', which no operator keeps its state in",
    ),
    "no scales": (hostile_files.crashing, "has 'x' of int8 without a scale"),
    "scale 0": (lambda: quantized(scale=0.0), NOT_POSITIVE),
    "a scale below 0": (lambda: quantized(scale=-1.0), NOT_POSITIVE),
    "a scale of NaN": (lambda: quantized(scale=np.nan), NOT_POSITIVE),
    "a scale of infinity": (lambda: quantized(scale=np.inf), NOT_POSITIVE),
    "a scale that overflows": (lambda: quantized(scale=3.4e38), NOT_POSITIVE),
    "a subnormal scale": (lambda: quantized(scale=1e-45), NOT_POSITIVE),
    "a zero point": (lambda: quantized(zero_point=128), r"zero point beyond the range of int8: \[128\]"),
    "an offset below 0": (lambda: slice_with_offset([-1, 0], [1, 3]), r"STRIDED_SLICE, begins or ends beyond \[2, 3\]"),
    "an offset": (lambda: slice_with_offset([1, 1], [1, 3]), r"begins or ends beyond \[2, 3\]"),
    "a branch": (lambda: conditional(T.FLOAT64), "IF, calls a subgraph with inputs or outputs of other types"),
    "a body": (
        lambda: loop(lambda model: setattr(model.subgraphs[2].tensors[2], "type", T.INT64)),
        "WHILE, calls a subgraph with inputs or outputs of other types",
    ),
    "a condition": (
        lambda: loop(lambda model: setattr(model.subgraphs[1].tensors[1], "type", T.FLOAT32)),
        "WHILE, has a condition that gives no truth value",
    ),
    "a condition that nothing computes": (
        lambda: loop(lambda model: setattr(model.subgraphs[1].tensors[1], "buffer", 0)),
        r"subgraph 1 gives '.*', which has no values and nothing computes",
    ),
    "no number of outputs": (
        lambda: other_op(B.SPLIT, [1, 0]),
        "SPLIT, has 1 outputs and options for another number, or none",
    ),
    "what a condition takes": (
        lambda: loop(lambda model: setattr(model.subgraphs[1].tensors[0], "type", T.INT8)),
        "WHILE, has a condition with other inputs",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_crashes_is_refused(kind):
    make, reason = KINDS[kind]
    # Not a Runner: if it ran the file after all, this process would end.
    with pytest.raises(InvalidModelError, match=reason):
        files.require_runnable(make())


def test_what_nearly_crashes_runs():
    np.testing.assert_array_equal(Runner(conditional(T.FLOAT32))(X), X + 1)
    taken = np.zeros((2, 3), np.float32)
    taken[:1] = X[1:]
    np.testing.assert_array_equal(Runner(slice_with_offset([1, 0], [1, 3]))(X), X[1:])
    runner = Runner(quantized())
    addend = runner.dequantized({"y": np.frombuffer(np.ones((2, 3), np.float32).tobytes()[:6], np.int8).reshape(2, 3)})
    given = runner.dequantized(runner.outputs(**runner.quantized({"x": X})))
    np.testing.assert_array_equal(given["y"], np.clip(X + addend["y"], -65.5, 62))


@pytest.fixture(scope="module")
def lstms():
    """A float LSTM that carries its state, and the same as int8, as bytes."""
    model = randomized(keras.Sequential([keras.Input((4, 5), name="x"), keras.layers.LSTM(3)]))
    samples = np.random.default_rng(7).normal(size=(20, 1, 4, 5)).astype(np.float32)
    options = {"state": "carry", "verify": False}
    integer = lstm_toolkit.convert(model, quantization="int8", representative_dataset=samples, **options)
    return lstm_toolkit.convert(model, **options).tflite, integer.tflite


def lstm(main):
    return next(op for op in main.operators if len(op.inputs) > 20)


OPERANDS = {
    "the output": (lambda op: op.outputs[0], "has outputs or a state of another type than its input"),
    "h": (lambda op: op.inputs[18], "has outputs or a state of another type than its input"),
    "c": (lambda op: op.inputs[19], "has a bias or a cell state that is not float32, as its input is"),
    "a bias": (lambda op: op.inputs[13], "has a bias or a cell state that is not float32, as its input is"),
    "a weight": (lambda op: op.inputs[2], "has weights of several types"),
}


@pytest.mark.parametrize("operand", OPERANDS)
def test_operands_of_an_lstm(lstms, operand):
    place, reason = OPERANDS[operand]

    def edit(model, main):
        main.tensors[place(lstm(main))].type = T.INT8

    def widen(model, main):
        main.tensors[place(lstm(main))].type = T.FLOAT32

    with pytest.raises(InvalidModelError, match=f"UNIDIRECTIONAL_SEQUENCE_LSTM, {reason}"):
        Runner(edited(lstms[0], edit))
    with pytest.raises(InvalidModelError, match=r"UNIDIRECTIONAL_SEQUENCE_LSTM, has (operands|outputs|weights) "):
        Runner(edited(lstms[1], widen))


@pytest.mark.parametrize("operand", ["input_gate_bias", "input_to_input_weights"])
def test_bias_and_weights_of_an_input_gate(lstms, operand):
    def edit(_, main):
        lstm(main).inputs[OPERANDS_OF["LSTM"].index(operand)] = -1

    with pytest.raises(InvalidModelError, match="input gate with weights and no bias, or with a bias and no weights"):
        Runner(edited(lstms[0], edit))


def test_axes_that_a_recurrent_op_gets_and_the_file_does_not_say(lstms):
    """LiteRT works out the shapes of what ops compute, whatever is stored, and asserts on this one when it runs."""

    def edit(model, main):
        source = main.tensors[main.inputs[0]]
        source.shape = source.shapeSignature = [1, 4, 5, 5]

    for data in lstms:
        with pytest.raises(InvalidModelError, match=r"_LSTM, has an input and an output of \[4, 2|_LSTM, .*\[4, 3"):
            files.require_runnable(edited(data, edit))


def test_all_that_the_package_writes_passes(lstms):
    for data in lstms:
        check_runnable(flatbuffer_utils.read_model_from_bytearray(data))
