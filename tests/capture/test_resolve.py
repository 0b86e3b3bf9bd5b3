"""From a target to a program: every kind of factory, and every way in which one can fail."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from graphlens.capture.program import Program
from graphlens.capture.resolve import resolve, user_code
from graphlens.capture.trace import observe
from graphlens.errors import TargetError
from graphlens.targets import LESSONS, parse_target

FACTORIES = """
from types import SimpleNamespace

import torch
import graphlens

def x():
    return torch.tensor([1.0, 2.0], requires_grad=True)

def module():
    linear = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.ones_(linear.weight)
    return linear

def loss(scale=1.0):
    return (x() * scale).sum()

def vector():
    return x() * 2

def tensors():
    return x().sum(), x() * 3

def module_args():
    return module(), (x(),)

def module_list():
    return module(), [x()]

def module_tensor():
    return module(), x()

def module_kwargs():
    return module(), (), {"input": x()}

def subject():
    return graphlens.Subject(module(), (x(),), name="own name", output_names=("y",), loss_name="L", loss=torch.sum)

def function_args():
    return (lambda a, b: a * b), (x(), x())

def keyword(*, n, d=2, T=0.5, name=None):
    return (x() * n * d * T).sum()

def anything(**options):
    return (x() * sum(options.values())).sum()

def positional(n, /):
    return x().sum()

def no_options():
    return x().sum()

class Maker:
    @staticmethod
    def make():
        return x().sum()

calls = 0

def counted():
    global calls
    calls += 1
    return (x() * calls).sum()

instance = torch.nn.ReLU()
number = 3
_hidden = loss

# Nonsense
def nothing(): return None
def a_number(): return 3.0
def a_list(): return [x(), x()]
def empty(): return ()
def a_module(): return module()
def module_alone(): return (module(),)
def too_many(): return module(), (), {}, 1
def args_are_text(): return module(), "args"
def kwargs_are_list(): return module(), (), []
def mixed(): return x(), "text"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "factories_under_test.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        origin = getattr(sys.modules[name], "__file__", None)
        if origin and Path(origin).is_relative_to(tmp_path):
            del sys.modules[name]


def build(text: str, **options: object) -> Program:
    return resolve(parse_target(text), options)


def failure(text: str, **options: object) -> str:
    with pytest.raises(TargetError) as caught:
        observe(build(text, **options))
    return str(caught.value)


@pytest.mark.parametrize("place", ["factories_under_test.py", "factories_under_test"])
@pytest.mark.parametrize(
    ("factory", "outputs", "gradients"),
    [
        ("loss", {"output": 3.0}, {"leaf[0]": [1.0, 1.0]}),
        ("vector", {"output": [2.0, 4.0]}, {"leaf[0]": [2.0, 2.0]}),
        ("tensors", {"output[0]": 3.0, "output[1]": [3.0, 6.0]}, {"leaf[0]": [1.0, 1.0], "leaf[1]": [3.0, 3.0]}),
        ("module_args", {"output": [3.0]}, {"input": [1.0, 1.0], "weight": [[1.0, 2.0]]}),
        ("module_list", {"output": [3.0]}, {"input": [1.0, 1.0], "weight": [[1.0, 2.0]]}),
        ("module_tensor", {"output": [3.0]}, {"input": [1.0, 1.0], "weight": [[1.0, 2.0]]}),
        ("module_kwargs", {"output": [3.0]}, {"input": [1.0, 1.0], "weight": [[1.0, 2.0]]}),
        ("subject", {"y": [3.0]}, {"input": [1.0, 1.0], "weight": [[1.0, 2.0]]}),
        ("function_args", {"output": [1.0, 4.0]}, {"a": [1.0, 2.0], "b": [1.0, 2.0]}),
        ("Maker.make", {"output": 3.0}, {"leaf[0]": [1.0, 1.0]}),
    ],
)
def test_what_a_factory_may_return(folder: Path, place: str, factory: str, outputs: dict, gradients: dict) -> None:
    seen = observe(build(f"{place}:{factory}"))

    assert {name: value.tolist() for name, value in seen.outputs.items()} == outputs
    assert {name: value.tolist() for name, value in seen.gradients.items()} == gradients
    assert seen.name == f"{place}:{factory}"


