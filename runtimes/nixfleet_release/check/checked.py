"""Checks a written declaration: returns a checked fleet, or raises every problem.

Reads files; all checks are pure functions.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from attrs import field, frozen

from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import HealthCheck
from nixfleet_release.check.settings import Settings, settings_of
from nixfleet_release.check.validate import validate
from nixfleet_release.errors import DeclarationError
from nixfleet_release.written.declaration import FleetDeclaration, Pin
from nixfleet_release.written.files import Written, read_document
from nixfleet_release.written.toml_reader import parse
from nixfleet_runtime.documents.problems import DUPLICATE, Problem
from nixfleet_state_machine.scopes.merge import Merged, Scope, Winner


@frozen
class Shadowing:
    """A warning: on one host, a health check of `scope` overrides those of less specific scopes."""

    hostname: str
    health_check: str
    scope: Scope
    shadowed: tuple[Scope, ...]

    def __str__(self) -> str:
        shadowed = ", ".join(map(str, self.shadowed))
        return f"{self.hostname}: health check {self.health_check} of {self.scope} shadows that of {shadowed}"


@frozen
class ExpiredPin:
    """A warning: the pin of `scope` has expired."""

    scope: Scope
    pin: Pin

    def __str__(self) -> str:
        return f"the pin of {self.scope} to {self.pin.commit} expired at {self.pin.expires_at} and is ignored"


@frozen
class CheckedFleet:
    """A declaration without problems. Created by `check` and `check_declaration`.

    health_checks: merged from the scopes, by host. pins: by host, for the hosts that have one.
    """

    declaration: FleetDeclaration
    health_checks: FrozenMap[str, HealthCheckSet]
    pins: FrozenMap[str, Winner[Pin]]
    settings: Settings = field(eq=False)  # derived from the declaration
    warnings: tuple[Shadowing | ExpiredPin, ...] = ()


def check(path: Path, *, now: datetime | None = None) -> CheckedFleet:
    """Return the checked fleet of the TOML file or directory at `path`.

    now: pins that have expired by then are ignored; `None`: all pins are in effect.
    Raises: DeclarationError, with every problem.
    """
    return check_written(read_document(path), now=now)


def check_written(written: Written, *, now: datetime | None = None) -> CheckedFleet:
    """Return the checked fleet of a declaration from any source. Raises: as `check`."""
    parsed = parse(written.content)
    # Of duplicates, the first one was read and can be checked.
    misread = {problem.path for problem in written.problems if problem.message != DUPLICATE}
    problems = [problem for problem in parsed.problems if problem.path not in misread]
    if written.is_whole:
        problems += validate(parsed.declaration, parsed.unusable | misread, now)
    found = (*written.problems, *problems)
    return _merged(parsed.declaration, tuple(map(written.places.located, found)), now)


def check_declaration(
    declaration: FleetDeclaration, *, now: datetime | None = None
) -> CheckedFleet:
    """Return the checked fleet of a declaration made in Python. Raises: as `check`."""
    return _merged(declaration, validate(declaration, now=now), now)


def _merged(
    declaration: FleetDeclaration, problems: tuple[Problem, ...], now: datetime | None
) -> CheckedFleet:
    if problems:
        raise DeclarationError(problems)
    settings = settings_of(declaration, now)
    hosts = sorted(declaration.hosts.items())
    checks = {hostname: settings.health_checks.of(hostname, host) for hostname, host in hosts}
    pins = {hostname: settings.pins.of(hostname, host).winners.get("") for hostname, host in hosts}
    return CheckedFleet(
        declaration,
        FrozenMap({hostname: merged.values for hostname, merged in checks.items()}),
        FrozenMap({hostname: pin for hostname, pin in pins.items() if pin is not None}),
        settings,
        (*_shadowings(checks), *_expired(declaration, now)),
    )


def _shadowings(checks: Mapping[str, Merged[HealthCheck]]) -> Iterator[Shadowing]:
    for hostname, merged in checks.items():
        for name, winner in merged.winners.items():
            if winner.shadowed:
                shadowed = tuple(declared.scope for declared in winner.shadowed)
                yield Shadowing(hostname, name, winner.scope, shadowed)


def _expired(declaration: FleetDeclaration, now: datetime | None) -> Iterator[ExpiredPin]:
    for scope in sorted(declaration.pins, key=str):
        for pin in declaration.pins[scope].values():
            if pin.is_expired(now):
                yield ExpiredPin(scope, pin)
