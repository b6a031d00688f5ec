"""Rules about values: numbers within limits, and complete selectors, budgets and health checks."""

import re
from collections.abc import Collection, Iterator
from typing import assert_never
from urllib.parse import urlsplit

from nixfleet_proto.fleet import FleetChannel
from nixfleet_proto.health_check import (
    EvidenceProbe,
    ExecProbe,
    HealthCheck,
    HomeProbe,
    HttpProbe,
    SystemdProbe,
    TcpProbe,
    address_of,
    healthy_objection,
)
from nixfleet_release.check.rules import names
from nixfleet_release.check.rules.names import scope_path, wave_path
from nixfleet_release.written.declaration import (
    BudgetDeclaration,
    FleetDeclaration,
    PolicyDeclaration,
    WaveDeclaration,
)
from nixfleet_runtime.documents.problems import Problem, at, is_touched, quoted
from nixfleet_state_machine.scopes.normal_form import TooManyClauses, normal_form

_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9._-]+)?")


def channels(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse intervals below 1, and freshness windows that end before artefacts are signed again."""
    for name, channel in fleet.channels.items():
        yield from _channel(at("channels", name), channel, broken)


def waves(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse negative soaks, and limits and tolerances that no number of hosts, or share of them, can have."""
    for name, policy in fleet.policies.items():
        yield from _tolerance(at("policies", name), policy)
        for index, wave in enumerate(policy.waves):
            path = wave_path(name, index)
            yield from _within(path, "soak_minutes", wave.soak_minutes, 0)
            yield from _tolerance(path, wave)
            if wave.limit is None:
                continue
            if wave.is_rest:
                yield Problem(
                    at(path, "limit"),
                    "a limit on the rest, which would leave hosts in no wave",
                    'no limit, or selector = "all" in place of the rest',
                    str(wave.limit),
                )
            elif wave.limit.is_pct and not 1 <= wave.limit.amount <= 100:
                expected = "1% to 100%"
                yield Problem(at(path, "limit"), "out of range", expected, str(wave.limit))
            elif not wave.limit.is_pct:
                yield from _within(path, "limit", wave.limit.amount, 1)


def soaks(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse soaks longer than the freshness window of a channel that uses the policy.

    A release that is signed once would be refused by every later wave.
    """
    for channel, declared in sorted(fleet.channels.items()):
        window_path = at(at("channels", channel), "freshness_window_minutes")
        policy = fleet.policies.get(declared.rollout_policy)
        for index, wave in enumerate(() if policy is None else policy.waves):
            path = at(wave_path(declared.rollout_policy, index), "soak_minutes")
            if wave.soak_minutes > declared.freshness_window and not {path, window_path} & {
                *broken
            }:
                yield Problem(
                    path,
                    "longer than a signature is accepted, so later waves would refuse the release",
                    f"at most {declared.freshness_window}, the freshness_window_minutes of channel {channel}",
                    str(wave.soak_minutes),
                )


def selectors(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse selectors that select no host in any fleet, and those with too many clauses."""
    for path, selector in names.selectors(fleet):
        if is_touched(path, broken):
            continue
        try:
            form = normal_form(selector.expression)
        except TooManyClauses as error:
            expected = f"at most {error.limit} clauses"
            yield Problem(path, "too complex", expected, "more")
            continue
        if form.is_nobody:
            expected = "parts that a host can satisfy together"
            yield Problem(path, "selects no host", expected, "contradictions, or no parts")


def budgets(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse budgets with a limit of 0, or without a limit and a pace."""
    for index, budget in enumerate(fleet.budgets):
        yield from _budget(at("budgets", index), budget)


def health_checks(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse health checks that cannot run."""
    for scope, checks in fleet.health_checks.items():
        for name, check in checks.items():
            path = at(at(scope_path(scope), "health_checks"), name)
            yield from _within(path, "interval_seconds", check.interval_seconds, 1)
            yield from _health_check(path, check)
            objection = healthy_objection(check)
            if objection is not None:
                yield Problem(at(path, "healthy"), "not a rule for this check", *objection)


def frameworks(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse frameworks whose evidence cannot be read."""
    for channel, declared in fleet.frameworks.items():
        for name, framework in declared.items():
            path = at(at(at("channels", channel), "compliance"), name)
            yield from _within(path, "interval_seconds", framework.interval_seconds, 1)
            yield from _within(path, "max_age_secs", framework.max_age_secs, 1)
            yield from _absolute(path, framework.evidence_path)


def _channel(path: str, channel: FleetChannel, broken: Collection[str]) -> Iterator[Problem]:
    signing, freshness = channel.signing_interval_minutes, channel.freshness_window
    yield from _within(path, "signing_interval_minutes", signing, 1)
    if freshness < 2 * max(signing, 1) and at(path, "signing_interval_minutes") not in broken:
        yield Problem(
            at(path, "freshness_window_minutes"),
            "artefacts would expire before they are signed again",
            f"at least {2 * max(signing, 1)}, twice signing_interval_minutes",
            str(freshness),
        )


def _tolerance(path: str, of: PolicyDeclaration | WaveDeclaration) -> Iterator[Problem]:
    if of.max_failures is not None:
        yield from _within(path, "max_failures", of.max_failures, 0)
    if of.max_failure_pct is not None:
        yield from _within(path, "max_failure_pct", of.max_failure_pct, 1, 100)


def _budget(path: str, budget: BudgetDeclaration) -> Iterator[Problem]:
    limit, share = budget.max_in_flight, budget.max_in_flight_pct
    pace = budget.max_per_minute
    if limit is None and share is None and pace is None and budget.ramp is None:
        expected = "max_in_flight, max_in_flight_pct, ramp or max_per_minute"
        yield Problem(path, "no limit", expected, "none of them")
    if pace is not None:
        yield from _within(path, "max_per_minute", pace, 1)
    if limit is not None:
        yield from _within(path, "max_in_flight", limit, 1)
    if share is not None:
        yield from _within(path, "max_in_flight_pct", share, 1, 100)


def _health_check(path: str, check: HealthCheck) -> Iterator[Problem]:
    match check:
        case HttpProbe():
            if not _is_url(check.url):
                expected = "an http or https URL such as http://127.0.0.1:8080/healthz"
                yield Problem(at(path, "url"), "not a URL", expected, quoted(check.url))
            yield from _within(path, "expect_status", check.expect_status, 100, 599)
            yield from _within(path, "timeout_secs", check.timeout_secs, 1)
        case TcpProbe():
            if not _HOST.fullmatch(check.host):
                expected = "the name or address of a host"
                yield Problem(at(path, "host"), "not a host", expected, quoted(check.host))
            yield from _within(path, "port", check.port, 1, 65535)
            yield from _within(path, "connect_timeout_secs", check.connect_timeout_secs, 1)
        case ExecProbe():
            if not any(check.command[:1]):
                yield Problem(
                    at(path, "command"), "has no program", "a program, then its arguments", "none"
                )
            yield from _within(path, "expect_exit_code", check.expect_exit_code, 0, 255)
            yield from _within(path, "timeout_secs", check.timeout_secs, 1)
        case EvidenceProbe():
            yield from _within(path, "max_age_secs", check.max_age_secs, 1)
            yield from _absolute(path, check.evidence_path)
        case SystemdProbe():
            yield from _within(path, "max_failed_units", check.max_failed_units, 0)
            yield from _within(path, "timeout_secs", check.timeout_secs, 1)
        case HomeProbe():
            yield from _home(path, check)
        case _:
            assert_never(check)


def _home(path: str, check: HomeProbe) -> Iterator[Problem]:
    # Heartbeats and polls come once a minute, so a shorter silence says nothing.
    yield from _within(path, "max_silence_secs", check.max_silence_secs, 120)
    yield from _within(path, "connect_timeout_secs", check.connect_timeout_secs, 1)
    if check.run_once:
        expected = "false, as a host may be cut off at any time of its soak"
        yield Problem(at(path, "run_once"), "not for this kind", expected, "true")
    second = None if check.second_address is None else address_of(check.second_address)
    if check.second_address is not None and (second is None or not _HOST.fullmatch(second[0])):
        expected = "HOST:PORT, such as gateway.example.org:443"
        found = quoted(check.second_address)
        yield Problem(at(path, "second_address"), "not an address", expected, found)


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        is_port = url.port is None or url.port > 0
    except ValueError:  # an invalid port, or unbalanced brackets
        return False
    host = url.hostname or ""
    return url.scheme in ("http", "https") and is_port and _HOST.fullmatch(host) is not None


def _absolute(path: str, evidence_path: str) -> Iterator[Problem]:
    if not evidence_path.startswith("/"):
        yield Problem(
            at(path, "evidence_path"),
            "not an absolute path",
            "a path that begins with /",
            quoted(evidence_path),
        )


def _within(
    path: str, key: str, value: int, low: int, high: int | None = None
) -> Iterator[Problem]:
    if value < low or (high is not None and value > high):
        expected = f"at least {low}" if high is None else f"{low} to {high}"
        yield Problem(at(path, key), "out of range", expected, str(value))
