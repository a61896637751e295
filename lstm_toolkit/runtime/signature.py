"""The inputs and outputs of a file under the names that its first signature has for them."""

import re
from collections.abc import Sequence
from typing import Any

from ai_edge_litert.interpreter import Interpreter

from lstm_toolkit.errors import InvalidModelError

_Named = dict[str, dict[str, Any]]


def signature(interpreter: Interpreter) -> tuple[_Named, _Named]:
    """The interpreter's details of each input and each output, by name.

    They are in the order of the file, but outputs that are called `output_0`, `output_1`, ... in that of the numbers.
    Where no signature calls the main subgraph, the names are those of the tensors.

    Raises:
        InvalidModelError: if two inputs, or two outputs, have one name.
    """
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    for key in interpreter.get_signature_list():
        runner = interpreter.get_signature_runner(key)
        by_name = runner.get_input_details(), runner.get_output_details()
        if _tensors(by_name[0].values()) == _tensors(inputs) and _tensors(by_name[1].values()) <= _tensors(outputs):
            return _in_order(by_name[0], inputs), _in_order(by_name[1], outputs)
    for kind, details in (("inputs", inputs), ("outputs", outputs)):
        names = [name for _, name in _tensors(details)]
        if len(set(names)) < len(names):
            raise InvalidModelError(f"two {kind} have one name in {sorted(names)}; write the file with different names")
    return {d["name"]: d for d in inputs}, {d["name"]: d for d in outputs}


def _tensors(details: Any) -> set[tuple[int, str]]:
    """What tells tensors apart, in one subgraph and between two."""
    return {(each["index"], each["name"]) for each in details}


def _in_order(names: _Named, details: Sequence[dict[str, Any]]) -> _Named:
    place = {each["index"]: number for number, each in enumerate(details)}
    if all(re.fullmatch(r"output_\d+", name) for name in names):
        place = {each["index"]: int(name.removeprefix("output_")) for name, each in names.items()}
    return dict(sorted(names.items(), key=lambda item: place[item[1]["index"]]))
