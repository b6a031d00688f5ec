"""Manifests on disk: whole or not there, whatever the rollout is called, and believed by nobody."""

import logging
from datetime import timedelta
from pathlib import Path

import pytest

from nixfleet_agent.network.manifest_cache import (
    DirectoryManifestCache,
    ManifestCache,
    NoManifestCache,
)
from nixfleet_agent.workers.manifests import ManifestSource
from nixfleet_proto.codec import encode_manifest
from nixfleet_proto.fleet import Meta
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import HostAssignment, RolloutManifest
from nixfleet_proto.signing import BadSignature, SigningKey, sign_artefact
from nixfleet_proto.trust import KeySlot, TrustRoot
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch, SignedArtefact
from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_runtime.transport import EventsOutcome, Heartbeat, HeartbeatReply, TransportFailed
from tests.agent.lone_agent import KEY, T0

R1 = RolloutId("stable@r1")
TRUST = TrustRoot(KeySlot(KEY.public_key))


@pytest.fixture
def cache(tmp_path: Path) -> DirectoryManifestCache:
    return DirectoryManifestCache(tmp_path / "manifests")


def signed(channel_ref: str = "r1", key: SigningKey = KEY) -> SignedArtefact:
    manifest = RolloutManifest(
        channel="stable",
        channel_ref=channel_ref,
        display_name="a rollout",
        fleet_resolved_hash="0" * 64,
        host_set=(HostAssignment("web-01", "new"),),
        meta=Meta(T0),
    )
    return sign_artefact(encode_manifest(manifest), key)


