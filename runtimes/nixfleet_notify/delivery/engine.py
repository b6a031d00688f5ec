"""One hook: what to do next, and what follows from what came of it. No clock, no chance, no I/O.

`order` says what to do now, as data; whoever carries it out tells the outcome. The rules:
  - What is sent is durable before its first attempt: every attempt, also after a crash, has the same id and body.
  - The cursor moves over a row only when its message was answered with 2xx, is a dead letter, or is not wanted.
  - One message at a time, in the order of the rows.
Source: docs/spec/notifications.md, Delivery.
"""

from datetime import datetime, timedelta
from typing import Final, TypeAlias, assert_never

from attrs import evolve, frozen

from nixfleet_notify.delivery.answers import Answer, Outcome
from nixfleet_notify.delivery.needs import ENDED, began, ended, severity_of, told_need
from nixfleet_notify.delivery.notices import answers_again, log_restarted, rows_gone, silent
from nixfleet_notify.delivery.schedule import ATTEMPTS_MAX, REFUSALS_MAX, WAIT_MAX, retry_at
from nixfleet_notify.delivery.sight import Sight
from nixfleet_notify.delivery.state import DeadLetter, HookState, Replay, Request, Retry
from nixfleet_notify.messages.filters import HookFilter
from nixfleet_notify.messages.grouping import Group
from nixfleet_notify.messages.message import (
    Message,
    Notice,
    Origin,
    message_of,
    notice_message,
    time_of,
)
from nixfleet_runtime.http.line_types import Severity
from nixfleet_runtime.http.listings import FeedPage

DEAD_LETTERS_MAX: Final = 1000
"""With so many a hook is disabled: nothing is lost then, since the cursor stays."""
UNSAVED_ROWS_MAX: Final = 1000
"""So many rows that are not wanted are read again after a crash."""


@frozen
class Save:
    """Make the state durable. dead: added, or replaced under its id. buried: the dead letter that was delivered."""

    state: HookState
    dead: DeadLetter | None = None
    buried: str | None = None


@frozen
class Send:
    """Make the attempt number `attempt` with this message."""

    message: Message
    attempt: int


@frozen
class Read:
    """Read a page of the log after a row."""

    after: int


@frozen
class Load:
    """Read a dead letter."""

    id: str


@frozen
class Wait:
    """There is nothing to do until this time, or until something is known of the log or asked for."""

    until: datetime | None = None


Order: TypeAlias = Save | Send | Read | Load | Wait


