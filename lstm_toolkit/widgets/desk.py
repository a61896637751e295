"""The panel `doctors_desk`: hand in a file, see what is wrong with it, mend it, and take it home."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any, TypeVar

import ipywidgets
import traitlets

from lstm_toolkit.errors import LstmToolkitError
from lstm_toolkit.escapes import in_html
from lstm_toolkit.panels.desk import PATIENT, Examination, Treatment, examine, treat
from lstm_toolkit.runtime.limits import Limits
from lstm_toolkit.runtime.targets import TARGETS
from lstm_toolkit.widgets.parts import STYLE, dropdown, html, paragraph, section, status, table

T = TypeVar("T")

MOST_UPLOADED = 100 << 20
"""Bytes of an upload. Servers tend to have lower limits, and drop the connection then."""

LEAST_LOST = 1_000_000
"""Bytes of an upload that no server is known to drop."""

MOST_OFFERED = 32 << 20
"""Bytes of a file that a link can hold: some browsers take no longer address."""

_STYLE = """<style>
.lstm-toolkit-desk summary { cursor: pointer; font-weight: bold; margin: 0.6em 0; }
.lstm-toolkit-desk a { color: var(--jp-content-link-color, inherit); text-decoration: underline; }
</style>"""

_HINT = (
    "A .tflite file, or a .keras or .h5 file, which is converted first. It is read, run and converted in a process of "
    "its own. Notebook servers cut uploads off at some 10 MB, Colab at 1 MB: give a larger file by its path, "
    "doctors_desk(path)."
)
_IF_LOST = (
    " If this line stays, the notebook server has cut it off, which Jupyter does at 10 MB unless it is started with "
    """--ServerApp.tornado_settings='{"websocket_max_message_size": 110000000}'. """
    "Give the file by its path then, doctors_desk(path)."
)


def doctors_desk(model: Any = None, *, limits: Limits | None = None) -> DeskPanel:
    """A panel for one's own file: summary, drawing, findings with their remedies, repair, before and after, download.

    A `.keras` or `.h5` file is converted first. All work on a file is done in a process of its own, within limits, so
    that a file that crashes or hangs does not take the notebook along.

    Args:
        model: the path or the bytes of a file, or a `Conversion`; None for an example, a file of the stock converter.
        limits: of that process; None for the usual ones.
    """
    return DeskPanel(PATIENT if model is None else model, limits)


def uploaded(value: Any) -> tuple[str, bytes] | None:
    """The name and the content of the file in a `FileUpload`; None if there is none.

    Args:
        value: of the widget: a tuple of dicts in ipywidgets 8, a dict of dicts by name in 7.
    """
    files = value.items() if isinstance(value, dict) else ((each["name"], each) for each in value)
    name, content = next(((name, each["content"]) for name, each in files), ("", None))
    return None if content is None else (str(name), bytes(content))


class _Announced(ipywidgets.Label):
    """What the browser says of files before it sends their content. It is not shown."""

    files: traitlets.List[Any] = traitlets.List().tag(sync=True)


class DeskPanel(ipywidgets.VBox):
    """Controls and what they show.

    Attributes:
        upload: a `FileUpload`; a file is examined as soon as it is there. A large file gets another one in its place.
        target, state: each a `Dropdown`: the runtime that the file is for; of a Keras file, what a call starts from.
        examine: the button that examines the file again, for another target or state.
        repairs: a box with a `Checkbox` for each of the examination's choices.
        repair: the button that mends the file.
        status, outcome: say what is being done, or what is wrong: above the findings, and above the mended file.
        examined, treated: show the file, and the file before and after.
        examination, treatment: the last ones, or None.
    """

    def __init__(self, model: Any, limits: Limits | None = None) -> None:
        self._model, self._limits = model, limits
        self._name: str | None = None
        self.examination: Examination | None = None
        self.treatment: Treatment | None = None
        widths = {"width": "16em", "label_width": "6em"}
        self.target = dropdown("Runs on", [("any runtime", None), *((each, each) for each in TARGETS)], **widths)
        self.state = dropdown("Keras state", ["auto", "reset", "carry", "explicit"], **widths)
        self.examine, self.repair = _button("Examine"), _button("Repair")
        self.repairs = ipywidgets.Box(layout={"flex_flow": "row wrap"})
        self.status, self.examined, self.outcome, self.treated = html(), html(), html(), html()
        self._announced = _Announced()
        self._controls = ipywidgets.HBox(layout=ipywidgets.Layout(flex_flow="row wrap"))
        self._renew_upload()
        hint = html()
        hint.value = STYLE + _STYLE + section(paragraph(_HINT))
        self._chosen = ipywidgets.HBox([self.repairs, self.repair], layout={"flex_flow": "row wrap"})
        super().__init__([hint, self._controls, self.status, self.examined, self._chosen, self.outcome, self.treated])
        self._announced.observe(lambda change: self._expect(change["new"]), "files")
        for control in (self.target, self.state):
            control.observe(lambda _: self._say("Press “Examine” for this choice; below is the last one."), "value")
        self.examine.on_click(lambda _: self._examine())
        self.repair.on_click(lambda _: self._treat())
        self._examine()

    def _renew_upload(self) -> None:
        self.upload = ipywidgets.FileUpload(
            accept=".tflite,.keras,.h5", multiple=False, description="Upload a file", layout={"width": "auto"}
        )
        self.upload.observe(self._uploaded, "value")
        # In ipywidgets 8 a link carries no bytes, in 7 the bytes are not in `metadata`: the announcement is short.
        told = "metadata" if self.upload.has_trait("metadata") else "value"
        ipywidgets.jsdlink((self.upload, told), (self._announced, "files"))
        self._controls.children = (self.upload, self.target, self.state, self.examine)

    def _expect(self, files: list[dict[str, Any]]) -> None:
        """Says that a file is coming, since nobody says so if the server drops it."""
        self._announced.files = []  # so that the same file is noticed when it is tried again
        for file in files:
            is_large = file["size"] >= LEAST_LOST
            self._say(f"Receiving {file['name']!r} ({file['size']:,} bytes)." + is_large * _IF_LOST)
            if is_large:
                # The browser waits for an answer to what was lost before it sends anything else of the same control.
                self._renew_upload()

    def _uploaded(self, change: Any) -> None:
        file = uploaded(change["new"])
        if change["owner"] is not self.upload:
            change["owner"].close()
        if file is None:
            return
        name, content = file
        if len(content) > MOST_UPLOADED:
            self._say(f"{name!r} has {len(content):,} bytes, more than {MOST_UPLOADED:,}: use doctors_desk(path).")
            return
        self._name, self._model = name, content
        self._examine()

    def _examine(self) -> None:
        self._clear()
        self._say("Examining; a Keras file is converted first, which takes half a minute.")
        options = {"name": self._name, "target": self.target.value, "state": self.state.value, "limits": self._limits}
        self.examination = _result(lambda: examine(self._model, **options), self._say)
        if self.examination is None:
            return
        self._say(f"{self.examination.name}: examined.")
        self.examined.value = _examined(self.examination)
        self._offer(self.examination)

    def _clear(self) -> None:
        self.examination = self.treatment = None
        self.repairs.children = ()
        self._chosen.layout.display = "none"
        self.examined.value = self.outcome.value = self.treated.value = ""

    def _offer(self, examination: Examination) -> None:
        """Shows what can be mended."""
        boxes = [
            ipywidgets.Checkbox(value=each.is_on, description=each.text, indent=False, layout={"width": "auto"})
            for each in examination.choices
        ]
        for box in boxes:
            box.observe(lambda _: self._say_of_repair("Press “Repair” for this choice."), "value")
        self.repairs.children = boxes
        if boxes:
            self._chosen.layout.display = ""
            self._say_of_repair("Choose what to mend, and press “Repair”.")

    def _treat(self) -> None:
        examination = self.examination
        if examination is None:
            return
        keep = [
            each.word for each, box in zip(examination.choices, self.repairs.children, strict=True) if not box.value
        ]
        limits = {} if self._limits is None else {"limits": self._limits}
        self._say_of_repair("Mending, and running both files.")
        self.treated.value = ""
        self.treatment = _result(lambda: treat(examination, keep, **limits), self._say_of_repair)
        if self.treatment is not None:
            self._say_of_repair("Mended." if self.treatment.changes else "Nothing was changed.")
            self.treated.value = _treated(self.treatment)

    def _say(self, text: str) -> None:
        self.status.value = status(text)

    def _say_of_repair(self, text: str) -> None:
        self.outcome.value = status(text)


def _result(work: Callable[[], T], say: Callable[[str], None]) -> T | None:
    """What some work gives; None if the package refuses, and then the reason is said."""
    try:
        return work()
    except (LstmToolkitError, ValueError, OSError) as error:
        say(str(error))
        return None
    except BaseException:
        say("Stopped.")
        raise


def _examined(examination: Examination) -> str:
    tables = "".join(map(table, (*examination.findings.tables(), *examination.converted)))
    summary = "".join(map(table, examination.summary))
    drawn = examination.drawing_html("Graph of the file")
    content = f"<h4>{in_html(examination.name)}</h4>{tables}"
    content += paragraph(examination.refusal) if examination.refusal else ""
    content += f"<details><summary>What is in it</summary>{summary}{drawn}</details>" if summary else ""
    if examination.converted:
        content += _link(examination.tflite, examination.name, "tflite")
    return _desk(content)


def _treated(treatment: Treatment) -> str:
    tables = "".join(map(table, treatment.tables()))
    link = _link(treatment.tflite, treatment.before.name, "mended.tflite")
    return _desk(f"{link}{tables}{treatment.said_html()}{treatment.drawings_html()}")


def _desk(content: str) -> str:
    return section(f'<div class="lstm-toolkit-desk">{content}</div>')


def _link(data: bytes, name: str, suffix: str) -> str:
    """A link that holds a file."""
    stem = re.sub(r"[^\w-]+", "_", name.rpartition(".")[0] or name, flags=re.ASCII)[:60].strip("_") or "model"
    file = f"{stem}.{suffix}"
    if len(data) > MOST_OFFERED:
        return paragraph(f"{len(data):,} bytes are too many for a link: write the file from Python, by its save(path).")
    content = base64.b64encode(data).decode()
    address = f"data:application/octet-stream;base64,{content}"
    return f'<p><a download="{file}" href="{address}">Download {file} ({len(data):,} bytes)</a></p>'


def _button(text: str) -> ipywidgets.Button:
    return ipywidgets.Button(description=text, layout={"width": "auto"})
