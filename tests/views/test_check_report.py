"""What `graphlens check` prints, held against text for hand-made findings."""

from __future__ import annotations

import re

import pytest

from graphlens.analyses.catalogue import PAGES
from graphlens.analyses.connectivity import VERDICTS, Connectivity, Verdict
from graphlens.analyses.findings import Finding, Place
from graphlens.views.check_report import check_report, findings_text, page_report
from tests.builders import small_graph

CUT = Finding(
    "GL101",
    "error",
    "A receives no gradient: torch.tensor() (called 2 times) copies the values into a new tensor without history.",
    Place("model.py:12 (Net.forward)", "return torch.tensor([self.soft(c) for c in y])", "soft_threshold", (3, 4)),
    {
        "lost": ["A"],
        "still_connected_by_other_paths": ["x", "M"],
        "comes_back_at": ["torch.mul() at model.py:14 (Net.forward)"],
        "outputs_that_change_with_it": {"A": {"g": [0, 1, 2], "h": [1, 4], "loss": [0], "k": [3]}},
    },
    "replace it by torch.stack([...]) (or torch.cat), which stays in the graph",
)
WRITTEN = Finding(
    "GL106",
    "error",
    "backward fails: a tensor that ExpBackward0 needs was written over after it was saved.",
    Place("model.py:20 (f)"),
    {"error": "…", "saved_at": "model.py:19 (f)", "slot": "result"},
    "write to a copy",
)
UNUSED = Finding("GL104", "warning", "The parameter bias is not used by the forward pass.", fix="use it")
BRANCH = Finding("GL103", "info", "Python asks once whether a tensor is true.", Place("model.py:3 (f)", "if y > 0:"))


def found(*findings: Finding, verdicts: tuple[Verdict, ...] = ()) -> Connectivity:
    return Connectivity(verdicts, findings)


REPORT = """\
model.py:build                                                           float64
A note on what was done.

name  role       gradient
A     input      used, but its value leaves the graph before the output
w     parameter  receives a gradient
bias  parameter  never used

error   GL101  A receives no gradient: torch.tensor() (called 2 times) copies
    the values into a new tensor without history.
    model.py:12 (Net.forward)  in soft_threshold
        return torch.tensor([self.soft(c) for c in y])
    x and M lose a path here too, and receive a gradient by another: it is not
    the whole one.
    The value comes back, without history, through torch.mul() at model.py:14
    (Net.forward).
    Run again with another value of A, these change: g (entries 0 … 2), h
    (entries 1, 4), loss, k[3].
    fix: replace it by torch.stack([...]) (or torch.cat), which stays in the
         graph

error   GL106  backward fails: a tensor that ExpBackward0 needs was written over
    after it was saved.
    model.py:20 (f)
    It was saved at model.py:19 (f).
    fix: write to a copy

warning GL104  The parameter bias is not used by the forward pass.
    fix: use it

info    GL103  Python asks once whether a tensor is true.
    model.py:3 (f)
        if y > 0:

Found: 2 errors, 1 warning, 1 info.

Next: graphlens check --explain GL101
"""


def test_the_whole_report() -> None:
    verdicts = (
        Verdict("A", "input", VERDICTS[4]),
        Verdict("w", "parameter", VERDICTS[0]),
        Verdict("bias", "parameter", VERDICTS[2]),
    )
    findings = found(CUT, WRITTEN, UNUSED, BRANCH, verdicts=verdicts)
    text = check_report("model.py:build", small_graph(), findings, notes=["A note on what was done."],
                        steps=["graphlens check --explain GL101"])  # fmt: skip

    assert text == REPORT


def test_a_sound_program() -> None:
    verdict = Verdict("x", "input", VERDICTS[0])

    assert check_report("t", None, found(verdicts=(verdict,))) == (
        "t\n\nname  role   gradient\nx     input  receives a gradient\n\nNothing found.\n"
    )
    assert check_report("t", None, found()) == (
        "t\n\nNo input and no parameter to receive a gradient.\n\nNothing found.\n"
    )


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        (["error"], "Found: 1 error."),
        (["error", "error", "warning"], "Found: 2 errors, 1 warning."),
        (["warning", "warning", "info", "info"], "Found: 2 warnings, 2 info."),
    ],
)
def test_the_sum(levels: list[str], words: str) -> None:
    assert words in check_report("t", None, found(*(Finding("GL101", level, "a") for level in levels)))


