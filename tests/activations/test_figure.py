"""The pictures and the table of `GateActivations`: what is drawn, and what the text says of it."""

import dataclasses
import re

import numpy as np
import pytest

from lstm_toolkit import GateWeights, gate_activations
from tests.helpers.weights import random_operands


@pytest.fixture
def two_calls(random):
    """Activations of one LSTM with a projection, and of another, over two calls of 2 sequences."""
    flags = {"cifg": False, "peephole": True, "projection": True, "layer_norm": False}
    calls = [random.normal(size=(2, steps, 5)).astype(np.float32) for steps in (6, 3)]
    return [gate_activations(GateWeights(**random_operands(random, **flags)), calls) for _ in range(2)]


def heat_maps(picture):
    (axes,) = picture.figure.axes
    return [np.asarray(each.get_array()) for each in axes.images]


def words(picture):
    (axes,) = picture.figure.axes
    return [each.get_text() for each in axes.texts]


def test_six_heat_maps_hold_the_numbers(two_calls):
    one, _ = two_calls
    picture = one.picture(batch=1)
    for drawn, name in zip(heat_maps(picture), "ifgoch", strict=True):
        np.testing.assert_array_equal(drawn, getattr(one, name)[1].T)
    (axes,) = picture.figure.axes
    assert [each.get_clim()[0] for each in axes.images[:2]] == [0, 0]
    assert {"call 0", "call 1", "forget gate", "white 0"} <= set(words(picture))
    low, high = one.f[1].min(), one.f[1].max()
    assert f"Forget gate (f) from {low:.2f} to {high:.2f}" in picture.alt
    assert "7 units" in picture.alt
    assert "9 steps in 2 calls, from steps 0, 6" in picture.alt
    assert "sequence 1" in picture.alt


def test_two_sides_and_their_difference(two_calls):
    one, other = two_calls
    picture = one.picture(gate="c", against=other)
    drawn = heat_maps(picture)
    np.testing.assert_array_equal(drawn[0], one.c[0].T)
    np.testing.assert_array_equal(drawn[1], other.c[0].T)
    np.testing.assert_allclose(drawn[2], (one.c - other.c)[0].T, atol=1e-6)
    (axes,) = picture.figure.axes
    assert axes.images[0].get_clim() == axes.images[1].get_clim()
    step, unit = np.unravel_index(np.abs(one.c - other.c)[0].argmax(), one.c.shape[1:])
    assert f"is largest at step {step} in unit {unit}." in picture.alt


def test_lines_of_one_unit(two_calls):
    one, other = two_calls
    picture = one.picture(unit=5, against=other, step=8)
    assert heat_maps(picture) == []
    assert "output" not in words(picture)  # of which there are only 4
    assert picture.alt.startswith("Lines of unit 5 of GateWeights, sequence 0, over 9 steps")
    assert f"differs by at most {np.abs(one.g - other.g)[0, :, 5].max():.2f}" in picture.alt
    assert picture.alt.endswith("Step 8 is marked.")
    assert "output gate" in words(picture)
    assert "output" in words(one.picture(unit=3))


def test_a_step_is_marked_where_it_is(two_calls):
    one, _ = two_calls
    plain, marked = (one.picture(gate="f", step=step).figure.axes[0].lines for step in (None, 2))
    assert len(marked) == len(plain) + 1
    (image,) = one.picture(gate="f").figure.axes[0].images
    left, right, *_ = image.get_extent()
    assert marked[-1].get_xdata()[0] == pytest.approx(left + (right - left) * 2.5 / 9)


def test_the_picture_has_a_page_of_its_own(two_calls):
    """It is legible on a dark page: the background is not that of the page."""
    assert two_calls[0].picture().figure.get_facecolor() == (1, 1, 1, 1)


def test_names_of_files_are_shown_as_text(two_calls):
    strange = dataclasses.replace(two_calls[0], name="<img src=x>$\\frac{1}{0}$")
    assert "<img src=x" not in strange.picture()._repr_html_()
    assert "<img src=x" not in strange.borders()._repr_html_()


def test_borders_say_what_comes_in_and_how_far_it_reaches(two_calls):
    one, _ = two_calls
    h, start = np.array(one.h), np.array(one.h_start)
    h[1, 6, 2] += 0.25
    h[0, 7, 1] -= 0.125
    start[1, 0, 3] = -0.75
    table = dataclasses.replace(one, h=h, h_start=start).borders(one)
    assert [list(map(str, row)) for row in table.rows] == [
        ["0", "0", "0.00", "0.00", "0.00", "0"],
        ["1", "6", "0.75", "0.00", "0.25", "2"],
    ]
    assert re.search("right within 0.01", table.header[-1])
    assert len(one.borders().header) == 4


def test_what_is_not_there(two_calls, random):
    one, _ = two_calls
    for place, size in (("unit", 7), ("batch", 2), ("step", 9)):
        for value in (-1, size):
            with pytest.raises(IndexError, match=f"{place} must be 0 to {size - 1}, got {value}"):
                one.picture(**{place: value})
    flags = {"cifg": True, "peephole": False, "projection": False, "layer_norm": False}
    unlike = gate_activations(GateWeights(**random_operands(random, **flags)), random.normal(size=(2, 9, 5)))
    with pytest.raises(ValueError, match=r"h is \[2, 9, 4\] and \[2, 9, 7\]"):
        one.picture(against=unlike)
    assert "weights" in repr(one) or "GateWeights" in repr(one)