def test_a_subjects_own_loss_name_is_kept(folder: Path) -> None:
    assert observe(build("factories_under_test.py:subject")).loss_name == "L"


def test_finished_tensors_are_built_anew_for_each_timed_run(folder: Path) -> None:
    program = build("factories_under_test:counted")
    seen = observe(program, repeats=2)

    assert seen.loss == 3.0  # the first call's
    assert sys.modules["factories_under_test"].calls == 1 + 2  # for the values, which warms up, and the clock
    assert seen.timings.forward is None
    assert seen.timings.backward.repeats == 2
    assert seen.notes == ("the forward pass was not timed: the factory returns finished tensors",)


@pytest.mark.parametrize(
    ("factory", "described"),
    [
        ("nothing", "None"),
        ("a_number", "a float"),
        ("a_list", "a list of 2 (Tensor, Tensor)"),
        ("empty", "a tuple of 0 ()"),
        ("a_module", "a Linear"),
        ("module_alone", "a tuple of 1 (Linear)"),
        ("too_many", "a tuple of 4 (Linear, tuple, dict, int)"),
        ("args_are_text", "a tuple of 2 (Linear, str)"),
        ("kwargs_are_list", "a tuple of 3 (Linear, tuple, list)"),
        ("mixed", "a tuple of 2 (Tensor, str)"),
    ],
)
def test_nonsense(folder: Path, factory: str, described: str) -> None:
    assert failure(f"factories_under_test.py:{factory}") == (
        f"factories_under_test.py:{factory}: the factory returned {described}; it must return a tensor, a tuple of "
        "tensors, (module, args), (module, args, kwargs) or a graphlens.Subject"
    )


# Options


def test_options_and_defaults_are_recorded(folder: Path) -> None:
    program = build("factories_under_test:keyword", n=3, d=4)

    assert program.options == {"n": 3, "d": 4, "T": 0.5, "name": None}
    seen = observe(program)
    assert seen.loss == 3 * 3 * 4 * 0.5
    assert seen.graph.meta["options"] == {"n": 3, "d": 4, "T": 0.5, "name": None}


def test_options_of_any_kind_can_be_saved(folder: Path) -> None:
    from graphlens.graph_json import dumps, loads

    strange = {"a": float("inf"), "b": {1}, "c": (2, 3), "d": b"\x1b", "e": "two\nlines", "f": {4: 1j}, "g": 10**400}
    (folder / "strange.py").write_text("import torch\ndef build(**k): return torch.ones(2, requires_grad=True).sum()")

    graph = observe(build("strange.py:build", **strange)).graph

    assert loads(dumps(graph)) == graph
    assert graph.meta["options"]["c"] == [2, 3]


def test_a_factory_that_takes_anything(folder: Path) -> None:
    assert observe(build("factories_under_test:anything", a=1, b=2)).loss == 9.0


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        ("keyword", {}, "needs 'n'; pass --set n=…"),
        ("positional", {}, "needs 'n'; pass --set n=…"),
        ("keyword", {"n": 1, "m": 2}, "has no option 'm'; its options are n, d=2, T=0.5, name=None"),
        ("no_options", {"m": 2}, "has no option 'm'; it takes no options"),
    ],
)
def test_missing_and_unknown_options(folder: Path, factory: str, options: dict, message: str) -> None:
    assert failure(f"factories_under_test:{factory}", **options) == f"factories_under_test:{factory} {message}"


