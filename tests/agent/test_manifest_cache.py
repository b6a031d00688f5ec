"""Manifests on disk: atomic, for any rollout id, and verified at every use."""

import logging
import os
from datetime import timedelta
from pathlib import Path
from typing import assert_never

import pytest

from nixfleet_agent.network.manifest_cache import (
    DirectoryManifestCache,
    ManifestCache,
    NoManifestCache,
)
from nixfleet_agent.workers.manifests import ManifestSource
from nixfleet_agent.workers.steps import CacheManifest, FetchManifest, ReadCachedManifest
from nixfleet_proto.codec import encode_manifest
from nixfleet_proto.fleet import Meta
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import HostAssignment, RolloutManifest
from nixfleet_proto.signing import BadSignature, SigningKey, sign_artefact
from nixfleet_proto.trust import KeySlot, TrustRoot, Verified
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.transport import TransportFailed
from tests.agent.lone_agent import KEY, T0
from tests.agent.steps import carried_out

R1 = RolloutId("stable@r1")
TRUST = TrustRoot(KeySlot(KEY.public_key))


@pytest.fixture
def cache(tmp_path: Path) -> DirectoryManifestCache:
    return DirectoryManifestCache(tmp_path / "manifests")


def signed(
    channel_ref: str = "r1", key: SigningKey = KEY, hostname: str = "web-01"
) -> SignedArtefact:
    manifest = RolloutManifest(
        channel="stable",
        channel_ref=channel_ref,
        display_name="a rollout",
        fleet_resolved_hash="0" * 64,
        host_set=(HostAssignment(hostname, "new"),),
        meta=Meta(T0),
    )
    return sign_artefact(encode_manifest(manifest), key)


class Library:
    """A source of manifests, its cache, and a control plane that has one manifest or does not answer."""

    def __init__(self, cache: ManifestCache) -> None:
        self.cache = cache
        self.published: SignedArtefact | None = signed()
        self.is_away = False
        self.now = T0
        log = logging.getLogger(__name__)
        self.source = ManifestSource("web-01", lambda: TRUST, lambda: self.now, 60, log)

    def verified(self, rollout_id: RolloutId) -> Verified[RolloutManifest]:
        return carried_out(self.source.verified(rollout_id), self._answer)

    def _answer(self, step: FetchManifest | ReadCachedManifest | CacheManifest) -> object:
        match step:
            case FetchManifest():
                if self.is_away:
                    raise TransportFailed("no answer")
                return self.published
            case ReadCachedManifest():
                return self.cache.get(step.rollout_id)
            case CacheManifest():
                self.cache.put(step.rollout_id, step.artefact)
                return None
            case _:
                assert_never(step)


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


@pytest.mark.parametrize(
    "name",
    ["notes.manifest", "backup.manifest.old", f"{'0' * 63}.manifest", f"{'0' * 64}.manifest~"],
)
def test_only_names_that_the_cache_gives_are_removed(
    cache: DirectoryManifestCache, name: str
) -> None:
    """A file of another name stays, although it looks like a manifest."""
    cache.put(R1, signed())
    (cache.directory / name).touch()
    cache.keep_only([])
    assert [path.name for path in cache.directory.iterdir()] == [name]


def test_only_regular_files_are_removed(cache: DirectoryManifestCache, tmp_path: Path) -> None:
    """A link with the name of a manifest is not what the cache wrote."""
    cache.put(R1, signed())
    cache.path_of(R1).rename(tmp_path / "elsewhere")
    cache.path_of(R1).symlink_to(tmp_path / "elsewhere")
    cache.keep_only([])
    assert cache.path_of(R1).is_symlink()


def test_named_pipe_in_place_of_a_manifest_is_absent_and_named(
    cache: DirectoryManifestCache, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing waits for the pipe's writer, and the log says what was found."""
    cache.directory.mkdir()
    os.mkfifo(cache.path_of(R1))
    assert cache.get(R1) is None
    assert "found a named pipe" in caplog.text


# Their use.


def test_a_kept_manifest_serves_while_the_control_plane_is_away(library: Library) -> None:
    """A manifest that was fetched once is used when no answer comes."""
    fetched = library.verified(R1)
    library.is_away = True
    assert library.verified(R1) == fetched


def test_a_kept_manifest_from_before_this_host_joined_is_no_manifest(library: Library) -> None:
    """A release of the same ref adds the host, and the fetch of that one fails: it is tried again, and not refused."""
    library.cache.put(R1, signed(hostname="web-02"))
    library.is_away = True
    with pytest.raises(TransportFailed, match="no answer"):
        library.verified(R1)

    library.is_away = False
    assert library.verified(R1).value.target_of("web-01") == "new"


def test_a_control_plane_without_the_manifest_is_as_good_as_none(library: Library) -> None:
    """One that has just lost its database has nothing to hand out yet."""
    fetched = library.verified(R1)
    library.published = None
    assert library.verified(R1) == fetched


@pytest.mark.parametrize("position", [0, 63, 64, 100, -1])
def test_a_kept_manifest_that_was_altered_is_absent_and_named(
    position: int,
    library: Library,
    cache: DirectoryManifestCache,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One bit anywhere in the file is enough: it is verified at every use."""
    library.verified(R1)
    path = cache.path_of(R1)
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    library.is_away = True
    with pytest.raises(TransportFailed, match="no answer"):
        library.verified(R1)
    assert "the cached manifest of stable@r1 is not used" in caplog.text


def test_a_kept_manifest_that_has_become_stale_is_absent_and_named(
    library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    """Freshness is asked of every use, not of the first."""
    library.verified(R1)
    library.is_away = True
    library.now += timedelta(minutes=62)
    with pytest.raises(TransportFailed):
        library.verified(R1)
    assert "2026-05-16T01:00:00Z" in caplog.text


def test_the_kept_manifest_of_another_rollout_is_not_taken(
    library: Library, cache: DirectoryManifestCache
) -> None:
    """A good signature over another rollout is no answer."""
    cache.put(R1, signed("r2"))
    library.is_away = True
    with pytest.raises(TransportFailed):
        library.verified(R1)


def test_a_fetched_manifest_that_does_not_verify_is_refused_and_not_kept(
    library: Library, cache: DirectoryManifestCache
) -> None:
    """That a good one is kept does not hide that a bad one was handed out."""
    library.verified(R1)
    library.published = signed(key=SigningKey.generate())
    with pytest.raises(BadSignature):
        library.verified(R1)
    assert cache.get(R1) == signed()


def test_an_agent_without_a_cache_depends_on_its_control_plane() -> None:
    """Without a cache, what was fetched is forgotten."""
    library = Library(NoManifestCache())
    library.verified(R1)
    library.is_away = True
    with pytest.raises(TransportFailed):
        library.verified(R1)


def test_a_cache_that_cannot_be_written_costs_nothing_but_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The manifest is there all the same, and the log says what could not be kept."""
    (tmp_path / "file").touch()
    library = Library(DirectoryManifestCache(tmp_path / "file" / "below"))
    with caplog.at_level(logging.WARNING):
        assert library.verified(R1).value.rollout_id == R1
    assert "cannot be cached" in caplog.text
