"""A manifest answers for the hosts it names."""

import pytest
from attrs import evolve

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


def test_a_host_soaks_as_long_as_was_signed_for_its_wave() -> None:
    """The soak is that of the wave in the host's own assignment."""
    hosts = (HostAssignment("web-01", "red"), HostAssignment("web-02", "red", wave_index=1))
    manifest = evolve(_manifest("stable", *hosts), wave_soak_minutes=(10, 30))

    assert manifest.soak_minutes_of("web-01") == 10
    assert manifest.soak_minutes_of("web-02") == 30


@pytest.mark.parametrize("signed", [(), (10,)])
def test_a_host_of_a_wave_without_a_signed_soak_has_none(signed: tuple[int, ...]) -> None:
    """A manifest that signs fewer soaks than waves leaves the others to the fleet."""
    manifest = _manifest("stable", HostAssignment("web-02", "red", wave_index=1))

    assert evolve(manifest, wave_soak_minutes=signed).soak_minutes_of("web-02") is None


def test_a_host_that_is_not_named_has_no_signed_soak() -> None:
    """A soak is signed for the hosts of the manifest alone."""
    manifest = evolve(_manifest("stable", HostAssignment("web-01", "red")), wave_soak_minutes=(10,))

    assert manifest.soak_minutes_of("db-01") is None


def test_the_rollout_id_is_made_of_what_was_signed() -> None:
    """Channel and ref make the id; there is no third field that could say something else."""
    assert _manifest().rollout_id == "stable@a1b2"


def test_a_manifest_of_no_proper_channel_has_no_rollout_id() -> None:
    """A channel's name that cannot be one is told when the id is asked for."""
    with pytest.raises(InvalidRolloutId):
        assert _manifest("Stable!").rollout_id
