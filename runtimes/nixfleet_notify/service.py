"""A notifier while it runs: one task follows the log, and one for each hook carries out what its engine orders.

No policy: what is sent, when, and what follows from an answer is decided by the engines.
Source: docs/spec/notifications.md, Delivery.
"""

import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar, assert_never

import anyio
import anyio.to_thread
from attrs import define, evolve, field, frozen

from nixfleet_notify.delivery.answers import Answer, Outcome
from nixfleet_notify.delivery.engine import HookEngine, Load, Read, Save, Send, Wait
from nixfleet_notify.delivery.needs import OpenNeed, open_needs
from nixfleet_notify.delivery.sight import Sight, is_other_log, lost, seen, set_back, unheard
from nixfleet_notify.delivery.state import DeadLetter, Request
from nixfleet_notify.delivery.window import Window
from nixfleet_notify.files.stored import NotifierFiles, UnusableFiles
from nixfleet_notify.messages.message import Message
from nixfleet_notify.ways.feed import FeedSilent, LogShorter
from nixfleet_runtime.http.listings import FeedPage
from nixfleet_runtime.http.overview import Overview
from nixfleet_runtime.kernel.clock import Clock

T = TypeVar("T")

WAIT_SECONDS: Final = 20
"""How long a question waits for the log to grow."""
IDLE_SECONDS: Final = 1.0
READ_AGAIN_SECONDS: Final = 5.0
READ_AGAIN_SECONDS_MAX: Final = 60.0
SIGHT_SECONDS: Final = 10.0
REQUESTS_SECONDS: Final = 2.0
METRICS_SECONDS: Final = 15.0
_log = logging.getLogger(__name__)


class ReadsFeed(Protocol):
    """Reads a log; `Feed` does. Raises: FeedSilent, LogShorter."""

    async def page(self, after: int, *, wait_seconds: int = 0) -> FeedPage: ...

    async def row(self, seq: int) -> FeedPage: ...


class ReadsOverview(Protocol):
    """Reads how the fleet stands; `OverviewReader` does. Raises: FeedSilent."""

    async def overview(self) -> Overview: ...


@frozen
class NeedsSource:
    """Where needs come from, and how often they are asked for. decided_after: as in `open_needs`."""

    reader: ReadsOverview
    poll_seconds: float
    decided_after: timedelta


class Way(Protocol):
    """How messages go out. Raises nothing: whatever fails is an answer."""

    async def send(self, message: Message, attempt: int) -> Answer: ...


@define
class Hook:
    """One hook while it runs. asked: requests with their files. changed: set when it may have something to do."""

    name: str
    engine: HookEngine
    way: Way
    asked: list[tuple[Path, Request]] = field(factory=list)
    changed: anyio.Event = field(factory=anyio.Event)


