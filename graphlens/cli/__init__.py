"""The command line: the only place that prints, writes files and sets exit codes."""

from __future__ import annotations

import os
import sys

import click

from graphlens.cli.app import app
from graphlens.errors import GraphlensError
from graphlens.graph import printable


def main() -> None:
    """Run the command line; every expected failure is one line on stderr and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # as it is where a shell closed it
            # A terminal that cannot show × shows ? rather than a traceback.
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        code = app.main(standalone_mode=False, prog_name="graphlens")
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = 2
    except click.ClickException as error:
        code = _fail(error.format_message(), error.exit_code)
    except GraphlensError as error:
        code = _fail(str(error), 2)
    except (KeyboardInterrupt, click.Abort):
        code = _fail("interrupted; nothing half-written was left behind", 130)
    except BrokenPipeError:
        # The reader of a pipe went away, as `head` does; nothing is left to tell anybody.
        _drop_output()
        code = 0
    except OSError as error:
        _drop_output()
        code = _fail(f"the output cannot be written: {(error.strerror or str(error)).lower()}", 2)
    except MemoryError:
        code = _fail("out of memory; try a smaller target", 2)
    sys.exit(code)


def _drop_output() -> None:
    """Send what is still to be written nowhere: writing it once more, at exit, would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> int:
    # The message may quote the user's own error, whatever characters that holds.
    click.echo(f"graphlens: {printable(' '.join(message.split()))}", err=True)
    return code
