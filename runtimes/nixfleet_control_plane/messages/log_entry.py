"""The entries of the canonical log, and the hash chain over its rows. Data and pure functions.

An entry holds everything needed to repeat its effect on the state before it. `ENTRY_KINDS` are the values of the
`kind` column. What a host reports in one request is one entry; `lines_of` tells it one fact at a time.
Source: docs/spec/log.md.
"""

from datetime import datetime
from hashlib import sha256
from typing import Final, NamedTuple, TypeAlias

from attrs import frozen

from nixfleet_control_plane.messages.inputs import OperatorCommand
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.drafting import maker
from nixfleet_proto.enrollment import SignedToken
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    OpenRollout,
    QueueDispatch,
    WithdrawDispatch,
)
from nixfleet_state_machine.planner.holds.hold import HoldEvent
from nixfleet_state_machine.planner.pace.minute import SlotsReturned
from nixfleet_state_machine.rollout.event import RolloutEvent
from nixfleet_state_machine.shards.channel_seen import AsOf, ChannelSeen

ENTRY_KINDS: Final = (
    "agent_events",
    "fact_refused",
    "rollout_event",
    "plan_action",
    "gate_decision",
    "operator_command",
    "artefact_accepted",
    "artefact_refused",
    "host_enrolled",
    "identity_forked",
)
EARLIER_KINDS: Final = ("agent_event", "verify_outcome")
"""What format 1 of the log had: a row for each fact, and one kind for all that was verified. Read, never written."""
FIRST_PREV_HASH = bytes(32)


@frozen
class Stopped:
    """Where a request stopped: at the fact `seq`, and why. by: `gap`, `early`, `forked` or `held`."""

    seq: int
    by: str


@frozen
class FactsReported:
    """What a host reported of one rollout in one request, and what came of it.

    facts: those that were decided here, in order: applied to the host's record, or refused, with the reason in
    `refused`. Facts of the payload with lower numbers were known before, those with higher ones were not reached.
    payload: JSON, the very text that was signed; canonical JSON of the same form, if nothing was.
    continues: the row with what was signed, if rows of other kinds came between facts of the request.
    """

    host: str
    rollout_id: RolloutId
    facts: tuple[AgentEvent, ...]
    refused: FrozenMap[int, str]
    payload: str
    signature: str | None
    stopped: Stopped | None = None
    continues: int | None = None


@frozen
class FactReported:
    """A host reported a fact, and it was applied to the host's record. A line; in format 1 of the log a row.

    signature: that of the whole request.
    """

    host: str
    rollout_id: RolloutId
    fact: AgentEvent
    signature: str | None


@frozen
class FactRefused:
    """A host reported a fact that does not apply. The record advances to its number and is otherwise unchanged.

    A line; in format 1 of the log a row.
    """

    host: str
    rollout_id: RolloutId
    fact: AgentEvent
    reason: str
    signature: str | None


@frozen
class IdentityForked:
    """A host contradicted itself: two machines have its key, or its journal was set back. It is held from then on."""

    host: str
    rollout_id: RolloutId | None
    reason: str


@frozen
class RolloutMoved:
    """An event changed a rollout's record."""

    event: RolloutEvent


@frozen
class Planned:
    """A decision of the planner was carried out."""

    action: OpenRollout | QueueDispatch | WithdrawDispatch


@frozen
class Deferred:
    """A host is held for a new reason."""

    action: DeferDispatch


@frozen
class Returned:
    """Slots of a budget came back because a minute was over."""

    event: SlotsReturned


@frozen
class HoldMoved:
    """A hold began or ended by the passing of time."""

    event: HoldEvent


@frozen
class Commanded:
    """An operator's command was carried out."""

    command: OperatorCommand


@frozen
class ArtefactTaken:
    """A signed artefact was verified and is in force. `body` is what was signed."""

    name: str
    rollout_id: RolloutId | None
    body: str
    signature: str
    signed_by: str


@frozen
class ArtefactRefused:
    """An artefact was refused."""

    name: str
    reason: str


@frozen
class HostEnrolled:
    """A host enrolled with a valid token; `public_key` is its key from then on."""

    public_key: str
    token: SignedToken


@frozen
class EnrollmentSeen:
    """The log of the shard with the identities says that a host enrolled, with which key and when."""

    hostname: str
    public_key: str
    enrolled_at: datetime
    as_of: AsOf


