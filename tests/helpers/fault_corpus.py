"""A corpus of small `.tflite` files that the stock tools make, each with one fault or a few, or none.

What is taken out of a file so that one fault remains, or put in, is done here on the schema's objects.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from lstm_toolkit.stock.converter import not_read_back, quiet_tensorflow
from tests.helpers.models import randomized

B = schema.BuiltinOperator


@dataclasses.dataclass(frozen=True)
class Case:
    """A file, the codes that it is to be found to have, and what its source computes on a batch of inputs."""

    name: str
    tflite: bytes
    codes: frozenset[str]
    source: Callable[[np.ndarray], np.ndarray] | None
    shape: tuple[int, ...]
    tolerance: float = 1e-5


def stock(model: Any, *, holder: Any = None, **settings: Any) -> bytes:
    """The file that TensorFlow's converter makes of a Keras model, from what holds its variables."""
    import tensorflow as tf

    # The same graph as by way of `from_keras_model`, without tracing every layer for a SavedModel, which takes seconds.
    spec = tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype)
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(spec)
    if holder is None:
        holder = tf.Module()
        holder.held = [each if isinstance(each, tf.Variable) else each.value for each in model.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], holder)
    for name, value in settings.items():
        setattr(converter, name, value)
    with quiet_tensorflow(), not_read_back():
        return converter.convert()


def within_range(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal random inputs without the outliers that no calibration set of some dozen samples has seen."""
    return random.standard_normal(shape).clip(-2, 2).astype(np.float32)


def stock_int8(model: Any) -> bytes:
    import tensorflow as tf

    random = np.random.default_rng(5)
    shape = tuple(model.inputs[0].shape)
    samples = [[within_range(random, shape)] for _ in range(40)]
    return stock(model, optimizations=[tf.lite.Optimize.DEFAULT], representative_dataset=lambda: iter(samples))


def quantized(tflite: bytes, shape: tuple[int, ...]) -> bytes:
    """Quantizes a file with fused LSTMs to int8 with TensorFlow's own calibrator and quantizer."""
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    def add_intermediates(model: Any) -> None:
        graph = model.subgraphs[0]
        for op in lstms(model):
            op.intermediates = []
            for number in range(5):
                tensor = schema.TensorT()
                tensor.name, tensor.shape = f"intermediate_{number}".encode(), [0]
                tensor.type, tensor.buffer = schema.TensorType.FLOAT32, 0
                graph.tensors.append(tensor)
                op.intermediates.append(len(graph.tensors) - 1)

    random = np.random.default_rng(6)
    samples = [[within_range(random, shape)] for _ in range(40)]
    with quiet_tensorflow():
        calibrated = Calibrator(edited(tflite, add_intermediates)).calibrate(lambda: iter(samples))
        return mlir_quantize(calibrated)


def edited(tflite: bytes, edit: Callable[[Any], None]) -> bytes:
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite))
    model.description = b"edited"
    edit(model)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def lstms(model: Any) -> list[Any]:
    codes = [flatbuffer_utils.get_builtin_code_from_operator_code(code) for code in model.operatorCodes]
    kinds = (B.UNIDIRECTIONAL_SEQUENCE_LSTM, B.BIDIRECTIONAL_SEQUENCE_LSTM, B.LSTM)
    return [op for op in model.subgraphs[0].operators if codes[op.opcodeIndex] in kinds]


def without_clip(model: Any) -> None:
    for op in lstms(model):
        op.builtinOptions.cellClip = 0.0


def with_reset(model: Any) -> None:
    """Puts a ZEROS_LIKE of each state, as both input and output, before everything else."""
    graph = model.subgraphs[0]
    for index in [index for op in lstms(model) for index in op.inputs if graph.tensors[index].isVariable]:
        graph.operators.insert(0, operator(model, B.ZEROS_LIKE, [index], [index]))


def operator(model: Any, builtin: int, inputs: Sequence[int], outputs: Sequence[int]) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
    model.operatorCodes.append(code)
    op = schema.OperatorT()
    op.opcodeIndex, op.inputs, op.outputs = len(model.operatorCodes) - 1, list(inputs), list(outputs)
    return op


def constant(model: Any, values: np.ndarray) -> int:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = b"constant", list(values.shape), len(model.buffers) - 1
    tensor.type = schema.TensorType.INT32 if values.dtype == np.int32 else schema.TensorType.FLOAT32
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


SET_ONCE = ("MUL", "RESHAPE", "TILE", "GATHER", "STRIDED_SLICE", "CONCATENATION")
"""Ops that are evaluated at allocation where all they take is constant."""


