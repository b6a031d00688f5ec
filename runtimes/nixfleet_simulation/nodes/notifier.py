"""A notifier in virtual time: the production engine of one hook, between the log of the control plane and a receiver.

What `nixfleet_notify.service` does with tasks is done here with the agenda: it follows the log, and carries out the
orders of its hook. It dies between any two of them, and goes on with what is durable.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol, assert_never

from nixfleet_notify.delivery.answers import DELIVERED, Answer, Outcome, failed
from nixfleet_notify.delivery.engine import HookEngine, Load, Read, Save, Send, Wait
from nixfleet_notify.delivery.sight import Sight, is_other_log, lost, seen, unheard
from nixfleet_notify.delivery.state import DeadLetter, HookState, Retry
from nixfleet_notify.delivery.window import Window
from nixfleet_notify.messages.filters import HookFilter
from nixfleet_notify.messages.message import Message
from nixfleet_runtime.http.line_types import Severity
from nixfleet_runtime.http.listings import FeedPage
from nixfleet_simulation.nodes.agenda import SECOND, Agenda
from nixfleet_simulation.scenario.randomness import Seed, stream

SOURCE: Final = "https://fleet.example.org"
PAGE_ROWS: Final = 100
COALESCE_SECONDS: Final = 60
SILENT_AFTER: Final = timedelta(minutes=5)
EVERY_SECONDS: Final = (5, 150)
ORDERS_MAX: Final = 40
"""Carried out at one time. The rest is left for the next."""
DIES: Final = 0.01
# What the receiver does; a message that it refuses once it refuses always.
FATES: Final = (("taken", 0.85), ("unheard", 0.92), ("refused", 0.95), ("failed", 1.0))


class ReadsLog(Protocol):
    """The log, as the feed of the control plane has it. starts: how often the control plane started."""

    @property
    def starts(self) -> int:
        """How often one began to serve."""
        ...

    def log_page(self, after: int, rows_max: int) -> FeedPage | None:
        """Return whole rows after a row; `None`: the control plane is down."""
        ...


class Watcher(Protocol):
    """Observes what a notifier reads and delivers, for the judge."""

    def page_read(self, log: int) -> None:
        """A page was read. log: as the notifier counts the logs of its control plane."""
        ...

    def message_taken(self, message: Message) -> None:
        """The receiver took a message, maybe not for the first time."""
        ...


class Notifier:
    """One notifier with one hook, which is told every line from the first row on."""

    def __init__(
        self,
        agenda: Agenda,
        seed: Seed,
        log: ReadsLog,
        watcher: Watcher,
        make_engine: Callable[..., HookEngine] = HookEngine,
    ) -> None:
        self._agenda = agenda
        self._rng = stream(seed, "notifier")
        self._log = log
        self._watcher = watcher
        self._make_engine = make_engine
        self._hook = HookState(cursor=0)
        self._kept_sight = Sight()
        self._dead: dict[str, DeadLetter] = {}
        self._unwanted: set[str] = set()
        self._is_good = False
        self._ahead = timedelta()
        self._start()

    def begin(self) -> None:
        """Look at the log now and then, from now on."""
        self._agenda.after(self._rng.randint(*EVERY_SECONDS) * SECOND, None, self._look)

    def finish(self) -> None:
        """Take everything, however long the waits are, and dead letters at last. Nobody dies any more."""
        self._is_good = True
        self._engine.requested(Retry(tuple(self._dead)))
        while True:
            self._follow()
            until = self._carry_out(orders_max=None)
            if until is None and self._followed == (self._sight.head or 0):
                return
            if until is not None:
                self._ahead += max(timedelta(), until - self._now)

    # A process.

    def _start(self) -> None:
        self._sight = self._kept_sight
        self._followed = self._sight.head or 0
        self._checked_start = 0
        self._window = Window()
        self._began = self._now
        self._engine = self._make_engine(
            "pager",
            SOURCE,
            HookFilter(Severity.ROUTINE),
            COALESCE_SECONDS,
            self._hook,
            len(self._dead),
        )

    def _look(self) -> None:
        self._follow()
        self._carry_out(ORDERS_MAX)
        self.begin()

    @property
    def _now(self) -> datetime:
        return self._agenda.time + self._ahead

    def _dies(self) -> bool:
        if self._is_good or self._rng.random() >= DIES:
            return False
        self._start()
        return True

    # The log.

    def _follow(self) -> None:
        """Learn how far the log goes, and whether it is the one that is known. As `service` does."""
        while True:
            if self._log.starts != self._checked_start and not self._is_known():
                return
            page = self._page(self._followed)
            if page is None:
                self._know(unheard(self._sight, "no answer", self._began, self._now, SILENT_AFTER))
                self._checked_start = 0
                return
            if page.head < self._followed:
                self._lose_log()
                continue
            if page.events:
                self._watcher.page_read(self._sight.log)
            self._window.add(self._followed, page)
            self._know(seen(self._sight, page, self._now))
            if page.next == self._followed:
                return
            self._followed = page.next

    def _is_known(self) -> bool:
        """Make sure, after a connection that broke, that the log is the one that is known; `False`: no answer."""
        anchor = self._sight.anchor
        page = self._page((1 if anchor is None else anchor.seq) - 1, 1)
        if page is None:
            self._know(unheard(self._sight, "no answer", self._began, self._now, SILENT_AFTER))
            return False
        if is_other_log(self._sight, page) or page.head < self._followed:
            self._lose_log()
        else:
            self._know(seen(self._sight, page, self._now))
        self._checked_start = self._log.starts
        return True

    def _lose_log(self) -> None:
        self._window.clear()
        self._followed = 0
        self._know(lost(self._sight, self._now))

    def _know(self, sight: Sight) -> None:
        """What is news is durable before the hook acts on it; the rest now and then."""
        is_news = (sight.log, sight.outage) != (self._kept_sight.log, self._kept_sight.outage)
        self._sight = sight
        if is_news or self._rng.random() < 0.2:
            self._kept_sight = sight

    def _page_of_hook(self, after: int) -> FeedPage | None:
        """Return a page that is further back than what was followed."""
        page = self._page(after)
        if page is not None and page.events:
            self._watcher.page_read(self._sight.log)
        return page

    def _page(self, after: int, rows_max: int = PAGE_ROWS) -> FeedPage | None:
        return self._log.log_page(after, rows_max)

    # The hook.

    def _carry_out(self, orders_max: int | None) -> datetime | None:
        """Carry out orders; return until when there is nothing to do, `None`: until something is known."""
        count = 0
        while orders_max is None or count < orders_max:
            count += 1
            if self._dies():
                return None
            order = self._engine.order(self._now, self._sight)
            match order:
                case Save():
                    self._save(order)
                    if not self._dies():
                        self._engine.saved(order)
                case Send():
                    answer = self._deliver(order.message)
                    if not self._dies():
                        self._engine.answered(answer, self._now, self._rng.random())
                case Read():
                    page = self._window.page(order.after) or self._page_of_hook(order.after)
                    if page is None or page.next <= order.after:
                        return None
                    self._engine.read(page, self._now)
                case Load():
                    self._engine.loaded(self._dead.get(order.id))
                case Wait():
                    return order.until
                case _:
                    assert_never(order)
        return None

    def _save(self, order: Save) -> None:
        """As `files.stored`: a dead letter is durable before the hook goes on."""
        if order.dead is not None:
            self._dead[order.dead.message.id] = order.dead
        self._hook = order.state
        if order.buried is not None:
            self._dead.pop(order.buried, None)

    def _deliver(self, message: Message) -> Answer:
        fate = "taken" if self._is_good else self._fate(message.id)
        if fate in ("taken", "unheard"):
            self._watcher.message_taken(message)
        match fate:
            case "taken":
                return DELIVERED
            case "refused":
                return Answer(Outcome.REFUSED, "not this one")
            case _:
                return failed("no answer")

    def _fate(self, message_id: str) -> str:
        if message_id in self._unwanted:
            return "refused"
        drawn = self._rng.random()
        fate = next(name for name, below in FATES if drawn < below)
        if fate == "refused":
            self._unwanted.add(message_id)
        return fate
