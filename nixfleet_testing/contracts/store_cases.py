"""What a store must give back: for each kind of write, what was written and what a start must then find. Data.

Rows and views are what an engine could write, as far as a store can tell. Texts and times are awkward on
purpose.
"""

from collections import Counter
from collections.abc import Callable
from datetime import datetime

from attrs import evolve, frozen

from nixfleet_control_plane.messages.entry_codec import row_of
from nixfleet_control_plane.messages.inputs import PauseScope
from nixfleet_control_plane.messages.key_ring import EnrolledHost, UsedNonce
from nixfleet_control_plane.messages.log_entry import (
    ArtefactTaken,
    Commanded,
    Deferred,
    Entry,
    FactsReported,
    LoggedEntry,
    LogRow,
    Planned,
    Stopped,
)
from nixfleet_control_plane.messages.writes import (
    ClearProbeFailure,
    OpenProbeFailure,
    PutArtefact,
    PutBeginning,
    PutDeferral,
    PutDispatch,
    PutEnrolledHost,
    PutHold,
    PutHostRecord,
    PutQuarantine,
    PutRefusedEvent,
    PutRevocation,
    PutRollout,
    PutUsedNonce,
    PutWarrant,
    RemoveArtefact,
    RemoveBeginning,
    RemoveBeginnings,
    RemoveDeferral,
    RemoveDispatch,
    RemoveHold,
    RemoveHostRecords,
    RemoveRefusedEvents,
    RemoveRevocations,
    RemoveUsedNonce,
    RemoveWarrants,
    RetireQuarantineRow,
    SetRecordsThrough,
    Write,
)
from nixfleet_control_plane.store.store import (
    Snapshot,
    StoredDispatch,
    StoredFailure,
    StoredHost,
    StoredRefusal,
)
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.codec.warrant import encode_signed_warrant
from nixfleet_proto.codec.wire import batch_payload
from nixfleet_proto.enrollment import Revocation
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.steering.warrant import ClosureRule, SignedWarrant, Warrant
from nixfleet_proto.trust import TrustedKey
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch, EventBatch
from nixfleet_state_machine.planner.action import DeferDispatch, Gate, OpenRollout
from nixfleet_state_machine.planner.holds.hold import Hold, HoldKind, HoldSource
from nixfleet_state_machine.planner.holds.scope import ChannelScope, HoldScope, RolloutScope
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState, Standing
from nixfleet_testing.contracts.histories import (
    CHANNEL,
    CONVERGES,
    HOST,
    OTHER_HOST,
    OTHER_ROLLOUT,
    ROLLBACK_FAILS_FIRST,
    ROLLOUT,
    ROLLS_BACK,
    SOAK,
    TARGET,
    at,
    record_after,
)

SIGNATURE = "ab" * 64
FLEET = "fleet.resolved.json#12ab"
MANIFEST = f"rollouts/{ROLLOUT}.json"

_NOTHING = FrozenMap[int, str]()


def _reported(
    host: str,
    *facts: AgentEvent,
    refused: FrozenMap[int, str] = _NOTHING,
    signature: str | None = None,
    stopped: Stopped | None = None,
    continues: int | None = None,
) -> FactsReported:
    """Return what a host reported in one request; more facts than one as a batch."""
    envelopes = tuple(AgentEventEnvelope(host, ROLLOUT, fact) for fact in facts)
    payload = batch_payload(EventBatch(envelopes))
    return FactsReported(
        host, ROLLOUT, facts, refused, payload.decode(), signature, stopped, continues
    )


# The log under all the views: row n happened n seconds in.
_ENTRIES: tuple[Entry, ...] = (
    ArtefactTaken(FLEET, None, '{"hosts":{"wéb":"“x”\\n"}}', SIGNATURE, "ci"),
    ArtefactTaken(MANIFEST, ROLLOUT, "{}", SIGNATURE, "ci-2"),
    Planned(OpenRollout(ROLLOUT, CHANNEL, "a1b2c3")),
    _reported(HOST, *CONVERGES[:3], signature=SIGNATURE),
    _reported(OTHER_HOST, ROLLBACK_FAILS_FIRST[2], refused=FrozenMap({3: "wéb “x”\n"})),
    Deferred(DeferDispatch(OTHER_HOST, ROLLOUT, Gate.WAVE_PROMOTION, "waits for wave 0")),
    Commanded(PauseScope(ChannelScope(CHANNEL), "Ada O'Brien", 'after "the incident"\n')),
    _reported(HOST, CONVERGES[5], stopped=Stopped(9, "gap"), continues=4),
)
LOGGED = tuple(LoggedEntry(seq, at(seq), entry) for seq, entry in enumerate(_ENTRIES, start=1))
ROWS: tuple[LogRow, ...] = tuple(row_of(each.seq, each.at, each.entry) for each in LOGGED)
LAST = len(ROWS)