def test_lessons_name_their_options() -> None:
    assert failure("wasteful", m=1) == (
        "wasteful has no option 'm'; its options are n=10000, d=5, T=3.14, seed_A=10, seed_M=0, dtype='float64', "
        "form='branching', cond=None"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": -1}, "wasteful: n must be a whole number ≥ 0, got -1"),
        ({"n": True}, "wasteful: n must be a whole number ≥ 0, got True"),
        ({"n": 2.0}, "wasteful: n must be a whole number ≥ 0, got 2.0"),
        ({"d": 0}, "wasteful: d must be a whole number ≥ 1, got 0"),
        ({"T": 0}, "wasteful: T must be a finite number > 0, got 0"),
        ({"T": float("nan")}, "wasteful: T must be a finite number > 0, got nan"),
        ({"dtype": "int8"}, "wasteful: dtype must be one of 'float64', 'float32', got 'int8'"),
        ({"dtype": []}, "wasteful: dtype must be one of 'float64', 'float32', got []"),
        ({"form": "smooth"}, "wasteful: form must be one of 'branching', 'vectorised', got 'smooth'"),
        ({"form": []}, "wasteful: form must be one of 'branching', 'vectorised', got []"),
    ],
)
def test_a_lessons_own_errors(options: dict, message: str) -> None:
    assert failure("wasteful", **options) == message


@pytest.mark.parametrize("name", LESSONS)
def test_each_lesson_can_be_built(name: str) -> None:
    program = build(name, **({} if name == "soft-threshold" else {"n": 1}))

    assert program.name == name
    assert observe(program).outputs


# Failures in the user's code


def write(folder: Path, text: str, name: str = "user.py") -> str:
    (folder / name).write_text(text)
    return f"{name}:build"


BUILD = "import torch\ndef build():\n    x = torch.ones(2, requires_grad=True)\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def build(:\n", r"the import failed at user\.py:1: SyntaxError: invalid syntax.*"),
        ("\n\nx = 'open\n", r"the import failed at user\.py:3: SyntaxError: unterminated string literal.*"),
        ("if True:\nbuild = 1\n", r"the import failed at user\.py:2: IndentationError: expected an indented block.*"),
        ("import no_such\n", r"the import failed at user\.py:1: ModuleNotFoundError: No module named 'no_such'"),
        ("from torch import no_such\n", r"the import failed at user\.py:1: ImportError: cannot import name 'no_su.*"),
        ("\n1 / 0\n", r"the import failed at user\.py:2: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit()\n", r"the import failed at user\.py:2: SystemExit"),
        ("import sys\nsys.exit(3)\n", r"the import failed at user\.py:2: SystemExit: 3"),
        ("def built(): pass\ndef _own(): pass\n", r"user\.py has no 'build'; it has built"),
        ("from os.path import join\n", r"user\.py has no 'build'; it defines no public function"),
        ("build = 3\n", r"build is an int, not a function to call"),
        ("def build():\n    raise KeyError('planted')\n", r"the factory failed at user\.py:2: KeyError: 'planted'"),
        ("def build():\n    raise ValueError('a\\n   b')\n", r"the factory failed at user\.py:2: ValueError: a b"),
        ("def build():\n    assert False\n", r"the factory failed at user\.py:2: AssertionError"),
        (
            BUILD + "    return (lambda: x @ torch.ones(3)), ()\n",
            r"the forward pass failed at user\.py:4: RuntimeError: .*size.*",
        ),
        (
            "import torch\ndef build():\n    return torch.nn.Linear(2, 2), torch.ones(3)\n",
            r"the forward pass failed: RuntimeError: mat1 and mat2 .*",
        ),
        (
            "import graphlens, torch\ndef build():\n    return graphlens.Subject(torch.nn.Linear(2, 2), "
            "(torch.ones(2),), loss=lambda output: 3.0)\n",
            r"the loss is a float; return a tensor, as \.sum\(\) does",
        ),
        (
            "import torch\ndef build():\n    return torch.nn.Linear(2, 2), ()\n",
            r"the forward pass failed: TypeError: .*missing 1 required positional argument.*",
        ),
    ],
)
def test_the_users_error_is_quoted_with_its_place(folder: Path, text: str, message: str) -> None:
    found = failure(write(folder, text))

    assert re.fullmatch(r"user\.py:build: " + message, found)
    assert "\n" not in found


