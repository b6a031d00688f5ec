"""What a row of the canonical log can say, and the chain that binds the rows. Data and pure functions.

An entry is everything needed to repeat, on the books as they were, what it did to them. `ENTRY_KINDS` is
the `kind` column.
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
    """A host reported a fact, and the record took it."""

    host: str
    rollout_id: RolloutId
    fact: AgentEvent
    signature: str | None


@frozen
class FactRefused:
    """A host reported a fact that does not apply. The record takes its number and nothing else."""

    host: str
    rollout_id: RolloutId
    fact: AgentEvent
    reason: str
    signature: str | None


@frozen
class RolloutMoved:
    """An event changed a rollout's record."""

    event: RolloutEvent


@frozen
class Planned:
    """The planner's decision was carried out."""

    action: OpenRollout | QueueDispatch | WithdrawDispatch


@frozen
class Deferred:
    """The reason why a host waits is a new one."""

    action: DeferDispatch


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
    """An artefact was not taken."""

    name: str
    reason: str


@frozen
class HostEnrolled:
    """A host came with a good token, and is known by `public_key` from then on."""

    public_key: str
    token: SignedToken


Entry: TypeAlias = (
    FactReported
    | FactRefused
    | RolloutMoved
    | Planned
    | Deferred
    | Commanded
    | ArtefactTaken
    | ArtefactRefused
    | HostEnrolled
)


class LogRow(NamedTuple):
    """One row of `event_log` as it is stored, without its place in the chain. `payload` is JSON."""

    seq: int
    ts: str
    kind: str
    host_id: str | None
    rollout_id: str | None
    payload: str
    signature: str | None


@frozen
class LoggedEntry:
    """An entry with its number and time: what `LogRow` says, decoded."""

    seq: int
    at: datetime
    entry: Entry


# As the classes make them, sooner: there is one of each for every fact that a host reports.
fact_reported = maker(FactReported)
logged_entry = maker(LoggedEntry)


def chain_hash(prev_hash: bytes, row: LogRow) -> bytes:
    """Return SHA-256(prev_hash ‖ canonical row).

    Canonical row: each column as text, absent ones as nothing, each preceded by its length in bytes and
    a colon (absent: `-`), in column order. Unambiguous without parsing JSON, so any language can check it.
    """
    seq, ts, kind, host, rollout, payload, signature = row
    number = str(seq)
    # In ASCII a text is as long as its bytes, so that one encoding does for the row.
    text = (
        f"{len(number)}:{number}{len(ts)}:{ts}{len(kind)}:{kind}{_sized(host)}{_sized(rollout)}"
        f"{len(payload)}:{payload}{_sized(signature)}"
    )
    canonical = text.encode() if text.isascii() else b"".join(map(_sized_bytes, (number, *row[1:])))
    return sha256(prev_hash + canonical).digest()


def _sized(column: str | None) -> str:
    return "-" if column is None else f"{len(column)}:{column}"


def _sized_bytes(column: str | None) -> bytes:
    if column is None:
        return b"-"
    data = column.encode()
    return b"%d:%b" % (len(data), data)
