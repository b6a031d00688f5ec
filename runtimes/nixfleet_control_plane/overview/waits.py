"""Why hosts wait: groups with a reason, how many hosts each has, since when and until when.

The groups are counted as deferrals change. What the gates say now, with current numbers, is asked for one host of each
lane: no gate distinguishes the hosts of one.
Source: docs/spec/overview.md, Why hosts wait.
"""

from collections.abc import Iterator
from typing import Final

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.engine.wait_groups import WaitGroup
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http.overview import WaitingHosts
from nixfleet_state_machine.planner.action import Gate, GateBlock
from nixfleet_state_machine.planner.explanation import with_guards
from nixfleet_state_machine.planner.gates import Planning, first_block

GROUPS_MAX: Final = 20


def waiting_hosts(state: State, rollout_id: RolloutId) -> tuple[WaitingHosts, ...]:
    """Return the groups of hosts that wait in an open rollout, the largest first. O(groups + lanes without a snag)."""
    blocks = dict(_blocks(state, rollout_id))
    groups = sorted(
        state.waits.of(rollout_id), key=lambda item: (-item[1].hosts, item[0].gate, item[0].reason)
    )
    return tuple(
        WaitingHosts(
            count.hosts,
            group.gate,
            group.reason,
            block.detail if (block := blocks.get(group)) is not None else "",
            count.since,
            None if block is None else block.until,
        )
        for group, count in groups
    )


def _blocks(state: State, rollout_id: RolloutId) -> Iterator[tuple[WaitGroup, GateBlock]]:
    planning = Planning(state.view, state.quarantines)
    for lane in state.view.lanes.free(rollout_id):
        block = first_block(planning, rollout_id, lane.hosts[0])
        if block is None:
            continue
        group = WaitGroup(rollout_id, block.gate, block.reason)
        if block.gate is Gate.WAVE_PROMOTION and block.until is None:
            author = state.manifests[rollout_id].manifest.meta.author
            block = with_guards(planning, rollout_id, block, author)
        yield group, block
