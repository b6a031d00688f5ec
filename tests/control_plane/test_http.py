"""The HTTP surface as an agent and an operator meet it: a real server on loopback, real signatures."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import anyio
import anyio.lowlevel
import httpx2
import orjson
import pytest

from nixfleet_control_plane.http.server.limits import Limits
from nixfleet_proto.agent_event import ActivationStarted, Converged, DispatchAck
from nixfleet_proto.codec import encode_envelope, format_time, parse_time
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import sign_envelope
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.http.signing.nonces import EarlierRequests
from nixfleet_runtime.transport import (
    EventEarly,
    EventRefused,
    EventsOutcome,
    Heartbeat,
    HostHeld,
    ReplayFrom,
    RolloutUnknown,
    SeqForked,
    TransportFailed,
)
from tests.engines.releases import Layout
from tests.support.served_control_plane import (
    CLOCK,
    KEY,
    READER_KEY,
    STRANGER,
    Site,
    signed,
    site_with,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_with(tmp_path, Limits(pollers_per_host_max=1, body_bytes_max=4096)) as made:
        yield made


def ack(seq: int = 1) -> DispatchAck:
    return DispatchAck("old", CLOCK.now(), seq)


async def test_an_agent_gets_its_dispatch_and_the_manifest_as_it_was_signed(site: Site) -> None:
    """The long-poll answers with the dispatch; the manifest comes byte for byte."""
    rollout_id = await site.publish()
    async with site.agent() as agent:
        dispatch = await agent.next_dispatch(5)
        assert dispatch is not None
        assert dispatch.target_closure == "r1-web-01"
        artefact = await agent.fetch_manifest(rollout_id)
        assert artefact == await site.service.manifest(rollout_id)
        assert await agent.fetch_manifest("stable@other") is None


async def test_events_are_answered_once_durable_and_duplicates_again(site: Site) -> None:
    """A batch is taken as a whole; sent again it is a duplicate, and as good."""
    rollout_id = await site.publish()
    facts = (ack(1), ActivationStarted(CLOCK.now(), "directory", 2))
    envelopes = tuple(AgentEventEnvelope("web-01", rollout_id, fact) for fact in facts)
    async with site.agent() as agent:
        assert await agent.post_events(envelopes) == EventsOutcome(2)
        assert await agent.post_events(envelopes[:1]) == EventsOutcome(1)
    (record, *_) = (await site.service.host_records()).records
    assert record.last_event_seq == 2


async def test_what_stops_events_comes_over_the_wire_as_it_is_in_process(site: Site) -> None:
    """A gap, a refusal and an unknown rollout arrive as the outcomes they are."""
    rollout_id = await site.publish()

    def told(name: str, fact: DispatchAck | Converged) -> tuple[AgentEventEnvelope, ...]:
        return (AgentEventEnvelope("web-01", name, fact),)

    early = Converged(CLOCK.now(), "r1-web-01", 1)
    async with site.agent() as agent:
        gap = await agent.post_events(told(rollout_id, ack(3)))
        assert gap == EventsOutcome(0, ReplayFrom(rollout_id, 1))
        unknown = await agent.post_events(told("stable@other", ack(1)))
        assert unknown == EventsOutcome(0, RolloutUnknown("stable@other"))
        refused = await agent.post_events(told(rollout_id, early))
        assert isinstance(refused.stopped_by, EventRefused)
        assert "not legal from Pending" in refused.stopped_by.reason
        ahead = DispatchAck("release-0", CLOCK.now() + timedelta(minutes=5), seq=2)
        outcome = await agent.post_events(told(rollout_id, ahead))
        assert isinstance(outcome.stopped_by, EventEarly)
        assert (outcome.stopped_by.seq, outcome.stopped_by.retry_after_seconds) == (2, 240)
        assert "set the host's clock" in outcome.stopped_by.reason
        forked = await agent.post_events(told(rollout_id, ack(1)))
        assert forked == EventsOutcome(0, SeqForked(rollout_id, 1))
        held = await agent.post_events(told(rollout_id, ack(2)))
        why = f"it has told two facts of {rollout_id} by the number 1"
        assert held == EventsOutcome(0, HostHeld(rollout_id, why))


async def test_a_heartbeat_names_what_is_missing_here(site: Site) -> None:
    """A journal that is ahead is asked for what the control plane lacks."""
    rollout_id = await site.publish()
    async with site.agent() as agent:
        reply = await agent.heartbeat(Heartbeat("web-01", "old", FrozenMap({str(rollout_id): 4})))
        assert reply.replay_from == (ReplayFrom(rollout_id, 1),)


async def test_a_host_that_is_not_known_gets_nowhere(site: Site) -> None:
    """Neither an unknown name nor another key than the one that is known is let in."""
    async with site.agent("web-09") as stranger:
        with pytest.raises(TransportFailed, match="401 The key is unknown"):
            await stranger.next_dispatch(0)
    async with site.agent(key=STRANGER) as impostor:
        with pytest.raises(TransportFailed, match="401 The key is unknown"):
            await impostor.next_dispatch(0)


async def test_a_host_cannot_speak_for_another(site: Site) -> None:
    """What one host signs about another is turned away."""
    rollout_id = await site.publish()
    async with site.agent() as agent:
        with pytest.raises(TransportFailed, match="403 A host may report only about itself"):
            await agent.post_events((AgentEventEnvelope("web-02", rollout_id, ack()),))


async def test_an_unsigned_request_is_told_what_it_lacks(site: Site) -> None:
    """Problems are problem+json, and say what was expected."""
    async with httpx2.AsyncClient(base_url=site.url, trust_env=False) as client:
        answer = await client.get("/v1/agent/dispatch")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:nixfleet:problem:not-signed"


async def test_a_body_that_is_too_large_is_refused(site: Site) -> None:
    """413, before the signature is looked at."""
    async with httpx2.AsyncClient(base_url=site.url, trust_env=False) as client:
        answer = await client.post("/v1/agent/events", content=b"x" * 5000)
    assert answer.status_code == 413


async def test_another_protocol_is_told_to_upgrade(site: Site) -> None:
    """426 names both versions."""
    async with httpx2.AsyncClient(base_url=site.url, trust_env=False) as client:
        answer = await client.get("/v1/agent/dispatch", headers={"X-Nixfleet-Protocol": "2"})
    assert answer.status_code == 426


async def test_a_pause_by_an_operator_holds_the_next_dispatch(site: Site) -> None:
    """The command is durable when it is answered, and its name and reason are what the gate says."""
    rollout_id = await site.publish()
    body = b'{"reason": "maintenance"}'
    paused = await site.operate("POST", f"/v1/rollouts/{rollout_id}/pause", body)
    assert paused.status_code == 204
    async with site.agent() as agent:
        assert await agent.next_dispatch(0) is None
    explained = (await site.operate("GET", "/v1/hosts/web-01/explain")).json()
    (waits,) = explained["rollouts"]
    assert waits["rolloutId"] == rollout_id
    assert "alice: maintenance" in waits["gates"][0]["reason"]
    again = await site.operate("POST", f"/v1/rollouts/{rollout_id}/pause", body)
    assert (again.status_code, again.json()["title"]) == (409, "The command is refused")


async def test_a_host_is_explained_by_where_it_stands(site: Site) -> None:
    """Also one that waits for no gate: what it waits for, since when, and its wave and attempt."""
    rollout_id = await site.publish()
    explained = (await site.operate("GET", "/v1/hosts/web-01/explain")).json()
    (here,) = explained["rollouts"]
    status = here["status"]
    since = status.pop("since")
    assert since.endswith("Z")
    assert (here["rolloutId"], here["gates"], explained["channel"]) == (rollout_id, [], "stable")
    assert status == {
        "rolloutState": "Active",
        "state": "Pending",
        "standing": "counted",
        "attempt": 1,
        "attempts": 1,
        "wave": 0,
        "lastWave": 1,
        "waitsFor": "acknowledgement",
        "isOverdue": False,
        "commands": ["excuse stable@r1 web-01"],
    }


async def test_an_unknown_host_is_not_explained(site: Site) -> None:
    """404, with the name that was probably meant."""
    await site.publish()
    answer = await site.operate("GET", "/v1/hosts/we-02/explain")
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:nixfleet:problem:host-unknown"
    assert answer.json()["detail"].endswith('found "we-02"; did you mean web-02?')


async def test_a_host_that_left_its_rollout_is_explained_with_when(site: Site) -> None:
    """The log says when; no fleet and no rollout names the host any more."""
    rollout_id = await site.publish()
    before = parse_time(format_time(CLOCK.now()))
    await site.publish(layout=Layout(waves=(("web-01",), ("web-02",))))

    explained = (await site.operate("GET", "/v1/hosts/web-03/explain")).json()

    ((left,), outside) = explained["left"], explained["outside"]
    assert (left["rolloutId"], outside, explained["rollouts"]) == (rollout_id, "left", [])
    assert before <= parse_time(left["since"]) <= CLOCK.now()


async def test_a_host_is_unknown_while_nothing_is_in_force_and_it_says_so(site: Site) -> None:
    """There is no name to compare with."""
    answer = await site.operate("GET", "/v1/hosts/web-02/explain")

    assert answer.status_code == 404
    assert answer.json()["detail"] == (
        "no host 'web-02' is known: nothing is in force, and no rollout is open"
    )


async def test_an_operator_who_may_only_read_cannot_pause(site: Site) -> None:
    """403 names the role that was expected."""
    rollout_id = await site.publish()
    path = f"/v1/rollouts/{rollout_id}/pause"
    answer = await site.operate("POST", path, b'{"reason": "x"}', name="bob", key=READER_KEY)
    assert answer.status_code == 403
    listed = await site.operate("GET", "/v1/rollouts", name="bob", key=READER_KEY)
    assert listed.json()["rollouts"][0]["rolloutId"] == rollout_id


async def test_a_command_without_a_reason_is_told_every_problem(site: Site) -> None:
    """422 lists paths, what was expected and what was found."""
    rollout_id = await site.publish()
    answer = await site.operate("POST", f"/v1/rollouts/{rollout_id}/pause", b"{}")
    assert answer.status_code == 422
    assert answer.json()["problems"][0]["path"] == "$.reason"


async def test_a_deferral_says_until_when_it_is_held_at_least(site: Site) -> None:
    """The end of the hold, from memory; absent where no time changes anything."""
    await site.publish()
    until = format_time(CLOCK.now() + timedelta(days=1))
    body = orjson.dumps({"scope": "stable", "reason": "x", "until": until})
    assert (await site.operate("POST", "/v1/holds", body)).status_code == 204
    listed = (await site.operate("GET", "/v1/deferrals")).json()["deferrals"]
    assert {each["until"] for each in listed} == {until}
    body = orjson.dumps({"scope": "stable", "reason": "x"})
    assert (await site.operate("POST", "/v1/holds/release", body)).status_code == 204
    listed = (await site.operate("GET", "/v1/deferrals")).json()["deferrals"]
    assert listed != []
    assert not any("until" in each for each in listed)


async def test_operators_read_hosts_deferrals_and_the_log(site: Site) -> None:
    """What is listed is what is committed."""
    rollout_id = await site.publish()
    hosts = (await site.operate("GET", "/v1/hosts")).json()["hosts"]
    assert [host["hostname"] for host in hosts] == ["web-01", "web-02", "web-03"]
    deferrals = (await site.operate("GET", "/v1/deferrals")).json()["deferrals"]
    assert {deferral["gate"] for deferral in deferrals} == {"wave-promotion"}
    events = (await site.operate("GET", f"/v1/rollouts/{rollout_id}/events")).json()["events"]
    assert events[0]["kind"] == "artefact_accepted"


async def test_a_list_comes_a_page_at_a_time(site: Site) -> None:
    """`next` of one page is `after` of the following one; the last page has none."""
    await site.publish("r1")
    await site.publish("r2")
    for path, what, count in (
        ("/v1/hosts", "hosts", 6),
        ("/v1/deferrals", "deferrals", 2),
        ("/v1/rollouts", "rollouts", 2),
    ):
        whole = (await site.operate("GET", path)).json()
        assert len(whole[what]) == count, path
        assert "next" not in whole
        listed, after = [], None
        for _ in range(count):
            query = "?limit=1" if after is None else f"?limit=1&after={quote(after)}"
            page = (await site.operate("GET", path + query)).json()
            listed += page[what]
            after = page.get("next")
        assert listed == whole[what], path
        assert after is None


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "limit=1&limit=2", "after=x", "limit=%FF", "after=W10="]
)
async def test_a_query_that_cannot_be_read_is_refused(query: str, site: Site) -> None:
    """422 names the parameter."""
    answer = await site.operate("GET", f"/v1/hosts?{query}")
    assert answer.status_code == 422
    assert f"$.{query.partition('=')[0]}: expected" in answer.json()["detail"]


async def test_a_second_poll_of_one_host_waits_its_turn(tmp_path: Path) -> None:
    """A host polls once at a time; more are asked to come again."""
    async with (
        site_with(tmp_path, Limits(pollers_per_host_max=1)) as site,
        site.agent() as agent,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(agent.next_dispatch, 30)
        with anyio.fail_after(5):
            while "nixfleet_dispatch_polls 1.0" not in await _metrics(site):
                await anyio.lowlevel.checkpoint()
        with pytest.raises(TransportFailed, match="429"):
            await agent.next_dispatch(30)
        tasks.cancel_scope.cancel()


async def _metrics(site: Site) -> str:
    async with httpx2.AsyncClient(base_url=site.url, trust_env=False) as client:
        return (await client.get("/metrics")).text


async def test_a_command_that_may_have_been_obeyed_before_the_start_is_not_obeyed_again(
    tmp_path: Path,
) -> None:
    """Until the last command before the start can have no copies, commands are refused; reading goes on."""
    since = CLOCK.now() + timedelta(seconds=30)
    async with site_with(tmp_path, earlier_commands=EarlierRequests(signed_since=since)) as site:
        await site.publish()
        refused = await site.operate("POST", "/v1/channels/stable/pause", b'{"reason": "odd"}')
        assert refused.json()["type"] == "urn:nixfleet:problem:signed-before-start"
        assert (await site.operate("GET", "/v1/rollouts")).status_code == 200
        async with site.agent() as agent:
            assert await agent.next_dispatch(0) is not None


async def test_nothing_is_acknowledged_that_could_not_be_written(site: Site) -> None:
    """503 with Retry-After for whatever changes something, and not a word about what went wrong inside."""
    rollout_id = await site.publish()
    envelope = sign_envelope(AgentEventEnvelope("web-01", rollout_id, ack()), KEY)
    told = encode_envelope(envelope)
    site.store.is_full = True
    paused = await site.operate("POST", "/v1/channels/stable/pause", b'{"reason": "x"}')
    path = "/v1/agent/events"
    posted = await site.ask("POST", path, told, signed("POST", path, told))
    for answer in (paused, posted):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "device" not in answer.text
    site.store.is_full = False
    assert (await site.ask("POST", path, told, signed("POST", path, told))).status_code == 204
    resumed = await site.operate("POST", "/v1/channels/stable/resume", b'{"reason": "x"}')
    assert (resumed.status_code, resumed.json()["detail"]) == (409, "stable is not paused")


async def test_who_asks_while_the_control_plane_closes_is_told_to_come_again(site: Site) -> None:
    """503 with Retry-After, for hosts and operators, and nothing of its insides."""
    await site.publish()
    await site.service.close()
    path = "/v1/agent/dispatch?wait=60"
    polled = await site.ask("GET", path, b"", signed("GET", path))
    paused = await site.operate("POST", "/v1/channels/stable/pause", b'{"reason": "x"}')
    for answer in (polled, paused):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["detail"] == "the control plane is shutting down"


async def test_a_database_that_cannot_be_read_is_no_internal_error(site: Site) -> None:
    """Lists are read from it: 503 until it can be."""
    await site.publish()
    site.database.rename(site.database.with_suffix(".gone"))
    answer = await site.operate("GET", "/v1/rollouts")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert str(site.database) not in answer.text
