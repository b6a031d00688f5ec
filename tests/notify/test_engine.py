"""What a hook does next: one thing at a time, durable before it is sent, and never past a row that was not told."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_notify.delivery.answers import DELIVERED, Answer, Outcome, failed
from nixfleet_notify.delivery.engine import DEAD_LETTERS_MAX, Load, Read, Save, Send, Wait
from nixfleet_notify.delivery.notices import ANSWERS, LOG_RESTARTED, ROWS_GONE, SILENT
from nixfleet_notify.delivery.schedule import ATTEMPTS_MAX, REFUSALS_MAX, WAIT_MAX
from nixfleet_notify.delivery.sight import Outage
from nixfleet_notify.delivery.state import Replay, Retry
from nixfleet_notify.messages.message import Message
from tests.notify.one_hook import FAILURE, HALT, ROUTINE, START, OneHook, data_of, event_of

REFUSED = Answer(Outcome.REFUSED, "expected status 2xx, found 400")
GONE = Answer(Outcome.GONE, "status 410")


def _ids(hook: OneHook) -> list[str]:
    return [str(event_of(message)["id"]) for message in hook.received]


def _types(hook: OneHook) -> list[str]:
    return [message.type.removeprefix("org.nixfleet.") for message in hook.received]


def test_a_message_is_durable_before_it_is_sent() -> None:
    """A read, a save, and only then the attempt; its answer is saved before anything else is done."""
    hook = OneHook()
    hook.append(HALT)

    orders = [type(hook.step()) for _ in range(5)]

    assert orders == [Read, Save, Send, Save, Wait]
    assert hook.durable.cursor == 1


def test_each_row_that_passes_the_filter_is_a_message_of_its_own() -> None:
    """In the order of the rows; the others are passed over."""
    hook = OneHook()
    hook.append(HALT, ROUTINE, FAILURE, HALT, ROUTINE)

    hook.finish()

    assert _ids(hook) == ["1", "4"]


def test_an_answer_that_is_lost_is_followed_by_the_same_message() -> None:
    """A crash between the attempt and its answer: the same id and the same body again."""
    hook = OneHook()
    hook.append(HALT)
    while not isinstance(order := hook.engine.order(hook.now, hook.sight), Send):
        hook.step()
    hook.deliver(order.message)
    hook.crash()

    hook.finish()

    first, second = hook.received
    assert first == second


def test_a_hook_that_fails_is_tried_again_later_and_later() -> None:
    """Up to half of each wait is random; the next row waits for its turn."""
    hook = OneHook()
    hook.answer = lambda _: failed("status 500")
    hook.append(HALT, HALT)

    hook.settle()
    waits = list[float]()
    for _ in range(ATTEMPTS_MAX - 1):
        until = hook.settle().until
        assert until is not None
        waits.append((until - hook.now).total_seconds())
        hook.now = until

    assert waits == [2.5, 15, 150, 900, 3600, 9000, *[18_000.0] * 5]
    assert {message.first_seq for _, message in hook.attempts} == {1}


def test_a_message_that_fails_too_often_is_a_dead_letter_and_the_next_one_has_its_turn() -> None:
    """It keeps its body and what the last answer was; the hook's wait does not begin anew."""
    hook = OneHook()
    hook.answer = lambda message: failed("status 500") if message.first_seq == 1 else DELIVERED
    hook.append(HALT, HALT)

    hook.finish()

    (letter,) = hook.dead.values()
    assert (letter.message.first_seq, letter.attempts, letter.problem) == (
        1,
        ATTEMPTS_MAX,
        "status 500",
    )
    assert _ids(hook) == ["2"]
    assert hook.durable.cursor == 2
    assert hook.attempts[-1][0] - hook.attempts[-2][0] >= WAIT_MAX / 2


def test_a_message_that_is_refused_is_a_dead_letter_soon_and_holds_up_nothing() -> None:
    """Three attempts within a minute: the receiver works, and takes others at once."""
    hook = OneHook()
    hook.chance = 1.0
    hook.answer = lambda message: REFUSED if message.first_seq == 1 else DELIVERED
    hook.append(HALT, HALT)

    hook.finish()

    assert len(hook.attempts) == REFUSALS_MAX + 1
    assert hook.now - START <= timedelta(minutes=1)
    assert [letter.message.first_seq for letter in hook.dead.values()] == [1]


def _always(answer: Answer) -> Callable[[Message], Answer]:
    return lambda _: answer


def test_a_receiver_that_asks_for_time_is_given_it() -> None:
    """`Retry-After` lengthens a wait, up to ten hours, and shortens none."""
    for asked_seconds, waited_seconds in ((100.0, 100.0), (1.0, 2.5), (1e9, 36_000.0)):
        hook = OneHook()
        answer = Answer(Outcome.FAILED, "status 429", asked_seconds)
        hook.answer = _always(answer)
        hook.append(HALT)
        until = hook.settle().until
        assert until is not None
        assert (until - hook.now).total_seconds() == waited_seconds


