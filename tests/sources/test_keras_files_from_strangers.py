"""Keras files and SavedModels that somebody else made: what claims, takes or does too much is refused, and in time."""

import io
import json
import logging
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import zipfile
import zlib

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import lstm_toolkit as lt
from lstm_toolkit.errors import ConversionError, InvalidModelError
from tests.helpers.models import randomized

LIMIT, SECONDS = "LSTM_TOOLKIT_MAX_MODEL_BYTES", "LSTM_TOOLKIT_MAX_LOAD_SECONDS"
layers = keras.layers


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files of one model, by their endings."""
    folder = tmp_path_factory.mktemp("whole")
    model = keras.Sequential([keras.Input((7, 5)), layers.LSTM(6, return_sequences=True, name="lstm"), layers.Dense(3)])
    for ending in ("keras", "h5"):
        randomized(model, 1).save(folder / f"model.{ending}")
    return {ending: folder / f"model.{ending}" for ending in ("keras", "h5")}


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path, content, **compressed):
    """A `.keras` file with these members, and with others that are compressed."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
        for name, data in compressed.items():
            archive.writestr(name.replace("__", "."), data, zipfile.ZIP_DEFLATED, compresslevel=1)
    return path


def configured(whole, path, change):
    """The model with another configuration."""
    content = members(whole["keras"])
    config = json.loads(content["config.json"])
    change(config["config"]["layers"])
    return packed(path, content | {"config.json": json.dumps(config)})


def loads(path):
    assert [finding.code for finding in lt.diagnose(path)] == ["open-batch"]


def refusal(path, words):
    with pytest.raises(InvalidModelError, match=words) as met:
        lt.diagnose(path)
    assert str(path) in str(met.value)
    return str(met.value)


@pytest.mark.parametrize("name", ["config.json", "assets/words.txt"])
def test_what_an_archive_claims_has_a_limit_that_can_be_raised(whole, tmp_path, monkeypatch, name):
    content = members(whole["keras"])
    data = content.pop(name, b"") + b" " * 2_000_000
    path = packed(tmp_path / "bomb.keras", content, **{name.replace(".", "__"): data})
    loads(path)
    monkeypatch.setenv(LIMIT, "1000000")
    told = refusal(path, r"claims 2,0[\d,]+ bytes, more than 1,000,000; if you trust where it comes from, set the env")
    monkeypatch.setenv(LIMIT, re.search(rf"{LIMIT} to (\d+)$", told)[1])
    loads(path)


def test_without_a_limit_of_its_own_a_file_claims_ten_times_its_size_and_more(whole, tmp_path):
    content = members(whole["keras"])
    config = content.pop("config.json") + b" " * (300 << 20)
    refusal(packed(tmp_path / "bomb.keras", content, config__json=config), r"claims 314,\d+,\d+ bytes, more than 28")


def test_weights_as_keras_stores_them_pass_at_any_size(tmp_path, monkeypatch):
    from lstm_toolkit.sources import declared_sizes

    model = keras.Sequential([keras.Input((7, 500)), layers.LSTM(300)])
    for ending in ("keras", "h5"):
        path = tmp_path / f"large.{ending}"
        model.save(path)
        monkeypatch.setattr(declared_sizes, "FREE_BYTES", 0)
        monkeypatch.setattr(declared_sizes, "TIMES", 1)
        declared_sizes.check(path)


def lying(path, content, name, size):
    """An archive whose member says that it has fewer bytes than come, and has their checksum."""
    data = content.pop(name)
    packed(path, content, **{name.replace(".", "__"): data})
    raw = path.read_bytes()
    true, false = (struct.pack("<I", zlib.crc32(part)) for part in (data, data[:size]))
    assert raw.count(true) == 2
    path.write_bytes(raw.replace(true, false).replace(struct.pack("<I", len(data)), struct.pack("<I", size)))
    return path


def test_a_member_has_the_size_that_it_claims(whole, tmp_path):
    content = members(whole["keras"])
    size = len(content["config.json"])
    content["config.json"] += b" " * 1_000_003
    path = lying(tmp_path / "lying.keras", content, "config.json", size)
    assert members(path)["config.json"] == members(whole["keras"])["config.json"]
    refusal(path, rf"a member 'config.json' that claims {size:,} bytes and has others; save it again")


