"""A file is written whole or not at all."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphlens.errors import OutputError
from graphlens.files import check_writable, write_bytes, write_whole


def folder_of(path: Path) -> list[str]:
    return sorted(item.name for item in path.iterdir())


def test_a_new_file_is_written(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "new.txt", b"text")

    assert path == tmp_path / "new.txt"
    assert path.read_bytes() == b"text"
    assert folder_of(tmp_path) == ["new.txt"]


def write_half(path: Path, failure: BaseException) -> None:
    with write_whole(path, force=True) as stream:
        stream.write(b"half")
        stream.flush()
        raise failure


@pytest.mark.parametrize("failure", [RuntimeError("in the block"), KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
@pytest.mark.parametrize("before", [b"old", None], ids=["over an old file", "no old file"])
def test_a_failure_inside_the_block_changes_nothing(
    tmp_path: Path, failure: BaseException, before: bytes | None
) -> None:
    path = tmp_path / "file.txt"
    if before is not None:
        path.write_bytes(before)

    with pytest.raises(type(failure)):
        write_half(path, failure)

    assert folder_of(tmp_path) == ([] if before is None else ["file.txt"])
    assert before is None or path.read_bytes() == before


def test_the_old_file_stands_until_the_block_has_finished(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")

    with write_whole(path, force=True) as stream:
        stream.write(b"new")
        assert path.read_bytes() == b"old"

    assert path.read_bytes() == b"new"


def test_an_existing_file_is_refused_without_force(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")

    with pytest.raises(OutputError, match=r"file\.txt exists; pass --force \(force=True in Python\) to replace it"):
        write_bytes(path, b"new")

    assert path.read_bytes() == b"old"
    assert write_bytes(path, b"new", force=True).read_bytes() == b"new"


@pytest.mark.parametrize("force", [False, True])
def test_paths_that_cannot_be_files(tmp_path: Path, force: bool) -> None:
    (tmp_path / "plain").write_bytes(b"")
    for path, fact in [
        (tmp_path, "is a folder; name a file inside it"),
        (tmp_path / "missing" / "file", "missing does not exist; create it first"),
        (tmp_path / "plain" / "file", "plain does not exist; create it first"),
        ("/dev/null", "/dev/null is not a regular file; name another path"),
        (tmp_path / ("n" * 300), "cannot be used as a path: file name too long; name another path"),
        (tmp_path / "nul\0byte", "cannot be used as a path: embedded null byte; name another path"),
    ]:
        for write in (lambda path: check_writable(path, force=force), lambda path: write_bytes(path, b"", force=force)):
            with pytest.raises(OutputError) as caught:
                write(path)
            assert str(caught.value).endswith(fact)

    assert folder_of(tmp_path) == ["plain"]


def test_a_fifo_and_a_socket_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket"))
        for name in ("pipe", "socket"):
            with pytest.raises(OutputError, match=f"{name} is not a regular file"):
                write_bytes(tmp_path / name, b"data", force=True)

    assert folder_of(tmp_path) == ["pipe", "socket"]


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127, "表" * 85], ids=["ascii", "two bytes", "three bytes"])
def test_the_longest_names_that_the_system_takes(tmp_path: Path, name: str) -> None:
    assert write_bytes(tmp_path / name, b"data").read_bytes() == b"data"
    assert folder_of(tmp_path) == [name]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into any folder")
def test_an_unwritable_folder(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)

    with pytest.raises(OutputError, match=r"file cannot be written: permission denied; choose another folder"):
        write_bytes(folder / "file", b"data")

    assert folder_of(folder) == []


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")

    with pytest.raises(OutputError, match=r"cannot be written: no space left on device"), write_whole(path, force=True):
        raise OSError(28, "No space left on device")

    assert path.read_bytes() == b"old"
    assert folder_of(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("exists", [True, False], ids=["to a file", "to nothing yet"])
def test_a_link_is_written_through(tmp_path: Path, exists: bool) -> None:
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    if exists:
        target.write_bytes(b"old")
    link.symlink_to("target.txt")

    write_bytes(link, b"new", force=True)

    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert folder_of(tmp_path) == ["link.txt", "target.txt"]


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path: Path, umask: int) -> None:
    path = write_bytes(tmp_path / "file.txt", b"data")

    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    assert os.umask(umask) == umask  # reading the umask has not changed it


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")
    path.chmod(0o640)

    write_bytes(path, b"new", force=True)

    assert stat.S_IMODE(path.stat().st_mode) == 0o640
