"""A start finds the state as it was, wherever the life before it ended and whatever became of the record cache."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import read_chain
from nixfleet_state_machine.planner.action import PlanAction
from nixfleet_state_machine.planner.plan import plan_next
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.likeness import likeness
from tests.engines.releases import Publisher
from tests.engines.story import STEPS, Story

CACHE = ("host_rollout_records", "host_records_through")


def _change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def _known(story: Story) -> tuple[dict[str, object], tuple[PlanAction, ...]]:
    """What the control plane knows, and what it would decide."""
    state = story.control_plane.state
    return likeness(state), plan_next(state.view, state.quarantines, story.control_plane.now)


def test_a_restart_after_any_step_finds_the_state_as_it_was(story: Story) -> None:
    """Whenever a control plane crashes, it starts again with what it knew, and decides the same."""
    for number, step in enumerate(STEPS):
        step(story)
        before = _known(story)
        story.control_plane.restart_control_plane()

        assert (number, _known(story)) == (number, before)


def test_hosts_are_counted_by_state_as_they_are_after_any_step(story: Story) -> None:
    """The counts that `/metrics` shows are those of a walk over all records, before a restart and after it."""
    for number, step in enumerate(STEPS):
        step(story)
        for _ in range(2):
            state, engine = story.control_plane.state, story.control_plane.engine
            in_use = [
                rollout_id
                for rollout_id, rollout in state.view.rollouts.items()
                if rollout.state not in (RolloutState.SUPERSEDED, RolloutState.PRUNED)
            ]
            walked = Counter(
                host.state for rollout_id in in_use for host in state.view.hosts_of(rollout_id)
            )
            assert (number, +Counter(engine.hosts_by_state())) == (number, walked)
            story.control_plane.restart_control_plane()


def test_a_life_with_restarts_leaves_the_log_of_one_without(scratch: Path) -> None:
    """However often a control plane starts again, its log is that of one that never stopped."""
    ci = Publisher()
    with (
        closing(Story.within(_made(scratch / "steady"), ci)) as steady,
        closing(Story.within(_made(scratch / "shaken"), ci)) as shaken,
    ):
        for step in STEPS:
            step(steady)
            step(shaken)
            shaken.control_plane.restart_control_plane()

        assert _rows(shaken) == _rows(steady)


HARMS: dict[str, tuple[str, ...]] = {
    "nothing of it is left": tuple(f"DELETE FROM {table}" for table in CACHE),
    "its records are lost": ("DELETE FROM host_rollout_records",),
    "the records of one host are lost": (
        "DELETE FROM host_rollout_records WHERE hostname = 'web-01'",
    ),
    "its mark is lost": ("DELETE FROM host_records_through",),
    "its mark is back at the start": ("UPDATE host_records_through SET event_log_seq = 0",),
}


@pytest.mark.parametrize("statements", HARMS.values(), ids=HARMS)
def test_a_start_does_not_need_the_record_cache(story: Story, statements: tuple[str, ...]) -> None:
    """Whatever part of the record cache is lost, a start finds the state as it was."""
    for number, step in enumerate(STEPS):
        step(story)
        if number % 4 == 0:
            before = _known(story)
            story.control_plane.flush()
            _change(story.control_plane.database, *statements)
            story.control_plane.restart_control_plane()

            assert (number, _known(story)) == (number, before)


def test_a_start_with_an_old_record_cache_folds_what_came_since(story: Story) -> None:
    """A record cache as it was long before is as good as a fresh one."""
    database = story.control_plane.database
    _change(database, *(f"CREATE TABLE old_{table} AS SELECT * FROM {table}" for table in CACHE))
    for number, step in enumerate(STEPS):
        step(story)
        if number % 10 == 0:
            story.control_plane.flush(limit=3)
            _copy_rows(database, "", "old_")
        if number % 10 == 9:
            before = _known(story)
            _copy_rows(database, "old_", "")
            story.control_plane.restart_control_plane()

            assert (number, _known(story)) == (number, before)


def test_a_start_with_a_half_flushed_record_cache_folds_the_rest(story: Story) -> None:
    """A crash in the middle of writing records behind loses nothing."""
    for number, step in enumerate(STEPS):
        step(story)
        before = _known(story)
        story.control_plane.flush(limit=1)
        story.control_plane.restart_control_plane()

        assert (number, _known(story)) == (number, before)


def test_a_start_after_everything_was_flushed_reads_no_log(story: Story) -> None:
    """When all host records are in the cache a start has nothing to fold."""
    for step in STEPS[:5]:
        step(story)
    assert story.control_plane.flush() == 0

    snapshot = story.control_plane.store.load().in_memory()
    assert (snapshot.tail, snapshot.cached_through) == ((), snapshot.head_seq)


def test_a_flush_in_portions_marks_the_cache_complete_with_the_last(story: Story) -> None:
    """Only when every record of the cycle is written is the cache said to be complete."""
    for step in STEPS[:5]:
        step(story)
    marks = []
    left = []
    for _ in range(3):
        left.append(story.control_plane.flush(limit=2))
        marks.append(story.control_plane.store.load().cached_through)

    head = story.control_plane.state.head_seq
    assert (left, marks) == ([4, 2, 0], [0, 0, head])


def test_a_fact_during_a_flush_is_not_said_to_be_in_the_cache(story: Story) -> None:
    """A record that moves on while the others are written is left for the next flush."""
    for step in STEPS[:2]:
        step(story)
    control_plane = story.control_plane
    head = control_plane.state.head_seq
    control_plane.flush(limit=5)
    story.host("stable@r1", "web-01").acknowledge()
    control_plane.flush(limit=5)

    assert control_plane.store.load().cached_through == head
    before = _known(story)
    control_plane.restart_control_plane()
    assert _known(story) == before


def test_a_flush_with_nothing_to_write_writes_nothing(story: Story) -> None:
    """A flush right after a complete one changes nothing."""
    STEPS[0](story)
    story.control_plane.flush()
    snapshot = story.control_plane.store.load().in_memory()

    assert story.control_plane.flush() == 0
    assert story.control_plane.store.load().in_memory() == snapshot


def test_a_start_on_nothing_knows_nothing(story: Story) -> None:
    """A new database makes a control plane that has yet to hear of anything."""

    assert not any(likeness(story.control_plane.state).values())


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _rows(story: Story) -> list[object]:
    with closing(open_for_reading(story.control_plane.database)) as connection:
        return list(read_chain(connection))


def _copy_rows(database: Path, source: str, target: str) -> None:
    for table in CACHE:
        _change(
            database,
            f"DELETE FROM {target}{table}",
            f"INSERT INTO {target}{table} SELECT * FROM {source}{table}",
        )
