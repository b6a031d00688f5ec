"""Judges on the network: a server of the test that misbehaves in every way, and a real Prometheus."""

import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import httpx2
import pytest

from nixfleet_control_plane.config_judges import JudgeConfig, JudgeKind
from nixfleet_control_plane.judges.http_judges import judge_of
from nixfleet_control_plane.judges.judge import Answer, Question, unclear
from nixfleet_control_plane.judges.worker import JudgeWorker
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.guards import Check, WaveGuards
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_state_machine.rollout.guard_tally import Outcome
from tests.engines.releases import Layout
from tests.support.served_control_plane import site_with

pytestmark = pytest.mark.anyio
CHECK = Check("errors", "judge", "data.rate", "< 0.01", passes=2, interval_seconds=5)
QUESTION = Question(RolloutId("stable@r1"), 1, CHECK)
PROMETHEUS = shutil.which("prometheus")


class FakeServer:
    """Says the same bytes to everybody; requests: the heads of those that came."""

    def __init__(self, port: int, requests: list[bytes]) -> None:
        self.url = f"http://127.0.0.1:{port}/judge"
        self.requests = requests


@asynccontextmanager
async def serving(answer: bytes, *, hangs: bool = False) -> AsyncIterator[FakeServer]:
    requests: list[bytes] = []

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            requests.append(await stream.receive())
            await stream.send(answer)
            if hangs:
                await anyio.sleep_forever()

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, handle)
        yield FakeServer(listener.extra(anyio.abc.SocketAttribute.local_port), requests)
        tasks.cancel_scope.cancel()


def _ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


def _http(
    url: str, *, token_file: Path | None = None, timeout_seconds: float = 10.0
) -> JudgeConfig:
    return JudgeConfig(JudgeKind.HTTP, url, token_file, timeout_seconds=timeout_seconds)


async def test_a_server_is_told_what_it_judges_and_by_whose_token(tmp_path: Path) -> None:
    """Rollout, wave and check are in the query; the token is read at each question."""
    token = tmp_path / "token"
    token.write_text("s3cret\n", encoding="ascii")
    async with serving(_ok(b'{"data": {"rate": 0.004}}')) as server:
        answer = await judge_of(_http(server.url, token_file=token)).ask(QUESTION)

    assert answer == Answer(Outcome.PASS, "0.004 is < 0.01", "0.004")
    (head,) = server.requests
    line = b"GET /judge?rollout=stable%40r1&channel=stable&ref=r1&wave=1&check=errors HTTP/1.1"
    assert head.startswith(line)
    assert b"Bearer s3cret" in head


async def test_a_server_that_is_slow_is_given_up() -> None:
    """The whole answer has one deadline, so one that comes byte by byte is given up too."""
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", hangs=True) as server:
        answer = await judge_of(_http(server.url, timeout_seconds=0.2)).ask(QUESTION)

    assert answer == unclear("expected an answer within 0.2 s")


async def test_a_server_that_says_too_much_is_cut_off() -> None:
    """Its answer is not kept either."""
    async with serving(_ok(b"x" * 100_000)) as server:
        answer = await judge_of(_http(server.url)).ask(QUESTION)

    assert answer == unclear("expected an answer of at most 65536 bytes")


async def test_a_server_that_sends_elsewhere_is_not_followed() -> None:
    """Where a judge is, is configured."""
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with serving(moved) as server:
        answer = await judge_of(_http(server.url)).ask(QUESTION)

    assert answer == unclear("expected status 200, found 302")


async def test_a_server_that_speaks_nonsense_is_inconclusive() -> None:
    """And so is one that is not there, or whose token is not."""
    async with serving(b"220 mail.example.com ESMTP\r\n") as server:
        nonsense = await judge_of(_http(server.url)).ask(QUESTION)
    dead = await judge_of(_http(server.url)).ask(QUESTION)
    secret = await judge_of(_http(server.url, token_file=Path("/no/such/token"))).ask(QUESTION)

    outcomes = {each.outcome for each in (nonsense, dead, secret)}
    assert outcomes == {Outcome.INCONCLUSIVE}
    assert all(each.reason for each in (nonsense, dead, secret))


