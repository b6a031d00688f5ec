"""What an engine is: one side's state and every decision about it, without any I/O.

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
    """What one input comes to: what must be durable, and then what is answered and done.

    writes: in order, all or none. reply: for who posted the input. actions: carried out after the
    write, and only then.
    """

    writes: tuple[WriteT, ...]
    reply: ReplyT
    actions: tuple[ActionT, ...] = ()


class Engine(Protocol[InputT, WriteT, ReplyT, ActionT]):
    """The state of one side. Owned by one mutator; nobody else may call it."""

    def handle(self, input: InputT, now: datetime) -> Commit[WriteT, ReplyT, ActionT]:
        """Return what `input` comes to, with the engine's state already as it is afterwards.

        A refusal is a reply. An exception is a bug: the state is then as before the call.
        """
        ...

    def settle(self) -> None:
        """Everything handled so far is durable."""
        ...

    def take_back(self) -> None:
        """Nothing handled since the last `settle` is durable: be as then."""
        ...
