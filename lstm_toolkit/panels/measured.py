"""Files of one LSTM, made in several ways: converted, checked against Keras, counted, weighed and timed.

Needs the extra `codelabs`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_toolkit import codelab
from lstm_toolkit.errors import LstmToolkitError
from lstm_toolkit.inspection.read import inspect
from lstm_toolkit.runtime.runner import Runner

LIMITS: Mapping[str, int] = MappingProxyType({"batch_size": 16, "time_steps": 100, "input_size": 128, "units": 512})
"""Largest value of each size."""

MAX_MULTIPLICATIONS = 50_000_000
"""Most multiplications of a call; with more, a comparison takes minutes."""

_BLOCKS = 5


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of one LSTM and of the sequence that it reads.

    Raises:
        ValueError: if a size is not an integer from 1 to its limit, or all together are too much work.
    """

    batch_size: int
    time_steps: int
    input_size: int
    units: int

    def __post_init__(self) -> None:
        for name, limit in LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= limit:
                raise ValueError(f"{name} must be an integer from 1 to {limit}, got {value!r}")
        if self.multiplications > MAX_MULTIPLICATIONS:
            raise ValueError(
                f"{self} takes {self.multiplications:,} multiplications a call, more than {MAX_MULTIPLICATIONS:,}; "
                "make one of the sizes smaller"
            )

    @property
    def multiplications(self) -> int:
        """Of the matrix products in one call."""
        return self.batch_size * self.time_steps * 4 * self.units * (self.input_size + self.units)

    def __str__(self) -> str:
        return f"batch {self.batch_size}, time {self.time_steps}, input {self.input_size}, units {self.units}"


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way from a Keras model to a file.

    Attributes:
        name: unlike that of any other.
        convert: makes the bytes of a `.tflite` file out of a `keras.Model` with one LSTM, [batch, time, input] to
            [batch, time, units]; it may raise `LstmToolkitError`.
        runtime: that runs the file, of `Runner`.
        time_major_file: the file takes and gives [time, batch, ...].
        time_major_data: the caller has and wants [time, batch, ...]. Where the file is otherwise, the caller swaps the
            axes before and after each call, and that counts into the time.
    """

    name: str
    convert: Callable[[Any], bytes]
    runtime: str = "interpreter"
    time_major_file: bool = False
    time_major_data: bool = False


@dataclasses.dataclass(frozen=True)
class MeasuredFile:
    """What a candidate came to.

    Attributes:
        name: of the candidate.
        ops: number of operators by name, over all subgraphs.
        main_ops: the same of the main subgraph alone, without the bodies of loops.
        ops_executed: operators that one call executes; the body of a loop counts as often as it runs.
        size: bytes of the file.
        median: time of a call in microseconds.
        spread: smallest and largest median of the blocks of rounds, in microseconds.
        max_abs_error: largest difference from Keras over two calls in a row.
        reason: why there is no file, and then the figures are None; empty if there is one.
    """

    name: str
    ops: Mapping[str, int] | None = None
    main_ops: Mapping[str, int] | None = None
    ops_executed: int | None = None
    size: int | None = None
    median: float | None = None
    spread: tuple[float, float] | None = None
    max_abs_error: float | None = None
    reason: str = ""

    @property
    def op_count(self) -> int | None:
        """Operators in the file."""
        return None if self.ops is None else sum(self.ops.values())


def lstm_model(sizes: Sizes, *, seed: int = 0, unroll: bool = False) -> Any:
    """A Keras model of one LSTM, [batch, time, input] to [batch, time, units], with seeded weights.

    The weights are spread as Keras spreads them. With larger ones a wide LSTM is chaotic: rounding grows from step to
    step, and the errors of two right files tell nothing.
    """
    import keras

    random = keras.initializers
    inputs = keras.Input((sizes.time_steps, sizes.input_size), batch_size=sizes.batch_size, name="sequence")
    layer = keras.layers.LSTM(
        sizes.units,
        return_sequences=True,
        unroll=unroll,
        kernel_initializer=random.GlorotUniform(seed=3 * seed),
        recurrent_initializer=random.Orthogonal(seed=3 * seed + 1),
        bias_initializer=random.RandomNormal(stddev=0.1, seed=3 * seed + 2),
    )
    return keras.Model(inputs, layer(inputs))


def stock(model: Any) -> bytes:
    """The file of TensorFlow's own converter.

    Raises:
        ConversionError: with the converter's reason.
    """
    import tensorflow as tf

    from lstm_toolkit.stock.converter import run_converter

    return run_converter(tf.lite.TFLiteConverter.from_keras_model(model))


def converted(model: Any, **options: Any) -> bytes:
    """The file of `lstm_toolkit.convert`."""
    from lstm_toolkit.conversion.convert import convert

    return convert(model, **options).tflite


def measured(
    candidates: tuple[Candidate, ...], sizes: Sizes, *, seed: int = 0, rounds: int = 100
) -> tuple[MeasuredFile, ...]:
    """The candidates' files, converted and measured; see `compare`."""
    files = {each.name: _file(each, sizes, seed) for each in candidates}
    calls = {each.name: _call(each, file) for each in candidates if isinstance(file := files[each.name], bytes)}
    inputs, outputs = _keras_outputs(sizes, seed)
    errors: dict[str, float] = {}
    bound: dict[str, Callable[[], Any]] = {}
    for each in candidates:
        if call := calls.get(each.name):
            data = [_swapped(x) if each.time_major_data else x for x in inputs]
            results = [call(x) for x in data]
            given = [_swapped(y) if each.time_major_data else y for y in results]
            errors[each.name] = max(float(np.abs(y - wanted).max()) for y, wanted in zip(given, outputs, strict=True))
            bound[each.name] = functools.partial(call, data[0])
    medians = _block_medians(bound, rounds)
    return tuple(
        _measured_file(each.name, file, sizes.time_steps, medians[each.name], errors[each.name])
        if isinstance(file := files[each.name], bytes)
        else MeasuredFile(each.name, reason=file)
        for each in candidates
    )


