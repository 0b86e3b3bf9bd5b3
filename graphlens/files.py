"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from graphlens.errors import OutputError


def check_writable(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Refuse a path that cannot be written, before any work is done for it.

    Raises:
        OutputError: the folder is missing, the path is no regular file, or it exists and
            `force` is not given.
    """
    target = Path(path)
    try:
        if "\0" in str(target):  # is_dir() and the like would call it a path where nothing stands
            raise ValueError("embedded null byte")
        if target.is_dir():
            raise OutputError(f"{target} is a folder; name a file inside it")
        if not target.parent.is_dir():
            raise OutputError(f"{target}: the folder {target.parent} does not exist; create it first")
        if target.exists():
            if not target.is_file():
                raise OutputError(f"{target} is not a regular file; name another path")
            if not force:
                raise OutputError(f"{target} exists; pass --force (force=True in Python) to replace it")
    except (OSError, ValueError) as error:
        raise OutputError(f"{str(path)!r} cannot be used as a path: {_reason(error)}; name another path") from error
    return target


@contextlib.contextmanager
def write_whole(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[IO[bytes]]:
    """Open a file beside `path` and rename it to `path` once the block has finished.

    A failure or an interrupt inside the block leaves whatever stood at `path` as it was.

    Raises:
        OutputError: see `check_writable`; or the system refused the write.
    """
    # A link is written through, as a plain open() would do.
    target = Path(os.path.realpath(check_writable(path, force=force)))
    try:
        handle, beside = tempfile.mkstemp(prefix=f".{target.name[:60]}.", dir=target.parent)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {_reason(error)}; choose another folder") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
        os.chmod(beside, _mode(target))
        os.replace(beside, target)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {_reason(error)}; choose another folder") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)


def write_bytes(path: str | os.PathLike[str], data: bytes, *, force: bool = False) -> Path:
    """Write `data` to `path` whole or not at all; return the path."""
    with write_whole(path, force=force) as stream:
        stream.write(data)
    return Path(path)


def _mode(target: Path) -> int:
    """Permissions that a plain open() would leave: the old file's, else 0666 less the umask."""
    try:
        return target.stat().st_mode & 0o777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def _reason(error: OSError | ValueError) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
