"""`Table`: rows that show themselves as text in a terminal and as escaped HTML in a notebook."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from lstm_toolkit.escapes import in_html, printable


@dataclasses.dataclass(frozen=True)
class Table:
    """A titled table.

    Attributes:
        title: shown above it.
        header: names of the columns.
        rows: one sequence of values a row, as many as there are columns.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def __str__(self) -> str:
        return f"{printable(self.title)}\n{tabulate(self._cells(), self._header(), disable_numparse=True)}"

    def _header(self) -> list[str]:
        return list(map(printable, self.header))

    def _cells(self) -> list[list[str]]:
        return [[printable(str(value)) for value in row] for row in self.rows]

    def _repr_html_(self) -> str:
        body = tabulate(self._cells(), self._header(), tablefmt="html", disable_numparse=True)
        return f"<p><strong>{in_html(self.title)}</strong></p>{body}"


class Tabular:
    """Base of values that show themselves as tables: as text where printed, as HTML in a notebook."""

    def tables(self) -> tuple[Table, ...]:
        """The value as tables."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return "\n\n".join(str(table) for table in self.tables())

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.tables())
