"""A rollout id always has its shape, and is a plain string to everyone else."""

import json
import pickle

import pytest

from nixfleet_proto.ids import InvalidRolloutId, RolloutId, is_channel_name


def test_an_id_of_a_channel_and_a_ref_joins_them() -> None:
    """The id is the channel, an @, and what the channel pointed at."""
    assert RolloutId.of("stable", "a1b2") == "stable@a1b2"


def test_an_id_from_text_knows_its_parts() -> None:
    """Channel and ref can be read back from the id."""
    rollout_id = RolloutId("edge-eu_2@refs/tags/v1.0")

    assert (rollout_id.channel, rollout_id.channel_ref) == ("edge-eu_2", "refs/tags/v1.0")


def test_an_id_is_a_plain_string_to_json_and_dicts() -> None:
    """An id serialises as text and is found under its text."""
    rollout_id = RolloutId("stable@a1b2")

    assert json.dumps(rollout_id) == '"stable@a1b2"'
    assert {"stable@a1b2": 1}[rollout_id] == 1


def test_an_id_survives_pickling_as_an_id() -> None:
    """A pickled id comes back with its type."""
    back: object = pickle.loads(pickle.dumps(RolloutId("stable@a1b2")))

    assert type(back) is RolloutId
    assert back == "stable@a1b2"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("stable", "expected '{channel}@{channel_ref}', found no '@'"),
        ("", "expected '{channel}@{channel_ref}', found no '@'"),
        ("@a1b2", "channel '' does not match [a-z0-9_-]+"),
        ("Stable@a1b2", "channel 'Stable' does not match [a-z0-9_-]+"),
        ("sta ble@a1b2", "channel 'sta ble' does not match [a-z0-9_-]+"),
        ("stable\n@a1b2", "channel 'stable\\n' does not match [a-z0-9_-]+"),
        ("stable@", "channel ref '' must not be empty or contain '@'"),
        ("stable@a1@b2", "channel ref 'a1@b2' must not be empty or contain '@'"),
    ],
)
def test_text_without_the_shape_is_refused(text: str, problem: str) -> None:
    """What is no rollout id is refused with the text and what is wrong with it."""
    with pytest.raises(InvalidRolloutId) as refusal:
        RolloutId(text)

    assert (refusal.value.text, refusal.value.problem) == (text, problem)
    assert str(refusal.value) == f"{text!r} is not a rollout id: {problem}"


def test_a_channel_with_an_at_sign_is_refused() -> None:
    """Joined, such parts would read back as others; so they are refused before."""
    with pytest.raises(InvalidRolloutId) as refusal:
        RolloutId.of("sta@ble", "a1b2")

    assert refusal.value.problem == "channel 'sta@ble' does not match [a-z0-9_-]+"


@pytest.mark.parametrize(
    ("text", "may"),
    [("stable", True), ("edge-eu_2", True), ("", False), ("Stable", False), ("a@b", False)],
)
def test_a_channel_name_is_lower_case_digits_dashes_and_underscores(text: str, may: bool) -> None:
    """The shape of a channel's name can be asked for by itself."""
    assert is_channel_name(text) is may
