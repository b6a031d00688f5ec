"""Two shards in a control plane as a process: hosts over HTTP, a kill, a restart, and what an operator sees."""

import json
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from attrs import evolve
from click.testing import CliRunner

from nixfleet_agent.network.http_transport import HttpTransport, connected
from nixfleet_cli.main import main
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationStarted,
    Converged,
    DispatchAck,
    ProbeTopologyDeclared,
)
from nixfleet_proto.fleet import FleetHost, Meta
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch, SignedArtefact
from nixfleet_release.publish.save import save_release
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_runtime.releases.directory import Release
from nixfleet_runtime.transport import EventsOutcome, TransportFailed
from tests.engines.releases import OPERATOR_KEY, Publisher
from tests.shards.two_shards import DB, HOSTS, WEB, release_of
from tests.support.control_plane_process import CONFIG, Premises

pytestmark = pytest.mark.anyio

CLOCK = SystemClock()
KEYS = {host: SigningKey.generate() for hosts in HOSTS.values() for host in hosts}
WITHIN_SECONDS = 30
SHARDS = '[shards.data]\nchannels = ["db"]\n[shards.data.store]\npath = "data.db"\n'
DB1, WEB1 = RolloutId.of(DB, "r1"), RolloutId.of(WEB, "r1")


@pytest.fixture
def premises(tmp_path: Path) -> Premises:
    premises = Premises(tmp_path, Publisher())
    premises.config.write_text(CONFIG + SHARDS)
    _publish(premises)
    return premises


def _publish(premises: Premises) -> None:
    """Publish a release of both channels, signed now, in which every host has its key."""
    ci, now = premises.publisher, CLOCK.now()
    release = release_of(ci, "r1")
    hosts = {
        name: FleetHost(
            host.channel, closure_hash=host.closure_hash, pubkey=KEYS[name].public_key.public_key
        )
        for name, host in release.fleet.value.hosts.items()
    }
    fleet = ci.fleet(evolve(release.fleet.value, hosts=FrozenMap(hosts), meta=Meta(now)), now)
    manifests = [
        ci.manifest(
            evolve(each.value, fleet_resolved_hash=fleet.artefact_hash, meta=Meta(now)), now
        )
        for each in release.manifests
    ]
    save_release(
        Release(
            SignedArtefact(fleet.artefact, fleet.signature),
            FrozenMap(
                {it.value.rollout_id: SignedArtefact(it.artefact, it.signature) for it in manifests}
            ),
        ),
        premises.directory / "releases",
    )


async def _dispatch(host: HttpTransport) -> Dispatch:
    """What was signed before the start is refused for a second."""
    with anyio.fail_after(WITHIN_SECONDS):
        while True:
            try:
                dispatch = await host.next_dispatch(5)
            except TransportFailed:
                await anyio.sleep(0.05)
                continue
            if dispatch is not None:
                return dispatch


async def _converge(host: HttpTransport, hostname: str, rollout_id: RolloutId) -> None:
    dispatch = await _dispatch(host)
    assert dispatch.rollout_id == rollout_id
    now = CLOCK.now()
    facts = (
        DispatchAck("before", now, 1),
        ActivationStarted(now, "directory", 2),
        ActivationCompleted(dispatch.target_closure, 0, now, 3),
        ProbeTopologyDeclared((), now, 4),
        Converged(now, dispatch.target_closure, 5),
    )
    envelopes = tuple(AgentEventEnvelope(hostname, rollout_id, fact) for fact in facts)
    assert await host.post_events(envelopes) == EventsOutcome(5)
    manifest = await host.fetch_manifest(rollout_id)
    assert manifest is not None


async def _asked(premises: Premises, url: str, *command: str) -> list[dict[str, object]]:
    key = premises.directory / "ada.key"
    if not key.exists():
        OPERATOR_KEY.save(key)
    who = ["--url", url, "--key", str(key), "--name", "ada", "--json"]

    def run() -> str:
        result = CliRunner().invoke(main, ["operator", *command, *who], catch_exceptions=False)
        return result.stdout

    return [json.loads(line) for line in (await anyio.to_thread.run_sync(run)).splitlines()]


async def test_a_fleet_of_two_shards_goes_through_a_kill_and_its_logs_verify(
    premises: Premises,
) -> None:
    """The first shard is done before the kill, and the one that waits for it begins after the restart."""
    with premises.running() as first:
        async with connected(first.url, "db-1", KEYS["db-1"], CLOCK) as host:
            await _converge(host, "db-1", DB1)
        first.kill()
    with premises.running() as second:
        for name in HOSTS[WEB]:
            async with connected(second.url, name, KEYS[name], CLOCK) as host:
                await _converge(host, name, WEB1)
        shards = await _asked(premises, second.url, "shards")
        assert {str(it["name"]): it["channels"] for it in shards} == {"main": [WEB], "data": [DB]}
        rollouts = await _asked(premises, second.url, "rollouts")
        assert {str(it["rolloutId"]): it["state"] for it in rollouts} == {
            DB1: "Terminal",
            WEB1: "Terminal",
        }
        lines = await _asked(premises, second.url, "log", "--shard", "data", "--last", "100")
        assert any(it.get("rolloutId") == DB1 for it in lines)
        assert not any(it.get("rolloutId") == WEB1 for it in lines)
        lines = await _asked(premises, second.url, "log", "--last", "100")
        assert any("sees channel db at db@r1, done" in str(it["text"]) for it in lines)
        (refused,) = await _asked(premises, second.url, "log", "--shard", "dta")
        assert "did you mean" in str(refused)
        assert second.stop() == 0
    for database in (premises.database, premises.directory / "data.db"):
        result = CliRunner().invoke(main, ["log", "verify", str(database)])
        assert result.exit_code == 0, result.output


async def test_a_start_with_a_moved_channel_ends_with_what_to_do(premises: Premises) -> None:
    with premises.running() as first:
        async with connected(first.url, "db-1", KEYS["db-1"], CLOCK) as host:
            await _dispatch(host)
        assert first.stop() == 0
    premises.config.write_text(CONFIG + SHARDS.replace('"db"', '"cache"'))
    with premises.running() as second:
        assert second.ended() != 0
    assert "db of shard data, now in main" in premises.said()
