"""Targets and options are told apart by their text alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphlens.errors import TargetError
from graphlens.targets import LESSONS, Target, parse_options, parse_target


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("model.py", "a:b.py", "graph.json", "GRAPH.JSON", "wasteful.json"):
        Path(name).touch()
    return tmp_path


def test_lessons_are_those_that_have_a_factory() -> None:
    from graphlens.lessons import FACTORIES

    assert tuple(FACTORIES) == LESSONS


@pytest.mark.parametrize(
    ("text", "kind", "place", "factory"),
    [
        *[(name, "lesson", name, "") for name in LESSONS],
        ("model.py:build", "file", "model.py", "build"),
        ("./model.py:build", "file", "./model.py", "build"),
        ("a:b.py:build", "file", "a:b.py", "build"),
        ("package.module:factory", "module", "package.module", "factory"),
        ("module:Class.method", "module", "module", "Class.method"),
        ("wasteful:factory", "module", "wasteful", "factory"),
        ("graph.json", "saved", "graph.json", ""),
        ("GRAPH.JSON", "saved", "GRAPH.JSON", ""),
        ("wasteful.json", "saved", "wasteful.json", ""),
    ],
)
def test_kinds(text: str, kind: str, place: str, factory: str) -> None:
    assert parse_target(text) == Target(text, kind, place, factory)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wastefull", "unknown target 'wastefull'; did you mean 'wasteful'? a target is a lesson (soft-threshold, "),
        ("", "unknown target ''; a target is a lesson"),
        ("qqq", "unknown target 'qqq'; a target is a lesson"),
        ("wasteful:", "unknown target 'wasteful:'; did you mean 'wasteful'? "),
        (":build", "unknown target ':build'; "),
        ("a b:build", "unknown target 'a b:build'; "),
        ("missing.json", "missing.json: there is no such saved graph; check the path"),
        ("missing.py:build", "missing.py:build: there is no file missing.py; check the path"),
        ("model.py", "model.py: name a factory in it, as in model.py:build"),
        ("model.py:", "model.py:: name a factory after the colon, as in model.py:build"),
        ("model.py:1", "model.py:1: name a factory after the colon, as in model.py:build"),
        ("n" * 300 + ".json", "n.json: there is no such saved graph; check the path"),
        ("n" * 300 + ".py:build", "n.py; check the path"),
        ("nul\0.json", "there is no such saved graph; check the path"),
    ],
)
def test_what_is_no_target(text: str, message: str) -> None:
    with pytest.raises(TargetError) as caught:
        parse_target(text)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("n=1000", "n", 1000),
        ("n = 1_000", "n", 1000),
        ("n=-3", "n", -3),
        ("T=3.14", "T", 3.14),
        ("dtype=float32", "dtype", "float32"),
        ("dtype='float32'", "dtype", "float32"),
        ("flag=True", "flag", True),
        ("x=None", "x", None),
        ("shape=(2, 3)", "shape", (2, 3)),
        ("names=['a', 'b']", "names", ["a", "b"]),
        ("form=by-component", "form", "by-component"),
        ("model=org/name-1.5", "model", "org/name-1.5"),
        ("text='a = b'", "text", "a = b"),
        ("größe=1", "größe", 1),
        ("x=1e999", "x", float("inf")),
    ],
)
def test_settings(setting: str, key: str, value: object) -> None:
    parsed = parse_options([setting])

    assert parsed == {key: value}
    assert type(parsed[key]) is type(value)


def test_the_last_of_two_settings_counts() -> None:
    assert parse_options(["n=1", "d=2", "n=3"]) == {"n": 3, "d": 2}


@pytest.mark.parametrize("setting", ["n", "=1", "", "1n=1", "a b=1", "-n=1"])
def test_settings_without_a_key(setting: str) -> None:
    with pytest.raises(TargetError, match="is not of the form KEY=VALUE, as in --set n=1000"):
        parse_options([setting])


@pytest.mark.parametrize(
    "value",
    ["", "1 +", "(1", "two words", "f(1)", "__import__('os').getcwd()", "{[]: 1}", "{{}}", "9" * 5000, "(" * 5000],
    ids=lambda value: value[:12],
)
def test_values_that_are_no_literal(value: str) -> None:
    with pytest.raises(TargetError, match="is no Python literal; quote a text") as caught:
        parse_options([f"n={value}"])

    assert len(str(caught.value)) < 300
