"""Checks the hosts: the facts in each journal, and the intents that each machine carries out.

It stores the host's record after each fact, for comparison with the control plane's mirror.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from attrs import define, field

from nixfleet_agent.messages.inputs import Intent, IntentKind
from nixfleet_agent.messages.writes import (
    AppendEvent,
    PutRecord,
    RemoveRollout,
    SetRolloutAside,
    Write,
)
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    AgentEvent,
    Converged,
    DispatchAck,
    Failed,
    ProbeMode,
    ProbeResult,
    ProbeStatus,
    Recalled,
)
from nixfleet_proto.steering.warrant import Warrant
from nixfleet_proto.trust import TrustRoot
from nixfleet_simulation.judge.model.lies import Lies
from nixfleet_simulation.judge.model.releases import Released, Releases
from nixfleet_simulation.judge.promises import Broken, Promise
from nixfleet_simulation.nodes.agenda import HOUR, MINUTE, SECOND
from nixfleet_simulation.nodes.host.process import MachineSeen
from nixfleet_simulation.scenario.scenario import FRESHNESS_WINDOW_MINUTES
from nixfleet_state_machine.host.state import HostRolloutState, HostState

FRESH = timedelta(minutes=FRESHNESS_WINDOW_MINUTES, seconds=60)
AHEAD_MAX = timedelta(seconds=60)
KEPT_FOR = 72 * HOUR
SEQ_MAX = 2**32
"""No host has as many facts. A number near the end of 64 bits leaves no next one."""
WRITE_MAX = 30 * SECOND
"""A change is durable this long after it was decided, at the latest."""
OWN_PROBES = ("health-checks", "running-closure")
"""The agent's own findings. The other probes come from the closure."""


@define
class JudgedHost:
    """One host in one rollout: its record after each of its facts, and its rollback target.

    lived: the number of facts of this journal. taken_over_seq: up to which fact it was taken over. closed_at,
    acknowledged_at, soaks_from: true time. clock_set_forward: as it was at `soaks_from`. has_passed: an enforce probe
    of the closure passed since then. failing: since when each probe that fails has done so, by a clock that is never
    set back.
    """

    records: dict[int, HostRolloutState] = field(factory=dict[int, HostRolloutState])
    last_seq: int = 0
    prior: str | None = None
    is_closed: bool = False
    lived: int = 0
    taken_over_seq: int = 0
    closed_at: int = 0
    acknowledged_at: int = 0
    soaks_from: int | None = None
    clock_set_forward: int = 0
    has_passed: bool = False
    attempt: int = 1
    failing: dict[str, datetime] = field(factory=dict[str, datetime])

    def soak_from(self, moment: int, machine: MachineSeen) -> None:
        """Begin a soak."""
        self.soaks_from = moment
        self.clock_set_forward = machine.clock_set_forward
        self.has_passed = False
        self.failing.clear()


@define
class Memory:
    """What a journal must remember.

    orders: those obeyed. left: by closure, the release that was rolled back, the newest one by then, and which
    attempt it was.
    """

    newest: Released | None = None
    orders: set[str] = field(factory=set[str])
    left: dict[str, tuple[Released, Released, int]] = field(
        factory=dict[str, tuple[Released, Released, int]]
    )


