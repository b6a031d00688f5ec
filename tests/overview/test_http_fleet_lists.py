"""What is barred, refused, enrolled and silent, page by page; and manifests for those who read."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from nixfleet_control_plane.http.contacts import Contacts
from nixfleet_control_plane.messages.key_ring import EnrolledHost, KeyRing
from nixfleet_control_plane.overview.fleet_lists import enrollments, page_of
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationStarted,
    DispatchAck,
    Failed,
    OnHealthFailure,
    RollbackComplete,
)
from nixfleet_proto.codec.strict import Coder
from nixfleet_proto.enrollment import BootstrapNonce, Revocation
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import SigningKey, fingerprint_of
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.fleet_pages import (
    ENROLLMENT_PAGE,
    QUARANTINE_PAGE,
    REFUSAL_PAGE,
    SILENT_PAGE,
    EnrollmentStanding,
    RefusalKind,
)
from nixfleet_runtime.http.listings import RefusedEnrollment
from nixfleet_runtime.transport import ActingRefusal
from tests.engines.releases import START, Layout
from tests.support.served_control_plane import CLOCK, KEY, READER_KEY, Site, site_with

pytestmark = pytest.mark.anyio
R1 = RolloutId("stable@r1")
T = TypeVar("T")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A control plane with a release in force: web-01 is dispatched, the others wait."""
    async with site_with(tmp_path) as made:
        await made.publish(layout=Layout(closure="shared"))
        yield made


async def listed(site: Site, path: str, coder: Coder[T]) -> T:
    answer = await site.operate("GET", path, name="bob", key=READER_KEY)
    assert answer.status_code == 200, answer.text
    return coder.decode(answer.content)


async def test_a_closure_that_is_barred_is_listed_with_the_row_that_barred_it(site: Site) -> None:
    now = CLOCK.now()
    facts = (
        DispatchAck("old", now, 1),
        ActivationStarted(now, "directory", 2),
        ActivationCompleted("shared", 0, now, 3),
        Failed(now, 60, ("nginx",), OnHealthFailure.ROLLBACK_AND_HALT, 4),
        RollbackComplete("old", 0, now, 5),
    )
    envelopes = tuple(AgentEventEnvelope("web-01", R1, fact) for fact in facts)
    assert (await site.service.take_events("web-01", envelopes)).accepted == len(facts)

    (barred,) = (await listed(site, paths.QUARANTINES, QUARANTINE_PAGE)).quarantines

    assert (barred.channel, barred.closure, barred.waiting) == ("stable", "shared", 2)
    assert barred.since is not None
    assert barred.row is not None
    await site.operate(
        "POST",
        "/v1/channels/stable/quarantines/retire",
        b'{"closure": "shared", "reason": "the disk was it"}',
    )
    assert (await listed(site, paths.QUARANTINES, QUARANTINE_PAGE)).quarantines == ()


async def test_what_is_refused_is_listed_by_kind_page_by_page(site: Site) -> None:
    notices, now = site.service.notices, CLOCK.now()
    notices.artefact_refused("rollouts/x.json", None, "its signature is wrong", now)
    notices.host_reports("web-02", [ActingRefusal(R1, "its manifest is too old", now)])

    first = await listed(site, f"{paths.REFUSED}?limit=1", REFUSAL_PAGE)
    assert first.next is not None
    second = await listed(site, f"{paths.REFUSED}?limit=1&after={first.next}", REFUSAL_PAGE)

    assert [(it.kind, it.name) for it in first.refused] == [
        (RefusalKind.ARTEFACT, "rollouts/x.json")
    ]
    assert [(it.kind, it.hostname, it.reason) for it in second.refused] == [
        (RefusalKind.ACTING, "web-02", "its manifest is too old")
    ]
    assert second.next is None


