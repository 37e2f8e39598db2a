"""Tests of the tables of the reports."""

from __future__ import annotations

import pytest

from semd.reporting.table import Column, Remark, TextTable


def test_columns_are_as_wide_as_their_content() -> None:
    table = TextTable(
        columns=(Column("sample", align="left"), Column("n"), Column("RMSE", form="{:.2f}")),
        rows=(("grid", 1200, 0.5), ("tinball, old", 7, 12.345)),
    )
    assert table.as_text().splitlines() == [
        "sample           n   RMSE",
        "grid          1200   0.50",
        "tinball, old     7  12.35",
    ]


def test_title_and_notes_stand_above_and_below() -> None:
    table = TextTable((Column("n"),), ((1,),), title=("the title", ""), notes=("", "a note"))
    assert table.as_text() == "the title\n\nn\n1\n\na note"


def test_a_unit_follows_the_number() -> None:
    table = TextTable((Column("flagged", form="{:.1f} %"),), ((99.96,), (5.0,)))
    assert table.as_text().splitlines() == ["flagged", "100.0 %", "  5.0 %"]


def test_texts_are_shown_as_they_are_and_missing_figures_as_a_dash() -> None:
    table = TextTable((Column("a", form="{:.3f}"), Column("b", form="{:.3f}")), (("0.200*", None), ("", 1.0)))
    assert table.as_text().splitlines() == ["     a      b", "0.200*      -", "        1.000"]


def test_a_remark_runs_over_the_remaining_columns() -> None:
    columns = (Column("method", align="left"), Column("runs"), Column("dose"))
    table = TextTable(columns, (("semd", 12, 3), ("other", Remark("not run: the package is not installed"))))
    assert table.as_text().splitlines() == [
        "method  runs  dose",
        "semd      12     3",
        "other   not run: the package is not installed",
    ]


def test_a_table_without_headers_has_no_header_line() -> None:
    table = TextTable((Column(align="left"), Column()), (("eager", 10), ("ort", 9)))
    assert table.as_text().splitlines() == ["eager  10", "ort     9"]


def test_short_rows_and_no_rows() -> None:
    columns = (Column("a"), Column("b"))
    assert TextTable(columns, ((1,),)).as_text().splitlines() == ["a  b", "1"]
    assert TextTable(columns, ()).as_text() == "a  b"


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        TextTable((Column("a"),), ((1, 2),))
    with pytest.raises(ValueError, match="last cell"):
        TextTable((Column("a"), Column("b")), ((Remark("x"), 2),))
