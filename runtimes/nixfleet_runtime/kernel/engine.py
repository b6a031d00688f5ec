"""The engine protocol: one side's state and every decision about it, without I/O.

Source: docs/spec/runtimes.md, The kernel both sides share.
"""

from datetime import datetime
from typing import Generic, Protocol, TypeVar

from attrs import frozen

InputT = TypeVar("InputT", contravariant=True)
WriteT = TypeVar("WriteT", covariant=True)
ReplyT = TypeVar("ReplyT", covariant=True)
ActionT = TypeVar("ActionT", covariant=True)


@frozen
class Commit(Generic[WriteT, ReplyT, ActionT]):
    """The commit for one input: what must become durable, and what is replied and done afterwards.

    writes: in order, applied atomically. reply: returned to the caller that posted the input. actions: carried out once
    the writes are durable, never before.
    """

    writes: tuple[WriteT, ...]
    reply: ReplyT
    actions: tuple[ActionT, ...] = ()


class Engine(Protocol[InputT, WriteT, ReplyT, ActionT]):
    """The state of one side. Owned by one mutator, which is its only caller."""

    def handle(self, input: InputT, now: datetime) -> Commit[WriteT, ReplyT, ActionT]:
        """Return the commit for `input`. The engine's state already includes it.

        A refusal is a reply. An exception is a bug: the state is then as before the call.
        """
        ...

    def settle(self) -> None:
        """Commit all changes so far: everything handled is durable."""
        ...

    def roll_back(self) -> None:
        """Roll back to the state at the last `settle`: nothing handled since then is durable."""
        ...
