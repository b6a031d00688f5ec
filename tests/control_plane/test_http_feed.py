"""`GET /v1/log`: the lines of the log in words, page by page and as they become durable."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from nixfleet_control_plane.feed import Feed
from nixfleet_control_plane.http.routes import log
from nixfleet_control_plane.http.server.limits import Limits
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.reading.sqlite_queries import SqliteQueries
from nixfleet_runtime.http import paths
from tests.support.served_control_plane import READER_KEY, Site, site_with

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A control plane with a release in force, in which an operator may have one reader that waits."""
    async with site_with(tmp_path, Limits(viewers_per_operator_max=1)) as made:
        await made.publish()
        yield made


async def _log(site: Site, query: str = "", *, status: int = 200) -> Any:
    answer = await site.operate("GET", f"{paths.LOG}{query}", name="bob", key=READER_KEY)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_the_log_is_told_in_words_oldest_first(site: Site) -> None:
    """Who, what, and about what, with the payload beside it."""
    page = await _log(site)

    assert [event["seq"] for event in page["events"]] == list(range(1, page["head"] + 1))
    assert page["next"] == page["head"]
    queued = next(it for it in page["events"] if it["kind"] == "plan_action" and "host" in it)
    assert queued["actor"] == "planner"
    assert queued["rolloutId"] == "stable@r1"
    assert "web-01" in queued["text"]
    assert queued["payload"]["kind"] == "QueueDispatch"


async def test_pages_follow_each_other_without_a_gap(site: Site) -> None:
    """`next` of a page is the `after` of the following one, also where the lines come from the store."""
    whole = (await _log(site))["events"]
    site.service.feed = Feed(site.service.feed.head)  # As after a start: nothing is in memory.

    read, after = list[Any](), 0
    while True:
        page = await _log(site, f"?after={after}&limit=2")
        if not page["events"]:
            break
        read += page["events"]
        after = page["next"]

    assert read == whole


async def test_a_page_of_long_lines_ends_early_and_the_next_one_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (await _log(site))["events"]
    monkeypatch.setattr(log, "PAGE_BYTES_MAX", 1)

    first = await _log(site)
    second = await _log(site, f"?after={first['next']}")

    assert first["next"] < first["head"]
    assert first["events"] + second["events"] == whole[: len(first["events"] + second["events"])]
    assert second["events"]


async def test_a_reader_that_waits_has_a_line_once_it_is_durable(site: Site) -> None:
    """It is answered with what came, and not before."""
    head = (await _log(site))["head"]
    pages = list[Any]()

    async def follow() -> None:
        pages.append(await _log(site, f"?after={head}&wait=30"))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await _until_one_waits(site)
            await site.publish("r2")

    (page,) = pages
    assert page["events"][0]["seq"] == head + 1


async def test_a_reader_that_waits_for_others_lines_waits_on(site: Site) -> None:
    """Lines that it did not ask for do not end its wait; the next place is after them."""
    head = (await _log(site))["head"]
    pages = list[Any]()

    async def follow() -> None:
        pages.append(await _log(site, f"?after={head}&wait=30&kind=operator_command"))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await _until_one_waits(site)
            await site.publish("r2")
            body = b'{"reason":"a look"}'
            await site.operate("POST", paths.channel_path("stable", "/pause"), body)

    (page,) = pages
    assert [event["kind"] for event in page["events"]] == ["operator_command"]
    assert page["events"][0]["actor"] == "alice"


async def test_a_reader_that_waits_in_vain_is_told_where_the_log_ends(site: Site) -> None:
    """After its time: an empty page, from which it goes on."""
    head = (await _log(site))["head"]

    page = await _log(site, f"?after={head}&wait=1&kind=identity_forked")

    assert page["events"] == []
    assert page["next"] >= head


async def test_lines_are_chosen_by_rollout_host_and_kind(site: Site) -> None:
    """Each alone, and together."""
    await site.publish("r2")
    for query, name, value in (
        ("?rollout=stable%40r2", "rolloutId", "stable@r2"),
        ("?host=web-01", "host", "web-01"),
        ("?kind=rollout_event", "kind", "rollout_event"),
    ):
        events = (await _log(site, query))["events"]
        assert events
        assert {event[name] for event in events} == {value}
    assert (await _log(site, "?host=web-01&kind=rollout_event&rollout=x%40y"))["events"] == []


