"""From a written declaration to one that is known to be good, or to every problem it has.

Reads files; everything that is decided about them is decided by pure functions.
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
from nixfleet_runtime.documents.problems import SAID_TWICE, Problem
from nixfleet_state_machine.scopes.merge import Merged, Scope, Winner


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
class ExpiredPin:
    """A warning: the pin of `scope` counts no more."""

    scope: Scope
    pin: Pin

    def __str__(self) -> str:
        return f"the pin of {self.scope} to {self.pin.commit} expired at {self.pin.expires_at}, and counts no more"


@frozen
class CheckedFleet:
    """A declaration in which no problem was found; `check` and `check_declaration` make them.

    health_checks: by host, what its scopes come to. pins: by host, for those that have one.
    """

    declaration: FleetDeclaration
    health_checks: FrozenMap[str, HealthCheckSet]
    pins: FrozenMap[str, Winner[Pin]]
    settings: Settings = field(eq=False)  # it follows from the declaration
    warnings: tuple[Shadowing | ExpiredPin, ...] = ()


def check(path: Path, *, now: datetime | None = None) -> CheckedFleet:
    """Return the fleet that a TOML file, or a directory of them, declares.

    now: pins that have expired by then count no more; with `None`, all count.
    Raises: DeclarationError, with every problem.
    """
    return check_written(read_document(path), now=now)


def check_written(written: Written, *, now: datetime | None = None) -> CheckedFleet:
    """Return the fleet that is declared by what was written, wherever. Raises: as `check`."""
    parsed = parse(written.content)
    # Of what is said twice, the first is there to be judged.
    misread = {it.path for it in written.problems if it.message != SAID_TWICE}
    problems = [it for it in parsed.problems if it.path not in misread]
    if written.is_whole:
        problems += validate(parsed.declaration, parsed.unusable | misread, now)
    found = (*written.problems, *problems)
    return _merged(parsed.declaration, tuple(map(written.places.located, found)), now)


def check_declaration(
    declaration: FleetDeclaration, *, now: datetime | None = None
) -> CheckedFleet:
    """Return the fleet of a declaration that was made in Python. Raises: as `check`."""
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
