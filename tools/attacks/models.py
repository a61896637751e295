"""Random models with every option of `convert`: the file agrees with its model, or the package refuses the model."""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import lstm_toolkit
from attacks.children import Attack, Outcome, Tell
from attacks.comparing import RESOLVERS, File, called, error_of, first_difference, run_in_a_row
from attacks.keras_sources import keras_source
from attacks.other_sources import composite_source, lingvo_source, weights_source
from attacks.source import Arrays, Source, Twin, chance, one_of
from lstm_toolkit.errors import LstmToolkitError

NEW = 20
"""New inputs on which a quantized file is judged."""
DATASETS = ("normal", "normal", "normal", "normal", "few", "one", "zeros", "constant", "NaN", "huge", "tiny", "wrong")


def begin(folder: Path) -> Attack:
    """Loads everything, by converting a model."""
    own = Path(tempfile.mkdtemp(dir=folder))
    weights = weights_source(0)
    lstm_toolkit.convert(weights.model)

    def attack(seed: int, tell: Tell) -> Outcome:
        try:
            return _attack(seed, tell, own)
        finally:
            for path in own.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    return attack


def _attack(seed: int, tell: Tell, folder: Path) -> Outcome:
    random = np.random.default_rng((seed, 3))
    kinds = [keras_source] * 8 + [weights_source, lingvo_source, composite_source]
    kind = one_of(random, *kinds)
    tell("building the model")
    source = kind(seed, folder) if kind is keras_source else kind(seed)
    batch = source.batch or 1
    options = random_options(random, source)
    batch = options.get("batch_size") or batch
    steps = options.get("time_steps") or source.time
    dataset = None
    if options.get("quantization") == "int8" or "io_dtype" in options:
        dataset = one_of(random, *DATASETS)
        options["representative_dataset"] = samples_of(random, source, batch, steps or 5, dataset)
    shown = {name: value for name, value in options.items() if name not in ("representative_dataset",)}
    where = f"convert({source.what}; {shown}{f'; dataset: {dataset}' if dataset else ''})"
    tell(where)
    try:
        conversion = lstm_toolkit.convert(source.model, **source.options, **options)
    except (LstmToolkitError, ValueError) as error:
        if isinstance(error, ValueError) and not is_documented(error):
            raise
        return Outcome("refused", f"{type(error).__name__}: {error}", where)
    tell(f"comparing: {where}")
    if conversion.report.quantization is not None:
        return judged_quantized(random, source, conversion, options, (batch, steps or 5, dataset or "normal"))
    return judged(random, source, conversion, options, (batch, steps))


