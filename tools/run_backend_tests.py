"""Runs the tests and the codelab that need PyTorch, litert-torch or JAX, in an environment that has them and `.venv`'s.

    make backends

PyTorch is the build without CUDA, which is a hundredth of the other one and not on every package index. What cannot be
installed is said here, and again at the end of `make test`, out of `build/not_run`; its tests are skipped.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import click
from run_notebooks import NEEDS

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venvs" / "backends"
PYTHON = ENVIRONMENT / "bin" / "python"
NOT_RUN = ROOT / "build" / "not_run"
WANTED = {"torch": "torch==2.13.0+cpu", "litert_torch": "litert-torch>=0.10,<0.11", "jax": "jax>=0.8,<1"}

NBVAL = ("-n", "2", "--dist", "loadfile", "--nbval", "--nbval-current-env", "--nbval-cell-timeout=300")


@click.command()
@click.argument("pytest_arguments", nargs=-1)
def main(pytest_arguments: tuple[str, ...]) -> None:
    """Installs what is missing, and runs the tests with the marker `backends`, with what else is for pytest."""
    NOT_RUN.parent.mkdir(exist_ok=True)
    NOT_RUN.unlink(missing_ok=True)
    make_environment()
    reasons = [reason for name, wanted in WANTED.items() if (reason := why_not_installed(name, wanted))]
    for reason in reasons:
        click.secho(reason, fg="red", bold=True)
    NOT_RUN.write_text("".join(f"{reason}\n" for reason in reasons))
    if len(reasons) == len(WANTED):
        return
    options = ["-m", "backends", "-n", "2", "--dist", "loadgroup", *pytest_arguments]
    tests = ["conversion/test_other_backends.py", "sources/test_torch_modules.py", "weights/test_torch.py"]
    failed = run_pytest(*options, *(f"tests/{each}" for each in tests))
    for codelab, needs in NEEDS.items():
        if all(map(is_there, needs)):
            failed = run_pytest("-v", *NBVAL, *sorted((ROOT / "notebooks").rglob(f"{codelab}.ipynb"))) or failed
    sys.exit(failed)


def run_pytest(*arguments: str | Path) -> int:
    """Runs pytest in the environment; returns its exit code."""
    return subprocess.run([PYTHON, "-m", "pytest", *arguments], cwd=ROOT).returncode


def make_environment() -> None:
    """An environment that sees the packages of this one, and has its own before them."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", ENVIRONMENT], check=True)
    here = sysconfig.get_path("purelib")
    (found,) = ENVIRONMENT.glob("lib/python*/site-packages")
    # A path alone would leave out what is installed there as editable.
    (found / "outer.pth").write_text(f"import site; site.addsitedir({here!a})\n")


def why_not_installed(name: str, wanted: str) -> str | None:
    """Installs a package, if it is not there; returns why its tests do not run, or None."""
    if is_there(name):
        return None
    pip = [sys.executable, "-m", "pip", "--python", str(PYTHON), "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, wanted], capture_output=True, text=True, env=os.environ | {"PIP_NO_INPUT": "1"})
    # litert-torch's xdsl asks for an older one than .venv's Jupyter; the newer one serves both.
    (found,) = ENVIRONMENT.glob("lib/python*/site-packages")
    for old in found.glob("typing_extensions*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    if is_there(name):
        return None
    said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    errors = [line for line in said if line.startswith("ERROR")] or said or ["pip says nothing"]
    return f"NOT RUN: the tests with {name}, since pip cannot install {wanted} ({errors[0]})"


def is_there(name: str) -> bool:
    """Whether the environment can import a package."""
    return subprocess.run([PYTHON, "-c", f"import {name}"], capture_output=True).returncode == 0


if __name__ == "__main__":
    main()
