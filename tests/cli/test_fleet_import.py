"""`nixfleet fleet import`: a resolved fleet from elsewhere, as it is or with every problem."""

import json
from pathlib import Path

import pytest

from nixfleet_proto.codec import canonical_bytes
from nixfleet_proto.json_value import JsonValue
from tests.cli.conftest import Invoke

FLEET: JsonValue = {
    "schemaVersion": 1,
    "hosts": {
        "a": {
            "channel": "stable",
            "tags": [],
            "platform": "x86_64-linux",
            "closureHash": None,
            "pubkey": None,
        }
    },
    "channels": {
        "stable": {
            "rolloutPolicy": "all",
            "reconcileIntervalMinutes": 5,
            "freshnessWindow": 180,
            "signingIntervalMinutes": 60,
        }
    },
    "rolloutPolicies": {
        "all": {
            "strategy": "all-at-once",
            "waves": [],
            "healthGate": {},
            "onHealthFailure": "halt",
            "later": True,
        }
    },
    "waves": {"stable": [{"hosts": ["a"], "soakMinutes": 0}]},
    "edges": [],
    "channelEdges": [],
    "disruptionBudgets": [],
    "meta": {
        "schemaVersion": 1,
        "signedAt": None,
        "ciCommit": None,
        "signatureAlgorithm": "ed25519",
    },
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "fleet.resolved.json"
    file.write_text(json.dumps(FLEET, indent=2))
    return file


def test_the_canonical_bytes_are_given(nixfleet: Invoke, file: Path) -> None:
    """All that was read is in them; what is unknown is told beside."""
    done = nixfleet("fleet", "import", file)

    assert done.exit_code == 0, done.output
    assert done.stdout_bytes == canonical_bytes(FLEET)
    assert done.stderr == "warning: $.rolloutPolicies.all.later: unknown field, kept\n"


def test_the_canonical_bytes_are_written_to_a_file(nixfleet: Invoke, file: Path) -> None:
    """With an output file, nothing else is said."""
    out = file.with_name("out.json")

    assert nixfleet("fleet", "import", file, "-o", out).stdout == ""
    assert out.read_bytes() == canonical_bytes(FLEET)


def test_every_problem_is_told_and_nothing_written(nixfleet: Invoke, file: Path) -> None:
    """Problems come with the paths of the JSON."""
    file.write_text(file.read_text().replace('"all"', '"al"', 1).replace('"a"\n', '"b"\n'))
    out = file.with_name("out.json")

    done = nixfleet("fleet", "import", file, "-o", out)

    assert (done.exit_code, done.stdout) == (1, "")
    assert "$.channels.stable.rolloutPolicy: no such policy" in done.stderr
    assert "$.waves.stable[0].hosts[0]: no such host" in done.stderr
    assert not out.exists()


def test_a_file_that_cannot_be_written_is_told(nixfleet: Invoke, file: Path) -> None:
    """The fleet is in order; that the bytes could not be kept is another exit code."""
    done = nixfleet("fleet", "import", file, "-o", file / "below" / "out.json")

    assert done.exit_code == 2