@pytest.mark.parametrize(
    ("add", "words"),
    [
        (lambda archive: archive.writestr("../out.txt", b""), "member '../out.txt', which is there twice or leads out"),
        (lambda archive: archive.writestr("/out.txt", b""), "member '/out.txt', which is there twice or leads out"),
        (lambda archive: archive.writestr("./config.json", b"{}"), "member './config.json', which is there twice"),
        (lambda archive: archive.writestr("a", b"", zipfile.ZIP_BZIP2), "in a compression that Keras does not use"),
        (lambda archive: [archive.writestr(f"assets/{n}", b"") for n in range(10_000)], "10,003 members, more than"),
    ],
)
def test_members_that_keras_does_not_write(whole, tmp_path, add, words):
    path = tmp_path / "odd.keras"
    shutil.copy(whole["keras"], path)
    with zipfile.ZipFile(path, "a") as archive:
        add(archive)
    assert refusal(path, words).endswith("save it again")


def link_to_a_file(group, name, folder):
    group[name] = h5py.ExternalLink(folder / "secret.h5", "/w")


def link_inside(group, name, folder):
    group[name] = h5py.SoftLink("/")


def stored_outside(group, name, folder):
    group.create_dataset(name, (5, 24), dtype="f4", external=[(folder / "secret.h5", 0, 480)])


def put_together(group, name, folder):
    layout = h5py.VirtualLayout((5, 24), "f4")
    layout[:] = h5py.VirtualSource(folder / "secret.h5", "w", shape=(5, 24))
    group.create_virtual_dataset(name, layout)


def first_dataset(group):
    found = []
    group.visititems(lambda _, value: found.append(value) if isinstance(value, h5py.Dataset) else None)
    return found[0]


def edited(whole, path, edit):
    """The model with another dataset in the place of one of its weights."""
    ending = path.suffix[1:]
    content = members(whole["keras"])
    data = io.BytesIO(content["model.weights.h5"] if ending == "keras" else whole["h5"].read_bytes())
    with h5py.File(data, "r+") as file:
        dataset = first_dataset(file["layers/lstm" if ending == "keras" else "model_weights/lstm"])
        group, name = dataset.parent, dataset.name.rpartition("/")[2]
        del group[name]
        edit(group, name)
    if ending == "keras":
        return packed(path, content | {"model.weights.h5": data.getvalue()})
    path.write_bytes(data.getvalue())
    return path


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (link_to_a_file, "a link"),
        (link_inside, "a link"),
        (stored_outside, "a dataset in another file"),
        (put_together, "a virtual dataset"),
    ],
)
def test_weights_that_are_elsewhere(whole, tmp_path, make, words, ending):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["w"] = np.ones((5, 24), np.float32)
    path = edited(whole, tmp_path / f"pointing.{ending}", lambda group, name: make(group, name, tmp_path))
    refusal(path, f"has {words} at '.*', which leads elsewhere; if you trust where it comes from, load the model")


def test_tf_keras_follows_no_link_either(tmp_path):
    model = tf_keras.Sequential([tf_keras.Input((7, 5)), tf_keras.layers.LSTM(6, name="lstm")])
    model.save(tmp_path / "other.h5")
    shutil.copy(tmp_path / "other.h5", tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        del file["model_weights/lstm"]
        file["model_weights/lstm"] = h5py.ExternalLink(tmp_path / "other.h5", "/model_weights/lstm")
    refusal(tmp_path / "model.h5", "has a link at 'model_weights/lstm', which leads elsewhere")


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_shapes_that_claim_what_is_not_stored(whole, tmp_path, ending):
    def claim(group, name):
        group.create_dataset(name, (500_000, 2400), dtype="f4", chunks=(1000, 2400), compression="gzip")

    refusal(edited(whole, tmp_path / f"shape.{ending}", claim), r"claims 4,80\d,\d+,\d+ bytes, more than 26\d,\d+,\d+")


def test_memory_has_a_limit(whole, tmp_path, monkeypatch):
    content = members(whole["keras"]) | {"config.json": b"[" + b"[]," * 8_000_000 + b"[]]"}
    monkeypatch.setenv(LIMIT, "30000000")
    refusal(packed(tmp_path / "nested.keras", content), f"more than 120,000,000 bytes of memory to load; .* {LIMIT} to")


def set_steps(config, steps):
    config[0]["config"]["batch_shape"][1] = steps
    config[1]["build_config"]["input_shape"][1] = steps


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: set_steps(config, 10**9), "of 'lstm', which has 24,000,000,000"),
        (lambda config: config[0]["config"].update(batch_shape=[10**9, 7, 5]), "of 'lstm', which has 168,000,000,000"),
        (lambda config: config.append(layer(layers.UpSampling1D(10**9, name="wide"))), "of 'wide', which has 84,"),
    ],
)
def test_results_have_a_limit(whole, tmp_path, change, words):
    path = configured(whole, tmp_path / "wide.keras", change)
    refusal(path, f"needs more than 1,07.* bytes of memory for the result {words}.* {LIMIT} to more than a 4th of")


