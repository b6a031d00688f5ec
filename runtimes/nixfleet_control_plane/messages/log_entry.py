"""The entries of the canonical log, and the hash chain over its rows. Data and pure functions.

An entry holds everything needed to repeat its effect on the state before it. `ENTRY_KINDS` are the values of the
`kind` column.
Source: docs/spec/runtimes.md, Store.
"""

from datetime import datetime
from hashlib import sha256
from typing import NamedTuple, TypeAlias

from attrs import frozen

from nixfleet_control_plane.messages.inputs import OperatorCommand
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.drafting import maker
from nixfleet_proto.enrollment import SignedToken
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

ENTRY_KINDS = (
    "agent_event",
    "rollout_event",
    "plan_action",
    "gate_decision",
    "operator_command",
    "effect",
    "verify_outcome",
    "manifest_poll",
)
FIRST_PREV_HASH = bytes(32)


@frozen
class FactReported:
    """A host reported a fact, and it was applied to the host's record."""

    host: str
    rollout_id: RolloutId
    fact: AgentEvent
    signature: str | None


@frozen
class FactRefused:
    """A host reported a fact that does not apply. The record advances to its number and is otherwise unchanged."""

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


Entry: TypeAlias = (
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
)


class LogRow(NamedTuple):
    """One row of `event_log` as stored, without its hashes. `payload` is JSON."""

    seq: int
    ts: str
    kind: str
    host_id: str | None
    rollout_id: str | None
    payload: str
    signature: str | None


@frozen
class LoggedEntry:
    """A decoded `LogRow`: an entry with its number and time."""

    seq: int
    at: datetime
    entry: Entry


# Faster than the constructors: every fact that a host reports makes one of each.
fact_reported = maker(FactReported)
logged_entry = maker(LoggedEntry)


def chain_hash(prev_hash: bytes, row: LogRow) -> bytes:
    """Return SHA-256(prev_hash ‖ canonical row)."""
    return sha256(prev_hash + canonical_row(row)).digest()


def canonical_row(row: LogRow) -> bytes:
    """Return the columns in order, each as text preceded by its length in bytes and a colon; `-` for an absent one.

    It is unambiguous without parsing JSON, so it can be verified in any language.
    """
    seq, ts, kind, host, rollout, payload, signature = row
    number = str(seq)
    # In ASCII the number of characters is the number of bytes, so the row can be encoded at once.
    text = (
        f"{len(number)}:{number}{len(ts)}:{ts}{len(kind)}:{kind}{_sized(host)}{_sized(rollout)}"
        f"{len(payload)}:{payload}{_sized(signature)}"
    )
    return text.encode() if text.isascii() else b"".join(map(_sized_bytes, (number, *row[1:])))


def _sized(column: str | None) -> str:
    return "-" if column is None else f"{len(column)}:{column}"


def _sized_bytes(column: str | None) -> bytes:
    if column is None:
        return b"-"
    data = column.encode()
    return b"%d:%b" % (len(data), data)
