"""The process in which a target's passes are kept, to see what it grows by; nothing here loads torch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import graphlens
from graphlens.analyses.memory import Growth

_TIMEOUT = 600.0


class Growing:
    """Runs a target's forward pass again and again in a fresh process that keeps every graph.

    In a process that has already run something, freed memory is used again, and nothing grows. The
    process goes on beside whatever else is done until `result` is asked for; leaving ends it. Its
    threads sleep while they wait, where they would by default keep a processor busy.
    """

    def __init__(self, target: str, settings: tuple[str, ...]) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.reason = ""
        if resident() is None:
            self.reason = "this system has no /proc"
            return
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _code(target, settings)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                text=True, env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
            )  # fmt: skip
        except OSError as error:
            self.reason = f"no process could be started: {error.strerror or error}"

    def __enter__(self) -> Growing:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def result(self) -> Growth:
        """Wait for what it grows by."""
        if self.process is None:
            return Growth(reason=self.reason)
        try:
            answer = self.process.communicate(timeout=_TIMEOUT)[0]
        except subprocess.TimeoutExpired:
            return Growth(reason=f"the process took longer than {_TIMEOUT:.0f} s")
        try:
            return Growth(**json.loads(answer))
        except (ValueError, TypeError):
            return Growth(reason=f"the process ended with code {self.process.returncode}")


def _code(target: str, settings: tuple[str, ...]) -> str:
    root = str(Path(graphlens.__file__).parent.parent)
    return (
        f"import sys; sys.path.insert(0, {root!r})\n"
        "from graphlens.capture.memory import grow_answer\n"
        "real = sys.stdout; sys.stdout = sys.stderr\n"
        f"real.write(grow_answer({target!r}, {settings!r})); real.flush()\n"
        "import os; os._exit(0)"  # freeing a thousand graphs would take a while, for nothing
    )


def measure_growth(target: str, settings: tuple[str, ...]) -> Growth:
    """What a fresh process grows by for each forward pass whose graph it keeps."""
    with Growing(target, settings) as growing:
        return growing.result()


def resident() -> int | None:
    """Bytes of this process in memory; None where the system does not tell."""
    try:
        # The sum in statm may lag behind by some pages per processor; this one is counted when asked for.
        found = re.search(r"^Rss:\s+(\d+) kB", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    except OSError:
        pass
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError, IndexError):
        return None
