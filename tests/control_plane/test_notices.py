"""What operators must see and the log does not hold: bounded, and gone when its cause is."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nixfleet_control_plane.notices import (
    ENROLLMENTS_MAX,
    Notices,
)
from nixfleet_control_plane.releases.scan import ReleaseScanner
from nixfleet_control_plane.releases.watcher import ReleaseWatcher
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.term import _readiness_detail
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.wire import SignedArtefact
from nixfleet_release.publish.save import save_release
from nixfleet_runtime.http.bodies import REASON_LENGTH_MAX, REFUSALS_MAX
from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_runtime.releases.directory import Release
from nixfleet_runtime.transport import ActingRefusal, Heartbeat
from tests.engines.releases import START, Layout, Publisher
from tests.engines.shaky_store import ShakyStore
from tests.support.served_control_plane import running_service

NOW = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
ARTEFACT = SignedArtefact(b"1", b"2")


def test_what_a_host_refuses_is_cut_and_goes_with_its_next_heartbeat() -> None:
    """A host cannot fill the control plane with its reasons."""
    notices = Notices()
    notices.host_reports("web-01", [ActingRefusal("stable@r1", "x" * 10_000, NOW)] * 100)

    refusals = notices.refusals_of("web-01")
    assert len(refusals) == REFUSALS_MAX
    assert {len(it.reason) for it in refusals} == {REASON_LENGTH_MAX}
    assert notices.refusing_hosts == 1
    notices.host_reports("web-01", ())
    assert (notices.refusals_of("web-01"), notices.refusing_hosts) == ((), 0)


def test_a_refused_artefact_is_shown_since_the_first_time_until_the_directory_has_another() -> None:
    """Also gone once it is accepted."""
    notices = Notices()
    for minutes in (0, 5):
        at = NOW + timedelta(minutes=minutes)
        notices.artefact_refused("revocations.json", ARTEFACT, "too old", at)
    notices.artefact_refused("bootstrap-nonces.json", ARTEFACT, "too old", NOW)
    assert [it.since for it in notices.refused_artefacts] == [NOW, NOW]

    notices.directory_has({"revocations.json": SignedArtefact(b"3", b"4")})
    assert notices.refused_artefacts == ()
    notices.artefact_refused("revocations.json", ARTEFACT, "too old", NOW)
    notices.artefact_taken("revocations.json")
    assert notices.refused_artefacts == ()


def test_refused_enrollments_are_counted_by_host_and_bounded() -> None:
    """The latest first; beyond the limit the oldest is forgotten; an enrollment that is granted ends it."""
    notices = Notices()
    for number in range(ENROLLMENTS_MAX + 1):
        notices.enrollment_refused(f"web-{number}", "ab", "nonce-used", "why", NOW)
    notices.enrollment_refused("web-5", "ab", "nonce-used", "why", NOW)

    listed = notices.refused_enrollments
    assert (listed[0].hostname, listed[0].count, len(listed)) == ("web-5", 2, ENROLLMENTS_MAX)
    assert "web-0" not in {it.hostname for it in listed}
    notices.enrolled("web-5")
    assert notices.refused_enrollments[0].hostname == f"web-{ENROLLMENTS_MAX}"


@pytest.mark.anyio
async def test_a_superseded_ref_stays_in_sight_while_the_directory_has_it(tmp_path: Path) -> None:
    """In the standing of releases and the detail of /readyz; and what is in force says when it is stale."""
    ci, clock = Publisher(), FakeClock(START)
    store = SqliteStore(tmp_path / "cp.db")
    async with running_service(store, clock) as service:
        watcher = ReleaseWatcher(
            service, tmp_path / "releases", ReleaseScanner(ci.trust, None), clock
        )
        for ref in ("r1", "r2", "r1"):
            release = ci.release(Layout(), ref, clock.now())
            manifests = {
                it.value.rollout_id: SignedArtefact(it.artefact, it.signature)
                for it in release.manifests
            }
            fleet = SignedArtefact(release.fleet.artefact, release.fleet.signature)
            save_release(Release(fleet, FrozenMap(manifests)), tmp_path / "releases")
            await watcher.poll()
        reply = await service.compare("web-01", Heartbeat("web-01", "old", FrozenMap()))
        standing, detail = service.standing(), _readiness_detail(service)
    store.close()

    assert [it.rollout_id for it in standing.channels] == ["stable@r2"]
    assert standing.channels[0].stale_at == START + timedelta(minutes=181)
    assert [it.name for it in standing.refused] == ["rollouts/stable@r1.json"]
    assert detail[0] == "stable: stable@r2 signed 0 min ago, stale in 181 min"
    assert detail[1].startswith("refused: rollouts/stable@r1.json: stable@r1 was superseded")
    assert reply.release is not None
    assert (reply.release.rollout_id, reply.release.signed_at) == ("stable@r2", START)


@pytest.mark.anyio
async def test_a_release_that_cannot_be_put_in_force_for_hours_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And again when the disk was full, had room, and is full again."""
    ci, clock = Publisher(), FakeClock(START)
    store = SqliteStore(tmp_path / "cp.db")
    shaky = ShakyStore(store)
    async with running_service(shaky, clock) as service:
        watcher = ReleaseWatcher(
            service, tmp_path / "releases", ReleaseScanner(ci.trust, None), clock
        )
        for ref in ("r1", "r2"):
            release = ci.release(Layout(), ref, clock.now())
            (manifest,) = release.manifests
            signed = SignedArtefact(manifest.artefact, manifest.signature)
            fleet = SignedArtefact(release.fleet.artefact, release.fleet.signature)
            manifests = FrozenMap({manifest.value.rollout_id: signed})
            save_release(Release(fleet, manifests), tmp_path / "releases")
            shaky.is_full = True
            for _ in range(3):
                await watcher.poll()
            shaky.is_full = False
            await watcher.poll()
    store.close()

    assert caplog.text.count("a release could not be put in force: ") == 2
