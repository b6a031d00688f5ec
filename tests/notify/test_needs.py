"""What needs a person and has no row of its own: when it begins and ends, whom it is told, and how it is read."""

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest
from attrs import define, evolve, field

from nixfleet_notify.delivery.answers import DELIVERED, Answer, Outcome, failed
from nixfleet_notify.delivery.needs import (
    ENDED,
    ENDS_AFTER,
    NEED_TYPES,
    OPEN_MAX,
    OpenNeed,
    need_type,
    open_needs,
    row_that_tells,
    severity_of,
)
from nixfleet_notify.files.stored import NotifierFiles
from nixfleet_notify.messages.filters import HookFilter
from nixfleet_notify.metrics import metrics_text
from nixfleet_notify.service import NeedsSource, Notifier
from nixfleet_notify.ways.feed import FeedSilent
from nixfleet_notify.ways.overview import OverviewReader
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.http.client import SignedClient, signed_client
from nixfleet_runtime.http.line_types import Severity
from nixfleet_runtime.http.overview import OVERVIEW, Need, NeedKind, Overview
from nixfleet_runtime.http.signing.key_id import operator_key_id
from nixfleet_runtime.kernel.clock import FakeClock, SystemClock
from tests.docs.pages import DOCS
from tests.notify.one_hook import HALT, START, OneHook, data_of, event_of
from tests.notify.test_service import Inbox, Log, _begun, _hook
from tests.support.served_control_plane import CLOCK, READER_KEY, site_with
from tests.watch.samples import NOW, overview, rollout

STALE = Need(
    NeedKind.FRESHNESS,
    "Hosts refuse stable@r2 \x1b[2J.",
    "Sign the release again.",
    rollout_id=RolloutId("stable@r2"),
    channel="stable",
)
REFUSING = Need(NeedKind.REFUSING, "4 hosts do not act on something.", "Read why.", hosts=4)
DAY = timedelta(days=1)


def _listed(*needs: Need, at: datetime = NOW) -> Overview:
    """An overview that lists needs, of a rollout or of the fleet."""
    of_rollouts = tuple(it for it in needs if it.rollout_id is not None)
    fleet = tuple(it for it in needs if it.rollout_id is None)
    found = overview(rollout(needs_you=of_rollouts), needs=fleet)
    return evolve(found, now=at)


def _open(*needs: Need) -> tuple[OpenNeed, ...]:
    return open_needs((), _listed(*needs), START, DAY)


# What is told.


@pytest.mark.parametrize("kind", NeedKind)
def test_each_kind_of_need_is_told_by_a_row_that_pages_or_by_a_message_and_not_by_both(
    kind: NeedKind,
) -> None:
    """And the specification says by which."""
    row = row_that_tells(kind)
    need = Need(kind, "It is so.", "Do something.")

    assert (row is None) is (need_type(kind) in NEED_TYPES)
    assert [it.kind for it in _open(need)] == ([] if row else [kind])
    assert row is None or row.severity is Severity.ACT
    page = (DOCS / "spec" / "notifications.md").read_text("utf-8")
    table = page.partition("\n## Needs\n")[2].partition("\n- ")[0]
    (told_by,) = re.findall(rf"^\|[^|]*`{kind}`[^|]*\|([^|]*)\|$", table, re.MULTILINE)
    assert ("the row" in told_by, f"`{row}`" in told_by) == (row is not None,) * 2


def test_a_need_that_goes_on_is_the_same_though_its_numbers_change() -> None:
    """Its message has the text that it had first."""
    first = _open(REFUSING)
    more = evolve(REFUSING, text="5 hosts do not act on something.", hosts=5)
    assert open_needs(first, _listed(more), START + DAY, DAY) == first


def test_a_need_ends_once_it_was_not_listed_for_five_minutes_and_may_begin_anew() -> None:
    """A shorter absence is none; a clock that is set back makes it begin anew; the next one has another id."""
    (first,) = _open(REFUSING)
    (gone,) = open_needs((first,), _listed(), START, DAY)
    assert open_needs((gone,), _listed(REFUSING), START + ENDS_AFTER, DAY) == (first,)
    (set_back,) = open_needs((gone,), _listed(), START - DAY, DAY)
    assert set_back.absent_since == START - DAY
    assert open_needs((gone,), _listed(), START + ENDS_AFTER, DAY) == ()
    (again,) = open_needs((), _listed(REFUSING, at=NOW + ENDS_AFTER), START + ENDS_AFTER, DAY)
    assert (again.key, again.id != first.id) == (first.key, True)


