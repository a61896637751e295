"""Runs notebooks and writes them back in a form that two runs give byte for byte.

Kept are sources, tags, whether a source is collapsed, and outputs but for standard error and the state of widgets;
cells are counted from 1.

A notebook that needs more than this environment has is run by the environment that has it, if that is there.

Timings differ between two runs, and so do figures of them. The cells that hold them have the tag nbval-ignore-output.
They keep the outputs of an earlier run as long as nothing else changed: the code of the notebook, the code of the
package, the outputs of all other cells, and the kept outputs themselves, as this program wrote them. A fingerprint in
the notebook's metadata says so. If any of it changed, all outputs are new.
"""

import copy
import hashlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat

from lstm_toolkit.tflite.files import write_whole

KEPT_METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lstm_toolkit"
NEEDS = {"11_from_pytorch": ("torch", "litert_torch")}
"""What a codelab and its solutions import beside what `.venv` has, by name; `make backends` installs it."""

BACKENDS = ROOT / ".venvs" / "backends" / "bin" / "python"


def why_not(path: Path) -> str | None:
    """Why a notebook does not run in this environment, in a line; None if it does."""
    missing = [name for name in NEEDS.get(path.stem, ()) if importlib.util.find_spec(name) is None]
    needs = f"{path.stem} needs {' and '.join(missing)}: `make backends` installs that and runs it"
    return needs if missing else None


def run(path: Path) -> None:
    """Runs one notebook in its own folder and normalizes it."""
    before = nbformat.read(path, as_version=4)
    notebook = copy.deepcopy(before)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    normalize(notebook)
    keep_timings(before, notebook)
    write_whole(path, f"{nbformat.writes(notebook)}\n".encode())


def keep_timings(before: Any, notebook: Any) -> None:
    """Takes the outputs of cells with the tag nbval-ignore-output from an earlier run of the same code, and signs them.

    Args:
        before: the notebook as it was, with outputs of an earlier run.
        notebook: the same, run again and normalized; it gets the outputs, and a fingerprint where there are such cells.
    """
    as_before = copy.deepcopy(notebook)
    pairs = zip(as_before.cells, before.cells, strict=True)
    timed = [pair for pair in pairs if "nbval-ignore-output" in pair[0].metadata.get("tags", [])]
    if before.metadata.get("fingerprint") == fingerprint(before):
        for cell, earlier in timed:
            cell.outputs = earlier.outputs
        if fingerprint(as_before) == fingerprint(before):
            notebook.cells = as_before.cells
    notebook.metadata.pop("fingerprint", None)
    if any(cell.outputs for cell, _ in timed):
        notebook.metadata["fingerprint"] = fingerprint(notebook)


def fingerprint(notebook: Any) -> str:
    """Sixteen digits that change with the notebook's code and outputs, and with the code of the package.

    The checks of exercises are left out: what they print is compared, and no figure comes from them.
    """
    content = [(cell.source, cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for module in sorted(PACKAGE.rglob("*.py")):
        if module.parent.name != "exercises":
            digest.update(module.read_bytes())
    return digest.hexdigest()[:16]


def normalize(notebook: Any) -> None:
    """Removes from a notebook what differs between two runs of the same code."""
    signed = {name: value for name, value in notebook.metadata.items() if name == "fingerprint"}
    notebook.metadata = nbformat.from_dict(KEPT_METADATA | signed)
    count = 0
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = nbformat.from_dict(_kept_metadata(cell.metadata))
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        cell.outputs = _joined([output for output in cell.outputs if _is_kept(output)])
        for output in cell.outputs:
            output.pop("transient", None)
            if "execution_count" in output:
                output.execution_count = count


def _kept_metadata(metadata: Any) -> dict[str, Any]:
    kept = {"tags": metadata["tags"]} if metadata.get("tags") else {}
    if metadata.get("jupyter", {}).get("source_hidden"):
        kept["jupyter"] = {"source_hidden": True}
    if metadata.get("cellView") == "form":  # Colab's word for the same
        kept["cellView"] = "form"
    return kept


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


def main(names: list[str]) -> None:
    """Runs each notebook here, or in the environment that has what it needs."""
    for name in names:
        reason = why_not(Path(name))
        if reason is None:
            run(Path(name))
            print(name)
        elif BACKENDS.exists() and sys.executable != str(BACKENDS):
            subprocess.run([BACKENDS, __file__, name], check=True)
        else:
            print(f"{name} is left as it is: {reason}")


if __name__ == "__main__":
    main(sys.argv[1:])
