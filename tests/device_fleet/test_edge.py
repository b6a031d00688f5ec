"""The edge of the device fleet: which entries become facts, who may join, and what is refused."""

import json
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from examples.device_fleet.buckets import Entry
from examples.device_fleet.demonstration.token_identities import Expected, TokenIdentities
from examples.device_fleet.edge import decode_heartbeat, decode_state
from examples.device_fleet.model import (
    DeploymentName,
    DeviceId,
    HeartbeatReceived,
    Pair,
    Phase,
    StateObserved,
)
from examples.device_fleet.ports import EnrollmentIntent, EnrollmentRefused
from nixfleet import FrozenMap

AT = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
TILL = DeviceId("till-01")


def state(error: str) -> bytes:
    return json.dumps({"phase": "failed", "generation": 2, "error": error}).encode()


def test_a_state_becomes_a_fact_with_the_revision_of_its_entry() -> None:
    """Who it is of comes from the key, which NATS lets only that device write."""
    entry = Entry("state.till-01.app", state("exit status 1"), 7, AT)
    pair = Pair(TILL, DeploymentName("app"))
    assert decode_state(entry) == StateObserved(pair, Phase.FAILED, 2, 7, "exit status 1")


def test_a_state_longer_than_1024_bytes_is_refused() -> None:
    """One byte decides."""
    longest = state("x" * (1024 - len(state(""))))
    assert len(decode_state(Entry("state.till-01.app", longest, 1, AT)).error) > 900
    with pytest.raises(ValueError, match="at most 1024 bytes, found 1025"):
        decode_state(Entry("state.till-01.app", longest + b" ", 1, AT))


def test_a_heartbeat_of_96_bytes_is_refused() -> None:
    """A device cannot fill the bucket that everyone writes most often."""
    assert decode_heartbeat(Entry("till-01", b"x" * 95, 1, AT)) == HeartbeatReceived(TILL, AT)
    with pytest.raises(ValueError, match="at most 95 bytes, found 96"):
        decode_heartbeat(Entry("till-01", b"x" * 96, 1, AT))


@pytest.mark.parametrize("device", ["", "a.b", "a*", ">", "A", "-a", "a-", "a\n", "é", "a" * 64])
def test_a_name_that_cannot_be_a_part_of_a_key_is_refused(device: str) -> None:
    """A name with a dot would be two parts, and a wildcard would be everyone."""
    with pytest.raises(ValueError, match="expected a name"):
        decode_heartbeat(Entry(device, b"", 1, AT))


def identities() -> TokenIdentities:
    labels = FrozenMap({"kind": "till"})
    return TokenIdentities({TILL: Expected(sha256(b"secret").digest(), labels)})


@pytest.mark.anyio
async def test_an_intent_with_the_right_token_becomes_a_credential() -> None:
    """The labels are the owner's, and the key is good for the subjects of that device alone."""
    credential = await identities().resolve(EnrollmentIntent("till-01", "its key", "secret"))
    assert (credential.device, credential.public_key) == (TILL, "its key")
    assert credential.labels == {"kind": "till"}
    assert all(".till-01" in subject for subject in credential.subjects)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "intent",
    [
        EnrollmentIntent("till-01", "its key", "guess"),
        EnrollmentIntent("till-02", "its key", "secret"),
        EnrollmentIntent("till-01", "its key", "\ud800"),
    ],
)
async def test_an_intent_without_a_good_token_is_refused(intent: EnrollmentIntent) -> None:
    """A wrong token and an unknown device get the same answer, which does not repeat the token."""
    with pytest.raises(EnrollmentRefused, match="expected the token that was made for it") as error:
        await identities().resolve(intent)
    assert error.value.device == intent.device
    assert intent.token not in str(error.value)


@pytest.mark.anyio
async def test_a_token_is_good_for_one_key() -> None:
    """A device whose answer was lost asks again; another one with its token is refused."""
    provider = identities()
    first = await provider.resolve(EnrollmentIntent("till-01", "its key", "secret"))
    assert await provider.resolve(EnrollmentIntent("till-01", "its key", "secret")) == first
    with pytest.raises(EnrollmentRefused, match="expected the key that joined with this token"):
        await provider.resolve(EnrollmentIntent("till-01", "another key", "secret"))
