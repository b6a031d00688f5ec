"""An order to hosts before it is signed: what it would allow, to which hosts, and what they would do with it.

An order is signed by its operator, and each host verifies it by itself. Here it is signed by a key that only the run
believes; then hosts are told by the control plane's own code, when their turn comes, and obey.
Source: docs/spec/forecast.md, Previews.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Final, assert_never

from attrs import frozen

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.host_record import is_to_go
from nixfleet_control_plane.engine.state import HostKey, State
from nixfleet_control_plane.engine.warrants import hand_out_warrants
from nixfleet_control_plane.messages.inputs import HostEvents, RelayWarrant, Signed
from nixfleet_control_plane.overview.words import hosts_words, minute
from nixfleet_forecast.ahead import Ahead
from nixfleet_proto.agent_event import AgentEvent, Recalled, RollbackComplete
from nixfleet_proto.codec.warrant import encode_signed_warrant
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.signing.warrant import sign_warrant
from nixfleet_proto.steering.warrant import ClosureRule, Warrant
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.fact_words import short
from nixfleet_runtime.http.previews import OrderedHost, OrderPreview
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.holds.device import DEVICE
from nixfleet_state_machine.planner.holds.scope import HostScope

KEY: Final = SigningKey(sha256(b"signs what a preview states, and nothing else").digest())
NOT_STATED: Final = "a preview"
HOSTS_MAX: Final = 20
"""So many hosts are told of one by one."""
_STEP: Final = timedelta(minutes=1)
_NAMED_MAX: Final = 5
_NOT_KNOWN: Final = "not known"
_MAY: Final = {
    ClosureRule.PRIOR: "may go back to what it ran before this release",
    ClosureRule.TARGET: "may begin although its own lock says not now",
}
_UNSIGNED: Final = Signed(b"{}", None)


@frozen
class Order:
    """An order that an operator may sign. hosts: empty: all of the rollout."""

    rollout_id: RolloutId
    rule: ClosureRule
    hosts: tuple[str, ...]
    expires_at: datetime
    operator: str

    def relayed(self, now: datetime) -> RelayWarrant:
        """Return what the engine is told of it. Raises: InvalidValue, for an order that cannot be signed."""
        hosts = tuple(sorted(set(self.hosts)))
        warrant = Warrant(
            NOT_STATED,
            self.rollout_id,
            self.rule,
            self.operator,
            NOT_STATED,
            now,
            self.expires_at,
            hosts,
        )
        signed = encode_signed_warrant(sign_warrant(warrant, KEY))
        return RelayWarrant(self.rollout_id, signed.decode(), self.operator, NOT_STATED)


class OrderedHosts:
    """The hosts of an order that was just relayed, in one run: they are told when the control plane's code tells them.

    allowed: what it allows each host that it is for, by name. moved: the hosts that obeyed it.
    """

    def __init__(self, ahead: Ahead, order: Order) -> None:
        self._ahead = ahead
        self._order = order
        self.moved = set[str]()
        targets = ahead.state.view.terms(order.rollout_id).targets
        self._names = sorted(order.hosts or targets)
        self.allowed = tuple(_allowed(ahead.state, order, host) for host in self._names)
        ahead.at(ahead.now + _STEP, self._turn)

    def _turn(self) -> None:
        """Every host asks what there is for it, as it does with each heartbeat."""
        state, now, rollout_id = self._ahead.state, self._ahead.now, self._order.rollout_id
        if now >= self._order.expires_at or rollout_id not in state.view.open_rollouts:
            return
        left = [host for host in self._names if self._is_left(host)]
        for host in left:
            state.last_heard.set(host, now)
        told = [host for host in left if self._is_told(host)]
        for host in told:
            self._obey(host)
        if left:
            self._ahead.at(now + _STEP, self._turn)

    def _is_left(self, host: str) -> bool:
        record = self._ahead.state.view.host(self._order.rollout_id, host)
        if record is None or host in self.moved:
            return False
        match self._order.rule:
            case ClosureRule.PRIOR:
                return is_to_go(record)
            case ClosureRule.TARGET:
                return record.state is HostState.PENDING or record.may_try_again
            case _:
                assert_never(self._order.rule)

    def _is_told(self, host: str) -> bool:
        handed = hand_out_warrants(self._ahead.state, host, self._ahead.now)
        return any(it.warrant.order_id == NOT_STATED for it in handed)

    def _obey(self, host: str) -> None:
        ahead, key = self._ahead, (self._order.rollout_id, host)
        self.moved.add(host)
        match self._order.rule:
            case ClosureRule.TARGET:
                ahead.state.end_device_hold(CommitBuilder(), host)
                ahead.plan()
            case ClosureRule.PRIOR:
                self._say(key, _recalled)
                ahead.at(ahead.now + _STEP, partial(self._say, key, _rolled_back))
            case _:
                assert_never(self._order.rule)

    def _say(
        self, key: HostKey, fact_of: Callable[[HostRolloutState, datetime, int], AgentEvent]
    ) -> None:
        record = self._ahead.state.view.host(*key)
        if record is not None:
            fact = fact_of(record, self._ahead.now, record.last_event_seq + 1)
            envelope = AgentEventEnvelope(key[1], key[0], fact)
            self._ahead.tell(HostEvents(key[1], (envelope,), _UNSIGNED))


def order_preview(order: Order, hosts: OrderedHosts) -> OrderPreview:
    """Return what an order allows, and how many hosts move because of it in the run."""
    movable = sum(it.may_move for it in hosts.allowed)
    # Those that it moves are what matters.
    shown = sorted(hosts.allowed, key=lambda it: not it.may_move)[:HOSTS_MAX]
    return OrderPreview(
        order.rule, order.expires_at, len(hosts.allowed), movable, len(hosts.moved), tuple(shown)
    )


def order_sentences(order: OrderPreview) -> Iterator[str]:
    """Yield what an order allows, to whom, until when, and what comes of it."""
    until = minute(order.until)
    if not order.may_move:
        yield f"the order moves no host now; it is good until {until}"
    else:
        who = "1 host" if order.may_move == 1 else f"each of {order.may_move:,} hosts"
        yield f"until {until} {who} {_MAY[order.rule]}"
    for host in order.hosts[:_NAMED_MAX]:
        yield f"{host.hostname}: {host.text}"
    if order.count > _NAMED_MAX:
        yield f"{order.count - _NAMED_MAX:,} more of the order's hosts are not listed here"
    if order.rule is ClosureRule.PRIOR and order.moved:
        goes = "goes" if order.moved == 1 else "go"
        yield f"{hosts_words(order.moved)} {goes} back, those of the newest wave first, within budgets"


def _recalled(record: HostRolloutState, now: datetime, seq: int) -> AgentEvent:
    return Recalled(NOT_STATED, now, seq)


def _rolled_back(record: HostRolloutState, now: datetime, seq: int) -> AgentEvent:
    return RollbackComplete(record.current_closure_at_dispatch or _NOT_KNOWN, 0, now, seq)


def _allowed(state: State, order: Order, hostname: str) -> OrderedHost:
    record = state.view.host(order.rollout_id, hostname)
    if record is None:
        return OrderedHost(hostname, "it has no record in the rollout")
    match order.rule:
        case ClosureRule.PRIOR:
            return _allowed_back(state, record)
        case ClosureRule.TARGET:
            return _allowed_on(state, record)
        case _:
            assert_never(order.rule)


def _allowed_back(state: State, record: HostRolloutState) -> OrderedHost:
    host = record.hostname
    if is_to_go(record):
        back = short(record.current_closure_at_dispatch or _NOT_KNOWN)
        return OrderedHost(host, f"it is {record.state}, and goes back to {back}", True)
    if record.is_rolling_back:
        return OrderedHost(host, "it rolls back already")
    if record.state is HostState.REVERTED:
        return OrderedHost(host, "it is back already")
    if state.view.is_queued(record.rollout_id, host):
        return OrderedHost(host, "its dispatch is out: if it has begun, it goes back")
    return OrderedHost(host, f"it is {record.state}: nothing is to be taken back on it")


def _allowed_on(state: State, record: HostRolloutState) -> OrderedHost:
    host = record.hostname
    if record.state is not HostState.PENDING and not record.may_try_again:
        return OrderedHost(host, f"it is {record.state}: it has begun already")
    lock = state.view.holds.get(HostScope(host), DEVICE)
    if lock is None:
        return OrderedHost(host, "no lock holds it now: the order counts if one does by then")
    return OrderedHost(host, f"it begins although its lock says not now: {lock.reason}", True)
