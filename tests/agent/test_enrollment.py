"""A host becomes known: its key, its token, and every way to be turned away."""

import stat
from collections.abc import AsyncIterator, Generator, Iterator
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from attrs import evolve

from nixfleet_agent.network.enrollment import (
    EnrollmentRefused,
    OwnKey,
    WrongToken,
    enroll_request,
    own_key,
)
from nixfleet_agent.network.http_transport import HttpTransport, connected
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.enrollment import EnrollmentWorker
from nixfleet_agent.workers.enrollment_shell import EnrollmentShell, is_known
from nixfleet_agent.workers.shell import run_worker
from nixfleet_agent.workers.steps import Wait
from nixfleet_proto.codec import encode_signed_token
from nixfleet_proto.signing import SigningKey, sign_token
from nixfleet_proto.trust import KeySlot, TrustRoot
from nixfleet_runtime.http.problem import TYPE_PREFIX, HttpProblem
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_runtime.transport import TransportFailed
from tests.support.enrolling_server import (
    CI_KEY,
    TRUST,
    EnrollingServer,
    enrolling_server,
    token_for,
)

KEY = SigningKey.generate()
OWN = OwnKey(KEY, is_new=False)
CLOCK = SystemClock()


@pytest.fixture
def server() -> Iterator[EnrollingServer]:
    with enrolling_server() as server:
        yield server


@pytest.fixture
async def transport(server: EnrollingServer) -> AsyncIterator[HttpTransport]:
    async with connected(server.url, "web-01", KEY, SystemClock()) as transport:
        yield transport


# The key.


def test_a_host_without_a_key_makes_one_that_is_its_own(tmp_path: Path) -> None:
    """The file is its owner's alone, and the next start finds the same key."""
    file = tmp_path / "host.key"
    made = own_key(file)
    assert made.is_new
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = own_key(file)
    assert not found.is_new
    assert found.fingerprint == made.fingerprint


def test_a_key_that_appears_meanwhile_is_the_one_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that make a key at once one wins, and both use that."""
    file = tmp_path / "host.key"
    generate = SigningKey.generate

    def generate_late() -> SigningKey:
        KEY.save(file)
        return generate()

    monkeypatch.setattr(SigningKey, "generate", generate_late)
    assert own_key(file).fingerprint == OWN.fingerprint


# The token.


def test_a_token_for_another_host_is_named() -> None:
    """Both names are told before anybody is asked."""
    with pytest.raises(WrongToken, match="expected a token for web-02, found one for web-01"):
        enroll_request(token_for(KEY), "web-02", OWN, TRUST, CLOCK.now())


def test_a_token_for_another_key_is_named() -> None:
    """Both fingerprints are told."""
    other = OwnKey(SigningKey.generate(), is_new=False)
    with pytest.raises(WrongToken) as wrong:
        enroll_request(token_for(KEY), "web-01", other, TRUST, CLOCK.now())
    assert other.fingerprint in str(wrong.value)
    assert OWN.fingerprint in str(wrong.value)


def test_an_expired_token_is_named_with_its_time() -> None:
    """When it expired is told, and what time it is here."""
    with pytest.raises(WrongToken, match=r"the token for web-01 is not valid: .*Z"):
        enroll_request(token_for(KEY), "web-01", OWN, TRUST, CLOCK.now() + timedelta(hours=2))


def test_a_token_that_another_key_signed_is_named() -> None:
    """A token that the organisation did not sign is refused."""
    forged = sign_token(token_for(KEY).token, CI_KEY)
    with pytest.raises(WrongToken, match="signed by none of the trusted keys"):
        enroll_request(forged, "web-01", OWN, TRUST, CLOCK.now())


def test_a_trust_file_without_the_org_root_key_leaves_the_check_to_the_control_plane() -> None:
    """A host need not know the organisation's key."""
    forged = sign_token(token_for(KEY).token, CI_KEY)
    trust = TrustRoot(KeySlot(CI_KEY.public_key))
    assert enroll_request(forged, "web-01", OWN, trust, CLOCK.now()).token == forged


# The control plane.


@pytest.mark.anyio
async def test_a_host_with_a_good_token_is_known_from_then_on(
    server: EnrollingServer, transport: HttpTransport
) -> None:
    """Its next signed request is taken."""
    assert not await is_known(transport)
    await transport.enroll(enroll_request(token_for(KEY), "web-01", OWN, TRUST, CLOCK.now()))
    assert await is_known(transport)


@pytest.mark.anyio
async def test_a_refusal_says_what_the_control_plane_says(
    server: EnrollingServer, transport: HttpTransport
) -> None:
    """The reason is in the operator's words, with what to do."""
    token = token_for(KEY, nonce="not on the list")
    with pytest.raises(EnrollmentRefused) as refused:
        await transport.enroll(enroll_request(token, "web-01", OWN, TRUST, CLOCK.now()))
    assert "bootstrap-nonces.json has no nonce 'not on the list'" in str(refused.value)
    assert "add it and publish a release" in str(refused.value)


@pytest.mark.anyio
@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_control_plane_that_cannot_answer_now_has_refused_nothing(
    status: int, server: EnrollingServer, transport: HttpTransport
) -> None:
    """Whoever is told to come back later comes back."""
    server.answer_with = HttpProblem(f"{TYPE_PREFIX}full", "The queue is full", status)
    with pytest.raises(TransportFailed, match="The queue is full"):
        await transport.enroll(enroll_request(token_for(KEY), "web-01", OWN, TRUST, CLOCK.now()))


# The worker of an agent that runs.


