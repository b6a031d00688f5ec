"""No text and no list of any request has the length that its sender chooses."""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import orjson
import pytest

from nixfleet_control_plane.http.app import ALL_CALLS
from nixfleet_proto.codec import DecodeError
from nixfleet_proto.codec.wire import receive_envelope, receive_event_batch
from nixfleet_runtime.http.plans import PLAN_BODY, require_artefacts
from tests.engines.releases import START, Layout, Publisher

TIME = "2026-05-16T01:00:00Z"
LATER = "2026-05-16T02:00:00Z"
RESULT = {
    "kind": "ProbeResult",
    "probeName": "alive",
    "mode": "enforce",
    "status": "fail",
    "observedAt": TIME,
    "failureReason": "503",
    "subResults": [
        {
            "controlId": "c1",
            "status": "fail",
            "framework": "iso",
            "article": "a1",
            "effectiveMode": "enforce",
            "overrideReason": "no",
        }
    ],
    "seq": 1,
}
ENVELOPE = {"hostname": "web-01", "rolloutId": "stable@r1", "event": RESULT, "signature": "00"}
REASON = {"reason": "maintenance"}
RELEASE = Publisher().release(Layout(), "r1", START)
BODIES: dict[str, dict[str, Any]] = {
    "post_event": ENVELOPE,
    "post_event_batch": {"events": [{**ENVELOPE, "signature": None}], "signature": "00"},
    "heartbeat": {
        "hostname": "web-01",
        "currentClosure": "old",
        "lastSeqs": {"stable@r1": 3},
        "refusals": [{"rolloutId": "stable@r1", "reason": "too old", "since": TIME}],
    },
    "enroll": {
        "token": {
            "token": {
                "hostname": "web-01",
                "expectedPubkeyFingerprint": "00",
                "issuedAt": TIME,
                "expiresAt": TIME,
                "nonce": "n1",
            },
            "signature": "00",
        },
        "publicKey": "00",
    },
    **dict.fromkeys(
        ("pause", "resume", "pause_channel", "resume_channel", "pause_host", "resume_host"), REASON
    ),
    "clear": {"reason": "seen", "excusedHosts": ["web-01"]},
    "excuse": {"hosts": ["web-01"], "reason": "scrap"},
    "skip": {"hosts": ["web-01"], "reason": "on leave"},
    "retry": {"reason": "repaired", "hosts": ["web-01"]},
    "approve": {
        "approval": {
            "rolloutId": "stable@r1",
            "wave": 1,
            "manifestHash": "00",
            "operator": "ada",
            "decision": "approve",
            "reason": "looks good",
            "signedAt": TIME,
        },
        "signature": "00",
    },
    "retire_quarantine": {"closure": "old", "reason": "repaired"},
    "abort": REASON,
    "hold": {"scope": "stable", "reason": "sale", "until": TIME},
    "release": {"scope": "stable", "reason": "over", "holder": "ada"},
    "relay_warrant": {
        "warrant": {
            "orderId": "0" * 32,
            "rolloutId": "stable@r1",
            "rule": "prior",
            "operator": "ada",
            "reason": "it eats disks",
            "issuedAt": TIME,
            "expiresAt": LATER,
            "hosts": ["web-01"],
        },
        "signature": "00",
    },
    # The body of the command that is previewed is read by the command's own coder besides.
    "plan": {
        "fleet": RELEASE.fleet.artefact.decode(),
        "manifests": [it.artefact.decode() for it in RELEASE.manifests],
    },
    "preview": {"path": "/v1/rollouts/stable@r1/pause", "body": {}},
}
"""By call: a body with every field."""
FREE = ("kind", "mode", "status", "effectiveMode", "At", "since", "decision")
"""Ends of the names whose words or times are of a few forms."""
DECODED_BY: Mapping[str, Callable[[bytes], Any]] = {
    call.name: call.takes.decode for call in ALL_CALLS if call.takes is not None
} | {
    "post_event": receive_envelope,
    "post_event_batch": receive_event_batch,
    # Its texts are as long as the body may be, and have to be artefacts.
    "plan": lambda body: require_artefacts(PLAN_BODY.decode(body)),
}


def longer(body: Any, name: str = "") -> Iterator[Any]:
    """Yield `body` with each of its texts, names of entries and lists made too long, one at a time."""
    if isinstance(body, str) and not name.endswith(FREE):
        yield "x" * 50_000
    elif isinstance(body, list):
        yield body * 40_000
        for index, item in enumerate(body):
            for changed in longer(item):
                yield [*body[:index], changed, *body[index + 1 :]]
    elif isinstance(body, dict):
        for key, value in body.items():
            for changed in longer(value, key):
                yield {**body, key: changed}
        if name == "lastSeqs":
            yield {f"stable@r{number}": 1 for number in range(40_000)}
            yield {"stable@" + "x" * 50_000: 1}


def test_every_call_with_a_body_is_tried() -> None:
    """A new call needs a body here."""
    assert BODIES.keys() == DECODED_BY.keys()


@pytest.mark.parametrize("name", sorted(BODIES))
def test_no_text_of_a_request_is_longer_than_its_limit(name: str) -> None:
    """The body is read as it is, and refused with any one of its texts or lists too long, in few words."""
    decode = DECODED_BY[name]
    decode(orjson.dumps(BODIES[name]))
    for changed in longer(deepcopy(BODIES[name])):
        with pytest.raises(DecodeError) as refused:
            decode(orjson.dumps(changed))
        assert len(str(refused.value)) < 10_000
