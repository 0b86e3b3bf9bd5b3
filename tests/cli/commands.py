"""Call the command line, in this process for speed or in one of its own."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from graphlens.cli import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def run_cli(*arguments: object) -> Outcome:
    """`graphlens ARGUMENTS` in this process. Only the exit is caught: a crash fails the test with its traceback."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
    argv, path, modules = sys.argv, sys.path[:], set(sys.modules)
    sys.argv = ["graphlens", *map(str, arguments)]
    code: object = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ending:
        code = ending.code
    finally:
        sys.argv, sys.path[:] = argv, path
        for name in set(sys.modules) - modules:
            if name.startswith("graphlens_target_"):
                del sys.modules[name]
    texts = [stream.buffer.getvalue().decode() for stream in (out, err) if stream.flush() is None]
    return Outcome(code if isinstance(code, int) else 0, *texts)


def spawn_cli(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 90
) -> Outcome:
    """`graphlens ARGUMENTS` in a process of its own; `env` is added to the environment."""
    done = subprocess.run(
        [sys.executable, "-m", "graphlens", *map(str, arguments)],
        capture_output=True, cwd=cwd, env={**os.environ, **(env or {})}, timeout=timeout, check=False,
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())
