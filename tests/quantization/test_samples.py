"""`representative_dataset`: the forms that it may have, and what is refused before anything slow is done."""

import itertools

import keras
import numpy as np
import pytest

import lstm_toolkit as lt
from lstm_toolkit.conversion import pipeline
from lstm_toolkit.errors import ConversionError
from lstm_toolkit.quantization import samples as samples_quantization

NAMES, SHAPES, DTYPES = ("a", "b"), ([1, 4, 3], [2, 5]), (np.float32, np.int32)


def two(count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Samples for two inputs that differ in shape and dtype."""
    random = np.random.default_rng(3)
    return random.standard_normal((count, 1, 4, 3)).astype(np.float32), random.integers(0, 9, (count, 2, 5), np.int32)


def read(dataset):
    return samples_quantization.read_samples(dataset, NAMES, SHAPES, DTYPES)


def read_one(dataset, shape=(1, 4, 3), dtype=np.float32):
    return samples_quantization.read_samples(dataset, ["x"], [shape], [dtype])


A, B = two()
FORMS_OF_TWO = {
    "arrays by name": {"a": A, "b": B},
    "arrays by name, in another order": {"b": B, "a": A},
    "arrays by name, without the batch of 1": {"a": A[:, 0], "b": B},
    "list of lists": [[a, b] for a, b in zip(A, B, strict=True)],
    "list of tuples": [(a, b) for a, b in zip(A, B, strict=True)],
    "list of dicts": [{"b": b, "a": a} for a, b in zip(A, B, strict=True)],
    "function that yields lists": lambda: ([a, b] for a, b in zip(A, B, strict=True)),
    "function that returns arrays": lambda: {"a": A, "b": B},
    "float64 and nested lists": {"a": A.astype(np.float64), "b": B.tolist()},
}


@pytest.mark.parametrize("form", FORMS_OF_TWO)
def test_forms_for_two_inputs(form):
    samples = read(FORMS_OF_TWO[form])
    assert len(samples) == len(A)
    for sample, a, b in zip(samples, A, B, strict=True):
        assert list(sample) == ["a", "b"]
        assert (sample["a"].dtype, sample["b"].dtype) == (np.float32, np.int32)
        np.testing.assert_array_equal(sample["a"], a)
        np.testing.assert_array_equal(sample["b"], b)


def test_forms_for_one_input():
    forms = (A, A[:, 0], {"x": A}, list(A), [[a] for a in A], (a for a in A), iter([{"x": a} for a in A]), lambda: A)
    for form in forms:
        np.testing.assert_array_equal(np.stack([sample["x"] for sample in read_one(form)]), A)


def test_a_tensorflow_dataset_and_tensors():
    import tensorflow as tf

    for form in (tf.data.Dataset.from_tensor_slices(A), tf.constant(A)):
        np.testing.assert_array_equal(np.stack([sample["x"] for sample in read_one(form)]), A)


def broken(value):
    array = A.copy()
    array[4, 0, 1, 2] = value
    return list(array)


REFUSED = {
    "empty list": ([], "is empty; give it some hundred typical inputs"),
    "empty array": (A[:0], "is empty"),
    "empty generator": (lambda: iter(()), "is empty"),
    "NaN": (broken(np.nan), "sample 4, input 'x' of representative_dataset holds NaN or infinity"),
    "infinity": (broken(-np.inf), "sample 4, input 'x' of representative_dataset holds NaN or infinity"),
    "shape": ([*A[:2], A[2][:, :3]], r"sample 2, input 'x' .* has shape \[1, 3, 3\], expected \[1, 4, 3\]"),
    "batch": (np.concatenate([A, A], axis=1), r"sample 0, .* has shape \[2, 4, 3\], expected \[1, 4, 3\]"),
    "no samples axis": (A[0, 0], r"sample 0, .* has shape \[3\], expected \[1, 4, 3\]"),
    "complex": (A.astype(complex), "sample 0, input 'x' of representative_dataset is complex128, expected float32"),
    "text": ([np.full((1, 4, 3), "a")], "is <U1, expected float32"),
    "wrong name": ({"y": A}, r"has the inputs \['y'\], and the model \['x'\]"),
    "two for one": ([[A[0], A[1]]], r"sample 0 of representative_dataset has 2 inputs, and the model 1: \['x'\]"),
    "a number": (7, "must be an array, a mapping of arrays by input name, or an iterable of samples, got int"),
    "a path": ("samples.npy", "got str"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    dataset, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        read_one(dataset)


def test_refused_for_two_inputs():
    for dataset, message in (
        (A, r"is one array, but the model has the inputs \['a', 'b'\]"),
        ({"a": A}, r"has the inputs \['a'\], and the model \['a', 'b'\]"),
        ({"a": A, "b": B[:4]}, "different numbers of samples: {'a': 6, 'b': 4}"),
        ([[A[0]]], "sample 0 of representative_dataset has 1 inputs, and the model 2"),
        (
            {"a": A, "b": B.astype(np.float32)},
            "input 'b' of representative_dataset is float32, expected int32",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            read(dataset)


def test_a_generator_without_end_is_stopped(monkeypatch):
    monkeypatch.setattr(samples_quantization, "MOST_SAMPLES", 20)
    with pytest.raises(ValueError, match="does not end after 20 samples; let it end"):
        read_one(lambda: itertools.repeat(A[0]))
    assert len(read_one(itertools.islice(itertools.repeat(A[0]), 20))) == 20


def test_samples_do_not_change_with_the_callers_array():
    def refilled():
        array = np.empty_like(A[0])
        for a in A:
            array[:] = a
            yield array

    np.testing.assert_array_equal(np.stack([sample["x"] for sample in read_one(refilled)]), A)


# Before any slow step


@pytest.fixture
def model():
    return keras.Sequential([keras.Input((4, 3), batch_size=1, name="x"), keras.layers.LSTM(5)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantization": "int8"}, 'quantization="int8" needs representative_dataset: some hundred typical inputs'),
        ({"quantization": "int8", "representative_dataset": A[:0]}, "representative_dataset is empty"),
        ({"quantization": "int8", "representative_dataset": np.stack(broken(np.nan))}, "holds NaN or infinity"),
        ({"quantization": "int8", "representative_dataset": {"x": np.full((9, 4, 3), "a")}}, "holds <U1, expected"),
        ({"quantization": "int8", "representative_dataset": A, "lowering": "auto"}, 'a lowering other than "auto"'),
        (
            {"quantization": "int8", "representative_dataset": A, "io_dtype": ("int8", "int4")},
            r"io_dtype must be one of float32, int8, int16, uint8, got \('int8', 'int4'\)",
        ),
        (
            {"quantization": "dynamic", "representative_dataset": A, "verify": False},
            'representative_dataset is for quantization="int8" or "int16x8", and for verify=True',
        ),
        ({"quantization": "float16", "io_dtype": "int8"}, 'io_dtype other than "float32" needs representative_dataset'),
        ({"quantization": "int4"}, "quantization must be one of dynamic, float16, int8, int16x8 or None, got 'int4'"),
    ],
)
def test_options_are_checked_before_tracing(model, monkeypatch, options, message):
    monkeypatch.setattr(pipeline, "trace", lambda *_, **__: pytest.fail("traces"))
    with pytest.raises(ValueError, match=message):
        lt.convert(model, **options)


@pytest.mark.parametrize("dataset", [[], broken(np.inf), [A[0][:, :2]]], ids=["empty", "infinity", "shape"])
def test_samples_are_checked_before_converting(model, monkeypatch, dataset):
    monkeypatch.setattr(pipeline, "lowered", lambda *_, **__: pytest.fail("converts"))
    with pytest.raises(ValueError, match="representative_dataset"):
        lt.convert(model, quantization="int8", representative_dataset=dataset)


def test_open_time_is_refused_before_converting(monkeypatch):
    monkeypatch.setattr(pipeline, "lowered", lambda *_, **__: pytest.fail("converts"))
    model = keras.Sequential([keras.Input((None, 3), name="x"), keras.layers.LSTM(5)])
    with pytest.raises(ConversionError, match=r"inputs \['x'\] have open sizes, and int8 needs fixed ones; pass"):
        lt.convert(model, quantization="int8", representative_dataset=A)


# Doubts


def samples_of(array):
    return [{"x": x} for x in np.asarray(array, np.float32)]


def test_warnings():
    random = np.random.default_rng(0)
    seen, new = random.uniform(-1, 1, (40, 1, 3)), random.uniform(-1, 1, (10, 1, 3))
    assert samples_quantization.warnings_about(samples_of(seen), samples_of(new)) == []
    (few,) = samples_quantization.warnings_about(samples_of(seen[:19]), samples_of(new * 0.9))
    assert few == "the ranges were taken on 19 samples only; give some hundred"
    (outside,) = samples_quantization.warnings_about(samples_of(seen), samples_of(4 * new))
    assert "of the held-out values of input 'x' are outside of -0.9" in outside
    far = seen.copy()
    far[3, 0, 1] = 40
    (wide,) = samples_quantization.warnings_about(samples_of(far), samples_of(new))
    assert "the range of input 'x' is 22 times as wide as that of the held-out samples" in wide


def test_integer_inputs_have_no_range():
    ids = [{"x": np.full((1, 3), number, np.int32)} for number in range(30)]
    assert samples_quantization.warnings_about(ids[:25], ids[25:]) == []


def test_split():
    samples = samples_of(np.arange(50).reshape(50, 1, 1))
    calibration, held_out = samples_quantization.split(samples, in_order=False)
    assert [int(s["x"][0, 0]) for s in held_out] == list(range(0, 50, 5))
    assert len(calibration) == 40
    calibration, held_out = samples_quantization.split(samples, in_order=True)
    assert [int(s["x"][0, 0]) for s in calibration + held_out] == list(range(50))
    assert len(held_out) == 10
    assert samples_quantization.split(samples[:9], in_order=False) == (samples[:9], [])
