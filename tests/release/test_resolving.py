"""What a good declaration comes to: scopes merged, waves by name, one manifest per channel."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.codec import decode_fleet, decode_manifest, encode_fleet, encode_manifest
from nixfleet_proto.fleet import (
    DisruptionBudget,
    Edge,
    FleetResolved,
    Meta,
    PolicyWave,
    Selector,
    Wave,
)
from nixfleet_proto.health_check import ExecProbe
from nixfleet_proto.ids import InvalidRolloutId
from nixfleet_proto.manifest import HostAssignment, ManifestBudget
from nixfleet_release import CheckedFleet, DeclarationError
from nixfleet_release.build.project import project, project_channel
from nixfleet_release.build.resolve import resolve
from nixfleet_state_machine.planner.terms import RolloutTerms

Checked = Callable[[str], CheckedFleet]

META = Meta(signed_at=datetime(2026, 5, 16, 1, tzinfo=UTC), ci_commit="a1b2c3")
FLEET_HASH = "0" * 64

OFFICE = """
[hosts.office-01]
channel = "office"
tags = ["canary"]
[channels.office]
policy = "plain"
[policies.plain]
on_health_failure = "rollback-and-halt"
"""


def resolved(checked: CheckedFleet) -> FleetResolved:
    return resolve(checked, {name: f"closure-{name}" for name in checked.declaration.hosts}, META)


def test_waves_are_resolved_to_hosts_by_name(checked: Checked, shop: str) -> None:
    """A wave of the rest has the hosts of no other wave, whatever its place."""
    assert resolved(checked(shop)).waves == {
        "stable": (Wave(("web-01",), 5), Wave(("db-01", "web-02"), 0))
    }


def test_the_earliest_time_of_a_wave_is_signed(checked: Checked, shop: str) -> None:
    """In UTC, in the fleet and in the manifest; without any, both have the bytes of earlier versions."""
    before = encode_manifest(project_channel(resolved(checked(shop)), "stable", "a1b2", FLEET_HASH))
    assert b"otBefore" not in before
    timed = shop + "not_before = 2026-06-01T08:00:00+02:00\n"

    fleet = resolved(checked(timed))
    manifest = project_channel(fleet, "stable", "a1b2", FLEET_HASH)

    begins = datetime(2026, 6, 1, 6, tzinfo=UTC)
    assert manifest.wave_not_before == (None, begins)
    assert (manifest.not_before_of("web-01"), manifest.not_before_of("db-01")) == (None, begins)
    assert b'"waveNotBefore":[null,"2026-06-01T06:00:00Z"]' in encode_manifest(manifest)
    assert decode_manifest(encode_manifest(manifest)) == manifest
    assert decode_fleet(encode_fleet(fleet)) == fleet


def test_the_rest_may_come_first(checked: Checked, shop: str) -> None:
    """The order of waves is that of the policy; the rest need not be last."""
    rest = "[[policies.canary-first.waves]]\nrest = true\n"
    rest_first = rest + shop.removesuffix(rest)

    waves = resolved(checked(rest_first)).waves["stable"]

    assert waves == (Wave(("db-01", "web-02"), 0), Wave(("web-01",), 5))


def test_a_policy_without_waves_is_one_wave_of_all_hosts(checked: Checked, shop: str) -> None:
    """A channel under such a policy moves at once, and its manifest has one soak time."""
    fleet = resolved(checked(shop + OFFICE))

    assert fleet.waves["office"] == (Wave(("office-01",), 0),)
    assert fleet.rollout_policies["plain"].strategy == "all-at-once"
    assert project_channel(fleet, "office", "a1b2", FLEET_HASH).wave_soak_minutes == (0,)


def test_the_rest_is_given_by_name_in_the_resolved_policy(checked: Checked, shop: str) -> None:
    """A resolved selector means exactly those that were the rest, and no canary."""
    policy = resolved(checked(shop + OFFICE)).rollout_policies["canary-first"]

    assert policy.strategy == "waves"
    assert policy.on_health_failure is OnHealthFailure.HALT
    assert policy.waves == (
        PolicyWave(Selector(tags=("canary",)), 5),
        PolicyWave(Selector(hosts=("db-01", "web-02")), 0),
    )


def test_sets_are_resolved_in_one_order(checked: Checked, shop: str) -> None:
    """Tags, edges, budgets and the names in selectors are sorted, and each is there once."""
    fleet = resolved(
        checked(
            shop
            + """
            [hosts.office]
            channel = "stable"
            tags = ["web", "eu", "web"]
            [[edges]]
            gates = "web-02"
            gated = "db-01"
            [[edges]]
            gates = "web-01"
            gated = "db-01"
            [[budgets]]
            selector = { tags_any = ["web", "db", "web"] }
            max_in_flight = 1
            [[budgets]]
            selector = { all = true }
            max_in_flight = 2
            """
        )
    )

    assert fleet.hosts["office"].tags == ("eu", "web")
    assert fleet.edges == (Edge("web-01", "db-01"), Edge("web-02", "db-01"))
    assert fleet.disruption_budgets == (
        DisruptionBudget(Selector(all=True), 2),
        DisruptionBudget(Selector(tags_any=("db", "web")), 1),
    )


def test_closures_that_do_not_fit_the_hosts_are_refused(checked: Checked, shop: str) -> None:
    """Every host without a closure and every closure without a host is told."""
    with pytest.raises(DeclarationError) as caught:
        resolve(checked(shop), {"web-01": "c1", "web-02": "", "web-09": "c9"}, META)

    assert [(it.path, it.message) for it in caught.value.problems] == [
        ("closures.db-01", "missing"),
        ("closures.web-02", "missing"),
        ("closures.web-09", "no such host"),
    ]


def test_every_channel_gets_a_manifest(checked: Checked, shop: str) -> None:
    """A manifest has its channel's hosts by name, each with its closure and its wave."""
    office, stable = project(resolved(checked(shop + OFFICE)), "a1b2", FLEET_HASH)

    assert (office.rollout_id, stable.rollout_id) == ("office@a1b2", "stable@a1b2")
    assert stable.host_set == (
        HostAssignment("db-01", "closure-db-01", 1),
        HostAssignment("web-01", "closure-web-01", 0),
        HostAssignment("web-02", "closure-web-02", 1),
    )
    assert stable.wave_soak_minutes == (5, 0)
    assert stable.fleet_resolved_hash == FLEET_HASH
    assert stable.meta == META
    assert office.rollout_policy.on_health_failure is OnHealthFailure.ROLLBACK_AND_HALT


