"""The shipped strategies: each type has one, and what is drawn is what the code would have made."""

import importlib
import pkgutil
from collections.abc import Iterator

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

import nixfleet_proto
import nixfleet_state_machine
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.trust import Verified
from nixfleet_state_machine.host.event import Local, Remote
from nixfleet_state_machine.host.reducer import step
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.plan import plan_next
from nixfleet_state_machine.planner.progress import due_rollout_events, empty_waves
from nixfleet_testing.plugin import TYPES
from nixfleet_testing.strategies import (
    FleetSituation,
    History,
    HistoryKind,
    fleet_situations,
    fleets,
    histories,
    manifests,
    terms,
)
from nixfleet_testing.strategies.names import START
from nixfleet_testing.strategies.registry import STRATEGIES

FEW = settings(max_examples=30, deadline=None, derandomize=True, database=None)
KNOWN = [
    getattr(importlib.import_module(module), name)
    for module, names in TYPES.items()
    for name in names
]


def test_the_names_that_hypothesis_is_told_are_those_that_have_a_strategy() -> None:
    """The cheap table of names and the table of strategies list the same types."""
    assert set(KNOWN) == {*STRATEGIES, FrozenMap, Verified}


# What has no strategy of its own, and why. All other public records of the pure packages have one.
WITHOUT = {
    "nixfleet_proto.trust": {"Verified"},  # it has one that refuses
    # Made by a decoder or a check.
    "nixfleet_proto.codec": {"DecodeProblem", "Received"},
    "nixfleet_proto.errors": {"ValueProblem"},
    # How the planner works inside. What goes in and comes out can be drawn.
    "nixfleet_state_machine.planner": {"Lane", "Planning", "Changes"},
    # Generic: what they are of is up to who asks. Merging makes them from what can be drawn.
    "nixfleet_state_machine.scopes.merge": {"Conflict", "Declared", "Layer", "Merged", "Winner"},
    "nixfleet_state_machine.scopes.setting": {"Clash", "Explained", "Setting"},
    # Made of an expression alone: draw that.
    "nixfleet_state_machine.scopes.normal_form": {"Clause", "Names", "NormalForm"},
    # Made of the reducers alone: there is one of each.
    "nixfleet_state_machine.graph": {"Arrow", "Graph"},
}


def test_every_public_record_can_be_drawn() -> None:
    """A record that is added has a strategy, or a reason to have none."""
    drawn = {(form.__module__, form.__name__) for form in STRATEGIES}
    missing = {
        f"{module}.{name}"
        for module, name in _public_records()
        if (module, name) not in drawn and not _is_without(module, name)
    }
    assert missing == set()


def _public_records() -> Iterator[tuple[str, str]]:
    for package in (nixfleet_proto, nixfleet_state_machine):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.startswith("nixfleet_testing"):
                module = importlib.import_module(found.name)
                for name, form in vars(module).items():
                    if _is_record(form, found.name) and not name.startswith("_"):
                        yield found.name, name


def _is_record(form: object, module: str) -> bool:
    if not isinstance(form, type) or form.__module__ != module:
        return False
    return attrs.has(form) and not issubclass(form, Exception)


def _is_without(module: str, name: str) -> bool:
    return any(module.startswith(known) and name in names for known, names in WITHOUT.items())


@pytest.mark.parametrize("form", STRATEGIES, ids=lambda form: form.__name__)
def test_drawing_from_a_type_gives_values_of_that_type(form: type[object]) -> None:
    """`st.from_type` draws instances of the very type it was asked for."""

    @settings(FEW, max_examples=5)
    @given(st.from_type(form))
    def drawn(value: object) -> None:
        assert type(value) is form

    drawn()


@FEW
@given(st.from_type(FrozenMap[str, int]))
def test_drawing_from_a_frozen_map_of_types_gives_items_of_those_types(
    drawn: FrozenMap[str, int],
) -> None:
    """Keys and values are drawn from the arguments."""
    assert {(type(key), type(value)) for key, value in drawn.items()} <= {(str, int)}


@FEW
@given(histories(HistoryKind.LEGAL, side=Remote))
def test_a_legal_history_is_applied_event_by_event(history: History) -> None:
    """No event of a legal history is refused, and all are seen from the side that was asked for."""
    record = history.pending
    for event, now in history.events:
        record, _ = step(record, event, now, history.policy)
        assert isinstance(event, Remote)
    assert record == history.record


@FEW
@given(histories(HistoryKind.LEGAL, to=HostState.REVERTED))
def test_a_legal_history_with_an_end_ends_there(history: History) -> None:
    """`to` is where the history leads."""
    assert history.record.state is HostState.REVERTED


@pytest.mark.parametrize("kind", [HistoryKind.ADVERSARIAL, HistoryKind.MIXED])
def test_a_history_that_need_not_apply_has_refusals(kind: HistoryKind) -> None:
    """Among a hundred such histories there is one whose events are refused, and one that moves."""
    stayed, moved = False, False

    @settings(FEW, max_examples=100)
    @given(histories(kind, side=Local))
    def seen(history: History) -> None:
        nonlocal stayed, moved
        before = (history.pending, *history.records)
        for a, b in zip(before, history.records, strict=False):
            stayed, moved = stayed or a is b, moved or a is not b

    seen()
    assert (stayed, moved) == (True, True)


@FEW
@given(fleets())
def test_a_fleet_names_only_what_it_has(fleet: FleetResolved) -> None:
    """Hosts are in channels, and waves share out exactly their channel's hosts."""
    for channel, waves in fleet.waves.items():
        hosts = sorted(name for name, host in fleet.hosts.items() if host.channel == channel)
        assert hosts
        assert not waves or sorted(host for wave in waves for host in wave.hosts) == hosts
    assert {host.channel for host in fleet.hosts.values()} == set(fleet.channels)


@FEW
@given(st.data())
def test_terms_of_a_drawn_release_have_no_empty_wave(data: st.DataObject) -> None:
    """A rollout with such terms may open."""
    assert empty_waves(data.draw(terms())) == ()


@FEW
@given(fleet_situations())
def test_views_of_one_situation_plan_alike_and_have_nothing_due(situation: FleetSituation) -> None:
    """A situation makes equal views, whose rollouts have gone on as far as their hosts let them."""
    view = situation.view()
    assert plan_next(view, {}, START) == plan_next(situation.view(), {}, START)
    for rollout in situation.rollouts:
        assert due_rollout_events(view, rollout.record.rollout_id, START) == ()


def test_an_end_asked_of_an_adversarial_history_is_refused_at_once() -> None:
    """What may end anywhere cannot be asked to end somewhere; nothing is drawn to find that out."""
    with pytest.raises(InvalidArgument, match="adversarial"):
        histories(HistoryKind.ADVERSARIAL, to=HostState.FAILED)


def test_a_manifest_of_an_unknown_channel_is_refused_at_once() -> None:
    """A channel that the fleet has not got is named, and so is what it has."""
    with pytest.raises(InvalidArgument, match="'nightly', found no fleet"):
        manifests(channel="nightly")


def test_a_verified_value_is_refused_with_the_way_to_get_one() -> None:
    """There is no strategy for a proof."""
    with pytest.raises(InvalidArgument, match=r"nixfleet_proto\.signing alone"):
        st.from_type(Verified[RolloutManifest]).validate()