def set_once_by(name: str, values: Sequence[np.ndarray] = ()) -> Callable[[Any], None]:
    """Copies given values, or zeros, into each state by an op that is evaluated at allocation."""

    def edit(model: Any) -> None:
        graph = model.subgraphs[0]
        taken = [index for op in lstms(model) for index in op.inputs if index >= 0]
        for number, index in enumerate(index for index in taken if graph.tensors[index].isVariable):
            given = values[number] if len(values) else np.zeros(graph.tensors[index].shape, np.float32)
            rows = np.arange(len(given), dtype=np.int32)
            others = {
                "MUL": [np.ones_like(given)],
                "RESHAPE": [np.array(given.shape, np.int32)],
                "TILE": [np.array([1, 1], np.int32)],
                "GATHER": [rows],
                "STRIDED_SLICE": [np.array(each, np.int32) for each in ([0, 0], given.shape, [1, 1])],
                "CONCATENATION": [given[1:]],
            }[name]
            first = given[:1] if name == "CONCATENATION" else given
            inputs = [constant(model, each) for each in (first, *others)]
            op = operator(model, getattr(B, name), inputs, [index])
            options = f"{name.title().replace('_', '')}Options"
            op.builtinOptionsType, op.builtinOptions = (
                getattr(schema.BuiltinOptions, options),
                getattr(schema, options + "T")(),
            )
            graph.operators.insert(0, op)

    return edit


def without_shapes(model: Any) -> None:
    """Leaves the shapes of the LSTMs' outputs to the runtime, as LiteRT's own test files do."""
    for op in lstms(model):
        for index in op.outputs:
            tensor = model.subgraphs[0].tensors[index]
            tensor.shape, tensor.shapeSignature, tensor.hasRank = [], None, False


def as_custom_op(model: Any) -> None:
    """Makes the LSTMs custom ops that have the name of the builtin."""
    for code in model.operatorCodes:
        if code.builtinCode == B.UNIDIRECTIONAL_SEQUENCE_LSTM:
            code.builtinCode = code.deprecatedBuiltinCode = B.CUSTOM
            code.customCode = b"UNIDIRECTIONAL_SEQUENCE_LSTM"


def open_batch(model: Any) -> None:
    graph = model.subgraphs[0]
    for index in {int(op.inputs[0]) for op in lstms(model)} | {int(index) for index in graph.inputs}:
        tensor = graph.tensors[index]
        tensor.shapeSignature = [-1, *list(tensor.shape)[1:]]


def without_activation(model: Any) -> None:
    for op in lstms(model):
        op.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.NONE


def both(*edits: Callable[[Any], None]) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        for each in edits:
            each(model)

    return edit


KERAS_2 = ("sequence", "last", "few units", "stacked", "backwards", "both ways", "sum")
VARIANTS = ("as it is", "leaks", "clips", "mended by hand")
NAMES = (
    *(f"keras 2, {form}, {variant}" for form in KERAS_2 for variant in VARIANTS),
    *(f"set once by {op}" for op in SET_ONCE),
    *("open batch", "no activation", "no stored shapes", "custom op", "shared", "shared, no clip"),
    *(f"float16, {form}" for form in ("stacked", "both ways", "shared", "given states")),
    *("one step", "one step, float16"),
    *(f"keras 3, {form}" for form in ("loop", "loop, last", "two loops", "unrolled", "loop of a GRU", "no recurrence")),
    *(
        "keras 3, flex",
        "keras 3, unset variables",
        "toolkit",
        "toolkit, carried and split",
        "toolkit, clipped",
        "joint outputs",
    ),
    *(f"int8, {form}" for form in ("one way", "both ways", "sum")),
)
"""Names of all cases, known before TensorFlow is loaded."""


def corpus() -> dict[str, Case]:
    """All cases by name. Batch, time, input size and units differ, and differ between the cases."""
    cases = [*_of_keras_2(), *_shared(), *_float16(), *_one_step(), *_of_keras_3(), *_of_the_toolkit(), *_int8()]
    return {case.name: case for case in cases}


def keras_2_models(names: Sequence[str] = KERAS_2) -> dict[str, tuple[Any, tuple[int, ...]]]:
    import tf_keras

    layers = tf_keras.layers
    forms = {
        "sequence": ((2, 5, 3), [layers.LSTM(4, return_sequences=True)]),
        "last": ((1, 6, 2), [layers.LSTM(5), layers.Dense(3)]),
        "few units": ((3, 4, 5), [layers.LSTM(2, return_sequences=True)]),
        "stacked": ((2, 7, 3), [layers.LSTM(4, return_sequences=True), layers.LSTM(6)]),
        "backwards": ((2, 4, 3), [layers.LSTM(5, return_sequences=True, go_backwards=True)]),
        "both ways": ((1, 5, 4), [layers.Bidirectional(layers.LSTM(3, return_sequences=True))]),
        "sum": ((2, 6, 3), [layers.Bidirectional(layers.LSTM(4, return_sequences=True), merge_mode="sum")]),
    }
    return {
        name: (
            randomized(tf_keras.Sequential([tf_keras.Input(shape[1:], batch_size=shape[0]), *stack]), seed, 0.5),
            shape,
        )
        for seed, (name, (shape, stack)) in enumerate(forms.items())
        if name in names
    }


