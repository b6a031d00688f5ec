"""Describes log entries in one line each: time, actor, states before and after, event, reason. Pure.

Closures are shortened; the row's payload has the whole name. Text from hosts is not escaped here: whatever prints a
line escapes it.
"""

from typing import assert_never

from nixfleet_control_plane.history.follower import AppliedEntry
from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    ClearRollout,
    ExcuseHosts,
    OperatorCommand,
    PauseScope,
    PlaceHold,
    RelayWarrant,
    ReleaseHold,
    ResumeScope,
    RetireQuarantine,
    RetryHosts,
    SkipHosts,
)
from nixfleet_control_plane.messages.log_entry import (
    ArtefactRefused,
    ArtefactTaken,
    Commanded,
    Deferred,
    EnrollmentSeen,
    FactRefused,
    FactReported,
    Followed,
    HoldMoved,
    HostEnrolled,
    IdentityForked,
    Line,
    Planned,
    Returned,
    RolloutMoved,
)
from nixfleet_proto.codec import DecodeError, format_time
from nixfleet_proto.codec.warrant import decode_signed_warrant
from nixfleet_proto.steering.warrant import ClosureRule
from nixfleet_runtime.fact_words import DIGEST_LENGTH_SHOWN, fact_words, short
from nixfleet_state_machine.planner.action import OpenRollout, QueueDispatch, WithdrawDispatch
from nixfleet_state_machine.planner.holds.blocks import scope_words, words_of
from nixfleet_state_machine.planner.holds.hold import HoldBegan, HoldEnded, HoldEvent
from nixfleet_state_machine.rollout.event import (
    DriftEnded,
    GuardsOpened,
    HostDrifted,
    HostJoined,
    HostsLapsed,
    HostStateChanged,
    MembersChanged,
    OperatorClearance,
    RetentionExpired,
    RetryOrdered,
    RolloutAborted,
    RolloutEvent,
    RolloutOpened,
    RolloutTerminal,
    StandingChanged,
    SuccessorOpened,
    Verdict,
    WaveAdvanced,
    WaveBroken,
)
from nixfleet_state_machine.rollout.guard_tally import Outcome
from nixfleet_state_machine.rollout.state import BEFORE_FIRST_WAVE
from nixfleet_state_machine.shards.channel_seen import ChannelSeen

_NAMED_MAX = 5


def line_of(applied: AppliedEntry) -> str:
    """Return one line: the row's number, its time, the rollout, the actor and what happened."""
    logged = applied.logged
    when = f"{logged.at:%Y-%m-%d %H:%M:%SZ}"
    where = applied.rollout_id or "-"
    return f"{logged.seq:>5}  {when}  {where:<17} {_who_and_what(applied)}"


def brief_line_of(applied: AppliedEntry) -> str:
    """Return a shorter line, without the row's number, date and rollout."""
    return f"{applied.logged.at:%H:%M:%S}  {_who_and_what(applied)}"


def _who_and_what(applied: AppliedEntry) -> str:
    entry = applied.logged.entry
    return f"{actor_of(entry):<8} {_move(applied)}{told(entry)}{_consequence(applied)}"


def _move(applied: AppliedEntry) -> str:
    before, after = applied.state_before, applied.state_after
    return "" if before == after else f"{before or 'new'} → {after or 'gone'}: "


def _consequence(applied: AppliedEntry) -> str:
    """Return the quarantines that follow: they have no rows of their own."""
    return "".join(
        f"; {short(closure)} is quarantined on {channel}"
        for channel, closure in applied.quarantined
    )


def actor_of(entry: Line) -> str:
    """Return the actor of `entry`: a host, an operator, or a part of the control plane."""
    match entry:
        case FactReported() | FactRefused():
            return entry.host
        case IdentityForked():
            return "verifier"
        case RolloutMoved():
            return "rollout"
        case Planned() | Deferred() | Returned():
            return "planner"
        case HoldMoved():
            return "time"
        case Commanded():
            return entry.command.operator
        case ArtefactTaken() | ArtefactRefused():
            return "verifier"
        case HostEnrolled():
            return entry.token.token.hostname
        case Followed():
            return entry.seen.hostname if isinstance(entry.seen, EnrollmentSeen) else "shards"
        case _:
            assert_never(entry)


