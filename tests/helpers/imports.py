"""Runs code in a Python of its own, which must not load what is heavy."""

import subprocess
import sys
from typing import Any


def run_without(modules: set[str], code: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """Runs code, with its arguments in `sys.argv`; fails where it fails, or where one of the modules is loaded then."""
    program = f"{code}\nimport sys\nloaded = {modules} & sys.modules.keys()\nassert not loaded, loaded\n"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done
