"""The control plane as a process: it starts, is killed and stopped, and loses nothing that it answered."""

import gzip
import json
import resource
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx2
import pytest
from attrs import evolve

import nixfleet
from nixfleet_agent.network.http_transport import HttpTransport, connected
from nixfleet_control_plane.history.rebuild import check_chain, check_views
from nixfleet_control_plane.messages.log_entry import FactRefused, FactReported
from nixfleet_control_plane.store.database_format import DATABASE_FORMAT
from nixfleet_control_plane.store.queries import log_entries, open_for_reading
from nixfleet_proto.agent_event import ActivationCompleted, ActivationStarted, DispatchAck
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_runtime.transport import (
    EventRefused,
    EventsOutcome,
    ReplayFrom,
    TransportFailed,
)
from tests.engines.releases import Layout, Publisher, rollout_id_of
from tests.support.control_plane_process import Premises
from tests.upgrades.test_samples import SAMPLES

pytestmark = pytest.mark.anyio

CLOCK = SystemClock()
KEY = SigningKey.generate()
LAYOUT = Layout(waves=(("web-01",),), pubkeys=(("web-01", KEY.public_key.public_key),))
WITHIN_SECONDS = 20


@pytest.fixture
def premises(tmp_path: Path) -> Premises:
    return Premises(tmp_path, Publisher())


def _facts(now_seq: int = 1) -> tuple[DispatchAck, ActivationStarted, ActivationCompleted]:
    now = CLOCK.now()
    return (
        DispatchAck("old", now, now_seq),
        ActivationStarted(now, "directory", now_seq + 1),
        ActivationCompleted("r1-web-01", 0, now, now_seq + 2),
    )


def _envelopes(rollout_id: str, *facts: object) -> tuple[AgentEventEnvelope, ...]:
    return tuple(AgentEventEnvelope("web-01", rollout_id, fact) for fact in facts)  # type: ignore[arg-type]


async def _until_known(transport: HttpTransport) -> None:
    """A release is found within a poll, and what was signed before the start is refused for a second."""
    with anyio.fail_after(WITHIN_SECONDS):
        while True:
            try:
                if await transport.next_dispatch(0) is not None:
                    return
            except TransportFailed:
                await anyio.sleep(0.05)


def _logged(database: Path) -> list[FactReported | FactRefused]:
    """The facts in the log, of a database whose chain and views are in order."""
    with closing(open_for_reading(database)) as connection:
        assert check_chain(connection).problem is None
        assert check_views(connection).differences == ()
        entries = [logged.entry for logged in log_entries(connection)]
    return [entry for entry in entries if isinstance(entry, FactReported | FactRefused)]


async def test_events_answered_before_a_kill_are_there_once_and_the_host_goes_on(
    premises: Premises,
) -> None:
    """SIGKILL between two answers: the first is durable, the repetition a duplicate, the rest no gap."""
    rollout_id = rollout_id_of(premises.publish("r1", LAYOUT))
    acknowledged, started, completed = _facts()
    with premises.running() as first:
        async with connected(first.url, "web-01", KEY, CLOCK) as host:
            await _until_known(host)
            assert await host.post_events(_envelopes(rollout_id, acknowledged)) == EventsOutcome(1)
            again = await host.post_events(_envelopes(rollout_id, evolve(acknowledged, seq=2)))
            assert isinstance(again.stopped_by, EventRefused)
        first.kill()
    with premises.running() as second:
        async with connected(second.url, "web-01", KEY, CLOCK) as host:
            with anyio.fail_after(WITHIN_SECONDS):
                outcome = await _answered(host, rollout_id, acknowledged)
            assert outcome == EventsOutcome(1)
            refused = await host.post_events(_envelopes(rollout_id, evolve(acknowledged, seq=2)))
            assert refused == again
            rest = (evolve(started, seq=3), evolve(completed, seq=4))
            assert await host.post_events(_envelopes(rollout_id, *rest)) == EventsOutcome(2)
        second.kill()
    assert [entry.fact.seq for entry in _logged(premises.database)] == [1, 2, 3, 4]


async def _answered(host: HttpTransport, rollout_id: str, fact: object) -> EventsOutcome:
    while True:
        try:
            return await host.post_events(_envelopes(rollout_id, fact))
        except TransportFailed:
            await anyio.sleep(0.05)


