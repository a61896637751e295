"""The inputs and outputs of a file under the names that its first signature has for them."""

import re
from typing import Any

from ai_edge_litert.interpreter import Interpreter


def signature(interpreter: Interpreter) -> tuple[dict[str, Any], dict[str, Any]]:
    """The interpreter's details of each input and each output, by name.

    They are in the order of the file, but outputs that are called `output_0`, `output_1`, ... in that of the numbers.
    In a file without signatures the names are those of the tensors.
    """
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    signatures = interpreter.get_signature_list()
    if not signatures:
        return {d["name"]: d for d in inputs}, {d["name"]: d for d in outputs}
    runner = interpreter.get_signature_runner(next(iter(signatures)))
    by_name = runner.get_input_details(), runner.get_output_details()
    ordered = []
    for details, names in zip((inputs, outputs), by_name, strict=True):
        place = {d["index"]: number for number, d in enumerate(details)}
        if all(re.fullmatch(r"output_\d+", name) for name in names):
            place = {each["index"]: int(name.removeprefix("output_")) for name, each in names.items()}
        ordered.append(dict(sorted(names.items(), key=lambda item: place[item[1]["index"]])))
    return ordered[0], ordered[1]
