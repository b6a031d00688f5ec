"""`RolloutTerms`: what a manifest and the fleet it came from say, worked out once when the rollout opens."""

from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import evolve

from nixfleet_proto.codec import encode_fleet, encode_manifest
from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.fleet import (
    Edge,
    FleetChannel,
    FleetHost,
    FleetResolved,
    Meta,
    RolloutPolicy,
    Selector,
    Wave,
)
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import HostAssignment, ManifestBudget, RolloutManifest
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, Retry
from nixfleet_proto.signing import SigningKey, sign_artefact, verify_fleet, verify_manifest
from nixfleet_proto.trust import KeySlot, TrustRoot
from nixfleet_state_machine.planner.terms import BudgetTerms, RolloutTerms
from tests.planner.builders import terms_of

NOW = datetime(2026, 5, 26, 12, 0, tzinfo=UTC)
META = Meta(signed_at=NOW)
WEB = Selector(tags=("web",))

FLEET = FleetResolved(
    hosts=FrozenMap(
        {
            "web-1": FleetHost("stable"),
            "web-2": FleetHost("stable"),
            "db-1": FleetHost("stable"),
            "edge-1": FleetHost("edge"),
            "edge-2": FleetHost("edge"),
        }
    ),
    channels=FrozenMap({"stable": FleetChannel("careful"), "edge": FleetChannel("careful")}),
    rollout_policies=FrozenMap({"careful": RolloutPolicy()}),
    waves=FrozenMap(
        {"stable": (Wave(("web-1", "gone-1"), soak_minutes=10), Wave(("web-2",), soak_minutes=30))}
    ),
    meta=META,
    edges=(
        Edge("db-1", "web-1", "the database first"),
        Edge("edge-1", "web-1"),
        Edge("web-2", "edge-1"),
        Edge("db-1", "gone-1"),
        Edge("edge-1", "edge-2"),
    ),
    channel_edges=(
        Edge("infra", "stable"),
        Edge("edge", "stable"),
        Edge("infra", "stable", "declared twice"),
        Edge("stable", "edge"),
    ),
)
MANIFEST = RolloutManifest(
    channel="stable",
    channel_ref="a1",
    display_name="release 1",
    fleet_resolved_hash="ab" * 32,
    host_set=(
        HostAssignment("web-1", "red"),
        HostAssignment("web-2", "red", wave_index=1),
        HostAssignment("db-1", "blue"),
    ),
    meta=META,
    disruption_budgets=(ManifestBudget(WEB, ("web-1", "web-2"), max_in_flight=1),),
)
TERMS = RolloutTerms.of_values(MANIFEST, FLEET)


def _edge_terms() -> RolloutTerms:
    hosts = (HostAssignment("edge-1", "red"), HostAssignment("edge-2", "red"))
    return RolloutTerms.of_values(
        evolve(MANIFEST, channel="edge", host_set=(*hosts, HostAssignment("new-1", "red"))), FLEET
    )


def test_terms_carry_the_rollout_that_the_manifest_names() -> None:
    """Id, channel, ref and targets are the manifest's."""
    assert (TERMS.rollout_id, TERMS.channel, TERMS.target_ref) == ("stable@a1", "stable", "a1")
    assert TERMS.targets == {"web-1": "red", "web-2": "red", "db-1": "blue"}


def test_terms_carry_the_waves_of_the_channel() -> None:
    """A host's wave and its soak are the fleet's; who has no target, or no wave, is not staged."""
    assert TERMS.wave_of == {"web-1": 0, "web-2": 1}
    assert TERMS.wave_soak_minutes == (10, 30)
    assert TERMS.last_wave == 1
    assert TERMS.wave_sizes == {0: 1, 1: 1}


def test_terms_of_a_channel_without_waves_are_one_wave_without_a_soak() -> None:
    """All hosts that the fleet knows go at once; one that it does not know stays unstaged."""
    terms = _edge_terms()

    assert terms.wave_of == {"edge-1": 0, "edge-2": 0}
    assert terms.wave_soak_minutes == (0,)
    assert terms.last_wave == 0


def test_terms_carry_the_host_edges_within_the_channel_alone() -> None:
    """An edge to another channel's host, or to nobody's, orders nothing here."""
    assert TERMS.host_edges == (Edge("db-1", "web-1", "the database first"),)
    assert _edge_terms().host_edges == (Edge("edge-1", "edge-2"),)


def test_terms_carry_the_channels_that_go_before() -> None:
    """Each predecessor once, in order; followers are none."""
    assert TERMS.predecessors == ("edge", "infra")
    assert _edge_terms().predecessors == ("stable",)


def test_terms_carry_the_budgets_of_the_manifest() -> None:
    """Selector, members and limit are frozen with the manifest."""
    assert TERMS.budgets == (BudgetTerms(WEB, frozenset({"web-1", "web-2"}), 1),)


