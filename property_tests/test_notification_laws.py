"""Laws of notifications: whatever receivers answer, and whenever the notifier stops, rows are told once, in order."""

from collections.abc import Iterator
from itertools import pairwise

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_notify.delivery.answers import DELIVERED, Answer, Outcome, failed
from nixfleet_notify.delivery.engine import Save, Send, Wait
from nixfleet_notify.delivery.needs import OpenNeed
from nixfleet_notify.delivery.state import Replay, Retry
from nixfleet_notify.messages.filters import HookFilter
from nixfleet_notify.messages.message import Message
from nixfleet_runtime.http.line_types import Severity
from nixfleet_runtime.http.overview import NeedKind
from tests.notify.one_hook import FAILURE, HALT, ROUTINE, OneHook, data_of, event_of

ANSWERS = st.sampled_from(
    (
        *("taken",) * 4,
        "taken, and the answer is lost",
        "failed",
        "refused",
        "gone",
    )
)
_ROWS = st.tuples(
    st.just("rows"),
    st.lists(st.sampled_from((HALT, HALT, FAILURE, ROUTINE)), min_size=1, max_size=4),
)
_ORDERS = st.tuples(st.just("orders"), st.lists(ANSWERS, min_size=1, max_size=9))
_CRASH = st.tuples(st.just("crash"), st.sampled_from(("before", "in a save", "after an answer")))
_TIME = st.tuples(st.just("time"), st.sampled_from((-4000, -30, 20, 61, 400, 40_000)))
STEPS = st.lists(
    st.one_of(
        *(_ROWS, _ORDERS, _CRASH) * 2,
        _TIME,
        st.tuples(st.just("drop"), st.integers(1, 12)),
        st.tuples(st.just("lose"), st.just(None)),
        st.tuples(st.just("retry"), st.booleans()),
        st.tuples(st.just("needs"), st.sets(st.sampled_from("abc"))),
    ),
    min_size=4,
    max_size=30,
)


class _World:
    """One hook, and what its receiver and its log saw."""

    def __init__(self, coalesce_seconds: float, wants: HookFilter | None = None) -> None:
        self.hook = OneHook(coalesce_seconds=coalesce_seconds, wants=wants)
        self.hook.answer = self._answer
        self.answers: list[str] = []
        self.bodies: dict[str, str] = {}
        self.taken: list[Message] = []
        self.wanted: dict[
            tuple[int, int], bool
        ] = {}  # by log and row: whether it was dropped unread or lost
        self.log = 1
        self.episodes = 0
        self.subjects: dict[str, str] = {}  # by the id of a need

    def _answer(self, message: Message) -> Answer:
        # What a receiver deduplicates by never stands for something else.
        assert self.bodies.setdefault(message.id, message.body) == message.body
        assert message.id not in self.hook.settled
        kind = self.answers.pop(0) if self.answers else "taken"
        if kind.startswith("taken") and message.id not in {it.id for it in self.taken}:
            self.taken.append(message)
        match kind:
            case "taken":
                return DELIVERED
            case "refused":
                return Answer(Outcome.REFUSED, "no")
            case "gone":
                return Answer(Outcome.GONE, "gone")
            case _:
                return failed("no answer")

    def do(self, kind: str, what: object) -> None:
        hook = self.hook
        match kind, what:
            case "rows", list():
                hook.append(*what)
                first = max(hook.rows, default=0) - len(what) + 1
                for seq, line_type in enumerate(what, first):
                    if line_type is HALT:
                        self.wanted[self.log, seq] = True
            case "orders", list():
                # Answers are for attempts; other orders are carried out on the way to one.
                for answer in what:
                    self.answers = [answer]
                    while self.answers and not isinstance(hook.step(), Wait):
                        pass
                self.answers = []
            case "time", int():
                hook.pass_time_without_orders(what)
            case "crash", str():
                self._crash(what)
            case "drop", int():
                if hook.rows:
                    hook.drop(min(what, max(hook.rows)))
            case "lose", _:
                for log, seq in list(self.wanted):
                    if log == self.log:
                        self.wanted[log, seq] = False
                hook.lose_log()
                self.log += 1
            case "needs", set():
                self._list_needs({str(it) for it in what})
            case "retry", bool():
                hook.engine.requested(Retry(tuple(hook.dead) if what else ()))
            case _:
                raise AssertionError((kind, what))

    def _list_needs(self, subjects: set[str]) -> None:
        """Let these needs be open, and no others. What is open is durable before the hook hears of it."""
        kept = [need for need in self.hook.sight.needs if need.subject in subjects]
        for subject in sorted(subjects - {need.subject for need in kept}):
            self.episodes += 1
            self.subjects[f"need-{self.episodes}"] = subject
            kept.append(
                OpenNeed(
                    f"need-{self.episodes}",
                    NeedKind.FRESHNESS,
                    subject,
                    "Hosts refuse it.",
                    "Sign it again.",
                    self.hook.now,
                )
            )
        self.hook.sight = evolve(self.hook.sight, needs=tuple(kept))

    def told_needs(self, subject: str) -> list[str]:
        """Return the types of the messages about one need, as they were made."""
        made = dict.fromkeys(
            [message for _, message in self.hook.attempts]
            + [letter.message for letter in self.hook.dead.values()]
        )
        return [
            message.type.removeprefix("org.nixfleet.need.")
            for message in made
            if message.type.startswith("org.nixfleet.need.")
            and self.subjects[str(event_of(message)["id"]).removesuffix("-ended")] == subject
        ]

    def _crash(self, when: str) -> None:
        order = self.hook.engine.order(self.hook.now, self.hook.sight)
        if when == "in a save" and isinstance(order, Save):
            self.hook.save(order)
        elif when == "after an answer" and isinstance(order, Send):
            self.hook.deliver(order.message)
        self.hook.crash()

    def finish(self) -> None:
        self.answers = []
        self.hook.crash()
        self.hook.engine.requested(Retry())
        self.hook.finish()
        assert self.hook.engine.state.sending is None

    def told(self) -> Iterator[tuple[int, int, int, int, Message]]:
        """Yield log, first row, last row and number of lines of each message about rows, as they arrived."""
        letters = [it.message for it in self.hook.dead.values()]
        missing = [it for it in letters if it.id not in {each.id for each in self.taken}]
        for message in (*self.taken, *missing):
            if message.first_seq and not message.type.startswith("org.nixfleet.notify."):
                _, _, log = str(event_of(message)["source"]).partition("#log-")
                data = data_of(message)
                last, count = data["lastSeq"], data["count"]
                assert isinstance(last, int)
                assert isinstance(count, int)
                yield int(log or 1), message.first_seq, last, count, message

    def gone(self) -> Iterator[tuple[int, int, int]]:
        for message in (*self.taken, *(it.message for it in self.hook.dead.values())):
            if message.type.endswith("rows-gone"):
                _, _, log = str(event_of(message)["source"]).partition("#log-")
                first, last = data_of(message)["firstSeq"], data_of(message)["lastSeq"]
                assert isinstance(first, int)
                assert isinstance(last, int)
                yield int(log or 1), first, last


