"""A release as files: whole or not at all, exactly as it was signed, and nothing else touched."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import (
    SigningKey,
    WrongRolloutId,
    require_anchor,
    verify_fleet,
    verify_manifest,
)
from nixfleet_proto.trust import KeySlot, TrustRoot
from nixfleet_proto.wire import SignedArtefact
from nixfleet_release import (
    CheckedFleet,
    DeclarationError,
    IncompleteRelease,
    NotARelease,
    Release,
    load_release,
    release,
    save_release,
    sign_release,
)
from nixfleet_release.sign.verify import verify_release
from nixfleet_runtime.releases.layout import MANIFEST_BYTES_MAX, manifest_file
from nixfleet_runtime.storage.regular_file import UnfitFile

Checked = Callable[[str], CheckedFleet]

SIGNED_AT = datetime(2026, 5, 16, 1, tzinfo=UTC)
CLOSURES = {"web-01": "c1", "web-02": "c2", "db-01": "c3"}


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def signed(checked: Checked, shop: str, key: SigningKey) -> Release:
    """A release of the shop."""
    return sign_release(checked(shop), CLOSURES, channel_ref="a1b2", signed_at=SIGNED_AT, key=key)


@pytest.fixture
def later(checked: Checked, shop: str, key: SigningKey) -> Release:
    """The next release of the shop."""
    return sign_release(checked(shop), CLOSURES, channel_ref="c3d4", signed_at=SIGNED_AT, key=key)


def files_in(directory: Path) -> Iterator[str]:
    for path in directory.rglob("*"):
        if path.is_file():
            yield path.relative_to(directory).as_posix()


def test_a_release_is_written_as_artefacts_with_signatures(
    tmp_path: Path, checked: Checked, shop: str, key: SigningKey
) -> None:
    """Fleet, manifests and the two lists stand in a file each, with 64 bytes beside it."""
    made = release(
        checked(shop),
        CLOSURES,
        tmp_path / "out",
        channel_ref="a1b2",
        signed_at=SIGNED_AT,
        key=key,
        ci_commit="a1b2c3",
    )

    assert sorted(files_in(tmp_path / "out")) == [
        "bootstrap-nonces.json",
        "bootstrap-nonces.json.sig",
        "fleet.resolved.json",
        "fleet.resolved.json.sig",
        "revocations.json",
        "revocations.json.sig",
        "rollouts/stable@a1b2.json",
        "rollouts/stable@a1b2.json.sig",
    ]
    assert (tmp_path / "out/fleet.resolved.json").read_bytes() == made.fleet.body
    assert len((tmp_path / "out/fleet.resolved.json.sig").read_bytes()) == 64


def test_what_was_saved_is_loaded_and_verifies(
    tmp_path: Path, signed: Release, key: SigningKey
) -> None:
    """Every artefact comes back as it was signed, fits its anchor, and is the one it is named."""
    save_release(signed, tmp_path / "out")
    loaded = load_release(tmp_path / "out")

    assert loaded == signed
    trust = TrustRoot(KeySlot(key.public_key))
    now = SIGNED_AT + timedelta(minutes=1)
    fleet = verify_fleet(loaded.fleet, trust, now, freshness_window_minutes=180)
    for rollout_id, artefact in loaded.manifests.items():
        manifest = verify_manifest(
            artefact, trust, now, freshness_window_minutes=180, expected_rollout_id=rollout_id
        )
        require_anchor(manifest, fleet)


def test_a_manifest_under_another_name_is_not_that_rollouts(
    tmp_path: Path, signed: Release, key: SigningKey
) -> None:
    """Renaming a file changes what it claims to be; verifying finds out."""
    save_release(signed, tmp_path / "out")
    for suffix in (".json", ".json.sig"):
        file = tmp_path / f"out/rollouts/stable@a1b2{suffix}"
        file.rename(file.with_name(f"stable@ffff{suffix}"))

    ((rollout_id, artefact),) = load_release(tmp_path / "out").manifests.items()

    assert rollout_id == "stable@ffff"
    with pytest.raises(WrongRolloutId):
        verify_manifest(
            artefact,
            TrustRoot(KeySlot(key.public_key)),
            SIGNED_AT,
            freshness_window_minutes=180,
            expected_rollout_id=rollout_id,
        )


def test_the_same_release_twice_is_the_same_bytes(
    checked: Checked, shop: str, key: SigningKey, signed: Release
) -> None:
    """Signing again with the same declaration, closures, ref, time and key changes nothing."""
    again = sign_release(checked(shop), CLOSURES, channel_ref="a1b2", signed_at=SIGNED_AT, key=key)

    assert again == signed


def test_a_later_release_replaces_the_earlier_one(
    tmp_path: Path, signed: Release, later: Release
) -> None:
    """Nothing of the earlier release is left, and nothing beside the directory."""
    place = tmp_path / "place"
    place.mkdir()
    save_release(signed, place / "out")
    save_release(later, place / "out")

    assert load_release(place / "out") == later
    assert [path.name for path in place.iterdir()] == ["out"]


def test_a_link_to_the_release_directory_stays_a_link(
    tmp_path: Path, signed: Release, later: Release
) -> None:
    """What the link leads to is replaced, not the link."""
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "out")
    save_release(signed, tmp_path / "out")
    save_release(later, link)

    assert link.is_symlink()
    assert load_release(tmp_path / "out") == later


def test_a_directory_of_other_things_is_left_alone(tmp_path: Path, signed: Release) -> None:
    """A directory that is not a release is not replaced by one; what is in it is told."""
    place = tmp_path / "out"
    place.mkdir()
    (place / "notes.txt").write_text("mine")

    with pytest.raises(NotARelease) as caught:
        save_release(signed, place)

    assert caught.value.unexpected == ("notes.txt",)
    assert list(files_in(place)) == ["notes.txt"]


def test_a_file_in_place_of_the_directory_is_left_alone(tmp_path: Path, signed: Release) -> None:
    """A file that happens to have the name is not replaced by a release."""
    (tmp_path / "out").write_text("mine")

    with pytest.raises(NotADirectoryError):
        save_release(signed, tmp_path / "out")

    assert (tmp_path / "out").read_text() == "mine"


def test_a_release_that_cannot_be_written_leaves_the_earlier_one(
    tmp_path: Path, signed: Release, later: Release
) -> None:
    """A failure leaves the directory as it was, and nothing beside it."""
    save_release(signed, tmp_path / "out")
    too_long = RolloutId.of("stable", "x" * 300)
    broken = Release(later.fleet, later.manifests.with_item(too_long, later.fleet))

    with pytest.raises(OSError, match="File name too long"):
        save_release(broken, tmp_path / "out")

    assert load_release(tmp_path / "out") == signed
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out.")]


def test_a_declaration_with_a_missing_closure_writes_nothing(
    tmp_path: Path, checked: Checked, shop: str, key: SigningKey
) -> None:
    """What cannot be signed whole is not written at all."""
    with pytest.raises(DeclarationError):
        release(
            checked(shop),
            {"web-01": "c1"},
            tmp_path / "out",
            channel_ref="a1b2",
            signed_at=SIGNED_AT,
            key=key,
        )

    assert not (tmp_path / "out").exists()


def test_a_ref_with_separators_stays_inside_the_release(
    tmp_path: Path, checked: Checked, shop: str, key: SigningKey
) -> None:
    """A ref such as a branch's name neither leaves the directory nor makes one in it."""
    ref = "../../release/v1.2"
    made = sign_release(checked(shop), CLOSURES, channel_ref=ref, signed_at=SIGNED_AT, key=key)
    save_release(made, tmp_path / "out")

    assert "rollouts/stable@..%2F..%2Frelease%2Fv1.2.json" in files_in(tmp_path / "out")
    assert load_release(tmp_path / "out").manifests.keys() == {f"stable@{ref}"}


