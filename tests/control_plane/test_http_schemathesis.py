"""What the OpenAPI document promises, asked of a running server by a tool that knows the document alone.

Every call, with bodies, names and queries as the document has them and otherwise; without a signature, and signed by
who may make the call. SCHEMATHESIS_EXAMPLES says how many of each.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import anyio.from_thread
import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from requests import PreparedRequest
from requests.auth import AuthBase
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation

from nixfleet_control_plane.http.app import ALL_CALLS
from nixfleet_control_plane.http.calls import Call, Caller
from nixfleet_control_plane.http.openapi import openapi_document
from nixfleet_control_plane.http.query import AFTER, FEED_WAIT, WAIT, place_text
from nixfleet_proto.codec import (
    DecodeError,
    decode_envelope,
    decode_event_batch,
    encode_envelope,
    encode_event_batch,
)
from nixfleet_proto.signing import SigningKey, sign_batch, sign_envelope
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.signing.key_id import host_key_id, operator_key_id
from nixfleet_runtime.http.signing.requests import new_nonce, sign_request
from tests.support.served_control_plane import CLOCK, KEY, OPERATOR_KEY, Site, site_with

CONSISTENT_WARRANT = {
    "kind": "nixfleet-warrant",
    "orderId": "0" * 32,
    "operator": "ada",
    "reason": "it eats disks",
    "issuedAt": "2026-05-16T01:00:00Z",
    "expiresAt": "2026-05-16T02:00:00Z",
    "hosts": ["web-01"],
}
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "5"))
SECONDS_MAX = 10
DOCUMENT = orjson.loads(openapi_document(ALL_CALLS))
CONFIG = {
    "checks": {
        # As it thinks by itself, and 408, 413, 426 and 431, which are refusals too.
        "negative_data_rejection": {
            "expected-statuses": [
                400,
                401,
                403,
                404,
                405,
                408,
                409,
                413,
                415,
                422,
                426,
                429,
                431,
                503,
            ]
        },
    }
}


def operations(*, are_signed: bool) -> dict[str, APIOperation[Any, Any, Any, Any]]:
    """Every operation by its name. Signed ones have their signature added, which the tool need not spoil."""
    document = orjson.loads(orjson.dumps(DOCUMENT))
    for operation in [each for path in document["paths"].values() for each in path.values()]:
        if are_signed:
            operation["security"] = []
    schema = schemathesis.openapi.from_dict(document, config=schemathesis.Config.from_dict(CONFIG))
    found = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    assert len(found) == len(ALL_CALLS), "the tool cannot read some of the document"
    return {operation.definition.raw["operationId"]: operation for operation in found}


OPERATIONS = {are_signed: operations(are_signed=are_signed) for are_signed in (False, True)}


class Signs(AuthBase):
    """Signs a request as it goes out: its path, query and body are what they will be."""

    def __init__(self, key_id: str, key: SigningKey) -> None:
        self._key_id = key_id
        self._key = key

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        body = r.body or b""
        data = body.encode() if isinstance(body, str) else body
        assert isinstance(data, bytes)
        assert r.method is not None
        r.headers.update(
            sign_request(
                self._key, self._key_id, r.method, r.path_url, data, CLOCK.now(), new_nonce()
            )
        )
        return r


def signer_of(call: Call[Any]) -> AuthBase | None:
    match call.caller:
        case Caller.HOST | Caller.ENROLLING_HOST:
            return Signs(host_key_id("web-01"), KEY)
        case Caller.READER | Caller.OPERATOR:
            return Signs(operator_key_id("alice"), OPERATOR_KEY)
        case Caller.ANYBODY:
            return None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(site_with(tmp_path_factory.mktemp("site"))) as made,
    ):
        portal.call(made.publish)
        yield made


def ways() -> Iterator[Any]:
    """Every call in every way in which there is something to say about it."""
    for call in ALL_CALLS:
        is_open = call.caller is Caller.ANYBODY
        for mode in [GenerationMode.POSITIVE] if is_open else GenerationMode:
            for is_signed in (False,) if is_open else (False, True):
                words = (call.name, mode.value, "signed" if is_signed else "unsigned")
                yield pytest.param(call, mode, is_signed, id="-".join(words))


@pytest.mark.parametrize(("call", "mode", "is_signed"), list(ways()))
def test_a_call_does_what_the_document_says(
    call: Call[Any], mode: GenerationMode, is_signed: bool, site: Site
) -> None:
    """No answer that is not described, no 500, and what is not as described is refused."""
    cases = OPERATIONS[is_signed][call.name].as_strategy(generation_mode=mode)
    auth = signer_of(call) if is_signed else None

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def ask(case: schemathesis.Case[Any]) -> None:
        if mode is GenerationMode.POSITIVE:
            # What makes the answer late, and what only a page can have handed out.
            if WAIT in call.query or FEED_WAIT in call.query:
                case.query["wait"] = 0
            if AFTER in call.query:
                case.query["after"] = place_text("stable@r1", "web-01")
            body = signed_events(call.path, with_integers(case.body))
            case.body = consistent(body) if call.name == "relay_warrant" else body
        case.call_and_validate(base_url=site.url, auth=auth, timeout=SECONDS_MAX)

    ask()


def consistent(body: Any) -> Any:
    """The fields of a warrant depend on each other, which the document cannot say."""
    return {**body, "warrant": {**body["warrant"], **CONSISTENT_WARRANT}}


def with_integers(body: Any) -> Any:
    """JSON Schema takes 1.0 for an integer, and the codec takes it for what it is written as."""
    match body:
        case float() if body.is_integer():
            return int(body)
        case dict():
            return {name: with_integers(value) for name, value in body.items()}
        case list():
            return [with_integers(value) for value in body]
        case _:
            return body


def signed_events(path: str, body: Any) -> Any:
    """Events as this host says and signs them, so that more than their signature is looked at."""
    try:
        match path:
            case paths.AGENT_EVENTS:
                envelope = decode_envelope(json.dumps({**body, "hostname": "web-01"}).encode())
                return orjson.loads(encode_envelope(sign_envelope(envelope, KEY)))
            case paths.AGENT_EVENT_BATCHES:
                # What a schema cannot say: one host, one rollout, numbers that rise, and one signature.
                said = {"hostname": "web-01", "signature": None}
                said["rolloutId"] = body["events"][0]["rolloutId"]
                events = [
                    {**event, **said, "event": {**event["event"], "seq": seq}}
                    for seq, event in enumerate(body["events"], start=1)
                ]
                batch = decode_event_batch(json.dumps({"events": events}).encode())
                return orjson.loads(encode_event_batch(sign_batch(batch, KEY)))
            case paths.AGENT_HEARTBEAT:
                return {**body, "hostname": "web-01"}
            case _:
                return body
    except DecodeError:
        return body
