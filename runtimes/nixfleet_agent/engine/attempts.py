"""Which attempt at a closure follows on the record of this host. Pure.

Only the number and the state of the host are judged here. Whether the signed manifest may bring the closure again is
judged in `downgrade`.
Source: docs/spec/policy.md, Attempts.
"""

from nixfleet_agent.engine.state import LocalRollout
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import Dispatch
from nixfleet_state_machine.host.state import HostRolloutState, HostState


def is_taken_already(dispatch: Dispatch, rollout: LocalRollout) -> bool:
    """Return whether the attempt of `dispatch` was acknowledged before; that is in the journal.

    Also an earlier one: a control plane that lost its database begins at the first attempt, and is sent the facts of
    all of them when it asks.
    """
    if rollout.record.state is HostState.PENDING:
        return False
    return 1 <= dispatch.attempt_number <= rollout.record.attempt


def objection_to_first(dispatch: Dispatch, rollout_id: RolloutId) -> str | None:
    """Return why `dispatch` does not begin a rollout that this host has not begun, `None` if it does.

    One that only waited for the host's own lock may be begun although another one took its place: nothing of it was
    obeyed. Which release is too old by then is judged in `downgrade`.
    """
    return _objection_to_number(dispatch, rollout_id, 0)


def objection_to_next(dispatch: Dispatch, rollout: LocalRollout) -> str | None:
    """Return why `dispatch` does not follow on `rollout`, `None` if it does."""
    record = rollout.record
    if rollout.closed_at is not None:
        return _replaced(record)
    if not record.may_try_again:
        unfinished = " with a rollback that has not succeeded" if record.is_rolling_back else ""
        return (
            f"expected a dispatch of {record.rollout_id} to a host whose attempt {record.attempt} has ended, "
            f"found {record.hostname} {record.state.value}{unfinished}"
        )
    return _objection_to_number(dispatch, record.rollout_id, record.attempt)


def _replaced(record: HostRolloutState) -> str:
    return (
        f"expected a dispatch of a rollout that is not closed, found {record.rollout_id}, "
        f"which a newer one replaced on {record.hostname}"
    )


def _objection_to_number(dispatch: Dispatch, rollout_id: RolloutId, made: int) -> str | None:
    found = dispatch.attempt_number
    if found == made + 1:
        return None
    return (
        f"expected attempt {made + 1} of {rollout_id}, since {dispatch.hostname} has made {made or 'none'}, "
        f"found attempt {found}"
    )
