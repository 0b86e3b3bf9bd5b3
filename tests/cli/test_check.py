"""graphlens check, as people type it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import graphlens
from graphlens.analyses.catalogue import PAGES
from graphlens.analyses.connectivity import VERDICTS
from graphlens.capture.changes import MOST_FURTHER_RUNS
from tests.cli.commands import run_cli

CHAIN = Path(graphlens.__file__).parent / "lessons" / "chain.py"


def place_of(text: str) -> str:
    """The line of the lessons' code that holds `text`, as reports show it."""
    lines = CHAIN.read_text(encoding="utf-8").splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if text in line)
    return f"graphlens/lessons/chain.py:{number} "


def findings(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
    done = run_cli("check", *arguments, "--json")
    return done.code, json.loads(done.out)["findings"]


def one_line(*arguments: str) -> str:
    """What is said of a command that cannot be run."""
    done = run_cli("check", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("graphlens: ")
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err
    return done.err


def test_severed_names_the_line_and_what_is_lost_there() -> None:
    code, found = findings("severed", "--set", "n=5")

    assert code == 1
    assert [item["code"] for item in found] == ["GL101", "GL102", "GL103", "GL103"]
    cut, fresh, above, below = found
    assert (cut["level"], cut["where"]["source"].startswith(place_of("return torch.tensor("))) == ("error", True)
    assert cut["evidence"]["lost"] == ["A"]
    assert cut["evidence"]["still_connected_by_other_paths"] == ["x", "M"]
    assert cut["evidence"]["outputs_that_change_with_it"]["A"]["g"] == [0, 1, 2, 3, 4]
    assert fresh["where"]["source"].startswith(place_of("return torch.zeros_like(y, requires_grad=True)"))
    assert above["where"]["source"].startswith(place_of("if y > T:"))
    assert (above["evidence"]["times"], below["evidence"]["times"]) == (5, 4)


def test_the_report_on_severed() -> None:
    done = run_cli("check", "severed", "--set", "n=5")

    assert done.code == 1
    assert "A     input      used, but its value leaves the graph before the output" in done.out
    assert "torch.tensor() copies the values into a" in done.out
    assert "fix: replace it by torch.stack([...])" in done.out
    assert "Found: 1 error, 1 warning, 2 info." in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_the_stack_of_each_finding_on_demand() -> None:
    code, found = findings("severed", "--set", "n=5", "--stack")
    plain = findings("severed", "--set", "n=5")[1]

    assert code == 1
    assert [item["claim"] for item in found] == [item["claim"] for item in plain]
    assert {tuple(item["where"]["callers"]) for item in plain} == {()}
    cut, fresh, *_ = found
    assert [caller.partition(" ")[2] for caller in cut["where"]["callers"]] == ["(Chain.forward)"]
    assert [caller.partition(" ")[2] for caller in fresh["where"]["callers"]] == [
        "(Severed.threshold.<listcomp>)", "(Severed.threshold)", "(Chain.forward)",
    ]  # fmt: skip
    callers = [caller for item in found for caller in item["where"]["callers"]]
    assert all(caller.startswith("graphlens/lessons/chain.py:") for caller in callers)
    report = run_cli("check", "severed", "--set", "n=5", "--stack").out
    assert f"    called from {fresh['where']['callers'][1]}\n" in report
    assert "called from" not in run_cli("check", "severed", "--set", "n=5").out


@pytest.mark.parametrize("lesson", ["wasteful", "hoisted", "efficient", "soft-threshold"])
@pytest.mark.parametrize("form", ["branching", "vectorised"])
def test_sound_lessons_are_not_accused(lesson: str, form: str) -> None:
    options = ["--set", f"form={form}"] + ([] if lesson == "soft-threshold" else ["--set", "n=4"])
    code, found = findings(lesson, *options)

    assert code == 0
    assert {item["level"] for item in found} <= {"info"}
    assert {item["code"] for item in found} <= {"GL103", "GL104"}


def test_an_unused_input_is_said_as_what_it_is() -> None:
    code, found = findings("efficient", "--select", "gl104")

    assert code == 0
    assert [(item["level"], item["claim"]) for item in found] == [
        ("info", "The input A is not used by the forward pass.")
    ]


def test_the_document() -> None:
    done = run_cli("check", "severed", "--set", "n=2", "--json")
    document = json.loads(done.out)

    assert done.code == 1
    assert list(document) == ["target", "verdicts", "findings", "notes"]
    assert document["target"] == "severed"
    assert document["verdicts"] == [
        {"name": "x", "role": "input", "verdict": VERDICTS[0], "words": VERDICTS[0]},
        {"name": "A", "role": "input", "verdict": VERDICTS[4], "words": VERDICTS[4]},
        {"name": "M", "role": "parameter", "verdict": VERDICTS[0], "words": VERDICTS[0]},
    ]
    for finding in document["findings"]:
        assert list(finding) == ["code", "level", "title", "claim", "where", "evidence", "fix"]
        assert list(finding["where"]) == ["source", "text", "module", "nodes", "callers"]
        assert finding["title"] == PAGES[finding["code"]].title
        assert finding["level"] in ("error", "warning", "info")
        assert finding["claim"].endswith(".")
    cut = document["findings"][0]
    assert cut["where"]["text"].startswith("return torch.tensor(")
    assert cut["fix"].startswith("replace it by torch.stack([...])")
    assert document["findings"][1]["where"]["module"] is not None


def test_what_is_not_known_is_null_in_the_document(program: Path) -> None:
    (found,) = findings(f"{program}:none_at_all")[1]

    assert found["where"] == {"source": None, "text": None, "module": None, "nodes": [], "callers": []}


def test_select_and_ignore() -> None:
    severed = ("severed", "--set", "n=2")
    assert findings(*severed, "--select", "GL104") == (0, [])
    assert [item["code"] for item in findings(*severed, "--select", "gl102", "--select", "GL101")[1]] == [
        "GL101", "GL102",
    ]  # fmt: skip
    assert [item["code"] for item in findings(*severed, "--ignore", "GL101", "--ignore", "GL103")[1]] == ["GL102"]
    # The verdicts stay what they are.
    assert VERDICTS[4] in run_cli("check", *severed, "--ignore", "GL").out

    assert [item["code"] for item in findings(*severed, "--select", "GL102")[1]] == ["GL102"]
    assert findings(*severed, "--ignore", "GL101")[0] == 0
    assert findings(*severed, "--ignore", "GL1") == (0, [])
    assert findings(*severed, "--select", "GL10", "--ignore", "gl103")[0] == 1


@pytest.mark.parametrize("code", PAGES)
def test_every_code_has_its_page(code: str) -> None:
    done = run_cli("check", "--explain", code.lower())

    assert done.code == 0
    assert done.out.startswith(f"{code}  {PAGES[code].title}")
    assert "instead of" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing argument 'TARGET'"),
        (("severed", "--explain", "GL101"), "--explain takes no TARGET"),
        (("--explain", "GL999"), "there is no finding 'GL999'; there are GL101"),
        (("severed", "--select", "X"), "there is no finding 'X'"),
        (("severed", "--ignore", ""), "there is no finding ''"),
        (("no-such-lesson",), "no-such-lesson"),
        (("severed", "--select", "GL101x"), "there is no finding 'GL101x'"),
        (("severed", "--ignore", "GL9"), "there is no finding 'GL9'"),
        (("severed", "--select", "GL207"), "there is no finding 'GL207' of check; there are GL101, GL102, GL103, "),
        (("severed", "--ignore", "GL2"), "there is no finding 'GL2' of check"),
        (("--explain", "GL1"), "there is no finding 'GL1'"),
        (("--explain", ""), "there is no finding ''"),
        (("severed", "--set", "depth=3"), "has no option 'depth'"),
    ],
)
def test_wrong_usage_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    assert message in one_line(*arguments)


