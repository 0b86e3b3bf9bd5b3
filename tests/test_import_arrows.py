"""Who may import whom. A module counts by its area: the folder, or the file at the top of the package."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import graphlens
from graphlens.graph import Edge, GradGraph, Node, Output
from graphlens.storage import save

PACKAGE = Path(graphlens.__file__).parent

# area: (areas of the house, other packages) that it may import; the standard library is open to all.
MAY_IMPORT: dict[str, tuple[set[str], set[str]]] = {
    "errors": (set(), set()),
    "collector": (set(), set()),
    "units": (set(), set()),
    "limits": (set(), set()),
    "subject": (set(), {"torch"}),
    "files": ({"errors"}, set()),
    "targets": ({"errors"}, set()),
    "graph": ({"invariants", "notebook"}, {"networkx"}),
    "invariants": ({"errors", "graph"}, set()),
    "graph_json": ({"collector", "errors", "graph"}, set()),
    "flow": ({"graph"}, set()),
    "observation": ({"flow", "graph"}, set()),
    "accuracy": ({"graph"}, {"numpy"}),
    "testing": ({"analyses", "capture", "errors", "views"}, {"torch"}),
    "records": ({"graph"}, {"numpy"}),
    "storage": ({"errors", "files", "graph", "graph_json", "views"}, set()),
    "lessons": ({"lessons", "subject"}, {"numpy", "torch"}),
    # What a record shows is looked up when somebody asks, so that nothing below loads a view.
    "shown": ({"analyses", "capture", "views"}, set()),
    "notebook": ({"analyses", "errors", "graph", "views"}, set()),
    "analyses": ({"accuracy", "analyses", "collector", "errors", "flow", "graph", "notebook", "observation", "records",
                  "shown", "units"}, {"numpy"}),
    "views": (
        {"accuracy", "analyses", "errors", "files", "graph", "records", "units", "views"},
        {"matplotlib", "networkx", "numpy", "rich"},
    ),
    "capture": (
        {"__init__", "analyses", "capture", "collector", "errors", "flow", "graph", "lessons", "observation",
         "records", "shown", "subject", "targets", "units"},
        {"numpy", "torch", "torchviz"},
    ),
    "numerics": (
        {"accuracy", "analyses", "capture", "collector", "errors", "graph", "limits", "numerics", "records", "units"},
        {"flint", "numpy", "torch"},
    ),
    "proof": ({"analyses", "capture", "collector", "errors", "graph", "proof", "records"}, {"torch"}),
    "explaining": ({"analyses", "capture", "errors", "graph", "limits", "numerics", "proof", "subject"}, {"torch"}),
    "sweeping": ({"analyses", "capture", "errors", "limits", "numerics", "records", "targets"}, {"torch"}),
    "api": (
        {"analyses", "capture", "errors", "graph", "lessons", "records", "storage", "subject", "targets", "views"},
        set(),
    ),
    "__init__": (
        {"analyses", "api", "capture", "errors", "explaining", "graph", "records", "storage", "subject", "views"},
        set(),
    ),
    "cli": (
        {"__init__", "accuracy", "analyses", "capture", "cli", "errors", "explaining", "files", "graph", "lessons",
         "limits", "numerics", "records", "storage", "sweeping", "targets", "units", "views"},
        {"click", "torch"},
    ),
    "__main__": ({"cli"}, set()),
}  # fmt: skip


UPPER = ("graphlens.views", "graphlens.capture", "graphlens.cli", "graphlens.lessons")


def area_of(path: Path, package: Path) -> str:
    return path.relative_to(package).with_suffix("").parts[0]


def imported_names(tree: ast.AST, module: list[str]) -> Iterator[str]:
    """Dotted names that a module imports anywhere, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = module[: -node.level] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            # `from graphlens import storage` imports the module; from a module, names only.
            yield from (f"{base}.{alias.name}" for alias in node.names) if base == "graphlens" else (base,)


