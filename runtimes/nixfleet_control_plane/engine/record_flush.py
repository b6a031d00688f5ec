"""Write-behind of host records: coalesced, in small portions, never delaying an acknowledgement.

Durability comes from the log; the table of host records is a cache, so that a start need not read the whole log. A
cycle takes the records that are unsaved when it begins and writes them in portions; when it ends, the cache is current
up to the head of the log at its beginning. Rejected: flushing everything at once, which blocks the queue (20,000 rows:
a 55 ms pause).
Source: docs/spec/runtimes.md, Record cache.
"""

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.state import FlushCycle, State
from nixfleet_control_plane.messages.inputs import Flushed
from nixfleet_control_plane.messages.writes import PutHostRecord, SetRecordsThrough


def flush(state: State, commit: CommitBuilder, limit: int) -> Flushed:
    """Write up to `limit` unsaved records; return how many are left."""
    cycle = state.flush_cycle.get()
    if not cycle.left:
        if not state.unsaved:
            return Flushed(0)
        # Sorted, so that rows next to each other in the table are written together.
        cycle = FlushCycle(tuple(sorted(state.unsaved)), through=state.head_seq)
    portion, left = cycle.left[:limit], cycle.left[limit:]
    for key in portion:
        changed_seq = state.unsaved.get(key)
        record = state.view.host(*key)
        if changed_seq is not None and record is not None:
            commit.write(PutHostRecord(record, changed_seq))
            state.unsaved.discard(key)
    if not left:
        commit.write(SetRecordsThrough(cycle.through))
    state.flush_cycle.set(FlushCycle(left, cycle.through))
    return Flushed(len(state.unsaved))
