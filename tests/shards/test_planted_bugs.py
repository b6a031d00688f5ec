"""The judge of two logs finds each bug that is planted: it would be in vain if it found none."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_control_plane.engine.shard_release import Release
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.shards.channel_seen import ChannelSeen
from tests.shards.two_shards import DB, TwoShards, release_of


@pytest.fixture
def shards(tmp_path: Path) -> Iterator[TwoShards]:
    """The first release is done in the shard before, and under way in the one that follows."""
    with TwoShards(tmp_path) as shards:
        shards.data.offer(release_of(shards.ci, "r1"))
        shards.follow()
        shards.main.offer(release_of(shards.ci, "r1"))
        shards.converge(shards.data, RolloutId.of(DB, "r1"))
        shards.follow()
        assert shards.untrue() == []
        yield shards


def test_a_follower_that_takes_a_release_too_early_is_found(
    shards: TwoShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees the rollout of the release before, which is done."""
    monkeypatch.setattr(Release, "waits_for", lambda *_: None)
    shards.main.offer(release_of(shards.ci, "r2"))
    assert {each.why.partition(":")[0] for each in shards.untrue()} == {"dispatched too early"}


def test_a_read_that_goes_back_is_found(shards: TwoShards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChannelSeen, "is_stale_after", lambda *_: False)
    shards.tell(shards.words[0])
    assert [each.why for each in shards.untrue()] == ["a word that is older than the one before"]


def test_a_word_whose_row_does_not_exist_is_found(shards: TwoShards) -> None:
    word = shards.read()
    later = evolve(word.as_of, seq=word.as_of.seq + 7)
    shards.tell(evolve(word, done=False, as_of=later))
    assert [each.why for each in shards.untrue()] == ["no such row"]


def test_a_word_with_another_hash_is_found(shards: TwoShards) -> None:
    shards.data.pause(DB)
    word = shards.read()
    shards.tell(evolve(word, done=False, as_of=evolve(word.as_of, hash="ab" * 32)))
    assert [each.why for each in shards.untrue()] == ["no such row"]


def test_a_word_that_the_other_log_does_not_say_is_found(shards: TwoShards) -> None:
    shards.data.pause(DB)
    shards.tell(evolve(shards.read(), done=False))
    assert [each.why for each in shards.untrue()] == ["the other log says something else"]