def told(entry: Line) -> str:
    """Return what happened, as a sentence with the subject `actor_of(entry)`."""
    match entry:
        case FactReported():
            return fact_words(entry.fact)
        case FactRefused():
            return f"reported a fact that was refused ({fact_words(entry.fact)}): {entry.reason}"
        case IdentityForked():
            return f"holds host {entry.host}, which contradicts itself: {entry.reason}"
        case RolloutMoved():
            return _rollout_event(entry.event)
        case Planned():
            return _plan(entry.action)
        case Deferred():
            action = entry.action
            return f"holds {action.host} ({action.gate}): {action.reason}"
        case Returned():
            event = entry.event
            slots = "1 slot is" if event.count == 1 else f"{event.count} slots are"
            return f"{slots} free again: a minute is over ({event.budget})"
        case HoldMoved():
            return _hold_event(entry.event)
        case Commanded():
            return _command(entry.command)
        case ArtefactTaken():
            key = entry.signed_by[:DIGEST_LENGTH_SHOWN]
            return f"accepts {_artefact(entry.name)}, signed by key {key}"
        case ArtefactRefused():
            return f"refuses {_artefact(entry.name)}: {entry.reason}"
        case HostEnrolled():
            return f"enrolls, with key {entry.public_key[:DIGEST_LENGTH_SHOWN]}"
        case Followed():
            return _followed(entry.seen)
        case _:
            assert_never(entry)


def _artefact(name: str) -> str:
    """Return an artefact's name; that of a fleet ends in its hash, which is cut."""
    file, hash_sign, digest = name.partition("#")
    return f"{file}{hash_sign}{digest[:DIGEST_LENGTH_SHOWN]}"


def _followed(seen: ChannelSeen | EnrollmentSeen) -> str:
    match seen:
        case ChannelSeen():
            if seen.offered_rollout_id is None:
                return f"sees channel {seen.channel} with nothing in force, as of {seen.as_of}"
            course = "done" if seen.done else "not done"
            return f"sees channel {seen.channel} at {seen.offered_rollout_id}, {course}, as of {seen.as_of}"
        case EnrollmentSeen():
            key = seen.public_key[:DIGEST_LENGTH_SHOWN]
            return f"enrolls, with key {key}, as of {seen.as_of}"
        case _:
            assert_never(seen)


def _rollout_event(event: RolloutEvent) -> str:
    match event:
        case RolloutOpened():
            return f"opens channel {event.channel} to {event.target_ref}"
        case HostJoined():
            return f"has its first host, {event.host_id} of wave {event.wave}"
        case HostStateChanged():
            return f"{event.host_id} is {event.to}"
        case WaveAdvanced():
            if event.from_wave == event.to_wave:
                return f"has switched its last wave, {event.to_wave}"
            if event.from_wave == BEFORE_FIRST_WAVE:
                return f"begins with wave {event.to_wave}"
            return f"advances from wave {event.from_wave} to wave {event.to_wave}"
        case RolloutTerminal():
            return "complete: every wave is done"
        case SuccessorOpened():
            return f"is superseded by {event.successor_rollout_id}"
        case RetentionExpired():
            return "pruned: its retention has expired"
        case OperatorClearance():
            excused = ", ".join(sorted(event.excused_hosts)) or "no host"
            return (
                f"cleared by {event.operator}, excusing {excused}{_cleared(event)}: {event.reason}"
            )
        case WaveBroken():
            if event.reason:
                return f"wave {event.wave} is broken before it began, by {event.reason}"
            absent = f", {event.absent} did not come" if event.absent else ""
            return f"wave {event.wave} is broken: {event.failed} failed of {event.allowed} allowed{absent}"
        case HostsLapsed():
            said = f"silent past the {event.stage} deadline"
            return f"{named(event.hosts)} {said}, and {_are(event.hosts)} {event.standing}"
        case StandingChanged():
            return f"{named(event.hosts)} {_are(event.hosts)} {event.standing}: {event.reason}"
        case RetryOrdered():
            return f"{named(event.hosts)} may make attempt {event.attempt}: {event.reason}"
        case MembersChanged():
            if not event.joined and not event.left:
                return "amended: the author has approved, so all guards are asked anew"
            late = f", of which {named(event.late)} late" if event.late else ""
            return f"amended: joined {named(event.joined)}{late}; left {named(event.left)}"
        case HostDrifted():
            return f"{event.host_id} has drifted: it runs {short(event.running)}"
        case DriftEnded():
            return f"{event.host_id} has drifted no longer"
        case RolloutAborted():
            return f"aborted by {event.operator}: {event.reason}"
        case GuardsOpened():
            return f"asks the guards of wave {event.wave}"
        case Verdict():
            return _verdict(event)
        case _:
            assert_never(event)