def test_a_receiver_that_is_gone_is_sent_nothing_until_an_operator_retries() -> None:
    """Nothing is lost meanwhile: the cursor stays, also over a restart."""
    hook = OneHook()
    hook.answer = lambda _: GONE
    hook.append(HALT, HALT)
    hook.pass_time(1_000_000)
    hook.crash()
    hook.pass_time(1_000_000)
    assert len(hook.attempts) == 1
    assert hook.durable.disabled == "status 410"

    hook.answer = lambda _: DELIVERED
    hook.engine.requested(Retry())
    hook.finish()

    assert _ids(hook) == ["1", "2"]


def test_a_dead_letter_is_sent_again_when_that_is_asked_for() -> None:
    """With its id. The cursor stays, though the letter is about an earlier row; and it is a letter no more."""
    hook = OneHook()
    hook.answer = lambda message: REFUSED if message.first_seq == 1 else DELIVERED
    hook.append(HALT, HALT, HALT)
    hook.finish()
    (letter,) = hook.dead.values()

    hook.answer = lambda _: DELIVERED
    hook.engine.requested(Retry((letter.message.id,)))
    order = hook.engine.order(hook.now, hook.sight)
    assert isinstance(order, Save)
    hook.step()
    assert isinstance(hook.engine.order(hook.now, hook.sight), Load)
    hook.finish()

    assert _ids(hook) == ["2", "3", "1"]
    assert hook.received[-1].id == letter.message.id
    assert hook.durable.cursor == 3
    assert (hook.dead, hook.engine.dead_count) == ({}, 0)


def test_a_dead_letter_that_fails_again_stays_one() -> None:
    """One attempt a request; what failed is noted with it."""
    hook = OneHook()
    hook.answer = lambda _: REFUSED
    hook.append(HALT)
    hook.finish()
    (letter_id,) = hook.dead

    hook.answer = lambda _: failed("status 503")
    hook.engine.requested(Retry((letter_id, "unknown")))
    hook.finish()

    assert [it.problem for it in hook.dead.values()] == ["status 503"]
    assert hook.engine.dead_count == 1
    assert hook.durable.to_resend == ()


def test_a_hook_with_too_many_dead_letters_is_disabled() -> None:
    """So the disk is bounded, and the rows that follow are not lost."""
    hook = OneHook()
    hook.answer = lambda _: REFUSED
    hook.engine.dead_count = DEAD_LETTERS_MAX - 2
    hook.append(*[HALT] * 5)

    hook.finish()

    assert len(hook.dead) == 2
    assert hook.durable.cursor == 2
    assert str(DEAD_LETTERS_MAX) in hook.durable.disabled


def test_a_new_hook_begins_at_the_end_of_the_log() -> None:
    """What happened before is told on request alone."""
    hook = OneHook(cursor=None)
    hook.append(HALT, HALT)
    hook.finish()
    assert hook.durable.cursor == 2

    hook.append(HALT)
    hook.finish()
    assert _ids(hook) == ["3"]


def test_a_replay_sends_rows_again_and_one_into_the_future_skips_none() -> None:
    """With the same ids."""
    hook = OneHook()
    hook.append(HALT, HALT, HALT)
    hook.finish()

    hook.engine.requested(Replay(2))
    hook.finish()
    assert _ids(hook) == ["1", "2", "3", "2", "3"]

    hook.engine.requested(Replay(9))
    hook.append(HALT)
    hook.finish()
    assert _ids(hook)[5:] == ["4"]


def test_a_replay_while_a_message_fails_begins_where_it_is_asked_to() -> None:
    """The message that is under way is made anew when its row has its turn."""
    hook = OneHook()
    hook.append(HALT, HALT)
    hook.finish()
    hook.answer = lambda _: failed("status 500")
    hook.append(HALT)
    hook.settle()

    hook.answer = lambda _: DELIVERED
    hook.engine.requested(Replay(1))
    hook.finish()

    assert _ids(hook)[2:] == ["1", "2", "3"]


def test_a_thousand_failures_in_a_minute_are_one_message() -> None:
    """It says how many lines of which type there are, and begins with the one that matters most."""
    hook = OneHook(coalesce_seconds=60, page_rows=100)
    hook.wants = evolve(hook.wants, severity=FAILURE.severity)
    hook.crash()
    hook.append(*[FAILURE] * 600, HALT, *[FAILURE] * 399)

    assert hook.settle().until == START + timedelta(seconds=60)
    assert hook.received == []
    hook.pass_time(60)

    (message,) = hook.received
    data = data_of(message)
    assert message.type == "org.nixfleet.rollout.halted"
    assert (data["count"], data["firstSeq"], data["lastSeq"]) == (1000, 1, 1000)
    assert data["types"] == {"host.failed": 999, "rollout.halted": 1}
    assert "one of 1000 lines: 999 x host.failed, 1 x rollout.halted" in str(data["text"])
    lines = data["lines"]
    assert isinstance(lines, list)
    assert [line["seq"] for line in lines[:3]] == [601, 1, 2]
    assert len(message.body) < 64 * 1024