def test_terms_of_verified_artefacts_are_those_of_their_values() -> None:
    """The proof is asked for and changes nothing."""
    ci = SigningKey(bytes(range(32)))
    trust = TrustRoot(KeySlot(ci.public_key))
    manifest = verify_manifest(
        sign_artefact(encode_manifest(MANIFEST), ci),
        trust,
        NOW,
        freshness_window_minutes=5,
        expected_rollout_id=RolloutId("stable@a1"),
    )
    fleet = verify_fleet(
        sign_artefact(encode_fleet(FLEET), ci), trust, NOW, freshness_window_minutes=5
    )

    assert RolloutTerms.of(manifest, fleet) == TERMS


def test_hosts_are_found_by_edge_by_closure_and_by_budget() -> None:
    """Both ends of an edge know each other; who is in nothing has nothing."""
    assert TERMS.gating_hosts("web-1") == ("db-1",)
    assert TERMS.gated_hosts("db-1") == ("web-1",)
    assert TERMS.gating_hosts("db-1") == TERMS.gated_hosts("web-1") == ()
    assert TERMS.hosts_of_closure("red") == ("web-1", "web-2")
    assert TERMS.hosts_of_closure("green") == ()
    assert (TERMS.budgets_of("web-2"), TERMS.budgets_of("db-1")) == ((0,), ())


def test_budgets_with_one_selector_count_a_host_once() -> None:
    """Two budgets of one name are two limits on one count."""
    narrow = BudgetTerms(WEB, frozenset({"web-1"}), 1)
    terms = evolve(TERMS, budgets=(*TERMS.budgets, narrow))

    assert terms.budgets_of("web-1") == (0, 1)
    assert terms.budget_names_of("web-1") == {"tags:web"}
    assert terms.budget_names_of("db-1") == frozenset()


@pytest.mark.parametrize(
    ("max_in_flight", "pct", "limit"),
    [
        (None, None, 3),
        (2, None, 2),
        (None, 100, 3),
        (None, 66, 1),
        (None, 67, 2),
        (None, 1, 1),
        (2, 100, 2),
        (3, 67, 2),
    ],
)
def test_limit_of_a_budget_of_three_is_the_smaller_of_its_two(
    max_in_flight: int | None, pct: int | None, limit: int
) -> None:
    """A share is rounded down, to no less than one; without any limit all may go at once."""
    hosts = ("web-1", "web-2", "web-3")
    terms = BudgetTerms.of(ManifestBudget(WEB, hosts, max_in_flight, pct))

    assert terms == BudgetTerms(WEB, frozenset(hosts), limit)


def test_a_host_is_before_others_unless_its_wave_is_the_last_or_none() -> None:
    """Only hosts of earlier waves can hold up a later one."""
    hosts = ("web-1", "web-2", "db-1")

    assert [TERMS.is_before_others(host) for host in hosts] == [True, False, False]


HOSTS = {"web-1": "red", "web-2": "red", "db-1": "blue"}


def test_terms_can_be_built_without_a_fleet_file() -> None:
    """Waves, soaks, budgets, edges and predecessors are given in plain Python."""
    terms = RolloutTerms.build(
        "stable@a1",
        HOSTS,
        waves=[["web-1"], ["web-2"]],
        soak_minutes=[10, 30],
        budgets=[(["web-2", "web-1"], 1)],
        host_edges=[("db-1", "web-1")],
        predecessors=["infra", "edge"],
    )

    assert (terms.rollout_id, terms.channel, terms.target_ref) == ("stable@a1", "stable", "a1")
    assert terms.targets == HOSTS
    assert terms.wave_of == {"web-1": 0, "web-2": 1}
    assert terms.wave_soak_minutes == (10, 30)
    members = frozenset({"web-1", "web-2"})
    assert terms.budgets == (BudgetTerms(Selector(hosts=("web-1", "web-2")), members, 1),)
    assert terms.host_edges == (Edge("db-1", "web-1"),)
    assert terms.predecessors == ("edge", "infra")


