"""Laws of shards: how channels fall into groups, and what one shard may do on the word of another."""

from collections.abc import Callable

from attrs import define
from hypothesis import given, settings
from hypothesis import strategies as st

from nixfleet_control_plane.messages.inputs import ManifestsUpdated
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.shards.bonds import Bond, components, joined
from nixfleet_state_machine.shards.shard_map import ShardMap
from tests.engines.scratch import scratch_directory
from tests.shards.two_shards import DB, WEB, TwoShards, release_of

CHANNELS = tuple("abcdef")
channel_sets = st.frozensets(st.sampled_from(CHANNELS), min_size=2, max_size=3)
bond_lists = st.lists(channel_sets, max_size=5).map(
    lambda found: tuple(Bond(f"budget {i}", tuple(sorted(it))) for i, it in enumerate(found))
)


@given(bonds=bond_lists)
def test_groups_are_what_can_be_reached_over_shared_budgets(bonds: tuple[Bond, ...]) -> None:
    """Each channel is in one group, with exactly the channels that a walk over budgets reaches."""
    groups = components(CHANNELS, bonds)

    assert sorted(each for group in groups for each in group) == sorted(CHANNELS)
    for group in groups:
        for channel in group:
            assert _reached(channel, bonds) == set(group)


@given(bonds=bond_lists, data=st.data())
def test_a_map_joins_no_shards_exactly_if_each_group_is_in_one(
    bonds: tuple[Bond, ...], data: st.DataObject
) -> None:
    placed = _placed(data)
    shards = ShardMap.of(
        {name: [each for each in CHANNELS if placed[each] == name] for name in ("east", "west")}
    )
    split = [
        group
        for group in components(CHANNELS, bonds)
        if len({shards.shard_of(channel) for channel in group}) > 1
    ]

    assert bool(list(joined(shards, bonds))) == bool(split)


def _placed(data: st.DataObject) -> dict[str, str]:
    names = st.sampled_from(("main", "east", "west"))
    return {channel: data.draw(names) for channel in CHANNELS}


def _reached(channel: str, bonds: tuple[Bond, ...]) -> set[str]:
    reached, before = {channel}, set[str]()
    while reached != before:
        before = set(reached)
        for bond in bonds:
            if not reached.isdisjoint(bond.channels):
                reached.update(bond.channels)
    return reached


@define
class _Course:
    """A history of two shards. release: the latest one. refs: how many there were."""

    shards: TwoShards
    data: st.DataObject
    release: ManifestsUpdated | None = None
    refs: int = 0

    def release_again(self) -> None:
        """CI publishes another release; either shard may have polled it already."""
        self.refs += 1
        self.release = release_of(self.shards.ci, f"r{self.refs}")

    def data_polls(self) -> None:
        if self.release is not None:
            self.shards.data.offer(self.release)

    def main_polls(self) -> None:
        if self.release is not None:
            self.shards.main.offer(self.release)

    def data_converges(self) -> None:
        self.shards.converge(self.shards.data, RolloutId.of(DB, self._any_ref()))

    def main_converges(self) -> None:
        self.shards.converge(self.shards.main, RolloutId.of(WEB, self._any_ref()))

    def read(self) -> None:
        self.shards.read()

    def deliver(self) -> None:
        """What was read at some time arrives: late, twice, or after what was read later."""
        if self.shards.words:
            self.shards.tell(self.data.draw(st.sampled_from(self.shards.words)))

    def follow(self) -> None:
        self.shards.follow()

    def data_restarts(self) -> None:
        self.shards.data.restart_control_plane()

    def main_restarts(self) -> None:
        self.shards.main.restart_control_plane()

    def tick(self) -> None:
        for shard in (self.shards.data, self.shards.main):
            shard.wait(seconds=5)
            shard.tick()

    def _any_ref(self) -> str:
        return f"r{self.data.draw(st.integers(1, max(1, self.refs)))}"


_STEPS: tuple[Callable[[_Course], None], ...] = (
    _Course.release_again,
    *[_Course.data_polls, _Course.main_polls] * 3,
    *[_Course.data_converges, _Course.main_converges] * 2,
    _Course.read,
    *[_Course.deliver, _Course.follow] * 3,
    _Course.data_restarts,
    _Course.main_restarts,
    _Course.tick,
)


@settings(max_examples=settings().max_examples // 3)
@given(data=st.data())
def test_a_follower_begins_only_after_a_true_word_that_the_other_channel_is_done(
    data: st.DataObject,
) -> None:
    """Over stale reads, in any order, and over restarts; and the follower's views are its log."""
    with scratch_directory() as directory, TwoShards(directory) as shards:
        course = _Course(shards, data)
        for _ in range(data.draw(st.integers(5, 30))):
            data.draw(st.sampled_from(_STEPS))(course)
        assert shards.untrue() == []
        assert shards.main.check_store().differences == ()
        kept, seen = shards.main.state.view, dict(shards.main.state.view.seen)
        shards.main.restart_control_plane()
        assert dict(shards.main.state.view.seen) == seen
        assert shards.main.state.view == kept


@settings(max_examples=settings().max_examples // 3)
@given(data=st.data())
def test_once_reads_arrive_the_follower_comes_to_its_end(data: st.DataObject) -> None:
    """After any history, a release that both poll, and words that arrive, complete both rollouts."""
    with scratch_directory() as directory, TwoShards(directory) as shards:
        course = _Course(shards, data)
        for _ in range(data.draw(st.integers(0, 12))):
            data.draw(st.sampled_from(_STEPS))(course)
        course.release_again()
        ref = f"r{course.refs}"
        course.data_polls()
        shards.follow()
        course.main_polls()
        shards.converge(shards.data, RolloutId.of(DB, ref))
        shards.follow()
        shards.converge(shards.main, RolloutId.of(WEB, ref))

        assert shards.main.rollout(RolloutId.of(WEB, ref)).terminal_at is not None
        assert shards.untrue() == []
