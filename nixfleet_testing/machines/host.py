"""One host: facts that apply, facts in order, any facts; each seen from both sides."""

from datetime import datetime

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_state_machine.host.effect import HostEffect
from nixfleet_state_machine.host.errors import TransitionError
from nixfleet_state_machine.host.event import Event, Local, Remote
from nixfleet_state_machine.host.reducer import step
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_testing.machines.script import ScriptedMachine
from nixfleet_testing.strategies import events, facts, legal_facts, pending_records, policies, times
from nixfleet_testing.strategies.facts import numbered


class HostMachine(ScriptedMachine):
    """Sends facts to one record by the production `step`. Override the `check_…` methods.

    record, policy: of the host as it is now.
    """

    record: HostRolloutState
    policy: RolloutPolicy

    def begin(self, pending: HostRolloutState, policy: RolloutPolicy) -> None:
        """Start with `pending`."""
        self.keep_call("begin", pending, policy)
        self.record, self.policy = pending, policy
        self.check_record(pending)

    def take(self, event: Event, now: datetime) -> None:
        """Apply `event`, and run the checks."""
        self.keep_call("take", event, now)
        before = self.record
        try:
            self.record, effects = step(before, event, now, self.policy)
        except TransitionError as refusal:
            self.check_refusal(before, event, refusal)
            return
        other = Remote(event.fact) if isinstance(event, Local) else Local(event.fact)
        assert step(before, other, now, self.policy)[0] == self.record
        self.check_step(before, event, self.record, effects)
        self.check_record(self.record)

    # --- checks: override, and call `super` ----------------------------------------------------------

    def check_record(self, record: HostRolloutState) -> None:
        """Called with the host's current record."""

    def check_step(
        self,
        before: HostRolloutState,
        event: Event,
        after: HostRolloutState,
        effects: tuple[HostEffect, ...],
    ) -> None:
        """Called when `event` was accepted; `effects` are not carried out yet."""
        assert after.last_event_seq == event.fact.seq > before.last_event_seq

    def check_refusal(
        self, before: HostRolloutState, event: Event, refusal: TransitionError
    ) -> None:
        """Called when `event` was refused; the record is unchanged."""
        assert refusal.state is before
        assert refusal.fact is event.fact

    # --- rules ---------------------------------------------------------------------------------------

    @initialize(pending=pending_records(), policy=policies())
    def _begin(self, pending: HostRolloutState, policy: RolloutPolicy) -> None:
        self.begin(pending, policy)

    @precondition(lambda self: self.record.state not in (HostState.CONVERGED, HostState.REVERTED))
    @rule(data=st.data(), side=st.sampled_from((Local, Remote)), now=times())
    def _legal(self, data: st.DataObject, side: type[Local] | type[Remote], now: datetime) -> None:
        self.take(side(data.draw(legal_facts(self.record))), now)

    @rule(data=st.data(), side=st.sampled_from((Local, Remote)), now=times())
    def _in_order(
        self, data: st.DataObject, side: type[Local] | type[Remote], now: datetime
    ) -> None:
        fact: AgentEvent = data.draw(numbered(facts(), above=self.record.last_event_seq))
        self.take(side(fact), now)

    @rule(event=events(), now=times())
    def _any(self, event: Event, now: datetime) -> None:
        self.take(event, now)
