"""A notifier between a control plane and its receivers: real ones, and ones that are silent, forgetful or slow."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from attrs import define, field

from nixfleet_notify.delivery.answers import DELIVERED, Answer, Outcome, failed
from nixfleet_notify.delivery.engine import HookEngine, Save
from nixfleet_notify.delivery.notices import ANSWERS, LOG_RESTARTED, ROWS_GONE, SILENT
from nixfleet_notify.delivery.sight import Sight
from nixfleet_notify.delivery.state import Replay, Retry
from nixfleet_notify.delivery.window import PAGES_KEPT
from nixfleet_notify.files.stored import NotifierFiles
from nixfleet_notify.messages.filters import HookFilter
from nixfleet_notify.messages.message import Message
from nixfleet_notify.metrics import metrics_text
from nixfleet_notify.service import Hook, Notifier, Way
from nixfleet_notify.ways.egress import EgressRules
from nixfleet_notify.ways.feed import Feed, FeedSilent, LogShorter
from nixfleet_notify.ways.webhook import Webhook
from nixfleet_proto.agent_event import ActivationFailed, ActivationStarted, DispatchAck
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.http.client import signed_client
from nixfleet_runtime.http.line_types import LineType, Severity
from nixfleet_runtime.http.listings import FeedPage, ListedRow
from nixfleet_runtime.http.signing.key_id import operator_key_id
from nixfleet_runtime.kernel.clock import Clock, FakeClock, SystemClock
from tests.notify.one_hook import HALT, START, line_of
from tests.notify.receiver import receiving
from tests.support.served_control_plane import CLOCK, READER_KEY, site_with

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 20
ROWS_BEYOND_WINDOW = 2 * PAGES_KEPT + 2  # a page has two


class SkewedClock(FakeClock):
    """A clock that can be set back: what sleeps sleeps on."""

    skew = timedelta()

    def now(self) -> datetime:
        return super().now() + self.skew


@define
class Log:
    """A feed without a network: a log that grows, is dropped, lost, or does not answer."""

    clock: FakeClock
    rows: list[ListedRow] = field(factory=list)
    begins: int = 1
    problem: str = ""
    is_cut: bool = (
        False  # It has nothing of what it had; who follows its end has not seen that yet.
    )
    questions: int = 0
    grown: anyio.Event = field(factory=anyio.Event)

    def append(self, *types: LineType) -> None:
        for line_type in types:
            self.rows.append(line_of(len(self.rows) + 1, line_type, self.clock.now()))
        self.wake()

    def wake(self) -> None:
        grown, self.grown = self.grown, anyio.Event()
        grown.set()

    async def page(self, after: int, *, wait_seconds: int = 0) -> FeedPage:
        while True:
            await anyio.lowlevel.checkpoint()
            self.questions += 1
            if self.problem:
                raise FeedSilent(self.problem)
            if self.is_cut and not wait_seconds:
                return FeedPage((), after, after)
            if after > len(self.rows):
                raise LogShorter(after)
            if after < len(self.rows) or not wait_seconds:
                return self._page(after, 2)
            await self.grown.wait()

    async def row(self, seq: int) -> FeedPage:
        self.questions += 1
        if self.problem:
            raise FeedSilent(self.problem)
        if seq - 1 > len(self.rows):
            raise LogShorter(seq - 1)
        return self._page(seq - 1, 1)

    def _page(self, after: int, count: int) -> FeedPage:
        first = max(after, self.begins - 1)
        rows = tuple(self.rows[first : first + count])
        begins = self.begins if first > after else None
        return FeedPage(rows, first + len(rows), len(self.rows), begins)


@define
class Inbox:
    """A way that keeps what it took. answer: to each message."""

    answer: Callable[[Message], Answer] = lambda _: DELIVERED
    taken: list[Message] = field(factory=list)
    attempts: int = 0
    arrived: anyio.Event = field(factory=anyio.Event)

    @property
    def types(self) -> list[str]:
        return [message.type.removeprefix("org.nixfleet.") for message in self.taken]

    async def send(self, message: Message, attempt: int) -> Answer:
        await anyio.lowlevel.checkpoint()
        self.attempts += 1
        answer = self.answer(message)
        if answer == DELIVERED:
            self.taken.append(message)
        arrived, self.arrived = self.arrived, anyio.Event()
        arrived.set()
        return answer

    async def until(self, count: int) -> None:
        """Return once it took so many."""
        with anyio.fail_after(PATIENCE_SECONDS):
            while len(self.taken) < count:
                await self.arrived.wait()

    async def until_in_time(self, count: int, clock: FakeClock) -> None:
        """Return once it took so many, while time passes."""
        with anyio.fail_after(PATIENCE_SECONDS):
            while len(self.taken) < count:
                clock.advance(30)
                await anyio.lowlevel.checkpoint()


def _hook(name: str, files: NotifierFiles, way: Way, least: Severity = Severity.ACT) -> Hook:
    dead = len(files.dead_ids(name))
    engine = HookEngine(name, "https://fleet", HookFilter(least), 0, files.hook(name), dead)
    return Hook(name, engine, way)


@asynccontextmanager
async def _running(
    directory: Path, log: Log | Feed, ways: dict[str, Way], clock: Clock
) -> AsyncIterator[Notifier]:
    files = NotifierFiles(directory / "notifier")
    files.prepare()
    hooks = {name: _hook(name, files, way) for name, way in ways.items()}
    notifier = Notifier(
        log, files, hooks, files.sight(), clock, timedelta(minutes=5), chance=lambda: 1.0
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(notifier.run)
        yield notifier
        tasks.cancel_scope.cancel()


def _raise(path: Path, error: OSError) -> None:
    raise error


async def _until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while not is_so():
            await anyio.lowlevel.checkpoint()


async def _begun(notifier: Notifier, names: Sequence[str] = ("pager",)) -> None:
    """Return once the hooks know where the log ends."""
    await _until(lambda: all(notifier.hooks[it].engine.state.cursor is not None for it in names))


async def test_a_halt_at_a_real_control_plane_reaches_the_pager(tmp_path: Path) -> None:
    """A host fails where none may: a signed request, the feed, a webhook, and the words of the log."""
    (tmp_path / "site").mkdir()
    async with site_with(tmp_path / "site") as site, receiving() as receiver:
        rollout_id = await site.publish()
        key_id = operator_key_id("bob")
        way = Webhook(receiver.url, EgressRules((), ("127.0.0.1",)), SystemClock(), 10)
        async with (
            signed_client(site.url, key_id, READER_KEY, CLOCK) as client,
            _running(tmp_path, Feed(client, Severity.ACT), {"pager": way}, SystemClock()) as it,
        ):
            await _begun(it)
            now = CLOCK.now()
            facts = (
                DispatchAck("old", now, 1),
                ActivationStarted(now, "directory", 2),
                ActivationFailed(4, "a unit failed\x1b[2J", now, 3),
            )
            async with site.agent() as agent:
                await agent.post_events(
                    tuple(AgentEventEnvelope("web-01", rollout_id, fact) for fact in facts)
                )
            with anyio.fail_after(PATIENCE_SECONDS):
                await receiver.until(lambda: bool(receiver.received))

    (request,) = receiver.received
    assert request.event["type"] == "org.nixfleet.rollout.halted"
    data = request.event["data"]
    assert isinstance(data, dict)
    assert data["text"] == "stable@r1: rollout web-01 is Failed"


async def _fails(log: Log, problem: str) -> None:
    """Let the log not answer, and return once that was found."""
    asked, log.problem = log.questions, problem
    log.wake()
    await _until(lambda: log.questions > asked)


async def _asked_again(log: Log, clock: FakeClock) -> None:
    """Let time pass until the log is asked once more."""
    asked = log.questions
    with anyio.fail_after(PATIENCE_SECONDS):
        while log.questions == asked:
            clock.advance(0.1)
            await anyio.lowlevel.checkpoint()


async def test_a_control_plane_that_is_silent_is_told_and_that_it_answers_again(
    tmp_path: Path,
) -> None:
    """After five minutes, once, however often it is asked; a clock that is set back delays nothing."""
    clock, inbox = SkewedClock(START), Inbox()
    log = Log(clock)
    async with _running(tmp_path, log, {"pager": inbox}, clock) as notifier:
        await _begun(notifier)
        await _fails(log, "connection refused")
        for skew_days in (0, -1, -1):
            clock.skew = timedelta(days=skew_days)
            await _asked_again(log, clock)
        assert clock.now() - START < timedelta(minutes=5)
        assert inbox.taken == []
        await inbox.until_in_time(1, clock)
        for _ in range(5):
            await _asked_again(log, clock)
        assert inbox.types == [SILENT]

        log.problem = ""
        await inbox.until_in_time(2, clock)
        log.append(HALT)
        await inbox.until_in_time(3, clock)

    assert inbox.types == [SILENT, ANSWERS, "rollout.halted"]
    assert "connection refused" in inbox.taken[0].body


async def test_a_lost_log_is_found_and_told_from_its_first_row(tmp_path: Path) -> None:
    """When it is shorter; and when it has grown past the old one, by a row that was seen before."""
    clock, inbox = FakeClock(START), Inbox()
    log = Log(clock)
    async with _running(tmp_path, log, {"pager": inbox}, clock) as notifier:
        await _begun(notifier)
        log.append(HALT, HALT)
        await inbox.until(2)
        log.rows.clear()
        log.wake()
        await inbox.until(3)
        log.append(HALT)
        await inbox.until(4)

        await _fails(log, "connection refused")
        clock.advance(1)
        log.rows.clear()
        log.append(HALT, HALT, HALT)
        log.problem = ""
        await inbox.until_in_time(8, clock)

    assert inbox.types == [
        *["rollout.halted"] * 2,
        LOG_RESTARTED,
        "rollout.halted",
        LOG_RESTARTED,
        *["rollout.halted"] * 3,
    ]
    assert len({message.id for message in inbox.taken}) == 8


async def test_a_lost_log_is_durable_before_a_hook_goes_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notifier that is killed in between would take the hook's new log for the old one, and its ids for those."""
    clock, inbox = FakeClock(START), Inbox()
    log = Log(clock)
    save_sight = NotifierFiles.save_sight
    refused = list[Sight]()
    is_full = True

    def save_if_there_is_room(self: NotifierFiles, sight: Sight) -> None:
        if sight.log > 1 and is_full:
            refused.append(sight)
            raise OSError(28, "No space left on device")
        save_sight(self, sight)

    monkeypatch.setattr(NotifierFiles, "save_sight", save_if_there_is_room)
    files = NotifierFiles(tmp_path / "notifier")
    async with _running(tmp_path, log, {"pager": inbox}, clock) as notifier:
        await _begun(notifier)
        log.append(HALT, HALT)
        await inbox.until(2)
        log.rows.clear()
        log.wake()
        await _until(lambda: bool(refused))
        for _ in range(50):  # Files are written in threads.
            await anyio.to_thread.run_sync(bool)
        assert files.hook("pager").log == 1
        assert len(inbox.taken) == 2
        is_full = False
        await inbox.until_in_time(3, clock)

    assert inbox.types[-1] == LOG_RESTARTED
    assert files.sight().log == 2