def row(seq: int) -> LogRow:
    """Return a log row with this number, that says what none of `ROWS` does."""
    return row_of(seq, at(seq), _reported(HOST, CONVERGES[1]))


def large_row(seq: int) -> LogRow:
    """Return a log row of a mebibyte: more than a full disk takes."""
    return row_of(seq, at(seq), ArtefactTaken(FLEET, None, f'"{"x" * 2**20}"', SIGNATURE, "ci"))


def signed_at(seq: int) -> LoggedEntry:
    """Return the row of a fleet that is signed again: it differs in the time alone, as when `seq` is another."""
    hosts = ",".join(f'"web-{number:03}":{{"tags":["wéb","“x”\\n"]}}' for number in range(40))
    body = f'{{"hosts":{{{hosts}}},"meta":{{"signedAt":"{at(seq).isoformat()}"}}}}'
    return LoggedEntry(seq, at(seq), ArtefactTaken(FLEET, None, body, SIGNATURE, "ci"))


_WHOLE_CHANNEL = ChannelScope(CHANNEL)
ADA = HoldSource(HoldKind.OPERATOR, "ada")
_FREEZE = Hold(
    _WHOLE_CHANNEL,
    HoldSource(HoldKind.FREEZE, "holidays"),
    'after "the incident"\n',
    until=at(9),
    since=at(7),
)


def hold(event_log_seq: int, scope: HoldScope = _WHOLE_CHANNEL) -> PutHold:
    """Return the simplest write that names a row of the log."""
    return PutHold(Hold(scope, ADA, "wait", since=at(1)), event_log_seq)


def dispatch(hostname: str = HOST, rollout_id: str = ROLLOUT) -> Dispatch:
    """Return a dispatch with times to the microsecond."""
    return Dispatch(hostname, rollout_id, TARGET, at(300.000007) + SOAK, at(3))


@frozen
class Case:
    """`writes`, after all of `ROWS`, leave what `found_in` finds as `expected`."""

    writes: tuple[Write, ...]
    found_in: Callable[[Snapshot], object]
    expected: object


_ACTIVE = RolloutRecord(
    rollout_id=ROLLOUT,
    channel=CHANNEL,
    target_ref="a1b2c3",
    state=RolloutState.ACTIVE,
    current_wave=1,
    opened_event_log_seq=3,
    last_transition_event_log_seq=5,
    opened_at=at(3),
    standings=FrozenMap({OTHER_HOST: Standing.EXCUSED, HOST: Standing.LATE}),
    attempts=FrozenMap({OTHER_HOST: 2}),
)
_TERMINAL = evolve(
    _ACTIVE, state=RolloutState.TERMINAL, terminal_at=at(8), last_transition_event_log_seq=8
)
_PRUNED = evolve(_ACTIVE, state=RolloutState.PRUNED)
_SOAKING = record_after(ROLLS_BACK[:7])
# An agent's number may be any unsigned 64-bit one.
_CONVERGED = evolve(record_after(CONVERGES, OTHER_ROLLOUT, OTHER_HOST), last_event_seq=2**64 - 1)
_KEY, _OTHER_KEY = TrustedKey("ab" * 32), TrustedKey("cd" * 32)
_DEFERRAL = DeferDispatch(OTHER_HOST, ROLLOUT, Gate.WAVE_PROMOTION, "waits for “wave 0”")


def _failure(control_id: str | None, framework: str | None, seq: int = 8) -> OpenProbeFailure:
    return OpenProbeFailure(seq, ROLLOUT, HOST, "nginx", control_id, framework, at(seq))


def _over(control_id: str | None, framework: str | None) -> ClearProbeFailure:
    return ClearProbeFailure(
        event_log_seq=5,
        probe_name="nginx",
        control_id=control_id,
        framework=framework,
        cleared_by_seq=8,
    )


def _outstanding(control_id: str | None, framework: str | None, seq: int) -> StoredFailure:
    return StoredFailure(ROLLOUT, HOST, "nginx", control_id, framework, seq)


def _tail(snapshot: Snapshot) -> object:
    return tuple(snapshot.tail)


def _artefacts(snapshot: Snapshot) -> object:
    return snapshot.artefacts


def _rollouts(snapshot: Snapshot) -> object:
    return frozenset(snapshot.rollouts)


