"""The embedding examples refer to files that the commands they state make, and their pages hold together."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

from graphlens.cli.app import app

FOLDER = Path(__file__).parent.parent / "examples" / "embedding"
SOURCES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".html", ".qmd", ".tex"))
VOID = {"meta", "link", "img", "br", "hr", "input"}
ELSEWHERE = ("node_modules/",)  # what npm puts there


class Page(HTMLParser):
    """Tags that are open, ids, ids that are referred to, and files that are referred to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.labels: list[str] = []
        self.files: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.pictures.append(given)
        self.ids += [name for name in (given.get("id"),) if name]
        self.labels += (given.get("aria-labelledby") or "").split()
        self.files += [name for name in (given.get("src"), given.get("href")) if name and not name.startswith("#")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def commands(source: str) -> list[str]:
    """The commands that a file states: after a "$", or between backticks."""
    text = (FOLDER / source).read_text(encoding="utf-8")
    return re.findall(r"^(?:% )?\$ (.+)$", text, re.MULTILINE) + re.findall(r"`(graphlens [^`]+)`", text)


def refers_to(source: str) -> set[str]:
    text = (FOLDER / source).read_text(encoding="utf-8")
    if source.endswith(".html"):
        files = Page(text).files
    else:
        files = re.findall(r"\\includegraphics(?:\[[^]]*\])?\{([^}]+)\}|!\[[^]]*\]\(([^)]+)\)", text)
        files = [one or other for one, other in files]
    return {name for name in files if not name.startswith(ELSEWHERE)}


def run(source: str) -> None:
    """The graphlens commands of a file, in the working directory."""
    for command in commands(source):
        program, *words = shlex.split(command)
        if program == "graphlens":
            if "--set" in words:
                words[words.index("--set") + 1] = "n=5"
            app.main(words, standalone_mode=False, prog_name="graphlens")


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(FOLDER, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def inline() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_inline", FOLDER / "inline.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_way_has_an_example() -> None:
    assert SOURCES == ["handout.tex", "lecture.qmd", "page.html", "slides.html"]


@pytest.mark.parametrize("source", SOURCES)
def test_the_commands_make_what_the_file_refers_to(copy: Path, source: str) -> None:
    names = refers_to(source)
    assert names
    if any(name.endswith(".pdf") for name in names) and shutil.which("dot") is None:
        pytest.skip("PDF needs dot on PATH")
    assert not any((copy / name).exists() for name in names)
    run(source)
    for name in names:
        assert (copy / name).stat().st_size > 1000


@pytest.mark.parametrize("source", [name for name in SOURCES if name.endswith(".html")])
def test_pages_parse_and_need_no_network(source: str) -> None:
    page = Page((FOLDER / source).read_text(encoding="utf-8"))
    assert page.open == []
    assert page.files
    assert not any(re.match(r"(\w+:)?//", name) for name in page.files)
    assert page.pictures
    assert all(picture.get("alt") for picture in page.pictures)


def test_pictures_within_one_page_share_no_id(copy: Path) -> None:
    run("page.html")
    done = subprocess.run(
        [sys.executable, "inline.py", "page.html", "whole-page.html"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    page = Page((copy / "whole-page.html").read_text(encoding="utf-8"))

    assert page.open == []
    assert page.pictures == []
    assert [name for name in page.files if name.endswith(".svg")] == []
    assert [name for name, count in Counter(page.ids).items() if count > 1] == []
    assert len(page.labels) == 4  # a title and a description for each of two pictures
    assert set(page.labels) <= set(page.ids)


def test_only_pictures_beside_the_page_are_put_into_it(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_text("<?xml version='1.0'?>\n<svg><g/></svg>\n", encoding="utf-8")
    page = '<p><img\n  alt="x > y" src="b.png"><img class="c" src="a.svg" alt="A"><img src="https://example.org/a.svg"></p>'
    assert inline().inline(page, tmp_path) == (
        '<p><img\n  alt="x > y" src="b.png"><svg><g/></svg><img src="https://example.org/a.svg"></p>'
    )


def test_a_slide_on_a_dark_ground_has_a_dark_picture(copy: Path) -> None:
    text = (copy / "slides.html").read_text(encoding="utf-8")
    assert "theme/black.css" in text
    assert all("--theme dark" in command for command in commands("slides.html") if command.startswith("graphlens"))


def test_the_chunk_of_the_lecture_ends_with_a_picture() -> None:
    text = (FOLDER / "lecture.qmd").read_text(encoding="utf-8")
    [chunk] = re.findall(r"^```\{python\}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    *before, last = [line for line in chunk.splitlines() if line and not line.startswith("#|")]
    scope: dict[str, object] = {}
    exec("\n".join(before).replace("n=100", "n=5"), scope)
    assert list(eval(last, scope)._repr_mimebundle_()) == ["text/plain", "image/svg+xml"]


def test_latex_is_told_to_keep_the_picture_on_the_page() -> None:
    text = (FOLDER / "handout.tex").read_text(encoding="utf-8")
    options = re.findall(r"\\includegraphics\[([^]]*)\]", text)
    assert options
    for option in options:
        assert {"width", "height", "keepaspectratio"} <= {part.partition("=")[0] for part in option.split(",")}


@pytest.mark.skipif(
    shutil.which("pdflatex") is None or shutil.which("dot") is None, reason="no pdflatex, or no dot on PATH"
)
def test_the_handout_is_typeset(copy: Path) -> None:
    run("handout.tex")
    done = subprocess.run(
        ["pdflatex", "-interaction=batchmode", "-halt-on-error", "handout.tex"], capture_output=True, check=False
    )
    log = (copy / "handout.log").read_text(encoding="utf-8", errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert (copy / "handout.pdf").read_bytes().startswith(b"%PDF")
    assert "Overfull" not in log