async def test_rows_that_retention_dropped_while_it_was_stopped_are_named(tmp_path: Path) -> None:
    """Which ones, as a message of its own; and what is left is told."""
    clock, inbox = FakeClock(START), Inbox()
    log = Log(clock)
    async with _running(tmp_path, log, {"pager": inbox}, clock) as notifier:
        await _begun(notifier)
        log.append(HALT)
        await inbox.until(1)
        await _until(lambda: NotifierFiles(tmp_path / "notifier").hook("pager").cursor == 1)
    log.append(*[HALT] * 6)
    log.begins = 6
    async with _running(tmp_path, log, {"pager": inbox}, clock):
        await inbox.until(4)

    assert inbox.types == ["rollout.halted", ROWS_GONE, "rollout.halted", "rollout.halted"]
    assert '"firstSeq":2,"lastSeq":5' in inbox.taken[1].body


async def test_a_hook_that_fails_holds_up_no_other(tmp_path: Path) -> None:
    """A receiver that is down for a week; the other one has every row at once, and both have them in the end."""
    clock, good, bad = FakeClock(START), Inbox(), Inbox(lambda _: failed("status 500"))
    log = Log(clock)
    async with _running(tmp_path, log, {"good": good, "bad": bad}, clock) as notifier:
        await _begun(notifier, ("good", "bad"))
        for number in range(1, 30):
            log.append(HALT)
            await good.until(number)
        assert bad.taken == []
        state = notifier.hooks["bad"].engine.state
        assert (state.cursor, state.sending is not None) == (0, True)
        text = metrics_text(notifier).decode()
        assert 'nixfleet_notify_rows_behind{hook="bad"} 29.0' in text
        assert 'nixfleet_notify_delivered_total{hook="good"} 29.0' in text

        bad.answer = lambda _: DELIVERED
        clock.advance(36_000)
        await bad.until(29)


