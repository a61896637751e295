"""The data of the codelabs that comes with the package."""

import hashlib
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

import lstm_toolkit
from lstm_toolkit import codelab, models
from lstm_toolkit.errors import InvalidModelError
from tests.helpers.tools import tool

DATA = Path(lstm_toolkit.__file__).parent / "data"


def test_movements_are_windows_of_sixteen_steps_and_nobody_is_on_both_sides():
    movements = codelab.load_movements()
    assert movements.x_train.shape == (1042, 16, 6)
    assert movements.x_test.shape == (423, 16, 6)
    assert movements.x_train.dtype == movements.x_test.dtype == np.float32
    assert [len(np.unique(y)) for y in (movements.y_train, movements.y_test)] == [len(movements.names)] * 2
    with np.load(DATA / "movements.npz") as stored:
        people = stored["person"]
    assert len(movements.x_test) == np.isin(people, (3, 7, 10)).sum()
    assert len(np.unique(people)) == 10


def test_without_pytorch_a_codelab_stops_with_a_line(monkeypatch):
    """IPython shows what `_render_traceback_` gives in the place of a traceback."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "litert_torch" else name)
    with pytest.raises(codelab.Missing) as stopped:
        codelab.needs_torch()
    (line,) = stopped.value._render_traceback_()
    command = re.search(r"run (%pip install .*); then", line)[1]
    wanted = [each.strip('"') for each in shlex.split(command)[4:]]
    extra = tomllib.loads((DATA.parents[1] / "pyproject.toml").read_text())["project"]["optional-dependencies"]["torch"]
    assert {Requirement(each).name for each in wanted} == {"torch", "litert-torch"}
    assert set(wanted) - {"torch"} <= set(extra)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    codelab.needs_torch()


def test_movements_are_in_g_and_in_radians():
    """A watch on an arm that moves slowly feels gravity and little more."""
    movements = codelab.load_movements()
    acceleration = np.linalg.norm(movements.x_train[..., :3], axis=-1)
    assert 0.9 < np.median(acceleration) < 1.1
    assert 1 < np.abs(movements.x_train[..., 3:]).max() < 12


def test_the_data_has_its_source_and_licence_beside_it():
    text = (DATA / "movements.txt").read_text(encoding="utf-8")
    assert "https://doi.org/10.1088/1361-6579/aacfd9" in text
    assert "Copyright (c) 2018, David M. Burns" in text
    assert re.search(r"Redistributions in binary form must reproduce the above copyright\s+notice", text)


def test_the_units_of_the_program_that_wrote_them_are_those_of_the_loader():
    np.testing.assert_array_equal(codelab._PER_UNIT, tool("make_movements").PER_UNIT)


def test_the_file_is_what_the_program_wrote():
    digest = hashlib.sha256((DATA / "movements.npz").read_bytes()).hexdigest()
    assert digest == "2ce8876f6be46ac8566a767eca38d801f3657ccc5f30791f0f58db161a3284ac"


@pytest.fixture(scope="module")
def one_lstm():
    return lstm_toolkit.convert(models.unidirectional(time_steps=5, batch_size=1, input_size=3, units=4))


def test_calls_on_micro_are_those_of_litert(one_lstm):
    inputs = np.random.default_rng(1).normal(size=(7, 5, 3)).astype(np.float32)
    runner = one_lstm.runner()
    expected = np.concatenate([runner(row[np.newaxis]) for row in inputs])
    np.testing.assert_allclose(codelab.on_micro(one_lstm.tflite, inputs), expected, atol=1e-6)


def test_what_micro_refuses_is_told():
    file = lstm_toolkit.convert(models.bidirectional(time_steps=5, batch_size=1, input_size=3, units=4))
    with pytest.raises(InvalidModelError, match="Micro cannot run this model: "):
        codelab.on_micro(file.tflite, np.zeros((1, 5, 3), np.float32))


def test_where_micro_is_missing_a_line_says_so(monkeypatch, capsys):
    assert codelab.has_micro()
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(codelab, "is_installed", lambda runtime: False)
    assert not codelab.has_micro()
    assert capsys.readouterr().out.startswith("tflite-micro is not installed (its wheels are for Linux on x86-64)")
