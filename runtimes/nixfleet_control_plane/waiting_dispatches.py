"""The dispatch queue as it was committed last: for projections, which must never show what was rolled back."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import frozen

from nixfleet_control_plane.messages.writes import PutDispatch, RemoveDispatch, Write
from nixfleet_proto.wire import Dispatch


@frozen
class WaitingDispatch:
    """A dispatch in the queue. event_log_seq: the log's row that queued it; at a start, the last row then."""

    dispatch: Dispatch
    event_log_seq: int


class WaitingDispatches:
    """The dispatches that wait, by host. Iterating yields the hosts."""

    def __init__(self, queued: Mapping[str, Sequence[Dispatch]], head_seq: int) -> None:
        """queued: at the start. head_seq: of the log then."""
        self._by_host = {
            hostname: tuple(WaitingDispatch(each, head_seq) for each in dispatches)
            for hostname, dispatches in queued.items()
        }

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._by_host))

    def last(self, hostname: str) -> WaitingDispatch | None:
        """Return the one that a poll of the host is answered with; `None`: none waits."""
        waiting = self._by_host.get(hostname)
        return waiting[-1] if waiting else None

    def apply(self, writes: Iterable[Write]) -> None:
        """Take over a commit."""
        for write in writes:
            if isinstance(write, PutDispatch):
                put = WaitingDispatch(write.dispatch, write.event_log_seq)
                hostname = write.dispatch.hostname
                self._by_host[hostname] = (*self._by_host.get(hostname, ()), put)
            elif isinstance(write, RemoveDispatch):
                left = tuple(
                    each
                    for each in self._by_host.get(write.hostname, ())
                    if each.dispatch.rollout_id != write.rollout_id
                )
                if left:
                    self._by_host[write.hostname] = left
                else:
                    self._by_host.pop(write.hostname, None)