def forbidden_imports(package: Path) -> list[str]:
    found = []
    areas = {area_of(path, package) for path in package.rglob("*.py")}
    for path in sorted(package.rglob("*.py")):
        area = area_of(path, package)
        if area not in MAY_IMPORT:
            found.append(f"{area} has no row in MAY_IMPORT")
            continue
        house, others = MAY_IMPORT[area]
        module = ["graphlens", *path.relative_to(package).with_suffix("").parts]
        for name in imported_names(ast.parse(path.read_text(encoding="utf-8")), module):
            top, _, rest = name.partition(".")
            if top == "graphlens":
                imported = rest.partition(".")[0] if rest.partition(".")[0] in areas else "__init__"
                allowed = imported in house
            else:
                imported, allowed = top, top in sys.stdlib_module_names or top in others
            if not allowed:
                found.append(f"{path.relative_to(package)} imports {imported}")
    return found


def test_every_import_follows_the_arrows() -> None:
    assert forbidden_imports(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("analyses/counts.py", "import torch", "analyses/counts.py imports torch"),
        ("views/export.py", "def late():\n    from torch import nn", "views/export.py imports torch"),
        ("views/export.py", "from graphlens.capture.build import capture", "views/export.py imports capture"),
        ("views/export.py", "from ..capture import build", "views/export.py imports capture"),
        ("analyses/counts.py", "from graphlens import lessons", "analyses/counts.py imports lessons"),
        ("errors.py", "import graphlens", "errors.py imports __init__"),
        ("graph.py", "import numpy", "graph.py imports numpy"),
        ("storage.py", "import graphlens.cli.app", "storage.py imports cli"),
        ("lessons/chain.py", "from graphlens.capture.build import capture", "lessons/chain.py imports capture"),
        ("newcomer.py", "import os", "newcomer has no row in MAY_IMPORT"),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, file: str, line: str, complaint: str) -> None:
    copy = tmp_path / "graphlens"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / file).open("a", encoding="utf-8") as stream:
        stream.write(f"\n{line}\n")

    assert set(forbidden_imports(copy)) - set(forbidden_imports(PACKAGE)) == {complaint}


@pytest.mark.parametrize(
    "module", ["graphlens.graph", "graphlens.records", "graphlens.analyses.comparison", "graphlens.analyses.fold"]
)
def test_model_and_analyses_load_neither_views_nor_capture(module: str) -> None:
    code = f"import sys, {module}; sys.exit(', '.join(m for m in sys.modules if m.startswith({UPPER!r})) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_only_main_imports_the_command_line() -> None:
    assert [area for area, (house, _) in MAY_IMPORT.items() if "cli" in house] == ["cli", "__main__"]


def loaded_by(code: str, *argv: str, cwd: Path | None = None) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded when `code` has run or exited."""
    script = f"""
import atexit, sys
tell = sys.stderr.write  # before anything redirects it
atexit.register(lambda: tell("LOADED " + " ".join({{name.partition(".")[0] for name in sys.modules}})))
sys.argv[1:] = {list(argv)!r}
{code}
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=cwd, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.partition("LOADED ")[2].split())


CLI = "from graphlens.cli import main; main()"
HEAVY = {"torch", "matplotlib", "networkx", "numpy"}


@pytest.fixture(scope="module")
def saved_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    nodes = [Node("AccumulateGrad", "leaf", name="x"), Node("ExpBackward0", seq=0)]
    graph = GradGraph(nodes, [Edge(1, 0, (0,), (0,))], outputs=[Output("y", 1, 0, (), "float64")])
    return save(graph.check(), tmp_path_factory.mktemp("saved") / "graph.json")


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["render", "--help"], ["run", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(argv: list[str]) -> None:
    assert loaded_by(CLI, *argv) & HEAVY == set()


def test_import_graphlens_loads_nothing_heavy() -> None:
    loaded = loaded_by("import graphlens as g; g.GraphlensError, g.GradGraph, g.Subject, g.load, g.stats, dir(g)")

    assert "graphlens" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize(
    "argv",
    [
        ["stats", "graph.json"],
        ["stats", "graph.json", "--json"],
        ["compare", "graph.json", "graph.json"],
        ["save", "graph.json", "-o", "copy.graphml", "--force"],
        ["save", "graph.json", "-o", "copy.gexf", "--force"],
        ["save", "graph.json", "-o", "copy.dot", "--force"],
    ],
    ids=" ".join,
)
def test_a_saved_graph_needs_no_torch(argv: list[str], saved_graph: Path) -> None:
    loaded = loaded_by(CLI, *argv, cwd=saved_graph.parent)

    assert "graphlens" in loaded
    assert "torch" not in loaded


def test_the_instrument_sees_torch() -> None:
    assert "torch" in loaded_by("import torch")
