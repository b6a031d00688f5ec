"""`LaneIndex`: which hosts wait together. It decides how much a plan evaluates, not what it decides."""

import pytest

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.action import Gate, GateBlock
from nixfleet_state_machine.planner.index.lanes import LaneIndex, LaneKey
from nixfleet_state_machine.undo import UndoLog

STABLE = RolloutId("stable@a1")
FREE = LaneKey(wave=0, snag=None, budgets=(0,))
SNAG = GateBlock(Gate.HOST_EDGE, "waits for host db-1 to be Converged")
SNAGGED = LaneKey(wave=0, snag=SNAG, budgets=())


def test_hosts_with_one_key_wait_in_one_lane_in_order() -> None:
    """A lane is found by its key, and its hosts are sorted however they come."""
    index = LaneIndex(UndoLog())
    lanes = [index.place(STABLE, host, FREE) for host in ("web-2", "web-3", "web-1")]

    assert lanes[0] is lanes[1] is lanes[2]
    assert lanes[0].hosts == ["web-1", "web-2", "web-3"]


def test_a_lane_with_a_snag_is_kept_apart_from_the_free_ones() -> None:
    """What looks for free slots need not look at hosts that no slot helps."""
    index = LaneIndex(UndoLog())
    free, snagged = index.place(STABLE, "web-1", FREE), index.place(STABLE, "web-2", SNAGGED)

    assert [*index.free(STABLE)] == [free]
    assert [*index.snagged(STABLE)] == [snagged]


def test_a_host_placed_where_it_waits_already_stays_in_its_lane() -> None:
    """A lane with a single host keeps its last block."""
    index = LaneIndex(UndoLog())
    lane = index.place(STABLE, "web-1", FREE)
    index.set_last_block(lane, SNAG)

    assert index.place(STABLE, "web-1", FREE) is lane
    assert (lane.hosts, lane.last_block) == (["web-1"], SNAG)


@pytest.mark.parametrize("key", [SNAGGED, LaneKey(wave=1, snag=None, budgets=(0,))])
def test_a_host_placed_elsewhere_leaves_its_lane_and_an_empty_lane_is_gone(key: LaneKey) -> None:
    """A host waits in one lane, and no lane is kept for nobody."""
    index = LaneIndex(UndoLog())
    index.place(STABLE, "web-1", FREE)
    lane = index.place(STABLE, "web-1", key)

    assert [*index.free(STABLE), *index.snagged(STABLE)] == [lane]


def test_the_last_block_of_a_lane_is_rolled_back_with_the_rest() -> None:
    """Rolled back, a lane has the block it had before, not none."""
    undo = UndoLog()
    index = LaneIndex(undo)
    lane = index.place(STABLE, "web-1", FREE)
    index.set_last_block(lane, SNAG)
    mark = undo.mark()
    index.set_last_block(lane, None)
    undo.undo_to(mark)

    assert lane.last_block is SNAG
