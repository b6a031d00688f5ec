"""Nix archives: trees hash to what `nix-hash` prints, and what is no tree is refused by name."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nixfleet_runtime.releases.nar import (
    FileChangedWhileRead,
    InvalidClosureName,
    NotArchivable,
    closure_name_of,
    nar_chunks,
    nar_hash,
    nix_base32,
    split_closure_name,
)


def _hello(path: Path) -> None:
    path.write_bytes(b"hello\n")


def _executable(path: Path) -> None:
    path.write_bytes(b"#!/bin/sh\n")
    path.chmod(0o755)


def _executable_for_others_only(path: Path) -> None:
    path.write_bytes(b"#!/bin/sh\n")
    path.chmod(0o655)


def _nothing_in_it(path: Path) -> None:
    path.write_bytes(b"")


def _a_link(path: Path) -> None:
    path.symlink_to("../else/where")


def _bare(path: Path) -> None:
    path.mkdir()


def _system(path: Path) -> None:
    """One of each, with names whose order differs between bytes and letters."""
    (path / "bin").mkdir(parents=True)
    _executable(path / "bin" / "switch-to-configuration")
    (path / "etc").symlink_to("/etc/static")
    (path / "empty").mkdir()
    (path / "Zebra").write_bytes(b"12345678")
    (path / "apple").write_bytes(b"123456789")
    (path / "a.b").write_bytes(b"")
    (path / "a").mkdir()
    (path / "été").write_text("summer", encoding="utf-8")
    Path(os.fsdecode(os.fsencode(path) + b"/\xff")).write_bytes(b"no UTF-8")


TREES: list[tuple[Callable[[Path], None], str]] = [
    (_hello, "04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw"),
    (_executable, "0m35wabrvlzjvv71f2xvca3vd91gh9mwvh4mm38h7yb0h9kc30v2"),
    (_executable_for_others_only, "1y12prnw0syl013dbx82i2b8yarwv7j0fw43g8n6nqn9xpvvaz0v"),
    (_nothing_in_it, "0ip26j2h11n1kgkz36rl4akv694yz65hr72q4kv4b3lxcbi65b3p"),
    (_a_link, "1samz4qch9qkzwasak7gn4pchdk5di68l9b32yjrm9dl413cdm0g"),
    (_bare, "0sjjj9z1dhilhpc8pq4154czrb79z9cm044jvn75kxcjv6v5l2m5"),
    (_system, "05yy6m6m6pqrbxzc82qbflggq8nwmlg08rcr31xaz6ifj09j536m"),
]


@pytest.mark.parametrize(("plant", "recorded"), TREES)
def test_hashing_a_known_tree_gives_the_recorded_hash(
    tmp_path: Path, plant: Callable[[Path], None], recorded: str
) -> None:
    """A tree has the hash that nix-hash 2.8 printed for it."""
    plant(tmp_path / "tree")

    assert nar_hash(tmp_path / "tree") == recorded


@pytest.mark.skipif(shutil.which("nix-hash") is None, reason="nix-hash is not installed")
@pytest.mark.parametrize(("plant", "recorded"), TREES)
def test_hashing_where_nix_is_installed_agrees_with_nix(
    tmp_path: Path, plant: Callable[[Path], None], recorded: str
) -> None:
    """The hash of a tree is what the installed nix-hash prints for it."""
    plant(tmp_path / "tree")
    command = ["nix-hash", "--type", "sha256", "--base32", str(tmp_path / "tree")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert nar_hash(tmp_path / "tree") == printed.strip() == recorded


def test_hashing_a_file_larger_than_a_piece_reads_it_in_pieces(tmp_path: Path) -> None:
    """No piece of an archive is larger than 256 KiB, however large the file."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1_000_001)

    sizes = [len(chunk) for chunk in nar_chunks(large)]

    assert max(sizes) == 256 * 1024
    assert sum(sizes) % 8 == 0


