"""The counts of an overview, found by a walk over all hosts: what the kept ones must equal.

It shares with the product the records alone, and none of its counting.
"""

from collections import Counter
from collections.abc import Iterator

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.engine.wait_groups import group_of
from nixfleet_control_plane.overview.host_map import (
    STANDING_NAMES,
    STATE_NAMES,
    columns,
    map_waves,
)
from nixfleet_control_plane.overview.tallies import grouped, in_flight
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.state import Standing


def overview_differences(state: State) -> list[str]:
    """Return where the kept counts of open rollouts differ from a walk over their hosts, in words."""
    return [
        *_group_differences(state),
        *_wait_differences(state),
        *_map_differences(state),
    ]


def _group_differences(state: State) -> Iterator[str]:
    view = state.view
    for rollout_id in view.open_rollouts:
        record, terms = view.rollout(rollout_id), view.terms(rollout_id)
        walked = Counter(
            (terms.wave_of.get(host.hostname), host.state, record.standing_of(host.hostname))
            for host in view.hosts_of(rollout_id)
        )
        kept = {group: count for group, count in view.groups_of(rollout_id).items() if count}
        if kept != walked:
            yield f"{rollout_id}: kept {kept}, walked {dict(walked)}"
        shown = grouped(view, rollout_id)
        for wave, parts in shown.items():
            states = Counter[str]()
            for (its, host_state, standing), count in walked.items():
                if its == wave and standing is Standing.COUNTED:
                    states[host_state.value] += count
            if dict(parts.states) != {each.value: states[each.value] for each in HostState}:
                yield f"{rollout_id}, wave {wave}: shown {dict(parts.states)}, walked {states}"
        under_way = sum(
            host.state in (HostState.ACTIVATING, HostState.SOAKING)
            and record.standing_of(host.hostname) not in (Standing.AWAY, Standing.LAPSED)
            for host in view.hosts_of(rollout_id)
        )
        queued = sum(1 for _ in view.queued_of(rollout_id))
        if in_flight(view, rollout_id) != under_way + queued:
            yield f"{rollout_id}: {in_flight(view, rollout_id)} under way, walked {under_way + queued}"


def _wait_differences(state: State) -> Iterator[str]:
    walked = Counter(group_of(deferral) for deferral in state.deferrals.values())
    kept = {
        group: count.hosts
        for rollout_id in {*state.view.rollouts, *(key[0] for key in state.deferrals)}
        for group, count in state.waits.of(rollout_id)
    }
    if kept != walked:
        yield f"waits: kept {kept}, walked {dict(walked)}"


def _map_differences(state: State) -> Iterator[str]:
    view = state.view
    for rollout_id in view.open_rollouts:
        terms, record = view.terms(rollout_id), view.rollout(rollout_id)
        states, standings = columns(view, rollout_id, terms.hosts_in_order)
        shown = {
            host: (STATE_NAMES[int(one)], STANDING_NAMES[int(other)])
            for host, one, other in zip(terms.hosts_in_order, states, standings, strict=True)
        }
        walked = {
            host.hostname: (host.state.value, record.standing_of(host.hostname).value)
            for host in view.hosts_of(rollout_id)
        }
        if shown != walked:
            yield f"{rollout_id}: map {shown}, walked {walked}"
        waves = [wave.wave for wave in map_waves(terms) for _ in range(wave.hosts)]
        if waves != [terms.wave_of.get(host) for host in terms.hosts_in_order]:
            yield f"{rollout_id}: waves of the map are {waves}"
