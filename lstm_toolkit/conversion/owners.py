"""Which layers of a model the ops of its graph or file come from: users know layers, and not ops."""

import itertools
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NoReturn

from lstm_toolkit.errors import ConversionError
from lstm_toolkit.sources.traced import StockFile, TracedModel, kept_layers
from lstm_toolkit.tflite import graph
from lstm_toolkit.tflite.types import Model


def owners_in_function(function: Any, kinds: Collection[str]) -> str:
    """The layers whose TensorFlow ops are of some kinds: "layer 'a', layer 'b'", or "a function of the model"."""
    return _joined(node.name for node in nodes_of(function) if node.op in kinds)


def kept_in_function(function: Any) -> dict[str, str]:
    """The recurrent layers, with their classes, that could not be marked when a function was traced."""
    return kept_layers(node.name for node in nodes_of(function))


def nodes_of(function: Any) -> Iterator[Any]:
    """The ops of a traced function, each with a `name` and its kind, `op`."""
    if isinstance(function, StockFile):
        return iter(function.nodes)
    definition = function.graph.as_graph_def()
    return itertools.chain(definition.node, *(each.node_def for each in definition.library.function))


def owners_in_file(model: Model, kind: str) -> str:
    """The same for the ops of one kind in a file, whose results bear names that TensorFlow gave them."""
    return _joined(
        graph.text(subgraph.tensors[index].name)
        for subgraph in model.subgraphs
        for operator in subgraph.operators
        if graph.operator_name(model, operator) == kind
        for index in operator.outputs
    )


def _joined(names: Iterable[str]) -> str:
    found = dict.fromkeys(filter(None, map(owner, names)))
    return ", ".join(found) or "a function of the model"


def owner(name: str) -> str | None:
    """The layer of an op that is called `name`, or the scope that it has in TensorFlow; None if it has none.

    In a Keras 3 model, each layer opens its scope twice, first to be built and then to be called, so that the names of
    models and layers, and no others, end in a number: "model_1/layer_1/Tensordot/MatMul".
    """
    *scopes, _ = name.split(";")[0].split("/")
    layers = list(itertools.takewhile(lambda scope: re.search(r"_\d+$", scope), scopes))
    if layers:
        return f"{'layer' if len(layers) > 1 else 'model'} {layers[-1].rpartition('_')[0]!r}"
    return repr("/".join(scopes)) if len(scopes) > 1 else None


def refuse_foreign(traced: TracedModel, foreign: set[str]) -> None:
    """Raises ConversionError for ops that TensorFlow Lite does not have; names the layers that they come from."""
    # Resources, such as the tables of a lookup, are placeholders, where what reads them is no op of TensorFlow Lite.
    named = foreign - {"Placeholder"} or foreign
    if named:
        raise ConversionError(
            f"TensorFlow Lite has no op {', '.join(sorted(named))}, which {owners_in_function(traced.function, named)} "
            "needs; take that out of the model, and compute it outside of the file"
        )


_LOOPS = (
    "so that they cannot be recognized any more; trace or export it again inside `with lstm_toolkit.fusable_lstms():`, "
    "or convert the Keras model itself (a function that tf_keras traced needs a fixed batch from the start); an LSTM "
    "of your own is to be marked by lstm_toolkit.composite"
)


def refuse_loops(traced: TracedModel) -> NoReturn:
    """Raises ConversionError for a function in which nothing is marked."""
    kept = kept_in_function(traced.function)
    if not kept:
        raise ConversionError(f"the function holds its recurrent layers as loops, {_LOOPS}")
    names = ", ".join(f"layer {name!r} ({layer_class})" for name, layer_class in kept.items())
    raise ConversionError(
        f"{names} could not be marked when the function was traced, and cannot become a fused op; convert the Keras "
        "model itself, which says why and what to do"
    )


def named_refusal(traced: TracedModel, error: ConversionError) -> ConversionError:
    """The converter's refusal of an op, with the layers that need it."""
    found = re.search(r"'tf\.(\w+)' op", str(error))
    owners = owners_in_function(traced.function, {found[1]} if found else set())
    return ConversionError(
        f"{error}, which {owners} needs; take that out of the model, and compute it outside of the file"
    )
