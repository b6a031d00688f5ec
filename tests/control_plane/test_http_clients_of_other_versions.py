"""The lives of hosts as clients of other versions tell them: accepted, and nothing that this version knows is lost.

An older client leaves out every field that may be left out. A newer one has a field more in every object, however deep.
The bodies are written by hand: what is recorded here must stay readable.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import httpx2
import orjson
import pytest
from attrs import evolve

from nixfleet_agent.network.http_transport import HttpTransport
from nixfleet_control_plane.messages.log_entry import FactReported
from nixfleet_control_plane.store.queries import log_entries, open_for_reading
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.codec import canonical_bytes
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.client import SignedClient
from nixfleet_runtime.transport import EventRefused, EventsOutcome, Heartbeat, ReplayFrom
from nixfleet_state_machine.host.state import HostRolloutState
from tests.support.served_control_plane import CLOCK, KEY, Site, signed, site_with

pytestmark = pytest.mark.anyio

T = "2026-05-16T01:{:02}:00Z"
ACK = {"kind": "DispatchAck", "currentClosureAtDispatch": "old", "receivedAt": T.format(0)}
STARTED = {"kind": "ActivationStarted", "startedAt": T.format(1), "switchMethod": "directory"}
COMPLETED = {"kind": "ActivationCompleted", "exitCode": 0, "completedAt": T.format(2)}
TOPOLOGY = {
    "kind": "ProbeTopologyDeclared",
    "declaredAt": T.format(3),
    "probes": [{"probeName": "alive", "kind": "evidence", "mode": "enforce"}],
}
FIRST = {"kind": "ProbeObservedFirst", "observedAt": T.format(4), "probeName": "alive"}
RESULT = {"kind": "ProbeResult", "probeName": "alive", "mode": "enforce", "observedAt": T.format(5)}
CONTROL = {"controlId": "c1", "framework": "iso"}
PASSED = {**RESULT, "status": "pass", "subResults": [{**CONTROL, "status": "pass"}]}
BROKEN = {**RESULT, "status": "fail", "observedAt": T.format(6)}
BROKE = {"kind": "ProbeFailureFirst", "firstFailedAt": T.format(6), "probeName": "alive"}
FAILED = {
    "kind": "Failed",
    "failedAt": T.format(9),
    "sustainedDurationSecs": 60,
    "failingProbes": ["alive"],
    "policyApplied": "rollback-and-halt",
}
BACK = {"kind": "RollbackComplete", "exitCode": 0, "completedAt": T.format(10)}

LIVES: tuple[tuple[Mapping[str, Any], ...], ...] = (
    (
        ACK,
        STARTED,
        {**COMPLETED, "observedCurrentClosure": "r1-web-01"},
        TOPOLOGY,
        {**FIRST, "mode": "enforce"},
        PASSED,
        {"kind": "Converged", "convergedAt": T.format(20), "currentClosure": "r1-web-01"},
        {**FAILED, "kind": "Regressed", "regressedAt": T.format(30)},
    ),
    (
        ACK,
        STARTED,
        {**COMPLETED, "observedCurrentClosure": "r2-web-01"},
        TOPOLOGY,
        {**FIRST, "mode": "enforce"},
        {**BROKE, "mode": "enforce"},
        BROKEN,
        FAILED,
        {**BACK, "revertedToClosure": "old"},
    ),
    (
        ACK,
        STARTED,
        {"kind": "ActivationDeferred", "component": "kernel", "deferredAt": T.format(2)},
    ),
    (
        ACK,
        STARTED,
        {"kind": "ActivationFailed", "exitCode": 1, "stderrTail": "", "failedAt": T.format(2)},
    ),
    (ACK, STARTED, {"kind": "Recalled", "orderId": "order-1", "recalledAt": T.format(2)}),
    (
        {"kind": "Postponed", "postponedAt": T.format(1), "reason": "busy", "until": T.format(30)},
        ACK,
    ),
)
"""What web-01 goes through in one release after another, without numbers."""

KEPT_AS_THEY_ARE = frozenset({"lastSeqs", "probes_by_name"})
"""Objects whose members are data, not fields."""


def newer(value: Any, name: str = "") -> Any:
    """Return `value` with a field more in each of its objects."""
    if isinstance(value, dict):
        more = {} if name in KEPT_AS_THEY_ARE else {"addedLater": {"why": ["new", None, 1]}}
        return {**{key: newer(each, key) for key, each in value.items()}, **more}
    return [newer(each) for each in value] if isinstance(value, list) else value


def as_it_is(value: Any) -> Any:
    """An older client's body has no field that it need not have."""
    return value


CLIENTS = pytest.mark.parametrize("client", [as_it_is, newer], ids=["older", "newer"])
Client = Callable[[Any], Any]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A control plane that knows web-01."""
    async with site_with(tmp_path) as made:
        yield made


async def ask(site: Site, path: str, body: dict[str, Any]) -> httpx2.Response:
    data = orjson.dumps(body)
    return await site.ask("POST", path, data, signed("POST", path, data))


def numbered(
    rollout_id: RolloutId, life: tuple[Mapping[str, Any], ...]
) -> Iterator[dict[str, Any]]:
    for seq, event in enumerate(life, start=1):
        yield {"hostname": "web-01", "rolloutId": str(rollout_id), "event": {**event, "seq": seq}}


def facts_of(site: Site, rollout_id: RolloutId) -> list[AgentEvent]:
    connection = open_for_reading(site.database)
    try:
        entries = [logged.entry for logged in log_entries(connection)]
    finally:
        connection.close()
    reported = (entry for entry in entries if isinstance(entry, FactReported))
    return [entry.fact for entry in reported if entry.rollout_id == rollout_id]


async def records_of(site: Site) -> list[HostRolloutState]:
    """The records of all hosts, without the times that are by each control plane's own clock."""
    records = (await site.service.host_records()).records
    return [evolve(record, dispatched_at=None, soak_due_at=None) for record in records]


