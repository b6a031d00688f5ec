"""Checks the hosts: the facts in each journal, and the intents that each machine carries out.

It keeps the host's record after each fact: the control plane's mirror must be equal to it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from attrs import define, field

from nixfleet_agent.messages.inputs import Intent, IntentKind
from nixfleet_agent.messages.writes import AppendEvent, PutRecord, RemoveRollout, Write
from nixfleet_proto.agent_event import DispatchAck
from nixfleet_proto.trust import TrustRoot
from nixfleet_simulation.judge.model.releases import Released, Releases
from nixfleet_simulation.judge.promises import Broken, Promise
from nixfleet_simulation.scenario.scenario import FRESHNESS_WINDOW_MINUTES
from nixfleet_state_machine.host.state import HostRolloutState

FRESH = timedelta(minutes=FRESHNESS_WINDOW_MINUTES, seconds=60)
AHEAD_MAX = timedelta(seconds=60)


@define
class JudgedHost:
    """One host in one rollout: its record after each of its facts, and its rollback target."""

    records: dict[int, HostRolloutState] = field(factory=dict[int, HostRolloutState])
    last_seq: int = 0
    prior: str | None = None
    is_closed: bool = False


class HostHistories:
    """The histories of all hosts. by_host: by rollout id and host."""

    def __init__(self, releases: Releases) -> None:
        self.checks = 0
        self.facts = 0
        self.by_host: dict[tuple[str, str], JudgedHost] = {}
        self._releases = releases

    def take(self, host: str, writes: Sequence[Write], running: str, trust: TrustRoot) -> None:
        """Check the durable writes of a host's journal; the host runs `running`. Raises: Broken."""
        for write in writes:
            match write:
                case PutRecord():
                    self._record(host, write)
                case AppendEvent():
                    self._fact(host, write, running, trust)
                case RemoveRollout():
                    self.by_host.pop((write.rollout_id, host), None)
                case _:
                    pass

    def lose(self, host: str) -> None:
        """Drop the histories of a host whose disk was lost."""
        for key in [key for key in self.by_host if key[1] == host]:
            del self.by_host[key]

    def _record(self, host: str, write: PutRecord) -> None:
        record = write.record
        history = self.by_host.setdefault((record.rollout_id, host), JudgedHost())
        history.is_closed = write.closed_at is not None
        if record.last_event_seq < history.last_seq:
            found = f"{host} is at fact {record.last_event_seq} of {record.rollout_id}, after {history.last_seq}"
            raise Broken(Promise.JOURNAL, found)
        if record.last_event_seq > history.last_seq + 1 or history.prior is None:
            history.prior = record.current_closure_at_dispatch
        history.records[record.last_event_seq] = record

    def _fact(self, host: str, write: AppendEvent, running: str, trust: TrustRoot) -> None:
        self.checks += 1
        self.facts += 1
        fact, rollout_id = write.fact, write.rollout_id
        history = self.by_host.get((rollout_id, host))
        if history is None or fact.seq not in history.records or fact.seq <= history.last_seq:
            raise Broken(
                Promise.JOURNAL, f"{host} numbers a fact {fact.seq} in {rollout_id}: {fact}"
            )
        history.last_seq = fact.seq
        if isinstance(fact, DispatchAck):
            history.prior = fact.current_closure_at_dispatch
            if history.prior != running:
                found = f"{host} runs {running}, and would go back to {history.prior}"
                raise Broken(Promise.ONLY_WHAT_IS_SIGNED, found)
            self._is_signed(host, rollout_id, fact.received_at, trust)

    def _is_signed(self, host: str, rollout_id: str, now: datetime, trust: TrustRoot) -> Released:
        """Check that CI released it for the host, that the signature is fresh, and that its key is trusted."""
        released = self._releases.find(rollout_id)
        if released is None or host not in released.closures:
            found = f"{host} acknowledges {rollout_id}, which CI never released for it"
            raise Broken(Promise.ONLY_WHAT_IS_SIGNED, found)
        slot = trust.ci_release_key
        good = [key.public_key for key in slot.keys]
        if not any(
            signing.key in good
            and now - signing.at <= FRESH
            and signing.at - now <= AHEAD_MAX
            and (slot.reject_before is None or signing.at >= slot.reject_before)
            for signing in released.signings
        ):
            found = f"{host} acknowledges {rollout_id} at {now}, and no signing of it is good then"
            raise Broken(Promise.ONLY_WHAT_IS_SIGNED, found)
        return released

    def act(self, host: str, intent: Intent) -> None:
        """Check an intent when the machine begins to carry it out. Raises: Broken."""
        self.checks += 1
        released = self._releases.find(intent.rollout_id)
        history = self.by_host.get((intent.rollout_id, host))
        if released is None or history is None:
            found = f"{host} is switched to {intent.closure}, for {intent.rollout_id}"
            raise Broken(Promise.ONLY_WHAT_IS_SIGNED, found)
        allowed = released.closures.get(host) if intent.kind is IntentKind.SWITCH else history.prior
        if intent.closure != allowed:
            found = f"{host} is made to {intent.kind.value} to {intent.closure}, and not {allowed}"
            raise Broken(Promise.ONLY_WHAT_IS_SIGNED, found)
        if history.is_closed:
            found = f"{host} is made to {intent.kind.value} for {intent.rollout_id}, which is over"
            raise Broken(Promise.ONLY_WHAT_IS_SIGNED, found)
