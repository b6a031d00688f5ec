"""Who joins and who leaves when a manifest is amended, and who of them is late."""

from typing import cast

import pytest

from nixfleet_proto.errors import InvalidValue
from nixfleet_state_machine.planner.members import members_change
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.event import MembersChanged
from nixfleet_state_machine.rollout.state import RolloutState
from tests.planner.builders import NOW, rollout_of, terms_of

BEFORE = terms_of(waves=(("web-1", "web-2"), ("web-3", "web-4")))
AFTER = terms_of(waves=(("db-2", "web-2", "db-1"), ("db-3", "web-4")))
ID = BEFORE.rollout_id


def test_hosts_join_and_leave_in_order() -> None:
    """Whatever the order in which the manifests name them."""
    event = members_change(BEFORE, AFTER, rollout_of(BEFORE), NOW)
    assert event == MembersChanged(ID, ("db-1", "db-2", "db-3"), ("web-1", "web-3"), (), NOW)


def test_hosts_that_only_join_or_only_leave_are_a_change() -> None:
    """Either is enough."""
    more = terms_of(waves=(("web-1", "web-2", "web-5"), ("web-3", "web-4")))
    joined = members_change(BEFORE, more, rollout_of(BEFORE), NOW)
    left = members_change(more, BEFORE, rollout_of(more), NOW)
    assert joined == MembersChanged(ID, ("web-5",), (), (), NOW)
    assert left == MembersChanged(ID, (), ("web-5",), (), NOW)


def test_the_same_hosts_are_no_change() -> None:
    """A manifest that was signed again amends nothing."""
    assert members_change(BEFORE, BEFORE, rollout_of(BEFORE), NOW) is None


def test_hosts_that_join_a_wave_that_is_done_are_late() -> None:
    """Those of the wave that is under way are not."""
    event = members_change(BEFORE, AFTER, rollout_of(BEFORE, wave=1), NOW)
    assert event is not None
    assert event.late == ("db-1", "db-2")


def test_hosts_that_join_a_terminal_rollout_are_late() -> None:
    """In whatever wave."""
    event = members_change(BEFORE, AFTER, rollout_of(BEFORE, RolloutState.TERMINAL), NOW)
    assert event is not None
    assert event.late == ("db-1", "db-2", "db-3")


def test_all_wrong_arguments_are_refused_at_once() -> None:
    """By their names."""
    wrong = cast("RolloutTerms", "terms")
    with pytest.raises(InvalidValue) as refusal:
        members_change(wrong, wrong, cast("object", None), "now")  # type: ignore[arg-type]
    assert refusal.value.what == "members_change"
    paths = [problem.path for problem in refusal.value.problems]
    assert paths == ["before", "after", "record", "now"]
