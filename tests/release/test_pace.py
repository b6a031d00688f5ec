"""The pace of a budget: how it is declared, what it becomes, and what a release says of it."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.codec import decode_fleet, decode_manifest, encode_fleet, encode_manifest
from nixfleet_proto.fleet import DisruptionBudget, FleetResolved, Meta, Ramp
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_release import CheckedFleet, DeclarationError, Fleet, import_fleet
from nixfleet_release.build.project import project_channel
from nixfleet_release.build.resolve import resolve
from nixfleet_release.check.outlook import blast_radius_of, course_of, slots_of
from nixfleet_runtime.releases.amendment import SignedTerms, differences
from nixfleet_state_machine.planner.terms import RolloutTerms

Checked = Callable[[str], CheckedFleet]

META = Meta(signed_at=datetime(2026, 5, 16, 1, tzinfo=UTC))
PACED = "max_in_flight = 4\nramp = { start = 2, factor = 3 }\nmax_per_minute = 5"


def _fleet(budget: str, *, policy: str = "", hosts: int = 10) -> str:
    declared = "".join(f'[hosts.web-{index:02}]\nchannel = "stable"\n' for index in range(hosts))
    channel = '[channels.stable]\npolicy = "steady"\n'
    return (
        f'{channel}[policies.steady]\n{policy}\n{declared}[[budgets]]\nselector = "all"\n{budget}\n'
    )


def _resolved(checked: Checked, budget: str = PACED) -> FleetResolved:
    declared = checked(_fleet(budget))
    closures = {name: f"closure-{name}" for name in declared.declaration.hosts}
    return resolve(declared, closures, META, channel_ref="a1b2c3")


def _manifest(fleet: FleetResolved) -> RolloutManifest:
    return project_channel(fleet, "stable", "a1b2c3", "0" * 64)


def test_a_pace_reaches_the_terms_of_its_rollout(checked: Checked) -> None:
    """What is written is resolved, signed, read again, and what the planner goes by."""
    fleet = decode_fleet(encode_fleet(_resolved(checked)))
    manifest = decode_manifest(encode_manifest(_manifest(fleet)))

    (budget,) = RolloutTerms.of_values(manifest, fleet).budgets

    assert (budget.limit, budget.ramp, budget.max_per_minute) == (4, Ramp(2, 3), 5)


def test_a_pace_is_in_camel_case_and_what_is_not_said_is_left_out(checked: Checked) -> None:
    """A budget without a pace has the bytes that it had, and a factor of two is the default."""
    signed = encode_fleet(_resolved(checked))
    doubling = encode_fleet(_resolved(checked, "max_in_flight = 4\nramp = { start = 1 }"))
    plain = encode_fleet(_resolved(checked, "max_in_flight = 4"))

    assert b'"maxPerMinute":5' in signed
    assert b'"ramp":{"factor":3,"start":2}' in signed
    assert b'"ramp":{"start":1}' in doubling
    assert b"ramp" not in plain
    assert b"maxPerMinute" not in plain


def test_a_builder_declares_what_toml_declares(checked: Checked) -> None:
    """The same budget, from Python."""
    built = Fleet().channel("stable", policy="steady").policy("steady")
    for index in range(10):
        built = built.host(f"web-{index:02}", channel="stable")
    built = built.budget("all", max_in_flight=4, ramp=Ramp(2, 3), max_per_minute=5)

    assert built.check().declaration.budgets == checked(_fleet(PACED)).declaration.budgets


def test_a_budget_may_have_a_pace_alone(checked: Checked) -> None:
    """A ramp grows to all hosts, and a minute limits nothing else."""
    (ramp,) = _manifest(_resolved(checked, "ramp = { start = 1 }")).disruption_budgets
    (minute,) = _manifest(_resolved(checked, "max_per_minute = 2")).disruption_budgets

    assert (ramp.max_in_flight, ramp.ramp, ramp.max_per_minute) == (None, Ramp(1), None)
    assert (minute.max_in_flight, minute.ramp, minute.max_per_minute) == (None, None, 2)


def test_an_imported_fleet_keeps_its_pace_and_is_checked_alike(checked: Checked) -> None:
    """A ramp that begins above its limit is refused with the path in the JSON."""
    fleet = _resolved(checked)
    assert import_fleet(encode_fleet(fleet)).fleet == fleet

    (budget,) = fleet.disruption_budgets
    wrong = evolve(fleet, disruption_budgets=(evolve(budget, ramp=Ramp(5), max_per_minute=11),))
    with pytest.raises(DeclarationError) as refused:
        import_fleet(encode_fleet(wrong))
    assert {problem.path for problem in refused.value.problems} == {
        "$.disruptionBudgets[0].ramp.start",
        "$.disruptionBudgets[0].maxPerMinute",
    }


def test_an_amended_release_has_the_pace_of_its_rollout(checked: Checked) -> None:
    """Another ramp, or another number of beginnings, needs another ref."""
    before = _resolved(checked)
    (budget,) = before.disruption_budgets
    other = evolve(budget, ramp=Ramp(1), max_per_minute=None)

    found = differences(_signed(before), _signed(_with(before, other)))

    assert [(each.path, each.expected, each.found) for each in found] == [
        ("budgets['all'].ramp", "from 2 by a factor of 3", "from 1 by a factor of 2"),
        ("budgets['all'].max_per_minute", "5", "none"),
    ]


def test_the_blast_radius_and_the_wedge_check_are_those_of_the_limit(checked: Checked) -> None:
    """A ramp may have grown to its limit when hosts fail; and failed hosts take no slot of the ramp."""
    policy = 'on_health_failure = "halt"\nmax_failures = 2'
    declared = checked(_fleet("max_in_flight = 4\nramp = { start = 1 }", policy=policy)).declaration

    course = course_of(declared, "stable")

    assert course.policy.on_health_failure is OnHealthFailure.HALT
    assert blast_radius_of(course, slots_of(declared)).worst == 4


def _with(fleet: FleetResolved, budget: DisruptionBudget) -> FleetResolved:
    return evolve(fleet, disruption_budgets=(budget,))


def _signed(fleet: FleetResolved) -> SignedTerms:
    manifest = _manifest(fleet)
    return SignedTerms(manifest, RolloutTerms.of_values(manifest, fleet))
