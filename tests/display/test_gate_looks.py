"""`draw_gate_order`: what is drawn and what is said of it are the orders that were given."""

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation

from lstm_toolkit.display.gate_looks import COLORS, draw_gate_order

COLUMNS = ["forget", "input", "output", "cell"]
RIGHT = {gate: gate for gate in ("input", "forget", "cell", "output")}
WRONG = {"input": "forget", "forget": "input", "cell": "output", "output": "cell"}
HALF_WRONG = {"input": "input", "forget": "cell", "cell": "forget", "output": "output"}


@pytest.mark.parametrize("operands", [RIGHT, WRONG, HALF_WRONG])
def test_colors_and_arrows(operands):
    axes = Figure().subplots()
    draw_gate_order(axes, COLUMNS, operands)
    blocks = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    colors = [to_hex(patch.get_facecolor()).upper() for patch in sorted(blocks, key=lambda patch: patch.get_x())]
    above = [to_hex(patch.get_facecolor()).upper() for patch in blocks if patch.get_y() > 1]
    assert above == [COLORS[gate] for gate in COLUMNS]
    assert sorted(colors) == sorted(2 * list(COLORS.values()))
    arrows = [each for each in axes.texts if isinstance(each, Annotation)]
    for place, (arrow, (operand, gate)) in enumerate(zip(arrows, operands.items(), strict=True)):
        assert (arrow.xy[0], arrow.xyann[0]) == (place, COLUMNS.index(gate))
        assert arrow.arrow_patch.get_linestyle() == ("-" if operand == gate else "--")


def test_text():
    axes = Figure().subplots()
    assert draw_gate_order(axes, COLUMNS, RIGHT) == (
        "Columns of forget, input, output, cell. Of the operands input, forget, cell, output, each got the columns of "
        "its gate."
    )
    assert draw_gate_order(axes, COLUMNS, HALF_WRONG) == (
        "Columns of forget, input, output, cell. The operands input, forget, cell, output got those of input, cell, "
        "forget, output, in this order."
    )