class HostHistories:
    """The histories of all hosts. by_host: each history, by rollout id and host name."""

    def __init__(self, releases: Releases, lies: Lies, threshold_seconds: float) -> None:
        self.checks = 0
        self.facts = 0
        self.orders: dict[str, Warrant] = {}
        self.by_host: dict[tuple[str, str], JudgedHost] = {}
        self._releases = releases
        self._threshold = timedelta(seconds=threshold_seconds)
        self._lies = lies
        self._memories: dict[str, Memory] = {}
        self._lost: set[str] = set()

    def take(
        self, host: str, writes: Sequence[Write], machine: MachineSeen, trust: TrustRoot
    ) -> None:
        """Check the durable writes of a host's journal. Raises: Broken."""
        for write in writes:
            match write:
                case PutRecord():
                    self._record(host, write, machine)
                case AppendEvent():
                    self._fact(host, write, machine, trust)
                case RemoveRollout():
                    self._remove(host, write.rollout_id, machine)
                case SetRolloutAside():
                    self._set_aside(host, write.rollout_id)
                case _:
                    pass
        for write in writes:
            if isinstance(write, PutRecord):
                self._require_a_fact(host, write)

    def lose(self, host: str) -> None:
        """Drop the histories of a host whose disk was lost."""
        for key in [key for key in self.by_host if key[1] == host]:
            del self.by_host[key]
        self._memories.pop(host, None)
        self._lost.add(host)

    def _memory(self, host: str) -> Memory:
        return self._memories.setdefault(host, Memory())

    def _record(self, host: str, write: PutRecord, machine: MachineSeen) -> None:
        record = write.record
        history = self.by_host.setdefault((record.rollout_id, host), JudgedHost())
        if write.closed_at is not None and not history.is_closed:
            history.closed_at = machine.at
        history.is_closed = write.closed_at is not None
        if write.taken_over_seq != history.taken_over_seq:
            self._taken_over(host, history, write, machine)
        if record.last_event_seq < history.last_seq:
            found = f"{host} is at fact {record.last_event_seq} of {record.rollout_id}, after {history.last_seq}"
            raise Broken(Promise.JOURNAL, found)
        if record.last_event_seq > history.last_seq + 1 or history.prior is None:
            history.prior = record.current_closure_at_dispatch
        history.records[record.last_event_seq] = record

    def _require_a_fact(self, host: str, write: PutRecord) -> None:
        """Check that a commit leaves no record without a fact: it would count as an acknowledged dispatch."""
        history = self.by_host.get((write.record.rollout_id, host))
        if history is not None and not history.last_seq and not history.taken_over_seq:
            found = f"{host} takes over a record without a fact: {write.record}"
            raise Broken(Promise.OWN_JOURNAL, found)

    def _taken_over(
        self, host: str, history: JudgedHost, write: PutRecord, machine: MachineSeen
    ) -> None:
        """Check a record that was taken over from an answer: only an empty journal takes one, and only a usable one."""
        record = write.record
        self.checks += 1
        history.taken_over_seq = write.taken_over_seq
        if any(other.lived for (_, name), other in self.by_host.items() if name == host):
            found = f"{host} has facts, and takes over a record of {record.rollout_id}: {record}"
            raise Broken(Promise.OWN_JOURNAL, found)
        if not 0 < record.last_event_seq <= SEQ_MAX:
            found = f"{host} takes over a record with the number {record.last_event_seq}"
            raise Broken(Promise.OWN_JOURNAL, found)
        self._lies.note_followed(record.rollout_id, host)
        released = self._releases.find(record.rollout_id)
        if released is None or released.closures.get(host) != record.target_closure:
            found = f"{host} takes over a record that CI did not sign: {record}"
            raise Broken(Promise.ONLY_WHAT_IS_SIGNED, found)
        self._obey(host, record.rollout_id, released)
        if record.state is HostState.SOAKING:
            history.soak_from(machine.at - WRITE_MAX, machine)

    def _require_cut_off(self, host: str, fact: AgentEvent, machine: MachineSeen) -> None:
        """Check that a host blames its silence on its release only if that cut it off: the second address answers."""
        if not isinstance(fact, ProbeResult) or fact.probe_name != "home":
            return
        self.checks += 1
        is_settled = machine.at - machine.running_since > MINUTE
        if fact.status is ProbeStatus.FAIL and is_settled and not machine.is_cut_off:
            raise Broken(Promise.COMES_HOME, f"{host} fails for its silence, and its network works")

    def _require_ordered(
        self, host: str, rollout_id: str, fact: Recalled, history: JudgedHost
    ) -> None:
        """Check that an operator ordered it, for this host and then, once, and that what CI signed grants it."""
        self.checks += 1
        order, released = self.orders.get(fact.order_id), self._releases.find(rollout_id)
        memory = self._memory(host)
        wrong = (
            "nobody gave it"
            if order is None
            else "it is for another rollout"
            if order.rollout_id != rollout_id
            else "it is for other hosts"
            if order.hosts and host not in order.hosts
            else "it is over"
            if fact.recalled_at >= order.expires_at
            else "it is of the future"
            if order.issued_at - fact.recalled_at > AHEAD_MAX
            else "it was obeyed before"
            if fact.order_id in memory.orders
            else "its rollout is over"
            if history.is_closed
            else "what it ran before is not known to it"
            if history.taken_over_seq
            else "CI did not grant it"
            if released is None or released.layout.recall == "never"
            else None
        )
        memory.orders.add(fact.order_id)
        if wrong is not None:
            found = f"{host} goes back in {rollout_id} by {fact.order_id}: {wrong}"
            raise Broken(Promise.WARRANTS, found)

    def _remove(self, host: str, rollout_id: str, machine: MachineSeen) -> None:
        """Check that facts are removed only after their rollout has been closed for long."""
        self.checks += 1
        history = self.by_host.pop((rollout_id, host), None)
        if history is None or (
            history.is_closed and machine.at - history.closed_at >= KEPT_FOR - WRITE_MAX
        ):
            return
        raise Broken(Promise.OWN_JOURNAL, f"{host} deletes its facts of {rollout_id}")

    def _set_aside(self, host: str, rollout_id: str) -> None:
        """Check that facts are set aside only where they have lost their beginning."""
        self.checks += 1
        history = self.by_host.pop((rollout_id, host), None)
        if history is not None and not history.taken_over_seq:
            found = f"{host} sets its facts of {rollout_id} aside, which has all of them"
            raise Broken(Promise.OWN_JOURNAL, found)

    def _fact(self, host: str, write: AppendEvent, machine: MachineSeen, trust: TrustRoot) -> None:
        self.checks += 1
        self.facts += 1
        fact, rollout_id = write.fact, write.rollout_id
        history = self.by_host.get((rollout_id, host))
        if history is None or fact.seq not in history.records or fact.seq <= history.last_seq:
            raise Broken(
                Promise.JOURNAL, f"{host} numbers a fact {fact.seq} in {rollout_id}: {fact}"
            )
        history.last_seq = fact.seq
        history.lived += 1
        self._require_cut_off(host, fact, machine)
        match fact:
            case DispatchAck():
                history.prior = fact.current_closure_at_dispatch
                history.acknowledged_at = machine.at
                history.attempt = fact.attempt_number
                if history.prior != machine.running:
                    found = f"{host} runs {machine.running}, and would go back to {history.prior}"
                    raise Broken(Promise.ONLY_WHAT_IS_SIGNED, found)
                released = self._is_signed(host, rollout_id, fact.received_at, trust)
                self._obey(host, rollout_id, released)
                _require_signed_soak(history.records[fact.seq], released)
                if host in self._lost:
                    self._lies.note_followed(rollout_id, host)
            case ActivationCompleted():
                began = max(machine.running_since, history.acknowledged_at)
                history.soak_from(began, machine)
            case ProbeResult():
                is_own = fact.probe_name in OWN_PROBES
                if fact.mode is ProbeMode.ENFORCE and not is_own:
                    history.has_passed |= fact.status is ProbeStatus.PASS
                if fact.status is ProbeStatus.PASS:
                    history.failing.pop(fact.probe_name, None)
                else:
                    since = fact.observed_at + _set_back(machine)
                    history.failing.setdefault(fact.probe_name, since)
            case Failed():
                self._require_sustained(host, rollout_id, fact, history, machine)
            case Recalled():
                self._require_ordered(host, rollout_id, fact, history)
            case Converged():
                self._require_whole_soak(host, rollout_id, history, machine)
            case _:
                pass

    def _obey(self, host: str, rollout_id: str, released: Released) -> None:
        """Check that the release is not older than the newest one that the host obeyed."""
        self.checks += 1
        memory = self._memory(host)
        if memory.newest is not None and released.is_older_than(memory.newest):
            found = f"{host} obeys {rollout_id}, which is older than what it obeyed before"
            raise Broken(Promise.NOTHING_OLDER, found)
        memory.newest = released

    def _require_sustained(
        self,
        host: str,
        rollout_id: str,
        fact: Failed,
        history: JudgedHost,
        machine: MachineSeen,
    ) -> None:
        """Check that each probe failed for the threshold, by the times of its facts and how the clock was set back."""
        self.checks += 1
        if fact.sustained_duration_secs == 0:
            return
        for name in fact.failing_probes:
            since = history.failing.get(name)
            if since is None:
                continue  # It failed before the history was taken over.
            lasted = fact.failed_at + _set_back(machine) - since
            if lasted < self._threshold:
                found = f"{host} in {rollout_id}: it Failed for {name}, which failed for {lasted}"
                raise Broken(Promise.HOST_MACHINE, found)

    def _require_whole_soak(
        self, host: str, rollout_id: str, history: JudgedHost, machine: MachineSeen
    ) -> None:
        """Check, by true time, that the host ran it for the signed soak; a clock that was set forward is taken off."""
        self.checks += 1
        released = self._releases.find(rollout_id)
        if released is None or history.soaks_from is None:
            raise Broken(Promise.WHOLE_SOAK, f"{host} converged in {rollout_id} without a soak")
        soaked = machine.at - history.soaks_from
        skipped = machine.clock_set_forward - history.clock_set_forward
        if soaked + skipped < released.layout.soak_minutes * MINUTE:
            found = (
                f"{host} converged in {rollout_id} after {soaked / SECOND:.0f} s, "
                f"and {released.layout.soak_minutes} min were signed"
            )
            raise Broken(Promise.WHOLE_SOAK, found)
        if not history.has_passed:
            found = f"{host} converged in {rollout_id}, and no probe has passed since it activated"
            raise Broken(Promise.WHOLE_SOAK, found)

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
        self._require_not_left(host, intent, released, history.attempt)
        if history.is_closed:
            found = f"{host} is made to {intent.kind.value} for {intent.rollout_id}, which is over"
            raise Broken(Promise.ONLY_WHAT_IS_SIGNED, found)

    def _require_not_left(
        self, host: str, intent: Intent, released: Released, attempt: int
    ) -> None:
        """Check that a switch is not to what the host rolled back from.

        Unless another release was signed since, or the one that was rolled back signs another attempt.
        """
        memory = self._memory(host)
        if intent.kind is IntentKind.ROLLBACK:
            target = released.closures[host]
            memory.left[target] = released, memory.newest or released, attempt
            return
        rolled_back = memory.left.get(intent.closure)
        if rolled_back is None:
            return
        left_in, newest, left_at = rolled_back
        if released is left_in and left_at < attempt <= released.layout.policy.retry.attempts:
            return
        if released is left_in or released.is_older_than(newest):
            found = f"{host} is switched to {intent.closure} again, in {intent.rollout_id}"
            raise Broken(Promise.NOTHING_OLDER, found)


def _set_back(machine: MachineSeen) -> timedelta:
    """Return what makes a time of the machine's clock one of a clock that was never set back."""
    return timedelta(microseconds=machine.clock_set_back)


def _require_signed_soak(record: HostRolloutState, released: Released) -> None:
    """Check that an acknowledged dispatch asks for the signed soak, and not from a later time."""
    began, due = record.dispatched_at, record.soak_due_at
    signed = timedelta(minutes=released.layout.soak_minutes)
    is_dated_ahead = began is None or began > (record.dispatch_acked_at or began)
    if began is None or due is None or due - began != signed or is_dated_ahead:
        found = f"{record.hostname} is to soak in {record.rollout_id} from {began} to {due}, and {signed} were signed"
        raise Broken(Promise.WHOLE_SOAK, found)
