"""An edge between two shards: what the follower takes, waits for and refuses, and what its log says of it."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_control_plane.history.line_types import type_of
from nixfleet_control_plane.history.narration import actor_of, told
from nixfleet_control_plane.messages.entry_codec import entry_of, row_of
from nixfleet_control_plane.messages.inputs import Done, SeeChannel, SeeEnrollment
from nixfleet_control_plane.messages.key_ring import EnrolledHost
from nixfleet_control_plane.messages.log_entry import EnrollmentSeen, Followed
from nixfleet_proto.enrollment import Revocation
from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.fleet import DisruptionBudget, Selector
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.http.line_types import LineType
from nixfleet_state_machine.planner.holds.hold import HoldKind
from nixfleet_state_machine.shards.channel_seen import AsOf, ChannelSeen
from nixfleet_state_machine.shards.shard_map import MAIN
from tests.engines.releases import START
from tests.shards.two_shards import DB, WEB, TwoShards, release_of

DB1, WEB1 = RolloutId.of(DB, "r1"), RolloutId.of(WEB, "r1")
ROW = AsOf("data", 7, "ab" * 32)
KEY = SigningKey.generate().public_key


@pytest.fixture
def shards(tmp_path: Path) -> Iterator[TwoShards]:
    with TwoShards(tmp_path) as shards:
        yield shards


def test_a_release_is_taken_by_each_shard_for_its_own_channels(shards: TwoShards) -> None:
    release = release_of(shards.ci, "r1")
    assert shards.data.offer(release).taken == (DB1,)
    shards.follow()
    assert shards.main.offer(release).taken == (WEB1,)


def test_a_follower_waits_for_the_first_word_and_logs_nothing(shards: TwoShards) -> None:
    release = release_of(shards.ci, "r1")
    (waiting,) = shards.main.offer(release).waiting
    assert waiting == (
        WEB1,
        "channel web waits until channel db of shard data has this release in force: seen is nothing yet",
    )
    assert shards.main.rows() == ()


def test_a_follower_waits_while_the_other_shard_has_the_release_before(shards: TwoShards) -> None:
    shards.data.offer(release_of(shards.ci, "r1"))
    shards.follow()
    second = release_of(shards.ci, "r2")
    ((rollout_id, why),) = shards.main.offer(second).waiting
    assert rollout_id == RolloutId.of(WEB, "r2")
    assert why.endswith("seen is db@r1 of another release, as of row 5 of shard data")


def test_a_follower_waits_for_no_release_of_a_channel_that_this_one_leaves_out(
    shards: TwoShards,
) -> None:
    """But for its rollout before, as in one log."""
    shards.data.offer(release_of(shards.ci, "r1"))
    shards.follow()
    shards.main.offer(release_of(shards.ci, "r2", channels=(WEB,)))
    assert shards.main.queued() == []
    shards.converge(shards.data, DB1)
    shards.follow()
    assert [host for host, _ in shards.main.queued()] == ["web-1", "web-2"]


def test_what_waits_of_a_release_is_told_from_what_it_leaves_out(shards: TwoShards) -> None:
    """What is offered again is less than the release: the channels that it has are said."""
    shards.data.offer(release_of(shards.ci, "r1"))
    shards.follow()
    whole = release_of(shards.ci, "r2")
    rest = evolve(whole, manifests=whole.manifests[1:], channels=frozenset((DB, WEB)))
    assert len(shards.main.offer(rest).waiting) == 1


def test_a_host_is_dispatched_once_the_word_is_done(shards: TwoShards) -> None:
    release = release_of(shards.ci, "r1")
    shards.data.offer(release)
    shards.follow()
    shards.main.offer(release)
    assert shards.main.queued() == []
    shards.converge(shards.data, DB1)
    shards.follow()
    assert [host for host, _ in shards.main.queued()] == ["web-1", "web-2"]
    assert shards.untrue() == []


def test_a_budget_over_both_shards_is_refused_by_each_with_the_reason(shards: TwoShards) -> None:
    release = release_of(shards.ci, "r1", (DisruptionBudget(Selector(all=True), 1),))
    for outcome in shards.offer(release):
        ((_, why),) = outcome.refused
        assert why.startswith("the budget all is shared by channels of several shards")
        assert "db in shard 'data'; web in shard 'main'" in why


def test_a_budget_of_other_channels_refuses_nothing(shards: TwoShards) -> None:
    budgets = (DisruptionBudget(Selector(channel=DB), 1),)
    assert shards.data.offer(release_of(shards.ci, "r1", budgets)).taken == (DB1,)


def test_a_word_that_says_nothing_new_is_no_row(shards: TwoShards) -> None:
    shards.data.offer(release_of(shards.ci, "r1"))
    shards.follow()
    before = shards.main.rows()
    shards.data.pause("db")
    shards.follow()
    assert shards.main.rows() == before


def test_a_word_that_was_read_before_the_last_one_is_left(shards: TwoShards) -> None:
    """Though the last one said nothing new, and so is in no row."""
    early = shards.read()
    shards.data.offer(release_of(shards.ci, "r1"))
    between = shards.read()
    shards.tell(early)
    shards.tell(evolve(early, as_of=evolve(between.as_of, seq=between.as_of.seq + 1)))
    before = shards.main.rows()
    shards.tell(between)
    assert shards.main.rows() == before


def test_a_word_on_an_own_channel_is_left(shards: TwoShards) -> None:
    word = ChannelSeen(WEB, None, None, False, AsOf("data", 1, "0" * 64))
    shards.main.ask_for(Done, SeeChannel(word))
    assert shards.main.rows() == ()


def test_a_word_of_a_shard_that_does_not_have_the_channel_is_left(shards: TwoShards) -> None:
    shards.tell(ChannelSeen(DB, None, None, False, AsOf("elsewhere", 1, "0" * 64)))
    assert shards.main.rows() == ()


def test_words_are_in_the_views_and_in_the_log_alike(shards: TwoShards) -> None:
    shards.data.offer(release_of(shards.ci, "r1"))
    word = shards.read()
    shards.tell(word)
    assert shards.main.check_store().differences == ()
    shards.main.restart_control_plane()
    assert dict(shards.main.state.view.seen) == {DB: word}


def test_an_enrollment_elsewhere_lets_a_revoked_host_go_on(shards: TwoShards) -> None:
    """As of the time at which it enrolled, not of the time at which that was heard."""
    data, revoked = shards.data, Revocation("db-1", START + timedelta(hours=1), "lost")
    data.publish_lists(revoked=(revoked,))
    early, late = (EnrolledHost("db-1", KEY, START + timedelta(hours=h)) for h in (0, 2))
    data.wait(minutes=600)
    data.ask_for(Done, SeeEnrollment(early, AsOf(MAIN, 3, "0" * 64)))
    assert {hold.source.kind for hold in data.state.view.holds} == {HoldKind.REVOCATION}
    data.ask_for(Done, SeeEnrollment(late, AsOf(MAIN, 5, "0" * 64)))
    assert not data.state.view.holds
    before = data.rows()
    data.ask_for(Done, SeeEnrollment(early, AsOf(MAIN, 3, "0" * 64)))
    assert data.rows() == before
    assert data.check_store().differences == ()
    data.restart_control_plane()
    assert data.state.identities.ring.enrolled["db-1"] == late


@pytest.mark.parametrize(
    ("seen", "kind", "actor", "words"),
    [
        (
            ChannelSeen(DB, DB1, "f1", True, ROW),
            LineType.CHANNEL_SEEN,
            "shards",
            "sees channel db at db@r1, done, as of row 7 of shard data",
        ),
        (
            ChannelSeen(DB, DB1, None, False, ROW),
            LineType.CHANNEL_SEEN,
            "shards",
            "sees channel db at db@r1, not done, as of row 7 of shard data",
        ),
        (
            ChannelSeen(DB, None, None, False, ROW),
            LineType.CHANNEL_SEEN,
            "shards",
            "sees channel db with nothing in force, as of row 7 of shard data",
        ),
        (
            EnrollmentSeen("db-1", "ab" * 32, START, ROW),
            LineType.HOST_ENROLLED,
            "db-1",
            "enrolls, with key abababab, as of row 7 of shard data",
        ),
    ],
)
def test_a_fact_of_another_log_is_one_row_and_one_line(
    seen: ChannelSeen | EnrollmentSeen, kind: LineType, actor: str, words: str
) -> None:
    entry = Followed(seen)
    assert entry_of(row_of(3, START, entry)).entry == entry
    assert type_of(entry, lambda *_: False) is kind
    assert (actor_of(entry), told(entry)) == (actor, words)


@pytest.mark.parametrize(
    ("offered", "release", "done"), [(None, None, True), (None, "f1", False), (WEB1, "f1", False)]
)
def test_a_word_that_contradicts_itself_is_no_word(
    offered: RolloutId | None, release: str | None, done: bool
) -> None:
    with pytest.raises(InvalidValue, match="expected"):
        ChannelSeen(DB, offered, release, done, ROW)


@pytest.mark.parametrize(("seq", "hash_"), [(-1, "ab" * 32), (1, "ab"), (1, "xy" * 32)])
def test_a_place_in_a_log_has_a_number_and_a_hash(seq: int, hash_: str) -> None:
    with pytest.raises(InvalidValue, match="AsOf"):
        AsOf("data", seq, hash_)
