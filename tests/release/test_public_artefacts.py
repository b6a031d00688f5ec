"""Artefacts as the public project's tools write them: nulls for what is absent, fields we do not know, any order.

They are signed over the canonical form of what was received, and are believed, compared and handed on as they came.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nixfleet_proto.signing import SigningKey, artefact_hash, canonical_form
from nixfleet_proto.trust import KeySlot, TrustRoot
from nixfleet_release import load_release
from nixfleet_release.publish.changes import ReleaseContent, changes
from nixfleet_release.sign.verify import verify_release

CI = SigningKey(b"\1" * 32)
TRUST = TrustRoot(KeySlot(CI.public_key))
NOW = datetime(2026, 5, 16, 1, 30, tzinfo=UTC)
META = {
    "signedAt": "2026-05-16T01:00:00Z",
    "ciCommit": None,
    "schemaVersion": 1,
    "signatureAlgorithm": "ed25519",
    "builder": "ci-7",
}
CLOSURE = f"{'0a' * 16}-nixos-system-web-01-25.11"
FLEET = {
    "schemaVersion": 1,
    "meta": META,
    "hosts": {
        "web-02": {
            "system": "x86_64-linux",
            "platform": "x86_64-linux",
            "tags": ["web", "eu", "canary"],
            "channel": "stable",
            "closureHash": None,
            "pubkey": None,
        },
        "web-01": {
            "platform": "x86_64-linux",
            "tags": [],
            "channel": "stable",
            "closureHash": CLOSURE,
            "pubkey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c x",
        },
    },
    "channels": {
        "stable": {
            "rolloutPolicy": "canary",
            "reconcileIntervalMinutes": 5,
            "freshnessWindow": 180,
            "signingIntervalMinutes": 60,
            "compliance": {"frameworks": ["nis2"], "strict": True},
        }
    },
    "rolloutPolicies": {
        "canary": {
            "strategy": "canary",
            "onHealthFailure": "rollback-and-halt",
            "healthGate": {"systemdFailedUnits": {"max": 0}},
            "waves": [
                {
                    "selector": {
                        "tags": [],
                        "tagsAny": [],
                        "hosts": ["web-01"],
                        "channel": None,
                        "all": False,
                    },
                    "soakMinutes": 5,
                }
            ],
        }
    },
    "waves": {"stable": [{"soakMinutes": 5, "hosts": ["web-01"]}]},
    "edges": [{"before": "web-01", "after": "web-02", "reason": None}],
    "channelEdges": [],
    "disruptionBudgets": [],
}


def manifest_of(fleet: bytes) -> dict[str, object]:
    return {
        "displayName": "stable@a1b2",
        "channel": "stable",
        "channelRef": "a1b2",
        "fleetResolvedHash": artefact_hash(fleet),
        "hostSet": [{"waveIndex": 0, "targetClosure": CLOSURE, "hostname": "web-01"}],
        "meta": META,
        "schemaVersion": 1,
        "rolloutPolicy": FLEET["rolloutPolicies"]["canary"],  # type: ignore[index]
        "disruptionBudgets": [],
        "complianceFrameworks": [],
    }


def put(file: Path, content: object) -> bytes:
    """Write an artefact as a tool that knows nothing of canonical form writes it, and sign that form."""
    body = json.dumps(content, indent=2).encode() + b"\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(body)
    file.with_name(file.name + ".sig").write_bytes(CI.sign(canonical_form(body)))
    return body


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    fleet = put(tmp_path / "releases/fleet.resolved.json", FLEET)
    put(tmp_path / "releases/rollouts/stable@a1b2.json", manifest_of(fleet))
    put(
        tmp_path / "releases/revocations.json",
        {
            "meta": META,
            "schemaVersion": 1,
            "revocations": [
                {
                    "reason": None,
                    "notBefore": "2026-05-16T00:00:00+00:00",
                    "hostname": "web-09",
                    "by": "x",
                }
            ],
        },
    )
    return tmp_path / "releases"


def test_public_artefacts_are_believed_as_they_came(directory: Path) -> None:
    """Signatures, anchors and names hold, with unknown fields counted in, and the bytes stay those received."""
    release = load_release(directory)
    verdict = verify_release(release, TRUST, NOW, freshness_window_minutes=180)

    assert verdict.refused == ()
    assert [it.name for it in verdict.accepted] == [
        "fleet.resolved.json",
        "rollouts/stable@a1b2.json",
        "revocations.json",
    ]
    assert release.fleet.body == (directory / "fleet.resolved.json").read_bytes()
    assert release.nonces is None


def test_an_unknown_field_is_signed_like_any_other(directory: Path) -> None:
    """What this release does not understand cannot be changed either."""
    file = directory / "fleet.resolved.json"
    file.write_bytes(file.read_bytes().replace(b"ci-7", b"ci-8"))

    verdict = verify_release(load_release(directory), TRUST, NOW, freshness_window_minutes=180)

    assert [it.name for it in verdict.refused] == ["fleet.resolved.json"]


def test_another_order_of_names_is_the_same_artefact(directory: Path) -> None:
    """Names in another order have the same canonical form; the old signature stands."""
    file = directory / "fleet.resolved.json"
    file.write_bytes(json.dumps(json.loads(file.read_bytes()), sort_keys=True).encode())

    verdict = verify_release(load_release(directory), TRUST, NOW, freshness_window_minutes=180)

    assert verdict.refused == ()


def test_public_artefacts_can_be_compared(directory: Path) -> None:
    """Old names of an edge, hosts without closures and lists in any order are understood."""
    said = ReleaseContent.by(load_release(directory))

    assert changes(said, said, lambda _: None) == ()
    assert said.fleet.edges[0].gates == "web-01"
    assert said.revocations["web-09"].not_before == NOW - timedelta(minutes=90)
