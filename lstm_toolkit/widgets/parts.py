"""What the panels are built from: controls with labels, and places that show HTML."""

import ipywidgets

from lstm_toolkit.display.tables import Table
from lstm_toolkit.escapes import in_html

# Colours that are not set are those of the notebook's theme.
STYLE = """<style>
.lstm-toolkit { line-height: 1.45; color: var(--jp-content-font-color1, inherit); overflow-wrap: break-word; }
.lstm-toolkit h4 { margin: 0.8em 0 0.3em; font-size: 1.05em; font-weight: bold; }
.lstm-toolkit p { margin: 0.3em 0; max-width: 60em; }
.lstm-toolkit table { border-collapse: collapse; margin: 0.3em 0 0.6em; }
.lstm-toolkit th, .lstm-toolkit td { border: 1px solid #8a8a8a; padding: 3px 8px; text-align: left; }
.lstm-toolkit th { font-weight: bold; }
.lstm-toolkit td { font-variant-numeric: tabular-nums; white-space: nowrap; }
.lstm-toolkit td:nth-child(2) { white-space: normal; min-width: 9em; }
.lstm-toolkit img { max-width: 100%; height: auto; background: #ffffff; }
.lstm-toolkit-wide { overflow-x: auto; }
</style>"""


def html() -> ipywidgets.HTML:
    """A place that shows HTML."""
    # Of a grid, not of a row: in a row a wide table makes the whole place wide, and what does not fit is cut off.
    return ipywidgets.HTML(layout=ipywidgets.Layout(display="grid", grid_template_columns="minmax(0, 1fr)"))


def number(label: str, value: int, limit: int) -> ipywidgets.BoundedIntText:
    """A whole number from 1 to a limit, with a label, which sliders do not have for screen readers."""
    layout = ipywidgets.Layout(width="11em")
    style = {"description_width": "5.5em"}
    return ipywidgets.BoundedIntText(value=value, min=1, max=limit, description=label, layout=layout, style=style)


def paragraph(text: str) -> str:
    """Escaped text as a paragraph."""
    return f"<p>{in_html(text)}</p>"


def section(content: str) -> str:
    """HTML in the style of the panels."""
    return f'<div class="lstm-toolkit">{content}</div>'


def table(shown: Table) -> str:
    """A table that scrolls by keyboard too where it is wider than the page."""
    label = in_html(shown.title)
    return f'<div class="lstm-toolkit-wide" role="region" aria-label="{label}" tabindex="0">{shown._repr_html_()}</div>'