@given(STEPS, st.sampled_from((0.0, 60.0)))
def test_each_row_is_told_once_or_is_a_dead_letter_or_is_named_as_gone(
    steps: list[tuple[str, object]], coalesce_seconds: float
) -> None:
    """In any history of answers, crashes, lost logs and times; with or without coalescing."""
    world = _World(coalesce_seconds)
    for kind, what in steps:
        world.do(kind, what)
    world.finish()

    told = list(world.told())
    gone = list(world.gone())
    covered = list[tuple[int, int]]()
    for log, first, last, count, _ in told:
        rows = [key for key in world.wanted if key[0] == log and first <= key[1] <= last]
        assert count == len(rows)
        covered += rows
    assert len(covered) == len(set(covered)), "a row is in two messages"
    for key, must_be_told in world.wanted.items():
        named = any(log == key[0] and first <= key[1] <= last for log, first, last in gone)
        assert key in covered or named or not must_be_told, key


@given(STEPS, st.sampled_from((0.0, 60.0)))
def test_messages_about_rows_arrive_in_the_order_of_the_rows(
    steps: list[tuple[str, object]], coalesce_seconds: float
) -> None:
    """A later row is never told before an earlier one, whatever fails; dead letters that are sent again excepted."""
    world = _World(coalesce_seconds)
    for kind, what in steps:
        if kind != "retry":
            world.do(kind, what)
    world.finish()

    letters = {it.message.id for it in world.hook.dead.values()}
    order = [
        (log, first, last)
        for log, first, last, _, message in world.told()
        if message.id not in letters
    ]
    assert order == sorted(order)
    assert all(before[0] < after[0] or before[2] < after[1] for before, after in pairwise(order))


@given(STEPS, st.booleans())
def test_a_need_is_told_once_until_it_ends(
    steps: list[tuple[str, object]], is_told_of_ends: bool
) -> None:
    """In any history; and what is open in the end was told last of all, or is a dead letter."""
    wants = HookFilter(
        types=("need.freshness", "need.ended") if is_told_of_ends else ("need.freshness",),
        severity=Severity.NOTICE,
    )
    world = _World(0.0, wants)
    for kind, what in steps:
        world.do(kind, what)
    world.finish()

    are_open = {need.subject for need in world.hook.sight.needs}
    for subject in "abc":
        told = world.told_needs(subject)
        if is_told_of_ends:
            assert all(before != after for before, after in pairwise(told)), told
            assert told[-1:] == (["freshness"] if subject in are_open else told and ["ended"])
        else:
            assert set(told) <= {"freshness"}
            assert subject not in are_open or told
    assert {told.subject for told in world.hook.engine.state.told_needs} == are_open


@given(STEPS, st.integers(1, 30))
def test_a_replay_tells_every_row_again_from_where_it_is_asked_for(
    steps: list[tuple[str, object]], from_seq: int
) -> None:
    """With the same ids where the messages are the same: whoever has them need not take them twice."""
    world = _World(0.0)
    for kind, what in steps:
        world.do(kind, what)
    world.finish()
    cursor = world.hook.engine.state.cursor or 0
    world.taken.clear()
    world.hook.settled.clear()

    world.hook.engine.requested(Replay(from_seq))
    world.hook.finish()

    again = {(log, first) for log, first, _, _, message in world.told() if message in world.taken}
    kept = max(from_seq, world.hook.begins)
    assert again == {
        key for key in world.wanted if key[0] == world.log and kept <= key[1] <= cursor
    }


@given(STEPS)
def test_a_hook_that_is_settled_does_nothing(steps: list[tuple[str, object]]) -> None:
    """Once everything is told, an order is to wait, and a restart sends nothing."""
    world = _World(0.0)
    for kind, what in steps:
        world.do(kind, what)
    world.finish()
    attempts = len(world.hook.attempts)

    world.hook.crash()
    world.hook.finish()

    assert isinstance(world.hook.step(), Wait)
    assert len(world.hook.attempts) == attempts