def test_the_place_is_the_innermost_line_of_the_users_own(folder: Path) -> None:
    (folder / "helper_under_test.py").write_text("import torch\ndef multiply(a, b):\n    return torch.mm(a, b)\n")
    target = write(folder, BUILD + "    from helper_under_test import multiply\n    return multiply(x, x)\n")

    assert failure(target).startswith("user.py:build: the factory failed at helper_under_test.py:3: RuntimeError: ")


def test_a_failing_backward_pass(folder: Path) -> None:
    text = """
import torch

class Broken(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError("planted")

def build():
    return Broken.apply(torch.ones(2, requires_grad=True))
"""
    target = parse_target(write(folder, text))
    program = resolve(target, {})

    with pytest.raises(TargetError) as caught, user_code(target, "the backward pass"):
        observe(program)

    assert str(caught.value) == "user.py:build: the backward pass failed at user.py:11: RuntimeError: planted"


def test_a_module_that_is_not_there(folder: Path) -> None:
    assert failure("no_such_module:build") == (
        "no_such_module:build: there is no module 'no_such_module'; check its name"
    )
    assert failure("torch.no_such_module:build") == (
        "torch.no_such_module:build: there is no module 'torch.no_such_module'; check its name"
    )


def test_a_module_that_imports_one_that_is_not_there(folder: Path) -> None:
    (folder / "broken_under_test.py").write_text("import no_such_thing\n")

    assert failure("broken_under_test:build") == (
        "broken_under_test:build: the import failed at broken_under_test.py:1: ModuleNotFoundError: No module named "
        "'no_such_thing'"
    )


def test_a_file_of_another_kind(folder: Path) -> None:
    (folder / "binary.py").write_bytes(b"\x80\x81\x00\xff")

    assert "binary.py:build: the import failed" in failure("binary.py:build")


def test_an_interrupt_is_no_failure_of_the_user(folder: Path) -> None:
    target = write(folder, "def build():\n    raise KeyboardInterrupt\n")

    with pytest.raises(KeyboardInterrupt):
        build(target)


def test_prints_go_to_stderr(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = write(folder, "print('at import')\n" + BUILD + "    print('in the factory')\n    return x.sum()\n")

    build(target).forward()

    assert capsys.readouterr() == ("", "at import\nin the factory\n")


def test_two_files_of_one_name_do_not_share_their_neighbours(folder: Path) -> None:
    for name, value in (("one", 1.0), ("two", 2.0)):
        package = folder / name / "package_under_test"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "inner.py").write_text(f"VALUE = {value}\n")
        (folder / name / "neighbour_under_test.py").write_text("from package_under_test.inner import VALUE\n")
        write(folder / name, "import neighbour_under_test as n\n" + BUILD + "    return (x * n.VALUE).sum()\n")

    one, two = build("one/user.py:build"), build("two/user.py:build")

    assert (observe(one).loss, observe(two).loss) == (2.0, 4.0)
    assert sys.modules["torch"] is torch


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ndef build():\n    return (lambda x, y: x), (torch.ones(1, requires_grad=True),)\n",
        "import torch, graphlens\n\ndef build():\n    x = torch.ones(1, requires_grad=True)\n"
        "    return graphlens.Subject(torch.exp, (x,), loss=lambda a, b: a)\n",
        "import torch\ndef build():\n    return torch.nn.ParameterDict(), (torch.ones(1, requires_grad=True),)\n",
    ],
    ids=["too few arguments", "a loss of two arguments", "a module without forward"],
)
def test_a_call_that_does_not_fit_is_the_users_error(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("misfit.py").write_text(source)
    program = resolve(parse_target("misfit.py:build"), {})
    with pytest.raises(TargetError, match=r"^misfit\.py:build: the forward pass failed: \w+Error: "):
        program.forward()
