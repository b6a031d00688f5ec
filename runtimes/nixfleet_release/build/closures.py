"""Writes health checks into closures and computes closure names. For trees that have no closure name yet.

A closure's name is the hash of its tree, so the checks are written first, and signing the name covers them. A tree that
already has a closure name must not be passed: writing into it would make its name wrong.
Source: docs/spec/declarations.md, What signs what.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from nixfleet_proto.codec import HealthCheckSet, encode_health_checks
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import HEALTH_CHECKS_PATH
from nixfleet_release.build.store_paths import platform_problems
from nixfleet_release.check.checked import CheckedFleet
from nixfleet_release.errors import DeclarationError
from nixfleet_runtime.documents.problems import Problem, at, unknown
from nixfleet_runtime.process.progress import Noted, noting, unnoted
from nixfleet_runtime.releases.closure_tree import checked_closure_name


class LeadsOutside(NixfleetError):
    """`path` in a tree is a link to `target`, so a file written there would be outside of the tree."""

    def __init__(self, path: Path, target: Path) -> None:
        super().__init__(path, target)
        self.path = path
        self.target = target

    def __str__(self) -> str:
        return (
            f"{self.path}: expected a directory inside the closure, found a link to {self.target}; "
            f"copy the directory into the closure"
        )


def name_closures(
    checked: CheckedFleet, trees: Mapping[str, Path], noted: Noted = unnoted
) -> FrozenMap[str, str]:
    """Write each host's health checks into its tree, and return the closure names by host.

    The closure of a tree at `…/web` is called `{hash}-web`. Hosts may share a tree if their health
    checks are the same. noted: so many more trees were hashed.
    Raises: DeclarationError, LeadsOutside, OSError; UnfitClosure; InvalidClosureName, NotArchivable from the hashing.
    """
    _require_fit(checked, trees)
    hosts = {tree.resolve(): hostname for hostname, tree in sorted(trees.items())}
    for tree, hostname in hosts.items():
        render_health_checks(tree, checked.health_checks[hostname])
    hashed = noting(hosts, noted, every=1)
    names = {tree: checked_closure_name(tree, tree.name) for tree in hashed}
    return FrozenMap({hostname: names[tree.resolve()] for hostname, tree in trees.items()})


def add_closures(
    checked: CheckedFleet, trees: Mapping[str, Path], store: Path, noted: Noted = unnoted
) -> FrozenMap[str, str]:
    """As `name_closures`, for copies of the trees, which are added to `store` under their closure names.

    The trees themselves are not changed, so that they can be released again. Raises: as `name_closures`.
    """
    _require_fit(checked, trees)
    built = {tree.resolve() for tree in trees.values()}
    with tempfile.TemporaryDirectory(prefix=".adding-", dir=store) as beside:
        copies = {tree: Path(beside, str(at), tree.name) for at, tree in enumerate(sorted(built))}
        for tree, copy in copies.items():
            shutil.copytree(tree, copy, symlinks=True)
        copy_of = {hostname: copies[tree.resolve()] for hostname, tree in trees.items()}
        closures = name_closures(checked, copy_of, noted)
        names = {copy_of[hostname]: closure for hostname, closure in closures.items()}
        for copy, closure in names.items():
            if not (store / closure).exists():
                copy.rename(store / closure)
    return closures


def render_health_checks(tree: Path, checks: HealthCheckSet) -> Path:
    """Write `checks` to the path in a closure at which the agent reads them, and return that path.

    Raises: LeadsOutside, OSError.
    """
    file = tree / HEALTH_CHECKS_PATH
    for directory in _directories(tree):
        if directory.is_symlink():
            raise LeadsOutside(directory, directory.readlink())
        directory.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)  # a link is not followed
    file.write_bytes(encode_health_checks(checks))
    return file


def _directories(tree: Path) -> Iterator[Path]:
    directory = tree
    for part in Path(HEALTH_CHECKS_PATH).parent.parts:
        directory /= part
        yield directory


def _require_fit(checked: CheckedFleet, trees: Mapping[str, Path]) -> None:
    problems = tuple(_problems(checked, trees))
    if problems:
        raise DeclarationError(problems)


def _problems(checked: CheckedFleet, trees: Mapping[str, Path]) -> Iterator[Problem]:
    first_in: dict[Path, str] = {}
    for hostname, tree in sorted(trees.items()):
        path = at("closures", hostname)
        if hostname not in checked.health_checks:
            yield unknown(path, "host", hostname, checked.health_checks)
            continue
        yield from platform_problems(path, tree, hostname, checked)
        first = first_in.setdefault(tree.resolve(), hostname)
        if checked.health_checks[hostname] != checked.health_checks[first]:
            yield Problem(
                path,
                "shares a tree with a host that has other health checks",
                "a separate tree",
                f"{tree}, the tree of {first}",
            )