async def test_an_operator_sees_how_much_there_is_and_what_came_of_it(premises: Premises) -> None:
    """Events by kind and answer, hosts and rollouts by state, the queue, the batches, the log's head; no names."""
    rollout_id = rollout_id_of(premises.publish("r1", LAYOUT))
    acknowledged, *_ = _facts()
    with premises.running() as living:
        async with connected(living.url, "web-01", KEY, CLOCK) as host:
            await _until_known(host)
            for fact in (acknowledged, evolve(acknowledged, seq=2), evolve(acknowledged, seq=9)):
                await host.post_events(_envelopes(rollout_id, fact))
        async with httpx2.AsyncClient(base_url=living.url, trust_env=False) as client:
            shown = (await client.get("/metrics")).text
    for line in (
        'nixfleet_events_total{answer="accepted",kind="DispatchAck"} 1.0',
        'nixfleet_events_total{answer="refused",kind="DispatchAck"} 1.0',
        'nixfleet_events_total{answer="gap",kind="DispatchAck"} 1.0',
        'nixfleet_hosts{state="Activating"} 1.0',
        'nixfleet_hosts{state="Failed"} 0.0',
        'nixfleet_rollouts{state="Active"} 1.0',
        'nixfleet_hosts_waiting{gate="quarantine"} 0.0',
        'nixfleet_hosts_overdue{stage="ack"} 0.0',
        'nixfleet_hosts_by_standing{standing="lapsed"} 0.0',
        'nixfleet_budgets_full{slots="ramp"} 0.0',
        'nixfleet_holds{source="freeze"} 0.0',
        "nixfleet_hosts_absent 0.0",
        "nixfleet_left_out_at_start 0.0",
        "nixfleet_failures_tolerated 0.0",
        "nixfleet_hosts_silent 0.0",
        "nixfleet_queue_length 0.0",
        f"nixfleet_database_version {float(DATABASE_FORMAT.version)}",
        f'nixfleet_program{{version="{nixfleet.__version__}"}} 1.0',
        "nixfleet_enrolled_hosts 0.0",
    ):
        assert line in shown.splitlines()
    head = next(line for line in shown.splitlines() if line.startswith("nixfleet_log_head "))
    assert float(head.split()[1]) >= len(_logged(premises.database))
    assert "nixfleet_batch_inputs_count" in shown
    assert "web-01" not in shown
    assert rollout_id not in shown


async def test_a_lost_database_comes_back_from_the_host(premises: Premises) -> None:
    """Without its database it asks for everything from the first fact on, and ends where it was."""
    rollout_id = rollout_id_of(premises.publish("r1", LAYOUT))
    facts = _facts()
    for _ in range(2):
        with premises.running() as living:
            async with connected(living.url, "web-01", KEY, CLOCK) as host:
                await _until_known(host)
                later = await host.post_events(_envelopes(rollout_id, facts[2]))
                assert later == EventsOutcome(0, ReplayFrom(rollout_id, 1))
                assert await host.post_events(_envelopes(rollout_id, *facts)) == EventsOutcome(3)
            living.kill()
        assert [entry.fact for entry in _logged(premises.database)] == list(facts)
        premises.lose_database()


async def test_sigterm_lets_go_of_those_who_wait_and_ends_in_order(premises: Premises) -> None:
    """A long-poll is answered at once, host records are written behind, the exit code is 0."""
    layout = Layout(waves=(("web-01",), ("web-02",)), pubkeys=_keys("web-01", "web-02"))
    rollout_id = rollout_id_of(premises.publish("r1", layout))
    with premises.running() as living:
        async with connected(living.url, "web-01", KEY, CLOCK) as host:
            await _until_known(host)
            assert await host.post_events(_envelopes(rollout_id, *_facts())) == EventsOutcome(3)
        async with connected(living.url, "web-02", KEY, CLOCK) as waiting:
            async with anyio.create_task_group() as tasks:
                with anyio.fail_after(WITHIN_SECONDS):
                    poll = _Poll(waiting)
                    tasks.start_soon(poll.wait)
                    await _until_polled(living.url)
                    assert await anyio.to_thread.run_sync(living.stop) == 0
            assert poll.answers == [None]
    with closing(sqlite3.connect(premises.database)) as connection:
        (state,) = connection.execute(
            "SELECT state FROM host_rollout_records WHERE hostname = 'web-01'"
        ).fetchone()
    assert state == "Soaking"
    assert '"message":"stopped"' in premises.said()


def _keys(*hostnames: str) -> tuple[tuple[str, str], ...]:
    return tuple((hostname, KEY.public_key.public_key) for hostname in hostnames)


class _Poll:
    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport
        self.answers: list[object] = []

    async def wait(self) -> None:
        self.answers.append(await self._transport.next_dispatch(60))


async def _until_polled(url: str) -> None:
    async with httpx2.AsyncClient(base_url=url, trust_env=False) as client:
        while True:
            if "nixfleet_dispatch_polls 1.0" in (await client.get("/metrics")).text:
                return
            await anyio.sleep(0.01)


