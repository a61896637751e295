"""`plot_gates`: a picture of how the packed weights of an LSTM fill the operand slots of the fused op."""

import io
import os
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from lstm_toolkit.display.images import PNG, image
from lstm_toolkit.gate_pictures.drawing import GateDrawing
from lstm_toolkit.gate_pictures.layout import LETTERS, GateLayout, gate_layout
from lstm_toolkit.process_state import alone


class GateFigure(Figure):
    """What `plot_gates` returns: a figure of matplotlib.

    It shows itself in a notebook once, as an image with its text; printed, it is the table of its layout. Files that
    `savefig` writes carry title and text.

    Attributes:
        layouts: what is drawn, one layout, or two beside each other.
        alt: what the figure shows, for those who do not see it.
    """

    layouts: tuple[GateLayout, ...]
    alt: str

    def __init__(self, layouts: Sequence[GateLayout], alt: str) -> None:
        super().__init__(facecolor="white")
        self.layouts, self.alt = tuple(layouts), alt

    def savefig(self, fname: Any, **kwargs: Any) -> None:
        """As matplotlib's; `metadata` starts with what the figure shows."""
        suffix = os.path.splitext(fname)[1][1:] if isinstance(fname, (str, os.PathLike)) else ""
        name = (kwargs.get("format") or suffix or matplotlib.rcParams["savefig.format"]).lower()
        words = {"pdf": "Subject", "svg": "Description", "png": "Description"}
        own = {"Title": self.title, words[name]: self.alt} if name in words else {}
        kwargs["metadata"] = {**own, **(kwargs.get("metadata") or {})}
        # Else an SVG joins heat maps into one picture, and their ids are lost.
        with alone(), matplotlib.rc_context({"image.composite_image": False}):
            super().savefig(fname, **kwargs)

    @property
    def title(self) -> str:
        """What the weights are of."""
        return "; ".join(dict.fromkeys(layout.title for layout in self.layouts))

    def to_html(self, *, palette: bool = False) -> str:
        """The figure as an image with its text. A palette makes it several times smaller and takes as long again."""
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=160)
        if palette:
            drawn, data = data, io.BytesIO()
            Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(data, "PNG", optimize=True)
        style = f"width:{round(100 * self.get_figwidth())}px;max-width:100%;height:auto"
        return image(data.getvalue(), PNG, self.alt, style)

    def _repr_html_(self) -> str:
        return self.to_html(palette=True)

    def _ipython_display_(self) -> None:
        # The inline backend would add a second image, which has no text.
        from IPython.display import display

        display({"text/html": self._repr_html_(), "text/plain": str(self)}, raw=True)

    def __str__(self) -> str:
        return "\n\n".join(str(layout) for layout in self.layouts)


def plot_gates(
    source: Any,
    *,
    gate: str | None = None,
    order: str | Sequence[str] | None = None,
    layer: int = 0,
    reverse: bool | None = None,
    node: int = 0,
) -> GateFigure:
    """Draws how the packed weights of an LSTM fill the operand slots of TensorFlow Lite's fused op.

    From left to right: the arrays as their framework stores them, as heat maps; transposed and split by gate; each
    part in its operand slot, with index, name and shape. Lines follow every gate.

    Args:
        source: as for `gate_layout`.
        gate: a gate to follow, "input", "forget", "cell" or "output", or its letter; the others fade.
        order: as for `gate_layout`, or two orders, which are drawn to the left and to the right of the same slots.
        layer: as for `gate_layout`.
        reverse: as for `gate_layout`.
        node: as for `gate_layout`.

    Returns:
        A figure 9 inches wide, with `alt`, `savefig` and `str()`, which gives a table.

    Raises:
        ValueError: for an unknown gate or order, one the weights do not have, and as `gate_layout`.
        TypeError, InvalidModelError: as `gate_layout`.
    """
    orders = [order] if order is None or isinstance(order, str) else list(order)
    if len(orders) not in (1, 2):
        raise ValueError(f"order must be one order or two, got {orders}")
    layouts = tuple(gate_layout(source, order=each, layer=layer, reverse=reverse, node=node) for each in orders)
    chosen = _chosen(gate, layouts[0])
    figure = GateFigure(layouts, _alt(layouts, chosen))
    GateDrawing(figure, layouts, chosen).draw()
    return figure


def _chosen(gate: str | None, layout: GateLayout) -> str | None:
    if gate is None:
        return None
    names = {name: name for name in layout.gates} | {LETTERS[name]: name for name in layout.gates}
    if gate not in names:
        reason = "; the input gate is coupled to the forget gate" if gate in ("input", "i") else ""
        raise ValueError(f"gate must be one of {list(layout.gates)} or its letter, got {gate!r}{reason}")
    return names[gate]


def _alt(layouts: Sequence[GateLayout], gate: str | None) -> str:
    sentences = [f"{layouts[0].title}: its packed weights in the operand slots of {layouts[0].op}."]
    for layout in layouts:
        sentences.append(f"{layout.framework} order {layout.order}.")
        for array in layout.arrays:
            blocks = [block for block in array.blocks if gate is None or block.gate == gate]
            if not blocks:
                continue
            indices = ", ".join(
                f"{block.gate} gate {block.index}" if block.gate else str(block.index) for block in blocks
            )
            how = "transposed, " if blocks[0].transposed else ""
            sentences.append(f"{array.name} {list(array.values.shape)} goes, {how}to operands: {indices}.")
    return " ".join([*sentences, *layouts[0].notes()])