def test_one_leaf_among_others_loses_a_path() -> None:
    finding = Finding("GL101", "error", "a", evidence={"still_connected_by_other_paths": ["x"]})

    assert "x loses a path here too, and receives a gradient by another" in findings_text([finding])
    # A path whose derivative is 0 takes nothing from the gradient.
    flat = Finding("GL101", "error", "a", evidence={**finding.evidence, "derivative_is_0": True})
    assert "loses a path" not in findings_text([flat])


def test_many_names_are_cut_short() -> None:
    finding = Finding(
        "GL101", "error", "a",
        evidence={
            "still_connected_by_other_paths": [f"w{k}" for k in range(1009)],
            "outputs_that_change_with_it": {"w": {"y": list(range(0, 40, 2))}},
        },
    )  # fmt: skip
    text = " ".join(findings_text([finding]).split())

    assert "w0, w1, w2, w3, w4, w5 and 1,003 more lose a path here too" in text
    assert "these change: y (entries 0, 2, 4, 6, 8, 10, 12, 14, …)." in text


def test_many_leaves_are_counted() -> None:
    verdicts = tuple(Verdict(f"layer.{k}.weight", "parameter", VERDICTS[0]) for k in range(1200))
    verdicts += tuple(Verdict(f"lost.{k}", "parameter", VERDICTS[4]) for k in range(12))
    verdicts += (Verdict("still", "input", VERDICTS[1]),)
    text = check_report("t", None, found(verdicts=verdicts))

    assert text == (
        "t\n\n"
        "leaves  gradient\n"
        "1,200   receives a gradient\n"
        "1       no gradient asked for\n"
        "12      used, but its value leaves the graph before the output\n"
        "no gradient asked for: still\n"
        "used, but its value leaves the graph before the output: lost.0, lost.1, lost.2,\n"
        "    lost.3, lost.4, lost.5, lost.6, lost.7 and 4 more\n"
        "\nNothing found.\n"
    )


# Whatever the program is, the text stays inside the page

LONG = "transformer.encoder.layers.11.attention.self.query_key_value.lora_A.default_adapter.weight"


def wide(count: int) -> Connectivity:
    evidence = {
        "lost": [LONG] * 30,
        "still_connected_by_other_paths": [LONG] * 30,
        "comes_back_at": [f"torch.tensor() at {'deep/' * 30}model.py:1 (f)"],
        "outputs_that_change_with_it": {LONG: {LONG: list(range(64))}},
        "saved_at": f"{'deep/' * 30}model.py:1 (f)",
    }
    place = Place(f"{'deep/' * 30}model.py:1 ({'f.' * 60}g)", "return " + "f(" * 99 + ")" * 99, LONG, (1,))
    findings = [Finding("GL101", "error", f"{LONG} {LONG} receive no gradient.", place, evidence, LONG * 3)]
    verdicts = (Verdict(f"{LONG}{k}", "parameter", VERDICTS[k % 8]) for k in range(count))
    return Connectivity(tuple(verdicts), tuple(findings))


@pytest.mark.parametrize("width", [60, 80, 110])
@pytest.mark.parametrize("count", [0, 3, 16, 17, 400])
def test_no_line_is_wider_than_the_page(width: int, count: int) -> None:
    for text in (
        check_report(LONG * 2, small_graph(), wide(count), notes=[LONG * 3], width=width),
        findings_text(wide(count).findings, width=width),
        *(page_report(code, page, width=width) for code, page in PAGES.items()),
    ):
        assert max(map(len, text.splitlines())) <= width
        assert "\x1b" not in text


def test_a_long_line_of_code_is_cut_and_says_so() -> None:
    line = next(line for line in findings_text(wide(0).findings).splitlines() if "return" in line)

    assert (len(line), line[-1]) == (80, "…")


