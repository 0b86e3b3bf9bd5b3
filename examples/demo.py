"""The main job from end to end: compare the two modules at n = 10,000, count, draw and save.

    python examples/demo.py [FOLDER]

Every step is a command that can be typed by itself; it is shown on stderr before it runs.
"""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
from pathlib import Path

from graphlens.cli.app import app


def graphlens(command: str, keep: Path | None = None) -> str:
    """Run one graphlens command in this process; keep what it prints in a file if one is named."""
    words = shlex.split(command)
    print(f"$ graphlens {shlex.join(words)}" + (f" > {keep}" if keep else ""), file=sys.stderr, flush=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        app.main(words, standalone_mode=False, prog_name="graphlens")
    if keep is not None:
        keep.write_text(printed.getvalue(), encoding="utf-8")
    return printed.getvalue()


def main(folder: Path, size: str = "") -> None:
    """Fill the folder; `size` are options of both modules, such as "--set n=500"."""
    folder.mkdir(parents=True, exist_ok=True)
    out = shlex.quote(str(folder))
    print(graphlens(f"compare wasteful efficient {size}", keep=folder / "compare.txt"))
    graphlens(f"run soft-threshold -o {out}/soft-threshold.svg --force")
    for name in ("wasteful", "efficient"):
        graphlens(f"run {name} {size}", keep=folder / f"run-{name}.txt")
        graphlens(f"save {name} {size} -o {out}/{name}.json --force")
        graphlens(f"stats {out}/{name}.json", keep=folder / f"stats-{name}.txt")
        graphlens(f"stats {out}/{name}.json --csv", keep=folder / f"stats-{name}.csv")
        graphlens(f"render {name} {size} -o {out}/{name}.svg --engine graphlens --force")
        graphlens(f"render {name} --set n=8 --engine torchviz -o {out}/{name}-raw.svg --force")
    print(f"Written to {folder}:")
    for path in sorted(folder.iterdir()):
        print(f"  {path.name:24} {path.stat().st_size:>12,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
