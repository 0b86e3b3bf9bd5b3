"""What only a process of its own can show: signals, pipes, exit codes, hash seeds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.commands import spawn_cli

GRAPHLENS = [sys.executable, "-m", "graphlens"]


def start(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*GRAPHLENS, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, **options
    )


def interrupt(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    return process.returncode, err


def wait_until(is_so, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def assert_interrupted_quietly(code: int, err: bytes) -> None:
    assert code == 130
    assert err.decode().split("\n")[-2] == "graphlens: interrupted; nothing half-written was left behind"
    assert b"Traceback" not in err


@pytest.mark.parametrize("verb", ["run", "save"])
def test_an_interrupt_while_the_users_code_runs(folder: Path, verb: str) -> None:
    Path("out.json").write_text("mine")
    before = sorted(os.listdir())
    process = start(verb, "user.py:slow", *(["-o", "out.json", "--force"] if verb == "save" else []))
    assert process.stderr.readline() == b"ready\n"  # printed by the factory, right before it sleeps

    assert_interrupted_quietly(*interrupt(process))
    assert sorted(set(os.listdir()) - {"__pycache__"}) == before
    assert Path("out.json").read_text() == "mine"


def test_an_interrupt_during_the_layout(folder: Path) -> None:
    programs = folder / "programs"
    programs.mkdir()
    pid = programs / "pid"
    (programs / "dot").write_text(f"#!/bin/sh\necho $$ > {pid}\nexec /bin/sleep 60\n")
    (programs / "dot").chmod(0o755)
    Path("out.svg").write_text("mine")
    before = sorted(os.listdir())
    process = start("render", "small.json", "-o", "out.svg", "--force", env={**os.environ, "PATH": str(programs)})
    wait_until(lambda: process.poll() is not None or (pid.exists() and pid.read_text().endswith("\n")))
    assert process.poll() is None, process.stderr.read()

    assert_interrupted_quietly(*interrupt(process))
    assert sorted(os.listdir()) == before
    assert Path("out.svg").read_text() == "mine"
    wait_until(lambda: not Path("/proc", pid.read_text().strip()).exists(), seconds=5)


@pytest.mark.parametrize("arguments", [["run", "small.py:big", "--json"], ["lessons"], ["stats", "small.json"]])
def test_a_reader_that_goes_away_is_no_error(folder: Path, arguments: list[str]) -> None:
    Path("small.py").write_text("import torch\ndef big():\n    return torch.ones(9999, requires_grad=True) * 2\n")
    process = start(*arguments)
    process.stdout.close()  # as `| head -0` does

    with process.stderr as stream:
        assert stream.read() == b""
    assert process.wait(timeout=60) in (0, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_one_line(folder: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*GRAPHLENS, "lessons"], stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)

    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == ["graphlens: the output cannot be written: no space left on device"]


def test_without_stdout(folder: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m graphlens stats small.json >&-"],
        stderr=subprocess.PIPE, timeout=60, check=False,
    )  # fmt: skip

    assert b"Traceback" not in done.stderr


def test_a_terminal_that_lacks_a_character(folder: Path) -> None:
    done = subprocess.run(
        [*GRAPHLENS, "compare", "small.json", "wasteful.json"], capture_output=True, timeout=60, check=False,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    out = done.stdout.decode("latin-1")

    assert (done.returncode, done.stderr) == (0, b"")
    assert " ×" in out
    assert "? 96 B" in out  # ≥


def test_exit_code_and_streams_of_a_process(folder: Path) -> None:
    outcome = spawn_cli("stats", "missing.json")

    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "graphlens: missing.json: there is no such saved graph; check the path\n"


def test_the_installed_command() -> None:
    command = Path(sys.executable).with_name("graphlens")
    if not command.exists():
        pytest.skip("graphlens is not installed beside this interpreter")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.startswith("graphlens ")


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([["render", "wasteful", "-o", "a.svg", "--engine", "torchviz", "--set", "n=3"],
                      ["render", "wasteful", "-o", "b.svg", "--engine", "graphlens", "--set", "n=3"]],
                     marks=pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz's dot")),
        [["save", "user.py:module_with_a_rather_long_name_of_its_own", "-o", "a.json"],
         ["stats", "a.json"], ["stats", "a.json", "--json"], ["save", "a.json", "-o", "a.graphml"],
         ["save", "a.json", "-o", "a.gexf"], ["render", "a.json", "-o", "a.dot"], ["render", "a.json", "-o", "-"]],
    ],
    ids=["svg", "text"],
)  # fmt: skip
def test_the_bytes_do_not_depend_on_the_hash_seed(folder: Path, steps: list[list[str]]) -> None:
    def outputs(seed: str) -> dict[str, object]:
        place = folder / f"seed{seed}"
        place.mkdir()
        shutil.copy("user.py", place)
        # One process for all steps: the seed is what matters, and torch takes its time to load.
        code = (
            "import sys\nfrom graphlens.cli.app import app\n"
            f"for step in {steps!r}:\n    app.main(step, standalone_mode=False)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=place, env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        files = {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}
        return {"stdout": done.stdout, **files}

    assert outputs("1") == outputs("2")
