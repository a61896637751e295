"""One LSTM with the same weights in every library, each as a function without arguments that gives its outputs.

Each peer is a function `build(case) -> call`, where `call()` runs the model on `case.inputs` and returns an array
[batch, time, directions * units]. What is not installed raises ImportError.
"""

import dataclasses
import functools
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

Call = Callable[[], Any]

MOST_STEPS_UNROLLED_BY_KERAS = 200
"""Keras traces an unrolled layer in pure Python, for a thousand steps in several minutes."""


@dataclasses.dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        time, input, units: sizes of the LSTM.
        batch: number of sequences.
        threads: that each library may use.
        directions: 1, or 2 for a bidirectional layer whose outputs are joined.
    """

    time: int
    input: int
    units: int
    batch: int = 1
    threads: int = 1
    directions: int = 1

    def __str__(self) -> str:
        directions = "one direction" if self.directions == 1 else "two directions"
        threads = "one thread" if self.threads == 1 else f"{self.threads} threads"
        return f"time {self.time}, input {self.input}, units {self.units}, batch {self.batch}, {threads}, {directions}"

    @property
    def inputs(self) -> np.ndarray:
        """Seeded random data, [batch, time, input], float32."""
        shape = (self.batch, self.time, self.input)
        return np.random.default_rng(1).normal(size=shape).astype(np.float32)


class SkippedError(Exception):
    """A peer that is left out of a case; the message has the reason."""


def _model(keras: Any, case: Case, **options: Any) -> Any:
    layer = keras.layers.LSTM(case.units, return_sequences=True, **options)
    layer = keras.layers.Bidirectional(layer) if case.directions == 2 else layer
    return keras.Sequential([keras.layers.Input((case.time, case.input), batch_size=case.batch), layer])


@functools.lru_cache(maxsize=1)
def keras_model(case: Case) -> Any:
    """The Keras 3 model that all weights come from: seeded, with Keras's default initializers."""
    import keras

    keras.utils.set_random_seed(0)
    return _model(keras, case)


def _weights(case: Case) -> list[np.ndarray]:
    """kernel [input, 4 * units], recurrent_kernel [units, 4 * units], bias [4 * units] a direction: i, f, c, o."""
    return keras_model(case).get_weights()


def keras_itself(case: Case) -> Call:
    """The Keras model in a `tf.function`."""
    import tensorflow as tf

    model, x = keras_model(case), tf.constant(case.inputs)
    function = tf.function(lambda each: model(each, training=False)).get_concrete_function(x)
    return lambda: function(x).numpy()


def automatic(case: Case, caches: str, max_error: float | None = None) -> Call:
    """`convert(lowering="auto")` for calls in a row ("hot") or between other work ("cold"), on the threads it chose.

    It chooses among one thread and all that the process has, which are those of the case. With `max_error`, it may
    choose int8 weights.
    """
    from lstm_toolkit import convert

    conversion = convert(keras_model(case), lowering="auto", caches=caches, max_error=max_error)
    runner, x = conversion.runner(), case.inputs
    call = lambda: runner(x)  # noqa: E731
    assert conversion.report.automatic is not None
    call.note = str(conversion.report.automatic.chosen)  # type: ignore[attr-defined]
    return call


def fused(case: Case) -> Call:
    """`convert()`: the fused op on LiteRT's interpreter."""
    from lstm_toolkit import convert

    return _interpreted(convert(keras_model(case), verify=False).tflite, case)


def _interpreted(tflite: bytes, case: Case) -> Call:
    from lstm_toolkit import Runner

    runner, x = Runner(tflite, num_threads=case.threads), case.inputs
    return lambda: runner(x)


def _stock(model: Any, case: Case) -> Call:
    import tensorflow as tf

    from lstm_toolkit.stock.converter import run_converter

    return _interpreted(run_converter(tf.lite.TFLiteConverter.from_keras_model(model)), case)


def stock_while(case: Case) -> Call:
    """TensorFlow's converter on the Keras 3 model: a `WHILE` loop."""
    return _stock(keras_model(case), case)


def stock_unrolled(case: Case) -> Call:
    """TensorFlow's converter on the Keras 3 model with `unroll=True`."""
    import keras

    if case.time > MOST_STEPS_UNROLLED_BY_KERAS:
        raise SkippedError(f"skipped above {MOST_STEPS_UNROLLED_BY_KERAS} steps, which Keras traces for minutes")
    model = _model(keras, case, unroll=True)
    model.set_weights(_weights(case))
    return _stock(model, case)


def tf_keras_fused(case: Case) -> Call:
    """TensorFlow's converter on the same tf_keras model: a fused op, whose state lives on from call to call."""
    import tf_keras

    model = _model(tf_keras, case)
    model.set_weights(_weights(case))
    return _stock(model, case)


