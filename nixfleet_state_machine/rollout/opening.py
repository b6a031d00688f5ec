"""Opening a rollout: makes its record, and is the one place that checks that its channel is free."""

from collections.abc import Iterable

from nixfleet_proto.checked import require_arguments, same
from nixfleet_proto.errors import InvalidValue
from nixfleet_state_machine.rollout.errors import SupersessionExpected
from nixfleet_state_machine.rollout.event import RolloutOpened
from nixfleet_state_machine.rollout.state import (
    BEFORE_FIRST_WAVE,
    RolloutRecord,
    RolloutState,
)


def open_rollout(
    event: RolloutOpened,
    event_log_seq: int,
    of_channel: Iterable[RolloutRecord],
    *,
    is_guarded: bool = False,
) -> RolloutRecord:
    """Return the record that `event` opens, in Opening at wave 0.

    event_log_seq: the log row that says so. of_channel: the channel's other rollouts. is_guarded: whether the first
    wave has guards; then no wave has begun.
    Raises: SupersessionExpected when one of them is live; send it `SuccessorOpened` first. InvalidValue, for
    arguments of another type, and a channel or ref other than the rollout id's.
    Source: docs/spec/rollout-machine.md, Opening a rollout.
    """
    require_arguments("open_rollout", of_channel=(of_channel, Iterable))
    others = tuple(of_channel)
    require_arguments(
        "open_rollout",
        event=(event, RolloutOpened),
        event_log_seq=(event_log_seq, int),
        of_channel=(others, tuple[RolloutRecord, ...]),
    )
    problems = (
        *same("channel", event.channel, event.rollout_id.channel, "rollout_id has it"),
        *same("target_ref", event.target_ref, event.rollout_id.channel_ref, "rollout_id has it"),
    )
    if problems:
        raise InvalidValue("open_rollout", problems)
    for record in others:
        if record.state.is_live:
            raise SupersessionExpected(record, event.rollout_id, event.at)
    return RolloutRecord(
        rollout_id=event.rollout_id,
        channel=event.channel,
        target_ref=event.target_ref,
        state=RolloutState.OPENING,
        current_wave=BEFORE_FIRST_WAVE if is_guarded else 0,
        opened_event_log_seq=event_log_seq,
        last_transition_event_log_seq=event_log_seq,
        opened_at=event.at,
    )
