"""What was changed since a mark can be taken back, in all collections at once."""

import pytest

from nixfleet_state_machine.undo import UndoableDict, UndoableSet, UndoableValue, UndoLog


@pytest.fixture
def undo() -> UndoLog:
    return UndoLog()


@pytest.fixture
def states(undo: UndoLog) -> UndoableDict[str, str]:
    """web-01 is Soaking, and that stands."""
    states = UndoableDict[str, str](undo)
    states.set("web-01", "Soaking")
    undo.settle()
    return states


@pytest.fixture
def waiting(undo: UndoLog) -> UndoableSet[str]:
    """db-01 and web-02 wait, and that stands."""
    waiting = UndoableSet[str](undo)
    waiting.add("web-02")
    waiting.add("db-01")
    undo.settle()
    return waiting


def test_a_dict_reads_as_a_dict(states: UndoableDict[str, str]) -> None:
    """Look-up, membership, length and iteration are those of a dict."""
    states.set("web-02", "Pending")

    assert states["web-01"] == "Soaking"
    assert ("web-02" in states, "db-01" in states, len(states)) == (True, False, 2)
    assert list(states) == ["web-01", "web-02"]
    assert states.get("db-01") is None


def test_changing_a_dict_in_another_way_is_refused(states: UndoableDict[str, str]) -> None:
    """What a dict would do without leaving its undoing behind is not done."""
    with pytest.raises(TypeError):
        states["web-02"] = "Pending"
    with pytest.raises(TypeError):
        del states["web-01"]
    for change in (states.clear, states.popitem, states.update, states.setdefault, states.pop):
        with pytest.raises(TypeError):
            change()
    assert dict(states) == {"web-01": "Soaking"}


def test_undoing_a_new_key_removes_it(states: UndoableDict[str, str], undo: UndoLog) -> None:
    """A key that was not there before is gone after undoing."""
    states.set("web-02", "Pending")
    undo.undo_to(0)

    assert dict(states) == {"web-01": "Soaking"}


def test_undoing_a_new_value_brings_the_old_one_back(
    states: UndoableDict[str, str], undo: UndoLog
) -> None:
    """A replaced value is back after undoing, however often it was replaced."""
    states.set("web-01", "Failed")
    states.set("web-01", "Reverted")
    undo.undo_to(0)

    assert dict(states) == {"web-01": "Soaking"}


def test_undoing_a_discard_brings_the_item_back(
    states: UndoableDict[str, str], undo: UndoLog
) -> None:
    """A key that was discarded is back with its value."""
    states.discard("web-01")
    assert "web-01" not in states
    undo.undo_to(0)

    assert dict(states) == {"web-01": "Soaking"}


def test_discarding_what_is_not_there_leaves_nothing_to_undo(
    states: UndoableDict[str, str], undo: UndoLog
) -> None:
    """A discard without effect is no change."""
    states.discard("db-01")

    assert undo.mark() == 0
    assert dict(states) == {"web-01": "Soaking"}


def test_undoing_to_a_mark_keeps_what_came_before_it(
    states: UndoableDict[str, str], undo: UndoLog
) -> None:
    """Only what was done since the mark is taken back."""
    states.set("web-01", "Converged")
    mark = undo.mark()
    states.set("web-01", "Failed")
    states.set("web-02", "Pending")
    undo.undo_to(mark)

    assert dict(states) == {"web-01": "Converged"}


def test_undoing_in_steps_goes_back_further_each_time(
    states: UndoableDict[str, str], undo: UndoLog
) -> None:
    """One input is undone to its own mark, and the batch to its own after that."""
    batch = undo.mark()
    states.set("web-01", "Converged")
    single = undo.mark()
    states.set("web-01", "Failed")

    undo.undo_to(single)
    assert states["web-01"] == "Converged"
    undo.undo_to(batch)
    assert states["web-01"] == "Soaking"


def test_settling_makes_changes_stand(states: UndoableDict[str, str], undo: UndoLog) -> None:
    """What was settled can no longer be taken back."""
    states.set("web-01", "Converged")
    undo.settle()
    undo.undo_to(0)

    assert dict(states) == {"web-01": "Converged"}


def test_collections_that_share_a_log_go_back_together(
    states: UndoableDict[str, str], waiting: UndoableSet[str], undo: UndoLog
) -> None:
    """One call takes back the changes of all of them, latest first."""
    states.set("web-02", "Activating")
    waiting.discard("web-02")
    states.discard("web-02")
    undo.undo_to(0)

    assert dict(states) == {"web-01": "Soaking"}
    assert sorted(waiting) == ["db-01", "web-02"]


def test_an_item_is_in_a_set_once(waiting: UndoableSet[str]) -> None:
    """However often it is added."""
    waiting.add("web-01")
    waiting.add("db-01")

    assert sorted(waiting) == ["db-01", "web-01", "web-02"]


def test_undoing_an_added_name_removes_it(waiting: UndoableSet[str], undo: UndoLog) -> None:
    """A name that came since is gone after undoing."""
    waiting.add("web-01")
    undo.undo_to(0)

    assert sorted(waiting) == ["db-01", "web-02"]


def test_undoing_a_discarded_name_brings_it_back(waiting: UndoableSet[str], undo: UndoLog) -> None:
    """A name that went since is back."""
    waiting.discard("db-01")
    assert sorted(waiting) == ["web-02"]
    undo.undo_to(0)

    assert sorted(waiting) == ["db-01", "web-02"]


def test_names_that_do_not_change_leave_nothing_to_undo(
    waiting: UndoableSet[str], undo: UndoLog
) -> None:
    """Adding a name that is there, or discarding one that is not, is no change."""
    waiting.add("db-01")
    waiting.discard("web-01")

    assert undo.mark() == 0
    undo.undo_to(0)
    assert sorted(waiting) == ["db-01", "web-02"]


def test_undoing_a_value_brings_the_first_one_back(undo: UndoLog) -> None:
    """A value that was set several times is as it was at the mark."""
    wave = UndoableValue(undo, 0)
    wave.set(1)
    mark = undo.mark()
    wave.set(2)
    wave.set(3)

    undo.undo_to(mark)
    assert wave.get() == 1
    undo.undo_to(0)
    assert wave.get() == 0


def test_changes_that_are_set_aside_are_rolled_back_once_they_are_put_back() -> None:
    """Until then they count as settled: what came after them is rolled back alone, and in the end everything."""
    undo = UndoLog()
    numbers = UndoableDict[str, int](undo)
    numbers.set("one", 1)
    aside = undo.set_aside()
    numbers.set("two", 2)

    undo.undo_to(0)
    assert dict(numbers) == {"one": 1}
    numbers.set("three", 3)
    undo.put_back(aside)
    undo.undo_to(0)

    assert dict(numbers) == {}
