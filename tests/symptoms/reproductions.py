"""Every symptom, made with the stock tools.

A reproduction writes the files that the entry's commands name into the folder that it runs in, and gives what the stock
tools said. Where a symptom is no message, its numbers are asserted here.
"""

import dataclasses
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.interpreter import Interpreter, OpResolverType

import lstm_toolkit
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.stock.worker import calibrate_elsewhere
from tests.helpers import fault_corpus
from tests.helpers.calls import assert_agrees, by_input, by_output, run_in_a_row
from tests.helpers.fault_corpus import stock
from tests.helpers.files import op_counts
from tests.helpers.models import randomized

FUSED = "UNIDIRECTIONAL_SEQUENCE_LSTM"
X = np.random.default_rng(3).normal(size=(1, 7, 5)).astype(np.float32)
K2, K3 = tf_keras.layers, keras.layers
SELECT = tf.lite.TargetSpec(supported_ops=[tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS])
INT16 = tf.lite.TargetSpec(supported_ops=[tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8])
SAMPLES = [np.clip(np.random.default_rng(n).normal(size=(1, 7, 5)), -2, 2).astype(np.float32) for n in range(40)]

Said = Callable[[], str]


@dataclasses.dataclass
class Made:
    """What a reproduction made.

    Attributes:
        check: asserts that the remedy worked, in the folder where it ran, given its names and its output.
        texts: what the stock tools said.
        names: for a remedy in Python.
    """

    check: Callable[[dict[str, Any], str], Any]
    texts: tuple[str, ...] = ()
    names: dict[str, Any] = dataclasses.field(default_factory=dict)


REPRODUCTIONS: dict[str, Callable[[Said], Made]] = {}


def reproduces(code: str) -> Callable[[Callable[[Said], Made]], Callable[[Said], Made]]:
    def enter(function: Callable[[Said], Made]) -> Callable[[Said], Made]:
        assert code not in REPRODUCTIONS
        REPRODUCTIONS[code] = function
        return function

    return enter


def keras_3(*layers: Any, batch: int | None = 1, time: int | None = 7) -> Any:
    return randomized(keras.Sequential([keras.Input((time, 5), batch_size=batch), *(layers or [K3.LSTM(6)])]))


def keras_2(*layers: Any, batch: int | None = 1, time: int | None = 7) -> Any:
    return randomized(tf_keras.Sequential([tf_keras.Input((time, 5), batch_size=batch), *(layers or [K2.LSTM(6)])]))


def saved(model: Any) -> Any:
    model.save("model.keras")
    return model


def written(tflite: bytes) -> bytes:
    Path("model.tflite").write_bytes(tflite)
    return tflite