@pytest.mark.parametrize("kind", [NeedKind.HOLD, NeedKind.ABORTED])
def test_what_an_operator_decided_is_a_need_once_it_is_old(kind: NeedKind) -> None:
    """By the control plane's clock; other kinds begin at once."""
    need = Need(kind, "It is held.", "Resume it.", NOW - DAY, subject="fleet")
    assert len(open_needs((), _listed(need), START, DAY)) == 1
    assert open_needs((), _listed(evolve(need, since=NOW - DAY / 2)), START, DAY) == ()
    assert len(_open(evolve(STALE, since=NOW))) == 1


def test_a_hold_that_is_set_anew_is_another_need() -> None:
    """Also if the notifier saw nothing in between."""
    hold = Need(NeedKind.HOLD, "It is held.", "Resume it.", NOW - 3 * DAY, subject="fleet")
    first = _open(hold)
    both = open_needs(first, _listed(evolve(hold, since=NOW - 2 * DAY)), START, DAY)
    assert [it.absent_since is None for it in both] == [False, True]


def test_no_more_needs_are_known_than_there_is_room_for() -> None:
    """Whatever a control plane lists."""
    many = [evolve(STALE, wave=number) for number in range(OPEN_MAX + 7)]
    known = _open(*many)
    assert len(known) == OPEN_MAX
    assert open_needs(known, _listed(*many), START, DAY) == known


# One hook.


def _hook_with(*needs: Need, wants: HookFilter | None = None) -> OneHook:
    hook = OneHook(wants=wants)
    hook.sight = evolve(hook.sight, needs=_open(*needs))
    return hook


def test_a_need_that_begins_is_one_message_over_restarts() -> None:
    """With what answers it; what a host said in it is made visible."""
    hook = _hook_with(STALE, REFUSING)
    for _ in range(3):
        hook.finish()
        hook.crash()

    assert [it.type for it in hook.received] == [
        "org.nixfleet.need.refusing",
        "org.nixfleet.need.freshness",
    ]
    data = data_of(hook.received[1])
    assert data["text"] == r"Hosts refuse stable@r2 \x1b[2J. Sign the release again."
    assert (data["severity"], data["rolloutId"]) == ("act", "stable@r2")
    assert str(event_of(hook.received[1])["id"]).startswith("need-freshness-")


def test_every_attempt_of_a_need_has_the_same_bytes_and_one_that_is_refused_is_a_dead_letter() -> (
    None
):
    """The next message has its turn then."""
    hook = _hook_with(STALE)
    answers = [failed("no"), *[Answer(Outcome.REFUSED, "no")] * 2]
    hook.answer = lambda _: answers.pop(0) if answers else DELIVERED
    hook.append(HALT)
    for _ in range(4):
        hook.crash()
        hook.finish()

    assert len({it for _, it in hook.attempts[:3]}) == 1
    (letter,) = hook.dead.values()
    assert letter.message.type == "org.nixfleet.need.freshness"
    assert [it.type for it in hook.received] == ["org.nixfleet.rollout.halted"]


@pytest.mark.parametrize("least", [Severity.ACT, Severity.NOTICE])
def test_a_need_that_ends_is_told_to_hooks_that_ask_for_it(least: Severity) -> None:
    """And it is told again when it begins again."""
    hook = _hook_with(STALE, wants=HookFilter(least))
    needs = hook.sight.needs
    for listed in (needs, (), (evolve(needs[0], id="need-again"),)):
        hook.sight = evolve(hook.sight, needs=listed)
        hook.finish()

    begins = "org.nixfleet.need.freshness"
    ends = [f"org.nixfleet.{ENDED}"] if least is Severity.NOTICE else []
    assert [it.type for it in hook.received] == [begins, *ends, begins]
    assert not ends or data_of(hook.received[1])["began"] == needs[0].id


@pytest.mark.parametrize(
    ("wants", "is_told"),
    [
        (HookFilter(), True),
        (HookFilter(channels=("stable",)), True),
        (HookFilter(channels=("edge",)), False),
        (HookFilter(rollouts=("stable@r1",)), False),
        (HookFilter(types=("need.freshness",)), True),
        (HookFilter(types=("need.refusing",)), False),
        (HookFilter(kinds=("rollout_event",)), False),
    ],
)
def test_a_filter_chooses_needs_as_it_chooses_lines(wants: HookFilter, is_told: bool) -> None:
    """Of a channel, of a rollout, of a type; a choice of kinds of lines leaves needs out."""
    hook = _hook_with(STALE, wants=wants)
    hook.finish()
    assert len(hook.received) == is_told


