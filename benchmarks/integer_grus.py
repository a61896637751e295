"""Trained GRUs as integers, against TensorFlow's own quantizer on the same layers with `unroll=True`.

    python benchmarks/integer_grus.py --models 30 --kinds int16x8

Each model is trained for a moment on a task of its own: to tell from noisy waves their frequency, their phase or their
mean. Both quantizers take their ranges on the same samples; errors are those on fresh ones, relative to the largest
output of the float model.
"""

import argparse
import dataclasses
import statistics
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit.runtime.runner import Runner

Array = npt.NDArray[np.float32]

FRESH = 100
"""Samples that neither training nor calibration has seen."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One model: its sizes, and the errors of both quantizers, relative to its largest output."""

    sizes: str
    kind: str
    reported: float
    ours: float
    stock: float


def waves(random: np.random.Generator, count: int, steps: int, width: int, task: int) -> tuple[Array, Array]:
    """Noisy waves [count, steps, width], and what to tell from them [count, 2]."""
    frequency, phase = random.uniform(0.1, 1.0, (count, 1, width)), random.uniform(0, 3, (count, 1, width))
    time = np.arange(steps).reshape(1, steps, 1)
    x = np.sin(frequency * time + phase) * (1 + task) + random.normal(0, 0.1, (count, steps, width))
    told = (frequency[:, 0], np.cos(phase[:, 0]), x.mean(axis=1))[task]
    return x.astype(np.float32), np.stack([told.mean(1), told[:, 0]], axis=1).astype(np.float32)


def untrained(seed: int, random: np.random.Generator) -> Any:
    """A model of one GRU or two, whose sizes are drawn."""
    import keras

    steps, width, units = (int(random.integers(low, high)) for low, high in ((8, 21), (2, 7), (6, 25)))
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.GRU(units, return_sequences=seed % 3 == 2, reset_after=seed % 2 == 0, unroll=True)]
    layers += [keras.layers.GRU(units // 2, unroll=True)] * (seed % 3 == 2)
    return keras.Sequential([keras.Input((steps, width), batch_size=1, name="x"), *layers, keras.layers.Dense(2)])


def trained(seed: int) -> tuple[Any, Any]:
    """A trained model, and a function that gives as many fresh samples as are wanted."""
    import keras

    random = np.random.default_rng(seed)
    model = untrained(seed, random)
    _, steps, width = model.input_shape
    trainable = keras.Sequential([keras.Input((steps, width)), *model.layers])
    trainable.compile("adam", "mse")
    x, y = waves(random, 1000, steps, width, seed % 3)
    trainable.optimizer.learning_rate = 0.01
    trainable.fit(x, y, epochs=8, batch_size=50, verbose=0)
    return model, lambda count: waves(random, count, steps, width, seed % 3)[0]


def stock(model: Any, samples: Array, kind: str) -> bytes:
    """The model as TensorFlow's converter quantizes it, with float inputs and outputs."""
    import tensorflow as tf

    from lstm_toolkit.stock.converter import run_converter

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([each[np.newaxis]] for each in samples)
    ops = tf.lite.OpsSet
    chosen = ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    converter.target_spec.supported_ops = [chosen if kind == "int16x8" else ops.TFLITE_BUILTINS_INT8]
    return run_converter(converter)


def exact(model: Any, samples: Array) -> Array:
    """What the model gives for each sample, [samples, 1, 2], computed at once."""
    import keras

    of_any_batch = keras.Sequential([keras.Input(samples.shape[1:]), *model.layers])
    return np.asarray(of_any_batch(samples))[:, np.newaxis]


def outputs(tflite: bytes, samples: Array) -> Array:
    """The output of a file for each sample."""
    runner = Runner(tflite)
    return np.stack([next(iter(runner.outputs(each[np.newaxis]).values())) for each in samples])


def measured(seeds: Sequence[int], kinds: Sequence[str]) -> Iterator[Row]:
    """Yields the errors of the models with some seeds."""
    import lstm_toolkit as lt

    for seed in seeds:
        model, draw = trained(seed)
        samples, fresh = draw(200), draw(FRESH)
        expected = exact(model, fresh)
        sizes = "x".join(map(str, model.input_shape[1:])) + "".join(
            f", {layer.units}" for layer in model.layers if hasattr(layer, "reset_after")
        )
        for kind in kinds:
            ours = lt.convert(model, quantization=kind, lowering="unrolled", representative_dataset=samples)
            files = ours.tflite, stock(model, samples, kind)
            errors = [np.abs(outputs(each, fresh) - expected).max() / np.abs(expected).max() for each in files]
            assert ours.report.quantization is not None
            yield Row(sizes, kind, ours.report.quantization.relative_error, *map(float, errors))


def main() -> None:
    """Prints a row a model, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=30)
    parser.add_argument("--kinds", nargs="+", default=["int16x8"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for row in measured(range(options.models), options.kinds):
        rows.append(row)
        print(f"{row.sizes:20} {row.kind:8} {row.reported:8.2%} {row.ours:8.2%} {row.stock:8.2%}", flush=True)
    for kind in options.kinds:
        of_kind = [row for row in rows if row.kind == kind]
        columns = [[getattr(row, name) for row in of_kind] for name in ("reported", "ours", "stock")]
        means = "".join(f" {statistics.mean(each):8.2%}" for each in columns)
        largest = "".join(f" {max(each):8.2%}" for each in columns)
        print(f"{kind}, {len(of_kind)} models (reported, on fresh samples, stock): mean{means}; largest{largest}")


if __name__ == "__main__":
    main()
