"""`Table`: rows that show themselves as text in a terminal and as escaped HTML in a notebook."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Literal

from tabulate import tabulate

from lstm_toolkit.escapes import in_html, printable

_NUMBER = re.compile(r"[-+~<]?\d\S*( (\S*\d\S*|[a-zµ%]+|dB|[kMG]i?B)){0,3}")
"""A number, perhaps with a unit ("1,024 bytes") or a second number ("1.2 to 1.4", "40 in 7 turns")."""

_MISSING = ("", "-", "nan", "inf", "-inf", "unknown")


@dataclasses.dataclass(frozen=True)
class _Column:
    """A column as it is shown."""

    name: str
    cells: tuple[str, ...]

    @property
    def side(self) -> Literal["left", "right"]:
        """Numbers stand at the right, words at the left."""
        said = [cell for cell in self.cells if cell not in _MISSING]
        return "right" if said and all(map(_NUMBER.fullmatch, said)) else "left"


@dataclasses.dataclass(frozen=True)
class Table:
    """A titled table. Columns without a value are not shown, and of a table without rows the title alone.

    Attributes:
        title: shown above it.
        header: names of the columns.
        rows: one sequence of values a row, as many as there are columns; None shows nothing.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def __str__(self) -> str:
        columns = self._columns()
        if not columns:
            return printable(self.title)
        rows, names = zip(*(column.cells for column in columns), strict=True), [column.name for column in columns]
        sides = [column.side for column in columns]
        return f"{printable(self.title)}\n{tabulate(rows, names, disable_numparse=True, colalign=sides)}"

    def _repr_html_(self) -> str:
        columns = self._columns()
        title = f"<p><strong>{in_html(self.title)}</strong></p>" if self.title else ""
        if not columns:
            return title
        head = _row("th", [column.name for column in columns], columns)
        cells = zip(*(column.cells for column in columns), strict=True)
        body = "\n".join(_row("td", row, columns) for row in cells)
        return f"{title}<table>\n<thead>\n{head}\n</thead>\n<tbody>\n{body}\n</tbody>\n</table>"

    def _columns(self) -> list[_Column]:
        columns = [
            _Column(printable(name), tuple("" if value is None else printable(str(value)) for value in values))
            for name, values in zip(self.header, zip(*self.rows, strict=True), strict=bool(self.rows))
        ]
        return [column for column in columns if any(column.cells)]


def _row(element: str, texts: Sequence[str], columns: Sequence[_Column]) -> str:
    # Notebooks that are not trusted keep this style, and no class.
    cells = (
        f'<{element} style="text-align: {column.side}">{in_html(text)}</{element}>'
        for text, column in zip(texts, columns, strict=True)
    )
    return f"<tr>{''.join(cells)}</tr>"


class Tabular:
    """Base of values that show themselves as tables: as text where printed, as HTML in a notebook."""

    def tables(self) -> tuple[Table, ...]:
        """The value as tables."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return "\n\n".join(str(table) for table in self.tables())

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.tables())
