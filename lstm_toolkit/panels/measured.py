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

from lstm_toolkit.benchmarking.benchmark import benchmark
from lstm_toolkit.benchmarking.result import BenchmarkResult
from lstm_toolkit.benchmarking.timings import Timing
from lstm_toolkit.display.tables import Table, Tabular
from lstm_toolkit.errors import LstmToolkitError
from lstm_toolkit.inspection.arithmetic import operators_executed
from lstm_toolkit.inspection.read import inspect
from lstm_toolkit.panels.sizes import Sizes
from lstm_toolkit.panels.subjects import Subject, keras_call
from lstm_toolkit.runtime.runner import Runner


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way from a Keras model to a file.

    Attributes:
        name: unlike that of any other.
        convert: makes the bytes of a `.tflite` file out of a `keras.Model` with one input [batch, time, input] and all
            sizes fixed, or out of the bytes of another file; it may raise `LstmToolkitError`.
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

    @property
    def caller_swaps(self) -> bool:
        """Whether the caller swaps the axes before and after each call."""
        return self.time_major_data != self.time_major_file


@dataclasses.dataclass(frozen=True)
class MeasuredFile:
    """What was measured of a candidate.

    Attributes:
        name: of the candidate.
        ops: number of operators by name, over all subgraphs.
        main_ops: the same of the main subgraph alone, without the bodies of loops.
        ops_executed: operators that one call executes; the body of a loop counts as often as it runs.
        size: bytes of the file.
        time: of a call, in microseconds.
        max_abs_error: largest difference from the source over two calls in a row.
        caller_swaps: whether the caller swaps the axes of its data before and after each call.
        reason: why there is no file, and then the figures are None; empty if there is one.
    """

    name: str
    ops: Mapping[str, int] | None = None
    main_ops: Mapping[str, int] | None = None
    ops_executed: int | None = None
    size: int | None = None
    time: Timing | None = None
    max_abs_error: float | None = None
    caller_swaps: bool = False
    reason: str = ""

    @property
    def op_count(self) -> int | None:
        """Operators in the file."""
        return None if self.ops is None else sum(self.ops.values())

    @property
    def swaps(self) -> str:
        """Who swaps the axes batch and time."""
        in_file = (self.main_ops or {}).get("TRANSPOSE", 0)
        if self.caller_swaps:
            return "the caller, before and after"
        return f"the file, {in_file} TRANSPOSE" if in_file else "nobody"

    @property
    def median(self) -> float | None:
        """Median time of a call in microseconds."""
        return None if self.time is None else self.time.median


COLUMNS: Mapping[str, Callable[[MeasuredFile], str]] = MappingProxyType(
    {
        "main graph": lambda file: ", ".join(f"{number} {name}" for name, number in (file.main_ops or {}).items()),
        "who swaps": lambda file: file.swaps,
        "ops in file": lambda file: f"{file.op_count:,}",
        "ops run": lambda file: "unknown" if file.ops_executed is None else f"{file.ops_executed:,}",
        "bytes": lambda file: f"{file.size:,}",
        "median µs": lambda file: f"{file.median:.1f}",
        "quartiles µs": lambda file: f"{file.time.quartile_1:.1f} to {file.time.quartile_3:.1f}" if file.time else "",
        "max error": lambda file: f"{file.max_abs_error:.0e}",
    }
)
"""What a table can show of a file, by the title of the column."""


