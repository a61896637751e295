"""The data of the codelabs that comes with the package."""

import hashlib
import re
from pathlib import Path

import numpy as np

import lstm_toolkit
from lstm_toolkit import codelab
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
