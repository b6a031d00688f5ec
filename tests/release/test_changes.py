"""What a release changes, in words: each change of a fleet is told once, to whom it matters, and nothing else is."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import OnHealthFailure, ProbeMode
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.enrollment import BootstrapNonce, Revocation
from nixfleet_proto.fleet import (
    DisruptionBudget,
    Edge,
    FleetChannel,
    FleetHost,
    FleetResolved,
    Meta,
    OnDrift,
    PolicyWave,
    Ramp,
    RolloutPolicy,
    Selector,
    Wave,
)
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import ExecProbe, HealthCheck, TcpProbe
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, Retry
from nixfleet_release.build.project import project
from nixfleet_release.publish.changes import ReleaseContent, changes

NOW = datetime(2026, 5, 16, 1, tzinfo=UTC)
FLEET = FleetResolved(
    hosts=FrozenMap(
        {
            "web-01": FleetHost("stable", closure_hash="aaaaaaaaaa-web"),
            "web-02": FleetHost("stable", closure_hash="aaaaaaaaaa-web"),
        }
    ),
    channels=FrozenMap({"stable": FleetChannel("slow"), "edge": FleetChannel("slow")}),
    rollout_policies=FrozenMap({"slow": RolloutPolicy()}),
    waves=FrozenMap({"stable": (Wave(("web-01",), 5), Wave(("web-02",), 1))}),
    meta=Meta(NOW),
)


def said(
    fleet: FleetResolved = FLEET,
    ref: str = "r1",
    revocations: tuple[Revocation, ...] = (),
    nonces: tuple[BootstrapNonce, ...] = (),
) -> ReleaseContent:
    return ReleaseContent(
        fleet,
        {it.rollout_id: it for it in project(fleet, ref, "0" * 64)},
        {it.hostname: it for it in revocations},
        {it.nonce: it for it in nonces},
    )


def told(
    new: ReleaseContent, old: ReleaseContent | None = None, **checks: HealthCheckSet
) -> list[str]:
    """The lines, without their headings. checks: of closures by the first letter of their hash."""
    by_closure: Mapping[str, HealthCheckSet] = {f"{it * 10}-web": own for it, own in checks.items()}
    return [
        line.strip()
        for line in changes(old or said(), new, lambda it: by_closure.get(it))
        if line[0] == " "
    ]


def checks(**by_name: HealthCheck) -> HealthCheckSet:
    return FrozenMap(by_name)


def with_host(name: str, host: FleetHost | None) -> FleetResolved:
    hosts = {it: own for it, own in FLEET.hosts.items() if it != name}
    return evolve(FLEET, hosts=FrozenMap(hosts if host is None else {**hosts, name: host}))


def test_the_same_release_changes_nothing() -> None:
    """Signing again is no change to anybody."""
    assert changes(said(), said(evolve(FLEET, meta=Meta(NOW, "c0ffee"))), lambda _: None) == ()


def test_a_moving_channel_tells_who_moves_and_who_stays() -> None:
    """Closures are shortened; a host that keeps its own while the channel moves is told too."""
    moved = with_host("web-02", FleetHost("stable", closure_hash="bbbbbbbbbb-web"))

    assert told(said(moved, "r2"), a=FrozenMap(), b=FrozenMap()) == [
        "stable@r2 succeeds stable@r1",
        "web-01 keeps aaaaaaaa-web while stable moves",
        "web-02 moves from aaaaaaaa-web to bbbbbbbb-web",
    ]


def test_a_rollout_id_that_stays_with_other_content_is_warned_of() -> None:
    """It is refused; what differs is named."""
    moved = with_host("web-02", FleetHost("stable", closure_hash="bbbbbbbbbb-web"))

    first, *_ = told(said(moved))

    assert first == (
        "stable@r1 changes under the same ref in more than its hosts: targets['web-02']: expected 'aaaaaaaaaa-web', "
        "found 'bbbbbbbbbb-web'. It is refused: use another ref"
    )


def test_a_rollout_id_that_stays_with_other_hosts_tells_who_joins_and_who_leaves() -> None:
    """By wave, for a new host may be late there."""
    other = evolve(
        FLEET,
        hosts=FrozenMap(
            {
                "web-01": FLEET.hosts["web-01"],
                "web-03": FleetHost("stable", closure_hash="aaaaaaaaaa-web"),
            }
        ),
        waves=FrozenMap({"stable": (Wave(("web-01",), 5), Wave(("web-03",), 1))}),
    )

    assert told(said(other))[:2] == [
        "stable@r1 is amended: wave 1 is joined by web-03",
        "stable@r1 is amended: it is left by web-02",
    ]


@pytest.mark.parametrize(
    ("fleet", "line"),
    [
        (
            with_host("web-02", None),
            "web-02 is removed: it keeps its closure and gets no more dispatches",
        ),
        (
            with_host("web-03", FleetHost("stable", closure_hash="cccccccccc-web")),
            "web-03 is added to channel stable with cccccccc-web",
        ),
        (
            with_host("web-02", FleetHost("edge", closure_hash="aaaaaaaaaa-web")),
            "web-02 changes from channel stable to edge",
        ),
        (
            with_host("web-02", FleetHost("stable", closure_hash="aaaaaaaaaa-web", pubkey="ab")),
            "web-02 has another public key",
        ),
        (
            evolve(FLEET, waves=FrozenMap({"stable": (Wave(("web-01", "web-02"), 9),)})),
            "stable, wave 0: web-01, web-02, soak 9 min; before: web-01, soak 5 min",
        ),
        (
            evolve(FLEET, waves=FrozenMap({"stable": (Wave(("web-01", "web-02"), 9),)})),
            "stable, wave 1: none; before: web-02, soak 1 min",
        ),
        (
            evolve(
                FLEET,
                rollout_policies=FrozenMap(
                    {"slow": RolloutPolicy(OnHealthFailure.ROLLBACK_AND_HALT)}
                ),
            ),
            "slow: on failure rollback-and-halt instead of halt",
        ),
        *(
            (evolve(FLEET, rollout_policies=FrozenMap({"slow": policy})), line)
            for policy, line in (
                (
                    RolloutPolicy(max_failures=2, max_failure_pct=5),
                    "slow: hosts of a wave that may fail 2 and 5 % instead of none",
                ),
                (
                    RolloutPolicy(deadlines=Deadlines(ack=Deadline(30, AtDeadline.SKIP))),
                    "slow: deadlines ack 30 min then skip instead of none",
                ),
                (
                    RolloutPolicy(deadlines=Deadlines(reboot=Deadline(9, AtDeadline.WAIT))),
                    "slow: deadlines reboot 9 min then wait instead of none",
                ),
                (
                    RolloutPolicy(retry=Retry(3, 120, 4)),
                    "slow: attempts 3, the second 120 s after a failure, each wait 4 times the last instead of 1",
                ),
                (
                    RolloutPolicy(waves=(PolicyWave(Selector(all=True), 5),)),
                    "slow has other waves",
                ),
            )
        ),
        (
            evolve(
                FLEET,
                waves=FrozenMap({"stable": (Wave(("web-01", "web-02"), 5, max_failures=1),)}),
            ),
            "stable, wave 0: web-01, web-02, soak 5 min, 1 may fail; before: web-01, soak 5 min",
        ),
        (
            evolve(FLEET, waves=FrozenMap({"stable": (Wave(("web-01", "web-02"), 5),)})),
            "stable: at worst 2 of 2 hosts: 0 tolerated + 2 in flight; before: 1 of 2",
        ),
        (
            evolve(
                FLEET,
                channels=FrozenMap(
                    {
                        "stable": FleetChannel("slow", on_drift=OnDrift.RESTORE),
                        "edge": FleetChannel("slow"),
                    }
                ),
            ),
            "stable: on drift restore instead of report",
        ),
        (
            evolve(
                FLEET,
                channels=FrozenMap({"stable": FleetChannel("fast"), "edge": FleetChannel("slow")}),
                rollout_policies=FrozenMap({"slow": RolloutPolicy(), "fast": RolloutPolicy()}),
            ),
            "stable uses policy fast instead of slow",
        ),
        (evolve(FLEET, edges=(Edge("web-01", "web-02"),)), "web-01 before web-02: new"),
        (
            evolve(FLEET, disruption_budgets=(DisruptionBudget(Selector(all=True), 1, 50),)),
            "in flight of all: 1 and 50 % instead of no limit",
        ),
        (
            evolve(
                FLEET,
                disruption_budgets=(
                    DisruptionBudget(Selector(all=True), 2, None, Ramp(1), max_per_minute=3),
                ),
            ),
            "in flight of all: 2, growing from 1 by a factor of 2, 3 a minute instead of no limit",
        ),
        (
            evolve(FLEET, disruption_budgets=(DisruptionBudget(Selector(all=True), ramp=Ramp(1)),)),
            "in flight of all: any number, growing from 1 by a factor of 2 instead of no limit",
        ),
    ],
)
def test_each_change_of_a_fleet_is_told(fleet: FleetResolved, line: str) -> None:
    """Hosts that come, go or change, waves, policies, orders and limits; and back again is told as well."""
    assert line in told(said(fleet))
    assert told(said(), said(fleet)) != []


def test_a_channel_without_a_rollout_any_more_is_told() -> None:
    """Its last rollout goes on; nothing follows it."""
    gone = evolve(FLEET, hosts=FrozenMap({}))

    assert "stable@r1 is removed: an open rollout continues, and none follows" in told(said(gone))
    assert "stable@r1 is the first rollout of channel stable" in told(said(), said(gone))


def test_probes_are_compared_where_the_closures_are_here() -> None:
    """New, gone, stricter and different checks are told by host; what cannot be looked into is named."""
    moved = with_host("web-02", FleetHost("stable", closure_hash="bbbbbbbbbb-web"))
    before = checks(up=ExecProbe(("true",)), port=TcpProbe("::1", 80), old=ExecProbe(("true",)))
    after = checks(
        up=ExecProbe(("true",), mode=ProbeMode.OBSERVE),
        port=TcpProbe("::1", 81),
        new=ExecProbe(("true",)),
    )

    assert told(said(moved, "r2"), a=before, b=after)[-4:] == [
        "web-02: new (exec, enforce) is new",
        "web-02: old is removed",
        "web-02: port (tcp, enforce) is changed",
        "web-02: up is observe instead of enforce",
    ]
    assert told(said(moved, "r2"), a=before)[-1] == (
        "not compared, because the closures are not on this machine: web-02"
    )


def test_revocations_and_nonces_are_told_with_their_times() -> None:
    """Who is kept out, who is let in, and who is not any more."""
    lists = said(
        revocations=(Revocation("web-01", NOW, "disk stolen"),),
        nonces=(BootstrapNonce("n-1", "web-03", NOW),),
    )

    assert told(lists) == [
        "web-01 is revoked until it enrolls at or after 2026-05-16T01:00:00Z (disk stolen)",
        "web-03 can enroll with nonce n-1 until 2026-05-16T01:00:00Z",
    ]
    assert told(said(), lists) == [
        "web-01 is no longer revoked: its enrolled key is valid again",
        "web-03 can no longer enroll with nonce n-1",
    ]