def layer(of_keras):
    return json.loads(json.dumps(keras.saving.serialize_keras_object(of_keras)))


def test_other_weights_and_deep_configurations_are_ordinary_refusals(whole, tmp_path):
    path = configured(whole, tmp_path / "weights.keras", lambda config: config[2]["config"].update(units=4))
    refusal(path, "is not a model that Keras can load: A total of 1 objects could not be loaded")
    content = members(whole["keras"]) | {"config.json": "[" * 1_000_000}
    refusal(packed(tmp_path / "deep.keras", content), "is not a model that Keras can load: maximum recursion depth")


@keras.saving.register_keras_serializable("strangers")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return x * 2


def test_classes_that_are_registered_here_alone(tmp_path):
    model = keras.Sequential([keras.Input((7, 5)), Doubled(), layers.LSTM(6)])
    randomized(model, 3).save(tmp_path / "own.keras")
    runner = lt.convert(tmp_path / "own.keras").runner()
    for seed in (1, 2):
        x = np.random.default_rng(seed).normal(size=(1, 7, 5)).astype(np.float32)
        np.testing.assert_allclose(runner(x), model(x), rtol=0, atol=1e-5)


def test_classes_that_nobody_has_registered(whole, tmp_path, monkeypatch):
    path = configured(whole, tmp_path / "own.keras", lambda config: config.append(unknown("Somebodys")))
    with pytest.raises(ConversionError, match="needs code that is not in the file"):
        lt.diagnose(path)


def unknown(name):
    return {"module": "theirs", "class_name": name, "config": {}, "registered_name": f"theirs>{name}"}


def test_a_process_that_ends_is_a_refusal(whole, monkeypatch):
    from lstm_toolkit.runtime.worker import WorkerEndedError
    from lstm_toolkit.sources import first_load

    def end(*arguments, **limits):
        raise WorkerEndedError("SIGSEGV")

    monkeypatch.setattr(first_load, "call_elsewhere", end)
    refusal(whole["keras"], "ends the process that loads it: SIGSEGV; save it again, or load the model yourself and pa")
    assert lt.convert(keras.saving.load_model(whole["keras"])).report.max_abs_error < 1e-5


@pytest.mark.parametrize("value", ["0", "much", "-1"])
def test_a_limit_is_a_number(whole, monkeypatch, value):
    monkeypatch.setenv(LIMIT, value)
    with pytest.raises(ValueError, match=rf"{LIMIT} must be a whole number above 0, got '{value}'; unset it"):
        lt.diagnose(whole["keras"])


