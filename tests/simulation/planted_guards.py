"""Bugs planted in guards of waves: bakes, approvals, checks and promotions.

As in `planted`: each is a function that plants one; its sentence says what goes wrong. Every eleventh seed has guards.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import pytest
from attrs import evolve

from nixfleet_control_plane.engine import approval_checks, entry_handlers, guard_verdicts
from nixfleet_proto.steering.approval import Decision
from nixfleet_proto.steering.guards import Approvals, Check, Counting, Quorum, WaveGuards
from nixfleet_simulation.scenario.acts import Act, Clear, Release
from nixfleet_simulation.scenario.scenario import ChannelLayout, Scenario
from nixfleet_simulation.scenario.steering_acts import JudgeSays, Says, StateAgain, StateOn
from nixfleet_state_machine.planner import progress
from nixfleet_state_machine.planner.guards import states
from nixfleet_state_machine.planner.guards.states import GuardedWave, GuardState
from nixfleet_state_machine.rollout.event import OperatorClearance, RolloutEvent
from nixfleet_state_machine.rollout.guard_tally import GuardTally, Outcome
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord
from tests.simulation.planted import Plant
from tests.simulation.planted_directed import Directed


def begins_without_its_guards(patch: pytest.MonkeyPatch) -> None:
    """A wave begins when the one before it is done, whatever its guards say."""
    patch.setattr(GuardedWave, "may_begin", property(lambda self: self.since is not None))


def bakes_from_the_opening(patch: pytest.MonkeyPatch) -> None:
    """A bake is counted from when the rollout was opened, and not since the wave before is done."""
    statuses = states._statuses

    def early(record: RolloutRecord, guards: WaveGuards, wave: int, since: datetime | None) -> Any:
        return statuses(record, guards, wave, since and record.opened_at)

    patch.setattr(states, "_statuses", early)


def bakes_in_half_of_the_time(patch: pytest.MonkeyPatch) -> None:
    """A minute of a bake has thirty seconds."""
    statuses = states._statuses

    def hasty(record: RolloutRecord, guards: WaveGuards, wave: int, since: Any) -> Any:
        for each in statuses(record, guards, wave, since):
            until = None if each.until is None else since + (each.until - since) / 2
            yield evolve(each, until=until)

    patch.setattr(states, "_statuses", hasty)


def never_ends_a_bake(patch: pytest.MonkeyPatch) -> None:
    """Nobody says that a bake is over."""
    patch.setattr("nixfleet_state_machine.planner.passing_time.bakes_over", lambda *_: ())


def counts_an_operator_twice(patch: pytest.MonkeyPatch) -> None:
    """Who approves twice is two who approve."""
    patch.setattr(approval_checks, "is_repeated", lambda *_: False)
    patch.setattr(guard_verdicts, "is_repeated", lambda *_: False)
    patch.setattr(GuardTally, "is_repeated_by", lambda *_: False)

    def by_number(quorum: Quorum, tally: GuardTally | None) -> GuardState:
        return states_of(evolve(quorum, counting=Counting.CONSECUTIVE), tally)

    states_of = states.quorum_state
    patch.setattr(states, "quorum_state", by_number)


def takes_an_approval_of_another_manifest(patch: pytest.MonkeyPatch) -> None:
    """What an operator approved is not looked at: a release of before, or none at all."""
    _without_objection(patch, "expected a statement on manifest")


def takes_an_approval_of_anybody(patch: pytest.MonkeyPatch) -> None:
    """Whoever signs for somebody is taken for that one."""
    patch.setattr(approval_checks, "verify_approval", lambda *_: None)


def takes_an_approval_from_before_a_clearance(patch: pytest.MonkeyPatch) -> None:
    """A statement that was made before the rollout was halted is sent again, and counts."""
    _without_objection(patch, "expected a statement signed after")


def takes_an_approval_of_the_future(patch: pytest.MonkeyPatch) -> None:
    """When a statement was signed is not looked at."""
    _without_objection(patch, "expected a statement of the past")


def _without_objection(patch: pytest.MonkeyPatch, beginning: str) -> None:
    place = approval_checks._objection_to_place

    def lenient(state: Any, approval: Any, now: datetime) -> str | None:
        objection = place(state, approval, now)
        return None if objection is not None and objection.startswith(beginning) else objection

    patch.setattr(approval_checks, "_objection_to_place", lenient)


def forgets_denials(patch: pytest.MonkeyPatch) -> None:
    """Who denies has only not approved."""
    patch.setattr(progress, "_broken", lambda *_: ())


def takes_no_answer_for_a_good_one(patch: pytest.MonkeyPatch) -> None:
    """A judge that cannot tell lets the wave begin."""
    after = GuardTally.after

    def trusting(self: GuardTally, judge: str, outcome: Outcome, *said: Any) -> GuardTally:
        passes = Outcome.PASS if outcome is Outcome.INCONCLUSIVE else outcome
        return after(self, judge, passes, *said)

    patch.setattr(GuardTally, "after", trusting)


def counts_passes_that_are_not_in_a_row(patch: pytest.MonkeyPatch) -> None:
    """A check that fails and passes by turns has passed often enough at some time."""
    after = GuardTally.after

    def lasting(self: GuardTally, judge: str, outcome: Outcome, *said: Any) -> GuardTally:
        later = after(self, judge, outcome, *said)
        return later if outcome is Outcome.PASS else evolve(later, passes=self.passes)

    patch.setattr(GuardTally, "after", lasting)


def promotes_past_everything(patch: pytest.MonkeyPatch) -> None:
    """A promotion waives each guard of the wave, whether it may be waived or not."""

    def waived(state: Any, approval: Any) -> Any:
        yield from state.view.terms(approval.rollout_id).guards_of(approval.wave).names

    patch.setattr(approval_checks, "_waived", waived)


def keeps_what_was_said_through_a_clearance(patch: pytest.MonkeyPatch) -> None:
    """Approvals of before a halt count after it."""

    def remembering(record: RolloutRecord, event: RolloutEvent, now: datetime) -> Any:
        after, effects = step_rollout(record, event, now)
        if isinstance(event, OperatorClearance):
            approvals = [each for each in record.guard_tallies if not each.failures]
            after = evolve(after, guard_tallies=tuple(approvals))
        return after, effects

    patch.setattr(entry_handlers, "step_rollout", remembering)


def _guarded(guards: WaveGuards, *acts: Act) -> Scenario:
    """Return a history of one release, whose second wave has guards."""
    channel = ChannelLayout(
        "stable",
        (("host-01",), ("host-02",)),
        soak_minutes=0,
        guards=(WaveGuards(), guards),
    )
    return Scenario(1, (channel,), (Release(10, "stable", "r1", ""), *acts), 600)


DIRECTED_IN_GUARDS: Final[Mapping[str, Directed]] = {
    directed.plant.__name__: directed
    for directed in (
        Directed(
            takes_an_approval_from_before_a_clearance,
            _guarded(
                WaveGuards(approvals=Approvals(2, ("ada", "bob"))),
                StateOn(90, "stable", ("ada",), Decision.APPROVE),
                StateOn(120, "stable", ("bob",), Decision.DENY),
                Clear(150, "stable", everybody=False),
                StateAgain(180, 2),
                StateOn(210, "stable", ("bob",), Decision.APPROVE),
            ),
        ),
        Directed(
            counts_passes_that_are_not_in_a_row,
            _guarded(
                WaveGuards(checks=(Check("errors", "prometheus", "up", "== 1", 2),)),
                JudgeSays(15, "stable", Says.BY_TURNS),
            ),
        ),
    )
}

PLANTED_IN_GUARDS: Final[Mapping[str, Plant]] = {
    plant.__name__: plant
    for plant in (
        begins_without_its_guards,
        bakes_from_the_opening,
        bakes_in_half_of_the_time,
        never_ends_a_bake,
        counts_an_operator_twice,
        takes_an_approval_of_another_manifest,
        takes_an_approval_of_anybody,
        takes_an_approval_of_the_future,
        forgets_denials,
        takes_no_answer_for_a_good_one,
        promotes_past_everything,
        keeps_what_was_said_through_a_clearance,
    )
}

FOUND_BY_IN_GUARDS: Final[Mapping[str, int]] = {
    "begins_without_its_guards": 10,
    "bakes_from_the_opening": 21,
    "bakes_in_half_of_the_time": 21,
    "never_ends_a_bake": 21,
    "counts_an_operator_twice": 65,
    "takes_an_approval_of_another_manifest": 54,
    "takes_an_approval_of_anybody": 87,
    "takes_an_approval_of_the_future": 10,
    "forgets_denials": 10,
    "takes_no_answer_for_a_good_one": 32,
    "promotes_past_everything": 32,
    "keeps_what_was_said_through_a_clearance": 54,
}
"""As `planted.FOUND_BY`."""