def test_control_characters_do_not_reach_the_terminal() -> None:
    evil = "\x1b]0;title\x07\x9b31m\u202e"
    finding = Finding(
        "GL101", "error", evil, Place(f"{evil}:1", f"x = '{evil}'\tor\t2", evil), {
            "still_connected_by_other_paths": [evil], "comes_back_at": [evil],
            "outputs_that_change_with_it": {evil: {evil: [0]}}, "saved_at": evil,
        }, evil,
    )  # fmt: skip
    few, many = (Connectivity((Verdict(evil, "input", VERDICTS[3]),) * count, (finding,)) for count in (1, 99))
    for text in (
        check_report(evil, None, few, notes=[evil]),
        check_report(evil, None, many, notes=[evil]),
        findings_text([finding]),
    ):
        assert all(character.isprintable() or character == "\n" for character in text)


def test_colour_is_off_unless_asked_for() -> None:
    assert "\x1b" not in check_report("t", None, found(CUT))
    coloured = check_report("t", None, found(CUT), colour=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == check_report("t", None, found(CUT))
    assert coloured != check_report("t", None, found(CUT))


def test_without_the_next_steps() -> None:
    assert "Next:" not in check_report("t", None, found(CUT))


PAGE = """\
GL105  the gradient is 0 by the op's nature
level: error; warning for a softmax over one entry beside other gradients

Every path from the leaf to the output leads through an op whose derivative
torch defines as 0 everywhere (round, sign, floor, ceil, trunc, a rounded
division, a random draw), and the gradient that came out is 0 throughout; or
through a softmax or a layer norm over a single entry, whose result is the same
for every input of that shape.

A gradient that is 0 for this data alone, as behind a dead rectifier, is not
reported.

  instead of   q = x.round()
  write        q = x + (x.round() - x).detach()
"""


def test_the_page_on_a_code() -> None:
    assert page_report("GL105", PAGES["GL105"]) == PAGE


def changes(evidence: dict[str, object]) -> str:
    return " ".join(findings_text([Finding("GL101", "error", "a is lost.", evidence=evidence)]).split())


def test_leaves_of_one_effect_are_told_in_one_sentence() -> None:
    one, two = {"y": [0, 1, 2]}, {"y": [1]}

    assert "Run again with other values of a and c, one at a time, these change: y (entries 0 … 2). " in changes(
        {"outputs_that_change_with_it": {"a": one, "b": two, "c": one}}
    )
    effects = {"a": one, "b": one, "c": one, "d": two}
    text = changes({"outputs_that_change_with_it": effects, "changed_together": [["a", "b"], ["d"]]})
    assert "with other values of a and b, all at once, these change: y (entries 0 … 2). " in text
    assert "with another value of c, these change: y (entries 0 … 2). " in text
    assert text.endswith("with another value of d, these change: y[1].")


def test_a_list_of_entries_that_was_cut_says_so() -> None:
    def entries(*numbers: int) -> str:
        return changes({"outputs_that_change_with_it": {"a": {"y": list(numbers)}}}).partition("change: ")[2]

    assert entries(*range(64)) == "y (entries 0 … 63)."
    assert entries(*range(65)) == "y (entries 0 … 63 and more)."
    assert entries(*range(0, 130, 2)) == "y (entries 0, 2, 4, 6, 8, 10, 12, 14, …)."
    assert entries(*range(0, 16, 2)) == "y (entries 0, 2, 4, 6, 8, 10, 12, 14)."


def test_data_is_told_apart_from_frozen_parameters() -> None:
    few = (Verdict("ids", "input", VERDICTS[1]), Verdict("w", "parameter", VERDICTS[1]))
    many = few + tuple(Verdict(f"p.{k}", "parameter", VERDICTS[0]) for k in range(30))

    rows = "ids   input      no gradient asked for\nw     parameter  frozen\n"
    assert rows in check_report("t", None, found(verdicts=few))
    text = check_report("t", None, found(verdicts=many))
    assert "30      receives a gradient\n1       frozen\n1       no gradient asked for\n" in text
    assert "frozen: w\nno gradient asked for: ids\n" in text
    # What scripts read keeps its value, and the words are added.
    assert few[0].verdict == "frozen"


def test_pages_are_in_short_paragraphs_and_lose_no_word() -> None:
    for code, page in PAGES.items():
        text = page_report(code, page)
        body = text.partition("\n\n")[2].partition("\n  instead of")[0]
        blocks = [block.splitlines() for block in body.split("\n\n")]

        assert max(map(len, blocks)) <= 12, code
        words = [word for word in body.partition("\nKnown pairs")[0].split() if word != "·"]
        assert words == page.text.split(), code