def _measured_file(name: str, file: bytes, time_steps: int, medians: list[float], error: float) -> MeasuredFile:
    summary = inspect(file)
    return MeasuredFile(
        name,
        ops=MappingProxyType(dict(sorted(summary.ops.items()))),
        main_ops=MappingProxyType(dict(sorted(summary.subgraph_ops[0].items()))),
        ops_executed=codelab.operators_executed(file, time_steps),
        size=len(file),
        median=float(np.median(medians)),
        spread=(min(medians), max(medians)),
        max_abs_error=error,
    )


@functools.lru_cache(maxsize=64)
def _file(candidate: Candidate, sizes: Sizes, seed: int) -> bytes | str:
    """The candidate's file, or the reason why there is none."""
    try:
        file = candidate.convert(lstm_model(sizes, seed=seed))
        Runner(file, runtime=candidate.runtime)
        return file
    except LstmToolkitError as error:
        return str(error)


def _call(candidate: Candidate, file: bytes) -> Callable[[Any], Any]:
    runner = Runner(file, runtime=candidate.runtime)
    if candidate.time_major_data == candidate.time_major_file:
        return runner
    return lambda x: _swapped(runner(_swapped(x)))


def _swapped(array: Any) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(np.swapaxes(array, 0, 1))


def sequence(sizes: Sizes, *, seed: int = 0) -> npt.NDArray[np.float32]:
    """Random data, [batch, time, input], float32."""
    shape = (sizes.batch_size, sizes.time_steps, sizes.input_size)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@functools.lru_cache(maxsize=8)
def _keras_outputs(sizes: Sizes, seed: int) -> tuple[list[npt.NDArray[np.float32]], list[npt.NDArray[np.float32]]]:
    """Two inputs, and what Keras makes of them."""
    model = lstm_model(sizes, seed=seed)
    inputs = [sequence(sizes, seed=seed + number) for number in range(2)]
    return inputs, [np.asarray(model(x)) for x in inputs]


def _block_medians(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Medians of several blocks of rounds, which show how much the machine itself varies."""
    first = codelab.interleaved_medians(calls, rounds=1, warmup=1)
    affordable = int(1e6 / max(sum(first.values()), 1.0))
    each = max(2, min(rounds, affordable) // _BLOCKS)
    blocks = [codelab.interleaved_medians(calls, rounds=each, warmup=1) for _ in range(_BLOCKS)]
    return {name: [block[name] for block in blocks] for name in calls}
