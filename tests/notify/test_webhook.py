"""A webhook against receivers of every kind: what they answer, and how little they can do to the notifier."""

from base64 import b64encode
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketStream
from attrs import evolve
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from nixfleet_notify.delivery.answers import DELIVERED, Outcome
from nixfleet_notify.messages.message import Message
from nixfleet_notify.ways.egress import EgressRules
from nixfleet_notify.ways.secret import Secret
from nixfleet_notify.ways.webhook import Webhook
from nixfleet_runtime.kernel.clock import FakeClock, SystemClock
from tests.notify.receiver import Answers, Received, answers, receiving

pytestmark = pytest.mark.anyio

LOOPBACK = EgressRules((), ("127.0.0.1", "hooks.example.org"))
MESSAGE = Message("abc.pager.17", "org.nixfleet.rollout.halted", '{"id":"17"}', 17, 17)
NEW, OLD = (f"whsec_{b64encode(letter * 32).decode()}" for letter in (b"n", b"o"))
PATIENCE_SECONDS = 20


def _webhook(url: str, *, timeout_seconds: float = PATIENCE_SECONDS) -> Webhook:
    return Webhook(url, LOOPBACK, SystemClock(), timeout_seconds)


def _secret(directory: Path, name: str, text: str) -> Secret:
    file = directory / name
    file.write_text(f"{text}\n")
    return Secret(file)


async def test_a_receiver_gets_the_event_and_verifies_its_signature(tmp_path: Path) -> None:
    """By the library of the standard, with the current and with the previous secret; and by no other."""
    secrets = (_secret(tmp_path, "new", NEW), _secret(tmp_path, "old", OLD))
    token = _secret(tmp_path, "token", "t0ken")
    async with receiving() as receiver:
        webhook = evolve(_webhook(receiver.url), secrets=secrets, token=token)
        assert await webhook.send(MESSAGE, 1) == DELIVERED

    (request,) = receiver.received
    assert request.path == "/hook"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.headers["authorization"] == "Bearer t0ken"
    for secret in (NEW, OLD):
        assert Verifier(secret).verify(request.body, request.headers) == {"id": "17"}
    for body, secret in (
        (request.body + b" ", NEW),
        (request.body, f"whsec_{b64encode(b'x' * 32).decode()}"),
    ):
        with pytest.raises(WebhookVerificationError):
            Verifier(secret).verify(body, request.headers)


async def test_each_attempt_has_the_same_id_and_its_own_time(tmp_path: Path) -> None:
    """So a receiver can refuse old requests, and take none twice."""
    clock = FakeClock(SystemClock().now())
    async with receiving() as receiver:
        webhook = evolve(
            _webhook(receiver.url), clock=clock, secrets=(_secret(tmp_path, "new", NEW),)
        )
        await webhook.send(MESSAGE, 1)
        clock.advance(60)
        await webhook.send(MESSAGE, 2)

    first, second = receiver.received
    assert (first.id, first.body) == (second.id, second.body)
    times = [int(it.headers["webhook-timestamp"]) for it in receiver.received]
    assert times[1] - times[0] == 60
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]


@pytest.mark.parametrize(
    ("answer", "outcome", "why"),
    [
        (answers("200 OK", body=b"thanks"), Outcome.DELIVERED, ""),
        (answers("500 Internal Server Error"), Outcome.FAILED, "found 500"),
        (answers("401 Unauthorized"), Outcome.FAILED, "found 401"),
        (answers("422 Unprocessable Content"), Outcome.REFUSED, "found 422"),
        (answers("410 Gone"), Outcome.GONE, "status 410"),
        (
            answers("307 Temporary Redirect", "Location: http://169.254.169.254/\x1b[2J"),
            Outcome.FAILED,
            "redirects are not followed",
        ),
    ],
    ids=["200", "500", "401", "422", "410", "307"],
)
async def test_an_answer_means_what_its_status_says(
    answer: Answers, outcome: Outcome, why: str
) -> None:
    """Redirects are followed nowhere; a message that is refused is told from a receiver that fails."""
    async with receiving(answer) as receiver:
        found = await _webhook(receiver.url).send(MESSAGE, 1)

    assert found.outcome is outcome
    assert why in found.problem
    assert found.problem.isprintable()
    assert len(receiver.received) == 1


