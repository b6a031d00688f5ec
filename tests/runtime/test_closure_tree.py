"""Which trees may be closures: complete in themselves, and changed by nobody else."""

import os
from pathlib import Path

import pytest

from nixfleet_runtime.releases.closure_tree import (
    UnfitClosure,
    require_fit_closure,
    require_safe_store,
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with a file at `bin/run`, and an empty directory `etc/below`."""
    root = tmp_path / "tree"
    (root / "bin").mkdir(parents=True)
    (root / "etc" / "below").mkdir(parents=True)
    (root / "bin" / "run").write_text("#!/bin/sh\n")
    (root / "bin" / "run").chmod(0o755)
    return root


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("run", "bin/run"),
        ("etc/run", "../bin/run"),
        ("etc/below/root", "../.."),
        ("here", "."),
        ("dangling", "no/such/file"),
        ("loop", "loop"),
        ("etc/below/through", "../../etc/below/../../bin"),
    ],
)
def test_link_that_stays_inside_is_fit(tree: Path, link: str, target: str) -> None:
    """Where a link leads inside the tree does not matter, nor whether anything is there."""
    (tree / link).symlink_to(target)

    require_fit_closure(tree)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("etc/passwd", "/etc/passwd"),
        ("up", ".."),
        ("etc/below/up", "../../../x"),
        ("beside", "../tree/bin/run"),
        ("inside", "{tree}/bin/run"),
        ("etc/below/through", "../../here/../up/x"),
    ],
)
def test_link_that_leaves_the_tree_is_refused_by_name(tree: Path, link: str, target: str) -> None:
    """Also if it comes back: the tree has another name in a store."""
    (tree / "here").symlink_to(".")
    (tree / link).symlink_to(target.format(tree=tree))

    with pytest.raises(UnfitClosure, match=f"{link}: expected a link inside the closure"):
        require_fit_closure(tree)


def test_link_that_leaves_through_another_one_is_refused(tree: Path) -> None:
    """A link is judged by where the links on its way lead."""
    (tree / "etc" / "root").symlink_to("..")
    (tree / "out").symlink_to("etc/root/../x")

    with pytest.raises(UnfitClosure) as refused:
        require_fit_closure(tree)

    assert len(refused.value.problems) == 1
    assert refused.value.problems[0].startswith("out: ")


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o757, 0o666])
def test_file_with_a_dangerous_mode_is_refused_by_name(tree: Path, mode: int) -> None:
    """The hash does not cover these bits, and each lets another user decide what runs."""
    (tree / "bin" / "run").chmod(mode)

    with pytest.raises(UnfitClosure, match=f"bin/run: expected a mode without .* found {mode:04o}"):
        require_fit_closure(tree)


@pytest.mark.parametrize("place", [".", "etc", "etc/below"])
def test_directory_that_everybody_can_write_is_refused(tree: Path, place: str) -> None:
    """Files could be put there after the hash was checked."""
    (tree / place).chmod(0o1777)

    with pytest.raises(UnfitClosure, match="found 1777"):
        require_fit_closure(tree)


def test_directory_that_hands_its_group_on_is_fit(tree: Path) -> None:
    """A setgid directory, as shared file systems have, decides nothing."""
    (tree / "etc").chmod(0o2755)

    require_fit_closure(tree)


def test_all_problems_are_found_at_once(tree: Path) -> None:
    """The error has every entry that is unfit."""
    (tree / "bin" / "run").chmod(0o777)
    (tree / "etc" / "a").symlink_to("/a")
    (tree / "etc" / "b").symlink_to("/b")

    with pytest.raises(UnfitClosure) as refused:
        require_fit_closure(tree)

    assert sorted(problem.split(":")[0] for problem in refused.value.problems) == [
        "bin/run",
        "etc/a",
        "etc/b",
    ]


def test_name_that_is_no_text_is_shown(tree: Path) -> None:
    """A name of bytes that are no UTF-8 does not hide its problem."""
    (tree / os.fsdecode(b"\xff")).symlink_to("/etc")

    with pytest.raises(UnfitClosure, match="expected a link inside the closure"):
        require_fit_closure(tree)


def test_store_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    """Whoever can write the store can exchange a closure between its check and its activation."""
    require_safe_store(tmp_path)
    tmp_path.chmod(0o1777)

    with pytest.raises(UnfitClosure, match="not everybody can write, found mode 1777"):
        require_safe_store(tmp_path)