def is_documented(error: ValueError) -> bool:
    """Whether a ValueError was raised by the package itself, and not below it."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and "lstm_toolkit" in Path(last.tb_frame.f_code.co_filename).parts


def random_options(random: np.random.Generator, source: Source) -> dict[str, Any]:
    """Options of `convert`, each mostly at its default."""
    quantization = one_of(random, *[None] * 12, "dynamic", "float16", "int8", "int8", "int8")
    lowering = one_of(random, *["fused"] * 5, "unrolled", "unrolled", "loop", "loop", "auto")
    if quantization == "int8" and chance(random, 0.8):
        lowering = "fused"
    options = {
        "batch_size": one_of(random, None, None, 1, 2, 3),
        "time_steps": one_of(random, None, None, 4) if source.time is None else None,
        "lowering": lowering,
        "state": one_of(random, *["auto"] * 6, "reset", "carry", "explicit"),
        "bidirectional": one_of(random, "fused", "fused", "split"),
        "quantization": quantization,
        "io_dtype": one_of(random, *["float32"] * 8, "int8", "int8", "uint8", "int16", ("uint8", "float32")),
        "time_major": chance(random, 0.12),
        "on_unsupported": one_of(random, *["raise"] * 6, "keep"),
        "target": one_of(random, *[None] * 7, "litert", "compiled", "micro"),
        "verify": chance(random, 0.85),
    }
    if source.batch is not None and chance(random, 0.9):
        options["batch_size"] = None
    if "function" in source.what or "composite" in source.what:
        options |= {"state": "auto", "time_major": False} if chance(random, 0.9) else {}
    if any(word in source.what for word in ("GRU", "cell", "own")) and lowering == "fused" and quantization != "int8":
        options["lowering"] = one_of(random, "fused", "unrolled", "unrolled", "loop", "loop")
    if options["lowering"] == "unrolled" and source.time is None and chance(random, 0.8):
        options["time_steps"] = 4
    if options["lowering"] == "auto":
        options |= {"time_budget": 1.0, "max_error": one_of(random, None, None, 0.05)}
        options["caches"] = one_of(random, "cold", "hot")
    if chance(random, 0.02):
        options[one_of(random, "lowering", "state", "quantization", "target")] = "nonsense"
    usual = {"lowering": "fused", "state": "auto", "bidirectional": "fused", "io_dtype": "float32", "verify": True}
    usual |= {"time_major": False, "on_unsupported": "raise", "caches": "cold"}
    return {name: value for name, value in options.items() if value is not None and usual.get(name) != value}


def samples_of(random: np.random.Generator, source: Source, batch: int, time: int, kind: str) -> Any:
    """A representative_dataset of a kind, in one of its forms."""
    count = {"few": 4, "one": 1}.get(kind, 30)
    samples = [sample_of(random, source, (batch, time), kind) for _ in range(count)]
    if kind == "wrong":
        return one_of(random, [], np.zeros((0, 3)), [[np.zeros(2)]], None, "text", 3, [None], {})
    form = one_of(random, "list", "function", "iterator")
    listed = [list(each.values()) for each in samples] if chance(random, 0.5) else samples
    if form == "function":
        return lambda: iter(listed)
    if form == "iterator":
        return iter(listed)
    return listed


def sample_of(random: np.random.Generator, source: Source, sizes: tuple[int, int], kind: str) -> Arrays:
    """Inputs as those of a representative_dataset of a kind."""
    changes: dict[str, Any] = {
        "zeros": lambda array: np.zeros_like(array),
        "constant": lambda array: np.full_like(array, 0.7),
        "NaN": lambda array: np.where(random.random(array.shape) < 0.01, np.nan, array).astype(array.dtype),
        "huge": lambda array: array * np.float32(1e30),
        "tiny": lambda array: array * np.float32(1e-30),
    }
    arrays = source.draw(random, *sizes)
    if kind not in changes:
        return arrays
    return {name: changes[kind](array) if array.dtype.kind == "f" else array for name, array in arrays.items()}


def times_of(steps: int | None) -> Iterator[int]:
    """The number of steps of each call: those of the file, or others each time."""
    return itertools.repeat(steps) if steps else itertools.cycle((5, 2, 9))


def twin_for(source: Source, state: str, batch: int, dtype: str) -> Twin:
    """The model as its user calls it where the file has a state of this kind."""
    if state in ("carry", "explicit"):
        assert source.carrying is not None, "a file was made for a state that the model has not"
        return source.carrying(batch, dtype)
    return source.own if dtype == "float32" or source.exact is None else source.exact()


def judged(
    random: np.random.Generator, source: Source, conversion: Any, options: dict[str, Any], sizes: tuple[int, Any]
) -> Outcome:
    """Compares a float file with its model: four calls in a row on an interpreter with XNNPACK, and on one without."""
    batch, steps = sizes
    state, time_major = options.get("state", "auto"), bool(options.get("time_major"))
    kept = options.get("on_unsupported") == "keep" and any(each.reason for each in conversion.report.layers or ())
    if kept and state in ("carry", "explicit"):
        return Outcome("unjudged", "layers are kept as they were, whose state the report does not promise")
    # Where the time changes, the interpreter is allocated anew, and loses what it carries.
    keeps_time = state == "carry" or (state == "auto" and source.carries)
    times = times_of(steps or (5 if keeps_time else None))
    calls = [source.draw(random, batch, time) for time in itertools.islice(times, 4)]
    try:
        twin = twin_for(source, state, batch, "float32")
        wanted = called(twin, calls, fresh=state == "reset")
    except Exception as error:  # whatever Keras raises
        return Outcome("unjudged", f"Keras cannot run the model with this state: {type(error).__name__}: {error}"[:300])
    approximate = options.get("max_error") is not None and "int8" in str(conversion.report.automatic)
    for resolver in RESOLVERS:
        try:
            file = File(conversion.tflite, resolver)
        except RuntimeError as error:
            if options.get("on_unsupported") == "keep" and "Select TensorFlow op" in str(error):
                return Outcome("right", "kept as TensorFlow's own op")
            return Outcome("wrong", f"the file does not run: {error}")
        given = run_in_a_row(file, calls, time_major=time_major)
        if approximate:
            continue
        problem = first_difference(wanted, given)
        if problem and source.exact is not None:
            doubt = called(twin_for(source, state, batch, "float64"), calls, fresh=state == "reset")
            problem = first_difference(wanted, given, doubt)
        if problem:
            return Outcome("wrong", problem)
    return Outcome("right")


def judged_quantized(
    random: np.random.Generator,
    source: Source,
    conversion: Any,
    options: dict[str, Any],
    sizes: tuple[int, int, str],
) -> Outcome:
    """Holds a quantized file against the errors of its report, on new inputs that are drawn as the samples were."""
    batch, steps, kind = sizes
    state, time_major = options.get("state", "auto"), bool(options.get("time_major"))
    carries = state in ("carry", "explicit")
    calls = [sample_of(random, source, (batch, steps), kind) for _ in range(NEW)]
    try:
        wanted = called(twin_for(source, state, batch, "float32"), calls, fresh=state == "reset")
    except Exception as error:  # whatever Keras raises
        return Outcome("unjudged", f"Keras cannot run the model with this state: {type(error).__name__}: {error}"[:300])
    given = run_in_a_row(File(conversion.tflite), calls, time_major=time_major)
    report = conversion.report.quantization
    errors = {each.name: each for each in report.outputs}
    tells = report.most_above is not None and not carries
    for name in wanted[0]:
        pairs = [error_of(one[name], other[name]) for one, other in zip(wanted, given, strict=True)]
        if not all(np.isfinite(error) for error, _ in pairs):
            return Outcome("wrong", f"{name} is not finite where that of the model is")
        if tells and name in errors:
            # The report is of the file before it was quantized, which is not exactly the model.
            allowed = errors[name].max_abs_error * (1 if options.get("quantization") == "int8" else 3) + 2e-5
            above = sum(error > allowed for error, _ in pairs)
            if probability(report.samples, above) < 1e-6:
                worst = max(error for error, _ in pairs)
                return Outcome(
                    "wrong",
                    f"{name}: {above} of {NEW} new inputs are above the largest error of the report, {allowed:.3g} on "
                    f"{report.samples} samples; the largest is {worst:.3g}",
                )
    return Outcome("right")


def probability(samples: int, above: int) -> float:
    """That so many of the new inputs are above all samples, where all are drawn alike."""
    product = 1.0
    for number in range(above):
        product *= (NEW - number) / (NEW + samples - number)
    return product
