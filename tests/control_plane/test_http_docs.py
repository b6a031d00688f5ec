"""docs/reference/http-api.md is true: examples to the byte, bodies by their types, the client by running it."""

import base64
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import jsonschema_rs
import orjson
import pytest
from nacl.signing import VerifyKey

from nixfleet_control_plane.http.app import ALL_CALLS
from nixfleet_control_plane.http.openapi import openapi_document
from nixfleet_control_plane.http.server.limits import Limits
from nixfleet_proto.codec import (
    decode_envelope,
    decode_event_batch,
    decode_manifest,
    encode_envelope,
    encode_event_batch,
    encode_manifest,
    envelope_payload,
)
from nixfleet_proto.signing import SigningKey, sign_envelope, verify_batch
from nixfleet_runtime.http.signing.requests import sign_request
from tests.support.served_control_plane import CLOCK, KEY_SEED, Site, site_with

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "http-api.md"
TEXT = PAGE.read_text()
BLOCKS = {
    name: block.removesuffix("\n")
    for name, block in re.findall(r"^```\w+ (\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
}
DOCUMENT = orjson.loads(openapi_document(ALL_CALLS))
KEY = SigningKey(bytes(range(32)))
BODIES = sorted(BLOCKS.keys() & DOCUMENT["components"]["schemas"].keys())


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_with(tmp_path) as made:
        yield made


def test_the_worked_example_is_what_a_client_here_sends() -> None:
    """Body, digest, base and signature, from the seed and the time that the page names."""
    body = BLOCKS["body"].encode()
    (nonce,) = re.findall(r'nonce="([^"]+)"', BLOCKS["base"])
    (created,) = re.findall(r"created=(\d+)", BLOCKS["base"])
    at = datetime.fromtimestamp(int(created), UTC)
    signed = sign_request(KEY, "host:web-01", "POST", "/v1/agent/events", body, at, nonce)
    head, *lines = BLOCKS["request"].splitlines()
    assert head == "POST /v1/agent/events HTTP/1.1"
    headers = dict(line.split(": ", 1) for line in lines)
    assert {name: headers[name] for name in signed} == dict(signed)
    assert int(headers["Content-Length"]) == len(body)
    assert KEY.public_key.public_key in TEXT


def test_the_signature_base_is_what_is_signed() -> None:
    """As anybody would check it who has the page alone."""
    (signature,) = re.findall(r"Signature: nixfleet=:(.*):", BLOCKS["request"])
    VerifyKey(bytes.fromhex(KEY.public_key.public_key)).verify(
        BLOCKS["base"].encode(), base64.b64decode(signature)
    )


def test_the_envelope_and_the_batch_are_signed_as_the_page_says() -> None:
    """The canonical text, and the signatures in the bodies."""
    envelope = decode_envelope(BLOCKS["body"].encode())
    assert envelope_payload(envelope).decode() == BLOCKS["payload"]
    assert encode_envelope(sign_envelope(envelope, KEY)).decode() == BLOCKS["body"]
    batch = decode_event_batch(BLOCKS["batch"].encode())
    verify_batch(batch, KEY.public_key)
    assert encode_event_batch(batch).decode() == BLOCKS["batch"]


@pytest.mark.parametrize("name", BODIES)
def test_every_body_on_the_page_is_one(name: str) -> None:
    """By the schema of the document, which is the codec's."""
    schema = {**DOCUMENT, "$ref": f"#/components/schemas/{name}"}
    validator = jsonschema_rs.validator_for(schema)
    assert list(map(str, validator.iter_errors(orjson.loads(BLOCKS[name])))) == []


def test_the_manifest_on_the_page_is_canonical() -> None:
    """As CI would have written it."""
    body = BLOCKS["RolloutManifest"].encode()
    assert encode_manifest(decode_manifest(body)) == body


def test_every_call_is_on_the_page() -> None:
    """Each path, or the end of it behind the one before."""
    for call in ALL_CALLS:
        *_, last = call.path.split("/")
        ending = last if last.startswith("{") else f"/{last}"
        assert ending.replace("rollout_id", "id") in TEXT, call.path


def test_the_limits_on_the_page_are_the_defaults() -> None:
    """Whoever changes one finds the other."""
    limits = Limits()
    for said in (
        f"{limits.header_bytes_max // 1024} KiB, in {limits.header_seconds_max:g} s",
        f"{limits.body_bytes_max // 2**20} MiB, in {limits.body_seconds_max:g} s",
        f"idle connection | {limits.keep_alive_seconds} s",
        f"does not read | {limits.answer_seconds_max:g} s",
        f"{limits.pollers_per_host_max} of a host, {limits.pollers_max:,} of all",
        f"| {limits.connections_max:,} |",
    ):
        assert said in TEXT, said


async def test_the_client_on_the_page_takes_work_from_a_real_control_plane(site: Site) -> None:
    """It is told what to do, and what it says is durable."""
    rollout_id = await site.publish()
    of_page: dict[str, Any] = {}
    exec(compile(BLOCKS["client"], str(PAGE), "exec"), of_page)
    client = of_page["Client"]("127.0.0.1", site.port, "web-01", KEY_SEED)
    take_dispatch = partial(of_page["take_dispatch"], client, "old")
    dispatch = await anyio.to_thread.run_sync(take_dispatch)
    assert dispatch["target_closure"] == "r1-web-01"
    (record, *_) = (await site.service.host_records()).records
    assert (record.rollout_id, record.state.value) == (rollout_id, "Activating")
    assert record.dispatch_acked_at is not None
    assert record.dispatch_acked_at <= CLOCK.now()
