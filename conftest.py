"""Settings for nbval: TensorFlow's C++ part logs to stderr, which is not part of a notebook's lesson."""

from typing import Any


def pytest_collectstart(collector: Any) -> None:
    """Leaves stderr out of what nbval compares."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)