@pytest.mark.parametrize(
    ("lost", "missing"),
    [
        ("fleet.resolved.json", ("fleet.resolved.json",)),
        ("rollouts/stable@a1b2.json", ("rollouts/stable@a1b2.json",)),
        ("rollouts/stable@a1b2.json.sig", ("rollouts/stable@a1b2.json.sig",)),
    ],
)
def test_a_release_that_lost_a_file_is_refused(
    tmp_path: Path, signed: Release, lost: str, missing: tuple[str, ...]
) -> None:
    """An artefact without signature, a signature without artefact: the missing file is told."""
    save_release(signed, tmp_path / "out")
    (tmp_path / "out" / lost).unlink()

    with pytest.raises(IncompleteRelease) as caught:
        load_release(tmp_path / "out")

    assert caught.value.missing == missing


def test_an_empty_directory_is_no_release(tmp_path: Path) -> None:
    """Both files of the fleet are told to be missing."""
    with pytest.raises(IncompleteRelease) as caught:
        load_release(tmp_path)

    assert caught.value.missing == ("fleet.resolved.json", "fleet.resolved.json.sig")


@pytest.mark.parametrize("name", ["rollouts/stable.json", "rollouts/x/stable@a.json", "notes"])
def test_a_foreign_file_in_a_release_is_refused(tmp_path: Path, signed: Release, name: str) -> None:
    """A file that no release has is told rather than overlooked."""
    save_release(signed, tmp_path / "out")
    (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "out" / name).touch()

    with pytest.raises(NotARelease) as caught:
        load_release(tmp_path / "out")

    assert caught.value.unexpected == (name,)


