"""Panels for notebooks: `compare_layouts`, `explore_gates`, `compare_lowerings`, `doctors_desk`, `watch_memory`.

A panel shows what the pure functions of `lstm_toolkit.panels` say. It works without a browser too: set a control's
`value`, `click()` its button, read the `value` of its `HTML`. Needs the extra `codelabs`.
"""

try:
    import ipywidgets as _  # noqa: F401 (what is missing is said once, here)
except ImportError as error:
    raise ImportError("the panels need ipywidgets: pip install 'lstm_toolkit[codelabs]'") from error

from lstm_toolkit.widgets.desk import DeskPanel, doctors_desk
from lstm_toolkit.widgets.gates import explore_gates
from lstm_toolkit.widgets.memory import MemoryPanel, watch_memory
from lstm_toolkit.widgets.sizes import LayoutPanel, LoweringPanel, compare_layouts, compare_lowerings

__all__ = (
    "DeskPanel",
    "LayoutPanel",
    "LoweringPanel",
    "MemoryPanel",
    "compare_layouts",
    "compare_lowerings",
    "doctors_desk",
    "explore_gates",
    "watch_memory",
)