def _numpy(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.asarray(model(x, training=False))


def _of_keras_2() -> list[Case]:
    cases = []
    for name, (model, shape) in keras_2_models().items():
        file, halves = stock(model), {"split-halves"} if name in ("both ways", "sum") else set()
        edits = (lambda _: None, without_clip, with_reset, both(without_clip, with_reset))
        faults: tuple[set[str], ...] = ({"cell-clip", "state-leak"}, {"state-leak"}, {"cell-clip"}, set())
        for suffix, edit, codes in zip(VARIANTS, edits, faults, strict=True):
            found = frozenset(codes | halves)
            cases.append(Case(f"keras 2, {name}, {suffix}", edited(file, edit), found, _numpy(model), shape))
    model, shape = keras_2_models()["sequence"]
    file = edited(stock(model), without_clip)
    for name in SET_ONCE:
        once = edited(file, set_once_by(name))
        cases.append(Case(f"set once by {name}", once, frozenset({"state-set-once"}), _numpy(model), shape))
    bare = edited(file, without_shapes)
    file = edited(file, with_reset)
    cases.append(Case("open batch", edited(file, open_batch), frozenset({"open-batch"}), None, shape))
    cases.append(Case("no activation", edited(file, without_activation), frozenset({"no-activation"}), None, shape))
    cases.append(Case("no stored shapes", bare, frozenset({"state-leak"}), _numpy(model), shape))
    return [*cases, Case("custom op", edited(file, as_custom_op), frozenset(), None, shape)]


def sharing_model() -> Any:
    """One unit and a recurrent kernel of zeros, which the converter merges with the state of zeros."""
    import tf_keras

    model = tf_keras.Sequential([tf_keras.Input((5, 3), batch_size=1), tf_keras.layers.LSTM(1, return_sequences=True)])
    kernel, recurrent, bias = randomized(model, 8, 0.5).get_weights()
    model.set_weights([kernel, np.zeros_like(recurrent), bias])
    return model


def _shared() -> list[Case]:
    model = sharing_model()
    file = stock(model)
    as_it_is = Case(
        "shared",
        edited(file, lambda _: None),
        frozenset({"shared-state", "cell-clip", "state-leak"}),
        _numpy(model),
        (1, 5, 3),
    )
    leaking = dataclasses.replace(
        as_it_is,
        name="shared, no clip",
        tflite=edited(file, without_clip),
        codes=frozenset({"shared-state", "state-leak"}),
    )
    return [as_it_is, leaking]


def stock_float16(model: Any) -> bytes:
    import tensorflow as tf

    specification = tf.lite.TargetSpec(supported_types=[tf.float16])
    return stock(model, optimizations=[tf.lite.Optimize.DEFAULT], target_spec=specification)


def with_given_states() -> Any:
    """A tf_keras model whose LSTM starts from states that are constants other than zero."""
    import tensorflow as tf
    import tf_keras

    random = np.random.default_rng(31)
    states = [tf.constant(random.standard_normal((2, 4)), tf.float32) for _ in range(2)]
    x = tf_keras.Input((6, 3), batch_size=2)
    return randomized(tf_keras.Model(x, tf_keras.layers.LSTM(4)(x, initial_state=states)), 32, 0.5)


def _float16() -> list[Case]:
    """Stored as float16, a state is what a DEQUANTIZE makes of a constant, at the first call alone."""
    keras_2 = keras_2_models()
    forms = {
        "stacked": (*keras_2["stacked"], {"state-leak"}),
        "both ways": (*keras_2["both ways"], {"state-leak", "split-halves"}),
        "shared": (sharing_model(), (1, 5, 3), {"state-leak", "shared-state"}),
        "given states": (with_given_states(), (2, 6, 3), {"state-set-once"}),
    }
    return [
        Case(f"float16, {name}", stock_float16(model), frozenset({"cell-clip", *codes}), _numpy(model), shape, 2e-3)
        for name, (model, shape, codes) in forms.items()
    ]


def one_step_model() -> Any:
    """A tf_keras model that takes one step a call, without a clip that could matter."""
    import tf_keras

    layers = [tf_keras.layers.LSTM(4, return_sequences=True), tf_keras.layers.LSTM(5)]
    return randomized(tf_keras.Sequential([tf_keras.Input((1, 3), batch_size=2), *layers]), 33, 0.5)


def _one_step() -> list[Case]:
    model = one_step_model()
    files = {"one step": stock(model), "one step, float16": stock_float16(model)}
    return [
        Case(name, edited(file, without_clip), frozenset({"stream"}), None, (2, 1, 3)) for name, file in files.items()
    ]


def _of_keras_3() -> list[Case]:
    import keras
    import tensorflow as tf

    layers = keras.layers
    forms = {
        "loop": ((2, 5, 3), [layers.LSTM(4, return_sequences=True)], {"loop-lstm"}),
        "loop, last": ((1, 6, 2), [layers.LSTM(3), layers.Dense(2)], {"loop-lstm"}),
        "two loops": ((3, 4, 2), [layers.LSTM(5, return_sequences=True), layers.LSTM(6)], {"loop-lstm"}),
        "unrolled": ((2, 4, 3), [layers.LSTM(5, unroll=True)], {"unrolled-lstm"}),
        "loop of a GRU": ((2, 5, 3), [layers.GRU(4)], set()),
        "no recurrence": ((2, 5, 3), [layers.Dense(4, activation="tanh"), layers.Flatten()], set()),
    }
    cases = []
    for seed, (name, (shape, stack, codes)) in enumerate(forms.items()):
        model = randomized(keras.Sequential([keras.Input(shape[1:], batch_size=shape[0]), *stack]), 20 + seed, 0.5)
        source = None if name == "unrolled" else _numpy(model)
        cases.append(Case(f"keras 3, {name}", stock(model), frozenset(codes), source, shape))
    flexible = randomized(keras.Sequential([keras.Input((5, 3)), layers.LSTM(4)]), 30, 0.5)
    ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    file = stock(flexible, target_spec=tf.lite.TargetSpec(supported_ops=ops))
    cases.append(Case("keras 3, flex", file, frozenset({"flex-op", "loop-lstm"}), None, (1, 5, 3)))
    model = unset_model()
    unset = stock(model, holder=model)
    return [*cases, Case("keras 3, unset variables", unset, frozenset({"unset-variable"}), None, (2, 5, 3))]


def unset_model() -> Any:
    """A Keras 3 model; given as what holds the variables, it makes TensorFlow's converter leave them unset."""
    import keras

    layers = [keras.Input((5, 3), batch_size=2), keras.layers.LSTM(4), keras.layers.Dense(3)]
    return randomized(keras.Sequential(layers), 34, 0.5)


def _of_the_toolkit() -> list[Case]:
    """Files of lstm_toolkit are without findings, also where they carry, clip or stay two ops; edited ones are not."""
    import keras

    import lstm_toolkit as lt

    shape = (2, 5, 3)
    model = randomized(
        keras.Sequential(
            [
                keras.Input(shape[1:], batch_size=shape[0]),
                keras.layers.Bidirectional(keras.layers.LSTM(4, return_sequences=True)),
            ]
        ),
        40,
        0.5,
    )

    def joint(parsed: Any) -> None:
        graph = parsed.subgraphs[0]
        (op,) = lstms(parsed)
        join = next(each for each in graph.operators if list(each.inputs) == list(op.outputs))
        op.outputs, op.builtinOptions.mergeOutputs = list(join.outputs), True
        graph.operators.remove(join)

    file = lt.convert(model).tflite
    carried = lt.convert(model, state="carry", bidirectional="split").tflite
    clipped = lt.convert(lt.lingvo.RNN(lt.lingvo.LSTMCellSimple(num_input_nodes=3, num_output_nodes=4)), time_steps=5)
    return [
        Case("toolkit", file, frozenset(), _numpy(model), shape),
        Case("toolkit, carried and split", carried, frozenset(), None, shape),
        Case("toolkit, clipped", clipped.tflite, frozenset(), None, (1, 5, 3)),
        Case("joint outputs", edited(file, joint), frozenset({"joint-outputs"}), _numpy(model), shape),
    ]


def _int8() -> list[Case]:
    import tf_keras

    layers = tf_keras.layers
    leaks = {"cell-clip", "state-leak", "calibrated-on-leak"}
    cases = []
    for name, layer, codes in (
        ("one way", layers.LSTM(6, return_sequences=True), leaks),
        ("both ways", layers.Bidirectional(layers.LSTM(6, return_sequences=True)), leaks | {"int8-scales"}),
        ("sum", layers.Bidirectional(layers.LSTM(5, return_sequences=True), merge_mode="sum"), leaks),
    ):
        shape = (1, 9, 4)
        model = randomized(tf_keras.Sequential([tf_keras.Input(shape[1:], batch_size=1), layer]), 51, 0.5)
        cases.append(Case(f"int8, {name}", stock_int8(model), frozenset(codes), _numpy(model), shape, 0.06))
    return cases
