"""Who joins and who leaves a rollout when its manifest is amended. Pure.

Source: docs/spec/policy.md, Members.
"""

from datetime import datetime

from nixfleet_proto.checked import require_arguments
from nixfleet_state_machine.planner.standings import is_done_without
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.event import MembersChanged
from nixfleet_state_machine.rollout.state import RolloutRecord


def members_change(
    before: RolloutTerms, after: RolloutTerms, record: RolloutRecord, now: datetime
) -> MembersChanged | None:
    """Return the event that is due when the terms of an open rollout are amended; `None` if nobody joined or left.

    record: of the rollout, under the terms before. now: aware UTC. The hosts are in order.
    Raises: InvalidValue.
    """
    require_arguments(
        "members_change",
        before=(before, RolloutTerms),
        after=(after, RolloutTerms),
        record=(record, RolloutRecord),
        now=(now, datetime),
    )
    joined = tuple(sorted(after.targets.keys() - before.targets.keys()))
    left = tuple(sorted(before.targets.keys() - after.targets.keys()))
    if not joined and not left:
        return None
    late = tuple(host for host in joined if is_done_without(record, after, host))
    return MembersChanged(record.rollout_id, joined, left, late, now)