async def test_a_request_is_taken_by_the_running_process_and_removed(tmp_path: Path) -> None:
    """A replay sends again what was sent, with the same ids; one that nobody can carry out is dropped."""
    clock, inbox = FakeClock(START), Inbox()
    log = Log(clock)
    async with _running(tmp_path, log, {"pager": inbox}, clock) as notifier:
        await _begun(notifier)
        log.append(HALT, HALT)
        await inbox.until(2)
        await _until(lambda: notifier.hooks["pager"].engine.state.sending is None)
        files = NotifierFiles(tmp_path / "notifier")
        files.request("pager", Replay(1), clock.now())
        files.request("nobody", Replay(1), clock.now())
        (tmp_path / "notifier" / "requests" / "a-damaged-one.json").write_text("{")
        await inbox.until_in_time(4, clock)
        await _until(lambda: not list(files.requests(_raise)))

    ids = [message.id for message in inbox.taken]
    assert ids[:2] == ids[2:]


async def test_a_request_that_cannot_be_read_holds_up_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named once, and taken as soon as it can be read."""
    clock, inbox = FakeClock(START), Inbox()
    log = Log(clock)
    async with _running(tmp_path, log, {"pager": inbox}, clock) as notifier:
        await _begun(notifier)
        log.append(HALT)
        await inbox.until(1)
        await _until(lambda: notifier.hooks["pager"].engine.state.sending is None)
        files = NotifierFiles(tmp_path / "notifier")
        unreadable = tmp_path / "notifier" / "requests" / "a-first.json"
        unreadable.mkdir()
        files.request("pager", Replay(1), clock.now())
        await inbox.until_in_time(2, clock)
        unreadable.rmdir()
        files.request("pager", Replay(1), clock.now()).rename(unreadable)
        await inbox.until_in_time(3, clock)
        await _until(lambda: not unreadable.exists())

    named = [record for record in caplog.records if "a-first.json" in record.getMessage()]
    assert len(named) == 1


async def test_a_request_that_cannot_be_removed_is_carried_out_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system that became read-only meanwhile."""
    clock, inbox = FakeClock(START), Inbox()
    log = Log(clock)
    tried = list[Path]()

    def refuse(path: Path, missing_ok: bool = False) -> None:
        tried.append(path)
        raise OSError(30, "Read-only file system")

    async with _running(tmp_path, log, {"pager": inbox}, clock) as notifier:
        await _begun(notifier)
        log.append(HALT)
        await inbox.until(1)
        await _until(lambda: notifier.hooks["pager"].engine.state.sending is None)
        NotifierFiles(tmp_path / "notifier").request("pager", Replay(1), clock.now())
        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", refuse)
            await inbox.until_in_time(2, clock)
            log.append(HALT)
            await inbox.until_in_time(3, clock)
            await _until(lambda: bool(tried))

    assert [message.first_seq for message in inbox.taken] == [1, 1, 2]


