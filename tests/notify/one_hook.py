"""A log, a receiver and one hook between them, without I/O: what is durable survives a crash, and nothing else does."""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from attrs import evolve

from nixfleet_notify.delivery.answers import DELIVERED, Answer
from nixfleet_notify.delivery.engine import HookEngine, Load, Order, Read, Save, Send, Wait
from nixfleet_notify.delivery.sight import Sight, lost
from nixfleet_notify.delivery.state import DeadLetter, HookState
from nixfleet_notify.messages.filters import HookFilter
from nixfleet_notify.messages.message import Message
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_runtime.http.line_types import LineType
from nixfleet_runtime.http.listings import FeedPage, ListedRow

START = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
HALT, FAILURE, ROUTINE = (
    LineType.ROLLOUT_HALTED,
    LineType.HOST_FAILED,
    LineType.HOST_PROBE_PASSED,
)
ORDERS_MAX = 2000


def line_of(
    seq: int, line_type: LineType = HALT, ts: datetime = START, rollout_id: str | None = "stable@r1"
) -> ListedRow:
    """A line as the feed lists it."""
    return ListedRow(
        seq,
        ts,
        "rollout_event",
        FrozenMap({"kind": "HostStateChanged"}),
        None,
        None,
        rollout_id,
        "rollout",
        f"web-{seq:02} is Failed",
        line_type.value,
        line_type.severity.value,
    )


class OneHook:
    """One hook with its world. answer: what the receiver answers to a message; it keeps those that it took."""

    def __init__(
        self,
        *,
        wants: HookFilter | None = None,
        coalesce_seconds: float = 0,
        cursor: int | None = 0,
        page_rows: int = 3,
    ) -> None:
        self.now = START
        self.sight = Sight(head=0)
        self.wants = wants or HookFilter()
        self.coalesce_seconds = coalesce_seconds
        self.rows: dict[int, tuple[ListedRow, ...]] = {}
        self.begins = 1
        self.page_rows = page_rows
        self.durable = HookState(cursor=cursor)
        self.dead: dict[str, DeadLetter] = {}
        self.received: list[Message] = []
        self.attempts: list[tuple[datetime, Message]] = []
        self.settled: set[str] = set()  # what no attempt is due for any more
        self.chance = 0.0
        self.answer: Callable[[Message], Answer] = lambda _: DELIVERED
        self.engine = self._engine()

    def append(self, *rows: Iterable[ListedRow] | LineType) -> None:
        """Let the log grow by rows, each of one type or of several lines."""
        for row in rows:
            seq = max(self.rows, default=0) + 1
            lines = (line_of(seq, row, self.now),) if isinstance(row, LineType) else tuple(row)
            self.rows[seq] = tuple(evolve(line, seq=seq) for line in lines)
        self.sight = evolve(self.sight, head=max(self.rows, default=0))

    def drop(self, first_kept: int) -> None:
        """Drop what is before a row, as retention does."""
        self.begins = max(self.begins, first_kept)

    def lose_log(self) -> None:
        """Let the control plane begin another log."""
        self.rows, self.begins = {}, 1
        self.sight = lost(self.sight, self.now)

    def page(self, after: int) -> FeedPage:
        """What the feed answers: some whole rows after one."""
        first = max(after + 1, self.begins)
        seqs = [seq for seq in self.rows if seq >= first][: self.page_rows]
        lines = tuple(line for seq in seqs for line in self.rows[seq])
        is_gap = first > after + 1 and bool(self.rows)
        last = seqs[-1] if seqs else after
        return FeedPage(lines, last, max(self.rows, default=0), first if is_gap else None)

    def crash(self) -> None:
        """Stop at once, and start with what is durable."""
        self.engine = self._engine()

    def step(self) -> Order:
        """Carry out one order, and return it."""
        order = self.engine.order(self.now, self.sight)
        match order:
            case Save():
                self.save(order)
                self.engine.saved(order)
            case Send():
                answer = self.deliver(order.message)
                self.engine.answered(answer, self.now, self.chance)
            case Read():
                self.engine.read(self.page(order.after), self.now)
            case Load():
                self.engine.loaded(self.dead.get(order.id))
            case Wait():
                pass
        return order

    def save(self, order: Save) -> None:
        """Make it durable, a dead letter first."""
        if order.dead is not None:
            self.dead[order.dead.message.id] = order.dead
        before, after = self.durable.sending, order.state.sending
        if before is not None and after is None:
            self.settled.add(before.id)
        if after is not None and order.state.again is not None:
            self.settled.discard(after.id)
        self.durable = order.state
        if order.buried is not None:
            self.dead.pop(order.buried, None)

    def deliver(self, message: Message) -> Answer:
        """Let the receiver have a message; return its answer."""
        answer = self.answer(message)
        self.attempts.append((self.now, message))
        if answer == DELIVERED:
            self.received.append(message)
        return answer

    def settle(self) -> Wait:
        """Carry out orders until there is nothing to do now, and return until when."""
        for _ in range(ORDERS_MAX):
            order = self.step()
            if isinstance(order, Wait):
                return order
        raise AssertionError("it does not come to rest")

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and do what is due then."""
        self.now += timedelta(seconds=seconds)
        self.settle()

    def pass_time_without_orders(self, seconds: float) -> None:
        """Let time pass, forwards or backwards, while nobody carries out orders."""
        self.now += timedelta(seconds=seconds)

    def finish(self) -> None:
        """Go on, with all the time that it takes, until the hook waits for the log alone."""
        for _ in range(ORDERS_MAX):
            until = self.settle().until
            if until is None:
                return
            self.now = max(self.now, until)
        raise AssertionError("it never comes to rest")

    def _engine(self) -> HookEngine:
        return HookEngine(
            "pager",
            "https://fleet.example.org",
            self.wants,
            self.coalesce_seconds,
            self.durable,
            len(self.dead),
        )


def event_of(message: Message) -> dict[str, object]:
    """The CloudEvent of a message."""
    event: dict[str, object] = json.loads(message.body)
    return event


def data_of(message: Message) -> dict[str, object]:
    """Its data."""
    data = event_of(message)["data"]
    assert isinstance(data, dict)
    return data
