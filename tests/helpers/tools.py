"""The programs in `tools/` and `benchmarks/`, which are no packages, as modules."""

import functools
import importlib.util
import sys
from pathlib import Path
from typing import Any


@functools.cache
def tool(name: str, folder: str = "tools") -> Any:
    """The module `FOLDER/NAME.py`."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[2] / folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look for the module of their class
    spec.loader.exec_module(module)
    return module