@frozen
class Followed:
    """A fact of the log of another shard was taken."""

    seen: ChannelSeen | EnrollmentSeen


Line: TypeAlias = (
    FactReported
    | FactRefused
    | IdentityForked
    | RolloutMoved
    | Planned
    | Deferred
    | Returned
    | HoldMoved
    | Commanded
    | ArtefactTaken
    | ArtefactRefused
    | HostEnrolled
    | Followed
)
"""What people and tools read: at most one fact each."""
Entry: TypeAlias = FactsReported | Line
"""What one row of the log says."""


class LogRow(NamedTuple):
    """One row of `event_log` as stored, without its hashes. `payload` and `outcome` are JSON.

    first_fact_seq, fact_count: the facts that the row decides. outcome: of those that were not all applied.
    """

    seq: int
    ts: str
    kind: str
    host_id: str | None
    rollout_id: str | None
    payload: str
    signature: str | None
    first_fact_seq: int | None = None
    fact_count: int | None = None
    outcome: str | None = None


@frozen
class LoggedEntry:
    """A decoded `LogRow`: an entry with its number and time."""

    seq: int
    at: datetime
    entry: Entry


@frozen
class LoggedLine:
    """A line with the number and the time of its row."""

    seq: int
    at: datetime
    entry: Line


# Faster than the constructors: every row that is read makes one of each.
facts_reported = maker(FactsReported)
fact_reported = maker(FactReported)
logged_entry = maker(LoggedEntry)
_logged_line = maker(LoggedLine)


def lines_of(logged: LoggedEntry) -> tuple[LoggedLine, ...]:
    """Return what a row says, one fact at a time. Other rows are one line."""
    entry = logged.entry
    if not isinstance(entry, FactsReported):
        return (_logged_line(logged.seq, logged.at, entry),)
    return tuple(
        _logged_line(logged.seq, logged.at, line_of_fact(entry, fact)) for fact in entry.facts
    )


def line_of_fact(entry: FactsReported, fact: AgentEvent) -> FactReported | FactRefused:
    """Return what `entry` says of one of its facts."""
    reason = entry.refused.get(fact.seq)
    if reason is None:
        return fact_reported(entry.host, entry.rollout_id, fact, entry.signature)
    return FactRefused(entry.host, entry.rollout_id, fact, reason, entry.signature)


def chain_hash(prev_hash: bytes, row: LogRow) -> bytes:
    """Return SHA-256(prev_hash ‖ canonical row)."""
    return sha256(prev_hash + canonical_row(row)).digest()


def canonical_row(row: LogRow) -> bytes:
    """Return the columns in order, each as text preceded by its length in bytes and a colon; `-` for an absent one.

    The last three columns are left out where all of them are absent, so that rows of format 1 keep their hashes.
    It is unambiguous without parsing JSON, so it can be verified in any language.
    """
    seq, ts, kind, host, rollout, payload, signature, first_fact_seq, fact_count, outcome = row
    number = str(seq)
    # In ASCII the number of characters is the number of bytes, so the row can be encoded at once. Written out, because
    # a call for each column costs more than all else.
    text = (
        f"{len(number)}:{number}{len(ts)}:{ts}{len(kind)}:{kind}"
        f"{'-' if host is None else f'{len(host)}:{host}'}"
        f"{'-' if rollout is None else f'{len(rollout)}:{rollout}'}"
        f"{len(payload)}:{payload}"
        f"{'-' if signature is None else f'{len(signature)}:{signature}'}"
    )
    facts: tuple[str | None, ...] = ()
    if first_fact_seq is not None or fact_count is not None or outcome is not None:
        first, count = _text(first_fact_seq), _text(fact_count)
        facts = first, count, outcome
        text += (
            f"{'-' if first is None else f'{len(first)}:{first}'}"
            f"{'-' if count is None else f'{len(count)}:{count}'}"
            f"{'-' if outcome is None else f'{len(outcome)}:{outcome}'}"
        )
    if text.isascii():
        return text.encode()
    return b"".join(map(_sized_bytes, (number, *row[1:7], *facts)))


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _sized_bytes(column: str | None) -> bytes:
    if column is None:
        return b"-"
    data = column.encode()
    return b"%d:%b" % (len(data), data)