async def test_a_dead_letter_that_is_damaged_is_not_sent_and_holds_up_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, inbox = FakeClock(START), Inbox(lambda _: Answer(Outcome.REFUSED, "no"))
    log = Log(clock)
    async with _running(tmp_path, log, {"pager": inbox}, clock) as notifier:
        await _begun(notifier)
        log.append(HALT, HALT)
        files = NotifierFiles(tmp_path / "notifier")
        with anyio.fail_after(PATIENCE_SECONDS):
            while len(files.dead_ids("pager")) < 2:
                clock.advance(30)
                await anyio.lowlevel.checkpoint()
        first, _ = files.dead_ids("pager")
        (tmp_path / "notifier" / "dead" / "pager" / f"{first}.json").write_text("{")
        inbox.answer = lambda _: DELIVERED
        files.request("pager", Retry(files.dead_ids("pager")), clock.now())
        await inbox.until_in_time(1, clock)
        log.append(HALT)
        await inbox.until_in_time(2, clock)

    assert [message.first_seq for message in inbox.taken] == [2, 3]
    assert "is not sent again" in caplog.text
    assert files.dead_ids("pager") == (first,)


@pytest.mark.skipif(os.geteuid() != 0, reason="only the administrator may give files away")
def test_a_request_of_the_administrator_can_be_read_by_the_user_of_the_notifier(
    tmp_path: Path,
) -> None:
    files = NotifierFiles(tmp_path / "notifier")
    files.prepare()
    os.chown(files.directory, 4711, 4712)

    made = files.request("pager", Replay(1), START).stat()

    assert (made.st_uid, made.st_gid) == (4711, 4712)


