"""Text as wide as asked, and plain unless colour is asked for."""

from __future__ import annotations

from graphlens.views.table import heading, paragraph, table, to_text

ROWS = [("MulBackward0", "30,000"), ("A" * 50, "1")]


def test_columns() -> None:
    text = to_text([table(("op", "nodes"), ROWS[:1], total=("total", "30,000"))])

    assert text == (
        "op             nodes\n"
        "MulBackward0  30,000\n"
        "total         30,000\n"
    )  # fmt: skip


def test_a_table_that_is_too_wide_goes_on_below_in_its_names_and_not_in_its_numbers() -> None:
    lines = to_text([table(("op", "nodes"), ROWS)], width=30).splitlines()

    assert max(map(len, lines)) <= 30
    assert lines[1].endswith("30,000")
    assert [line.split()[0] for line in lines[2:]] == ["A" * 22, "A" * 22, "A" * 6]  # 30 less 6 and 2 between
    assert lines[2].endswith(" 1")


def test_names_of_one_beginning_stay_apart() -> None:
    names = [f"transformer.h.{block}.attn.c_attn.{kind}" for block in range(3) for kind in ("weight", "bias")]
    rows = [(name, "value", "equal to the last bit") for name in names]
    lines = to_text([table(("gradient", "a", "largest difference"), rows, left=3)], width=50).splitlines()

    assert max(map(len, lines)) <= 50
    whole = "".join(line.split("  ")[0] for line in lines[1:])
    assert whole == "".join(names)


def test_columns_stand_closer_before_a_name_is_broken() -> None:
    rows = [("LinalgInvExBackward0", "1,000", "1,000")]

    assert to_text([table(("op", "a", "b"), rows)], width=34).splitlines()[1] == "LinalgInvExBackward0  1,000  1,000"
    assert to_text([table(("op", "a", "b"), rows)], width=32).splitlines()[1] == "LinalgInvExBackward0 1,000 1,000"
    assert to_text([table(("op", "a", "b"), rows)], width=31).splitlines()[1].split()[1:] == ["1,000", "1,000"]


def test_markup_in_a_name_is_shown_as_it_is() -> None:
    assert "[bold]x[/bold] :smile:" in to_text([table(("name",), [("[bold]x[/bold] :smile:",)])])


def test_colour_is_an_escape_code_and_plain_text_has_none() -> None:
    parts = [heading("Title")]

    assert "\x1b[1m" in to_text(parts, colour=True)
    assert to_text(parts) == "Title\n"


def test_a_heading_with_a_remark_at_its_right_end() -> None:
    assert to_text([heading("Title", "remark", width=20)], width=20) == "Title         remark\n"
    assert to_text([heading("A long title", "a remark", width=20)], width=20) == "A long title\na remark\n"


def test_paragraphs() -> None:
    text = to_text([paragraph("one two three " + "x" * 30, width=20, indent="  ", first="- ")], width=20)

    assert text == "- one two three xxxx\n  " + "x" * 18 + "\n  " + "x" * 8 + "\n"


def test_no_line_ends_in_blanks() -> None:
    lines = to_text([table(("a", "b"), [("x", "1")], left=2), heading("t"), "plain  "]).splitlines()

    assert lines == [line.rstrip() for line in lines]


def test_a_number_and_its_unit_stay_on_one_line() -> None:
    for amount in ("4.10 k FLOPs", "2 FLOPs", "45.3 GFLOP/s", "20.4 GB/s", "12 ms", "3 ulp"):
        for filler in range(1, 60):
            text = to_text([paragraph(f"{'x' * filler} {amount} moved", width=60)], width=60)
            assert amount in text