def test_a_host_is_declared_enrolled_revoked_awaited_or_knocks() -> None:
    """Whatever it is besides, who knocks is listed as well."""
    key, later = KEY.public_key, START + timedelta(hours=1)
    ring = KeyRing(
        enrolled=FrozenMap(
            {name: EnrolledHost(name, key, START) for name in ("a-in", "b-out", "c-again")}
        ),
        fleet_keys=FrozenMap({"d-declared": key}),
        revoked=FrozenMap(
            {
                "b-out": Revocation("b-out", later, "stolen"),
                "c-again": Revocation("c-again", START, "lost"),
            }
        ),
    )
    knock = RefusedEnrollment("a-in", "f00d", "nonce-used", "the nonce was used", later, 3)
    awaited = BootstrapNonce("b1c2", "e-new", later)

    found, after = page_of(enrollments(ring, [awaited], [knock], lambda _: None), None, 10)

    assert after is None
    assert [(it.hostname, it.standing) for it in found] == [
        ("a-in", EnrollmentStanding.ENROLLED),
        ("a-in", EnrollmentStanding.KNOCKING),
        ("b-out", EnrollmentStanding.REVOKED),
        ("c-again", EnrollmentStanding.ENROLLED),
        ("d-declared", EnrollmentStanding.DECLARED),
        ("e-new", EnrollmentStanding.AWAITED),
    ]
    assert found[0].fingerprint == fingerprint_of(key)
    assert (found[1].count, found[2].reason, found[5].until) == (3, "stolen", later)


def test_pages_of_a_list_follow_each_other_without_a_gap() -> None:
    ring = KeyRing(fleet_keys=FrozenMap({f"web-{n:02}": KEY.public_key for n in range(7)}))
    read, after = list[str](), None
    while True:
        page, after = page_of(enrollments(ring, [], [], lambda _: None), after, 3)
        read += [it.hostname for it in page]
        if after is None:
            break

    assert read == [f"web-{n:02}" for n in range(7)]


async def test_hosts_with_keys_that_are_not_heard_of_are_silent(site: Site) -> None:
    """A host that never was heard counts from the start."""
    enrolled = {
        name: EnrolledHost(name, SigningKey.generate().public_key, START) for name in ("a", "b")
    }
    contacts = Contacts(START)
    contacts.heard("a", int(START.timestamp()), START + timedelta(minutes=9))

    now = START + timedelta(minutes=10)

    assert [name for name in enrolled if contacts.is_silent(name, now)] == ["b"]
    page = await listed(site, paths.SILENT, SILENT_PAGE)
    assert page.hosts == ()
    assert page.started_at <= CLOCK.now()


async def test_enrollments_are_listed_over_the_network(site: Site) -> None:
    now = CLOCK.now()
    site.service.notices.enrollment_refused("web-09", "f00d", "unknown", "no such token", now)

    (knock,) = (await listed(site, paths.ENROLLMENTS, ENROLLMENT_PAGE)).enrollments

    assert (knock.hostname, knock.standing) == ("web-09", EnrollmentStanding.KNOCKING)


async def test_a_reader_gets_a_manifest_as_it_was_signed(site: Site) -> None:
    path = paths.rollout_path(R1, "/manifest")
    body = await site.operate("GET", path, name="bob", key=READER_KEY)
    signature = await site.operate("GET", f"{path}/signature", name="bob", key=READER_KEY)
    artefact = await site.service.manifest(R1)

    assert artefact is not None
    assert (body.content, signature.content) == (artefact.body, artefact.signature)
    unknown = await site.operate("GET", paths.rollout_path("stable@x", "/manifest"))
    assert unknown.json()["type"] == "urn:nixfleet:problem:rollout-unknown"


async def test_a_place_that_is_no_place_is_refused(site: Site) -> None:
    answer = await site.operate("GET", f"{paths.QUARANTINES}?after=%00")
    assert (answer.status_code, answer.json()["type"]) == (
        422,
        "urn:nixfleet:problem:malformed-query",
    )
