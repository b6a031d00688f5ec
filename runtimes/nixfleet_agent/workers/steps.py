"""The steps of a worker: everything it may ask of the shell that runs it. Data; each step names the type of its answer.

A worker is a generator: it yields a step, is sent the answer, or gets the failure thrown in. It awaits nothing and
opens nothing, so the same code runs in an agent's process (`shell`) and in virtual time (the simulation). Rejected:
coroutines on an event loop with virtual time, which would bring the scheduler's order into every simulated trace.
Source: docs/spec/runtimes.md, Agent.
"""

from collections import deque
from collections.abc import Callable, Generator
from typing import Generic, Self, TypeAlias, TypeVar, cast

from attrs import field, frozen

from nixfleet_agent.activation.activator import (
    PrepareOutcome,
    RollbackFinished,
    SwitchOutcome,
)
from nixfleet_agent.journal.journal import JournalRow
from nixfleet_agent.locks.lock import LockOutcome, LockQuestion
from nixfleet_agent.messages.inputs import (
    ChecksLoaded,
    ChecksUnreadable,
    Input,
    Intent,
    Reply,
)
from nixfleet_agent.probes.runner import ProbeOutcome
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import HealthCheck
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch, SignedArtefact
from nixfleet_runtime.transport import EventsOutcome, Heartbeat, HeartbeatReply

AnswerT = TypeVar("AnswerT")


class Step(Generic[AnswerT]):
    """One thing to carry out. `answer = yield from step` is how a worker asks for it."""

    __slots__ = ()

    def __iter__(self) -> Generator[Self, object, AnswerT]:
        """Yield this step; return its answer."""
        return cast(AnswerT, (yield self))


# Waiting.


class Wakeup:
    """A flag that ends the waits for it. It stays set until it is cleared."""

    def __init__(self, *, is_set: bool = False) -> None:
        self.is_set = is_set
        self._waiting: list[Callable[[], None]] = []

    def set(self) -> None:
        """End every wait for this flag, and those that begin before `clear`."""
        self.is_set = True
        waiting, self._waiting = self._waiting, []
        for end in waiting:
            end()

    def clear(self) -> None:
        """Make the waits that begin from now on last until the next `set`."""
        self.is_set = False

    def on_set(self, end: Callable[[], None]) -> None:
        """Call `end` at the next `set`. For shells."""
        self._waiting.append(end)

    def forget(self, end: Callable[[], None]) -> None:
        """Do not call `end` any more. For shells; `end` may have been called already."""
        if end in self._waiting:
            self._waiting.remove(end)


@frozen
class Wait(Step[None]):
    """Wait `seconds` of the agent's clock, or until `wakeup` is set. seconds: `None` for no limit."""

    seconds: float | None
    wakeup: Wakeup | None = None


class Lock:
    """Held by one worker at a time, in the order of asking. Not `anyio.Lock`, which needs an event loop."""

    def __init__(self) -> None:
        self._is_held = False
        self._waiting = deque[Wakeup]()

    def acquire(self) -> Generator[Wait, object, None]:
        """Return when the lock is held by the caller, who must `release` it."""
        if self.acquire_now():
            return
        turn = Wakeup()
        self._waiting.append(turn)
        try:
            yield from Wait(None, turn)
        except GeneratorExit:
            if turn.is_set:
                self.release()
            else:
                self._waiting.remove(turn)
            raise

    def acquire_now(self) -> bool:
        """Return whether the lock was free; the caller holds it then."""
        if self._is_held:
            return False
        self._is_held = True
        return True

    def release(self) -> None:
        """Pass the lock to the next worker that waits for it, or make it free."""
        if self._waiting:
            self._waiting.popleft().set()
        else:
            self._is_held = False


# The engine.


@frozen
class PostInput(Step[Reply]):
    """Hand `input` to the engine; answered once it is durable. Raises: WriteFailed, EngineFault, MutatorClosed."""

    input: Input


# The control plane. Each raises TransportFailed.


@frozen
class PollDispatch(Step[Dispatch | None]):
    """Ask for a dispatch, for up to `wait_seconds`."""

    wait_seconds: float