async def test_it_is_ready_once_a_release_was_verified(premises: Premises) -> None:
    """Nothing published: alive, not ready, and no path is named to strangers. Published: ready."""
    with premises.running() as living:
        async with httpx2.AsyncClient(base_url=living.url, trust_env=False) as client:
            assert (await client.get("/healthz")).status_code == 200
            before = await client.get("/readyz")
            assert before.status_code == 503
            reason, unreadable = before.json()["detail"].splitlines()
            assert reason == "no release has been verified yet"
            assert unreadable.startswith("the release directory cannot be read")
            premises.publish("r1", LAYOUT)
            with anyio.fail_after(WITHIN_SECONDS):
                while True:
                    if (await client.get("/readyz")).status_code == 200:
                        return
                    await anyio.sleep(0.02)


def test_a_second_process_on_the_same_database_is_turned_away(premises: Premises) -> None:
    """Two writers would corrupt it; the second says so and ends with 2. A killed one leaves no lock."""
    with premises.running() as first:
        assert first.url
        with premises.running() as second:
            assert second.ended() == 2
        assert "expected no other process" in premises.said()
        first.kill()
    with premises.running("--url-file", str(premises.directory / "url")) as third:
        assert (premises.directory / "url").read_text() == f"{third.url}\n"


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("trust.json", "{}", "the trust file: "),
        (
            "control-plane.db",
            "no database at all, but long enough to be one" * 20,
            "the database: ",
        ),
        ("control-plane.toml", "[store]\n", "trust.file"),
    ],
)
def test_what_cannot_be_used_is_named_before_anything_begins(
    premises: Premises, file: str, content: str, said: str
) -> None:
    """A file that is not what it should be is an error with its name, and exit code 2."""
    (premises.directory / file).write_text(content)
    with premises.running() as living:
        assert living.ended() == 2
    assert said in premises.said()


async def test_limits_of_its_configuration_hold(premises: Premises) -> None:
    """With room for two connections a third is sent away, until one of them was silent for too long."""
    limits = "[limits]\nconnections_max = 2\npollers_max = 1\nkeep_alive_seconds = 1\n"
    premises.config.write_text(premises.config.read_text() + limits)
    with premises.running() as living, anyio.fail_after(WITHIN_SECONDS):
        async with (
            httpx2.AsyncClient(base_url=living.url) as first,
            httpx2.AsyncClient(base_url=living.url) as second,
            httpx2.AsyncClient(base_url=living.url) as third,
        ):
            for client in (first, second):
                assert (await client.get("/healthz")).status_code == 200
            assert (await third.get("/healthz")).status_code == 503
            while (await third.get("/healthz")).status_code == 503:
                await anyio.lowlevel.checkpoint()
        assert living.stop() == 0


@pytest.mark.parametrize(("connections_max", "is_told"), [(600, False), (10**9, True)])
def test_it_may_have_as_many_files_open_as_connections(
    premises: Premises, connections_max: int, is_told: bool
) -> None:
    """A service that begins with few files gives itself more, and says so where it may not have enough."""
    limits = f"[limits]\nconnections_max = {connections_max}\npollers_max = 500\n"
    premises.config.write_text(premises.config.read_text() + limits)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        with premises.running() as living:
            soft, _ = resource.prlimit(living.pid, resource.RLIMIT_NOFILE)
            assert living.stop() == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert soft > min(connections_max, before[1] - 1)
    assert ("LimitNOFILE=" in premises.said()) == is_told


def test_what_it_says_are_lines_of_json(premises: Premises) -> None:
    """Everything on standard error can be read by a machine."""
    premises.publish("r1", LAYOUT)
    with premises.running() as living:
        assert living.stop() == 0
    lines = [json.loads(line) for line in premises.said().splitlines()]
    assert {"time", "level", "logger", "message"} <= lines[0].keys()
    assert f"listening on {living.url}" in [line["message"] for line in lines]


async def test_a_control_plane_upgrades_the_database_of_version_1_when_it_starts(
    tmp_path: Path,
) -> None:
    """It goes on with what the database has; the file of before is beside it, and the log of the process says where."""
    premises = Premises(tmp_path, Publisher())
    content = gzip.decompress((SAMPLES / "database-1.sqlite.gz").read_bytes())
    premises.database.write_bytes(content)
    with premises.running() as living:
        answer = await anyio.to_thread.run_sync(httpx2.get, f"{living.url}/healthz")
        assert answer.text.splitlines() == [
            "ok",
            f"nixfleet {nixfleet.__version__}",
            f"database version {DATABASE_FORMAT.version}",
        ]
    copy = premises.database.with_name("control-plane.db.version-1")
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert f"upgraded from version 1 to {DATABASE_FORMAT.version}" in premises.said()
    assert str(copy) in premises.said()
    with closing(open_for_reading(premises.database)) as connection:
        assert check_chain(connection).problem is None
        assert check_views(connection).differences == ()
