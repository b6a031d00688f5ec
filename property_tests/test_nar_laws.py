"""Laws of Nix archives: an archive says all of a tree that counts, and nothing else of it.

The trees are real directories. The reader below is written from the format's grammar, not from our
writer, so that the two can disagree.
"""

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias, assert_never

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_runtime.releases.nar import BASE32_ALPHABET, nar_chunks, nar_hash, nix_base32


@frozen
class File:
    """A regular file."""

    contents: bytes
    executable: bool


@frozen
class Link:
    """A symbolic link."""

    target: bytes


Tree: TypeAlias = "File | Link | dict[bytes, Tree]"

# Few names, so that trees resemble each other; bytes that sort differently as letters among them.
names = st.sampled_from([b"a", b"B", b"a.b", b"a-b", b"\xc3\xa9", b"\xff", b"entry", b")"])
files = st.builds(File, st.binary(max_size=20), st.booleans())
links = st.builds(Link, st.sampled_from([b"a", b"../a", b"/nowhere", b"\xff"]))
trees: st.SearchStrategy[Tree] = st.recursive(
    files | links, lambda inside: st.dictionaries(names, inside, max_size=4), max_leaves=12
)


@given(trees)
def test_reading_an_archive_gives_the_tree_back(tree: Tree) -> None:
    """Names, contents, executable bits and link targets all survive, in an archive that is whole."""
    with _planted(tree) as path:
        archive = b"".join(nar_chunks(path))

    assert _Reader(archive).tree() == tree


@given(trees, trees)
def test_two_trees_have_one_hash_exactly_when_they_are_equal(one: Tree, other: Tree) -> None:
    """Different trees never share a hash."""
    with _planted(one) as path, _planted(other) as other_path:
        assert (nar_hash(path) == nar_hash(other_path)) == (one == other)


@given(trees, st.randoms(use_true_random=False))
def test_order_of_creation_times_and_other_rights_do_not_change_the_hash(
    tree: Tree, chance: random.Random
) -> None:
    """Two copies made in another order, at another time, for other readers, have one hash."""
    with _planted(tree) as path, _planted(_shuffled(tree, chance)) as copy:
        for file in [copy, *copy.rglob("*")]:
            if not file.is_symlink():
                os.utime(file, (1, 1))
                file.chmod(file.stat().st_mode | 0o077)

        assert nar_hash(path) == nar_hash(copy)


@pytest.mark.skipif(shutil.which("nix-hash") is None, reason="nix-hash is not installed")
@given(trees)
def test_hashing_any_tree_agrees_with_nix(tree: Tree) -> None:
    """Where Nix is installed, it prints the same hash for the same tree."""
    with _planted(tree) as path:
        command = ["nix-hash", "--type", "sha256", "--base32", str(path)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout

        assert nar_hash(path) == printed.strip()


@given(st.binary(max_size=40))
def test_decoding_base32_gives_the_bytes_back(data: bytes) -> None:
    """The digits of the encoded bytes add up to the number that the bytes are."""
    number = 0
    for digit in nix_base32(data):
        number = number * 32 + BASE32_ALPHABET.index(digit)

    assert number.to_bytes(len(data), "little") == data


@contextmanager
def _planted(tree: Tree) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "tree")
        _plant(tree, path)
        yield path


def _plant(tree: Tree, path: Path) -> None:
    match tree:
        case Link(target):
            path.symlink_to(os.fsdecode(target))
        case File(contents, executable):
            path.write_bytes(contents)
            path.chmod(0o700 if executable else 0o600)
        case dict():
            path.mkdir()
            for name, inside in tree.items():
                _plant(inside, path / os.fsdecode(name))
        case _:
            assert_never(tree)


def _shuffled(tree: Tree, chance: random.Random) -> Tree:
    if not isinstance(tree, dict):
        return tree
    items = [(name, _shuffled(inside, chance)) for name, inside in tree.items()]
    chance.shuffle(items)
    return dict(items)


class _Reader:
    """Reads one archive, strictly: padding must be zero, names must ascend, nothing may be left."""

    def __init__(self, archive: bytes) -> None:
        self._rest = archive

    def tree(self) -> Tree:
        self._expect(b"nix-archive-1")
        tree = self._node()
        assert self._rest == b""
        return tree

    def _node(self) -> Tree:
        self._expect(b"(", b"type")
        kind = self._string()
        tree: Tree
        if kind == b"regular":
            tree = self._regular()
        elif kind == b"symlink":
            self._expect(b"target")
            tree = Link(self._string())
        else:
            assert kind == b"directory"
            return self._directory()
        self._expect(b")")
        return tree

    def _regular(self) -> File:
        token = self._string()
        executable = token == b"executable"
        if executable:
            self._expect(b"")
            token = self._string()
        assert token == b"contents"
        return File(self._string(), executable)

    def _directory(self) -> Tree:
        entries: dict[bytes, Tree] = {}
        while (token := self._string()) == b"entry":
            self._expect(b"(", b"name")
            name = self._string()
            assert not entries or name > max(entries)
            self._expect(b"node")
            entries[name] = self._node()
            self._expect(b")")
        assert token == b")"
        return entries

    def _expect(self, *tokens: bytes) -> None:
        for token in tokens:
            assert self._string() == token

    def _string(self) -> bytes:
        size = int.from_bytes(self._rest[:8], "little")
        end = 8 + size
        padded = end + -size % 8
        string, padding = self._rest[8:end], self._rest[end:padded]
        assert len(string) == size
        assert padding == bytes(-size % 8)
        self._rest = self._rest[padded:]
        return string