async def told_one_by_one(site: Site, client: Client, envelopes: list[dict[str, Any]]) -> None:
    for plain in envelopes:
        envelope = client(plain)
        covered = {name: envelope[name] for name in ("hostname", "rolloutId", "event")}
        signature = KEY.sign(canonical_bytes(covered)).hex()
        answer = await ask(site, paths.AGENT_EVENTS, {**envelope, "signature": signature})
        assert answer.status_code == 204, answer.text


async def told_at_once(site: Site, client: Client, envelopes: list[dict[str, Any]]) -> None:
    batch = client({"events": envelopes})
    signature = KEY.sign(canonical_bytes({"events": batch["events"]})).hex()
    answer = await ask(site, paths.AGENT_EVENT_BATCHES, {**batch, "signature": signature})
    assert answer.status_code == 204, answer.text


@CLIENTS
@pytest.mark.parametrize("tell", [told_one_by_one, told_at_once])
async def test_every_kind_of_event_is_taken_whole(
    tmp_path: Path, site: Site, client: Client, tell: Callable[..., Any]
) -> None:
    """The facts in the log, and the records, are those of a client of this version."""
    (tmp_path / "other").mkdir()
    async with site_with(tmp_path / "other") as other:
        kinds = set[str]()
        for number, life in enumerate(LIVES, start=1):
            rollout_id = await site.publish(f"r{number}")
            assert await other.publish(f"r{number}") == rollout_id
            envelopes = list(numbered(rollout_id, life))
            await tell(site, client, envelopes)
            await told_at_once(other, as_it_is, envelopes)
            facts = facts_of(site, rollout_id)
            assert facts == facts_of(other, rollout_id)
            assert [type(fact).__name__ for fact in facts] == [event["kind"] for event in life]
            kinds |= {type(fact).__name__ for fact in facts}
        assert kinds == {kind.__name__ for kind in get_args(AgentEvent)}
        assert await records_of(site) == await records_of(other)


@CLIENTS
async def test_heartbeats_and_commands_are_taken_whole(site: Site, client: Client) -> None:
    """What a heartbeat says of refusals is shown; a command does what it says."""
    rollout_id = await site.publish()
    beat = {"hostname": "web-01", "currentClosure": "old", "lastSeqs": {str(rollout_id): 3}}
    answer = await ask(site, paths.AGENT_HEARTBEAT, client(beat))
    assert answer.json()["replay_from"] == [{"rollout_id": rollout_id, "first_missing_seq": 1}]
    refusal = {"rolloutId": str(rollout_id), "reason": "too old", "since": T.format(0)}
    await ask(site, paths.AGENT_HEARTBEAT, client({**beat, "refusals": [refusal]}))
    (shown,) = site.service.notices.refusals_of("web-01")
    assert (shown.rollout_id, shown.reason) == (rollout_id, "too old")

    body = orjson.dumps(client({"reason": "maintenance"}))
    path = paths.rollout_path(rollout_id, "/pause")
    assert (await site.operate("POST", path, body)).status_code == 204
    assert "maintenance" in (await site.operate("GET", paths.DEFERRALS)).text


# Answers: a control plane is updated before or after its agents.


@asynccontextmanager
async def answered(status: int, body: Any) -> AsyncIterator[HttpTransport]:
    """Yield the transport of an agent whose control plane answers `body`."""
    data = orjson.dumps(body)

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, stream=httpx2.ByteStream(data))

    fake = httpx2.MockTransport(answer)
    async with httpx2.AsyncClient(base_url="http://fleet", transport=fake) as client:
        yield HttpTransport(SignedClient(client, "host:web-01", KEY, CLOCK), KEY)


@CLIENTS
async def test_answers_of_another_version_are_read_whole(site: Site, client: Client) -> None:
    """A dispatch, a heartbeat's answer with a record, and both kinds of refusals."""
    rollout_id = await site.publish()
    async with site.agent() as agent:
        real = await agent.next_dispatch(0)
    assert isinstance(real, Dispatch)
    dispatch = {
        "hostname": "web-01",
        "rollout_id": str(rollout_id),
        "target_closure": "r1-web-01",
        "soak_due_at": T.format(5),
        "enqueued_at": T.format(0),
    }
    async with answered(200, client(dispatch)) as agent:
        read = await agent.next_dispatch(0)
    assert read is not None
    assert evolve(read, soak_due_at=real.soak_due_at, enqueued_at=real.enqueued_at) == real

    record = {
        "rollout_id": str(rollout_id),
        "hostname": "web-01",
        "channel": "stable",
        "state": "Soaking",
        "target_closure": "r1-web-01",
        "last_event_seq": 4,
    }
    replay = {"rollout_id": str(rollout_id), "first_missing_seq": 2}
    reply = {"received_at": T.format(0), "bootstrap_rollouts": [record], "replay_from": [replay]}
    async with answered(200, client(reply)) as agent:
        said = await agent.heartbeat(Heartbeat("web-01", "old", FrozenMap({str(rollout_id): 3})))
    assert said.bootstrap_rollouts[0].last_event_seq == 4
    assert said.replay_from == (ReplayFrom(str(rollout_id), 2),)

    refused = {
        "type": "urn:nixfleet:problem:event-refused",
        "title": "The event is refused",
        "status": 409,
        "detail": "no",
        "accepted": 0,
        "rolloutId": str(rollout_id),
        "seq": 1,
    }
    async with answered(409, client(refused)) as agent:
        outcome = await agent.post_events(())
    assert outcome == EventsOutcome(0, EventRefused(str(rollout_id), 1, "no"))
