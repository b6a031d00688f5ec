"""Collects the writes and actions of one commit while an engine handles an input. It decides nothing."""

from typing import Generic, TypeVar

from nixfleet_proto.drafting import maker
from nixfleet_runtime.kernel.engine import Commit

WriteT = TypeVar("WriteT")
ActionT = TypeVar("ActionT")
ReplyT = TypeVar("ReplyT")
# Faster than the constructor: every input makes one.
_commit = maker(Commit)


class CommitBuilder(Generic[WriteT, ActionT]):
    """The writes and actions of one commit, in order. Each side subclasses it with its own types."""

    def __init__(self) -> None:
        self._writes: list[WriteT] = []
        self._actions: list[ActionT] = []

    @property
    def writes(self) -> tuple[WriteT, ...]:
        """The writes added so far."""
        return tuple(self._writes)

    def write(self, write: WriteT) -> None:
        """Append a write."""
        self._writes.append(write)

    @property
    def length(self) -> int:
        """The number of writes added so far."""
        return len(self._writes)

    def write_at(self, index: int, write: WriteT) -> None:
        """Insert a write before those that were added since `length` was `index`."""
        self._writes.insert(index, write)

    def afterwards(self, action: ActionT) -> None:
        """Append an action to carry out once the writes are durable."""
        self._actions.append(action)

    def built(self, reply: ReplyT) -> Commit[WriteT, ReplyT, ActionT]:
        """Return the commit with everything added so far."""
        return _commit(tuple(self._writes), reply, tuple(self._actions))
