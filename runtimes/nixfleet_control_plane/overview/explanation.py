"""Where a host stands, what it waits for, and until when, in lines: for `nixfleet operator explain` and for screens."""

from collections.abc import Iterator
from typing import assert_never

from nixfleet_control_plane.overview.words import shown_time
from nixfleet_proto.fleet import OnDrift
from nixfleet_proto.policy import AtDeadline
from nixfleet_proto.steering.warrant import RecallStep
from nixfleet_runtime.fact_words import short
from nixfleet_runtime.http.listings import (
    ExplainedRollout,
    HoldingGate,
    HostExplained,
    ListedHost,
    ListedRecall,
    StatusInRollout,
)
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.host_status import (
    HostDrift,
    HostInRollout,
    Outside,
    StageDeadline,
    WaitsFor,
)
from nixfleet_state_machine.rollout.state import RolloutState, Standing

_FAILED = (HostState.FAILED, HostState.REVERTED)


def explanation_lines(explained: HostExplained) -> Iterator[str]:
    """Yield the lines about one host."""
    host = explained.hostname
    for refusal in explained.refusals:
        since = shown_time(refusal.since)
        yield f"{refusal.rollout_id}: {host} does not act since {since}: {refusal.reason}"
    for rollout in explained.rollouts:
        yield from _rollout(host, rollout)
        recalls = (it for it in explained.recalls if it.rollout_id == rollout.rollout_id)
        yield from (f"  {_recall(each)}" for each in recalls)
    for left in explained.left:
        since = "" if left.since is None else f" since {shown_time(left.since)}"
        yield (
            f"{left.rollout_id}: {host} left{since}: an amended release does not name it. "
            "It finishes what it is at, and nothing that it tells of the rollout is taken"
        )
    if explained.outside is not None:
        yield _outside(host, explained.channel, explained.outside)
    for event in explained.waiting_events:
        yield f"{event.rollout_id}: event {event.seq} is not taken yet: {event.reason}"
    if explained.last_heard_at is None:
        yield f"{host} was not heard since the control plane started"
    else:
        yield f"last heard {shown_time(explained.last_heard_at)}, {clock_words(explained)}"


def explained_rollout(it: HostInRollout, commands: tuple[str, ...]) -> ExplainedRollout:
    """Return how a host stands in a rollout, as it is answered. commands: as of `StatusInRollout`."""
    return ExplainedRollout(
        it.rollout_id,
        tuple(
            HoldingGate(block.gate, block.reason, block.detail, block.until) for block in it.gates
        ),
        StatusInRollout(
            rollout_state=it.rollout_state,
            state=it.state,
            standing=it.standing,
            attempt=it.attempt,
            attempts=it.attempts,
            last_wave=it.last_wave,
            waits_for=it.waits_for,
            is_overdue=it.is_overdue,
            wave=it.wave,
            since=it.since,
            deadline=it.deadline,
            soak_ends_at=it.soak_ends_at,
            retry_at=it.retry_at,
            until=it.until,
            drift=it.drift,
            commands=commands,
        ),
    )


def clock_words(heard: ListedHost | HostExplained) -> str:
    """Return how far the clock of a host was off when it was last heard."""
    if heard.clock_ahead_seconds:
        return f"its clock {heard.clock_ahead_seconds} s ahead"
    return (
        f"its clock {heard.clock_behind_seconds} s behind"
        if heard.clock_behind_seconds
        else "its clock right"
    )


def _rollout(host: str, rollout: ExplainedRollout) -> Iterator[str]:
    status = rollout.status
    if status is None:
        # A control plane of before lists only the rollouts in which a host waits for its dispatch.
        held = "is held by" if rollout.gates else "is next: no gate holds it"
        yield f"{rollout.rollout_id}: {host} {held}"
    else:
        yield f"{rollout.rollout_id}: {host} is {_standing(status)}"
        yield f"  {_waiting(status)}"
    for gate in rollout.gates:
        detail = f" ({gate.detail})" if gate.detail else ""
        until = f"; until {shown_time(gate.until)}" if gate.until is not None else ""
        yield f"  {gate.gate}: {gate.reason}{detail}{until}"
    if status is not None and status.deadline is not None:
        yield f"  {_deadline(status, status.deadline)}"
    if status is not None and status.drift is not None:
        yield f"  {_drift(status, status.drift)}"
    if status is not None and status.until is not None:
        yield f"  the next change by itself: {shown_time(status.until)}"


def _standing(status: StatusInRollout) -> str:
    since = "" if status.since is None else f" since {shown_time(status.since)}"
    counted = "" if status.standing is Standing.COUNTED else f", {status.standing}"
    attempt = f", attempt {status.attempt} of {status.attempts}" if status.attempts > 1 else ""
    wave = "in no wave" if status.wave is None else f"wave {status.wave} of 0–{status.last_wave}"
    return f"{status.state}{since}{counted}{attempt}, {wave}; the rollout is {status.rollout_state}"


