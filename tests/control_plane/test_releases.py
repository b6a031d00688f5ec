"""The scanner over what CI publishes: told of files and of the time, it says what the control plane has to hear."""

from datetime import datetime, timedelta

import pytest
from attrs import evolve, frozen

from nixfleet_control_plane.messages.inputs import ArtefactRejected, ListsUpdated, ManifestsUpdated
from nixfleet_control_plane.releases.scan import ReleaseInput, ReleaseScanner
from nixfleet_proto.enrollment import Revocation
from nixfleet_proto.trust import Verified
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.releases.layout import (
    FLEET_FILE,
    NONCES_FILE,
    REVOCATIONS_FILE,
    manifest_file,
)
from tests.engines.releases import START, Layout, Publisher

WINDOW_MINUTES = 180
Files = dict[str, SignedArtefact]


@frozen
class Directory:
    """CI, and a scanner that trusts it and looks at what it is shown."""

    ci: Publisher
    scanner: ReleaseScanner

    def files(self, channel_ref: str, now: datetime = START) -> Files:
        """Return the files of a release."""
        release = self.ci.release(Layout(), channel_ref, now)
        (manifest,) = release.manifests
        return {
            FLEET_FILE: _artefact(release.fleet),
            manifest_file(manifest.value.rollout_id): _artefact(manifest),
        }

    def look(self, files: Files, now: datetime = START) -> tuple[ReleaseInput, ...]:
        """Return what comes of a look, of which the control plane hears all."""
        found = self.scanner.scan(files, now)
        for each in found:
            self.scanner.done(each)
        return found


def _artefact(verified: Verified[object]) -> SignedArtefact:
    return SignedArtefact(verified.artefact, verified.signature)


def _refs(found: tuple[ReleaseInput, ...]) -> list[str]:
    updates = [each for each in found if isinstance(each, ManifestsUpdated)]
    return [it.value.channel_ref for update in updates for it in update.manifests]


def _rejected(found: tuple[ReleaseInput, ...]) -> list[str]:
    return [each.name for each in found if isinstance(each, ArtefactRejected)]


@pytest.fixture
def directory() -> Directory:
    ci = Publisher()
    return Directory(ci, ReleaseScanner(ci.trust, WINDOW_MINUTES))


def test_a_release_is_passed_on_once(directory: Directory) -> None:
    """The second look at the same files says nothing, the look at other ones does."""
    files = directory.files("r1")
    assert _refs(directory.look(files)) == ["r1"]
    assert directory.look(files) == ()
    assert _refs(directory.look(directory.files("r2"))) == ["r2"]


def test_what_the_control_plane_could_not_hear_is_said_again(directory: Directory) -> None:
    """A disk that is full now may have room at the next look."""
    files = directory.files("r1")
    assert _refs(directory.scanner.scan(files, START)) == ["r1"]
    assert _refs(directory.look(files)) == ["r1"]


def test_the_lists_come_first(directory: Directory) -> None:
    """Who is revoked is revoked before anything is dispatched; lists need no fleet."""
    lists = {
        REVOCATIONS_FILE: _artefact(directory.ci.revocations(START, Revocation("web-01", START))),
        NONCES_FILE: _artefact(directory.ci.nonces(START)),
    }
    first, second = directory.look(directory.files("r1") | lists)
    assert isinstance(first, ListsUpdated)
    assert first.revocations is not None
    assert first.nonces is not None
    assert isinstance(second, ManifestsUpdated)

    newer = _artefact(directory.ci.revocations(START + timedelta(seconds=1)))
    (only,) = directory.look({REVOCATIONS_FILE: newer})
    assert isinstance(only, ListsUpdated)
    assert only.nonces is None


def test_a_fault_is_told_at_the_second_look_and_then_never_again(directory: Directory) -> None:
    """A file that was half-written is whole by then; one that is not is complained of once."""
    files = directory.files("r1")
    broken = files | {FLEET_FILE: evolve(files[FLEET_FILE], signature=bytes(64))}
    assert _rejected(directory.look(broken)) == []
    assert _rejected(directory.look(broken)) == [FLEET_FILE]
    assert _rejected(directory.look(broken)) == []
    assert _refs(directory.look(files)) == ["r1"]


def test_a_fleet_that_comes_before_its_manifests_is_no_fault(directory: Directory) -> None:
    """Files that arrive one by one are taken when they fit together."""
    old, new = directory.files("r1"), directory.files("r2")
    directory.look(old)
    half = old | {FLEET_FILE: new[FLEET_FILE]}
    assert directory.look(half) == ()
    assert _refs(directory.look(new)) == ["r2"]


def test_manifests_of_another_fleet_are_rejected_if_they_stay(directory: Directory) -> None:
    """A manifest that was not made from the fleet beside it is named, with both hashes."""
    half = directory.files("r1") | {FLEET_FILE: directory.files("r2")[FLEET_FILE]}
    directory.look(half)
    (rejected,) = directory.look(half)
    assert isinstance(rejected, ArtefactRejected)
    assert "is anchored to fleet" in rejected.reason


def test_a_good_manifest_does_not_wait_for_a_bad_one(directory: Directory) -> None:
    """What is wrong with one file holds up no other."""
    files = directory.files("r1")
    bad = {"rollouts/edge@r1.json": SignedArtefact(b"{}", bytes(64))}
    assert _refs(directory.look(files | bad)) == ["r1"]
    assert _rejected(directory.look(files | bad)) == ["rollouts/edge@r1.json"]


def test_what_was_fresh_goes_stale_and_is_told_once(directory: Directory) -> None:
    """CI that stopped signing is noticed though no file has changed, and is heard again when it signs."""
    files = directory.files("r1")
    directory.look(files)
    fresh = START + timedelta(minutes=WINDOW_MINUTES)
    assert directory.look(files, fresh) == ()
    stale = fresh + timedelta(seconds=61)
    directory.look(files, stale)
    assert set(_rejected(directory.look(files, stale))) == set(files)
    assert directory.look(files, stale + timedelta(hours=1)) == ()

    assert _refs(directory.look(directory.files("r1", stale), stale)) == ["r1"]


def test_what_was_signed_ahead_is_taken_in_its_time(directory: Directory) -> None:
    """A clock that differs costs a while, not the release."""
    files = directory.files("r1", START + timedelta(minutes=5))
    assert directory.look(files) == ()
    assert _refs(directory.look(files, START + timedelta(minutes=5))) == ["r1"]
