"""The host's own lock: when it is asked, what its answer means, and for how long an answer is good. Sans I/O.

An answer is asked for at a dispatch that would be acknowledged otherwise, so before every switch and never before a way
back. It expires: a "yes" after a minute, a "not now" at its end. So no lock is a file that can go stale, and nothing of
it is in the journal: each process asks for itself. A lock that is broken says "not now", and its reason says what was
wrong with it.
Source: docs/spec/runtimes.md, Device locks.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from nixfleet_agent.engine.state import CommitBuilder, LockAnswer, State
from nixfleet_agent.locks.lock import LockOutcome, LockQuestion
from nixfleet_agent.messages.inputs import DispatchOffered, DispatchPostponed, LockDue
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.warrant import Warrant
from nixfleet_state_machine.host.state import HostState

EXIT_CODE_NOT_NOW: Final = 75
"""EX_TEMPFAIL of sysexits.h: try again later."""
ASK_AGAIN_DEFAULT: Final = timedelta(minutes=15)
POSTPONED_MAX: Final = timedelta(days=7)
"""How long one answer postpones at most."""
POSTPONED_MIN: Final = timedelta(minutes=1)
"""For how long it does at least: each is a row of the log for good."""
TOLD_AGAIN_AFTER: Final = timedelta(minutes=1)
"""How long after a fact a dispatch that is offered shows that the control plane does not hold this host for it."""
REASON_LENGTH_MAX: Final = 512
YES_GOOD_FOR: Final = timedelta(minutes=1)
"""For how long a "yes" is good that no dispatch followed on: the user may be in the next call by then."""
_UNTIL: Final = "until="
_BYTE_ORDER_MARK: Final = "\ufeff"


def lock_reply(
    state: State, offer: DispatchOffered, ask_again: timedelta | None, now: datetime
) -> LockDue | DispatchPostponed | None:
    """Return what stands between a dispatch that would be taken and its switch; `None`: nothing does."""
    rollout_id = offer.manifest.value.rollout_id
    if ask_again is None or state.is_overridden(rollout_id, now):
        return None
    dispatch = offer.dispatch
    answer = state.lock_answers.get(rollout_id)
    if answer is None or not answer.is_good(dispatch.attempt_number, now):
        return LockDue(LockQuestion(rollout_id, dispatch.target_closure, dispatch.attempt_number))
    return None if answer.may_begin else DispatchPostponed()


def lock_answer(
    outcome: LockOutcome, attempt: int, ask_again: timedelta, now: datetime
) -> LockAnswer:
    """Return what the outcome of a lock program means: exit code 0 may begin, 75 not now, anything else is broken."""
    if outcome.problem is not None:
        return _broken(outcome.problem, attempt, ask_again, now)
    if outcome.exit_code == 0:
        return LockAnswer(attempt, True, "", now, now + YES_GOOD_FOR)
    if outcome.exit_code != EXIT_CODE_NOT_NOW:
        stderr = " ".join(outcome.stderr.split())
        found = f"found {outcome.exit_code}" + (f": {stderr}" if stderr else "")
        problem = f"expected exit code 0 (go) or {EXIT_CODE_NOT_NOW} (not now), {found}"
        return _broken(problem, attempt, ask_again, now)
    said_all = outcome.stdout.removeprefix(_BYTE_ORDER_MARK)
    lines = [line.strip() for line in said_all.splitlines()]
    reason = next((line for line in lines if line and not line.startswith(_UNTIL)), "")
    said = next((line.removeprefix(_UNTIL) for line in lines if line.startswith(_UNTIL)), None)
    until, wrong = _end(said, ask_again, now)
    shown = reason or "the lock gives no reason"
    return LockAnswer(attempt, False, _cut(f"{shown} ({wrong})" if wrong else shown), now, until)


def _broken(problem: str, attempt: int, ask_again: timedelta, now: datetime) -> LockAnswer:
    reason = f"the lock program is broken, and lets nothing begin: {problem}"
    until, _ = _end(None, ask_again, now)
    return LockAnswer(attempt, False, _cut(reason), now, until, is_broken=True)


def _end(said: str | None, ask_again: timedelta, now: datetime) -> tuple[datetime, str | None]:
    """Return until when a "not now" is good, and what is wrong with the end that the program gave."""
    again = now + max(ask_again, POSTPONED_MIN)
    if said is None:
        return again, None
    try:
        until = datetime.fromisoformat(said)
    except ValueError:
        until = None
    if until is None or until.tzinfo is None:
        return again, f"expected until=YYYY-MM-DDTHH:MM:SS and a zone, found until={said[:64]}"
    try:
        until = until.astimezone(UTC)
    except OverflowError:
        return (
            again,
            f"expected until= a time within {POSTPONED_MAX.days} days, found until={said[:64]}",
        )
    if until <= now:
        return again, f"expected until= a time to come, found until={said[:64]}, which is over"
    if until > now + POSTPONED_MAX:
        latest = f"expected until= a time within {POSTPONED_MAX.days} days, found until={said[:64]}"
        return now + POSTPONED_MAX, latest
    return max(until, now + POSTPONED_MIN), None


def _cut(reason: str) -> str:
    if len(reason) <= REASON_LENGTH_MAX:
        return reason
    return reason[: REASON_LENGTH_MAX - 1] + "…"


def is_held_off(state: State, rollout_id: RolloutId) -> bool:
    """Return whether a "not now" was told of the rollout, which no order took back since."""
    answer = state.lock_answers.get(rollout_id)
    return answer is not None and not answer.may_begin


def objection_to_override(state: State, warrant: Warrant) -> str | None:
    """Return why this host does not override its lock by the order: expected and found; `None` if it does.

    A host that has no lock any more obeys too, so that the control plane, which holds it for one, lets it go.
    """
    about = f"order {warrant.order_id}"
    if not warrant.is_for(state.hostname):
        return f"{about} is for {len(warrant.hosts)} other hosts, not for {state.hostname}"
    rollout = state.rollouts.get(warrant.rollout_id)
    if rollout is None:
        return f"{about}: expected a rollout of this host, found {warrant.rollout_id}, which it was never dispatched"
    if warrant.order_id in state.orders:
        return f"{about} was obeyed before, and an order is good once; sign a new one"
    if rollout.closed_at is not None:
        return f"{about}: a newer rollout took over from {warrant.rollout_id}; override the lock for that one"
    if state.is_recalled(warrant.rollout_id):
        return f"{about}: {warrant.rollout_id} was recalled here by an order; sign a new release"
    record = rollout.record
    if record.state is not HostState.PENDING and not record.may_try_again:
        return f"{about}: expected a host that waits for its lock, found it {record.state}"
    return None


def override(state: State, commit: CommitBuilder, warrant: Warrant, now: datetime) -> str:
    """Let the next switch of the rollout begin without asking, once; return the reason for its fact."""
    state.note_order(
        commit, warrant.order_id, warrant.rollout_id, now, overrides_until=warrant.expires_at
    )
    state.lock_answers.discard(warrant.rollout_id)
    return _cut(
        f"order {warrant.order_id} of {warrant.operator} overrides the lock: {warrant.reason}"
    )
