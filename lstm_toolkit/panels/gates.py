"""The layouts of all LSTMs in a source, for the panel that follows their numbers."""

import os
from collections.abc import Iterator
from typing import Any

from lstm_toolkit.gate_pictures.layout import GateLayout, gate_layout
from lstm_toolkit.inspection.read import inspect
from lstm_toolkit.panels.subjects import is_keras_path
from lstm_toolkit.sources.source import loaded


def gate_layouts(
    source: Any, *, order: str | None = None, layer: int = 0, reverse: bool | None = None, node: int | None = None
) -> tuple[GateLayout, ...]:
    """The layouts of all LSTMs in a source.

    Args:
        source: what `gate_layout` takes; or a Keras model with LSTM layers, or its path.
        order: as for `gate_layout`.
        layer: as for `gate_layout`.
        reverse: as for `gate_layout`.
        node: as for `gate_layout`; None takes all fused LSTM ops of a file.

    Raises:
        TypeError, ValueError, InvalidModelError: as `gate_layout`; also for a model without an LSTM layer.
        ConversionError: if a Keras file cannot be loaded.
    """
    if is_keras_path(source):
        source = loaded(source)
    options: dict[str, Any] = {"order": order, "layer": layer, "reverse": reverse}
    if isinstance(source, (bytes, bytearray, memoryview, str, os.PathLike)) or hasattr(source, "tflite"):
        numbers = range(max(1, len(inspect(source).lstm_nodes))) if node is None else (node,)
        return tuple(gate_layout(source, node=number, **options) for number in numbers)
    if not _is_model(source):
        return (gate_layout(source, node=node or 0, **options),)
    lstms = [each for each in _parts(source) if _is_lstm(each)]
    if not lstms:
        raise ValueError(f"model {source.name!r} has no LSTM layer whose weights could be shown")
    return tuple(gate_layout(each, **options) for each in lstms)


def _is_model(source: Any) -> bool:
    return hasattr(source, "get_weights") and hasattr(source, "layers") and not hasattr(source, "forward_layer")


def _parts(model: Any) -> Iterator[Any]:
    for each in model.layers:
        if _is_model(each):
            yield from _parts(each)
        else:
            yield each


def _is_lstm(layer: Any) -> bool:
    """Whether a layer is an LSTM, or its two directions are."""
    inner = getattr(layer, "forward_layer", layer)
    return any(
        kind.__name__ in ("LSTM", "LSTMCell")
        for cell in (inner, getattr(inner, "cell", None))
        for kind in type(cell).__mro__
    )
