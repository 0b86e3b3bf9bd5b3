"""Each verb from its arguments to its output."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import networkx as nx
import pytest
from rich.cells import cell_len

from graphlens.storage import load
from graphlens.targets import LESSONS
from tests.builders import small_graph
from tests.cli.commands import run_cli

pytestmark = pytest.mark.usefixtures("folder")

LONG = "user.py:module_with_a_rather_long_name_of_its_own"
QUICK = ("--set", "n=4")


def text(*arguments: object) -> str:
    """A report: on stdout alone, within 80 columns, without escape codes."""
    outcome = run_cli(*arguments)
    assert outcome.code == 0
    assert all(line.startswith("[transformers] ") for line in outcome.err.splitlines())
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert outcome.out.endswith("\n")
    assert not outcome.out.endswith("\n\n")
    assert all(character.isprintable() or character == "\n" for character in outcome.out)
    return outcome.out


def document(*arguments: object) -> dict:
    """One JSON document on stdout, and nothing else anywhere."""
    outcome = run_cli(*arguments, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    return json.loads(outcome.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


# run


def test_run() -> None:
    out = text("run", "wasteful", *QUICK, "--repeats", "2")

    assert out.startswith("wasteful ")
    assert "n=4 d=5 T=3.14 seed_A=10 seed_M=0 dtype=float64 form=branching\n" in out
    for line in ("\ng  [5]\n", "\nphi = 14.068826", "\nGradient of phi with respect to\n", "\nA  [5, 5]\n"):
        assert line in out
    assert out.count("2 runs after a warm-up") == 2


def test_run_as_json() -> None:
    found = document("run", "efficient", *QUICK, "--repeats", "3")

    assert set(found) >= {"target", "outputs", "loss", "gradients", "time", "threads"}
    assert found["target"] == "efficient"
    assert found["loss"] == pytest.approx(14.068826814584304, rel=1e-14)
    assert found["outputs"]["g"]["value"] == pytest.approx(
        [-0.63275396618493594, 6.8930119416639228, -0.51796373375723684, 1.2437710649865224, -0.68157579585812585]
    )
    assert {name: gradient["status"] for name, gradient in found["gradients"].items()} == {
        "x": "value", "A": "none", "M": "value",
    }  # fmt: skip
    for timing in found["time"].values():
        assert timing["repeats"] == 3
        assert 0 < timing["min"] <= timing["median"] <= timing["max"]


def test_run_without_repeats_measures_no_time() -> None:
    assert document("run", "efficient", "--repeats", "0")["time"] == {"forward": None, "backward": None}
    assert text("run", "efficient", "--repeats", "0").count("not measured") == 2


def test_run_of_a_users_file() -> None:
    out = text("run", LONG, "--repeats", "1")

    assert "output is no scalar and was reduced by .sum()" in out
    assert text("run", "user:build", "--set", "n=3").startswith("user:build ")


def test_run_without_a_graph_says_so() -> None:
    out = text("run", "user.py:detached", "--repeats", "0")

    assert "no output has a backward graph, so every gradient is None" in out
    assert "weight  None: does not require a gradient" in out


@pytest.mark.parametrize("as_json", [False, True])
def test_prints_of_the_user_do_not_reach_stdout(as_json: bool) -> None:
    outcome = run_cli("run", "user.py:chatty", "--repeats", "1", *(["--json"] if as_json else []))

    assert outcome.code == 0
    assert "planted print" not in outcome.out
    assert set(outcome.err.split("\n")) == {"planted print", ""}
    assert not as_json or json.loads(outcome.out)["target"] == "user.py:chatty"


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_run_plots_a_function_of_one_number(suffix: str) -> None:
    out = text("run", "soft-threshold", "-o", f"plot.{suffix}", "--repeats", "0", "--points", "11")

    assert out.endswith(f"Wrote plot.{suffix}\n")
    assert Path(f"plot.{suffix}").stat().st_size > 1000
    assert document("run", "soft-threshold", "-o", "again.svg", "--points", "3")["target"] == "soft-threshold"


# stats


@pytest.mark.parametrize("target", ["wasteful", "wasteful.json"])
def test_stats(target: str) -> None:
    out = text("stats", target, *(QUICK if target == "wasteful" else ()))

    assert "LinalgInvExBackward0" in out
    assert "MvBackward0" in out
    assert out.splitlines()[0].startswith(target)


def test_stats_of_a_transformer_stay_inside_the_page() -> None:
    Path("model.py").write_text(
        "from transformers import GPT2Config, GPT2LMHeadModel\nimport torch\n"
        "def build():\n"
        "    model = GPT2LMHeadModel(GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=2, n_head=2))\n"
        "    return model, (), {'input_ids': torch.tensor([[1, 2, 3]]), 'labels': torch.tensor([[1, 2, 3]])}\n"
    )

    assert "AddmmBackward0" in text("stats", "model.py:build")
    assert "transformer.h.0.attn.c_attn.weight" in text("run", "model.py:build", "--repeats", "0")
    assert " others." in text("compare", "model.py:build", "model.py:build", "--repeats", "1")


def test_stats_rows_sum_to_the_totals() -> None:
    found = document("stats", "wasteful", *QUICK)

    assert sum(row["nodes"] for row in found["rows"]) == found["nodes"]
    for row_key, key in (("saved_tensors", "tensors"), ("saved_bytes", "bytes"), ("storage_bytes", "storage_bytes")):
        assert sum(row[row_key] for row in found["rows"]) == found["saved"][key]
    live = document("stats", "wasteful.json")
    assert {**found, "target": ""} == {**live, "target": "", "leaves": found["leaves"], "unreached": found["unreached"]}


def test_stats_as_csv() -> None:
    outcome = run_cli("stats", "small.json", "--csv", "--sort", "key")
    rows = list(csv.DictReader(io.StringIO(outcome.out)))

    assert (outcome.code, outcome.err) == (0, "")
    assert [(row["op"], row["nodes"]) for row in rows] == [
        ("AccumulateGrad", "2"), ("CopySlices", "1"), ("MvBackward0", "1"), ("OwnBackward", "1"),
    ]  # fmt: skip


# compare


def test_compare() -> None:
    out = text("compare", "wasteful", "efficient", *QUICK, "--repeats", "1")

    assert out.startswith("wasteful against efficient ")
    assert "\nA         value     None" in out
    assert "is None for efficient, which stands for 0" in " ".join(out.split())


def test_compare_as_json() -> None:
    found = document("compare", "wasteful", "efficient", *QUICK, "--repeats", "1")

    assert set(found) == {"a", "b", "output", "loss", "gradients", "truth", "time", "why", "budgets", "notes"}
    assert (found["gradients"]["A"]["a"], found["gradients"]["A"]["b"]) == ("value", "none")
    assert found["time"]["backward"]["ratio"] == pytest.approx(
        found["time"]["backward"]["a"]["median"] / found["time"]["backward"]["b"]["median"]
    )


def test_compare_says_which_side_is_nearer_to_the_truth() -> None:
    found = document("compare", "wasteful", "efficient", "--set", "n=300", "--repeats", "1")["truth"]

    assert {kind: set(rows) for kind, rows in found.items()} == {
        "outputs": {"g"}, "loss": {"phi"}, "gradients": {"x", "A", "M"},
    }  # fmt: skip
    assert all(row["same_true_value"] for rows in found.values() for row in rows.values())
    assert {row["nearer"] for rows in found.values() for row in rows.values()} == {"b"}
    assert found["gradients"]["A"]["a"]["true_is_zero"]
    assert found["gradients"]["A"]["b"] is None
    assert found["outputs"]["g"]["digits"] > 2
    out = " ".join(text("compare", "wasteful", "efficient", "--set", "n=300", "--repeats", "1").split())
    assert "efficient is nearer to the truth, by" in out
    assert "The gradient of A is 0 in exact arithmetic: None is right (efficient)" in out


def test_compare_without_the_truth() -> None:
    found = document("compare", "wasteful", "efficient", *QUICK, "--repeats", "1", "--reference", "none")

    assert found["truth"] is None
    assert not [reason for reason in found["why"] if reason["code"] == "nearer"]


def test_what_python_read_is_not_held_against_the_truth() -> None:
    found = document("compare", "severed", "efficient", *QUICK, "--repeats", "1")

    # Of severed, torch.tensor([...]) copies rounded numbers, so that its true value is not known.
    assert found["truth"]["gradients"]["x"]["same_true_value"] is None
    assert not [reason for reason in found["why"] if reason["code"] in ("nearer", "not-the-same")]


def test_compare_saved_graphs_and_a_mixture() -> None:
    assert "not measured" in text("compare", "small.json", "wasteful.json")
    assert document("compare", "wasteful.json", "efficient", *QUICK, "--repeats", "1")["gradients"] == {}


# save


@pytest.mark.parametrize("suffix", ["json", "graphml", "gexf", "dot"])
@pytest.mark.parametrize("target", ["efficient", "small.json"])
def test_save(target: str, suffix: str) -> None:
    out = text("save", target, "-o", f"out.{suffix}")
    nodes = document("stats", target)["nodes"]

    assert out.startswith(f"Wrote out.{suffix}: {nodes} nodes, ")
    if suffix == "graphml":
        assert len(nx.read_graphml("out.graphml")) == nodes
    if suffix == "json":
        assert len(load("out.json")) == nodes
        assert document("stats", "out.json")["nodes"] == nodes


def test_a_saved_graph_saved_again_is_the_same() -> None:
    text("save", "small.json", "-o", "again.json")

    assert Path("again.json").read_bytes() == Path("small.json").read_bytes()
    assert load("again.json") == small_graph()


def test_save_as_json_and_quietly() -> None:
    assert document("save", "small.json", "-o", "a.dot") == {
        "target": "small.json", "file": "a.dot", "nodes": 5, "edges": 5,
    }  # fmt: skip
    assert run_cli("save", "small.json", "-o", "b.dot", "--quiet").out == ""
    assert Path("b.dot").exists()


def test_options_with_any_value_can_be_saved() -> None:
    Path("any.py").write_text("import torch\ndef build(**k):\n    return torch.ones(1, requires_grad=True).exp()\n")

    for value in ("1e999", "{1}", "b'x'", "1j", "(1, 2)", "'two\\nlines'", "{1: 2}", "..."):
        text("save", "any.py:build", "-o", "any.json", "--force", "--set", f"x={value}")
        text("stats", "any.json")


# lessons, help


def test_lessons() -> None:
    out = text("lessons")
    found = document("lessons")["lessons"]

    assert [lesson["name"] for lesson in found] == list(LESSONS)
    assert found[1]["options"]["n"] == 10_000
    assert all(f"{name}\n    " in out for name in LESSONS)


@pytest.mark.parametrize("verb", ["run", "stats", "compare", "render", "save", "lessons"])
def test_help_of_each_verb(verb: str) -> None:
    out = text(verb, "--help")

    assert out.startswith(f"Usage: graphlens {verb} [OPTIONS]")
    assert "--json" in out


def test_help_and_version() -> None:
    out = text("--help")

    assert [line.split()[0] for line in out.partition("Commands:\n")[2].splitlines()] == [
        "run", "stats", "explain", "check", "compare", "sweep", "render", "memory", "timeline", "save", "lessons",
    ]  # fmt: skip
    assert text("-h") == out
    assert text("--version") == "graphlens 0.1.0\n"


def test_without_arguments_the_help_is_shown_and_it_is_an_error() -> None:
    outcome = run_cli()

    assert outcome.code == 2
    assert "Usage: graphlens" in outcome.err


def test_compare_takes_options_for_each_side() -> None:
    arguments = ["compare", "wasteful", "wasteful", "--set", "d=3", "--set-a", "n=5", "--set-b", "n=2", "--json"]
    document = json.loads(run_cli(*arguments, "--repeats", "0").out)
    assert (document["a"]["nodes"] - document["b"]["nodes"]) == 3 * 3  # a product, an inverse, a product a round
    assert (document["a"]["target"], document["b"]["target"]) == ("wasteful (a)", "wasteful (b)")


def test_stats_and_memory_say_how_an_output_was_reduced() -> None:
    Path("wide.py").write_text("import torch\ndef build():\n    return torch.nn.Linear(3, 4), (torch.rand(5, 3),)\n")

    for verb in ("stats", "memory"):
        assert "reduced by .sum()" in run_cli(verb, "wide.py:build").out
    notes = json.loads(run_cli("stats", "wide.py:build", "--json").out)["notes"]
    assert any("reduced by .sum()" in note for note in notes)


def test_a_leaf_without_a_name_is_called_the_same_everywhere() -> None:
    Path("bare.py").write_text(
        "import torch\n"
        "def build():\n"
        "    return (torch.ones(2, requires_grad=True) * torch.ones(3, 1, requires_grad=True)).sum()\n"
    )
    counted = run_cli("stats", "bare.py:build").out

    assert list(json.loads(run_cli("run", "bare.py:build", "--json").out)["gradients"]) == ["leaf[0]", "leaf[1]"]
    assert re.search(r"\nleaf\[0\] \(node 0\) +\[2\] +1\n", counted)
    assert re.search(r"\nleaf\[1\] \(node 1\) +\[3, 1\] +1\n", counted)


def test_wide_letters_take_two_columns_of_the_page() -> None:
    Path("wide.py").write_text(
        "import torch\ndef 层层层层层层层层层层层层层层层层():\n    return torch.nn.Linear(3, 4), (torch.rand(5, 3),)\n"
    )
    first = run_cli("stats", "wide.py:层层层层层层层层层层层层层层层层").out.splitlines()[0]

    assert first.endswith("threads")
    assert cell_len(first) == 80
