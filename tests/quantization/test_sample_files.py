"""Samples out of `.npz` and `.npy` files: what is read, and what is refused with a remedy."""

import os
import pickle
import zipfile

import numpy as np
import pytest

from lstm_toolkit.errors import InvalidModelError
from lstm_toolkit.quantization.sample_files import load_samples

X = np.random.default_rng(8).normal(size=(4, 7, 5))
LIMIT = "LSTM_TOOLKIT_MAX_MODEL_BYTES"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_by_the_names_of_inputs(tmp_path, save):
    save(tmp_path / "x.npz", **{"x": X, "states/h": X[:, 0]})
    found = load_samples(tmp_path / "x.npz")
    assert sorted(found) == ["states/h", "x"]
    np.testing.assert_array_equal(found["x"], X)
    np.testing.assert_array_equal(found["states/h"], X[:, 0])


def test_one_array_without_a_name(tmp_path):
    np.savez(tmp_path / "x.npz", X)
    np.save(tmp_path / "x.npy", X)
    for name in ("x.npz", "x.npy"):
        np.testing.assert_array_equal(load_samples(tmp_path / name), X)


class Harmful:
    def __reduce__(self):
        return os._exit, (3,)


@pytest.mark.parametrize("as_array", [True, False])
def test_nothing_is_unpickled(tmp_path, as_array):
    path = tmp_path / "x.npz"
    if as_array:
        np.savez(path, x=np.array([Harmful()], object))
    else:
        path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(
        ValueError, match=r"holds Python objects, which|is no \.npz file of NumPy .* save it by numpy.savez"
    ):
        load_samples(path)


def test_objects_become_numbers_by_stacking(tmp_path):
    of_objects = np.empty(len(X), object)
    of_objects[:] = list(X)
    np.savez(tmp_path / "x.npz", x=of_objects)
    with pytest.raises(ValueError, match=r"make arrays of numbers of one shape of them, as numpy\.stack does"):
        load_samples(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", x=np.stack(list(of_objects)))
    np.testing.assert_array_equal(load_samples(tmp_path / "x.npz")["x"], X)


def with_member(path, name, data):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, data)


def truncated(path, share):
    np.savez(path, x=X)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text("1,2,3"), "is no .npz file of NumPy .* save it by numpy.savez"),
        (lambda path: path.write_bytes(b""), "is no .npz file of NumPy"),
        (lambda path: truncated(path, 0.5), "is no .npz file of NumPy"),
        (lambda path: np.savez(path, x=np.float32(3)), r"no array \[samples, ...\] under 'x'; save one for each input"),
        (lambda path: with_member(path, "words.txt", "a"), r"no array \[samples, ...\] under 'words.txt'; save one"),
        (lambda path: with_member(path, "x.npy", b"\x93NUMPY\x01\x00\xff"), "is no .npz file of NumPy"),
    ],
)
def test_other_files(tmp_path, make, words):
    make(tmp_path / "x.npz")
    with pytest.raises(ValueError, match=words) as met:
        load_samples(tmp_path / "x.npz")
    assert str(tmp_path / "x.npz") in str(met.value)
    np.savez(tmp_path / "x.npz", x=X)
    np.testing.assert_array_equal(load_samples(tmp_path / "x.npz")["x"], X)


def test_what_is_claimed_has_a_limit(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((1000, 1000)))
    assert (tmp_path / "x.npz").stat().st_size < 20_000
    monkeypatch.setenv(LIMIT, "20000")
    with pytest.raises(InvalidModelError, match=rf"claims 8,000,128 bytes, more than 20,000; .* {LIMIT} to 8000128"):
        load_samples(tmp_path / "x.npz")
    monkeypatch.setenv(LIMIT, "8000128")
    assert load_samples(tmp_path / "x.npz")["x"].shape == (1000, 1000)


def test_a_header_that_claims_more_than_there_is(tmp_path):
    np.save(tmp_path / "x.npy", X)
    data = (tmp_path / "x.npy").read_bytes().replace(b"(4, 7, 5), }      ", b"(4000000, 7, 5), }")
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(ValueError, match=r"is no \.npz file of NumPy"):
        load_samples(tmp_path / "x.npy")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InvalidModelError, match="cannot read"):
        load_samples(tmp_path / "x.npz")