def test_rows_of_later_minutes_are_in_messages_of_their_own() -> None:
    """By the times of the rows: so a backlog is told as it would have been."""
    hook = OneHook(coalesce_seconds=60)
    for _ in range(3):
        hook.append(HALT, HALT)
        hook.now += timedelta(seconds=59)

    hook.finish()

    assert _ids(hook) == ["1-4", "5-6"]


def test_rows_that_were_dropped_are_named_and_the_rest_is_told() -> None:
    """What was read before comes first, then which rows are gone, then what follows."""
    hook = OneHook(coalesce_seconds=60, page_rows=2)
    hook.append(HALT, ROUTINE, HALT, HALT, ROUTINE, HALT)
    hook.step()  # It has read two rows, and holds the first back for its minute.
    hook.drop(5)

    hook.finish()

    assert _types(hook) == ["rollout.halted", ROWS_GONE, "rollout.halted"]
    data = data_of(hook.received[1])
    assert (data["firstSeq"], data["lastSeq"]) == (3, 4)
    assert _ids(hook) == ["1", "gone-3-4", "6"]
    assert hook.durable.cursor == 6


def test_another_log_is_told_from_its_first_row_and_its_rows_are_other_events() -> None:
    """Their numbers are those of the lost one: the source differs, and so do the ids that receivers go by."""
    hook = OneHook(coalesce_seconds=60)
    hook.append(HALT, HALT)
    hook.finish()
    hook.append(HALT)
    hook.settle()  # Its minute is not over.
    hook.lose_log()
    hook.append(HALT)

    hook.finish()
    hook.crash()
    hook.finish()

    assert _types(hook) == ["rollout.halted"] * 2 + [LOG_RESTARTED] + ["rollout.halted"]
    assert _ids(hook) == ["1-2", "3", "log-2", "1"]
    assert str(event_of(hook.received[-1])["source"]).endswith("#log-2")
    assert len({message.id for message in hook.received}) == 4


def test_a_log_that_is_lost_before_the_crash_is_read_from_its_first_row_after_it() -> None:
    """The cursor of the lost log is forgotten with the first thing that is saved."""
    hook = OneHook()
    hook.append(HALT, HALT)
    hook.finish()
    hook.lose_log()
    while not isinstance(hook.engine.order(hook.now, hook.sight), Send):
        hook.step()
    hook.crash()
    hook.append(HALT)

    hook.finish()

    assert _ids(hook) == ["1", "2", "log-2", "1"]


def test_a_silent_control_plane_is_told_once_and_that_it_answers_again() -> None:
    """Once each, over a restart too; a hook that was told of no silence is told of no answer."""
    hook = OneHook()
    outage = Outage(START, "connection refused")
    hook.now += timedelta(minutes=6)
    hook.sight = evolve(hook.sight, outage=outage)
    hook.finish()
    hook.crash()
    hook.finish()
    assert _types(hook) == [SILENT]
    assert "has not answered for 6 min" in str(data_of(hook.received[0])["text"])

    hook.sight = evolve(hook.sight, outage=evolve(outage, ended_at=hook.now))
    hook.append(HALT)
    hook.finish()
    hook.crash()
    hook.finish()
    assert _types(hook) == [SILENT, ANSWERS, "rollout.halted"]

    other = OneHook()
    other.sight = hook.sight
    other.rows = hook.rows
    other.finish()
    assert _types(other) == ["rollout.halted"]


@pytest.mark.parametrize("coalesce_seconds", [0.0, 60.0])
def test_a_clock_that_is_set_back_lengthens_no_wait(coalesce_seconds: float) -> None:
    """Neither that of an attempt nor that of a minute."""
    hook = OneHook(coalesce_seconds=coalesce_seconds)
    if not coalesce_seconds:
        hook.answer = lambda _: failed("status 500")
    hook.append(HALT)
    before = hook.settle().until
    assert before is not None
    wait = before - hook.now

    hook.now -= timedelta(days=1)
    after = hook.settle().until

    assert after is not None
    assert after - hook.now == wait


def test_a_clock_that_was_ahead_before_a_restart_lengthens_no_wait() -> None:
    """No wait is longer than ten hours, whatever the file says."""
    hook = OneHook()
    hook.answer = lambda _: failed("status 500")
    hook.now += timedelta(days=400)
    hook.append(HALT)
    hook.settle()
    hook.answer = lambda _: DELIVERED
    hook.now -= timedelta(days=400)
    hook.crash()

    hook.settle()

    assert _ids(hook) == ["1"]


def test_a_hook_that_fails_for_a_week_holds_one_message_and_no_rows() -> None:
    """However many rows there are: they are read when it has its turn."""
    hook = OneHook(page_rows=100)
    hook.answer = lambda _: failed("status 500")
    for _ in range(7):
        hook.append(*[HALT] * 20)
        hook.pass_time(86_400)
    assert {message.first_seq for _, message in hook.attempts} <= {1, 2}
    assert hook.durable.sending is not None

    hook.answer = lambda _: DELIVERED
    hook.pass_time(36_000)
    assert _ids(hook)[-1] == "140"
    assert len(hook.dead) + len(hook.received) == 140