def _verdict(event: Verdict) -> str:
    guard = f"{event.guard} of wave {event.wave}"
    match event.outcome:
        case Outcome.WAIVED:
            return f"{guard}: waived by {event.judge}: {event.reason}"
        case Outcome.PASS | Outcome.FAIL | Outcome.INCONCLUSIVE:
            return f"{guard}: {event.outcome} by {event.judge}: {event.reason}"
        case _:
            assert_never(event.outcome)


def named(hosts: tuple[str, ...]) -> str:
    """Return the names of the first few hosts, and how many more there are."""
    more = len(hosts) - _NAMED_MAX
    named = ", ".join(hosts[:_NAMED_MAX]) or "no host"
    return f"{named} and {more} more" if more > 0 else named


def _are(hosts: tuple[str, ...]) -> str:
    return "is" if len(hosts) == 1 else "are"


def _plan(action: OpenRollout | QueueDispatch | WithdrawDispatch) -> str:
    match action:
        case OpenRollout():
            return f"opens a rollout of channel {action.channel} to {action.target_ref}"
        case QueueDispatch():
            soak = f"soak until {action.soak_due_at:%H:%M:%S} or later"
            return f"dispatches {action.host}: {short(action.target_closure)}, {soak}"
        case WithdrawDispatch():
            return f"withdraws the dispatch of {action.host} ({action.gate}): {action.reason}"
        case _:
            assert_never(action)


def _hold_event(event: HoldEvent) -> str:
    match event:
        case HoldBegan():
            return f"begins a hold: {words_of(event.hold)}"
        case HoldEnded():
            return f"ends the hold of {scope_words(event.scope)} by {event.source}"
        case _:
            assert_never(event)


def _warrant(text: str) -> str:
    try:
        warrant = decode_signed_warrant(text.encode()).warrant
    except DecodeError:
        return "a warrant"  # Of a log that no control plane wrote.
    whom = f" of {named(warrant.hosts)}" if warrant.hosts else ""
    rule = warrant.rule
    match rule:
        case ClosureRule.PRIOR:
            return f"a recall{whom}"
        case ClosureRule.TARGET:
            return f"an override of the lock{whom}"
        case _:
            assert_never(rule)


def _command(command: OperatorCommand) -> str:
    match command:
        case PauseScope():
            return f"pauses {command.scope}: {command.reason}"
        case ResumeScope():
            return f"resumes {command.scope}: {command.reason}"
        case PlaceHold():
            until = "" if command.until is None else f" until {format_time(command.until)}"
            return f"holds {command.scope}{until}: {command.reason}"
        case ReleaseHold():
            whose = "" if command.holder is None else f" from the hold of {command.holder}"
            return f"releases {command.scope}{whose}: {command.reason}"
        case ClearRollout():
            return f"clears {command.rollout_id}: {command.reason}"
        case ExcuseHosts():
            return f"excuses {named(tuple(sorted(command.hosts)))}: {command.reason}"
        case SkipHosts():
            return f"skips {named(tuple(sorted(command.hosts)))}: {command.reason}"
        case RetryHosts():
            hosts = named(tuple(sorted(command.hosts))) if command.hosts else "what failed"
            return f"retries {hosts}: {command.reason}"
        case RelayWarrant():
            return f"relays {_warrant(command.warrant)} for {command.rollout_id}: {command.reason}"
        case AbortRollout():
            return f"aborts {command.rollout_id}: {command.reason}"
        case RetireQuarantine():
            closure = short(command.closure)
            return f"retires the quarantine of {closure} on {command.channel}: {command.reason}"
        case _:
            assert_never(command)


def _cleared(event: OperatorClearance) -> str:
    waves = ", ".join(map(str, event.cleared_waves))
    return f", and going on though nobody came in wave {waves}" if waves else ""
