"""Runs codelabs in an environment like Colab's, whose Python this is: `python tools/check_colab.py NOTEBOOK ...`.

Each notebook runs alone in an empty folder, from its first cell to its last. The first one finds no `lstm_toolkit` and
installs it, from this checkout where its cell names the repository. That may add packages, which are printed, and
replace or remove none. `make test-colab` makes the environment and runs all codelabs.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

import nbclient
import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def installed() -> dict[str, str]:
    """Name and version of each package of this environment."""
    listed = subprocess.run([*PIP, "list", "--format=json"], capture_output=True, check=True, text=True)
    return {each["name"]: each["version"] for each in json.loads(listed.stdout)}


def from_checkout(notebook: Any) -> Any:
    """Lets a notebook install the package from this checkout."""
    for cell in notebook.cells:
        if "install" in cell.metadata.get("tags", []):
            cell.source = cell.source.replace(f"git+{REPOSITORY}", ROOT.as_uri())
    return notebook


def kernel(folder: Path) -> AsyncKernelManager:
    """A kernel of this environment, described in a folder, whatever kernels the user has."""
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "like Colab", "language": "python"}
    (folder / "colab").mkdir()
    (folder / "colab" / "kernel.json").write_text(json.dumps(spec))
    return AsyncKernelManager(kernel_name="colab", kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(folder)]))


def run(path: Path) -> None:
    """Runs one notebook, and writes nothing; raises `CellExecutionError` for a cell that fails."""
    # With a path of this checkout the kernel would find the package there. The other one silences its debugger.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    with tempfile.TemporaryDirectory() as specs, tempfile.TemporaryDirectory() as folder:
        notebook = from_checkout(nbformat.read(path, as_version=4))
        client = nbclient.NotebookClient(
            notebook, timeout=600, km=kernel(Path(specs)), resources={"metadata": {"path": folder}}
        )
        client.execute(env=environment, cleanup_kc=True)  # a manager of our own would keep its kernel


def main(names: list[str]) -> str | None:
    """Runs the notebooks in their order; returns what is wrong."""
    before = installed()
    if "lstm_toolkit" in before:
        return "lstm_toolkit is installed already, so that there is nothing to see"
    for name in names:
        start = time.perf_counter()
        run(Path(name))
        after = installed()
        if replaced := {each: after.get(each) for each in before if after.get(each) != before[each]}:
            return f"{name} replaced {replaced}"
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    print("added:", *(f"{each} {after[each]}" for each in after if each not in before))
    return None if "lstm_toolkit" in after else "no notebook installed lstm_toolkit"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
