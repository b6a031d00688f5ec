"""`GET /v1/log` as a stream: frames with ids, from where a reader left off, until it is gone or cut off."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import anyio
import httpx2
import orjson
import pytest
from attrs import evolve, frozen
from starlette.requests import Request
from starlette.types import Message

from nixfleet_control_plane.feed import Feed
from nixfleet_control_plane.http import log_stream
from nixfleet_control_plane.http.authentication import Authenticator
from nixfleet_control_plane.http.contacts import Contacts
from nixfleet_control_plane.http.listed_lines import asks_approval, listed_lines
from nixfleet_control_plane.http.log_lines import EVERY_LINE, LogLines, Wanted, page_bytes
from nixfleet_control_plane.http.log_rows import LogRows
from nixfleet_control_plane.http.log_stream import Frames, LogStream
from nixfleet_control_plane.http.server.limits import Limits, Pollers
from nixfleet_control_plane.messages.key_ring import KeyRing
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.reading.queries import NotReadable
from nixfleet_control_plane.reading.sqlite_queries import SqliteQueries
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.trust import Operator, OperatorRole
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.listings import FEED_PAGE, FeedPage
from nixfleet_runtime.http.signing.key_id import operator_key_id
from nixfleet_runtime.http.signing.nonces import NonceMemory
from nixfleet_runtime.http.signing.refusal import UnknownKey
from nixfleet_runtime.http.signing.requests import new_nonce, sign_request
from tests.support.served_control_plane import CLOCK, READER_KEY, Site, site_with

pytestmark = pytest.mark.anyio
PAUSE = b'{"reason": "smells odd"}'
SECONDS_MAX = 10


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A control plane with a release in force, in which an operator may have two readers."""
    async with site_with(tmp_path, Limits(viewers_per_operator_max=2)) as made:
        await made.publish()
        yield made


@frozen
class Event:
    """One event of a stream."""

    id: int
    page: Any


