"""Files of Keras 3 and of Keras 2: loaded with the library that wrote them, or refused with what to do."""

import importlib
import json
import sys
import warnings

import h5py
import keras
import numpy as np
import pytest
import tf_keras

import lstm_toolkit as lt
from lstm_toolkit import versions
from lstm_toolkit.errors import ConversionError, InvalidModelError
from lstm_toolkit.sources import first_load, keras_files
from tests.helpers.models import randomized

SHAPE = (7, 5)
X = np.random.default_rng(3).normal(size=(1, *SHAPE)).astype(np.float32)
ENDINGS = ("h5", "keras")


def of_keras_2(**options):
    layers = tf_keras.layers
    stack = [layers.Bidirectional(layers.LSTM(6, return_sequences=True)), layers.LSTM(4, **options)]
    return randomized(tf_keras.Sequential([tf_keras.Input(SHAPE), *stack]), 1)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Models of Keras 2 by name, and the folder of their files."""
    folder = tmp_path_factory.mktemp("models")
    models = {"plain": of_keras_2(), "hard": of_keras_2(recurrent_activation="hard_sigmoid")}
    for name, model in models.items():
        for ending in ENDINGS:
            model.save(folder / f"{name}.{ending}")
    return models, folder


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(("name", "lowering"), [("plain", "fused"), ("hard", "unrolled")])
def test_files_of_keras_2_are_loaded_with_tf_keras(models, name, lowering, ending):
    """Its hard_sigmoid is another one than that of Keras 3, which would load some such files."""
    model = models[0][name]
    path = models[1] / f"{name}.{ending}"
    runner = lt.convert(path, lowering=lowering).runner()
    for x in (X, X / 2):
        np.testing.assert_allclose(runner(x), model(x), rtol=0, atol=1e-5)
    assert [finding.code for finding in lt.diagnose(path)] == ["not-fusable"] * (name == "hard") + ["open-batch"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_files_of_keras_2_without_tf_keras(models, ending, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(
        ConversionError, match=r"was written by Keras 2\.[\d.]+, which Keras 3 cannot read; install tf_"
    ):
        lt.convert(models[1] / f"plain.{ending}")


@pytest.mark.parametrize("name", ["plain", "hard"])
def test_older_files_that_keras_3_reads(models, name, tmp_path, monkeypatch):
    """Keras 2.3 and before wrote no time_major, at which Keras 3 stops."""
    path = tmp_path / "older.h5"
    path.write_bytes((models[1] / f"{name}.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"], object_hook=lambda d: {k: d[k] for k in d if k != "time_major"})
        file.attrs["model_config"], file.attrs["keras_version"] = json.dumps(config), "2.3.1"
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    if name == "hard":
        with pytest.raises(ConversionError, match="its hard_sigmoid is another function; install tf_keras"):
            lt.convert(path, lowering="unrolled")
    else:
        given = lt.convert(path).runner()(X)
        monkeypatch.undo()
        np.testing.assert_allclose(given, models[0]["plain"](X), rtol=0, atol=1e-5)


@pytest.mark.parametrize("library", [keras, tf_keras])
def test_weights_alone_are_no_model(library, tmp_path):
    build = lambda: library.Sequential([library.Input(SHAPE), library.layers.LSTM(6)])  # noqa: E731
    model, path = randomized(build(), 2), tmp_path / "all.weights.h5"
    model.save_weights(path)
    with pytest.raises(InvalidModelError, match="has no model in it, but at most the weights of one") as refusal:
        lt.convert(path)
    assert "build the model in Python, call its load_weights on this file" in str(refusal.value)
    # The remedy, to the letter.
    rebuilt = build()
    rebuilt.load_weights(path)
    rebuilt.save(tmp_path / "model.keras")
    for source in (rebuilt, tmp_path / "model.keras"):
        np.testing.assert_allclose(lt.convert(source).runner()(X), model(X), rtol=0, atol=1e-5)


@pytest.mark.parametrize("ending", ENDINGS)
def test_code_in_a_file_of_keras_2_does_not_run(ending, tmp_path):
    x = tf_keras.Input(SHAPE)
    doubled = tf_keras.layers.Lambda(lambda value: value * 2)(x)
    tf_keras.Model(x, tf_keras.layers.LSTM(4)(doubled)).save(tmp_path / f"code.{ending}")
    with pytest.raises(
        ConversionError, match=r"would have to be run out of it \(a Lambda layer\); load the model your"
    ):
        lt.convert(tmp_path / f"code.{ending}")


def test_a_damaged_hdf5_file(tmp_path):
    (tmp_path / "damaged.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40))
    with pytest.raises(InvalidModelError, match=r"is not a model that Keras can load: .*; save it again"):
        lt.convert(tmp_path / "damaged.h5")


@pytest.mark.parametrize(
    ("error", "backend", "text"),
    [
        (
            ModuleNotFoundError("No module named 'jax'", name="jax"),
            "jax",
            "with KERAS_BACKEND=jax: No module named 'jax'",
        ),
        (ValueError("Unable to import backend : none"), "none", "with KERAS_BACKEND=none: Unable to import backend"),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            "",
            "with the backend of its keras.json: No mod",
        ),
    ],
)
def test_a_backend_that_is_not_there(error, backend, text, monkeypatch):
    def fail(name):
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    monkeypatch.setenv("KERAS_BACKEND", backend)
    with pytest.raises(
        ConversionError, match=f"Keras cannot be imported {text}.*; set the .* KERAS_BACKEND=tensorflow"
    ):
        keras_files.import_keras()


def test_a_missing_tensorflow_is_not_said_to_be_a_backend(monkeypatch):
    def fail(name):
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ModuleNotFoundError, match="tensorflow"):
        keras_files.import_keras()


def test_a_path_is_of_the_folder_that_the_process_is_in_now(models, monkeypatch, tmp_path):
    """The process that loads a file first may have started in another one."""
    lt.convert(models[1] / "plain.keras", time_steps=7, verify=False)
    monkeypatch.chdir(models[1])
    assert lt.convert("plain.h5", verify=False).report.ops


@pytest.mark.parametrize(
    ("version", "warns"), [("3.11.2", True), ("3.8.0rc1", True), ("3.11.3", False), ("3.15.1", False)]
)
def test_an_old_keras_is_warned_of(models, monkeypatch, version, warns):
    monkeypatch.setattr(versions, "installed", {"keras": version}.get)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first_load.load(models[1] / "plain.keras")
    assert any("can run code" in str(each.message) for each in caught) == warns