async def test_lines_are_chosen_by_how_much_they_matter(site: Site) -> None:
    """Each line has a type and a severity; a reader gets those that matter so much, or more."""
    every = (await _log(site))["events"]
    notices = (await _log(site, "?severity=notice"))["events"]

    assert {"artefact.accepted", "rollout.opened"} <= {event["type"] for event in notices}
    assert notices == [event for event in every if event["severity"] != "routine"]
    assert len(notices) < len(every)
    assert (await _log(site, "?severity=act"))["events"] == []


async def test_a_reader_that_goes_away_makes_room_at_once(site: Site) -> None:
    """It is looked after no longer: it would cost a core until its wait was over."""
    head = (await _log(site))["head"]
    waits = f"?after={head}&wait=30"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_log, site, waits)
        await _until_one_waits(site)
        tasks.cancel_scope.cancel()

    with anyio.fail_after(10):
        while b"nixfleet_log_readers 0.0" not in (await site.ask("GET", "/metrics")).content:
            await anyio.lowlevel.checkpoint()


async def test_a_reader_is_told_where_the_log_begins_if_rows_are_gone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that were exported and dropped leave a gap, which no filter hides; rows that are there leave none."""
    head = (await _log(site))["head"]
    site.service.feed = Feed(head)
    log_rows = SqliteQueries.log_rows

    async def without_the_first_three(
        self: SqliteQueries, rollout_id: str | None, *, after_seq: int, limit: int
    ) -> tuple[LogRow, ...]:
        return await log_rows(self, rollout_id, after_seq=max(after_seq, 3), limit=limit)

    monkeypatch.setattr(SqliteQueries, "log_rows", without_the_first_three)

    for query in ("?after=1", "?after=1&severity=act&wait=30"):
        assert (await _log(site, query))["begins"] == 4
    assert "begins" not in await _log(site, "?after=3")


async def test_a_page_of_few_lines_reads_the_store_in_whole_portions(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader who asks for one line of a rare kind costs no query for each row."""
    site.service.feed = Feed(site.service.feed.head)
    asked, log_rows = list[int](), SqliteQueries.log_rows

    async def counted(
        self: SqliteQueries, rollout_id: str | None, *, after_seq: int, limit: int
    ) -> tuple[LogRow, ...]:
        asked.append(after_seq)
        return await log_rows(self, rollout_id, after_seq=after_seq, limit=limit)

    monkeypatch.setattr(SqliteQueries, "log_rows", counted)

    page = await _log(site, "?after=0&limit=1&kind=identity_forked")

    assert page["head"] > 2
    assert asked == [0]


@pytest.mark.parametrize(
    ("query", "status", "why"),
    [
        ("?kind=gossip", 422, "expected one of agent_events"),
        ("?severity=dire", 422, "expected one of routine, notice, warning, act"),
        ("?after=100000", 409, "expected a row from 0 to "),
        ("?after=-1", 422, "expected a whole number"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(
    query: str, status: int, why: str, site: Site
) -> None:
    """Each by its own name. A log that is shorter than before is another one: its database was lost."""
    assert why in (await _log(site, query, status=status))["detail"]


async def test_an_operator_has_so_many_readers_that_wait_and_no_more(site: Site) -> None:
    """A page that is there is given all the same."""
    head = (await _log(site))["head"]
    waiting = f"?after={head}&wait=30&kind=identity_forked"

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_log, site, waiting)
            await _until_one_waits(site)
            refused = await _log(site, waiting, status=429)
            assert (await _log(site))["events"]
            tasks.cancel_scope.cancel()

    assert "bob has reached its limit of 1 open polls" in refused["detail"]


async def _until_one_waits(site: Site) -> None:
    while b"nixfleet_log_readers 1.0" not in (await site.ask("GET", "/metrics")).content:
        await anyio.lowlevel.checkpoint()
