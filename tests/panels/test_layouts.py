"""Memory orders and the kernel's way through them, against a walk over addresses."""

import re
import struct
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from lstm_toolkit.panels import layouts, measured
from lstm_toolkit.panels.sizes import Sizes

SIZES = Sizes(batch_size=3, time_steps=5, input_size=2, units=4)
SVG = "{http://www.w3.org/2000/svg}"


def drawn(order, turn=1):
    return ElementTree.fromstring(layouts.drawing(order, turn))


def cells(drawing, state):
    return [each.find(f"{SVG}text").text for each in drawing.iter(f"{SVG}g") if each.get("class") in state]


def walk(sizes):
    """The addresses that the loops of LiteRT's `EvalFloat` read in each turn, batch-major and time-major."""
    batch, time, numbers = sizes.batch_size, sizes.time_steps, sizes.input_size
    addresses = 4 * np.arange(batch * time * numbers)
    batch_major, time_major = addresses.reshape(batch, time, numbers), addresses.reshape(time, batch, numbers)
    one_sequence_after_the_other = [batch_major[b, t].ravel() for b in range(batch) for t in range(time)]
    return one_sequence_after_the_other, [time_major[t].ravel() for t in range(time)]


@pytest.mark.parametrize("place", [0, 1])
def test_cells_are_where_the_bytes_are(place):
    order = layouts.memory_orders(SIZES, seed=4)[place]
    values = measured.sequence(SIZES, seed=4)
    memory = np.transpose(values, ((0, 1, 2), (1, 0, 2))[place]).tobytes()
    for cell in order.cells:
        assert struct.unpack_from("f", memory, cell.offset)[0] == values[cell.batch, cell.time, 0] == cell.first
    assert [cell.offset for cell in order.cells] == list(range(0, 3 * 5 * 2 * 4, 2 * 4))


def test_strides():
    batch_major, time_major = layouts.memory_orders(SIZES)
    assert (batch_major.strides, batch_major.element_strides) == ((40, 8, 4), (10, 2, 1))
    assert (time_major.strides, time_major.element_strides) == ((24, 8, 4), (6, 2, 1))
    rows = layouts.strides_table((batch_major, time_major)).rows
    assert [row[-2:] for row in rows] == [
        ("3 pieces of 8 bytes, 40 bytes apart", "15"),
        ("one piece of 24 bytes", "5"),
    ]
    single = layouts.memory_orders(Sizes(1, 5, 2, 4))
    assert {row[-2:] for row in layouts.strides_table(single).rows} == {("one piece of 8 bytes", "5")}


@pytest.mark.parametrize("sizes", [SIZES, Sizes(1, 4, 3, 2), Sizes(5, 1, 2, 3), Sizes(4, 7, 1, 2)])
def test_turns_read_what_the_kernel_reads(sizes):
    for order, wanted in zip(layouts.memory_orders(sizes), walk(sizes), strict=True):
        assert order.turns == len(wanted)
        for turn in range(1, sizes.batch_size * sizes.time_steps + 1):
            read = [order.cell(number) for number in order.read_in(turn)]
            addresses = [each for cell in read for each in range(cell.offset, cell.offset + cell.size, 4)]
            assert addresses == (wanted[turn - 1].tolist() if turn <= len(wanted) else [])


@pytest.mark.parametrize("turn", [1, 2, 5, 6, 15])
def test_a_frame_says_and_shows_what_is_read(turn):
    frame = layouts.frame(SIZES, turn)
    for order, wanted, said in zip(frame.orders, walk(SIZES), str(frame).splitlines(), strict=True):
        drawing = drawn(order, turn)
        read = sum(map(len, wanted[: turn - 1])) // SIZES.input_size
        assert len(cells(drawing, ["read"])) == read
        assert len(cells(drawing, ["now", "read", "later"])) == 15
        if turn > len(wanted):
            assert said == f"{order.name} memory: all is read after turn {len(wanted)}"
            assert not cells(drawing, ["now"])
            continue
        first, *_, last = wanted[turn - 1]
        assert said.endswith(f", bytes {first} to {last + 3}")
        assert said.startswith(f"{order.name} memory: turn {turn} of {len(wanted)} reads t")
        assert re.findall(r"t\d+ b\d+", said) == cells(drawing, ["now"])
    assert frame._repr_html_().count("<img alt=") == 2
    assert all(f'alt="{line}"' in frame._repr_html_() for line in str(frame).splitlines())


def test_thick_borders_are_those_of_the_turn():
    for order, wanted in zip(layouts.memory_orders(SIZES), (["t1 b0"], ["t1 b0", "t1 b1", "t1 b2"]), strict=True):
        thick = [
            each.find(f"{SVG}text").text
            for each in drawn(order, 2).iter(f"{SVG}g")
            if each.find(f"{SVG}rect").get("stroke-width") == "5"
        ]
        assert thick == wanted


def test_places_in_the_drawing():
    """From left to right and from top to bottom the cells stand in the order of their addresses."""
    order = layouts.memory_orders(SIZES)[1]
    places = []
    for group in drawn(order).iter(f"{SVG}g"):
        box = {name: float(group.find(f"{SVG}rect").get(name)) for name in ("x", "y", "width", "height")}
        middle = box["y"] + box["height"] / 2, box["x"] + box["width"] / 2
        places.append((*middle, group.find(f"{SVG}text").text))
    wanted = [f"t{time} b{batch}" for time in range(5) for batch in range(3)]
    assert [name for _, _, name in sorted(places)] == wanted


@pytest.mark.parametrize("sizes", [Sizes(16, 100, 1, 1), Sizes(3, 50, 2, 1), Sizes(11, 20, 1, 1)])
def test_of_many_cells_those_around_the_turn_are_drawn(sizes):
    for order in layouts.memory_orders(sizes):
        for turn in (1, 7, order.turns - 1, order.turns):
            drawing = drawn(order, turn)
            read = [str(order.cell(number)) for number in order.read_in(turn)]
            assert cells(drawing, ["now"]) == read
            assert len(cells(drawing, ["now", "read", "later"])) <= layouts.MAX_CELLS == 32
    order = layouts.memory_orders(Sizes(16, 100, 1, 1))[0]
    assert layouts.caption(order, 33) == "batch-major, [batch, time, input]: cells 33 to 64 of 1,600"


@pytest.mark.parametrize("turn", [0, 16, 2.0, True])
def test_turns_are_checked(turn):
    with pytest.raises(ValueError, match=re.escape(f"turn must be an integer from 1 to 15, got {turn!r}")):
        layouts.frame(SIZES, turn)
