"""Bad input: one line on stderr, exit code 2, nothing on stdout, no file left behind or touched."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.commands import run_cli

pytestmark = pytest.mark.usefixtures("folder")


def files() -> dict[str, bytes | None]:
    found = {path: path.read_bytes() if path.is_file() else None for path in Path().rglob("*")}
    return {str(path): data for path, data in found.items() if "__pycache__" not in path.parts}


def refusal(*arguments: object) -> str:
    """The one line in which the command line refuses; the folder stays as it was."""
    before = files()
    outcome = run_cli(*arguments)

    assert (outcome.code, outcome.out) == (2, "")
    lines = outcome.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("graphlens: ")
    assert lines[0].isprintable()
    assert files() == before
    return lines[0].removeprefix("graphlens: ")


SOURCES = {
    "broken.py": "def build(:\n",
    "imports.py": "import no_such_thing\n",
    "exits.py": "import sys\nsys.exit(0)\n",
    "control.py": "def build():\n    raise ValueError('\\x1b[31mred\\x1b[0m \\u202e \\x07')\n",
    "long.py": "def build():\n    raise ValueError('x' * 10_000)\n",
}

TARGETS = {
    "wastefull": "unknown target 'wastefull'; did you mean 'wasteful'?",
    "no_such_module:build": "there is no module 'no_such_module'; check its name",
    "torch:no_such": "torch has no 'no_such'",
    "user.py": "name a factory in it, as in user.py:build",
    "user.py:missing": "user.py has no 'missing'; it has build, chatty, detached, interrupts, module_with_a_rather",
    "missing.py:build": "there is no file missing.py; check the path",
    "missing.json": "there is no such saved graph; check the path",
    "user.py:nothing": "the factory returned None; it must return a tensor",
    "user.py:raises": "the factory failed at user.py:23: ValueError: planted",
    "broken.py:build": "the import failed at broken.py:1: SyntaxError",
    "imports.py:build": "the import failed at imports.py:1: ModuleNotFoundError: No module named 'no_such_thing'",
    "exits.py:build": "the import failed at exits.py:2: SystemExit",
    "control.py:build": "the factory failed at control.py:2: ValueError: \\x1b[31mred",
    "long.py:build": "the factory failed at long.py:2: ValueError: xxxx",
}


@pytest.fixture
def sources(folder: Path) -> None:
    for name, text in SOURCES.items():
        Path(name).write_text(text)


@pytest.mark.usefixtures("sources")
@pytest.mark.parametrize("verb", ["run", "stats", "compare", "render", "save"])
@pytest.mark.parametrize("target", TARGETS)
def test_targets(target: str, verb: str) -> None:
    more = {"compare": ["small.json"], "render": ["-o", "new.svg"], "save": ["-o", "new.json"]}

    assert TARGETS[target] in refusal(verb, target, *more.get(verb, []))


@pytest.mark.parametrize("verb", ["run", "stats", "compare", "render", "save"])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("m=1", "wasteful has no option 'm'; its options are n=10000, d=5, T=3.14"),
        ("n", "--set 'n' is not of the form KEY=VALUE, as in --set n=1000"),
        ("n=1 +", "--set n: '1 +' is no Python literal"),
        ("n={[]: 1}", "--set n: '{[]: 1}' is no Python literal"),
        ("n=-1", "wasteful: n must be a whole number ≥ 0, got -1"),
        ("T=0", "wasteful: T must be a finite number > 0, got 0"),
        ("dtype=int8", "wasteful: dtype must be one of 'float64', 'float32', got 'int8'"),
    ],
)
def test_settings(verb: str, setting: str, message: str) -> None:
    more = {"compare": ["efficient"], "render": ["-o", "new.svg"], "save": ["-o", "new.json"]}

    assert message in refusal(verb, "wasteful", *more.get(verb, []), "--set", setting)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("frobnicate",), "No such command 'frobnicate'"),
        (("run",), "Missing argument 'TARGET'"),
        (("run", "wasteful", "efficient"), "Got unexpected extra argument"),
        (("run", "wasteful", "--frob"), "No such option '--frob'"),
        (("run", "wasteful", "--repeats", "-1"), "-1 is not in the range 0<=x<=1000"),
        (("run", "small.json"), "small.json is a saved graph, which cannot be run"),
        (("run", "small.json", "-o", "a.svg"), "small.json is a saved graph, which cannot be run"),
        (("run", "soft-threshold", "-o", "a.gif"), "a plot is written as one of .svg, .png, .pdf, not a.gif"),
        (("run", "soft-threshold", "-o", "a.svg", "--range", "3", "1"), "--range must go from a lower to a higher"),
        (("run", "soft-threshold", "-o", "a.svg", "--range", "nan", "1"), "--range must go from a lower to a higher"),
        (("run", "soft-threshold", "-o", "a.svg", "--range", "0", "inf"), "--range must"),
        (("run", "soft-threshold", "-o", "a.svg", "--range", "0", "1e308"), "a plot shows numbers up to 1e+300"),
        (("run", "wasteful", "-o", "a.svg", "--set", "n=1"), "wasteful does not take one tensor"),
        (("run", "user.py:build", "-o", "a.svg"), "user.py:build returns finished tensors"),
        (("stats", "wasteful", "--json", "--csv"), "--json and --csv exclude each other"),
        (("stats", "wasteful", "--by", "size"), "'size' is not"),
        (("stats", "small.json", "--set", "n=1"), "small.json is a saved graph and takes no --set"),
        (("compare", "small.json", "small.json", "--set", "n=1"), "take no --set"),
        (("stats", "user.py:detached"), "user.py:detached: no output has a backward graph"),
        (("save", "user.py:detached", "-o", "a.json"), "user.py:detached: no output has a backward graph"),
        (("render", "user.py:detached", "-o", "a.svg"), "user.py:detached: no output has a backward graph"),
        (("save", "wasteful"), "Missing option '-o' / '--output'"),
        (("render", "wasteful"), "Missing option '-o' / '--output'"),
        (("render", "small.json", "-o", "a.svg", "--engine", "torchviz"), "torchviz draws live ones"),
        (("render", "small.json", "-o", "a.svg", "--focus", "99"), "99"),
        (("render", "small.json", "-o", "a.svg", "--path", "nobody"), "nobody"),
        (("render", "small.json", "-o", "a.svg", "--expand", "nobody"), "there is no group 'nobody' to expand"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage(arguments: tuple[str, ...], message: str) -> None:
    assert message in refusal(*arguments)


# Out-files

WRITERS = {
    "save": (("save", "small.json", "-o"), ".json"),
    "render": (("render", "small.json", "-o"), ".svg"),
    "run": (("run", "soft-threshold", "-o"), ".svg"),
}


@pytest.mark.parametrize("verb", WRITERS)
def test_out_files_that_cannot_be_written(verb: str) -> None:
    arguments, suffix = WRITERS[verb]
    Path(f"old{suffix}").write_text("mine")
    Path(f"folder{suffix}").mkdir()
    for name, message in {
        f"missing/new{suffix}": "the folder missing does not exist; create it first",
        f"old{suffix}": f"old{suffix} exists; pass --force",
        f"folder{suffix}": f"folder{suffix} is a folder; name a file inside it",
        f"old{suffix}/new{suffix}": f"the folder old{suffix} does not exist",
        "n" * 300 + suffix: "file name too long",
        "new.xyz": "one of ",
        "new": "one of ",
    }.items():
        assert message in refusal(*arguments, name)
    for name in ("/dev/full", "/dev/null", "/proc/version"):
        link = Path(f"link{suffix}")
        link.symlink_to(name)
        before = link.readlink()
        assert run_cli(*arguments, link, "--force").code == 2
        assert link.readlink() == before
        link.unlink()


@pytest.mark.parametrize("verb", WRITERS)
def test_force_replaces(verb: str) -> None:
    arguments, suffix = WRITERS[verb]
    Path(f"old{suffix}").write_text("mine")

    assert run_cli(*arguments, f"old{suffix}", "--force").code == 0
    assert Path(f"old{suffix}").read_bytes() != b"mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into any folder")
@pytest.mark.parametrize("verb", WRITERS)
def test_an_unwritable_folder(verb: str) -> None:
    arguments, suffix = WRITERS[verb]
    Path("closed").mkdir(mode=0o500)

    assert "permission denied" in refusal(*arguments, f"closed/new{suffix}")


def test_the_out_file_is_refused_before_anything_runs() -> None:
    Path("old.json").write_text("mine")

    assert "exists" in refusal("save", "user.py:raises", "-o", "old.json")
    Path("old.svg").write_text("mine")
    assert "exists" in refusal("render", "user.py:raises", "-o", "old.svg")


def test_a_failing_target_leaves_the_old_file() -> None:
    Path("old.svg").write_text("mine")

    refusal("render", "user.py:raises", "-o", "old.svg", "--force")
    refusal("save", "user.py:raises", "-o", "old.json", "--force")


# Saved graphs that are not sound


def damaged(name: str) -> bytes:
    good = Path("small.json").read_bytes()
    document = json.loads(good)
    if name == "truncated":
        return good[:-100]
    if name == "empty":
        return b""
    if name == "binary":
        return b"\x80\x04\x95K\x01."
    if name == "deep":
        return b"[" * 100_000
    if name == "another version":
        document["format"] = "graphlens/2"
    if name == "escape code":
        document["nodes"]["rows"][0][3] = "\x1b[31mred"
    if name == "escape code in meta":
        document["meta"]["dtype"] = "\x1b]0;title\x07"
    if name == "cycle":
        document["edges"]["rows"][0][:2] = [0, 4]
    if name == "huge":
        document["saved"]["rows"][0][5] = 10**30
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "name",
    ["truncated", "empty", "binary", "deep", "another version", "escape code", "escape code in meta", "cycle", "huge"],
)
@pytest.mark.parametrize("verb", ["stats", "compare", "render", "save"])
def test_damaged_saved_graphs(name: str, verb: str) -> None:
    Path("bad.json").write_bytes(damaged(name))
    more = {"compare": ["small.json"], "render": ["-o", "new.svg"], "save": ["-o", "new.json"]}

    assert refusal(verb, "bad.json", *more.get(verb, [])).startswith("bad.json: ")


def test_a_saved_graph_that_is_a_folder() -> None:
    Path("folder.json").mkdir()

    assert "there is no such saved graph" in refusal("stats", "folder.json")


# Pictures that would be too large


def test_a_raw_picture_that_is_too_large_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def lay_out(*_: object, **__: object) -> bytes:
        raise AssertionError("a layout would take hours")

    monkeypatch.setattr("graphlens.views.layout.lay_out", lay_out)

    message = refusal("render", "wasteful", "-o", "new.svg", "--engine", "torchviz")

    assert message.startswith("wasteful has 30,015 nodes and 50,01")


def test_unrolling_too_much_is_refused() -> None:
    assert "--max-nodes allows 400" in refusal("render", "wasteful", "-o", "a.svg", "--expand", "all", "--set", "n=999")


def test_pdf_without_graphviz(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("PATH", str(folder))

    assert "PDF needs Graphviz's own `dot` on PATH" in refusal("render", "small.json", "-o", "a.pdf")


def test_a_failing_layout_program(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    programs = tmp_path_factory.mktemp("programs")
    (programs / "dot").write_text("#!/bin/sh\necho 'Error: planted' >&2\nexit 1\n")
    (programs / "dot").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))

    assert refusal("render", "small.json", "-o", "a.svg") == "dot failed: Error: planted"


def test_a_slow_layout_program_is_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from graphlens.views import layout

    programs = tmp_path_factory.mktemp("programs")
    (programs / "dot").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    (programs / "dot").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(layout.lay_out, "__kwdefaults__", {**layout.lay_out.__kwdefaults__, "seconds": 0.2})

    assert "the layout took longer than 0.2 s and was stopped" in refusal("render", "small.json", "-o", "a.svg")


def test_a_list_of_factories_that_is_cut_says_so() -> None:
    Path("many.py").write_text("".join(f"def f{number:02}():\n    pass\n" for number in range(21)))
    done = run_cli("stats", "many.py:nofn")

    assert done.err.endswith("it has f00, f01, f02, f03, f04, f05, f06, f07 and 13 more\n")