async def events(site: Site, query: str = "", **headers: str) -> AsyncGenerator[Event, None]:
    """Yield the events of a stream that bob reads."""
    path = f"{paths.LOG}{query}"
    key_id = operator_key_id("bob")
    signed = dict(sign_request(READER_KEY, key_id, "GET", path, b"", CLOCK.now(), new_nonce()))
    signed |= {"Accept": "text/event-stream", **headers}
    async with (
        httpx2.AsyncClient(base_url=site.url, trust_env=False) as client,
        client.stream("GET", path, headers=signed) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["Content-Type"] == "text/event-stream"
        number = 0
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                number = int(value)
            elif name == "data":
                yield Event(number, orjson.loads(value))


async def test_a_stream_has_what_there_is_and_what_becomes_durable(site: Site) -> None:
    with anyio.fail_after(SECONDS_MAX):
        stream = events(site)
        first = await anext(stream)
        await site.operate("POST", "/v1/channels/stable/pause", PAUSE)
        second = await anext(stream)
        await stream.aclose()

    assert first.id == first.page["next"] == first.page["events"][-1]["seq"]
    assert [line["seq"] for line in first.page["events"]] == list(range(1, first.id + 1))
    assert second.page["events"][0]["seq"] == first.id + 1
    assert "smells odd" in second.page["events"][0]["text"]


async def test_a_reader_goes_on_after_the_last_id_that_it_has(site: Site) -> None:
    """The header of a reader that comes again goes before the query of its first request."""
    with anyio.fail_after(SECONDS_MAX):
        stream = events(site, "?after=0", **{"Last-Event-ID": "3"})
        resumed = await anext(stream)
        await stream.aclose()

    assert resumed.page["events"][0]["seq"] == 4


async def test_a_reader_who_chooses_gets_no_other_lines(site: Site) -> None:
    with anyio.fail_after(SECONDS_MAX):
        stream = events(site, "?kind=operator_command")
        await site.operate("POST", "/v1/channels/stable/pause", PAUSE)
        event = await anext(stream)
        await stream.aclose()

    assert {line["kind"] for line in event.page["events"]} == {"operator_command"}


async def test_readers_are_counted_with_those_that_poll(site: Site) -> None:
    with anyio.fail_after(SECONDS_MAX):
        streams = [events(site), events(site)]
        for stream in streams:
            await anext(stream)
        refused = await site.operate("GET", f"{paths.LOG}?after=0", name="bob", key=READER_KEY)
        head = refused.json()["head"]
        waits = await site.operate(
            "GET", f"{paths.LOG}?after={head}&wait=1", name="bob", key=READER_KEY
        )
        for stream in streams:
            await stream.aclose()

    assert waits.status_code == 429
    assert waits.json()["type"] == "urn:nixfleet:problem:too-many-polls"


@pytest.mark.parametrize(("last", "status"), [("x", 422), ("999999", 409)])
async def test_a_last_id_that_is_none_is_refused(site: Site, last: str, status: int) -> None:
    key_id = operator_key_id("bob")
    signed = dict(sign_request(READER_KEY, key_id, "GET", paths.LOG, b"", CLOCK.now(), new_nonce()))
    headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
    assert (await site.ask("GET", paths.LOG, b"", signed | headers)).status_code == status


async def test_the_bytes_of_a_page_are_those_of_its_coder(site: Site) -> None:
    asks = asks_approval(site.service)
    lines, feed = LogLines(asks), site.service.feed
    rows = feed.after(0, 100) or ()
    listed = [
        line for row in rows for line in listed_lines(row, asks) if "body" not in line.payload
    ]
    made = [line for row in rows if row.kind != "artefact_accepted" for line in lines.of(row)]

    for begins in (None, 4):
        page = FeedPage(tuple(listed), feed.head, feed.head, begins)
        assert page_bytes(made, feed.head, feed.head, begins) == FEED_PAGE.encode(page)


async def test_lines_are_made_once_and_the_oldest_are_forgotten(site: Site) -> None:
    lines = LogLines(asks_approval(site.service), rows_kept=2)
    first, second, third = rows_of(site)[:3]
    made = lines.of(first)

    assert lines.of(first) is made
    lines.of(second)
    lines.of(third)
    assert lines.of(first) is not made


async def test_rows_of_another_log_with_the_same_numbers_are_made_anew(site: Site) -> None:
    """A database that was lost begins with 1 again."""
    lines = LogLines(asks_approval(site.service))
    first = rows_of(site)[0]
    (made,) = lines.of(first)
    (other,) = lines.of(first._replace(ts="2031-01-01T00:00:00Z"))

    assert b"2031-01-01" in other.data
    assert b"2031-01-01" not in made.data


async def test_readers_of_every_line_share_their_frames(site: Site) -> None:
    frames = frames_of(site)

    shared = await frames.after(0, Wanted())

    assert await frames.after(0, Wanted()) is shared
    assert await frames.after(0, Wanted(host="web-01")) is not shared
    assert (await frames.after(site.service.feed.head, Wanted())).data == b""


async def test_rows_that_memory_does_not_have_come_from_the_store(site: Site) -> None:
    before = await frames_of(site).after(0, Wanted())
    site.service.feed = Feed(site.service.feed.head)

    assert await frames_of(site).after(0, Wanted()) == before


async def test_a_reader_that_is_far_behind_shares_its_frames_though_the_log_grows(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_stream, "ROWS_A_FRAME", 3)
    frames = frames_of(site)
    behind = await frames.after(0, Wanted())
    at_the_end = await frames.after(site.service.feed.head - 1, Wanted())

    await site.operate("POST", "/v1/channels/stable/pause", PAUSE)

    assert await frames.after(0, Wanted()) is behind
    assert await frames.after(at_the_end.seq - 1, Wanted()) is not at_the_end


async def test_a_frame_of_long_rows_ends_early_and_the_next_one_goes_on(site: Site) -> None:
    """A copy of a frame waits for each reader that is slow."""
    reason = orjson.dumps({"reason": "x" * 4_000})
    await site.operate("POST", "/v1/channels/stable/pause", reason)
    frames = frames_of(site)
    whole = await frames.after(0, Wanted())
    seen, after = list[int](), 0

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(log_stream, "BYTES_A_FRAME", 1_000)
        frames = frames_of(site)
        while (frame := await frames.after(after, Wanted())).data:
            page = orjson.loads(frame.data.partition(b"data: ")[2])
            assert len(orjson.dumps(page["events"][:-1])) < 1_000
            seen += [line["seq"] for line in page["events"]]
            after = frame.seq

    assert seen == [
        line["seq"] for line in orjson.loads(whole.data.partition(b"data: ")[2])["events"]
    ]


async def test_a_reader_is_refused_while_the_store_cannot_be_read(site: Site) -> None:
    """Before the response has begun: 503, and when to come again."""
    site.service.feed = Feed(site.service.feed.head)
    site.database.rename(site.database.with_suffix(".away"))
    site.database.mkdir()
    path = f"{paths.LOG}?after=0"
    signed = dict(
        sign_request(READER_KEY, operator_key_id("bob"), "GET", path, b"", CLOCK.now(), new_nonce())
    )

    answer = await site.ask("GET", path, b"", signed | {"Accept": "text/event-stream"})

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"


async def test_a_reader_is_cut_off_when_the_store_cannot_be_read_any_more(site: Site) -> None:
    """It resumes with its id, and is refused until the store can be read."""

    async def rows_after(seq: int, limit: int) -> Sequence[LogRow]:
        if seq:
            raise NotReadable("event_log", "the disk is gone")
        return rows_of(site)[:2]

    frames = Frames(lambda: site.service.feed, LogLines(asks_approval(site.service)), rows_after)

    sent = await cut_off(site, frames=frames)

    assert [b"id: 2\n" in message.get("body", b"") for message in sent] == [
        False,
        False,
        True,
        False,
    ]
    assert sent[-1]["more_body"] is False


async def test_what_an_operator_or_a_host_says_is_never_a_field_of_the_stream(site: Site) -> None:
    hostile = "a\n\nid: 7\ndata: {}\r\revent: x\u2028\u0085\x00end"
    await site.operate("POST", "/v1/channels/stable/pause", orjson.dumps({"reason": hostile}))

    frame = await frames_of(site).after(0, Wanted())

    head, _, data = frame.data.partition(b"data: ")
    assert head == b"id: %d\n" % frame.seq
    assert data.endswith(b"}\n\n")
    assert b"\n" not in data[:-2]
    assert b"\r" not in data
    assert hostile in {line["payload"].get("reason") for line in orjson.loads(data)["events"]}


async def test_a_reader_that_does_not_take_a_frame_is_cut_off(site: Site) -> None:
    """In the time of eight frames. It resumes with the id that it has."""
    # The start, and its first line; when it is quiet; and the frame.
    clock = iter([0.0, 0.0, 0.0, 10.0, 12.5])

    sent = await cut_off(site, seconds=lambda: next(clock))

    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert len([message for message in sent if b"data: " in message.get("body", b"")]) == 1


async def test_a_reader_whose_key_is_removed_is_cut_off(site: Site) -> None:
    permitted = iter([True, False])

    sent = await cut_off(site, is_permitted=lambda: next(permitted), grows=True)

    assert sent[-1]["more_body"] is False
    assert len([message for message in sent if b"data: " in message.get("body", b"")]) == 1


async def test_a_reader_of_rare_lines_hears_now_and_then_how_far_it_is(site: Site) -> None:
    """A comment, and an event without data: the id of the row from which it would resume."""
    permitted, clock = iter([True, False]), chain([0.0] * 3, repeat(20.0))
    head = site.service.feed.head

    sent = await cut_off(
        site,
        seconds=lambda: next(clock),
        is_permitted=lambda: next(permitted),
        grows=True,
        wanted=Wanted(kind="artefact_refused"),
    )

    comment = b": %d\nid: %d\n\n" % (head, head)
    assert [message.get("body") for message in sent[1:]] == [b"retry: 1000\n\n", comment, b""]


async def test_an_operator_is_current_by_name_key_and_role(site: Site) -> None:
    """Who was removed, or has another key or another role, has to sign anew."""
    bob = Operator("bob", READER_KEY.public_key, OperatorRole.READ)
    ring = KeyRing(operators=FrozenMap({"bob": bob}))
    now = CLOCK.now()
    authenticator = Authenticator(
        lambda: ring, NonceMemory(60, now), NonceMemory(60, now), Limits(), CLOCK, Contacts(now)
    )
    others = (bob, evolve(bob, role=OperatorRole.OPERATE), evolve(bob, name="eve"))

    assert [authenticator.is_current(operator) for operator in others] == [True, False, False]
    with pytest.raises(UnknownKey):
        authenticator.require_current_operator(others[1])


def rows_of(site: Site) -> tuple[LogRow, ...]:
    rows = site.service.feed.after(0, 100)
    assert rows is not None
    return rows


def frames_of(site: Site) -> Frames:
    rows = LogRows(lambda: site.service.feed, SqliteQueries(site.database))
    return Frames(lambda: site.service.feed, LogLines(asks_approval(site.service)), rows.after)


async def cut_off(
    site: Site,
    *,
    seconds: Any = anyio.current_time,
    is_permitted: Any = lambda: True,
    grows: bool = False,
    wanted: Wanted = EVERY_LINE,
    frames: Frames | None = None,
) -> list[Message]:
    """Return what a stream sent until it ended. grows: a row becomes durable after each event."""
    sent = list[Message]()

    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError("the reader is not gone")

    async def send(message: Message) -> None:
        sent.append(message)
        if grows and b"id: " in message.get("body", b""):
            await site.operate("POST", "/v1/channels/stable/pause", PAUSE)

    scope = {"type": "http", "method": "GET", "path": paths.LOG, "headers": []}
    request = Request(scope, receive, send)
    viewers = Pollers(1, 1, "operator")
    with anyio.fail_after(SECONDS_MAX):
        stream = LogStream(
            request, frames or frames_of(site), 0, wanted, viewers, "bob", is_permitted, seconds
        )
        await stream(scope, receive, send)
    assert len(viewers) == 0
    return sent
