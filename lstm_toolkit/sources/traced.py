"""`TracedModel`: what the conversion gets from every source of models, whatever library the model comes from."""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from lstm_toolkit.runtime.random_inputs import RandomInputs

Arrays = Sequence[npt.NDArray[Any]]
"""One array for each input of a model."""


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """One input of a model; no tuple, which would be a structure to Keras.

    Attributes:
        shape: None for a size that is open.
        dtype: of its array.
        name: its own, or empty.
    """

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    name: str = ""


class Node(NamedTuple):
    """An op of TensorFlow: its name, and its kind."""

    name: str
    op: str


class StockFile(NamedTuple):
    """A traced function or module that a converter has had already, in another process.

    Attributes:
        tflite: the file that it became, with a CUSTOM op for each marked layer.
        nodes: its ops of TensorFlow.
        converter: "TensorFlow", or "litert-torch", in whose files cells stand step by step.
    """

    tflite: bytes
    nodes: tuple[Node, ...]
    converter: str = "TensorFlow"


@dataclasses.dataclass(frozen=True)
class TraceOptions:
    """How a model is traced. All but the last three are options of `convert`, whose docstring says more.

    Attributes:
        input_signature: a `tf.TensorSpec` an input, in the structure of the model's input; None asks the model.
        batch_size: of all inputs; None keeps the model's own, and 1 where that is None.
        time_steps: of all sequence inputs; None keeps the model's own.
        time_major: the traced function takes and returns sequences as [time, batch, ...].
        state: "auto", "reset", "carry" or "explicit".
        on_unsupported: "raise"; "keep" to leave layers that cannot be marked to the stock lowering, where that computes
            them; or "report" to say of each in the report why not, and no more.
        plain: layers are marked for plain ops, which can hold more than the fused ones: GRUs and other activations.
        merge: both directions of a layer are to become one op.
        for_micro: what stands around layers is made of ops of TensorFlow Lite Micro.
    """

    input_signature: Any = None
    batch_size: int | None = None
    time_steps: int | None = None
    time_major: bool = False
    state: str = "auto"
    on_unsupported: str = "raise"
    plain: bool = False
    merge: bool = False
    for_micro: bool = False


NOT_IN_THE_FILE = "not in the file"
"""In the place of an op, what the report says of a call whose results nobody reads."""


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """One call of a recurrent layer.

    Attributes:
        name: the layer's name, with a number appended from its second call on.
        layer_class: name of its class.
        op: the op that it became, or "not in the file" if no output of the model depends on it.
        reason: why it did not become a fused op, or None if it did.
    """

    name: str
    layer_class: str
    op: str
    reason: str | None = None

    def owns(self, name: str) -> bool:
        """Whether a name in the file is the layer's own, or that of one of its stacked cells: `NAME_cell0`, ..."""
        return re.fullmatch(re.escape(self.name) + r"(_cell\d+)?", name) is not None


class Source(Protocol):
    """The model as its author made it, on arrays laid out as in the file."""

    def __call__(self, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
        """The outputs by name. Where state carries, a call starts where the last one ended."""

    @property
    def has_changed(self) -> bool:
        """Whether variables of the model have other values than when it was traced."""

    @property
    def carries(self) -> bool:
        """Whether the last call left a state to the next one."""

    def reset(self) -> None:
        """Sets every carried state to zero."""

    def as_rows(self, calls: Sequence[Arrays]) -> list[dict[str, npt.NDArray[Any]]] | None:
        """The outputs of calls of equal shapes, each from zero, computed as the rows of one call; None if it fails."""


def kept_scope(name: str, layer_class: str) -> str:
    """The scope of the ops of a layer that stays as Keras computes it."""
    return f"{_KEPT}.{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}.{layer_class}"


def kept_layers(names: Iterable[str]) -> dict[str, str]:
    """From the names of a function's ops, the class of each layer, by its name, that stayed as Keras computes it."""
    found = (re.search(rf"{_KEPT}\.([\w.-]+)\.(\w+?)(_\d+)?/", name) for name in names)
    return {match[1]: match[2] for match in found if match}


_KEPT = "kept_by_lstm_toolkit"


@dataclasses.dataclass(frozen=True)
class TracedModel:
    """A model that is ready for the converter.

    Attributes:
        name: of the model, for messages.
        batch: of its inputs.
        function: the concrete function, its arguments named input_0000, input_0001, ...; its recurrent layers are
            marked composite ops. A `StockFile` where it is in another process.
        trackable: holds the variables that the function reads; the converter freezes only those.
        input_names: the model's own input names, in the order of the function's arguments.
        inputs: what the function takes, in the same order.
        layers: the recurrent layers, in the order in which they were called; None if only the file can tell.
        source: the model as its author made it.
        random_inputs: what to compare file and source on.
        backend: of Keras, on which the source is computed; None for TensorFlow, and for what is not Keras's.
    """

    name: str
    batch: int | None
    function: Any
    trackable: Any
    input_names: tuple[str, ...]
    inputs: tuple[InputSpec, ...]
    layers: tuple[LayerReport, ...] | None
    source: Source
    random_inputs: RandomInputs
    backend: str | None = None
