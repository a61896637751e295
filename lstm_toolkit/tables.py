"""`Table`: rows that show themselves as text in a terminal and as escaped HTML in a notebook."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate


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
        return f"{self.title}\n{tabulate(self.rows, self.header, disable_numparse=True)}"

    def _repr_html_(self) -> str:
        body = tabulate(self.rows, self.header, tablefmt="html", disable_numparse=True)
        return f"<p><strong>{html.escape(self.title)}</strong></p>{body}"


class Tabular:
    """Base of values that show themselves as tables: as text where printed, as HTML in a notebook."""

    def tables(self) -> tuple[Table, ...]:
        """The value as tables."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return "\n\n".join(str(table) for table in self.tables())

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.tables())
