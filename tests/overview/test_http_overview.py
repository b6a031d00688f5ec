"""`GET /v1/overview`: who asks, what has changed since, and one rollout alone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nixfleet_control_plane.feed import Feed
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.trust import OperatorRole
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.listings import RefusedArtefact
from nixfleet_runtime.http.overview import OVERVIEW, NeedKind, Overview
from nixfleet_runtime.http.signing.key_id import operator_key_id
from nixfleet_runtime.http.signing.requests import new_nonce, sign_request
from tests.engines.releases import Layout
from tests.support.served_control_plane import CLOCK, READER_KEY, Site, site_with

pytestmark = pytest.mark.anyio
PAUSE = b'{"reason": "smells odd"}'


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A control plane with a release in force."""
    async with site_with(tmp_path) as made:
        await made.publish()
        yield made


async def _overview(site: Site, query: str = "") -> Overview:
    answer = await site.operate("GET", paths.OVERVIEW + query, name="bob", key=READER_KEY)
    assert answer.status_code == 200, answer.text
    return OVERVIEW.decode(answer.content)


async def test_an_overview_says_who_asks_and_as_of_which_row(site: Site) -> None:
    shown = await _overview(site)

    assert (shown.you.name, shown.you.role) == ("bob", OperatorRole.READ)
    assert shown.head == site.service.feed.head
    assert shown.head_at is not None
    assert shown.head_at <= shown.now
    assert [it.headline for it in shown.rollouts] == [
        "stable@r1 is going well: 0 of 3 hosts have converged, none failed."
    ]
    assert shown.rollouts[0].stale_at is not None


async def test_hosts_that_are_known_by_a_declared_key_are_counted(site: Site) -> None:
    key = SigningKey.generate().public_key.public_key
    before = (await _overview(site)).fleet
    await site.publish("r2", layout=Layout(pubkeys=(("web-01", key), ("web-02", key))))

    fleet = (await _overview(site)).fleet

    assert (before.declared, fleet.declared, fleet.enrolled) == (0, 2, before.enrolled)


async def test_after_a_start_the_time_of_the_last_row_is_read_from_the_store(site: Site) -> None:
    before = await _overview(site)
    site.service.feed = Feed(site.service.feed.head)

    assert (await _overview(site)).head_at == before.head_at


async def test_nothing_is_answered_again_until_a_row_is_written(site: Site) -> None:
    async def status_for(condition: str) -> int:
        key_id, path = operator_key_id("bob"), paths.OVERVIEW
        headers = dict(sign_request(READER_KEY, key_id, "GET", path, b"", CLOCK.now(), new_nonce()))
        answer = await site.ask("GET", path, b"", headers | {"If-None-Match": condition})
        assert (answer.status_code == 304) is not bool(answer.content)
        return answer.status_code

    statuses, tag = list[int](), ""
    for _ in range(2):  # The minute may turn once, and then a sentence may be another.
        tag = (await site.operate("GET", paths.OVERVIEW)).headers["ETag"]
        statuses.append(await status_for(f'"other", {tag}'))

    assert 304 in statuses
    await site.operate("POST", "/v1/channels/stable/pause", PAUSE)
    assert await status_for(tag) == 200


async def test_one_rollout_can_be_asked_for_also_if_it_was_superseded(site: Site) -> None:
    await site.publish("r2")

    assert [it.rollout_id for it in (await _overview(site)).rollouts] == ["stable@r2"]
    (old,) = (await _overview(site, "?rollout=stable@r1")).rollouts
    assert (old.course, old.is_in_force) == ("superseded", False)


async def test_a_rollout_that_is_unknown_is_answered_with_the_one_probably_meant(
    site: Site,
) -> None:
    answer = await site.operate("GET", f"{paths.OVERVIEW}?rollout=stabel@r1")

    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:nixfleet:problem:rollout-unknown"
    assert "stable@r1" in answer.json()["detail"]
    assert (await site.operate("GET", f"{paths.OVERVIEW}?rollout=%00")).status_code == 404


async def test_what_is_about_no_rollout_is_the_fleets(site: Site) -> None:
    refused = RefusedArtefact("rollouts/x.json", "its signature is wrong", CLOCK.now())
    site.service.notices.artefact_refused(refused.name, None, refused.reason, refused.since)
    await site.operate("POST", "/v1/hosts/web-03/pause", PAUSE)

    shown = await _overview(site)

    assert [need.kind for need in shown.needs_you] == [NeedKind.ARTEFACT, NeedKind.HOLD]
    assert shown.needs_you[1].command == "release host:web-03 --of alice"
