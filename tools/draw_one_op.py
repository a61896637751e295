"""Draws `docs/images/one_op.svg`: the operators of one Keras LSTM, in the stock file and in ours.

The names and numbers are read from the two files, which are made here.
"""

import os
from html import escape
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

TARGET = Path(__file__).parent.parent / "docs" / "images" / "one_op.svg"
STEPS, INPUT_SIZE, UNITS = 28, 28, 64
BLUE, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#EEEEEE", "#222222"
WIDTH, COLUMN, ROW = 960, 148, 30


def files() -> tuple[bytes, bytes]:
    """The stock file and ours."""
    import keras

    import lstm_toolkit
    from lstm_toolkit.stock.converter import stock_conversion

    model = keras.Sequential([keras.Input((STEPS, INPUT_SIZE)), keras.layers.LSTM(UNITS)])
    return stock_conversion(model, batch_size=1), lstm_toolkit.convert(model).tflite


def operators(tflite: bytes) -> list[list[str]]:
    """Names of the operators of each subgraph, in order."""
    from lstm_toolkit.tflite import graph
    from lstm_toolkit.tflite.files import read_model

    model = read_model(tflite)
    return [[graph.operator_name(model, op) for op in subgraph.operators] for subgraph in model.subgraphs]


def box(x: float, y: float, width: float, height: float, text: str, fill: str, ink: str = INK, size: int = 11) -> str:
    """A box with a text in its middle."""
    place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    middle = f'x="{x + width / 2:g}" y="{y + height / 2 + size / 3:g}"'
    return (
        f'<rect {place} rx="4" fill="{fill}" stroke="{INK}" stroke-width="0.8"/>'
        f'<text {middle} font-size="{size}" fill="{ink}" text-anchor="middle">{escape(text)}</text>'
    )


def label(x: float, y: float, text: str, size: int = 13, weight: str = "normal") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" fill="{INK}">{escape(text)}</text>'


def drawing(stock: list[list[str]], ours: list[list[str]]) -> str:
    """The picture, from the operators of both files."""
    main, condition, body = stock
    rows = -(-len(body) // 4)
    top, left = 66, 20
    loop_height = rows * ROW + 44
    height = top + loop_height + 60
    parts = [label(left, 28, "TensorFlow's converter", 16, "bold")]
    in_loop = f"{len(body) + len(condition)} operators at each of {STEPS} steps"
    parts.append(label(left, 50, f"a WHILE loop: {in_loop}, and {len(main) - 1} around it"))
    parts.append(
        f'<rect x="{left}" y="{top}" width="{4 * COLUMN + 16}" height="{loop_height}" rx="8" fill="{GREY}" '
        f'stroke="{ORANGE}" stroke-width="2" stroke-dasharray="6 4"/>'
    )
    parts.append(label(left + 10, top + 18, "body of the loop", 12))
    for number, name in enumerate(body):
        x, y = left + 8 + number % 4 * COLUMN, top + 28 + number // 4 * ROW
        parts.append(box(x, y, COLUMN - 8, ROW - 8, name, "white", size=9 if len(name) > 18 else 10))
    right = left + 4 * COLUMN + 56
    width = WIDTH - right - 20
    parts.append(label(right, 28, "lstm_toolkit", 16, "bold"))
    (own,) = ours
    parts.append(label(right, 50, f"{len(own)} operators for all {STEPS} steps"))
    fused = next(name for name in own if name.endswith("LSTM"))
    others = [name for name in own if name != fused]
    for number, name in enumerate(others):
        parts.append(box(right, top + 8 + number * ROW, width, ROW - 8, name, "white", size=10))
    y = top + 16 + len(others) * ROW
    parts.append(box(right, y, width, top + loop_height - y, "", BLUE))
    for line, text in enumerate(fused.replace("_LSTM", " LSTM").split()):
        size = 12 if line == 0 else 22
        middle = y + (top + loop_height - y) / 2 + line * 30 - 8
        parts.append(
            f'<text x="{right + width / 2:g}" y="{middle:g}" font-size="{size}" fill="white" font-weight="bold" '
            f'text-anchor="middle">{escape(text)}</text>'
        )
    parts.append(
        label(left, height - 20, f"One Keras LSTM: {UNITS} units on {STEPS} steps of {INPUT_SIZE} numbers.", 12)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" font-family="sans-serif"><title>One Keras LSTM, two files</title>'
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(drawing(*map(operators, files())), encoding="utf-8")
    print(TARGET.name)
