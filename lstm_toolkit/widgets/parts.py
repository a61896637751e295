"""What the panels are built from: controls with labels, and places that show HTML."""

import uuid
from collections.abc import Callable, Sequence
from typing import Any

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
.lstm-toolkit td[style*="right"] { font-variant-numeric: tabular-nums; white-space: nowrap; }
.lstm-toolkit img { max-width: 100%; height: auto; background: #ffffff; }
.lstm-toolkit-wide { overflow-x: auto; }
</style>"""


def html() -> ipywidgets.HTML:
    """A place that shows HTML."""
    return ipywidgets.HTML(layout=_grid())


def _grid() -> ipywidgets.Layout:
    # Of a grid, not of a row: in a row a wide table makes the whole place wide, and what does not fit is cut off.
    return ipywidgets.Layout(display="grid", grid_template_columns="minmax(0, 1fr)")


def dropdown(label: str, options: Sequence[Any], *, width: str, label_width: str | None = None) -> ipywidgets.Dropdown:
    """A list to choose from, with a label; widths in CSS."""
    style = {} if label_width is None else {"description_width": label_width}
    layout = ipywidgets.Layout(width=width)
    return ipywidgets.Dropdown(options=list(options), description=label, style=style, layout=layout)


class WholeNumber(ipywidgets.VBox):
    """A labelled field for a whole number. What is wrong with another one stands beside it, and is read aloud.

    Attributes:
        field: a `FloatText`. The fields for integers change in silence what is typed: 7.5 to 75, 100000 to the limit.
        message: `HTML`; empty while the number is right.
        least, most: the limits.
    """

    def __init__(self, label: str, value: int, least: int, most: int) -> None:
        self.least, self.most = least, most
        layout = ipywidgets.Layout(width="13em", border=_RIGHT)
        style = {"description_width": "5.5em"}
        self.field = ipywidgets.FloatText(
            value=value, step=1, continuous_update=False, description=label, layout=layout, style=style
        )
        self.message = ipywidgets.HTML()
        super().__init__([self.field, self.message], layout=ipywidgets.Layout(max_width="16em"))
        self.field.observe(lambda _: self._check(), "value")

    @property
    def description(self) -> str:
        """The label."""
        return str(self.field.description)

    @property
    def value(self) -> int | None:
        """The number, or None while something else is in the field."""
        typed = self.field.value
        return int(typed) if typed.is_integer() and self.least <= typed <= self.most else None

    @value.setter
    def value(self, value: float) -> None:
        self.field.value = value

    def on_change(self, callback: Callable[[], None]) -> None:
        """Has a function called whenever something else is in the field."""
        self.field.observe(lambda _: callback(), "value")

    def limit(self, most: int) -> None:
        """Sets the largest number."""
        self.most = most
        self._check()

    def settle(self, reason: str) -> None:
        """Takes no other number from now on, and says why."""
        self.field.disabled = True
        self.message.value = section(paragraph(reason))

    def _check(self) -> None:
        wrong = self.value is None
        self.field.layout.border = _WRONG if wrong else _RIGHT
        said = (
            f"{self.description} must be a whole number from {self.least} to {self.most:,}; "
            f"{self.field.value:.15g} is not."
        )
        self.message.value = status(said, role="alert") if wrong else ""


# Both are as wide, so that nothing moves.
_RIGHT, _WRONG = "2px solid transparent", "2px solid #d55e00"


class Player(ipywidgets.HBox):
    """A number that counts up by itself while the button is down.

    Attributes:
        button: a `ToggleButton`.
        number: a `WholeNumber`.
        clock: the `Play` behind the button. It is hidden, since its own buttons have no names for screen readers.
    """

    def __init__(self, label: str, most: int, *, least: int = 1, milliseconds: int = 700) -> None:
        self.button = ipywidgets.ToggleButton(description="Play", layout=ipywidgets.Layout(width="auto"))
        self.number = WholeNumber(label, least, least, most)
        hidden = ipywidgets.Layout(display="none")
        self.clock = ipywidgets.Play(value=least, min=least, max=most, interval=milliseconds, layout=hidden)
        self._starter = ipywidgets.HTML(layout=hidden)
        row = ipywidgets.Layout(flex_flow="row wrap")
        super().__init__([self.number, self.button, self.clock, self._starter], layout=row)
        playing = "playing" if self.clock.has_trait("playing") else "_playing"
        ipywidgets.jslink((self.button, "value"), (self.clock, playing))
        if playing == "_playing":
            self._start_by_a_click()
        ipywidgets.jsdlink((self.clock, "value"), (self.number.field, "value"))
        self.number.on_change(self._follow)
        self.button.observe(lambda change: self._name(pressed=change["new"]), "value")

    def limit(self, most: int) -> None:
        """Sets the largest number, and goes back to the first if the number is larger."""
        if self.number.value is None or self.number.value > most:
            self.number.value = self.number.least
        self.clock.max = most
        self.number.limit(most)

    def _start_by_a_click(self) -> None:
        """For ipywidgets 7, whose clock runs when its own button is pressed and in no other way.

        Time has to pass in the browser: Colab shows nothing that the kernel sends of its own accord.
        """
        name = f"lstm-toolkit-{uuid.uuid4().hex}"
        self.add_class(name)
        # Of several views of a panel one starts the clock that they share: started twice, it runs twice as fast.
        script = f"const one = document.querySelector('.{name}'); "
        script += "if (one.contains(this)) one.querySelector('.widget-play button').click()"
        start = f'<img src="" alt="" onerror="{script}">'

        def press(change: Any) -> None:
            self._starter.value = start if change["new"] else ""

        self.button.observe(press, "value")

    def _follow(self) -> None:
        if self.number.value is not None:
            self.clock.value = self.number.value

    def _name(self, *, pressed: bool) -> None:
        self.button.description = "Pause" if pressed else "Play"


class Results(ipywidgets.HTML):
    """A place for what belongs to a choice, such as sizes. While the choice is another, it is grey and says so."""

    def __init__(self, chosen: str = "sizes") -> None:
        self._content, self._subject, self._chosen = "", "", chosen
        super().__init__(layout=_grid())

    def show(self, content: str, subject: str) -> None:
        """Shows HTML that belongs to a choice, which is told in words."""
        self._content, self._subject = content, subject
        self.chosen(subject)

    def chosen(self, subject: str | None) -> None:
        """Says what the controls choose now; None if nothing that can be shown."""
        if not self._content or subject == self._subject:
            self.value = self._content
            return
        label = in_html(f"This is for {self._subject}, not for the {self._chosen} above.")
        self.value = section(f"<p><strong>{label}</strong></p>") + f'<div style="{_STALE}">{self._content}</div>'


# Dark enough to be read: 4.5 to 1 in either theme.
_STALE = "filter: grayscale(1); opacity: 0.75"


def status(text: str, *, role: str = "status") -> str:
    """Escaped text that a screen reader reads aloud when it changes."""
    return f'{STYLE}<div class="lstm-toolkit" role="{role}">{in_html(text)}</div>'


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