def test_the_help_says_how_often_the_target_is_run() -> None:
    assert f"at most {MOST_FURTHER_RUNS} times" in " ".join(run_cli("check", "--help").out.split())


def test_a_class_in_place_of_an_object(tmp_path: Path) -> None:
    (tmp_path / "classes.py").write_text("import torch\ndef build(): return torch.nn.Linear, (torch.ones(2, 3),)\n")
    message = one_line(f"{tmp_path / 'classes.py'}:build")
    assert "the factory returned the class Linear; return an object, (Linear(…), args)" in message


MORE = """
def a_float():
    return 3.0
def none_at_all():
    return (lambda x: None), torch.ones(3)
def module():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    model.register_parameter("spare", torch.nn.Parameter(torch.ones(2)))
    return model, (torch.ones(4, 3),)
def several():
    w, v = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    return (w * 2).sum(), (v.detach() * w).sum()
def apart():
    w, v = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    return w.sum(), v.sum()
class Stops(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2
    @staticmethod
    def backward(ctx, grad):
        return None
def rounded():
    w, v = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    return (w.round() * v).sum()
def stopped():
    return Stops.apply(torch.ones(2, requires_grad=True)).sum()
class Raises(Stops):
    @staticmethod
    def backward(ctx, grad):
        raise ValueError("no derivative")
def raises():
    return (lambda x: Raises.apply(x).sum()), torch.ones(2, requires_grad=True)
class RaisesRuntime(Stops):
    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError("no derivative here")
def raises_runtime():
    return (lambda x: RaisesRuntime.apply(x).sum()), torch.ones(2, requires_grad=True)
def raises_in_the_factory():
    return 1 / 0
def once():
    left = iter([1.0])
    return (lambda x, w: x * next(left) * w.detach()), (torch.ones(2, requires_grad=True),) * 2
def once_and_cut():
    left = iter([1.0])
    def forward(x, w):
        return x * next(left) * w.detach()
    return forward, (torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True))
def talks():
    print("hello from the factory")
    def forward(x):
        print("hello from forward")
        return x.detach() + x.round()
    return forward, torch.ones(2, requires_grad=True)
def loop():
    total = torch.zeros(())
    for _ in range(3):
        w = torch.ones(2, requires_grad=True)
        total = total + (w.detach() * torch.ones(2, requires_grad=True)).sum()
    return total
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "user.py"
    file.write_text(
        "import torch\n"
        "def cut():\n"
        "    w = torch.ones(3, requires_grad=True)\n"
        "    total = (w * 2).sum()\n"
        "    return torch.tensor([float(total)]) * torch.ones(1, requires_grad=True)\n"
        "def sound():\n"
        "    return (torch.ones(3, requires_grad=True) * 2).sum()\n"
        "def written():\n"
        "    def forward(x):\n"
        "        y = x.exp()\n"
        "        y += 1\n"
        "        return y\n"
        "    return forward, torch.ones(3, requires_grad=True)\n"
        "def number():\n"
        "    return (lambda x: x.sum().item()), torch.ones(3, requires_grad=True)\n"
        "def fails():\n"
        "    return (lambda x: x @ torch.ones(4)), torch.ones(3, requires_grad=True)\n" + MORE,
        encoding="utf-8",
    )
    return file


def test_a_factory_of_finished_tensors_is_watched_too(program: Path) -> None:
    code, (cut,) = findings(f"{program}:cut")

    assert (code, cut["code"]) == (1, "GL101")
    assert cut["where"]["source"].endswith("user.py:5 (cut)")
    assert cut["evidence"]["lost"] == [f"leaf made at {program}:3 (cut)"]
    assert findings(f"{program}:sound") == (0, [])


def test_a_backward_pass_that_fails_is_a_finding(program: Path) -> None:
    code, (found,) = findings(f"{program}:written")

    assert (code, found["code"]) == (1, "GL106")
    assert found["where"]["source"].endswith("user.py:11 (written.forward)")
    assert "modified by an inplace operation" in found["evidence"]["error"]


def test_a_program_that_returns_a_number(program: Path) -> None:
    code, found = findings(f"{program}:number")

    assert code == 1
    assert [item["code"] for item in found] == ["GL101", "GL106"]
    assert found[0]["claim"].startswith("x receives no gradient: .item() hands the value to Python")


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("fails", "the forward pass failed at user.py:17"),
        ("raises_in_the_factory", "the factory failed at user.py:{1 / 0}: ZeroDivisionError: division by zero"),
        ("raises", 'the backward pass failed at user.py:{ValueError("no}: ValueError: no derivative'),
        ("a_float", "the factory returned a float; it must return a tensor"),
        ("missing", "has no 'missing'"),
    ],
)
def test_a_program_that_fails_is_the_users_error(program: Path, factory: str, words: str) -> None:
    before, brace, rest = words.partition("{")
    text, _, after = rest.partition("}")
    lines = program.read_text(encoding="utf-8").splitlines()
    place = str(next(number for number, line in enumerate(lines, 1) if text in line)) if brace else ""

    assert before + place + after in one_line(f"{program}:{factory}")


def test_an_own_error_of_the_backward_pass_that_torch_could_have_raised_is_a_finding(program: Path) -> None:
    code, (found,) = findings(f"{program}:raises_runtime")

    assert (code, found["code"], found["claim"]) == (1, "GL106", "backward fails: no derivative here")


def test_a_module_and_its_arguments(program: Path) -> None:
    code, (found,) = findings(f"{program}:module")

    assert (code, found["code"], found["level"]) == (0, "GL104", "warning")
    assert found["claim"] == "The parameter spare is not used by the forward pass."


def test_a_factory_of_several_tensors(program: Path) -> None:
    code, (cut,) = findings(f"{program}:several")

    assert (code, cut["code"]) == (1, "GL101")
    assert cut["evidence"]["lost"] == [f"leaf made at {program}:{line_of(program, 'w, v =')} (several)"]
    assert cut["where"]["text"] == "return (w * 2).sum(), (v.detach() * w).sum()"
    code, (parts,) = findings(f"{program}:apart")
    assert (code, parts["code"], parts["level"]) == (0, "GL106", "info")
    assert parts["evidence"]["parts"] == [["output[0]"], ["output[1]"]]


def line_of(program: Path, text: str) -> int:
    lines = program.read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_leaves_that_a_factory_makes_are_its_own(program: Path) -> None:
    code, (cut,) = findings(f"{program}:loop")  # and no GL102

    assert (code, cut["code"], cut["evidence"]["calls"]) == (1, "GL101", 3)
    name = f"leaf made at {program}:{line_of(program, '        w = torch.ones')} (loop)"
    assert cut["evidence"]["lost"] == [name, f"{name} (number 2)", f"{name} (number 3)"]


def test_a_function_that_passes_none_on_in_a_finished_loss(program: Path) -> None:
    code, (found,) = findings(f"{program}:stopped")

    assert (code, found["code"], found["evidence"]) == (1, "GL101", {"lost": ["leaf[0]"], "ops": ["StopsBackward"]})
    assert found["where"]["text"] == "return Stops.apply(torch.ones(2, requires_grad=True)).sum()"
    assert len(found["where"]["nodes"]) == 1


def test_a_flat_op_in_a_finished_loss(program: Path) -> None:
    code, (found,) = findings(f"{program}:rounded")

    assert (code, found["code"], found["evidence"]["leaves"]) == (1, "GL105", ["leaf[0]"])


def test_a_program_that_runs_only_once_is_judged_by_that_run(program: Path) -> None:
    code, (found,) = findings(f"{program}:once_and_cut")

    assert (code, found["code"], found["evidence"]["lost"]) == (1, "GL101", ["w"])
    assert "outputs_that_change_with_it" not in found["evidence"]


def test_what_the_program_prints_does_not_spoil_the_document(program: Path) -> None:
    done = run_cli("check", f"{program}:talks", "--json")

    assert [item["code"] for item in json.loads(done.out)["findings"]] == ["GL105"]
    assert "hello from the factory" in done.err
    assert "hello from forward" in done.err


def test_a_saved_graph_cannot_be_checked(tmp_path: Path) -> None:
    saved = graphlens.save(graphlens.trace(graphlens.lesson("efficient")), tmp_path / "graph.json")

    assert "is a saved graph, which cannot be run; name the target it was captured from" in one_line(str(saved))


def test_leaves_that_need_no_gradient(program: Path) -> None:
    code, found = findings("severed", "--set", "n=5", "--ignore-leaf", "A", "--ignore", "GL103")
    done = run_cli("check", "severed", "--set", "n=5", "--ignore-leaf", "[AM]")

    assert (code, [item["code"] for item in found]) == (0, ["GL102"])
    assert done.code == 0
    assert "A     input      ignored" in done.out
    assert "M     parameter  ignored" in done.out
    assert run_cli("check", "severed", "--set", "n=5", "--ignore-leaf", "x").code == 1
    wrong = one_line("severed", "--set", "n=5", "--ignore-leaf", "a")
    assert "--ignore-leaf a: no input or parameter has such a name" in wrong