def test_a_saved_release_can_be_read_by_whom_the_umask_lets(
    tmp_path: Path, signed: Release
) -> None:
    """The directory gets the permissions of any new directory, not those of a private one."""
    (tmp_path / "other").mkdir()
    save_release(signed, tmp_path / "out")

    modes = {(tmp_path / name).stat().st_mode for name in ("out", "other")}
    assert len(modes) == 1


def test_a_reader_beside_a_writer_sees_whole_releases(
    tmp_path: Path, signed: Release, later: Release
) -> None:
    """While releases replace each other, a reader gets one of them or, for a moment, none."""
    place = tmp_path / "out"
    save_release(signed, place)
    seen: list[Release] = []

    def write() -> None:
        for made in [later, signed] * 20:
            save_release(made, place)

    with ThreadPoolExecutor(1) as writer:
        writing = writer.submit(write)
        while not writing.done():
            with suppress(FileNotFoundError):
                seen.append(load_release(place))
        writing.result()

    assert set(seen) <= {signed, later}


@pytest.mark.parametrize("name", ["fleet.resolved.json", "fleet.resolved.json.sig"])
def test_a_named_pipe_in_a_release_is_refused_at_once(
    tmp_path: Path, signed: Release, name: str
) -> None:
    """A named pipe is refused by its path, and nothing waits for its writer."""
    save_release(signed, tmp_path / "out")
    (tmp_path / "out" / name).unlink()
    os.mkfifo(tmp_path / "out" / name)

    with pytest.raises(UnfitFile, match=f"{name}: expected a regular file, found a named pipe"):
        load_release(tmp_path / "out")


def test_a_link_in_a_release_is_refused(tmp_path: Path, signed: Release) -> None:
    """A link could lead to a file that changes without the release: it is refused by its path."""
    save_release(signed, tmp_path / "out")
    file = tmp_path / "out" / "fleet.resolved.json"
    file.rename(tmp_path / "elsewhere.json")
    file.symlink_to(tmp_path / "elsewhere.json")

    with pytest.raises(UnfitFile, match="found a symbolic link"):
        load_release(tmp_path / "out")


def test_an_artefact_that_its_receivers_would_not_read_is_refused(
    signed: Release, key: SigningKey
) -> None:
    """By its length, before it is read: the control plane and agents stop at the same one."""
    body = b" " * (MANIFEST_BYTES_MAX + 1)
    manifests = {id_: SignedArtefact(body, it.signature) for id_, it in signed.manifests.items()}
    large = evolve(signed, manifests=FrozenMap(manifests))
    trust = TrustRoot(KeySlot(key.public_key))
    verdict = verify_release(large, trust, SIGNED_AT, freshness_window_minutes=None)
    assert [it.name for it in verdict.refused] == [manifest_file(id_) for id_ in signed.manifests]
    assert "expected at most 67108864 bytes" in verdict.refused[0].why