class NoWaiting(Backoff):
    """Does what a test wants next instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0
        self.after: dict[int, object] = {}

    def pause(
        self, at_least_seconds: float | None = None, *, was_answered: bool = False
    ) -> Generator[Wait, object, None]:
        self.waits += 1
        step = self.after.get(self.waits)
        if callable(step):
            step()
        yield from ()


class Enrolling:
    """An enrollment worker, and its shell."""

    def __init__(self, transport: HttpTransport, token_file: Path | None) -> None:
        self.waiting = NoWaiting()
        self.trust = TRUST
        clock = SystemClock()
        self.worker = EnrollmentWorker(
            "web-01", OWN, token_file, lambda: self.trust, clock.now, self.waiting
        )
        self.shell = EnrollmentShell(transport, clock)

    async def run(self) -> None:
        await run_worker(self.worker.run(), self.shell.carry_out)


@pytest.mark.anyio
async def test_an_agent_enrolls_when_its_token_arrives(
    server: EnrollingServer,
    transport: HttpTransport,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Until then it says once what an operator has to do, fingerprint included."""
    file = tmp_path / "token.json"
    worker = Enrolling(transport, file)
    worker.waiting.after[3] = lambda: file.write_bytes(encode_signed_token(token_for(KEY)))
    with anyio.fail_after(10):
        await worker.run()
    assert worker.waiting.waits == 3
    assert caplog.text.count(f"--fingerprint {OWN.fingerprint}") == 1
    assert await is_known(transport)


@pytest.mark.anyio
async def test_an_agent_enrolls_by_the_trust_file_that_is_in_force_when_it_does(
    server: EnrollingServer,
    transport: HttpTransport,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A token of another organisation key is refused until the trust file has that key; no restart is needed."""
    file = tmp_path / "token.json"
    file.write_bytes(encode_signed_token(token_for(KEY)))
    worker = Enrolling(transport, file)
    worker.trust = evolve(TRUST, org_root_key=KeySlot(SigningKey.generate().public_key))
    worker.waiting.after[2] = lambda: setattr(worker, "trust", TRUST)
    with anyio.fail_after(10):
        await worker.run()
    assert worker.waiting.waits == 2
    assert str(file) in caplog.text


@pytest.mark.anyio
async def test_an_agent_that_is_known_does_not_enroll_again(
    server: EnrollingServer, transport: HttpTransport, tmp_path: Path
) -> None:
    """The token stays unused, and may be gone."""
    await transport.enroll(enroll_request(token_for(KEY), "web-01", OWN, TRUST, CLOCK.now()))
    worker = Enrolling(transport, None)
    await worker.run()
    assert (server.enrollments, worker.waiting.waits) == (1, 0)


@pytest.mark.anyio
async def test_an_agent_enrolls_anew_when_its_control_plane_has_lost_its_key(
    server: EnrollingServer,
    transport: HttpTransport,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A control plane without its database answers 401 to all that the agent asks: no restart by hand is needed."""
    file = tmp_path / "token.json"
    file.write_bytes(encode_signed_token(token_for(KEY)))
    worker = Enrolling(transport, file).worker
    shell = EnrollmentShell(transport, SystemClock())
    transport.when_not_known(worker.note_not_known)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_worker, worker.stay_known(), shell.carry_out)
        with anyio.fail_after(10):
            while not await is_known(transport):
                await anyio.lowlevel.checkpoint()
            server.lose_database()
            with pytest.raises(TransportFailed, match="401"):
                await transport.next_dispatch(0)
            while not await is_known(transport):
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert server.enrollments == 2
    assert "does not know the key of web-01 any more" in caplog.text


@pytest.mark.anyio
async def test_an_answer_that_was_lost_costs_a_question(
    server: EnrollingServer, transport: HttpTransport, tmp_path: Path
) -> None:
    """The nonce is used up, but the host is known: that is asked before the token is brought again."""
    file = tmp_path / "token.json"
    file.write_bytes(encode_signed_token(token_for(KEY)))
    server.loses_answers = True
    worker = Enrolling(transport, file)
    with anyio.fail_after(10):
        await worker.run()
    assert (server.enrollments, worker.waiting.waits) == (1, 1)


@pytest.mark.anyio
async def test_an_agent_that_is_refused_asks_again_and_says_it_once(
    server: EnrollingServer,
    transport: HttpTransport,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A list of nonces that has yet to arrive is waited for."""
    file = tmp_path / "token.json"
    file.write_bytes(encode_signed_token(token_for(KEY)))
    server.nonces = []
    worker = Enrolling(transport, file)
    worker.waiting.after[4] = lambda: server.nonces.append("n-1")
    with anyio.fail_after(10):
        await worker.run()
    assert caplog.text.count("has no nonce 'n-1'") == 1


@pytest.mark.anyio
@pytest.mark.parametrize("content", [b"", b"{}", b'{"token": 1}', b"\xff"])
async def test_a_token_file_that_holds_no_token_is_named(
    content: bytes,
    server: EnrollingServer,
    transport: HttpTransport,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The file and what is wrong with it are told, and a better one is waited for."""
    file = tmp_path / "token.json"
    file.write_bytes(content)
    worker = Enrolling(transport, file)
    worker.waiting.after[1] = lambda: file.write_bytes(encode_signed_token(token_for(KEY)))
    with anyio.fail_after(10):
        await worker.run()
    assert str(file) in caplog.text


def test_an_own_key_shows_nothing_secret(tmp_path: Path) -> None:
    """Neither the record nor what is derived from it has the private half in it."""
    file = tmp_path / "host.key"
    made = own_key(file)
    secret = file.read_text().strip()
    shown = f"{made!r} {evolve(made, is_new=False)} {made.fingerprint}"
    assert secret not in shown