def test_terms_built_without_waves_have_all_hosts_in_one() -> None:
    """One soak is that of every wave."""
    terms = RolloutTerms.build("stable@a1", HOSTS, soak_minutes=5)

    assert set(terms.wave_of.values()) == {0}
    assert terms.wave_soak_minutes == (5,)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            {"waves": [["web-1"], ["web-1"]]},
            "waves[1]: expected each host in one wave, found 'web-1' again",
        ),
        (
            {"waves": [["ghost"]]},
            "waves[0]: expected hosts that have a target, found 'ghost', which has none",
        ),
        (
            {"waves": ["web-1"]},
            "waves[0]: expected a collection of host names, found 'web-1' (str)",
        ),
        (
            {"waves": [["web-1"], ["web-2"]], "soak_minutes": [5]},
            "soak_minutes: expected one for each of 2 waves, found 1",
        ),
        ({"soak_minutes": -1}, "soak_minutes[0]: expected minutes, 0 or more, found -1"),
        ({"soak_minutes": [True]}, "soak_minutes[0]: expected minutes, 0 or more, found True"),
        ({"budgets": [(["web-1"], 0)]}, "budgets[0]: expected a limit of 1 or more, found 0"),
        (
            {"budgets": [(["ghost"], 1)]},
            "budgets[0]: expected hosts that have a target, found 'ghost', which has none",
        ),
        (
            {"host_edges": [("db-1", "ghost")]},
            "host_edges[0]: expected hosts that have a target, found 'ghost', which has none",
        ),
    ],
)
def test_terms_that_contradict_themselves_are_refused_with_their_place(
    given: dict[str, Any], problem: str
) -> None:
    """The problem names the argument and the item in it."""
    with pytest.raises(InvalidValue) as refusal:
        RolloutTerms.build("stable@a1", HOSTS, **given)

    assert str(refusal.value) == f"RolloutTerms.build: {problem}"


def test_every_contradiction_of_built_terms_is_named_at_once() -> None:
    """Who corrects one mistake is not sent back for the next."""
    with pytest.raises(InvalidValue) as refusal:
        RolloutTerms.build(
            "stable@a1",
            HOSTS,
            waves=[["ghost"]],
            soak_minutes=-1,
            budgets=[(["web-1"], 0)],
            host_edges=[("ghost", "db-1")],
        )

    paths = [problem.path for problem in refusal.value.problems]
    assert paths == ["waves[0]", "soak_minutes[0]", "budgets[0]", "host_edges[0]"]


# --- tolerances ----------------------------------------------------------------------------------


def _tolerant(policy: RolloutPolicy, *waves: Wave) -> RolloutTerms:
    names = [host for wave in waves for host in wave.hosts]
    fleet = FleetResolved(
        hosts=FrozenMap({name: FleetHost("stable") for name in names}),
        channels=FrozenMap[str, FleetChannel](),
        rollout_policies=FrozenMap[str, RolloutPolicy](),
        waves=FrozenMap({"stable": waves}),
        meta=Meta(signed_at=None),
    )
    manifest = RolloutManifest(
        channel="stable",
        channel_ref="a1",
        display_name="stable@a1",
        fleet_resolved_hash="",
        host_set=tuple(HostAssignment(name, "target") for name in names),
        meta=Meta(signed_at=None),
        rollout_policy=policy,
    )
    return RolloutTerms.of_values(manifest, fleet)


def test_a_wave_has_its_own_tolerance_or_that_of_its_policy() -> None:
    """Also none: a wave may be stricter than its policy."""
    strict = Wave(("a", "b"), max_failures=0)
    own, silent = Wave(("c", "d"), max_failures=2), Wave(("e", "f"))
    terms = _tolerant(RolloutPolicy(max_failures=1), strict, own, silent)

    assert [terms.allowed_failures(wave) for wave in range(3)] == [0, 2, 1]
    assert [terms.is_tolerant_of(host) for host in "ace"] == [False, True, True]


def test_the_base_of_a_share_is_the_signed_size_of_the_wave() -> None:
    """Each wave has its own, and it is rounded down."""
    small = Wave(tuple(f"a{number}" for number in range(9)))
    large = Wave(tuple(f"b{number}" for number in range(25)))
    terms = _tolerant(RolloutPolicy(max_failure_pct=10), small, large)

    assert [terms.allowed_failures(wave) for wave in range(2)] == [0, 2]


def test_a_host_in_no_wave_is_not_tolerated() -> None:
    """No wave allows anything for it."""
    terms = terms_of(waves=(("a",),), unstaged=("b",), allowed=(1,))

    assert terms.allowed_failures(None) == 0
    assert not terms.is_tolerant_of("b")


def test_where_nobody_declares_a_tolerance_no_wave_has_any() -> None:
    """The terms are those of before there were tolerances."""
    assert _tolerant(RolloutPolicy(), Wave(("a",)), Wave(("b",))).wave_tolerances == ()


def test_deadlines_and_retries_are_those_of_the_signed_policy() -> None:
    """They are frozen with the terms."""
    policy = RolloutPolicy(
        deadlines=Deadlines(ack=Deadline(5, AtDeadline.SKIP)), retry=Retry(attempts=3)
    )
    terms = _tolerant(policy, Wave(("a",)))

    assert (terms.deadlines, terms.retry) == (policy.deadlines, policy.retry)


def test_terms_with_more_or_fewer_tolerances_than_waves_are_refused() -> None:
    """One for each wave, or none at all."""
    with pytest.raises(InvalidValue, match="one for each of 1 waves"):
        terms_of(waves=(("a",),), allowed=(1, 1))