class Scripted:
    """A judge of an embedder: says what the test wants, or raises it."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)

    async def ask(self, question: Question) -> Answer:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_a_judge_that_raises_is_inconclusive_and_the_wave_waits(tmp_path: Path) -> None:
    """The worker goes on, and posts what comes next."""
    passing = Answer(Outcome.PASS, "0.004 is < 0.01", "0.004")
    judge = Scripted(ZeroDivisionError("oh"), passing)
    check = Check("errors", "judge", "rate", "< 0.01", passes=1, interval_seconds=5)
    async with site_with(tmp_path) as site:
        await site.publish(layout=Layout(guards=(WaveGuards(checks=(check,)), WaveGuards())))
        service = site.service
        async with anyio.create_task_group() as tasks:
            worker = JudgeWorker(service, {"judge": judge}, SystemClock())
            (asked,) = worker.due()
            await worker.ask(asked)
            found = service.guarded(asked.question.rollout_id)
            assert found is not None
            (guard,) = found.guarded.guards
            assert guard.tally is not None
            assert guard.tally.reason == "the judge failed: ZeroDivisionError: oh"
            assert worker.due() == ()
            await worker.ask(asked)
            assert service.guarded(asked.question.rollout_id) is None
            tasks.cancel_scope.cancel()


# --- a real Prometheus -----------------------------------------------------------------------------


@pytest.fixture
def prometheus(tmp_path: Path, free_port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """A Prometheus that scrapes itself."""
    if PROMETHEUS is None:
        pytest.skip("needs prometheus (apt-get install prometheus)")
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\nscrape_configs: [{job_name: itself, static_configs: "
        f"[{{targets: ['127.0.0.1:{free_port}']}}]}}]\n",
        encoding="ascii",
    )
    process = subprocess.Popen(
        [
            PROMETHEUS,
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{free_port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
async def free_port() -> int:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port: int = listener.extra(anyio.abc.SocketAttribute.local_port)
        return port


async def _until_ready(port: int) -> None:
    async with httpx2.AsyncClient(trust_env=False) as client:
        with anyio.fail_after(60):
            while True:
                try:
                    if (await client.get(f"http://127.0.0.1:{port}/-/ready")).is_success:
                        return
                except httpx2.HTTPError:
                    pass
                await anyio.sleep(0.1)


async def test_a_real_prometheus_is_asked_and_killed(
    prometheus: "subprocess.Popen[bytes]", free_port: int
) -> None:
    """Numbers pass or fail, no data and a wrong query are inconclusive, and so is a server that is killed."""
    await _until_ready(free_port)
    judge = judge_of(JudgeConfig(JudgeKind.PROMETHEUS, f"http://127.0.0.1:{free_port}"))

    async def asked(query: str, comparison: str) -> Answer:
        check = Check("errors", "prometheus", query, comparison, passes=1)
        return await judge.ask(Question(RolloutId("stable@r1"), 1, check))

    assert await asked("vector(0.004)", "< 0.01") == Answer(
        Outcome.PASS, "0.004 is < 0.01", "0.004"
    )
    assert (await asked("vector(0.02)", "< 0.01")).outcome is Outcome.FAIL
    assert (await asked("scalar(vector(1))", "== 1")).outcome is Outcome.PASS
    assert await asked("no_such_metric", "< 1") == unclear(
        "expected one sample, found none: no data"
    )
    assert await asked("vector(0) / vector(0)", "< 1") == unclear(
        "expected a number, found NaN: no data"
    )
    wrong = await asked("sum(", "< 1")
    assert wrong.outcome is Outcome.INCONCLUSIVE
    assert "expected status 200, found 400: " in wrong.reason

    answers: list[Answer] = []
    first_came = anyio.Event()

    async def keep_asking() -> None:
        while not answers or answers[-1].outcome is Outcome.PASS:
            answers.append(await asked("vector(0.004)", "< 0.01"))
            first_came.set()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep_asking)
            await first_came.wait()
            prometheus.kill()
    assert answers[0].outcome is Outcome.PASS
    assert answers[-1].outcome is Outcome.INCONCLUSIVE