class HookEngine:
    """What a hook does. name: of the hook. source: names the control plane. dead_count: how many dead letters it has.

    Carry out `order`, then tell what came of it by the method that its class names.
    """

    def __init__(
        self,
        name: str,
        source: str,
        wants: HookFilter,
        coalesce_seconds: float,
        state: HookState,
        dead_count: int = 0,
    ) -> None:
        self.state = state
        self.dead_count = dead_count
        self._name = name
        self._source = source
        self._wants = wants
        self._coalesce_seconds = coalesce_seconds
        # The last row that was looked at: what is under way is settled, one way or the other, before the next is read.
        settles = None if state.sending is None else state.sending.settles
        self._position = settles or state.cursor or 0
        self._group: Group | None = None
        self._is_group_closed = False
        self._unsaved: Save | None = None
        self._last_now: datetime | None = None

    def order(self, now: datetime, sight: Sight) -> Order:
        """Return what to do now. The same until it was carried out."""
        self._note_time(now)
        if self._unsaved is not None:
            return self._unsaved
        if self.state.disabled:
            return Wait()
        if self.state.sending is not None:
            return self._attempt(now)
        if self.state.to_resend:
            return Load(self.state.to_resend[0])
        self._find_next(now, sight)
        # It may have been set by what was found.
        unsaved: Save | None = self._unsaved
        if unsaved is not None:
            return unsaved
        if sight.head is None:
            return Wait()
        if self._position < sight.head and not self._is_group_closed:
            return Read(self._position)
        if self._group is not None:
            return Wait(self._closes_at(self._group))
        return Wait()

    @property
    def waits_since(self) -> datetime | None:
        """The time of the oldest that is to be told and was not."""
        return waits_since(self.state, self._group)

    # What came of an order.

    def saved(self, order: Save) -> None:
        """Note that what `order` names is durable."""
        if self._unsaved is order:
            self._unsaved = None

    def answered(self, answer: Answer, now: datetime, chance: float) -> None:
        """Note what came of a `Send`. chance: 0 up to 1."""
        message, state = self.state.sending, self.state
        assert message is not None
        match answer.outcome:
            case Outcome.DELIVERED:
                self._delivered(message, now)
            case Outcome.GONE:
                disabled = answer.problem
                self._keep(evolve(self._with_problem(answer, now), disabled=disabled))
            case Outcome.FAILED | Outcome.REFUSED:
                attempts, failures = state.attempts + 1, state.failures + 1
                is_refused = answer.outcome is Outcome.REFUSED
                attempts_max = REFUSALS_MAX if is_refused else ATTEMPTS_MAX
                tried = evolve(
                    self._with_problem(answer, now),
                    attempts=attempts,
                    failures=failures,
                    due_at=retry_at(now, failures, chance, answer.retry_after_seconds),
                )
                if attempts >= attempts_max or state.again is not None:
                    self._gave_up(tried, message, answer, now)
                else:
                    self._keep(tried)
            case _:
                assert_never(answer.outcome)

    def read(self, page: FeedPage, now: datetime) -> None:
        """Note the page of a `Read`. It may have come too late to be of use: its order is asked for again then."""
        if page.begins is not None and page.begins > self._position + 1:
            if self._group is not None:
                self._is_group_closed = True  # What comes before the gap is told before it.
            else:
                self._begin_gap(page.begins, now)
            return
        for line in page.events:
            if line.seq <= self._position or not self._wants.wants(line):
                continue
            if self._group is None:
                self._group = Group(line, now)
            elif self._group.takes(line, self._coalesce_seconds):
                self._group.add(line)
            else:
                self._is_group_closed = True
                self._position = line.seq - 1
                return
        self._position = max(self._position, page.next)
        if self._group is not None and self._coalesce_seconds == 0:
            self._is_group_closed = True
        if self._group is None and self._position - (self.state.cursor or 0) >= UNSAVED_ROWS_MAX:
            self._keep(evolve(self.state, cursor=self._position))

    def loaded(self, letter: DeadLetter | None) -> None:
        """Note the dead letter of a `Load`; `None`: there is no such letter any more."""
        asked, *rest = self.state.to_resend
        left = evolve(self.state, to_resend=tuple(rest))
        if letter is None:
            self._keep(left)
        else:
            # Its rows are settled since it was given up.
            self._begin(evolve(letter.message, settles=None), evolve(left, again=asked))

    def requested(self, request: Request) -> None:
        """Note what an operator asks for."""
        state = evolve(self.state, due_at=None, disabled="")
        match request:
            case Retry():
                new = tuple(it for it in request.dead if it not in state.to_resend)
                self._keep(evolve(state, to_resend=(*state.to_resend, *new)))
            case Replay() if request.from_seq > (state.cursor or 0):
                self._keep(state)  # These rows were not told yet.
            case Replay():
                cursor = request.from_seq - 1
                self._forget_rows(cursor)
                # What is under way is made of rows that come again, or of none.
                is_of_rows = state.sending is not None and state.sending.settles is not None
                sending = None if is_of_rows else state.sending
                attempts = 0 if sending is None else state.attempts
                self._keep(evolve(state, cursor=cursor, sending=sending, attempts=attempts))
            case _:
                assert_never(request)

    # Decisions.

    def _note_time(self, now: datetime) -> None:
        """If our clock was set back, waits stay as long as they were."""
        last, self._last_now = self._last_now, now
        if last is None or now >= last:
            return
        if self.state.due_at is not None:
            self.state = evolve(self.state, due_at=self.state.due_at - (last - now))
        if self._group is not None:
            self._group.opened_at -= last - now

    def _attempt(self, now: datetime) -> Order:
        assert self.state.sending is not None
        due_at = self.state.due_at
        # A wait that is longer than any is of a clock that was ahead when we were stopped.
        if due_at is None or due_at <= now or due_at - now > WAIT_MAX:
            return Send(self.state.sending, self.state.attempts + 1)
        return Wait(due_at)

    def _find_next(self, now: datetime, sight: Sight) -> None:
        """Begin the next message, if there is one; otherwise settle what needs no message."""
        state = self.state
        group = self._group
        is_other_log = state.log != sight.log
        if group is not None and (
            self._is_group_closed or is_other_log or self._closes_at(group) <= now
        ):
            message = message_of(group, self._origin, self._position)
            self._forget_rows(self._position)
            self._begin(message, state)
        elif is_other_log:
            self._forget_rows(0)
            moved = evolve(state, log=sight.log, cursor=0)
            if state.cursor is None:
                self._keep(moved)
            else:
                notice = log_restarted(state.cursor, sight.log, now)
                origin = Origin(self._source, self._name, sight.log)
                self._begin(notice_message(notice, origin), moved)
        elif (notice_now := self._due_notice(sight, now)) is not None:
            notice, since = notice_now
            message = notice_message(notice, self._origin)
            self._begin(message, evolve(state, told_silent_since=since))
        else:
            self._find_need(now, sight)
            if self._unsaved is None:
                self._find_begin(sight)

    def _find_begin(self, sight: Sight) -> None:
        """Begin at the end of a log of which nothing was told."""
        if self.state.cursor is None and sight.head is not None:
            self._forget_rows(sight.head)
            self._keep(evolve(self.state, cursor=sight.head))

    def _find_need(self, now: datetime, sight: Sight) -> None:
        """Begin the message of a need that ended, or of one that began, if the hook is to be told of one."""
        state = self.state
        are_open = {need.key for need in sight.needs}
        were_told = {told.key for told in state.told_needs}
        over = next((told for told in state.told_needs if told.key not in are_open), None)
        if over is not None:
            left = tuple(told for told in state.told_needs if told is not over)
            after = evolve(state, told_needs=left)
            if self._wants.wants_need(ENDED, Severity.NOTICE, over.rollout_id):
                self._begin(notice_message(ended(over, now), self._origin), after)
            else:
                self._keep(after)
            return
        for need in sight.needs:
            is_wanted = self._wants.wants_need(need.type, severity_of(need.kind), need.rollout_id)
            if is_wanted and need.key not in were_told:
                after = evolve(state, told_needs=(*state.told_needs, told_need(need)))
                self._begin(notice_message(began(need), self._origin), after)
                return

    def _due_notice(self, sight: Sight, now: datetime) -> tuple[Notice, datetime | None] | None:
        """Return what the hook is to be told of an outage, and of which outage it has been told then."""
        outage, told = sight.outage, self.state.told_silent_since
        if told is not None and (outage is None or outage.since != told or outage.ended_at):
            ended_at = outage.ended_at if outage is not None and outage.since == told else None
            return answers_again(told, ended_at or now), None
        if outage is not None and sight.is_silent and told is None:
            return silent(outage, now), outage.since
        return None

    def _delivered(self, message: Message, now: datetime) -> None:
        buried, state = self.state.again, self.state
        cursor = state.cursor if message.settles is None else message.settles
        after = evolve(
            self._idle(state),
            cursor=cursor,
            failures=0,
            due_at=None,
            delivered=state.delivered + 1,
            delivered_at=now,
        )
        if buried is not None:
            self.dead_count -= 1
        self._keep(after, buried=buried)

    def _gave_up(self, tried: HookState, message: Message, answer: Answer, now: datetime) -> None:
        cursor = tried.cursor if message.settles is None else message.settles
        letter = DeadLetter(message, tried.attempts, answer.problem, now)
        if tried.again is None:
            self.dead_count += 1
        after = evolve(self._idle(tried), cursor=cursor)
        if answer.outcome is Outcome.REFUSED:
            after = evolve(after, failures=0, due_at=None)  # The hook works: others need not wait.
        if self.dead_count >= DEAD_LETTERS_MAX:
            after = evolve(after, disabled=f"it has {self.dead_count} dead letters")
        self._keep(after, dead=letter)

    def _idle(self, state: HookState) -> HookState:
        return evolve(state, sending=None, again=None, attempts=0)

    def _with_problem(self, answer: Answer, now: datetime) -> HookState:
        return evolve(self.state, problem=answer.problem, problem_at=now)

    def _begin_gap(self, begins: int, now: datetime) -> None:
        notice = rows_gone(self._position + 1, begins - 1, now)
        message = notice_message(notice, self._origin, settles=begins - 1)
        self._forget_rows(begins - 1)
        self._begin(message, self.state)

    def _begin(self, message: Message, state: HookState) -> None:
        self._keep(evolve(state, sending=message, attempts=0))

    def _keep(
        self, state: HookState, *, dead: DeadLetter | None = None, buried: str | None = None
    ) -> None:
        """Let `state` be what is to be saved next. What a `Save` that is not carried out yet has besides stays."""
        before = self._unsaved
        self.state = state
        self._unsaved = Save(
            state,
            dead or (before.dead if before else None),
            buried or (before.buried if before else None),
        )

    def _forget_rows(self, position: int) -> None:
        """Go on after the row `position`, with nothing in hand."""
        self._position = position
        self._group = None
        self._is_group_closed = False

    def _closes_at(self, group: Group) -> datetime:
        return group.opened_at + timedelta(seconds=self._coalesce_seconds)

    @property
    def _origin(self) -> Origin:
        return Origin(self._source, self._name, self.state.log)


def waits_since(state: HookState, group: Group | None) -> datetime | None:
    """Return the time of the oldest that a hook is to be told and was not; `None`: there is none that is known.

    A hook that is disabled reads nothing: what waits is then not older than what disabled it.
    """
    if state.sending is not None and state.again is None:
        return time_of(state.sending)
    if group is not None:
        return group.first_ts
    return state.problem_at if state.disabled else None


def behind(state: HookState, sight: Sight) -> int:
    """Return how many rows of the log are not settled for a hook."""
    if state.cursor is None or sight.head is None:
        return 0
    return max(0, sight.head - state.cursor)