@frozen
class PostEvents(Step[EventsOutcome]):
    """Send `envelopes`, all of one rollout, in order."""

    envelopes: tuple[AgentEventEnvelope, ...]


@frozen
class SendHeartbeat(Step[HeartbeatReply]):
    """Send `heartbeat`."""

    heartbeat: Heartbeat


@frozen
class FetchManifest(Step[SignedArtefact | None]):
    """Fetch the manifest of `rollout_id` as it was signed; `None` when the control plane has none."""

    rollout_id: RolloutId


# The host's disk: the journal and the cached manifests.


@frozen
class ReadUnsent(Step[tuple[JournalRow, ...]]):
    """Read up to `limit` unsent rows, oldest first, except those of the rollouts in `leave_out`."""

    limit: int
    leave_out: frozenset[RolloutId]


@frozen
class ReadUnsentRollouts(Step[frozenset[RolloutId]]):
    """Read which rollouts have unsent rows."""


@frozen
class ReadLastSeqs(Step[FrozenMap[str, int]]):
    """Read the last seq of each rollout in the journal."""


@frozen
class ReadCachedManifest(Step[SignedArtefact | None]):
    """Read the cached manifest of `rollout_id`; `None` when there is none."""

    rollout_id: RolloutId


@frozen
class CacheManifest(Step[None]):
    """Keep `artefact` as the manifest of `rollout_id`."""

    rollout_id: RolloutId
    artefact: SignedArtefact


@frozen
class PruneCachedManifests(Step[None]):
    """Remove the cached manifests of all rollouts except `rollout_ids`."""

    rollout_ids: tuple[str, ...]


# The machine.


@frozen
class ReadRunningClosure(Step[str]):
    """Read which closure runs. Raises: NoRunningClosure, OSError."""


@frozen
class Prepare(Step[PrepareOutcome | None]):
    """Bring the closure of `intent` into the store; idempotent. `None`: `unless` was set first. Raises: OSError."""

    intent: Intent
    unless: Wakeup = field(eq=False)


@frozen
class Switch(Step[SwitchOutcome]):
    """Switch to the closure of `intent`, for at most `time_limit_seconds`; idempotent.

    Raises: NoRunningClosure, OSError.
    """

    intent: Intent
    time_limit_seconds: float | None = None


@frozen
class RollBack(Step[RollbackFinished]):
    """Roll back to the closure of `intent`; idempotent. Raises: NoRunningClosure, OSError."""

    intent: Intent


@frozen
class AskLock(Step[LockOutcome]):
    """Ask the host's own lock."""

    question: LockQuestion


@frozen
class TellAnswered(Step[None]):
    """Tell the activator that the control plane has answered. Raises: OSError."""


@frozen
class ReadHealthChecks(Step[ChecksLoaded | ChecksUnreadable]):
    """Read the health checks that `closure` declares, for `rollout_id`."""

    rollout_id: RolloutId
    closure: str


@frozen
class RunProbe(Step[ProbeOutcome]):
    """Run `check` once, against the running closure. Raises: NoRunningClosure, OSError."""

    check: HealthCheck


# Other workers.

Work: TypeAlias = "Generator[AgentStep, object, None]"
"""A worker at work: a generator of steps."""

Begin: TypeAlias = Callable[[], Work]
"""Begins a worker, again after each failure."""


@frozen
class Start(Step[None]):
    """Run another worker beside this one. group: the rollout it belongs to, for `StopGroup`."""

    name: str
    begin: Begin
    group: RolloutId | None = None


@frozen
class StopGroup(Step[None]):
    """Cancel the workers of `group`, in the middle of whatever they wait for."""

    group: RolloutId


AgentStep: TypeAlias = (
    Wait
    | PostInput
    | PollDispatch
    | PostEvents
    | SendHeartbeat
    | FetchManifest
    | ReadUnsent
    | ReadUnsentRollouts
    | ReadLastSeqs
    | ReadCachedManifest
    | CacheManifest
    | PruneCachedManifests
    | ReadRunningClosure
    | Prepare
    | Switch
    | RollBack
    | AskLock
    | TellAnswered
    | ReadHealthChecks
    | RunProbe
    | Start
    | StopGroup
)
