"""What can happen to a rollout as a whole, in the past tense. Agents never see these.

Source: docs/spec/rollout-machine.md, Events.
"""

from datetime import datetime
from typing import TypeAlias, assert_never

from attrs import frozen

from nixfleet_proto.checked import WordEnum, checked
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.guard_tally import Outcome
from nixfleet_state_machine.rollout.state import Standing


@frozen
@checked
class RolloutOpened:
    """The record was made, by `open_rollout`; no existing record takes this event."""

    rollout_id: RolloutId
    channel: str
    target_ref: str
    at: datetime


@frozen
@checked
class HostJoined:
    """A dispatch was queued for the host, or its first fact arrived, whichever was earlier."""

    rollout_id: RolloutId
    host_id: str
    wave: int
    at: datetime


@frozen
@checked
class HostStateChanged:
    """The record of a host in this rollout moved from `from_` to `to`.

    is_tolerant: the host's wave may have failed hosts, so a failure halts the rollout only with `WaveBroken`.
    """

    rollout_id: RolloutId
    host_id: str
    from_: HostState
    to: HostState
    at: datetime
    is_tolerant: bool = False


@frozen
@checked
class WaveBroken:
    """More hosts of the wave failed than its tolerance allows, or all that could act did and none converged.

    failed, allowed: numbers of hosts. absent: those that count for nothing, and are missing.
    reason: which guard of the wave broke it, before it began; empty if its hosts did.
    """

    rollout_id: RolloutId
    wave: int
    failed: int
    allowed: int
    absent: int
    at: datetime
    reason: str = ""


@frozen
@checked
class GuardsOpened:
    """The wave before `wave` is done, or there is none: the guards of `wave` are asked from now on."""

    rollout_id: RolloutId
    wave: int
    at: datetime


@frozen
@checked
class Verdict:
    """A judge of a guard of `wave`, which has not begun, said `outcome`.

    guard: its name. judge: an operator, a judge of checks, or `time` for a bake. evidence: what the outcome was told
    by: a value, or the statement that the operator signed, with `signature`, which is in hex.
    """

    rollout_id: RolloutId
    wave: int
    guard: str
    judge: str
    outcome: Outcome
    reason: str
    at: datetime
    evidence: str = ""
    signature: str | None = None


class Stage(WordEnum):
    """What a host is at when a deadline runs. The values are those of a policy."""

    ACK = "ack"
    ACTIVATION = "activation"
    REBOOT = "reboot"
    CONVERGENCE = "convergence"


@frozen
@checked
class HostsLapsed:
    """These hosts were silent past the deadline of a stage, and count from now on by `standing`.

    withdraws: their dispatches are taken out of the queue, since nothing at all was heard of them.
    """

    rollout_id: RolloutId
    hosts: tuple[str, ...]
    stage: Stage
    standing: Standing
    at: datetime
    withdraws: bool = False


@frozen
@checked
class StandingChanged:
    """These hosts count from now on by `standing`. reason: why, for people; with the operator's name if one said so."""

    rollout_id: RolloutId
    hosts: tuple[str, ...]
    standing: Standing
    reason: str
    at: datetime


@frozen
@checked
class RetryOrdered:
    """These hosts may make their attempt number `attempt`. reason: why, for people."""

    rollout_id: RolloutId
    hosts: tuple[str, ...]
    attempt: int
    reason: str
    at: datetime


@frozen
@checked
class MembersChanged:
    """The manifest was amended: hosts joined, and others left. late: the joined ones whose wave was done.

    Nobody did either: its author has approved a wave, and what was said of guards counts no more.
    """

    rollout_id: RolloutId
    joined: tuple[str, ...]
    left: tuple[str, ...]
    late: tuple[str, ...]
    at: datetime


@frozen
@checked
class HostDrifted:
    """A Converged host runs `running` instead of its target: two of its heartbeats in a row showed that."""

    rollout_id: RolloutId
    host_id: str
    running: str
    at: datetime


@frozen
@checked
class DriftEnded:
    """A host that had drifted runs its target again, or acts."""

    rollout_id: RolloutId
    host_id: str
    at: datetime


@frozen
@checked
class WaveAdvanced:
    """Wave `from_wave` is done; equal waves mean that it was the last one."""

    rollout_id: RolloutId
    from_wave: int
    to_wave: int
    at: datetime


@frozen
@checked
class RolloutTerminal:
    """Every wave is done: its hosts are Converged, tolerated as failed, or do not count."""

    rollout_id: RolloutId
    at: datetime


@frozen
@checked
class SuccessorOpened:
    """A newer rollout of the same channel takes over."""

    superseded_rollout_id: RolloutId
    successor_rollout_id: RolloutId
    at: datetime


@frozen
@checked
class RetentionExpired:
    """The rollout has rested for its retention time, and may be pruned."""

    rollout_id: RolloutId
    at: datetime


@frozen
@checked
class OperatorClearance:
    """An operator looked at a halted rollout and lets it go on without `excused_hosts`.

    cleared_waves: those of which nobody else came. That is no evidence, and halts the rollout no more.
    """

    rollout_id: RolloutId
    operator: str
    reason: str
    excused_hosts: frozenset[str]
    at: datetime
    cleared_waves: tuple[int, ...] = ()


@frozen
@checked
class RolloutAborted:
    """An operator ended the rollout: it begins nothing any more, and only a successor follows it."""

    rollout_id: RolloutId
    operator: str
    reason: str
    at: datetime


RolloutEvent: TypeAlias = (
    RolloutOpened
    | HostJoined
    | HostStateChanged
    | WaveAdvanced
    | RolloutTerminal
    | SuccessorOpened
    | RetentionExpired
    | OperatorClearance
    | WaveBroken
    | HostsLapsed
    | StandingChanged
    | RetryOrdered
    | MembersChanged
    | HostDrifted
    | DriftEnded
    | RolloutAborted
    | GuardsOpened
    | Verdict
)


def subject_of(event: RolloutEvent) -> RolloutId:
    """Return the rollout whose record the event is for."""
    match event:
        case SuccessorOpened():
            return event.superseded_rollout_id
        case (
            RolloutOpened()
            | HostJoined()
            | HostStateChanged()
            | WaveAdvanced()
            | RolloutTerminal()
            | RetentionExpired()
            | OperatorClearance()
            | WaveBroken()
            | HostsLapsed()
            | StandingChanged()
            | RetryOrdered()
            | MembersChanged()
            | HostDrifted()
            | DriftEnded()
            | RolloutAborted()
            | GuardsOpened()
            | Verdict()
        ):
            return event.rollout_id
        case _:
            assert_never(event)
