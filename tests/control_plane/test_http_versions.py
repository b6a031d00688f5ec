"""Clients of another version: what they add is ignored, what they spell otherwise is read, and their signatures count.

Within a protocol version fields are only added. A newer client sends more than this control plane knows; an older one,
and one in another language, spells times in its own way.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from nixfleet_proto.codec import canonical_bytes
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http import paths
from tests.support.served_control_plane import CLOCK, KEY, Site, signed, site_with

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A control plane that knows web-01."""
    async with site_with(tmp_path) as made:
        yield made


def message(rollout_id: RolloutId, event: dict[str, Any], **more: object) -> dict[str, Any]:
    """An envelope as a client that has nothing of ours writes it."""
    return {"hostname": "web-01", "rolloutId": str(rollout_id), "event": event, **more}


def acknowledged(received_at: str, **more: object) -> dict[str, Any]:
    """The first event of a rollout."""
    return {
        "kind": "DispatchAck",
        "currentClosureAtDispatch": "old",
        "receivedAt": received_at,
        **more,
        "seq": 1,
    }


async def status_of_event(site: Site, envelope: dict[str, Any]) -> int:
    """The answer to an envelope that its sender signed as it wrote it."""
    covered = {name: envelope[name] for name in ("hostname", "rolloutId", "event")}
    signature = KEY.sign(canonical_bytes(covered)).hex()
    body = orjson.dumps({**envelope, "signature": signature})
    headers = signed("POST", paths.AGENT_EVENTS, body)
    answer = await site.ask("POST", paths.AGENT_EVENTS, body, headers)
    return answer.status_code


@pytest.mark.parametrize(
    "received_at",
    [
        "2026-05-16T01:00:00.120000Z",
        "2026-05-16T01:00:00.120Z",
        "2026-05-16T01:00:00.1Z",
        "2026-05-16T03:00:00+02:00",
        "2026-05-16T01:00:00.123456789Z",
    ],
)
async def test_a_time_in_any_spelling_is_taken_with_its_signature(
    site: Site, received_at: str
) -> None:
    """The signature is over the time as it was written."""
    rollout_id = await site.publish()
    assert await status_of_event(site, message(rollout_id, acknowledged(received_at))) == 204


async def test_fields_of_a_newer_client_are_ignored_and_signed(site: Site) -> None:
    """In the event, where the signature covers them, and beside it, where it does not."""
    rollout_id = await site.publish()
    event = acknowledged("2026-05-16T01:00:00Z", bootId="7c1", more={"a": [1, None]})
    assert await status_of_event(site, message(rollout_id, event, traceId="x")) == 204
    (record, *_) = (await site.service.host_records()).records
    assert record.last_event_seq == 1


async def test_a_field_that_was_changed_on_its_way_is_noticed_though_it_is_not_known(
    site: Site,
) -> None:
    """What is ignored is covered all the same."""
    rollout_id = await site.publish()
    envelope = message(rollout_id, acknowledged("2026-05-16T01:00:00Z", bootId="7c1"))
    covered = {name: envelope[name] for name in ("hostname", "rolloutId", "event")}
    signature = KEY.sign(canonical_bytes(covered)).hex()
    envelope["event"]["bootId"] = "7c2"
    body = orjson.dumps({**envelope, "signature": signature})
    answer = await site.ask(
        "POST", paths.AGENT_EVENTS, body, signed("POST", paths.AGENT_EVENTS, body)
    )
    assert answer.json()["type"] == "urn:nixfleet:problem:envelope-signature"


async def test_a_batch_of_a_newer_client_is_taken(site: Site) -> None:
    """Fields of the batch, of its envelopes and of their events."""
    rollout_id = await site.publish()
    started = {"kind": "ActivationStarted", "startedAt": "2026-05-16T01:00:01.000Z",
               "switchMethod": "directory", "attempt": 1, "seq": 2}  # fmt: skip
    events = [
        message(rollout_id, acknowledged("2026-05-16T01:00:00Z", bootId="7c1"), traceId="x"),
        message(rollout_id, started),
    ]
    signature = KEY.sign(canonical_bytes({"events": events})).hex()
    body = orjson.dumps({"compressed": False, "events": events, "signature": signature})
    headers = signed("POST", paths.AGENT_EVENT_BATCHES, body)
    assert (await site.ask("POST", paths.AGENT_EVENT_BATCHES, body, headers)).status_code == 204


async def test_a_heartbeat_of_a_newer_client_is_answered(site: Site) -> None:
    """What it says besides is left alone."""
    body = orjson.dumps(
        {"hostname": "web-01", "currentClosure": "c", "lastSeqs": {}, "sentAt": str(CLOCK.now())}
    )
    answer = await site.ask(
        "POST", paths.AGENT_HEARTBEAT, body, signed("POST", paths.AGENT_HEARTBEAT, body)
    )
    assert answer.status_code == 200


async def test_a_client_one_protocol_minor_ahead_is_served(site: Site) -> None:
    """Only the number before the first dot counts."""
    headers = {**signed("GET", paths.AGENT_DISPATCH), "X-Nixfleet-Protocol": "1.1"}
    assert (await site.ask("GET", paths.AGENT_DISPATCH, headers=headers)).status_code == 204