def test_a_stranger_who_asks_to_enroll_pages_nobody() -> None:
    """Anybody can ask."""
    assert severity_of(NeedKind.ENROLLMENT) is Severity.WARNING
    hook = _hook_with(Need(NeedKind.ENROLLMENT, "eve may not enroll.", "Let it be."))
    hook.finish()
    assert hook.received == []


# The service, and the network.


@define
class Fleet:
    """An overview without a network."""

    needs: tuple[Need, ...] = ()
    problem: str = ""
    questions: int = 0
    at: datetime = field(default=NOW)

    async def overview(self) -> Overview:
        await anyio.lowlevel.checkpoint()
        self.questions += 1
        if self.problem:
            raise FeedSilent(self.problem)
        return _listed(*self.needs, at=self.at)


@pytest.mark.anyio
async def test_needs_are_told_once_though_the_notifier_is_started_again(tmp_path: Path) -> None:
    """A second start tells nothing again; a need that ended while it was stopped is told as ended, five minutes on.

    While the overview cannot be read nothing ends.
    """
    clock, inbox, fleet = FakeClock(START), Inbox(), Fleet((STALE,))

    def asked_beyond(count: int, _: Notifier) -> bool:
        return fleet.questions > count

    async def run(until: Callable[[Notifier], bool]) -> None:
        files = NotifierFiles(tmp_path)
        files.prepare()
        hooks = {"pager": _hook("pager", files, inbox, Severity.NOTICE)}
        notifier = Notifier(
            Log(clock),
            files,
            hooks,
            files.sight(),
            clock,
            timedelta(minutes=5),
            needs=NeedsSource(fleet, 60, DAY),
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(notifier.run)
            await _begun(notifier)
            with anyio.fail_after(20):
                while not until(notifier):
                    clock.advance(5)
                    await anyio.lowlevel.checkpoint()
            text = metrics_text(notifier).decode()
            assert f"nixfleet_notify_needs_open {float(bool(fleet.needs))}" in text
            tasks.cancel_scope.cancel()

    await run(lambda _: NotifierFiles(tmp_path).hook("pager").delivered == 1)
    for problem in ("", "it is of another version"):
        fleet.problem, asked = problem, fleet.questions
        await run(partial(asked_beyond, asked + 8))
    fleet.problem = ""
    assert inbox.types == ["need.freshness"]
    fleet.needs = ()
    await run(lambda _: len(inbox.taken) > 1)
    assert inbox.types == ["need.freshness", ENDED]


@pytest.mark.anyio
async def test_the_overview_of_a_real_control_plane_is_read_and_not_sent_twice(
    tmp_path: Path,
) -> None:
    """The second answer is 304, and means the same; a stranger is refused in words."""
    async with site_with(tmp_path) as site:
        await site.publish()
        async with signed_client(site.url, operator_key_id("bob"), READER_KEY, CLOCK) as client:
            reader = OverviewReader(client)
            found = await reader.overview()
            assert [it.rollout_id for it in found.rollouts] == ["stable@r1"]
            assert await reader.overview() is found
        async with signed_client(site.url, operator_key_id("eve"), READER_KEY, CLOCK) as client:
            with pytest.raises(FeedSilent, match="refuses to show its overview"):
                await OverviewReader(client).overview()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "cannot be decoded"),
        (b"x" * (17 * 1024 * 1024), "at most 16777216 bytes"),
        ("another kind", "cannot be decoded"),
    ],
)
async def test_an_overview_that_cannot_be_used_is_a_problem_in_words(
    body: bytes | str, words: str
) -> None:
    """Damaged, too large, or of a version that has more kinds of needs."""
    if isinstance(body, str):
        newer: dict[str, Any] = json.loads(OVERVIEW.encode(_listed(STALE)))
        newer["rollouts"][0]["needsYou"][0]["kind"] = "coffee"
        body = json.dumps(newer).encode()
    answer = httpx2.Response(200, stream=httpx2.ByteStream(body))
    client = httpx2.AsyncClient(
        base_url="https://fleet.example.org", transport=httpx2.MockTransport(lambda _: answer)
    )
    signed = SignedClient(client, "operator:bob", SigningKey.generate(), SystemClock())
    with pytest.raises(FeedSilent, match=words):
        await OverviewReader(signed).overview()