def refused(function: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    with pytest.raises(Exception) as error:
        function(*arguments, **options)
    return str(error.value)


def interpreter(tflite: bytes, x: Any = None, *, resolver: Any = OpResolverType.AUTO) -> Any:
    made = Interpreter(model_content=tflite, experimental_op_resolver_type=resolver)
    (details,) = made.get_input_details()
    if x is not None and tuple(details["shape"]) != x.shape:
        made.resize_tensor_input(details["index"], x.shape)
    made.allocate_tensors()
    if x is not None:
        made.set_tensor(details["index"], x)
        made.invoke()
    return made


def output(tflite: bytes, x: Any) -> Any:
    made = interpreter(tflite, x)
    return made.get_tensor(made.get_output_details()[0]["index"])


def equals(model: Any, *inputs: Any, name: str = "model.tflite", fused: int | None = 1) -> Callable[..., None]:
    """A check: a file has so many fused ops, and is the model, several calls in a row, with and without XNNPACK."""

    def check(names: dict[str, Any], said: str) -> None:
        source, tflite = model or names["model"], Path(name).read_bytes()
        assert fused is None or op_counts(tflite)[FUSED] == fused
        given = list(inputs or (X,))
        calls = [[each * scale for each in given] for scale in (1.0, -0.5, 1.0)]
        wanted = [by_output(source(call[0] if len(call) == 1 else call)) for call in calls]
        assert_agrees(tflite, [by_input(tflite, call) for call in calls], wanted)

    return check


# Loading


@reproduces("time-major")
def time_major(said):
    model = keras_2()
    model.save("model.h5")
    return Made(equals(model), (refused(keras.saving.load_model, "model.h5"),))


@reproduces("batch-shape")
def batch_shape(said):
    model = saved(keras_3())
    return Made(equals(model), (refused(tf_keras.models.load_model, "model.keras"),))


@reproduces("saved-model")
def saved_model(said):
    model = keras_2()
    model.save("saved_model")

    def check(names, said):
        tflite = Path("model.tflite").read_bytes()
        assert op_counts(tflite)[FUSED] == 1
        np.testing.assert_allclose(output(tflite, X), model(X), atol=1e-5)

    return Made(check, (refused(keras.saving.load_model, "saved_model"),))


@reproduces("lambda")
def lambda_layer(said):
    model = saved(keras_3(K3.Lambda(lambda x: x * 2), K3.LSTM(6)))
    return Made(equals(model), (refused(keras.saving.load_model, "model.keras"),))


@reproduces("batch-input-shape")
def batch_input_shape(said):
    return Made(equals(None), (refused(K3.LSTM, 6, batch_input_shape=(1, 7, 5)),))


@reproduces("stateful-batch")
def stateful_batch(said):
    text = refused(keras_3, K3.LSTM(6, stateful=True), batch=None)
    return Made(equals(None, np.concatenate([X, -X])), (text,))


@reproduces("use-cudnn")
def use_cudnn(said):
    model = keras_3(K3.LSTM(6, use_cudnn=True, name="recurrent"))
    return Made(equals(None), (refused(model, X),), {"model": model})


# Converting


@reproduces("tensor-list-reserve")
def tensor_list_reserve(said):
    model = saved(keras_3(batch=None))
    text = refused(stock, model)
    return Made(equals(model), (text, said()))


@reproduces("flex-ops")
def flex_ops(said):
    model = saved(keras_3(batch=None))
    return Made(equals(model), (refused(interpreter, written(stock(model, target_spec=SELECT))),))


@reproduces("unresolved-custom-op")
def unresolved_custom_op(said):
    model = saved(keras_3(batch=None))
    tflite = written(stock(model, allow_custom_ops=True, _experimental_lower_tensor_list_ops=False))
    return Made(equals(model), (refused(interpreter, tflite),))


def is_loop(tflite: bytes) -> None:
    counts = op_counts(tflite)
    assert (counts["WHILE"], counts[FUSED]) == (1, 0)


@reproduces("while-instead-of-lstm")
def while_instead_of_lstm(said):
    model = keras_3()
    is_loop(written(stock(model)))
    assert op_counts(stock(keras_2()))[FUSED] == 1
    return Made(equals(model, name="mended.tflite"))


@reproduces("rnn-of-cells")
def rnn_of_cells(said):
    model = saved(keras_2(K2.RNN(K2.LSTMCell(6))))
    is_loop(written(stock(model)))
    return Made(equals(model))


@reproduces("states-in-and-out")
def states_in_and_out(said):
    inputs = [tf_keras.Input(shape, batch_size=1) for shape in ((7, 5), (6,), (6,))]
    outputs = K2.LSTM(6, return_sequences=True, return_state=True)(inputs[0], initial_state=inputs[1:])
    model = saved(randomized(tf_keras.Model(inputs, outputs)))
    holder = tf.Module()
    holder.held = model.variables
    specifications = [tf.TensorSpec(each.shape) for each in inputs]
    function = tf.function(lambda *given: model(given)).get_concrete_function(*specifications)
    is_loop(written(tf.lite.TFLiteConverter.from_concrete_functions([function], holder).convert()))
    states = np.random.default_rng(4).normal(size=(2, 1, 6)).astype(np.float32)
    return Made(equals(model, X, *states))


@reproduces("no-trackable")
def no_trackable(said):
    model = keras_2()
    function = tf.function(lambda x: model(x)).get_concrete_function(tf.TensorSpec([1, 7, 5]))
    is_loop(written(tf.lite.TFLiteConverter.from_concrete_functions([function]).convert()))
    assert op_counts(stock(model))[FUSED] == 1  # which passes what holds the variables
    return Made(equals(model), (said(),), {"model": model})


@reproduces("unset-variable")
def unset_variable(said):
    model = keras_3()
    return Made(equals(model), (refused(interpreter, written(stock(model, holder=model)), X),), {"model": model})


@reproduces("mlir-to-flatbuffer")
def mlir_to_flatbuffer(said):
    converters = (tf.lite.TFLiteConverter.from_keras_model(each) for each in (K2_UNBUILT(), K3_UNBUILT()))
    texts = tuple(refused(converter.convert) for converter in converters)
    return Made(equals(None), texts, {"model": K3_UNBUILT(), "tf": tf})


def K2_UNBUILT():
    return tf_keras.Sequential([K2.LSTM(6)])


def K3_UNBUILT():
    return keras.Sequential([K3.LSTM(6)])


@reproduces("unrolled")
def unrolled(said):
    short, long = (keras_3(K3.LSTM(6, unroll=True), time=time) for time in (4, 7))
    files = [stock(saved(model)) for model in (short, long)]
    assert [op_counts(each)["TANH"] for each in files] == [8, 14]
    assert op_counts(lstm_toolkit.repair(written(files[1])).tflite)[FUSED] == 1
    return Made(equals(long))


@reproduces("masks")
def masks(said):
    padded = X.copy()
    padded[:, 4:] = 0
    lstm = K2.LSTM(6)
    model = saved(keras_2(K2.Masking(), lstm))
    is_loop(written(stock(model)))
    without_mask = stock(tf_keras.Sequential([tf_keras.Input((7, 5), batch_size=1), lstm]))
    assert op_counts(without_mask)[FUSED] == 1
    assert np.abs(output(without_mask, padded) - model(padded).numpy()).max() > 0.1
    return Made(equals(model, padded))


@reproduces("stateful-variables")
def stateful_variables(said):
    model = saved(keras_3(K3.LSTM(6, stateful=True)))
    counts = op_counts(written(tf.lite.TFLiteConverter.from_keras_model(model).convert()))
    assert counts["VAR_HANDLE"]
    assert counts["ASSIGN_VARIABLE"]
    assert counts["CALL_ONCE"]
    return Made(equals(model), (refused(stock, keras_2(K2.LSTM(6, stateful=True))),))


@reproduces("gru")
def gru(said):
    model = saved(keras_3(K3.GRU(6)))
    is_loop(written(stock(model)))

    def check(names, said):
        equals(model, fused=0)(names, said)
        assert "WHILE" not in op_counts(Path("model.tflite").read_bytes())

    return Made(check)


# Quantizing


def is_near(model: Any, allowed: float) -> Callable[..., None]:
    """A check: an int8 file with a fused op is off by no more than a part of the largest output."""

    def check(names: dict[str, Any], said: str) -> None:
        assert error_of(Path("model.tflite").read_bytes(), model) < allowed

    return check


def error_of(tflite: bytes, model: Any) -> float:
    """The largest error on samples of which each is a first call, relative to the largest output."""
    wanted = [np.asarray(model(x)) for x in SAMPLES[:12]]
    found = [output(tflite, x) for x in SAMPLES[:12]]
    return float(max(np.abs(a - b).max() for a, b in zip(found, wanted, strict=True)) / np.abs(wanted).max())


@reproduces("calibrator-crash")
def calibrator_crash(said):
    """The stock calibrator runs in a process of its own here, which it ends."""
    model = keras_3()
    tflite = written(stock(model))
    with pytest.raises(ConversionError, match=r"ended its own process: .*(SIGSEGV|egmentation fault|signal 11)"):
        calibrate_elsewhere(tflite, [[each] for each in SAMPLES[:2]])
    return Made(is_near(model, 0.06), (), {"model": model, "samples": SAMPLES})


@reproduces("int16x8")
def int16x8(said):
    model = keras_2()
    options = {"optimizations": [tf.lite.Optimize.DEFAULT], "target_spec": INT16}
    text = refused(stock, model, representative_dataset=lambda: ([each] for each in SAMPLES[:9]), **options)
    written(stock(model))
    return Made(is_near(model, 0.06), (text,), {"model": model, "samples": SAMPLES})


@reproduces("int8-both-ways")
def int8_both_ways(said):
    model = keras_2(K2.Bidirectional(K2.LSTM(6, return_sequences=True)))
    options = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    tflite = written(stock(model, representative_dataset=lambda: ([each] for each in SAMPLES), **options))
    before = error_of(tflite, model)
    assert before > 0.12

    def check(names, said):
        assert error_of(Path("mended.tflite").read_bytes(), model) < before / 2

    return Made(check)


# Running


@reproduces("second-call")
def second_call(said):
    model = keras_2(K2.LSTM(6, return_sequences=True))
    tflite = written(stock(model))
    first, second = (next(iter(each.values())) for each in run_in_a_row(tflite, [by_input(tflite, [X])] * 2)[:2])
    assert np.abs(first - model(X).numpy()).max() < 1e-5
    assert np.abs(second - first).max() > 0.1
    return Made(equals(model, name="mended.tflite"))


def runs(model: Any, x: Any = X) -> Callable[..., None]:
    """A check: what the remedy computed is what the model computes."""
    return lambda names, said: np.testing.assert_allclose(names["y"], model(x.astype(np.float32)), atol=1e-5)


@reproduces("dimension-mismatch")
def dimension_mismatch(said):
    model = keras_3(time=None)
    made = interpreter(written(stock(model)))
    (details,) = made.get_input_details()
    assert list(details["shape"]) == [1, 1, 5]
    return Made(runs(model), (refused(made.set_tensor, details["index"], X),), {"x": X})


def three_rows() -> Any:
    return np.concatenate([X, -X, 0.5 * X])


@reproduces("batch-of-fused")
def batch_of_fused(said):
    model = keras_2(batch=None)
    saved(model)
    fixed = keras_2()
    fixed.set_weights(model.get_weights())
    return Made(equals(model, three_rows()), (refused(interpreter, written(stock(fixed)), three_rows()),))


@reproduces("batch-of-loop")
def batch_of_loop(said):
    model = saved(keras_3(batch=None))
    tflite = written(stock(keras_3()))
    resolvers = (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    texts = tuple(refused(interpreter, tflite, three_rows(), resolver=each) for each in resolvers)
    return Made(equals(model, three_rows()), texts)


@reproduces("type-of-input")
def type_of_input(said):
    model, x = keras_2(), np.random.default_rng(5).normal(size=(1, 7, 5))
    return Made(runs(model, x), (refused(interpreter, written(stock(model)), x),), {"x": x})


@reproduces("internal-reference")
def internal_reference(said):
    model = keras_2()
    made = interpreter(written(stock(model)), X)
    held = made.tensor(made.get_output_details()[0]["index"])()
    text = refused(made.invoke)
    assert held.shape == (1, 6)
    return Made(runs(model), (text,), {"x": X})


@reproduces("null-tensor")
def null_tensor(said):
    lstm = K2.LSTM(6, return_sequences=True)
    model = keras_2(lstm, K2.Dense(4), K2.Dense(3))
    made = interpreter(written(stock(model)), X)
    text = refused(lambda: [made.get_tensor(each["index"]) for each in made.get_tensor_details()])

    def check(names, said):
        assert "(1, 7, 6)" in said
        np.testing.assert_allclose(names["found"].h, lstm(X), atol=1e-5)

    return Made(check, (text,), {"x": X})


@reproduces("interpreter-deprecated")
def interpreter_deprecated(said):
    model = keras_2()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tf.lite.Interpreter(model_content=written(stock(model)))
    return Made(runs(model), tuple(str(each.message) for each in caught), {"x": X})


@reproduces("variable-tensors")
def variable_tensors(said):
    model = saved(keras_2())
    text = refused(CompiledModel.from_buffer, written(stock(model)))

    def check(names, said):
        assert op_counts(Path("model.tflite").read_bytes())[FUSED] == 0
        found = lstm_toolkit.Runner("model.tflite", runtime="compiled")(X)
        np.testing.assert_allclose(found, model(X), atol=1e-5)

    return Made(check, (text, said()))


# On a microcontroller


def micro(tflite: bytes, **options: Any) -> Any:
    from tflite_micro import runtime

    made = runtime.Interpreter.from_bytes(tflite, **options)
    made.set_input(X, 0)
    made.invoke()
    return made.get_output(0)


def runs_on_micro(model: Any) -> Callable[..., None]:
    return lambda names, said: np.testing.assert_allclose(micro(Path("model.tflite").read_bytes()), model(X), atol=1e-5)


def refused_by_micro(tflite: bytes, said: Said, **options: Any) -> str:
    said()
    refused(micro, written(tflite), **options)
    return said()


@reproduces("micro-op")
def micro_op(said):
    model = saved(keras_3(K3.Bidirectional(K3.LSTM(6))))
    return Made(runs_on_micro(model), (refused_by_micro(lstm_toolkit.convert(model).tflite, said),))


@reproduces("micro-custom")
def micro_custom(said):
    model = saved(keras_3(batch=None))
    return Made(runs_on_micro(model), (refused_by_micro(stock(model, target_spec=SELECT), said),))


@reproduces("micro-hybrid")
def micro_hybrid(said):
    model = saved(keras_2(K2.LSTM(40), K2.Dense(40)))
    tflite = stock(model, optimizations=[tf.lite.Optimize.DEFAULT])
    return Made(runs_on_micro(model), (refused_by_micro(tflite, said),))


@reproduces("micro-float16")
def micro_float16(said):
    model = saved(keras_2())
    return Made(runs_on_micro(model), (refused_by_micro(fault_corpus.stock_float16(model), said),))


@reproduces("micro-arena")
def micro_arena(said):
    model = keras_3()
    tflite = stock(model)
    texts = tuple(refused_by_micro(tflite, said, arena_size=size) for size in (2000, 6000))

    def check(names, said):
        size = int(re.search(r"arena\D*([\d,]+)", said)[1].replace(",", ""))
        np.testing.assert_allclose(micro(tflite, arena_size=size), model(X), atol=1e-5)
        refused(micro, tflite, arena_size=size - 64)
        fused = lstm_toolkit.convert(model, target="micro").tflite
        np.testing.assert_allclose(micro(fused, arena_size=size // 2), model(X), atol=1e-5)

    return Made(check, texts)