def test_hashing_a_tree_deeper_than_python_recurses_succeeds(tmp_path: Path) -> None:
    """Depth is limited by the length of a path alone."""
    deep = [tmp_path / "/".join("d" * depth) for depth in range(1, 1501)]
    for directory in deep:
        directory.mkdir()

    try:
        assert len(nar_hash(tmp_path)) == 52
    finally:
        # Here, because what clears temporary directories away recurses.
        for directory in reversed(deep):
            directory.rmdir()


def test_hashing_a_socket_is_refused_by_name(tmp_path: Path) -> None:
    """A socket in a tree is refused, with its path and what it is."""
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "run" / "agent.sock"))
        with pytest.raises(NotArchivable) as refused:
            nar_hash(tmp_path)

    assert refused.value.path == tmp_path / "run" / "agent.sock"
    assert refused.value.found == "a socket"
    assert "agent.sock: expected a regular file, a symbolic link or a directory" in str(
        refused.value
    )


def test_hashing_a_named_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    """A named pipe is refused by what it is; nothing opens it."""
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(NotArchivable) as refused:
        nar_hash(tmp_path)

    assert refused.value.found == "a named pipe"


def test_hashing_a_device_is_refused_by_name() -> None:
    """A device is refused by what it is."""
    with pytest.raises(NotArchivable) as refused:
        nar_hash(Path("/dev/null"))

    assert refused.value.found == "a character device"


def test_hashing_a_missing_tree_names_it(tmp_path: Path) -> None:
    """What is not there is the file system's own error, with the path."""
    with pytest.raises(FileNotFoundError, match="no-such"):
        nar_hash(tmp_path / "no-such")


def test_file_that_grows_while_it_is_hashed_is_refused(tmp_path: Path) -> None:
    """A file that has more bytes than it had when it was opened is refused, with both sizes."""
    file = tmp_path / "log"
    file.write_bytes(b"one")
    chunks = nar_chunks(file)
    next(chunks), next(chunks)
    with file.open("ab") as more:
        more.write(b", two")

    with pytest.raises(FileChangedWhileRead) as refused:
        list(chunks)

    assert (refused.value.path, refused.value.expected, refused.value.found) == (file, 3, 8)
    assert "expected 3 bytes, found 8" in str(refused.value)


def test_naming_a_tree_joins_its_hash_and_the_name(tmp_path: Path) -> None:
    """A closure name is the hash, a dash and the name, and comes apart again."""
    _hello(tmp_path / "tree")

    closure = closure_name_of(tmp_path / "tree", "web-1.2")

    assert closure == f"{nar_hash(tmp_path / 'tree')}-web-1.2"
    assert split_closure_name(closure) == (nar_hash(tmp_path / "tree"), "web-1.2")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "a b", "x" * 203, "a\n"])
def test_naming_a_tree_by_what_no_file_should_be_called_is_refused(
    tmp_path: Path, name: str
) -> None:
    """A name that could leave the store, hide in it or not fit a file name is refused."""
    with pytest.raises(InvalidClosureName) as refused:
        closure_name_of(tmp_path, name)

    assert refused.value.text == name


@pytest.mark.parametrize(
    "text",
    ["", "web", f"{'0' * 52}", f"{'0' * 51}-web", f"{'e' * 52}-web", f"../{'0' * 52}-web"],
)
def test_splitting_what_is_no_closure_name_is_refused(text: str) -> None:
    """A closure name has a whole hash in Nix's letters, a dash and a name, and nothing else."""
    with pytest.raises(InvalidClosureName) as refused:
        split_closure_name(text)

    assert refused.value.text == text
    assert repr(text) in str(refused.value)


def test_splitting_the_name_of_a_store_path_succeeds() -> None:
    """A store path's name has a hash of 32 characters and is a closure name too."""
    store_path = f"{'0a' * 16}-nixos-system-web-01-25.11"

    assert split_closure_name(store_path) == ("0a" * 16, "nixos-system-web-01-25.11")


def test_encoding_known_bytes_gives_what_nix_prints() -> None:
    """The SHA-256 of nothing is printed as Nix prints it."""
    digest = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")

    assert nix_base32(digest) == "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73"
