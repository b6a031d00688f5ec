"""From a written declaration to one that is known to be good, or to every problem it has.

Reads files; everything that is decided about them is decided by pure functions.
"""

from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import HealthCheck
from nixfleet_release.declaration import FleetDeclaration
from nixfleet_release.documents import Written, read_document
from nixfleet_release.errors import DeclarationError
from nixfleet_release.toml import parse
from nixfleet_release.validate import validate
from nixfleet_runtime.problems import Problem
from nixfleet_state_machine.scopes.merge import Merged, Scope, layers_of, merge


@frozen
class Shadowing:
    """A warning: on one host, a health check of `scope` stands for those of less specific scopes."""

    hostname: str
    health_check: str
    scope: Scope
    shadowed: tuple[Scope, ...]

    def __str__(self) -> str:
        shadowed = ", ".join(map(str, self.shadowed))
        return f"{self.hostname}: health check {self.health_check} of {self.scope} shadows that of {shadowed}"


@frozen
class CheckedFleet:
    """A declaration in which no problem was found; `check` and `check_declaration` make them.

    health_checks: by host, what its scopes come to.
    """

    declaration: FleetDeclaration
    health_checks: FrozenMap[str, HealthCheckSet]
    warnings: tuple[Shadowing, ...] = ()


def check(path: Path) -> CheckedFleet:
    """Return the fleet that a TOML file, or a directory of them, declares.

    Raises: DeclarationError, with every problem.
    """
    return check_written(read_document(path))


def check_written(written: Written) -> CheckedFleet:
    """Return the fleet that is declared by what was written, wherever. Raises: as `check`."""
    parsed = parse(written.content)
    misread = {problem.path for problem in written.problems}
    problems = [it for it in parsed.problems if it.path not in misread]
    if written.is_whole:
        problems += validate(parsed.declaration, parsed.unusable | misread)
    found = (*written.problems, *problems)
    return _merged(parsed.declaration, tuple(map(written.places.located, found)))


def check_declaration(declaration: FleetDeclaration) -> CheckedFleet:
    """Return the fleet of a declaration that was made in Python. Raises: as `check`."""
    return _merged(declaration, validate(declaration))


def _merged(declaration: FleetDeclaration, problems: tuple[Problem, ...]) -> CheckedFleet:
    if problems:
        raise DeclarationError(problems)
    merged = {
        hostname: merge(layers_of(hostname, host, declaration.health_checks))
        for hostname, host in sorted(declaration.hosts.items())
    }
    return CheckedFleet(
        declaration,
        FrozenMap({hostname: checks.values for hostname, checks in merged.items()}),
        tuple(it for hostname, checks in merged.items() for it in _shadowings(hostname, checks)),
    )


def _shadowings(hostname: str, checks: Merged[HealthCheck]) -> Iterator[Shadowing]:
    for name, winner in checks.winners.items():
        if winner.shadowed:
            shadowed = tuple(declared.scope for declared in winner.shadowed)
            yield Shadowing(hostname, name, winner.scope, shadowed)
