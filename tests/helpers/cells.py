"""Cells of notebooks."""

from IPython.core.inputtransformer2 import TransformerManager


def in_python(cell):
    """The source of a code cell as Python, with its magics as calls."""
    return TransformerManager().transform_cell(cell.source)
