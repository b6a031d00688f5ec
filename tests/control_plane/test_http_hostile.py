"""Hostile requests over a real socket: no 500, no hang, no change, and the server still serves.

HOSTILE_REQUESTS says how many are made by hand, and HOSTILE_SEED from which seed; docs/explanation/quality.md counts.
"""

import os
import socket
import sqlite3
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import anyio.from_thread
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nixfleet_control_plane.http.server.limits import Limits
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http import paths
from tests.control_plane.hostile import HARMLESS, REFUSED, Hostile, hostile_requests, signed_request
from tests.support.served_control_plane import STRANGER, Site, site_with

REQUESTS = int(os.environ.get("HOSTILE_REQUESTS", "1200"))
SEED = int(os.environ.get("HOSTILE_SEED", "20260516"))
SECONDS_MAX = 10
AT_ONCE = 8
IMPATIENT = Limits(
    header_seconds_max=0.3,
    body_seconds_max=0.3,
    keep_alive_seconds=1,
    host_requests_per_second_max=10_000,
    host_events_per_second_max=1_000_000,
)
TABLES = ("event_log", "rollouts", "dispatch_queue", "deferrals", "quarantined_closures", "hosts")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, RolloutId]]:
    """A control plane in a thread of its own, in which web-01 is dispatched."""
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(
            site_with(tmp_path_factory.mktemp("target"), IMPATIENT)
        ) as site,
    ):
        yield site, portal.call(site.publish)


def said_to(port: int, hostile: Hostile) -> bytes:
    """What is answered, until the server closes or has answered once. Raises: TimeoutError for a hang."""
    heard = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS_MAX) as connection:
        try:
            connection.sendall(hostile.said)
            if hostile.is_cut:
                return b""
            while chunk := connection.recv(65536):
                heard += chunk
        except (ConnectionResetError, BrokenPipeError):
            pass
    return bytes(heard)


def require_refused(hostile: Hostile, heard: bytes) -> None:
    """Every answer in what was heard must be one that the request may get, and a problem if it is an error."""
    for answer in heard.split(b"HTTP/1.1 ")[1:]:
        head, _, body = answer.partition(b"\r\n\r\n")
        status = int(head[:3])
        assert status in hostile.may_be, (hostile.kind, status, body, hostile.said[:600])
        if status >= 400:
            assert b"content-type: application/problem+json" in head.lower(), (hostile.kind, head)
            if body:
                assert orjson.loads(body)["status"] == status


def everything(site: Site) -> dict[str, list[object]]:
    """All that is stored, but for the cache of host records."""
    connection = open_for_reading(site.database)
    try:
        return {table: _rows(connection, table) for table in TABLES}
    finally:
        connection.close()


def _rows(connection: sqlite3.Connection, table: str) -> list[object]:
    return list(connection.execute(f"SELECT * FROM {table}"))


def require_serving(site: Site) -> None:
    """A good request is answered, by a host whose nonce nobody has used."""
    good = signed_request("GET", f"{paths.AGENT_DISPATCH}?wait=0")
    assert said_to(site.port, Hostile("good", good.raw(), HARMLESS)).startswith(b"HTTP/1.1 200")


def test_hostile_requests_change_nothing(target: tuple[Site, RolloutId]) -> None:
    """Forged, replayed, altered, stale, oversize, smuggled, cut off: by hand, some from every kind."""
    site, rollout_id = target
    before = everything(site)
    kinds, answered = Counter[str](), Counter[str]()
    to_come = islice(hostile_requests(rollout_id, SEED), REQUESTS)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        # A portion at a time, so that what is to be fresh still is when it is sent.
        while portion := list(islice(to_come, 200)):
            heard = list(threads.map(lambda hostile: said_to(site.port, hostile), portion))
            for hostile, answer in zip(portion, heard, strict=True):
                require_refused(hostile, answer)
            kinds.update(hostile.kind for hostile in portion)
            answered.update(answer[9:12].decode() or "no answer" for answer in heard)
    told = f"{kinds.total()} hostile requests of {len(kinds)} kinds from seed {SEED}: {answered}"
    print(told)  # noqa: T201  # with `pytest -s`: what docs/explanation/quality.md has
    assert everything(site) == before
    require_serving(site)


def test_a_request_that_was_good_is_not_good_again(target: tuple[Site, RolloutId]) -> None:
    """Replayed at once, and with other headers around the signature."""
    site, _ = target
    good = signed_request("GET", f"{paths.AGENT_DISPATCH}?wait=0")
    assert said_to(site.port, Hostile("good", good.raw(), HARMLESS)).startswith(b"HTTP/1.1 200")
    for again in (good, good.with_also(("X-Other", "x")), good.without("Content-Type")):
        heard = said_to(site.port, Hostile("replayed", again.raw()))
        require_refused(Hostile("replayed", again.raw()), heard)
        assert b"replayed-nonce" in heard


def mangled() -> st.SearchStrategy[bytes]:
    """A request that nobody would accept, with pieces of it removed, repeated, or replaced."""
    whole = signed_request("POST", paths.AGENT_EVENTS, b"{}", key=STRANGER).raw()
    places = st.integers(0, len(whole))
    pieces = st.one_of(
        st.binary(max_size=8),
        st.sampled_from(
            [
                b"\r\n",
                b"\r\n\r\n",
                b"\x00",
                b"Transfer-Encoding: chunked\r\n",
                b"0\r\n\r\n",
                b"%",
                b'"',
                b": ",
            ]
        ),
        st.tuples(places, places).map(lambda ends: whole[min(ends) : max(ends)]),
    )
    cuts = st.lists(st.tuples(places, places, pieces), min_size=1, max_size=4)
    return cuts.map(lambda changes: _changed(whole, changes))


def _changed(whole: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for one, other, piece in changes:
        first, last = min(one, other), max(one, other)
        whole = whole[:first] + piece + whole[last:]
    return whole


@settings(
    max_examples=REQUESTS // 20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(said=mangled())
def test_mangled_requests_are_refused(said: bytes, target: tuple[Site, RolloutId]) -> None:
    """Whatever came of a request on its way."""
    site, _ = target
    hostile = Hostile("mangled", said, REFUSED)
    require_refused(hostile, said_to(site.port, hostile))


def test_the_server_still_serves(target: tuple[Site, RolloutId]) -> None:
    """After all that."""
    require_serving(target[0])
