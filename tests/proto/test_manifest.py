"""A manifest answers for the hosts it names."""

import pytest

from nixfleet_proto.fleet import Meta
from nixfleet_proto.ids import InvalidRolloutId
from nixfleet_proto.manifest import HostAssignment, RolloutManifest


def _manifest(channel: str = "stable", *hosts: HostAssignment) -> RolloutManifest:
    return RolloutManifest(channel, "a1b2", "release 1", "ab" * 32, hosts, Meta(signed_at=None))


def test_a_host_that_is_named_has_a_target() -> None:
    """Each host has the closure of its own assignment."""
    manifest = _manifest(
        "stable", HostAssignment("web-01", "red"), HostAssignment("web-02", "green", wave_index=1)
    )

    assert manifest.target_of("web-01") == "red"
    assert manifest.target_of("web-02") == "green"


def test_a_host_that_is_not_named_has_no_target() -> None:
    """What a manifest does not name, it does not touch."""
    assert _manifest("stable", HostAssignment("web-01", "red")).target_of("db-01") is None


def test_the_rollout_id_is_made_of_what_was_signed() -> None:
    """Channel and ref make the id; there is no third field that could say something else."""
    assert _manifest().rollout_id == "stable@a1b2"


def test_a_manifest_of_no_proper_channel_has_no_rollout_id() -> None:
    """A channel's name that cannot be one is told when the id is asked for."""
    with pytest.raises(InvalidRolloutId):
        assert _manifest("Stable!").rollout_id