def _waiting(status: StatusInRollout) -> str:
    match status.waits_for:
        case WaitsFor.NOTHING:
            return _at_rest(status)
        case WaitsFor.DISPATCH:
            return "no gate holds it: it is dispatched next"
        case WaitsFor.GATES:
            return "it is held by"
        case WaitsFor.ACKNOWLEDGEMENT:
            return "its dispatch is queued: it waits for the host to acknowledge it"
        case WaitsFor.ACTIVATION:
            return "it is activating"
        case WaitsFor.REBOOT:
            return "it waits for its reboot"
        case WaitsFor.SOAK:
            ends = status.soak_ends_at
            until = "" if ends is None else f" until {shown_time(ends)} or later"
            return f"it soaks{until}, and then needs its enforce probes to pass"
        case WaitsFor.ROLLBACK:
            return "it failed, and rolls back"
        case WaitsFor.BACKOFF:
            at = (
                ""
                if status.retry_at is None
                else f": it tries again at {shown_time(status.retry_at)}"
            )
            why = "failed" if status.drift is None else "drifted"
            return f"it {why}, and backs off{at}"
        case WaitsFor.CONTACT:
            return "nobody waits for it, as an operator or a deadline said: it is served once it is heard of"
        case _:
            assert_never(status.waits_for)


def _advised(status: StatusInRollout, *wanted: str) -> str:
    """Return the commands that would be taken, quoted; `""`: there are none. wanted: only these, if any is given."""
    found = [
        command for command in status.commands if not wanted or command.partition(" ")[0] in wanted
    ]
    return " or ".join(f'"nixfleet operator {command}"' for command in found)


def _recall(recall: ListedRecall) -> str:
    """Return whose order it is, why, and how far the host is."""
    by = f"recalled by {recall.operator}: {recall.reason}"
    return f"{by}; {_recall_step(recall)} (order {recall.order_id})"


def _recall_step(recall: ListedRecall) -> str:
    until = shown_time(recall.expires_at)
    match recall.step:
        case RecallStep.WAITS if recall.awaited is not None:
            whom = f"{recall.awaited} of a later wave"
            return f"it waits for {whom} to be back, or silent for three minutes, until {until}"
        case RecallStep.WAITS:
            return (
                f"it waits for its turn: the newest wave goes first, within budgets, until {until}"
            )
        case RecallStep.TOLD:
            return f"it is told with each heartbeat, until {until}, and has not begun to go back"
        case RecallStep.REFUSES:
            return "it was told, and refuses: its refusal is above"
        case RecallStep.GOING:
            return "it goes back"
        case RecallStep.BACK:
            return "it is back"
        case RecallStep.EXPIRED:
            return f"the order expired at {until} before it went: recall it again"
        case RecallStep.STAYS:
            return "nothing is to be taken back on it"
        case _:
            assert_never(recall.step)


def _at_rest(status: StatusInRollout) -> str:
    if status.state is HostState.CONVERGED:
        return "it is done" if status.drift is None else "it was done, and drifted"
    if status.rollout_state is RolloutState.ABORTED:
        return "the rollout was aborted: nothing is planned for it until another release"
    if status.state in _FAILED and status.standing is not Standing.EXCUSED:
        begin = "it failed, and makes no further attempt by itself"
        if status.state is HostState.REVERTED and status.attempt >= status.attempts:
            made = f"{status.attempt} of {status.attempts}"
            begin = f"it rolled back after attempt {made}, the last that is signed"
        ways = _advised(status)
        return (
            f"{begin}: {ways}, or another release" if ways else f"{begin}: it needs another release"
        )
    return "nothing is planned for it in this rollout"


def _deadline(status: StatusInRollout, deadline: StageDeadline) -> str:
    at = shown_time(deadline.at)
    match deadline.then:
        case AtDeadline.WAIT if status.is_overdue:
            ways = _advised(status, "skip", "excuse")
            what = f"; {ways} goes on without it" if ways else ""
            return f"OVERDUE: the deadline for its {deadline.stage} was {at}{what}"
        case AtDeadline.WAIT:
            follows = "nothing follows, and it is shown as overdue"
        case AtDeadline.SKIP:
            follows = "then it is not waited for, and served late"
        case AtDeadline.FAIL:
            follows = "then it counts as failed"
        case _:
            assert_never(deadline.then)
    return f"the deadline for its {deadline.stage} is {at}: {follows}"


def _drift(status: StatusInRollout, drift: HostDrift) -> str:
    runs = f"it runs {short(drift.running)} instead of its target, since {shown_time(drift.since)}"
    match drift.then:
        case OnDrift.REPORT:
            return f"{runs}: its channel reports that, and orders nothing"
        case OnDrift.RESTORE if status.retry_at is None:
            return f"{runs}: another attempt is ordered, which gives it its target back"
        case OnDrift.RESTORE:
            return f"{runs}: another attempt, which gives it its target back, follows the back-off"
        case _:
            assert_never(drift.then)


def _outside(host: str, channel: str | None, outside: Outside) -> str:
    match outside:
        case Outside.UNDECLARED:
            return f"{host} is in no rollout: no fleet in force declares it any more"
        case Outside.HOST_DISABLED:
            why = "the host is disabled"
        case Outside.CHANNEL_DISABLED:
            why = "the channel is disabled"
        case Outside.UNRELEASED:
            why = "nothing is in force for the channel"
        case Outside.UNNAMED:
            why = "the release in force does not name the host"
        case Outside.UNOPENED:
            why = "the rollout in force is not open yet"
        case Outside.DONE:
            why = "the rollout in force ended, and its records were pruned"
        case Outside.LEFT:
            return f"{host} is in no rollout: it left the one above"
        case Outside.LOST:
            why = "the control plane's database lost the manifest of its rollout, which is held"
        case _:
            assert_never(outside)
    return f"{host} is in no rollout of channel {channel}: {why}"
