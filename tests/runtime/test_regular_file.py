"""Reading a file that somebody else put there: a regular one, bounded, and without waiting."""

import os
import socket
from pathlib import Path

import pytest

from nixfleet_runtime.storage.regular_file import UnfitFile, read_regular_file


def test_regular_file_is_read_whole(tmp_path: Path) -> None:
    """The content comes back byte for byte, up to the limit."""
    path = tmp_path / "file"
    path.write_bytes(b"\0abc\n")

    assert read_regular_file(path, bytes_max=5) == b"\0abc\n"


def test_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    """One byte more than the limit is an error that names both."""
    path = tmp_path / "file"
    path.write_bytes(b"abcdef")

    with pytest.raises(UnfitFile, match="expected at most 5 bytes"):
        read_regular_file(path, bytes_max=5)


def test_named_pipe_without_a_writer_is_refused_at_once(tmp_path: Path) -> None:
    """A named pipe is an error of its own, and nothing waits for its writer."""
    path = tmp_path / "pipe"
    os.mkfifo(path)

    with pytest.raises(UnfitFile, match="found a named pipe"):
        read_regular_file(path)


@pytest.mark.parametrize("path", [Path("/dev/zero"), Path("/dev")])
def test_device_or_directory_is_refused(path: Path) -> None:
    """What never ends, and what has no content, is not opened."""
    with pytest.raises(UnfitFile, match="expected a regular file, found a d"):
        read_regular_file(path)


def test_socket_is_refused(tmp_path: Path) -> None:
    """A socket at the path is named as one."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        with pytest.raises(UnfitFile, match="found a socket"):
            read_regular_file(path)


def test_link_is_followed_only_where_links_are_allowed(tmp_path: Path) -> None:
    """The caller decides whether the path itself may be a link."""
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"abc")
    link.symlink_to(path)

    assert read_regular_file(link) == b"abc"
    with pytest.raises(UnfitFile, match="found a symbolic link"):
        read_regular_file(link, follow_links=False)


def test_missing_file_stays_a_missing_file(tmp_path: Path) -> None:
    """Callers tell a file that is not there from one that is unfit."""
    with pytest.raises(FileNotFoundError):
        read_regular_file(tmp_path / "none")