async def test_a_log_that_ends_before_its_known_head_is_not_asked_without_a_pause(
    tmp_path: Path,
) -> None:
    """As one does whose database was put back, until what follows its end finds that out."""
    clock, inbox = FakeClock(START), Inbox()
    log = Log(clock)
    async with _running(tmp_path, log, {"pager": inbox}, clock) as notifier:
        await _begun(notifier)
        log.append(*[HALT] * ROWS_BEYOND_WINDOW)
        await inbox.until(ROWS_BEYOND_WINDOW)
        log.is_cut = True
        asked = log.questions
        NotifierFiles(tmp_path / "notifier").request("pager", Replay(1), clock.now())
        clock.advance(30)
        await _until(lambda: log.questions > asked)
        for _ in range(200):
            await anyio.lowlevel.checkpoint()
        assert log.questions == asked + 1


async def test_nothing_is_sent_that_is_not_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk is full the message waits; then it goes out."""
    clock, inbox = FakeClock(START), Inbox()
    log = Log(clock)
    refused = 0
    is_full = False
    save = NotifierFiles.save

    def save_if_there_is_room(self: NotifierFiles, name: str, order: Save) -> None:
        nonlocal refused
        if is_full:
            refused += 1
            raise OSError(28, "No space left on device")
        save(self, name, order)

    monkeypatch.setattr(NotifierFiles, "save", save_if_there_is_room)
    async with _running(tmp_path, log, {"pager": inbox}, clock) as notifier:
        await _begun(notifier)
        await _until(lambda: (tmp_path / "notifier" / "hooks" / "pager.json").exists())
        is_full = True
        log.append(HALT)
        await _until(lambda: refused > 0)
        assert inbox.attempts == 0
        is_full = False
        await inbox.until_in_time(1, clock)


async def test_a_control_plane_that_refuses_or_is_gone_counts_as_silent(
    tmp_path: Path,
) -> None:
    """Its pages are judged before they are believed."""
    (tmp_path / "site").mkdir()
    async with site_with(tmp_path / "site") as site:
        await site.publish()
        key_id = operator_key_id("bob")
        async with signed_client(site.url, key_id, READER_KEY, CLOCK) as client:
            feed = Feed(client, Severity.ROUTINE)
            page = await feed.page(0)
            assert page.events
            assert (await feed.row(2)).events[0].seq == 2
            with pytest.raises(LogShorter):
                await feed.page(page.head + 1)
        async with signed_client(site.url, operator_key_id("eve"), READER_KEY, CLOCK) as client:
            with pytest.raises(FeedSilent, match="refuses to show its log"):
                await Feed(client, Severity.ROUTINE).page(0)
    async with signed_client(site.url, key_id, READER_KEY, CLOCK) as client:
        with pytest.raises(FeedSilent, match="nothing listens there"):
            await Feed(client, Severity.ROUTINE).page(0)
