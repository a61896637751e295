"""Models and samples whose tensors have no range, and a process of its own that quantizes them to int8.

`python -m tests.helpers.degenerate` answers the names of cases: what it converts may end it.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_toolkit.errors import LstmToolkitError
from lstm_toolkit.runtime.worker import serve
from tests.helpers.elsewhere import answers

TIME, SIZE, COUNT = 6, 4, 20


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


STEPS = normal(COUNT, 1, TIME, SIZE)
ZEROS = np.zeros_like(STEPS)


def stack(*names: str, zero: tuple[int, ...] = (), random: bool = True, **options: Any) -> Any:
    """Layers by name, with random weights or those of Keras, and some that are zero."""
    import keras

    made = {
        "lstm": lambda: keras.layers.LSTM(5),
        "sequence": lambda: keras.layers.LSTM(5, return_sequences=True),
        "one": lambda: keras.layers.LSTM(1, return_sequences=True),
        "both": lambda: keras.layers.Bidirectional(keras.layers.LSTM(3)),
        "masking": keras.layers.Masking,
        "embedding": lambda: keras.layers.Embedding(9, SIZE, mask_zero=True),
        "norm": keras.layers.LayerNormalization,
        "dead": lambda: keras.layers.Dense(7, activation="relu"),
        "dense": lambda: keras.layers.Dense(2),
    }
    shape = {"shape": (TIME,), "dtype": "int32"} if "embedding" in names else {"shape": (TIME, SIZE)}
    model = keras.Sequential([keras.Input(**shape, batch_size=1, name="x"), *(made[name]() for name in names)])
    weights = [normal(*each.shape, seed=number) for number, each in enumerate(model.get_weights())]
    for number in zero:
        weights[number] *= 0
    if "dead" in names:
        weights[4] = np.full_like(weights[4], -99)
    if random:
        model.set_weights(weights)
    return model, options


def of_two(**options: Any) -> Any:
    import keras

    a, b = (keras.Input((TIME, size), batch_size=1, name=name) for name, size in (("a", SIZE), ("b", 3)))
    both = keras.layers.Concatenate()([keras.layers.LSTM(5)(a), keras.layers.LSTM(2)(b)])
    model = keras.Model([a, b], keras.layers.Dense(7)(both))
    model.set_weights([normal(*each.shape, seed=number) for number, each in enumerate(model.get_weights())])
    return model, options


def of_small_differences() -> Any:
    import keras

    x = keras.Input((TIME, SIZE), batch_size=1, name="x")
    one, other = keras.layers.LSTM(5)(x), keras.layers.LSTM(5)(x)
    near = one + 1e-6 * other
    model = keras.Model(x, [one - near, keras.ops.square(one - near), (one + other * 1e-6) - one])
    model.set_weights([normal(*each.shape, seed=number) for number, each in enumerate(model.get_weights())])
    return model, {"samples": STEPS}


CASES: dict[str, Callable[[], Any]] = {
    "zeros": lambda: stack("lstm", "dense", samples=ZEROS),
    "zeros in and out as int8": lambda: stack("sequence", "lstm", "dense", samples=ZEROS, io_dtype="int8"),
    "zeros in and out as uint8": lambda: stack("lstm", "dense", samples=ZEROS, io_dtype="uint8"),
    "zeros into a float file": lambda: stack("lstm", samples=ZEROS, quantization=None, io_dtype=("int8", "float32")),
    "a constant in a float file": lambda: stack(
        "lstm", "dense", samples=np.full_like(STEPS, 0.7), quantization=None, io_dtype="uint8"
    ),
    "zeros for LiteRT": lambda: stack("lstm", samples=ZEROS, target="litert"),
    "zeros for Micro": lambda: stack("lstm", "dense", samples=ZEROS, target="micro"),
    "zeros in both directions": lambda: stack("both", samples=ZEROS, bidirectional="split"),
    "one input of two": lambda: of_two(samples={"a": STEPS, "b": np.zeros((COUNT, 1, TIME, 3), np.float32)}),
    "the only other sample held back": lambda: stack("lstm", samples=np.concatenate([STEPS[:1] / 9, ZEROS[1:]])),
    "a constant": lambda: stack("lstm", "dense", samples=np.full_like(STEPS, 0.7)),
    "all padding": lambda: stack("masking", "lstm", "dense", samples=ZEROS),
    "all padding in an embedding": lambda: stack("embedding", "lstm", samples=np.zeros((COUNT, 1, TIME), np.int32)),
    "a norm of one": lambda: stack("one", "norm", samples=STEPS, random=False),
    "input weights of zeros": lambda: stack("lstm", "dense", samples=STEPS, zero=(0,)),
    "all weights of an LSTM zero": lambda: stack("lstm", "dense", samples=STEPS, zero=(0, 1, 2)),
    "a Dense of zeros": lambda: stack("lstm", "dense", samples=STEPS, zero=(3, 4)),
    "a dead relu": lambda: stack("lstm", "dead", "dense", samples=STEPS),
    "tiny inputs": lambda: stack("lstm", "dense", samples=STEPS * np.float32(1e-9)),
    "subnormal inputs": lambda: stack("lstm", "dense", samples=STEPS * np.float32(1e-42)),
    "small differences": of_small_differences,
}


def answer(name: str, _: Callable[[int], Any]) -> dict[str, Any]:
    """Quantizes a model.

    Returns:
        The scales of the file, the largest difference from Keras over all samples, the largest value of Keras, and the
        warnings; or the error.
    """
    import tensorflow as tf

    import lstm_toolkit

    model, options = CASES[name]()
    samples = options.pop("samples")
    options = {"representative_dataset": samples, "quantization": "int8"} | options
    options["verify"] = "target" in options
    try:
        with warnings.catch_warnings(record=True):
            conversion = lstm_toolkit.convert(model, **options)
    except LstmToolkitError as error:
        return {"error": str(error)}
    runner = lstm_toolkit.Runner(conversion.tflite)
    # As one graph, which is traced once; op by op each sample takes as long.
    function = tf.function(lambda x: model(x), autograph=False)
    arrays = samples if isinstance(samples, dict) else {"x": samples}
    pairs = []
    for number in range(COUNT):
        inputs = {key: array[number] for key, array in arrays.items()}
        given = runner.dequantized(runner.outputs(**runner.quantized(inputs))).values()
        outputs = function(list(inputs.values()) if len(inputs) > 1 else inputs["x"])
        wanted = outputs if isinstance(outputs, list) else [outputs]
        pairs += [(np.asarray(one), other) for one, other in zip(wanted, given, strict=True)]
    tensors = [tensor for each in lstm_toolkit.inspect(conversion.tflite).subgraphs for tensor in each.tensors]
    return {
        "scales": [scale for each in tensors if each.quantization for scale in each.quantization.scale],
        "error": "",
        "difference": max(float(np.abs(one - other).max()) for one, other in pairs),
        "largest": max(float(np.abs(one).max()) for one, _ in pairs),
        "warnings": conversion.report.quantization.warnings,
    }


@functools.cache
def results() -> dict[str, dict[str, Any]]:
    """The answers of all cases."""
    return answers("tests.helpers.degenerate", CASES)


if __name__ == "__main__":
    serve(answer)