class Notifier:
    """All hooks, and what is known of the log. chance: 0 up to 1."""

    def __init__(
        self,
        feed: ReadsFeed,
        files: NotifierFiles,
        hooks: Mapping[str, Hook],
        sight: Sight,
        clock: Clock,
        silent_after: timedelta,
        *,
        needs: NeedsSource | None = None,
        write_metrics: "Callable[[Notifier], None] | None" = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.hooks = hooks
        self.sight = sight
        self._feed = feed
        self._files = files
        self._clock = clock
        self._silent_after = silent_after
        self.needs_read_at: datetime | None = None
        self._needs = needs
        self._write_metrics = write_metrics
        self._chance = chance
        self._window = Window()
        self._started_at = self._last_now = clock.now()
        self._saved_sight = sight
        self._saving_sight = anyio.Lock()
        self._sight_saved_at = clock.now()
        self._queued: set[Path] = set()
        self._unreadable: set[Path] = set()

    def now(self) -> datetime:
        """Return the time by our clock."""
        return self._clock.now()

    async def run(self) -> None:
        """Run until it is cancelled; whatever was durable then is gone on with at the next start."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow)
            tasks.start_soon(self._take_requests)
            if self._needs is not None:
                tasks.start_soon(self._follow_needs, self._needs)
            if self._write_metrics is not None:
                tasks.start_soon(self._show_metrics)
            for hook in self.hooks.values():
                tasks.start_soon(self._run_hook, hook)

    # The log.

    async def _follow(self) -> None:
        followed, failures, is_checked = self.sight.head, 0, False
        while True:
            try:
                if not is_checked:
                    followed = await self._checked(followed)
                    is_checked = True
                assert followed is not None
                page = await self._feed.page(followed, wait_seconds=WAIT_SECONDS)
                self._window.add(followed, page)
                is_idle, followed, failures = page.next == followed, page.next, 0
                await self._know(seen(self.sight, page, self._clock.now()))
                # One that does not wait as long as it was asked to is not asked without end.
                if is_idle:
                    await self._clock.sleep(IDLE_SECONDS)
            except LogShorter:
                followed = await self._lose_log()
            except FeedSilent as error:
                is_checked = False
                await self._note_silence(error.problem)
                wait_seconds = min(READ_AGAIN_SECONDS * 2**failures, READ_AGAIN_SECONDS_MAX)
                failures = min(failures + 1, 10)
                await self._clock.sleep(wait_seconds * (0.5 + self._chance() / 2))

    async def _checked(self, followed: int | None) -> int:
        """Return after which row to go on, once it is sure that the log is the one that is known."""
        anchor = self.sight.anchor
        page = await self._feed.row(1 if anchor is None else anchor.seq)
        if is_other_log(self.sight, page):
            return await self._lose_log()
        await self._know(seen(self.sight, page, self._clock.now()))
        # Of a log that nobody has read yet everything from now on is told.
        return page.head if followed is None else followed

    async def _lose_log(self) -> int:
        _log.warning("the control plane has another log than before: it is told from its first row")
        self._window.clear()
        await self._know(lost(self.sight, self._clock.now()))
        return 0

    async def _note_silence(self, problem: str) -> None:
        now = self._clock.now()
        if now < self._last_now:
            by = self._last_now - now
            self._started_at -= by
            self.sight = set_back(self.sight, by)
        self._last_now = now
        before = self.sight.is_silent
        after = unheard(self.sight, problem, self._started_at, now, self._silent_after)
        if after.is_silent and not before:
            _log.warning("the control plane is silent: %s", problem)
        await self._know(after)

    async def _know(self, sight: Sight) -> None:
        """Let `sight` be what is known, and wake every hook.

        News is durable before a hook goes by it: after a crash in between, the rows of a new log would be told under
        the ids of the old one. How far the log goes is written now and then.
        """
        before, now = self._saved_sight, self._clock.now()
        is_news = (sight.log, sight.outage, sight.anchor is None) != (
            before.log,
            before.outage,
            before.anchor is None,
        )
        if not is_news:
            self.sight = sight
        age_seconds = abs((now - self._sight_saved_at).total_seconds())
        if is_news or (sight != before and age_seconds >= SIGHT_SECONDS):
            async with self._saving_sight:
                # Needs that were learned while another save went on are not undone.
                latest = evolve(sight, needs=self.sight.needs)
                await self._durably(
                    "what is known of the log", partial(self._files.save_sight, latest)
                )
                self.sight = latest
                self._saved_sight, self._sight_saved_at = latest, now
        for hook in self.hooks.values():
            hook.changed.set()

    async def _follow_needs(self, needs: NeedsSource) -> None:
        problem = ""
        while True:
            try:
                overview = await needs.reader.overview()
            except FeedSilent as error:
                # That the control plane is silent is told by what follows the log.
                if error.problem != problem:
                    _log.warning("needs cannot be told: %s", error.problem)
                problem = error.problem
            else:
                problem = ""
                now = self.needs_read_at = self._clock.now()
                found = open_needs(self.sight.needs, overview, now, needs.decided_after)
                if found != self.sight.needs:
                    await self._know_needs(found)
            await self._clock.sleep(needs.poll_seconds)

    async def _know_needs(self, needs: tuple[OpenNeed, ...]) -> None:
        """Let `needs` be open. Durable before a hook is told: after a crash it would be told that they ended."""
        async with self._saving_sight:
            sight = evolve(self.sight, needs=needs)
            await self._durably("what needs a person", partial(self._files.save_sight, sight))
            # What was learned of the log meanwhile stays.
            self.sight = evolve(self.sight, needs=needs)
        for hook in self.hooks.values():
            hook.changed.set()

    # The hooks.

    async def _run_hook(self, hook: Hook) -> None:
        taken = list[Path]()
        while True:
            hook.changed = anyio.Event()
            while hook.asked:
                path, request = hook.asked.pop(0)
                hook.engine.requested(request)
                taken.append(path)
            order = hook.engine.order(self._clock.now(), self.sight)
            match order:
                case Save():
                    await self._durably(
                        f"the state of hook {hook.name}",
                        partial(self._files.save, hook.name, order),
                    )
                    hook.engine.saved(order)
                    await self._forget(taken)
                case Send():
                    answer = await hook.way.send(order.message, order.attempt)
                    self._log_answer(hook, order, answer)
                    hook.engine.answered(answer, self._clock.now(), self._chance())
                case Read():
                    page = await self._page(order.after)
                    # A log may end before the head that is known: what follows it finds out why.
                    if page is None or page.next <= order.after:
                        await self._changed(hook, READ_AGAIN_SECONDS)
                    else:
                        hook.engine.read(page, self._clock.now())
                case Load():
                    hook.engine.loaded(await self._dead_letter(hook.name, order.id))
                case Wait(until=None):
                    await hook.changed.wait()
                case Wait(until=until):
                    assert until is not None
                    await self._changed(hook, (until - self._clock.now()).total_seconds())
                case _:
                    assert_never(order)

    async def _dead_letter(self, name: str, message_id: str) -> DeadLetter | None:
        """Return a dead letter; `None`: there is none that can be sent again. A damaged one stays where it is."""
        try:
            load = partial(self._files.dead, name, message_id)
            return await self._durably(f"a dead letter of {name}", load)
        except UnusableFiles as error:
            _log.warning("%s: a dead letter is not sent again: %s", name, error)
            return None

    async def _page(self, after: int) -> FeedPage | None:
        page = self._window.page(after)
        if page is not None:
            return page
        try:
            return await self._feed.page(after)
        except (FeedSilent, LogShorter):
            return None  # Whoever follows the log finds it too, and says so.

    async def _changed(self, hook: Hook, seconds: float) -> None:
        """Return once the hook may have something to do, or after `seconds`."""
        changed = hook.changed

        async def end_when(ended: Callable[[], Awaitable[None]]) -> None:
            await ended()
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end_when, changed.wait)
            tasks.start_soon(end_when, partial(self._clock.sleep, seconds))

    def _log_answer(self, hook: Hook, order: Send, answer: Answer) -> None:
        if answer.outcome is Outcome.DELIVERED:
            _log.info("%s: %s was delivered", hook.name, order.message.id)
        else:
            _log.warning(
                "%s: attempt %d of %s failed: %s",
                hook.name,
                order.attempt,
                order.message.id,
                answer.problem,
            )

    # Files.

    async def _take_requests(self) -> None:
        while True:
            try:
                found = await anyio.to_thread.run_sync(
                    lambda: list(self._files.requests(self._note_unreadable))
                )
            except UnusableFiles as error:
                _log.warning("a request is dropped: %s", error)
                await self._forget([error.path])
                continue
            except OSError as error:
                _log.warning("requests cannot be read: %s", error)
                found = []
            for path, name, request in found:
                if path in self._queued:
                    continue
                hook = self.hooks.get(name)
                if hook is None:
                    _log.warning("a request is for hook %r, which is not configured", name)
                    await self._forget([path])
                    continue
                self._queued.add(path)
                hook.asked.append((path, request))
                hook.changed.set()
            await self._clock.sleep(REQUESTS_SECONDS)

    async def _forget(self, paths: list[Path]) -> None:
        """Remove requests that were carried out durably."""
        while paths:
            path = paths.pop()
            try:
                await anyio.to_thread.run_sync(partial(path.unlink, missing_ok=True))
            except OSError as error:
                # It stays among those that were queued, so that it is not carried out again and again.
                self._queued.add(path)
                _log.warning("a request that was taken cannot be removed: %s", error)
            else:
                self._queued.discard(path)

    def _note_unreadable(self, path: Path, error: OSError) -> None:
        """Log once that a request cannot be read. It is read as soon as it can be, and holds up no other."""
        if path not in self._unreadable:
            _log.warning("a request cannot be read: %s: %s", path.name, error)
        self._unreadable.add(path)

    async def _durably(self, what: str, work: Callable[[], T]) -> T:
        """Return the result of `work` on files, tried again while the disk refuses it."""
        is_told = False
        while True:
            try:
                return await anyio.to_thread.run_sync(work)
            except OSError as error:
                if not is_told:
                    _log.error("%s: %s; nothing is sent until that works", what, error)
                is_told = True
                await self._clock.sleep(READ_AGAIN_SECONDS)

    async def _show_metrics(self) -> None:
        assert self._write_metrics is not None
        while True:
            try:
                await anyio.to_thread.run_sync(self._write_metrics, self)
            except OSError as error:
                _log.warning("the metrics cannot be written: %s", error)
            await self._clock.sleep(METRICS_SECONDS)