def test_a_budget_is_frozen_with_its_members_of_all_channels(checked: Checked, shop: str) -> None:
    """A share is one of all members, so each manifest of a member has them all."""
    budgets = """
        [[budgets]]
        selector = { tags = ["canary"] }
        max_in_flight_pct = 50
        [[budgets]]
        selector = { tags = ["db"] }
        max_in_flight = 1
        """
    office, stable = project(resolved(checked(shop + OFFICE + budgets)), "a1b2", FLEET_HASH)
    canaries = ManifestBudget(Selector(tags=("canary",)), ("office-01", "web-01"), None, 50)

    assert office.disruption_budgets == (canaries,)
    assert stable.disruption_budgets == (
        canaries,
        ManifestBudget(Selector(tags=("db",)), ("db-01",), 1),
    )


def test_a_manifest_makes_the_terms_of_a_rollout(checked: Checked, shop: str) -> None:
    """The planner reads from manifest and fleet what the declaration said."""
    fleet = resolved(
        checked(
            shop
            + OFFICE
            + """
            [[edges]]
            gates = "web-01"
            gated = "db-01"
            [[channel_edges]]
            gates = "office"
            gated = "stable"
            """
        )
    )
    terms = RolloutTerms.of_values(project_channel(fleet, "stable", "a1b2", FLEET_HASH), fleet)

    assert terms.wave_of == {"web-01": 0, "db-01": 1, "web-02": 1}
    assert terms.wave_soak_minutes == (5, 0)
    assert terms.host_edges == (Edge("web-01", "db-01"),)
    assert terms.predecessors == ("office",)


def test_a_channel_ref_that_makes_no_rollout_id_is_refused(checked: Checked, shop: str) -> None:
    """A ref with an `@` in it cannot be told from the channel's name."""
    with pytest.raises(InvalidRolloutId):
        project(resolved(checked(shop)), "a@b", FLEET_HASH)


def test_a_channel_ref_that_is_too_long_for_a_file_name_is_refused_by_name(
    checked: Checked, shop: str
) -> None:
    """Characters that a file name cannot contain count as they are written there."""
    fleet = resolved(checked(shop))
    project(fleet, "a" * 200, FLEET_HASH)
    for long in ("a" * 250, "/" * 90):
        with pytest.raises(InvalidRolloutId, match="use a shorter ref"):
            project(fleet, long, FLEET_HASH)


def test_a_more_specific_health_check_replaces_the_whole_entry(checked: Checked, shop: str) -> None:
    """Nothing of the shadowed entry is left, and the warning names check, scopes and host."""
    fleet = checked(
        shop
        + """
        [health_checks.up]
        kind = "exec"
        command = ["true"]
        interval_seconds = 99
        [tags.web.health_checks.up]
        kind = "exec"
        command = ["web-is-up"]
        [hosts.web-01.health_checks.up]
        kind = "exec"
        command = ["web-01-is-up"]
        """
    )

    assert fleet.health_checks["db-01"]["up"] == ExecProbe(("true",), interval_seconds=99)
    assert fleet.health_checks["web-01"]["up"] == ExecProbe(("web-01-is-up",))
    assert [str(warning) for warning in fleet.warnings] == [
        "web-01: health check up of host web-01 shadows that of fleet, tag web",
        "web-02: health check up of tag web shadows that of fleet",
    ]


def test_a_host_without_health_checks_has_an_empty_set(checked: Checked, shop: str) -> None:
    """Every host has a set, so that an empty one is rendered too."""
    assert checked(shop).health_checks == {"web-01": {}, "web-02": {}, "db-01": {}}
