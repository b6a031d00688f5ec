"""A client of several control planes stays with the one that answers, and never does anything twice."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import httpx2
import pytest

from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.http.client import NoAnswer, SeveralClients, SignedClient
from nixfleet_runtime.http.problem import (
    PROBLEM_CONTENT_TYPE,
    TYPE_PREFIX,
    HttpProblem,
    encode_problem,
)
from nixfleet_runtime.kernel.clock import SystemClock

pytestmark = pytest.mark.anyio

Answers = Callable[[httpx2.Request], httpx2.Response | Awaitable[httpx2.Response]]


class Fleet:
    """Control planes a, b and c, each with what it does to requests; asked: who was, in order."""

    def __init__(self) -> None:
        self.does: dict[str, Answers] = dict.fromkeys("abc", _leads)
        self.asked: list[str] = []
        self.nonces: set[str] = set()

    async def answer(self, request: httpx2.Request) -> httpx2.Response:
        name = request.url.host
        if request.url.path == "/readyz":
            return httpx2.Response(200 if self.does[name] is _leads else 503)
        self.asked.append(name)
        self.nonces.add(request.headers["Signature-Input"])
        answer = self.does[name](request)
        return answer if isinstance(answer, httpx2.Response) else await answer


def _leads(_: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, stream=httpx2.ByteStream(b"done"))


def _refuses_connections(_: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("refused")


def _breaks(_: httpx2.Request) -> httpx2.Response:
    raise httpx2.ReadError("broken")


def _is_overloaded(_: httpx2.Request) -> httpx2.Response:
    return _problem("unavailable")


def _standby_of(leader: str | None) -> Answers:
    headers = {} if leader is None else {"X-Nixfleet-Leader": f"https://{leader}"}
    return lambda _: _problem("standby", headers)


def _problem(name: str, headers: dict[str, str] | None = None) -> httpx2.Response:
    problem = HttpProblem(f"{TYPE_PREFIX}{name}", "Not here", 503)
    content_type = {"Content-Type": PROBLEM_CONTENT_TYPE}
    body = httpx2.ByteStream(encode_problem(problem))
    return httpx2.Response(503, stream=body, headers={**content_type, **(headers or {})})


@asynccontextmanager
async def _client(fleet: Fleet) -> AsyncIterator[SeveralClients]:
    key, transport = SigningKey.generate(), httpx2.MockTransport(fleet.answer)
    clients = [
        httpx2.AsyncClient(base_url=f"https://{name}", transport=transport) for name in fleet.does
    ]
    yield SeveralClients(
        [SignedClient(client, "host:web-01", key, SystemClock()) for client in clients]
    )
    for client in clients:
        await client.aclose()


async def test_the_first_that_answers_is_asked_again() -> None:
    """Nothing moves while it answers, whatever it answers."""
    fleet = Fleet()
    async with _client(fleet) as client:
        for does in (_leads, _is_overloaded, _leads):
            fleet.does["a"] = does
            await client.send("GET", "/x")
    assert fleet.asked == ["a", "a", "a"]


@pytest.mark.parametrize("does", [_refuses_connections, _standby_of(None)])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_where_nothing_was_done_the_next_is_asked_at_once(does: Answers, method: str) -> None:
    """Also with what must not be done twice, under a signature of its own; and it is asked first from then on."""
    fleet = Fleet()
    fleet.does["a"] = does
    async with _client(fleet) as client:
        assert (await client.send(method, "/x", b"{}")).status_code == 200
        assert (await client.send(method, "/x", b"{}")).status_code == 200
    assert fleet.asked == ["a", "b", "b"]
    assert len(fleet.nonces) == 3


async def test_a_request_that_may_have_been_carried_out_is_not_sent_again() -> None:
    """Its sender decides; what it sends next goes to the next."""
    fleet = Fleet()
    fleet.does["a"] = _breaks
    async with _client(fleet) as client:
        with pytest.raises(NoAnswer):
            await client.send("POST", "/x", b"{}")
        await client.send("POST", "/x", b"{}")
    assert fleet.asked == ["a", "b"]


async def test_the_leader_that_a_standby_names_is_asked_next() -> None:
    """If it is one of those that are configured."""
    fleet = Fleet()
    fleet.does["a"] = _standby_of("c")
    async with _client(fleet) as client:
        await client.send("GET", "/x")
    assert fleet.asked == ["a", "c"]


async def test_a_stranger_that_a_standby_names_is_never_asked() -> None:
    """Another process's word sends signed requests nowhere."""
    fleet = Fleet()
    fleet.does["a"] = _standby_of("evil.example")
    async with _client(fleet) as client:
        await client.send("GET", "/x")
    assert fleet.asked == ["a", "b"]


async def test_each_is_asked_once_when_none_leads() -> None:
    """Even if they name each other; the answer of a standby is returned, so that its sender waits."""
    fleet = Fleet()
    fleet.does = {"a": _standby_of("c"), "b": _refuses_connections, "c": _standby_of("a")}
    async with _client(fleet) as client:
        answer = await client.send("GET", "/x")
    assert answer.status_code == 503
    assert sorted(fleet.asked) == ["a", "b", "c"]


async def test_without_any_connection_the_last_failure_is_raised() -> None:
    """As with one control plane."""
    fleet = Fleet()
    fleet.does = dict.fromkeys("abc", _refuses_connections)
    async with _client(fleet) as client:
        with pytest.raises(NoAnswer, match="refused"):
            await client.send("GET", "/x")
    assert fleet.asked == ["a", "b", "c"]


async def test_a_read_that_waits_moves_along_when_another_request_found_the_leader_gone() -> None:
    """A poll waits for a minute, and a process that stands still breaks no connection."""
    fleet = Fleet()
    polling = anyio.Event()

    async def stands_still(request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            return _breaks(request)
        polling.set()
        await anyio.sleep_forever()
        raise AssertionError

    fleet.does["a"] = stands_still
    async with _client(fleet) as client, anyio.create_task_group() as tasks:
        polled = list[int]()

        async def poll() -> None:
            polled.append((await client.send("GET", "/poll")).status_code)

        tasks.start_soon(poll)
        await polling.wait()
        with pytest.raises(NoAnswer):
            await client.send("POST", "/x", b"{}")
    assert polled == [200]
    assert fleet.asked == ["a", "a", "b"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_leader_that_does_not_answer_is_left_once_another_one_is_ready(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read is repeated there; what may have been carried out is its sender's to repeat."""
    monkeypatch.setattr("nixfleet_runtime.http.client.SUSPECT_SECONDS", 0.01)
    fleet = Fleet()

    async def stands_still(_: httpx2.Request) -> httpx2.Response:
        fleet.does["b"] = _leads
        await anyio.sleep_forever()
        raise AssertionError

    fleet.does = {"a": stands_still, "b": _standby_of("a"), "c": _standby_of("a")}
    async with _client(fleet) as client:
        if method == "GET":
            assert (await client.send(method, "/x")).status_code == 200
        else:
            with pytest.raises(NoAnswer, match="another control plane answers by now"):
                await client.send(method, "/x", b"{}")
            await client.send(method, "/x", b"{}")
    assert fleet.asked == ["a", "b"]
