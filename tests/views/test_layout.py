"""The layout program: found, bounded in time, and its failures told in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from graphlens.errors import DrawError
from graphlens.views import layout

DOT = 'digraph { a [label="größe"]; a -> b }'


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make a shell script the only `dot` there is; without one, no `dot` at all."""

    def install(script: str | None) -> Path:
        program = tmp_path / "dot"
        if script is not None:
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        return program

    return install


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_embedded_renderer_stands_in(only, kind: str) -> None:
    only(None)

    assert layout.find_program().embedded
    data = layout.lay_out(DOT, kind)
    assert data.startswith(b"\x89PNG") if kind == "png" else "größe" in data.decode()


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz's dot")
@pytest.mark.parametrize(("kind", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_graphviz(kind: str, start: bytes) -> None:
    assert not layout.find_program().embedded
    assert layout.lay_out(DOT, kind).startswith(start)


def test_pdf_needs_graphviz(only) -> None:
    only(None)

    with pytest.raises(DrawError, match=r"PDF needs Graphviz's own `dot` on PATH: install Graphviz, or write \.svg"):
        layout.lay_out(DOT, "pdf")


def test_no_program_at_all(only, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only(None)
    monkeypatch.setattr(layout.sys, "executable", str(tmp_path / "python"))

    with pytest.raises(DrawError, match="no layout program found: install Graphviz, or `pip install graphviz-pure`"):
        layout.lay_out(DOT, "svg")


@pytest.mark.parametrize("suffix", [".gif", "", "svg.gz"])
def test_unknown_formats(suffix: str) -> None:
    with pytest.raises(DrawError, match="svg, png, pdf"):
        layout.check_format(suffix)


def test_a_layout_that_takes_too_long_is_stopped(only, tmp_path: Path) -> None:
    only(f"echo $$ > {tmp_path}/pid; exec /bin/sleep 60")

    with pytest.raises(DrawError, match=r"the layout took longer than 0\.3 s and was stopped; draw a smaller graph"):
        layout.lay_out(DOT, "svg", seconds=0.3)

    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo one >&2; echo 'Error: planted' >&2; exit 3", "dot failed: Error: planted"),
        ("exit 3", "dot failed: code 3"),
        ("exit 0", "dot failed: code 0"),
    ],
)
def test_a_failing_program(only, script: str, message: str) -> None:
    only(script)

    with pytest.raises(DrawError) as caught:
        layout.lay_out(DOT, "svg")

    assert str(caught.value) == message


def test_a_program_that_cannot_be_run(only) -> None:
    only("").write_bytes(b"\x7fELF nonsense")

    with pytest.raises(DrawError, match="dot cannot be run: Exec format error; reinstall it"):
        layout.lay_out(DOT, "svg")


def test_a_program_that_reads_nothing(only) -> None:
    only("exec 0<&-; echo '<svg/>'")

    assert layout.lay_out(DOT + " " * 10**6, "svg") == b"<svg/>\n"