@pytest.fixture
def odd(tmp_path):
    """Makes what is no regular file, by its kind."""

    def make(kind, name):
        path = tmp_path / name
        if kind == "FIFO":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as opened:
                opened.bind(str(path))
        else:
            path.symlink_to(tmp_path / "nowhere")
        return path

    return make


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has none of them")
@pytest.mark.parametrize("kind", ["FIFO", "socket", "folder"])
def test_only_regular_files_are_read(odd, kind):
    words = f"is a {kind}, and models are read from regular files alone"
    tflite = odd(kind, "model.tflite")
    for read in (lt.inspect, lt.diagnose, lt.repair, lt.Runner, lt.plot_gates):
        with pytest.raises(InvalidModelError, match=words):
            read(tflite)
    if kind != "folder":
        for ending in ("keras", "h5"):
            path = odd(kind, f"model.{ending}")
            refusal(path, words)
            with pytest.raises(InvalidModelError, match=words):
                lt.convert(path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such links for everybody")
def test_links_into_nothing(odd):
    for ending in ("keras", "h5", "tflite"):
        refusal(odd("link", f"model.{ending}"), "cannot read .*: No such file or directory")


@pytest.mark.skipif(not os.path.exists("/dev/stdin"), reason="there is no /dev/stdin")
def test_standard_input_is_read_where_it_is_a_regular_file(tmp_path):
    model = keras.Sequential([keras.Input((7, 5)), layers.LSTM(6)])
    lt.convert(model, verify=False).save(tmp_path / "a.tflite")
    command = [sys.executable, "-c", "from lstm_toolkit.cli import main; main()", "inspect", "/dev/stdin"]
    with open(tmp_path / "a.tflite", "rb") as file:
        given = subprocess.run(command, stdin=file, capture_output=True, timeout=60, check=False)
        file.seek(0)
        piped = subprocess.run(command, input=file.read(), capture_output=True, timeout=60, check=False)
    assert (given.returncode, b"LSTM" in given.stdout) == (0, True)
    assert (piped.returncode, b"is a FIFO" in piped.stderr) == (1, True)


def test_a_tflite_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    large = tmp_path / "large.tflite"
    large.write_bytes(bytes(4) + b"TFL3")
    os.truncate(large, 3 << 30)
    refusal(large, rf"has 3,221,225,472 bytes, more than 2,147,483,648; .* {LIMIT} to 3221225472$")
    os.truncate(large, 100)
    monkeypatch.setenv(LIMIT, "99")
    refusal(large, "has 100 bytes, more than 99")
    monkeypatch.setenv(LIMIT, "100")
    with pytest.raises(InvalidModelError, match=r"the \.tflite file is damaged"):
        lt.inspect(large)


class Writer(tf.saved_model.experimental.TrackableResource):
    """Writes a file when it is loaded."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def _create_resource(self):
        return tf.raw_ops.MutableHashTable(key_dtype=tf.string, value_dtype=tf.int64)

    def _initialize(self):
        tf.io.write_file(self.path, "it was run")


def test_a_saved_model_is_looked_at_before_it_runs(tmp_path, caplog):
    module, written = tf.Module(), tmp_path / "written"
    module.model = keras.Sequential([keras.Input((7, 5), batch_size=2), layers.LSTM(6)])
    module.writer = Writer(str(written))
    function = tf.function(module.model).get_concrete_function(tf.TensorSpec([2, 7, 5]))
    tf.saved_model.save(module, str(tmp_path / "plain"), signatures=function)
    with lt.fusable_lstms():
        module.model.export(tmp_path / "marked", verbose=False)
    written.unlink(missing_ok=True)
    with caplog.at_level(logging.INFO, "lstm_toolkit"):
        with pytest.raises(ConversionError, match=r"was not exported as fusable, .* export it again inside `with lstm"):
            lt.convert(tmp_path / "plain")
        assert not written.exists()
        assert "is code" not in caplog.text
        assert lt.convert(tmp_path / "marked").report.max_abs_error < 1e-5
    assert f"loading the SavedModel {tmp_path / 'marked'}, which is code that runs when it is loaded" in caplog.text
    tf.saved_model.load(str(tmp_path / "plain"))
    assert written.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no FIFO")
def test_a_saved_model_of_regular_files(odd, tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"")
    odd("FIFO", "variables/variables.index")
    with pytest.raises(InvalidModelError, match="is a FIFO"):
        lt.convert(tmp_path)


def test_time_has_a_limit(whole, tmp_path, monkeypatch):
    """The last test, since the next load starts a new process."""

    def unroll(config):
        set_steps(config, 100_000)
        config[1]["config"]["unroll"] = True

    path = configured(whole, tmp_path / "unrolled.keras", unroll)
    monkeypatch.setenv(SECONDS, "1")
    refusal(path, f"takes more than 1 seconds to load; if you trust where it comes from, set the .* {SECONDS} to more")
    monkeypatch.delenv(SECONDS)
    loads(whole["keras"])