def _onnx_model(case: Case) -> bytes:
    """The LSTM as ONNX has it: gates i, o, f, c; outputs [time, directions, batch, units] laid out as Keras does."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.array_split(np.arange(len(_weights(case))), case.directions)
    operands: dict[str, list[np.ndarray]] = {"W": [], "R": [], "B": []}
    for numbers in weights:
        kernel, recurrent, bias = (_weights(case)[number] for number in numbers)
        order = [0, 3, 1, 2]
        operands["W"].append(np.concatenate([np.split(kernel.T, 4)[gate] for gate in order]))
        operands["R"].append(np.concatenate([np.split(recurrent.T, 4)[gate] for gate in order]))
        gates = np.concatenate([np.split(bias, 4)[gate] for gate in order])
        operands["B"].append(np.concatenate([gates, np.zeros_like(gates)]))
    initializers = [numpy_helper.from_array(np.stack(each), name) for name, each in operands.items()]
    shape = np.array([case.batch, case.time, case.directions * case.units], np.int64)
    initializers.append(numpy_helper.from_array(shape, "shape"))
    direction = "forward" if case.directions == 1 else "bidirectional"
    nodes = [
        helper.make_node("Transpose", ["x"], ["by_time"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["by_time", "W", "R", "B"], ["h"], hidden_size=case.units, direction=direction),
        helper.make_node("Transpose", ["h"], ["by_batch"], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", ["by_batch", "shape"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [case.batch, case.time, case.input])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape.tolist())
    graph = helper.make_graph(nodes, "lstm", [x], [y], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _onnx_runtime(model: bytes, case: Case) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = case.threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {"x": case.inputs}
    return lambda: session.run(None, feed)[0]


def onnx_runtime(case: Case) -> Call:
    """ONNX Runtime, float32."""
    return _onnx_runtime(_onnx_model(case), case)


def onnx_runtime_int8(case: Case) -> Call:
    """ONNX Runtime after its own `quantize_dynamic`, int8 weights a channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(_onnx_model(case))
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=True)
        return _onnx_runtime(target.read_bytes(), case)


def open_vino(case: Case) -> Call:
    """OpenVINO on the processor, float32, tuned for latency."""
    import openvino

    os.environ.setdefault("OPENVINO_TELEMETRY", "0")
    core = openvino.Core()
    hints = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": case.threads,
        "NUM_STREAMS": 1,
    }
    request = core.compile_model(core.read_model(_onnx_model(case)), "CPU", hints).create_infer_request()
    x = case.inputs
    return lambda: request.infer([x], share_inputs=True)[0]


def torch_lstm(case: Case) -> Call:
    """PyTorch's `nn.LSTM` in inference mode."""
    import torch

    torch.set_num_threads(case.threads)
    lstm = torch.nn.LSTM(case.input, case.units, batch_first=True, bidirectional=case.directions == 2)
    with torch.no_grad():
        for number, suffix in enumerate(["", "_reverse"][: case.directions]):
            kernel, recurrent, bias = _weights(case)[3 * number : 3 * number + 3]
            getattr(lstm, f"weight_ih_l0{suffix}").copy_(torch.from_numpy(kernel.T.copy()))
            getattr(lstm, f"weight_hh_l0{suffix}").copy_(torch.from_numpy(recurrent.T.copy()))
            getattr(lstm, f"bias_ih_l0{suffix}").copy_(torch.from_numpy(bias))
            getattr(lstm, f"bias_hh_l0{suffix}").zero_()
    x = torch.from_numpy(case.inputs)

    def call() -> np.ndarray:
        with torch.inference_mode():
            return lstm(x)[0].numpy()

    return call


COLUMNS = ("hot", "cold")
"""Calls in a row, and calls between other work."""

OURS = {caches: f"auto, {caches}" for caches in COLUMNS}
OURS_INT8 = {caches: f"auto, {caches}, int8 weights" for caches in COLUMNS}
FUSED, ONNX, ONNX_INT8 = "fused op", "ONNX Runtime", "ONNX Runtime, int8"
WHILE, UNROLLED = "stock WHILE", "stock unroll=True"

PEERS: Mapping[str, Callable[[Case], Call]] = MappingProxyType(
    {
        **{name: functools.partial(automatic, caches=caches) for caches, name in OURS.items()},
        **{name: functools.partial(automatic, caches=caches, max_error=0.02) for caches, name in OURS_INT8.items()},
        FUSED: fused,
        WHILE: stock_while,
        UNROLLED: stock_unrolled,
        "tf_keras, fused": tf_keras_fused,
        "Keras": keras_itself,
        ONNX: onnx_runtime,
        ONNX_INT8: onnx_runtime_int8,
        "OpenVINO": open_vino,
        "PyTorch": torch_lstm,
    }
)
"""All that are compared, by name."""
