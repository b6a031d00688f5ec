"""The port to a host's own lock: what is asked, and what came back. Data, and the protocol; no decisions.

What the answer means is decided in `engine.locks`.
Source: docs/spec/runtimes.md, Device locks.
"""

from typing import Final, Protocol

from attrs import frozen

from nixfleet_proto.ids import RolloutId

OUTPUT_BYTES_MAX: Final = 4096
"""How much a lock program may write to each of its two outputs. It is ended beyond that."""


@frozen
class LockQuestion:
    """Whether the switch to `closure` may begin now."""

    rollout_id: RolloutId
    closure: str
    attempt: int


@frozen
class LockOutcome:
    """How the lock program ended.

    problem: why there is no exit code of its own that means anything, in words; `None`: it ended by itself and in time.
    """

    exit_code: int
    stdout: str = ""
    stderr: str = ""
    problem: str | None = None


class DeviceLock(Protocol):
    """Asks the host's own lock. Embedders may implement it: a call to a desktop's session, for example."""

    async def ask(self, question: LockQuestion) -> LockOutcome:
        """Return the answer, within a time of its own. Raises nothing: what went wrong is the `problem`."""
        ...
