"""Warnings about policies that are valid, and do less than they seem to. Pure."""

from collections.abc import Iterator
from typing import TypeAlias

from attrs import frozen

from nixfleet_proto.agent_event import OnHealthFailure, ProbeMode
from nixfleet_proto.health_check import HealthCheck, HomeProbe
from nixfleet_proto.policy import AtDeadline
from nixfleet_release.check.outlook import Course, course_of
from nixfleet_release.check.settings import settings_of
from nixfleet_release.written.declaration import FleetDeclaration
from nixfleet_runtime.documents.problems import at
from nixfleet_state_machine.scopes.setting import Setting


@frozen
class AttemptsAfterHalt:
    """A warning: hosts may try again, but no host of `channel` may fail, so the first failure halts."""

    policy_path: str
    attempts: int
    channel: str

    def __str__(self) -> str:
        return (
            f"{self.policy_path}.retry.attempts: {self.attempts}, but no host of channel {self.channel} may fail: the "
            "first failure halts the rollout, and attempts wait until an operator clears it; set max_failures or "
            "max_failure_pct"
        )


@frozen
class ToleratesNobody:
    """A warning: a share of a wave's `hosts` is less than one host, so none may fail."""

    path: str
    share: int
    hosts: int

    def __str__(self) -> str:
        return f"{self.path}: {self.share} % of {self.hosts} hosts is less than one, so no host may fail"


@frozen
class LoneHostSkipped:
    """A warning: the only host of a wave is skipped when it is off, and then nobody in the wave succeeded."""

    wave_path: str
    channel: str
    minutes: int

    def __str__(self) -> str:
        return (
            f"{self.wave_path}: its only host in channel {self.channel} is skipped if it is off for {self.minutes} "
            "minutes; then nobody in the wave succeeded, and the rollout halts"
        )


@frozen
class StaysCutOff:
    """A warning: hosts of `channel` look home after a switch, and their policy has them stay where they are."""

    policy_path: str
    channel: str
    host: str

    def __str__(self) -> str:
        return (
            f"{self.policy_path}.on_health_failure: halt, but hosts of channel {self.channel} ({self.host}) have a "
            "health check of kind home: one that its release cuts off fails and stays cut off; set rollback-and-halt"
        )


PolicyWarning: TypeAlias = AttemptsAfterHalt | ToleratesNobody | LoneHostSkipped | StaysCutOff


def cautions(fleet: FleetDeclaration) -> Iterator[PolicyWarning]:
    """Yield the warnings about the policies of a valid fleet, in the channels that use them."""
    checks = settings_of(fleet, None).health_checks
    for channel in sorted(fleet.channels):
        if fleet.enabled_hosts_of(channel):
            course = course_of(fleet, channel)
            yield from _attempts(course)
            yield from _shares(course)
            yield from _lone_hosts(course)
            yield from _cut_off(fleet, course, checks)


def _attempts(course: Course) -> Iterator[AttemptsAfterHalt]:
    attempts = course.policy.retry.attempts
    if attempts > 1 and not any(map(course.allowed_in, range(len(course.waves)))):
        yield AttemptsAfterHalt(course.policy_path, attempts, course.channel)


def _shares(course: Course) -> Iterator[ToleratesNobody]:
    for index, wave in enumerate(course.waves):
        share = wave.max_failure_pct
        if share is not None and wave.hosts and len(wave.hosts) * share < 100:
            path = at(course.wave_paths[index], "max_failure_pct")
            yield ToleratesNobody(path, share, len(wave.hosts))
    share, largest = course.policy.max_failure_pct, max(len(it.hosts) for it in course.waves)
    # Of every wave that says nothing: small ones are meant to tolerate nobody, but one should tolerate some.
    if share is not None and largest * share < 100:
        path = at(course.policy_path, "max_failure_pct")
        yield ToleratesNobody(path, share, largest)


def _cut_off(
    fleet: FleetDeclaration, course: Course, checks: Setting[HealthCheck]
) -> Iterator[StaysCutOff]:
    if course.policy.on_health_failure is not OnHealthFailure.HALT:
        return
    for hostname in sorted(fleet.enabled_hosts_of(course.channel)):
        own = checks.of(hostname, fleet.hosts[hostname]).values.values()
        if any(isinstance(it, HomeProbe) and it.mode is ProbeMode.ENFORCE for it in own):
            yield StaysCutOff(course.policy_path, course.channel, hostname)
            return


def _lone_hosts(course: Course) -> Iterator[LoneHostSkipped]:
    ack = course.policy.deadlines.ack
    if ack is None or ack.then is not AtDeadline.SKIP:
        return
    for index, wave in enumerate(course.waves):
        if len(wave.hosts) == 1:
            yield LoneHostSkipped(course.wave_paths[index], course.channel, ack.minutes)
