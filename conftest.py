"""Settings for nbval: TensorFlow's C++ part logs to stderr, which is not part of a notebook's lesson."""

import functools
from typing import Any

import pytest

from tests.helpers.tools import tool


def pytest_collectstart(collector: Any) -> None:
    """Leaves stderr out of what nbval compares, and notebooks out that need what is not installed, with a line each."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)
        reason = tool("run_notebooks").why_not(collector.path)
        if reason is not None:
            collector.collect = functools.partial(pytest.skip, reason, allow_module_level=True)