async def test_a_receiver_says_when_to_come_back() -> None:
    """In seconds, or as a date; nonsense is no wait."""
    now = SystemClock().now().replace(microsecond=0)
    later = (now + timedelta(hours=1)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    for text, seconds in (("120", 120), (later, 3600), ("soon", 0), ("-5", 0), ("9" * 30, 36_000)):
        async with receiving(answers("429 Too Many", f"Retry-After: {text}")) as receiver:
            webhook = evolve(_webhook(receiver.url), clock=FakeClock(now))
            assert (await webhook.send(MESSAGE, 1)).retry_after_seconds == seconds


async def _says_nothing(_stream: SocketStream, _request: Received) -> None:
    await anyio.sleep_forever()


async def test_a_receiver_that_takes_too_long_has_failed() -> None:
    """It is given so many seconds and no more, whatever it does with them."""
    async with receiving(_says_nothing) as receiver:
        found = await _webhook(receiver.url, timeout_seconds=0.05).send(MESSAGE, 1)
    assert (found.outcome, found.problem) == (
        Outcome.FAILED,
        "expected an answer within 0.05 s",
    )


async def _lies(stream: SocketStream, _request: Received) -> None:
    await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    await anyio.sleep_forever()


async def _floods(stream: SocketStream, _request: Received) -> None:
    await stream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await stream.send(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


async def _breaks_off(stream: SocketStream, _request: Received) -> None:
    await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx")


@pytest.mark.parametrize("answer", [_lies, _floods, _breaks_off])
async def test_what_comes_after_the_status_is_not_read(answer: Answers) -> None:
    """Nothing, megabytes without end, or half of it: the status has said that the message was taken."""
    async with receiving(answer) as receiver:
        assert await _webhook(receiver.url).send(MESSAGE, 1) == DELIVERED


async def _hangs_up(_stream: SocketStream, _request: Received) -> None:
    return


async def _babbles(stream: SocketStream, _request: Received) -> None:
    await stream.send(b"\x1b[2J nonsense\r\n\r\n")


async def _talks_without_end(stream: SocketStream, _request: Received) -> None:
    await stream.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await stream.send(b"X-Header: " + b"x" * 0x10000 + b"\r\n")


@pytest.mark.parametrize("answer", [_hangs_up, _babbles, _talks_without_end])
async def test_a_receiver_that_does_not_speak_http_has_failed(answer: Answers) -> None:
    """It says so in words that can be shown."""
    async with receiving(answer) as receiver:
        found = await _webhook(receiver.url).send(MESSAGE, 1)
    assert found.outcome is Outcome.FAILED
    assert found.problem.isprintable()
    assert "control plane" not in found.problem


async def test_a_receiver_that_is_down_has_failed_and_its_path_is_not_shown() -> None:
    """A path or a query may be the secret of a chat."""
    async with receiving() as receiver:
        url = f"{receiver.url}/T0KEN?key=T0KEN"
    found = await _webhook(url).send(MESSAGE, 1)
    assert found.outcome is Outcome.FAILED
    assert (
        f"cannot connect to http://127.0.0.1:{receiver.port}: nothing listens there"
        in found.problem
    )
    assert "check that the receiver runs" in found.problem
    assert "T0KEN" not in found.problem


async def test_the_name_is_resolved_once_and_the_address_that_was_judged_is_called() -> None:
    """A name that leads to a private address later leads nowhere; the receiver sees its own name."""
    asked = list[str]()

    async def resolve(host: str, _port: int) -> tuple[str, ...]:
        asked.append(host)
        return ("127.0.0.1",)

    async with receiving() as receiver:
        webhook = _webhook(f"http://hooks.example.org:{receiver.port}/hook")
        assert await evolve(webhook, resolve=resolve).send(MESSAGE, 1) == DELIVERED
        public_only = evolve(webhook, resolve=resolve, egress=EgressRules(("hooks.example.org",)))
        refused = await public_only.send(MESSAGE, 1)

    assert asked == ["hooks.example.org"] * 2
    (request,) = receiver.received
    assert request.headers["host"] == f"hooks.example.org:{receiver.port}"
    assert "expected a public address" in refused.problem


async def test_a_secret_that_cannot_be_read_is_a_failure_that_does_not_show_it(
    tmp_path: Path,
) -> None:
    """The message waits: unsigned it is never sent."""
    async with receiving() as receiver:
        for secret in (Secret(tmp_path / "none"), _secret(tmp_path, "bad", "hunter2")):
            found = await evolve(_webhook(receiver.url), secrets=(secret,)).send(MESSAGE, 1)
            assert found.outcome is Outcome.FAILED
            assert "hunter2" not in found.problem
    assert receiver.received == []