class FakeControlPlane:
    """Has one manifest, or is away. A `Transport`."""

    def __init__(self, artefact: SignedArtefact | None = None) -> None:
        self.artefact = artefact
        self.is_away = False

    async def fetch_manifest(self, rollout_id: str) -> SignedArtefact | None:
        if self.is_away:
            raise TransportFailed("nobody there")
        return self.artefact

    async def post_events(self, envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        raise TransportFailed("not asked here")

    async def next_dispatch(self, wait_seconds: float) -> Dispatch | None:
        raise TransportFailed("not asked here")

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        raise TransportFailed("not asked here")


class Library:
    """A source of manifests, with what it is made of."""

    def __init__(self, cache: ManifestCache) -> None:
        self.control_plane = FakeControlPlane(signed())
        self.clock = FakeClock(T0)
        self.source = ManifestSource(self.control_plane, cache, TRUST, self.clock, 60)


@pytest.fixture
def library(cache: DirectoryManifestCache) -> Library:
    return Library(cache)


# The files.


@pytest.mark.parametrize("ref", ["r1", "../../etc/passwd", "a/b", ".", "x" * 4000, "\0", "\udc80"])
def test_any_rollout_id_is_kept_in_one_file_inside_the_directory(
    ref: str, cache: DirectoryManifestCache
) -> None:
    """What a channel points at is no file name: slashes, dots and length lead nowhere else."""
    artefact = SignedArtefact(b"{}", b"s" * 64)
    cache.put(f"stable@{ref}", artefact)
    assert cache.get(f"stable@{ref}") == artefact
    assert [path.parent for path in cache.directory.rglob("*")] == [cache.directory]


def test_a_rollout_that_was_never_kept_is_absent(cache: DirectoryManifestCache) -> None:
    """There is neither a file nor a directory yet, and that is no trouble."""
    assert cache.get(R1) is None
    cache.keep_only([])


def test_the_latest_manifest_of_a_rollout_is_kept(cache: DirectoryManifestCache) -> None:
    """A manifest that was signed again takes the place of the older one."""
    cache.put(R1, SignedArtefact(b"older", b"s" * 64))
    cache.put(R1, SignedArtefact(b"newer", b"t" * 64))
    assert cache.get(R1) == SignedArtefact(b"newer", b"t" * 64)
    assert len(list(cache.directory.iterdir())) == 1


def test_a_file_that_is_cut_off_is_absent_and_named(
    cache: DirectoryManifestCache, caplog: pytest.LogCaptureFixture
) -> None:
    """What is too short to be a signature and a body is no manifest; the log says which file."""
    cache.put(R1, signed())
    path = cache.path_of(R1)
    path.write_bytes(path.read_bytes()[:64])
    assert cache.get(R1) is None
    assert str(path) in caplog.text


def test_what_cannot_be_read_is_absent_and_named(
    cache: DirectoryManifestCache, caplog: pytest.LogCaptureFixture
) -> None:
    """A directory in the file's place is said, and not raised."""
    cache.path_of(R1).mkdir(parents=True)
    assert cache.get(R1) is None
    cache.put(R1, signed())
    assert caplog.text.count("stable@r1") == 2


def test_only_the_rollouts_that_are_named_stay(cache: DirectoryManifestCache) -> None:
    """The others go, and so does what a crash left half-written; strangers' files are left alone."""
    for ref in ("r1", "r2"):
        cache.put(f"stable@{ref}", SignedArtefact(b"{}", b"s" * 64))
    half_written = cache.directory / f".{cache.path_of('stable@r3').name}.x"
    half_written.write_bytes(b"half")
    (cache.directory / "README").write_text("not ours")
    cache.keep_only(["stable@r2"])
    assert {path.name for path in cache.directory.iterdir()} == {
        cache.path_of("stable@r2").name,
        "README",
    }


# Their use.


@pytest.mark.anyio
async def test_a_kept_manifest_serves_while_the_control_plane_is_away(library: Library) -> None:
    """What was fetched once is there when nobody answers."""
    fetched = await library.source.verified(R1)
    library.control_plane.is_away = True
    assert await library.source.verified(R1) == fetched


@pytest.mark.anyio
async def test_a_control_plane_without_the_manifest_is_as_good_as_none(library: Library) -> None:
    """One that has just lost its database has nothing to hand out yet."""
    fetched = await library.source.verified(R1)
    library.control_plane.artefact = None
    assert await library.source.verified(R1) == fetched


@pytest.mark.anyio
@pytest.mark.parametrize("position", [0, 63, 64, 100, -1])
async def test_a_kept_manifest_that_was_altered_is_absent_and_named(
    position: int,
    library: Library,
    cache: DirectoryManifestCache,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One bit anywhere in the file is enough: it is verified at every use."""
    await library.source.verified(R1)
    path = cache.path_of(R1)
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    library.control_plane.is_away = True
    with pytest.raises(TransportFailed, match="nobody there"):
        await library.source.verified(R1)
    assert "the manifest of stable@r1 that was kept is not used" in caplog.text


@pytest.mark.anyio
async def test_a_kept_manifest_that_has_become_stale_is_absent_and_named(
    library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    """Freshness is asked of every use, not of the first."""
    await library.source.verified(R1)
    library.control_plane.is_away = True
    library.clock.advance(timedelta(minutes=62).total_seconds())
    with pytest.raises(TransportFailed):
        await library.source.verified(R1)
    assert "2026-05-16T01:00:00Z" in caplog.text


@pytest.mark.anyio
async def test_the_kept_manifest_of_another_rollout_is_not_taken(
    library: Library, cache: DirectoryManifestCache
) -> None:
    """A good signature over another rollout is no answer."""
    cache.put(R1, signed("r2"))
    library.control_plane.is_away = True
    with pytest.raises(TransportFailed):
        await library.source.verified(R1)


@pytest.mark.anyio
async def test_a_fetched_manifest_that_does_not_verify_is_refused_and_not_kept(
    library: Library, cache: DirectoryManifestCache
) -> None:
    """That a good one is kept does not hide that a bad one was handed out."""
    await library.source.verified(R1)
    library.control_plane.artefact = signed(key=SigningKey.generate())
    with pytest.raises(BadSignature):
        await library.source.verified(R1)
    assert cache.get(R1) == signed()


@pytest.mark.anyio
async def test_an_agent_without_a_cache_depends_on_its_control_plane() -> None:
    """Without a cache, what was fetched is forgotten."""
    library = Library(NoManifestCache())
    await library.source.verified(R1)
    library.control_plane.is_away = True
    with pytest.raises(TransportFailed):
        await library.source.verified(R1)


@pytest.mark.anyio
async def test_a_cache_that_cannot_be_written_costs_nothing_but_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The manifest is there all the same, and the log says what could not be kept."""
    (tmp_path / "file").touch()
    library = Library(DirectoryManifestCache(tmp_path / "file" / "below"))
    with caplog.at_level(logging.WARNING):
        assert (await library.source.verified(R1)).value.rollout_id == R1
    assert "cannot be kept" in caplog.text