def _pruned(snapshot: Snapshot) -> object:
    return frozenset(snapshot.rollouts), frozenset(snapshot.pruned)


def _hosts(snapshot: Snapshot) -> object:
    return {(host.record.rollout_id, host.record.hostname): host for host in snapshot.hosts}


def _failures(snapshot: Snapshot) -> object:
    return frozenset(snapshot.failures)


def _quarantines(snapshot: Snapshot) -> object:
    return frozenset(snapshot.quarantines)


def _dispatches(snapshot: Snapshot) -> object:
    return snapshot.dispatches


def _deferrals(snapshot: Snapshot) -> object:
    return frozenset(snapshot.deferrals)


def _beginnings(snapshot: Snapshot) -> object:
    return Counter(snapshot.beginnings)


def _warrants(snapshot: Snapshot) -> object:
    return sorted(signed.warrant.order_id for signed in snapshot.warrants)


def _relayed(order_id: str) -> PutWarrant:
    why, until = "it eats disks", at(3600)
    order = Warrant(order_id, ROLLOUT, ClosureRule.PRIOR, "ada", why, at(0), until)
    text = encode_signed_warrant(SignedWarrant(order, "00")).decode()
    return PutWarrant(order_id, ROLLOUT, text, 7)


def _holds(snapshot: Snapshot) -> object:
    return frozenset(snapshot.holds)


def _cache(snapshot: Snapshot) -> object:
    return snapshot.cached_through, [logged.seq for logged in snapshot.tail]


def _refusals(snapshot: Snapshot) -> object:
    return frozenset(snapshot.refused)


def _enrolled(snapshot: Snapshot) -> object:
    return frozenset(snapshot.enrolled)


def _used_nonces(snapshot: Snapshot) -> object:
    return frozenset(snapshot.used_nonces)


def _revoked(snapshot: Snapshot) -> object:
    return snapshot.revoked


def _refused(seq: int, hostname: str) -> PutRefusedEvent:
    return PutRefusedEvent(ROLLOUT, hostname, seq, "breaks rule “x”", 4)


def _used(nonce: str) -> UsedNonce:
    return UsedNonce(nonce, HOST, _KEY, at(60.000007))


def _quarantine(channel: str, seq: int = 5) -> PutQuarantine:
    return PutQuarantine(channel, TARGET, at(seq), seq)


def _moved(record: RolloutRecord, at_: datetime) -> frozenset[tuple[RolloutRecord, datetime]]:
    return frozenset({(record, at_)})


