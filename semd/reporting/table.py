"""Tables of the reports as plain aligned text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GAP = "  "
"""Space between two columns."""
MISSING = "-"
"""Cell of a figure that was not measured."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        header: text above the column.
        align: side on which the cells and the header line up.
        form: format of the numbers, as of `str.format`, with one field; a unit may follow it.
    """

    header: str = ""
    align: Literal["left", "right"] = "right"
    form: str = "{}"


@dataclass(frozen=True, slots=True)
class Remark:
    """Last cell of a row, which runs over the remaining columns and does not widen them."""

    text: str


Cell = str | float | None
"""A text, shown as it is, a number in the format of its column, or None for a figure that was not measured."""
Row = tuple[Cell | Remark, ...]


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table whose columns are as wide as their content.

    Attributes:
        columns: the columns from left to right.
        rows: the cells of each row; a row may have fewer cells than there are columns.
        title: lines above the table.
        notes: lines below the table.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    title: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the shape of the rows.

        Raises:
            ValueError: a row has more cells than there are columns, or a remark that is not its last cell.
        """
        for row in self.rows:
            if len(row) > len(self.columns):
                raise ValueError(f"a row has {len(row)} cells, but the table has {len(self.columns)} columns")
            if any(isinstance(cell, Remark) for cell in row[:-1]):
                raise ValueError("a remark must be the last cell of its row")

    def as_text(self) -> str:
        """Return the title, the headers, the rows and the notes; without any header, the header line is left out."""
        headers: Row = tuple(column.header for column in self.columns)
        shown = [headers, *self.rows] if any(headers) else list(self.rows)
        texts = [[_cell_text(cell, column) for cell, column in zip(row, self.columns, strict=False)] for row in shown]
        widths = [0] * len(self.columns)
        for row, cells in zip(shown, texts, strict=True):
            for index, (cell, text) in enumerate(zip(row, cells, strict=True)):
                if not isinstance(cell, Remark):
                    widths[index] = max(widths[index], len(text))
        lines = [
            GAP.join(
                text if isinstance(cell, Remark) else _aligned(text, width, column)
                for cell, text, width, column in zip(row, cells, widths, self.columns, strict=False)
            ).rstrip()
            for row, cells in zip(shown, texts, strict=True)
        ]
        return "\n".join([*self.title, *lines, *self.notes])


def _cell_text(cell: Cell | Remark, column: Column) -> str:
    if isinstance(cell, Remark):
        return cell.text
    if cell is None:
        return MISSING
    return cell if isinstance(cell, str) else column.form.format(cell)


def _aligned(text: str, width: int, column: Column) -> str:
    return text.ljust(width) if column.align == "left" else text.rjust(width)
