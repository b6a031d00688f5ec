"""Checks a written declaration: returns a checked fleet, or raises every problem.

Reads files; all checks are pure functions.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from attrs import evolve, field, frozen

from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.fleet import Edge
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import ExecProbe, HealthCheck, HttpProbe
from nixfleet_release.check.calendar_cautions import CalendarWarning, calendar_cautions
from nixfleet_release.check.cautions import PolicyWarning, cautions
from nixfleet_release.check.settings import Settings, settings_of
from nixfleet_release.check.validate import validate
from nixfleet_release.errors import DeclarationError
from nixfleet_release.written.declaration import FleetDeclaration, Pin
from nixfleet_release.written.files import Written
from nixfleet_release.written.layers import read_document
from nixfleet_release.written.toml_reader import parse
from nixfleet_runtime.documents.problems import DUPLICATE, Problem
from nixfleet_runtime.kernel.redacted import redacted
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
class PossibleSecret:
    """A warning: a health check holds what looks like a secret; closures and failures would show it."""

    scope: Scope
    health_check: str
    field: str

    def __str__(self) -> str:
        return (
            f"{self.field} of the health check {self.health_check} of {self.scope} seems to hold a secret; every "
            "host's closure shows it: let a program on the host read it from a file"
        )


@frozen
class EdgeWithoutEffect:
    """A warning: `gated` does not wait, since the host or channel `gates` is disabled."""

    edge: Edge

    def __str__(self) -> str:
        return (
            f"{self.edge.gated} does not wait for {self.edge.gates}, which is disabled: the edge has no effect until "
            f"{self.edge.gates} is enabled"
        )


@frozen
class NothingToRelease:
    """A warning: no host of `channel` is enabled."""

    channel: str

    def __str__(self) -> str:
        return f"channel {self.channel} has no enabled host: nothing is released for it"


FleetWarning: TypeAlias = (
    Shadowing
    | ExpiredPin
    | PossibleSecret
    | EdgeWithoutEffect
    | NothingToRelease
    | PolicyWarning
    | CalendarWarning
)


@frozen
class CheckedFleet:
    """A declaration without problems. Created by `check` and `check_declaration`.

    health_checks: merged from the scopes, by host. pins: by host, for the hosts that have one. written: the document
    that it was read from; `None` for a declaration that was made of records.
    """

    declaration: FleetDeclaration
    health_checks: FrozenMap[str, HealthCheckSet]
    pins: FrozenMap[str, Winner[Pin]]
    settings: Settings = field(eq=False)  # derived from the declaration
    warnings: tuple[FleetWarning, ...] = ()
    written: Written | None = field(default=None, eq=False, repr=False)


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
    checked = _merged(parsed.declaration, tuple(map(written.places.located, found)), now)
    return evolve(checked, written=written)


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
        (
            *_shadowings(checks),
            *_expired(declaration, now),
            *_secrets(declaration),
            *_disabled(declaration),
            *cautions(declaration),
            *calendar_cautions(declaration, now),
        ),
    )


def _shadowings(checks: Mapping[str, Merged[HealthCheck]]) -> Iterator[Shadowing]:
    for hostname, merged in checks.items():
        for name, winner in merged.winners.items():
            if winner.shadowed:
                shadowed = tuple(declared.scope for declared in winner.shadowed)
                yield Shadowing(hostname, name, winner.scope, shadowed)


def _secrets(declaration: FleetDeclaration) -> Iterator[PossibleSecret]:
    for scope in sorted(declaration.health_checks, key=str):
        for name, check in declaration.health_checks[scope].items():
            match check:
                case HttpProbe():
                    texts = {"url": check.url, "body_contains": check.body_contains or ""}
                case ExecProbe():
                    texts = {"command": " ".join(check.command)}
                case _:
                    texts = {}
            yield from (
                PossibleSecret(scope, name, field)
                for field, text in texts.items()
                if redacted(text) != text
            )


def _disabled(fleet: FleetDeclaration) -> Iterator[EdgeWithoutEffect | NothingToRelease]:
    for edge in fleet.edges:
        if fleet.is_disabled(edge.gates) and not fleet.is_disabled(edge.gated):
            yield EdgeWithoutEffect(edge)
    for edge in fleet.channel_edges:
        if fleet.channels[edge.gated].enabled and not fleet.channels[edge.gates].enabled:
            yield EdgeWithoutEffect(edge)
    for name, channel in sorted(fleet.channels.items()):
        if channel.enabled and not fleet.enabled_hosts_of(name):
            yield NothingToRelease(name)


def _expired(declaration: FleetDeclaration, now: datetime | None) -> Iterator[ExpiredPin]:
    for scope in sorted(declaration.pins, key=str):
        for pin in declaration.pins[scope].values():
            if pin.is_expired(now):
                yield ExpiredPin(scope, pin)
