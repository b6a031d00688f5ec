"""One rollout: events that apply, any events about it, and events about another."""

from datetime import datetime

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from nixfleet_state_machine.rollout.effect import RolloutEffect
from nixfleet_state_machine.rollout.errors import RolloutTransitionError
from nixfleet_state_machine.rollout.event import RolloutEvent, RolloutOpened
from nixfleet_state_machine.rollout.opening import open_rollout
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState
from nixfleet_testing.machines.script import ScriptedMachine
from nixfleet_testing.strategies import (
    legal_rollout_events,
    rollout_events,
    rollouts_opened,
    times,
)
from nixfleet_testing.strategies.rollouts import addressed


class RolloutMachine(ScriptedMachine):
    """Sends events to one record by the production `step_rollout`. Override the `check_…` methods.

    record: of the rollout as it is now.
    """

    record: RolloutRecord

    def begin(self, opened: RolloutOpened) -> None:
        """Start with the record that `opened` opens."""
        self.keep_call("begin", opened)
        self.record = open_rollout(opened, 1, ())
        self.check_record(self.record)

    def take(self, event: RolloutEvent, now: datetime) -> None:
        """Apply `event`, and run the checks."""
        self.keep_call("take", event, now)
        before = self.record
        try:
            self.record, effects = step_rollout(before, event, now)
        except RolloutTransitionError as refusal:
            self.check_refusal(before, event, refusal)
            return
        self.check_step(before, event, self.record, effects)
        self.check_record(self.record)

    # --- checks: override, and call `super` ----------------------------------------------------------

    def check_record(self, record: RolloutRecord) -> None:
        """Called with the rollout's current record."""

    def check_step(
        self,
        before: RolloutRecord,
        event: RolloutEvent,
        after: RolloutRecord,
        effects: tuple[RolloutEffect, ...],
    ) -> None:
        """Called when `event` was accepted; `effects` are not carried out yet."""
        assert after.rollout_id == before.rollout_id
        assert after.current_wave >= before.current_wave
        assert before.state is not RolloutState.PRUNED

    def check_refusal(
        self, before: RolloutRecord, event: RolloutEvent, refusal: RolloutTransitionError
    ) -> None:
        """Called when `event` was refused; the record is unchanged."""

    # --- rules ---------------------------------------------------------------------------------------

    @initialize(opened=rollouts_opened())
    def _begin(self, opened: RolloutOpened) -> None:
        self.begin(opened)

    @precondition(lambda self: self.record.state is not RolloutState.PRUNED)
    @rule(data=st.data(), now=times())
    def _legal(self, data: st.DataObject, now: datetime) -> None:
        self.take(data.draw(legal_rollout_events(self.record)), now)

    @rule(data=st.data(), now=times())
    def _addressed(self, data: st.DataObject, now: datetime) -> None:
        self.take(data.draw(addressed(rollout_events(), to=self.record.rollout_id)), now)

    @rule(event=rollout_events(), now=times())
    def _any(self, event: RolloutEvent, now: datetime) -> None:
        self.take(event, now)