TIMES = (
    "Measured on this machine just now by benchmark: one call of Runner on one thread, all files in turn. The ratio is "
    "of times in the same round, with its interval."
)
"""What the times are."""


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Files to compare, and what to show of them.

    Attributes:
        ways: the ways to make them.
        baseline: name of the one that the ratios are to.
        columns: names of `COLUMNS`.
        note: what the figures are.
    """

    ways: tuple[Candidate, ...]
    baseline: str
    columns: tuple[str, ...]
    note: str


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison(Tabular):
    """One model in several files.

    Attributes:
        candidates: what was compared.
        sizes: of the model.
        files: one for each way, in their order.
        times: of a call of each file; None if there is no file.
        name: of a reader's own model; empty for the example.
    """

    candidates: Candidates
    sizes: Sizes
    files: tuple[MeasuredFile, ...]
    times: BenchmarkResult | None = None
    name: str = ""

    @property
    def subject(self) -> str:
        """What was compared, in words."""
        return f"{self.name}, {self.sizes}" if self.name else str(self.sizes)

    def tables(self) -> tuple[Table, ...]:
        """The files, one a row, and the ratios of their times."""
        columns = self.candidates.columns
        rows = [
            (file.name, f"no file: {file.reason}", *[""] * (len(columns) - 1))
            if file.reason
            else (file.name, *(COLUMNS[column](file) for column in columns))
            for file in self.files
        ]
        ratios = self.times.tables()[1:] if self.times else ()
        return (Table(f"Files for {self.subject}", ("file", *columns), rows), *ratios)


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


def compare(
    candidates: Candidates, sizes: Sizes, *, subject: Subject | None = None, seed: int = 0, rounds: int = 20
) -> Comparison:
    """Converts one model in several ways and measures the files.

    Args:
        candidates: the ways.
        sizes: of the model and the sequence.
        subject: a reader's own model or file; None takes `lstm_model`.
        seed: of weights and data.
        rounds: of `benchmark`; each file is timed once in every round.

    Returns:
        Figures of each file. The times are those of this machine, of one thread and of a call of `Runner`. A way that
        gives no file is there with its reason.

    Raises:
        ConversionError: if the subject does not take such sizes.
    """
    if subject is None:
        name, inputs, outputs, make = "", *_keras_outputs(sizes, seed), functools.partial(_example_file, sizes, seed)
    else:
        source = subject.at(sizes)
        name, make = subject.name, functools.partial(_file, source)
        inputs, outputs = _two_calls(subject.call(source), sizes, seed)
    files, calls = [], {}
    for way in candidates.ways:
        file = make(way)
        if isinstance(file, str):
            files.append(MeasuredFile(way.name, reason=file))
            continue
        call, arrays = _call(way, file), [inputs, outputs]
        given, wanted = [[_swapped(x) for x in each] for each in arrays] if way.time_major_data else arrays
        error = max(float(np.abs(call(x) - y).max()) for x, y in zip(given, wanted, strict=True))
        files.append(_counted(way, file, sizes.time_steps, error))
        calls[way.name] = functools.partial(call, given[0])
    if not calls:
        return Comparison(candidates, sizes, tuple(files), name=name)
    baseline = candidates.baseline if candidates.baseline in calls else None
    times = benchmark(calls, runs=rounds, baseline=baseline, progress=False)
    timings = {model.name: model.call for model in times.models}
    timed = tuple(dataclasses.replace(file, time=timings.get(file.name)) for file in files)
    return Comparison(candidates, sizes, timed, times, name)


def _counted(way: Candidate, file: bytes, time_steps: int, error: float) -> MeasuredFile:
    summary = inspect(file)
    return MeasuredFile(
        way.name,
        ops=MappingProxyType(dict(sorted(summary.ops.items()))),
        main_ops=MappingProxyType(dict(sorted(summary.subgraph_ops[0].items()))),
        ops_executed=operators_executed(file, time_steps),
        size=len(file),
        max_abs_error=error,
        caller_swaps=way.caller_swaps,
    )


@functools.lru_cache(maxsize=64)
def _example_file(sizes: Sizes, seed: int, candidate: Candidate) -> bytes | str:
    return _file(lstm_model(sizes, seed=seed), candidate)


def _file(source: Any, candidate: Candidate) -> bytes | str:
    """The candidate's file, or the reason why it was not made."""
    try:
        file = candidate.convert(source)
        Runner(file, runtime=candidate.runtime)
        return file
    except LstmToolkitError as error:
        return str(error)


def _call(candidate: Candidate, file: bytes) -> Callable[[Any], Any]:
    runner = Runner(file, runtime=candidate.runtime)
    if not candidate.caller_swaps:
        return runner
    return lambda x: _swapped(runner(_swapped(x)))


def _swapped(array: Any) -> npt.NDArray[np.float32]:
    """With batch and time swapped; an output of the last step alone, [batch, units], has no time."""
    return np.ascontiguousarray(np.swapaxes(array, 0, 1)) if np.ndim(array) > 2 else array


def sequence(sizes: Sizes, *, seed: int = 0) -> npt.NDArray[np.float32]:
    """Random data, [batch, time, input], float32."""
    shape = (sizes.batch_size, sizes.time_steps, sizes.input_size)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


Arrays = list[npt.NDArray[np.float32]]


@functools.lru_cache(maxsize=8)
def _keras_outputs(sizes: Sizes, seed: int) -> tuple[Arrays, Arrays]:
    return _two_calls(keras_call(lstm_model(sizes, seed=seed)), sizes, seed)


def _two_calls(call: Callable[[Any], Any], sizes: Sizes, seed: int) -> tuple[Arrays, Arrays]:
    """Two inputs, and what the source makes of them, one after the other."""
    inputs = [sequence(sizes, seed=seed + number) for number in range(2)]
    return inputs, [np.array(call(x)) for x in inputs]