CASES: dict[str, Case] = {
    "log rows": Case((), _tail, LOGGED),
    "a rollout": Case((PutRollout(_ACTIVE),), _rollouts, _moved(_ACTIVE, at(5))),
    "a rollout that moved on": Case(
        (PutRollout(_ACTIVE), PutRollout(_TERMINAL)), _rollouts, _moved(_TERMINAL, at(8))
    ),
    "a pruned rollout": Case(
        (PutRollout(_ACTIVE), PutRollout(_PRUNED)),
        _pruned,
        (frozenset[RolloutRecord](), frozenset({ROLLOUT})),
    ),
    "a pruned rollout whose manifest is in force": Case(
        (PutRollout(_PRUNED), PutArtefact(MANIFEST, ROLLOUT, 2)),
        _pruned,
        (_moved(_PRUNED, at(5)), frozenset({ROLLOUT})),
    ),
    "host records": Case(
        (PutHostRecord(_SOAKING, 4), PutHostRecord(_CONVERGED, 8)),
        _hosts,
        {
            (ROLLOUT, HOST): StoredHost(_SOAKING, 4),
            (OTHER_ROLLOUT, OTHER_HOST): StoredHost(_CONVERGED, 8),
        },
    ),
    "a host record that moved on": Case(
        (PutHostRecord(record_after(ROLLS_BACK[:3]), 4), PutHostRecord(_SOAKING, 8)),
        _hosts,
        {(ROLLOUT, HOST): StoredHost(_SOAKING, 8)},
    ),
    "the host records of one rollout, removed": Case(
        (PutHostRecord(_SOAKING, 4), PutHostRecord(_CONVERGED, 8), RemoveHostRecords(ROLLOUT)),
        _hosts,
        {(OTHER_ROLLOUT, OTHER_HOST): StoredHost(_CONVERGED, 8)},
    ),
    "the host record of one host, removed": Case(
        (
            PutHostRecord(_SOAKING, 4),
            PutHostRecord(_CONVERGED, 8),
            RemoveHostRecords(_CONVERGED.rollout_id, HOST),
            RemoveHostRecords(_SOAKING.rollout_id, HOST),
        ),
        _hosts,
        {(OTHER_ROLLOUT, OTHER_HOST): StoredHost(_CONVERGED, 8)},
    ),
    "how far the cache is complete": Case((SetRecordsThrough(6),), _cache, (6, [7, 8])),
    "probe failures": Case(
        (_failure(None, None), _failure("tls", "bsi"), _failure("tls", "cis")),
        _failures,
        frozenset(
            {
                _outstanding(None, None, 8),
                _outstanding("tls", "bsi", 8),
                _outstanding("tls", "cis", 8),
            }
        ),
    ),
    "a probe failure that is over": Case(
        (
            *(_failure(control, "bsi", seq) for seq in (4, 5) for control in ("tls", "hsts")),
            _failure(None, None, 5),
            _over("tls", "bsi"),
            _over(None, None),
        ),
        _failures,
        frozenset(
            {
                _outstanding("tls", "bsi", 4),
                _outstanding("hsts", "bsi", 4),
                _outstanding("hsts", "bsi", 5),
            }
        ),
    ),
    "quarantines": Case(
        (_quarantine(CHANNEL), _quarantine("edge")),
        _quarantines,
        frozenset({(CHANNEL, TARGET), ("edge", TARGET)}),
    ),
    "a retired quarantine": Case(
        (_quarantine(CHANNEL), _quarantine("edge"), RetireQuarantineRow(CHANNEL, TARGET, 7)),
        _quarantines,
        frozenset({("edge", TARGET)}),
    ),
    "a quarantine that is back": Case(
        (_quarantine(CHANNEL), RetireQuarantineRow(CHANNEL, TARGET, 7), _quarantine(CHANNEL, 8)),
        _quarantines,
        frozenset({(CHANNEL, TARGET)}),
    ),
    "dispatches, oldest first": Case(
        (
            PutDispatch(dispatch(rollout_id=OTHER_ROLLOUT), 4, at(4)),
            PutDispatch(dispatch(OTHER_HOST), 5, at(5)),
            PutDispatch(dispatch(), 6, at(6)),
        ),
        _dispatches,
        (
            StoredDispatch(dispatch(rollout_id=OTHER_ROLLOUT), at(4)),
            StoredDispatch(dispatch(OTHER_HOST), at(5)),
            StoredDispatch(dispatch(), at(6)),
        ),
    ),
    "a removed dispatch": Case(
        (
            PutDispatch(dispatch(), 4, at(4)),
            PutDispatch(dispatch(OTHER_HOST), 5, at(5)),
            PutDispatch(dispatch(rollout_id=OTHER_ROLLOUT), 6, at(6)),
            RemoveDispatch(HOST, ROLLOUT),
        ),
        _dispatches,
        (
            StoredDispatch(dispatch(OTHER_HOST), at(5)),
            StoredDispatch(dispatch(rollout_id=OTHER_ROLLOUT), at(6)),
        ),
    ),
    "a deferral with a new reason": Case(
        (PutDeferral(evolve(_DEFERRAL, reason="old"), at(4), 4), PutDeferral(_DEFERRAL, at(6), 6)),
        _deferrals,
        frozenset({_DEFERRAL}),
    ),
    "a removed deferral": Case(
        (
            PutDeferral(_DEFERRAL, at(6), 6),
            PutDeferral(evolve(_DEFERRAL, host=HOST), at(6), 6),
            RemoveDeferral(HOST, ROLLOUT),
        ),
        _deferrals,
        frozenset({_DEFERRAL}),
    ),
    "holds": Case(
        (PutHold(_FREEZE, 7), hold(7), hold(7, RolloutScope(ROLLOUT))),
        _holds,
        frozenset({_FREEZE, hold(7).hold, hold(7, RolloutScope(ROLLOUT)).hold}),
    ),
    "a hold that was put again": Case(
        (PutHold(evolve(_FREEZE, until=at(8), reason="shorter"), 7), PutHold(_FREEZE, 7)),
        _holds,
        frozenset({_FREEZE}),
    ),
    "a removed hold": Case(
        (hold(7), PutHold(_FREEZE, 7), RemoveHold(_WHOLE_CHANNEL, ADA)),
        _holds,
        frozenset({_FREEZE}),
    ),
    "beginnings": Case(
        (
            PutBeginning("all", at(1), 2),
            PutBeginning("all", at(2), 3),
            PutBeginning("web", at(1), 4),
        ),
        _beginnings,
        {("all", at(1)): 1, ("all", at(2)): 1, ("web", at(1)): 1},
    ),
    "beginnings that are over": Case(
        (
            PutBeginning("all", at(1), 2),
            PutBeginning("all", at(2), 3),
            PutBeginning("web", at(1), 4),
            RemoveBeginnings("all", at(1)),
        ),
        _beginnings,
        {("all", at(2)): 1, ("web", at(1)): 1},
    ),
    "a beginning that was none": Case(
        (
            PutBeginning("all", at(1), 2),
            PutBeginning("all", at(1), 3),
            PutBeginning("all", at(2), 4),
            PutBeginning("web", at(1), 5),
            RemoveBeginning("all", at(1)),
            RemoveBeginning("all", at(3)),
        ),
        _beginnings,
        {("all", at(1)): 1, ("all", at(2)): 1, ("web", at(1)): 1},
    ),
    "warrants": Case((_relayed("order-1"), _relayed("order-2")), _warrants, ["order-1", "order-2"]),
    "warrants that are relayed no more": Case(
        (_relayed("order-1"), _relayed("order-2"), RemoveWarrants(ROLLOUT)), _warrants, []
    ),
    "artefacts, oldest first": Case(
        (PutArtefact(MANIFEST, ROLLOUT, 2), PutArtefact(FLEET, None, 1)),
        _artefacts,
        LOGGED[:2],
    ),
    "an artefact that was replaced": Case(
        (PutArtefact(FLEET, None, 1), PutArtefact(FLEET, None, 2)), _artefacts, LOGGED[1:2]
    ),
    "refused events": Case(
        (_refused(4, HOST), _refused(2**64 - 1, OTHER_HOST), _refused(5, OTHER_HOST)),
        _refusals,
        frozenset(
            {
                StoredRefusal(ROLLOUT, HOST, 4, "breaks rule “x”", counts=True),
                StoredRefusal(ROLLOUT, OTHER_HOST, 2**64 - 1, "breaks rule “x”", counts=True),
                StoredRefusal(ROLLOUT, OTHER_HOST, 5, "breaks rule “x”", counts=True),
            }
        ),
    ),
    "a refused event whose host was resumed, by a row of no rollout": Case(
        (_refused(4, HOST), PutRefusedEvent(ROLLOUT, HOST, 4, "breaks rule “x”", 1)),
        _refusals,
        frozenset({StoredRefusal(ROLLOUT, HOST, 4, "breaks rule “x”", counts=False)}),
    ),
    "the refused events of one rollout, removed": Case(
        (
            _refused(4, HOST),
            PutRefusedEvent(OTHER_ROLLOUT, HOST, 4, "no", 5),
            RemoveRefusedEvents(ROLLOUT),
        ),
        _refusals,
        frozenset({StoredRefusal(OTHER_ROLLOUT, HOST, 4, "no", counts=True)}),
    ),
    "the refused events of one host, removed": Case(
        (_refused(4, HOST), _refused(4, OTHER_HOST), RemoveRefusedEvents(ROLLOUT, HOST)),
        _refusals,
        frozenset({StoredRefusal(ROLLOUT, OTHER_HOST, 4, "breaks rule “x”", counts=True)}),
    ),
    "an enrolled host that enrolled again": Case(
        (
            PutEnrolledHost(EnrolledHost(HOST, _KEY, at(4)), 4),
            PutEnrolledHost(EnrolledHost(OTHER_HOST, _KEY, at(5)), 5),
            PutEnrolledHost(EnrolledHost(HOST, _OTHER_KEY, at(6.000007)), 6),
        ),
        _enrolled,
        frozenset(
            {
                EnrolledHost(HOST, _OTHER_KEY, at(6.000007)),
                EnrolledHost(OTHER_HOST, _KEY, at(5)),
            }
        ),
    ),
    "used nonces, one forgotten": Case(
        (
            PutUsedNonce(_used("n-1"), 4),
            PutUsedNonce(_used("n-2"), 5),
            RemoveUsedNonce("n-1"),
        ),
        _used_nonces,
        frozenset({_used("n-2")}),
    ),
    "revocations in place of others": Case(
        (
            PutRevocation(Revocation(HOST, at(1)), 4),
            RemoveRevocations(),
            PutRevocation(Revocation(OTHER_HOST, at(2), "stolen"), 5),
        ),
        _revoked,
        (Revocation(OTHER_HOST, at(2), "stolen"),),
    ),
    "a removed artefact": Case(
        (PutArtefact(FLEET, None, 1), PutArtefact(MANIFEST, ROLLOUT, 2), RemoveArtefact(FLEET)),
        _artefacts,
        LOGGED[1:2],
    ),
}
"""Every kind of write, by what it is about."""
