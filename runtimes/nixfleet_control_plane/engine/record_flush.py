"""Writing host records behind: coalesced, in small portions, off the path of every acknowledgement.

The log is what is durable; the table of host records is a cache that spares a start the reading of the
whole log. A cycle takes the records that are unsaved when it begins and writes them portion by portion;
when it ends, the cache is known to be true up to where the log was when it began. Flushing all at once
would hold up the queue (20,000 rows: a 55 ms pause).
Source: docs/spec/runtimes.md, Record cache.
"""

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.state import FlushCycle, State
from nixfleet_control_plane.messages.inputs import Flushed
from nixfleet_control_plane.messages.writes import PutHostRecord, SetRecordsThrough


def flush(state: State, commit: CommitBuilder, limit: int) -> Flushed:
    """Write up to `limit` unsaved records, and say how many are left."""
    cycle = state.flush_cycle.get()
    if not cycle.left:
        if not state.unsaved:
            return Flushed(0)
        # Sorted, since neighbours in the table are then written together.
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
