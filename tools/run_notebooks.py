"""Runs notebooks and writes them back in a form that two runs give byte for byte.

Kept are sources, tags, and outputs but for standard error and the state of widgets; cells are counted from 1.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat

KEPT_METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def run(path: Path) -> None:
    """Runs one notebook in its own folder and normalizes it."""
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    normalize(notebook)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def normalize(notebook: Any) -> None:
    """Removes from a notebook what differs between two runs of the same code."""
    notebook.metadata = nbformat.from_dict(KEPT_METADATA)
    count = 0
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = nbformat.from_dict({"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {})
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        cell.outputs = _joined([output for output in cell.outputs if _is_kept(output)])
        for output in cell.outputs:
            output.pop("transient", None)
            if "execution_count" in output:
                output.execution_count = count


def _joined(outputs: list[Any]) -> list[Any]:
    """Joins what a cell printed, which comes in pieces that depend on timing."""
    joined: list[Any] = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _is_kept(output: Any) -> bool:
    if output.output_type == "stream":
        return output.name == "stdout"
    return not any(re.search("widget", mime) for mime in output.get("data", {}))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in sys.argv[1:]:
        run(Path(name))
        print(name)
